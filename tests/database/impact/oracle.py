"""Compares previews with what PostgreSQL does: build a random case, predict, delete, look, undo.

By hand, on any server: python tests/database/impact/oracle.py --url URL --cases 10000 --seed 1
A case that comes out differently is printed as SQL; --only NUMBER runs one alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from graphs import Case, draw_case
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.impact.ask import preview_statement
from fkdoctor.impact.effect import Impact, Trouble, Verdict
from fkdoctor.impact.forecast import Forecast
from fkdoctor.impact.model import Outcome
from fkdoctor.impact.preview import foresee_delete, preview_delete
from fkdoctor.impact.scope import Scope
from fkdoctor.impact.world import RowId, Unsupported
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.schema import Schema, TableName
from fkdoctor.statement.script import parse_script

BATCH = 40


@dataclass(frozen=True)
class Found:
    """A row: its own table (a partition), where it is there, and its values as text."""

    table: TableName
    place: str
    values: dict[str, str | None]


Contents = dict[tuple[TableName, int], Found]
"""All rows by table (the topmost partition) and label, which nothing changes."""


@dataclass(frozen=True)
class Reality:
    """What PostgreSQL did: the rows before and after, or what it says is offended, and when."""

    before: Contents
    after: Contents | None
    offended: str = ""
    sqlstate: str = ""
    message: str = ""
    at_commit: bool = False

    @property
    def verdict(self) -> Verdict:
        if self.after is not None:
            return Verdict.ALLOWED
        if self.at_commit:
            return Verdict.BLOCKED_AT_COMMIT
        # A reference that leads nowhere is a 23503 too.
        stops = ("update or delete on table", "cannot truncate a table referenced")
        referenced = self.message.startswith(stops)
        return Verdict.BLOCKED if referenced else Verdict.FAILS


@dataclass(frozen=True)
class Comparison:
    """A case as PostgreSQL, the preview, and the closure alone saw it."""

    case: Case
    statement: str
    reality: Reality
    impact: Impact
    closure: Impact
    wrong: str


def compare_cases(
    connection: Connection, seed: int, numbers: Sequence[int], *, updates: bool = False
) -> Iterator[Comparison]:
    """The DELETEs, or UPDATEs, of the cases one after another."""
    compare = compare_update if updates else compare_delete
    for schema, case in build_cases(connection, seed, numbers):
        yield compare(connection, schema, case)


def compare_truncates(
    connection: Connection, seed: int, numbers: Sequence[int]
) -> Iterator[Comparison]:
    """TRUNCATEs of the cases' tables, with CASCADE and without."""
    for schema, case in build_cases(connection, seed, numbers):
        for option in ("", " cascade"):
            statement = f"truncate {case.name}.{case.table}{option}"
            yield compare_statement(connection, schema, case, statement)


def build_cases(
    connection: Connection, seed: int, numbers: Sequence[int]
) -> Iterator[tuple[Schema, Case]]:
    """The cases in the database; the schemas of a batch are dropped after it."""
    with connection.begin():
        major = connection.execute(sa.text("show server_version_num")).scalar_one()[:2]
    for start in range(0, len(numbers), BATCH):
        cases = [draw_case(seed, number, int(major)) for number in numbers[start : start + BATCH]]
        with connection.begin():
            for case in cases:
                connection.exec_driver_sql(f"drop schema if exists {case.name} cascade")
                connection.exec_driver_sql(";\n".join(case.build))
        whole = inspect_database(connection)
        for case in cases:
            yield only(whole, case.name), case
        with connection.begin():
            for case in cases:
                connection.exec_driver_sql(f"drop schema {case.name} cascade")


def only(schema: Schema, name: str) -> Schema:
    """The part of the schema that is in the PostgreSQL schema of that name."""
    return replace(
        schema,
        tables=tuple(table for table in schema.tables if table.name.schema == name),
        foreign_keys=tuple(key for key in schema.foreign_keys if key.referencing.schema == name),
    )


