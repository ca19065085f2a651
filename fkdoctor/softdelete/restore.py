"""Takes a soft delete back: its rows live again, what it set on the way is as it was.

Exactly what that deletion took, in one transaction. Refused, with names, where a live row has a
unique value by now, where what was set was changed since, where a row would reference one that
stays deleted, and where rows have been purged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import said, sqlstate
from fkdoctor.errors import ConfigError, Refused, UndoConflict
from fkdoctor.identifier import quote, quote_all
from fkdoctor.inspect.graph import partition_family
from fkdoctor.ledger.install import require_ledger
from fkdoctor.schema import ForeignKey, Schema, Table, TableName
from fkdoctor.softdelete.outcome import Change, Restoration, conflicting
from fkdoctor.softdelete.shape import lack, trigger_caveats, whole
from fkdoctor.softdelete.transaction import change, execute_query, look
from fkdoctor.softdelete.walk import Walk, describe
from fkdoctor.statement import restoration as undo
from fkdoctor.statement import softdelete as sql
from fkdoctor.statement.parts import Query
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
class _Step:
    number: int
    table: Table
    key_columns: tuple[str, ...]
    columns: tuple[str, ...]
    constraint: str | None
    rows: int


@dataclass(frozen=True, kw_only=True)
class _Found:
    walk: Walk
    outcome: Restoration
    steps: Sequence[_Step]
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
        conflicts=tuple(_find_conflicts(walk, steps, binds)),
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


def _read_step(schema: Schema, marks: Marks, row: Row[Any]) -> _Step:
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
    return _Step(
        number=row.step,
        table=table,
        key_columns=tuple(row.key_columns),
        columns=tuple(row.columns),
        constraint=row.constraint_name,
        rows=row.rows,
    )


def _fill(walk: Walk, step: _Step, binds: dict[str, Any]) -> None:
    gone, row = walk.open(step.table), sql.row_of(step.table)
    condition = sql.bears(step.table, row, walk.marks)
    query = sql.fill_roots(gone, row, condition, lock=walk.lock)
    walk.note(gone, walk.connection.execute(query, binds).rowcount)


def _describe_change(schema: Schema, step: _Step) -> Change:
    key = _key_of(schema, step)
    return Change(
        key=f"{step.table.name}.{quote(step.constraint or '')}",
        table=step.table.name,
        columns=step.columns,
        action=key.on_delete if key else None,
        rows=step.rows,
    )


def _key_of(schema: Schema, step: _Step) -> ForeignKey | None:
    """The key that a step set, if it is still there."""
    for key in schema.keys_from(step.table.name):
        if key.name == step.constraint:
            return key
    return None


def _find_conflicts(walk: Walk, steps: Sequence[_Step], binds: dict[str, Any]) -> Iterator[str]:
    schema, marks = walk.schema, walk.marks

    def ask(
        query: Query, tell: Callable[[Row[Any]], str], step: int | None = None
    ) -> Iterator[str]:
        rows = walk.connection.execute(query, binds | {"step": step}).all()
        for row in rows:
            yield tell(row)
        if rows and rows[0].number > len(rows):
            yield f"and {rows[0].number - len(rows):,} more like the last one"

    for taken in walk.taken():
        gone = walk.gone[taken.table]
        table = gone.table
        for index in table.indexes:
            if (
                index.unique
                and index.columns
                and index.predicate == f"({quote(marks.time)} IS NULL)"
            ):
                names = quote_all(index.columns)
                yield from ask(
                    undo.find_rivals(gone, index, marks),
                    lambda row, n=names, t=table: (  # type: ignore[misc]
                        f"{describe(t.name, [row.key], 1)}: the live row ({', '.join(row.other)}) "
                        f"has its {n} now"
                    ),
                )
        for key in _keys_of_rows(schema, table):
            referenced = whole(schema, key.referenced)
            if referenced.has_column(marks.time):
                query = undo.find_deleted_referenced(
                    gone, key, schema.table(key.referenced), walk.gone.get(referenced.name), marks
                )
                yield from ask(query, lambda row, t=table, k=key: _tell_deleted(t.name, k, row))  # type: ignore[misc]
    for step in steps:
        if step.constraint is None:
            continue
        query = undo.find_changed_since(step.table, step.key_columns, step.columns)
        yield from ask(
            query,
            lambda row, s=step: (  # type: ignore[misc]
                f"{describe(s.table.name, [row.key], 1)}: it is gone, or its "
                f"{quote_all(s.columns)} was changed since"
            ),
            step.number,
        )
        found = _key_of(schema, step)
        if found is not None:
            referenced = whole(schema, found.referenced)
            if referenced.has_column(marks.time):
                query = undo.find_deleted_remembered(
                    step.table,
                    found,
                    schema.table(found.referenced),
                    walk.gone.get(referenced.name),
                    marks,
                )
                yield from ask(
                    query,
                    lambda row, s=step, k=found: _tell_deleted(s.table.name, k, row),  # type: ignore[misc]
                    step.number,
                )


def _keys_of_rows(schema: Schema, table: Table) -> Iterator[ForeignKey]:
    """The enforced foreign keys that rows of the table have, also as rows of its partitions."""
    for member in partition_family(schema, table.name):
        for key in schema.keys_from(member):
            if key.enforced and not key.period:
                yield key


def _tell_deleted(table: TableName, key: ForeignKey, row: Row[Any]) -> str:
    by = f"deletion {row.deletion} took" if row.deletion else "is soft-deleted without a deletion"
    return (
        f"{describe(table, [row.key], 1)}: {quote(key.name)} leads to "
        f"{key.referenced} ({', '.join(row.other)}), which {by}"
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
