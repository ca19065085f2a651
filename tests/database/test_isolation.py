"""What the fixtures of conftest promise to every other test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg
import psycopg2
import pytest

from fkdoctor.embedded import start_server

LEFT_OPEN: list[psycopg2.extensions.connection] = []


def _run(url: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_a_database_without_the_tables_of_the_last(
    database_url: str, turn: int
) -> None:
    tables = "select count(*) from pg_catalog.pg_tables where schemaname = 'public'"
    assert _run(database_url, tables) == [(0,)]
    _run(database_url, "create table left_behind (id int)")
    assert _run(database_url, tables) == [(1,)]


@pytest.fixture(scope="session")
def numbers_template(make_template: Callable[..., str]) -> str:
    return make_template(lambda url: _run(url, "create table numbers as select 1 as n"))


def test_a_template_is_copied_with_its_rows(
    make_database: Callable[..., str], numbers_template: str
) -> None:
    first, second = make_database(numbers_template), make_database(numbers_template)
    _run(first, "insert into numbers values (2)")
    assert _run(first, "select n from numbers order by n") == [(1,), (2,)]
    assert _run(second, "select n from numbers order by n") == [(1,)]


def test_a_database_is_dropped_under_an_open_connection(
    make_database: Callable[..., str],
) -> None:
    LEFT_OPEN.append(psycopg2.connect(make_database()))
    assert not LEFT_OPEN[0].closed


def test_pytest_postgresql_works_on_the_same_server(
    postgresql: psycopg.Connection, server_url: str
) -> None:
    ours = "select pg_catalog.pg_postmaster_start_time()"
    assert postgresql.execute(ours).fetchall() == _run(server_url, ours)
    assert postgresql.info.dbname.startswith("fkd_")


def test_a_run_on_a_given_server_leaves_no_database_there() -> None:
    with start_server() as server:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", __file__, "-k", "not given_server"],
            env=os.environ | {"FKDOCTOR_TEST_URL": server.url()},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout
        remaining = _run(server.url(), "select datname from pg_catalog.pg_database order by 1")
    assert remaining == [("postgres",), ("template0",), ("template1",)]
