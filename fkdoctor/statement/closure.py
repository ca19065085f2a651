"""Follows a DELETE through foreign keys, by way of temporary tables of the rows it takes.

A *closure* has a row for each row of one table (with its partitions) that goes: where it is
(`leaf`, `at`), its `level`, the number of the key by which it goes (`via`; 0: the statement), and
the columns that keys to the table compare, as `value_i`. A *hop* is a key on its way from a
closure to the rows that reference those of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Insert, TableClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import ClauseElement, Executable, quoted_name
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import Column, ForeignKey, Table, TableName
from fkdoctor.statement.lookup import TID, place, rows_of
from fkdoctor.statement.parts import Query, alone, make_table, match_key, plain_type

GONE, SETTLED, CONTESTED, STAYS = "gone", "settled", "contested", "stays"
"""What has become of a referencing row when a key looks at it.

It went in an earlier phase; it goes in this one, by a key of the same row that fires before; it
goes in this one, but perhaps after the look; it stays, or goes too late.
"""


@dataclass(frozen=True, kw_only=True)
class Closure:
    """The temporary table of the rows of `table`, the topmost of its partitions, that go."""

    table: Table
    number: int
    carried: tuple[str, ...]
    cyclic: bool

    @property
    def name(self) -> str:
        """The temporary table's name."""
        return f"fkdoctor_gone_{self.number}"

    @cached_property
    def clause(self) -> TableClause:
        """The temporary table."""
        values = (f"value_{i}" for i in range(len(self.carried)))
        return make_table(TableName("pg_temp", self.name), ("leaf", "at", "level", "via", *values))

    def values(self, columns: Sequence[str]) -> list[ColumnElement[Any]]:
        """The row's values of carried columns."""
        return [self.clause.c[f"value_{self.carried.index(name)}"] for name in columns]


@dataclass(frozen=True, kw_only=True)
class Hop:
    """A key from rows that go to the rows of `referencing` that reference them.

    `leaves` are the partitions whose rows the key concerns, where it is not all of them.
    """

    number: int
    key: ForeignKey
    source: Closure
    referencing: Table
    leaves: tuple[TableName, ...]

    @cached_property
    def rows(self) -> NamedFromClause:
        """The referencing rows."""
        return rows_of(self.referencing, "referencing")

    @cached_property
    def joined(self) -> FromClause:
        """The rows that go, each with the rows that reference it."""
        return self.source.clause.join(self.rows, self.matches(self.key))

    def matches(self, key: ForeignKey) -> ColumnElement[bool]:
        """Whether the referencing row references the row that goes, by this key of the two."""
        values = compared(
            [self.source.table.column(name) for name in key.referenced_columns],
            [self.referencing.column(name) for name in key.referencing_columns],
            self.source.values(key.referenced_columns),
        )
        match = match_key(key, values, [self.rows.c[name] for name in key.referencing_columns])
        if not self.leaves:
            return match
        return sa.and_(match, sa.or_(*(is_leaf(self.source.clause, leaf) for leaf in self.leaves)))


def compared(
    referenced: Sequence[Column],
    referencing: Sequence[Column],
    values: Sequence[ColumnElement[Any]],
) -> list[ColumnElement[Any]]:
    """Referenced values that compare with referencing columns as PostgreSQL's own queries do.

    They use the referencing column's collation, which an index can have, unless that of the
    referenced column is nondeterministic.
    """
    collations = [
        own.collation if other.deterministic else other.collation
        for own, other in zip(referencing, referenced, strict=True)
    ]
    return [
        value if collation is None else value.collate(quoted_name(collation, quote=False))
        for value, collation in zip(values, collations, strict=True)
    ]


def is_leaf(rows: FromClause, leaf: TableName) -> ColumnElement[bool]:
    """Whether the row of a temporary table stands for one of that partition."""
    oid = sa.cast(sa.func.pg_catalog.to_regclass(str(leaf)), OID)
    return rows.c.leaf == oid


def create_closure(closure: Closure) -> Sequence[Executable]:
    """DDL of the closure, which goes with the transaction. In a cyclic one a row is only once."""
    columns: list[sa.Column[Any]] = [
        sa.Column("leaf", OID, primary_key=closure.cyclic, autoincrement=False),
        sa.Column("at", TID, primary_key=closure.cyclic),
        sa.Column("level", sa.Integer),
        sa.Column("via", sa.Integer),
    ]
    columns += [
        sa.Column(f"value_{i}", plain_type(closure.table.column(name)))
        for i, name in enumerate(closure.carried)
    ]
    table = sa.Table(
        closure.name,
        sa.MetaData(),
        *columns,
        prefixes=["TEMPORARY"],
        postgresql_on_commit="DROP",
    )
    if not closure.cyclic:
        return (CreateTable(table),)
    index = sa.Index(f"{closure.name}_level", table.c.level)
    return (CreateTable(table), CreateIndex(index))


