"""Rows that reference nothing: named by their keys, or taken out of the way by policy."""

from __future__ import annotations

from enum import Enum

from sqlalchemy.exc import DBAPIError

from fkdoctor.errors import Incomplete, Refused
from fkdoctor.identifier import quote_all, shorten
from fkdoctor.inspect.graph import keys_into, partition_family
from fkdoctor.revise.ddl import (
    comment_as_created,
    create_copy,
    drop_table,
    insert_copied,
    update_copied,
)
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.mark import is_created
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, Table, TableName
from fkdoctor.statement.dangling import find_dangling, identity_columns
from fkdoctor.statement.members import row_identity
from fkdoctor.statement.parts import Query
from fkdoctor.statement.repair import move_dangling

_SHOWN = 10
_BATCH = 5_000


class Dangling(Enum):
    """What to do with rows that reference nothing, before the key is validated."""

    REFUSE = "refuse"
    DELETE = "delete"
    SET_NULL = "set null"
    KEEP = "keep"


def describe_dangling(executor: Executor, schema: Schema, key: ForeignKey) -> str:
    """A sentence that names up to ten of the rows; empty where they cannot be read."""
    try:
        rows = executor.observe(find_dangling(schema, key, _SHOWN + 1, ordered=True))
    except DBAPIError:
        return ""
    if not rows:
        return ""  # row security may hide them, or somebody repaired them meanwhile
    identity = identity_columns(schema, key)
    columns = quote_all(key.referencing_columns)
    named = [
        f"{_values(row[: len(identity)])} → {_values(row[len(identity) :])}"
        for row in rows[:_SHOWN]
    ]
    more = " and more" if len(rows) > _SHOWN else ""
    return f"Rows ({quote_all(identity)} → {columns}): {', '.join(named)}{more}."


def _values(values: tuple[str | None, ...]) -> str:
    shown = ["NULL" if value is None else value for value in values]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown)})"


def name_kept(table: TableName, name: str) -> TableName:
    """The table in which the dangling rows that were taken out of a key's way are kept."""
    return TableName(table.schema, shorten(name, "_dangling"))


def repair_dangling(
    executor: Executor,
    schema: Schema,
    key: ForeignKey,
    policy: Dangling,
    kept: TableName,
) -> int:
    """How many rows were taken out of the key's way, in batches; what they were is in `kept`."""
    nulled = _nullable(schema.table(key.referencing), key.referencing_columns)
    nulled = nulled if policy is Dangling.SET_NULL else ()
    if not executor.observe(find_dangling(schema, key, 1)):
        return 0
    if not executor.read_schema().has_table(kept):  # not made for another partition meanwhile
        executor.run(lambda: _create_kept(executor, key, kept))
    statement = move_dangling(schema, key, kept, nulled, _BATCH)
    total, moved = 0, _BATCH
    while moved == _BATCH:
        moved = executor.run(lambda: _move(executor, key, statement))
        total += moved
        executor.tell(str(key.referencing), f"{total} dangling rows moved to {kept}")
    return total


def _move(executor: Executor, key: ForeignKey, statement: Query) -> int:
    moved, stubborn = executor.change(statement)
    if stubborn:
        raise Incomplete(
            f"{key.referencing}: {stubborn} rows still reference nothing.",
            why="They were changed, and a trigger or a rule undid that.",
            next="Find it among the table's triggers, then run the same command again.",
        )
    return int(moved)


def _create_kept(executor: Executor, key: ForeignKey, kept: TableName) -> None:
    executor.execute(create_copy(kept, key.referencing))
    executor.execute(comment_as_created("table", str(kept)))


def _nullable(table: Table, columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in columns if not table.column(name).not_null)


def refuse_policy(
    schema: Schema, table: TableName, columns: tuple[str, ...], policy: Dangling, kept: TableName
) -> None:
    """Raises Refused for what the policy could not do, or not undo, to rows of the table."""
    if policy is Dangling.SET_NULL:
        _refuse_set_null(schema.table(table), columns)
    if schema.has_table(kept) and not is_created(schema.table(kept).comment):
        raise Refused(
            f"The name {kept} is taken.",
            why="The dangling rows would be kept in a table of that name.",
            next='Give the key another name: name="…".',
        )


def _refuse_set_null(table: Table, columns: tuple[str, ...]) -> None:
    if not row_identity(table):
        raise Refused(
            f"{table.name} has no primary key.",
            why="Without one the rows that are set to NULL could not be found again.",
            next='Give it one, or choose another policy: dangling="delete".',
        )
    if not _nullable(table, columns):
        raise Refused(
            f"{table.name}: dangling references cannot be set to NULL.",
            why=f"NOT NULL: {quote_all(columns)}.",
            next='Choose another policy: dangling="delete".',
        )


def refuse_further_deeds(
    schema: Schema,
    table: TableName,
    referenced: TableName,
    rule: ReferentialAction,
    policy: Dangling,
) -> None:
    """Raises Refused where a row that is deleted would take others along, by a key that is there
    or by the one to add, which is in force by then."""
    if policy is not Dangling.DELETE:
        return
    deeds = [(key.label, key.on_delete) for key in keys_into(schema, table)]
    if referenced in partition_family(schema, table):
        deeds.insert(0, ("The reference itself", rule))
    for label, on_delete in deeds:
        if on_delete not in (ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT):
            raise Refused(
                f"Deleting dangling rows of {table} would change other rows too.",
                why=f"{label} leads to them ON DELETE {on_delete.sql}.",
                next='Settle those by hand, or choose dangling="set null".',
            )


def put_back(
    executor: Executor,
    schema: Schema,
    table: TableName,
    columns: tuple[str, ...],
    policy: Dangling,
    kept: TableName,
) -> bool:
    """Whether rows were kept; now they are in the table again, or point again where they did."""
    if not schema.has_table(kept) or not is_created(schema.table(kept).comment):
        return False
    target = schema.table(table)
    if policy is Dangling.SET_NULL:
        nulled = _nullable(target, columns)
        statement = update_copied(table, kept, row_identity(target), nulled)
    else:
        written = tuple(column.name for column in target.columns if not column.generated)
        statement = insert_copied(table, kept, written)

    def work() -> None:
        executor.execute(statement)
        executor.execute(drop_table(kept))

    executor.tell(str(table), f"put back the rows that are kept in {kept}")
    executor.run(work)
    return True
