"""Asks the closure, and the model where the order within a phase decides; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg2.errorcodes as codes
import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Select
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import set_local, sqlstate
from fkdoctor.errors import ConfigError, Refused
from fkdoctor.impact.answer import Question, describe_forecast, describe_survey
from fkdoctor.impact.changing import Changing
from fkdoctor.impact.closure import Closing
from fkdoctor.impact.effect import Caveat, Impact
from fkdoctor.impact.firing import FiringOrder
from fkdoctor.impact.forecast import Forecast, forecast_delete
from fkdoctor.impact.reach import find_family, find_reach
from fkdoctor.impact.scope import READING, USUAL, Scope, snapshot, with_heirs
from fkdoctor.impact.survey import Seed, Survey, TooMany
from fkdoctor.impact.walk import DatabaseRows, Restart, Spellings, TooLarge
from fkdoctor.impact.world import Unsupported, World
from fkdoctor.schema import Schema, Table, TableKind, TableName
from fkdoctor.statement import lookup
from fkdoctor.statement.script import Statement


def preview_delete(
    connection: Connection,
    schema: Schema,
    table: TableName,
    *,
    where: ColumnElement[bool] | None = None,
    keys: Sequence[Sequence[str]] | None = None,
    selection: Select[*tuple[Any, ...]] | None = None,
    scope: Scope = USUAL,
    only: bool = False,
) -> Impact:
    """What a DELETE of rows of the table would do, without doing it.

    The rows are those that meet all that is given: `where`, an expression over the table under its
    own name; `keys`, values of Table.row_identity as text; `selection`, a query that returns such
    values. Tables that inherit from the table lose rows too, unless `only`, as with ONLY.

    Reads one snapshot, or what the transaction sees in which the connection is. Takes no lock but
    ACCESS SHARE; its temporary tables are rolled back, and where none can be made (a standby, no
    right to) the rows are read instead. Raises Refused where row security or missing rights hide
    rows, and where the time is up.
    """
    preview = DeletePreview(connection, schema, table, scope, only=only)
    with snapshot(connection, table, scope.statement_timeout):
        return preview.answer(preview.make_seeds(where, keys, selection))


def foresee_delete(
    connection: Connection,
    schema: Schema,
    table: TableName,
    *,
    where: ColumnElement[bool],
    scope: Scope = USUAL,
) -> Forecast:
    """What becomes of every single row, in every order; the question is that of preview_delete.

    Raises Unsupported where the model does not foresee it, TooLarge beyond `model_limit` rows.
    """
    preview = DeletePreview(connection, schema, table, scope)
    with snapshot(connection, table, scope.statement_timeout):
        return preview.forecast(preview.make_seeds(where, None, None))


class DeletePreview:
    """A DELETE in question, and the two ways to answer it."""

    def __init__(
        self,
        connection: Connection,
        schema: Schema,
        table: TableName,
        scope: Scope,
        *,
        only: bool = False,
        doubts: tuple[Caveat, ...] = (),
    ) -> None:
        self.connection = connection
        self.schema = schema
        self.table = schema.table(table)
        self.scope = scope
        self.order = FiringOrder(schema)
        self.tables = [self.table] if only else list(with_heirs(schema, self.table))
        if only and self.table.kind is TableKind.PARTITIONED:
            self.tables = []  # itself, it has no rows
        families = dict.fromkeys(find_family(schema, one.name) for one in self.tables)
        self.question = Question(
            connection=connection,
            schema=schema,
            reach=find_reach(schema, self.order, families),
            table=table,
            shown=scope.shown,
            contents=scope.contents,
            doubts=doubts,
        )
        self.search_path = ""

    def make_seeds(
        self,
        where: ColumnElement[bool] | None,
        keys: Sequence[Sequence[str]] | None,
        selection: Select[*tuple[Any, ...]] | None,
    ) -> list[Seed]:
        """The rows in question, table by table."""
        if keys is not None or selection is not None:
            _require_identity(self.table)
        for key in keys or ():
            _check_key(self.table, key)
        seeds = []
        for table in self.tables:
            rows = lookup.rows_of(table, self.table.name.name)
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

    def make_statement_seeds(
        self, statement: Statement, parameters: Mapping[str, str]
    ) -> list[Seed]:
        """The rows that the statement means, table by table."""
        binds = statement.bind(parameters)
        seeds = []
        for table in self.tables:
            rows = lookup.rows_of(table, statement.alias)
            if statement.where is not None:
                chosen = lookup.meets(statement.where, binds)
            else:
                chosen = lookup.is_among(rows, statement.rows, binds)
            seeds.append(Seed(table=table, rows=rows, chosen=chosen))
        return seeds

    def answer(self, seeds: Sequence[Seed]) -> Impact:
        """The impact of deleting the rows."""
        self.search_path = self.connection.execute(sa.text("show search_path")).scalar_one()
        self.question = replace(self.question, asked=self._find_asked())
        closed = self._close(seeds)
        if closed is None:
            return self._ask_only_model(seeds)
        survey, changing = closed
        if _leaves_open(survey):
            try:
                return self._ask_model(seeds)
            except TooLarge:
                pass
            except Unsupported as unsupported:
                survey.unsupported.append(unsupported)
        why = None
        if self.scope.why and self.question.asked:
            family = find_family(self.schema, self.scope.why[0])
            why = changing.explain(family, self.question.asked)
        return describe_survey(self.question, survey, why)

    def _find_asked(self) -> tuple[int, str] | None:
        """Where the row is whose path is wanted."""
        if self.scope.why is None:
            return None
        name, key = self.scope.why
        table = self.schema.table(name)
        _require_identity(table)
        _check_key(table, key)
        found = self.connection.execute(lookup.select_place(table, key)).one_or_none()
        if found is None:
            raise ConfigError(
                f"{name} has no row ({', '.join(key)}).",
                why=f"It was looked for by {', '.join(table.row_identity)}.",
                next="Name a row that is there with --why.",
            )
        return found.leaf, found.at

    def _close(self, seeds: Sequence[Seed]) -> tuple[Survey, Changing] | None:
        """What the closure says; None where no temporary table can be made."""
        by_family: dict[TableName, list[Seed]] = {}
        for seed in seeds:
            by_family.setdefault(find_family(self.schema, seed.table.name), []).append(seed)
        asked = self.scope.why and find_family(self.schema, self.scope.why[0])
        closing = Closing(
            self.connection,
            self.schema,
            self.order,
            self.question.reach,
            exact=self.scope.exact,
            shown=self.scope.shown,
            limit=self.scope.row_limit,
            asked=asked,
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
        changing = Changing(closing)
        try:
            closing.take(by_family)
            set_local(self.connection, **READING)
            closing.follow()
            closing.report()
            closing.look()
            changing.change()
        except TooMany:
            closing.report()
            closing.survey.more_than = self.scope.row_limit
        except Unsupported as unsupported:
            closing.survey.unsupported.append(unsupported)
        return closing.survey, changing

    def _ask_only_model(self, seeds: Sequence[Seed]) -> Impact:
        try:
            return self._ask_model(seeds)
        except TooLarge:
            raise Refused(
                f"More than {self.scope.model_limit} rows are involved; nothing was changed.",
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
            source = DatabaseRows(
                self.connection, self.schema, spellings, limit=self.scope.model_limit
            )
            try:
                set_local(self.connection, search_path=self.search_path)
                rows = [
                    row for seed in seeds for row in source.load(seed.table, seed.rows, seed.chosen)
                ]
                set_local(self.connection, **READING)
                return forecast_delete(World(self.schema, source), self.order, rows)
            except Restart:
                continue


def _leaves_open(survey: Survey) -> bool:
    """Whether the model could say more than the closure."""
    if survey.guessed or survey.unsupported or survey.more_than is not None:
        return False
    return bool(survey.misled or survey.questions or (survey.settled and not survey.hits))


def _require_identity(table: Table) -> None:
    if not table.row_identity:
        raise ConfigError(
            f"Rows of {table.name} cannot be named by a key.",
            why="It has neither a primary key nor a unique one without NULLs.",
            next="Say which rows by a condition.",
        )


def _check_key(table: Table, key: Sequence[str]) -> None:
    if len(key) != len(table.row_identity):
        raise ConfigError(
            f"({', '.join(key)}) is no key of {table.name}.",
            why=f"Its rows are identified by {', '.join(table.row_identity)}.",
            next="Give one value for each of these columns, with commas between.",
        )
