"""The journal: its tables, and how it is read back to undo what it tells of.

Every function here takes the table and, of the step that wrote the entries, the columns that
identify a row and those that the entry holds. Binds are run_id, step and clusters, an integer[].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ClauseElement, ColumnElement, Executable, TableClause, Update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import Column, ForeignKey, Table, TableKind, TableName, UniqueKey
from fkdoctor.statement.parts import (
    NamedType,
    Query,
    collated,
    equal,
    image,
    make_table,
    match_key,
    read_text,
)

JOURNAL = make_table(
    TableName("fkdoctor", "journal"), ("run_id", "cluster", "step", "key", "before", "after")
)
REDIRECT = make_table(
    TableName("fkdoctor", "redirect"), ("run_id", "cluster", "old_key", "new_key")
)
RUN = sa.bindparam("run_id", type_=sa.BigInteger)
STEP = sa.bindparam("step", type_=sa.SmallInteger)
_CLUSTERS = sa.bindparam("clusters", type_=sa.ARRAY(sa.Integer))
_ENTRY = JOURNAL.alias("entry")
_OF_BATCH = sa.and_(
    _ENTRY.c.run_id == RUN, _ENTRY.c.step == STEP, _ENTRY.c.cluster == sa.any_(_CLUSTERS)
)
_FOUND = (_ENTRY.c.cluster, _ENTRY.c.key)


def stored_columns(table: Table) -> tuple[Column, ...]:
    """The columns whose values are the row's own: all but the generated ones."""
    return tuple(column for column in table.columns if not column.generated)


def _written_key(table: Table, key_columns: Sequence[str]) -> list[ColumnElement[Any]]:
    """The values by which the entry's row is found, in the types of the table."""
    key = sa.type_coerce(_ENTRY.c.key, sa.ARRAY(sa.Text))
    return [
        collated(table.column(name), sa.cast(key[position], NamedType(table.column(name).type)))
        for position, name in enumerate(key_columns, 1)
    ]


def _written(side: str, column: Column) -> ColumnElement[Any]:
    """The value that the entry holds, `before` or `after`."""
    text = _ENTRY.c[side].op("->>", return_type=sa.Text())(sa.literal(column.name, sa.Text))
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
    return (
        sa.select(*_FOUND)
        .select_from(_ENTRY.outerjoin(rows, here))
        .where(
            _OF_BATCH,
            sa.or_(rows.c[key_columns[0]].is_(None), now.is_distinct_from(_ENTRY.c.after)),
        )
        .with_hint(rows, "ONLY", "postgresql")
        .order_by(*_FOUND)
    )


def find_taken_keys(table: Table, unique: UniqueKey) -> Query:
    """The deleted rows of a batch whose unique values another row has now: cluster and key."""
    rows = _rows_now(table)
    values = [_written("before", table.column(name)) for name in unique.columns]
    pairs = zip((rows.c[name] for name in unique.columns), values, strict=True)
    if unique.nulls_not_distinct:
        taken = sa.and_(*(now.is_not_distinct_from(value) for now, value in pairs))
    else:
        taken = sa.and_(*(now == value for now, value in pairs))
    return (
        sa.select(*_FOUND)
        .select_from(_ENTRY.join(rows, taken))
        .where(_OF_BATCH)
        .with_hint(rows, "ONLY", "postgresql")
        .order_by(*_FOUND)
    )


def find_missing_referenced(table: Table, key: ForeignKey, referenced: Table) -> Query:
    """The deleted rows of a batch of which the row they reference by the key is gone."""
    rows = make_table(key.referenced, key.referenced_columns).alias("row_now")
    pointers = [_written("before", table.column(name)) for name in key.referencing_columns]
    pointed_at = [
        collated(referenced.column(name), rows.c[name]) for name in key.referenced_columns
    ]
    there = sa.select(sa.literal(1)).select_from(rows).where(match_key(key, pointed_at, pointers))
    if referenced.kind is not TableKind.PARTITIONED:
        there = there.with_hint(rows, "ONLY", "postgresql")
    return (
        sa.select(*_FOUND)
        .select_from(_ENTRY)
        .where(_OF_BATCH, *(value.is_not(None) for value in pointers), ~there.exists())
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
    return (
        sa.select(*_FOUND)
        .select_from(_ENTRY.outerjoin(rows, here))
        .where(_OF_BATCH, now.is_distinct_from(_ENTRY.c.before))
        .with_hint(rows, "ONLY", "postgresql")
        .order_by(*_FOUND)
    )


def repoint_back(table: Table, key_columns: Sequence[str], columns: Sequence[str]) -> Update:
    """Points the references of a batch at their duplicates again, where they are as left."""
    rows = make_table(table.name, {*key_columns, *columns})
    now = image([table.column(name) for name in columns], [rows.c[name] for name in columns])
    return (
        sa.update(rows)
        .with_hint("ONLY", dialect_name="postgresql")
        .values({name: _written("before", table.column(name)) for name in columns})
        .where(
            equal([rows.c[name] for name in key_columns], _written_key(table, key_columns)),
            _OF_BATCH,
            now.is_not_distinct_from(_ENTRY.c.after),
        )
    )


def count_entries() -> Query:
    """How many rows the journal holds for a step of a batch."""
    return sa.select(sa.func.count()).select_from(_ENTRY).where(_OF_BATCH)
