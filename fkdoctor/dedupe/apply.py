"""Applies a plan: batches of whole clusters, each one transaction, each leaving the journal behind.

Within a batch: lock the rows of the clusters, leave out what changed since the plan, repoint every
reference, see that none is left, delete the duplicates. A batch that cannot be finished leaves
nothing. Run again after any interruption: merged clusters are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import run_transaction, set_local, sqlstate
from fkdoctor.dedupe.obstacles import key_obstacles
from fkdoctor.dedupe.plan import Cluster, DedupePlan
from fkdoctor.dedupe.planfile import head_document, read_clusters, read_plan
from fkdoctor.dedupe.planner import TEXT_FORM, blocked
from fkdoctor.errors import Blocked, Incomplete, Refused, StalePlan
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import require_ledger
from fkdoctor.resources import load_query
from fkdoctor.schema import ForeignKey, Schema, Table
from fkdoctor.statement import journal
from fkdoctor.statement import members as sql

BATCH_SIZE = 1_000


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, in clusters; and what it did to rows so far."""

    run_id: int
    done: int
    total: int
    deleted: int
    repointed: int
    stale: tuple[int, ...] = ()


Report = Callable[[Progress], None]


def apply_dedupe(
    connection: Connection,
    path: Path,
    *,
    batch_size: int = BATCH_SIZE,
    lock_timeout: int = 2_000,
    report: Report = lambda progress: None,
) -> Progress:
    """What was done in the end. The connection must not be in a transaction.

    `batch_size` is in clusters, `lock_timeout` in milliseconds; a batch that waits longer is tried
    again. Applying a plan twice does it once. Clusters of which a row changed after the plan are
    left alone and named in `stale`. Raises Blocked, StalePlan (nothing was changed) or Incomplete
    (part of it is done; run again).
    """
    plan = read_plan(path)
    require_ledger(connection)
    schema = inspect_database(connection)
    _check_plan(plan, schema)
    keys = schema.keys_to(plan.table)
    run = _Run(
        schema=schema,
        plan=plan,
        keys=keys,
        members=sql.carry_columns(schema.table(plan.table), keys),
        id=_start_run(connection, schema, plan, keys),
        lock_timeout=lock_timeout,
    )
    progress = Progress(run_id=run.id, done=0, total=plan.clusters, deleted=0, repointed=0)
    clusters = read_clusters(path)
    while batch := list(islice(clusters, batch_size)):
        try:
            outcome = _try_batch(connection, run, batch)
        except Blocked as refusal:
            if not progress.deleted:
                raise
            raise Incomplete(
                f"Stopped after {progress.done} of {plan.clusters} clusters; the batch that failed "
                "was rolled back.",
                why=refusal.why,
                next=f"Settle this and apply the plan again, or: fkdoctor undo {run.id}",
            ) from refusal
        progress = Progress(
            run_id=run.id,
            done=progress.done + len(batch),
            total=plan.clusters,
            deleted=progress.deleted + outcome.deleted,
            repointed=progress.repointed + outcome.repointed,
            stale=(*progress.stale, *outcome.stale),
        )
        report(progress)
    with connection.begin():
        _execute(connection, "set_status", run_id=run.id, status="applied")
    return progress


@dataclass(frozen=True, kw_only=True)
class _Run:
    schema: Schema
    plan: DedupePlan
    keys: tuple[ForeignKey, ...]
    members: sql.MemberTable
    id: int
    lock_timeout: int


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    deleted: int
    repointed: int
    stale: tuple[int, ...]


