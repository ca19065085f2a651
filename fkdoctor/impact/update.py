"""What an UPDATE would do to what references the rows, by the model, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import READ_ONLY, said, set_local, sqlstate
from fkdoctor.errors import Refused, UnknownName
from fkdoctor.identifier import quote, quote_all
from fkdoctor.impact.answer import Question, describe_forecast, describe_survey
from fkdoctor.impact.effect import Caveat, Impact
from fkdoctor.impact.firing import Event, FiringOrder
from fkdoctor.impact.forecast import Forecast, forecast
from fkdoctor.impact.model import Firings, Order, Outcome, run_update
from fkdoctor.impact.reach import Reach
from fkdoctor.impact.scope import READING, Scope, with_heirs
from fkdoctor.impact.survey import Survey
from fkdoctor.impact.walk import DatabaseRows, Restart, Spellings, TooLarge
from fkdoctor.impact.world import Image, Row, Unsupported, World
from fkdoctor.inspect.graph import keys_into, partition_family
from fkdoctor.schema import Column, ForeignKey, Schema, Table, TableName
from fkdoctor.statement import lookup
from fkdoctor.statement.parts import plain_type
from fkdoctor.statement.script import Statement

# Types of which equal values are always written the same.
_ONE_SPELLING = frozenset(
    {
        "bigint", "boolean", "bytea", "character varying", "date", "integer", "name", "oid",
        "smallint", "text", "timestamp with time zone", "timestamp without time zone", "uuid",
    }
)  # fmt: skip


def preview_update(
    connection: Connection,
    schema: Schema,
    statement: Statement,
    name: TableName,
    parameters: Mapping[str, str],
    doubts: tuple[Caveat, ...],
    scope: Scope,
) -> Impact:
    """What the UPDATE would do. Raises Refused beyond `model_limit` rows."""
    table = schema.table(name)
    for column in statement.assignments:
        if not table.has_column(column):
            raise UnknownName(
                f"{name} has no column {quote(column)}.",
                why=f"It has {quote_all(tuple(one.name for one in table.columns))}.",
                next="Name one of these after SET.",
            )
    order = FiringOrder(schema)
    silent = tuple(
        key
        for key in keys_into(schema, name)
        if set(key.referenced_columns) & set(statement.assignments)
        and not all(_acts(order, key, leaf.name) for leaf in schema.leaves(key.referenced))
    )
    question = Question(
        connection=connection,
        schema=schema,
        reach=Reach(groups=(), links=(), silent=silent),
        table=name,
        shown=scope.shown,
        contents=scope.contents,
        event=Event.UPDATE,
        doubts=doubts,
    )
    try:
        _check_types(schema, table, statement.assignments)
        return describe_forecast(
            question, _forecast(connection, schema, order, table, statement, parameters, scope)
        )
    except Unsupported as unsupported:
        return describe_survey(question, Survey(unsupported=[unsupported]))
    except TooLarge:
        raise Refused(
            f"More than {scope.model_limit} rows are involved; nothing was changed.",
            why="An UPDATE of keys is thought through row by row.",
            next="Ask about fewer rows.",
        ) from None


def _acts(order: FiringOrder, key: ForeignKey, table: TableName) -> bool:
    firings = order.on(table, Event.UPDATE)
    return any(one.key is key and one.action is not None for one in firings)


def _check_types(schema: Schema, table: Table, assigned: Mapping[str, str]) -> None:
    compared = set(_compared_columns(schema, table))
    for name in assigned:
        column = table.column(name)
        if name in compared and (column.base_type not in _ONE_SPELLING or not column.deterministic):
            raise Unsupported(
                f"{table.name}.{quote(name)}",
                f"values of {column.type} can be equal and written differently",
            )


def _compared_columns(schema: Schema, table: Table) -> Iterator[str]:
    """The columns by which a row is compared with others: those of keys and of unique indexes."""
    for member in with_heirs(schema, table):
        for key in (
            key
            for name in partition_family(schema, member.name)
            for key in (*schema.keys_from(name), *schema.keys_to(name))
        ):
            yield from (*key.referencing_columns, *key.referenced_columns)
        for index in member.indexes:
            if index.unique:
                yield from index.columns or (column.name for column in member.columns)


def _forecast(
    connection: Connection,
    schema: Schema,
    order: FiringOrder,
    table: Table,
    statement: Statement,
    parameters: Mapping[str, str],
    scope: Scope,
) -> Forecast:
    search_path = connection.execute(sa.text("show search_path")).scalar_one()
    binds = statement.bind(parameters)
    spellings = Spellings(schema)
    while True:
        source = DatabaseRows(connection, schema, spellings, limit=scope.model_limit)
        try:
            set_local(connection, search_path=search_path)
            rows = _load(source, table, statement, binds)
            set_local(connection, **READING)
            run = partial(_run, World(schema, source), rows)
            return forecast(order, run, closely=True)
        except Restart:
            continue


def _run(
    world: World, rows: Sequence[tuple[Row, Image]], firings: Firings, order: Order
) -> Outcome:
    return run_update(world, firings, rows, order)


def _load(
    source: DatabaseRows, table: Table, statement: Statement, binds: Mapping[str, str]
) -> list[tuple[Row, Image]]:
    """The rows that the UPDATE meets, each with its new values."""
    columns = [table.column(name) for name in statement.assignments]
    new: dict[tuple[int, str], tuple[str | None, ...]] = {}
    for leaf, at, *texts in _read_images(source.connection, statement, columns, binds):
        if new.setdefault((leaf, at), tuple(texts)) != tuple(texts):
            raise Unsupported("the statement", "it meets a row twice, with different new values")
    members = [table] if statement.target.only else with_heirs(source.schema, table)
    pairs: list[tuple[Row, Image]] = []
    for member in members:
        rows = lookup.rows_of(member, statement.alias)
        chosen = lookup.is_among(rows, statement.rows, binds)
        for (leaf, at), row in source.load_places(member, rows, chosen):
            changes = zip(columns, new[leaf, at], strict=True)
            image = {
                column.name: source.spellings.choose(row.id.table, column.name, text)
                for column, text in changes
            }
            pairs.append((row, image))
    return pairs


def _read_images(
    connection: Connection,
    statement: Statement,
    columns: Sequence[Column],
    binds: Mapping[str, str],
) -> Sequence[Any]:
    written = {column.name: plain_type(column).sql for column in columns}
    query = lookup.select_images(statement, written, binds)
    try:
        with connection.begin_nested():
            connection.execute(sa.text("set transaction read only"))
            return connection.execute(query).all()
    except DBAPIError as error:
        if sqlstate(error) != READ_ONLY:
            raise
        raise Unsupported("the statement", f"it changes something else: {said(error)}") from error
