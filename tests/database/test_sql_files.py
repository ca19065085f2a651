"""Every file under sql/ by itself: psql runs it as it stands and gets what fkdoctor gets."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, new_type, parse_dsn, register_type
from sqlalchemy import text

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.demo.dataset import Scale, load_dataset
from fkdoctor.ledger.install import install_ledger
from fkdoctor.resources import load_query, resource_dir
from fkdoctor.revise import upgrade

SQL = resource_dir("sql")
NAMES = [str(path.relative_to(SQL).with_suffix("")) for path in sorted(SQL.rglob("*.sql"))]

# In a database where nobody else is, nobody waits and nothing is out of the ordinary.
EMPTY = {
    "catalog/lock_holders",
    "catalog/owner_rights",
    "catalog/replica_settings",
    "catalog/statement_statistics",
    "catalog/subscriptions",
    "catalog/upserting_functions",
    "impact/written_rows",
    "revise/blockers",
    "revise/old_transactions",
}

# Something for each query of the catalog, beside the mlops tables and the ledger.
SHOP = """
    create schema "Shop";
    create domain "Shop".price as numeric(10, 2) not null default 0;
    create table "Shop".customers (
        id int primary key, "Name" text collate "C" default '50% :a' check ("Name" <> '')
    );
    create table "Shop".orders (
        id int, customer int constraint "the customer" references "Shop".customers
            on delete set null deferrable, total "Shop".price, at timestamptz default '2026-01-31',
        primary key (id)
    ) partition by range (id);
    create table "Shop".orders_1 partition of "Shop".orders for values from (0) to (1000);
    create table "Shop".archive (gone int) inherits ("Shop".customers);
    create index on "Shop".orders (customer desc, (total + 1)) include (at) where total > 0;
    create table "Shop".slots (at int4range, length int generated always as (upper(at) - lower(at))
        stored, exclude using gist (at with &&));
    create function "Shop".note() returns trigger language plpgsql as 'begin return null; end';
    create trigger note before delete on "Shop".orders_1
        for each row execute function "Shop".note();
    create rule keep as on delete to "Shop".orders_1 do instead nothing;
    create view "Shop".paid as select * from "Shop".orders;
    create materialized view "Shop".totals as select sum(total) from "Shop".paid;
    comment on constraint "the customer" on "Shop".orders is 'a, "b"
        and a second line';
    alter table "Shop".customers enable row level security;
    create publication moved for table "Shop".archive;
"""

# A run that merged one cluster, and a later one on the same table.
RUNS = """
    insert into fkdoctor.run (plan_id, kind, table_schema, table_name, plan, status)
    values ('p-1', 'dedupe', 'mlops', 't', '{"tables": ["ä"]}', 'applying'),
        ('p-2', 'dedupe', 'mlops', 't', '{}', 'applied');
    insert into fkdoctor.step values
        (1, 0, 'delete', 'mlops', 'r', null, '{id}', '{resume_id}'),
        (2, 0, 'delete', 'mlops', 'r', null, '{id}', '{id}');
    insert into fkdoctor.redirect values (1, 1, '{2}', '{1}', 0);
    insert into fkdoctor.deletion (id, table_schema, table_name, selection, deleted_at)
    values ('00000000-0000-4000-8000-000000000001', 'mlops', 't', '(id = 1)', '2026-01-31');
    insert into fkdoctor.deletion_step values
        ('00000000-0000-4000-8000-000000000001', 0, 'delete', 'mlops', 't', null, '{id}', '{}', 2);