def _check_plan(plan: DedupePlan, schema: Schema) -> None:
    if plan.obstacles:
        raise blocked(plan.obstacles)
    again = "Make a new plan: fkdoctor dedupe TABLE --match …"
    if plan.database != schema.database:
        raise StalePlan(
            "Refused: the plan is for another database; nothing was changed.",
            why=f"It was made in {plan.database}, this is {schema.database}.",
            next=again,
        )
    missing = [str(name) for name in plan.tables if not schema.has_table(name)]
    if missing:
        why = f"There is no {', '.join(missing)} any more."
    elif schema.fingerprint(plan.tables) != plan.fingerprint:
        why = (
            "A column, key, index, rule or trigger of "
            + ", ".join(str(name) for name in plan.tables)
            + " changed after it was made."
        )
    elif {key.referencing for key in schema.keys_to(plan.table)} - set(plan.tables):
        why = f"More tables reference {plan.table} than when it was made."
    else:
        return
    raise StalePlan("Refused: the plan is stale; nothing was changed.", why=why, next=again)


def _execute(connection: Connection, name: str, **values: object) -> sa.CursorResult[object]:
    return connection.execute(sa.text(load_query(f"ledger/{name}")), values)


def _start_run(
    connection: Connection, schema: Schema, plan: DedupePlan, keys: Sequence[ForeignKey]
) -> int:
    with connection.begin():
        run = _execute(
            connection,
            "start_run",
            plan_id=plan.id,
            kind="dedupe",
            table_schema=plan.table.schema,
            table_name=plan.table.name,
            plan=json.dumps(head_document(plan)),
        ).one()
        if run.status in ("undoing", "undone"):
            raise Refused(
                f"Refused: run {run.id} of this plan was undone; nothing was changed.",
                why="A plan is applied once.",
                next="Make a new plan: fkdoctor dedupe TABLE --match …",
            )
        for number, key in enumerate(keys, 1):
            table = schema.table(key.referencing)
            _add_step(connection, run.id, number, key, table, key.referencing_columns)
        table = schema.table(plan.table)
        _add_step(connection, run.id, len(keys) + 1, None, table, journal.stored_columns(table))
    return int(run.id)


def _add_step(
    connection: Connection,
    run_id: int,
    number: int,
    key: ForeignKey | None,
    table: Table,
    columns: Sequence[str],
) -> None:
    _execute(
        connection,
        "add_step",
        run_id=run_id,
        step=number,
        action="repoint" if key else "delete",
        table_schema=table.name.schema,
        table_name=table.name.name,
        constraint_name=key.name if key else None,
        key_columns=list(sql.row_identity(table)),
        columns=list(columns),
    )


_CONSTRAINT_VIOLATED = "23"


def _try_batch(connection: Connection, run: _Run, batch: Sequence[Cluster]) -> _Outcome:
    try:
        return run_transaction(connection, lambda: _merge_batch(connection, run, batch))
    except DBAPIError as error:
        if not sqlstate(error).startswith(_CONSTRAINT_VIOLATED):
            raise
        raise Blocked(
            "Refused by PostgreSQL; nothing of this batch was changed.",
            why=" ".join(str(error.orig).split()),
            next="Make a new plan: fkdoctor dedupe TABLE --match …",
        ) from error


def _merge_batch(connection: Connection, run: _Run, batch: Sequence[Cluster]) -> _Outcome:
    members, ids = run.members, {"run_id": run.id}
    connection.execute(sa.text("set transaction isolation level read committed"))
    set_local(connection, row_security="off", lock_timeout=run.lock_timeout, **TEXT_FORM)
    _execute(connection, "lock_run", **ids)
    done = _execute(
        connection, "merged_clusters", **ids, first=batch[0].number, last=batch[-1].number
    )
    merged = set(done.scalars())
    batch = [cluster for cluster in batch if cluster.number not in merged]
    if not batch:
        return _Outcome(deleted=0, repointed=0, stale=())
    connection.execute(sql.create_members(members))
    connection.execute(sql.fill_members(members), _member_arrays(members, batch))
    connection.execute(sql.ANALYZE_MEMBERS)
    # A statement of its own: the next one sees what was committed while this one waited.
    connection.execute(sql.lock_members(members)).close()
    stale = _stale_clusters(connection, members, batch)
    if stale:
        connection.execute(sql.drop_clusters(members), {"clusters": list(stale)})
    for statement in sql.carry_values(members):
        connection.execute(statement)
    repointed = _repoint(connection, run)
    deletion = len(run.keys) + 1
    connection.execute(journal.record_duplicates(members), {**ids, "step": deletion})
    connection.execute(journal.record_redirects(members), ids)
    deleted = connection.execute(sql.delete_duplicates(members)).rowcount
    expected = sum(len(cluster.duplicates) for cluster in batch if cluster.number not in stale)
    if deleted != expected:
        raise Blocked(
            "Refused: rows would not go; nothing of this batch was changed.",
            why=f"{expected} duplicates of {run.plan.table} were to be deleted, {deleted} were: a "
            "trigger or rule keeps the others.",
            next="Look at the triggers of the table, then apply the plan again.",
        )
    connection.execute(sa.text("set constraints all immediate"))
    _execute(connection, "count_batch", **ids, deleted=deleted, repointed=repointed)
    return _Outcome(deleted=deleted, repointed=repointed, stale=stale)


