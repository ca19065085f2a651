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
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from fkdoctor.database import set_local
from fkdoctor.dedupe.batch import execute_query, run_batch, run_on_ledger
from fkdoctor.dedupe.obstacles import key_obstacles, table_obstacles
from fkdoctor.dedupe.plan import Cluster, DedupePlan
from fkdoctor.dedupe.planfile import check_clusters, head_document, read_clusters, read_plan
from fkdoctor.dedupe.planner import blocked
from fkdoctor.errors import Blocked, Incomplete, Refused, StalePlan
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import require_ledger
from fkdoctor.schema import ForeignKey, Schema, Table
from fkdoctor.statement import members as sql
from fkdoctor.statement import merge
from fkdoctor.statement.journal import stored_columns

BATCH_SIZE = 1_000

_PLAN_AGAIN = "Make a new plan: fkdoctor dedupe TABLE --match …"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, in clusters; and what it did to rows so far, earlier calls included."""

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
    plan, extent = read_plan(path), check_clusters(path)
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
    )
    progress = Progress(run_id=run.id, done=0, total=extent.clusters, deleted=0, repointed=0)
    clusters = read_clusters(path)
    while batch := list(islice(clusters, batch_size)):
        try:
            outcome = run_batch(
                connection,
                run.id,
                lambda row: _merge_batch(connection, run, row, batch),
                lock_timeout=lock_timeout,
            )
        except Refused as refusal:
            if not progress.deleted:
                raise
            raise Incomplete(
                f"Stopped after {progress.done} of {extent.clusters} clusters; the batch that "
                "failed was rolled back.",
                why=refusal.why,
                next=f"Settle this and apply the plan again, or: fkdoctor undo {run.id}",
            ) from refusal
        progress = Progress(
            run_id=run.id,
            done=progress.done + len(batch),
            total=extent.clusters,
            deleted=outcome.deleted,
            repointed=outcome.repointed,
            stale=(*progress.stale, *outcome.stale),
        )
        report(progress)
    run_on_ledger(
        connection,
        lambda: execute_query(connection, "ledger/set_status", run_id=run.id, status="applied"),
    )
    return progress


@dataclass(frozen=True, kw_only=True)
class _Run:
    schema: Schema
    plan: DedupePlan
    keys: tuple[ForeignKey, ...]
    members: sql.MemberTable
    id: int


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """The run's rows so far, and the clusters of this batch that were left alone."""

    deleted: int
    repointed: int
    stale: tuple[int, ...] = ()


def _check_plan(plan: DedupePlan, schema: Schema) -> None:
    if plan.obstacles:
        raise blocked(plan.obstacles)
    if plan.database != schema.database:
        raise StalePlan(
            "Refused: the plan is for another database; nothing was changed.",
            why=f"It was made in {plan.database}, this is {schema.database}.",
            next=_PLAN_AGAIN,
        )
    missing = [str(name) for name in plan.tables if not schema.has_table(name)]
    if missing:
        why = f"There is no {', '.join(missing)} any more."
    elif {key.referencing for key in schema.keys_to(plan.table)} - set(plan.tables):
        why = f"More tables reference {plan.table} than when it was made."
    elif schema.fingerprint(plan.tables) != plan.fingerprint:
        why = (
            "A column, key, index, rule or trigger of "
            + ", ".join(str(name) for name in plan.tables)
            + " changed after it was made."
        )
    else:
        # What the fingerprint does not know: how this session was started.
        if in_the_way := list(table_obstacles(schema, schema.table(plan.table))):
            raise blocked(in_the_way)
        return
    raise StalePlan("Refused: the plan is stale; nothing was changed.", why=why, next=_PLAN_AGAIN)


def _start_run(
    connection: Connection, schema: Schema, plan: DedupePlan, keys: Sequence[ForeignKey]
) -> int:
    def transaction() -> Row[Any]:
        run = execute_query(
            connection,
            "ledger/start_run",
            plan_id=plan.id,
            kind="dedupe",
            table_schema=plan.table.schema,
            table_name=plan.table.name,
            plan=json.dumps(head_document(plan)),
        ).one()
        for number, key in enumerate(keys, 1):
            table = schema.table(key.referencing)
            _add_step(connection, run.id, number, key, table, key.referencing_columns)
        table = schema.table(plan.table)
        columns = [column.name for column in stored_columns(table)]
        _add_step(connection, run.id, len(keys) + 1, None, table, columns)
        return run

    run = run_on_ledger(connection, transaction)
    _refuse_undone(run.id, run.status)
    return int(run.id)


def _refuse_undone(run_id: int, status: str) -> None:
    if status in ("undoing", "undone"):
        raise Refused(
            "Refused: the plan was undone; nothing was changed.",
            why=f"Run {run_id} of it was taken back, and a plan is applied once.",
            next=_PLAN_AGAIN,
        )


def _add_step(
    connection: Connection,
    run_id: int,
    number: int,
    key: ForeignKey | None,
    table: Table,
    columns: Sequence[str],
) -> None:
    execute_query(
        connection,
        "ledger/add_step",
        run_id=run_id,
        step=number,
        action="repoint" if key else "delete",
        table_schema=table.name.schema,
        table_name=table.name.name,
        constraint_name=key.name if key else None,
        key_columns=list(table.row_identity),
        columns=list(columns),
    )


