"""Alembic operations on tables, columns and indexes; importing this module registers them.

Each looks at the database, does what is missing, and can be run again after any accident. With
`--sql` each writes a script instead. Table and constraint names are given as they are, without
quotes, the schema beside them, as everywhere in Alembic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass

from alembic.operations import Operations

from fkdoctor.errors import ConfigError
from fkdoctor.revise import indexes, soft_delete, tables, uniqueness
from fkdoctor.revise.ddl import drop_index_where_created, require_index
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.invocation import (
    find_table,
    is_offline,
    offline_table,
    require_at_end,
    run_online,
    write,
    write_block,
)
from fkdoctor.revise.partition_indexes import drop_partition_indexes, index_partitions
from fkdoctor.revise.reversible import Names, Reversible, reversible
from fkdoctor.schema import TableKind, TableName


@reversible(
    "create_where_absent",
    "drop_where_created",
    """Drop those of the tables that were created here.

    Raises Refused, with nothing dropped, when one of those holds a row.
    """,
)
@dataclass
class CreateWhereAbsent(Reversible):
    """Create the schema and those of the tables that are missing; never change one.

    `tables` maps each name to the SQL that makes it, referenced tables first. What is created
    is marked in its comment, so that a downgrade drops that and nothing else.
    """

    schema: str
    tables: dict[str, str]


@reversible(
    "add_reference_index",
    "drop_reference_index",
    """Drop the index if it was created here.""",
)
@dataclass
class AddReferenceIndex(Reversible):
    """Build an index on the referencing columns, beside the writers, unless one serves.

    An invalid one that would serve is built anew.

    Locks: SHARE UPDATE EXCLUSIVE on the table, which stops other DDL and VACUUM, no reader and
    no writer. Waits for transactions that are open when it begins, at most five minutes. Of a
    partitioned table each leaf gets one; in the end SHARE on all of it, which stops writers,
    for milliseconds.
    """

    table: str
    columns: Names
    _: KW_ONLY
    schema: str | None = None
    name: str | None = None


@reversible(
    "add_soft_delete",
    "drop_soft_delete",
    """Drop what was created here and give unique keys back the form that they had.

    The arguments are those of `add_soft_delete`; what there is says what to drop, so only the
    columns' names matter. Raises Refused while rows are soft-deleted: they would be live again.
    """,
)
@dataclass
class AddSoftDelete(Reversible):
    """Let rows of the table be soft-deleted, without stopping writers.

    Adds a nullable timestamptz that says when, a uuid that says by which deletion, and an index
    on the deleted rows; columns or an index that are there and fit are left as they are. Unique
    keys come to hold among live rows only: those named in `unique_keys`, by default every one
    that can (the log names the others and why not). `view` names a view of the live rows to
    create. With `guard` the database refuses live rows that reference soft-deleted ones, by
    every foreign key of the table to another with soft delete.

    Locks: ACCESS EXCLUSIVE on the table for milliseconds, for the columns and for each unique
    key; SHARE ROW EXCLUSIVE on it and the referenced table for a guard. The wait for each is
    never longer than the lock timeout (2 s). Indexes as in `add_reference_index`.
    """

    table: str
    _: KW_ONLY
    schema: str | None = None
    column: str = "deleted_at"
    deletion_column: str = "deletion_id"
    unique_keys: Names | None = None
    view: str | None = None
    guard: bool = False


@Operations.implementation_for(CreateWhereAbsent)
def _create_where_absent(operations: Operations, operation: CreateWhereAbsent) -> None:
    schema, wanted = operation.schema, operation.tables
    referencing_first = tuple(reversed(wanted))
    if is_offline(operations):
        write_block(
            operations,
            tables.compose_removal(schema, referencing_first)
            if operation.undo
            else tables.compose_creation(schema, wanted),
        )
    elif operation.undo:
        run_online(
            operations,
            f"tables of {schema} dropped",
            lambda executor: tables.drop_created(executor, schema, referencing_first),
        )
    else:
        run_online(
            operations,
            f"tables of {schema} created",
            lambda executor: tables.create_absent(executor, schema, wanted),
        )


@Operations.implementation_for(AddReferenceIndex)
def _add_reference_index(operations: Operations, operation: AddReferenceIndex) -> None:
    columns = operation.columns
    name = operation.name or indexes.name_index(operation.table, columns)
    if is_offline(operations):
        table = offline_table(operation.table, operation.schema)
        if operation.undo:
            write_block(operations, drop_index_where_created(TableName(table.schema, name)))
            return
        _write_index(
            operations,
            TableName(table.schema, name),
            indexes.compose_index(table, columns, None, name),
        )
        return

    def work(executor: Executor) -> bool:
        table = find_table(executor, operation.table, operation.schema)
        schema = executor.read_schema()
        if schema.has_table(table) and schema.table(table).kind is TableKind.PARTITIONED:
            act = drop_partition_indexes if operation.undo else index_partitions
            return act(executor, table, columns, name)
        if operation.undo:
            return indexes.drop_reference_index(executor, table, columns, name)
        return indexes.add_reference_index(executor, table, columns, name)

    run_online(operations, f"index {name} {'dropped' if operation.undo else 'built'}", work)


@Operations.implementation_for(AddSoftDelete)
def _add_soft_delete(operations: Operations, operation: AddSoftDelete) -> None:
    def wish(table: TableName) -> soft_delete.SoftDelete:
        return soft_delete.SoftDelete(
            table=table,
            column=operation.column,
            deletion_column=operation.deletion_column,
            unique_keys=operation.unique_keys,
            view=operation.view,
            guard=operation.guard,
        )

    if is_offline(operations):
        table = offline_table(operation.table, operation.schema)
        _write_soft_delete(operations, wish(table), undo=operation.undo)
        return

    def work(executor: Executor) -> bool:
        table = find_table(executor, operation.table, operation.schema)
        if operation.undo:
            return soft_delete.drop_soft_delete(executor, wish(table))
        return soft_delete.add_soft_delete(executor, wish(table))

    done = "taken from" if operation.undo else "added to"
    run_online(operations, f"soft delete {done} {operation.table}", work)


def _write_soft_delete(operations: Operations, wish: soft_delete.SoftDelete, *, undo: bool) -> None:
    if undo:
        write_block(operations, uniqueness.require_nothing_changed(wish.table))
        write_block(operations, soft_delete.compose_removal(wish))
        return
    if wish.unique_keys or wish.guard:
        raise ConfigError(
            f"With --sql the unique keys and the guard of {wish.table} are not written.",
            why="A script cannot read what they are from the database.",
            next="Run the revision online, or leave them as they are: unique_keys=().",
        )
    if wish.unique_keys is None:
        write_block(operations, uniqueness.require_no_full_keys(wish.table, wish.column))
    write_block(operations, soft_delete.compose_columns(wish))
    if wish.view is not None:
        write_block(operations, soft_delete.compose_view(wish, wish.view))
    index = TableName(wish.table.schema, indexes.name_index(wish.table.name, (wish.column,)))
    _write_index(operations, index, soft_delete.compose_index(wish))


def _write_index(operations: Operations, index: TableName, lines: Iterable[str]) -> None:
    with operations.get_context().autocommit_block():
        write(operations, lines)
    require_at_end(operations, str(index), require_index(index))
