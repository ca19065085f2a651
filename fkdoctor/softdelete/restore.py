"""Takes a soft delete back: its rows live again, what it set on the way is as it was.

Exactly what that deletion took, in one transaction. Refused, with names, where a live row has a
unique value by now, where what was set was changed since, where a row would reference one that
stays deleted, and where rows have been purged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import said, sqlstate
from fkdoctor.errors import ConfigError, Refused, UndoConflict
from fkdoctor.identifier import quote
from fkdoctor.ledger.install import require_ledger
from fkdoctor.resources import execute_query
from fkdoctor.schema import Schema, TableName
from fkdoctor.softdelete.conflicts import Step, find_conflicts, key_of
from fkdoctor.softdelete.outcome import Change, Restoration, conflicting
from fkdoctor.softdelete.shape import lack, trigger_caveats
from fkdoctor.softdelete.transaction import change, look
from fkdoctor.softdelete.walk import Walk
from fkdoctor.statement import restoration as undo
from fkdoctor.statement import softdelete as sql
from fkdoctor.statement.softdelete import MARKS, Marks

_CONSTRAINT_VIOLATED = "23"


def preview_restore(
    connection: Connection, schema: Schema, id: str, *, marks: Marks = MARKS
) -> Restoration:
    """What restoring the deletion would do, and what stands against it. Changes nothing.

    `id` may be the beginning of one. The connection must not be in a transaction. Raises
    ConfigError for an unknown deletion.
    """
    require_ledger(connection)
    return look(
        connection,
        lambda: _collect(connection, schema, id, marks, lock=False).outcome,
    )


def restore_deletion(
    connection: Connection,
    schema: Schema,
    id: str,
    *,
    marks: Marks = MARKS,
    lock_timeout: int = 2_000,
) -> Restoration:
    """The deletion as it was taken back. Restoring it twice does it once.

    `id` may be the beginning of one. The connection must not be in a transaction; `lock_timeout` is
    in milliseconds. Raises UndoConflict, naming the rows, ConfigError for an unknown deletion; then
    nothing was changed.
    """
    require_ledger(connection)

    def work() -> Restoration:
        found = _collect(connection, schema, id, marks, lock=True)
        if found.outcome.conflicts:
            raise conflicting(found.outcome.id, found.outcome.conflicts)
        return found.outcome if found.outcome.done else _carry_out(found)

    return change(connection, work, lock_timeout=lock_timeout)


@dataclass(frozen=True, kw_only=True)
class _Found:
    walk: Walk
    outcome: Restoration
    steps: Sequence[Step]
    binds: dict[str, Any]


def _collect(
    connection: Connection, schema: Schema, start: str, marks: Marks, *, lock: bool
) -> _Found:
    id = _find(connection, start)
    deletion = _read_deletion(connection, id, lock=lock)
    rows = execute_query(connection, "ledger/deletion_steps", id=id).all()
    outcome = Restoration(
        id=id,
        table=TableName(deletion.table_schema, deletion.table_name),
        selection=deletion.selection,
        deleted_by=deletion.deleted_by,
        deleted_at=deletion.deleted_at,
        done=deletion.restored_at is not None,
        restored=(),
        changes=(),
        missing=0,
        conflicts=(),
        caveats=(),
    )
    walk = Walk(connection=connection, schema=schema, marks=marks, lock=lock)
    binds = {"deletion": id, "time": deletion.deleted_at}
    if outcome.done:
        return _Found(walk=walk, outcome=outcome, steps=(), binds=binds)
    steps = [_read_step(schema, marks, row) for row in rows]
    for step in steps:
        if step.constraint is None:
            _fill(walk, step, binds)
    # By a statement of its own: it sees what a purge did while its rows were waited for.
    _refuse_purged(id, execute_query(connection, "ledger/deletion_steps", id=id).all())
    for step in steps:
        if step.constraint is not None and lock:
            query = undo.lock_remembered(step.table, step.key_columns)
            connection.execute(query, binds | {"step": step.number}).close()
    outcome = replace(
        outcome,
        restored=walk.taken(),
        changes=tuple(_describe_change(schema, step) for step in steps if step.constraint),
        missing=sum(step.rows for step in steps if not step.constraint) - sum(walk.rows.values()),
        conflicts=tuple(find_conflicts(walk, steps, binds)),
        caveats=tuple(trigger_caveats({s.table.name: s.table for s in steps}.values(), "UPDATE")),
    )
    return _Found(walk=walk, outcome=outcome, steps=steps, binds=binds)


def _find(connection: Connection, start: str) -> str:
    found = [*execute_query(connection, "ledger/find_deletions", start=start.lower()).scalars()]
    if len(found) == 1 and start:
        return str(found[0])
    raise ConfigError(
        f"There is no deletion {start}." if not found else f"{start!r} begins several deletions.",
        why="Nothing of that id was soft-deleted in this database."
        if not found
        else f"For example {', '.join(found[:3])}.",
        next="List them: fkdoctor deletions",
    )


def _read_deletion(connection: Connection, id: str, *, lock: bool) -> Row[Any]:
    name = "ledger/lock_deletion" if lock else "ledger/deletion"
    return execute_query(connection, name, id=id).one()


def _refuse_purged(id: str, rows: Sequence[Row[Any]]) -> None:
    purged = [row for row in rows if row.purged]
    if purged:
        told = ", ".join(
            f"{row.purged:,} of {row.rows:,} of {TableName(row.table_schema, row.table_name)}"
            for row in purged
        )
        raise UndoConflict(
            f"Refused: rows of deletion {id} were purged; nothing was changed.",
            why=f"Gone for good: {told}.",
            next="Restore them from a backup.",
        )


def _read_step(schema: Schema, marks: Marks, row: Row[Any]) -> Step:
    name = TableName(row.table_schema, row.table_name)
    wanted = tuple(dict.fromkeys((*row.key_columns, *row.columns)))
    gone: list[str] = []
    if not schema.has_table(name):
        gone = [f"{name} is gone"]
    else:
        table = schema.table(name)
        gone = [f"{name}.{quote(c)} is gone" for c in wanted if not table.has_column(c)]
        if not row.constraint_name and (lacking := lack(table, marks.time, marks.deletion)):
            gone.append(f"{lacking.subject}: {lacking.reason}")
    if gone:
        raise Refused(
            "Refused: what the ledger holds does not fit the database any more; nothing was "
            "changed.",
            why=f"Since the deletion: {', '.join(gone)}.",
            next="Put it back as it was, then restore the deletion.",
        )
    return Step(
        number=row.step,
        table=table,
        key_columns=tuple(row.key_columns),
        columns=tuple(row.columns),
        constraint=row.constraint_name,
        rows=row.rows,
    )


def _fill(walk: Walk, step: Step, binds: dict[str, Any]) -> None:
    gone, row = walk.open(step.table), sql.row_of(step.table)
    condition = sql.bears(step.table, row, walk.marks)
    query = sql.fill_roots(gone, row, condition, lock=walk.lock)
    walk.note(gone, walk.connection.execute(query, binds).rowcount)


def _describe_change(schema: Schema, step: Step) -> Change:
    key = key_of(schema, step)
    return Change(
        key=f"{step.table.name}.{quote(step.constraint or '')}",
        table=step.table.name,
        columns=step.columns,
        action=key.on_delete if key else None,
        rows=step.rows,
    )


def _carry_out(found: _Found) -> Restoration:
    walk, connection = found.walk, found.walk.connection
    try:
        # Referenced rows before what references them, as a guard or a trigger would want it.
        for taken in found.outcome.restored:
            query = sql.unmark_gone(walk.gone[taken.table], walk.marks)
            live = connection.execute(query, found.binds).scalar_one()
            _require(taken.table, live, taken.rows)
        for step in found.steps:
            if step.constraint is not None:
                query = undo.put_back(step.table, step.key_columns, step.columns)
                binds = found.binds | {"step": step.number}
                right = connection.execute(query, binds).scalar_one()
                _require(step.table.name, right, step.rows)
        # What is deferred runs now, while what it says can still be told.
        connection.execute(sa.text("set constraints all immediate"))
    except DBAPIError as error:
        if not sqlstate(error).startswith(_CONSTRAINT_VIOLATED):
            raise
        raise conflicting(found.outcome.id, (said(error),)) from error
    execute_query(connection, "ledger/set_restored", id=found.outcome.id)
    return replace(found.outcome, done=True)


def _require(table: TableName, done: int, planned: int) -> None:
    if done != planned:
        raise UndoConflict(
            "Refused: rows cannot be put back as they were; nothing was changed.",
            why=f"{table}: {done:,} of {planned:,} rows came out right: a trigger or rule is in "
            "between.",
            next="Look at the triggers of the table, then run the same command again.",
        )
