"""What stands against a change of a key, asked before anything is done."""

from __future__ import annotations

from fkdoctor.errors import Refused
from fkdoctor.identifier import quote, quote_all
from fkdoctor.revise.change import KeyChange
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.rights import require_alterable, require_referenceable
from fkdoctor.revise.state import KeyState, Strategy
from fkdoctor.schema import (
    ForeignKey,
    MatchType,
    ReferentialAction,
    Schema,
    TableKind,
    TableName,
    TriggerState,
)

_UNTIDY_ATTACHING = 12
"""The last major version of which no release attaches a leaf's key tidily when both tables are
partitioned."""
_NOT_VALID_ON_PARTITIONED = 18
_SET_COLUMNS = 15


def require_supported(
    executor: Executor, schema: Schema, state: KeyState, change: KeyChange | None
) -> None:
    """Raises Refused for what the change cannot do, or would do to no good."""
    require_alterable(executor, schema, state.table, partitioned=True)
    require_referenceable(executor, state.referenced)
    _refuse_versions(schema, state)
    key = state.original or next((shadow.key for shadow in state.present), None)
    if key is not None:
        _refuse_temporal(state, key)
        _refuse_switched_off(state, key)
        if change is not None:
            refuse_impossible(
                schema,
                state.table,
                state.label,
                key.referencing_columns,
                change,
                full=key.match is MatchType.FULL,
            )


def _refuse_versions(schema: Schema, state: KeyState) -> None:
    if not state.partitioned:
        return
    referenced_is_too = schema.table(state.referenced).kind is TableKind.PARTITIONED
    if referenced_is_too and schema.major <= _UNTIDY_ATTACHING:
        raise Refused(
            f"{state.table} and {state.referenced} are both partitioned.",
            why=f"PostgreSQL {schema.major} keeps superfluous copies when keys of partitions "
            "become one key.",
            next="Upgrade to PostgreSQL 13 or newer, or make the change while nobody writes.",
        )
    if state.strategy is Strategy.FLIP and schema.major < _NOT_VALID_ON_PARTITIONED:
        raise Refused(
            f'{state.label} cannot be changed with strategy="flip".',
            why=f"PostgreSQL {schema.major} knows no NOT VALID key on a partitioned table.",
            next='Leave strategy out: the default, "shadow", goes partition by partition.',
        )


def _refuse_temporal(state: KeyState, key: ForeignKey) -> None:
    if key.period:
        raise Refused(
            f"{state.label} is a temporal key (PERIOD).",
            why="PostgreSQL knows no other rule than NO ACTION for it.",
            next="Leave it out.",
        )


def _refuse_switched_off(state: KeyState, key: ForeignKey) -> None:
    triggers = (*key.triggers, *(one for clone in key.clones for one in clone.triggers))
    disabled = [one.name for one in triggers if one.state is not TriggerState.ORIGIN]
    if disabled:
        raise Refused(
            f"{state.label} is not in force: somebody switched its triggers.",
            why=f"The new key's triggers would be on, these are not: {', '.join(disabled)}.",
            next="Put that right first: alter table … enable trigger all;",
        )


def refuse_impossible(
    schema: Schema,
    table: TableName,
    label: str,
    columns: tuple[str, ...],
    change: KeyChange,
    *,
    full: bool,
) -> None:
    """Raises Refused for a rule by which each DELETE or UPDATE would fail.

    `columns` are the key's referencing columns, `full` whether it is MATCH FULL.
    """
    if change.set_columns:
        _refuse_set_columns(schema, label, columns, change.set_columns, full=full)
    for action, clause, written in (
        (change.on_delete, "DELETE", change.set_columns or columns),
        (change.on_update, "UPDATE of the key", columns),
    ):
        fixed = [name for name in written if schema.table(table).column(name).not_null]
        if action is ReferentialAction.SET_NULL and fixed:
            raise Refused(
                f"{label} cannot be SET NULL.",
                why=f"NOT NULL: {quote_all(tuple(fixed))}. Each {clause} would fail.",
                next="Take NOT NULL off first, or choose another rule.",
            )


def _refuse_set_columns(
    schema: Schema, label: str, columns: tuple[str, ...], written: tuple[str, ...], *, full: bool
) -> None:
    if schema.major < _SET_COLUMNS:
        raise Refused(
            f"{label} cannot write only some of its columns.",
            why=f"PostgreSQL {schema.major} knows no column list for SET NULL and SET DEFAULT.",
            next="Leave set_columns out, or upgrade to PostgreSQL 15 or newer.",
        )
    strange = [name for name in written if name not in columns]
    if strange:
        raise Refused(
            f"{label} does not consist of {quote_all(tuple(strange))}.",
            why=f"Its columns are {quote_all(columns)}.",
            next="Name some of those in set_columns.",
        )
    if full and set(written) != set(columns):
        raise Refused(
            f"{label} is MATCH FULL: all of its columns are NULL, or none.",
            why=f"Writing only {quote_all(written)} would make each DELETE fail.",
            next="Leave set_columns out.",
        )


def refuse_copy(schema: Schema, table: TableName, name: str) -> None:
    """Raises Refused if the key of that name is the copy of one that was written further up."""
    for key in schema.foreign_keys:
        for clone in key.clones:
            if clone.referencing == table and clone.name == name:
                raise Refused(
                    f"{table}.{quote(name)} is the copy of a key for one partition.",
                    why=f"The key was written as {key.label}.",
                    next="Name that one.",
                )
