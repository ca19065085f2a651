"""Takes a run back: deleted rows return as they were, references point at them again.

The last clusters come first. Before anything is written the whole journal is compared with the
database; a row that was changed since the run is a conflict, and nothing is undone unless the
caller says to leave such clusters as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import said, sqlstate
from fkdoctor.dedupe.batch import run_batch, run_on_ledger
from fkdoctor.errors import ConfigError, Incomplete, Refused, UndoConflict
from fkdoctor.identifier import quote, quote_all
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.history import unknown_run
from fkdoctor.ledger.install import require_ledger
from fkdoctor.resources import execute_query
from fkdoctor.schema import ForeignKey, Schema, Table, TableName
from fkdoctor.statement import journal
from fkdoctor.statement.parts import Query

BATCH_SIZE = 1_000
_SHOWN = 10
_CONSTRAINT_VIOLATED = "23"
_ABOVE_ALL_CLUSTERS = 2**31


@dataclass(frozen=True, kw_only=True)
class UndoProgress:
    """How far an undo is, in clusters; `kept` are those left as they are because of conflicts.

    `conflicts` tells of the first of these.
    """

    run_id: int
    done: int
    total: int
    restored: int
    repointed: int
    kept: tuple[int, ...] = ()
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Step:
    number: int
    action: str
    table: Table
    key_columns: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Undo:
    run_id: int
    schema: Schema
    steps: Sequence[_Step]
    partly: bool
    lock_timeout: int


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    done: int = 0
    restored: int = 0
    repointed: int = 0
    kept: tuple[int, ...] = ()
    conflicts: tuple[str, ...] = ()

    def __add__(self, other: _Outcome) -> _Outcome:
        return _Outcome(
            done=self.done + other.done,
            restored=self.restored + other.restored,
            repointed=self.repointed + other.repointed,
            kept=self.kept + other.kept,
            conflicts=(self.conflicts + other.conflicts)[:_SHOWN],
        )


def undo_dedupe(
    connection: Connection,
    run_id: int,
    *,
    partly: bool = False,
    clusters: Sequence[int] = (),
    batch_size: int = BATCH_SIZE,
    lock_timeout: int = 2_000,
    report: Callable[[UndoProgress], None] = lambda progress: None,
) -> UndoProgress:
    """What was taken back in the end. The connection must not be in a transaction.

    `clusters` are the numbers of those to take back; none are all. With `partly`, clusters of which
    a row was changed since the run stay merged; without, one such row and nothing is undone.
    Undoing a run twice does it once. Raises UndoConflict naming the rows, ConfigError for an
    unknown run, Refused when a table or column of the journal is gone, and Incomplete when
    something came up on the way (part of it is done; run again).
    """
    require_ledger(connection)
    schema = inspect_database(connection)
    steps, total = run_on_ledger(connection, lambda: _read_run(connection, schema, run_id))
    undo = _Undo(
        run_id=run_id, schema=schema, steps=steps, partly=partly, lock_timeout=lock_timeout
    )
    if clusters:
        chosen = _check_clusters(connection, undo, clusters)
        total = len(chosen)

    def list_batches(within: bool) -> Iterator[list[int]]:
        return iter([chosen]) if clusters else _batches(connection, run_id, batch_size, within)

    if not partly:
        _refuse_conflicts(connection, undo, lambda: list_batches(within=True))
    outcome = _Outcome()
    progress = UndoProgress(run_id=run_id, done=0, total=total, restored=0, repointed=0)
    for batch in list_batches(within=False):
        try:
            outcome += _undo_clusters(connection, undo, batch)
        except Refused as refusal:
            if not outcome.done:
                raise
            raise Incomplete(
                f"Stopped after {outcome.done} of {total} clusters; the batch that failed was "
                "rolled back.",
                why=refusal.why,
                next=refusal.next,
            ) from refusal
        progress = UndoProgress(
            run_id=run_id,
            done=outcome.done,
            total=total,
            restored=outcome.restored,
            repointed=outcome.repointed,
            kept=tuple(sorted(outcome.kept)),
            conflicts=outcome.conflicts,
        )
        report(progress)
    _finish(connection, undo)
    return progress


def _read_run(connection: Connection, schema: Schema, run_id: int) -> tuple[list[_Step], int]:
    """The run's steps and how many clusters of it are merged."""
    if execute_query(connection, "ledger/run", run_id=run_id).one_or_none() is None:
        raise unknown_run(run_id)
    steps = execute_query(connection, "ledger/steps", run_id=run_id).all()
    merged = execute_query(connection, "ledger/count_clusters", run_id=run_id).scalar_one()
    return [_read_step(schema, row) for row in steps], merged


