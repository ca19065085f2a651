"""What the closure or the model found, as an Impact: verdicts, sums, and rows by their keys."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from fkdoctor.impact.caveats import find_caveats
from fkdoctor.impact.closure import SHOWN, Survey, Trace
from fkdoctor.impact.effect import (
    Caveat,
    Effect,
    Impact,
    KeyOrder,
    Obstacle,
    Path,
    RowKey,
    Step,
    Trouble,
    Verdict,
)
from fkdoctor.impact.firing import Event, Firing
from fkdoctor.impact.forecast import Forecast
from fkdoctor.impact.model import Outcome, RowId, Stop
from fkdoctor.impact.reach import Reach, find_family
from fkdoctor.resources import load_query
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName
from fkdoctor.statement.lookup import select_keys

Place = tuple[TableName, str]
"""A table that holds rows, and a ctid in it."""

Trail = tuple[tuple[Place, ForeignKey | None], ...]
"""A path by places."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What was asked, and of whom."""

    connection: Connection
    schema: Schema
    reach: Reach
    table: TableName


def describe_survey(question: Question, survey: Survey, more: Iterable[Caveat] = ()) -> Impact:
    """The impact as the closure saw it."""
    trails = [[_name_places(question, trace) for trace in hit.traces] for hit in survey.hits]
    paths = _find_paths(question, trails)
    obstacles = tuple(
        Obstacle(
            trouble=hit.trouble,
            key=hit.key,
            table=hit.table,
            name=hit.name,
            level=hit.level,
            at_commit=hit.at_commit,
            rows=hit.rows,
            paths=tuple(paths[trail] for trail in of_hit),
        )
        for hit, of_hit in zip(survey.hits, trails, strict=True)
    )
    touched: dict[TableName, set[Event]] = defaultdict(set)
    for effect in survey.effects:
        deletes = effect.action is ReferentialAction.CASCADE
        touched[effect.table].add(Event.DELETE if deletes else Event.UPDATE)
    for family in survey.changed:
        touched[family].add(Event.UPDATE)
    return _impact(
        question,
        verdict=_judge(survey),
        effects=survey.effects,
        changed_rows=sum(survey.changed.values()),
        obstacles=obstacles,
        key_orders=tuple(
            KeyOrder(first=first, second=second, reversed=Verdict.BLOCKED)
            for first, second in dict.fromkeys(survey.settled)
        ),
        possible=(),
        touched=touched,
        caveats=(*_open_points(survey), *more),
    )


def _judge(survey: Survey) -> Verdict:
    at_once = [hit for hit in survey.hits if not hit.at_commit and hit.level <= survey.horizon]
    if survey.misled:
        return Verdict.UNCERTAIN
    if at_once:
        first = min(at_once, key=lambda hit: (hit.level, hit.trouble is not Trouble.REFERENCED))
        return Verdict.BLOCKED if first.trouble is Trouble.REFERENCED else Verdict.FAILS
    if survey.unsupported or survey.guessed or survey.questions:
        return Verdict.UNCERTAIN
    return Verdict.BLOCKED_AT_COMMIT if survey.hits else Verdict.ALLOWED


def _open_points(survey: Survey) -> Iterator[Caveat]:
    for key in survey.guessed:
        yield Caveat(
            subject=key.label,
            reason="no index serves it: what it reaches is estimated, and not followed further",
        )
    for unsupported in survey.unsupported:
        yield Caveat(subject=unsupported.subject, reason=unsupported.reason)
    for reason in dict.fromkeys((*survey.misled, *survey.questions)):
        yield Caveat(
            subject="order", reason=f"{reason}; too many rows are involved to go through them all"
        )


def describe_forecast(question: Question, forecast: Forecast) -> Impact:
    """The impact as the model saw it."""
    outcomes = (forecast.outcome, *forecast.others)
    verdicts = tuple(dict.fromkeys(judge_outcome(outcome) for outcome in outcomes))
    effects = tuple(_sum_effects(question.schema, forecast.outcome))
    touched: dict[TableName, set[Event]] = defaultdict(set)
    for outcome in outcomes:
        for row, written in outcome.written.items():
            family = find_family(question.schema, row.table)
            touched[family].add(Event.UPDATE if written.image is not None else Event.DELETE)
        for row, _ in outcome.updates:
            touched[find_family(question.schema, row.table)].add(Event.UPDATE)
    return _impact(
        question,
        verdict=verdicts[0] if len(outcomes) == 1 else Verdict.ORDER_DEPENDENT,
        effects=effects,
        changed_rows=sum(
            forecast.outcome.written[row].image is not None
            for row in {row for row, _ in forecast.outcome.updates}
        ),
        obstacles=tuple(_sum_stops(question, outcomes)),
        key_orders=tuple(
            KeyOrder(first=pair.first, second=pair.second, reversed=judge_outcome(pair.reversed))
            for pair in forecast.key_orders
        ),
        possible=verdicts if len(outcomes) > 1 else (),
        touched=touched,
        caveats=(),
    )


