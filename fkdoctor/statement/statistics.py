"""Which statements ran, as pg_stat_statements remembers them."""

from __future__ import annotations

import sqlalchemy as sa

from fkdoctor.schema import TableName
from fkdoctor.statement.parts import Query, as_text, make_table


def find_upserting_statements(schema: str) -> Query:
    """Number and text of those with ON CONFLICT in this database; `schema` is the extension's."""
    view = make_table(TableName(schema, "pg_stat_statements"), ("queryid", "query", "dbid"))
    databases = make_table(TableName("pg_catalog", "pg_database"), ("oid", "datname"))
    here = (
        sa.select(databases.c.oid)
        .where(databases.c.datname == sa.func.pg_catalog.current_database())
        .scalar_subquery()
    )
    return (
        sa.select(as_text(view.c.queryid).label("number"), view.c.query.label("source"))
        .where(view.c.dbid == here, view.c.query.op("~*")(r"\mon\s+conflict\M"))
        .distinct()
        .order_by("number")
    )
