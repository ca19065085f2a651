"""What would be wrong after the references have moved, asked before any does.

Each query has a row per thing that is wrong, at most ten: keys of the rows, as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import ForeignKey, Table, UniqueKey
from fkdoctor.statement.members import SHOWN, MemberTable
from fkdoctor.statement.parts import Query, equal, make_table, references, text_array


def find_collisions(
    members: MemberTable, keys: Sequence[ForeignKey], referencing: Table, unique: UniqueKey
) -> Query:
    """The groups of referencing rows that the unique key would not let share a survivor.

    Compared is the final image: every one of `keys` (all from `referencing`, one column each, to
    the deduplicated table) repointed at once.
    """
    rows = _rows_of(referencing)
    source: FromClause = rows
    final: dict[str, ColumnElement[Any]] = {name: rows.c[name] for name in unique.columns}
    moved: list[ColumnElement[bool]] = []
    for number, key in enumerate(keys):
        map_ = members.clause.alias(f"map_{number}")
        source = source.outerjoin(map_, _points_at(members, key, rows, map_))
        (keep,) = members.values("keep", key.referenced_columns, map_)
        (column,) = key.referencing_columns
        final[column] = sa.func.coalesce(keep, rows.c[column])
        moved.append(map_.c.cluster.is_not(None))
    compared = [final[name] for name in unique.columns]
    identity = text_array([rows.c[name] for name in referencing.row_identity])
    in_order = postgresql.aggregate_order_by(identity, identity)
    chosen = sa.select(sa.func.array_agg(in_order)).where(sa.or_(*moved))
    if not unique.nulls_not_distinct:
        chosen = chosen.where(*(value.is_not(None) for value in compared))
    return (
        chosen.select_from(source)
        .with_hint(rows, "ONLY", "postgresql")
        .group_by(*compared)
        .having(sa.func.count() > 1)
        .limit(SHOWN)
    )


def find_self_links(
    members: MemberTable, first: ForeignKey, second: ForeignKey, referencing: Table
) -> Query:
    """The rows whose two references are to different rows of a cluster, and would be to one."""
    rows = _rows_of(referencing)
    one, other = members.clause.alias("one"), members.clause.alias("other")
    same = equal(
        members.values("member", members.key_columns, one),
        members.values("member", members.key_columns, other),
    )
    return (
        sa.select(text_array([rows.c[name] for name in referencing.row_identity]))
        .select_from(
            rows.join(one, _points_at(members, first, rows, one)).join(
                other, _points_at(members, second, rows, other)
            )
        )
        .where(one.c.cluster == other.c.cluster, ~same)
        .with_hint(rows, "ONLY", "postgresql")
        .limit(SHOWN)
    )


def find_lost_references(members: MemberTable, key: ForeignKey, referencing: Table) -> Query:
    """The rows that reference a duplicate by columns in which its survivor has a NULL."""
    rows = _rows_of(referencing)
    keep = members.values("keep", key.referenced_columns)
    return (
        sa.select(text_array([rows.c[name] for name in referencing.row_identity]))
        .select_from(members.clause.join(rows, _points_at(members, key, rows, members.clause)))
        .where(~members.clause.c.is_survivor, sa.or_(*(value.is_(None) for value in keep)))
        .with_hint(rows, "ONLY", "postgresql")
        .limit(SHOWN)
    )


def find_loops(members: MemberTable, key: ForeignKey) -> Query:
    """The survivors that would come to be above themselves in the hierarchy of a self-reference.

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
        return (
            sa.select(
                *(value.label(f"start_{i}") for i, value in enumerate(start)),
                *(value.label(f"at_{i}") for i, value in enumerate(above)),
                sa.func.coalesce(~map_.c.is_survivor, False).label("moved"),
            )
            .select_from(source.outerjoin(map_, _points_at(members, key, at, map_)))
            .where(*(at.c[name].is_not(None) for name in key.referencing_columns))
            .with_hint(at, "ONLY", "postgresql")
        )

    pointing = _rows_of(table, "pointing")
    gained = _points_at(members, key, pointing, members.clause) & ~members.clause.c.is_survivor
    survivor = _rows_of(table, "survivor")
    keep = members.values("keep", key.referenced_columns)
    begin = members.clause.join(pointing, gained).join(
        survivor, equal([survivor.c[name] for name in key.referenced_columns], keep)
    )
    way = (
        step(keep, survivor, begin)
        .with_hint(pointing, "ONLY", "postgresql")
        .cte("way", recursive=True)
    )
    start, here = ([way.c[f"{kind}_{i}"] for i in width] for kind in ("start", "at"))
    next_ = _rows_of(table, "next")
    go_on = way.join(next_, equal([next_.c[name] for name in key.referenced_columns], here))
    # UNION forgets what it has seen, so that a loop ends the walk.
    way = way.union(step(start, next_, go_on))
    start, here = ([way.c[f"{kind}_{i}"] for i in width] for kind in ("start", "at"))
    return sa.select(text_array(start)).where(equal(start, here), way.c.moved).limit(SHOWN)


def _rows_of(table: Table, alias: str = "referencing") -> NamedFromClause:
    return make_table(table.name, [column.name for column in table.columns]).alias(alias)


def _points_at(
    members: MemberTable, key: ForeignKey, rows: FromClause, clause: FromClause
) -> ColumnElement[bool]:
    return references(key, members.values("member", key.referenced_columns, clause), rows)
