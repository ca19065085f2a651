"""Applies a plan: batches of whole clusters, each one transaction, each leaving the journal behind.

A batch that cannot be finished leaves nothing. Run again after any interruption: merged clusters
are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import sqlstate
from fkdoctor.dedupe.batch import run_batch, run_on_ledger
from fkdoctor.dedupe.crew import Batches, Crew
from fkdoctor.dedupe.derive import read_facts
from fkdoctor.dedupe.logical import follow_references
from fkdoctor.dedupe.pace import NO_LIMITS, Limits, Pace
from fkdoctor.dedupe.plan import Cluster, DedupePlan
from fkdoctor.dedupe.planfile import check_clusters, read_plan
from fkdoctor.dedupe.progress import Progress, Report, Tally
from fkdoctor.dedupe.start import check_plan, start_run
from fkdoctor.dedupe.steps import Doubtful, Outcome, Run, Taken, merge_batch
from fkdoctor.dedupe.work import plan_work
from fkdoctor.errors import Blocked, Incomplete, Refused
from fkdoctor.garbage import garbage_uncollected
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import require_ledger
from fkdoctor.resources import execute_query
from fkdoctor.statement import members as sql

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
    run = Run(
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
    connection: Connection, run: Run, batches: Batches, crew: Crew, tally: Tally, limits: Limits
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


def _run_batch(connection: Connection, run: Run, batch: Sequence[Cluster]) -> Outcome | None:
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
                lambda row, trusting=trusting: merge_batch(  # type: ignore[misc]
                    connection, run, row, batch, trusting=trusting
                ),
                lock_timeout=run.lock_timeout,
                together=True,
            )
        except Taken:
            return None
        except Doubtful:
            continue
        except Blocked as refusal:
            cause = refusal.__cause__
            collided = isinstance(cause, DBAPIError) and sqlstate(cause) in _COLLISIONS
            if not (collided and tries_left):
                raise
    raise AssertionError("the last try returns or raises")
