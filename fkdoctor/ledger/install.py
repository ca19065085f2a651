"""Creates and upgrades the ledger: its own Alembic revisions, its own version table."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import lost, read_snapshot, said, set_local
from fkdoctor.errors import Blocked
from fkdoctor.resources import execute_query
from fkdoctor.version import __version__

SCHEMA = "fkdoctor"
VERSION_TABLE = "ledger_version"

VERSIONS = tuple(
    sorted(
        path.name.partition("_")[0] for path in Path(__file__).parent.glob("versions/[0-9]*_*.py")
    )
)
"""The revisions of the ledger, the oldest first."""


def install_ledger(connection: Connection) -> bool:
    """Whether anything had to be created or upgraded. The connection must not be in a transaction.

    All in one transaction, behind an advisory lock: two at once do it once. Raises Blocked when the
    role may not do it or a newer fkdoctor made the ledger.
    """
    try:
        with connection.begin():
            # Otherwise what the other one did while this one waited would stay unseen.
            connection.execute(text("set transaction isolation level read committed"))
            set_local(connection, search_path="")
            execute_query(connection, "ledger/lock_installation")
            return _install(connection)
    except DBAPIError as error:
        if lost(error):
            raise
        raise Blocked(
            "Refused by PostgreSQL: the ledger cannot be created; nothing was changed.",
            why=said(error),
            next="Let a role do it that may: fkdoctor init needs CREATE on the database, or a "
            "schema fkdoctor that is its own.",
        ) from error


def _install(connection: Connection) -> bool:
    # It takes as long to import as all else together, and most commands only look.
    from alembic import command
    from alembic.config import Config

    present = execute_query(connection, "ledger/present").one()
    if not present.has_schema:
        execute_query(connection, "ledger/create_schema")
    installed = _read_version(connection) if present.has_ledger else None
    if installed == VERSIONS[-1]:
        return False
    if installed not in (None, *VERSIONS):
        raise _of_newer_fkdoctor(installed)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    return True


def require_ledger(connection: Connection) -> None:
    """Raises Blocked unless the ledger is there, readable, and of this fkdoctor's version."""
    with read_snapshot(connection):
        present = execute_query(connection, "ledger/present").one()
        version = _read_version(connection) if present.readable else None
    if version == VERSIONS[-1]:
        return
    if version not in (None, *VERSIONS):
        raise _of_newer_fkdoctor(version)
    if present.has_ledger and not present.readable:
        raise Blocked(
            "The ledger may not be read.",
            why="It is in the schema fkdoctor of this database, which belongs to another role; "
            "nothing was changed.",
            next="Connect as that role, or have its rights granted.",
        )
    raise Blocked(
        "The ledger is missing." if version is None else "The ledger is of an older version.",
        why="fkdoctor remembers in the schema fkdoctor of this database what it does, "
        "to undo it; nothing was changed.",
        next="Create or upgrade it: fkdoctor init",
    )


def _of_newer_fkdoctor(version: str | None) -> Blocked:
    return Blocked(
        "The ledger is of a newer version.",
        why=f"Its version {version} is not known to fkdoctor {__version__}; nothing was changed.",
        next="Upgrade fkdoctor.",
    )


def _read_version(connection: Connection) -> str | None:
    version: str | None = execute_query(connection, "ledger/version").scalar_one_or_none()
    return version
