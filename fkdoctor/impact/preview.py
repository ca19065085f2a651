"""Asks the closure, and the model where the order within a phase decides; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2.errorcodes as codes
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Select
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import set_local, sqlstate
from fkdoctor.errors import ConfigError, Refused
from fkdoctor.impact.answer import Question, describe_forecast, describe_survey
from fkdoctor.impact.closure import Closing, Seed, Survey
from fkdoctor.impact.effect import Impact
from fkdoctor.impact.firing import FiringOrder
from fkdoctor.impact.forecast import Forecast, forecast_delete
from fkdoctor.impact.model import Unsupported, World
from fkdoctor.impact.reach import find_family, find_reach
from fkdoctor.impact.walk import DatabaseRows, Restart, Spellings, TooLarge
from fkdoctor.schema import Schema, Table, TableName
from fkdoctor.statement import lookup

MODEL_LIMIT = 20_000
"""How many rows the model may load, where the order within a phase decides."""


def preview_delete(
    connection: Connection,
    schema: Schema,
    table: TableName,
    *,
    where: ColumnElement[bool] | None = None,
    keys: Sequence[Sequence[str]] | None = None,
    selection: Select[*tuple[Any, ...]] | None = None,
    alias: str | None = None,
    exact: bool = False,
    model_limit: int = MODEL_LIMIT,
    statement_timeout: int = 0,
) -> Impact:
    """What a DELETE of rows of the table would do, without doing it.

    The rows are those that meet all that is given: `where`, an expression over the table, which has
    the name `alias` there (else its own); `keys`, values of Table.row_identity as text;
    `selection`, a query that returns such values. Tables that inherit from the table lose rows too,
    as they do without ONLY.

    Reads one snapshot, or what the transaction sees in which the connection is. Takes no lock but
    ACCESS SHARE; its temporary tables are rolled back, and where none can be made (a standby, no
    right to) at most `model_limit` rows are read instead. A large table that would be read from end
    to end for want of an index is estimated unless `exact`. `statement_timeout` is in milliseconds.

    Raises Refused where row security or missing rights hide rows, and where the time is up.
    """
    preview = _Preview(connection, schema, table, exact=exact, model_limit=model_limit)
    try:
        with _snapshot(connection, statement_timeout):
            return preview.answer(preview.make_seeds(where, keys, selection, alias))
    except DBAPIError as error:
        raise _explain(error, table) from error


def foresee_delete(
    connection: Connection,
    schema: Schema,
    table: TableName,
    *,
    where: ColumnElement[bool],
    limit: int = MODEL_LIMIT,
) -> Forecast:
    """What becomes of every single row, in every order; the question is that of preview_delete.

    Raises Unsupported where the model does not foresee it, TooLarge beyond `limit` rows.
    """
    preview = _Preview(connection, schema, table, exact=True, model_limit=limit)
    with _snapshot(connection, 0):
        return preview.forecast(preview.make_seeds(where, None, None, None))


@contextmanager
def _snapshot(connection: Connection, statement_timeout: int) -> Iterator[None]:
    """All that is read is of one moment; all that is made is gone afterwards."""
    nested = connection.in_transaction()
    transaction = connection.begin_nested() if nested else connection.begin()
    try:
        if not nested:
            connection.execute(sa.text("set transaction isolation level repeatable read"))
        # Where row security would hide rows, PostgreSQL then says so.
        set_local(connection, row_security="off", statement_timeout=statement_timeout)
        yield
    finally:
        transaction.rollback()


# For values that are compared as text, and the catalog's expressions, in which names are qualified.
_READING = {
    "search_path": "",
    "bytea_output": "hex",
    "datestyle": "ISO, MDY",
    "extra_float_digits": "1",
    "intervalstyle": "postgres",
    "timezone": "UTC",
}


def _explain(error: DBAPIError, table: TableName) -> Exception:
    why = "PostgreSQL says: " + " ".join(str(error.orig).split())
    match sqlstate(error):
        case codes.INSUFFICIENT_PRIVILEGE:
            return Refused(
                f"This role cannot look into {table} and what hangs on it; nothing was changed.",
                why=why,
                next="Use a role that may read every table involved, and that has BYPASSRLS.",
            )
        case codes.QUERY_CANCELED:
            return Refused(
                "The preview took too long; nothing was changed.",
                why=why,
                next="Allow it more time (statement_timeout), or ask about fewer rows.",
            )
    return error


class _Preview:
    """One question, and the two ways to answer it."""

    def __init__(
        self,
        connection: Connection,
        schema: Schema,
        table: TableName,
        *,
        exact: bool,
        model_limit: int,
    ) -> None:
        self.connection = connection
        self.schema = schema
        self.table = schema.table(table)
        self.exact = exact
        self.model_limit = model_limit
        self.order = FiringOrder(schema)
        self.tables = list(_with_heirs(schema, self.table))
        families = dict.fromkeys(find_family(schema, one.name) for one in self.tables)
        self.question = Question(
            connection=connection,
            schema=schema,
            reach=find_reach(schema, self.order, families),
            table=table,
        )
        self.search_path = ""

    def make_seeds(
        self,
        where: ColumnElement[bool] | None,
        keys: Sequence[Sequence[str]] | None,
        selection: Select[*tuple[Any, ...]] | None,
        alias: str | None,
    ) -> list[Seed]:
        """The rows in question, table by table."""
        if (keys is not None or selection is not None) and not self.table.row_identity:
            raise ConfigError(
                f"Rows of {self.table.name} cannot be named by a key.",
                why="It has neither a primary key nor a unique one without NULLs.",
                next="Say which rows by a condition.",
            )
        seeds = []
        for table in self.tables:
            rows = lookup.rows_of(table, alias or self.table.name.name)
            conditions: list[ColumnElement[bool]] = [sa.true()]
            if where is not None:
                conditions.append(where)
            if keys is not None:
                conditions.append(lookup.is_identified(self.table, rows, keys))
            if selection is not None:
                identity = sa.tuple_(*(rows.c[name] for name in self.table.row_identity))
                conditions.append(identity.in_(selection))
            seeds.append(Seed(table=table, rows=rows, chosen=sa.and_(*conditions)))
        return seeds

    def answer(self, seeds: Sequence[Seed]) -> Impact:
        """The impact of deleting the rows."""
        self.search_path = self.connection.execute(sa.text("show search_path")).scalar_one()
        survey = self._close(seeds)
        if survey is None:
            return self._ask_only_model(seeds)
        if _leaves_open(survey):
            try:
                return self._ask_model(seeds)
            except TooLarge:
                pass
            except Unsupported as unsupported:
                survey.unsupported.append(unsupported)
        return describe_survey(self.question, survey)

    def _close(self, seeds: Sequence[Seed]) -> Survey | None:
        """What the closure says; None where no temporary table can be made."""
        by_family: dict[TableName, list[Seed]] = {}
        for seed in seeds:
            by_family.setdefault(find_family(self.schema, seed.table.name), []).append(seed)
        closing = Closing(
            self.connection, self.schema, self.order, self.question.reach, exact=self.exact
        )
        try:
            with self.connection.begin_nested():
                closing.make_tables(by_family)
        except DBAPIError as error:
            # A standby or a read-only transaction; or a role without TEMP on the database.
            refusals = (codes.READ_ONLY_SQL_TRANSACTION, codes.INSUFFICIENT_PRIVILEGE)
            if sqlstate(error) in refusals:
                return None
            raise
        closing.take(by_family)
        set_local(self.connection, **_READING)
        closing.follow()
        closing.look()
        closing.change()
        return closing.survey

    def _ask_only_model(self, seeds: Sequence[Seed]) -> Impact:
        try:
            return self._ask_model(seeds)
        except TooLarge:
            raise Refused(
                f"More than {self.model_limit} rows are involved; nothing was changed.",
                why="For so many the preview needs temporary tables, and none can be made here: "
                "a standby, a read-only transaction, or a role without the right to.",
                next="Ask the primary, or as another role, or about fewer rows.",
            ) from None
        except Unsupported as unsupported:
            survey = Survey(unsupported=[unsupported])
            return describe_survey(self.question, survey)

    def _ask_model(self, seeds: Sequence[Seed]) -> Impact:
        """What the model says. Raises TooLarge beyond `model_limit` rows, and Unsupported."""
        return describe_forecast(self.question, self.forecast(seeds))

    def forecast(self, seeds: Sequence[Seed]) -> Forecast:
        """What the model makes of the rows. Raises as `_ask_model`."""
        spellings = Spellings(self.schema)
        while True:
            source = DatabaseRows(self.connection, self.schema, spellings, limit=self.model_limit)
            try:
                set_local(self.connection, search_path=self.search_path)
                rows = [
                    row for seed in seeds for row in source.load(seed.table, seed.rows, seed.chosen)
                ]
                set_local(self.connection, **_READING)
                return forecast_delete(World(self.schema, source), self.order, rows)
            except Restart:
                continue


def _leaves_open(survey: Survey) -> bool:
    """Whether the model could say more than the closure."""
    if survey.guessed or survey.unsupported:
        return False
    return bool(survey.misled or survey.questions or (survey.settled and not survey.hits))


def _with_heirs(schema: Schema, table: Table) -> Iterator[Table]:
    """The table and all that inherit from it."""
    found = [table]
    for one in found:
        found += [heir for heir in schema.tables if one.name in heir.inherits and heir not in found]
    yield from found