def judge_outcome(outcome: Outcome) -> Verdict:
    """How the statement ends in this order."""
    if not outcome.stops:
        return Verdict.ALLOWED
    first = next((stop for stop in outcome.stops if not stop.deferrable), None)
    if first is None:
        # Whether a deferrable unique constraint waits, and for how long, the session decides.
        return Verdict.UNCERTAIN
    if first.at_commit:
        return Verdict.BLOCKED_AT_COMMIT
    return Verdict.BLOCKED if first.trouble is Trouble.REFERENCED else Verdict.FAILS


def _sum_effects(schema: Schema, outcome: Outcome) -> Iterator[Effect]:
    deleted = [(row, at.cause) for row, at in outcome.written.items() if at.image is None]
    changed = [
        (row, cause) for row, cause in outcome.updates if outcome.written[row].image is not None
    ]
    sums: Counter[tuple[TableName, Firing | None, int]] = Counter()
    for row, cause in (*deleted, *changed):
        family = find_family(schema, row.table)
        sums[family, cause.firing if cause else None, cause.phase + 1 if cause else 0] += 1
    for (table, firing, level), rows in sums.items():
        action = firing.action if firing and firing.action else ReferentialAction.CASCADE
        yield Effect(
            table=table, key=firing.key if firing else None, action=action, level=level, rows=rows
        )


def _sum_stops(question: Question, outcomes: Sequence[Outcome]) -> Iterator[Obstacle]:
    """The stops of all outcomes, those of one key and rule together."""
    groups: dict[tuple[object, ...], dict[RowId, Stop]] = defaultdict(dict)
    for outcome in outcomes:
        for stop in outcome.stops:
            family = find_family(question.schema, stop.row.table)
            oid = stop.key.oid if stop.key else None
            group = groups[stop.trouble, oid, family, stop.name, stop.at_commit]
            group.setdefault(stop.row, stop)
    trails = [
        [_find_trail(stop) for stop in list(group.values())[:SHOWN]] for group in groups.values()
    ]
    paths = _find_paths(question, trails)
    for of_group, group in zip(trails, groups.values(), strict=True):
        first = next(iter(group.values()))
        yield Obstacle(
            trouble=first.trouble,
            key=first.key,
            table=find_family(question.schema, first.row.table),
            name=first.name,
            level=min(stop.cause.phase if stop.cause else 0 for stop in group.values()),
            at_commit=first.at_commit,
            rows=len(group),
            paths=tuple(paths[trail] for trail in of_group),
            always=len(outcomes) == 1,
        )


def _find_trail(stop: Stop) -> Trail:
    trail: list[tuple[Place, ForeignKey | None]] = []
    queued = stop.cause
    if queued is None or queued.firing.action is not None:
        trail.append((_place(stop.row), queued.firing.key if queued else None))
    while queued is not None:
        creator = queued.creator
        trail.append((_place(queued.row), creator.firing.key if creator else None))
        queued = creator
    return tuple(reversed(trail))


def _place(row: RowId) -> Place:
    return row.table, f"({row.block},{row.item})"


def _impact(
    question: Question,
    *,
    verdict: Verdict,
    effects: Sequence[Effect],
    changed_rows: int,
    obstacles: tuple[Obstacle, ...],
    key_orders: tuple[KeyOrder, ...],
    possible: tuple[Verdict, ...],
    touched: dict[TableName, set[Event]],
    caveats: tuple[Caveat, ...],
) -> Impact:
    touched[find_family(question.schema, question.table)].add(Event.DELETE)
    found = find_caveats(question.schema, question.reach, touched)
    return Impact(
        table=question.table,
        verdict=verdict,
        effects=tuple(
            sorted(
                effects,
                key=lambda effect: (
                    effect.level,
                    effect.table,
                    effect.action.value,
                    effect.key.name if effect.key else "",
                ),
            )
        ),
        changed_rows=changed_rows,
        obstacles=tuple(
            sorted(obstacles, key=lambda one: (one.at_commit, one.level, one.table, one.name))
        ),
        key_orders=key_orders,
        possible=possible,
        caveats=(*caveats, *found),
    )


# Rows by their keys.


def _name_places(question: Question, traces: Sequence[Trace]) -> Trail:
    oids = sorted({trace.place[0] for trace in traces})
    query = sa.text(load_query("impact/table_names"))
    names = {
        row.oid: TableName(row.schema, row.name)
        for row in question.connection.execute(query, {"oids": oids})
    }
    return tuple(((names[trace.place[0]], trace.place[1]), trace.key) for trace in traces)


def _find_paths(question: Question, trails: Sequence[Sequence[Trail]]) -> dict[Trail, Path]:
    """The trails with the keys of their rows."""
    places: dict[TableName, set[str]] = defaultdict(set)
    for trail in (trail for group in trails for trail in group):
        for (table, at), _ in trail:
            places[table].add(at)
    rows: dict[Place, RowKey] = {}
    for table, of_table in places.items():
        described = question.schema.table(table)
        query = select_keys(described)
        for at, values in question.connection.execute(query, {"places": sorted(of_table)}):
            rows[table, at] = RowKey(
                table=table, columns=described.row_identity or ("ctid",), values=tuple(values)
            )
    return {
        trail: tuple(Step(row=rows[place], key=key) for place, key in trail)
        for group in trails
        for trail in group
    }
