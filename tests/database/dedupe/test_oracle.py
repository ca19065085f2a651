"""Random tables and rows: the engine against a merge that goes row by row over Python dicts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from fkdoctor.database import connect
from fkdoctor.dedupe.apply import apply_dedupe
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.undo import undo_dedupe
from fkdoctor.errors import Blocked, Refused, UndoConflict
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.schema import Schema, TableName

Database = Any  # the fixture's class lives in conftest.py
Row = dict[str, Any]
LETTER = TableName("public", "letter")


@dataclass(frozen=True)
class Key:
    """A foreign key of a referencing table, to the primary key or the code of letters."""

    to_code: bool
    action: str
    deferrable: bool
    indexed: bool


@dataclass(frozen=True)
class Referencing:
    """A referencing table. `rows` hold, for each key, the place of a letter, or None."""

    keys: tuple[Key, ...]
    rows: tuple[tuple[int | None, ...], ...]
    late: tuple[tuple[int | None, ...], ...]
    identified: bool


@dataclass(frozen=True)
class World:
    """Letters (what they agree on, whether they have a code, the place of the letter they answer),
    what references them, and what happens before and after the plan is applied."""

    composite: bool
    letters: tuple[tuple[int | None, bool, int | None], ...]
    tables: tuple[Referencing, ...]
    edited: frozenset[int]
    moved_on: tuple[tuple[int, int | None], ...]
    batch_size: int


@st.composite
def worlds(draw: st.DrawFn) -> World:
    number = draw(st.integers(3, 10))
    places = st.sampled_from([*range(number), None])
    answers = places if draw(st.integers(0, 7)) == 7 else st.none()
    coded = st.sampled_from([True] * 9 + [False])
    letters = st.tuples(st.sampled_from([0, 0, 0, 1, 1, 2, None]), coded, answers)
    keys = st.builds(
        Key,
        to_code=st.sampled_from([False, False, True]),
        action=st.sampled_from(["no action", "restrict", "cascade", "set null", "set default"]),
        deferrable=st.booleans(),
        indexed=st.booleans(),
    )
    tables = []
    for _ in range(draw(st.integers(1, 3))):
        of_table = tuple(
            draw(st.lists(keys, min_size=1, max_size=draw(st.sampled_from([1, 1, 2]))))
        )
        row = st.tuples(*(places for _ in of_table))
        rows = st.lists(row, min_size=2, max_size=8).map(tuple)
        tables.append(
            Referencing(
                keys=of_table,
                rows=draw(rows),
                late=draw(rows) if draw(st.integers(0, 4)) == 4 else (),
                identified=draw(st.integers(0, 19)) < 19,
            )
        )
    return World(
        composite=draw(st.booleans()),
        letters=tuple(draw(st.lists(letters, min_size=number, max_size=number))),
        tables=tuple(tables),
        edited=draw(st.frozensets(st.integers(0, number + 9), max_size=2)),
        moved_on=tuple(draw(st.lists(st.tuples(st.integers(0, 20), places), max_size=2))),
        batch_size=draw(st.integers(1, 3)),
    )


class Oracle:
    """The world as dicts, merged the plain way. A letter's place is its id; codes begin with c."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.letters: dict[int, Row] = {
            place: {
                "same": same,
                "code": f"c{place}" if coded else None,
                "answers": answers,
                "note": "",
            }
            for place, (same, coded, answers) in enumerate(world.letters)
        }
        self.tables: list[list[Row]] = [[] for _ in world.tables]
        self.moves: dict[int, list[tuple[int, int, int, int]]] = {}
        self.gone: dict[int, Row] = {}

    def fill(self, rows: Callable[[Referencing], Iterable[tuple[int | None, ...]]]) -> None:
        """Adds rows to the referencing tables; one that points at a missing code points nowhere."""
        for table, content in zip(self.world.tables, self.tables, strict=True):
            for row in rows(table):
                pointers = {}
                for i, (key, place) in enumerate(zip(table.keys, row, strict=True)):
                    missing = place is None or (key.to_code and not self.letters[place]["code"])
                    pointers[f"k{i}"] = None if missing else place
                content.append({"id": len(content), **pointers})

    def clusters(self) -> dict[int, list[int]]:
        """Survivor to duplicates, by the letters as they are now."""
        groups: dict[int, list[int]] = {}
        for place, letter in sorted(self.letters.items()):
            if letter["same"] is not None:
                groups.setdefault(letter["same"], []).append(place)
        return {group[0]: group[1:] for group in groups.values() if len(group) > 1}

    def merge(self, clusters: dict[int, list[int]]) -> None:
        """Points every reference at the survivor, row by row, and deletes the duplicates."""
        for survivor, duplicates in clusters.items():
            for duplicate in duplicates:
                for number, content in enumerate(self.tables):
                    for row in content:
                        for name in row:
                            if name != "id" and row[name] == duplicate:
                                row[name] = survivor
                                move = (number, row["id"], int(name[1:]), duplicate)
                                self.moves.setdefault(survivor, []).append(move)
                for letter in self.letters.values():
                    if letter["answers"] == duplicate:
                        letter["answers"] = survivor
                self.gone[duplicate] = self.letters.pop(duplicate)

    def move_on(self) -> None:
        """What somebody does after the merge: moved references go elsewhere, or are deleted."""
        moved = [move for of_cluster in self.moves.values() for move in of_cluster]
        for pick, to in self.world.moved_on[: len(moved)]:
            number, id_, i, _ = moved[pick % len(moved)]
            row = self._row(number, id_)
            to_code = self.world.tables[number].keys[i].to_code
            if row is None:
                continue
            if to is None:
                self.tables[number].remove(row)
            elif to in self.letters and (self.letters[to]["code"] or not to_code):
                row[f"k{i}"] = to

    def unmerge(self, clusters: dict[int, list[int]]) -> set[int]:
        """Takes back every cluster of which all references are still where they were moved to; the
        survivors of the others."""
        kept = set()
        for survivor, duplicates in clusters.items():
            found = [
                (self._row(number, id_), f"k{i}", duplicate)
                for number, id_, i, duplicate in self.moves.get(survivor, ())
            ]
            if any(row is None or row[name] != survivor for row, name, _ in found):
                kept.add(survivor)
                continue
            for duplicate in duplicates:
                self.letters[duplicate] = self.gone[duplicate]
            for row, name, duplicate in found:
                assert row is not None
                row[name] = duplicate
        return kept

    def _row(self, number: int, id_: int) -> Row | None:
        return next((row for row in self.tables[number] if row["id"] == id_), None)

    def must_be_refused(self, clusters: dict[int, list[int]]) -> bool:
        """Whether the merge would break a promise of the schema, or could not be undone."""
        survivors = {d: s for s, duplicates in clusters.items() for d in duplicates}
        for table, content in zip(self.world.tables, self.tables, strict=True):
            for row in content:
                for i, key in enumerate(table.keys):
                    place = row[f"k{i}"]
                    if place in survivors:
                        if key.to_code and not self.letters[survivors[place]]["code"]:
                            return True
                        if not table.identified:
                            return True
        return False

    def may_be_refused(self, clusters: dict[int, list[int]]) -> bool:
        """Whether rows come together in ways that this edition does not handle."""
        survivors = {d: s for s, duplicates in clusters.items() for d in duplicates}
        members = {*survivors, *clusters}
        for place, letter in self.letters.items():
            if letter["answers"] in survivors and place in members:
                return True
            if self._goes_round(place, survivors):
                return True
        for table, content in zip(self.world.tables, self.tables, strict=True):
            for row in content:
                pointed_at = [row[f"k{i}"] for i in range(len(table.keys))]
                ends = [survivors.get(place, place) for place in pointed_at if place is not None]
                moves = bool(set(pointed_at) & set(survivors))
                if moves and len(set(ends)) < len(ends):
                    return True
        return False

    def _goes_round(self, place: int, survivors: dict[int, int]) -> bool:
        """Whether the letter would, by way of others perhaps, answer itself."""
        start = here = survivors.get(place, place)
        for _ in self.letters:
            answered = self.letters[here]["answers"]
            if answered is None:
                return False
            here = survivors.get(answered, answered)
            if here == start:
                return True
        return False


