"""Alembic operations, `op.change_on_delete` and the like; importing this module registers them.

Each looks at the database, does what is missing, and can be run again after any accident. With
`--sql` each writes a script instead. Table and constraint names are given as they are, without
quotes, the schema beside them, as everywhere in Alembic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from alembic.operations import MigrateOperation, Operations

from fkdoctor.errors import ConfigError, Incomplete, Refused
from fkdoctor.identifier import quote
from fkdoctor.revise import indexes, soft_delete, swap, tables, uniqueness
from fkdoctor.revise.ddl import drop_index_where_created, require_index
from fkdoctor.revise.definition import parse_definition
from fkdoctor.revise.executor import Executor, Patience, open_executor
from fkdoctor.revise.mark import KeyText, remember
from fkdoctor.revise.offline import compose_swap, require_key
from fkdoctor.schema import ReferentialAction, TableName


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


@Operations.register_operation("change_on_delete")
@Operations.register_operation("restore_on_delete")
@dataclass(kw_only=True)
class ChangeOnDelete(MigrateOperation):
    """Another ON DELETE for a foreign key."""

    table: str
    constraint: str
    on_delete: str
    schema: str | None
    definition: str | None
    undo: bool = False

    @classmethod
    def change_on_delete(
        cls,
        operations: Operations,
        table: str,
        constraint: str,
        on_delete: str,
        *,
        schema: str | None = None,
        definition: str | None = None,
    ) -> None:
        """Give the foreign key this ON DELETE and keep all else of it, without stopping writers.

        The key is in force at every moment; what it was is remembered in its comment. A key that
        has the rule is left as it is. `definition` is what the key is before, as
        pg_get_constraintdef prints it with an empty search_path; only --sql needs it.

        Locks: SHARE ROW EXCLUSIVE, later ACCESS EXCLUSIVE on both tables, each for milliseconds;
        SHARE UPDATE EXCLUSIVE while the rows are checked. No wait for one is longer than the lock
        timeout (2 s).
        """
        operations.invoke(
            cls(
                table=table,
                constraint=constraint,
                on_delete=on_delete,
                schema=schema,
                definition=definition,
            )
        )

    @classmethod
    def restore_on_delete(
        cls,
        operations: Operations,
        table: str,
        constraint: str,
        on_delete: str,
        *,
        schema: str | None = None,
        definition: str | None = None,
    ) -> None:
        """Restore the key to what its comment remembers: definition, name and comment.

        The arguments are those of `change_on_delete`. A key that was not changed here, or no
        longer has this ON DELETE, is left as it is.
        """
        operations.invoke(
            cls(
                table=table,
                constraint=constraint,
                on_delete=on_delete,
                schema=schema,
                definition=definition,
                undo=True,
            )
        )

    def reverse(self) -> ChangeOnDelete:
        """The operation that undoes this one."""
        return replace(self, undo=not self.undo)


@Operations.register_operation("add_soft_delete")
@Operations.register_operation("drop_soft_delete")
@dataclass(kw_only=True)
class AddSoftDelete(MigrateOperation):
    """Rows that are marked as deleted and stay where they are."""

    table: str
    schema: str | None
    column: str
    deletion_column: str
    unique_keys: tuple[str, ...] | None
    view: str | None
    guard: bool
    undo: bool = False

    @classmethod
    def add_soft_delete(
        cls,
        operations: Operations,
        table: str,
        *,
        schema: str | None = None,
        column: str = "deleted_at",
        deletion_column: str = "deletion_id",
        unique_keys: Sequence[str] | None = None,
        view: str | None = None,
        guard: bool = False,
    ) -> None:
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
        keys = None if unique_keys is None else tuple(unique_keys)
        operations.invoke(
            cls(
                table=table,
                schema=schema,
                column=column,
                deletion_column=deletion_column,
                unique_keys=keys,
                view=view,
                guard=guard,
            )
        )

    @classmethod
    def drop_soft_delete(
        cls,
        operations: Operations,
        table: str,
        *,
        schema: str | None = None,
        column: str = "deleted_at",
        deletion_column: str = "deletion_id",
        unique_keys: Sequence[str] | None = None,
        view: str | None = None,
        guard: bool = False,
    ) -> None:
        """Drop what was created here and give unique keys back the form that they had.

        The arguments are those of `add_soft_delete`; what there is says what to drop, so only the
        columns' names matter. Raises Refused while rows are soft-deleted: they would be live again.
        """
        keys = None if unique_keys is None else tuple(unique_keys)
        operations.invoke(
            cls(
                table=table,
                schema=schema,
                column=column,
                deletion_column=deletion_column,
                unique_keys=keys,
                view=view,
                guard=guard,
                undo=True,
            )
        )

    def reverse(self) -> AddSoftDelete:
        """The operation that undoes this one."""
        return replace(self, undo=not self.undo)


@Operations.implementation_for(CreateWhereAbsent)
def _create_where_absent(operations: Operations, operation: CreateWhereAbsent) -> None:
    schema, wanted = operation.schema, operation.tables
    referencing_first = tuple(reversed(wanted))
    if _is_offline(operations):
        _write_block(
            operations,
            tables.compose_removal(schema, referencing_first)
            if operation.undo
            else tables.compose_creation(schema, wanted),
        )
    elif operation.undo:
        _run(
            operations,
            f"tables of {schema} dropped",
            lambda executor: tables.drop_created(executor, schema, referencing_first),
        )
    else:
        _run(
            operations,
            f"tables of {schema} created",
            lambda executor: tables.create_absent(executor, schema, wanted),
        )


@Operations.implementation_for(AddReferenceIndex)
def _add_reference_index(operations: Operations, operation: AddReferenceIndex) -> None:
    columns = operation.columns
    name = operation.name or indexes.name_index(operation.table, columns)
    if _is_offline(operations):
        table = _offline_table(operation.table, operation.schema)
        if operation.undo:
            _write_block(operations, drop_index_where_created(TableName(table.schema, name)))
            return
        _write_index(
            operations,
            TableName(table.schema, name),
            indexes.compose_index(table, columns, None, name),
        )
        return

    def work(executor: Executor) -> bool:
        table = _find_table(executor, operation.table, operation.schema)
        if operation.undo:
            return indexes.drop_reference_index(executor, table, name)
        return indexes.add_reference_index(executor, table, columns, name)

    _run(operations, f"index {name} {'dropped' if operation.undo else 'built'}", work)


@Operations.implementation_for(ChangeOnDelete)
def _change_on_delete(operations: Operations, operation: ChangeOnDelete) -> None:
    action = _read_action(operation.on_delete)
    if _is_offline(operations):
        _write_swap(operations, operation, action)
        return

    def work(executor: Executor) -> bool:
        table = _find_table(executor, operation.table, operation.schema)
        if operation.undo:
            return swap.restore_rule(executor, table, operation.constraint, action)
        return swap.change_rule(executor, table, operation.constraint, action)

    _run(operations, f"{operation.constraint} {'restored' if operation.undo else 'changed'}", work)


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

    if _is_offline(operations):
        table = _offline_table(operation.table, operation.schema)
        _write_soft_delete(operations, wish(table), undo=operation.undo)
        return

    def work(executor: Executor) -> bool:
        table = _find_table(executor, operation.table, operation.schema)
        if operation.undo:
            return soft_delete.drop_soft_delete(executor, wish(table))
        return soft_delete.add_soft_delete(executor, wish(table))

    done = "taken from" if operation.undo else "added to"
    _run(operations, f"soft delete {done} {operation.table}", work)


def _run(operations: Operations, what: str, work: Callable[[Executor], bool]) -> None:
    """Do the work; after an operation that changed something, a refusal is no longer one."""
    changed: list[str] = operations.get_context().opts.setdefault("fkdoctor_changed", [])
    try:
        with open_executor(operations) as executor:
            if work(executor):
                changed.append(what)
    except Refused as problem:
        if not changed:
            raise
        why = f"{problem.why} Done before it: {', '.join(changed)}."
        raise Incomplete(problem.what, why=why.strip(), next=problem.next) from problem


def _find_table(executor: Executor, table: str, schema: str | None) -> TableName:
    if schema is not None:
        return TableName(schema, table)
    return executor.read_schema().resolve_table(quote(table))


def _read_action(on_delete: str) -> ReferentialAction:
    actions = {action.sql: action for action in ReferentialAction}
    action = actions.get(" ".join(on_delete.upper().split()))
    if action is None:
        raise ConfigError(
            f"{on_delete!r} is no rule for ON DELETE.",
            why=f"The rules are {', '.join(actions)}.",
            next="Correct it in the revision.",
        )
    return action


def _is_offline(operations: Operations) -> bool:
    return operations.get_context().as_sql


def _offline_table(table: str, schema: str | None) -> TableName:
    if schema is None:
        raise ConfigError(
            f"With --sql the schema of {table} must be known.",
            why="A script cannot look for it.",
            next='Add schema="…" in the revision.',
        )
    return TableName(schema, table)


def _write_swap(
    operations: Operations, operation: ChangeOnDelete, action: ReferentialAction
) -> None:
    if operation.definition is None:
        raise ConfigError(
            f"With --sql the definition of {operation.constraint} must be known.",
            why="A script cannot read it from the database.",
            next='Add definition="FOREIGN KEY …" in the revision, as pg_get_constraintdef prints '
            "it with an empty search_path.",
        )
    table = _offline_table(operation.table, operation.schema)
    original = KeyText(definition=operation.definition, comment=None)
    changed = KeyText(
        definition=str(parse_definition(original.definition).with_rule(action)),
        comment=remember(original),
    )
    before, after = (changed, original) if operation.undo else (original, changed)
    name, timeout = operation.constraint, _patience(operations).longest
    with operations.get_context().autocommit_block():
        _write(operations, compose_swap(table, name, before, after, timeout))
    _require_at_end(operations, require_key(table, name, after))


def _write_soft_delete(operations: Operations, wish: soft_delete.SoftDelete, *, undo: bool) -> None:
    if undo:
        _write_block(operations, uniqueness.require_nothing_changed(wish.table))
        _write_block(operations, soft_delete.compose_removal(wish))
        return
    if wish.unique_keys or wish.guard:
        raise ConfigError(
            f"With --sql the unique keys and the guard of {wish.table} are not written.",
            why="A script cannot read what they are from the database.",
            next="Run the revision online, or leave them as they are: unique_keys=().",
        )
    if wish.unique_keys is None:
        _write_block(operations, uniqueness.require_no_full_keys(wish.table, wish.column))
    _write_block(operations, soft_delete.compose_columns(wish))
    if wish.view is not None:
        _write_block(operations, soft_delete.compose_view(wish, wish.view))
    index = TableName(wish.table.schema, indexes.name_index(wish.table.name, (wish.column,)))
    _write_index(operations, index, soft_delete.compose_index(wish))


def _write_index(operations: Operations, index: TableName, lines: Iterable[str]) -> None:
    with operations.get_context().autocommit_block():
        _write(operations, lines)
    _require_at_end(operations, require_index(index))


def _require_at_end(operations: Operations, statement: str) -> None:
    """Write the statement into the transaction that records the revision, to fail with it.

    A client that goes on after an error would otherwise record what was not done.
    """
    context = operations.get_context()
    waiting: list[str] = context.opts.setdefault("fkdoctor_requirements", [])
    if not waiting:

        def write_requirements(**_: object) -> None:
            _write(operations, waiting)
            waiting.clear()

        before = tuple(context.on_version_apply_callbacks)
        context.on_version_apply_callbacks = (*before, write_requirements)
    waiting.append(statement)


def _patience(operations: Operations) -> Patience:
    return operations.get_context().opts.get("fkdoctor_patience") or Patience()


def _write_block(operations: Operations, statement: str) -> None:
    timeout = _patience(operations).longest
    _write(operations, [f"set local lock_timeout = '{timeout}ms'", statement])


def _write(operations: Operations, lines: Iterable[str]) -> None:
    impl = operations.get_context().impl
    for line in lines:
        impl.static_output(line if line.startswith("--") else f"{line};")
