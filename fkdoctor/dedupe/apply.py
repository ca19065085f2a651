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
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import set_local, sqlstate
from fkdoctor.dedupe.batch import run_batch, run_on_ledger
from fkdoctor.dedupe.derive import (
    Derivation,
    Facts,
    derive_collisions,
    fill_embedded,
    read_facts,
)
from fkdoctor.dedupe.logical import embedded_obstacles, follow_references
from fkdoctor.dedupe.obstacles import key_obstacles, shared_columns, table_obstacles
from fkdoctor.dedupe.plan import Cluster, DedupePlan, Obstacle
from fkdoctor.dedupe.planfile import check_clusters, head_document, read_clusters, read_plan
from fkdoctor.dedupe.planner import blocked
from fkdoctor.dedupe.work import (
    Step,
    Work,
    count_planned,
    fields_of,
    find_differing_clusters,
    merged_tables,
    plan_work,
)
from fkdoctor.errors import Blocked, Incomplete, Refused, StalePlan
from fkdoctor.identifier import quote_all
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import require_ledger
from fkdoctor.resources import execute_query
from fkdoctor.schema import ForeignKey, Schema, Table, TableName
from fkdoctor.statement import lookahead, merge
from fkdoctor.statement import members as sql
from fkdoctor.statement.embedded import (
    EmbeddedTable,
    count_embedded,
    count_hits,
    repoint_embedded,
)
from fkdoctor.statement.fields import (
    FieldTable,
    count_fields,
    create_demotions,
    create_fields,
    update_and_record,
)
from fkdoctor.statement.journal import stored_columns

BATCH_SIZE = 1_000
_COLLISIONS = ("23505", "23P01")  # unique_violation, exclusion_violation

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
    schema = follow_references(schema, plan.references)
    facts = read_facts(connection)
    work = plan_work(schema, plan)
    run = _Run(
        schema=schema,
        plan=plan,
        facts=facts,
        work=work,
        members=sql.carry_columns(
            schema.table(plan.table), schema.keys_to(plan.table), references=plan.references
        ),
        id=_start_run(connection, schema, plan, work),
    )
    progress = Progress(run_id=run.id, done=0, total=extent.clusters, deleted=0, repointed=0)
    clusters = read_clusters(path)
    while batch := list(islice(clusters, batch_size)):
        try:
            outcome = _run_batch(connection, run, batch, lock_timeout)
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


def _run_batch(
    connection: Connection, run: _Run, batch: Sequence[Cluster], lock_timeout: int
) -> _Outcome:
    """The outcome of a batch, which is tried again when a row came to collide on the way.

    Rows that do not move are not locked. The next try sees what became of them, and leaves the
    cluster alone.
    """
    for tries_left in (2, 1, 0):
        try:
            return run_batch(
                connection,
                run.id,
                lambda row: _merge_batch(connection, run, row, batch),
                lock_timeout=lock_timeout,
            )
        except Blocked as refusal:
            cause = refusal.__cause__
            collided = isinstance(cause, DBAPIError) and sqlstate(cause) in _COLLISIONS
            if not (collided and tries_left):
                raise
    raise AssertionError("the last try returns or raises")


@dataclass(frozen=True, kw_only=True)
class _Run:
    schema: Schema
    plan: DedupePlan
    facts: Facts
    work: tuple[Work, ...]
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
    elif more := _more_references(plan, follow_references(schema, plan.references)):
        why = f"More tables reference {more} than when it was made."
    elif _fingerprint(plan, schema) != plan.fingerprint:
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


def _fingerprint(plan: DedupePlan, schema: Schema) -> str:
    return follow_references(schema, plan.references).fingerprint(plan.tables)


def _more_references(plan: DedupePlan, schema: Schema) -> TableName | None:
    """A table with rows to merge that more tables reference than the plan knows."""
    for name in merged_tables(schema, plan):
        if {key.referencing for key in schema.keys_to(name)} - set(plan.tables):
            return name
    return None


