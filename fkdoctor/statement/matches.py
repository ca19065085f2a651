"""How a plan finds duplicates, by way of a temporary table of *matches*.

A match is a row that agrees with others on all match values. The table has the values of the
carried columns as `member_i`, the number `alike` that the rows have in common which agree, how many
these are as `size`, and what they agree on as `matched`, cut text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    ColumnElement,
    Delete,
    Insert,
    Subquery,
    TableClause,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.functions import FunctionElement

from fkdoctor.schema import ForeignKey, TableName
from fkdoctor.statement.members import MemberTable, fingerprint_row, name_referencing, without_heirs
from fkdoctor.statement.parts import (
    Query,
    alone,
    as_text,
    collated,
    equal,
    make_table,
    references,
    text_array,
)
from fkdoctor.statement.temporary import CreateFilled, analyze_temporary

_SHOWN_LENGTH = 200

MATCHES = "fkdoctor_match"
ANALYZE_MATCHES = analyze_temporary(MATCHES)


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """One survivor rule as SQL: of two rows, the one with the larger (or smaller) value stays.

    The expression is over MemberTable.row; None stands for the number of references to it.
    """

    expression: ColumnElement[Any] | None
    descending: bool


def _matches(members: MemberTable) -> TableClause:
    names = [f"member_{i}" for i in range(len(members.carried))]
    return make_table(TableName("pg_temp", MATCHES), (*names, "alike", "size", "matched"))


def create_matches(members: MemberTable, match: Sequence[ColumnElement[Any]]) -> CreateFilled:
    """Finds the rows that agree on all match values with others, in one pass over the table.

    NULL and empty text agree with nothing.
    """
    names = [f"member_{i}" for i in range(len(members.carried))]
    computed = (
        alone(
            sa.select(
                *(
                    members.row.c[column].label(f"member_{i}")
                    for i, column in enumerate(members.carried)
                ),
                *(value.label(f"match_{i}") for i, value in enumerate(match)),
            ).select_from(members.row),
            members.table,
            members.row,
        )
        .offset(0)  # else PostgreSQL would compute the match values at each mention
        .subquery("computed")
    )
    values = [computed.c[f"match_{i}"] for i in range(len(match))]
    sized = (
        sa.select(computed, sa.func.count().over(partition_by=values).label("size"))
        .where(*(value.is_not(None) for value in values), *(as_text(v) != "" for v in values))
        .subquery("sized")
    )
    values = [sized.c[f"match_{i}"] for i in range(len(match))]
    return CreateFilled(
        MATCHES,
        sa.select(
            *(sized.c[name] for name in names),
            sa.func.dense_rank().over(order_by=values).label("alike"),
            sized.c.size,
            text_array([sa.func.left(as_text(v), _SHOWN_LENGTH) for v in values]).label("matched"),
        ).where(sized.c.size > 1),
    )


def count_oversized(members: MemberTable, max_size: int) -> Query:
    """How many match values more than `max_size` rows share, and how many rows that are."""
    matches = _matches(members)
    return sa.select(sa.func.count(matches.c.alike.distinct()), sa.func.count()).where(
        matches.c.size > max_size
    )


def drop_oversized(members: MemberTable, max_size: int) -> Delete:
    """Takes the rows out that too many share a match value with."""
    matches = _matches(members)
    return matches.delete().where(matches.c.size > max_size)


def _count_references(members: MemberTable, keys: Sequence[ForeignKey]) -> Subquery:
    """How many rows reference each match that any does, by one of the keys: `key_i`, `number`."""
    matches = _matches(members)
    matched_key = members.values("member", members.key_columns, matches)
    labels = [f"key_{i}" for i in range(members.key_width)]

    def references_by(key: ForeignKey) -> Query:
        referencing = name_referencing(key)
        pointed_at = members.values("member", key.referenced_columns, matches)
        found = sa.select(
            *(value.label(label) for value, label in zip(matched_key, labels, strict=True))
        ).select_from(matches.join(referencing, references(key, pointed_at, referencing)))
        return without_heirs(found, referencing, key)

    found = sa.union_all(*map(references_by, keys)).subquery("found")
    columns = [found.c[label] for label in labels]
    return sa.select(*columns, sa.func.count().label("number")).group_by(*columns).subquery()


def insert_members(
    members: MemberTable, order: Sequence[Ordering], keys: Sequence[ForeignKey]
) -> Insert:
    """Makes clusters of the matches: the first row in `order`, then by key, survives.

    Clusters are numbered in the order of the survivors' keys. `keys` are the foreign keys whose
    references count.
    """
    candidates = _candidates(members, order, keys)
    names = [f"member_{i}" for i in range(len(members.carried))]
    key = members.values("member", members.key_columns, candidates)
    ranking = [
        _directed(candidates.c[f"order_{i}"], ordering) for i, ordering in enumerate(order)
    ] + [value.asc() for value in key]

    def among_alike(function: FunctionElement[Any]) -> ColumnElement[Any]:
        return function.over(partition_by=candidates.c.alike, order_by=ranking)

    ranked = sa.select(
        among_alike(sa.func.row_number()).label("position"),
        candidates.c.fingerprint,
        *(candidates.c[name] for name in names),
        *(
            among_alike(sa.func.first_value(candidates.c[name])).label(f"keep_{i}")
            for i, name in enumerate(names)
        ),
    ).subquery("ranked")
    numbered = sa.select(
        sa.func.dense_rank().over(order_by=members.values("keep", members.key_columns, ranked)),
        ranked.c.position == 1,
        ranked.c.fingerprint,
        sa.cast(sa.null(), sa.Text),
        sa.cast(sa.null(), sa.Boolean),
        *(ranked.c[name] for name in members.value_names),
    )
    return members.clause.insert().from_select(list(members.clause.c), numbered)


def _directed(value: ColumnElement[Any], ordering: Ordering) -> ColumnElement[Any]:
    """The ORDER BY term; rows without a value come last."""
    return (value.desc() if ordering.descending else value.asc()).nulls_last()


def _candidates(
    members: MemberTable, order: Sequence[Ordering], keys: Sequence[ForeignKey]
) -> Subquery:
    """The matches, with the fingerprint of each row and what it has in `order`, as `order_i`."""
    matches = _matches(members)
    # A query of its own, in which a user's expression meets no names but those of the table.
    rows = alone(
        sa.select(
            *(value.label(f"key_{i}") for i, value in enumerate(members.row_key)),
            fingerprint_row().label("fingerprint"),
            *(
                ordering.expression.label(f"order_{i}")
                for i, ordering in enumerate(order)
                if ordering.expression is not None
            ),
        ).select_from(members.row),
        members.table,
        members.row,
    ).subquery("rows")
    matched_key = members.values("member", members.key_columns, matches)
    source = matches.join(rows, equal(_key_of(members, rows), matched_key))
    number: ColumnElement[Any] = sa.literal(0)
    if keys and any(ordering.expression is None for ordering in order):
        counted = _count_references(members, keys)
        source = source.outerjoin(counted, equal(_key_of(members, counted), matched_key))
        number = sa.func.coalesce(counted.c.number, 0)
    return (
        sa.select(
            matches.c.alike,
            *(matches.c[f"member_{i}"] for i in range(len(members.carried))),
            rows.c.fingerprint,
            *(
                (number if ordering.expression is None else rows.c[f"order_{i}"]).label(
                    f"order_{i}"
                )
                for i, ordering in enumerate(order)
            ),
        )
        .select_from(source)
        .offset(0)  # else PostgreSQL would sort whole rows before it computes the fingerprints
        .subquery("candidates")
    )


def _key_of(members: MemberTable, rows: Subquery) -> list[ColumnElement[Any]]:
    return [
        collated(members.column(name), rows.c[f"key_{i}"])
        for i, name in enumerate(members.key_columns)
    ]


def select_clusters(members: MemberTable) -> Query:
    """A row per merge in the order of clusters: number, what it matched, the survivor's key and
    fingerprint (`keys`, `fingerprints`: the survivor's first, then the duplicates' in the order of
    their keys).
    """
    matches = _matches(members)
    member = members.clause
    survivor_first = [member.c.is_survivor.desc(), *members.member_key]
    return (
        sa.select(
            member.c.cluster,
            sa.func.min(matches.c.matched).filter(member.c.is_survivor).label("matched"),
            _array(text_array(members.member_key), survivor_first).label("keys"),
            _array(member.c.fingerprint, survivor_first).label("fingerprints"),
        )
        .select_from(
            member.join(
                matches,
                equal(members.values("member", members.key_columns, matches), members.member_key),
            )
        )
        .where(member.c.because.is_(None))
        .group_by(member.c.cluster, *members.keep_key)
        .order_by(member.c.cluster, *members.keep_key)
    )


def _array(
    value: ColumnElement[Any], order: Sequence[ColumnElement[Any]]
) -> ColumnElement[Sequence[Any]]:
    return sa.func.array_agg(postgresql.aggregate_order_by(value, *order))
