"""Alembic's entry to the mlops revisions.

The database is the one every command would take: `alembic -x url=…`, FKDOCTOR_URL, DATABASE_URL,
fkdoctor.toml (another one: `-x config=…`). With `-x wait=yes` a transaction that has been open for
long on a table is waited for, otherwise nothing is begun under it. From Python,
`fkdoctor.revise.upgrade` hands over an engine.
"""

from __future__ import annotations

import sys
from logging.config import fileConfig
from pathlib import Path

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.cli import report_problem
from fkdoctor.cli.session import open_session
from fkdoctor.config import Config
from fkdoctor.database import connect
from fkdoctor.errors import FkdoctorError
from fkdoctor.revise import Patience

# A table of its own, so that a database with an Alembic history of its own can be upgraded too.
VERSION_TABLE = "alembic_version_mlops"


def write_script() -> None:
    """`--sql`: no database is asked."""
    context.configure(
        dialect_name="postgresql",
        literal_binds=True,
        transaction_per_migration=True,
        version_table=VERSION_TABLE,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_revisions(connection: Connection, config: Config) -> None:
    """Each revision commits by itself; the operations need transactions of their own."""
    context.configure(
        connection=connection,
        transaction_per_migration=True,
        version_table=VERSION_TABLE,
        fkdoctor_patience=Patience(
            longest=config.database.lock_timeout,
            wait=context.get_x_argument(as_dictionary=True).get("wait") == "yes",
        ),
    )
    with context.begin_transaction():
        context.run_migrations()


def run_on_given_engine() -> None:
    """Called from Python: the caller deals with errors."""
    with connect(context.config.attributes["engine"]) as connection:
        run_revisions(connection, Config())


def run_on_chosen_database() -> None:
    """Called as `alembic`: a problem is told in a few lines, and by the exit code."""
    given = context.get_x_argument(as_dictionary=True)
    config_path = Path(given["config"]) if "config" in given else None
    try:
        with open_session(given.get("url"), config_path) as session:
            run_revisions(session.connection, session.config)
    except (FkdoctorError, DBAPIError) as problem:
        sys.exit(report_problem(problem))


if context.config.config_file_name is not None:
    fileConfig(context.config.config_file_name, disable_existing_loggers=False)
if context.is_offline_mode():
    write_script()
elif "engine" in context.config.attributes:
    run_on_given_engine()
else:
    run_on_chosen_database()
