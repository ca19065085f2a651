"""Alembic operations on foreign keys, `op.change_on_delete` and the like; importing registers them.

Each looks at the database, does what is missing, and can be run again after any accident. With
`--sql` each writes a script instead. Table and constraint names are given as they are, without
quotes, the schema beside them, as everywhere in Alembic.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from alembic.operations import Operations

from fkdoctor.errors import ConfigError
from fkdoctor.revise.change import KeyChange, read_change
from fkdoctor.revise.definition import parse_definition
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
from fkdoctor.revise.keys import change_key, restore_key
from fkdoctor.revise.mark import KeyText, remember
from fkdoctor.revise.offline import compose_change, require_key
from fkdoctor.revise.reversible import Names, Reversible, reversible
from fkdoctor.revise.state import Strategy


@reversible(
    "change_on_delete",
    "restore_on_delete",
    """Restore the key to what its comment remembers: definition, name and comment.

    The arguments are those of `change_on_delete`. A key that was not changed here, or no
    longer has this rule, is left as it is.
    """,
)
@dataclass
class ChangeOnDelete(Reversible):
    """Give the foreign key this rule and keep all else of it, without stopping writers.

    `set_columns` are the columns that SET NULL or SET DEFAULT writes (15 and newer), [] all.
    The key is in force at every moment; what it was is remembered in its comment. A key that
    has the rule is left as it is. `definition` and `comment` are what the key is before, the
    one as pg_get_constraintdef prints it with an empty search_path; only --sql needs them.

    Locks: SHARE ROW EXCLUSIVE, later ACCESS EXCLUSIVE on both tables, each for milliseconds;
    SHARE UPDATE EXCLUSIVE while the rows are checked. No wait for one is longer than the lock
    timeout (2 s). With strategy="flip" there is one ACCESS EXCLUSIVE lock instead of the two,
    and the new rule is in force before the rows are checked.
    """

    table: str
    constraint: str
    on_delete: str | None = None
    _: KW_ONLY
    schema: str | None = None
    set_columns: Names | None = None
    on_update: str | None = None
    match: str | None = None
    deferrable: bool | None = None
    initially: str | None = None
    strategy: str = "shadow"
    definition: str | None = None
    comment: str | None = None

    @property
    def change(self) -> KeyChange:
        """What is to be different, as a value."""
        return read_change(
            self.on_delete,
            set_columns=self.set_columns,
            on_update=self.on_update,
            match=self.match,
            deferrable=self.deferrable,
            initially=self.initially,
        )


@reversible(
    "validate_foreign_key",
    "unvalidate_foreign_key",
    """Make the key NOT VALID again if it was validated here.

    Locks: ACCESS EXCLUSIVE on both tables, for milliseconds; no row is read.
    """,
)
@dataclass
class ValidateForeignKey(Reversible):
    """Check the rows of a NOT VALID foreign key, beside the writers; name those that dangle.

    A valid key is left as it is. `definition` and `comment` as in `change_on_delete`.

    Locks: SHARE UPDATE EXCLUSIVE on the table, ROW SHARE on the referenced one, while the rows
    are read: no reader and no writer waits. Of a partitioned table leaf by leaf.
    """

    table: str
    constraint: str
    _: KW_ONLY
    schema: str | None = None
    definition: str | None = None
    comment: str | None = None

    @property
    def change(self) -> KeyChange:
        """What is to be different, as a value."""
        return KeyChange(validated=True)


@Operations.implementation_for(ChangeOnDelete)
def _change_on_delete(operations: Operations, operation: ChangeOnDelete) -> None:
    _change(operations, operation, operation.change, _read_strategy(operation.strategy))


@Operations.implementation_for(ValidateForeignKey)
def _validate_foreign_key(operations: Operations, operation: ValidateForeignKey) -> None:
    _change(operations, operation, operation.change, Strategy.SHADOW)


def _change(
    operations: Operations,
    operation: ChangeOnDelete | ValidateForeignKey,
    change: KeyChange,
    strategy: Strategy,
) -> None:
    if is_offline(operations):
        _write_change(operations, operation, change, strategy)
        return

    def work(executor: Executor) -> bool:
        table = find_table(executor, operation.table, operation.schema)
        act = restore_key if operation.undo else change_key
        return act(executor, table, operation.constraint, change, strategy)

    done = "restored" if operation.undo else "changed"
    run_online(operations, f"{operation.constraint} {done}", work)


def _read_strategy(name: str) -> Strategy:
    known = [strategy.value for strategy in Strategy]
    if name not in known:
        raise unknown_word(name, "strategy", known)
    return Strategy(name)


def _write_change(
    operations: Operations,
    operation: ChangeOnDelete | ValidateForeignKey,
    change: KeyChange,
    strategy: Strategy,
) -> None:
    if operation.definition is None:
        raise ConfigError(
            f"With --sql the definition of {operation.constraint} must be known.",
            why="A script cannot read it from the database.",
            next='Add definition="FOREIGN KEY …" in the revision, as pg_get_constraintdef prints '
            "it with an empty search_path.",
        )
    table = offline_table(operation.table, operation.schema)
    original = KeyText(definition=operation.definition, comment=operation.comment)
    changed = KeyText(
        definition=str(change.apply(parse_definition(original.definition))),
        comment=remember(original),
    )
    before, after = (changed, original) if operation.undo else (original, changed)
    name, timeout = operation.constraint, read_patience(operations).longest
    with operations.get_context().autocommit_block():
        write(operations, compose_change(table, name, before, after, timeout, strategy))
    require_at_end(operations, f"{table}.{name}", require_key(table, name, after))