def seed_closure(
    closure: Closure,
    rows: NamedFromClause,
    table: Table,
    chosen: ColumnElement[bool],
    limit: int | None,
) -> Insert:
    """Puts the rows in that the statement deletes: those of `table` that `chosen` is true of."""
    query = sa.select(
        rows.c.tableoid,
        rows.c.ctid,
        sa.literal_column("0"),
        sa.literal_column("0"),
        *(rows.c[name] for name in closure.carried),
    ).where(chosen)
    return closure.clause.insert().from_select(
        list(closure.clause.c), alone(query.select_from(rows).limit(limit), table, rows)
    )


def _reached(hop: Hop, target: Closure) -> Query:
    """The rows that the hop reaches, as rows of the target."""
    query = sa.select(
        hop.rows.c.tableoid.label("leaf"),
        hop.rows.c.ctid.label("at"),
        (hop.source.clause.c.level + 1).label("level"),
        sa.literal_column(str(hop.number)).label("via"),
        *(hop.rows.c[name].label(f"value_{i}") for i, name in enumerate(target.carried)),
    ).select_from(hop.joined)
    return alone(query, hop.referencing, hop.rows)


def follow(hop: Hop, target: Closure, limit: int | None) -> Insert:
    """Puts the rows in that go by the hop, the only one that leads to the target."""
    reached = _reached(hop, target).limit(limit)
    return target.clause.insert().from_select(list(target.clause.c), reached)


def follow_all(hops: Sequence[Hop], target: Closure, limit: int | None) -> Insert:
    """Puts the rows in that go by one hop or another, each at its lowest level."""
    reached = sa.union_all(*(_reached(hop, target) for hop in hops)).subquery("reached")
    turn = sa.func.row_number().over(
        partition_by=(reached.c.leaf, reached.c.at), order_by=(reached.c.level, reached.c.via)
    )
    ranked = sa.select(reached, turn.label("turn")).subquery("ranked")
    names = [column.name for column in target.clause.c]
    first = sa.select(*(ranked.c[name] for name in names)).where(ranked.c.turn == 1)
    return target.clause.insert().from_select(list(target.clause.c), first.limit(limit))


def follow_level(hop: Hop, target: Closure, limit: int | None) -> Insert:
    """Puts the rows in that go because of those of the bind `level`, unless they are in already."""
    at_level = hop.source.clause.c.level == sa.bindparam("level", type_=sa.Integer)
    return (
        postgresql.insert(target.clause)
        .from_select(list(target.clause.c), _reached(hop, target).where(at_level).limit(limit))
        .on_conflict_do_nothing()
    )


def count_reached(hop: Hop, limit: int | None) -> Query:
    """How many rows go by the hop: their level, number."""
    query = sa.select((hop.source.clause.c.level + 1).label("level")).select_from(hop.joined)
    level = alone(query.limit(limit), hop.referencing, hop.rows).subquery("reached").c.level
    return sa.select(level, sa.func.count()).group_by(level).order_by(level)


def show_reached(hop: Hop, limit: int) -> Query:
    """Some rows that go by the hop from rows of the bind `level`: their places."""
    at_level = hop.source.clause.c.level == sa.bindparam("level", type_=sa.Integer)
    query = sa.select(*place(hop.rows)).select_from(hop.joined).where(at_level).limit(limit)
    return alone(query, hop.referencing, hop.rows)


def count_levels(closure: Closure) -> Query:
    """How many rows of the closure there are: level, via, number."""
    columns = (closure.clause.c.level, closure.clause.c.via)
    return sa.select(*columns, sa.func.count()).group_by(*columns).order_by(*columns)


def show_closure(closure: Closure, limit: int) -> Query:
    """Some rows of the closure at the binds `level` and `via`: their places."""
    own = closure.clause.c
    here = (own.level == sa.bindparam("level"), own.via == sa.bindparam("via"))
    query = sa.select(sa.cast(own.leaf, sa.BigInteger), sa.cast(own.at, sa.Text)).where(*here)
    return query.order_by(own.leaf, own.at).limit(limit)


def find_in_closure(closure: Closure) -> Query:
    """Level and via of the row at the binds `leaf` and `at`, if it goes."""
    own = closure.clause.c
    return sa.select(own.level, own.via).where(is_at_binds(own.leaf, own.at))


