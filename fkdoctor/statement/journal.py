"""The journal: its tables, and how it is read back to undo what it tells of.

Every function here takes the table and, of the step that wrote the entries, the columns that
identify a row and those that the entry holds. Binds are run, at_step and clusters, an integer[].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ClauseElement, ColumnElement, Executable, FromClause, TableClause
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import Column, ForeignKey, Table, TableName, UniqueKey
from fkdoctor.statement.parts import (
    GivenArray,
    NamedType,
    Query,
    alone,
    alone_change,
    collated,
    equal,
    image,
    make_table,
    match_key,
    plain_type,
    read_text,
    same_text,
    text_array,
)

JOURNAL = make_table(
    TableName("fkdoctor", "journal"),
    ("run_id", "cluster", "step", "key", "before", "after", "moving"),
)
REDIRECT = make_table(
    TableName("fkdoctor", "redirect"), ("run_id", "cluster", "old_key", "new_key", "step")
)
RUN = sa.bindparam("run", type_=sa.BigInteger)
STEP = sa.bindparam("at_step", type_=sa.SmallInteger)
_CLUSTERS = sa.bindparam("clusters", type_=GivenArray("int4"))
_ENTRY = JOURNAL.alias("entry")
_OF_BATCH = sa.and_(
    _ENTRY.c.run_id == RUN, _ENTRY.c.step == STEP, _ENTRY.c.cluster == sa.any_(_CLUSTERS)
)
_RETURNING = sa.bindparam("returning", type_=GivenArray("int4"))
_RESTORED = sa.bindparam("restored", type_=GivenArray("int4"))
_FOUND = (_ENTRY.c.cluster, _ENTRY.c.key)


def stored_columns(table: Table) -> tuple[Column, ...]:
    """The columns whose values are the row's own: all but the generated ones."""
    return tuple(column for column in table.columns if not column.generated)


def moves_identity(table: Table, columns: Sequence[str]) -> bool:
    """Whether a change to the columns changes what identifies a row."""
    return bool(set(table.row_identity) & set(columns))


def rename_entries(old: ColumnElement[Any], new: ColumnElement[Any]) -> sa.CTE:
    """Lets what was written before about rows find them when their identity changes.

    Only steps that move the identity of the same table need that: the bind `siblings`, an
    integer[].
    """
    siblings = sa.bindparam("siblings", type_=sa.ARRAY(sa.Integer))
    return (
        sa.update(JOURNAL)
        .values(key=new)
        .where(
            JOURNAL.c.run_id == RUN,
            JOURNAL.c.step == sa.any_(siblings),
            JOURNAL.c.moving,
            JOURNAL.c.key == same_text(old),
            same_text(old) != same_text(new),
        )
        .returning(sa.literal(1).label("renamed"))
        .cte("renamed")
    )


def _written_key(table: Table, key_columns: Sequence[str]) -> list[ColumnElement[Any]]:
    """The values by which the entry's row is found, in the types of the table."""
    key = sa.type_coerce(_ENTRY.c.key, sa.ARRAY(sa.Text))
    return [
        collated(table.column(name), sa.cast(key[position], NamedType(table.column(name).type)))
        for position, name in enumerate(key_columns, 1)
    ]


def _written(side: str, column: Column, entry: FromClause = _ENTRY) -> ColumnElement[Any]:
    """The value that the entry holds, `before` or `after`."""
    text = entry.c[side].op("->>", return_type=sa.Text())(sa.literal(column.name, sa.Text))
    return read_text(column, text)


def _rows_now(table: Table) -> NamedFromClause:
    return make_table(table.name, [column.name for column in table.columns]).alias("row_now")


def find_changed_references(
    table: Table, key_columns: Sequence[str], columns: Sequence[str]
) -> Query:
    """The repointed rows of a batch that are gone or point elsewhere now: cluster and key."""
    rows = _rows_now(table)
    now = image([table.column(name) for name in columns], [rows.c[name] for name in columns])
    here = equal([rows.c[name] for name in key_columns], _written_key(table, key_columns))
    return alone(
        sa.select(*_FOUND)
        .select_from(_ENTRY.outerjoin(rows, here))
        .where(
            _OF_BATCH,
            sa.or_(rows.c[key_columns[0]].is_(None), now.is_distinct_from(_ENTRY.c.after)),
        ),
        table,
        rows,
    ).order_by(*_FOUND)


def find_taken_keys(table: Table, unique: UniqueKey) -> Query:
    """The deleted rows of a batch whose unique values another row has now: cluster and key.

    Rows that the undo moves away first are no others: the steps that do are in the bind
    `returning`, an integer[].
    """
    rows = _rows_now(table)
    moved = JOURNAL.alias("moved")
    returns = (
        sa.select(sa.literal(1))
        .select_from(moved)
        .where(
            moved.c.run_id == RUN,
            moved.c.cluster == _ENTRY.c.cluster,
            moved.c.step == sa.any_(_RETURNING),
            moved.c.key == same_text(text_array([rows.c[name] for name in table.row_identity])),
        )
        .correlate(_ENTRY, rows)
        .exists()
    )
    values = [_written("before", table.column(name)) for name in unique.columns]
    pairs = zip((rows.c[name] for name in unique.columns), values, strict=True)
    if unique.nulls_not_distinct:
        taken = sa.and_(*(now.is_not_distinct_from(value) for now, value in pairs))
    else:
        taken = sa.and_(*(now == value for now, value in pairs))
    return alone(
        sa.select(*_FOUND).select_from(_ENTRY.join(rows, taken)).where(_OF_BATCH, ~returns),
        table,
        rows,
    ).order_by(*_FOUND)


