"""How a dedupe is written down as it happens, and how it is read back to undo it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ClauseElement, ColumnElement, Executable, Insert, TableClause, Update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import ForeignKey, Table, TableName
from fkdoctor.statement.members import MemberTable, row_identity
from fkdoctor.statement.parts import (
    NamedType,
    Query,
    equal,
    image,
    make_table,
    references,
    text_array,
)

_JOURNAL = make_table(
    TableName("fkdoctor", "journal"), ("run_id", "cluster", "step", "key", "before", "after")
)
# Binds: run_id and step; those that read the journal back also take clusters, integer[].
_REDIRECT = make_table(
    TableName("fkdoctor", "redirect"), ("run_id", "cluster", "old_key", "new_key")
)
_RUN = sa.bindparam("run_id", type_=sa.BigInteger)
_STEP = sa.bindparam("step", type_=sa.SmallInteger)
_CLUSTERS = sa.bindparam("clusters", type_=sa.ARRAY(sa.Integer))


def stored_columns(table: Table) -> tuple[str, ...]:
    """The columns whose values are the row's own: all but the generated ones."""
    return tuple(column.name for column in table.columns if not column.generated)


def repoint_and_record(members: MemberTable, key: ForeignKey, referencing: Table) -> Query:
    """Repoints every reference to a duplicate to its survivor and writes each into the journal.

    One row: how many references moved, and how many of them a trigger turned elsewhere. The old
    values come from the rows themselves: what the key calls equal need not be the same text.
    """
    identity = row_identity(referencing)
    columns = key.referencing_columns
    old = make_table(referencing.name, (*identity, *columns)).alias("old")
    keep = members.values("keep", key.referenced_columns)
    pointing = (
        sa.select(
            members.clause.c.cluster,
            *(old.c[name].label(f"key_{i}") for i, name in enumerate(identity)),
            *(old.c[name].label(f"old_{i}") for i, name in enumerate(columns)),
            *(value.label(f"keep_{i}") for i, value in enumerate(keep)),
        )
        .select_from(
            members.clause.join(
                old, references(key, members.values("member", key.referenced_columns), old)
            )
        )
        .where(~members.clause.c.is_survivor)
        .with_hint(old, "ONLY", "postgresql")
        .with_for_update(of=old)
        .subquery("pointing")
    )
    new = make_table(referencing.name, (*identity, *columns))
    kept = [pointing.c[f"keep_{i}"] for i in range(len(columns))]
    moved = (
        sa.update(new)
        .with_hint("ONLY", dialect_name="postgresql")
        .values(dict(zip(columns, kept, strict=True)))
        .where(
            equal(
                [new.c[name] for name in identity],
                [pointing.c[f"key_{i}"] for i in range(len(identity))],
            )
        )
        .returning(
            pointing.c.cluster,
            text_array([new.c[name] for name in identity]).label("key"),
            image(columns, [pointing.c[f"old_{i}"] for i in range(len(columns))]).label("before"),
            image(columns, [new.c[name] for name in columns]).label("after"),
            sa.not_(references(key, kept, new)).label("diverged"),
        )
        .cte("moved")
    )
    written = (
        _JOURNAL.insert()
        .from_select(
            list(_JOURNAL.c),
            sa.select(_RUN, moved.c.cluster, _STEP, moved.c.key, moved.c.before, moved.c.after),
        )
        .cte("written")
    )
    diverged = sa.func.count().filter(sa.func.coalesce(moved.c.diverged, True))
    return sa.select(sa.func.count(), diverged).select_from(moved).add_cte(written)


def record_duplicates(members: MemberTable) -> Insert:
    """Writes the rows that are about to be deleted into the journal, as they are."""
    columns = stored_columns(members.table)
    return _JOURNAL.insert().from_select(
        list(_JOURNAL.c),
        sa.select(
            _RUN,
            members.clause.c.cluster,
            _STEP,
            text_array(members.row_key),
            image(columns, [members.row.c[name] for name in columns]),
            sa.null(),
        )
        .select_from(members.clause.join(members.row, equal(members.row_key, members.member_key)))
        .where(~members.clause.c.is_survivor)
        .with_hint(members.row, "ONLY", "postgresql"),
    )


def record_redirects(members: MemberTable) -> Insert:
    """Writes down where each duplicate's key leads now."""
    return _REDIRECT.insert().from_select(
        list(_REDIRECT.c),
        sa.select(
            _RUN,
            members.clause.c.cluster,
            text_array(members.member_key),
            text_array(members.keep_key),
        ).where(~members.clause.c.is_survivor),
    )


