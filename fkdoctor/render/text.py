"""An audit as text for people: every key with its rule, the findings, what was looked at.

Lines with names to search for and SQL to copy are never wrapped; prose is, if a width is given.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby

import click

from fkdoctor.audit import Finding, Mark, Report, Rule, Severity
from fkdoctor.audit.wording import listed, row_count
from fkdoctor.identifier import quote, quote_all
from fkdoctor.render.glyphs import MARKS, SEVERITY_MARKS
from fkdoctor.schema import ForeignKey, MatchType, ReferentialAction

_COLOURS = {Mark.GOOD: "green", Mark.CAUTION: "yellow", Mark.BAD: "red"}
_SEVERITY_COLOURS = {Severity.INFO: "cyan", Severity.WARNING: "yellow", Severity.ERROR: "red"}
SHOWN = 25
"""So many info findings of a rule are told one by one; errors and warnings all are."""

_HEADINGS = {Severity.ERROR: "ERRORS", Severity.WARNING: "WARNINGS", Severity.INFO: "INFO"}


def render_report(report: Report, *, colour: bool = False, width: int | None = None) -> str:
    """The report as lines of text, with a line feed at the end.

    `width` is that of the terminal; None leaves every line whole.
    """
    lines = [*_key_lines(report), *_finding_lines(report, width), *_closing_lines(report)]
    text = "\n".join(lines) + "\n"
    return text if colour else click.unstyle(text)


def describe_key(key: ForeignKey) -> str:
    """The key and all it says, ON DELETE always: `mlops.a.fk: b_id → mlops.b(id)  ON DELETE …`."""
    columns = f" ({quote_all(key.set_columns)})" if key.set_columns else ""
    words = [f"ON DELETE {key.on_delete.sql}{columns}"]
    if key.on_update is not ReferentialAction.NO_ACTION:
        words.append(f"ON UPDATE {key.on_update.sql}")
    if key.match is not MatchType.SIMPLE:
        words.append(f"MATCH {key.match.name}")
    if key.deferrable:
        words.append("INITIALLY DEFERRED" if key.initially_deferred else "DEFERRABLE")
    if not key.enforced:
        words.append("NOT ENFORCED")
    elif not key.validated:
        words.append("NOT VALID")
    return f"{key.label}: {key.arrow}  {' '.join(words)}"


def count_of(number: int, noun: str) -> str:
    """Number and noun: `1 error`, `2 errors`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def summarise(report: Report) -> str:
    """The counts in one sentence: `2 errors, 1 warning and 5 info findings; 3 ignored.`"""
    counts = [
        count_of(number, severity.label if severity > Severity.INFO else "info finding")
        for severity in reversed(Severity)
        if (number := report.count(severity))
    ]
    parts = [listed(counts) if counts else "Nothing found"]
    if report.known:
        parts.append(f"{len(report.known):,} of them known from the baseline")
    if report.ignored:
        parts.append(f"{report.ignored:,} ignored")
    return "; ".join(parts) + "."


def describe_scope(report: Report) -> str:
    """What was looked at: database, server, schemas and how many tables and keys."""
    schema, scope = report.schema, report.scope
    tables = [table.name for table in schema.tables if scope.covers(table.name)]
    schemas = sorted({table.schema for table in tables})
    number, minor = divmod(schema.server_version, 10_000)
    return (
        f"Audited database {quote(schema.database)} on PostgreSQL {number}.{minor}: "
        f"{count_of(len(tables), 'table')} in {count_of(len(schemas), 'schema')}"
        f"{' (' + quote_all(tuple(schemas)) + ')' if schemas else ''}, "
        f"{count_of(len(report.foreign_keys), 'foreign key')}, "
        f"{count_of(len(report.rules), 'rule')}."
    )


def _key_lines(report: Report) -> Iterator[str]:
    by_referenced = sorted(report.foreign_keys, key=lambda key: (key.referenced, key.label))
    for table, keys in groupby(by_referenced, key=lambda key: key.referenced):
        yield click.style(f"{table}  ({row_count(report.schema, table)})", bold=True)
        for key in keys:
            mark = report.mark_of(key)
            yield f"{click.style(MARKS[mark], fg=_COLOURS[mark])} {describe_key(key)}"
        yield ""
    if by_referenced:
        yield (
            f"{MARKS[Mark.GOOD]} acts on the referencing rows   "
            f"{MARKS[Mark.CAUTION]} blocks the DELETE, or has a warning   "
            f"{MARKS[Mark.BAD]} has an error"
        )
    else:
        yield "There is no foreign key."
    yield ""


def _finding_lines(report: Report, width: int | None) -> Iterator[str]:
    for severity, findings in groupby(report.new, key=lambda finding: finding.severity):
        yield click.style(_HEADINGS[severity], bold=True)
        yield ""
        for rule, found in groupby(findings, key=lambda finding: finding.rule):
            yield from _rule_lines(rule, severity, found, width)


def _rule_lines(
    rule: Rule, severity: Severity, findings: Iterable[Finding], width: int | None
) -> Iterator[str]:
    colour = _SEVERITY_COLOURS[severity]
    yield click.style(f"{SEVERITY_MARKS[severity]} {rule.id} {rule.name}", fg=colour)
    yield _prose(f"Why it hurts: {rule.effect}", "  ", width)
    yield _prose(f"What to do: {rule.remedy}", "  ", width)
    every = list(findings)
    shown = every if severity > Severity.INFO else every[:SHOWN]
    for finding in shown:
        yield f"  {click.style(finding.rule.id, fg=colour)} {finding.subject}"
        yield _prose(finding.detail, "    ", width)
        for line in (finding.sql or "").splitlines():
            yield click.style(f"      {line}", fg="blue")
        if finding.toml:
            yield "    In fkdoctor.toml:"
            for line in finding.toml.splitlines():
                yield click.style(f"      {line}", fg="blue")
    if more := len(every) - len(shown):
        yield f"  and {more:,} more, which the other formats list (--format html, json, ...)"
    yield ""


def _prose(text: str, indent: str, width: int | None) -> str:
    if width is None:
        return indent + text
    return textwrap.fill(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _closing_lines(report: Report) -> Iterator[str]:
    yield click.style(summarise(report), bold=True)
    if report.gone:
        yield f"No longer found, though in the baseline: {', '.join(report.gone)}."
    for unread in report.schema.unread:
        yield click.style(f"Not read: {unread.subject} ({unread.reason}).", fg="yellow")
    yield describe_scope(report)
