"""The definition's reader against PostgreSQL's own texts, on keys drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import cursor as Cursor

from fkdoctor.identifier import quote, quote_all
from fkdoctor.revise.change import KeyChange
from fkdoctor.revise.definition import parse_definition
from fkdoctor.schema import ReferentialAction

ACTIONS = [action.sql for action in ReferentialAction]
NEW_RULES = list(ReferentialAction)
SET_COLUMNS_SINCE = 15
UNENFORCED_SINCE = 18

fragments = st.sampled_from(
    [
        "a",
        "B",
        " ",
        '"',
        "(",
        ")",
        ",",
        " ON DELETE CASCADE",
        " MATCH FULL",
        "REFERENCES",
        "é",
        "\n",
    ]
)
names = st.lists(fragments, min_size=1, max_size=3).map("".join)


@pytest.fixture(scope="module")
def server(server_url: str) -> Iterator[Cursor]:
    with closing(psycopg2.connect(server_url)) as connection:
        connection.set_client_encoding("UTF8")
        with connection.cursor() as cursor:
            cursor.execute("set search_path = ''")
            yield cursor
        connection.rollback()


@st.composite
def keys(draw: st.DrawFn, major: int) -> tuple[list[str], str, str]:
    """The columns, the referenced table's name, and what follows REFERENCES t(…)."""
    columns = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    table = draw(names)
    clauses = [draw(st.sampled_from(["", "MATCH SIMPLE", "MATCH FULL"]))]
    clauses.append("ON UPDATE " + draw(st.sampled_from(ACTIONS)))
    rule = draw(st.sampled_from(ACTIONS))
    # With MATCH FULL PostgreSQL would reject only the DELETE, not the key.
    if rule.startswith("SET") and major >= SET_COLUMNS_SINCE and draw(st.booleans()):
        some = draw(st.lists(st.sampled_from(columns), min_size=1, unique=True))
        rule += f" ({quote_all(tuple(some))})"
    clauses.append("ON DELETE " + rule)
    timings = ["", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"]
    clauses.append(draw(st.sampled_from(timings)))
    endings = ["", "NOT VALID", *(["NOT ENFORCED"] if major >= UNENFORCED_SINCE else [])]
    clauses.append(draw(st.sampled_from(endings)))
    return columns, table, " ".join(clauses)


def _create_key(server: Cursor, columns: list[str], table: str, clauses: str) -> str:
    """The definition PostgreSQL prints for such a key, on two new tables."""
    names = quote_all(tuple(columns))
    declared = ", ".join(f"{quote(column)} int" for column in columns)
    server.execute('drop schema if exists "s (1)" cascade; create schema "s (1)"')
    server.execute(f'create table "s (1)".{quote(table)} ({declared}, unique ({names}))')
    server.execute(f'create table "s (1)"."from" ({declared})')
    return _add_key(
        server, f'FOREIGN KEY ({names}) REFERENCES "s (1)".{quote(table)} ({names}) {clauses}'
    )


def _add_key(server: Cursor, definition: str) -> str:
    server.execute('alter table "s (1)"."from" drop constraint if exists k')
    server.execute(f'alter table "s (1)"."from" add constraint k {definition}')
    server.execute("select pg_get_constraintdef(oid) from pg_constraint where conname = 'k'")
    found = server.fetchone()
    assert found is not None
    return str(found[0])


@settings(max_examples=150)
@given(data=st.data())
def test_postgresql_reads_back_what_we_write(
    server: Cursor, major: int, data: st.DataObject
) -> None:
    columns, table, clauses = data.draw(keys(major))
    action = data.draw(st.sampled_from(NEW_RULES))
    printed = _create_key(server, columns, table, clauses)
    definition = parse_definition(printed)
    assert str(definition) == printed
    assert definition.referenced == f'"s (1)".{quote(table)}'
    changed = str(KeyChange(on_delete=action).apply(definition))
    assert _add_key(server, changed) == changed
    unvalidated = str(definition.unvalidated())
    assert _add_key(server, unvalidated) == unvalidated
