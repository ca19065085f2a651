"""Which rows collide on the final image, and which of them stay.

A *contest* is a group of rows of one table that one constraint would not let stand together. The
temporary table has a row for each row in each contest: `place` of the constraint, `contest`, the
row's identity as `key_i`, whether it `moved`, the `clusters` that move it, its `rank` (1 is best)
and, once that is decided, whether it is `kept`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Insert, TableClause, Update
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import quoted_name
from sqlalchemy.sql.selectable import Subquery

from fkdoctor.schema import Index, TableName
from fkdoctor.statement.image import ImageTable, key_of
from fkdoctor.statement.matches import Ordering
from fkdoctor.statement.members import SHOWN, MemberTable, fingerprint_row
from fkdoctor.statement.parts import (
    Query,
    equal,
    make_table,
    plain_type,
    quoted,
    text_array,
)


@dataclass(frozen=True, kw_only=True)
class Exclusive:
    """A constraint that two rows can break together: its index, and the operators it compares by
    where these are not plain equality."""

    place: int
    name: str
    index: Index
    operators: tuple[str, ...] = ()


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
    return (
        sa.select(
            *(image.clause.c[name] for name in contest.key_names),
            image.clause.c.clusters,
            *_labelled(exclusive, terms),
        )
        .select_from(image.clause.join(rows, here).join(terms, sa.true()))
        .where(terms.c.holds, *_comparable(exclusive, terms))
        .with_hint(rows, "ONLY", "postgresql")
    )


def _standing_terms(contest: ContestTable, exclusive: Exclusive) -> Subquery:
    """The table's rows as they are now, with what they are compared by."""
    image, table = contest.image, contest.image.table
    columns = [column.name for column in table.columns]
    rows = make_table(table.name, columns).alias(quoted(table.name.name))
    return (
        sa.select(
            *(rows.c[name].label(f"key_{i}") for i, name in enumerate(image.identity)),
            *_terms(exclusive.index, rows),
        )
        .select_from(rows)
        .where(_holds(exclusive.index))
        .with_hint(rows, "ONLY", "postgresql")
        .subquery("standing")
    )


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
        beside = beside.where(~_is_member_by_key(image.own, named, survives=False))
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


def _is_member_by_key(
    members: MemberTable, key: Mapping[str, ColumnElement[Any]], *, survives: bool
) -> ColumnElement[bool]:
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


def rank_rows(contest: ContestTable, order: Sequence[Ordering], rows: FromClause) -> Update:
    """Ranks the rows in contests: survivors first, then by `order`, then those that do not move,
    then by key.

    The expressions of `order` are over `rows`, the table under the alias ROW.
    """
    table = contest.image.table
    orders = [ordering for ordering in order if ordering.expression is not None]
    known = (
        sa.select(
            *(rows.c[name].label(f"key_{i}") for i, name in enumerate(contest.image.identity)),
            *(o.expression.label(f"order_{i}") for i, o in enumerate(orders)),  # type: ignore[union-attr]
        )
        .select_from(rows)
        .with_hint(rows, "ONLY", "postgresql")
        .subquery("known")
    )
    entry = contest.clause.alias("entry")
    each = (
        sa.select(*(entry.c[name] for name in contest.key_names), entry.c.moved)
        .distinct()
        .subquery("each")
    )
    terms: list[ColumnElement[Any]] = []
    own = contest.image.own
    if own:
        named = dict(zip(own.key_columns, key_of(table, each), strict=True))
        terms.append(_is_member_by_key(own, named, survives=True).desc())
    for i, ordering in enumerate(orders):
        value = known.c[f"order_{i}"]
        terms.append((value.desc() if ordering.descending else value.asc()).nulls_last())
    terms += [each.c.moved.asc(), *(value.asc() for value in key_of(table, each))]
    ranked = (
        sa.select(
            *(each.c[name] for name in contest.key_names),
            sa.func.row_number().over(order_by=terms).label("rank"),
        )
        .select_from(each.join(known, equal(key_of(table, known), key_of(table, each))))
        .subquery("ranked")
    )
    return (
        sa.update(contest.clause)
        .values(rank=ranked.c.rank)
        .where(equal(key_of(table, contest.clause), key_of(table, ranked)))
    )


def keep_best(contest: ContestTable) -> Update:
    """Keeps the undecided rows that are the best undecided ones in all of their contests."""
    entry = contest.clause.alias("entry")
    best = sa.func.min(entry.c.rank).over(partition_by=[entry.c.place, entry.c.contest])
    judged = (
        sa.select(entry.c.rank, (entry.c.rank == best).label("first"))
        .where(entry.c.kept.is_(None))
        .subquery("judged")
    )
    winners = (
        sa.select(judged.c.rank).group_by(judged.c.rank).having(sa.func.bool_and(judged.c.first))
    )
    return (
        sa.update(contest.clause)
        .values(kept=True)
        .where(contest.clause.c.kept.is_(None), contest.clause.c.rank.in_(winners))
    )


def drop_beaten(contest: ContestTable) -> Update:
    """Gives up the undecided rows that collide with a kept one."""
    loser, winner = contest.clause.alias("loser"), contest.clause.alias("winner")
    beaten = (
        sa.select(loser.c.rank)
        .select_from(loser.join(winner, _same_contest(loser, winner)))
        .where(loser.c.kept.is_(None), winner.c.kept)
    )
    return (
        sa.update(contest.clause)
        .values(kept=False)
        .where(contest.clause.c.kept.is_(None), contest.clause.c.rank.in_(beaten))
    )


def _same_contest(one: FromClause, other: FromClause) -> ColumnElement[bool]:
    return sa.and_(one.c.place == other.c.place, one.c.contest == other.c.contest)


