"""What a soft delete asks and does, by way of a temporary table of *gone* rows for each table.

Such a table has the `level` at which a row was reached (0: it was asked for) and, for each carried
column (what identifies a row, then whatever else foreign keys reference), its value `v_i`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Insert, TableClause, TextClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import ForeignKey, Table, TableName
from fkdoctor.statement.parts import (
    NamedType,
    Query,
    alone,
    alone_change,
    collated,
    equal,
    image,
    make_table,
    plain_type,
    references,
    text_array,
)

SHOWN = 10
"""How many rows a refusal names."""

LEVEL = sa.bindparam("level", type_=sa.Integer)
DELETION = sa.bindparam("deletion", type_=postgresql.UUID(as_uuid=False))
TIME = sa.bindparam("time", type_=sa.DateTime(timezone=True))
STEP = sa.bindparam("step", type_=sa.SmallInteger)

JOURNAL = make_table(
    TableName("fkdoctor", "deletion_journal"), ("deletion_id", "step", "key", "before", "after")
)


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The columns that say of a row when, and by which deletion, it was soft-deleted."""

    time: str = "deleted_at"
    deletion: str = "deletion_id"


MARKS = Marks()
"""The columns' usual names."""


@dataclass(frozen=True, kw_only=True)
class GoneTable:
    """The temporary table for one table. `carried` begins with what identifies a row."""

    number: int
    table: Table
    key_width: int
    carried: tuple[str, ...]

    @cached_property
    def clause(self) -> TableClause:
        """The temporary table itself."""
        return make_table(TableName("pg_temp", self.name), ("level", *self.value_names))

    @property
    def name(self) -> str:
        """The temporary table's name."""
        return f"fkdoctor_gone_{self.number}"

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of `clause`'s columns that hold carried values."""
        return tuple(f"v_{i}" for i in range(len(self.carried)))

    @property
    def key_columns(self) -> tuple[str, ...]:
        """What identifies a row."""
        return self.carried[: self.key_width]

    def values(
        self, columns: Sequence[str], clause: FromClause | None = None
    ) -> list[ColumnElement[Any]]:
        """The gone row's values of carried columns; `clause` is an alias of the table."""
        source = self.clause if clause is None else clause
        return [
            collated(self.table.column(column), source.c[f"v_{self.carried.index(column)}"])
            for column in columns
        ]

    @property
    def key(self) -> list[ColumnElement[Any]]:
        """The gone row's identity."""
        return self.values(self.key_columns)

    def is_gone(self, row: FromClause) -> ColumnElement[bool]:
        """Whether the row of the table, or of a partition of it, is among the gone."""
        clause = self.clause.alias("other")
        same = equal(
            [row.c[column] for column in self.key_columns], self.values(self.key_columns, clause)
        )
        return sa.select(sa.literal(1)).select_from(clause).where(same).exists()


def gone_table(number: int, table: Table, referenced: set[str]) -> GoneTable:
    """The temporary table for a table of which keys reference these columns."""
    identity = table.row_identity
    return GoneTable(
        number=number,
        table=table,
        key_width=len(identity),
        carried=(*identity, *sorted(referenced - set(identity))),
    )


def create_gone(gone: GoneTable) -> CreateTable:
    """DDL of the temporary table; it goes with the transaction."""
    columns: list[sa.Column[Any]] = [sa.Column("level", sa.Integer)]
    for i, name in enumerate(gone.carried):
        type_ = plain_type(gone.table.column(name))
        columns.append(sa.Column(f"v_{i}", type_, primary_key=i < gone.key_width))
    return CreateTable(
        sa.Table(
            gone.name,
            sa.MetaData(),
            *columns,
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DROP",
        )
    )


def analyze_gone(gone: GoneTable) -> TextClause:
    """Statistics for the temporary table."""
    return sa.text(f"analyze pg_temp.{gone.name}")


def row_of(table: Table, name: str = "fkdoctor_row") -> NamedFromClause:
    """The table under an alias, with all its columns."""
    return make_table(table.name, [column.name for column in table.columns]).alias(name)


def is_live(table: Table, row: FromClause, marks: Marks) -> ColumnElement[bool]:
    """Whether the row is not soft-deleted; without the column every row is live."""
    return row.c[marks.time].is_(None) if table.has_column(marks.time) else sa.true()


def is_deleted(row: FromClause, marks: Marks) -> ColumnElement[bool]:
    """Whether the row is soft-deleted, said so that the planner does not guess how many are.

    Right after a large soft delete its statistics know of none, and it would loop over all.
    """
    return sa.case((row.c[marks.time].is_(None), sa.false()), else_=sa.true())


