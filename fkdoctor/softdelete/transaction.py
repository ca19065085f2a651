"""The transactions of a soft delete: settings, and what PostgreSQL's refusals mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import (
    INSUFFICIENT_PRIVILEGE,
    TEXT_FORM,
    lost,
    remedy,
    run_transaction,
    said,
    set_local,
    sqlstate,
)
from fkdoctor.errors import Blocked, ConfigError
from fkdoctor.resources import execute_query

Result = TypeVar("Result")

_OF_TYPED_TEXT = ("22", "42", "0A", "38", "39", "P0")


def look(connection: Connection, work: Callable[[], Result]) -> Result:
    """What `work` found at one moment; nothing but temporary tables is written, and those go.

    The connection must not be in a transaction.
    """
    with explained(), connection.begin() as transaction:
        connection.execute(sa.text("set transaction isolation level repeatable read"))
        _prepare(connection, lock_timeout=0)
        found = work()
        transaction.rollback()
        return found


def change(connection: Connection, work: Callable[[], Result], *, lock_timeout: int) -> Result:
    """What `work` returned from a transaction that was committed; it is tried again as a whole
    when a lock was not to be had."""

    def transaction() -> Result:
        connection.execute(sa.text("set transaction isolation level read committed"))
        _prepare(connection, lock_timeout=lock_timeout)
        return work()

    with explained():
        return run_transaction(connection, transaction)


def _prepare(connection: Connection, *, lock_timeout: int) -> None:
    execute_query(connection, "ledger/prefer_catalog")
    set_local(
        connection,
        row_security="off",
        lock_timeout=lock_timeout,
        standard_conforming_strings="on",
        timezone="UTC",
        **TEXT_FORM,
    )


@contextmanager
def explained() -> Iterator[None]:
    """What PostgreSQL refuses inside is raised as Blocked: nothing was changed."""
    try:
        yield
    except DBAPIError as error:
        if lost(error):
            raise
        raise Blocked(
            "Refused by PostgreSQL; nothing was changed.", why=said(error), next=remedy(error)
        ) from error


@contextmanager
def typed_by_user() -> Iterator[None]:
    """What PostgreSQL cannot compute inside is raised as ConfigError: somebody typed it."""
    try:
        yield
    except DBAPIError as error:
        if sqlstate(error)[:2] not in _OF_TYPED_TEXT or sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            raise
        raise ConfigError(
            "PostgreSQL cannot compute which rows are meant.",
            why=said(error),
            next="Correct --where or --key.",
        ) from error
