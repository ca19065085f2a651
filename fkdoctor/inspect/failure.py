"""Why could the catalog not be read, and is it worth another try?"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import (
    CHARACTER_NOT_IN_REPERTOIRE,
    INSUFFICIENT_PRIVILEGE,
    INTERNAL_ERROR,
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    read_snapshot,
    sqlstate,
)
from fkdoctor.errors import Blocked, ConfigError
from fkdoctor.inspect.assemble import SchemaChanged
from fkdoctor.resources import execute_query
from fkdoctor.schema import TableName

LOCK_TIMEOUT_MS = 500
"""How long one try waits for somebody's lock."""


def passes(error: Exception) -> bool:
    """Whether the next try may do better: somebody changes the schema, or holds a lock."""
    # PostgreSQL's deparsing looks at the present, not at the snapshot: it answers NULL or "cache
    # lookup failed" (an internal error) for what was dropped meanwhile.
    if isinstance(error, DBAPIError):
        return sqlstate(error) in (INTERNAL_ERROR, LOCK_NOT_AVAILABLE)
    return isinstance(error, SchemaChanged)


def explain_failure(connection: Connection, error: Exception) -> Exception:
    """The error to raise instead, for somebody who can do something about it.

    A lost connection is returned as it is.
    """
    if isinstance(error, SchemaChanged):
        return _changing("Something was dropped while its definition was read.")
    assert isinstance(error, DBAPIError)
    message = str(error.orig).splitlines()[0]
    match sqlstate(error):
        case "":
            return error
        case code if code == LOCK_NOT_AVAILABLE:
            return Blocked(
                "The catalog could not be read: somebody holds a lock that keeps readers out.",
                why=_describe_locks(connection),
                next="Run it again when that transaction has ended.",
            )
        case code if code == INTERNAL_ERROR:
            return _changing(f"PostgreSQL says: {message}.")
        case code if code == QUERY_CANCELED:
            return ConfigError(
                "The catalog could not be read in time.",
                why=f"PostgreSQL says: {message}.",
                next="Raise statement_timeout under [database] in fkdoctor.toml; 0s is no limit.",
            )
        case code if code == INSUFFICIENT_PRIVILEGE:
            return ConfigError(
                "The catalog could not be read.",
                why=f"PostgreSQL says: {message}.",
                next="Every role has SELECT on pg_catalog unless it was revoked: grant it again, "
                "or use another role.",
            )
        case code if code == CHARACTER_NOT_IN_REPERTOIRE:
            return ConfigError(
                "The catalog could not be read.",
                why=f"PostgreSQL says: {message}.",
                next="A database in SQL_ASCII holds a name in another encoding than UTF-8: "
                "rename it.",
            )
    return ConfigError(
        "The catalog could not be read.",
        why=f"PostgreSQL says: {message}.",
        next="fkdoctor needs PostgreSQL itself; what only speaks its protocol may lack a part.",
    )


def _changing(why: str) -> Blocked:
    return Blocked(
        "The schema changes faster than it can be read.",
        why=why,
        next="Run it again when the migration is over.",
    )


def _describe_locks(connection: Connection) -> str:
    try:
        with read_snapshot(connection, lock_timeout=LOCK_TIMEOUT_MS):
            rows = execute_query(connection, "catalog/lock_holders").all()
    except DBAPIError:
        return "It is on the catalog itself, so its holder cannot be looked up."
    if not rows:
        return "It was released a moment ago."
    tables = defaultdict(list)
    for row in rows:
        tables[_describe_holder(row)].append(str(TableName(row.schema, row.name)))
    return (
        "; ".join(
            f"{holder} has locked {', '.join(locked[:5])}{' and others' if locked[5:] else ''}"
            for holder, locked in tables.items()
        )
        + "."
    )


def _describe_holder(row: Row[Any]) -> str:
    if row.pid is None:
        return "A prepared transaction"
    details = [text for text in (row.application, row.state) if text]
    if row.seconds is not None:
        details.append(f"{row.seconds} s old")
    return f"Process {row.pid} ({', '.join(details)})"
