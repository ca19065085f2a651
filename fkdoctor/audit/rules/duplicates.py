"""Rules about several foreign keys between the same columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

from fkdoctor.audit import remedy
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.firing import EVENTS, Event, first_by_leaf, first_when_restored
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName


def find_duplicates(schema: Schema) -> Iterator[Evidence]:
    """The keys that say again what another key of the same rows says."""
    told: set[str] = set()
    for group in _same_columns(schema):
        for number, key in enumerate(group):
            twin = next((one for one in group[:number] if _says(one) == _says(key)), None)
            if twin and key.label not in told:
                told.add(key.label)
                yield Evidence(
                    subject=key.label,
                    detail=(
                        f"{twin.label} says the same: {key.arrow} {_says(key)}. Each row of "
                        f"{with_rows(schema, key.referencing)} is checked twice."
                    ),
                    keys=(key, twin),
                    sql=remedy.drop(key),
                )


def find_contradictions(schema: Schema) -> Iterator[Evidence]:
    """The keys of the same rows that want different things done with them."""
    for group in _same_columns(schema):
        if len({_says(key) for key in group}) > 1:
            first = min(group, key=lambda key: key.label)
            said = [f"{key.label} says {_says(key)}" for key in group]
            outcomes = [
                _outcome(schema, group, event)
                for event in EVENTS
                if len({event.deed(key) for key in group}) > 1
            ] or [_NO_DIFFERENCE]
            yield Evidence(
                subject=first.label,
                detail=" ".join((f"{first.arrow}: {listed(said)}.", *outcomes)),
                keys=(first, *(key for key in group if key is not first)),
            )


_NO_DIFFERENCE = "The one that is not deferrable is checked at once, whatever the other says."


@lru_cache(maxsize=1)
def _same_columns(schema: Schema) -> list[tuple[ForeignKey, ...]]:
    """The groups of two or more enforced keys that lead the same columns to the same columns.

    A key of a partition and one of the table above it concern the same rows. In a group the key
    that should stay comes first: validated, of the whole table, by name.
    """
    found: dict[object, list[ForeignKey]] = defaultdict(list)
    for key in schema.foreign_keys:
        if key.enforced:
            pairs = frozenset(zip(key.referencing_columns, key.referenced_columns, strict=True))
            match = key.match if len(pairs) > 1 else None
            found[_line(schema, key.referencing)[-1], key.referenced, pairs, match].append(key)
    groups = []
    for keys in found.values():
        tables = {key.referencing for key in keys} if len(keys) > 1 else set()
        above = {upper for table in tables for upper in _line(schema, table)[1:]}
        for table in sorted(tables - above):
            line = _line(schema, table)
            group = [key for key in keys if key.referencing in line]
            if len(group) > 1:
                group.sort(
                    key=lambda key: (
                        not key.validated,
                        len(_line(schema, key.referencing)),
                        key.label,
                    )
                )
                groups.append(tuple(group))
    return groups


def _line(schema: Schema, table: TableName) -> tuple[TableName, ...]:
    """The table and the partitioned tables above it, upwards."""
    line = [table]
    while (above := schema.table(line[-1]).partition_of) is not None:
        line.append(above)
    return tuple(line)


def _says(key: ForeignKey) -> str:
    """What the key does and when, as SQL says it."""
    columns = f" {columns_of(key.set_columns)}" if key.set_columns else ""
    words = [f"ON DELETE {key.on_delete.sql}{columns}"]
    if key.on_update is not ReferentialAction.NO_ACTION:
        words.append(f"ON UPDATE {key.on_update.sql}")
    if key.initially_deferred:
        words.append("INITIALLY DEFERRED")
    elif key.deferrable:
        words.append("DEFERRABLE")
    return " ".join(words)


def _outcome(schema: Schema, group: tuple[ForeignKey, ...], event: Event) -> str:
    """Which key of the group has its way."""
    winners = first_by_leaf(schema, group, event)
    if not winners:
        return f"On {event.name} no trigger of them fires."
    sentences = []
    for winner, leaves in winners.items():
        where = "" if len(winners) == 1 else f" in {listed(str(leaf) for leaf in leaves)}"
        sentences.append(
            f"On {event.name}{where} {winner.label} comes first: {_act(winner, event)}."
        )
    restored = first_when_restored(group, event)
    if set(winners) != {restored}:
        sentences.append(
            "A dump creates keys in the order of their names: once restored, "
            f"{restored.label} comes first: {_act(restored, event)}."
        )
    return " ".join(sentences)


def _act(key: ForeignKey, event: Event) -> str:
    match event.action(key):
        case ReferentialAction.CASCADE:
            done = "deletes the rows" if event.name == "DELETE" else "changes the rows too"
            return f"CASCADE {done}, and nothing is left for the others"
        case ReferentialAction.SET_NULL | ReferentialAction.SET_DEFAULT as action:
            return f"{action.sql} releases the rows, and nothing is left for the others"
        case action:
            return f"{action.sql} refuses while rows reference, and the others never act"


RULES = (
    Rule(
        id="FK011",
        name="duplicate-key",
        severity=Severity.WARNING,
        condition=(
            "Two keys of a table, or of a partition and the table above it, lead the same columns "
            "to the same columns and say the same."
        ),
        effect=(
            "Each INSERT, UPDATE and DELETE does the check twice. A change of the rule has to be "
            "made in both, or it has no effect, and then they contradict each other."
        ),
        remedy=(
            "Drop one of them. That takes a moment, but under an ACCESS EXCLUSIVE lock on both "
            "tables: set lock_timeout and try again if it fails."
        ),
        check=find_duplicates,
    ),
    Rule(
        id="FK012",
        name="contradictory-keys",
        severity=Severity.ERROR,
        condition=(
            "Two keys of a table, or of a partition and the table above it, lead the same columns "
            "to the same columns and want different things when a referenced row goes or changes."
        ),
        effect=(
            "The order in which the keys were created decides, not what they say. A dump and "
            "restore, or dropping and adding the same key again, can turn it round: a DELETE that "
            "worked fails, or one that failed deletes rows."
        ),
        remedy="Decide which is meant, and drop the other.",
        check=find_contradictions,
    ),
)
