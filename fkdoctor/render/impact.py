"""What a statement would do, as text, JSON values and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from fkdoctor.identifier import quote
from fkdoctor.impact.effect import Effect, Impact, Obstacle, Path, RowKey, Trouble, Verdict
from fkdoctor.impact.rehearsal import Rehearsal
from fkdoctor.render.markdown import cell, code
from fkdoctor.render.text import count_of
from fkdoctor.schema import ForeignKey, ReferentialAction, TableName

VERSION = 1

_MARKS = {Verdict.ALLOWED: "✔", Verdict.ORDER_DEPENDENT: "⚠", Verdict.UNCERTAIN: "⚠"}
_COLOURS = {"✔": "green", "⚠": "yellow", "✖": "red"}

_DONE = {
    ReferentialAction.SET_NULL: "set to NULL",
    ReferentialAction.SET_DEFAULT: "set to the default",
}


@dataclass(frozen=True, kw_only=True)
class Branch:
    """What one key does to one table, all levels together."""

    table: TableName
    source: TableName | None
    key: ForeignKey | None
    action: ReferentialAction | None
    deletes: bool
    levels: tuple[int, ...]
    rows: int
    estimated: bool
    sample: tuple[RowKey, ...]


def make_branches(impact: Impact) -> tuple[Branch, ...]:
    """The effects, those of one key together, in the order of their first level."""
    groups: dict[tuple[object, ...], list[Effect]] = {}
    for effect in impact.effects:
        oid = effect.key.oid if effect.key else None
        groups.setdefault((effect.table, effect.source, oid, effect.deletes), []).append(effect)
    return tuple(
        Branch(
            table=effects[0].table,
            source=effects[0].source,
            key=effects[0].key,
            action=effects[0].action,
            deletes=effects[0].deletes,
            levels=tuple(effect.level for effect in effects),
            rows=sum(effect.rows for effect in effects),
            estimated=any(effect.estimated for effect in effects),
            sample=_shorten([row for effect in effects for row in effect.sample], effects),
        )
        for effects in groups.values()
    )


def _shorten(rows: Sequence[RowKey], effects: Sequence[Effect]) -> tuple[RowKey, ...]:
    """As many rows as one effect shows."""
    return tuple(rows[: max(len(effect.sample) for effect in effects)])


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A statement with what it would do, and what it did when it was rehearsed."""

    shown: str
    impact: Impact
    rehearsal: Rehearsal | None = None


def answer_text(answer: Answer, *, colour: bool = False) -> str:
    """The answer as lines for a person, with a line feed at the end."""
    impact = answer.impact
    mark = _MARKS.get(impact.verdict, "✖")
    lines = [answer.shown, ""]
    lines.append(click.style(f"{mark} {summarise(impact)}", fg=_COLOURS[mark], bold=True))
    lines += ["", *_tree(make_branches(impact), impact.command)]
    if impact.why is not None:
        lines += ["", "Why that row:", f"  {describe_path(impact.why)}"]
    if impact.obstacles:
        lines += ["", "In the way:"]
        for obstacle in impact.obstacles:
            lines.append(f"{click.style('✖', fg='red')} {describe_obstacle(obstacle)}")
            lines += [f"    {describe_path(path)}" for path in obstacle.paths]
            if obstacle.paths and obstacle.rows > len(obstacle.paths):
                lines.append(f"    and {obstacle.rows - len(obstacle.paths):,} more")
    if notes := list(_order_notes(impact)):
        lines += ["", "Order:", *(f"{click.style('⚠', fg='yellow')} {note}" for note in notes)]
    if impact.caveats:
        exact = impact.rows_known and not impact.estimated
        lines += ["", "Exact but for this:" if exact else "Not exact:"]
        lines += [
            f"{click.style('⚠', fg='yellow')} {caveat.subject}: {caveat.reason}"
            for caveat in impact.caveats
        ]
    if answer.rehearsal is not None:
        lines += ["", *_rehearsal_lines(impact, answer.rehearsal)]
    text = "\n".join(lines) + "\n"
    return text if colour else click.unstyle(text)


