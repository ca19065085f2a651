"""Asks the database what it makes of values and rows, by its own rules; nothing can be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg2.errorcodes
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import sqlstate
from fkdoctor.identifier import quote
from fkdoctor.impact.limits import is_constant, is_domain
from fkdoctor.impact.world import Unsupported
from fkdoctor.schema import Column, Schema, TableName
from fkdoctor.statement.lookup import select_constant, select_value
from fkdoctor.statement.parts import NamedType, Query, plain_type


def evaluate(
    connection: Connection, query: Query, binds: Mapping[str, object], name: str
) -> Sequence[Any]:
    """The rows of a query that computes with expressions of the user's.

    Raises Unsupported, under the name, where that is an error: PostgreSQL might meet it too.
    """
    try:
        with connection.begin_nested():
            connection.execute(sa.text("set transaction read only"))
            return connection.execute(query, binds).all()
    except DBAPIError as error:
        message = str(error.orig).splitlines()[0]
        raise Unsupported(quote(name), f"it cannot be tried: {message}") from error


def read_default(
    connection: Connection, schema: Schema, table: TableName, column: str
) -> str | None:
    """What SET DEFAULT writes, as text; Unsupported where it is computed each time."""
    described = schema.table(table).column(column)
    default = described.default
    if described.identity or (default is not None and not is_constant(default)):
        raise Unsupported(f"{table}.{quote(column)}", "its default is computed when it is written")
    if default is None:
        return None
    # What a domain refuses, it refuses only when a row gets the value.
    type_ = plain_type(described) if is_domain(described) else NamedType(described.type)
    text: str | None = connection.execute(select_constant(type_, default)).scalar()
    return text


def refused_by_domain(connection: Connection, column: Column, value: str | None) -> str | None:
    """The name of the domain's constraint that refuses the value; None if none does.

    That a domain is NOT NULL, the column says itself.
    """
    if not is_domain(column):
        return None
    savepoint = connection.begin_nested()
    try:
        connection.execute(select_value(column), {"value": value})
    except DBAPIError as error:
        savepoint.rollback()
        if sqlstate(error) != psycopg2.errorcodes.CHECK_VIOLATION:
            return None
        diagnostics: Any = getattr(error.orig, "diag", None)
        return str(diagnostics.constraint_name)
    savepoint.commit()
    return None