def tables_of(world: World) -> str:
    primary = "tenant, id" if world.composite else "id"
    statements = [
        f"""
        create table letter (id int, tenant int not null default 1, same int, code text unique,
            answers int, note text default '', primary key ({primary}), unique (id));
        alter table letter add constraint answers_fkey foreign key (answers)
            references letter (id) deferrable;
        """
    ]
    for number, table in enumerate(world.tables):
        columns = ["id int" + (" primary key" if table.identified else "")]
        keys = []
        for i, key in enumerate(table.keys):
            late = "deferrable initially deferred" if key.deferrable else ""
            if key.to_code:
                columns.append(f"k{i} text")
                named, referenced = f"k{i}", "code"
            elif world.composite:
                columns += [f"k{i} int", f"k{i}_tenant int default 1"]
                named, referenced = f"k{i}_tenant, k{i}", primary
            else:
                columns.append(f"k{i} int")
                named, referenced = f"k{i}", "id"
            keys.append(
                f"alter table r{number} add foreign key ({named}) references letter ({referenced}) "
                f"on delete {key.action} {late};"
            )
            if key.indexed:
                keys.append(f"create index on r{number} ({named});")
        statements += [f"create table r{number} ({', '.join(columns)});", *keys]
    return "\n".join(statements)


class Engine:
    """The same world in the database."""

    def __init__(self, connection: Connection, world: World, path: Path) -> None:
        self.connection, self.world, self.path = connection, world, path
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg2.extensions.connection)
        self.driver = driver

    @cached_property
    def schema(self) -> Schema:
        """The tables, which stay as they are."""
        return inspect_database(self.connection)

    def run(self, statement: str, *values: Any) -> list[Any]:
        with self.driver, self.driver.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def write(self, oracle: Oracle) -> None:
        """Makes the database as the oracle says, with letters that it has already left in place."""
        with self.driver, self.driver.cursor() as cursor:
            for place, letter in oracle.letters.items():
                cursor.execute(
                    "insert into letter (id, same, code, note) values (%s, %s, %s, %s) "
                    "on conflict (id) do update set note = excluded.note",
                    (place, letter["same"], letter["code"], letter["note"]),
                )
            for place, letter in oracle.letters.items():
                cursor.execute(
                    "update letter set answers = %s where id = %s", (letter["answers"], place)
                )
            for number, table in enumerate(self.world.tables):
                names = ", ".join(f"k{i}" for i in range(len(table.keys)))
                cursor.execute(f"delete from r{number}")
                for row in oracle.tables[number]:
                    cursor.execute(
                        f"insert into r{number} (id, {names}) values %s",
                        ((row["id"], *self._pointers(table, row)),),
                    )

    def _pointers(self, table: Referencing, row: Row) -> list[Any]:
        return [
            f"c{row[f'k{i}']}" if key.to_code and row[f"k{i}"] is not None else row[f"k{i}"]
            for i, key in enumerate(table.keys)
        ]

    def read(self) -> tuple[Any, ...]:
        """Everything, comparable with `expect`."""
        content = [self.run("select id, same, code, answers, note from letter order by id")]
        for number, table in enumerate(self.world.tables):
            names = ", ".join(f"k{i}" for i in range(len(table.keys)))
            content.append(self.run(f"select id, {names} from r{number} order by 1, 2"))
        return tuple(content)

    def expect(self, oracle: Oracle) -> tuple[Any, ...]:
        """What `read` gives when the database is as the oracle says."""
        content: list[Any] = [
            [
                (place, letter["same"], letter["code"], letter["answers"], letter["note"])
                for place, letter in sorted(oracle.letters.items())
            ]
        ]
        for table, rows in zip(self.world.tables, oracle.tables, strict=True):
            content.append([(row["id"], *self._pointers(table, row)) for row in rows])
        return tuple(content)

    def plan(self) -> int:
        """How many duplicates a new plan finds. Raises Blocked where it cannot be applied."""
        criteria = Criteria(match=("same",), survivor=())
        plan = plan_dedupe(self.connection, self.schema, LETTER, criteria, self.path)
        if plan.obstacles:
            with pytest.raises(Blocked):
                apply_dedupe(self.connection, self.path)
            raise Blocked("The plan has obstacles.")
        return plan.duplicates