def _rehearsal_lines(impact: Impact, rehearsal: Rehearsal) -> Iterator[str]:
    took = f"({rehearsal.seconds:.1f} s, rolled back)"
    if rehearsal.error is not None:
        when = " at COMMIT" if rehearsal.at_commit else ""
        yield f"Rehearsed: PostgreSQL stops{when} {took}: {rehearsal.error}"
    else:
        rows = count_of(sum(rehearsal.deleted.values()), "row")
        updates = count_of(sum(rehearsal.updated.values()), "update")
        yield f"Rehearsed: {rows} deleted, {updates} {took}"
    if rehearsal.differences:
        yield from (f"✖ Not as foreseen: {difference}" for difference in rehearsal.differences)
    elif rehearsal.error is not None and impact.verdict is Verdict.UNCERTAIN:
        yield "⚠ The preview had left open whether it would."
    else:
        yield "✔ As foreseen."


def summarise(impact: Impact) -> str:
    """Verdict and counts in one line."""
    if not impact.rows_known:
        return "UNCERTAIN: which rows cannot be told"
    parts = [f"{count_of(impact.changed_rows, 'row')} changed"]
    if impact.deleted_rows or impact.command != "UPDATE":
        deleted = f"{count_of(impact.deleted_rows, 'row')} deleted"
        parts = [deleted, *parts] if impact.changed_rows else [deleted]
    if tables := {effect.table for effect in impact.effects if effect.rows}:
        parts.append(f"in {count_of(len(tables), 'table')}")
    counts = ", ".join(parts)
    if impact.estimated:
        counts = f"about {counts}"
    words = {
        Verdict.ALLOWED: "ALLOWED" if not impact.caveats else "ALLOWED, as far as can be foreseen",
        Verdict.BLOCKED: "BLOCKED",
        Verdict.BLOCKED_AT_COMMIT: "BLOCKED AT COMMIT",
        Verdict.FAILS: "FAILS",
        Verdict.ORDER_DEPENDENT: "UNDEFINED: it depends on the order in which rows are met",
        Verdict.UNCERTAIN: "UNCERTAIN",
    }
    stopped = impact.verdict in (Verdict.BLOCKED, Verdict.BLOCKED_AT_COMMIT, Verdict.FAILS)
    return f"{words[impact.verdict]}: {'without what is in the way, ' if stopped else ''}{counts}"


def describe_path(path: Path) -> str:
    """The rows from the statement's own to the last: `a (1) → b (2)`."""
    return " → ".join(f"{step.row.table} {describe_row(step.row)}" for step in path)


def describe_row(row: RowKey) -> str:
    """The row's key: `(1, x)`; its ctid where it has none."""
    values = ", ".join(map(_value, row.values))
    return f"({values})" if row.columns != ("ctid",) else f"ctid {values}"


def describe_obstacle(obstacle: Obstacle) -> str:
    """What stops it, in one sentence."""
    rows, table = count_of(obstacle.rows, "row"), obstacle.table
    verb = "s" if obstacle.rows == 1 else ""
    name = quote(obstacle.name)
    match obstacle.trouble:
        case Trouble.REFERENCED:
            what = f"{rows} of {table} still reference{verb} what goes ({name})"
        case Trouble.MISSING:
            what = f"{rows} of {table} would get a reference that leads nowhere ({name})"
        case Trouble.PARTLY_NULL:
            what = f"{rows} of {table} would be partly NULL, which MATCH FULL refuses ({name})"
        case Trouble.NOT_NULL:
            what = f"{rows} of {table} would get NULL in {name}, which is NOT NULL"
        case Trouble.CHECK:
            what = f"{rows} of {table} would offend the check {name}"
        case Trouble.UNIQUE:
            what = f"{rows} of {table} would have a value that another row has ({name})"
        case Trouble.NOT_TRUNCATED:
            what = f"{table} references it ({name}); only with CASCADE it would be truncated too"
    when = ", at COMMIT" if obstacle.at_commit else ""
    return f"{what}{when}{'' if obstacle.always else '; in some orders of rows'}"


