"""What every command shares: the options that name the database, and the connection itself."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from psycopg2 import extensions
from psycopg2.extensions import connection as PsycopgConnection
from psycopg2.extensions import set_wait_callback
from sqlalchemy import Connection, Engine

from fkdoctor.audit import Scope, select_scope
from fkdoctor.cli.output import Command
from fkdoctor.config import Config, find_config, load_config
from fkdoctor.database import Target, connect, open_engine, resolve_target
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare
from fkdoctor.schema import Schema


@dataclass(frozen=True, kw_only=True)
class Session:
    """An open connection, the configuration, and where they came from."""

    engine: Engine
    connection: Connection
    config: Config
    target: Target

    def read_schema(self) -> Schema:
        """The schema, with what fkdoctor.toml declares."""
        timeout = self.config.database.statement_timeout
        schema = inspect_database(self.connection, statement_timeout=timeout)
        return declare(schema, self.config)


def database_options(command: Command) -> Command:
    """The command with --url and --config, handed on as `url` and `config_path`."""
    url = click.option(
        "--url",
        metavar="ADDRESS",
        help="postgresql://… or a libpq keyword string; before FKDOCTOR_URL and DATABASE_URL.",
    )
    config = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The fkdoctor.toml to use; else the nearest one in this directory or above.",
    )
    return url(config(command))


def scope_options(command: Command) -> Command:
    """The command with --schema and --table, handed on as `schemas` and `tables`."""
    schemas = click.option(
        "--schema", "schemas", multiple=True, metavar="NAME", help="Only this schema's keys."
    )
    tables = click.option(
        "--table", "tables", multiple=True, metavar="NAME", help="Only keys from or to this table."
    )
    return schemas(tables(command))


def choose_scope(
    schema: Schema, config: Config, schemas: tuple[str, ...], tables: tuple[str, ...]
) -> Scope:
    """What --schema and --table ask for; else what fkdoctor.toml says."""
    searched = config.database.schemas
    return select_scope(schema, schemas or (() if tables else searched), tables, searched)


def tree_options(command: Command) -> Command:
    """The command with --alembic and --head, handed on as `alembic_ini` and `head`."""
    alembic_ini = click.option(
        "--alembic",
        "alembic_ini",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("alembic.ini"),
        show_default=True,
        help="The alembic.ini of the tree to write revisions to.",
    )
    head = click.option(
        "--head", metavar="REVISION", help="Follow this revision; else the tree's one head."
    )
    return alembic_ini(head(command))


def read_config(config_path: Path | None) -> Config:
    """The configuration from --config, or from the nearest fkdoctor.toml, or the defaults."""
    return load_config(config_path or find_config(Path.cwd()))


@contextmanager
def _stoppable_queries() -> Iterator[None]:
    """Inside, Ctrl-C stops a running query; else psycopg2 first waits for its end.

    It holds for every psycopg2 connection of the process, and rules COPY out.
    """
    set_wait_callback(_wait)
    try:
        yield
    finally:
        set_wait_callback(None)


def _wait(connection: PsycopgConnection) -> None:
    stopped = False
    while True:
        try:
            match connection.poll():
                case extensions.POLL_OK if stopped:
                    raise KeyboardInterrupt
                case extensions.POLL_OK:
                    return
                case extensions.POLL_READ:
                    select.select([connection], [], [])
                case extensions.POLL_WRITE:
                    select.select([], [connection], [])
        except KeyboardInterrupt:
            if stopped:
                raise  # after the query's end, or pressed once more
            connection.cancel()
            stopped = True


@contextmanager
def open_session(url: str | None, config_path: Path | None) -> Iterator[Session]:
    """A session on the chosen database; says on stderr which one was chosen, and by what."""
    config = read_config(config_path)
    target = resolve_target(url, config)
    engine = open_engine(target)
    # Not while connecting: libpq does not heed connect_timeout then.
    with connect(engine) as connection, _stoppable_queries():
        click.echo(f"Using {target}.", err=True)
        yield Session(engine=engine, connection=connection, config=config, target=target)
