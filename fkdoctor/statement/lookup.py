"""Finds rows by the values of a foreign key, many at a time.

A row is named by where it is: its own table (tableoid) and ctid, which stand still for as long as
the transaction's snapshot lasts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.identifier import quote
from fkdoctor.schema import Column, ForeignKey, Schema, Table
from fkdoctor.statement.parts import (
    NamedType,
    Query,
    alone,
    collated,
    make_table,
    match_key,
    plain_type,
    quoted,
    text_array,
)
from fkdoctor.statement.script import Statement

_PLACE = ("tableoid", "ctid")
TID = NamedType("pg_catalog.tid")


def rows_of(table: Table, alias: str) -> NamedFromClause:
    """The table's rows, with their places."""
    columns = (column.name for column in table.columns)
    return make_table(table.name, (*_PLACE, *columns)).alias(quoted(alias))


def place(rows: FromClause) -> list[ColumnElement[Any]]:
    """Where a row is: the oid of its table as a number, and its ctid as text."""
    return [
        sa.cast(rows.c.tableoid, sa.BigInteger).label("leaf"),
        sa.cast(rows.c.ctid, sa.Text).label("at"),
    ]


def given_values(width: int) -> NamedFromClause:
    """The values of the array binds `value_0`, `value_1`, … of text, with their `number`."""
    arrays = [sa.bindparam(f"value_{i}", type_=sa.ARRAY(sa.Text)) for i in range(width)]
    return (
        sa.func.unnest(*arrays)
        .table_valued(*(f"value_{i}" for i in range(width)), with_ordinality="number")
        .render_derived("given")
    )


def _read_values(given: NamedFromClause, columns: Sequence[Column]) -> list[ColumnElement[Any]]:
    return [
        collated(column, sa.cast(given.c[f"value_{i}"], plain_type(column)))
        for i, column in enumerate(columns)
    ]


def select_referencing(
    schema: Schema, key: ForeignKey, carried: Sequence[str], limit: int
) -> Query:
    """The rows that reference a given value: its number, the row's place, the carried columns."""
    referenced = schema.table(key.referenced)
    table = schema.table(key.referencing)
    rows = rows_of(table, "referencing")
    given = given_values(len(key.referenced_columns))
    values = _read_values(given, [referenced.column(name) for name in key.referenced_columns])
    matches = match_key(key, values, [rows.c[name] for name in key.referencing_columns])
    return _select_matches(table, rows, given, matches, carried, limit)


def select_referenced(schema: Schema, key: ForeignKey, carried: Sequence[str], limit: int) -> Query:
    """The rows that a given value of referencing columns references, as select_referencing."""
    referencing = schema.table(key.referencing)
    table = schema.table(key.referenced)
    rows = rows_of(table, "referenced")
    given = given_values(len(key.referencing_columns))
    values = _read_values(given, [referencing.column(name) for name in key.referencing_columns])
    pointed_at = [collated(table.column(name), rows.c[name]) for name in key.referenced_columns]
    return _select_matches(table, rows, given, match_key(key, pointed_at, values), carried, limit)


def _select_matches(
    table: Table,
    rows: NamedFromClause,
    given: NamedFromClause,
    matches: ColumnElement[bool],
    carried: Sequence[str],
    limit: int,
) -> Query:
    query = (
        sa.select(given.c.number, *place(rows), text_array([rows.c[name] for name in carried]))
        .select_from(given.join(rows, matches))
        .limit(limit)
    )
    return alone(query, table, rows)


def select_constant(type_: NamedType, value: str) -> Query:
    """The value of the type that SQL text (a default) gives, as text."""
    return sa.select(sa.cast(sa.cast(sa.literal_column(f"({value})"), type_), sa.Text))


def select_chosen(
    table: Table,
    rows: NamedFromClause,
    chosen: ColumnElement[bool],
    carried: Sequence[str],
    limit: int,
) -> Query:
    """The rows that `chosen` is true of: place, the carried columns as texts."""
    query = sa.select(*place(rows), text_array([rows.c[name] for name in carried]))
    return alone(query.select_from(rows).where(chosen).limit(limit), table, rows)