def _read_step(schema: Schema, row: Row[Any]) -> _Step:
    name = TableName(row.table_schema, row.table_name)
    gone: list[str] = []
    if not schema.has_table(name):
        gone = [f"{name} is gone"]
    else:
        table = schema.table(name)
        for column in dict.fromkeys((*row.key_columns, *row.columns)):
            if not table.has_column(column):
                gone.append(f"{name}.{quote(column)} is gone")
            elif table.column(column).generated:
                gone.append(f"{name}.{quote(column)} is a generated column now")
    if gone:
        raise Refused(
            "Refused: what the journal holds does not fit the database any more; nothing was "
            "changed.",
            why=f"Since the run {', '.join(gone)}.",
            next="Put it back as it was, then undo the run.",
        )
    return _Step(
        number=row.step,
        action=row.action,
        table=schema.table(name),
        key_columns=tuple(row.key_columns),
        columns=tuple(row.columns),
    )


def _batches(connection: Connection, run_id: int, size: int, within: bool) -> Iterator[list[int]]:
    """The numbers of the merged clusters, the last ones first. They are read `within` the
    transaction that there is, or in some of their own."""
    below = _ABOVE_ALL_CLUSTERS

    def read() -> list[int]:
        found = execute_query(
            connection, "ledger/clusters_left", run_id=run_id, below=below, limit=size
        )
        return list(found.scalars())

    while clusters := read() if within else run_on_ledger(connection, read):
        yield clusters
        below = clusters[-1]


def _check_clusters(connection: Connection, undo: _Undo, clusters: Sequence[int]) -> list[int]:
    """Those that were named, the last first. Raises ConfigError for one that is not merged."""
    merged = run_on_ledger(connection, lambda: _merged(connection, undo, clusters))
    missing = sorted(set(clusters) - set(merged))
    if missing:
        raise ConfigError(
            f"Run {undo.run_id} has no merged cluster {', '.join(map(str, missing))}.",
            why="It was left alone, was undone before, or is of another run.",
            next=f"The plan's file numbers them; see also: fkdoctor show {undo.run_id}",
        )
    return sorted(merged, reverse=True)


def _refuse_conflicts(
    connection: Connection, undo: _Undo, list_batches: Callable[[], Iterable[Sequence[int]]]
) -> None:
    """Raises UndoConflict when any row of these clusters is not as the run left it."""

    def look(run: Row[Any]) -> None:
        number, first = 0, []
        for clusters in list_batches():
            merged = _merged(connection, undo, clusters)
            for _, what in _find_conflicts(connection, undo, merged):
                number += 1
                if number <= _SHOWN:
                    first.append(what)
        if number:
            raise _conflict(connection, undo, first, number)

    run_batch(connection, undo.run_id, look, lock_timeout=undo.lock_timeout)


def _merged(connection: Connection, undo: _Undo, clusters: Sequence[int]) -> list[int]:
    """Those of the clusters that are merged, and not undone meanwhile."""
    found = execute_query(
        connection, "ledger/merged_clusters", run_id=undo.run_id, clusters=list(clusters)
    )
    return list(found.scalars())


def _find_conflicts(
    connection: Connection, undo: _Undo, clusters: Sequence[int]
) -> Iterator[tuple[int, str]]:
    """Cluster and description of every row that is not as the run left it."""
    for step in undo.steps:
        binds = _binds(undo, step, clusters)
        for query, what, more in _conflict_queries(undo, step):
            for row in connection.execute(query, binds | more):
                yield row.cluster, f"{step.table.name} ({', '.join(row.key)}): {what}"


def _binds(undo: _Undo, step: _Step, clusters: Sequence[int]) -> dict[str, object]:
    alike = [other for other in undo.steps if other.table is step.table]
    return {
        "run": undo.run_id,
        "at_step": step.number,
        "clusters": list(clusters),
        "returning": [other.number for other in alike if other.action != "delete"],
        # Of these, entries are renamed that the run said may move.
        "siblings": [
            other.number
            for other in alike
            if other.number != step.number and other.action != "delete"
        ],
    }


def _restored(undo: _Undo, key: ForeignKey) -> list[int]:
    """The steps that deleted rows which the key references."""
    return [
        step.number
        for step in undo.steps
        if step.action == "delete" and step.table.name == key.referenced
    ]


def _conflict_queries(undo: _Undo, step: _Step) -> Iterator[tuple[Query, str, dict[str, object]]]:
    """What to ask about the rows of a step, what it means for those that are found, and binds."""
    schema, table, columns = undo.schema, step.table, set(step.columns)
    if step.action != "delete":
        if step.key_columns:
            yield (
                journal.find_changed_references(table, step.key_columns, step.columns),
                f"it is gone, or its {quote_all(step.columns)} was changed",
                {},
            )
        return
    for unique in table.unique_keys:
        if columns.issuperset(unique.columns):
            yield (
                journal.find_taken_keys(table, unique),
                f"another row has its {quote_all(unique.columns)} now",
                {},
            )
    for key in schema.keys_from(table.name):
        referenced = schema.table(key.referenced)
        checked = key.enforced and not key.period and referenced.readable
        if checked and columns.issuperset(key.referencing_columns):
            yield (
                journal.find_missing_referenced(table, key, referenced),
                f"the row of {key.referenced} that its {quote_all(key.referencing_columns)} "
                "references is gone",
                {"restored": _restored(undo, key)},
            )


