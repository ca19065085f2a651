"""Rows that collide beside those for which they go: how they differ, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause

from fkdoctor.schema import Table
from fkdoctor.statement.image import ImageTable, follow_keys
from fkdoctor.statement.members import SHOWN, MemberTable
from fkdoctor.statement.parts import Query, alone, as_text, collated, equal, same_text, text_array


def judge_losers(image: ImageTable, members: MemberTable) -> sa.Update:
    """Finds out of each row that collides whether it differs from the one that stays.

    Compared is the final image, without what identifies the rows.
    """
    compared = _compare_losers(image, members)
    differs = sa.or_(
        sa.false(),
        *(
            same_text(as_text(one)).is_distinct_from(same_text(as_text(other)))
            for one, other in compared.values.values()
        ),
    )
    judged = alone(
        alone(
            sa.select(
                *(compared.loser.c[f"member_{i}"] for i in range(members.key_width)),
                differs.label("differs"),
            )
            .select_from(compared.source)
            .where(*compared.conditions),
            image.table,
            compared.gone,
        ),
        image.table,
        compared.kept,
    ).subquery("judged")
    key = [
        collated(members.column(name), judged.c[f"member_{i}"])
        for i, name in enumerate(members.key_columns)
    ]
    return (
        sa.update(members.clause)
        .values(differs=judged.c.differs)
        .where(
            equal(members.member_key, key),
            members.clause.c.because.is_not(None),
        )
    )


def select_differing(image: ImageTable, members: MemberTable) -> Query:
    """Rows that collide and differ, at most ten: constraint, keys and values of both, as text[].

    The values are of the columns that compared_columns names.
    """
    compared = _compare_losers(image, members)
    pairs = compared.values.values()
    loser = compared.loser
    return alone(
        alone(
            sa.select(
                loser.c.because,
                text_array(members.values("member", members.key_columns, loser)).label("lost"),
                text_array(members.values("keep", members.key_columns, loser)).label("kept"),
                text_array([pair[0] for pair in pairs]).label("lost_values"),
                text_array([pair[1] for pair in pairs]).label("kept_values"),
            )
            .select_from(compared.source)
            .where(*compared.conditions, loser.c.differs)
            .order_by(loser.c.because, *members.values("member", members.key_columns, loser))
            .limit(SHOWN),
            image.table,
            compared.gone,
        ),
        image.table,
        compared.kept,
    )


def compared_columns(table: Table) -> tuple[str, ...]:
    """The columns in which rows that collide may differ: all but keys and what is computed."""
    identity = table.row_identity
    return tuple(c.name for c in table.columns if not c.generated and c.name not in identity)


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """Losers beside the rows for which they go: `values` are pairs, by column."""

    loser: FromClause
    gone: FromClause
    kept: FromClause
    source: FromClause
    values: dict[str, tuple[ColumnElement[Any], ColumnElement[Any]]]
    conditions: list[ColumnElement[bool]]


def _compare_losers(image: ImageTable, members: MemberTable) -> _Comparison:
    loser = members.clause.alias("loser")
    gone, kept = image.rows("gone"), image.rows("kept")
    source: FromClause = loser
    finals = []
    for rows, kind in ((gone, "member"), (kept, "keep")):
        key = [rows.c[name] for name in members.key_columns]
        source = source.join(rows, equal(key, members.values(kind, members.key_columns, loser)))
    for rows in (gone, kept):
        source, final, _ = follow_keys(image, rows, source)
        finals.append({name: rows.c[name] for name in compared_columns(image.table)} | final)
    return _Comparison(
        loser=loser,
        gone=gone,
        kept=kept,
        source=source,
        values={name: (finals[0][name], finals[1][name]) for name in compared_columns(image.table)},
        conditions=[~loser.c.is_survivor, loser.c.because.is_not(None)],
    )


def select_collisions(members: MemberTable) -> Query:
    """A row per collision in the order of clusters: `cluster`, `because`, `differs`, identity and
    fingerprint of the row that goes (`row`, `row_fingerprint`) and, unless it is a link, of the one
    that stays (`kept`, `kept_fingerprint`)."""
    loser, keeper = members.clause.alias("loser"), members.clause.alias("keeper")
    stays = sa.and_(
        equal(
            members.values("member", members.key_columns, keeper),
            members.values("keep", members.key_columns, loser),
        ),
        keeper.c.is_survivor,
    )
    return (
        sa.select(
            loser.c.cluster,
            loser.c.because,
            loser.c.differs,
            text_array(members.values("member", members.key_columns, loser)).label("row"),
            loser.c.fingerprint.label("row_fingerprint"),
            text_array(members.values("member", members.key_columns, keeper)).label("kept"),
            keeper.c.fingerprint.label("kept_fingerprint"),
        )
        .select_from(loser.outerjoin(keeper, stays))
        .where(loser.c.because.is_not(None))
        .order_by(loser.c.cluster, *members.values("member", members.key_columns, loser))
    )


def select_differing_clusters(members: MemberTable) -> Query:
    """The clusters with rows that collide and differ: their numbers."""
    return sa.select(members.clause.c.cluster).where(members.clause.c.differs).distinct()


def count_collisions(members: MemberTable) -> Query:
    """How many rows collide: `because`, `differs`, whether they are a `link`, `rows`."""
    table = members.clause
    link = table.c.keep_0.is_(None)
    return (
        sa.select(table.c.because, table.c.differs, link.label("link"), sa.func.count().label("n"))
        .where(table.c.because.is_not(None))
        .group_by(table.c.because, table.c.differs, link)
        .order_by(table.c.because, table.c.differs)
    )


def select_links(members: MemberTable) -> Query:
    """The rows that go because both their ends become one survivor, at most ten: the constraints,
    and the identity as text."""
    table = members.clause
    return (
        sa.select(table.c.because, text_array(members.member_key))
        .where(table.c.because.is_not(None), table.c.keep_0.is_(None))
        .order_by(table.c.because, *members.member_key)
        .limit(SHOWN)
    )