def find_missing_referenced(table: Table, key: ForeignKey, referenced: Table) -> Query:
    """The deleted rows of a batch of which the row they reference by the key is gone.

    Rows that the undo restores too are not: the steps that deleted them are in the bind `restored`,
    an integer[].
    """
    rows = make_table(key.referenced, key.referenced_columns).alias("row_now")
    pointers = [_written("before", table.column(name)) for name in key.referencing_columns]
    pointed_at = [
        collated(referenced.column(name), rows.c[name]) for name in key.referenced_columns
    ]
    there = sa.select(sa.literal(1)).select_from(rows).where(match_key(key, pointed_at, pointers))
    other = JOURNAL.alias("other")
    again = [_written("before", referenced.column(name), other) for name in key.referenced_columns]
    returns = (
        sa.select(sa.literal(1))
        .select_from(other)
        .where(
            other.c.run_id == RUN,
            other.c.cluster == _ENTRY.c.cluster,
            other.c.step == sa.any_(_RESTORED),
            match_key(key, again, pointers),
        )
    )
    there = alone(there, referenced, rows)
    return (
        sa.select(*_FOUND)
        .select_from(_ENTRY)
        .where(
            _OF_BATCH,
            *(value.is_not(None) for value in pointers),
            ~there.exists(),
            ~returns.exists(),
        )
        .order_by(*_FOUND)
    )


class InsertOverriding(Executable, ClauseElement):
    """INSERT … OVERRIDING SYSTEM VALUE SELECT …, for which Core has no form.

    Identity columns take the given values too (PostgreSQL: INSERT, "overriding_clause").
    """

    inherit_cache = False

    def __init__(self, table: TableClause, columns: Sequence[str], source: Query) -> None:
        self.table = table
        self.columns = columns
        self.source = source


@compiles(InsertOverriding)
def _compile_insert_overriding(
    element: InsertOverriding, compiler: SQLCompiler, **kw: object
) -> str:
    columns = ", ".join(compiler.preparer.quote(element.table.c[c].name) for c in element.columns)
    target = compiler.process(element.table, asfrom=True)
    source = compiler.process(element.source, **kw)
    return f"INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE {source}"


def restore_duplicates(table: Table, columns: Sequence[str]) -> InsertOverriding:
    """Puts the deleted rows of a batch back, every column as it was."""
    source = (
        sa.select(*(_written("before", table.column(name)) for name in columns))
        .where(_OF_BATCH)
        .order_by(*_FOUND)
    )
    return InsertOverriding(make_table(table.name, columns), columns, source)


def find_altered_restorations(
    table: Table, key_columns: Sequence[str], columns: Sequence[str]
) -> Query:
    """The rows of a batch that were put back but are not as they were: cluster and key."""
    rows = _rows_now(table)
    now = image([table.column(name) for name in columns], [rows.c[name] for name in columns])
    here = equal([rows.c[name] for name in key_columns], _written_key(table, key_columns))
    return alone(
        sa.select(*_FOUND)
        .select_from(_ENTRY.outerjoin(rows, here))
        .where(_OF_BATCH, now.is_distinct_from(_ENTRY.c.before)),
        table,
        rows,
    ).order_by(*_FOUND)


def repoint_back(table: Table, key_columns: Sequence[str], columns: Sequence[str]) -> Query:
    """Points the references of a batch at their duplicates again, where they are as left.

    One row: how many.
    """
    rows = make_table(table.name, {*key_columns, *columns})
    now = image([table.column(name) for name in columns], [rows.c[name] for name in columns])
    back = (
        alone_change(sa.update(rows), table)
        .values({name: _written("before", table.column(name)) for name in columns})
        .where(
            equal([rows.c[name] for name in key_columns], _written_key(table, key_columns)),
            _OF_BATCH,
            now.is_not_distinct_from(_ENTRY.c.after),
        )
        .returning(
            _ENTRY.c.key.label("old_key"),
            text_array([rows.c[name] for name in key_columns]).label("new_key"),
        )
        .cte("back")
    )
    counted = sa.select(sa.func.count()).select_from(back)
    if moves_identity(table, columns):
        counted = counted.add_cte(rename_entries(back.c.old_key, back.c.new_key))
    return counted


def write_key(table: Table, key: Sequence[str]) -> Query:
    """What identifies a row of the table as the journal and the redirects write it: one text[]."""
    values = [
        sa.cast(sa.literal(text, sa.Text), plain_type(table.column(name)))
        for name, text in zip(table.row_identity, key, strict=True)
    ]
    return sa.select(text_array(values))


def count_entries() -> Query:
    """How many rows the journal holds for a step of a batch."""
    return sa.select(sa.func.count()).select_from(_ENTRY).where(_OF_BATCH)
