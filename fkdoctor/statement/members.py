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
    Delete,
    FromClause,
    Insert,
    Subquery,
    TableClause,
)
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import Column, ForeignKey, Table, TableName, UniqueKey
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
_MATCHES = "fkdoctor_match"
ROW = "fkdoctor_row"
"""The alias of the deduplicated table, under which its row as a whole can be named."""

SHOWN = 10
"""How many rows a refusal names."""

ANALYZE_MEMBERS = sa.text("analyze pg_temp.fkdoctor_member")
ANALYZE_MATCHES = sa.text("analyze pg_temp.fkdoctor_match")


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

    def values(self, kind: str, columns: Sequence[str]) -> list[ColumnElement[Any]]:
        """The member's (`member`) or the survivor's (`keep`) values of carried columns."""
        return [
            collated(self.column(column), self.clause.c[f"{kind}_{self.carried.index(column)}"])
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


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """One survivor rule as SQL: of two rows, the one with the larger (or smaller) value stays."""

    expression: ColumnElement[Any]
    descending: bool

    @property
    def clause(self) -> ColumnElement[Any]:
        """The ORDER BY term; rows without a value come last."""
        directed = self.expression.desc() if self.descending else self.expression.asc()
        return directed.nulls_last()


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
    return _create_temporary(_MEMBERS, columns)


def create_matches(members: MemberTable) -> CreateTable:
    """DDL of the match table: keys of rows that share their match values with `size - 1` others."""
    return _create_temporary(
        _MATCHES,
        [
            sa.Column(f"member_{i}", plain_type(members.column(name)))
            for i, name in enumerate(members.key_columns)
        ]
        + [sa.Column("size", sa.BigInteger)],
    )


def _create_temporary(name: str, columns: Sequence[sa.Column[Any]]) -> CreateTable:
    return CreateTable(
        sa.Table(name, sa.MetaData(), *columns, prefixes=["TEMPORARY"], postgresql_on_commit="DROP")
    )


def _matches(members: MemberTable) -> TableClause:
    names = [f"member_{i}" for i in range(members.key_width)]
    return make_table(TableName("pg_temp", _MATCHES), (*names, "size"))


def _matching_rows(members: MemberTable) -> FromClause:
    """The rows of the deduplicated table that are in the match table."""
    matches = _matches(members)
    key = [matches.c[f"member_{i}"] for i in range(members.key_width)]
    return matches.join(members.row, equal(members.row_key, key))


def _matched_rows(members: MemberTable, match: Sequence[ColumnElement[Any]]) -> Subquery:
    """Key and match values of every row, each computed once; NULL and empty text match nothing."""
    computed = (
        sa.select(
            *(key.label(f"member_{i}") for i, key in enumerate(members.row_key)),
            *(value.label(f"match_{i}") for i, value in enumerate(match)),
        )
        .select_from(members.row)
        .with_hint(members.row, "ONLY", "postgresql")
        .offset(0)
        .subquery("computed")
    )
    values = [computed.c[f"match_{i}"] for i in range(len(match))]
    return (
        sa.select(computed)
        .where(*(value.is_not(None) for value in values), *(as_text(v) != "" for v in values))
        .subquery("matched")
    )


def insert_matches(members: MemberTable, match: Sequence[ColumnElement[Any]]) -> Insert:
    """Finds the rows that share all match values with others, and how many share them; one pass."""
    matched = _matched_rows(members, match)
    values = [matched.c[f"match_{i}"] for i in range(len(match))]
    sized = sa.select(
        *(matched.c[f"member_{i}"] for i in range(members.key_width)),
        sa.func.count().over(partition_by=values).label("size"),
    ).subquery("sized")
    target = _matches(members)
    return target.insert().from_select(list(target.c), sa.select(sized).where(sized.c.size > 1))


def count_oversized(members: MemberTable, max_size: int) -> Query:
    """How many match values more than `max_size` rows share, and how many rows that are."""
    matches = _matches(members)
    groups = sa.func.round(sa.func.coalesce(sa.func.sum(sa.literal(1.0) / matches.c.size), 0))
    return sa.select(groups, sa.func.count()).select_from(matches).where(matches.c.size > max_size)


def drop_oversized(members: MemberTable, max_size: int) -> Delete:
    """Takes the rows out that too many share a match value with."""
    matches = _matches(members)
    return matches.delete().where(matches.c.size > max_size)


def reference_counts(members: MemberTable, key: ForeignKey) -> Subquery:
    """How many rows reference each matching row by the key: `key_i` and `number`."""
    referencing = _referencing(key)
    pointed_at = [members.row.c[column] for column in key.referenced_columns]
    return (
        sa.select(
            *(value.label(f"key_{i}") for i, value in enumerate(members.row_key)),
            sa.func.count().label("number"),
        )
        .select_from(
            _matching_rows(members).join(referencing, references(key, pointed_at, referencing))
        )
        .group_by(*members.row_key)
        .with_hint(members.row, "ONLY", "postgresql")
        .with_hint(referencing, "ONLY", "postgresql")
        .subquery()
    )


def insert_members(
    members: MemberTable,
    match: Sequence[ColumnElement[Any]],
    order: Sequence[Ordering],
    counts: Sequence[Subquery],
) -> Insert:
    """Makes clusters of the matches: the first row in `order`, then by key, survives.

    Clusters are numbered in the order of the survivors' keys. `counts` are the reference_counts
    that `order` mentions.
    """
    ranking = [ordering.clause for ordering in order] + [key.asc() for key in members.row_key]
    carried = [members.row.c[column] for column in members.carried]
    source = _matching_rows(members)
    for counted in counts:
        counted_key = [counted.c[f"key_{i}"] for i in range(members.key_width)]
        source = source.outerjoin(counted, equal(members.row_key, counted_key))
    ranked = (
        sa.select(
            sa.func.row_number().over(partition_by=match, order_by=ranking).label("position"),
            *(value.label(f"member_{i}") for i, value in enumerate(carried)),
            *(
                sa.func.first_value(value)
                .over(partition_by=match, order_by=ranking)
                .label(f"keep_{i}")
                for i, value in enumerate(carried)
            ),
        )
        .select_from(source)
        .with_hint(members.row, "ONLY", "postgresql")
        .subquery("ranked")
    )
    keep_key = [ranked.c[f"keep_{i}"] for i in range(members.key_width)]
    numbered = sa.select(
        sa.func.dense_rank().over(order_by=keep_key),
        ranked.c.position == 1,
        *(ranked.c[name] for name in members.value_names),
    )
    target = [members.clause.c[name] for name in ("cluster", "is_survivor", *members.value_names)]
    return members.clause.insert().from_select(target, numbered)


def select_members(members: MemberTable, match: Sequence[ColumnElement[Any]]) -> Query:
    """A row per member, survivors first in each cluster: key, fingerprint, match values as text."""
    return (
        sa.select(
            members.clause.c.cluster,
            members.clause.c.is_survivor,
            text_array(members.member_key).label("key"),
            fingerprint_row().label("fingerprint"),
            text_array([sa.func.left(as_text(value), 200) for value in match]).label("matched"),
        )
        .select_from(members.clause.join(members.row, equal(members.row_key, members.member_key)))
        .with_hint(members.row, "ONLY", "postgresql")
        .order_by(
            members.clause.c.cluster, members.clause.c.is_survivor.desc(), *members.member_key
        )
    )


def fingerprint_row() -> ColumnElement[str]:
    """64 bits of the text of MemberTable.row, as text: two versions of a row differ in it."""
    row = as_text(sa.literal_column(ROW))
    return as_text(sa.func.pg_catalog.hashtextextended(row, 0))


def _referencing(key: ForeignKey) -> NamedFromClause:
    return make_table(key.referencing, key.referencing_columns).alias("referencing")


def count_members(members: MemberTable) -> Query:
    """How many clusters and how many duplicates there are."""
    survives = members.clause.c.is_survivor
    return sa.select(
        sa.func.count().filter(survives), sa.func.count().filter(~survives)
    ).select_from(members.clause)


def count_references(members: MemberTable, key: ForeignKey) -> Query:
    """How many rows reference a duplicate by the key."""
    referencing = _referencing(key)
    return (
        sa.select(sa.func.count())
        .select_from(
            members.clause.join(
                referencing,
                references(key, members.values("member", key.referenced_columns), referencing),
            )
        )
        .where(~members.clause.c.is_survivor)
        .with_hint(referencing, "ONLY", "postgresql")
    )


def members_referencing(members: MemberTable, key: ForeignKey) -> Query:
    """The members that themselves reference a duplicate by a self-referencing key, at most ten."""
    other = members.clause.alias("other")
    referencing = make_table(
        key.referencing, {*key.referencing_columns, *members.key_columns}
    ).alias("referencing")
    pointed_at = [
        other.c[f"member_{members.carried.index(column)}"] for column in key.referenced_columns
    ]
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


def find_collisions(
    members: MemberTable, keys: Sequence[ForeignKey], referencing: Table, unique: UniqueKey
) -> Query:
    """Up to ten groups of referencing rows that the unique key would not let share a survivor.

    Compared is the final image: every one of `keys` (all from `referencing`, one column each, to
    the deduplicated table) repointed at once. Columns: the rows' keys, as text.
    """
    rows = make_table(referencing.name, [column.name for column in referencing.columns]).alias(
        "referencing"
    )
    source: FromClause = rows
    final: dict[str, ColumnElement[Any]] = {name: rows.c[name] for name in unique.columns}
    moved: list[ColumnElement[bool]] = []
    for number, key in enumerate(keys):
        map_ = members.clause.alias(f"map_{number}")
        position = members.carried.index(key.referenced_columns[0])
        pointed_at = [map_.c[f"member_{position}"]]
        source = source.outerjoin(map_, references(key, pointed_at, rows))
        column = key.referencing_columns[0]
        final[column] = sa.func.coalesce(map_.c[f"keep_{position}"], rows.c[column])
        moved.append(map_.c.cluster.is_not(None))
    compared = [final[name] for name in unique.columns]
    chosen = sa.select(*compared).select_from(source).where(sa.or_(*moved))
    if not unique.nulls_not_distinct:
        chosen = chosen.where(sa.and_(*(value.is_not(None) for value in compared)))
    identity = row_identity(referencing)
    return (
        chosen.with_only_columns(
            sa.func.array_agg(as_text(sa.func.row(*(rows.c[name] for name in identity))))
        )
        .with_hint(rows, "ONLY", "postgresql")
        .group_by(*compared)
        .having(sa.func.count() > 1)
        .limit(SHOWN)
    )


def row_identity(table: Table) -> tuple[str, ...]:
    """The columns by which a row of the table can be found again; empty when there are none."""
    for key in table.unique_keys:
        if key.primary or all(table.column(name).not_null for name in key.columns):
            return key.columns
    return ()
