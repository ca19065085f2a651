"""What would be wrong after the references have moved, asked before any does.

Each query has a row per thing that is wrong, at most ten: keys of the rows, as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import ForeignKey, Table
from fkdoctor.statement.members import SHOWN, MemberTable, is_going, without_heirs
from fkdoctor.statement.parts import (
    Query,
    alone,
    as_text,
    equal,
    make_table,
    references,
    same_text,
    text_array,
)


def find_torn(members: MemberTable, key: ForeignKey, shared: Sequence[str]) -> Query:
    """The clusters of which a referenced row differs from its survivor in what the `shared` columns
    of the key hold: their identity. Rows that reference it would change what other keys hold."""
    rows = make_table(key.referencing, key.referencing_columns).alias("referencing")
    pairs = [
        (member, keep)
        for name, member, keep in zip(
            key.referencing_columns,
            members.values("member", key.referenced_columns),
            members.values("keep", key.referenced_columns),
            strict=True,
        )
        if name in shared
    ]
    return (
        sa.select(text_array(members.member_key))
        .select_from(members.clause)
        .where(
            ~members.clause.c.is_survivor,
            sa.or_(
                *(same_text(as_text(a)).is_distinct_from(same_text(as_text(b))) for a, b in pairs)
            ),
            without_heirs(sa.select(sa.literal(1)).select_from(rows), rows, key)
            .where(_points_at(members, key, rows, members.clause))
            .correlate(members.clause)
            .exists(),
        )
        .limit(SHOWN)
    )


def find_entangled(members: MemberTable, key: ForeignKey) -> Query:
    """The survivors that reference a duplicate of their own by the key: their identity."""
    rows, other = members.row, members.clause.alias("other")
    return alone(
        sa.select(text_array(members.member_key))
        .select_from(
            members.clause.join(rows, equal(members.row_key, members.member_key)).join(
                other, _points_at(members, key, rows, other)
            )
        )
        .where(
            members.clause.c.is_survivor,
            ~other.c.is_survivor,
            equal(members.member_key, members.values("keep", members.key_columns, other)),
        ),
        members.table,
        rows,
    ).limit(SHOWN)


def find_lost_references(
    members: MemberTable, key: ForeignKey, referencing: Table, going: MemberTable | None
) -> Query:
    """The rows that reference a duplicate by columns in which its survivor has a NULL.

    Left out are those that go themselves, as `going` says.
    """
    rows = _rows_of(referencing)
    keep = members.values("keep", key.referenced_columns)
    return alone(
        sa.select(text_array([rows.c[name] for name in referencing.row_identity]))
        .select_from(members.clause.join(rows, _points_at(members, key, rows, members.clause)))
        .where(
            ~members.clause.c.is_survivor,
            sa.or_(*(value.is_(None) for value in keep)),
            *([~is_going(going, rows)] if going else []),
        ),
        referencing,
        rows,
    ).limit(SHOWN)


def find_loops(members: MemberTable, key: ForeignKey) -> Query:
    """The survivors that would come to be above themselves in the hierarchy of a self-reference.

    A survivor's link to a duplicate of its own is left out: what becomes of it is asked elsewhere.
    From each survivor that gains a reference it goes up, along references as they would be then. A
    loop without a reference that moves has been there before, as where a root references itself.
    """
    table = members.table
    width = range(len(key.referenced_columns))

    def step(start: Sequence[ColumnElement[Any]], at: FromClause, source: FromClause) -> Query:
        map_ = members.clause.alias("map")
        ends = members.values("keep", key.referenced_columns, map_)
        above = [
            sa.func.coalesce(end, at.c[name])
            for end, name in zip(ends, key.referencing_columns, strict=True)
        ]
        return alone(
            sa.select(
                *(value.label(f"start_{i}") for i, value in enumerate(start)),
                *(value.label(f"at_{i}") for i, value in enumerate(above)),
                sa.func.coalesce(~map_.c.is_survivor, False).label("moved"),
            )
            .select_from(source.outerjoin(map_, _points_at(members, key, at, map_)))
            .where(
                *(at.c[name].is_not(None) for name in key.referencing_columns),
                sa.or_(map_.c.cluster.is_(None), map_.c.is_survivor, ~_is_at(members, map_, at)),
            ),
            members.table,
            at,
        )

    pointing = _rows_of(table, "pointing")
    gained = _points_at(members, key, pointing, members.clause) & ~members.clause.c.is_survivor
    survivor = _rows_of(table, "survivor")
    keep = members.values("keep", key.referenced_columns)
    begin = members.clause.join(pointing, gained).join(
        survivor, equal([survivor.c[name] for name in key.referenced_columns], keep)
    )
    way = alone(step(keep, survivor, begin), members.table, pointing).cte("way", recursive=True)
    start, here = ([way.c[f"{kind}_{i}"] for i in width] for kind in ("start", "at"))
    next_ = _rows_of(table, "next")
    go_on = way.join(next_, equal([next_.c[name] for name in key.referenced_columns], here))
    # UNION forgets what it has seen, so that a loop ends the walk.
    way = way.union(step(start, next_, go_on))
    start, here = ([way.c[f"{kind}_{i}"] for i in width] for kind in ("start", "at"))
    return sa.select(text_array(start)).where(equal(start, here), way.c.moved).limit(SHOWN)


def _is_at(members: MemberTable, map_: FromClause, at: FromClause) -> ColumnElement[bool]:
    """Whether the row is the survivor to which `map_` leads."""
    return equal(
        [at.c[name] for name in members.key_columns],
        members.values("keep", members.key_columns, map_),
    )


def _rows_of(table: Table, alias: str = "referencing") -> NamedFromClause:
    return make_table(table.name, [column.name for column in table.columns]).alias(alias)


def _points_at(
    members: MemberTable, key: ForeignKey, rows: FromClause, clause: FromClause
) -> ColumnElement[bool]:
    return references(key, members.values("member", key.referenced_columns, clause), rows)