def compare_delete(connection: Connection, schema: Schema, case: Case) -> Comparison:
    """Asks three: the closure without the model, both together, and the model for every row."""
    table = TableName(case.name, case.table)
    where = sa.column("label").in_(case.labels)
    scope = Scope(model_limit=0)
    impact = closure = preview_delete(connection, schema, table, where=where, scope=scope)
    if closure.key_orders or closure.caveats:
        impact = preview_delete(connection, schema, table, where=where)
    try:
        forecast = foresee_delete(connection, schema, table, where=where)
    except Unsupported:
        forecast = None
    reality = execute(connection, schema, case.delete)
    wrong = find_difference(schema, impact, reality)
    if not wrong and (lie := find_difference(schema, closure, reality)):
        wrong = f"the closure alone: {lie}"
    if not wrong and forecast and (lie := find_other_rows(forecast, reality)):
        wrong = f"the model: {lie}"
    return Comparison(
        case=case,
        statement=case.delete,
        reality=reality,
        impact=impact,
        closure=closure,
        wrong=wrong,
    )


def compare_update(connection: Connection, schema: Schema, case: Case) -> Comparison:
    """Asks the model, which alone answers for an UPDATE."""
    return compare_statement(connection, schema, case, case.update)


def compare_statement(
    connection: Connection, schema: Schema, case: Case, statement: str
) -> Comparison:
    """Asks once."""
    (parsed,) = parse_script(statement)
    impact = preview_statement(connection, schema, parsed)
    reality = execute(connection, schema, statement)
    return Comparison(
        case=case,
        statement=statement,
        reality=reality,
        impact=impact,
        closure=impact,
        wrong=find_difference(schema, impact, reality),
    )


def execute(connection: Connection, schema: Schema, statement: str) -> Reality:
    """What happens; it is rolled back."""
    transaction = connection.begin()
    before = read_contents(connection, schema)
    at_commit = False
    try:
        connection.exec_driver_sql(statement)
        at_commit = True
        connection.exec_driver_sql("set constraints all immediate")
        return Reality(before=before, after=read_contents(connection, schema))
    except DBAPIError as error:
        diagnostics = error.orig.diag  # type: ignore[union-attr]
        constraint = {clone.name: key.name for key in schema.foreign_keys for clone in key.clones}
        offended = constraint.get(diagnostics.constraint_name, diagnostics.constraint_name)
        return Reality(
            before=before,
            after=None,
            offended=offended or diagnostics.column_name,
            sqlstate=error.orig.pgcode,  # type: ignore[union-attr]
            message=diagnostics.message_primary,
            at_commit=at_commit,
        )
    finally:
        transaction.rollback()


def read_contents(connection: Connection, schema: Schema) -> Contents:
    contents: Contents = {}
    for table in schema.tables:
        if table.partition_of is None:
            query = f"select tableoid::regclass::text, ctid::text, * from {table.name}"
            for leaf, place, *values in connection.exec_driver_sql(query):
                texts = [None if value is None else str(value) for value in values]
                names = [column.name for column in table.columns]
                row = dict(zip(names, texts, strict=True))
                own = TableName(table.name.schema, leaf.rsplit(".", 1)[-1])
                contents[table.name, int(row["label"])] = Found(own, place, row)
    return contents


def find_difference(schema: Schema, impact: Impact, reality: Reality) -> str:
    """What the preview has wrong; '' if nothing."""
    if impact.verdict is Verdict.UNCERTAIN:
        return "" if impact.caveats else "uncertain without a reason"
    possible = set(impact.possible) or {impact.verdict}
    # Something may stop it sooner, in another order or by what is not foreseen.
    open_points = ("it could move", "too many rows are involved")
    left_open = any(point in one.reason for one in impact.caveats for point in open_points)
    if reality.verdict not in possible:
        stopped = {Verdict.BLOCKED, Verdict.FAILS}
        met = {kind(one.trouble) for one in impact.obstacles if not one.at_commit}
        # Of two that are met in one phase, the order of rows may decide which comes first.
        known = left_open or reality.verdict in met
        if not (reality.verdict in stopped and possible & stopped and known):
            return f"it is {reality.verdict.value}"
    if reality.after is not None:
        return "" if impact.possible else find_miscount(impact, reality)
    if reality.sqlstate == "0A000":  # a TRUNCATE, which names no key
        return ""
    named = {(one.name, one.at_commit) for one in impact.obstacles}
    if (reality.offended, reality.at_commit) in named or left_open:
        return ""
    return f"{reality.offended} is not named"


def kind(trouble: Trouble) -> Verdict:
    return Verdict.BLOCKED if trouble is Trouble.REFERENCED else Verdict.FAILS


