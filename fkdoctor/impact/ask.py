"""Previews a statement as it was typed, whatever its verb."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from fkdoctor.impact.effect import Impact
from fkdoctor.impact.preview import DeletePreview
from fkdoctor.impact.scope import USUAL, Scope, find_doubts, find_target, snapshot
from fkdoctor.impact.truncate import preview_truncate
from fkdoctor.impact.update import preview_update
from fkdoctor.schema import Schema
from fkdoctor.statement.script import Command, Statement


def preview_statement(
    connection: Connection,
    schema: Schema,
    statement: Statement,
    *,
    parameters: Mapping[str, str] | None = None,
    scope: Scope = USUAL,
) -> Impact:
    """What the statement would do, as `preview_delete`; names mean what the search_path says."""
    with connection.begin_nested() if connection.in_transaction() else connection.begin():
        tables = [find_target(connection, schema, target) for target in statement.targets]
        doubts = tuple(find_doubts(connection, statement))
    with snapshot(connection, tables[0], scope.statement_timeout):
        match statement.command:
            case Command.TRUNCATE:
                return preview_truncate(connection, schema, statement, tables, scope)
            case Command.UPDATE:
                return preview_update(
                    connection, schema, statement, tables[0], parameters or {}, doubts, scope
                )
        preview = DeletePreview(
            connection, schema, tables[0], scope, only=statement.target.only, doubts=doubts
        )
        return preview.answer(preview.make_statement_seeds(statement, parameters or {}))
