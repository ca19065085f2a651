"""Random tables and rows: a soft delete against the DELETE that PostgreSQL itself would do.

The DELETE runs in a transaction that is rolled back, with every key made DEFERRABLE INITIALLY
DEFERRED: so NO ACTION looks when all is done, as the soft delete does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from fkdoctor.database import connect
from fkdoctor.errors import Refused, UndoConflict
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.schema import TableName
from fkdoctor.softdelete.delete import preview_soft_delete, soft_delete
from fkdoctor.softdelete.outcome import Deletion, Purge, Restoration
from fkdoctor.softdelete.purge import preview_purge, purge_deleted
from fkdoctor.softdelete.restore import preview_restore, restore_deletion
from fkdoctor.softdelete.selection import Selection

Database = Any  # the fixture's class lives in conftest.py

CLEAN = """
    do $$ declare name text; begin
        for name in select tablename from pg_tables where schemaname = 'public'
        loop execute format('drop table if exists %I cascade', name); end loop;
    end $$;
    truncate fkdoctor.deletion, fkdoctor.deletion_step, fkdoctor.deletion_journal;
"""


@dataclass(frozen=True)
class Key:
    """A foreign key to the table of that number, to its code or its primary key."""

    to: int
    to_code: bool
    rule: str
    default: int | None


@dataclass(frozen=True)
class World:
    """Tables with their keys; rows hold, for each key, the place of a row of the other table."""

    composite: tuple[bool, ...]
    partitioned: tuple[bool, ...]
    soft: tuple[bool, ...]
    keys: tuple[tuple[Key, ...], ...]
    rows: tuple[tuple[tuple[int | None, ...], ...], ...]
    root: int
    places: frozenset[int]
    batch_size: int


_ROWS = 5
_RULES = ["cascade"] * 5 + ["set null", "set default", "no action", "restrict"]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    number = draw(st.integers(1, 4))
    keys = st.builds(
        Key,
        to=st.integers(0, number - 1),
        to_code=st.sampled_from([False, False, True]),
        rule=st.sampled_from(_RULES),
        default=st.sampled_from([0, 1, 4, None]),
    )
    of_tables = tuple(
        tuple(draw(st.lists(keys, min_size=int(number < 3), max_size=2))) for _ in range(number)
    )
    place = st.sampled_from([*range(_ROWS), None])
    rows = tuple(
        tuple(tuple(draw(place) for _ in of_table) for _ in range(_ROWS)) for of_table in of_tables
    )
    flags = st.lists(st.booleans(), min_size=number, max_size=number).map(tuple)
    root = draw(st.integers(0, number - 1))
    mostly = st.sampled_from([True] * 9 + [False])
    soft = [draw(mostly) for _ in range(number)]
    soft[root] = True
    return World(
        composite=draw(flags),
        partitioned=draw(flags),
        soft=tuple(soft),
        keys=of_tables,
        rows=rows,
        root=root,
        places=draw(st.frozensets(st.integers(0, _ROWS - 1), min_size=1, max_size=3)),
        batch_size=draw(st.integers(1, 4)),
    )


def statements_of(world: World) -> str:
    tables, rows, keys = [], [], []
    for t, of_table in enumerate(world.keys):
        columns = ["id int", "part int default 1"]
        for k, key in enumerate(of_table):
            default = "" if key.default is None else f" default {_value(key.to_code, key.default)}"
            columns.append(f"k{k} {'varchar' if key.to_code else 'int'}{default}")
            if world.composite[key.to] and not key.to_code:
                columns.append(f"k{k}_part int default 1")
        # A partitioned table's unique keys hold the column by which it is partitioned.
        code = "" if world.partitioned[t] else ", unique (code)"
        primary = "part, id" if world.composite[t] else "id"
        by = " partition by hash (id)" if world.partitioned[t] else ""
        columns.append("code text")
        if world.soft[t]:
            columns += ["deleted_at timestamptz(3)", "deletion_id uuid"]
        tables.append(
            f"create table t{t} ({', '.join(columns)}, primary key ({primary}){code}){by};"
        )
        if by:
            for n in range(2):
                tables.append(
                    f"create table t{t}_{n} partition of t{t} "
                    f"for values with (modulus 2, remainder {n});"
                )
        names = ["id", "code", *(f"k{k}" for k in range(len(of_table)))]
        for place, row in enumerate(world.rows[t]):
            values = [str(place), f"'c{place}'"] + [
                "null" if to is None else _value(key.to_code, to)
                for key, to in zip(of_table, row, strict=True)
            ]
            rows.append(f"insert into t{t} ({', '.join(names)}) values ({', '.join(values)});")
        for k, key in enumerate(of_table):
            keys.append(_declare(world, t, k, key, ""))
    return "\n".join([*tables, *rows, *keys])


def _value(to_code: bool, place: int) -> str:
    return f"'c{place}'" if to_code else str(place)


def _declare(world: World, t: int, k: int, key: Key, deferral: str) -> str:
    if key.to_code:
        own, other = f"k{k}", "code"
    elif world.composite[key.to]:
        own, other = f"k{k}_part, k{k}", "part, id"
    else:
        own, other = f"k{k}", "id"
    rule = "no action" if deferral and key.rule == "restrict" else key.rule
    return (
        f"alter table t{t} add constraint f{t}_{k} foreign key ({own}) "
        f"references t{key.to} ({other}) on delete {rule} {deferral};"
    )


def read(cursor: Any, world: World, live: bool) -> list[Any]:
    """The rows of each table, without what says of one that it is deleted."""
    found = []
    for t, of_table in enumerate(world.keys):
        names = ["id", *(f"k{k}" for k in range(len(of_table)))]
        for k, key in enumerate(of_table):
            if world.composite[key.to] and not key.to_code:
                names.append(f"k{k}_part")
        where = "where deleted_at is null" if live and world.soft[t] else ""
        cursor.execute(f"select {', '.join(names)} from t{t} {where} order by id")
        found.append(cursor.fetchall())
    return found


def hard_delete(cursor: Any, world: World) -> list[Any] | None:
    """What a DELETE leaves, in a transaction that is to be rolled back; None where it fails."""
    for t, of_table in enumerate(world.keys):
        for k, key in enumerate(of_table):
            cursor.execute(f"alter table t{t} drop constraint f{t}_{k}")
            cursor.execute(_declare(world, t, k, key, "deferrable initially deferred"))
    places = ", ".join(map(str, sorted(world.places)))
    try:
        cursor.execute(f"delete from t{world.root} where id in ({places})")
        cursor.execute("set constraints all immediate")
    except psycopg2.errors.IntegrityError:
        return None
    return read(cursor, world, live=False)


class Engine:
    """The world in the database, on one connection."""

    def __init__(self, connection: Connection, world: World) -> None:
        self.connection, self.world = connection, world
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg2.extensions.connection)
        self.driver = driver
        self.run(CLEAN + statements_of(world))
        self.schema = inspect_database(connection)
        self.root = TableName("public", f"t{world.root}")
        self.names = [f"t{t}" for t in range(len(world.keys))]
        places = ", ".join(map(str, sorted(world.places)))
        self.selection = Selection(where=f"(id in ({places}))")

    def run(self, statements: str) -> list[Any]:
        with self.driver, self.driver.cursor() as cursor:
            cursor.execute(statements)
            return cursor.fetchall() if cursor.description else []

    def contents(self) -> list[Any]:
        """Every column of every row."""
        return [self.run(f"select {t}::text from {t} order by id") for t in self.names]

    def read(self, *, live: bool) -> list[Any]:
        """The rows, without what says of one that it is deleted."""
        with self.driver, self.driver.cursor() as cursor:
            return read(cursor, self.world, live)

    def hard_delete(self) -> list[Any] | None:
        """What a DELETE would leave; None where it fails."""
        with self.driver.cursor() as cursor:
            try:
                return hard_delete(cursor, self.world)
            finally:
                self.driver.rollback()

    def preview(self) -> Deletion:
        return preview_soft_delete(self.connection, self.schema, self.root, self.selection)

    def delete(self) -> Deletion:
        return soft_delete(self.connection, self.schema, self.root, self.selection)

    def restore(self, id: str) -> Restoration:
        preview = preview_restore(self.connection, self.schema, id)
        assert not preview.conflicts
        done = restore_deletion(self.connection, self.schema, id)
        assert preview.rows == done.rows
        return done

    def purge(self) -> Purge:
        before = datetime.now(UTC) + timedelta(days=1)
        preview = preview_purge(self.connection, self.schema, before)
        done = purge_deleted(self.connection, self.schema, before, batch_size=self.world.batch_size)
        assert preview.rows == done.rows
        return done


@settings(
    max_examples=int(os.environ.get("FKDOCTOR_EXAMPLES", "25")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds())
def test_a_soft_delete_takes_what_a_delete_would_and_a_restore_gives_it_back(
    db: Database, world: World
) -> None:
    with connect(db.engine()) as connection:
        check(Engine(connection, _possible(world)))


def check(engine: Engine) -> None:
    before = engine.contents()
    wanted = engine.hard_delete()
    preview = engine.preview()
    refused = ""
    try:
        done = engine.delete()
    except Refused as refusal:
        refused = refusal.why
    if refused:
        event("refused")
        assert engine.contents() == before
        assert engine.run("select count(*) from fkdoctor.deletion") == [(0,)]
        assert wanted is None or "has no column" in refused
        return
    assert not preview.obstacles
    assert (preview.taken, preview.changes) == (done.taken, done.changes)
    assert engine.read(live=True) == wanted
    after = engine.contents()
    again = engine.delete()
    assert (again.id, again.rows, again.already_deleted) == (None, 0, len(engine.world.places))
    assert engine.contents() == after
    assert done.id is not None
    assert engine.restore(done.id).rows == done.rows
    assert engine.contents() == before
    assert engine.restore(done.id).done
    event("restored")
    # Once more, and for good.
    second = engine.delete()
    assert second.id is not None
    assert engine.purge().rows == done.rows
    assert engine.read(live=False) == wanted
    with pytest.raises(UndoConflict, match="were purged"):
        restore_deletion(engine.connection, engine.schema, second.id)


def _possible(world: World) -> World:
    """The world with keys to the codes of partitioned tables turned into keys to their ids."""
    keys = tuple(
        tuple(replace(k, to_code=k.to_code and not world.partitioned[k.to]) for k in of_table)
        for of_table in world.keys
    )
    return replace(world, keys=keys)
