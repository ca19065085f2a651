"""What is above a survivor whose reference leads to a duplicate of its own, if it inherits that.

A temporary table has a row for each such survivor: its identity as `key_i`, and as `value_i` what
the columns of the key hold then. Duplicates are climbed until one references a row outside of the
cluster; a survivor that has no row there references nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, TableClause

from fkdoctor.schema import ForeignKey, TableName
from fkdoctor.statement.members import MemberTable, is_own_link, nullable_columns
from fkdoctor.statement.parts import (
    alone,
    applies,
    collated,
    equal,
    make_table,
    plain_type,
    references,
)
from fkdoctor.statement.temporary import CreateFilled


def ascent_name(members: MemberTable, key: ForeignKey) -> str:
    """The name of the temporary table for a self-reference of the members' table."""
    return f"fkdoctor_above_{members.number}_{members.inheriting.index(key)}"


def _clause(members: MemberTable, key: ForeignKey) -> TableClause:
    names = [f"key_{i}" for i in range(members.key_width)]
    names += [f"value_{i}" for i in range(len(key.referencing_columns))]
    return make_table(TableName("pg_temp", ascent_name(members, key)), names)


def inherited(
    members: MemberTable, key: ForeignKey, number: int, survivor: list[ColumnElement[Any]]
) -> ColumnElement[Any]:
    """What the survivor with this identity inherits for the key's column of that number."""
    above = _clause(members, key)
    here = [
        collated(members.column(name), above.c[f"key_{i}"])
        for i, name in enumerate(members.key_columns)
    ]
    return (
        sa.select(above.c[f"value_{number}"])
        .where(equal(here, survivor))
        .correlate_except(above)
        .scalar_subquery()
    )


def create_ascent(members: MemberTable, key: ForeignKey) -> CreateFilled:
    """Climbs from each survivor that references a duplicate of its own by the key."""
    width, table = range(members.key_width), members.table

    def identity(clause: FromClause, kind: str) -> list[ColumnElement[Any]]:
        return members.values(kind, members.key_columns, clause)

    def rows(alias: str) -> FromClause:
        return make_table(table.name, [column.name for column in table.columns]).alias(alias)

    def at(row: FromClause, place: list[ColumnElement[Any]]) -> ColumnElement[bool]:
        return equal([row.c[name] for name in members.key_columns], place)

    def leads_to(row: FromClause, map_: FromClause) -> ColumnElement[bool]:
        return references(key, members.values("member", key.referenced_columns, map_), row)

    below, first = rows("below"), members.clause.alias("first")
    begin = alone(
        sa.select(
            *(value.label(f"start_{i}") for i, value in enumerate(identity(first, "keep"))),
            *(value.label(f"at_{i}") for i, value in enumerate(identity(first, "member"))),
        )
        .select_from(first.join(below, at(below, identity(first, "keep"))))
        .where(~first.c.is_survivor, leads_to(below, first)),
        table,
        below,
    )
    climb = begin.cte("climb", recursive=True)

    def climbed(kind: str) -> list[ColumnElement[Any]]:
        return [
            collated(members.column(name), climb.c[f"{kind}_{i}"])
            for i, name in enumerate(members.key_columns)
        ]

    row, next_ = rows("row_now"), members.clause.alias("next")
    onward = sa.and_(leads_to(row, next_), equal(identity(next_, "keep"), climbed("start")))
    # UNION forgets what it has seen: duplicates in a circle have nothing above them.
    climb = climb.union(
        alone(
            sa.select(
                *(climb.c[f"start_{i}"] for i in width),
                *(value.label(f"at_{i}") for i, value in enumerate(identity(next_, "member"))),
            )
            .select_from(climb.join(row, at(row, climbed("at"))).join(next_, onward))
            .where(~next_.c.is_survivor),
            table,
            row,
        )
    )
    last, inside, other = (
        rows("last"),
        members.clause.alias("inside"),
        members.clause.alias("other"),
    )
    within = (
        sa.select(sa.literal(1))
        .select_from(inside)
        .where(leads_to(last, inside), equal(identity(inside, "keep"), climbed("start")))
        .correlate(climb, last)
        .exists()
    )
    elsewhere = sa.and_(leads_to(last, other), ~other.c.is_survivor)
    moved = members.values("keep", key.referenced_columns, other)
    values = [
        sa.case(
            (other.c.cluster.is_not(None), sa.cast(value, plain_type(table.column(name)))),
            else_=sa.cast(last.c[name], plain_type(table.column(name))),
        )
        for name, value in zip(key.referencing_columns, moved, strict=True)
    ]
    given = [last.c[name].is_not(None) for name in key.referencing_columns]
    return CreateFilled(
        ascent_name(members, key),
        alone(
            sa.select(
                *(climb.c[f"start_{i}"].label(f"key_{i}") for i in width),
                *(value.label(f"value_{i}") for i, value in enumerate(values)),
            )
            .select_from(climb.join(last, at(last, climbed("at"))).outerjoin(other, elsewhere))
            .where(~within, *given, *applies(key, last)),
            table,
            last,
        ),
    )


def new_reference(
    members: MemberTable, key: ForeignKey, map_: FromClause, rows: FromClause
) -> list[ColumnElement[Any]]:
    """What a row that references the duplicate in `map_` by the key will hold in its place.

    That is the survivor's values; in the survivor itself what it inherits, if it does, and else
    NULL where the columns can be NULL.
    """
    values = members.values("keep", key.referenced_columns, map_)
    if not key.self_referencing:
        return values
    itself = is_own_link(members, map_, rows)
    free = nullable_columns(members.table, key)
    survivor = members.values("keep", members.key_columns, map_)

    columns = [members.column(name) for name in key.referenced_columns]

    def of_survivor(number: int, name: str) -> ColumnElement[Any]:
        nothing = sa.null() if name in free else values[number]
        if key not in members.inheriting:
            return nothing
        above = inherited(members, key, number, survivor)
        return sa.func.coalesce(sa.cast(above, plain_type(columns[number])), nothing)

    return [
        collated(column, sa.case((itself, of_survivor(i, name)), else_=values[i]))
        for i, (name, column) in enumerate(zip(key.referencing_columns, columns, strict=True))
    ]
