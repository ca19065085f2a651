"""A map that was given, as a temporary table of *pairs*: a duplicate's key and its survivor's."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Insert, TableClause, Update
from sqlalchemy.schema import CreateTable

from fkdoctor.schema import TableName
from fkdoctor.statement.matches import MATCHES
from fkdoctor.statement.members import SHOWN, MemberTable
from fkdoctor.statement.parts import (
    GivenArray,
    Query,
    alone,
    collated,
    equal,
    make_table,
    plain_type,
    text_array,
)
from fkdoctor.statement.temporary import CreateFilled, analyze_temporary

_PAIRS = "fkdoctor_pair"
ANALYZE_PAIRS = analyze_temporary(_PAIRS)


def _pairs(members: MemberTable) -> TableClause:
    names = (f"{side}_{i}" for side in ("from", "to") for i in range(members.key_width))
    return make_table(TableName("pg_temp", _PAIRS), names)


def _side(members: MemberTable, side: str, pairs: FromClause) -> list[ColumnElement[Any]]:
    return [
        collated(members.column(name), pairs.c[f"{side}_{i}"])
        for i, name in enumerate(members.key_columns)
    ]


def create_pairs(members: MemberTable) -> CreateTable:
    """DDL of the table of pairs; it goes with the transaction."""
    columns: list[sa.Column[Any]] = [
        sa.Column(f"{side}_{i}", plain_type(members.column(name)))
        for side in ("from", "to")
        for i, name in enumerate(members.key_columns)
    ]
    return CreateTable(
        sa.Table(
            _PAIRS,
            sa.MetaData(),
            *columns,
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DROP",
        )
    )


def insert_pairs(members: MemberTable) -> Insert:
    """Puts pairs in: binds are arrays of texts, `value_i` for each column of the table."""
    width = 2 * members.key_width
    given = (
        sa.func.unnest(
            *(sa.bindparam(f"value_{i}", type_=GivenArray("text")) for i in range(width))
        )
        .table_valued(*(f"value_{i}" for i in range(width)))
        .render_derived()
    )
    types = [plain_type(members.column(name)) for name in members.key_columns] * 2
    return (
        _pairs(members)
        .insert()
        .from_select(
            [column.name for column in _pairs(members).c],
            sa.select(*(sa.cast(given.c[f"value_{i}"], type_) for i, type_ in enumerate(types))),
        )
    )


def find_repeated(members: MemberTable) -> Query:
    """The duplicates that are in the map more than once: their keys."""
    pairs = _pairs(members)
    key = _side(members, "from", pairs)
    return (
        sa.select(text_array(key))
        .group_by(*key)
        .having(sa.func.count() > 1)
        .order_by(*key)
        .limit(SHOWN)
    )


def find_missing(members: MemberTable, side: str) -> Query:
    """The keys on a side of the map (`from`, `to`) that no row of the table has."""
    pairs = _pairs(members)
    key = _side(members, side, pairs)
    there = (
        alone(
            sa.select(sa.literal(1)).select_from(members.row).where(equal(members.row_key, key)),
            members.table,
            members.row,
        )
        .correlate(pairs)
        .exists()
    )
    return sa.select(text_array(key)).where(~there).distinct().limit(SHOWN)


def follow_pairs(members: MemberTable) -> Update:
    """Lets pairs whose survivor is a duplicate itself lead to the survivor of that.

    To be repeated until it changes nothing; each time halves the length of chains.
    """
    pairs, next_ = _pairs(members), _pairs(members).alias("next")
    names = [f"to_{i}" for i in range(members.key_width)]
    return (
        sa.update(pairs)
        .values({name: next_.c[name] for name in names})
        .where(
            equal(_side(members, "to", pairs), _side(members, "from", next_)),
            ~equal(_side(members, "to", pairs), _side(members, "to", next_)),
        )
    )


def find_circles(members: MemberTable) -> Query:
    """The duplicates from which the followed map leads back to a duplicate: their keys."""
    pairs, other = _pairs(members), _pairs(members).alias("other")
    is_duplicate = (
        sa.select(sa.literal(1))
        .select_from(other)
        .where(equal(_side(members, "to", pairs), _side(members, "from", other)))
        .correlate(pairs)
        .exists()
    )
    key = _side(members, "from", pairs)
    return sa.select(text_array(key)).where(is_duplicate).order_by(*key).limit(SHOWN)


def survives(members: MemberTable) -> ColumnElement[bool]:
    """Whether MemberTable.row is a survivor of the map."""
    pairs = _pairs(members)
    return (
        sa.select(sa.literal(1))
        .select_from(pairs)
        .where(equal(members.row_key, _side(members, "to", pairs)))
        .correlate(members.row)
        .exists()
    )


def create_matches_of_pairs(members: MemberTable) -> CreateFilled:
    """The table of matches that a followed map stands for."""
    pairs = _pairs(members)
    to = [pairs.c[f"to_{i}"] for i in range(members.key_width)]
    rows = sa.union_all(
        sa.select(
            *(pairs.c[f"from_{i}"].label(f"key_{i}") for i in range(members.key_width)),
            *(value.label(f"root_{i}") for i, value in enumerate(to)),
        ),
        sa.select(
            *(value.label(f"key_{i}") for i, value in enumerate(to)),
            *(value.label(f"root_{i}") for i, value in enumerate(to)),
        ).distinct(),
    ).subquery("listed")

    def of(kind: str) -> list[ColumnElement[Any]]:
        return [
            collated(members.column(name), rows.c[f"{kind}_{i}"])
            for i, name in enumerate(members.key_columns)
        ]

    root = of("root")
    return CreateFilled(
        MATCHES,
        alone(
            sa.select(
                *(
                    members.row.c[name].label(f"member_{i}")
                    for i, name in enumerate(members.carried)
                ),
                sa.func.dense_rank().over(order_by=root).label("alike"),
                sa.func.count().over(partition_by=root).label("size"),
                text_array(root).label("matched"),
            ).select_from(members.row.join(rows, equal(members.row_key, of("key")))),
            members.table,
            members.row,
        ),
    )