def _conflict(
    connection: Connection, undo: _Undo, first: Sequence[str], number: int
) -> UndoConflict:
    """The refusal that names the first of a number of conflicts."""
    more = f"\nand {number - len(first)} more." if number > len(first) else ""
    later = execute_query(connection, "ledger/later_runs", run_id=undo.run_id).scalars().all()
    before = (
        f"Run {later[0]} changed these tables after it: undo that one first, or undo"
        if later
        else "Undo"
    )
    return UndoConflict(
        f"Refused: rows were changed since run {undo.run_id}; nothing was undone.",
        why="\n".join(first) + more,
        next=f"{before} all clusters but theirs: fkdoctor undo {undo.run_id} --partly",
    )


def _undo_clusters(connection: Connection, undo: _Undo, clusters: Sequence[int]) -> _Outcome:
    """The outcome of a batch; with `partly`, of its halves when it cannot be undone as a whole."""
    try:
        return run_batch(
            connection,
            undo.run_id,
            lambda run: _undo_batch(connection, undo, clusters),
            lock_timeout=undo.lock_timeout,
        )
    except UndoConflict as conflict:
        if not undo.partly:
            raise
        if len(clusters) == 1:
            return _Outcome(done=1, kept=tuple(clusters), conflicts=(conflict.why,))
    middle = len(clusters) // 2
    return _undo_clusters(connection, undo, clusters[:middle]) + _undo_clusters(
        connection, undo, clusters[middle:]
    )


def _undo_batch(connection: Connection, undo: _Undo, clusters: Sequence[int]) -> _Outcome:
    merged = _merged(connection, undo, clusters)
    conflicts: dict[int, str] = {}
    for cluster, what in _find_conflicts(connection, undo, merged):
        conflicts.setdefault(cluster, what)
    if conflicts and not undo.partly:
        first = tuple(conflicts.values())[:_SHOWN]
        raise _conflict(connection, undo, first, len(conflicts))
    outcome = _Outcome(
        done=len(clusters), kept=tuple(conflicts), conflicts=tuple(conflicts.values())
    )
    returning = [cluster for cluster in merged if cluster not in conflicts]
    if not returning:
        return outcome
    execute_query(connection, "ledger/set_status", run_id=undo.run_id, status="undoing")
    # Rows first, then what points at them: the opposite of how the run went.
    for step in reversed(undo.steps):
        if step.key_columns:
            outcome += _put_back(connection, undo, step, returning)
    execute_query(connection, "ledger/forget_redirects", run_id=undo.run_id, clusters=returning)
    return outcome


def _put_back(
    connection: Connection, undo: _Undo, step: _Step, clusters: Sequence[int]
) -> _Outcome:
    """How many rows of the step were written back, which are all, and as they were."""
    table, binds, altered = step.table, _binds(undo, step, clusters), 0
    place = (table, step.key_columns, step.columns)
    expected = connection.execute(journal.count_entries(), binds).scalar_one()
    try:
        if step.action == "delete":
            restore = journal.restore_duplicates(table, step.columns)
            written = connection.execute(restore, binds).rowcount
            differing = journal.find_altered_restorations(*place)
            altered = len(connection.execute(differing, binds).all())
        else:
            written = connection.execute(journal.repoint_back(*place), binds).scalar_one()
        # What was deferred is checked now, while it can be told from which table it comes.
        connection.execute(sa.text("set constraints all immediate"))
    except DBAPIError as error:
        if not sqlstate(error).startswith(_CONSTRAINT_VIOLATED):
            raise
        raise UndoConflict(
            "Refused by PostgreSQL; nothing of this batch was undone.",
            why=said(error),
            next=f"Settle that, or leave it out: fkdoctor undo {undo.run_id} --partly",
        ) from error
    if written != expected or altered:
        raise UndoConflict(
            f"Refused: rows of {table.name} cannot be put back as they were; nothing of this "
            "batch was undone.",
            why=f"{table.name}: {written} of {expected} rows were written, {altered} came out "
            "different: a trigger or rule is in between.",
            next="Look at the triggers of the table, then undo the run again.",
        )
    match step.action:
        case "delete":
            return _Outcome(restored=written)
        case "repoint":
            return _Outcome(repointed=written)
    return _Outcome()


def _finish(connection: Connection, undo: _Undo) -> None:
    """Writes down that the run is undone, unless somebody applied more of it meanwhile."""

    def finish(run: Row[Any]) -> None:
        left = execute_query(connection, "ledger/count_clusters", run_id=undo.run_id)
        if not left.scalar_one():
            execute_query(connection, "ledger/set_status", run_id=undo.run_id, status="undone")

    run_batch(connection, undo.run_id, finish, lock_timeout=undo.lock_timeout)
