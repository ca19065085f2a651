"""The pieces that statements are made of: tables, ONLY, key comparisons, values as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from sqlalchemy import (
    BindParameter,
    Cast,
    ColumnElement,
    Delete,
    Dialect,
    FromClause,
    TableClause,
    Update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import quoted_name
from sqlalchemy.types import UserDefinedType

from fkdoctor.schema import (
    Column,
    ForeignKey,
    LogicalKey,
    PartitionKey,
    Table,
    TableKind,
    TableName,
)

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


# Standing alone, these names mean a length of one.
_WITHOUT_LENGTH = {
    "character": "pg_catalog.bpchar",
    "character[]": "pg_catalog.bpchar[]",
    "bit": 'pg_catalog."bit"',
    "bit[]": 'pg_catalog."bit"[]',
}


def _without_length(type_name: str) -> NamedType:
    return NamedType(_WITHOUT_LENGTH.get(type_name, type_name))


def plain_type(column: Column) -> NamedType:
    """The column's type without a length and without what domains demand, such as NOT NULL."""
    return _without_length(column.base_type)


class GivenArray(UserDefinedType[Sequence[object]]):
    """An array of `item` (text, int4, bool) that is sent as one literal.

    The driver would write ARRAY[…], of which PostgreSQL parses every element as an expression.
    """

    cache_ok = True

    def __init__(self, item: str) -> None:
        self.item = item

    def get_col_spec(self, **_: object) -> str:
        """The SQL text."""
        return f"pg_catalog.{self.item}[]"

    def bind_expression(self, bindvalue: BindParameter[Any]) -> ColumnElement[Any]:
        """The literal in its type."""
        return sa.cast(bindvalue, self)

    def bind_processor(self, dialect: Dialect) -> Callable[[Sequence[object] | None], str | None]:
        """Writes the literal."""
        write = _quote_element if self.item == "text" else str

        def write_all(values: Sequence[object] | None) -> str | None:
            if values is None:
                return None
            return f"{{{','.join(['NULL' if one is None else write(one) for one in values])}}}"

        return write_all


def _quote_element(text: object) -> str:
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


REGCLASS = NamedType("pg_catalog.regclass")


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


def alone(query: Query, table: Table, rows: FromClause) -> Query:
    """The query on the table with its partitions, but without the tables that inherit from it."""
    if table.kind is TableKind.PARTITIONED:
        return query  # ONLY a partitioned table has no rows
    return query.with_hint(rows, "ONLY", "postgresql")


Change = TypeVar("Change", Update, Delete)


def alone_change(change: Change, table: Table, rows: Any = None) -> Change:
    """The UPDATE or DELETE on the table, or on another by way of its `rows`, but not with the
    tables that inherit from it."""
    if table.kind is TableKind.PARTITIONED:
        return change
    return change.with_hint("ONLY", rows, "postgresql")


def as_text(value: ColumnElement[Any]) -> Cast[str]:
    """The value in PostgreSQL's own text form, from which it can be read back unchanged."""
    return sa.cast(value, sa.Text)


def text_array(values: Sequence[ColumnElement[Any]]) -> ColumnElement[Sequence[str]]:
    """The values as one text[]."""
    return sa.cast(postgresql.array([as_text(value) for value in values]), sa.ARRAY(sa.Text))


def same_text(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """The text or text[], to be compared letter by letter whatever collation it came with."""
    # SQLAlchemy knows no collation of arrays; PostgreSQL does.
    return sa.type_coerce(value, sa.Text).collate(quoted_name('pg_catalog."default"', quote=False))


def image(columns: Sequence[Column], values: Sequence[ColumnElement[Any]]) -> ColumnElement[Any]:
    """A JSON object from column to value as text. Lossless, unlike to_jsonb of the row."""
    names = sa.cast(
        postgresql.array([sa.literal(column.name, sa.Text) for column in columns]),
        sa.ARRAY(sa.Text),
    )
    return sa.func.pg_catalog.jsonb_object(
        names,
        text_array(
            [
                sa.cast(value, postgresql.OID) if _names_something(column) else value
                for column, value in zip(columns, values, strict=True)
            ]
        ),
    )


def read_text(column: Column, text: ColumnElement[str]) -> ColumnElement[Any]:
    """The value of the column that `image` wrote as this text."""
    value = sa.cast(text, postgresql.OID) if _names_something(column) else text
    return collated(column, sa.cast(value, NamedType(column.type)))


def _names_something(column: Column) -> bool:
    """Whether values are printed as names, which mean what the search_path says: regclass & Co."""
    return column.base_type.startswith("reg")


def collated(column: Column, value: ColumnElement[Any]) -> ColumnElement[Any]:
    """A value of the column that compares as the column does, whatever it is compared with.

    Foreign keys compare by the collation of the referenced column where that makes a difference.
    """
    if column.deterministic or column.collation is None:
        return value
    return value.collate(quoted_name(column.collation, quote=False))


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
    pointers = [referencing.c[column] for column in key.referencing_columns]
    return sa.and_(match_key(key, referenced, pointers), *applies(key, referencing))


def applies(key: ForeignKey, rows: FromClause) -> list[ColumnElement[bool]]:
    """What is true of the rows that have the key, where not all rows of the table do."""
    if isinstance(key, PartitionKey):
        return [is_in(rows, key.leaves)]
    if isinstance(key, LogicalKey) and key.condition is not None:
        return [_holds(key.referencing, key.columns, key.condition, rows)]
    return []


def is_in(rows: FromClause, leaves: Iterable[TableName]) -> ColumnElement[bool]:
    """Whether the row is in one of these partitions of its table."""
    place: ColumnElement[Any] = sa.column("tableoid", _selectable=rows)
    return place.in_([sa.cast(sa.literal(str(leaf), sa.Text), REGCLASS) for leaf in leaves])


def holds(table: Table, condition: str, rows: FromClause) -> ColumnElement[bool]:
    """Whether the condition, as a user wrote it, is true of the row of the table."""
    return _holds(table.name, [column.name for column in table.columns], condition, rows)


def _holds(
    table: TableName, names: Iterable[str], condition: str, rows: FromClause
) -> ColumnElement[bool]:
    """Whether the condition is true of the row. It meets no names but those of its table."""
    columns: list[sa.ColumnClause[Any]] = [
        sa.column(quoted(name), _selectable=rows) for name in names
    ]
    row = (
        sa.select(*(column.label(quoted(column.name)) for column in columns))
        .correlate(rows)
        .subquery(quoted(table.name))
    )
    said = sa.literal_column(f"(\n{condition}\n)", sa.Boolean)
    return sa.select(said).select_from(row).correlate(rows).scalar_subquery().is_(True)


def match_key(
    key: ForeignKey,
    referenced: Sequence[ColumnElement[Any]],
    referencing: Sequence[ColumnElement[Any]],
) -> ColumnElement[bool]:
    """Whether the `referencing` values point at the `referenced` ones, by the key's operators.

    By its name alone, with other types on its sides, an operator could be another one: to
    character(n) blanks at the end mean nothing, to text they do.
    """
    return sa.and_(
        *(
            _cast_operand(value, operator.left_type).op(
                f"OPERATOR({operator.name})", is_comparison=True
            )(_cast_operand(pointer, operator.right_type))
            for value, operator, pointer in zip(referenced, key.operators, referencing, strict=True)
        )
    )


def _cast_operand(value: ColumnElement[Any], type_name: str) -> ColumnElement[Any]:
    if type_name.startswith("any") or type_name == "record":
        return value  # An operator for many types; nothing can be cast to that.
    return sa.cast(value, _without_length(type_name))
