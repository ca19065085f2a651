"""Which rows collide on the final image, and which of them stay.

A *contest* is a group of rows of one table that one constraint would not let stand together. The
temporary table has a row for each row in each contest: `place` of the constraint, `contest`, the
row's identity as `key_i`, whether it `moved`, the `clusters` that move it, its `rank` (1 is best)
and, once that is decided, whether it is `kept`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Insert, TableClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import quoted_name
from sqlalchemy.sql.selectable import Subquery

from fkdoctor.schema import Index, TableName
from fkdoctor.statement.image import ImageTable, key_of
from fkdoctor.statement.members import is_member
from fkdoctor.statement.parts import (
    Query,
    alone,
    equal,
    is_in,
    make_table,
    plain_type,
    quoted,
)


@dataclass(frozen=True, kw_only=True)
class Exclusive:
    """A constraint that two rows can break together: its index, and the operators it compares by
    where these are not plain equality. It is over rows in `leaves`, where only these have it."""

    place: int
    name: str
    index: Index
    operators: tuple[str, ...] = ()
    leaves: tuple[TableName, ...] = ()

    def covers(self, rows: FromClause) -> list[ColumnElement[bool]]:
        """What is true of the rows of its table that it is over."""
        return [is_in(rows, self.leaves)] if self.leaves else []


@dataclass(frozen=True, kw_only=True)
class ContestTable:
    """The temporary table for the rows of an image. `generated` are expressions of columns."""

    image: ImageTable
    generated: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the temporary table."""
        return f"fkdoctor_contest_{self.image.number}"

    @cached_property
    def clause(self) -> TableClause:
        """The temporary table itself."""
        return make_table(
            TableName("pg_temp", self.name),
            ("place", "contest", "moved", "clusters", "rank", "kept", *self.key_names),
        )

    @property
    def key_names(self) -> list[str]:
        """The names of the columns that hold a row's identity."""
        return [f"key_{i}" for i in range(len(self.image.identity))]


def create_contest(contest: ContestTable) -> CreateTable:
    """DDL of the contest table; it goes with the transaction."""
    table = contest.image.table
    columns: list[sa.Column[Any]] = [
        sa.Column("place", sa.Integer),
        sa.Column("contest", sa.BigInteger),
        sa.Column("moved", sa.Boolean),
        sa.Column("clusters", sa.ARRAY(sa.Integer)),
        sa.Column("rank", sa.BigInteger),
        sa.Column("kept", sa.Boolean),
    ]
    columns += [
        sa.Column(label, plain_type(table.column(name)))
        for label, name in zip(contest.key_names, contest.image.identity, strict=True)
    ]
    return CreateTable(
        sa.Table(
            contest.name,
            sa.MetaData(),
            *columns,
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DROP",
        )
    )


def _final_terms(contest: ContestTable, exclusive: Exclusive) -> Query:
    """The rows that move, with what they are compared by then: `key_i`, `clusters`, `term_i`."""
    image, table = contest.image, contest.image.table
    rows = image.rows("now")
    final = {name: image.clause.c[f"final_{i}"] for i, name in enumerate(image.moving)}
    stored = [c.name for c in table.columns if not c.generated]
    base = (
        sa.select(*(final.get(name, rows.c[name]).label(quoted(name)) for name in stored))
        .correlate(image.clause, rows)
        .offset(0)
        .subquery(quoted(table.name.name))
    )
    if contest.generated:
        base = (
            sa.select(
                *(base.c[name] for name in stored),
                *(
                    sa.literal_column(f"({text})").label(quoted(name))
                    for name, text in contest.generated.items()
                ),
            )
            .correlate(image.clause, rows)
            .subquery(quoted(table.name.name))
        )
    terms = (
        sa.select(*_terms(exclusive.index, base), _holds(exclusive.index).label("holds"))
        .select_from(base)
        .correlate(image.clause, rows)
        .lateral("terms")
    )
    here = equal([rows.c[name] for name in image.identity], image.key())
    return alone(
        sa.select(
            *(image.clause.c[name] for name in contest.key_names),
            image.clause.c.clusters,
            *_labelled(exclusive, terms),
        )
        .select_from(image.clause.join(rows, here).join(terms, sa.true()))
        .where(terms.c.holds, *_comparable(exclusive, terms), *exclusive.covers(rows)),
        table,
        rows,
    )


def _standing_terms(contest: ContestTable, exclusive: Exclusive) -> Subquery:
    """The table's rows as they are now, with what they are compared by."""
    image, table = contest.image, contest.image.table
    columns = [column.name for column in table.columns]
    rows = make_table(table.name, columns).alias(quoted(table.name.name))
    return alone(
        sa.select(
            *(rows.c[name].label(f"key_{i}") for i, name in enumerate(image.identity)),
            *_terms(exclusive.index, rows),
        )
        .select_from(rows)
        .where(_holds(exclusive.index), *exclusive.covers(rows)),
        table,
        rows,
    ).subquery("standing")


def _terms(index: Index, rows: FromClause) -> list[ColumnElement[Any]]:
    """What the index compares, of a clause that goes by the name of the table."""
    terms: list[ColumnElement[Any]] = []
    for i, key in enumerate(index.keys):
        term: ColumnElement[Any] = (
            rows.c[key.column]
            if key.column is not None
            else sa.literal_column(f"({key.expression})")
        )
        if key.collation is not None:
            term = term.collate(quoted_name(key.collation, quote=False))
        terms.append(term.label(f"term_{i}"))
    return terms


