"""Soft-deletes rows and what their foreign keys take along; shows first what that would be.

What a DELETE would do by its rules is done to live rows: CASCADE soft-deletes, SET NULL and SET
DEFAULT change and are remembered, NO ACTION and RESTRICT refuse while a live row that stays
references one that goes. They look when all is known, as a deferred NO ACTION does. All of it is
one transaction; rows that are deleted already stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import Connection

from fkdoctor.errors import Blocked
from fkdoctor.identifier import quote
from fkdoctor.ledger.install import require_ledger
from fkdoctor.resources import execute_query
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, Table, TableName
from fkdoctor.softdelete.outcome import Change, Deletion, Obstacle, blocked
from fkdoctor.softdelete.selection import Selection, read_condition
from fkdoctor.softdelete.shape import (
    SETS,
    change_obstacles,
    enforced_keys,
    key_obstacles,
    lack,
    root_obstacles,
    rule_obstacles,
    trigger_caveats,
    whole,
)
from fkdoctor.softdelete.transaction import change, look, typed_by_user
from fkdoctor.softdelete.walk import Walk, describe, require_same_keys, walk_from
from fkdoctor.statement import softdelete as sql
from fkdoctor.statement.softdelete import MARKS, Marks


def preview_soft_delete(
    connection: Connection,
    schema: Schema,
    name: TableName,
    selection: Selection,
    *,
    marks: Marks = MARKS,
) -> Deletion:
    """What a soft delete of these rows would do, and what stands in its way. Changes nothing.

    The connection must not be in a transaction. No row is locked. Raises Blocked where rows of the
    table cannot be soft-deleted at all, ConfigError for a selection that does not fit it.
    """
    table = _require_root(schema, name, marks)
    return look(
        connection,
        lambda: _collect(connection, schema, table, selection, marks, lock=False).deletion,
    )


def soft_delete(
    connection: Connection,
    schema: Schema,
    name: TableName,
    selection: Selection,
    *,
    reason: str | None = None,
    marks: Marks = MARKS,
    lock_timeout: int = 2_000,
) -> Deletion:
    """The soft delete as it was done; its id is None where there was nothing to delete.

    The connection must not be in a transaction; `lock_timeout` is in milliseconds. Raises Blocked,
    naming what is in the way, and then nothing was changed.
    """
    table = _require_root(schema, name, marks)
    require_ledger(connection)

    def work() -> Deletion:
        found = _collect(connection, schema, table, selection, marks, lock=True)
        if found.deletion.obstacles:
            raise blocked(found.deletion.obstacles)
        if not found.deletion.rows:
            return found.deletion
        return _carry_out(found, reason)

    return change(connection, work, lock_timeout=lock_timeout)


def _require_root(schema: Schema, name: TableName, marks: Marks) -> Table:
    table = schema.table(name)
    lacking = lack(table, marks.time, marks.deletion)
    obstacles = (*((lacking,) if lacking else ()), *root_obstacles(schema, table))
    if obstacles:
        raise blocked(obstacles)
    return table


@dataclass(frozen=True, kw_only=True)
class _Found:
    walk: Walk
    deletion: Deletion
    sets: tuple[ForeignKey, ...]


def _collect(
    connection: Connection,
    schema: Schema,
    table: Table,
    selection: Selection,
    marks: Marks,
    *,
    lock: bool,
) -> _Found:
    row = sql.row_of(table)
    condition, binds = read_condition(selection, table, row)
    walk = Walk(connection=connection, schema=schema, marks=marks, lock=lock)
    with typed_by_user():
        count = sql.count_selected(table, row, condition, marks)
        asked, already = connection.execute(count, binds).one()
        walk_from(walk, table, row, sa.and_(condition, sql.is_live(table, row, marks)), binds)
    obstacles: list[Obstacle] = []
    changes: list[Change] = []
    sets: list[ForeignKey] = []
    for gone, key in _keys_from_gone(walk):
        in_the_way = [*key_obstacles(schema, gone, key)]
        if not in_the_way:
            number, rows = _references(walk, gone, key)
            if not number:
                continue
            if key.on_delete in SETS:
                referencing = schema.table(key.referencing)
                in_the_way = [*change_obstacles(schema, key, referencing)]
                changes.append(_change(key, number))
                sets.append(key)
            else:
                in_the_way = [_stands(schema, key, rows, marks)]
        obstacles += in_the_way
    tables = [schema.table(taken.table) for taken in walk.taken()]
    for reached in tables[1:]:
        obstacles += rule_obstacles(reached)
    touched = {t.name: t for t in (*tables, *(schema.table(key.referencing) for key in sets))}
    deletion = Deletion(
        id=None,
        deleted_at=None,
        table=table.name,
        selection=str(selection),
        reason=None,
        taken=walk.taken(),
        changes=tuple(changes),
        already_deleted=already,
        missing=max(0, len(set(selection.keys)) - asked),
        obstacles=tuple(dict.fromkeys(obstacles)),
        caveats=tuple(trigger_caveats(touched.values(), "UPDATE")),
    )
    return _Found(walk=walk, deletion=deletion, sets=tuple(sets))


def _keys_from_gone(walk: Walk) -> Iterator[tuple[Table, ForeignKey]]:
    for taken in walk.taken():
        table = walk.schema.table(taken.table)
        for key in enforced_keys(walk.schema, table):
            yield table, key


def _references(walk: Walk, gone: Table, key: ForeignKey) -> tuple[int, str]:
    """How many live rows that stay reference a gone one by the key; and the first of them."""
    referencing = walk.schema.table(key.referencing)
    by = walk.gone.get(whole(walk.schema, key.referencing).name)
    query = sql.find_referencing(walk.gone[gone.name], key, referencing, by, walk.marks)
    rows = walk.connection.execute(query).all()
    number = int(rows[0].number) if rows else 0
    return number, describe(referencing.name, [list(row.key) for row in rows], number)


def _change(key: ForeignKey, rows: int) -> Change:
    return Change(
        key=key.label,
        table=key.referencing,
        columns=key.written_columns,
        action=key.on_delete,
        rows=rows,
    )


def _stands(schema: Schema, key: ForeignKey, rows: str, marks: Marks) -> Obstacle:
    """The obstacle that these live rows are."""
    if key.on_delete is ReferentialAction.CASCADE:
        target = whole(schema, key.referencing)
        missing = lack(target, marks.time, marks.deletion)
        assert missing is not None
        return replace(
            missing, reason=f"{missing.reason}; {quote(key.name)} (CASCADE) reaches {rows}"
        )
    return Obstacle(
        subject=key.label,
        reason=f"ON DELETE {key.on_delete.sql}, and these reference rows that would go: {rows}",
        next="Delete or repoint these rows first, or change the rule of the key.",
    )


def _carry_out(found: _Found, reason: str | None) -> Deletion:
    walk, deletion = found.walk, found.deletion
    connection, schema, marks = walk.connection, walk.schema, walk.marks
    id = str(uuid4())
    place = {"table_schema": deletion.table.schema, "table_name": deletion.table.name}
    execute_query(
        connection,
        "ledger/start_deletion",
        id=id,
        **place,
        selection=deletion.selection,
        reason=reason,
    )
    time = execute_query(connection, "ledger/lock_deletion", id=id).one().deleted_at
    binds = {"deletion": id, "time": time}
    for step, taken in enumerate(deletion.taken):
        table = schema.table(taken.table)
        columns = (marks.time, marks.deletion)
        _add_step(connection, id, step, table, None, columns, taken.rows)
    for step, (key, planned) in enumerate(
        zip(found.sets, deletion.changes, strict=True), len(deletion.taken)
    ):
        _set_references(walk, key, planned, binds | {"step": step})
        referencing = schema.table(key.referencing)
        _add_step(connection, id, step, referencing, key, key.written_columns, planned.rows)
    # Referencing rows before what they reference, as a guard or a trigger would want it.
    for taken in reversed(deletion.taken):
        marked = connection.execute(
            sql.mark_gone(walk.gone[taken.table], marks), binds
        ).scalar_one()
        if marked != taken.rows:
            raise _unforeseen(taken.table, marked, taken.rows)
    # What is deferred runs now, while what it says can still be told.
    connection.execute(sa.text("set constraints all immediate"))
    require_same_keys(walk, [schema.table(taken.table) for taken in deletion.taken])
    return replace(deletion, id=id, deleted_at=time, reason=reason)


def _add_step(
    connection: Connection,
    id: str,
    step: int,
    table: Table,
    key: ForeignKey | None,
    columns: tuple[str, ...],
    rows: int,
) -> None:
    execute_query(
        connection,
        "ledger/add_deletion_step",
        id=id,
        step=step,
        action="set" if key else "delete",
        table_schema=table.name.schema,
        table_name=table.name.name,
        constraint_name=key.name if key else None,
        key_columns=list(table.row_identity),
        columns=list(columns),
        rows=rows,
    )


def _set_references(
    walk: Walk, key: ForeignKey, planned: Change, binds: Mapping[str, object]
) -> None:
    referencing = walk.schema.table(key.referencing)
    referenced = whole(walk.schema, key.referenced)
    gone = walk.gone[referenced.name]
    by = walk.gone.get(whole(walk.schema, key.referencing).name)
    query = sql.set_references(gone, key, referencing, by, walk.marks)
    changed = walk.connection.execute(query, binds).scalar_one()
    if changed != planned.rows:
        raise _unforeseen(key.referencing, changed, planned.rows)
    if key.on_delete is ReferentialAction.SET_DEFAULT:
        query = sql.find_defaulted_to_gone(gone, key, referencing, walk.marks)
        astray = [list(row) for row in walk.connection.execute(query, binds).scalars()]
        if astray:
            raise Blocked(
                "Refused: a default leads to a deleted row; nothing was changed.",
                why=f"{key.label} would let these reference one: "
                f"{describe(key.referencing, astray, len(astray))}.",
                next="Repoint these rows first, or change the column's default.",
            )


def _unforeseen(table: TableName, done: int, planned: int) -> Blocked:
    return Blocked(
        "Refused: other rows would change than were found; nothing was changed.",
        why=f"{table}: {done:,} of {planned:,} rows were written as they should be: a trigger or "
        "rule is in between.",
        next="Look at the triggers of the table, then run the same command again.",
    )
