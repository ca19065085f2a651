"""Which of PostgreSQL's own triggers fires when a row goes or changes, and in which order. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from fkdoctor.schema import (
    ForeignKey,
    KeyTrigger,
    ReferentialAction,
    Schema,
    TableName,
    TriggerState,
)


class Event(Enum):
    """What happened to the row."""

    DELETE = "del"
    UPDATE = "upd"


@dataclass(frozen=True, kw_only=True)
class Firing:
    """A trigger of a foreign key on one table or partition.

    `action` is what it does with the rows that reference the row, None where it looks whether the
    row's own reference leads somewhere. A deferred one waits for COMMIT.
    """

    key: ForeignKey
    table: TableName
    trigger: str
    event: Event
    action: ReferentialAction | None

    @property
    def deferred(self) -> bool:
        """Whether it waits for COMMIT: only what merely looks can (measured on 12 to 18)."""
        looks = self.action in (None, ReferentialAction.NO_ACTION)
        return looks and self.key.initially_deferred


_FUNCTION = re.compile(r"RI_FKey_([a-z]+)_(ins|upd|del)\Z")
_ACTIONS = {action.name.replace("_", "").lower(): action for action in ReferentialAction}
_STATES = {
    "origin": (TriggerState.ORIGIN, TriggerState.ALWAYS),
    "local": (TriggerState.ORIGIN, TriggerState.ALWAYS),
    "replica": (TriggerState.REPLICA, TriggerState.ALWAYS),
}


class FiringOrder:
    """What fires on each table that holds rows, by the bytes of the triggers' names.

    That is PostgreSQL's order (documentation, "Overview of Trigger Behavior"); a partition has
    triggers of its own, whose order need not be that of the table above it.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def on(self, table: TableName, event: Event) -> tuple[Firing, ...]:
        """The firings in order."""
        return self._firings.get((table, event), ())

    @cached_property
    def _firings(self) -> dict[tuple[TableName, Event], tuple[Firing, ...]]:
        found: dict[tuple[TableName, Event], list[Firing]] = {}
        for key in self._schema.foreign_keys:
            for trigger in _triggers(key):
                firing = self._read_trigger(key, trigger)
                if firing is not None:
                    found.setdefault((firing.table, firing.event), []).append(firing)
        return {
            place: tuple(sorted(firings, key=lambda firing: firing.trigger.encode()))
            for place, firings in found.items()
        }

    def _read_trigger(self, key: ForeignKey, trigger: KeyTrigger) -> Firing | None:
        match = _FUNCTION.match(trigger.function)
        if match is None or match[2] == "ins":
            return None
        if trigger.state not in _STATES[self._schema.replication_role]:
            return None
        return Firing(
            key=key,
            table=trigger.table,
            trigger=trigger.name,
            event=Event(match[2]),
            action=None if match[1] == "check" else _ACTIONS[match[1]],
        )


def _triggers(key: ForeignKey) -> Iterator[KeyTrigger]:
    yield from key.triggers
    for clone in key.clones:
        yield from clone.triggers
