"""What this edition of the deduplicator does not handle, told from the schema alone. Pure.

Better a refusal by name than a lost row: whatever is not known to be safe is an obstacle.
"""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.dedupe.plan import Obstacle
from fkdoctor.identifier import quote, quote_all
from fkdoctor.schema import ForeignKey, Schema, Table, TableKind, TriggerState, UniqueKey


def table_obstacles(schema: Schema, table: Table) -> Iterator[Obstacle]:
    """What stands against merging rows of the table at all."""
    if schema.replication_role != "origin":
        yield Obstacle(
            subject=f"database {schema.database}",
            reason=f"session_replication_role is {schema.replication_role}: foreign keys are off",
        )
    yield from _shape_obstacles(schema, table)
    if table.primary_key is None:
        yield Obstacle(subject=str(table.name), reason="it has no primary key")
    for rule in table.rules:
        yield Obstacle(
            subject=f"{table.name} rule {quote(rule.name)}",
            reason=f"a rule rewrites {rule.event} on this table",
        )


def key_obstacles(schema: Schema, key: ForeignKey) -> Iterator[Obstacle]:
    """What stands against repointing references of the key, given that there are some."""
    table = schema.table(key.referencing)
    columns = set(key.referencing_columns)
    yield from _shape_obstacles(schema, table)
    if key.period:
        yield Obstacle(subject=key.label, reason="it is a temporal key (PERIOD)")
    identity = {
        name for unique in table.unique_keys[:1] if unique.primary for name in unique.columns
    }
    if columns & identity:
        yield Obstacle(
            subject=key.label,
            reason=f"{quote_all(tuple(sorted(columns & identity)))} is part of the primary key of "
            f"{table.name}: its rows would change their own key",
        )
    for name in sorted(columns):
        if table.column(name).generated:
            yield Obstacle(subject=key.label, reason=f"{quote(name)} is a generated column")
    for other in schema.keys_from(table.name):
        shared = columns & set(other.referencing_columns)
        if other is not key and shared and (len(columns) > 1 or other.referenced != key.referenced):
            yield Obstacle(
                subject=key.label,
                reason=f"{quote_all(tuple(sorted(shared)))} also belongs to {quote(other.name)}",
            )
    for other in schema.keys_to(table.name):
        if columns & set(other.referenced_columns):
            yield Obstacle(
                subject=key.label,
                reason=f"its columns are themselves referenced, by {other.label}",
            )
    for rule in table.rules:
        yield Obstacle(
            subject=f"{table.name} rule {quote(rule.name)}",
            reason=f"a rule rewrites {rule.event} on this table",
        )
    yield from _unforeseeable_collisions(table, key)


def _shape_obstacles(schema: Schema, table: Table) -> Iterator[Obstacle]:
    if table.kind is not TableKind.TABLE or table.partition_of is not None:
        yield Obstacle(subject=str(table.name), reason="it is partitioned, or a partition")
    heirs = [heir.name for heir in schema.tables if table.name in heir.inherits]
    if table.inherits or heirs:
        others = ", ".join(str(name) for name in (*table.inherits, *heirs))
        yield Obstacle(subject=str(table.name), reason=f"it shares rows by inheritance: {others}")


def checked_unique_keys(table: Table, keys: tuple[ForeignKey, ...]) -> tuple[UniqueKey, ...]:
    """The unique keys of the referencing table in which repointed columns take part."""
    columns = {name for key in keys for name in key.referencing_columns}
    return tuple(unique for unique in table.unique_keys if columns & set(unique.columns))


def _unforeseeable_collisions(table: Table, key: ForeignKey) -> Iterator[Obstacle]:
    columns = set(key.referencing_columns)
    generated = {column.name for column in table.columns if column.generated}
    for index in table.indexes:
        names = {part.column for part in index.keys if part.column is not None}
        hidden = any(part.column is None for part in index.keys) or index.predicate is not None
        touched = bool(columns & names) or hidden or bool(names & generated)
        if index.unique and touched and (hidden or names & generated):
            yield Obstacle(
                subject=f"{table.name} index {quote(index.name)}",
                reason="it is unique over an expression, a predicate or a generated column, where "
                "collisions are not foreseen",
            )
        elif index.unique and columns & names and len(columns) > 1:
            yield Obstacle(
                subject=f"{table.name} index {quote(index.name)}",
                reason=f"it is unique over columns of the composite key {quote(key.name)}, where "
                "collisions are not foreseen",
            )
    for constraint in table.constraints:
        if constraint.kind == "x" and (columns & set(constraint.columns) or not constraint.columns):
            yield Obstacle(
                subject=f"{table.name} constraint {quote(constraint.name)}",
                reason="it excludes rows (EXCLUDE), where collisions are not foreseen",
            )


def caveats(schema: Schema, table: Table, keys: tuple[ForeignKey, ...]) -> Iterator[str]:
    """What happens beside the plan: triggers that fire and what they keep from being undone."""
    wanted = [(table, "DELETE")]
    wanted += [(schema.table(name), "UPDATE") for name in sorted({k.referencing for k in keys})]
    for fired_on, event in wanted:
        for trigger in fired_on.triggers:
            enabled = trigger.state in (TriggerState.ORIGIN, TriggerState.ALWAYS)
            if event in trigger.events and enabled:
                yield (
                    f"trigger {quote(trigger.name)} on {fired_on.name} fires {trigger.timing} "
                    f"{event}; undo does not take back what it does"
                )
