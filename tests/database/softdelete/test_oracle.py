"""Random tables and rows: a soft delete against the DELETE that PostgreSQL itself would do.

The DELETE runs in a transaction that is rolled back, with every key made DEFERRABLE INITIALLY
DEFERRED: so NO ACTION looks when all is done, as the soft delete does.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from fkdoctor.errors import Refused, UndoConflict

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


def hard_delete(url: str, world: World) -> list[Any] | None:
    """What a DELETE would leave; None where it fails."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
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


@settings(
    max_examples=int(os.environ.get("FKDOCTOR_EXAMPLES", "60")),
    phases=[Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds())
def test_a_soft_delete_takes_what_a_delete_would_and_a_restore_gives_it_back(
    db: Database, world: World
) -> None:
    world = _possible(world)
    db.execute(CLEAN + statements_of(world))
    before = db.contents()
    wanted = hard_delete(db.url, world)
    assert db.contents() == before
    where = f"(id in ({', '.join(map(str, sorted(world.places)))}))"
    preview = db.preview(f"t{world.root}", where)
    assert db.contents() == before
    refused = ""
    try:
        done = db.delete(f"t{world.root}", where)
    except Refused as refusal:
        refused = refusal.why
    if refused:
        event("refused")
        assert db.contents() == before
        assert db.execute("select count(*) from fkdoctor.deletion") == [(0,)]
        assert wanted is None or "has no column" in refused
        return
    assert not preview.obstacles
    assert (preview.taken, preview.changes) == (done.taken, done.changes)
    assert wanted is not None
    with closing(psycopg2.connect(db.url)) as connection, connection.cursor() as cursor:
        assert read(cursor, world, live=True) == wanted
    after = db.contents()
    again = db.delete(f"t{world.root}", where)
    assert (again.id, again.rows, again.already_deleted) == (None, 0, len(world.places))
    assert db.contents() == after
    preview_back = db.preview_restore(done.id)
    assert not preview_back.conflicts
    back = db.restore(done.id)
    assert back.rows == done.rows
    assert db.contents() == before
    assert db.restore(done.id).done
    assert db.contents() == before
    event("restored")
    # Once more, and for good.
    db.delete(f"t{world.root}", where)
    foreseen = db.preview_purge()
    purged = db.purge(batch_size=world.batch_size)
    assert foreseen.rows == purged.rows == done.rows
    with closing(psycopg2.connect(db.url)) as connection, connection.cursor() as cursor:
        assert read(cursor, world, live=False) == wanted
    assert db.purge().rows == 0
    ((id,),) = db.execute("select id from fkdoctor.deletion where restored_at is null")
    with pytest.raises(UndoConflict, match="were purged"):
        db.restore(id)


def _possible(world: World) -> World:
    """The world with keys to the codes of partitioned tables turned into keys to their ids."""
    keys = tuple(
        tuple(
            Key(
                to=k.to,
                to_code=k.to_code and not world.partitioned[k.to],
                rule=k.rule,
                default=k.default,
            )
            for k in of_table
        )
        for of_table in world.keys
    )
    return World(**{**world.__dict__, "keys": keys})
