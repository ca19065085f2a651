"""How rows that were soft-deleted long ago are deleted for good. The bind `before` is the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Delete, Exists, FromClause, Insert
from sqlalchemy.dialects import postgresql

from fkdoctor.schema import ForeignKey, Schema, Table
from fkdoctor.statement.parts import (
    NamedType,
    Query,
    alone,
    alone_change,
    collated,
    equal,
    make_table,
    references,
)
from fkdoctor.statement.softdelete import GoneTable, Marks, row_of

BEFORE = sa.bindparam("before", type_=sa.DateTime(timezone=True))


def fill_old(gone: GoneTable, marks: Marks, *, lock: bool) -> Insert:
    """Puts in every row that was soft-deleted before the time."""
    row = row_of(gone.table)
    found = sa.select(*(row.c[name] for name in gone.carried)).where(row.c[marks.time] < BEFORE)
    found = alone(found.select_from(row), gone.table, row)
    if lock:
        key = [row.c[name] for name in gone.key_columns]
        found = found.order_by(*key).with_for_update(of=row)
    return _put_in(gone, found)


def fill_leaves(
    gone: GoneTable,
    schema: Schema,
    keys: Sequence[ForeignKey],
    marks: Marks,
    *,
    after: bool,
) -> Insert:
    """Puts in the next rows, at most `limit`, that were soft-deleted before the time and that no
    row references; locks them in the order of their keys.

    With `after` only rows behind the key in the binds `after_0` and so on, as text.
    """
    table = gone.table
    row = row_of(table)
    key = [row.c[name] for name in gone.key_columns]
    found = (
        sa.select(*(row.c[name] for name in gone.carried))
        .select_from(row)
        .where(
            row.c[marks.time] < BEFORE,
            *(
                ~_referencing(
                    schema.table(each.referencing),
                    each,
                    [row.c[name] for name in each.referenced_columns],
                )
                for each in keys
            ),
        )
        .order_by(*key)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(of=row)
    )
    if after:
        last = [
            collated(
                table.column(name),
                sa.cast(
                    sa.bindparam(f"after_{i}", type_=sa.Text), NamedType(table.column(name).type)
                ),
            )
            for i, name in enumerate(gone.key_columns)
        ]
        found = found.where(sa.tuple_(*key) > sa.tuple_(*last))
    return _put_in(gone, alone(found, table, row))


def _put_in(gone: GoneTable, found: Query) -> Insert:
    rows = found.subquery("found")
    values = [rows.c[name] for name in gone.carried]
    return postgresql.insert(gone.clause).from_select(
        ["level", *gone.value_names], sa.select(sa.literal(0), *values)
    )


def _referencing(
    table: Table,
    key: ForeignKey,
    values: Sequence[ColumnElement[Any]],
    by: GoneTable | None = None,
) -> Exists:
    """Whether a row, live or not, references the values by the key and is not in `by`."""
    row = row_of(table, "referencing")
    found = sa.select(sa.literal(1)).select_from(row).where(references(key, values, row))
    if by is not None:
        found = found.where(~by.is_gone(row))
    return alone(found, table, row).exists()


def last_key(gone: GoneTable) -> Query:
    """The largest key among the gone rows, as texts."""
    key = gone.key
    return (
        sa.select(*(sa.cast(value, sa.Text) for value in key))
        .select_from(gone.clause)
        .order_by(*(value.desc() for value in key))
        .limit(1)
    )


def leave_referenced(
    gone: GoneTable, key: ForeignKey, referencing: Table, by: GoneTable | None
) -> Delete:
    """Takes the rows out that a row references which does not go too."""
    values = gone.values(key.referenced_columns)
    return gone.clause.delete().where(_referencing(referencing, key, values, by))


def delete_gone(tables: Sequence[GoneTable], marks: Marks) -> Query:
    """Deletes the gone rows of all these tables in one statement.

    A row for each table, by its place, and deletion: place, deletion or NULL, rows.
    """
    parts = []
    for place, gone in enumerate(tables):
        table = gone.table
        row = make_table(table.name, [column.name for column in table.columns])
        delete = row.delete().where(equal([row.c[name] for name in gone.key_columns], gone.key))
        delete = alone_change(delete, table)
        deletion = sa.cast(row.c[marks.deletion], sa.Text).label("deletion")
        went = delete.returning(deletion).cte(f"went_{place}")
        parts.append(sa.select(sa.literal(place).label("place"), went.c.deletion).select_from(went))
    found: FromClause = sa.union_all(*parts).subquery("found")
    return (
        sa.select(found.c.place, found.c.deletion, sa.func.count().label("number"))
        .group_by(found.c.place, found.c.deletion)
        .order_by(found.c.place, found.c.deletion)
    )
