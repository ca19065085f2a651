"""What a dedupe asks and does, by way of a temporary table of *members*.

A member is a row of a cluster. The table has `cluster`, `is_survivor`, the row's `fingerprint` in
the plan that is applied, and for each carried column of the table (what identifies a row, then
whatever else foreign keys reference) the row's own value `member_i` and the survivor's `keep_i`.
`because` names the constraint by which a row collides, where that is why it is a duplicate; whether
it then `differs` from the row that stays, in more than their keys, is found out for a plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

from fkdoctor.schema import (
    Column,
    ForeignKey,
    LogicalKey,
    LogicalReference,
    PartitionKey,
    Table,
    TableName,
)
from fkdoctor.statement.parts import (
    Query,
    as_text,
    collated,
    equal,
    make_table,
    plain_type,
    quoted,
    references,
)

_MEMBERS = "fkdoctor_member"
_DEMOTED = "fkdoctor_demoted"
ROW = "fkdoctor_row"
"""The alias of the deduplicated table, under which its row as a whole can be named."""

SHOWN = 10
"""How many rows a refusal names."""


@dataclass(frozen=True, kw_only=True)
class MemberTable:
    """The temporary table for one table. `carried` begins with what identifies a row of it.

    `number` tells it from those for other tables; that for the deduplicated one is 0. By the keys
    in `inheriting` a survivor that references a duplicate of its own takes over what is above it.
    Rows that are `demoted` stay, beside those with which they would collide.
    """

    table: Table
    key_width: int
    carried: tuple[str, ...]
    number: int = 0
    inheriting: tuple[ForeignKey, ...] = ()
    demoted: bool = False

    @property
    def name(self) -> str:
        """The name of the temporary table."""
        return f"{_DEMOTED if self.demoted else _MEMBERS}_{self.number}"

    @cached_property
    def clause(self) -> TableClause:
        """The temporary table itself."""
        columns = ("cluster", "is_survivor", "fingerprint", "because", "differs", *self.value_names)
        return make_table(TableName("pg_temp", self.name), columns)

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of `clause`'s columns that hold carried values."""
        return tuple(f"{k}_{i}" for k in ("member", "keep") for i in range(len(self.carried)))

    @cached_property
    def row(self) -> NamedFromClause:
        """The table whose rows are members, under the alias ROW."""
        columns = (column.name for column in self.table.columns)
        return make_table(self.table.name, columns).alias(quoted(ROW))

    @property
    def key_columns(self) -> tuple[str, ...]:
        """What identifies a row: of the deduplicated table, its primary key."""
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
        """What identifies the member."""
        return self.values("member", self.key_columns)

    @property
    def keep_key(self) -> list[ColumnElement[Any]]:
        """What identifies the survivor."""
        return self.values("keep", self.key_columns)

    @property
    def row_key(self) -> list[ColumnElement[Any]]:
        """What identifies a row, in the table itself."""
        return [self.row.c[column] for column in self.key_columns]

    def column(self, name: str) -> Column:
        """The carried column's description."""
        return self.table.column(name)


def carry_columns(
    table: Table,
    keys: Sequence[ForeignKey],
    number: int = 0,
    references: Sequence[LogicalReference] = (),
) -> MemberTable:
    """The member table that serves all these foreign keys to `table`, which has an identity, and
    those of the references that lead there."""
    identity = table.row_identity
    assert identity
    pointed_at = {column for key in keys for column in key.referenced_columns}
    pointed_at |= {one.referenced_column for one in references if one.referenced == table.name}
    others = pointed_at - set(identity)
    return MemberTable(
        table=table, key_width=len(identity), carried=(*identity, *sorted(others)), number=number
    )


def create_members(members: MemberTable) -> CreateTable:
    """DDL of the member table; it goes with the transaction."""
    columns: list[sa.Column[Any]] = [
        sa.Column("cluster", sa.Integer),
        sa.Column("is_survivor", sa.Boolean),
        sa.Column("fingerprint", sa.Text),
        sa.Column("because", sa.Text),
        sa.Column("differs", sa.Boolean),
    ]
    for kind in ("member", "keep"):
        for i, name in enumerate(members.carried):
            columns.append(sa.Column(f"{kind}_{i}", plain_type(members.column(name))))
    return CreateTable(
        sa.Table(
            members.name,
            sa.MetaData(),
            *columns,
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DROP",
        )
    )


def clear_members(members: MemberTable) -> sa.Delete:
    """Takes all members out."""
    return members.clause.delete()


