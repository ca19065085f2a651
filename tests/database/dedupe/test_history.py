"""Finding again what was done: redirects, runs, and taking back single clusters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fkdoctor.database import connect
from fkdoctor.dedupe.redirect import resolve_key
from fkdoctor.dedupe.undo import undo_dedupe
from fkdoctor.errors import ConfigError, UndoConflict
from fkdoctor.inspect.catalog import inspect_database

Database = Any  # the fixture's class lives in conftest.py
Run = Callable[..., "subprocess.CompletedProcess[str]"]

TABLES = """
    create table letter (id int primary key, same text);
    insert into letter select n, 'cluster ' || (n + 1) / 2 from generate_series(1, 6) as n;
    create table visit (id int primary key, letter_id int references letter, unique (letter_id));
    insert into visit select n, n from generate_series(1, 6) as n;
    create table note (id int primary key, visit_id int references visit);
    insert into note select n, n from generate_series(1, 6) as n;
"""


def resolve(db: Database, key: tuple[str, ...], table: str = "letter") -> tuple[str, ...] | None:
    with connect(db.engine()) as connection:
        schema = inspect_database(connection)
        return resolve_key(connection, schema.table(schema.resolve_table(table)), key)


def test_a_merged_key_leads_to_its_survivor(db: Database) -> None:
    db.execute(TABLES)
    db.merge()
    assert resolve(db, ("4",)) == ("3",)
    assert resolve(db, (" 04",)) == ("3",)
    assert resolve(db, ("3",)) is None
    assert resolve(db, ("77",)) is None
    assert resolve(db, ("6",), "visit") == ("5",)
    assert resolve(db, ("6",), "note") is None
    db.undo()
    assert resolve(db, ("4",)) is None


def test_chains_of_runs_are_followed_and_shortened_by_undo(db: Database) -> None:
    db.execute(TABLES)
    db.merge()
    db.execute("update letter set same = 'all' where id > 1")
    second = db.merge()
    assert resolve(db, ("6",)) == ("3",)
    everything = "select old_key[1], new_key[1] from fkdoctor.resolved where table_name = 'letter'"
    assert sorted(db.execute(everything)) == [("2", "1"), ("4", "3"), ("5", "3"), ("6", "3")]
    db.undo(second.run_id)
    assert resolve(db, ("6",)) == ("5",)


def test_a_key_that_was_given_again_leads_on_from_where_it_was(db: Database) -> None:
    db.execute("create table letter (id int primary key, same text)")
    db.execute("insert into letter values (1, 'a'), (2, 'a')")
    db.merge()
    db.execute("insert into letter values (0, 'a')")
    db.merge()
    db.execute("insert into letter values (1, 'b'), (-1, 'b')")
    db.merge()
    # What was 2 went into the first row 1, and that into 0; the second row 1 went into -1.
    assert resolve(db, ("2",)) == ("0",)
    assert resolve(db, ("1",)) == ("-1",)
    everything = "select old_key[1], new_key[1] from fkdoctor.resolved"
    assert sorted(db.execute(everything)) == [("1", "-1"), ("2", "0")]


def test_keys_of_several_columns_are_resolved(db: Database) -> None:
    db.execute(
        """
        create table letter (site text, day date, same text, primary key (day, site));
        insert into letter values ('x y', '2026-01-02', 'a'), ('z', '2026-01-01', 'a');
        """
    )
    db.merge()
    assert resolve(db, ("2 January 2026", "x y")) == ("2026-01-01", "z")
    with pytest.raises(ConfigError, match="is no key of"):
        resolve(db, ("2026-01-02",))
    with pytest.raises(ConfigError, match="is no key of"):
        resolve(db, ("someday", "z"))


def test_one_cluster_is_taken_back(db: Database) -> None:
    db.execute(TABLES)
    before = db.contents()
    db.merge()
    with connect(db.engine()) as connection:
        back = undo_dedupe(connection, 1, clusters=[2])
    assert (back.done, back.total, back.restored) == (1, 1, 2)
    assert db.status() == "undoing"
    assert db.execute("select id from letter order by id") == [(1,), (3,), (4,), (5,)]
    assert db.execute("select id, letter_id from visit order by id") == [
        (1, 1),
        (3, 3),
        (4, 4),
        (5, 5),
    ]
    assert resolve(db, ("4",)) is None
    assert resolve(db, ("6",)) == ("5",)
    with connect(db.engine()) as connection, pytest.raises(ConfigError, match="no merged cluster"):
        undo_dedupe(connection, 1, clusters=[1, 2, 77])
    db.execute("delete from note where id = 2")
    with connect(db.engine()) as connection, pytest.raises(UndoConflict):
        undo_dedupe(connection, 1, clusters=[1])
    with connect(db.engine()) as connection:
        assert undo_dedupe(connection, 1, clusters=[3]).restored == 2
    db.execute("insert into note values (2, 1)")
    db.undo()
    assert db.contents() == before
    assert db.status() == "undone"


def test_rows_that_two_clusters_moved_are_taken_back_in_any_order(db: Database) -> None:
    db.execute(
        """
        create table letter (id int primary key, same text);
        insert into letter select n, 'cluster ' || (n + 1) / 2 from generate_series(1, 6) as n;
        create table pair (a int references letter, b int references letter, primary key (a, b));
        insert into pair values (2, 4), (4, 6), (6, 2), (4, 2), (2, 6);
        """
    )
    before = db.contents()
    for order in ([1, 2, 3], [3, 1, 2], [2, 3, 1]):
        done = db.apply(db.plan(), batch_size=1)
        for cluster in order:
            with connect(db.engine()) as connection:
                undo_dedupe(connection, done.run_id, clusters=[cluster])
        assert db.contents() == before
        assert db.status(done.run_id) == "undone"


def test_the_command_line_tells_and_resolves(db: Database, run: Run) -> None:
    db.execute(TABLES)
    done = db.merge()
    shown = run("show", str(done.run_id))
    assert shown.returncode == 0
    assert "3 of 3 clusters, 6 rows deleted, 3 references repointed" in shown.stdout
    assert "public.visit: delete" in shown.stdout
    document = json.loads(run("show", "1", "--format", "json").stdout)
    assert [(step["table_name"], step["action"], step["rows"]) for step in document["steps"]] == [
        ("note", "repoint", 3),
        ("visit", "delete", 3),
        ("visit", "repoint", 0),
        ("letter", "delete", 3),
    ]
    assert run("show", "7").returncode == 2
    assert run("resolve", "letter", "4").stdout == "3\n"
    itself = run("resolve", "letter", "3")
    assert (itself.stdout, "It was not merged." in itself.stderr) == ("3\n", True)
    assert json.loads(run("resolve", "letter", "4", "--format", "json").stdout) == {
        "table": "public.letter",
        "key": ["4"],
        "merged": True,
        "resolved": ["3"],
    }
    assert run("undo", "1", "--cluster", "1", "--cluster", "3").returncode == 0
    assert db.execute("select count(*) from letter") == [(5,)]


@pytest.fixture
def run(db: Database) -> Run:
    """Runs fkdoctor as a program."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fkdoctor", *arguments, "--url", db.url],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            check=False,
        )

    return run
