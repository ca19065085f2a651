"""An audit as Markdown, for a comment on a pull request."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from fkdoctor.audit import Finding, Report
from fkdoctor.render.glyphs import MARKS, SEVERITY_MARKS
from fkdoctor.render.text import count_of, describe_key, describe_scope, summarise


def render_report(report: Report) -> str:
    """The report as Markdown: the findings as a table, then each with its SQL, then all keys."""
    return "\n".join(
        (
            "## Foreign keys",
            "",
            summarise(report),
            "",
            *_findings_table(report),
            *_rule_sections(report),
            *_gone(report),
            *_keys(report),
            *(
                f"Not read: {unread.subject} ({unread.reason}).\n"
                for unread in report.schema.unread
            ),
            describe_scope(report),
            "",
        )
    )


def code(text: str) -> str:
    """The text as a code span, also when it holds backticks."""
    fence = "`" * (1 + max((len(run) for run in _backticks(text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _backticks(text: str) -> Iterator[str]:
    return ("".join(run) for is_tick, run in groupby(text, "`".__eq__) if is_tick)


def cell(text: str) -> str:
    """The text fit for a table's cell, also inside a code span."""
    return one_line(text.replace("|", "\\|"))


def one_line(text: str) -> str:
    """The text without line breaks, which names can hold."""
    return " ".join(text.splitlines())


def escape(text: str) -> str:
    """The text so that nothing in it is taken for markup."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>#|~" else sign for sign in text)


def _findings_table(report: Report) -> Iterator[str]:
    if report.new:
        yield "| | Rule | Where | What |"
        yield "|---|---|---|---|"
        for finding in report.new:
            mark = SEVERITY_MARKS[finding.severity]
            rule = f"{finding.rule.id} {finding.rule.name}"
            where, what = cell(code(finding.subject)), one_line(escape(finding.detail))
            yield f"| {mark} | {rule} | {where} | {what} |"
        yield ""


def _rule_sections(report: Report) -> Iterator[str]:
    by_rule = sorted(report.new, key=lambda finding: finding.rule.id)
    for rule, found in groupby(by_rule, key=lambda finding: finding.rule):
        yield "<details>"
        yield f"<summary>{rule.id} {rule.name}: why, and what to do</summary>"
        yield ""
        yield f"**Why it hurts.** {escape(rule.effect)}"
        yield ""
        yield f"**What to do.** {escape(rule.remedy)}"
        yield ""
        yield from _statements(tuple(found))
        yield "</details>"
        yield ""


def _statements(findings: tuple[Finding, ...]) -> Iterator[str]:
    for language, pasted in (
        ("sql", [finding.sql for finding in findings if finding.sql]),
        ("toml", [finding.toml for finding in findings if finding.toml]),
    ):
        if pasted:
            yield f"```{language}"
            yield from pasted
            yield "```"
            yield ""


def _gone(report: Report) -> Iterator[str]:
    if report.gone:
        yield "No longer found, though in the baseline:"
        yield ""
        yield from (f"- {code(key)}" for key in report.gone)
        yield ""


def _keys(report: Report) -> Iterator[str]:
    if report.foreign_keys:
        yield "<details>"
        yield f"<summary>{count_of(len(report.foreign_keys), 'foreign key')}</summary>"
        yield ""
        for key in report.foreign_keys:
            yield f"- {MARKS[report.mark_of(key)]} {code(describe_key(key))}"
        yield ""
        yield "</details>"
        yield ""
