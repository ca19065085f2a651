"""Deletes for good what was soft-deleted long ago: leaf first, in batches, never along a key.

A row goes only when no row references it any more, by whatever rule. Each batch locks its rows
FOR UPDATE, against which nothing can come to reference them, counts the references once more, and
deletes where there are none. Rows that reference each other in a circle go together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from fkdoctor.errors import Blocked, Incomplete, Refused
from fkdoctor.impact.rehearsal import count_written
from fkdoctor.inspect.graph import delete_order
from fkdoctor.ledger.install import require_ledger
from fkdoctor.resources import execute_query
from fkdoctor.schema import Schema, Table, TableName
from fkdoctor.softdelete.outcome import Obstacle, Purge, Purged, blocked
from fkdoctor.softdelete.shape import (
    enforced_keys,
    key_obstacles,
    lack,
    trigger_caveats,
    whole,
)
from fkdoctor.softdelete.transaction import change, look
from fkdoctor.softdelete.walk import Walk, require_same_keys
from fkdoctor.statement import purge as sql
from fkdoctor.statement.softdelete import MARKS, Marks

BATCH_SIZE = 5_000

Report = Callable[[int], None]


def preview_purge(
    connection: Connection,
    schema: Schema,
    before: datetime,
    *,
    tables: Sequence[TableName] = (),
    marks: Marks = MARKS,
) -> Purge:
    """What a purge of rows soft-deleted before the time would delete. Changes nothing.

    `tables` are those to purge, by default every one with soft delete. The connection must not be
    in a transaction.
    """
    chosen = _choose(schema, tables, marks)
    return look(connection, lambda: _foresee(connection, schema, chosen, before, marks))


def purge_deleted(
    connection: Connection,
    schema: Schema,
    before: datetime,
    *,
    tables: Sequence[TableName] = (),
    marks: Marks = MARKS,
    batch_size: int = BATCH_SIZE,
    lock_timeout: int = 2_000,
    report: Report = lambda rows: None,
) -> Purge:
    """The purge as it was done, with what is left and why. Batches are committed one by one.

    `batch_size` is in rows, `lock_timeout` in milliseconds. The connection must not be in a
    transaction. Raises Blocked where nothing was deleted, Incomplete where a part was: run again.
    """
    chosen = _choose(schema, tables, marks)
    require_ledger(connection)
    work = _Work(
        connection=connection,
        schema=schema,
        before=before,
        marks=marks,
        batch_size=batch_size,
        lock_timeout=lock_timeout,
        report=report,
        purged={table.name: 0 for table in chosen},
    )
    obstacles = _obstacles(schema, chosen)
    if obstacles:
        raise blocked(obstacles)
    try:
        for group in delete_order(schema, work.purged):
            _purge_group(work, [schema.table(name) for name in group])
    except Refused as refusal:
        if not work.rows:
            raise
        raise Incomplete(
            f"Stopped after {work.rows:,} rows; the batch that failed was rolled back.",
            why=refusal.why,
            next="Settle this, then run the same command again.",
        ) from refusal
    left = look(connection, lambda: _foresee(connection, schema, chosen, before, marks))
    return replace(
        left,
        done=True,
        tables=tuple(
            replace(table, old=table.old + work.purged[table.table], rows=work.purged[table.table])
            for table in left.tables
        ),
    )


@dataclass(kw_only=True)
class _Work:
    connection: Connection
    schema: Schema
    before: datetime
    marks: Marks
    batch_size: int
    lock_timeout: int
    report: Report
    purged: dict[TableName, int]

    @property
    def rows(self) -> int:
        return sum(self.purged.values())


def _choose(schema: Schema, tables: Sequence[TableName], marks: Marks) -> tuple[Table, ...]:
    """The tables to purge; Blocked for a named one without soft delete."""
    named = [schema.table(name) for name in tables]
    lacking = [lack(table, marks.time, marks.deletion) for table in named]
    if obstacles := tuple(obstacle for obstacle in lacking if obstacle is not None):
        raise blocked(obstacles)
    return tuple(
        table
        for table in (named or schema.tables)
        if table.partition_of is None
        and table.name.schema != "fkdoctor"
        and lack(table, marks.time, marks.deletion) is None
    )


def _obstacles(schema: Schema, tables: Sequence[Table]) -> tuple[Obstacle, ...]:
    found: list[Obstacle] = []
    for table in tables:
        for key in enforced_keys(schema, table):
            found += key_obstacles(schema, table, key)
        for rule in table.rules:
            if rule.event == "DELETE":
                found.append(
                    Obstacle(
                        subject=f"{table.name} rule {rule.name}",
                        reason="it rewrites DELETE on this table",
                        next="Drop the rule, or name the other tables.",
                    )
                )
    return tuple(dict.fromkeys(found))


def _foresee(
    connection: Connection, schema: Schema, tables: Sequence[Table], before: datetime, marks: Marks
) -> Purge:
    walk = Walk(connection=connection, schema=schema, marks=marks, lock=False)
    _fill(walk, tables, before)
    old = dict(walk.rows)
    kept = _settle(walk, tables)
    return Purge(
        before=before,
        done=False,
        tables=tuple(
            Purged(
                table=table.name,
                old=old[table.name],
                rows=walk.rows[table.name],
                kept_by=tuple(kept.get(table.name, ())),
            )
            for table in tables
        ),
        obstacles=_obstacles(schema, tables),
        caveats=tuple(trigger_caveats(tables, "DELETE")),
    )


def _fill(walk: Walk, tables: Sequence[Table], before: datetime) -> None:
    for table in tables:
        gone = walk.open(table)
        query = sql.fill_old(gone, walk.marks, lock=walk.lock)
        walk.note(gone, walk.connection.execute(query, {"before": before}).rowcount)


def _settle(walk: Walk, tables: Sequence[Table]) -> dict[TableName, list[str]]:
    """Takes out what a row references that stays, until nothing changes; the keys, by table."""
    kept: dict[TableName, list[str]] = {}
    changed = True
    while changed:
        changed = False
        for table in tables:
            for key in enforced_keys(walk.schema, table):
                by = walk.gone.get(whole(walk.schema, key.referencing).name)
                referencing = walk.schema.table(key.referencing)
                query = sql.leave_referenced(walk.gone[table.name], key, referencing, by)
                rows = walk.connection.execute(query).rowcount
                if rows:
                    changed = True
                    walk.rows[table.name] -= rows
                    labels = kept.setdefault(table.name, [])
                    if key.label not in labels:
                        labels.append(key.label)
    return kept


def _purge_group(work: _Work, tables: Sequence[Table]) -> None:
    """Purges tables that reference each other in a circle, or one table."""
    circular = len(tables) > 1 or any(
        whole(work.schema, key.referencing).name == table.name
        for table in tables
        for key in enforced_keys(work.schema, table)
    )
    while True:
        before = work.rows
        for table in tables:
            for _ in _purge_leaves(work, table):
                work.report(work.rows)
        if not circular or work.rows == before:
            break
    if circular:
        _purge_circles(work, tables)
        work.report(work.rows)


def _purge_leaves(work: _Work, table: Table) -> Iterator[None]:
    """Deletes the rows that nothing references, batch by batch in the order of their keys."""
    last: Sequence[str] | None = None
    while True:

        def batch(last: Sequence[str] | None = last) -> tuple[Sequence[str] | None, int]:
            return _delete_leaves(work, table, last)

        last, deleted = change(work.connection, batch, lock_timeout=work.lock_timeout)
        if last is None:
            return
        work.purged[table.name] += deleted
        yield


def _delete_leaves(
    work: _Work, table: Table, last: Sequence[str] | None
) -> tuple[Sequence[str] | None, int]:
    """The last key of a batch, None after the last batch, and how many rows were deleted."""
    connection, schema = work.connection, work.schema
    walk = Walk(connection=connection, schema=schema, marks=work.marks, lock=True)
    gone = walk.open(table)
    keys = enforced_keys(schema, table)
    binds: dict[str, Any] = {"before": work.before, "limit": work.batch_size}
    binds |= {f"after_{i}": value for i, value in enumerate(last or ())}
    query = sql.fill_leaves(gone, schema, keys, work.marks, after=last is not None)
    walk.note(gone, connection.execute(query, binds).rowcount)
    found = connection.execute(sql.last_key(gone)).one_or_none()
    if found is None:
        return None, 0
    # Statements of their own: they see what was committed while the rows were waited for.
    for key in keys:
        query_left = sql.leave_referenced(gone, key, schema.table(key.referencing), None)
        walk.rows[table.name] -= connection.execute(query_left).rowcount
    return tuple(found), _delete(walk, [table])


def _purge_circles(work: _Work, tables: Sequence[Table]) -> None:
    """Deletes what is left of the tables and is referenced only by rows that go too."""

    def together() -> dict[TableName, int]:
        walk = Walk(connection=work.connection, schema=work.schema, marks=work.marks, lock=True)
        _fill(walk, tables, work.before)
        _settle(walk, tables)
        if any(walk.rows.values()):
            _delete(walk, tables)
        return walk.rows

    for name, rows in change(work.connection, together, lock_timeout=work.lock_timeout).items():
        work.purged[name] += rows


def _delete(walk: Walk, tables: Sequence[Table]) -> int:
    """Deletes the rows, makes sure that no other went, and writes them down; how many."""
    connection = walk.connection
    query = sql.delete_gone([walk.gone[table.name] for table in tables], walk.marks)
    before, _ = count_written(connection, walk.schema)
    rows = connection.execute(query).all()
    deleted = {table.name: 0 for table in tables}
    for row in rows:
        name = tables[row.place].name
        deleted[name] += row.number
        if row.deletion is not None:
            execute_query(
                connection,
                "ledger/count_purged",
                id=row.deletion,
                table_schema=name.schema,
                table_name=name.name,
                purged=row.number,
            )
    connection.execute(sa.text("set constraints all immediate"))
    after, _ = count_written(connection, walk.schema)
    for name, number in (after - before).items():
        if number > deleted.get(name, 0):
            raise Blocked(
                "Refused: other rows would go than were found; the batch was rolled back.",
                why=f"{name}: {number - deleted.get(name, 0):,} more rows were deleted: by a "
                "trigger, or along a key from a row that one put in.",
                next="Delete those rows first, or do without the trigger meanwhile, then run the "
                "same command again.",
            )
    for name, number in deleted.items():
        if number != walk.rows[name]:
            raise Blocked(
                "Refused: other rows would go than were found; the batch was rolled back.",
                why=f"{name}: {number:,} of {walk.rows[name]:,} rows were deleted: a trigger or "
                "rule is in between.",
                next="Look at the triggers of the table, then run the same command again.",
            )
    require_same_keys(walk, tables)
    return sum(deleted.values())
