"""What the ledger remembers of a run."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from fkdoctor.database import read_snapshot
from fkdoctor.errors import ConfigError
from fkdoctor.resources import execute_query


def read_run(connection: Connection, run_id: int) -> dict[str, Any]:
    """The run: its table, plan, status, times, counts of rows, and of clusters now merged.

    Raises ConfigError where there is none of that number.
    """
    with read_snapshot(connection):
        run = execute_query(connection, "ledger/run", run_id=run_id).mappings().one_or_none()
        merged = execute_query(connection, "ledger/count_clusters", run_id=run_id)
        clusters = merged.scalar_one()
    if run is None:
        raise unknown_run(run_id)
    return dict(run) | {"clusters": clusters}


def read_steps(connection: Connection, run_id: int) -> list[dict[str, Any]]:
    """What the run did to each batch, in that order, and to how many rows."""
    with read_snapshot(connection):
        rows = execute_query(connection, "ledger/step_counts", run_id=run_id)
        return [dict(row) for row in rows.mappings()]


def unknown_run(run_id: int) -> ConfigError:
    """The error for a number that no run has."""
    return ConfigError(
        f"There is no run {run_id}.",
        why="Nothing of that number was applied in this database.",
        next="List them: fkdoctor runs",
    )
