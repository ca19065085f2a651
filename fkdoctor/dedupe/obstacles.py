"""What this edition of the deduplicator does not handle, told from the schema alone. Pure.

Better a refusal by name than a lost row: whatever is not known to be safe is an obstacle.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fkdoctor.dedupe.partitions import (
    all_indexes,
    excludes,
    heirs,
    move_obstacles,
    part_obstacles,
    parts,
    places_rows,
)
from fkdoctor.dedupe.plan import Obstacle
from fkdoctor.identifier import quote
from fkdoctor.schema import (
    ForeignKey,
    Index,
    LogicalKey,
    ReferentialAction,
    RewriteRule,
    Schema,
    Table,
    TableName,
    TriggerState,
)

_FIRES = (TriggerState.ORIGIN, TriggerState.ALWAYS)


def table_obstacles(schema: Schema, table: Table) -> Iterator[Obstacle]:
    """What stands against merging rows of the table at all."""
    if schema.replication_role != "origin":
        yield Obstacle(
            subject=f"database {schema.database}",
            reason=f"session_replication_role is {schema.replication_role}: foreign keys are off",
        )
    if table.partition_of is not None:
        reason = f"it is a partition of {table.partition_of}: merge the rows of that one"
        yield Obstacle(subject=str(table.name), reason=reason)
    yield from part_obstacles(schema, table)
    if table.primary_key is None:
        yield Obstacle(subject=str(table.name), reason="it has no primary key")
    yield from rule_obstacles(table, table.rules)
    for key in schema.keys_to(table.name):
        if key.period:
            yield Obstacle(subject=key.label, reason="it is a temporal key (PERIOD)")
        referencing = schema.table(key.referencing)
        if referencing is not table:
            # A rule of these makes every DELETE here fail, even of rows that nothing references.
            events = _ACTION_EVENTS.get(key.on_delete, "")
            hit = [rule for rule in referencing.rules if rule.instead and rule.event == events]
            yield from rule_obstacles(referencing, hit)


_ACTION_EVENTS = {
    ReferentialAction.CASCADE: "DELETE",
    ReferentialAction.SET_NULL: "UPDATE",
    ReferentialAction.SET_DEFAULT: "UPDATE",
}


def key_obstacles(schema: Schema, key: ForeignKey) -> Iterator[Obstacle]:
    """What stands against repointing references of the key, given that there are some."""
    table = schema.table(key.referencing)
    columns = set(key.referencing_columns)
    yield from part_obstacles(schema, table)
    identity = table.row_identity
    if not identity:
        yield Obstacle(
            subject=str(table.name),
            reason="its rows have neither primary key nor unique NOT NULL columns, so a change to "
            "them could not be undone",
        )
    for name in sorted(columns):
        if table.column(name).generated:
            yield Obstacle(subject=key.label, reason=f"{quote(name)} is a generated column")
    yield from rule_obstacles(table, table.rules)
    yield from move_obstacles(schema, key)
    yield from _unforeseeable_collisions(schema, table, key)


def shared_columns(schema: Schema, key: ForeignKey) -> Iterator[tuple[ForeignKey, tuple[str, ...]]]:
    """The keys that some of the key's columns belong to as well, or that reference them, and these
    columns: they must not change."""
    mine = (key.referenced, key.referenced_columns, key.referencing_columns)
    for other in schema.keys_from(key.referencing):
        shared = set(key.referencing_columns) & set(other.referencing_columns)
        if (
            shared
            and (other.referenced, other.referenced_columns, other.referencing_columns) != mine
        ):
            yield other, tuple(sorted(shared))
    for other in schema.keys_to(key.referencing):
        if shared := set(key.referencing_columns) & set(other.referenced_columns):
            yield other, tuple(sorted(shared))


def rule_obstacles(table: Table, rules: Iterable[RewriteRule]) -> Iterator[Obstacle]:
    """The rules of the table that stand against changing it."""
    for rule in rules:
        if rule.state in _FIRES:
            yield Obstacle(
                subject=f"{table.name} rule {quote(rule.name)}",
                reason=f"a rule rewrites {rule.event} on this table",
            )


def _unforeseeable_collisions(schema: Schema, table: Table, key: ForeignKey) -> Iterator[Obstacle]:
    """The indexes over the key's columns that could refuse rows in ways nobody asks about."""
    moving = set(key.referencing_columns)
    moving |= {column.name for column in table.columns if column.generated}
    for part, index in all_indexes(schema, table):
        if not (index.unique or excludes(part, index)) or not mentions(index, moving):
            continue
        texts = [index.predicate or "", *(key.expression or "" for key in index.keys)]
        if not index.valid:
            reason = "it is unique, but not valid"
        elif any(".*" in text for text in texts):
            reason = "it is unique over whole rows"
        else:
            continue
        yield Obstacle(
            subject=f"{part.name} index {quote(index.name)}",
            reason=f"{reason}, where collisions are not foreseen",
        )


def mentions(index: Index, columns: set[str]) -> bool:
    """Whether the index is over one of the columns, or over an expression that may use one."""
    texts = [key.expression for key in index.keys if key.expression] + [index.predicate or ""]
    if columns & {key.column for key in index.keys}:
        return True
    return any(_names(text, name) for name in columns for text in texts)


def _names(text: str, column: str) -> bool:
    """Whether the expression may use the column, which PostgreSQL prints by its name, perhaps in
    quotes; or the whole row, which it prints as `table.*`."""
    name = re.escape(column.replace('"', '""'))
    return ".*" in text or re.search(rf"(?<![\w$]){name}(?![\w$])", text) is not None


def caveats(schema: Schema, table: Table, keys: tuple[ForeignKey, ...]) -> Iterator[str]:
    """What happens beside the plan: triggers that fire, keys that do not hold."""
    wanted = [(table, "DELETE")]
    wanted += [(schema.table(name), "UPDATE") for name in sorted({k.referencing for k in keys})]
    wanted += [
        (schema.table(key.referencing), event)
        for key in keys
        if places_rows(schema, schema.table(key.referencing), key.referencing_columns)
        for event in ("DELETE", "INSERT")
    ]
    wanted = [(part, event) for whole, event in wanted for part in parts(schema, whole)]
    for fired_on, event in dict.fromkeys(wanted):
        for trigger in fired_on.triggers:
            if event in trigger.events and trigger.state in _FIRES:
                yield (
                    f"trigger {quote(trigger.name)} on {fired_on.name} fires {trigger.timing} "
                    f"{event}; undo does not take back what it does"
                )
    if below := list(heirs(schema, table)):
        names = ", ".join(str(heir.name) for heir in below)
        yield f"rows of {names}, which inherit from {table.name}, are not merged"
    for key in keys:
        if isinstance(key, LogicalKey):
            yield only_declared(key.label, key.referencing)
        elif not key.enforced or any(trigger.state not in _FIRES for trigger in key.triggers):
            yield (
                f"{key.label} is not enforced: references that are made while the plan is applied "
                "may be left dangling"
            )


def only_declared(label: str, table: TableName) -> str:
    """What it means that no key stands behind a reference."""
    return (
        f"{label} is only declared in fkdoctor.toml: nobody else can write to {table} while a "
        "batch is applied, and later references to merged rows are not refused"
    )