"""


def _load(url: str) -> None:
    target = resolve_target(url, Config(), {})
    upgrade(open_engine(target))
    scale = Scale(letters=300, postings=30, recommendations=600, interactions=100)
    with open_engine(target).begin() as connection:
        load_dataset(connection, scale, seed=7)
    with connect(open_engine(target)) as connection:
        install_ledger(connection)
        connection.exec_driver_sql(SHOP.replace("%", "%%") + RUNS)
        connection.commit()


@pytest.fixture(scope="session")
def everything_template(make_template: Callable[[Callable[[str], object]], str]) -> str:
    return make_template(_load)


@pytest.fixture
def make_copy(make_database: Callable[..., str], everything_template: str) -> Callable[[], str]:
    """A database with something of everything, in which names in definitions are qualified."""
    options = "-c search_path= -c timezone=UTC"
    return lambda: make_dsn(make_database(everything_template), options=options)


def _values(sql: str) -> dict[str, str]:
    """The values to try the file with, as psql takes them: from its lines `-- try: name=value`."""
    lines = re.findall(r"^-- try: (.+)$", sql, re.MULTILINE)
    return dict(re.findall(r"(\w+)=('(?:[^']|'')*'|\S+)", " ".join(lines)))


def _python_value(written: str) -> object:
    return written[1:-1].replace("''", "'") if written.startswith("'") else int(written)


def _ask_psql(psql: Path, url: str, name: str) -> list[list[str]]:
    """The columns' names and the rows, as the server's text; or what psql says was done."""
    path = SQL / f"{name}.sql"
    settings = [f"--set={key}={value}" for key, value in _values(path.read_text()).items()]
    printed = subprocess.run(
        [psql, "--no-psqlrc", "--csv", "--pset=null=NULL", "--set=ON_ERROR_STOP=1", *settings]
        + ["--dbname", url, "--file", str(path)],
        env=os.environ | {"PGCLIENTENCODING": "UTF8"},
        capture_output=True,
        encoding="utf-8",
    )
    assert printed.returncode == 0, printed.stderr
    # A line with nothing in it is one empty value.
    return [row or [""] for row in csv.reader(io.StringIO(printed.stdout, newline=""))]


def _ask_fkdoctor(url: str, name: str) -> list[list[str]]:
    values = {key: _python_value(value) for key, value in _values(load_query(name)).items()}
    with connect(open_engine(resolve_target(url, Config(), {}))) as connection:
        types = connection.exec_driver_sql("select oid from pg_catalog.pg_type").scalars().all()
        # The server's own text of every value, not what Python makes of it.
        as_text = new_type(tuple(types), "AS_TEXT", lambda value, cursor: value)
        register_type(as_text, connection.connection.driver_connection)
        result = connection.execute(text(load_query(name)), values)
        if not result.returns_rows:
            cursor = result.context.cursor
            answer = [[cursor.statusmessage]]
        else:
            rows = [["NULL" if value is None else value for value in row] for row in result]
            answer = [list(result.keys()), *rows]
        connection.commit()
    return answer


@pytest.mark.parametrize("name", NAMES)
def test_psql_gets_what_fkdoctor_gets(name: str, make_copy: Callable[[], str], psql: Path) -> None:
    # Some files write, so each gets a copy of its own; the copies differ by name alone.
    urls = [make_copy(), make_copy()]
    by_psql = _ask_psql(psql, urls[0], name)
    by_fkdoctor = _ask_fkdoctor(urls[1], name)
    databases = [parse_dsn(url)["dbname"] for url in urls]
    assert by_psql == [
        [value.replace(databases[1], databases[0]) for value in row] for row in by_fkdoctor
    ]
    returns_rows = not re.fullmatch(r"[A-Z]+( [A-Z]+| \d+)*", by_fkdoctor[0][0])
    assert (len(by_fkdoctor) > 1) == (returns_rows and name not in EMPTY)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_what_it_answers_and_can_be_tried(name: str) -> None:
    sql = load_query(name)
    first, second, *_ = sql.splitlines()
    assert first.startswith("-- ")
    assert re.search(r"[?.]$", first) or second.startswith("-- ")
    assert sql.endswith(";\n")
    assert "::" not in sql, "write cast(:x as t): psql and SQLAlchemy read ::t differently"
    # What SQLAlchemy takes for a value, in comments too.
    assert set(text(sql)._bindparams) == set(_values(sql))


def test_the_queries_are_found() -> None:
    assert {"catalog/foreign_keys", "ledger/run"} <= set(NAMES)
    assert all((SQL / f"{name}.sql").is_file() for name in NAMES)
    with pytest.raises(FileNotFoundError):
        load_query("catalog/no_such_query")


@pytest.mark.parametrize("catalog", ["catalog/foreign_keys", "catalog/tables"])
def test_a_client_in_another_encoding_gets_the_same(
    catalog: str, make_copy: Callable[[], str], psql: Path
) -> None:
    url = make_copy()
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute('create table "Shop"."été" (id int references "Shop".customers)')
    connection.close()
    expected = _ask_psql(psql, url, catalog)
    assert any("été" in value or "été_id_fkey" in value for row in expected for value in row)
    assert _ask_fkdoctor(make_dsn(url, client_encoding="LATIN1"), catalog) == expected
