"""Changes a foreign key's rule by putting a shadow in its place.

PostgreSQL cannot alter ON DELETE. Dropping the key and adding it again reads the whole table under
locks that stop every writer, or leaves a time without the key. Instead a twin with the new rule,
the shadow, is added without reading a row, validated beside the writers, and takes the old key's
place and name in one short transaction. At every moment one of the two is in force.

Nothing is assumed of what an earlier, broken run has done: before each step the catalog is read
anew, and in the step's transaction, under its lock, compared with what was read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sqlalchemy.exc import DBAPIError

from fkdoctor.database import sqlstate
from fkdoctor.errors import Blocked, Incomplete, Refused
from fkdoctor.identifier import MAX_BYTES, quote, quote_all, shorten
from fkdoctor.revise.dangling import describe_dangling
from fkdoctor.revise.ddl import add_key, comment_on_key, drop_key, rename_key, validate_key
from fkdoctor.revise.definition import parse_definition
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.mark import KeyText, describe_shadow, read_shadow, recall, remember
from fkdoctor.revise.rights import require_alterable, require_referenceable
from fkdoctor.schema import (
    ForeignKey,
    ReferentialAction,
    Schema,
    TableKind,
    TableName,
    TriggerState,
)

_FOREIGN_KEY_VIOLATION = "23503"
_MOST_STEPS = 12


class Step(Enum):
    """What to do next; the value says so in the log."""

    ADD = "add a shadow with the new rule, without reading a row"
    VALIDATE = "validate the shadow, beside the writers"
    SWAP = "put the shadow in the key's place"
    ADOPT = "give the shadow the name of the key, which somebody dropped"
    DISCARD = "drop the shadow"
    DONE = "as it should be"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A key and its shadow, as far as they are there, and what the key is to become.

    `final` is None where there is nothing to change.
    """

    table: TableName
    name: str
    original: ForeignKey | None
    shadow: ForeignKey | None
    final: KeyText | None

    @property
    def label(self) -> str:
        """Table and constraint, as in every message."""
        return f"{self.table}.{quote(self.name)}"

    @property
    def shadow_name(self) -> str:
        """What the shadow is called."""
        return name_shadow(self.name)

    @property
    def present(self) -> ForeignKey:
        """The key, or the shadow where the key is gone."""
        key = self.original or self.shadow
        assert key is not None
        return key

    @property
    def shadow_purpose(self) -> KeyText | None:
        """What the shadow is to become, by its own comment."""
        return read_shadow(self.name, self.shadow.comment) if self.shadow is not None else None


Intention = Callable[[ForeignKey], KeyText | None]
"""From a key as it is, what it is to become; None when nothing is to change."""


def change_rule(executor: Executor, table: TableName, name: str, action: ReferentialAction) -> bool:
    """Whether the key had another ON DELETE before; now it has this one.

    Raises Refused when rows reference nothing: the old key stays in force.
    """
    return _change_key(executor, table, name, lambda key: _with_rule(key, action), action)


def restore_rule(
    executor: Executor, table: TableName, name: str, action: ReferentialAction
) -> bool:
    """Whether the key had been given this ON DELETE here; now it is what its comment remembers."""
    return _change_key(executor, table, name, lambda key: _as_before(key, action), None)


def _with_rule(key: ForeignKey, action: ReferentialAction) -> KeyText | None:
    if key.on_delete is action:
        return None
    definition = parse_definition(key.definition).with_rule(action)
    was = KeyText(definition=key.definition, comment=key.comment)
    return KeyText(definition=str(definition), comment=remember(was))


def _as_before(key: ForeignKey, action: ReferentialAction) -> KeyText | None:
    # With another rule it is restored already: below may be the memory of an earlier change.
    return recall(key.comment) if key.on_delete is action else None


def name_shadow(name: str) -> str:
    """The name of a key's shadow: always the same, at most 63 bytes, different for each name."""
    suffix = "_fkdoctor"
    if len((name + suffix).encode()) > MAX_BYTES:
        suffix = f"_{hashlib.sha256(name.encode()).hexdigest()[:8]}{suffix}"
    return shorten(name, suffix)