def relabel_clusters(members: MemberTable) -> sa.Update:
    """Gives clusters other numbers: binds are the arrays `old` and `new`."""
    given = (
        sa.func.unnest(
            sa.bindparam("old", type_=sa.ARRAY(sa.Integer)),
            sa.bindparam("new", type_=sa.ARRAY(sa.Integer)),
        )
        .table_valued("old", "new")
        .render_derived()
    )
    return (
        sa.update(members.clause)
        .values(cluster=given.c.new)
        .where(members.clause.c.cluster == given.c.old)
    )


def analyze_members(members: MemberTable) -> sa.TextClause:
    """Lets the planner know how many members there are."""
    return sa.text(f"analyze pg_temp.{members.name}")


def fingerprint_row() -> ColumnElement[str]:
    """64 bits of the text of MemberTable.row, as text: two versions of a row differ in it."""
    row = as_text(sa.literal_column(f"{ROW}.*"))  # by its name alone it could mean a column
    return as_text(sa.func.pg_catalog.hashtextextended(row, 0))


def name_referencing(key: ForeignKey) -> NamedFromClause:
    """The referencing table, under the alias `referencing`."""
    return make_table(key.referencing, key.referencing_columns).alias("referencing")


def without_heirs(query: Query, referencing: FromClause, key: ForeignKey) -> Query:
    """The query of the rows that the key holds for: those of the table alone, or its partitions."""
    in_parts = isinstance(key, PartitionKey) or (isinstance(key, LogicalKey) and key.partitioned)
    if in_parts or any(clone.referencing != key.referencing for clone in key.clones):
        return query  # ONLY a partitioned table has no rows
    return query.with_hint(referencing, "ONLY", "postgresql")


def count_members(members: MemberTable) -> Query:
    """How many clusters there are, and how many survivors and duplicates they have, but for those
    that only collide."""
    duplicate, plain = members.clause.alias("duplicate"), ~members.clause.c.is_survivor
    keep = members.values("keep", members.key_columns, duplicate)
    merges = sa.select(*keep).where(~duplicate.c.is_survivor, duplicate.c.because.is_(None))
    survivors = sa.select(sa.func.count()).select_from(merges.distinct().subquery("merges"))
    return (
        sa.select(
            sa.func.count(members.clause.c.cluster.distinct()),
            survivors.scalar_subquery(),
            sa.func.count(),
        )
        .select_from(members.clause)
        .where(plain, members.clause.c.because.is_(None))
    )


def count_references(
    members: MemberTable, key: ForeignKey, going: MemberTable | None = None
) -> Query:
    """How many rows reference a duplicate by the key, and are no duplicates in `going` themselves.

    `going` are the members of the referencing table.
    """
    columns = going.key_columns if going else ()
    referencing = make_table(key.referencing, {*key.referencing_columns, *columns}).alias(
        "referencing"
    )
    pointed_at = members.values("member", key.referenced_columns)
    counted = (
        sa.select(sa.func.count())
        .select_from(members.clause.join(referencing, references(key, pointed_at, referencing)))
        .where(~members.clause.c.is_survivor)
    )
    if going:
        counted = counted.where(~is_going(going, referencing))
    return without_heirs(counted, referencing, key)


def is_going(members: MemberTable, rows: FromClause) -> ColumnElement[bool]:
    """Whether the row of the members' table is a duplicate."""
    going = members.clause.alias("going")
    key = members.values("member", members.key_columns, going)
    here = equal([rows.c[column] for column in members.key_columns], key)
    return sa.select(sa.literal(1)).where(here, ~going.c.is_survivor).correlate(rows).exists()


def is_member(
    members: MemberTable, key: Mapping[str, ColumnElement[Any]], *, survives: bool
) -> ColumnElement[bool]:
    """Whether the row with this identity is a survivor, or else a duplicate."""
    other = members.clause.alias("other")
    mine = [key[name] for name in members.key_columns]
    theirs = members.values("member", members.key_columns, other)
    return (
        sa.select(sa.literal(1))
        .select_from(other)
        .where(equal(mine, theirs), other.c.is_survivor.is_(survives))
        .correlate_except(other)
        .exists()
    )


def is_own_link(members: MemberTable, map_: FromClause, rows: FromClause) -> ColumnElement[bool]:
    """Whether the row is the survivor of the duplicate in `map_` itself."""
    keep = members.values("keep", members.key_columns, map_)
    return equal([rows.c[name] for name in members.key_columns], keep)


def nullable_columns(table: Table, key: ForeignKey) -> tuple[str, ...]:
    """The columns of a self-referencing key that can be set to NULL to reference nothing.

    One that it has on both sides, such as a tenant, is part of what the row is.
    """
    return tuple(
        name
        for name in key.referencing_columns
        if not table.column(name).not_null and name not in key.referenced_columns
    )


def row_identity(table: Table) -> tuple[str, ...]:
    """The columns by which a row of the table can be found again; empty when there are none."""
    return table.row_identity
