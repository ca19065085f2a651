"""The pieces that statements are made of: tables, ONLY, key comparisons, values as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import Cast, ColumnElement, FromClause, TableClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import UserDefinedType

from fkdoctor.schema import ForeignKey, TableName

Query: TypeAlias = "sa.Select[*tuple[Any, ...]]"
"""A SELECT whose columns its docstring names."""


class NamedType(UserDefinedType[str]):
    """A type by its SQL text as the catalog prints it: `character varying(20)`."""

    cache_ok = True

    def __init__(self, sql: str) -> None:
        self.sql = sql

    def get_col_spec(self, **_: object) -> str:
        """The SQL text."""
        return self.sql


def quoted(name: str) -> quoted_name:
    """The name, always in double quotes: SQLAlchemy's list of keywords is not PostgreSQL's."""
    return quoted_name(name, quote=True)


def make_table(name: TableName, columns: Iterable[str]) -> TableClause:
    """The table with these columns, without types."""
    return sa.table(
        quoted(name.name),
        *(sa.column(quoted(column)) for column in columns),
        schema=quoted(name.schema),
    )


def as_text(value: ColumnElement[Any]) -> Cast[str]:
    """The value in PostgreSQL's own text form, from which it can be read back unchanged."""
    return sa.cast(value, sa.Text)


def text_array(values: Sequence[ColumnElement[Any]]) -> ColumnElement[Sequence[str]]:
    """The values as one text[]."""
    return sa.cast(postgresql.array([as_text(value) for value in values]), sa.ARRAY(sa.Text))


def image(columns: Sequence[str], values: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
    """A JSON object from column to value as text. Lossless, unlike to_jsonb of the row."""
    names = sa.cast(
        postgresql.array([sa.literal(column, sa.Text) for column in columns]), sa.ARRAY(sa.Text)
    )
    return sa.func.pg_catalog.jsonb_object(names, text_array(values))


def equal(
    left: Sequence[ColumnElement[Any]], right: Sequence[ColumnElement[Any]]
) -> ColumnElement[bool]:
    """Whether two keys of the same columns of one table are equal."""
    assert left, "an empty comparison would be true of every row"
    return sa.and_(*(a == b for a, b in zip(left, right, strict=True)))


def references(
    key: ForeignKey,
    referenced: Sequence[ColumnElement[Any]],
    referencing: FromClause,
) -> ColumnElement[bool]:
    """Whether the row of `referencing` points at the values, by the foreign key's own operators."""
    return sa.and_(
        *(
            value.op(f"OPERATOR({operator.name})", is_comparison=True)(referencing.c[column])
            for value, operator, column in zip(
                referenced, key.operators, key.referencing_columns, strict=True
            )
        )
    )
