"""The final image of referencing rows: what they hold once all their references have moved.

A temporary table has a row for each row of a table that moves: its identity as `key_i`, what the
moving columns hold then as `final_i`, and the `clusters` that move it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, TableClause
from sqlalchemy.dialects import postgresql

from fkdoctor.schema import ForeignKey, Table, TableName
from fkdoctor.statement.ascent import new_reference
from fkdoctor.statement.members import (
    MemberTable,
    fingerprint_row,
    is_going,
)
from fkdoctor.statement.parts import (
    Query,
    alone,
    collated,
    equal,
    make_table,
    plain_type,
    references,
)
from fkdoctor.statement.temporary import CreateFilled


@dataclass(frozen=True, kw_only=True)
class Demotion:
    """The `column` of the rows in `members` (those that do not survive) becomes `value`, a text."""

    members: MemberTable
    column: str
    value: str | None

    def find(self, rows: FromClause) -> ColumnElement[bool]:
        """Whether the row is demoted."""
        return is_going(self.members, rows)


@dataclass(frozen=True, kw_only=True)
class ImageTable:
    """The temporary table for one table, of which some keys reference tables with members.

    `moves` are these keys, each with the members that it references. `own` are the members of the
    table itself, if there are any: its duplicates have no image. Rows of the `demotion` change too.
    """

    table: Table
    number: int
    moves: tuple[tuple[ForeignKey, MemberTable], ...]
    own: MemberTable | None
    demotion: Demotion | None = None

    @property
    def name(self) -> str:
        """The name of the temporary table."""
        return f"fkdoctor_image_{self.number}"

    @cached_property
    def moving(self) -> tuple[str, ...]:
        """The columns that can change."""
        demoted = {self.demotion.column} if self.demotion else set()
        return tuple(
            sorted({c for key, _ in self.moves for c in key.referencing_columns} | demoted)
        )

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that identify a row."""
        return self.table.row_identity

    @cached_property
    def clause(self) -> TableClause:
        """The temporary table itself."""
        names = [f"key_{i}" for i in range(len(self.identity))]
        names += [f"final_{i}" for i in range(len(self.moving))]
        return make_table(TableName("pg_temp", self.name), (*names, "clusters"))

    def key(self, clause: FromClause | None = None) -> list[ColumnElement[Any]]:
        """The identity in the temporary table, or in one with the same columns."""
        return key_of(self.table, self.clause if clause is None else clause)

    def rows(self, alias: str) -> FromClause:
        """The table that moves."""
        columns = [column.name for column in self.table.columns]
        return make_table(self.table.name, columns).alias(alias)


def key_of(table: Table, clause: FromClause) -> list[ColumnElement[Any]]:
    """The columns `key_i` of the clause as the table's row identity."""
    return [
        collated(table.column(name), clause.c[f"key_{i}"])
        for i, name in enumerate(table.row_identity)
    ]


def create_image(image: ImageTable) -> CreateFilled:
    """Finds the rows that move, and what they will hold."""
    found = [_pointing(image, key, members) for key, members in image.moves]
    if image.demotion:
        demoted = image.demotion.members
        key = demoted.values("member", demoted.key_columns)
        labelled = (value.label(f"key_{i}") for i, value in enumerate(key))
        found.append(sa.select(*labelled).where(~demoted.clause.c.is_survivor))
    hits = sa.union(*found).subquery("hits")
    rows = image.rows("moving")
    here = equal([rows.c[name] for name in image.identity], key_of(image.table, hits))
    source, finals, clusters = follow_keys(image, rows, hits.join(rows, here))
    return CreateFilled(
        image.name,
        alone(
            sa.select(
                *(rows.c[name].label(f"key_{i}") for i, name in enumerate(image.identity)),
                *(finals[name].label(f"final_{i}") for i, name in enumerate(image.moving)),
                sa.func.pg_catalog.array_remove(postgresql.array(clusters), sa.null()).label(
                    "clusters"
                ),
            ).select_from(source),
            image.table,
            rows,
        ),
    )


def _pointing(image: ImageTable, key: ForeignKey, members: MemberTable) -> Query:
    """The rows that reference a duplicate by the key, and stay."""
    rows = image.rows("pointing")
    pointed_at = members.values("member", key.referenced_columns)
    found = alone(
        sa.select(*(rows.c[name].label(f"key_{i}") for i, name in enumerate(image.identity)))
        .select_from(members.clause.join(rows, references(key, pointed_at, rows)))
        .where(~members.clause.c.is_survivor),
        image.table,
        rows,
    )
    return found.where(~is_going(image.own, rows)) if image.own else found


