"""Policies as somebody types them: on the command line, in fkdoctor.toml, and read from text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from fkdoctor.database import connect
from fkdoctor.dedupe.plan import CollisionRule
from fkdoctor.dedupe.policy import read_rules
from fkdoctor.errors import ConfigError
from fkdoctor.inspect.catalog import inspect_database

Database = Any  # the fixture's class lives in conftest.py

TABLES = """
    create table letter (id int primary key, same text, note text,
        above int references letter);
    insert into letter values (1, 'a', null, 2), (2, 'a', 'n', null);
    create table mark (id int primary key, letter_id int unique references letter, at date);
    insert into mark values (1, 1, '2026-01-01'), (2, 2, '2026-02-01');
    create table pair (a int references letter, b int references letter, primary key (a, b));
    insert into pair values (1, 2);
"""


def dedupe(db: Database, *words: str) -> subprocess.CompletedProcess[str]:
    """fkdoctor dedupe, run as a program in the test's folder."""
    return subprocess.run(
        [sys.executable, "-m", "fkdoctor", "dedupe", "letter", *words, "--url", db.url],
        capture_output=True,
        text=True,
        cwd=db.folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


def test_the_command_line_says_what_becomes_of_collisions(db: Database) -> None:
    db.execute(TABLES)
    before = db.contents()
    asked = dedupe(db, "--match", "same", "--survivor", "(id) asc", "--out", "one.jsonl")
    assert asked.returncode == 0
    assert "public.mark, mark_letter_id_key: 1 row would be lost, and nobody said" in asked.stdout
    assert "(2) and (1) differ in at ('2026-02-01' / '2026-01-01')" in asked.stdout
    assert "rows would reference one survivor twice: (1, 2)" in asked.stdout
    assert "rows of a cluster reference duplicates themselves: (1)" in asked.stdout
    words = [
        *("--match", "same", "--survivor", "(id) asc"),
        *("--on-collision", "mark=newest:at", "--on-link", "pair=delete", "--on-loop"),
        *("letter=null", "--field", "note=coalesce", "--yes", "--out", "two.jsonl"),
    ]
    done = dedupe(db, *words)
    assert done.returncode == 0, done.stderr
    assert "1 row would be deleted: newest:at stays" in done.stdout
    assert "1 survivor would take over values" in done.stdout
    assert "public.letter.note = coalesce" in done.stdout
    assert db.contents() == {
        '"public"."letter"': ["(1,a,n,)"],
        '"public"."mark"': ["(2,1,2026-02-01)"],
        '"public"."pair"': [],
    }
    db.undo()
    assert db.contents() == before


def test_the_file_says_what_the_command_line_does_not(db: Database) -> None:
    db.execute(TABLES)
    (db.folder / "fkdoctor.toml").write_text(
        """
        [dedupe.letter]
        match = ["same"]
        survivor = ["(id) asc"]
        on_collision = ["mark=newest:at"]
        on_link = ["pair=delete"]
        on_loop = ["letter=null"]
        fields = ["note=longest"]
        """
    )
    made = dedupe(db, "--format", "json", "--on-collision", "mark=oldest:at")
    assert made.returncode == 0, made.stderr
    plan = json.loads(made.stdout)["plan"]
    assert plan["obstacles"] == []
    assert {(rule["table"][1], rule["collisions"], rule["links"]) for rule in plan["rules"]} == {
        ("letter", "refuse", "refuse"),
        ("mark", "oldest:at", "refuse"),
        ("pair", "refuse", "delete"),
    }
    assert plan["fields"][0]["kind"] == "longest"


def test_a_map_is_taken_from_the_command_line(db: Database) -> None:
    db.execute("create table letter (id int primary key); insert into letter values (1), (2)")
    (db.folder / "map.csv").write_text("duplicate,survivor\n1,2\n")
    done = dedupe(db, "--map", "map.csv", "--yes")
    assert done.returncode == 0, done.stderr
    assert db.execute("select id from letter") == [(2,)]
    assert dedupe(db, "--map", "map.csv", "--match", "id").returncode == 2
    assert "no row of a duplicate (1)" in dedupe(db, "--map", "map.csv").stderr


def read(db: Database, *given: tuple[str, str]) -> tuple[CollisionRule, ...]:
    with connect(db.engine()) as connection:
        schema = inspect_database(connection)
    return read_rules(schema, schema.resolve_table, given)


def test_rules_of_a_table_are_put_together_and_later_ones_win(db: Database) -> None:
    db.execute(TABLES)
    mark, pair = read(
        db,
        ("collisions", "mark = refuse"),
        ("links", "public.pair=delete"),
        ("collisions", "mark=(at) asc"),
        ("links", "mark=delete"),
    )
    assert (mark.table.name, mark.collisions, mark.links) == ("mark", "(at) asc", "delete")
    assert (pair.table.name, pair.collisions, pair.links) == ("pair", "refuse", "delete")


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("collisions", "mark", "is no policy for a table"),
        ("collisions", "mark=", "is no policy for a table"),
        ("collisions", "nothing=refuse", "There is no table nothing"),
        ("collisions", "mark=best", "no survivor rule 'best'"),
        ("collisions", "mark=newest:nothing", "has no column nothing"),
        ("collisions", "mark=most_referenced", "There is no policy 'most_referenced'"),
        ("links", "pair=newest", "There is no policy 'newest' for --on-link"),
        ("above", "letter=delete", "There is no policy 'delete' for --on-loop"),
    ],
)
def test_policies_that_are_none_are_refused(
    db: Database, kind: str, text: str, complaint: str
) -> None:
    db.execute(TABLES)
    with pytest.raises(ConfigError) as refused:
        read(db, (kind, text))
    assert complaint in str(refused.value)
