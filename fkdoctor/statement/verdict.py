"""Who stays of the rows in contests, and who goes for whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Insert, Update
from sqlalchemy.sql.selectable import Subquery

from fkdoctor.statement.contest import ContestTable, Exclusive
from fkdoctor.statement.image import key_of
from fkdoctor.statement.matches import Ordering
from fkdoctor.statement.members import SHOWN, MemberTable, fingerprint_row, is_member
from fkdoctor.statement.parts import Query, alone, equal, make_table, text_array


def rank_rows(contest: ContestTable, order: Sequence[Ordering], rows: FromClause) -> Update:
    """Ranks the rows in contests: survivors first, then by `order`, then those that do not move,
    then by key.

    The expressions of `order` are over `rows`, the table under the alias ROW.
    """
    table = contest.image.table
    orders = [ordering for ordering in order if ordering.expression is not None]
    known = alone(
        sa.select(
            *(rows.c[name].label(f"key_{i}") for i, name in enumerate(contest.image.identity)),
            *(o.expression.label(f"order_{i}") for i, o in enumerate(orders)),  # type: ignore[union-attr]
        ).select_from(rows),
        table,
        rows,
    ).subquery("known")
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
        terms.append(is_member(own, named, survives=True).desc())
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

    lost = alone(
        alone(
            sa.select(
                pairs.c.cluster,
                sa.false(),
                fingerprint_row(),
                because,
                sa.cast(sa.null(), sa.Boolean),
                *(gone.c[name] for name in members.carried),
                *(kept.c[name] for name in members.carried),
            ).select_from(pairs.join(gone, at(gone, "lost")).join(kept, at(kept, "won"))),
            table,
            gone,
        ),
        table,
        kept,
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
        alone(
            sa.select(
                found.c.cluster,
                sa.true(),
                fingerprint_row(),
                sa.cast(sa.null(), sa.Text),
                sa.cast(sa.null(), sa.Boolean),
                *values,
                *values,
            ).select_from(
                found.join(members.row, equal(members.row_key, values[: members.key_width]))
            ),
            members.table,
            members.row,
        ),
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


def find_demoted(contest: ContestTable) -> Query:
    """The rows in contests that are demoted already: their identity, as text."""
    demotion, entry = contest.image.demotion, contest.clause.alias("entry")
    assert demotion is not None
    members = demotion.members
    member = members.clause.alias("member")
    here = equal(
        members.values("member", members.key_columns, member), key_of(contest.image.table, entry)
    )
    return (
        sa.select(text_array([entry.c[name] for name in contest.key_names]))
        .select_from(entry.join(member, here))
        .where(~member.c.is_survivor)
        .distinct()
        .limit(SHOWN)
    )
