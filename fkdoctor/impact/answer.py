"""What the closure or the model found, as an Impact: verdicts, sums, and rows by their keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from fkdoctor.identifier import quote
from fkdoctor.impact.caveats import find_caveats
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
from fkdoctor.impact.model import Outcome, Queued, Stop
from fkdoctor.impact.reach import Reach, find_family
from fkdoctor.impact.survey import Place as Spot
from fkdoctor.impact.survey import Survey, Trace
from fkdoctor.impact.world import RowId
from fkdoctor.resources import execute_query
from fkdoctor.schema import ForeignKey, Schema, TableName
from fkdoctor.statement.lookup import select_keys

Place = tuple[TableName, str]
"""A table that holds rows, and a ctid in it."""

Trail = tuple[tuple[Place, ForeignKey | None], ...]
"""A path by places."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What was asked, and of whom. `shown` is how many rows are named where there are more.

    `asked` is a row whose path is wanted; `doubts` are caveats that are known beforehand.
    """

    connection: Connection
    schema: Schema
    reach: Reach
    table: TableName
    shown: int
    contents: bool = False
    event: Event = Event.DELETE
    asked: Spot | None = None
    doubts: tuple[Caveat, ...] = ()


def describe_survey(
    question: Question, survey: Survey, why: tuple[Trace, ...] | None = None
) -> Impact:
    """The impact as the closure saw it."""
    spots = [spot for _, of_effect in survey.effects for spot in of_effect]
    traces = [trace for hit in survey.hits for trace in hit.traces] + ([why] if why else [])
    spots += [step.place for trace in traces for step in trace]
    names = _name_tables(question, spots)
    trails = [[_name_places(names, trace) for trace in hit.traces] for hit in survey.hits]
    trail = _name_places(names, why) if why else ()
    rows = _read_keys(question, [(names[leaf], at) for leaf, at in spots])
    obstacles = tuple(
        Obstacle(
            trouble=hit.trouble,
            key=hit.key,
            table=hit.table,
            name=hit.name,
            level=hit.level,
            at_commit=hit.at_commit,
            rows=hit.rows,
            paths=tuple(_make_path(rows, trail) for trail in of_hit),
        )
        for hit, of_hit in zip(survey.hits, trails, strict=True)
    )
    touched: dict[TableName, set[Event]] = defaultdict(set)
    effects = [
        replace(effect, sample=tuple(sorted(rows[names[leaf], at] for leaf, at in of_effect)))
        for effect, of_effect in survey.effects
    ]
    for effect in effects:
        touched[effect.table].add(Event.DELETE if effect.deletes else Event.UPDATE)
    for family in survey.changed:
        touched[family].add(Event.UPDATE)
    return _impact(
        question,
        verdict=_judge(survey),
        effects=effects,
        changed_rows=sum(survey.changed.values()),
        obstacles=obstacles,
        key_orders=tuple(
            KeyOrder(first=first, second=second, reversed=Verdict.BLOCKED)
            for first, second in dict.fromkeys(survey.settled)
        ),
        possible=(),
        touched=touched,
        caveats=tuple(_open_points(survey)),
        why=_make_path(rows, trail) or None,
        rows_known=not survey.unsupported or bool(effects),
    )


def _judge(survey: Survey) -> Verdict:
    at_once = [hit for hit in survey.hits if not hit.at_commit and hit.level <= survey.horizon]
    if survey.misled or survey.more_than is not None:
        return Verdict.UNCERTAIN
    if at_once:
        first = min(at_once, key=lambda hit: (hit.level, hit.trouble is not Trouble.REFERENCED))
        return Verdict.BLOCKED if first.trouble is Trouble.REFERENCED else Verdict.FAILS
    if survey.unsupported or survey.guessed or survey.questions:
        return Verdict.UNCERTAIN
    return Verdict.BLOCKED_AT_COMMIT if survey.hits else Verdict.ALLOWED


def _open_points(survey: Survey) -> Iterator[Caveat]:
    if survey.more_than is not None:
        yield Caveat(
            subject="limit",
            reason=f"more than {survey.more_than:,} rows would be deleted; the counting stopped",
        )
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
    effects = tuple(_sum_effects(question, forecast.outcome))
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
        caveats=tuple(_deferrable_rules(question, outcomes)),
        why=_find_why(question, forecast.outcome),
    )


def _deferrable_rules(question: Question, outcomes: Iterable[Outcome]) -> Iterator[Caveat]:
    """The unique constraints of which it is not foreseen when they are checked."""
    met = {
        (find_family(question.schema, stop.row.table), stop.name)
        for outcome in outcomes
        for stop in outcome.stops
        if stop.deferrable
    }
    for table, name in sorted(met):
        yield Caveat(
            subject=f"{table}.{quote(name)}",
            reason="it is DEFERRABLE: rows collide in it for a while, and the session says when it "
            "is checked",
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


def _sum_effects(question: Question, outcome: Outcome) -> Iterator[Effect]:
    deleted = [(row, at.cause) for row, at in outcome.written.items() if at.image is None]
    changed = [
        (row, cause) for row, cause in outcome.updates if outcome.written[row].image is not None
    ]
    groups: dict[tuple[TableName, Firing | None, int, bool], list[RowId]] = defaultdict(list)
    for deletes, of_kind in ((True, deleted), (False, changed)):
        for row, cause in of_kind:
            family = find_family(question.schema, row.table)
            level = cause.phase + 1 if cause else 0
            groups[family, cause.firing if cause else None, level, deletes].append(row)
    samples = {group: sorted(rows)[: question.shown] for group, rows in groups.items()}
    keys = _read_keys(question, [_place(row) for rows in samples.values() for row in rows])
    for (table, firing, level, deletes), rows in groups.items():
        yield Effect(
            table=table,
            source=find_family(question.schema, firing.table) if firing else None,
            key=firing.key if firing else None,
            action=firing.action if firing else None,
            deletes=deletes,
            level=level,
            rows=len(rows),
            sample=tuple(
                sorted(keys[_place(row)] for row in samples[table, firing, level, deletes])
            ),
        )


def _find_why(question: Question, outcome: Outcome) -> Path | None:
    """The path by which the row that was asked about goes or changes."""
    if question.asked is None:
        return None
    leaf, at = question.asked
    place = _name_tables(question, [question.asked])[leaf], at
    for row, written in outcome.written.items():
        if _place(row) == place:
            first = ((place, written.cause.firing.key if written.cause else None),)
            trail = (*_trail_to(written.cause), *first)
            return _make_path(_read_keys(question, [one for one, _ in trail]), trail)
    return None


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
        [_find_trail(stop) for stop in list(group.values())[: question.shown]]
        for group in groups.values()
    ]
    rows = _read_keys(question, [place for of_group in trails for t in of_group for place, _ in t])
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
            paths=tuple(_make_path(rows, trail) for trail in of_group),
            always=len(outcomes) == 1,
        )


def _find_trail(stop: Stop) -> Trail:
    queued = stop.cause
    if queued is None:
        return ((_place(stop.row), None),)
    if queued.firing.action is None:
        return _trail_to(queued)
    return (*_trail_to(queued), (_place(stop.row), queued.firing.key))


def _trail_to(queued: Queued | None) -> Trail:
    """From the statement's own row to the one whose trigger this is."""
    trail: list[tuple[Place, ForeignKey | None]] = []
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
    why: Path | None,
    rows_known: bool = True,
) -> Impact:
    touched[find_family(question.schema, question.table)].add(question.event)
    found = tuple(find_caveats(question.schema, question.reach, touched))
    if verdict is Verdict.ALLOWED and any(caveat.decisive for caveat in found):
        verdict = Verdict.UNCERTAIN
    return Impact(
        command=question.event.name,
        table=question.table,
        verdict=verdict,
        effects=tuple(
            sorted(
                effects,
                key=lambda effect: (
                    effect.level,
                    effect.table,
                    effect.deletes,
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
        caveats=(*caveats, *question.doubts, *found),
        why=why,
        rows_known=rows_known,
    )


# Rows by their keys.


def _name_tables(question: Question, spots: Iterable[Spot]) -> dict[int, TableName]:
    oids = sorted({leaf for leaf, _ in spots})
    found = execute_query(question.connection, "impact/table_names", oids=oids)
    return {row.oid: TableName(row.schema, row.name) for row in found}


def _name_places(names: Mapping[int, TableName], traces: Sequence[Trace]) -> Trail:
    return tuple(((names[trace.place[0]], trace.place[1]), trace.key) for trace in traces)


def _read_keys(question: Question, places: Iterable[Place]) -> dict[Place, RowKey]:
    """The rows' keys, those of one table in one query."""
    by_table: dict[TableName, set[str]] = defaultdict(set)
    for table, at in places:
        by_table[table].add(at)
    rows: dict[Place, RowKey] = {}
    for table, of_table in by_table.items():
        described = question.schema.table(table)
        query = select_keys(described, contents=question.contents)
        names = [column.name for column in described.columns] if question.contents else []
        found = question.connection.execute(query, {"places": sorted(of_table)})
        for at, values, contents in found:
            rows[table, at] = RowKey(
                table=table,
                columns=described.row_identity or ("ctid",),
                values=tuple(values),
                contents=tuple(zip(names, contents, strict=True)),
            )
    return rows


def _make_path(rows: Mapping[Place, RowKey], trail: Trail) -> Path:
    return tuple(Step(row=rows[place], key=key) for place, key in trail)
