"""Executes a statement, looks what it did, rolls it back, and compares that with the preview.

It costs what the statement costs: row locks until the rollback, WAL, dead rows for VACUUM. What
leaves the transaction cannot be rolled back: sequences, and what triggers do outside the database.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable

from fkdoctor.database import (
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    READ_ONLY,
    remedy,
    said,
    set_local,
    sqlstate,
)
from fkdoctor.errors import Refused
from fkdoctor.impact.effect import Impact, Verdict
from fkdoctor.impact.reach import find_family
from fkdoctor.resources import execute_query
from fkdoctor.schema import Schema, TableName

STOPS_AT_ONCE = frozenset({Verdict.BLOCKED, Verdict.FAILS})


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What PostgreSQL did: rows by table (the topmost partition), or what it says stops it.

    `updated` counts each update, also of rows that go later. `differences` are where the preview
    said something else; without any, the two agree.
    """

    error: str | None
    constraint: str | None
    at_commit: bool
    deleted: Mapping[TableName, int]
    updated: Mapping[TableName, int]
    seconds: float
    differences: tuple[str, ...]


def rehearse(
    connection: Connection,
    schema: Schema,
    statement: Executable,
    impact: Impact,
    *,
    lock_timeout: int = 0,
    statement_timeout: int = 0,
) -> Rehearsal:
    """What happens when the statement is executed, with deferred keys checked; it is rolled back.

    Raises Refused where it waits too long for a lock or takes too long. Timeouts in milliseconds.
    """
    began = time.monotonic()
    error: DBAPIError | None = None
    at_commit = False
    deleted: Counter[TableName] = Counter()
    updated: Counter[TableName] = Counter()
    with connection.begin() as transaction:
        try:
            set_local(connection, lock_timeout=lock_timeout, statement_timeout=statement_timeout)
            # PostgreSQL counts on from earlier transactions of the session, for a while.
            before = count_written(connection, schema)
            connection.execute(statement)
            at_commit = True
            connection.execute(sa.text("set constraints all immediate"))
            after = count_written(connection, schema)
            deleted, updated = after[0] - before[0], after[1] - before[1]
        except DBAPIError as problem:
            if sqlstate(problem) in (LOCK_NOT_AVAILABLE, QUERY_CANCELED, READ_ONLY):
                raise Refused(
                    "The rehearsal was stopped; it is rolled back.",
                    why=f"PostgreSQL says: {said(problem)}",
                    next=remedy(problem)
                    if sqlstate(problem) == READ_ONLY
                    else "Rehearse at a quieter time, with longer timeouts, or on a copy.",
                ) from problem
            error = problem
        finally:
            transaction.rollback()
    diagnosis = getattr(error.orig, "diag", None) if error else None
    constraint = getattr(diagnosis, "constraint_name", None) or getattr(
        diagnosis, "column_name", None
    )
    clones = {clone.name: key.name for key in schema.foreign_keys for clone in key.clones}
    constraint = clones.get(constraint or "", constraint)
    return Rehearsal(
        error=said(error) if error else None,
        constraint=constraint,
        at_commit=at_commit and error is not None,
        deleted=deleted,
        updated=updated,
        seconds=time.monotonic() - began,
        differences=tuple(
            _compare_end(impact, constraint, at_commit) if error else _compare_rows(impact, deleted)
        ),
    )


def count_written(
    connection: Connection, schema: Schema
) -> tuple[Counter[TableName], Counter[TableName]]:
    """How many rows of each table were deleted and updated so far."""
    deleted: Counter[TableName] = Counter()
    updated: Counter[TableName] = Counter()
    for row in execute_query(connection, "impact/written_rows"):
        name = TableName(row.schema, row.name)
        family = find_family(schema, name) if schema.has_table(name) else name
        deleted[family] += row.deleted
        updated[family] += row.updated
    return deleted, updated


def _compare_end(impact: Impact, constraint: str | None, at_commit: bool) -> Iterator[str]:
    possible = set(impact.possible) or {impact.verdict}
    if Verdict.UNCERTAIN in possible:
        return
    foreseen = Verdict.BLOCKED_AT_COMMIT in possible if at_commit else possible & STOPS_AT_ONCE
    if not foreseen:
        yield f"the preview said {impact.verdict.value}"
    elif constraint not in {obstacle.name for obstacle in impact.obstacles}:
        yield f"the preview did not name {constraint}"


def _compare_rows(impact: Impact, deleted: Mapping[TableName, int]) -> Iterator[str]:
    possible = set(impact.possible) or {impact.verdict}
    if Verdict.UNCERTAIN in possible and not any(caveat.decisive for caveat in impact.caveats):
        return  # not all rows were counted
    if not possible & {Verdict.ALLOWED, Verdict.UNCERTAIN}:
        yield f"the preview said {impact.verdict.value}"
        return
    foreseen: Counter[TableName] = Counter()
    for effect in impact.effects:
        if effect.deletes:
            foreseen[effect.table] += effect.rows
    for table in sorted(foreseen.keys() | deleted.keys()):
        if foreseen[table] != deleted.get(table, 0) and not impact.possible:
            yield f"{deleted.get(table, 0):,} rows of {table} went, not {foreseen[table]:,}"
