"""A page of docs/ as somebody would follow it: its blocks, top to bottom, in an empty directory.

A block says in its first line what it is. One with a file's name is written there; a revision gets
its header, and follows the one before. `sh` is run by bash line by line, `sql` by psql, `python`
without a file by Python. `text` is what the last block is to print, line by line; … stands for
anything. A comment before a block, which readers do not see, tells what a reader would know:

    <!-- exit 1 -->                         the block's last line ends with this code
    <!-- 5b1c0d2e: select … -->             what to write for this, here and further down
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(
    r"(?P<notes>(?:^<!--.*?-->\n)*)^```(?P<kind>\w+)(?: (?P<file>\S+))?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NOTE = re.compile(r"<!-- (?:exit (?P<code>\d+)|(?P<word>\S+): (?P<query>.*?)) -->", re.DOTALL)
_INI = "[alembic]\nscript_location = %(here)s/migrations\n"


@dataclass(frozen=True, kw_only=True)
class Block:
    """What stands between two fences; `line` is that of the first one."""

    kind: str
    file: str | None
    text: str
    code: int
    queries: tuple[tuple[str, str], ...]
    line: int


def read_blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of the page."""
    for found in _BLOCK.finditer(page):
        notes = list(_NOTE.finditer(found["notes"]))
        yield Block(
            kind=found["kind"],
            file=found["file"],
            text=found["text"],
            code=max((int(note["code"]) for note in notes if note["code"]), default=0),
            queries=tuple((note["word"], note["query"]) for note in notes if note["word"]),
            line=page.count("\n", 0, found.start("kind")) + 1,
        )


class Reader:
    """Somebody with a database, an empty directory, and an Alembic tree in it."""

    def __init__(self, folder: Path, url: str, psql: Path, env: str) -> None:
        self.folder = folder
        self._psql = psql
        self._known: dict[str, str] = {}
        self._printed = ""
        self._last_revision: str | None = None
        (folder / "alembic.ini").write_text(_INI)
        (folder / "migrations" / "versions").mkdir(parents=True)
        (folder / "migrations" / "env.py").write_text(env)
        template = (ROOT / "migrations" / "script.py.mako").read_text(encoding="utf-8")
        (folder / "migrations" / "script.py.mako").write_text(template)
        programs = folder / ".programs"
        programs.mkdir()
        for name in ("fkdoctor", "alembic"):
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {name} "$@"\n')
            (programs / name).chmod(0o755)
        (programs / "psql").symlink_to(psql)
        self._environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("PG")},
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
            "COLUMNS": "200",
            "FKDOCTOR_URL": url,
            "DATABASE_URL": re.sub(r"^\w+://", "postgresql+psycopg2://", url),
        }

    def follow(self, block: Block) -> None:
        """Raises AssertionError where the block does not do what the page says."""
        for word, query in block.queries:
            found = self._run([self._psql, "-XAtc", query, self._environment["FKDOCTOR_URL"]])
            self._known[word] = found.strip()
        text = block.text
        for word, value in self._known.items():
            text = text.replace(word, value)
        if block.file is not None:
            self._write(block.file, text)
        elif block.kind == "sh":
            self._printed = self._run(["bash", "-eu", "-c", text], block.code)
        elif block.kind == "python":
            self._printed = self._run([sys.executable, "-c", text], block.code)
        elif block.kind == "sql":
            command = [self._psql, "-X", "-v", "ON_ERROR_STOP=1", "-c", text]
            self._printed = self._run([*command, self._environment["FKDOCTOR_URL"]], block.code)
        elif block.kind == "text":
            self._compare(text)
        else:
            raise AssertionError(f"nobody knows what to do with a block of {block.kind}")

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        if path.parent.name == "versions":
            header = f"revision = {path.stem!r}\ndown_revision = {self._last_revision!r}\n\n"
            self._last_revision = path.stem
            text = header + text
        path.write_text(text, encoding="utf-8")

    def _run(self, command: list[str | Path], code: int = 0) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        assert done.returncode == code, f"it exits with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def _compare(self, shown: str) -> None:
        printed = iter(self._printed.splitlines())
        for line in filter(str.strip, shown.splitlines()):
            pattern = ".*".join(map(re.escape, _squeeze(line).split("…")))
            found = any(re.fullmatch(pattern, _squeeze(other)) for other in printed)
            assert found, f"{line!r} is not in, or not in this order:\n{self._printed}"


def _squeeze(line: str) -> str:
    return " ".join(line.split())
