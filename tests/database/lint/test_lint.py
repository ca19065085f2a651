"""`fkdoctor lint`: what it says of statements, held against what PostgreSQL does and locks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.lint.judge import Hazard, Level, judge_passages
from fkdoctor.lint.source import read_sources

Execute = Callable[[str], list[tuple[Any, ...]]]
Judge = Callable[[str], tuple[Hazard, ...]]

SHOP = """
    create table customer (id int primary key, name text);
    create table orders (id int primary key, customer int references customer on delete cascade);
    create table item (id int primary key, orders int references orders);
    create table other (id int primary key, customer int);
    insert into customer select i, 'c' || i from generate_series(1, 100) as i;
    insert into orders select i, i % 50 + 1 from generate_series(1, 20000) as i;
    insert into item values (1, 7);
    insert into other select i, 1 from generate_series(1, 30000) as i;
    create index on orders (customer);
    analyze;
"""


@pytest.fixture
def judge(database_url: str, execute: Execute, tmp_path: Path) -> Judge:
    """Called with SQL: its hazards in a shop."""
    execute(SHOP)

    def judge(sql: str) -> tuple[Hazard, ...]:
        (tmp_path / "file.sql").write_text(sql)
        with connect(open_engine(resolve_target(database_url, Config(), {}))) as connection:
            schema = inspect_database(connection)
            return judge_passages(connection, schema, read_sources([tmp_path]))

    return judge


@pytest.mark.parametrize(
    ("sql", "rule", "level"),
    [
        ("delete from customer where id = 9", "delete", Level.WARNING),
        ("delete from customer where id = 8", "delete", Level.ERROR),
        ("delete from other where id = 1", "delete", Level.NOTE),
        ("update customer set id = 1000 where id = 9", "delete", Level.ERROR),
        ("truncate orders", "truncate", Level.ERROR),
        ("truncate customer cascade", "truncate", Level.WARNING),
        ("drop table customer", "drop-table", Level.ERROR),
        ("drop table customer cascade", "drop-table", Level.ERROR),
        ("drop table customer, orders, item", "drop-table", Level.WARNING),
        (
            "alter table other add foreign key (customer) references customer",
            "add-foreign-key",
            Level.ERROR,
        ),
        ("alter table item drop constraint item_orders_fkey", "drop-foreign-key", Level.WARNING),
    ],
)
def test_a_hazard_takes_the_locks_that_it_says(
    judge: Judge, database_url: str, sql: str, rule: str, level: Level
) -> None:
    hazards = judge(sql)
    assert {hazard.rule for hazard in hazards} == {rule}
    assert max(hazard.level for hazard in hazards) is level
    foreseen = {(lock.table.name, lock.mode) for hazard in hazards for lock in hazard.locks}
    taken = read_locks(database_url, sql)
    if taken is not None:
        strong = {one for one in taken if one[1] not in ("ACCESS SHARE", "ROW SHARE")}
        assert foreseen <= taken
        assert {table for table, _ in strong} == {table for table, _ in foreseen}


def read_locks(url: str, sql: str) -> set[tuple[str, str]] | None:
    """The locks on tables that the statement takes; None if it fails."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("select oid, relname from pg_class where relkind = 'r'")
        names = dict(cursor.fetchall())
        try:
            cursor.execute(sql)
        except psycopg2.Error:
            return None
        cursor.execute(
            "select relation, mode from pg_locks where pid = pg_backend_pid() and relation > 16383"
        )
        return {
            (names[oid], mode_as_written(mode)) for oid, mode in cursor.fetchall() if oid in names
        }


def mode_as_written(mode: str) -> str:
    """`AccessExclusiveLock` as ACCESS EXCLUSIVE."""
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in mode)
    return words.removesuffix(" Lock").strip().upper()


def test_what_stops_a_statement_is_named(judge: Judge) -> None:
    (hazard,) = judge("delete from customer where id = 8")
    assert "in the way: item_orders_fkey" in hazard.message
    (hazard,) = judge("drop table customer")
    assert "public.orders.orders_customer_fkey depend on" in hazard.message


