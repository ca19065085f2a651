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
    ClauseElement,
    ColumnElement,
    Delete,
    Executable,
    Insert,
    Subquery,
    TableClause,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from fkdoctor.schema import ForeignKey, TableName
from fkdoctor.statement.members import MemberTable, fingerprint_row, point_from
from fkdoctor.statement.parts import (
    Query,
    as_text,
    collated,
    equal,
    make_table,
    references,
    text_array,
)

_SHOWN_LENGTH = 200

ANALYZE_MATCHES = sa.text("analyze pg_temp.fkdoctor_match")


@dataclass(frozen=True, kw_only=True)
class Ordering:
    """One survivor rule as SQL: of two rows, the one with the larger (or smaller) value stays.

    The expression is over MemberTable.row; None stands for the number of references to it.
    """

    expression: ColumnElement[Any] | None
    descending: bool


class CreateMatches(Executable, ClauseElement):
    """CREATE TEMPORARY TABLE … ON COMMIT DROP AS SELECT …, for which SQLAlchemy 2.0 has no form.

    Unlike INSERT … SELECT, PostgreSQL reads for it in parallel.
    """

    inherit_cache = False

    def __init__(self, source: Query) -> None:
        self.source = source


@compiles(CreateMatches)
def _compile_create_matches(element: CreateMatches, compiler: SQLCompiler, **kw: object) -> str:
    source = compiler.process(element.source, **kw)
    return f"CREATE TEMPORARY TABLE fkdoctor_match ON COMMIT DROP AS {source}"


def _matches(members: MemberTable) -> TableClause:
    names = [f"member_{i}" for i in range(len(members.carried))]
    return make_table(
        TableName("pg_temp", "fkdoctor_match"), (*names, "alike", "size", "matched")
    )


def _values(
    members: MemberTable, matches: TableClause, columns: Sequence[str]
) -> list[ColumnElement[Any]]:
    return [
        collated(members.column(name), matches.c[f"member_{members.carried.index(name)}"])
        for name in columns
    ]


def create_matches(members: MemberTable, match: Sequence[ColumnElement[Any]]) -> CreateMatches:
    """Finds the rows that agree on all match values with others, in one pass over the table.

    NULL and empty text agree with nothing.
    """
    names = [f"member_{i}" for i in range(len(members.carried))]
    computed = (
        sa.select(
            *(members.row.c[column].label(f"member_{i}") for i, column in enumerate(members.carried)),
            *(value.label(f"match_{i}") for i, value in enumerate(match)),
        )
        .select_from(members.row)
        .with_hint(members.row, "ONLY", "postgresql")
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
    return CreateMatches(
        sa.select(
            *(sized.c[name] for name in names),
            sa.func.dense_rank().over(order_by=values).label("alike"),
            sized.c.size,
            text_array([sa.func.left(as_text(v), _SHOWN_LENGTH) for v in values]).label("matched"),
        ).where(sized.c.size > 1)
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


def _count_references(members: MemberTable, key: ForeignKey) -> Subquery:
    """How many rows reference each match by the key: `key_i` and `number`."""
    matches = _matches(members)
    matched_key = _values(members, matches, members.key_columns)
    referencing, only = point_from(key)
    pointed_at = _values(members, matches, key.referenced_columns)
    return (
        sa.select(
            *(value.label(f"key_{i}") for i, value in enumerate(matched_key)),
            sa.func.count().label("number"),
        )
        .select_from(matches.join(referencing, references(key, pointed_at, referencing)))
        .group_by(*matched_key)
        .with_hint(referencing, only, "postgresql")
        .subquery()
    )


def insert_members(
    members: MemberTable, order: Sequence[Ordering], keys: Sequence[ForeignKey]
) -> Insert:
    """Makes clusters of the matches: the first row in `order`, then by key, survives.

    Clusters are numbered in the order of the survivors' keys. `keys` are the foreign keys whose
    references count.
    """
    matches = _matches(members)
    # A query of its own, in which a user's expression meets no names but those of the table.
    rows = (
        sa.select(
            *(value.label(f"key_{i}") for i, value in enumerate(members.row_key)),
            fingerprint_row().label("fingerprint"),
            *(
                ordering.expression.label(f"order_{i}")
                for i, ordering in enumerate(order)
                if ordering.expression is not None
            ),
        )
        .select_from(members.row)
        .with_hint(members.row, "ONLY", "postgresql")
        .subquery("rows")
    )
    matched_key = _values(members, matches, members.key_columns)
    source = matches.join(rows, equal(_key_of(members, rows), matched_key))
    number: ColumnElement[Any] = sa.literal(0)
    if any(ordering.expression is None for ordering in order):
        for key in keys:
            counted = _count_references(members, key)
            source = source.outerjoin(counted, equal(_key_of(members, counted), matched_key))
            number = number + sa.func.coalesce(counted.c.number, 0)
    ranking = []
    for i, ordering in enumerate(order):
        value = number if ordering.expression is None else rows.c[f"order_{i}"]
        directed = value.desc() if ordering.descending else value.asc()
        ranking.append(directed.nulls_last())
    ranking += [value.asc() for value in matched_key]
    names = [f"member_{i}" for i in range(len(members.carried))]
    among = {"partition_by": matches.c.alike, "order_by": ranking}
    ranked = (
        sa.select(
            sa.func.row_number().over(**among).label("position"),
            rows.c.fingerprint,
            *(matches.c[name] for name in names),
            *(
                sa.func.first_value(matches.c[name]).over(**among).label(f"keep_{i}")
                for i, name in enumerate(names)
            ),
        )
        .select_from(source)
        .subquery("ranked")
    )
    keep_key = [ranked.c[f"keep_{i}"] for i in range(members.key_width)]
    numbered = sa.select(
        sa.func.dense_rank().over(order_by=keep_key),
        ranked.c.position == 1,
        ranked.c.fingerprint,
        *(ranked.c[name] for name in members.value_names),
    )
    return members.clause.insert().from_select(list(members.clause.c), numbered)


def _key_of(members: MemberTable, rows: Subquery) -> list[ColumnElement[Any]]:
    return [
        collated(members.column(name), rows.c[f"key_{i}"])
        for i, name in enumerate(members.key_columns)
    ]


def select_clusters(members: MemberTable) -> Query:
    """A row per cluster in their order: number, what it matched, the survivor's key and fingerprint
    (`keys`, `fingerprints`: the survivor's first, then the duplicates' in the order of their keys).
    """
    matches = _matches(members)
    member = members.clause
    survivor_first = [member.c.is_survivor.desc(), *members.member_key]
    return (
        sa.select(
            member.c.cluster,
            sa.func.min(matches.c.matched).label("matched"),
            _array(text_array(members.member_key), survivor_first).label("keys"),
            _array(member.c.fingerprint, survivor_first).label("fingerprints"),
        )
        .select_from(
            member.join(
                matches,
                equal(_values(members, matches, members.key_columns), members.member_key),
            )
        )
        .group_by(member.c.cluster)
        .order_by(member.c.cluster)
    )


def _array(
    value: ColumnElement[Any], order: Sequence[ColumnElement[Any]]
) -> ColumnElement[Sequence[Any]]:
    return sa.func.array_agg(postgresql_order(value, order))