def select_ties(contest: ContestTable) -> Query:
    """Which clusters meet in a contest, where it is more than one: an integer[] a row."""
    entry = _each_cluster(contest)
    return (
        sa.select(sa.func.array_agg(entry.c.cluster.distinct()))
        .group_by(entry.c.place, entry.c.contest)
        .having(sa.func.count(entry.c.cluster.distinct()) > 1)
        .distinct()
    )


def _each_cluster(contest: ContestTable) -> Subquery:
    """A row per contest and cluster that moves one of its rows, perhaps several times."""
    entry = contest.clause.alias("entry")
    cluster = sa.func.unnest(entry.c.clusters).label("cluster")
    return sa.select(entry.c.place, entry.c.contest, cluster).subquery("entries")


def insert_losers(
    contest: ContestTable, members: MemberTable, exclusives: Sequence[Exclusive]
) -> Sequence[Insert]:
    """Makes members of the rows in contests: who was given up, and for whom; then who was kept."""
    table = contest.image.table
    loser, winner = contest.clause.alias("loser"), contest.clause.alias("winner")
    everybody = _each_cluster(contest)
    involved = (
        sa.select(
            everybody.c.place,
            everybody.c.contest,
            sa.func.min(everybody.c.cluster).label("cluster"),
        )
        .group_by(everybody.c.place, everybody.c.contest)
        .subquery("involved")
    )
    names = contest.key_names
    best = sa.func.row_number().over(
        partition_by=loser.c.rank, order_by=[winner.c.rank, loser.c.place]
    )
    beaten = (
        sa.select(
            *(loser.c[name].label(f"lost_{i}") for i, name in enumerate(names)),
            *(winner.c[name].label(f"won_{i}") for i, name in enumerate(names)),
            loser.c.place,
            involved.c.cluster,
            best.label("best"),
        )
        .select_from(
            loser.join(winner, _same_contest(loser, winner)).join(
                involved, _same_contest(loser, involved)
            )
        )
        .where(~loser.c.kept, winner.c.kept)
        .subquery("beaten")
    )
    # Of several that it collides with, the best one.
    pairs = sa.select(beaten).where(beaten.c.best == 1).subquery("pairs")
    because = sa.case(
        {exclusive.place: exclusive.name for exclusive in exclusives}, value=pairs.c.place
    )
    gone, kept = (
        members.row,
        make_table(table.name, [column.name for column in table.columns]).alias("kept"),
    )

    def at(rows: FromClause, prefix: str) -> ColumnElement[bool]:
        return equal(
            [rows.c[name] for name in members.key_columns],
            [pairs.c[f"{prefix}_{i}"] for i in range(len(names))],
        )

    lost = (
        sa.select(
            pairs.c.cluster,
            sa.false(),
            fingerprint_row(),
            because,
            sa.cast(sa.null(), sa.Boolean),
            *(gone.c[name] for name in members.carried),
            *(kept.c[name] for name in members.carried),
        )
        .select_from(pairs.join(gone, at(gone, "lost")).join(kept, at(kept, "won")))
        .with_hint(gone, "ONLY", "postgresql")
        .with_hint(kept, "ONLY", "postgresql")
    )
    return (members.clause.insert().from_select(list(members.clause.c), lost), add_kept(members))


def add_kept(members: MemberTable) -> Insert:
    """Makes members of the rows for which others were given up, and that are none yet."""
    loser, known = members.clause.alias("loser"), members.clause.alias("known")
    width = len(members.carried)
    keep = [loser.c[f"keep_{i}"].label(f"kept_{i}") for i in range(width)]
    unknown = ~(
        sa.select(sa.literal(1))
        .select_from(known)
        .where(
            equal(
                members.values("member", members.key_columns, known),
                members.values("keep", members.key_columns, loser),
            )
        )
        .correlate(loser)
        .exists()
    )
    found = (
        sa.select(*keep, sa.func.min(loser.c.cluster).label("cluster"))
        .where(~loser.c.is_survivor, loser.c.keep_0.is_not(None), unknown)
        .group_by(*(loser.c[f"keep_{i}"] for i in range(width)))
        .subquery("found")
    )
    values = [found.c[f"kept_{i}"] for i in range(width)]
    return members.clause.insert().from_select(
        list(members.clause.c),
        sa.select(
            found.c.cluster,
            sa.true(),
            fingerprint_row(),
            sa.cast(sa.null(), sa.Text),
            sa.cast(sa.null(), sa.Boolean),
            *values,
            *values,
        )
        .select_from(found.join(members.row, equal(members.row_key, values[: members.key_width])))
        .with_hint(members.row, "ONLY", "postgresql"),
    )


def find_double_losers(members: MemberTable) -> Query:
    """The rows that were kept in one contest and given up in another: their identity, as text."""
    loser, keeper = members.clause.alias("loser"), members.clause.alias("keeper")
    return (
        sa.select(text_array(members.values("member", members.key_columns, loser)))
        .select_from(
            loser.join(
                keeper,
                equal(
                    members.values("member", members.key_columns, loser),
                    members.values("member", members.key_columns, keeper),
                ),
            )
        )
        .where(~loser.c.is_survivor, keeper.c.is_survivor)
        .limit(SHOWN)
    )


def find_blocked_moves(contest: ContestTable) -> Query:
    """The rows that stay and move to where a row still is that goes: their identity, as text."""
    winner, loser = contest.clause.alias("winner"), contest.clause.alias("loser")
    return (
        sa.select(text_array([winner.c[name] for name in contest.key_names]))
        .select_from(winner.join(loser, _same_contest(winner, loser)))
        .where(winner.c.kept, winner.c.moved, ~loser.c.kept, ~loser.c.moved)
        .distinct()
        .limit(SHOWN)
    )
