"""Creates and upgrades the ledger: its own Alembic revisions, its own version table."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from fkdoctor.errors import Blocked
from fkdoctor.resources import load_query

SCHEMA = "fkdoctor"
VERSION_TABLE = "ledger_version"


def install_ledger(connection: Connection) -> bool:
    """Whether anything had to be created or upgraded. The connection must not be in a transaction.

    All in one transaction, behind an advisory lock: two at once do it once.
    """
    with connection.begin():
        connection.execute(text(load_query("ledger/lock_installation")))
        present = connection.execute(text(load_query("ledger/present"))).one()
        if not present.has_schema:
            connection.execute(text(load_query("ledger/create_schema")))
        before = _installed_version(connection)
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return before != _installed_version(connection)


def require_ledger(connection: Connection) -> None:
    """Raises Blocked unless the ledger is there and of this fkdoctor's version."""
    with connection.begin():
        present = connection.execute(text(load_query("ledger/present"))).one()
        version = _installed_version(connection) if present.readable else None
    wanted = ScriptDirectory.from_config(_alembic_config()).get_current_head()
    if version != wanted:
        raise Blocked(
            "The ledger is missing." if version is None else "The ledger is of another version.",
            why="fkdoctor remembers in the schema fkdoctor of this database what it does, "
            "to undo it; nothing was changed.",
            next="Create or upgrade it: fkdoctor init",
        )


def _installed_version(connection: Connection) -> str | None:
    context = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE, "version_table_schema": SCHEMA}
    )
    return context.get_current_revision()


def _alembic_config() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config
