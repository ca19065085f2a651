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

from fkdoctor.schema import ForeignKey, Table
from fkdoctor.statement.ascent import inherited
from fkdoctor.statement.members import SHOWN, MemberTable, is_going, without_heirs
from fkdoctor.statement.parts import (
    Query,
    alone,
    as_text,
    collated,
    equal,
    make_table,
    plain_type,
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
    """The survivors that reference a duplicate of their own by the key and inherit nothing from it:
    their identity."""
    rows, other = members.row, members.clause.alias("other")
    settled = (
        [inherited(members, key, 0, members.member_key).is_(None)]
        if key in members.inheriting
        else []
    )
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
            *settled,
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

    A survivor's link to a duplicate of its own leads to what it inherits, if anything. From each
    survivor that gains a reference it goes up, along references as they would be then. A loop
    without a reference that moves has been there before, as where a root references itself.
    """
    table = members.table
    width = range(len(key.referenced_columns))

    def step(start: Sequence[ColumnElement[Any]], at: FromClause, source: FromClause) -> Query:
        up = _Ascent(members, key, at)
        return up.select(
            source,
            *(value.label(f"start_{i}") for i, value in enumerate(start)),
            *(value.label(f"at_{i}") for i, value in enumerate(up.values)),
            sa.func.coalesce(~up.map.c.is_survivor, False).label("moved"),
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
    found = sa.select(text_array(start)).where(equal(start, here), way.c.moved)
    return found.order_by(*start).limit(SHOWN)


def trace_loop(members: MemberTable, key: ForeignKey, start: Sequence[str]) -> Query:
    """The loop on which the survivor is that find_loops found: the keys of its rows, in order, each
    as one text."""
    columns = [members.column(name) for name in key.referenced_columns]
    begin = [
        collated(column, sa.cast(sa.literal(text, sa.Text), plain_type(column)))
        for column, text in zip(columns, start, strict=True)
    ]

    def step(at: FromClause, source: FromClause, path: ColumnElement[Any] | None) -> Query:
        up = _Ascent(members, key, at)
        shown = sa.func.pg_catalog.array_to_string(text_array(up.values), ", ")
        one = sa.cast(postgresql.array([shown]), sa.ARRAY(sa.Text))
        longer = one if path is None else sa.func.pg_catalog.array_cat(path, one)
        return up.select(
            source,
            *(value.label(f"at_{i}") for i, value in enumerate(up.values)),
            longer.label("path"),
        )

    first, next_ = _rows_of(members.table, "first"), _rows_of(members.table, "next")
    at_start = equal([first.c[name] for name in key.referenced_columns], begin)
    way = step(first, first, None).where(at_start).cte("way", recursive=True)
    here = [way.c[f"at_{i}"] for i in range(len(columns))]
    onward = way.join(next_, equal([next_.c[name] for name in key.referenced_columns], here))
    way = way.union_all(step(next_, onward, way.c.path).where(~equal(here, begin)))
    arrived = equal([way.c[f"at_{i}"] for i in range(len(columns))], begin)
    return sa.select(way.c.path).where(arrived).limit(1)


class _Ascent:
    """One step up from the row `at`: what it will reference by the key."""

    def __init__(self, members: MemberTable, key: ForeignKey, at: FromClause) -> None:
        self._members, self._key, self._at = members, key, at
        self.map = members.clause.alias("map")
        self._own = _is_at(members, self.map, at)
        self._inherited = [
            inherited(members, key, i, members.values("keep", members.key_columns, self.map))
            for i in range(len(key.referencing_columns))
            if key in members.inheriting
        ]

    @property
    def values(self) -> list[ColumnElement[Any]]:
        """What the columns of the key will hold."""
        ends = self._members.values("keep", self._key.referenced_columns, self.map)
        columns = self._key.referencing_columns
        values: list[ColumnElement[Any]] = [
            sa.func.coalesce(end, self._at.c[name]) for end, name in zip(ends, columns, strict=True)
        ]
        if not self._inherited:
            return values
        moved = ~self.map.c.is_survivor
        return [
            sa.case((sa.and_(moved, self._own), above), else_=value)
            for above, value in zip(self._inherited, values, strict=True)
        ]

    def select(self, source: FromClause, *columns: ColumnElement[Any]) -> Query:
        """The columns, of rows that will reference something."""
        joined = source.outerjoin(
            self.map, _points_at(self._members, self._key, self._at, self.map)
        )
        leads_on = [self.map.c.cluster.is_(None), self.map.c.is_survivor, ~self._own]
        leads_on += [above.is_not(None) for above in self._inherited[:1]]
        query = sa.select(*columns).select_from(joined)
        given = [self._at.c[name].is_not(None) for name in self._key.referencing_columns]
        return alone(query.where(*given, sa.or_(*leads_on)), self._members.table, self._at)


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
