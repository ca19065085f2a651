"""Which foreign key acts first when a referenced row goes or changes.

Triggers of one event fire in the order of their names, byte by byte; those of foreign keys are
called RI_ConstraintTrigger_a_<oid>, so the key that was created first is usually first
(documentation, "Overview of Trigger Behavior"; measured on 12 to 18).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName, TriggerState


@dataclass(frozen=True, kw_only=True)
class Event:
    """DELETE or UPDATE of a referenced row, and which of the key's triggers fires on it."""

    name: str
    functions: str
    action: Callable[[ForeignKey], ReferentialAction]

    def deed(self, key: ForeignKey) -> tuple[object, ...]:
        """What the key does on the event, to compare."""
        columns = key.set_columns if self.name == "DELETE" else ()
        return self.action(key), self.waits(key), columns

    def waits(self, key: ForeignKey) -> bool:
        """Whether the key is looked at only at COMMIT. Nothing but NO ACTION can wait."""
        return key.initially_deferred and self.action(key) is ReferentialAction.NO_ACTION


DELETE = Event(name="DELETE", functions="_del", action=lambda key: key.on_delete)
UPDATE = Event(name="UPDATE", functions="_upd", action=lambda key: key.on_update)
EVENTS = (DELETE, UPDATE)


def trigger_on(key: ForeignKey, table: TableName, event: Event) -> str | None:
    """The name of the trigger that acts for the key when a row of the table goes."""
    for triggers in (key.triggers, *(clone.triggers for clone in key.clones)):
        for trigger in triggers:
            fires = trigger.state in (TriggerState.ORIGIN, TriggerState.ALWAYS)
            acts = trigger.function.endswith(event.functions) and "check" not in trigger.function
            if trigger.table == table and fires and acts:
                return trigger.name
    return None


def first_by_leaf(
    schema: Schema, keys: Sequence[ForeignKey], event: Event
) -> dict[ForeignKey, list[TableName]]:
    """The keys that come first, each with the tables where it does: partitions may differ.

    All keys reference the same table.
    """
    winners: dict[int, list[TableName]] = defaultdict(list)
    for leaf in schema.leaves(keys[0].referenced):
        firing = [
            (event.waits(key), trigger.encode(), number)
            for number, key in enumerate(keys)
            if (trigger := trigger_on(key, leaf.name, event)) is not None
        ]
        if firing:
            winners[min(firing)[2]].append(leaf.name)
    return {keys[number]: leaves for number, leaves in winners.items()}


def first_when_restored(keys: Sequence[ForeignKey], event: Event) -> ForeignKey:
    """The key that comes first in a database restored from a dump.

    pg_dump creates keys in the order of schema and name.
    """
    return min(keys, key=lambda key: (event.waits(key), key.referencing.schema, key.name))