def _holds(index: Index) -> ColumnElement[bool]:
    if index.predicate is None:
        return sa.true()
    return sa.func.coalesce(sa.literal_column(f"({index.predicate})", sa.Boolean), sa.false())


def _labelled(exclusive: Exclusive, terms: FromClause) -> list[ColumnElement[Any]]:
    return [terms.c[f"term_{i}"] for i in range(len(exclusive.index.keys))]


def _comparable(exclusive: Exclusive, terms: FromClause) -> list[ColumnElement[bool]]:
    """NULL collides with nothing, unless the constraint says otherwise."""
    if exclusive.index.nulls_not_distinct and not exclusive.operators:
        return []
    return [value.is_not(None) for value in _labelled(exclusive, terms)]


def _collide(exclusive: Exclusive, one: FromClause, other: FromClause) -> ColumnElement[bool]:
    pairs = list(
        zip(
            _labelled(exclusive, one),
            _labelled(exclusive, other),
            exclusive.index.keys,
            strict=True,
        )
    )
    if exclusive.operators:
        return sa.and_(
            *(
                a.op(f"OPERATOR({operator})", is_comparison=True)(b)
                for (a, b, _), operator in zip(pairs, exclusive.operators, strict=True)
            )
        )
    if exclusive.index.nulls_not_distinct:
        return sa.and_(*(a.is_not_distinct_from(b) for a, b, _ in pairs))
    return sa.and_(*(a == b for a, b, _ in pairs))


def find_contests(contest: ContestTable, exclusive: Exclusive) -> Insert:
    """Puts in the rows that the constraint would not let stand together, of which one moves."""
    moved = _final_terms(contest, exclusive).cte("moved")
    standing = _standing_terms(contest, exclusive)
    image, table = contest.image, contest.image.table
    key = key_of(table, standing)
    imaged = sa.select(sa.literal(1)).where(equal(image.key(), key)).correlate(standing).exists()
    # Each once, however many of those that move it would collide with.
    beside = sa.select(
        *(standing.c[name] for name in contest.key_names),
        *_labelled(exclusive, standing),
    ).where(
        sa.select(sa.literal(1))
        .select_from(moved)
        .where(_collide(exclusive, moved, standing))
        .correlate(standing)
        .exists(),
        ~imaged,
    )
    if image.own:
        named = {f: standing.c[f"key_{i}"] for i, f in enumerate(image.identity)}
        beside = beside.where(~is_member(image.own, named, survives=False))
    beside_cte = beside.cte("beside")
    nothing = sa.cast(postgresql.array([], type_=sa.Integer), sa.ARRAY(sa.Integer))
    both = sa.union_all(
        sa.select(moved, sa.true().label("moved")),
        sa.select(
            *(beside_cte.c[name] for name in contest.key_names),
            nothing.label("clusters"),
            *_labelled(exclusive, beside_cte),
            sa.false().label("moved"),
        ),
    )
    if exclusive.operators:
        return _insert_pairs(contest, exclusive, both.cte("both"))
    rows = both.subquery("both")
    terms = _labelled(exclusive, rows)
    grouped = sa.select(
        *(rows.c[name] for name in (*contest.key_names, "moved", "clusters")),
        sa.func.dense_rank().over(order_by=terms).label("contest"),
        sa.func.count().over(partition_by=terms).label("size"),
    ).subquery("grouped")
    names = ("contest", "moved", "clusters", *contest.key_names)
    return contest.clause.insert().from_select(
        ["place", *names],
        sa.select(sa.literal(exclusive.place), *(grouped.c[name] for name in names)).where(
            grouped.c.size > 1
        ),
    )


def _insert_pairs(contest: ContestTable, exclusive: Exclusive, both: Any) -> Insert:
    """Each two rows that exclude each other are a contest of their own."""
    one, other = both.alias("one"), both.alias("other")
    first = [one.c[name] for name in contest.key_names]
    second = [other.c[name] for name in contest.key_names]
    pairs = (
        sa.select(
            *(value.label(f"a_{i}") for i, value in enumerate(first)),
            *(value.label(f"b_{i}") for i, value in enumerate(second)),
            one.c.moved.label("a_moved"),
            other.c.moved.label("b_moved"),
            one.c.clusters.label("a_clusters"),
            other.c.clusters.label("b_clusters"),
            sa.func.row_number().over().label("contest"),
        )
        .select_from(one.join(other, _collide(exclusive, one, other)))
        .where(one.c.moved, sa.tuple_(*first) != sa.tuple_(*second))
        .cte("pairs")
    )

    def side(letter: str) -> Query:
        return sa.select(
            sa.literal(exclusive.place),
            pairs.c.contest,
            pairs.c[f"{letter}_moved"],
            pairs.c[f"{letter}_clusters"],
            *(pairs.c[f"{letter}_{i}"] for i in range(len(contest.key_names))),
        )

    return contest.clause.insert().from_select(
        ["place", "contest", "moved", "clusters", *contest.key_names],
        sa.union_all(side("a"), side("b")),
    )
