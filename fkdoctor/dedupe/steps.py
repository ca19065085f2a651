"""What is done to one batch of a plan, within its transaction.

Lock the rows of the clusters, leave out what changed since the plan, repoint every reference, see
that none is left, delete the duplicates: each into the journal, each counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from fkdoctor.database import set_local
from fkdoctor.dedupe.derive import Derivation, Facts, fill_embedded
from fkdoctor.dedupe.expect import derive_anew, expect_collisions, unforeseen
from fkdoctor.dedupe.logical import embedded_obstacles
from fkdoctor.dedupe.obstacles import key_obstacles, shared_columns
from fkdoctor.dedupe.plan import Cluster, DedupePlan, Obstacle
from fkdoctor.dedupe.start import PLAN_AGAIN, refuse_undone
from fkdoctor.dedupe.work import Step, Work, count_planned, fields_of
from fkdoctor.errors import Blocked, StalePlan
from fkdoctor.identifier import quote_all
from fkdoctor.impact.preview import preview_delete
from fkdoctor.impact.scope import Scope
from fkdoctor.inspect.graph import keys_into
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


class Doubtful(Exception):
    """A batch holds more than the plan says."""


class Taken(Exception):
    """Somebody else is at work on the batch."""


@dataclass(frozen=True, kw_only=True)
class Run:
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
class Outcome:
    """The run's rows so far, and the clusters of this batch that were left alone."""

    deleted: int
    repointed: int
    stale: tuple[int, ...] = ()


def merge_batch(
    connection: Connection, run: Run, row: Row[Any], batch: Sequence[Cluster], *, trusting: bool
) -> Outcome:
    """What was done to the clusters of the batch, `trusting` that they bring about what the plan
    says. `row` is the run's in the ledger.

    Raises Taken, Doubtful, or Refused, and then nothing is to be committed.
    """
    refuse_undone(run.id, row.status)
    claim = execute_query(
        connection, "ledger/claim_batch", run_id=str(run.id), first=str(batch[0].number)
    )
    if not claim.scalar_one():
        raise Taken
    merged = _find_merged(connection, run, [cluster.number for cluster in batch])
    batch = [cluster for cluster in batch if cluster.number not in merged]
    if not batch:
        return Outcome(deleted=row.deleted, repointed=row.repointed)
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
            raise Doubtful
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
    return Outcome(
        deleted=counted.deleted,
        repointed=counted.repointed,
        stale=tuple(sorted(stale - merged)),
    )


def _find_merged(connection: Connection, run: Run, numbers: list[int]) -> set[int]:
    """Those of the clusters that the run has merged."""
    found = execute_query(connection, "ledger/merged_clusters", run_id=run.id, clusters=numbers)
    return set(found.scalars())


def _repoint(connection: Connection, run: Run, derivation: Derivation, work: Work) -> int:
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


def _repoint_embedded(connection: Connection, run: Run, work: Work, embedded: EmbeddedTable) -> int:
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
    run: Run,
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


def _refill(connection: Connection, run: Run, step: Step, fields: FieldTable) -> None:
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


def _demote(connection: Connection, run: Run, derivation: Derivation, step: Step) -> None:
    """Gives the rows that make way for others the value with which they can stay."""
    image = derivation.images.get(step.table)
    if image and image.demotion:
        fields = FieldTable(
            members=image.demotion.members, rules={image.demotion.column: ("demote", "")}
        )
        connection.execute(create_demotions(fields, image.demotion.value))
        _refill(connection, run, step, fields)
