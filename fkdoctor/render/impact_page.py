"""What statements would do, as one HTML file that needs nothing else, with a picture of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from fkdoctor.audit import Severity
from fkdoctor.identifier import quote
from fkdoctor.impact.effect import Impact
from fkdoctor.render.diagram import COLOURS, Arrow, Box, Diagram
from fkdoctor.render.impact import Answer, answer_text, make_branches, summarise
from fkdoctor.render.svg import draw
from fkdoctor.schema import ForeignKey, TableName
from fkdoctor.version import __version__

_STYLE = (
    "body{font-family:sans-serif;margin:2em;max-width:70em}"
    "pre{background:#f4f7fa;padding:1em;overflow:auto}"
    "figure{margin:1em 0;overflow:auto;font:12px monospace}"
)


def impact_page(answers: Sequence[Answer]) -> str:
    """The answers as a page, which loads nothing and sends nothing."""
    sections = "".join(_section(answer) for answer in answers)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="generator" content="fkdoctor {__version__}">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>What would it do?</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{sections}</body>\n</html>\n"
    )


def _section(answer: Answer) -> str:
    impact = answer.impact
    return (
        f"<h2>{escape(summarise(impact))}</h2>\n<figure>{_picture(impact)}</figure>\n"
        f"<pre>{escape(answer_text(answer))}</pre>\n"
    )


def _picture(impact: Impact) -> str:
    inner, width, height = draw(draw_impact(impact))
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="The tables that it reaches">\n{inner}</svg>'
    )


def draw_impact(impact: Impact) -> Diagram:
    """The tables that it reaches as boxes with their rows; arrows are the keys by which it does.

    A table in which something is in the way has a thick red frame.
    """
    branches = make_branches(impact)
    stopping = {one.table for one in impact.obstacles}
    tables = list(dict.fromkeys((impact.table, *(one.table for one in branches), *stopping)))
    position = {table: number for number, table in enumerate(tables)}
    rows = dict.fromkeys(tables, 0)
    for branch in branches:
        rows[branch.table] += branch.rows
    arrows = {
        (branch.table, branch.source, branch.key.oid): _arrow(
            branch.key, position[branch.table], position[branch.source]
        )
        for branch in branches
        if branch.key is not None and branch.source in position
    }
    for table, key in _obstructing_keys(impact):
        if key.referenced in position:
            arrows[table, key.referenced, key.oid] = _arrow(
                key, position[table], position[key.referenced]
            )
    return Diagram(
        database="",
        boxes=tuple(
            Box(
                table=table,
                title=f"{quote(table.name)} {rows[table]:,}",
                rows=rows[table],
                worst=Severity.ERROR if table in stopping else None,
                cyclic=False,
            )
            for table in tables
        ),
        arrows=tuple(arrows.values()),
    )


def _obstructing_keys(impact: Impact) -> Iterator[tuple[TableName, ForeignKey]]:
    for obstacle in impact.obstacles:
        if obstacle.key is not None:
            yield obstacle.table, obstacle.key


def _arrow(key: ForeignKey, source: int, target: int) -> Arrow:
    assert key.on_delete.sql in COLOURS
    return Arrow(
        label=key.label,
        columns=key.arrow,
        source=source,
        target=target,
        rule=key.on_delete.sql,
        loose=not (key.enforced and key.validated),
        cyclic=False,
        worst=None,
    )
