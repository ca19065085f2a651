"""Random tables, rows and policies: the engine against the oracle, which goes row by row."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
from hypothesis import HealthCheck, event, given, settings
from merge_oracle import Oracle, Table
from merge_world import World, references, statements, worlds
from psycopg2.extras import Json

from fkdoctor.config import Config
from fkdoctor.database import connect
from fkdoctor.dedupe.apply import apply_dedupe
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.policy import read_fields, read_rules
from fkdoctor.dedupe.undo import undo_dedupe
from fkdoctor.errors import Refused
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare
from fkdoctor.schema import Schema

Database = Any  # the fixture's class lives in conftest.py
Contents = list[list[tuple[Any, ...]]]


@settings(
    deadline=None,
    max_examples=int(os.environ.get("FKDOCTOR_EXAMPLES", "40")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds())
def test_collisions_are_merged_as_the_oracle_does(db: Database, major: int, world: World) -> None:
    db.clean()
    db.execute(";".join(statements(world, major)))
    check(db, major, world)


def check(db: Database, major: int, world: World) -> None:
    before = Oracle(world, major)
    write(db, before)
    path = db.folder / f"{uuid4().hex}.jsonl"
    with connect(db.engine()) as connection:
        schema = declare(inspect_database(connection), Config(references=tuple(references(world))))
        criteria = choose(schema, world)
        plan = plan_dedupe(connection, schema, schema.resolve_table("letter"), criteria, path)
        wanted = before.clusters()
        planned = read_clusters(path)
        oracle = Oracle(world, major)
        if planned != wanted:
            event("clusters left out")
            oracle.merge(wanted)
            assert oracle.differing
            assert planned.items() <= wanted.items()
            oracle = Oracle(world, major)
        oracle.merge(planned)
        assert not oracle.differing
        if plan.obstacles:
            event("refused by the plan")
            # A tree may be refused for what only the engine has to mind: loops, whose turn it is.
            assert oracle.refused or world.tree, plan.obstacles
            assert read(db, before) == before.contents()
            return
        assert not oracle.refused
        edit(db, world, before)
        edited = read(db, before)
        try:
            done = apply_dedupe(connection, path, batch_size=world.batch_size)
        except Refused:
            event("refused when applied")
            if not (world.tree or oracle.clashing):
                raise
            undo_dedupe(connection, 1)
            assert read(db, before) == edited
            return
        if not world.edits:
            assert done.stale == ()
        before.merge(read_clusters(path, without=done.stale))
        assert not before.refused
        event(f"merged {'with' if plan.resolutions else 'without'} collisions")
        merged = read(db, before)
        assert merged == before.contents()
        assert_nothing_dangles(before, edited, merged)
        # What was left out may fit since a row that was in the way was edited.
        if done.stale == () and not (world.edits and planned != wanted):
            again = plan_dedupe(connection, schema, plan.table, criteria, path)
            assert (again.duplicates, again.resolutions) == (0, ())
        back = undo_dedupe(connection, done.run_id, batch_size=world.batch_size)
        assert back.kept == ()
    assert read(db, before) == edited


def choose(schema: Schema, world: World) -> Criteria:
    """The policies of the world."""
    rules = [("collisions", f"letter={world.policy}"), ("above", f"letter={world.above}")]
    fields = [f"v={world.field}"] if world.field else []
    for number, shape in enumerate(world.shapes, 1):
        rules += [
            ("collisions", f"r{number}={shape.policy}"),
            ("links", f"r{number}={shape.links}"),
        ]
        fields += [f"r{number}.v={shape.field}"] if shape.field else []
    letter = schema.resolve_table("letter")
    return Criteria(
        match=("same",),
        survivor=(),
        rules=read_rules(schema, schema.resolve_table, rules),
        fields=read_fields(schema, schema.resolve_table, letter, fields),
    )


def read_clusters(path: Path, without: tuple[int, ...] = ()) -> dict[int, list[int]]:
    """Survivor to duplicates, as the plan's file has them."""
    head, *lines = map(json.loads, path.read_text().splitlines())
    place, found = head["key_columns"].index("id"), {}
    for line in lines:
        if line["cluster"] not in without:
            for merge in (line, *line.get("tied", ())):
                ids = [int(member[place]) for member in merge["duplicates"]]
                found[int(merge["survivor"][place])] = ids
    return found


def write(db: Database, oracle: Oracle) -> None:
    """Fills the empty tables."""
    with psycopg2.connect(db.url) as connection, connection.cursor() as cursor:
        for table in oracle.tables:
            for row in table.rows.values():
                values = [row[name] for name in table.columns]
                if table.holds == "json":
                    values[-1] = Json({"ids": values[-1]})
                marks = ["%s"] * len(values)
                marks[-1] += "::int[]" if table.holds == "array" else ""
                columns = ", ".join(table.columns)
                insert = f"insert into {table.name} ({columns}) values ({', '.join(marks)})"
                cursor.execute(insert, values)
    connection.close()


def read(db: Database, oracle: Oracle) -> Contents:
    """All rows."""
    found = []
    for table in oracle.tables:
        rows = db.execute(f"select {', '.join(table.columns)} from {table.name}")
        if table.holds == "json":
            rows = [(*row[:-1], row[-1] and row[-1]["ids"]) for row in rows]
        found.append(sorted(rows, key=repr))
    return found


def assert_nothing_dangles(oracle: Oracle, before: Contents, after: Contents) -> None:
    """No value that leads to a row that went is left, whoever knows that it does."""
    gone = [
        _ids(table, one) - _ids(table, other)
        for table, one, other in zip(oracle.tables, before, after, strict=True)
    ]
    for table, rows in zip(oracle.tables, after, strict=True):
        for values in rows:
            row = dict(zip(table.columns, values, strict=True))
            for name, key in table.keys.items():
                assert table.points(row, name) not in gone[key.to]
            if table.holds:
                assert not gone[table.held] & {*(row["e"] or ())}


def _ids(table: Table, rows: list[tuple[Any, ...]]) -> set[int]:
    return {row[0] for row in rows} if "id" in table.identity else set()


def edit(db: Database, world: World, oracle: Oracle) -> None:
    """What somebody does between plan and apply."""
    for place, pick, what in world.edits:
        table = oracle.tables[place % len(oracle.tables)]
        if not table.rows:
            continue
        id_ = sorted(table.rows)[pick % len(table.rows)]
        row = table.rows[id_]
        where = " and ".join(f"{name} = {row[name]}" for name in table.identity)
        referenced = any(
            other[name] == id_
            for referencing in oracle.tables
            for other in referencing.rows.values()
            for name, key in referencing.keys.items()
            if oracle.tables[key.to] is table
        )
        if what == "gone" and not referenced:
            db.execute(f"delete from {table.name} where {where}")
            del table.rows[id_]
        elif what == "q":
            changed = row | {"q": 5}
            if not any(
                table.collide(changed, other) for other in table.rows.values() if other is not row
            ):
                db.execute(f"update {table.name} set q = 5 where {where}")
                table.rows[id_] = changed
