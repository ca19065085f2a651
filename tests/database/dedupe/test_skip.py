"""Clusters that are left out because rows collide and differ; and circles of tables."""

from __future__ import annotations

import json
from typing import Any

from fkdoctor.database import connect
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.inspect.catalog import inspect_database

Database = Any  # the fixture's class lives in conftest.py

LETTER = """
    create table letter (id int primary key, same text);
    insert into letter values (1, 'a'), (2, 'a'), (3, 'b'), (4, 'b'), (5, 'c'), (6, 'c'), (7, 'd'),
        (8, 'd');
    create table mark (id int primary key, letter int references letter on delete cascade, who int,
        note text, unique (letter, who));
"""
SKIP = (("collisions", "mark=skip"),)


def test_clusters_whose_rows_differ_are_left_out_and_listed(db: Database) -> None:
    db.execute(
        LETTER
        + """insert into mark values (1, 1, 1, 'x'), (2, 2, 1, 'y'), (3, 3, 1, 'x'), (4, 4, 1, 'x'),
            (5, 6, 1, 'x');"""
    )
    before = db.contents()
    path = db.plan(rules=SKIP)
    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert (head["clusters"], head["survivors"], head["duplicates"], head["skipped"]) == (
        3,
        3,
        3,
        1,
    )
    (reason,) = head["left_out"]
    assert "mark_letter_who_key" in reason["subject"]
    assert "(2) and (1) differ in note ('y' / 'x')" in reason["reason"]
    assert [line["survivor"][0] for line in lines] == ["3", "5", "7"]
    assert [resolution["policy"] for resolution in head["resolutions"]] == ["identical"]
    done = db.apply(path)
    assert (done.deleted, done.stale) == (4, ())
    assert db.execute("select id, letter from mark order by id") == [(1, 1), (2, 2), (3, 3), (5, 5)]
    db.undo(done.run_id)
    assert db.contents() == before


def test_clusters_that_are_tied_are_left_out_together(db: Database) -> None:
    db.execute(
        LETTER
        + """create table pair (id int primary key, a int references letter, b int references
            letter, note text, unique (a, b));
        insert into pair values (1, 1, 3, 'x'), (2, 2, 4, 'y'), (3, 5, 7, 'x'), (4, 6, 8, 'x');"""
    )
    head, *lines = [
        json.loads(line)
        for line in db.plan(rules=(("collisions", "pair=skip"),)).read_text().splitlines()
    ]
    assert (head["clusters"], head["survivors"], head["skipped"]) == (1, 2, 1)
    assert [line["survivor"][0] for line in lines] == ["5"]


def test_what_is_left_out_is_seen_by_others(db: Database) -> None:
    """Without the first cluster a row of the second does not collide, and stays."""
    db.execute(
        LETTER
        + """create table pair (id int primary key, a int references letter, b int references
            letter, note text, unique (a, b));
        insert into mark values (1, 1, 1, 'x'), (2, 2, 1, 'y');
        insert into pair values (1, 1, 3, 'x'), (2, 2, 3, 'x'), (3, 5, null, 'x');"""
    )
    head = json.loads(db.plan(rules=SKIP).read_text().splitlines()[0])
    assert (head["clusters"], head["skipped"], head["resolutions"]) == (3, 1, [])
    done = db.apply(db.plan(rules=SKIP))
    assert db.execute("select count(*) from pair") == [(3,)]
    assert done.deleted == 3


def test_a_plan_of_which_nothing_is_left_is_empty(db: Database) -> None:
    db.execute(
        LETTER + "insert into mark values (1, 1, 1, 'x'), (2, 2, 1, 'y');"
        "delete from letter where id > 2"
    )
    head, *lines = db.plan(rules=SKIP).read_text().splitlines()
    assert (json.loads(head)["clusters"], json.loads(head)["skipped"], lines) == (0, 1, [])


def test_rows_that_came_to_differ_since_leave_their_cluster_alone(db: Database) -> None:
    db.execute(LETTER + "insert into mark values (1, 1, 1, 'x'), (2, 2, 1, 'x')")
    path = db.plan(rules=SKIP)
    db.execute("update mark set note = 'new' where id = 2")
    before = db.contents()['"public"."mark"']
    done = db.apply(path)
    assert (done.stale, done.deleted) == ((1,), 3)
    assert db.contents()['"public"."mark"'] == before


CIRCLE = """
    create table letter (id int primary key, same text);
    create table author (id int primary key, best int references letter, name text,
        unique (best, name));
    alter table letter add author int references author;
    insert into letter values (1, 'a'), (2, 'a'), (3, 'b'), (4, 'c');
    insert into author values (1, 1, 'x'), (2, 2, 'x'), (3, 4, 'y');
    update letter set author = 1 where id = 3;
"""


def test_tables_in_a_circle_are_merged_where_rows_of_one_go(db: Database) -> None:
    db.execute(CIRCLE + "update author set name = 'z' where id = 2; update letter set author = 2")
    before = db.contents()
    done = db.apply(db.plan())
    assert db.execute("select id, best from author order by id") == [(1, 1), (2, 1), (3, 4)]
    db.undo(done.run_id)
    assert db.contents() == before


def test_tables_in_a_circle_of_which_rows_of_several_go_are_refused_by_name(db: Database) -> None:
    db.execute(CIRCLE)
    before = db.contents()
    with connect(db.engine()) as connection:
        schema = inspect_database(connection)
        criteria = Criteria(match=("same",), survivor=())
        letter = schema.resolve_table("letter")
        plan = plan_dedupe(connection, schema, letter, criteria, db.folder / "plan.jsonl")
    (obstacle,) = plan.obstacles
    assert obstacle.subject == "public.author, public.letter"
    for name in ("author_best_fkey", "letter_author_fkey", "--on-collision author='demote("):
        assert name in obstacle.reason
    assert db.contents() == before


def test_tables_in_a_circle_are_merged_where_rows_of_all_but_one_stay(db: Database) -> None:
    db.execute(
        CIRCLE
        + """alter table author add active bool default true;
        alter table author drop constraint author_best_name_key;
        create unique index on author (best, name) where active;"""
    )
    before = db.contents()
    done = db.apply(db.plan(rules=(("collisions", "author=demote(active = false)"),)))
    assert done.deleted == 1
    assert db.execute("select id, best, active from author order by id") == [
        (1, 1, True),
        (2, 1, False),
        (3, 4, True),
    ]
    db.undo(done.run_id)
    assert db.contents() == before
