#!/usr/bin/env python3
"""Work on fkdoctor, or just try it, with nothing but python3 and pip.

    python3 dev.py demo      the whole story on a PostgreSQL that is thrown away afterwards
    python3 dev.py test      the test suite; further words go to pytest
    python3 dev.py check     formatting, lint, types and the floors
    python3 dev.py matrix    the test suite on every PostgreSQL major that can be had (--help)
    python3 dev.py oldest    the test suite with the oldest dependencies that setup.cfg allows

The first run installs into .venv, which needs the network; later ones do so only when setup.cfg,
pyproject.toml or the Python has changed.
"""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = VENV / "oldest"

# Each process has a server of its own; `-n 0` behind it runs all in one.
SIDE_BY_SIDE = ["-n", "auto", "--maxprocesses", "4"]

CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("lint-imports",),
)


def main(words: list[str]) -> int:
    """The exit code of the command that `words` name."""
    command, arguments = (words[0], words[1:]) if words else ("help", [])
    if command in ("help", "-h", "--help"):
        print(__doc__)
        return 0
    if command not in ("demo", "test", "check", "matrix", "oldest"):
        return explain(
            f"dev.py has no command {command!r}.", "", "See: python3 dev.py help", code=2
        )
    if sys.version_info < (3, 11):  # noqa: UP036 -- an older one must get as far as this
        return explain(
            "fkdoctor needs Python 3.11 or later.",
            f"This is {sys.version.split()[0]}, {sys.executable}.",
            "Run dev.py with a newer one, for example: python3.13 dev.py " + command,
        )
    if os.name != "posix":
        return explain(
            "dev.py works on Linux and macOS.",
            "It starts PostgreSQL on a unix socket.",
            "On Windows, use it inside WSL.",
        )
    if not make_environment("lint" if command == "check" else "test"):
        return 1
    os.chdir(ROOT)
    if command == "check":
        return check()
    if command == "oldest":
        if not install_oldest():
            return 1
        os.environ["PYTHONPATH"] = str(OLDEST)
    module = {"demo": ["-m", "fkdoctor", "demo"], "matrix": ["tests/matrix.py", *SIDE_BY_SIDE]}
    sys.stdout.flush()
    os.execv(
        PYTHON, [str(PYTHON), *module.get(command, ["-m", "pytest", *SIDE_BY_SIDE]), *arguments]
    )


def make_environment(extra: str) -> bool:
    """True once .venv holds fkdoctor (editable) with that extra of setup.cfg."""
    import fcntl  # not on Windows

    inputs = [(ROOT / name).read_bytes() for name in ("setup.cfg", "pyproject.toml")]
    inputs += [sys.version.encode(), os.fsencode(ROOT)]
    wanted = hashlib.sha256(b"\0".join(inputs)).hexdigest()
    stamp = VENV / f"installed-{extra}"
    with open(__file__, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two first runs at once would install over each other
        if stamp.is_file() and stamp.read_text() == wanted:
            return True
        say(f"Installing fkdoctor[{extra}] into {VENV} (once) ...")
        if not has_same_python() and not make_venv():
            return False
        if not pip_install("--editable", f"{ROOT}[{extra}]"):
            return False
        stamp.write_text(wanted)
    return True


def has_same_python() -> bool:
    try:
        answer = subprocess.run(
            [str(PYTHON), "-c", "import sys; print(sys.version)"], capture_output=True, text=True
        )
    except OSError:
        return False
    return answer.stdout.strip() == sys.version.strip()


def make_venv() -> bool:
    """True if there is an empty .venv. Debian's python3 alone lacks ensurepip: then without pip."""
    make = [sys.executable, "-m", "venv", "--clear", str(VENV)]
    attempts = [make] if importlib.util.find_spec("ensurepip") else []
    attempts.append([*make, "--without-pip"])
    if any(subprocess.run(attempt).returncode == 0 for attempt in attempts):
        return True
    explain("No .venv could be made.", f"{' '.join(make)} failed, see above.", "Check the disk.")
    return False


def pip_install(*arguments: str) -> bool:
    if (VENV / "bin" / "pip").exists():
        pip = [str(PYTHON), "-m", "pip"]
    elif importlib.util.find_spec("pip"):
        pip = [sys.executable, "-m", "pip", "--python", str(PYTHON)]
    else:
        explain(
            "There is no pip.",
            f"{sys.executable} has neither pip nor ensurepip.",
            "On Debian or Ubuntu: apt-get install python3-pip (or python3-venv).",
        )
        return False
    quiet = ["--quiet", "--disable-pip-version-check"]
    environment = {"PIP_ROOT_USER_ACTION": "ignore", **os.environ}
    if subprocess.run([*pip, "install", *quiet, *arguments], env=environment).returncode == 0:
        return True
    explain(
        "The dependencies could not be installed.",
        "pip says why above.",
        "Check the network (or pip's index and proxy settings) and run the same command again.",
    )
    return False


def install_oldest() -> bool:
    """True if OLDEST holds the lower bound of each dependency, to be put before .venv's own."""
    bounds = read_oldest()
    say("With " + ", ".join(bounds))
    shutil.rmtree(OLDEST, ignore_errors=True)
    return pip_install("--no-deps", "--only-binary=:all:", f"--target={OLDEST}", *bounds)


def read_oldest() -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options"]["install_requires"].split()
    return [line.split(",")[0].replace(">=", "==") for line in lines]


def check() -> int:
    failed = []
    for program, *arguments in CHECKS:
        name = " ".join([program, *arguments])
        say(f"== {name}")
        if subprocess.run([str(VENV / "bin" / program), *arguments]).returncode:
            failed.append(name)
    if failed:
        return explain("The checks failed.", ", ".join(failed), "See above.")
    return 0


def explain(what: str, why: str, next: str, *, code: int = 1) -> int:
    """The exit code, after the problem has been told."""
    say("\n".join(line for line in (what, why, next) if line))
    return code


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