def has_key(table: Table, row: FromClause, columns: Sequence[str]) -> ColumnElement[bool]:
    """Whether the row's identity is one of those in the binds `key_0` and so on, arrays of text."""
    names = [f"key_{i}" for i in range(len(columns))]
    given = (
        sa.func.unnest(*(sa.bindparam(name, type_=sa.ARRAY(sa.Text)) for name in names))
        .table_valued(*names)
        .render_derived()
    )
    wanted = [
        collated(table.column(column), sa.cast(given.c[name], NamedType(table.column(column).type)))
        for name, column in zip(names, columns, strict=True)
    ]
    same = equal([row.c[column] for column in columns], wanted)
    return sa.select(sa.literal(1)).select_from(given).where(same).exists()


def count_selected(
    table: Table, row: NamedFromClause, condition: ColumnElement[bool], marks: Marks
) -> Query:
    """One row: how many rows are asked for, and how many of them are deleted already."""
    deleted = sa.func.count().filter(row.c[marks.time].is_not(None))
    query = sa.select(sa.func.count(), deleted).select_from(row).where(condition)
    return alone(query, table, row)


def fill_roots(
    gone: GoneTable,
    row: NamedFromClause,
    condition: ColumnElement[bool],
    *,
    lock: bool,
) -> Insert:
    """Puts the rows in that the condition holds for, at level 0; locks them in key order."""
    found = sa.select(*(row.c[column] for column in gone.carried)).select_from(row).where(condition)
    return _put_in(gone, alone(found, gone.table, row), row, sa.literal(0), lock=lock)


def fill_referencing(
    gone: GoneTable, key: ForeignKey, referencing: Table, by: GoneTable, marks: Marks, *, lock: bool
) -> Insert:
    """Puts the live rows in that reference, by the key, a row of `gone` at the bind `level`.

    They come a level deeper. `by` is the temporary table of the referencing rows, `referencing` the
    table that has the key, perhaps a partition.
    """
    row = row_of(referencing)
    pointed_at = gone.clause.alias("pointed_at")
    found = (
        sa.select(*(row.c[column] for column in by.carried))
        .select_from(
            pointed_at.join(
                row, references(key, gone.values(key.referenced_columns, pointed_at), row)
            )
        )
        .where(pointed_at.c.level == LEVEL, is_live(referencing, row, marks), ~by.is_gone(row))
    )
    return _put_in(by, alone(found, referencing, row), row, LEVEL + 1, lock=lock)


def _put_in(
    gone: GoneTable,
    found: Query,
    row: NamedFromClause,
    level: ColumnElement[int],
    *,
    lock: bool,
) -> Insert:
    if lock:
        # FOR UPDATE is the only row lock that a foreign key's check of an insert waits for.
        found = found.order_by(*(row.c[column] for column in gone.key_columns)).with_for_update(
            of=row
        )
    rows = found.subquery("found")
    values = [rows.c[column] for column in gone.carried]
    return (
        postgresql.insert(gone.clause)
        .from_select(["level", *gone.value_names], sa.select(level, *values))
        .on_conflict_do_nothing()
    )


def find_referencing(
    gone: GoneTable,
    key: ForeignKey,
    referencing: Table,
    by: GoneTable | None,
    marks: Marks,
) -> Query:
    """The live rows that reference a gone one by the key and are not gone: identity, and how many.

    At most ten. Where nothing identifies a row, what it references stands for it.
    """
    row = row_of(referencing)
    identity = referencing.row_identity or key.referencing_columns
    found = (
        sa.select(
            text_array([row.c[column] for column in identity]).label("key"),
            sa.func.count().over().label("number"),
        )
        .select_from(
            gone.clause.join(row, references(key, gone.values(key.referenced_columns), row))
        )
        .where(is_live(referencing, row, marks))
        .order_by(*(row.c[column] for column in identity))
        .limit(SHOWN)
    )
    if by is not None:
        found = found.where(~by.is_gone(row))
    return alone(found, referencing, row)


