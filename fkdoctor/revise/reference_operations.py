"""Alembic operations that add and drop foreign keys of tables in use; importing registers them.

For names, `--sql` and what happens after an accident see `fkdoctor.revise.key_operations`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from alembic.operations import Operations

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import shorten
from fkdoctor.revise.adoption import Reference, adopt_reference, release_reference
from fkdoctor.revise.change import read_change
from fkdoctor.revise.dangling import Dangling
from fkdoctor.revise.definition import parse_definition
from fkdoctor.revise.duplicates import drop_duplicate, restore_duplicate
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.invocation import (
    find_table,
    is_offline,
    offline_table,
    read_patience,
    require_at_end,
    run_online,
    unknown_word,
    write,
)
from fkdoctor.revise.mark import CREATED, KeyText
from fkdoctor.revise.offline import compose_adoption, compose_release, require_key
from fkdoctor.revise.reversible import Names, Reversible, reversible
from fkdoctor.schema import TableName


@reversible(
    "drop_duplicate_key",
    "restore_duplicate_key",
    """Add the key again as it was, without stopping writers: as `adopt_reference` does it.""",
)
@dataclass
class DropDuplicateKey(Reversible):
    """Drop the foreign key, if another one that is validated holds the same columns.

    `definition` and `comment` are what it is now, for the way back.

    Locks: ACCESS EXCLUSIVE on both tables, for milliseconds.
    """

    table: str
    constraint: str
    _: KW_ONLY
    schema: str | None = None
    definition: str | None = None
    comment: str | None = None


@reversible(
    "adopt_reference",
    "release_reference",
    """Drop the key if it was added here, and put back the rows that were in its way.

    The arguments are those of `adopt_reference`.

    Locks: ACCESS EXCLUSIVE on both tables, for milliseconds.
    """,
)
@dataclass
class AdoptReference(Reversible):
    """Add a foreign key to a table that is in use, without stopping writers.

    Without `referenced_columns` the primary key is referenced. Rows that reference nothing are
    dealt with as `dangling` says: "refuse" names them and adds nothing; "delete" and "set null"
    do that to them and keep what they were in the table <name>_dangling, from which
    `release_reference` puts them back; "keep" leaves them and the key NOT VALID. A reference
    that is declared already is left as it is.

    Locks: SHARE ROW EXCLUSIVE on both tables for milliseconds, SHARE UPDATE EXCLUSIVE while
    the rows are checked, ACCESS EXCLUSIVE on the table for milliseconds to give the key its
    name. Repairs lock the dangling rows, 5,000 at a time.
    """

    table: str
    columns: Names
    referenced_table: str
    referenced_columns: Names | None = None
    _: KW_ONLY
    schema: str | None = None
    referenced_schema: str | None = None
    name: str | None = None
    on_delete: str = "NO ACTION"
    set_columns: Names | None = None
    on_update: str = "NO ACTION"
    match: str | None = None
    deferrable: bool | None = None
    initially: str | None = None
    dangling: str = "refuse"

    def resolve(
        self, table: TableName, referenced: TableName, primary_key: tuple[str, ...]
    ) -> Reference:
        """The reference, with all names known."""
        change = read_change(
            self.on_delete,
            set_columns=self.set_columns,
            on_update=self.on_update,
            match=self.match,
            deferrable=self.deferrable,
            initially=self.initially,
        )
        policies = [policy.value for policy in Dangling]
        if self.dangling not in policies:
            raise unknown_word(self.dangling, "policy for dangling rows", policies)
        return Reference(
            table=table,
            columns=self.columns,
            referenced=referenced,
            referenced_columns=self.referenced_columns or primary_key,
            name=self.name or shorten("_".join((table.name, *self.columns)), "_fkey"),
            change=change,
            dangling=Dangling(self.dangling),
        )


@Operations.implementation_for(DropDuplicateKey)
def _drop_duplicate_key(operations: Operations, operation: DropDuplicateKey) -> None:
    known = operation.definition
    if operation.undo and known is None:
        raise ConfigError(
            f"The definition of {operation.constraint} must be known to add it again.",
            next='Add definition="FOREIGN KEY …" in the revision.',
        )
    was = KeyText(definition=known or "", comment=operation.comment)
    if is_offline(operations):
        _write_duplicate(operations, operation, was)
        return

    def work(executor: Executor) -> bool:
        table = find_table(executor, operation.table, operation.schema)
        if operation.undo:
            return restore_duplicate(executor, table, operation.constraint, was)
        return drop_duplicate(executor, table, operation.constraint)

    done = "restored" if operation.undo else "dropped"
    run_online(operations, f"{operation.constraint} {done}", work)


def _write_duplicate(operations: Operations, operation: DropDuplicateKey, was: KeyText) -> None:
    table = offline_table(operation.table, operation.schema)
    if operation.undo:
        timeout = read_patience(operations).longest
        with operations.get_context().autocommit_block():
            write(operations, compose_adoption(table, operation.constraint, was, timeout))
        return
    if operation.definition is None:
        raise ConfigError(
            f"With --sql the definition of {operation.constraint} must be known.",
            next='Add definition="FOREIGN KEY …" in the revision.',
        )
    referenced = parse_definition(operation.definition).referenced
    write(operations, compose_release(table, operation.constraint, referenced))


@Operations.implementation_for(AdoptReference)
def _adopt_reference(operations: Operations, operation: AdoptReference) -> None:
    if is_offline(operations):
        _write_adoption(operations, operation)
        return

    def work(executor: Executor) -> bool:
        table = find_table(executor, operation.table, operation.schema)
        referenced = find_table(
            executor, operation.referenced_table, operation.referenced_schema or operation.schema
        )
        key = executor.read_schema().table(referenced).primary_key
        reference = operation.resolve(table, referenced, key.columns if key else ())
        if operation.undo:
            return release_reference(executor, reference)
        return adopt_reference(executor, reference)

    done = "released" if operation.undo else "adopted"
    run_online(operations, f"{operation.table}({', '.join(operation.columns)}) {done}", work)


def _write_adoption(operations: Operations, operation: AdoptReference) -> None:
    table = offline_table(operation.table, operation.schema)
    referenced = offline_table(
        operation.referenced_table, operation.referenced_schema or operation.schema
    )
    if operation.referenced_columns is None or operation.dangling not in ("refuse", "keep"):
        raise ConfigError(
            f"With --sql the key of {table} cannot be written.",
            why="A script can neither look for the primary key nor repair dangling rows.",
            next='Give referenced_columns=[…] and dangling="refuse" or "keep".',
        )
    reference = operation.resolve(table, referenced, ())
    if operation.undo:
        write(operations, compose_release(table, reference.name, str(referenced)))
        return
    wanted = KeyText(definition=str(reference.definition), comment=CREATED)
    timeout = read_patience(operations).longest
    with operations.get_context().autocommit_block():
        write(operations, compose_adoption(table, reference.name, wanted, timeout))
    label = f"{table}.{reference.name}"
    require_at_end(operations, label, require_key(table, reference.name, wanted))
