"""A map of duplicates and survivors that was made elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fkdoctor.database import connect
from fkdoctor.dedupe.plan import DedupePlan
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.errors import ConfigError
from fkdoctor.inspect.catalog import inspect_database

Database = Any  # the fixture's class lives in conftest.py

LETTERS = """
    create table letter (id int primary key, code text);
    insert into letter select n, 'code ' || n from generate_series(1, 9) as n;
    create table visit (id int primary key, letter_id int references letter on delete cascade);
    insert into visit select n, n from generate_series(1, 9) as n;
"""
SITES = """
    create table letter (site text, id int, primary key (site, id));
    insert into letter select s, n from generate_series(1, 3) as n, unnest('{a,b}'::text[]) as s;
"""


def plan_map(db: Database, text: str) -> tuple[DedupePlan, Path]:
    """The plan that the map leads to, and its file."""
    given, path = db.folder / "map.csv", db.folder / "plan.jsonl"
    given.write_text(text, encoding="utf-8")
    with connect(db.engine()) as connection:
        schema = inspect_database(connection)
        criteria = Criteria(match=(), survivor=(), map=given)
        plan = plan_dedupe(connection, schema, schema.resolve_table("letter"), criteria, path)
    return plan, path


def pairs_of(path: Path) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """Survivor to duplicates, in the plan."""
    lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    return {
        tuple(line["survivor"][:-1]): {tuple(member[:-1]) for member in line["duplicates"]}
        for line in lines
    }


def test_the_map_decides_and_can_be_undone(db: Database) -> None:
    db.execute(LETTERS)
    before = db.contents()
    plan, path = plan_map(db, "survivor,duplicate\n7,2\n 7,5\n1,9\n\n")
    assert (plan.clusters, plan.duplicates, plan.moving) == (2, 3, 3)
    assert pairs_of(path) == {("7",): {("2",), ("5",)}, ("1",): {("9",)}}
    done = db.apply(path)
    assert db.execute("select letter_id from visit order by id") == [
        (number,) for number in (1, 7, 3, 4, 7, 6, 7, 8, 1)
    ]
    db.undo(done.run_id)
    assert db.contents() == before


def test_chains_lead_to_their_end(db: Database) -> None:
    db.execute(LETTERS)
    _, path = plan_map(db, "duplicate,survivor\n1,2\n2,3\n3,4\n4,5\n6,2\n8,9\n")
    assert pairs_of(path) == {
        ("5",): {("1",), ("2",), ("3",), ("4",), ("6",)},
        ("9",): {("8",)},
    }
    db.apply(path)
    assert db.execute("select count(*) from visit where letter_id = 5") == [(6,)]


def test_keys_of_several_columns_are_named(db: Database) -> None:
    db.execute(SITES)
    _, path = plan_map(
        db, "duplicate.id,duplicate.site,survivor.site,survivor.id\n1,b,a,1\n2,b,a,2\n"
    )
    assert pairs_of(path) == {("a", "1"): {("b", "1")}, ("a", "2"): {("b", "2")}}


def test_a_map_longer_than_one_reading(db: Database) -> None:
    db.execute("create table letter (id int primary key)")
    db.execute("insert into letter select generate_series(1, 25000)")
    lines = "".join(f"{n},{n - 1}\n" for n in range(2, 25_001, 2))
    plan, _ = plan_map(db, "duplicate,survivor\n" + lines)
    assert (plan.clusters, plan.duplicates) == (12_500, 12_500)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "Its first line is missing."),
        ("a,b\n1,2\n", "Its first line is a,b."),
        ("duplicate,survivor\n1,2\n3\n", "damaged in line 3"),
        ("duplicate,survivor\n1,\n", "damaged in line 2"),
        ("duplicate,survivor\n1,2\n1,3\n", "more than one survivor to (1)"),
        ("duplicate,survivor\n11,2\n", "no row of a duplicate (11)"),
        ("duplicate,survivor\n1,12\n", "no row of a survivor (12)"),
        ("duplicate,survivor\n1,2\n2,3\n3,1\n4,5\n", "in a circle from (1); (2); (3)"),
        ("duplicate,survivor\n1,1\n", "in a circle from (1)"),
        ("duplicate,survivor\none,2\n", 'invalid input syntax for type integer: "one"'),
        ('duplicate,survivor\n"1,2\n', "cannot be read"),
    ],
)
def test_a_map_that_cannot_be_followed_is_refused_by_name(
    db: Database, text: str, complaint: str
) -> None:
    db.execute(LETTERS)
    with pytest.raises(ConfigError) as refused:
        plan_map(db, text)
    assert complaint in str(refused.value)
    assert not (db.folder / "plan.jsonl").exists()


def test_an_empty_map_merges_nothing(db: Database) -> None:
    db.execute(LETTERS)
    plan, _ = plan_map(db, "duplicate,survivor\n")
    assert (plan.clusters, plan.duplicates) == (0, 0)
