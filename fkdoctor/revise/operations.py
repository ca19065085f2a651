"""Alembic operations on tables, columns and indexes; importing this module registers them.

Each looks at the database, does what is missing, and can be run again after any accident. With
`--sql` each writes a script instead. Table and constraint names are given as they are, without
quotes, the schema beside them, as everywhere in Alembic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from alembic.operations import MigrateOperation, Operations

from fkdoctor.revise import indexes, soft_delete, tables
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
from fkdoctor.schema import TableName


@Operations.register_operation("create_where_absent")
@Operations.register_operation("drop_where_created")
@dataclass(kw_only=True)
class CreateWhereAbsent(MigrateOperation):
    """Tables that are created only if they are missing."""

    schema: str
    tables: dict[str, str]
    undo: bool = False

    @classmethod
    def create_where_absent(
        cls, operations: Operations, schema: str, tables: dict[str, str]
    ) -> None:
        """Create the schema and those of the tables that are missing; never change one.

        `tables` maps each name to the SQL that makes it, referenced tables first. What is created
        is marked in its comment, so that a downgrade drops that and nothing else.
        """
        operations.invoke(cls(schema=schema, tables=tables))

    @classmethod
    def drop_where_created(
        cls, operations: Operations, schema: str, tables: dict[str, str]
    ) -> None:
        """Drop those of the tables that were created here.

        Raises Refused, with nothing dropped, when one of those holds a row.
        """
        operations.invoke(cls(schema=schema, tables=tables, undo=True))

    def reverse(self) -> CreateWhereAbsent:
        """The operation that undoes this one."""
        return replace(self, undo=not self.undo)


@Operations.register_operation("add_reference_index")
@Operations.register_operation("drop_reference_index")
@dataclass(kw_only=True)
class AddReferenceIndex(MigrateOperation):
    """The index that a foreign key's referencing columns need."""

    table: str
    columns: tuple[str, ...]
    schema: str | None
    name: str | None
    undo: bool = False

    @classmethod
    def add_reference_index(
        cls,
        operations: Operations,
        table: str,
        columns: Sequence[str],
        *,
        schema: str | None = None,
        name: str | None = None,
    ) -> None:
        """Build an index on the referencing columns, beside the writers, unless one serves.

        An invalid one that would serve is built anew.

        Locks: SHARE UPDATE EXCLUSIVE on the table, which stops other DDL and VACUUM, no reader and
        no writer. Waits for transactions that are open when it begins, at most five minutes.
        """
        operations.invoke(cls(table=table, columns=tuple(columns), schema=schema, name=name))

    @classmethod
    def drop_reference_index(
        cls,
        operations: Operations,
        table: str,
        columns: Sequence[str],
        *,
        schema: str | None = None,
        name: str | None = None,
    ) -> None:
        """Drop the index if it was created here."""
        operations.invoke(
            cls(table=table, columns=tuple(columns), schema=schema, name=name, undo=True)
        )

    def reverse(self) -> AddReferenceIndex:
        """The operation that undoes this one."""
        return replace(self, undo=not self.undo)


@Operations.register_operation("add_soft_delete")
@Operations.register_operation("drop_soft_delete")
@dataclass(kw_only=True)
class AddSoftDelete(MigrateOperation):
    """A column that says when a row was deleted."""

    table: str
    schema: str | None
    column: str
    undo: bool = False

    @classmethod
    def add_soft_delete(
        cls,
        operations: Operations,
        table: str,
        *,
        schema: str | None = None,
        column: str = "deleted_at",
    ) -> None:
        """Add a nullable timestamptz, and an index on the deleted rows, without stopping writers.

        A column or index that is there and fits is left as it is.

        Locks: ACCESS EXCLUSIVE on the table for milliseconds; the wait for it is never longer than
        the lock timeout (2 s). The index as in `add_reference_index`.
        """
        operations.invoke(cls(table=table, schema=schema, column=column))

    @classmethod
    def drop_soft_delete(
        cls,
        operations: Operations,
        table: str,
        *,
        schema: str | None = None,
        column: str = "deleted_at",
    ) -> None:
        """Drop the column and the index, each if it was created here.

        Raises Refused while rows are soft-deleted: they would be live again.
        """
        operations.invoke(cls(table=table, schema=schema, column=column, undo=True))

    def reverse(self) -> AddSoftDelete:
        """The operation that undoes this one."""
        return replace(self, undo=not self.undo)


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
        if operation.undo:
            return indexes.drop_reference_index(executor, table, name)
        return indexes.add_reference_index(executor, table, columns, name)

    run_online(operations, f"index {name} {'dropped' if operation.undo else 'built'}", work)


@Operations.implementation_for(AddSoftDelete)
def _add_soft_delete(operations: Operations, operation: AddSoftDelete) -> None:
    column = operation.column
    if is_offline(operations):
        table = offline_table(operation.table, operation.schema)
        if operation.undo:
            write_block(operations, soft_delete.compose_removal(table, column))
            return
        write_block(operations, soft_delete.compose_column(table, column))
        index = TableName(table.schema, indexes.name_index(table.name, (column,)))
        _write_index(operations, index, soft_delete.compose_index(table, column))
        return

    def work(executor: Executor) -> bool:
        table = find_table(executor, operation.table, operation.schema)
        if operation.undo:
            return soft_delete.drop_soft_delete(executor, table, column)
        return soft_delete.add_soft_delete(executor, table, column)

    done = "taken from" if operation.undo else "added to"
    run_online(operations, f"soft delete {done} {operation.table}", work)


def _write_index(operations: Operations, index: TableName, lines: Iterable[str]) -> None:
    with operations.get_context().autocommit_block():
        write(operations, lines)
    require_at_end(operations, str(index), require_index(index))