def is_identified(
    table: Table, rows: FromClause, keys: Sequence[Sequence[str | None]]
) -> ColumnElement[bool]:
    """Whether the row's identity is one of the keys, given as text."""
    columns = [table.column(name) for name in table.row_identity]
    arrays = [
        sa.cast(sa.literal([key[i] for key in keys], sa.ARRAY(sa.Text)), sa.ARRAY(sa.Text))
        for i in range(len(columns))
    ]
    names = [f"value_{i}" for i in range(len(columns))]
    given = sa.func.unnest(*arrays).table_valued(*names).render_derived("wanted")
    values = [
        sa.cast(given.c[name], plain_type(column))
        for name, column in zip(names, columns, strict=True)
    ]
    identity = sa.tuple_(*(rows.c[column.name] for column in columns))
    return identity.in_(sa.select(*values).select_from(given))


def meets(condition: str, binds: Mapping[str, str]) -> ColumnElement[bool]:
    """Whether a row meets the condition, which is SQL text with parameters as `:name`."""
    return sa.and_(sa.true(), _bind(f"({condition})", binds))


def _bind(sql: str, binds: Mapping[str, str]) -> sa.TextClause:
    """The SQL text with values for those parameters that it has."""
    used = set(re.findall(r"(?<!\\):(p_\w+)", sql))
    return sa.text(sql).bindparams(**{name: binds[name] for name in used})


def is_among(rows: NamedFromClause, query: str, binds: Mapping[str, str]) -> ColumnElement[bool]:
    """Whether the row is one of the query's, which is SQL text and returns tableoid and ctid."""
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in _PLACE]
    chosen = _bind(query, binds).columns(*columns).subquery("chosen")
    places = sa.select(*(chosen.c[name] for name in _PLACE))
    return sa.tuple_(*(rows.c[name] for name in _PLACE)).in_(places)


def delete_by_key(table: Table, keys: Sequence[Sequence[str]]) -> sa.Delete:
    """The DELETE of the rows with these identities, and of such rows of tables that inherit."""
    columns = (column.name for column in table.columns)
    rows = make_table(table.name, columns)
    return sa.delete(rows).where(is_identified(table, rows, keys))


def execute_text(sql: str, binds: Mapping[str, str]) -> sa.TextClause:
    """The statement as it was typed, with values for its parameters `:name`."""
    return _bind(sql, binds)


def select_images(
    statement: Statement, types: Mapping[str, str], binds: Mapping[str, str]
) -> sa.TextClause:
    """What an UPDATE makes of its rows: leaf, at, the assigned columns of these types as text."""
    texts = {
        f"value_{i}": f"CAST(CAST(({statement.assignments[name]}) AS {sql}) AS text)"
        for i, (name, sql) in enumerate(types.items())
    }
    alias = quote(statement.alias)
    places = {"leaf": f"CAST({alias}.tableoid AS bigint)", "at": f"CAST({alias}.ctid AS text)"}
    return _bind(statement.select(**places, **texts), binds)


def count_rows(table: Table) -> Query:
    """How many rows the table itself has."""
    rows = rows_of(table, "row")
    return alone(sa.select(sa.func.count()).select_from(rows), table, rows)


def select_value(column: Column) -> Query:
    """The text of the bind `value` as a value of the column's type, whatever its domain says."""
    return sa.select(sa.cast(sa.bindparam("value", type_=sa.Text), NamedType(column.type)))


def select_place(table: Table, key: Sequence[str | None]) -> Query:
    """Where the row with that identity is: leaf, at."""
    rows = rows_of(table, "row")
    query = sa.select(*place(rows)).where(is_identified(table, rows, [key]))
    return alone(query, table, rows)


def select_keys(table: Table, *, contents: bool) -> Query:
    """The rows whose ctids are in the bind `places`: ctid, row_identity as texts, all as texts.

    Without `contents` the last is empty.
    """
    rows = rows_of(table, "row")
    places = sa.cast(sa.bindparam("places", type_=sa.ARRAY(sa.Text)), sa.ARRAY(TID))
    identity = [rows.c[name] for name in table.row_identity] or [rows.c.ctid]
    every = [rows.c[column.name] for column in table.columns] if contents else []
    columns = (sa.cast(rows.c.ctid, sa.Text).label("at"), text_array(identity), text_array(every))
    return alone(sa.select(*columns).where(rows.c.ctid == sa.any_(places)), table, rows)