def _entries(
    table: Table, key_columns: Sequence[str]
) -> tuple[NamedFromClause, list[sa.Cast[str]]]:
    """The journal under an alias, and its key values in the types of the table."""
    entry = _JOURNAL.alias("entry")
    key = [
        sa.cast(
            sa.type_coerce(entry.c.key, sa.ARRAY(sa.Text))[position],
            NamedType(table.column(name).type),
        )
        for position, name in enumerate(key_columns, 1)
    ]
    return entry, key


def _of_batch(entry: NamedFromClause) -> ColumnElement[bool]:
    return sa.and_(
        entry.c.run_id == _RUN,
        entry.c.step == _STEP,
        entry.c.cluster == sa.any_(_CLUSTERS),
    )


def _value(entry: NamedFromClause, side: str, table: Table, column: str) -> ColumnElement[Any]:
    written = entry.c[side].op("->>", return_type=sa.Text())(sa.literal(column, sa.Text))
    return sa.cast(written, NamedType(table.column(column).type))


def find_changed_references(
    table: Table, key_columns: Sequence[str], columns: Sequence[str]
) -> Query:
    """The repointed rows of a batch that are gone or point elsewhere now: cluster and key."""
    entry, key = _entries(table, key_columns)
    rows = make_table(table.name, {*key_columns, *columns}).alias("row_now")
    now = image(columns, [rows.c[name] for name in columns])
    return (
        sa.select(entry.c.cluster, entry.c.key)
        .select_from(entry.outerjoin(rows, equal([rows.c[name] for name in key_columns], key)))
        .where(
            _of_batch(entry),
            sa.or_(rows.c[key_columns[0]].is_(None), now.is_distinct_from(entry.c.after)),
        )
        .with_hint(rows, "ONLY", "postgresql")
        .order_by(entry.c.cluster, entry.c.key)
    )


def find_taken_keys(table: Table, key_columns: Sequence[str]) -> Query:
    """The deleted rows of a batch whose primary key another row has now: cluster and key."""
    entry, key = _entries(table, key_columns)
    rows = make_table(table.name, key_columns).alias("row_now")
    return (
        sa.select(entry.c.cluster, entry.c.key)
        .select_from(entry.join(rows, equal([rows.c[name] for name in key_columns], key)))
        .where(_of_batch(entry))
        .with_hint(rows, "ONLY", "postgresql")
        .order_by(entry.c.cluster, entry.c.key)
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


def restore_duplicates(
    table: Table, key_columns: Sequence[str], columns: Sequence[str]
) -> InsertOverriding:
    """Puts the deleted rows of a batch back, every column as it was."""
    entry, _ = _entries(table, key_columns)
    source = (
        sa.select(*(_value(entry, "before", table, name) for name in columns))
        .where(_of_batch(entry))
        .order_by(entry.c.cluster, entry.c.key)
    )
    return InsertOverriding(make_table(table.name, columns), columns, source)


def find_altered_restorations(
    table: Table, key_columns: Sequence[str], columns: Sequence[str]
) -> Query:
    """The rows of a batch that were put back but are not as they were: cluster and key."""
    entry, key = _entries(table, key_columns)
    rows = make_table(table.name, columns).alias("row_now")
    return (
        sa.select(entry.c.cluster, entry.c.key)
        .select_from(entry.outerjoin(rows, equal([rows.c[name] for name in key_columns], key)))
        .where(
            _of_batch(entry),
            image(columns, [rows.c[name] for name in columns]).is_distinct_from(entry.c.before),
        )
        .with_hint(rows, "ONLY", "postgresql")
    )


def repoint_back(table: Table, key_columns: Sequence[str], columns: Sequence[str]) -> Update:
    """Points the references of a batch at their duplicates again, where they are as left."""
    entry, key = _entries(table, key_columns)
    rows = make_table(table.name, {*key_columns, *columns})
    now = image(columns, [rows.c[name] for name in columns])
    return (
        sa.update(rows)
        .with_hint("ONLY", dialect_name="postgresql")
        .values({name: _value(entry, "before", table, name) for name in columns})
        .where(
            equal([rows.c[name] for name in key_columns], key),
            _of_batch(entry),
            now.is_not_distinct_from(entry.c.after),
        )
    )


def count_entries() -> Query:
    """How many rows the journal holds for a step of a batch."""
    entry = _JOURNAL.alias("entry")
    return sa.select(sa.func.count()).select_from(entry).where(_of_batch(entry))
