"""Short ways to load a database and to look at it through fkdoctor."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.schema import Schema


def execute_at(url: str, statements: str) -> list[tuple[object, ...]]:
    """The last statement's rows; everything is committed."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        connection.set_client_encoding("UTF8")
        cursor.execute(statements)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def execute(database_url: str) -> Callable[[str], list[tuple[object, ...]]]:
    """Runs SQL in the test's own database."""
    return lambda statements: execute_at(database_url, statements)


@pytest.fixture(scope="session")
def inspect_at() -> Callable[[str], Schema]:
    """Called with a URL: the Schema that is read there."""

    def inspect_at(url: str) -> Schema:
        with connect(open_engine(resolve_target(url, Config(), {}))) as connection:
            return inspect_database(connection, index_definitions=True)

    return inspect_at


@pytest.fixture
def inspect_after(database_url: str, inspect_at: Callable[[str], Schema]) -> Callable[..., Schema]:
    """Runs SQL in the test's own database: the Schema that is then read from it."""

    def inspect_after(statements: str = "") -> Schema:
        if statements:
            execute_at(database_url, statements)
        return inspect_at(database_url)

    return inspect_after


@pytest.fixture(scope="session")
def major(server_url: str) -> int:
    """The server's major version."""
    with closing(psycopg2.connect(server_url)) as connection:
        return int(connection.server_version) // 10_000


@pytest.fixture(scope="session")
def has_icu(server_url: str) -> bool:
    """Whether the server is built with ICU, without which no collation is nondeterministic.

    The catalog does not tell: from 17 on it lists ICU's root collation in any case.
    """
    collation = "create collation pg_temp.probe (provider = icu, locale = 'und')"
    try:
        execute_at(server_url, collation)
    except psycopg2.errors.FeatureNotSupported:
        return False
    return True


@pytest.fixture
def superuser(server_url: str) -> None:
    """Skips the test where we may only create databases."""
    ask = "select rolsuper from pg_catalog.pg_roles where rolname = current_user"
    if execute_at(server_url, ask) != [(True,)]:
        pytest.skip("needs a superuser on the test server")