def next_step(pair: Pair) -> Step:
    """The step that leads from what is there towards what the key is to become.

    Raises Blocked when something else has the shadow's name.
    """
    purpose = pair.shadow_purpose
    if pair.shadow is not None and purpose is None:
        raise Blocked(
            f"{pair.table} has a foreign key named {quote(pair.shadow.name)}.",
            why=f"fkdoctor needs that name while it changes {quote(pair.name)}, and did not make "
            "that key: its comment does not say so.",
            next=f"Rename it: alter table {pair.table} rename constraint "
            f"{quote(pair.shadow.name)} to …;",
        )
    if pair.original is None:
        return Step.ADOPT if _is_ready(pair.shadow, purpose) else Step.VALIDATE
    if pair.final is None:
        return Step.DONE if pair.shadow is None else Step.DISCARD
    if pair.shadow is None or purpose is None:
        return Step.ADD
    if purpose.definition != pair.final.definition:
        return Step.DISCARD
    return Step.SWAP if _is_ready(pair.shadow, purpose) else Step.VALIDATE


def _is_ready(shadow: ForeignKey | None, purpose: KeyText | None) -> bool:
    return shadow is not None and purpose is not None and shadow.definition == purpose.definition


def _change_key(
    executor: Executor,
    table: TableName,
    name: str,
    intend: Intention,
    action: ReferentialAction | None,
) -> bool:
    for _ in range(_MOST_STEPS):
        schema = executor.read_schema()
        pair = _read_pair(schema, table, name, intend)
        step = next_step(pair)
        if step is not Step.DONE:
            _require_supported(executor, schema, pair, action)
        executor.tell(pair.label, step.value)
        if step is Step.DONE:
            return executor.steps > 0
        try:
            _WORK[step](executor, schema, pair)
        except _ChangedMeanwhile:
            executor.tell(pair.label, "somebody changed it meanwhile: looking again")
    raise Incomplete(
        f"{table}.{quote(name)} does not come to rest.",
        why="Somebody else changes it again and again.",
        next="Find out who, then run the same command again.",
    )


def _read_pair(schema: Schema, table: TableName, name: str, intend: Intention) -> Pair:
    keys = {key.name: key for key in schema.keys_from(schema.table(table).name)}
    shadow = keys.get(name_shadow(name))
    original = keys.get(name)
    if original is None and shadow is None:
        _refuse_inherited(schema, table, name)
        original = schema.foreign_key(table, name)
    final = intend(original) if original is not None else None
    return Pair(table=table, name=name, original=original, shadow=shadow, final=final)


def _refuse_inherited(schema: Schema, table: TableName, name: str) -> None:
    for key in schema.foreign_keys:
        for clone in key.clones:
            if clone.referencing == table and clone.name == name:
                raise Refused(
                    f"{table}.{quote(name)} is the copy of a key for one partition.",
                    why=f"The key was written as {key.label}.",
                    next="Name that one.",
                )


def _require_supported(
    executor: Executor, schema: Schema, pair: Pair, action: ReferentialAction | None
) -> None:
    key = pair.present
    require_alterable(executor, schema, pair.table)
    require_referenceable(executor, key.referenced)
    if schema.table(key.referenced).kind is not TableKind.TABLE:
        raise Refused(
            f"{pair.label} references the partitioned table {key.referenced}.",
            why="This edition of fkdoctor changes keys between plain tables only.",
            next="Make the change by hand.",
        )
    if key.period:
        raise Refused(
            f"{pair.label} is a temporal key (PERIOD).",
            why="PostgreSQL knows no other rule than NO ACTION for it.",
            next="Leave it out.",
        )
    disabled = [t.name for t in key.triggers if t.state is not TriggerState.ORIGIN]
    if disabled:
        raise Refused(
            f"{pair.label} is not in force: somebody switched its triggers.",
            why=f"The new key's triggers would be on, these are not: {', '.join(disabled)}.",
            next="Put that right first: alter table … enable trigger all;",
        )
    if action is ReferentialAction.SET_NULL:
        referencing = schema.table(pair.table)
        fixed = [name for name in key.referencing_columns if referencing.column(name).not_null]
        if fixed:
            raise Refused(
                f"{pair.label} cannot be SET NULL.",
                why=f"NOT NULL: {quote_all(tuple(fixed))}. Each DELETE would fail.",
                next="Take NOT NULL off first, or choose another rule.",
            )


class _ChangedMeanwhile(Exception):
    """Under the lock the keys are not what was read before it."""