def follow_keys(
    image: ImageTable, rows: FromClause, source: FromClause
) -> tuple[FromClause, dict[str, ColumnElement[Any]], list[ColumnElement[Any]]]:
    """The source with the members joined that its `rows` reference; then what each moving column
    will hold; then the cluster by which each key moves, or NULL."""
    finals: dict[str, ColumnElement[Any]] = {}
    clusters: list[ColumnElement[Any]] = []
    for number, (key, members) in enumerate(image.moves):
        map_ = members.clause.alias(f"{rows.description}_map_{number}")
        pointed_at = members.values("member", key.referenced_columns, map_)
        duplicate = sa.and_(references(key, pointed_at, rows), ~map_.c.is_survivor)
        source = source.outerjoin(map_, duplicate)
        clusters.append(map_.c.cluster)
        kept = new_reference(members, key, map_, rows)
        for name, value in zip(key.referencing_columns, kept, strict=True):
            column = image.table.column(name)
            final = sa.case(
                (map_.c.cluster.is_not(None), sa.cast(value, plain_type(column))),
                else_=sa.cast(finals.get(name, rows.c[name]), plain_type(column)),
            )
            finals[name] = collated(column, final)
    if image.demotion:
        column = image.table.column(image.demotion.column)
        value = sa.cast(sa.literal(image.demotion.value, sa.Text), plain_type(column))
        now = sa.cast(rows.c[column.name], plain_type(column))
        final = sa.case((image.demotion.find(rows), value), else_=now)
        finals[column.name] = collated(column, final)
    return source, finals, clusters


def find_links(image: ImageTable) -> Iterator[Query]:
    """Queries that find a row that stays where the table links different rows of one merge."""
    rows = image.rows("rows")
    stays = [~is_going(image.own, rows)] if image.own else []
    for first, second in _pairs(image):
        source, linked, _ = _link(rows, first, second)
        found = sa.select(sa.literal(1)).select_from(source).where(linked, *stays)
        yield alone(found, image.table, rows).limit(1)


def insert_links(image: ImageTable, members: MemberTable) -> Iterator[sa.Insert]:
    """Makes members, without a survivor, of the rows that link different rows of one merge.

    `members` are those of the image's table.
    """
    rows = members.row
    nothing = [sa.cast(sa.null(), plain_type(members.column(name))) for name in members.carried]
    for first, second in _pairs(image):
        source, linked, cluster = _link(rows, first, second)
        yield members.clause.insert().from_select(
            list(members.clause.c),
            alone(
                sa.select(
                    cluster,
                    sa.false(),
                    fingerprint_row(),
                    sa.literal(f"{first[0].label} and {second[0].label}"),
                    sa.false(),
                    *(rows.c[name] for name in members.carried),
                    *nothing,
                )
                .select_from(source)
                .where(linked, ~is_going(members, rows)),
                image.table,
                rows,
            ),
        )


_Move: TypeAlias = tuple[ForeignKey, MemberTable]


def _pairs(image: ImageTable) -> Iterator[tuple[_Move, _Move]]:
    """The pairs of keys that reference the same table by columns of their own."""
    for one, other in combinations(image.moves, 2):
        if one[1] is other[1] and one[0].referencing_columns != other[0].referencing_columns:
            yield one, other


def _link(
    rows: FromClause, first: _Move, second: _Move
) -> tuple[FromClause, ColumnElement[bool], ColumnElement[int]]:
    """The rows with the members they reference, whether these are different rows of one merge, and
    its cluster."""
    merged = first[1]
    one, other = merged.clause.alias("one"), merged.clause.alias("other")

    def end(key: ForeignKey, map_: FromClause) -> ColumnElement[bool]:
        return references(key, merged.values("member", key.referenced_columns, map_), rows)

    def same(kind: str) -> ColumnElement[bool]:
        columns = merged.key_columns
        return equal(merged.values(kind, columns, one), merged.values(kind, columns, other))

    source = rows.join(one, end(first[0], one)).join(other, end(second[0], other))
    return source, sa.and_(same("keep"), ~same("member")), one.c.cluster


def select_own_ties(image: ImageTable) -> Iterator[Query]:
    """Which clusters meet where a member references a duplicate of another one: an integer[] a row.

    The member is of the image's own table; that its reference moves changes it.
    """
    assert image.own is not None
    own = image.own
    for key, members in image.moves:
        mine, theirs = own.clause.alias("mine"), members.clause.alias("theirs")
        pointed_at = members.values("member", key.referenced_columns, theirs)
        rows = own.row
        here = equal(own.row_key, own.values("member", own.key_columns, mine))
        yield (
            alone(
                sa.select(postgresql.array([mine.c.cluster, theirs.c.cluster]))
                .select_from(mine.join(rows, here).join(theirs, references(key, pointed_at, rows)))
                .where(~theirs.c.is_survivor, mine.c.cluster != theirs.c.cluster)
                .distinct(),
                image.table,
                rows,
            )
        )
