"""A preview of what the test's own database holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.impact.effect import Impact
from fkdoctor.impact.preview import preview_delete
from fkdoctor.impact.scope import Scope
from fkdoctor.inspect.catalog import inspect_database

Preview = Callable[..., Impact]


@pytest.fixture
def preview(database_url: str) -> Preview:
    """Called with a table and a condition on its rows, and what Scope takes."""

    def preview(table: str, where: str = "true", *, role: str = "", **options: Any) -> Impact:
        sign = "&" if "?" in database_url else "?"
        url = f"{database_url}{sign}options=-crole%3D{role}" if role else database_url
        engine = open_engine(resolve_target(url, Config(), {}))
        with connect(engine) as connection:
            schema = inspect_database(connection)
            return preview_delete(
                connection,
                schema,
                schema.resolve_table(table),
                where=sa.literal_column(where),
                scope=Scope(**options),
            )

    return preview


@pytest.fixture
def try_statement(database_url: str) -> Callable[[str], str]:
    """Called with a statement: what stops it, '' if nothing does. It is rolled back."""

    def try_statement(statement: str) -> str:
        connection = psycopg2.connect(database_url)
        try:
            connection.cursor().execute(f"{statement}; set constraints all immediate")
        except psycopg2.Error as error:
            return error.diag.constraint_name or error.diag.column_name or str(error)
        finally:
            connection.close()
        return ""

    return try_statement
