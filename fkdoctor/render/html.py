"""An audit as one HTML file that needs nothing else: the picture, the findings, the keys."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from fkdoctor.audit import Finding, Report
from fkdoctor.render.diagram import COLOURS, Diagram, make_diagram
from fkdoctor.render.glyphs import MARKS, SEVERITY_MARKS
from fkdoctor.render.svg import draw
from fkdoctor.render.text import count_of, describe_key, describe_scope, summarise
from fkdoctor.version import __version__

_HERE = Path(__file__).parent


def render_report(report: Report) -> str:
    """The report as a page, which loads nothing and sends nothing."""
    diagram = make_diagram(report)
    drawing, width, height = draw(diagram)
    graph = {"width": width, "height": height, **_describe(diagram, report)}
    return Template(_read("page.html")).substitute(
        version=__version__,
        database=escape(report.schema.database),
        css=_read("page.css"),
        js=_read("page.js"),
        summary=escape(summarise(report)),
        scope=escape(describe_scope(report)),
        unread="".join(
            f'<p class="warning">Not read: {escape(one.subject)} ({escape(one.reason)}).</p>'
            for one in report.schema.unread
        ),
        legend="".join(_legend(diagram)),
        drawing=drawing,
        findings="".join(_findings(report)) or "<p>Nothing found.</p>",
        key_count=count_of(len(report.foreign_keys), "foreign key"),
        keys="".join(_keys(report)),
        # No text in it can end the element: < is not written as such.
        graph=json.dumps(graph, ensure_ascii=False).replace("<", "\\u003c"),
    )


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _describe(diagram: Diagram, report: Report) -> dict[str, Any]:
    by_table: dict[str, list[dict[str, str]]] = defaultdict(list)
    for number, finding in enumerate(report.new):
        named = {str(table) for table in finding.tables}
        named |= {str(key.referencing) for key in finding.keys[:1]}
        title = f"{finding.rule.id} {finding.rule.name}: {finding.subject}"
        for table in named:
            by_table[table].append({"id": _anchor(number), "title": title})
    return {
        "boxes": [
            {
                "table": str(box.table),
                "rows": box.rows,
                "findings": by_table.get(str(box.table), []),
            }
            for box in diagram.boxes
        ],
        "arrows": [
            {
                "label": arrow.label,
                "columns": arrow.columns,
                "source": arrow.source,
                "target": arrow.target,
                "rule": arrow.rule,
                "cyclic": arrow.cyclic,
            }
            for arrow in diagram.arrows
        ],
    }


def _anchor(number: int) -> str:
    return f"finding-{number}"


def _legend(diagram: Diagram) -> Iterator[str]:
    for rule, colour in COLOURS.items():
        number = sum(arrow.rule == rule for arrow in diagram.arrows)
        if number:
            yield (
                f'<label><input type="checkbox" name="rule" value="{rule}" checked>'
                f'<span class="swatch" style="background:{colour}"></span>{rule} ({number})'
                "</label>\n"
            )


def _findings(report: Report) -> Iterator[str]:
    numbered = enumerate(report.new)
    for (severity, rule), group in groupby(
        numbered, key=lambda one: (one[1].severity, one[1].rule)
    ):
        found = list(group)
        yield (
            f'<details{" open" if len(found) <= 20 else ""}><summary class="{severity.label}">'
            f"{SEVERITY_MARKS[severity]} {rule.id} {rule.name}: "
            f"{count_of(len(found), 'finding')}</summary>\n"
            f"<p>{escape(rule.effect)}</p><p>{escape(rule.remedy)}</p>\n"
        )
        for number, finding in found:
            yield _finding(number, finding)
        yield "</details>\n"


def _finding(number: int, finding: Finding) -> str:
    pasted = "".join(f"<pre>{escape(text)}</pre>" for text in (finding.sql, finding.toml) if text)
    return (
        f'<h3 id="{_anchor(number)}"><code>{escape(finding.subject)}</code></h3>'
        f"<p>{escape(finding.detail)}</p>{pasted}\n"
    )


def _keys(report: Report) -> Iterator[str]:
    for key in report.foreign_keys:
        said = describe_key(key).partition("  ")[2]
        yield (
            f'<tr><td>{MARKS[report.mark_of(key)]}</td><td class="name">{escape(key.label)}</td>'
            f'<td class="name">{escape(key.arrow)}</td><td>{escape(said)}</td></tr>\n'
        )