def _order_notes(impact: Impact) -> Iterator[str]:
    if impact.possible:
        ends = " or ".join(verdict.value for verdict in impact.possible)
        yield f"PostgreSQL does not say in which order rows are met; it ends as {ends}."
    for pair in impact.key_orders:
        yield (
            f"{pair.first.label} fires before {quote(pair.second.name)} because it was created "
            f"first. The other way round, as after some dumps, it is {pair.reversed.value}."
        )


def _tree(branches: Sequence[Branch], command: str) -> Iterator[str]:
    """The tables, each with what hangs on it where it is named first."""
    shown: set[TableName] = set()

    def lines(branch: Branch, first: str, rest: str) -> Iterator[str]:
        yield f"{first}{_describe_branch(branch, command)}"
        yield from (f"{rest}    {line}" for line in _sample_lines(branch))
        if branch.table in shown:
            return
        shown.add(branch.table)
        below = [one for one in branches if one.source == branch.table]
        for number, one in enumerate(below, start=1):
            here, under = ("└─ ", "   ") if number == len(below) else ("├─ ", "│  ")
            yield from lines(one, rest + here, rest + under)

    for branch in branches:
        if branch.source is None:
            yield from lines(branch, "", "")


def _done(branch: Branch) -> str:
    if branch.deletes:
        return "deleted"
    return "changed" if branch.action is None else _DONE.get(branch.action, "changed")


def _rule(branch: Branch, command: str) -> str:
    """The key's words: ON DELETE or ON UPDATE; a TRUNCATE asks no key what to do."""
    if branch.action is None or command == "TRUNCATE":
        return ""
    return f"ON {command} {branch.action.sql}"


def _sample_lines(branch: Branch) -> Iterator[str]:
    """The rows that are named: all in one line, or each with its contents."""
    more = branch.rows - len(branch.sample)
    if any(row.contents for row in branch.sample):
        for row in branch.sample:
            values = ", ".join(f"{quote(name)}: {_value(text)}" for name, text in row.contents)
            yield f"{describe_row(row)}  {values}"
        if more:
            yield f"and {more:,} more"
    elif branch.sample:
        keys = ", ".join(describe_row(row) for row in branch.sample)
        yield f"{keys}{f' and {more:,} more' if more else ''}"


def _value(text: str | None) -> str:
    if text is None:
        return "NULL"
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:39]}…"


def _describe_branch(branch: Branch, command: str) -> str:
    about = "about " if branch.estimated else ""
    words = f"{branch.table}  {about}{count_of(branch.rows, 'row')} {_done(branch)}"
    if branch.key is not None:
        named = (quote(branch.key.name), _rule(branch, command))
        words += f"  ({', '.join(part for part in named if part)})"
    if len(branch.levels) > 1:
        words += f"  at levels {branch.levels[0]} to {branch.levels[-1]}"
    return words


