"""What a table's own rules say of rows as they would become: CHECKs and unique indexes.

An *image* is a row with some columns changed; it has a number by which it is reported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Subquery
from sqlalchemy.sql import quoted_name

from fkdoctor.schema import Constraint, Index, Table
from fkdoctor.statement.lookup import TID, place, rows_of
from fkdoctor.statement.parts import NamedType, Query, alone, quoted, text_array

_NUMBER = "fkdoctor_number"
_LEAF, _AT = "fkdoctor_leaf", "fkdoctor_at"


def given_images(table: Table, changed: Sequence[str]) -> Subquery:
    """The rows whose ctids are in the bind `places`, with the new texts of the binds `value_i`."""
    names = ["places", *(f"value_{i}" for i in range(len(changed)))]
    given = (
        sa.func.unnest(*(sa.bindparam(name, type_=sa.ARRAY(sa.Text)) for name in names))
        .table_valued(*names, with_ordinality="number")
        .render_derived("given")
    )
    rows = rows_of(table, "before")
    new = {
        name: sa.cast(given.c[f"value_{i}"], NamedType(table.column(name).type))
        for i, name in enumerate(changed)
    }
    joined = given.join(rows, rows.c.ctid == sa.cast(given.c.places, TID))
    return make_images(table, rows, joined, given.c.number, new)


def make_images(
    table: Table,
    rows: FromClause,
    joined: FromClause,
    number: ColumnElement[Any],
    new: Mapping[str, ColumnElement[Any]],
) -> Subquery:
    """The images of `rows` within `joined`. It is called like the table, as its expressions are."""
    columns = [
        new.get(column.name, rows.c[column.name]).label(quoted(column.name))
        for column in table.columns
    ]
    leaf, at = place(rows)
    query = sa.select(number.label(_NUMBER), leaf.label(_LEAF), at.label(_AT), *columns)
    return alone(query.select_from(joined), table, rows).subquery(quoted(table.name.name))


_CHECK = re.compile(r"CHECK (\(.*\))(?: NO INHERIT)?(?: NOT VALID)?(?: NOT ENFORCED)?", re.DOTALL)


def refuses(check: Constraint) -> ColumnElement[bool]:
    """Whether the CHECK constraint refuses the row, in a query on one table or its images."""
    match = _CHECK.fullmatch(check.definition)
    assert match is not None, check.definition
    return sa.literal_column(match[1]).is_(sa.false())


def select_failing(images: Subquery, check: Constraint) -> Query:
    """The numbers of the images that the CHECK constraint refuses."""
    number = images.c[_NUMBER]
    return sa.select(number).select_from(images).where(refuses(check)).order_by(number)


def select_claims(images: Subquery, table: Table, index: Index) -> Query:
    """What the images want in the unique index: number, entry as texts, leaf and place of a holder.

    A row per holder that is another row, with NULL for both where there is none.
    """
    wanted = index_entries(images, index, [_NUMBER, _LEAF, _AT], "wanted")
    rows = rows_of(table, table.name.name)
    held = index_entries(rows, index, ["tableoid", "ctid"], "held")
    leaf, at = place(held)
    another = sa.or_(leaf != wanted.c[_LEAF], at != wanted.c[_AT])
    query = (
        sa.select(wanted.c[_NUMBER], text_array(_keys(wanted, index)), leaf, at)
        .select_from(wanted.outerjoin(held, sa.and_(same_entry(index, wanted, held), another)))
        .order_by(wanted.c[_NUMBER], leaf, at)
    )
    return query


def index_entries(rows: FromClause, index: Index, kept: Sequence[str], name: str) -> Subquery:
    """The rows that have an entry in the index, with its keys as `key_i`."""
    keys = [
        rows.c[part.column]
        if part.column is not None
        else sa.literal_column(f"({part.expression})")
        for part in index.keys
    ]
    query = sa.select(
        *(rows.c[column] for column in kept),
        *(key.label(f"key_{i}") for i, key in enumerate(keys)),
    ).select_from(rows)
    if index.predicate is not None:
        query = query.where(sa.literal_column(f"({index.predicate})"))
    if not index.nulls_not_distinct:
        query = query.where(*(key.is_not(None) for key in keys))
    return query.subquery(name)


def _keys(entries: FromClause, index: Index) -> list[ColumnElement[Any]]:
    return [entries.c[f"key_{i}"] for i in range(len(index.keys))]


def same_entry(index: Index, one: FromClause, other: FromClause) -> ColumnElement[bool]:
    """Whether two index_entries are the same, so that the rows can't both be there."""
    compared = []
    for part, left, right in zip(index.keys, _keys(one, index), _keys(other, index), strict=True):
        if part.collation is not None:
            left = left.collate(quoted_name(part.collation, quote=False))
        equal = left.is_not_distinct_from(right) if index.nulls_not_distinct else left == right
        compared.append(equal)
    return sa.and_(*compared)
