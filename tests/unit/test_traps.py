"""The page of traps names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "traps-of-merging.md"
TESTS = ROOT / "tests" / "database" / "dedupe"

ROWS = [line.strip("|\n ").split(" | ") for line in PAGE.read_text("utf-8").splitlines()]
TRAPS = [row for row in ROWS if row[0].isdigit()]


def test_there_are_thirty_traps() -> None:
    assert [int(row[0]) for row in TRAPS] == list(range(1, 31))
    assert {len(row) for row in TRAPS} == {4}


@pytest.mark.parametrize("number", range(30))
def test_each_trap_has_a_test(number: int) -> None:
    named = re.fullmatch(r"`(test_\w+\.py)::(test_\w+)`", TRAPS[number][3])
    assert named, TRAPS[number][3]
    tree = ast.parse((TESTS / named[1]).read_text("utf-8"))
    assert named[2] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
