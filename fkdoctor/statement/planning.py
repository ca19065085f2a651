"""How PostgreSQL looks for the rows that reference a row, to be explained by its planner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement
from sqlalchemy.sql import quoted_name

from fkdoctor.schema import ForeignKey, Schema, TableName
from fkdoctor.statement.parts import Query, make_table, match_key, plain_type


def look_up_references(
    schema: Schema, key: ForeignKey, table: TableName, collations: Sequence[str | None]
) -> Query:
    """The query by which the key finds referencing rows in its table or one of the partitions.

    As ri_triggers.c composes it, with values that the planner does not know when it plans, each
    compared in its collation.
    """
    here, there = schema.table(key.referencing), schema.table(key.referenced)
    rows = make_table(table, key.referencing_columns).alias("x")
    unknown: list[ColumnElement[Any]] = []
    pointers: list[ColumnElement[Any]] = []
    pairs = zip(key.referencing_columns, key.referenced_columns, collations, strict=True)
    for name, target, collation in pairs:
        wanted = there.column(target)
        unknown.append(sa.select(sa.cast(sa.null(), plain_type(wanted))).scalar_subquery())
        pointer: ColumnElement[Any] = rows.c[name]
        if collation is not None and collation != here.column(name).collation:
            pointer = pointer.collate(quoted_name(collation, quote=False))
        pointers.append(pointer)
    return (
        sa.select(sa.literal_column("1"))
        .select_from(rows)
        .with_hint(rows, "ONLY", "postgresql")
        .where(match_key(key, unknown, pointers))
    )
