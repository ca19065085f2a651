"""The beginning of a run: whether the plan still fits, and the run's place in the ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from fkdoctor.dedupe.batch import run_on_ledger
from fkdoctor.dedupe.logical import follow_references
from fkdoctor.dedupe.obstacles import table_obstacles
from fkdoctor.dedupe.plan import DedupePlan
from fkdoctor.dedupe.planfile import head_document
from fkdoctor.dedupe.planner import blocked
from fkdoctor.dedupe.work import Step, Work, going_tables, merged_tables
from fkdoctor.errors import Refused, StalePlan
from fkdoctor.resources import execute_query
from fkdoctor.schema import Schema, Table, TableName
from fkdoctor.statement.journal import stored_columns

PLAN_AGAIN = "Make a new plan: fkdoctor dedupe TABLE --match …"


def check_plan(plan: DedupePlan, schema: Schema) -> None:
    """Raises Refused unless the database is as it was when the plan was made."""
    if plan.obstacles:
        raise blocked(plan.obstacles)
    if plan.database != schema.database:
        raise StalePlan(
            "Refused: the plan is for another database; nothing was changed.",
            why=f"It was made in {plan.database}, this is {schema.database}.",
            next=PLAN_AGAIN,
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
    raise StalePlan("Refused: the plan is stale; nothing was changed.", why=why, next=PLAN_AGAIN)


def _fingerprint(plan: DedupePlan, schema: Schema) -> str:
    return follow_references(schema, plan.references).fingerprint(plan.tables)


def _more_references(plan: DedupePlan, schema: Schema) -> TableName | None:
    """A table with rows to merge that more tables reference than the plan knows."""
    for name in merged_tables(schema, plan.table, going_tables(plan)):
        if {key.referencing for key in schema.keys_to(name)} - set(plan.tables):
            return name
    return None


def start_run(
    connection: Connection, schema: Schema, plan: DedupePlan, work: Sequence[Work]
) -> int:
    """The number of the run of this plan, which is begun unless it is there."""

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
    refuse_undone(run.id, run.status)
    return int(run.id)


def refuse_undone(run_id: int, status: str) -> None:
    """Raises Refused for the status of a run that was undone, or is about to be."""
    if status in ("undoing", "undone"):
        raise Refused(
            "Refused: the plan was undone; nothing was changed.",
            why=f"Run {run_id} of it was taken back, and a plan is applied once.",
            next=PLAN_AGAIN,
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
