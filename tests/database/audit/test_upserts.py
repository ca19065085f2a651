"""Do upserts do what the audit says, once rows are marked as deleted?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from fkdoctor.audit import Severity, audit_schema
from fkdoctor.audit.upserts import Upsert, read_upserts
from fkdoctor.embedded import start_server
from fkdoctor.errors import ServerUnavailable

TABLE = """
    create table users (
        id bigserial primary key, email text not null, name text, deleted_at timestamptz
    );
    insert into users (email, name, deleted_at) values ('a', 'old', now());
"""
FULL = "create unique index users_email on users (email);"
LIVE = "create unique index users_email on users (email) where deleted_at is null;"
INSERT = "insert into users (email, name) values ('a', 'new') on conflict"
RENAME = "do update set name = excluded.name"

# Which index the table has, and what the function does.
CASES: dict[str, tuple[str, str]] = {
    "changed_unseen": (FULL, f"{INSERT} (email) {RENAME}"),
    "not_inserted": (FULL, f"{INSERT} (email) do nothing"),
    "revived": (FULL, f"{INSERT} (email) {RENAME}, deleted_at = null"),
    "looked_at": (FULL, f"{INSERT} (email) {RENAME} where users.deleted_at is null"),
    "without_an_index": (LIVE, f"{INSERT} (email) {RENAME}"),
    "nothing_without_an_index": (LIVE, f"{INSERT} (email) do nothing"),
    "with_the_condition": (LIVE, f"{INSERT} (email) where deleted_at is null {RENAME}"),
    "early_condition": (FULL, f"{INSERT} (email) where deleted_at is null {RENAME}"),
    "both_indexes": (FULL + LIVE.replace("users_email", "live"), f"{INSERT} (email) do nothing"),
    "no_target": (LIVE, f"{INSERT} do nothing"),
    "by_constraint": (
        'alter table users add constraint "One e-mail" unique (email);',
        f'{INSERT} on constraint "One e-mail" {RENAME}',
    ),
    "two_columns": (
        "create unique index on users (name, email) where deleted_at is null;",
        f"{INSERT} (email, name) {RENAME}",
    ),
    "other_key": (
        LIVE,
        "insert into users (id, email) values (1, 'b') on conflict (id) do nothing",
    ),
    "in_a_cte": (
        LIVE,
        f"with one as ({INSERT} (email) {RENAME} returning id) delete from users where false",
    ),
    "commented_out": (
        LIVE,
        f"{INSERT} /* (email) do nothing; */ do nothing -- on conflict (email)\n",
    ),
    "expression": (
        "create unique index on users (lower(email)) where deleted_at is null;"
        "create unique index on users (lower(email));",
        f"{INSERT} (lower(email)) do nothing",
    ),
    "from_a_join": (
        LIVE + "create table conflict (email text);",
        "insert into users (email) select 'c' from users join conflict on conflict.email = 'x'"
        " on conflict (email) where deleted_at is null do nothing",
    ),
}


def call(lab: Any, name: str) -> str:
    """What comes of the function: it fails, the row stays unseen, or a live one is there."""
    try:
        lab.run(f"select {name}.sign_up()")
    except psycopg2.errors.InvalidColumnReference:
        return "fails"
    if not lab.run(f"select 1 from {name}.users where email = 'a' and name = 'new'"):
        live = lab.run(f"select 1 from {name}.users where email = 'a' and deleted_at is null")
        # DO UPDATE … WHERE says by the number of rows that it did nothing: that is asked for.
        return "live" if live else "nothing"
    live = lab.run(
        f"select 1 from {name}.users where email = 'a' and name = 'new' and deleted_at is null"
    )
    return "live" if live else "unseen"


SAID = {"fails": Severity.ERROR, "unseen": Severity.WARNING, "live": None}
# Where nothing is inserted, it depends on whether anybody said that this is meant.
NOTHING = {
    "not_inserted": Severity.WARNING,
    "both_indexes": Severity.WARNING,
    "looked_at": None,
    "other_key": None,
    "expression": None,
    "from_a_join": None,
}


BODIES = {
    "plpgsql": "language plpgsql as $$ begin {body}; end $$",
    "sql": "language sql as $$ {body} $$",
    "atomic": "begin atomic {body}; end",  # kept parsed, and printed for us
}


@pytest.mark.parametrize("language", BODIES)
def test_an_upsert_ends_as_the_audit_says(lab: Any, language: str) -> None:
    if language == "atomic" and lab.major < 14:
        pytest.skip("needs PostgreSQL 14")
    for name, (index, body) in CASES.items():
        function = f"create function sign_up() returns void {BODIES[language].format(body=body)}"
        lab.prepare({name: f"{TABLE} {index} {function};"})
        if language != "atomic":
            lab.run(f"alter function {name}.sign_up() set search_path = {name}")
    found = {
        finding.subject.partition(".")[0]: finding
        for finding in audit_schema(lab.schema())
        if finding.rule.id == "FK058"
    }
    outcomes = {name: call(lab, name) for name in CASES}
    assert {name: found[name].severity if name in found else None for name in outcomes} == {
        name: NOTHING[name] if outcome == "nothing" else SAID[outcome]
        for name, outcome in outcomes.items()
    }
    assert set(outcomes.values()) == {"fails", "unseen", "live", "nothing"}


def test_names_that_could_mean_another_table_are_left_alone(lab: Any) -> None:
    function = (
        "create function {name}() returns void language plpgsql{more} as $$ begin {body}; end $$;"
    )
    other = f"create schema other; create table other.users (like users); {LIVE}"
    upsert = f"{INSERT} (email) do nothing"
    lab.run(
        TABLE
        + other
        + function.format(name="bare", more="", body=upsert)
        + function.format(name="known", more=" set search_path = nowhere, public", body=upsert)
        + function.format(name="personal", more=' set search_path = "$user", public', body=upsert)
        + function.format(
            name="temporary",
            more=" set search_path = public",
            body=f"create temp table users (email text unique); {upsert}",
        )
        + function.format(
            name="qualified", more="", body=upsert.replace("into users", 'into "public".users')
        )
    )
    found = [one for one in audit_schema(lab.schema()) if one.rule.id == "FK058"]
    assert [one.subject for one in found] == [
        "public.known(): public.users email",
        "public.qualified(): public.users email",
    ]


@pytest.fixture
def remembering() -> Iterator[str]:
    """A server of its own that remembers which statements ran."""
    try:
        server = start_server(extra_settings={"shared_preload_libraries": "pg_stat_statements"})
    except ServerUnavailable as problem:
        pytest.skip(str(problem))
    with server:
        yield server.url()


def test_statements_that_ran_are_read(remembering: str, inspect_at: Any) -> None:
    with closing(psycopg2.connect(remembering)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("create schema tools; create extension pg_stat_statements schema tools")
        cursor.execute(TABLE + FULL)
        for number in range(3):
            cursor.execute(f"{INSERT} (email) {RENAME} -- {number}")
        cursor.execute(f"{INSERT} (email) {RENAME}, deleted_at = null")
        (found,) = [one for one in audit_schema(inspect_at(remembering)) if one.rule.id == "FK058"]
        assert found.subject.startswith("pg_stat_statements ")
        assert found.severity is Severity.WARNING
        cursor.execute("drop index users_email;" + LIVE)
        told = {
            one.severity for one in audit_schema(inspect_at(remembering)) if one.rule.id == "FK058"
        }
        assert told == {Severity.ERROR}


def test_an_extension_that_is_not_loaded_is_not_asked(lab: Any) -> None:
    if not lab.run("select 1 from pg_available_extensions where name = 'pg_stat_statements'"):
        pytest.skip("the server does not have it")
    lab.run("create extension pg_stat_statements")
    assert lab.schema().unread == ()


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ('insert into t values (1) on conflict (a, "B""c") do nothing', (("t",), ("a", 'B"c'))),
        ("INSERT INTO S.T AS x VALUES ((1)) ON CONFLICT (A) DO NOTHING", (("s", "t"), ("a",))),
        ('insert into t values (1) on conflict (a collate "C") do nothing', None),
        ("insert into t values (1) on conflict (a text_pattern_ops) do nothing", None),
        ("insert into t select 1 from conflict on conflict (a) = 1", None),
        ("insert into t values ('on conflict (a) do nothing')", None),
        ("insert into t values (1); select 1 from x on conflict (a) do nothing", None),
        ("insert into t values (1) on conflict (a", None),
        ("insert into t values (1) /* not closed", None),
        ("insert into", None),
    ],
)
def test_what_a_text_says_is_read(
    source: str, read: tuple[tuple[str, ...], tuple[str, ...]] | None
) -> None:
    found: list[Upsert] = list(read_upserts(source))
    assert [(one.table, one.columns) for one in found] == ([read] if read else [])