def test_the_safe_form_of_a_new_key_runs(judge: Judge, execute: Execute) -> None:
    (hazard,) = judge(
        "alter table other add constraint mine foreign key (customer) references customer (id) "
        "on delete set null"
    )
    assert hazard.rows == 30_000
    assert hazard.safe is not None
    for statement in hazard.safe.split(";\n"):
        execute(statement)
    query = "select convalidated, confdeltype::text from pg_constraint where conname = 'mine'"
    assert execute(query) == [(True, "n")]


def test_a_key_that_is_added_not_valid_or_on_a_new_table_is_fine(judge: Judge) -> None:
    assert (
        judge(
            "create table fresh (id int, c int);"
            "alter table fresh add foreign key (c) references customer;"
            "alter table other add foreign key (customer) references customer not valid;"
            "delete from fresh; drop table fresh"
        )
        == ()
    )


def test_an_update_of_other_columns_is_none_of_our_business(judge: Judge) -> None:
    assert judge("update other set id = 5; update customer set name = 'x'") == ()


def test_a_large_delete_is_to_be_done_in_batches(judge: Judge, execute: Execute) -> None:
    (hazard,) = judge("delete from other o where o.id > 5")
    assert (hazard.level, hazard.rows) == (Level.WARNING, 29_995)
    assert hazard.safe is not None
    execute(hazard.safe)
    assert execute("select count(*) from other") == [(29_000,)]


def test_what_cannot_be_judged_is_a_note(judge: Judge) -> None:
    hazards = judge(
        "delete from nothing; delete from customer where nothing = 1;"
        "delete from item where id = :x;"
        "with d as (delete from item returning *) select * from d; alter table nothing drop"
        " constraint a; delete from customer where id = 9"
    )
    assert [hazard.rule for hazard in hazards] == [*["not-judged"] * 5, "delete"]
    assert all(hazard.level is Level.NOTE for hazard in hazards[:5])


@pytest.fixture
def run(
    database_url: str,
    execute: Execute,
    fkdoctor: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """Runs fkdoctor lint with these words, on the shop."""
    execute(SHOP)
    monkeypatch.setenv("FKDOCTOR_URL", database_url)
    Path("a.sql").write_text("delete from customer where id = 9;\n\ntruncate orders;\n")
    return partial(fkdoctor, "lint")


def test_the_command_prints_and_fails_by_level(run: Callable[..., Any]) -> None:
    ended = run("a.sql")
    assert ended.code == 1
    assert "✖ a.sql:3 truncate: Blocked" in ended.out
    assert "locks: ACCESS EXCLUSIVE on public.orders" in ended.out
    assert "2 statements: 1 error, 1 warning, 0 notes." in ended.out
    assert run("a.sql", "--fail-on", "never").code == 0
    Path("b.sql").write_text("delete from customer where id = 9")
    assert run("b.sql").code == 0
    assert run("b.sql", "--fail-on", "warning").code == 1
    assert run("none.sql").code == 2


def test_sarif_names_file_line_and_rule(run: Callable[..., Any]) -> None:
    log = json.loads(run("a.sql", "--format", "sarif").out)
    (one,) = log["runs"]
    rules = {rule["id"] for rule in one["tool"]["driver"]["rules"]}
    places = [
        (
            result["ruleId"],
            result["level"],
            result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            result["locations"][0]["physicalLocation"]["region"]["startLine"],
        )
        for result in one["results"]
    ]
    assert places == [("delete", "warning", "a.sql", 1), ("truncate", "error", "a.sql", 3)]
    assert {rule for rule, *_ in places} <= rules


def test_json_has_locks_and_rows(run: Callable[..., Any]) -> None:
    hazards = json.loads(run("a.sql", "--format", "json").out)["hazards"]
    assert hazards[0]["rows"] == 401
    assert {"table": "public.orders", "mode": "ROW EXCLUSIVE"} in hazards[0]["locks"]
