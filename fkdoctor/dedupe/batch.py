"""The transactions in which a run is applied or undone: settings, the lock, what errors mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import (
    TEXT_FORM,
    remedy,
    run_transaction,
    said,
    set_local,
)
from fkdoctor.errors import Blocked
from fkdoctor.resources import execute_query

Result = TypeVar("Result")

# A batch touches few rows of large tables. At its usual price for random reads the planner would
# read them whole, once for every batch.
_CHEAP_INDEX_SCANS = "1.1"


def run_on_ledger(connection: Connection, work: Callable[[], Result]) -> Result:
    """What `work` returned from a READ COMMITTED transaction of its own.

    Raises Blocked where PostgreSQL, or a trigger, refused a statement.
    """

    def transaction() -> Result:
        connection.execute(sa.text("set transaction isolation level read committed"))
        execute_query(connection, "ledger/prefer_catalog")
        return work()

    try:
        return run_transaction(connection, transaction)
    except DBAPIError as error:
        raise Blocked(
            "Refused by PostgreSQL; the transaction was rolled back.",
            why=said(error),
            next=remedy(error),
        ) from error


def run_batch(
    connection: Connection,
    run_id: int,
    work: Callable[[Row[Any]], Result],
    *,
    lock_timeout: int,
    together: bool = False,
) -> Result:
    """What `work` returned from a transaction in which nobody else works on the run; where that is
    done `together`, nobody undoes it.

    It is called with the run's row as ledger/lock_run reads it. Times are written in the run's time
    zone: so they can be compared as text, and triggers see the zone that they are used to.
    """

    def transaction() -> Result:
        set_local(
            connection,
            row_security="off",
            lock_timeout=lock_timeout,
            random_page_cost=_CHEAP_INDEX_SCANS,
            **TEXT_FORM,
        )
        query = "ledger/join_run" if together else "ledger/lock_run"
        run = execute_query(connection, query, run_id=run_id).one()
        set_local(connection, timezone=run.time_zone)
        return work(run)

    return run_on_ledger(connection, transaction)