def _check_unchanged(executor: Executor, pair: Pair) -> None:
    """Raises _ChangedMeanwhile if the key or its shadow is not what the step was chosen for."""
    read = {
        (key.oid, key.name, key.validated, key.comment, key.definition)
        for key in (pair.original, pair.shadow)
        if key is not None
    }
    if {tuple(row) for row in _read_now(executor, pair)} != read:
        raise _ChangedMeanwhile


def _read_now(executor: Executor, pair: Pair) -> list[tuple[object, ...]]:
    table = {"schema": pair.table.schema, "table": pair.table.name}
    names = {"name": pair.name, "shadow": pair.shadow_name}
    return [tuple(row) for row in executor.fetch("keys", {**table, **names})]


def _add(executor: Executor, schema: Schema, pair: Pair) -> None:
    assert pair.final is not None
    final = pair.final
    definition = str(parse_definition(final.definition).unvalidated())

    def work() -> None:
        # Referenced first: applications delete and update in that order.
        executor.lock("share row exclusive", pair.present.referenced, pair.table)
        _check_unchanged(executor, pair)
        executor.execute(add_key(pair.table, pair.shadow_name, definition))
        comment = describe_shadow(pair.name, final)
        executor.execute(comment_on_key(pair.table, pair.shadow_name, comment))
        written = [row[-1] for row in _read_now(executor, pair) if row[1] == pair.shadow_name]
        if written != [definition]:
            raise Refused(
                f"{pair.label}: PostgreSQL reads the new definition in another way.",
                why=f"Given: {definition}. Read: {written[0] if written else 'nothing'}.",
                next="Make this change by hand, and please report it.",
            )

    executor.run(work)


def _validate(executor: Executor, schema: Schema, pair: Pair) -> None:
    def work() -> None:
        executor.lock("row share", pair.present.referenced)
        executor.lock("share update exclusive", pair.table)
        _check_unchanged(executor, pair)
        executor.execute(validate_key(pair.table, pair.shadow_name))

    try:
        executor.run(work)
    except DBAPIError as error:
        if sqlstate(error) != _FOREIGN_KEY_VIOLATION:
            raise
        raise _discard_and_report(executor, schema, pair, error) from error


def _discard_and_report(
    executor: Executor, schema: Schema, pair: Pair, error: DBAPIError
) -> Refused | Incomplete:
    key = pair.present
    found = describe_dangling(executor, schema, key) or " ".join(str(error.orig).split())
    what = f"{pair.label}: rows reference what is not in {key.referenced}."
    next = "Delete or repair those rows, then run the same command again."
    executor.tell(pair.label, Step.DISCARD.value)
    if pair.original is None:
        return Incomplete(what, why=f"{found} The shadow stays, not validated.", next=next)
    try:
        _discard(executor, schema, pair)
    except Blocked as blocked:
        return Incomplete(
            what,
            why=f"{found} The old key is in force. Beside it stays the shadow "
            f"{quote(pair.shadow_name)}, not validated: {blocked.what} {blocked.why}",
            next=next,
        )
    return Refused(
        what, why=f"{found} The key is as it was, ON DELETE {key.on_delete.sql}.", next=next
    )


def _discard(executor: Executor, schema: Schema, pair: Pair) -> None:
    def work() -> None:
        executor.lock("access exclusive", pair.present.referenced, pair.table)
        _check_unchanged(executor, pair)
        executor.execute(drop_key(pair.table, pair.shadow_name))

    executor.run(work)


def _swap(executor: Executor, schema: Schema, pair: Pair) -> None:
    assert pair.final is not None
    final = pair.final

    def work() -> None:
        executor.lock("access exclusive", pair.present.referenced, pair.table)
        _check_unchanged(executor, pair)
        executor.execute(drop_key(pair.table, pair.name))
        executor.execute(rename_key(pair.table, pair.shadow_name, pair.name))
        executor.execute(comment_on_key(pair.table, pair.name, final.comment))

    executor.run(work)


def _adopt(executor: Executor, schema: Schema, pair: Pair) -> None:
    purpose = pair.shadow_purpose
    assert purpose is not None

    def work() -> None:
        executor.lock("access exclusive", pair.table)
        _check_unchanged(executor, pair)
        executor.execute(rename_key(pair.table, pair.shadow_name, pair.name))
        executor.execute(comment_on_key(pair.table, pair.name, purpose.comment))

    executor.run(work)


_WORK = {
    Step.ADD: _add,
    Step.VALIDATE: _validate,
    Step.SWAP: _swap,
    Step.ADOPT: _adopt,
    Step.DISCARD: _discard,
}
