"""Reads pg_catalog in a dozen queries, whatever the number of tables, into a frozen Schema.

A query answers for the whole database. Optional parts (triggers, rules, checks) that the role may
not read are named in `Schema.unread`, never passed over in silence.
"""

from __future__ import annotations

from collections import namedtuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import INSUFFICIENT_PRIVILEGE, read_snapshot, sqlstate
from fkdoctor.garbage import garbage_uncollected
from fkdoctor.inspect.assemble import Catalog, Rows, SchemaChanged, assemble_schema
from fkdoctor.inspect.failure import LOCK_TIMEOUT_MS, explain_failure, passes
from fkdoctor.resources import execute_query
from fkdoctor.schema import Schema, Unread
from fkdoctor.statement.statistics import find_upserting_statements

# First those that print definitions, which look at the present: the sooner after the snapshot, the
# less can have been dropped meanwhile.
_QUERIES = (
    "indexes",
    "columns",
    "foreign_keys",
    "constraints",
    "index_expressions",
    "tables",
    "inheritance",
    "operator_classes",
    "collations",
    "key_operators",
    "key_triggers",
    "triggers",
    "trigger_functions",
    "rules",
    "owner_rights",
    "subscriptions",
    "upserting_functions",
    "statement_statistics",
    "highest_values",
    "replica_settings",
    "server",
)
_OPTIONAL = frozenset(
    {
        "constraints",
        "highest_values",
        "key_triggers",
        "owner_rights",
        "replica_settings",
        "rules",
        "subscriptions",
        "trigger_functions",
        "triggers",
        "upserting_functions",
        "upserting_statements",
    }
)

_TRIES = 8


def inspect_database(
    connection: Connection, *, statement_timeout: int = 0, index_definitions: bool = False
) -> Schema:
    """Every table and foreign key outside the system schemas, at one moment.

    `index_definitions` asks for `Index.written` too, which takes as long as half of the rest.

    The connection must not be in a transaction. On a table that has an expression it takes an
    ACCESS SHARE lock for a moment, which no writer notices but a migration can hold up. Raises
    ConfigError when the role may not read the catalog or `statement_timeout` (milliseconds) is too
    short, and Blocked, with the name, when somebody holds a lock that keeps readers out.
    """
    for tries in range(1, _TRIES + 1):
        try:
            with garbage_uncollected():
                return _read_schema(connection, statement_timeout, index_definitions)
        except (DBAPIError, SchemaChanged) as error:
            if tries == _TRIES or not passes(error):
                raise explain_failure(connection, error) from error
    raise AssertionError("the last try returns or raises")


def _read_schema(connection: Connection, statement_timeout: int, index_definitions: bool) -> Schema:
    timeouts = {"statement_timeout": statement_timeout, "lock_timeout": LOCK_TIMEOUT_MS}
    with read_snapshot(connection, **timeouts):
        catalog = _read_catalog(connection, index_definitions)
    try:
        return assemble_schema(catalog)
    except SchemaChanged:
        # Mostly a whole table was dropped, as tests and jobs do all the time: go on without it.
        with read_snapshot(connection, **timeouts):
            present = {row.oid for row in _rows(connection, "tables")}
        return assemble_schema(catalog, present)


def _read_catalog(connection: Connection, index_definitions: bool) -> Catalog:
    rows: dict[str, Rows] = {"index_definitions": ()}
    unread = []
    definitions = ("index_definitions",) if index_definitions else ()
    for name in (*definitions, *_QUERIES, "upserting_statements"):
        savepoint = connection.begin_nested()
        try:
            rows[name] = (
                _upserting_statements(connection, rows["statement_statistics"])
                if name == "upserting_statements"
                else _rows(connection, name)
            )
        except DBAPIError as error:
            savepoint.rollback()
            rows[name] = ()
            if name == "upserting_statements" and sqlstate(error) == _NOT_LOADED:
                continue
            if name not in _OPTIONAL or sqlstate(error) != INSUFFICIENT_PRIVILEGE:
                raise
            reason = str(error.orig).splitlines()[0]
            unread.append(Unread(subject=name.replace("_", " "), reason=reason))
        else:
            savepoint.commit()
    return Catalog(rows=rows, unread=tuple(unread))


_NOT_LOADED = "55000"
"""pg_stat_statements is created, and not in shared_preload_libraries."""


def _upserting_statements(connection: Connection, where: Rows) -> Rows:
    if not where:
        return ()
    return connection.execute(find_upserting_statements(where[0].schema)).all()


def _rows(connection: Connection, name: str) -> Rows:
    found = execute_query(connection, f"catalog/{name}")
    # Half a million fields are looked at by name: a named tuple's cost a fifth of a Row's.
    record = namedtuple("Record", tuple(found.keys()))  # type: ignore[misc] # known only now
    return [record._make(row) for row in found.all()]
