"""Applies a plan: batches of whole clusters, each one transaction, each leaving the journal behind.

Within a batch: lock the rows of the clusters, leave out what changed since the plan, repoint every
reference, see that none is left, delete the duplicates. A batch that cannot be finished leaves
nothing. Run again after any interruption: merged clusters are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import set_local, sqlstate
from fkdoctor.dedupe.batch import run_batch, run_on_ledger
from fkdoctor.dedupe.crew import Batches, Crew
from fkdoctor.dedupe.derive import Derivation, Facts, fill_embedded, read_facts
from fkdoctor.dedupe.expect import derive_anew, expect_collisions, unforeseen
from fkdoctor.dedupe.logical import embedded_obstacles, follow_references
from fkdoctor.dedupe.obstacles import key_obstacles, shared_columns
from fkdoctor.dedupe.pace import NO_LIMITS, Limits, Pace
from fkdoctor.dedupe.plan import Cluster, DedupePlan, Obstacle
from fkdoctor.dedupe.planfile import check_clusters, read_plan
from fkdoctor.dedupe.progress import Progress, Report, Tally
from fkdoctor.dedupe.start import PLAN_AGAIN, check_plan, refuse_undone, start_run
from fkdoctor.dedupe.work import (
    Step,
    Work,
    count_planned,
    fields_of,
    plan_work,
)
from fkdoctor.errors import Blocked, Incomplete, Refused, StalePlan
from fkdoctor.garbage import garbage_uncollected
from fkdoctor.identifier import quote_all
from fkdoctor.impact.preview import preview_delete
from fkdoctor.impact.scope import Scope
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.graph import keys_into
from fkdoctor.ledger.install import require_ledger
from fkdoctor.resources import execute_query
from fkdoctor.schema import ForeignKey, LogicalKey, Schema, TableKind
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

BATCH_ROWS = 25_000
"""About so many rows change in a batch: enough that what each costs once does not count, and few
enough that nobody waits long for those that it holds."""
_LOOK_AGAIN = 0.2  # seconds
_COLLISIONS = ("23505", "23P01")  # unique_violation, exclusion_violation


def apply_dedupe(
    connection: Connection,
    path: Path,
    *,
    batch_size: int | None = None,
    lock_timeout: int = 2_000,
    workers: int = 1,
    limits: Limits = NO_LIMITS,
    report: Report = lambda progress: None,
) -> Progress:
    """What was done in the end. The connection must not be in a transaction.

    `batch_size` is in clusters, by itself such that some BATCH_ROWS rows change; `lock_timeout` in
    milliseconds: a batch that waits longer is tried again. There may be several `workers`, each
    but the first in a thread with another connection of the same engine; and any number of
    processes may apply the plan at once. Applying a plan twice does it once. Clusters of which a
    row changed after the plan are left alone and named in `stale`. Raises Blocked, StalePlan
    (nothing was changed) or Incomplete (part of it is done; run again).
    """
    plan, extent = read_plan(path), check_clusters(path)
    require_ledger(connection)
    catalog = inspect_database(connection)
    check_plan(plan, catalog)
    schema = follow_references(catalog, plan.references)
    work = plan_work(schema, plan)
    run = _Run(
        catalog=catalog,
        schema=schema,
        plan=plan,
        facts=read_facts(connection),
        work=work,
        members=sql.carry_columns(
            schema.table(plan.table), schema.keys_to(plan.table), references=plan.references
        ),
        id=start_run(connection, schema, plan, work),
        lock_timeout=lock_timeout,
    )
    batches = Batches(path, batch_size or choose_batch_size(plan))
    crew = Crew()
    tally = Tally(run.id, extent.clusters, report)
    try:
        crew.work(connection, workers, lambda own: _work(own, run, batches, crew, tally, limits))
    except Refused as refusal:
        if not tally.progress.deleted:
            raise
        raise Incomplete(
            f"Stopped after {tally.progress.done} of {extent.clusters} clusters; the batch that "
            "failed was rolled back.",
            why=refusal.why,
            next=f"Settle this and apply the plan again, or: fkdoctor undo {run.id}",
        ) from refusal
    run_on_ledger(
        connection,
        lambda: execute_query(connection, "ledger/set_status", run_id=run.id, status="applied"),
    )
    return tally.progress


def _work(
    connection: Connection, run: _Run, batches: Batches, crew: Crew, tally: Tally, limits: Limits
) -> None:
    """Takes batches until there are no more."""
    pace = Pace(limits, crew.sleep, tally.wait)
    pace.begin(connection)
    while not crew.stopping:
        with garbage_uncollected():
            taken = batches.take()
            if taken is None:
                return
            number, batch, postponed = taken
            outcome = _run_batch(connection, run, batch)
        while outcome is None and postponed and not crew.sleep(_LOOK_AGAIN):
            outcome = _run_batch(connection, run, batch)
        if outcome:
            tally.add(len(batch), outcome.deleted, outcome.repointed, outcome.stale)
            pace.pause(connection)
        elif not crew.stopping:
            batches.postpone(number)


def choose_batch_size(plan: DedupePlan) -> int:
    """How many clusters of the plan change some BATCH_ROWS rows."""
    return max(1, BATCH_ROWS * plan.clusters // max(plan.changed, 1))


class _Doubtful(Exception):
    """A batch holds more than the plan says."""


class _Taken(Exception):
    """Somebody else is at work on the batch."""


def _run_batch(connection: Connection, run: _Run, batch: Sequence[Cluster]) -> _Outcome | None:
    """The outcome of a batch; None while somebody else is at work on it.

    At first it trusts the plan's collisions. Where there are others it is tried again, and derives
    them: that sees which clusters they are of, and leaves these alone. Rows that do not move are
    not locked, so that even then one may come to collide on the way.
    """
    for tries_left in (3, 2, 1, 0):
        trusting = tries_left == 3 and not run.plan.needs_derivation
        try:
            return run_batch(
                connection,
                run.id,
                lambda row, trusting=trusting: _merge_batch(  # type: ignore[misc]
                    connection, run, row, batch, trusting=trusting
                ),
                lock_timeout=run.lock_timeout,
                together=True,
            )
        except _Taken:
            return None
        except _Doubtful:
            continue
        except Blocked as refusal:
            cause = refusal.__cause__
            collided = isinstance(cause, DBAPIError) and sqlstate(cause) in _COLLISIONS
            if not (collided and tries_left):
                raise
    raise AssertionError("the last try returns or raises")


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What all batches share. The `schema` is the `catalog` with the keys that a merge follows."""

    catalog: Schema
    schema: Schema
    plan: DedupePlan
    facts: Facts
    work: tuple[Work, ...]
    members: sql.MemberTable
    id: int
    lock_timeout: int


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """The run's rows so far, and the clusters of this batch that were left alone."""

    deleted: int
    repointed: int
    stale: tuple[int, ...] = ()


