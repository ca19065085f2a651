"""Where the change of a key stands, and which step leads on from there. Pure.

A key of a plain table has one shadow, on the table itself; a key of a partitioned table has one on
each leaf. Nothing is remembered between steps: the catalog and the comments in it say everything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from fkdoctor.errors import Blocked
from fkdoctor.identifier import MAX_BYTES, quote, shorten
from fkdoctor.revise.definition import KeyDefinition, parse_definition
from fkdoctor.revise.mark import KeyText, read_shadow, settle
from fkdoctor.schema import ForeignKey, TableName


class Strategy(Enum):
    """How a key gets another definition."""

    SHADOW = "shadow"
    """A validated twin takes the key's place: the rule changes when all rows are checked."""
    FLIP = "flip"
    """The key is dropped and added NOT VALID in one statement: the rule changes at once."""


class Step(Enum):
    """What to do next; the value says so in the log."""

    ADD = "add a shadow with the new rule, without reading a row"
    VALIDATE = "validate the shadow, beside the writers"
    SWAP = "put the shadow in the key's place"
    ADOPT = "give the shadow the key's name and place"
    REPLACE = "put a key in its place, without reading a row"
    RETIME = "change when it is checked, in place"
    CHECK = "validate the key, beside the writers"
    DISCARD = "drop the shadow"
    DONE = "as it should be"


class KeyRow(NamedTuple):
    """A row of sql/revise/keys.sql. `oid` is None for a table without a key of these names."""

    schema: str
    table: str
    oid: int | None
    name: str
    parent: int
    referenced_schema: str
    referenced_table: str
    validated: bool
    comment: str | None
    definition: str | None

    @property
    def referencing(self) -> TableName:
        """The table or partition that has the key."""
        return TableName(self.schema, self.table)

    @property
    def place(self) -> tuple[TableName, TableName]:
        """Between which tables it is: different for each copy of one key."""
        return self.referencing, TableName(self.referenced_schema, self.referenced_table)


def query_keys(table: TableName, name: str) -> dict[str, object]:
    """The parameters with which sql/revise/keys.sql tells of a key and its shadows."""
    return {
        "schema": table.schema,
        "table": table.name,
        "name": name,
        "shadow": name_shadow(name),
    }


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """The place of a shadow: a table that holds rows, and the key there that has the name."""

    table: TableName
    key: ForeignKey | None


@dataclass(frozen=True, kw_only=True)
class KeyState:
    """A key and its shadows, as far as they are there, and what the key is to become.

    `final` is None where there is nothing to change; `adopted` says that there was no key before.
    `seen` is what the catalog said, row by row:
    a step compares it, under its lock, with what the catalog says then.
    """

    table: TableName
    name: str
    referenced: TableName
    partitioned: bool
    original: ForeignKey | None
    shadows: tuple[Shadow, ...]
    final: KeyText | None
    strategy: Strategy = Strategy.SHADOW
    adopted: bool = False
    seen: tuple[KeyRow, ...] = ()

    @property
    def label(self) -> str:
        """Table and constraint, as in every message."""
        return f"{self.table}.{quote(self.name)}"

    @property
    def shadow_name(self) -> str:
        """What each shadow is called."""
        return name_shadow(self.name)

    def purpose(self, shadow: Shadow) -> KeyText | None:
        """What the shadow is to become, by its own comment."""
        return read_shadow(self.name, shadow.key.comment) if shadow.key is not None else None

    @property
    def missing(self) -> tuple[Shadow, ...]:
        """The places where a shadow is still to be added."""
        return tuple(shadow for shadow in self.shadows if shadow.key is None)

    @property
    def present(self) -> tuple[Shadow, ...]:
        """The places that have a shadow."""
        return tuple(shadow for shadow in self.shadows if shadow.key is not None)

    @property
    def unready(self) -> tuple[Shadow, ...]:
        """The shadows of which the rows are still to be checked."""
        return tuple(shadow for shadow in self.present if not _is_ready(shadow, self.final))

    @property
    def stray(self) -> tuple[Shadow, ...]:
        """The shadows that were made for something else."""
        return tuple(
            shadow
            for shadow in self.present
            if self.final is None or not _agree(self.purpose(shadow), self.final)
        )


def _is_ready(shadow: Shadow, final: KeyText | None) -> bool:
    return (
        shadow.key is not None and final is not None and shadow.key.definition == final.definition
    )


def _agree(purpose: KeyText | None, final: KeyText) -> bool:
    return purpose is not None and purpose.definition == final.definition


def effective(key: ForeignKey) -> KeyText:
    """The key as it is meant: one that was flipped and not yet validated counts as validated."""
    pending, comment = settle(key.comment)
    if not pending:
        return KeyText(definition=key.definition, comment=key.comment)
    definition = str(parse_definition(key.definition).checked())
    return KeyText(definition=definition, comment=comment)


def is_pending(key: ForeignKey) -> bool:
    """Whether the key was flipped and its rows are still to be checked."""
    return settle(key.comment)[0]


def name_shadow(name: str) -> str:
    """The name of a key's shadow: always the same, at most 63 bytes, different for each name."""
    suffix = "_fkdoctor"
    if len((name + suffix).encode()) > MAX_BYTES:
        suffix = f"_{hashlib.sha256(name.encode()).hexdigest()[:8]}{suffix}"
    return shorten(name, suffix)


def next_step(state: KeyState) -> Step:
    """The step that leads from what is there towards what the key is to become.

    Raises Blocked when something else has the shadow's name.
    """
    _refuse_strangers(state)
    if state.final is None:
        return Step.DISCARD if state.present else Step.DONE
    goal = parse_definition(state.final.definition)
    now = parse_definition(state.original.definition) if state.original is not None else None
    in_place = step_in_place(now, goal, state.strategy)
    if in_place is None:
        if state.stray:
            return Step.DISCARD
        if state.missing:
            return Step.ADD
        if state.unready:
            return Step.VALIDATE
        return Step.SWAP if state.original is not None else Step.ADOPT
    return Step.DISCARD if state.present else in_place


def _refuse_strangers(state: KeyState) -> None:
    for shadow in state.present:
        if state.purpose(shadow) is None:
            raise Blocked(
                f"{shadow.table} has a foreign key named {quote(state.shadow_name)}.",
                why=f"fkdoctor needs that name while it changes {quote(state.name)}, and did not "
                "make that key: its comment does not say so.",
                next=f"Rename it: alter table {shadow.table} rename constraint "
                f"{quote(state.shadow_name)} to …;",
            )


def step_in_place(
    now: KeyDefinition | None, goal: KeyDefinition, strategy: Strategy
) -> Step | None:
    """The step that leads from the one definition to the other without a shadow, if one does."""
    if now is None:
        return None if goal.validated else Step.REPLACE
    if goal.validated and replace(now, validated=True) == goal:
        return Step.CHECK
    if replace(now, deferrable=goal.deferrable, deferred=goal.deferred) == goal:
        return Step.RETIME
    if not goal.validated or strategy is Strategy.FLIP:
        return Step.REPLACE
    return None