def find_miscount(impact: Impact, reality: Reality) -> str:
    assert reality.after is not None
    deleted: Counter[TableName] = Counter()
    for effect in impact.effects:
        if effect.deletes:
            deleted[effect.table] += effect.rows
    gone = Counter(table for table, _ in reality.before.keys() - reality.after.keys())
    for table in gone | deleted:
        if gone[table] != deleted[table]:
            return f"{gone[table]} rows of {table} go, not {deleted[table]}"
    changed = sum(after.place != reality.before[row].place for row, after in reality.after.items())
    if changed != impact.changed_rows:
        return f"{changed} rows change, not {impact.changed_rows}"
    return ""


def find_other_rows(forecast: Forecast, reality: Reality) -> str:
    """How what is left differs from what the model foresees in every order of rows."""
    outcomes = (forecast.outcome, *forecast.others)
    if reality.after is None:
        stops = [outcome.stops for outcome in outcomes if outcome.stops]
        if not stops:
            return f"{reality.offended} stops it"
        named = {(stop.name, stop.at_commit) for of_one in stops for stop in of_one}
        known = (reality.offended, reality.at_commit) in named
        return "" if known else f"{reality.offended} stops it, not {named}"
    lies = [find_other_row(outcome, reality) for outcome in outcomes if outcome.passes]
    return "" if "" in lies else (lies or ["it works"])[0]


def find_other_row(outcome: Outcome, reality: Reality) -> str:
    assert reality.after is not None
    for place, row in reality.before.items():
        block, item = row.place.strip("()").split(",")
        written = outcome.written.get(RowId(row.table, int(block), int(item)))
        after = reality.after.get(place)
        if written is None:
            foreseen: dict[str, str | None] | None = row.values
        elif written.image is None:
            foreseen = None
        else:
            foreseen = {**row.values, **written.image}
        if foreseen != (after.values if after else None):
            return f"row {place[1]} of {place[0]} becomes {after and after.values}, not {foreseen}"
    return ""


def show(comparison: Comparison) -> str:
    """A case as SQL, with both answers."""
    case, reality, impact = comparison.case, comparison.reality, comparison.impact
    lines = [f"-- {case.name}: {comparison.wrong}", *(f"{line};" for line in case.build)]
    lines.append(f"{comparison.statement};")
    answer = f"{reality.sqlstate} {reality.offended}" if reality.after is None else "it works"
    lines.append(f"-- PostgreSQL: {answer}{' at COMMIT' if reality.at_commit else ''}")
    lines.append(f"-- preview: {impact.verdict.value}, possible {impact.possible}")
    lines += [
        f"--   {e.level} {e.table.name} {e.key.name if e.key else '-'} {e.action} {e.rows}"
        for e in impact.effects
    ]
    lines += [
        f"--   {o.trouble.name} {o.name} at {o.level} {o.at_commit} {o.rows}"
        for o in impact.obstacles
    ]
    lines += [f"--   {caveat.subject}: {caveat.reason}" for caveat in impact.caveats]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="an empty database to work in")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cases", type=int, default=1_000)
    parser.add_argument("--only", type=int)
    parser.add_argument("--updates", action="store_true", help="UPDATEs in place of DELETEs")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.cases)
    numbers = [options.only] if options.only is not None else list(numbers)
    tally: Counter[str] = Counter()
    closure: Counter[str] = Counter()
    wrong = []
    began = time.monotonic()
    with connect(open_engine(resolve_target(options.url, Config(), {}))) as connection:
        for one in compare_cases(connection, options.seed, numbers, updates=options.updates):
            tally[one.impact.verdict.value] += 1
            tally["key order"] += bool(one.impact.key_orders)
            tally[f"PostgreSQL: {one.reality.sqlstate or 'works'}"] += 1
            closure[one.closure.verdict.value] += 1
            if closure.total() % 1_000 == 0:
                print(closure.total(), "cases,", len(wrong), "wrong", file=sys.stderr, flush=True)
            if one.wrong:
                wrong.append(one.case.name)
                if len(wrong) <= 3:
                    print(show(one), flush=True)
            elif options.only is not None:
                print(show(one))
    seconds = (time.monotonic() - began) / max(len(numbers), 1)
    print("preview:", dict(sorted(tally.items())))
    print("closure alone:", dict(sorted(closure.items())))
    print(f"{len(numbers)} cases, {len(wrong)} wrong {wrong[:20]}, {seconds:.3f} s each")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
