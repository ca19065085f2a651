"""References that only fkdoctor.toml declares: they move, collide and return like any other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from fkdoctor.config import Config, ReferenceConfig
from fkdoctor.database import connect
from fkdoctor.dedupe.plan import DedupePlan
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.policy import read_rules
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare

Database = Any  # the fixture's class lives in conftest.py
Plan = Callable[..., tuple[DedupePlan, Path]]

LETTER = """
    create table letter (id int primary key, same text, code text);
    insert into letter values (1, 'a', 'x'), (2, 'a', 'y'), (3, 'a', 'z'), (4, 'b', 'v');
"""


@pytest.fixture
def plan(db: Database) -> Plan:
    """Makes a plan, given references as (from, to, where) and rules."""

    def plan(
        *references: tuple[str, str, str | None], rules: tuple[tuple[str, str], ...] = ()
    ) -> tuple[DedupePlan, Path]:
        config = Config(
            references=tuple(
                ReferenceConfig(source=source, target=target, where=where)
                for source, target, where in references
            )
        )
        path = db.folder / "plan.jsonl"
        with connect(db.engine()) as connection:
            schema = declare(inspect_database(connection), config)
            criteria = Criteria(
                match=("same",), survivor=(), rules=read_rules(schema, schema.resolve_table, rules)
            )
            name = schema.resolve_table("letter")
            return plan_dedupe(connection, schema, name, criteria, path), path

    return plan


def test_a_plain_column_moves_and_returns(db: Database, plan: Plan) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letter bigint, code text);
        insert into visit values (1, 2, null), (2, 3, 'nothing'), (3, 77, 'x'), (4, null, 'z');"""
    )
    before = db.contents()
    made, path = plan(
        ("public.visit.letter", "public.letter.id", None),
        ("public.visit.code", "public.letter.code", None),
    )
    assert (made.moving, made.obstacles) == (3, ())
    assert any("only declared in fkdoctor.toml" in caveat for caveat in made.caveats)
    done = db.apply(path)
    assert db.execute("select * from visit order by id") == [
        (1, 1, None),
        (2, 1, "nothing"),
        (3, 77, "x"),
        (4, None, "x"),
    ]
    db.undo(done.run_id)
    assert db.contents() == before


def test_rows_of_other_kinds_stay(db: Database, plan: Plan) -> None:
    db.execute(
        LETTER
        + """create table "Note" (id int primary key, cluster text, "of" text,
            unique (cluster, "of"));
        insert into "Note" values (1, 'Letter', '1'), (2, 'Letter', '2'), (3, 'Job', '2'),
            (4, 'Letter', 'none'), (5, null, '3'), (6, 'Letter', '4');"""
    )
    before = db.contents()
    made, path = plan(('public."Note".of', "public.letter.id", "cluster = 'Letter' -- only"))
    assert made.obstacles == ()
    done = db.apply(path)
    assert db.execute('select * from "Note" order by id') == [
        (1, "Letter", "1"),
        (3, "Job", "2"),
        (4, "Letter", "none"),
        (5, None, "3"),
        (6, "Letter", "4"),
    ]
    db.undo(done.run_id)
    assert db.contents() == before


def test_references_between_other_tables_of_the_plan_do_not_make_it_stale(
    db: Database, plan: Plan
) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letter_id int references letter);
        create table click (id int primary key, letter_id int references letter, visit int);
        insert into visit values (1, 2); insert into click values (1, 3, 1);"""
    )
    before = db.contents()
    _, path = plan(("public.click.visit", "public.visit.id", None))
    done = db.apply(path)
    assert (done.deleted, done.stale) == (2, ())
    db.undo(done.run_id)
    assert db.contents() == before


def test_what_cannot_be_followed_is_refused_by_name(db: Database, plan: Plan) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, day date);
        create table bare (letter int); insert into bare values (2);"""
    )
    made, _ = plan(
        ("public.visit.day", "public.letter.id", None),
        ("public.bare.letter", "public.letter.id", None),
    )
    told = {obstacle.subject: obstacle.reason for obstacle in made.obstacles}
    assert told["public.visit.day"] == "date is not compared with integer"
    assert "neither primary key nor unique" in told["public.bare"]


def test_nobody_writes_to_the_table_while_a_batch_is_applied(db: Database, plan: Plan) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letter int);
        insert into visit values (1, 2);
        create table slow (id int primary key, letter_id int references letter);
        insert into slow values (1, 2);
        create function wait() returns trigger language plpgsql as $$ begin
            perform pg_advisory_xact_lock(77); return new;
        end $$;
        create trigger t before update on slow for each row execute function wait();"""
    )
    _, path = plan(("public.visit.letter", "public.letter.id", None))
    waiting = (
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and wait_event_type = 'Lock' and query like %s"
    )
    with psycopg2.connect(db.url) as holder, holder.cursor() as cursor:
        cursor.execute("select pg_advisory_lock(77)")
        merge = threading.Thread(target=lambda: db.apply(path))
        merge.start()
        while db.execute(waiting, ("%UPDATE ONLY%",)) != [(1,)]:
            pass
        late = threading.Thread(target=lambda: db.execute("insert into visit values (2, 3)"))
        late.start()
        while db.execute(waiting, ("insert into visit%",)) != [(1,)]:
            pass
        cursor.execute("select pg_advisory_unlock(77)")
        merge.join()
        late.join()
    holder.close()
    # What came after the batch is nobody's fault, and was told in the plan.
    assert db.execute("select * from visit order by id") == [(1, 1), (2, 3)]