def _start_run(
    connection: Connection, schema: Schema, plan: DedupePlan, work: Sequence[Work]
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
        for step in (step for of_table in work for step in of_table.steps):
            table = schema.table(step.table)
            _add_step(connection, run.id, step, table)
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


def _add_step(connection: Connection, run_id: int, step: Step, table: Table) -> None:
    stored = [column.name for column in stored_columns(table)]
    execute_query(
        connection,
        "ledger/add_step",
        run_id=run_id,
        step=step.number,
        action=step.action,
        table_schema=table.name.schema,
        table_name=table.name.name,
        constraint_name=step.key.name if step.key else None,
        key_columns=list(table.row_identity),
        columns=list(step.changed) or stored,
    )


def _merge_batch(
    connection: Connection, run: _Run, row: Row[Any], batch: Sequence[Cluster]
) -> _Outcome:
    _refuse_undone(run.id, row.status)
    numbers = [cluster.number for cluster in batch]
    merged = set(
        execute_query(
            connection, "ledger/merged_clusters", run_id=run.id, clusters=numbers
        ).scalars()
    )
    batch = [cluster for cluster in batch if cluster.number not in merged]
    if not batch:
        return _Outcome(deleted=row.deleted, repointed=row.repointed)
    # No row lock keeps others from referencing a duplicate where no constraint does.
    for name in sorted({reference.referencing for reference in run.plan.references}):
        connection.execute(merge.LockTable(name))
    members = run.members
    connection.execute(sql.create_members(members))
    connection.execute(merge.fill_members(members), _member_arrays(members, batch))
    connection.execute(sql.analyze_members(members))
    # A statement of its own: the next one sees what was committed while this one waited.
    connection.execute(merge.lock_members(members)).close()
    # The plan's fingerprints were made in this time zone.
    set_local(connection, timezone="UTC")
    stale = list(connection.execute(merge.find_stale_clusters(members)).scalars())
    if stale:
        connection.execute(merge.drop_clusters(members), {"clusters": stale})
    for statement in merge.carry_values(members):
        connection.execute(statement)
    derivation = _derive_as_planned(connection, run, batch, stale)
    set_local(connection, timezone=row.time_zone)
    clusters = [cluster for cluster in batch if cluster.number not in stale]
    fields = {
        work.table: fields_of(derivation.members[work.table], work.update.fields)
        for work in run.work
        if work.update and not work.demotes and work.table in derivation.members
    }
    for table in fields.values():
        connection.execute(create_fields(table))
    deleted = repointed = 0
    for work in run.work:
        if work.demotes:
            _demote(connection, run, derivation, work.steps[0])
        elif work.table in derivation.members:
            repointed += _repoint(connection, run, derivation, work)
            deleted += _delete(connection, run, derivation, work, clusters)
            if work.update:
                _refill(connection, run, work.update, fields[work.table])
    execute_query(
        connection, "ledger/count_batch", run_id=run.id, deleted=deleted, repointed=repointed
    )
    return _Outcome(
        deleted=row.deleted + deleted, repointed=row.repointed + repointed, stale=tuple(stale)
    )


def _derive_as_planned(
    connection: Connection, run: _Run, batch: Sequence[Cluster], stale: list[int]
) -> Derivation:
    """What the merges of the batch bring about, which is what the plan says.

    Clusters for which it is not are dropped and added to `stale`, until the rest agrees.
    """
    members, made = run.members, {run.plan.table: run.members}
    while True:
        derivation = Derivation(
            schema=run.schema,
            facts=run.facts,
            rules={rule.table: rule for rule in run.plan.rules},
            members={run.plan.table: members},
            made=made,
            lock=True,
            references=run.plan.references,
        )
        derive_collisions(connection, derivation)
        if derivation.obstacles:
            raise _unforeseen(next(iter(derivation.obstacles)))
        differing = find_differing_clusters(connection, derivation, batch, stale)
        if not differing:
            return derivation
        stale += sorted(differing)
        connection.execute(merge.drop_clusters(members), {"clusters": stale})
        connection.execute(merge.drop_derived(members))
        for name, other in made.items():
            if name != run.plan.table:
                connection.execute(sql.clear_members(other))


def _repoint(connection: Connection, run: _Run, derivation: Derivation, work: Work) -> int:
    """Moves the references to the table's duplicates and makes sure that none is left; how many
    moved."""
    members, repointed = derivation.members[work.table], 0
    for step in work.steps:
        key = step.key
        if key is None or any(key_obstacles(run.schema, key)):
            continue  # No row referenced a duplicate by it, and the check below sees to that.
        for _, shared in shared_columns(run.schema, key):
            if connection.execute(lookahead.find_torn(members, key, shared)).first():
                raise _unforeseen(
                    Obstacle(subject=key.label, reason=f"{quote_all(shared)} would change with it")
                )
        if key.self_referencing and connection.execute(lookahead.find_loops(members, key)).first():
            raise _unforeseen(
                Obstacle(subject=key.label, reason="survivors would come to be above themselves")
            )
        moved, astray = connection.execute(
            merge.repoint_and_record(
                members,
                key,
                run.schema.table(key.referencing),
                derivation.members.get(key.referencing),
            ),
            {"run": run.id, "at_step": step.number, "siblings": list(step.siblings)},
        ).one()
        if astray:
            raise _unforeseen(
                Obstacle(
                    subject=key.label,
                    reason=f"{astray} of its references would not point at the survivor: a trigger "
                    "sets them to something else, or the survivor has no value there",
                )
            )
        repointed += moved
    for embedded in derivation.embedded():
        if embedded.members is members:
            repointed += _repoint_embedded(connection, run, work, embedded)
    # Deferred checks and triggers run now, while what they do can still be seen.
    connection.execute(sa.text("set constraints all immediate"))
    for step in work.steps:
        if step.key:
            _refuse_left(connection, derivation, members, step.key)
    return repointed


def _repoint_embedded(
    connection: Connection, run: _Run, work: Work, embedded: EmbeddedTable
) -> int:
    """Moves the references within values, as the rows are now; in how many rows."""
    reference = embedded.reference
    step = next(step for step in work.steps if step.reference == reference)
    fill_embedded(connection, embedded)
    binds = {
        "run": run.id,
        "at_step": step.number,
        "followed": bool(step.siblings),
        "alike": [
            other.number
            for of_table in run.work
            for other in of_table.steps
            if other.reference and (other.table, *other.changed) == embedded.place
        ],
    }
    expected = connection.execute(count_embedded(embedded)).scalar_one()
    if expected and any(embedded_obstacles(run.schema, reference)):
        raise _unforeseen(next(embedded_obstacles(run.schema, reference)))
    moved, astray = connection.execute(repoint_embedded(embedded), binds).one()
    left = connection.execute(count_hits(embedded)).scalar_one()
    if astray or left or moved != expected:
        raise _unforeseen(
            Obstacle(
                subject=reference.label,
                reason=f"{max(left, astray, expected - moved)} rows would not hold what they "
                "should: a trigger or rule is in between",
            )
        )
    return int(moved)


def _refuse_left(
    connection: Connection, derivation: Derivation, members: sql.MemberTable, key: ForeignKey
) -> None:
    going = derivation.members.get(key.referencing)
    left = connection.execute(sql.count_references(members, key, going)).scalar_one()
    if left:
        raise _unforeseen(
            Obstacle(
                subject=key.label,
                reason=f"{left} references to duplicates are left: a trigger or rule "
                "kept them, or they are of a kind that the plan did not foresee",
            )
        )


def _delete(
    connection: Connection,
    run: _Run,
    derivation: Derivation,
    work: Work,
    clusters: Sequence[Cluster],
) -> int:
    """Deletes the table's duplicates and makes sure that they went, and nothing with them; how
    many."""
    members, binds = derivation.members[work.table], {"run": run.id, "at_step": work.delete.number}
    survivors, expected = count_planned(run.plan.table, work.table, clusters)
    deleted: int = connection.execute(merge.delete_and_record(members), binds).scalar_one()
    connection.execute(sa.text("set constraints all immediate"))
    left = connection.execute(merge.count_survivors(members)).scalar_one()
    if deleted != expected or left != survivors:
        raise Blocked(
            "Refused: other rows would go than planned; nothing of this batch was changed.",
            why=f"Of {work.table} {deleted} of {expected} duplicates were deleted, and {left} of "
            f"{survivors} survivors are left: a trigger or rule is in between, or the plan "
            "was changed and names a row twice.",
            next="Look at the triggers of the table, then apply the plan again.",
        )
    # What rows of other tables are known by may change yet. Those of the first tell what is merged.
    if not work.delete.siblings or work.table == run.plan.table:
        connection.execute(merge.record_redirects(members), binds)
    # From the DELETE on, nobody can add a foreign key to the table until this transaction ends.
    keys = execute_query(
        connection,
        "catalog/referencing_keys",
        table_schema=work.table.schema,
        table_name=work.table.name,
    ).scalars()
    if set(keys) != {step.key.oid for step in work.steps if step.key and step.key.oid}:
        raise StalePlan(
            "Refused: the plan is stale; nothing of this batch was changed.",
            why=f"A foreign key to {work.table} was added or dropped meanwhile.",
            next=_PLAN_AGAIN,
        )
    return deleted


def _refill(connection: Connection, run: _Run, step: Step, fields: FieldTable) -> None:
    """Gives survivors what they take over from their duplicates."""
    binds = {"run": run.id, "at_step": step.number, "followed": bool(step.siblings)}
    expected = connection.execute(count_fields(fields)).scalar_one()
    changed, astray = connection.execute(update_and_record(fields), binds).one()
    connection.execute(sa.text("set constraints all immediate"))
    if astray or changed != expected:
        raise _unforeseen(
            Obstacle(
                subject=str(step.table),
                reason=f"{astray + expected - changed} survivors do not hold what the rules for "
                "their columns say: a trigger or rule is in between",
            )
        )


def _demote(connection: Connection, run: _Run, derivation: Derivation, step: Step) -> None:
    """Gives the rows that make way for others the value with which they can stay."""
    image = derivation.images.get(step.table)
    if image and image.demotion:
        fields = FieldTable(
            members=image.demotion.members, rules={image.demotion.column: ("demote", "")}
        )
        connection.execute(create_demotions(fields, image.demotion.value))
        _refill(connection, run, step, fields)


def _unforeseen(obstacle: Obstacle) -> Blocked:
    return Blocked(
        "Refused; nothing of this batch was changed.",
        why=f"{obstacle.subject}: {obstacle.reason}.",
        next=_PLAN_AGAIN,
    )


def _member_arrays(members: sql.MemberTable, batch: Sequence[Cluster]) -> dict[str, list[object]]:
    """The batch as the arrays that fill_members takes."""
    arrays: dict[str, list[object]] = {"clusters": [], "survivors": [], "fingerprints": []}
    for i in range(members.key_width):
        arrays[f"member_{i}"] = []
        arrays[f"keep_{i}"] = []
    pairs = ((cluster.number, together) for cluster in batch for together in cluster.merges)
    for number, together in pairs:
        for member in (together.survivor, *together.duplicates):
            arrays["clusters"].append(number)
            arrays["survivors"].append(member is together.survivor)
            arrays["fingerprints"].append(member.fingerprint)
            for i in range(members.key_width):
                arrays[f"member_{i}"].append(member.key[i])
                arrays[f"keep_{i}"].append(together.survivor.key[i])
    return arrays