def _merge_batch(
    connection: Connection, run: _Run, row: Row[Any], batch: Sequence[Cluster], *, trusting: bool
) -> _Outcome:
    refuse_undone(run.id, row.status)
    claim = execute_query(
        connection, "ledger/claim_batch", run_id=str(run.id), first=str(batch[0].number)
    )
    if not claim.scalar_one():
        raise _Taken
    merged = _find_merged(connection, run, [cluster.number for cluster in batch])
    batch = [cluster for cluster in batch if cluster.number not in merged]
    if not batch:
        return _Outcome(deleted=row.deleted, repointed=row.repointed)
    # No row lock keeps others from referencing a duplicate where no constraint does.
    for name in sorted({reference.referencing for reference in run.plan.references}):
        connection.execute(merge.LockTable(name))
    # The plan's fingerprints were made in this time zone.
    set_local(connection, timezone="UTC")
    derivation = Derivation(
        schema=run.schema,
        facts=run.facts,
        rules={rule.table: rule for rule in run.plan.rules},
        members={run.plan.table: run.members},
        made={run.plan.table: run.members},
        lock=True,
        references=run.plan.references,
    )
    connection.execute(sql.create_members(run.members))
    if trusting:
        stale = expect_collisions(connection, derivation, batch)
        if stale is None:
            raise _Doubtful
    else:
        stale = derive_anew(connection, derivation, batch)
    if stale:  # Another process may have merged them while this one waited for the rows.
        merged = _find_merged(connection, run, sorted(stale))
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
    counted = execute_query(
        connection, "ledger/count_batch", run_id=run.id, deleted=deleted, repointed=repointed
    ).one()
    return _Outcome(
        deleted=counted.deleted,
        repointed=counted.repointed,
        stale=tuple(sorted(stale - merged)),
    )


def _find_merged(connection: Connection, run: _Run, numbers: list[int]) -> set[int]:
    """Those of the clusters that the run has merged."""
    found = execute_query(connection, "ledger/merged_clusters", run_id=run.id, clusters=numbers)
    return set(found.scalars())


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
                raise unforeseen(
                    Obstacle(subject=key.label, reason=f"{quote_all(shared)} would change with it")
                )
        if key.self_referencing and connection.execute(lookahead.find_loops(members, key)).first():
            raise unforeseen(
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
            raise unforeseen(
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
        if isinstance(step.key, LogicalKey):
            going = derivation.members.get(step.key.referencing)
            left = connection.execute(sql.count_references(members, step.key, going)).scalar_one()
            _refuse_left(step.key, left)
    if not keys_into(run.catalog, work.table):
        return repointed  # Nothing can reference them.
    # The duplicates are locked: nobody can come to reference them by a key any more.
    impact = preview_delete(
        connection,
        run.catalog,
        work.table,
        selection=merge.select_duplicates(members),
        scope=Scope(exact=True, shown=0),
        only=members.table.kind is not TableKind.PARTITIONED,
    )
    reached = [(effect.key, effect.rows) for effect in impact.effects]
    reached += [(obstacle.key, obstacle.rows) for obstacle in impact.obstacles]
    for key, rows in reached:
        if key:
            _refuse_left(key, rows)
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
        raise unforeseen(next(embedded_obstacles(run.schema, reference)))
    moved, astray = connection.execute(repoint_embedded(embedded), binds).one()
    left = connection.execute(count_hits(embedded)).scalar_one()
    if astray or left or moved != expected:
        raise unforeseen(
            Obstacle(
                subject=reference.label,
                reason=f"{max(left, astray, expected - moved)} rows would not hold what they "
                "should: a trigger or rule is in between",
            )
        )
    return int(moved)


def _refuse_left(key: ForeignKey, rows: int) -> None:
    if rows:
        raise unforeseen(
            Obstacle(
                subject=key.label,
                reason=f"{rows} references to duplicates are left: a trigger or rule "
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
            next=PLAN_AGAIN,
        )
    return deleted


def _refill(connection: Connection, run: _Run, step: Step, fields: FieldTable) -> None:
    """Gives survivors what they take over from their duplicates."""
    binds = {"run": run.id, "at_step": step.number, "followed": bool(step.siblings)}
    expected = connection.execute(count_fields(fields)).scalar_one()
    changed, astray = connection.execute(update_and_record(fields), binds).one()
    connection.execute(sa.text("set constraints all immediate"))
    if astray or changed != expected:
        raise unforeseen(
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
