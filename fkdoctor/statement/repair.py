"""Takes dangling rows out of the way, and keeps what they were in a table beside."""

from __future__ import annotations

import sqlalchemy as sa

from fkdoctor.schema import ForeignKey, Schema, TableName
from fkdoctor.statement.dangling import lock_dangling
from fkdoctor.statement.parts import Query, make_table, quoted


def move_dangling(
    schema: Schema, key: ForeignKey, kept: TableName, nulled: tuple[str, ...], limit: int
) -> Query:
    """Delete dangling rows, or set `nulled` to NULL in them, and keep what they were in `kept`.

    One row: how many there were, and how many of them still reference what they did, since a
    trigger kept them from it.
    """
    names = tuple(column.name for column in schema.table(key.referencing).columns)
    found = lock_dangling(schema, key, names, limit).cte("found")
    copied = (
        sa.insert(make_table(kept, names))
        .from_select([quoted(name) for name in names], sa.select(*(found.c[n] for n in names)))
        .cte("copied")
    )
    table = make_table(key.referencing, (*names, "ctid"))
    places = sa.func.array(sa.select(found.c.ctid).scalar_subquery())
    changed: sa.Update | sa.Delete = sa.delete(table)
    if nulled:
        changed = sa.update(table).values({table.c[name]: sa.null() for name in nulled})
    left = (
        changed.where(table.c.ctid == sa.any_(places))
        .with_hint("ONLY", dialect_name="postgresql")
        .returning(*(table.c[name] for name in (nulled or names[:1])))
        .cte("left")
    )
    freed = sa.func.count().filter(sa.and_(*(left.c[name].is_(None) for name in nulled), sa.true()))
    there = sa.select(sa.func.count()).select_from(found).scalar_subquery()
    return sa.select(there, there - freed).select_from(left).add_cte(copied)
