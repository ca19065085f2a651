"""How a soft delete is taken back: what stands against it, and what was set on the way.

Binds are `deletion`, `time` and, for the journal, `step`. A step's columns are those it recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause

from fkdoctor.schema import Column, ForeignKey, Index, Table
from fkdoctor.statement.parts import (
    NamedType,
    Query,
    alone,
    alone_change,
    collated,
    equal,
    image,
    make_table,
    match_key,
    read_text,
    text_array,
)
from fkdoctor.statement.softdelete import (
    DELETION,
    JOURNAL,
    SHOWN,
    STEP,
    GoneTable,
    Marks,
    is_deleted,
    is_live,
    row_of,
)

_ENTRY = JOURNAL.alias("entry")
_OF_STEP = sa.and_(_ENTRY.c.deletion_id == DELETION, _ENTRY.c.step == STEP)


def find_rivals(gone: GoneTable, index: Index, marks: Marks) -> Query:
    """The rows coming back whose values in a unique index a live row has: both keys, at most ten,
    and how many there are."""
    table = gone.table
    back, rival = row_of(table, "back"), row_of(table, "rival")
    pairs = [(back.c[name], rival.c[name]) for name in index.columns or ()]
    if index.nulls_not_distinct:
        alike = sa.and_(*(one.is_not_distinct_from(other) for one, other in pairs))
    else:
        alike = sa.and_(*(one == other for one, other in pairs))
    query = (
        sa.select(
            text_array([back.c[name] for name in gone.key_columns]).label("key"),
            text_array([rival.c[name] for name in gone.key_columns]).label("other"),
            sa.func.count().over().label("number"),
        )
        .select_from(
            gone.clause.join(
                back, equal([back.c[name] for name in gone.key_columns], gone.key)
            ).join(rival, alike)
        )
        .where(is_live(table, rival, marks))
        .order_by(*(back.c[name] for name in gone.key_columns))
        .limit(SHOWN)
    )
    return alone(alone(query, table, back), table, rival)


def find_deleted_referenced(
    gone: GoneTable, key: ForeignKey, referenced: Table, by: GoneTable | None, marks: Marks
) -> Query:
    """The rows coming back that reference one which stays deleted: both keys, and the deletion of
    the other; at most ten, and how many there are."""
    back, target = row_of(gone.table, "back"), row_of(referenced, "target")
    pointers = [back.c[name] for name in key.referencing_columns]
    here = equal([back.c[name] for name in gone.key_columns], gone.key)
    query = (
        _with_target(
            text_array([back.c[name] for name in gone.key_columns]), key, referenced, target, marks
        )
        .select_from(
            gone.clause.join(back, here).join(target, _points_at(key, referenced, target, pointers))
        )
        .where(is_deleted(target, marks), *_stays(by, target))
    )
    return alone(alone(query, gone.table, back), referenced, target)


def find_deleted_remembered(
    table: Table, key: ForeignKey, referenced: Table, by: GoneTable | None, marks: Marks
) -> Query:
    """The rows whose remembered reference is to one which stays deleted: as the query above."""
    row, target = row_of(table), row_of(referenced, "target")
    pointers = [
        _remembered("before", table.column(name)) if name in key.written_columns else row.c[name]
        for name in key.referencing_columns
    ]
    query = (
        _with_target(_ENTRY.c.key, key, referenced, target, marks)
        .select_from(
            _ENTRY.join(row, _is_row(table, row, table.row_identity)).join(
                target, _points_at(key, referenced, target, pointers)
            )
        )
        .where(_OF_STEP, is_deleted(target, marks), *_stays(by, target))
    )
    return alone(alone(query, table, row), referenced, target)


def _with_target(
    key: ColumnElement[Any],
    foreign_key: ForeignKey,
    referenced: Table,
    target: FromClause,
    marks: Marks,
) -> Query:
    identity = referenced.row_identity or foreign_key.referenced_columns
    deletion = target.c[marks.deletion] if referenced.has_column(marks.deletion) else sa.null()
    return (
        sa.select(
            key.label("key"),
            text_array([target.c[name] for name in identity]).label("other"),
            sa.cast(deletion, sa.Text).label("deletion"),
            sa.func.count().over().label("number"),
        )
        .order_by(sa.literal_column("1"))
        .limit(SHOWN)
    )


def _points_at(
    key: ForeignKey,
    referenced: Table,
    target: FromClause,
    pointers: Sequence[ColumnElement[Any]],
) -> ColumnElement[bool]:
    values = [collated(referenced.column(name), target.c[name]) for name in key.referenced_columns]
    return match_key(key, values, pointers)


def _stays(by: GoneTable | None, target: FromClause) -> tuple[ColumnElement[bool], ...]:
    return () if by is None else (~by.is_gone(target),)


def _is_row(table: Table, row: FromClause, key_columns: Sequence[str]) -> ColumnElement[bool]:
    """Whether the entry is of this row."""
    key = sa.type_coerce(_ENTRY.c.key, sa.ARRAY(sa.Text))
    values = [
        collated(table.column(name), sa.cast(key[i], NamedType(table.column(name).type)))
        for i, name in enumerate(key_columns, 1)
    ]
    return equal([row.c[name] for name in key_columns], values)


def _remembered(side: str, column: Column) -> ColumnElement[Any]:
    text = _ENTRY.c[side].op("->>", return_type=sa.Text())(sa.literal(column.name, sa.Text))
    return read_text(column, text)


def _image_of(table: Table, row: FromClause, columns: Sequence[str]) -> ColumnElement[Any]:
    return image([table.column(name) for name in columns], [row.c[name] for name in columns])


def find_changed_since(table: Table, key_columns: Sequence[str], columns: Sequence[str]) -> Query:
    """The rows of a step that are gone, or not as the deletion left them: keys, at most ten, and
    how many there are."""
    row = row_of(table)
    now = _image_of(table, row, columns)
    query = (
        sa.select(_ENTRY.c.key.label("key"), sa.func.count().over().label("number"))
        .select_from(_ENTRY.outerjoin(row, _is_row(table, row, key_columns)))
        .where(
            _OF_STEP,
            sa.or_(row.c[key_columns[0]].is_(None), now.is_distinct_from(_ENTRY.c.after)),
        )
        .order_by(_ENTRY.c.key)
        .limit(SHOWN)
    )
    return alone(query, table, row)


def lock_remembered(table: Table, key_columns: Sequence[str]) -> Query:
    """Locks the rows of a step in the order of their keys."""
    row = row_of(table)
    query = (
        sa.select(sa.literal(1))
        .select_from(_ENTRY.join(row, _is_row(table, row, key_columns)))
        .where(_OF_STEP)
        .order_by(*(row.c[name] for name in key_columns))
        .with_for_update(of=row)
    )
    return alone(query, table, row)


def put_back(table: Table, key_columns: Sequence[str], columns: Sequence[str]) -> Query:
    """Sets the columns of a step's rows to what they were, where they are as the deletion left
    them. One row: how many are now as they were."""
    row = make_table(table.name, [column.name for column in table.columns])
    change = (
        sa.update(row)
        .values({name: _remembered("before", table.column(name)) for name in columns})
        .where(
            _is_row(table, row, key_columns),
            _OF_STEP,
            _image_of(table, row, columns).is_not_distinct_from(_ENTRY.c.after),
        )
    )
    right = _image_of(table, row, columns).is_not_distinct_from(_ENTRY.c.before)
    back = alone_change(change, table).returning(right.label("is_right")).cte("back")
    return sa.select(sa.func.count().filter(back.c.is_right)).select_from(back)