def is_at_binds(leaf: ColumnElement[Any], at: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether the place is that of the binds `leaf` and `at`."""
    return sa.and_(
        leaf == sa.cast(sa.bindparam("leaf", type_=sa.BigInteger), OID),
        at == sa.cast(sa.bindparam("at", type_=sa.Text), TID),
    )


@dataclass(frozen=True, kw_only=True)
class Check:
    """A hop whose key looks at the rows it leads to, and the closure of those, if rows of it go.

    `before` are keys between the same two tables that delete and fire before it; a deferred check
    looks when all is over.
    """

    hop: Hop
    target: Closure | None
    before: tuple[ForeignKey, ...]
    deferred: bool

    @cached_property
    def gone(self) -> FromClause | None:
        """The rows of the target, under an alias: the table may reference itself."""
        return None if self.target is None else self.target.clause.alias("gone")

    @cached_property
    def joined(self) -> FromClause:
        """Referencing rows with what becomes of them."""
        if self.gone is None:
            return self.hop.joined
        rows, gone = self.hop.rows, self.gone
        return self.hop.joined.outerjoin(
            gone, sa.and_(gone.c.leaf == rows.c.tableoid, gone.c.at == rows.c.ctid)
        )

    @cached_property
    def state(self) -> ColumnElement[str]:
        """What has become of the referencing row when the key looks at it."""
        if self.gone is None:
            return sa.literal_column(f"'{STAYS}'")
        gone, level = self.gone.c.level, self.hop.source.clause.c.level
        if self.deferred:
            return sa.case((gone.is_not(None), GONE), else_=STAYS)
        whens: list[tuple[ColumnElement[bool], str]] = [(gone <= level, GONE)]
        if self.before:
            settled = sa.or_(*(self.hop.matches(key) for key in self.before))
            whens.append((sa.and_(gone == level + 1, settled), SETTLED))
        whens.append((gone == level + 1, CONTESTED))
        return sa.case(*whens, else_=STAYS)


def count_states(check: Check) -> Query:
    """How many referencing rows there are: state, level of the row they reference, number."""
    hop = check.hop
    query = sa.select(check.state.label("state"), hop.source.clause.c.level.label("level"))
    found = alone(query.select_from(check.joined), hop.referencing, hop.rows).subquery("found")
    columns = (found.c.state, found.c.level)
    return sa.select(*columns, sa.func.count()).group_by(*columns).order_by(*columns)


def select_staying(check: Check, limit: int) -> Query:
    """Some rows that stay: their place, then place, level and via of what they reference."""
    hop = check.hop
    source = hop.source.clause
    columns = (hop.rows.c.tableoid, hop.rows.c.ctid, source.c.leaf, source.c.at)
    query = (
        sa.select(
            *(sa.cast(c, sa.BigInteger if i % 2 == 0 else sa.Text) for i, c in enumerate(columns)),
            source.c.level,
            source.c.via,
        )
        .select_from(check.joined)
        .where(check.state == STAYS)
        .order_by(source.c.level, *columns)
        .limit(limit)
    )
    return alone(query, hop.referencing, hop.rows)


def select_cause(hop: Hop) -> Query:
    """The row by which the row at the binds `leaf`, `at` went: its place and via.

    `level` is the bind for its level.
    """
    source = hop.source.clause
    query = (
        sa.select(
            sa.cast(source.c.leaf, sa.BigInteger), sa.cast(source.c.at, sa.Text), source.c.via
        )
        .select_from(hop.joined)
        .where(
            is_at_binds(hop.rows.c.tableoid, hop.rows.c.ctid),
            source.c.level == sa.bindparam("level", type_=sa.Integer),
        )
        .order_by(source.c.leaf, source.c.at)
        .limit(1)
    )
    return alone(query, hop.referencing, hop.rows)


class Explain(Executable, ClauseElement):
    """EXPLAIN (FORMAT JSON) of a query: one row, the plan."""

    inherit_cache = False

    def __init__(self, query: Query) -> None:
        self.query = query


@compiles(Explain)
def _compile_explain(element: Explain, compiler: SQLCompiler, **words: Any) -> str:
    return "EXPLAIN (FORMAT JSON) " + compiler.process(element.query, **words)


def select_hop(hop: Hop) -> Query:
    """A row for each row that the hop reaches."""
    query = sa.select(sa.literal(1)).select_from(hop.joined)
    return alone(query, hop.referencing, hop.rows)