def _repoint(connection: Connection, run: _Run) -> int:
    """Moves the references of every key and makes sure that none is left; how many moved."""
    members, repointed = run.members, 0
    for step, key in enumerate(run.keys, 1):
        table = run.schema.table(key.referencing)
        if not sql.row_identity(table) or any(key_obstacles(run.schema, key)):
            continue  # No row referenced a duplicate by it, and the check below sees to that.
        if key.self_referencing and connection.execute(sql.members_referencing(members, key)).all():
            raise _unforeseen(key, "rows of a cluster reference duplicates themselves")
        moved, diverged = connection.execute(
            journal.repoint_and_record(members, key, table), {"run_id": run.id, "step": step}
        ).one()
        if diverged:
            raise _unforeseen(key, f"a trigger set {diverged} of the references to something else")
        repointed += moved
    # Deferred checks and triggers run now, while what they do can still be seen.
    connection.execute(sa.text("set constraints all immediate"))
    for key in run.keys:
        left = connection.execute(sql.count_references(members, key)).scalar_one()
        if left:
            raise _unforeseen(
                key,
                f"{left} references to duplicates are left: a trigger or rule "
                "kept them, or they are of a kind that the plan did not foresee",
            )
    return repointed


def _unforeseen(key: ForeignKey, reason: str) -> Blocked:
    return Blocked(
        "Refused; nothing of this batch was changed.",
        why=f"{key.label}: {reason}.",
        next="Make a new plan: fkdoctor dedupe TABLE --match …",
    )


def _member_arrays(members: sql.MemberTable, batch: Sequence[Cluster]) -> dict[str, list[object]]:
    """The batch as the arrays that fill_members takes."""
    arrays: dict[str, list[object]] = {"clusters": [], "survivors": []}
    for i in range(members.key_width):
        arrays[f"member_{i}"] = []
        arrays[f"keep_{i}"] = []
    for cluster in batch:
        for member in (cluster.survivor, *cluster.duplicates):
            arrays["clusters"].append(cluster.number)
            arrays["survivors"].append(member is cluster.survivor)
            for i in range(members.key_width):
                arrays[f"member_{i}"].append(member.key[i])
                arrays[f"keep_{i}"].append(cluster.survivor.key[i])
    return arrays


def _stale_clusters(
    connection: Connection, members: sql.MemberTable, batch: Sequence[Cluster]
) -> tuple[int, ...]:
    """The clusters of which a row is gone or not as it was when the plan was made."""
    here = connection.execute(sa.text("select pg_catalog.current_setting('timezone')")).scalar_one()
    set_local(connection, timezone="UTC")
    rows = connection.execute(sql.select_members(members, ()))
    now = {(row.cluster, tuple(row.key)): row.fingerprint for row in rows}
    set_local(connection, timezone=here)
    return tuple(
        cluster.number
        for cluster in batch
        if any(
            now.get((cluster.number, member.key)) != member.fingerprint
            for member in (cluster.survivor, *cluster.duplicates)
        )
    )
