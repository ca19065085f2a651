"""Hazards of a migration as text, JSON values and SARIF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import click

from fkdoctor.lint.judge import RULES, Hazard, Level
from fkdoctor.render.sarif import SCHEMA
from fkdoctor.render.text import count_of
from fkdoctor.version import __version__

VERSION = 1

_MARKS = {Level.NOTE: "·", Level.WARNING: "⚠", Level.ERROR: "✖"}
_COLOURS = {Level.NOTE: "cyan", Level.WARNING: "yellow", Level.ERROR: "red"}


def lint_text(hazards: Sequence[Hazard], statements: int, *, colour: bool = False) -> str:
    """The hazards as lines for a person, with a line feed at the end."""
    lines = [line for hazard in hazards for line in (*_lines(hazard), "")]
    numbers = Counter(hazard.level for hazard in hazards)
    counts = ", ".join(count_of(numbers[level], level.label) for level in reversed(Level))
    lines.append(click.style(f"{count_of(statements, 'statement')}: {counts}.", bold=True))
    text = "\n".join(lines) + "\n"
    return text if colour else click.unstyle(text)


def _lines(hazard: Hazard) -> Iterator[str]:
    mark = click.style(_MARKS[hazard.level], fg=_COLOURS[hazard.level])
    yield f"{mark} {hazard.path}:{hazard.line} {hazard.rule}: {hazard.message}"
    modes: dict[str, list[str]] = {}
    for lock in hazard.locks:
        modes.setdefault(lock.mode, []).append(str(lock.table))
    for mode, tables in modes.items():
        shown = ", ".join(tables[:5]) + (f" and {len(tables) - 5} more" if len(tables) > 5 else "")
        yield f"    locks: {mode} on {shown}"
    if hazard.seconds is not None and hazard.seconds >= 1:
        yield f"    takes: about {hazard.seconds:,.0f} s with {count_of(hazard.rows or 0, 'row')}"
    for number, line in enumerate((hazard.safe or "").splitlines()):
        yield f"    {'write: ' if number == 0 else '       '}{click.style(line, fg='blue')}"


def lint_document(hazards: Sequence[Hazard], statements: int) -> dict[str, Any]:
    """The hazards as plain values for JSON. Fields are added, never renamed or removed."""
    return {
        "version": VERSION,
        "statements": statements,
        "hazards": [
            {
                "path": str(hazard.path),
                "line": hazard.line,
                "rule": hazard.rule,
                "level": hazard.level.label,
                "message": hazard.message,
                "locks": [{"table": str(lock.table), "mode": lock.mode} for lock in hazard.locks],
                "rows": hazard.rows,
                "seconds": hazard.seconds,
                "safe": hazard.safe,
            }
            for hazard in hazards
        ],
    }


def lint_sarif(hazards: Sequence[Hazard]) -> dict[str, Any]:
    """The hazards as a SARIF 2.1.0 log (OASIS, "Static Analysis Results Interchange Format")."""
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "fkdoctor",
                        "version": __version__,
                        "rules": [
                            {"id": rule, "shortDescription": {"text": text}}
                            for rule, text in RULES.items()
                        ],
                    }
                },
                "results": [_result(hazard) for hazard in hazards],
            }
        ],
    }


def _result(hazard: Hazard) -> dict[str, Any]:
    text = hazard.message if hazard.safe is None else f"{hazard.message}\n{hazard.safe}"
    return {
        "ruleId": hazard.rule,
        "level": hazard.level.label,
        "message": {"text": text},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(hazard.path.as_posix())},
                    "region": {"startLine": hazard.line},
                }
            }
        ],
    }
