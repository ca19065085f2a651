"""What a dedupe asks and does, by way of a temporary table of *members*.

A member is a row of a cluster. The table has `cluster`, `is_survivor`, the row's `fingerprint` in
the plan that is applied, and for each carried column of the deduplicated table (its primary key,
then whatever else foreign keys reference) the row's own value `member_i` and the survivor's
`keep_i`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    ColumnElement,
    FromClause,
    TableClause,
)
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import Column, ForeignKey, Table, TableName
from fkdoctor.statement.parts import (
    Query,
    as_text,
    collated,
    equal,
    make_table,
    plain_type,
    quoted,
    references,
    text_array,
)

_MEMBERS = "fkdoctor_member"
ROW = "fkdoctor_row"
"""The alias of the deduplicated table, under which its row as a whole can be named."""

SHOWN = 10
"""How many rows a refusal names."""

ANALYZE_MEMBERS = sa.text("analyze pg_temp.fkdoctor_member")


@dataclass(frozen=True, kw_only=True)
class MemberTable:
    """The temporary table for one deduplicated table. `carried` begins with the primary key."""

    table: Table
    key_width: int
    carried: tuple[str, ...]

    @cached_property
    def clause(self) -> TableClause:
        """The temporary table itself."""
        columns = ("cluster", "is_survivor", "fingerprint", *self.value_names)
        return make_table(TableName("pg_temp", _MEMBERS), columns)

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of `clause`'s columns that hold carried values."""
        return tuple(f"{k}_{i}" for k in ("member", "keep") for i in range(len(self.carried)))

    @cached_property
    def row(self) -> NamedFromClause:
        """The deduplicated table, under the alias ROW."""
        columns = (column.name for column in self.table.columns)
        return make_table(self.table.name, columns).alias(quoted(ROW))

    @property
    def key_columns(self) -> tuple[str, ...]:
        """The primary key of the deduplicated table."""
        return self.carried[: self.key_width]

    def values(
        self, kind: str, columns: Sequence[str], clause: FromClause | None = None
    ) -> list[ColumnElement[Any]]:
        """The member's (`member`) or the survivor's (`keep`) values of carried columns.

        `clause` is another table with the same columns, such as an alias of this one.
        """
        source = self.clause if clause is None else clause
        return [
            collated(self.column(column), source.c[f"{kind}_{self.carried.index(column)}"])
            for column in columns
        ]

    @property
    def member_key(self) -> list[ColumnElement[Any]]:
        """The member's primary key."""
        return self.values("member", self.key_columns)

    @property
    def keep_key(self) -> list[ColumnElement[Any]]:
        """The survivor's primary key."""
        return self.values("keep", self.key_columns)

    @property
    def row_key(self) -> list[ColumnElement[Any]]:
        """The primary key in the deduplicated table."""
        return [self.row.c[column] for column in self.key_columns]

    def column(self, name: str) -> Column:
        """The carried column's description."""
        return self.table.column(name)


def carry_columns(table: Table, keys: Sequence[ForeignKey]) -> MemberTable:
    """The member table that serves all these foreign keys to `table`, which has a primary key."""
    assert table.primary_key is not None
    primary = table.primary_key.columns
    others = {column for key in keys for column in key.referenced_columns} - set(primary)
    return MemberTable(table=table, key_width=len(primary), carried=(*primary, *sorted(others)))


def create_members(members: MemberTable) -> CreateTable:
    """DDL of the member table; it goes with the transaction."""
    columns: list[sa.Column[Any]] = [
        sa.Column("cluster", sa.Integer),
        sa.Column("is_survivor", sa.Boolean),
        sa.Column("fingerprint", sa.Text),
    ]
    for kind in ("member", "keep"):
        for i, name in enumerate(members.carried):
            columns.append(sa.Column(f"{kind}_{i}", plain_type(members.column(name))))
    return CreateTable(
        sa.Table(
            _MEMBERS,
            sa.MetaData(),
            *columns,
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DROP",
        )
    )


def fingerprint_row() -> ColumnElement[str]:
    """64 bits of the text of MemberTable.row, as text: two versions of a row differ in it."""
    row = as_text(sa.literal_column(f"{ROW}.*"))  # by its name alone it could mean a column
    return as_text(sa.func.pg_catalog.hashtextextended(row, 0))


def name_referencing(key: ForeignKey) -> NamedFromClause:
    """The referencing table, under the alias `referencing`."""
    return make_table(key.referencing, key.referencing_columns).alias("referencing")


def without_heirs(query: Query, referencing: FromClause, key: ForeignKey) -> Query:
    """The query of the rows that the key holds for: those of the table alone, or its partitions."""
    if any(clone.referencing != key.referencing for clone in key.clones):
        return query  # ONLY a partitioned table has no rows
    return query.with_hint(referencing, "ONLY", "postgresql")


def count_members(members: MemberTable) -> Query:
    """How many clusters and how many duplicates there are."""
    survives = members.clause.c.is_survivor
    return sa.select(
        sa.func.count().filter(survives), sa.func.count().filter(~survives)
    ).select_from(members.clause)


def count_references(members: MemberTable, key: ForeignKey) -> Query:
    """How many rows reference a duplicate by the key."""
    referencing = name_referencing(key)
    pointed_at = members.values("member", key.referenced_columns)
    counted = (
        sa.select(sa.func.count())
        .select_from(members.clause.join(referencing, references(key, pointed_at, referencing)))
        .where(~members.clause.c.is_survivor)
    )
    return without_heirs(counted, referencing, key)


def members_referencing(members: MemberTable, key: ForeignKey) -> Query:
    """The members that themselves reference a duplicate by a self-referencing key, at most ten."""
    other = members.clause.alias("other")
    referencing = make_table(
        key.referencing, {*key.referencing_columns, *members.key_columns}
    ).alias("referencing")
    pointed_at = members.values("member", key.referenced_columns, other)
    return (
        sa.select(text_array(members.member_key))
        .select_from(
            members.clause.join(
                referencing,
                equal(
                    [referencing.c[column] for column in members.key_columns], members.member_key
                ),
            ).join(other, references(key, pointed_at, referencing))
        )
        .where(~other.c.is_survivor)
        .with_hint(referencing, "ONLY", "postgresql")
        .limit(SHOWN)
    )


def row_identity(table: Table) -> tuple[str, ...]:
    """The columns by which a row of the table can be found again; empty when there are none."""
    return table.row_identity