def _merge_batch(
    connection: Connection, run: _Run, row: Row[Any], batch: Sequence[Cluster]
) -> _Outcome:
    _refuse_undone(run.id, row.status)
    members, ids = run.members, {"run_id": run.id}
    numbers = [cluster.number for cluster in batch]
    merged = set(
        execute_query(connection, "ledger/merged_clusters", **ids, clusters=numbers).scalars()
    )
    batch = [cluster for cluster in batch if cluster.number not in merged]
    if not batch:
        return _Outcome(deleted=row.deleted, repointed=row.repointed)
    connection.execute(sql.create_members(members))
    connection.execute(merge.fill_members(members), _member_arrays(members, batch))
    connection.execute(sql.ANALYZE_MEMBERS)
    # A statement of its own: the next one sees what was committed while this one waited.
    connection.execute(merge.lock_members(members)).close()
    # The plan's fingerprints were made in this time zone.
    set_local(connection, timezone="UTC")
    stale = tuple(connection.execute(merge.find_stale_clusters(members)).scalars())
    set_local(connection, timezone=row.time_zone)
    if stale:
        connection.execute(merge.drop_clusters(members), {"clusters": list(stale)})
    for statement in merge.carry_values(members):
        connection.execute(statement)
    clusters = [cluster for cluster in batch if cluster.number not in stale]
    repointed = _repoint(connection, run)
    deleted = _delete(connection, run, clusters)
    connection.execute(merge.record_redirects(members), ids)
    execute_query(connection, "ledger/count_batch", **ids, deleted=deleted, repointed=repointed)
    return _Outcome(deleted=row.deleted + deleted, repointed=row.repointed + repointed, stale=stale)


def _repoint(connection: Connection, run: _Run) -> int:
    """Moves the references of every key and makes sure that none is left; how many moved."""
    members, repointed = run.members, 0
    for step, key in enumerate(run.keys, 1):
        table = run.schema.table(key.referencing)
        if any(key_obstacles(run.schema, key)):
            continue  # No row referenced a duplicate by it, and the check below sees to that.
        if key.self_referencing and connection.execute(sql.members_referencing(members, key)).all():
            raise _unforeseen(key, "rows of a cluster reference duplicates themselves")
        moved, astray = connection.execute(
            merge.repoint_and_record(members, key, table), {"run_id": run.id, "step": step}
        ).one()
        if astray:
            raise _unforeseen(
                key,
                f"{astray} of its references would not point at the survivor: a trigger sets them "
                "to something else, or the survivor has no value there",
            )
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


def _delete(connection: Connection, run: _Run, clusters: Sequence[Cluster]) -> int:
    """Deletes the duplicates and makes sure that they went, and nothing with them; how many."""
    name, step = run.plan.table, len(run.keys) + 1
    deleted: int = connection.execute(
        merge.delete_and_record(run.members), {"run_id": run.id, "step": step}
    ).scalar_one()
    connection.execute(sa.text("set constraints all immediate"))
    expected = sum(len(cluster.duplicates) for cluster in clusters)
    survivors = connection.execute(merge.count_survivors(run.members)).scalar_one()
    if deleted != expected or survivors != len(clusters):
        raise Blocked(
            "Refused: other rows would go than planned; nothing of this batch was changed.",
            why=f"Of {name} {deleted} of {expected} duplicates were deleted, and {survivors} of "
            f"{len(clusters)} survivors are left: a trigger or rule is in between, or the plan "
            "was changed and names a row twice.",
            next="Look at the triggers of the table, then apply the plan again.",
        )
    # From the DELETE on, nobody can add a foreign key to the table until this transaction ends.
    keys = execute_query(
        connection, "catalog/referencing_keys", table_schema=name.schema, table_name=name.name
    ).scalars()
    if set(keys) != {key.oid for key in run.keys}:
        raise StalePlan(
            "Refused: the plan is stale; nothing of this batch was changed.",
            why=f"A foreign key to {name} was added or dropped meanwhile.",
            next=_PLAN_AGAIN,
        )
    return deleted


def _unforeseen(key: ForeignKey, reason: str) -> Blocked:
    return Blocked(
        "Refused; nothing of this batch was changed.",
        why=f"{key.label}: {reason}.",
        next=_PLAN_AGAIN,
    )


def _member_arrays(members: sql.MemberTable, batch: Sequence[Cluster]) -> dict[str, list[object]]:
    """The batch as the arrays that fill_members takes."""
    arrays: dict[str, list[object]] = {"clusters": [], "survivors": [], "fingerprints": []}
    for i in range(members.key_width):
        arrays[f"member_{i}"] = []
        arrays[f"keep_{i}"] = []
    for cluster in batch:
        for member in (cluster.survivor, *cluster.duplicates):
            arrays["clusters"].append(cluster.number)
            arrays["survivors"].append(member is cluster.survivor)
            arrays["fingerprints"].append(member.fingerprint)
            for i in range(members.key_width):
                arrays[f"member_{i}"].append(member.key[i])
                arrays[f"keep_{i}"].append(cluster.survivor.key[i])
    return arrays
