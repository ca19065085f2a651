"""The demo runs to its end, says what the README shows, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the demo prints to somebody who pipes it into a file."""
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")
    }
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"}
    finished = subprocess.run(
        [sys.executable, "-m", "fkdoctor", "demo"],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def test_the_demo_tells_the_whole_story(told: str) -> None:
    chapters = re.findall(r"^── (\d)\.", told, flags=re.MULTILINE)

    assert chapters == list("123456789")
    assert 'is still referenced from table "job_recommendations"' in told
    assert told.count("ON DELETE NO ACTION\n") == 2
    assert "Nothing found." in told
    assert "Every row of the four tables is as it was, by checksum." in told
    assert "Traceback" not in told


def test_no_reference_dangles_after_the_merge(told: str) -> None:
    dangling = re.findall(r"_fkey +([\d,]+) references, (\d+) dangling", told)

    assert [count for count, _ in dangling] == ["100,000", "100,000", "30,000", "20,978"]
    assert {number for _, number in dangling} == {"0"}


def test_the_readme_shows_what_the_demo_prints(told: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = next(block for block in readme.split("```") if "── 2." in block)
    printed = {_without_chance(line) for line in told.splitlines()}

    for line in filter(str.strip, shown.splitlines()):
        if line != "…":
            assert _without_chance(line) in printed


def _without_chance(line: str) -> str:
    """The line without what differs from run to run: ids, and where the plan is saved."""
    line = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", line)
    return re.sub(r" The plan is saved in .*", "", line).rstrip()