def set_references(
    gone: GoneTable,
    key: ForeignKey,
    referencing: Table,
    by: GoneTable | None,
    marks: Marks,
) -> Query:
    """Sets what the key sets when a gone row goes, and writes each row into the journal.

    One row: how many rows were set. Binds: deletion, step.
    """
    identity = referencing.row_identity
    columns = [referencing.column(name) for name in key.written_columns]
    old = row_of(referencing, "old")
    pointing = (
        sa.select(
            *(old.c[name].label(f"key_{i}") for i, name in enumerate(identity)),
            *(old.c[column.name].label(f"old_{i}") for i, column in enumerate(columns)),
        )
        .select_from(
            gone.clause.join(old, references(key, gone.values(key.referenced_columns), old))
        )
        .where(is_live(referencing, old, marks))
        .order_by(*(old.c[name] for name in identity))
        .with_for_update(of=old)
    )
    if by is not None:
        pointing = pointing.where(~by.is_gone(old))
    found = alone(pointing, referencing, old).subquery("pointing")
    new = make_table(referencing.name, [column.name for column in referencing.columns])
    value = sa.literal_column("DEFAULT") if key.on_delete.value == "d" else sa.null()
    change = (
        sa.update(new)
        .values({column.name: value for column in columns})
        .where(
            equal(
                [new.c[name] for name in identity],
                [
                    collated(referencing.column(name), found.c[f"key_{i}"])
                    for i, name in enumerate(identity)
                ],
            )
        )
    )
    moved = (
        alone_change(change, referencing)
        .returning(
            text_array([new.c[name] for name in identity]).label("key"),
            image(columns, [found.c[f"old_{i}"] for i in range(len(columns))]).label("before"),
            image(columns, [new.c[column.name] for column in columns]).label("after"),
        )
        .cte("moved")
    )
    written = (
        JOURNAL.insert()
        .from_select(
            list(JOURNAL.c),
            sa.select(DELETION, STEP, moved.c.key, moved.c.before, moved.c.after),
        )
        .cte("written")
    )
    return sa.select(sa.func.count()).select_from(moved).add_cte(written)


def mark_gone(gone: GoneTable, marks: Marks) -> Query:
    """Marks the gone rows as deleted. One row: how many are marked now, and as they should be.

    Binds: deletion, time.
    """
    table = gone.table
    row = make_table(table.name, [column.name for column in table.columns])
    change = (
        sa.update(row)
        .values({marks.time: TIME, marks.deletion: DELETION})
        .where(
            equal([row.c[column] for column in gone.key_columns], gone.key),
            row.c[marks.time].is_(None),
        )
    )
    marked = (
        alone_change(change, table)
        .returning(bears(table, row, marks).label("marked"))
        .cte("marked")
    )
    return sa.select(sa.func.count().filter(marked.c.marked)).select_from(marked)


def bears(table: Table, row: FromClause, marks: Marks) -> ColumnElement[bool]:
    """Whether the row bears the marks of the deletion: binds deletion, time."""
    # A column of timestamptz(0) holds the time rounded.
    time = sa.cast(TIME, NamedType(table.column(marks.time).type))
    return sa.and_(row.c[marks.time] == time, row.c[marks.deletion] == DELETION)


def unmark_gone(gone: GoneTable, marks: Marks) -> Query:
    """Takes the marks off the gone rows. One row: how many are live now."""
    table = gone.table
    row = make_table(table.name, [column.name for column in table.columns])
    change = (
        sa.update(row)
        .values({marks.time: sa.null(), marks.deletion: sa.null()})
        .where(
            equal([row.c[column] for column in gone.key_columns], gone.key),
            bears(table, row, marks),
        )
    )
    live = sa.and_(row.c[marks.time].is_(None), row.c[marks.deletion].is_(None))
    back = alone_change(change, table).returning(live.label("live")).cte("back")
    return sa.select(sa.func.count().filter(back.c.live)).select_from(back)


def find_defaulted_to_gone(
    gone: GoneTable, key: ForeignKey, referencing: Table, marks: Marks
) -> Query:
    """The rows that the key set to its default where that row is deleted: their keys, at most ten.

    Binds: deletion, step.
    """
    row = row_of(referencing)
    target = row_of(gone.table, "target")
    entry = JOURNAL.alias("entry")
    identity = referencing.row_identity
    pointed_at = [
        collated(gone.table.column(name), target.c[name]) for name in key.referenced_columns
    ]
    query = (
        sa.select(entry.c.key)
        .select_from(
            entry.join(row, text_array([row.c[name] for name in identity]) == entry.c.key).join(
                target, references(key, pointed_at, row)
            )
        )
        .where(
            entry.c.deletion_id == DELETION,
            entry.c.step == STEP,
            sa.or_(~is_live(gone.table, target, marks), gone.is_gone(target)),
        )
        .order_by(entry.c.key)
        .limit(SHOWN)
    )
    return alone(alone(query, referencing, row), gone.table, target)