def answer_document(answer: Answer) -> dict[str, Any]:
    """The answer as plain values for JSON. Fields are added, never renamed or removed."""
    impact, rehearsal = answer.impact, answer.rehearsal
    return {
        "statement": answer.shown,
        "command": impact.command,
        "table": str(impact.table),
        "verdict": impact.verdict.value,
        "exact": not impact.caveats,
        "deleted_rows": impact.deleted_rows,
        "changed_rows": impact.changed_rows,
        "estimated": impact.estimated,
        "rows_known": impact.rows_known,
        "effects": [
            {
                "table": str(effect.table),
                "source": str(effect.source) if effect.source else None,
                "foreign_key": effect.key.label if effect.key else None,
                "action": effect.action.sql if effect.action else impact.command,
                "deletes": effect.deletes,
                "level": effect.level,
                "rows": effect.rows,
                "estimated": effect.estimated,
                "sample": [_row(row) for row in effect.sample],
            }
            for effect in impact.effects
        ],
        "obstacles": [
            {
                "trouble": obstacle.trouble.name.lower(),
                "foreign_key": obstacle.key.label if obstacle.key else None,
                "table": str(obstacle.table),
                "name": obstacle.name,
                "level": obstacle.level,
                "at_commit": obstacle.at_commit,
                "always": obstacle.always,
                "rows": obstacle.rows,
                "paths": [_path(path) for path in obstacle.paths],
            }
            for obstacle in impact.obstacles
        ],
        "possible": [verdict.value for verdict in impact.possible],
        "key_orders": [
            {
                "first": pair.first.label,
                "second": pair.second.label,
                "reversed": pair.reversed.value,
            }
            for pair in impact.key_orders
        ],
        "caveats": [
            {"subject": caveat.subject, "reason": caveat.reason, "decisive": caveat.decisive}
            for caveat in impact.caveats
        ],
        "why": _path(impact.why) if impact.why is not None else None,
        "rehearsal": rehearsal
        and {
            "error": rehearsal.error,
            "constraint": rehearsal.constraint,
            "at_commit": rehearsal.at_commit,
            "deleted": {str(table): rows for table, rows in rehearsal.deleted.items()},
            "updated": {str(table): rows for table, rows in rehearsal.updated.items()},
            "differences": list(rehearsal.differences),
        },
    }


def _row(row: RowKey) -> dict[str, Any]:
    key = dict(zip(row.columns, row.values, strict=True))
    document: dict[str, Any] = {"table": str(row.table), "key": key}
    if row.contents:
        document["contents"] = dict(row.contents)
    return document


def _path(path: Path) -> list[dict[str, Any]]:
    return [{**_row(step.row), "by": step.key.label if step.key else None} for step in path]


def answer_markdown(answer: Answer) -> str:
    """The answer as Markdown, for a review."""
    impact = answer.impact
    mark = _MARKS.get(impact.verdict, "✖")
    lines = [f"{mark} **{summarise(impact)}**", "", code(answer.shown), ""]
    lines += ["| Level | Table | Rows | By |", "|---:|---|---:|---|"]
    for branch in make_branches(impact):
        levels = str(branch.levels[0])
        if len(branch.levels) > 1:
            levels += f"–{branch.levels[-1]}"
        by = "statement"
        if branch.key:
            by = f"{code(branch.key.name)} {_rule(branch, impact.command)}".strip()
        about = "about " if branch.estimated else ""
        row = (
            levels,
            code(str(branch.table)),
            f"{about}{branch.rows:,} {_done(branch)}",
            by,
        )
        lines.append(f"| {' | '.join(cell(part) for part in row)} |")
    lines += _section("In the way", map(_obstacle_item, impact.obstacles))
    lines += _section("Order", _order_notes(impact))
    lines += _section("Not foreseen", (f"{one.subject}: {one.reason}" for one in impact.caveats))
    if impact.why is not None:
        lines += _section("Why that row", (code(describe_path(impact.why)),))
    if answer.rehearsal is not None:
        lines += ["", *_rehearsal_lines(impact, answer.rehearsal)]
    return "\n".join(lines) + "\n"


def _obstacle_item(obstacle: Obstacle) -> str:
    example = f": {code(describe_path(obstacle.paths[0]))}" if obstacle.paths else ""
    return f"{describe_obstacle(obstacle)}{example}"


def _section(title: str, items: Iterable[str]) -> list[str]:
    listed = [f"- {item}" for item in items]
    return ["", f"**{title}**", "", *listed] if listed else []
