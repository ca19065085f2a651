"""What every preview shares: how far it goes, its snapshot, and what the names in it mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2.errorcodes as codes
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import said, set_local, sqlstate
from fkdoctor.errors import Refused
from fkdoctor.impact.effect import Caveat
from fkdoctor.resources import execute_query
from fkdoctor.schema import Schema, Table, TableName
from fkdoctor.statement.script import Statement, Target


@dataclass(frozen=True, kw_only=True)
class Scope:
    """How far a preview goes.

    A large table that would be read from end to end for want of an index is estimated unless
    `exact`. Beyond `row_limit` deleted rows it stops. Where the order within a phase decides, or no
    temporary table can be made, up to `model_limit` rows are thought through one by one. `shown`
    rows are named where there are more, with their `contents` if wanted; `why` is a table and the
    key of a row whose path is wanted. `statement_timeout` is in milliseconds, 0 is none.
    """

    exact: bool = False
    row_limit: int | None = None
    model_limit: int = 20_000
    shown: int = 5
    contents: bool = False
    why: tuple[TableName, tuple[str, ...]] | None = None
    statement_timeout: int = 0


USUAL = Scope()
"""No limit, estimates where an index is missing."""


def find_target(connection: Connection, schema: Schema, target: Target) -> TableName:
    """The table that a statement names: by its schema, or the first on the search_path."""
    if len(target.parts) == 2:
        return schema.resolve_table(str(target))
    query = sa.text("select pg_catalog.unnest(pg_catalog.current_schemas(false))")
    path = tuple(connection.execute(query).scalars())
    for name in path:
        if schema.has_table(TableName(name, target.parts[0])):
            return TableName(name, target.parts[0])
    return schema.resolve_table(str(target), path or ("pg_catalog",))


def find_doubts(connection: Connection, statement: Statement) -> Iterator[Caveat]:
    """What in the statement's expressions may be different the next time."""
    names = list(statement.functions)
    for (name,) in execute_query(connection, "impact/volatile_functions", names=names):
        yield Caveat(
            subject="the condition", reason=f"{name}() may say something else the next time"
        )


@contextmanager
def snapshot(connection: Connection, table: TableName, statement_timeout: int) -> Iterator[None]:
    """All that is read is of one moment; all that is made is gone afterwards."""
    nested = connection.in_transaction()
    transaction = connection.begin_nested() if nested else connection.begin()
    try:
        if not nested:
            connection.execute(sa.text("set transaction isolation level repeatable read"))
        # Where row security would hide rows, PostgreSQL then says so.
        set_local(connection, row_security="off", statement_timeout=statement_timeout)
        yield
    except DBAPIError as error:
        raise _explain(error, table) from error
    finally:
        transaction.rollback()


READING = {
    "search_path": "",
    "bytea_output": "hex",
    "datestyle": "ISO, MDY",
    "extra_float_digits": "1",
    "intervalstyle": "postgres",
    "timezone": "UTC",
}
"""Settings for values that are compared as text, and for expressions from the catalog."""


def _explain(error: DBAPIError, table: TableName) -> Exception:
    why = f"PostgreSQL says: {said(error)}"
    match sqlstate(error):
        case codes.INSUFFICIENT_PRIVILEGE:
            return Refused(
                f"This role cannot look into {table} and what hangs on it; nothing was changed.",
                why=why,
                next="Use a role that may read every table involved, and that has BYPASSRLS.",
            )
        case codes.QUERY_CANCELED:
            return Refused(
                "The preview took too long; nothing was changed.",
                why=why,
                next="Allow it more time (statement_timeout), or ask about fewer rows.",
            )
    return error


def with_heirs(schema: Schema, table: Table) -> Iterator[Table]:
    """The table and all that inherit from it."""
    found = [table]
    for one in found:
        found += [heir for heir in schema.tables if one.name in heir.inherits and heir not in found]
    yield from found
