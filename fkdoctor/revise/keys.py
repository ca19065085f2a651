"""Changes and restores the rule of a foreign key, and validates it: step by step until it is done.

What was is remembered in the key's comment, so that it can be restored to the letter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fkdoctor.errors import Incomplete, Refused
from fkdoctor.identifier import quote
from fkdoctor.inspect.graph import partition_family
from fkdoctor.revise.change import KeyChange
from fkdoctor.revise.dangling import describe_dangling
from fkdoctor.revise.definition import parse_definition
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.mark import KeyText, recall, remember
from fkdoctor.revise.obstacles import refuse_copy, require_supported
from fkdoctor.revise.siblings import describe_order
from fkdoctor.revise.state import (
    KeyRow,
    KeyState,
    Shadow,
    Step,
    Strategy,
    effective,
    is_pending,
    name_shadow,
    next_step,
    query_keys,
)
from fkdoctor.revise.swap import ChangedMeanwhile, take_step
from fkdoctor.schema import ForeignKey, Schema, TableKind, TableName

_MOST_STEPS = 12

Intention = Callable[[ForeignKey], KeyText | None]
"""From a key as it is, what it is to become; None when nothing is to change."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to become of a key. `change` is what was asked for, None for a restoration.

    `adopt` is the key to add where there is none, to the table `referenced`; `prepare` is called
    before the shadows are validated.
    """

    table: TableName
    name: str
    intend: Intention
    change: KeyChange | None = None
    strategy: Strategy = Strategy.SHADOW
    adopt: KeyText | None = None
    referenced: TableName | None = None
    prepare: Callable[[Schema, KeyState], None] = lambda schema, state: None


def change_key(
    executor: Executor,
    table: TableName,
    name: str,
    change: KeyChange,
    strategy: Strategy = Strategy.SHADOW,
) -> bool:
    """Whether the key was another one before; now it has the change in it.

    Raises Refused when rows reference nothing: the old key stays in force.
    """

    def intend(key: ForeignKey) -> KeyText | None:
        now = effective(key)
        before = parse_definition(now.definition)
        if change.holds(before):
            return now if is_pending(key) else None
        return KeyText(definition=str(change.apply(before)), comment=remember(now))

    return fulfil(
        executor,
        Task(table=table, name=name, intend=intend, change=change, strategy=strategy),
    )


def restore_key(
    executor: Executor,
    table: TableName,
    name: str,
    change: KeyChange,
    strategy: Strategy = Strategy.SHADOW,
) -> bool:
    """Whether the key had been given that change here; now it is what its comment remembers."""

    def intend(key: ForeignKey) -> KeyText | None:
        now = effective(key)
        was = recall(now.comment)
        # Without the change it is restored already: below may be the memory of an earlier one.
        if (
            was is not None
            and change.holds(parse_definition(now.definition))
            and not change.holds(parse_definition(was.definition))
        ):
            return was
        return now if is_pending(key) else None

    return fulfil(executor, Task(table=table, name=name, intend=intend, strategy=strategy))


def fulfil(executor: Executor, task: Task) -> bool:
    """Whether anything had to be done; takes step after step until nothing is left to do."""
    before = None
    for _ in range(_MOST_STEPS):
        schema, state = _read_state(executor, task)
        before = before or schema
        step = next_step(state)
        if step is not Step.DONE:
            require_supported(executor, schema, state, task.change)
            if before is schema:
                executor.require_quiet(*_locked(schema, state))
            _refuse_flip_in_vain(executor, schema, state, step)
        executor.tell(state.label, step.value)
        if step is Step.DONE:
            for line in describe_order(before, schema, task.table, task.name):
                executor.warn(state.label, line)
            return executor.steps > 0
        try:
            if step is Step.VALIDATE:
                task.prepare(schema, state)
            take_step(executor, schema, state, step)
        except ChangedMeanwhile:
            executor.tell(state.label, "somebody changed it meanwhile: looking again")
    raise Incomplete(
        f"{task.table}.{quote(task.name)} does not come to rest.",
        why="Somebody else changes it again and again.",
        next="Find out who, then run the same command again.",
    )


def _read_state(executor: Executor, task: Task) -> tuple[Schema, KeyState]:
    table, name = task.table, task.name
    seen = tuple(KeyRow._make(row) for row in executor.look("keys", query_keys(table, name)))
    schema = executor.read_schema()
    partitioned = schema.table(table).kind is TableKind.PARTITIONED
    shadows = tuple(
        Shadow(table=leaf.name, key=_find_key(schema, leaf.name, name_shadow(name)))
        for leaf in schema.leaves(table)
    )
    original = _find_key(schema, table, name)
    present = original or next((shadow.key for shadow in shadows if shadow.key), None)
    if present is None and task.adopt is None:
        refuse_copy(schema, table, name)
        present = schema.foreign_key(table, name)
    referenced = task.referenced or (present.referenced if present is not None else None)
    assert referenced is not None
    state = KeyState(
        table=table,
        name=name,
        referenced=referenced,
        partitioned=partitioned,
        original=original,
        shadows=shadows,
        final=task.intend(original) if original is not None else None,
        strategy=task.strategy,
        adopted=task.adopt is not None,
        seen=seen,
    )
    if original is None and task.adopt is not None:
        state = replace(state, final=task.adopt)
    elif original is None:
        # Somebody dropped it: what its shadows were to become, it becomes.
        purposes = [state.purpose(shadow) for shadow in state.present]
        state = replace(state, final=next((one for one in purposes if one), None))
    return schema, state


def _refuse_flip_in_vain(executor: Executor, schema: Schema, state: KeyState, step: Step) -> None:
    """Raises Refused when a flip would leave a key that cannot be validated."""
    if step is not Step.REPLACE or state.strategy is not Strategy.FLIP or state.original is None:
        return
    if state.final is None or not parse_definition(state.final.definition).validated:
        return
    changed = replace(state.original, definition=state.final.definition)
    found = describe_dangling(executor, schema, changed)
    if found:
        raise Refused(
            f"{state.label}: rows reference what is not in {state.referenced}.",
            why=f"{found} The key is as it was.",
            next="Delete or repair those rows, then run the same command again.",
        )


def _locked(schema: Schema, state: KeyState) -> tuple[TableName, ...]:
    """Every table that a step may lock."""
    return tuple(
        member
        for table in dict.fromkeys((state.referenced, state.table))
        for member in partition_family(schema, table)
    )


def _find_key(schema: Schema, table: TableName, name: str) -> ForeignKey | None:
    return next((key for key in schema.keys_from(table) if key.name == name), None)