@settings(
    max_examples=int(os.environ.get("FKDOCTOR_EXAMPLES", "50")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds())
def test_the_engine_merges_as_the_oracle_does(db: Database, world: World) -> None:
    db.clean()
    with connect(db.engine()) as connection:
        engine = Engine(connection, world, db.folder / f"{uuid4().hex}.jsonl")
        try:
            check(engine, world)
        finally:
            engine.path.unlink(missing_ok=True)


def check(engine: Engine, world: World) -> None:
    engine.run(tables_of(world))
    oracle = Oracle(world)
    oracle.fill(lambda table: table.rows)
    try:
        engine.write(oracle)
    except psycopg2.errors.UniqueViolation:
        event("the world breaks its own rules")
        return
    clusters = oracle.clusters()
    refusable = oracle.may_be_refused(clusters)
    forbidden = oracle.must_be_refused(clusters)
    before = engine.read()
    try:
        assert engine.plan() == sum(map(len, clusters.values()))
    except Blocked:
        event("refused by the plan")
        assert refusable or forbidden
        assert engine.read() == before
        return
    assert not forbidden
    # Between plan and apply: some letters change, some references come.
    for place in world.edited & oracle.letters.keys():
        oracle.letters[place]["note"] = "edited"
    oracle.fill(lambda table: table.late)
    try:
        engine.write(oracle)
    except psycopg2.errors.UniqueViolation:
        event("the world breaks its own rules")
        return
    fresh = {
        survivor: duplicates
        for survivor, duplicates in clusters.items()
        if not world.edited & {survivor, *duplicates}
    }
    refusable = oracle.may_be_refused(fresh)
    forbidden = oracle.must_be_refused(fresh)
    before = engine.read()
    try:
        done = apply_dedupe(engine.connection, engine.path, batch_size=world.batch_size)
    except Refused:
        event("refused when applied")
        assert refusable or forbidden
        assert engine.read() == before
        return
    if len(done.stale) > len(clusters) - len(fresh):
        event("left alone, for rows that came together since the plan")
        assert refusable or forbidden
        return
    assert not forbidden
    if done.stale and done.total < len(clusters):
        event("left alone together, as clusters that are tied")
        return
    event("merged" if fresh else "nothing to merge")
    assert len(done.stale) == len(clusters) - len(fresh)
    assert done.deleted == sum(map(len, fresh.values()))
    oracle.merge(fresh)
    assert engine.read() == engine.expect(oracle)
    if not world.edited & oracle.letters.keys():
        assert engine.plan() == 0
    undo(engine, oracle, done.run_id, fresh, before)


def undo(
    engine: Engine, oracle: Oracle, run: int, clusters: dict[int, list[int]], before: Any
) -> None:
    """After somebody has gone on working, and with the letters' answers left out of it."""
    answered = any(letter["answers"] is not None for letter in oracle.letters.values())
    if answered or not clusters:
        assert undo_dedupe(engine.connection, run).kept == ()
        assert engine.read() == before
        return
    oracle.move_on()
    engine.write(oracle)
    moved_on = engine.read()
    kept = oracle.unmerge(clusters)
    if kept:
        event("undone partly")
        with pytest.raises(UndoConflict):
            undo_dedupe(engine.connection, run)
        assert engine.read() == moved_on
    back = undo_dedupe(
        engine.connection, run, partly=bool(kept), batch_size=engine.world.batch_size
    )
    assert len(back.kept) == len(kept)
    assert engine.read() == engine.expect(oracle)
