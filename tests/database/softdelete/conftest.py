"""A database with a ledger, and short ways to soft-delete, restore and purge in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn
from sqlalchemy import Engine

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import install_ledger
from fkdoctor.softdelete.delete import preview_soft_delete, soft_delete
from fkdoctor.softdelete.outcome import Deletion, Purge, Restoration
from fkdoctor.softdelete.purge import preview_purge, purge_deleted
from fkdoctor.softdelete.restore import preview_restore, restore_deletion
from fkdoctor.softdelete.selection import Selection

TABLES = """
    select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname not in
        ('information_schema', 'fkdoctor')
    order by 1, 2
"""
CLEAN = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid();
    do $$ declare name text; begin
        for name in select nspname from pg_namespace
            where nspname !~ '^pg_' and nspname not in ('information_schema', 'fkdoctor')
        loop execute format('drop schema %I cascade', name); end loop;
    end $$;
    create schema public; grant usage on schema public to public;
    truncate fkdoctor.deletion, fkdoctor.deletion_step, fkdoctor.deletion_journal;
"""


@dataclass(frozen=True)
class Database:
    """A database with a ledger."""

    url: str

    def execute(self, statements: str, values: object = None) -> list[tuple[Any, ...]]:
        """The last statement's rows; everything is committed."""
        with closing(psycopg2.connect(self.url)) as connection, connection:
            cursor = connection.cursor()
            cursor.execute(statements, values)
            return cursor.fetchall() if cursor.description else []

    def engine(self, **parameters: str) -> Engine:
        """An engine on it; parameters are libpq's."""
        return open_engine(resolve_target(make_dsn(self.url, **parameters), Config(), {}))

    def preview(self, table: str, where: str | None = None, *keys: str) -> Deletion:
        """What a soft delete would do."""
        with connect(self.engine()) as connection:
            schema = inspect_database(connection)
            name = schema.resolve_table(table)
            return preview_soft_delete(connection, schema, name, Selection(where=where, keys=keys))

    def delete(
        self,
        table: str,
        where: str | None = None,
        *keys: str,
        reason: str | None = None,
        watch: Callable[[Engine], None] = lambda engine: None,
        lock_timeout: int = 500,
        **parameters: str,
    ) -> Deletion:
        """The soft delete as it was done."""
        engine = self.engine(**parameters)
        watch(engine)
        with connect(engine) as connection:
            schema = inspect_database(connection)
            name = schema.resolve_table(table)
            return soft_delete(
                connection,
                schema,
                name,
                Selection(where=where, keys=keys),
                reason=reason,
                lock_timeout=lock_timeout,
            )

    def preview_restore(self, id: str | None) -> Restoration:
        """What a restore would do."""
        with connect(self.engine()) as connection:
            return preview_restore(connection, inspect_database(connection), id or "")

    def restore(
        self, id: str | None, *, watch: Callable[[Engine], None] = lambda engine: None
    ) -> Restoration:
        """The deletion as it was taken back."""
        engine = self.engine()
        watch(engine)
        with connect(engine) as connection:
            return restore_deletion(
                connection, inspect_database(connection), id or "", lock_timeout=500
            )

    def preview_purge(self, days: int = -1) -> Purge:
        """What a purge would do of rows deleted so many days ago; by default of all."""
        with connect(self.engine()) as connection:
            schema = inspect_database(connection)
            return preview_purge(connection, schema, datetime.now(UTC) - timedelta(days=days))

    def purge(
        self,
        days: int = -1,
        *,
        batch_size: int = 1_000,
        watch: Callable[[Engine], None] = lambda engine: None,
    ) -> Purge:
        """The purge as it was done."""
        engine = self.engine()
        watch(engine)
        with connect(engine) as connection:
            return purge_deleted(
                connection,
                inspect_database(connection),
                datetime.now(UTC) - timedelta(days=days),
                batch_size=batch_size,
                lock_timeout=500,
            )

    def contents(self, suffix: str = "") -> dict[str, list[str]]:
        """Every row of every table but the ledger's, as text, in the order of the texts."""
        found = {}
        with closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute("set timezone = 'UTC'; set search_path = ''")
            cursor.execute(TABLES)
            for schema, table in cursor.fetchall():
                name = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))
                cursor.execute(
                    f'select r::text from only {name} as r {suffix} order by r::text collate "C"'
                )
                found[name] = [text for (text,) in cursor.fetchall()]
        return found


def _install(url: str) -> None:
    with connect(open_engine(resolve_target(url, Config(), {}))) as connection:
        install_ledger(connection)


@pytest.fixture(scope="session")
def ledger_template(make_template: Callable[..., str]) -> str:
    """The name of a template with a ledger."""
    return make_template(_install)


@pytest.fixture(scope="session")
def workbench(make_template: Callable[..., str]) -> str:
    """The URL of a database with a ledger, which tests use one after the other."""
    urls: list[str] = []

    def load(url: str) -> None:
        urls.append(url)
        _install(url)

    make_template(load)
    return urls[0]


@pytest.fixture
def db(workbench: str) -> Database:
    """A database with a ledger and nothing else. Making a new one would take most of a test."""
    database = Database(workbench)
    database.execute(CLEAN)
    return database
