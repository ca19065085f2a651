"""Takes a run back: deleted rows return as they were, references point at them again.

First the whole journal is compared with the database; a row that was changed since the run is a
conflict, and nothing is undone unless the caller says to leave such clusters as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import run_transaction, set_local, sqlstate
from fkdoctor.dedupe.planner import TEXT_FORM
from fkdoctor.errors import ConfigError, Refused, UndoConflict
from fkdoctor.identifier import quote_all
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import require_ledger
from fkdoctor.resources import load_query
from fkdoctor.schema import Schema, Table, TableName
from fkdoctor.statement import journal

BATCH_SIZE = 1_000
_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class UndoProgress:
    """How far an undo is, in clusters; `kept` are those left as they are because of conflicts."""

    run_id: int
    done: int
    total: int
    restored: int
    repointed: int
    kept: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class _Step:
    number: int
    action: str
    table: Table
    key_columns: tuple[str, ...]
    columns: tuple[str, ...]


def undo_dedupe(
    connection: Connection,
    run_id: int,
    *,
    partly: bool = False,
    lock_timeout: int = 2_000,
    report: Callable[[UndoProgress], None] = lambda progress: None,
) -> UndoProgress:
    """What was taken back in the end. The connection must not be in a transaction.

    With `partly`, clusters of which a row was changed since the run stay merged; without, one such
    row and nothing is undone. Undoing a run twice does it once. Raises UndoConflict naming the
    rows, ConfigError for an unknown run, Refused when a table or column of the journal is gone.
    """
    require_ledger(connection)
    schema = inspect_database(connection)
    with connection.begin():
        run = _execute(connection, "run", run_id=run_id).one_or_none()
        if run is None:
            raise ConfigError(
                f"There is no run {run_id}.",
                why="Nothing of that number was applied in this database.",
                next="List them: fkdoctor runs",
            )
        steps = [_read_step(schema, row) for row in _execute(connection, "steps", run_id=run_id)]
        extent = _execute(connection, "cluster_range", run_id=run_id).one()
    ranges = list(_ranges(extent.first, extent.last))
    if not partly:
        _refuse_conflicts(connection, run_id, steps, ranges)
    progress = UndoProgress(
        run_id=run_id, done=0, total=extent.clusters, restored=0, repointed=0, kept=()
    )
    for extent_of_batch in ranges:
        batch = _Batch(run_id=run_id, extent=extent_of_batch, steps=steps, partly=partly)
        outcome = _try_batch(connection, batch, lock_timeout)
        progress = UndoProgress(
            run_id=run_id,
            done=progress.done + outcome.done,
            total=progress.total,
            restored=progress.restored + outcome.restored,
            repointed=progress.repointed + outcome.repointed,
            kept=(*progress.kept, *outcome.kept),
        )
        report(progress)
    with connection.begin():
        status = "undoing" if progress.kept else "undone"
        _execute(connection, "set_status", run_id=run_id, status=status)
    return progress


@dataclass(frozen=True, kw_only=True)
class _Batch:
    run_id: int
    extent: tuple[int, int]
    steps: Sequence[_Step]
    partly: bool


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    done: int
    restored: int
    repointed: int
    kept: tuple[int, ...]


def _ranges(first: int | None, last: int | None) -> Iterator[tuple[int, int]]:
    if first is not None and last is not None:
        for start in range(first, last + 1, BATCH_SIZE):
            yield start, min(start + BATCH_SIZE - 1, last)


def _execute(connection: Connection, name: str, **values: object) -> sa.CursorResult[Any]:
    return connection.execute(sa.text(load_query(f"ledger/{name}")), values)


def _read_step(schema: Schema, row: Row[Any]) -> _Step:
    name = TableName(row.table_schema, row.table_name)
    needed = (*row.key_columns, *row.columns)
    gone = (
        [str(name)]
        if not schema.has_table(name)
        else [f"{name}.{column}" for column in needed if not schema.table(name).has_column(column)]
    )
    if gone:
        raise Refused(
            "Refused: what the journal holds does not fit the database any more; nothing was "
            "changed.",
            why=f"{', '.join(gone)} is gone since the run.",
            next="Put it back as it was, then undo the run.",
        )
    return _Step(
        number=row.step,
        action=row.action,
        table=schema.table(name),
        key_columns=tuple(row.key_columns),
        columns=tuple(row.columns),
    )


def _merged_clusters(connection: Connection, run_id: int, extent: tuple[int, int]) -> list[int]:
    first, last = extent
    found = _execute(connection, "merged_clusters", run_id=run_id, first=first, last=last)
    return list(found.scalars())


def _find_conflicts(
    connection: Connection, run_id: int, steps: Sequence[_Step], clusters: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """Cluster and description of every row that is not as the run left it."""
    for step in steps:
        if step.action == "delete":
            query = journal.find_taken_keys(step.table, step.key_columns)
            what = "exists again"
        elif step.key_columns:
            query = journal.find_changed_references(step.table, step.key_columns, step.columns)
            what = f"is gone, or its {quote_all(step.columns)} was changed"
        else:
            continue
        binds = {"run_id": run_id, "step": step.number, "clusters": list(clusters)}
        for row in connection.execute(query, binds):
            yield row.cluster, f"{step.table.name} ({', '.join(row.key)}) {what}"


def _refuse_conflicts(
    connection: Connection,
    run_id: int,
    steps: Sequence[_Step],
    ranges: Sequence[tuple[int, int]],
) -> None:
    found: list[str] = []
    with connection.begin():
        set_local(connection, row_security="off", **TEXT_FORM)
        for extent in ranges:
            clusters = _merged_clusters(connection, run_id, extent)
            found += [what for _, what in _find_conflicts(connection, run_id, steps, clusters)]
    if found:
        raise _conflict(run_id, found)


def _conflict(run_id: int, found: Sequence[str]) -> UndoConflict:
    more = f"\nand {len(found) - _SHOWN} more rows." if len(found) > _SHOWN else ""
    return UndoConflict(
        f"Refused: {len(found)} rows were changed since run {run_id}; nothing was changed.",
        why="\n".join(found[:_SHOWN]) + more,
        next=f"To undo all clusters but theirs: fkdoctor undo {run_id} --partly",
    )


def _try_batch(connection: Connection, batch: _Batch, lock_timeout: int) -> _Outcome:
    try:
        return run_transaction(connection, lambda: _undo_batch(connection, batch, lock_timeout))
    except DBAPIError as error:
        if not sqlstate(error).startswith("23"):
            raise
        raise UndoConflict(
            "Refused by PostgreSQL; nothing of this batch was changed.",
            why=" ".join(str(error.orig).split()),
            next="A row that the deleted ones need is gone, or takes their place: settle that.",
        ) from error


def _undo_batch(connection: Connection, batch: _Batch, lock_timeout: int) -> _Outcome:
    connection.execute(sa.text("set transaction isolation level read committed"))
    set_local(connection, row_security="off", lock_timeout=lock_timeout, **TEXT_FORM)
    _execute(connection, "lock_run", run_id=batch.run_id)
    merged = _merged_clusters(connection, batch.run_id, batch.extent)
    conflicts = list(_find_conflicts(connection, batch.run_id, batch.steps, merged))
    if conflicts and not batch.partly:
        raise _conflict(batch.run_id, [what for _, what in conflicts])
    kept = {cluster for cluster, _ in conflicts}
    clusters = [cluster for cluster in merged if cluster not in kept]
    restored = repointed = 0
    # Rows first, then what points at them: the opposite of how the run went.
    for step in reversed(batch.steps):
        if not step.key_columns:
            continue
        written = _put_back(connection, batch.run_id, step, clusters)
        if step.action == "delete":
            restored += written
        else:
            repointed += written
    connection.execute(sa.text("set constraints all immediate"))
    _execute(connection, "forget_redirects", run_id=batch.run_id, clusters=clusters)
    return _Outcome(
        done=len(clusters), restored=restored, repointed=repointed, kept=tuple(sorted(kept))
    )


def _put_back(connection: Connection, run_id: int, step: _Step, clusters: Sequence[int]) -> int:
    """How many rows of the step were written back, which are all, and as they were."""
    binds = {"run_id": run_id, "step": step.number, "clusters": list(clusters)}
    place = (step.table, step.key_columns, step.columns)
    expected = connection.execute(journal.count_entries(), binds).scalar_one()
    altered = 0
    if step.action == "delete":
        written = connection.execute(journal.restore_duplicates(*place), binds).rowcount
        altered = len(connection.execute(journal.find_altered_restorations(*place), binds).all())
    else:
        written = connection.execute(journal.repoint_back(*place), binds).rowcount
    if written != expected or altered:
        raise UndoConflict(
            f"Refused: rows of {step.table.name} cannot be put back as they were; nothing of this "
            "batch was changed.",
            why=f"{written} of {expected} rows were written, {altered} came out different: a "
            "trigger or rule is in between.",
            next="Look at the triggers of the table, then undo the run again.",
        )
    return int(written)
