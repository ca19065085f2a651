"""Which tables can be soft-deleted from, and what about their shape stands against it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fkdoctor.identifier import quote, quote_all
from fkdoctor.inspect.graph import keys_into
from fkdoctor.schema import (
    ForeignKey,
    ReferentialAction,
    Schema,
    Table,
    TableName,
    TriggerState,
)
from fkdoctor.softdelete.outcome import Obstacle

TIME_TYPE = "timestamp with time zone"
ID_TYPE = "uuid"
SETS = (ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT)
_FIRES = (TriggerState.ORIGIN, TriggerState.ALWAYS)


def whole(schema: Schema, name: TableName) -> Table:
    """The table, or the partitioned table at the top of which it is a partition."""
    table = schema.table(name)
    while table.partition_of is not None:
        table = schema.table(table.partition_of)
    return table


def enforced_keys(schema: Schema, table: Table) -> tuple[ForeignKey, ...]:
    """The foreign keys by which PostgreSQL holds rows of the table to be referenced, also as rows
    of its partitions; in the order of their names."""
    keys = (key for key in keys_into(schema, table.name) if key.enforced)
    return tuple(sorted(keys, key=lambda key: key.label))


def lack(table: Table, time: str, deletion: str) -> Obstacle | None:
    """Why rows of the table cannot be soft-deleted; None if they can."""
    operation = f"op.add_soft_delete({table.name.name!r}, schema={table.name.schema!r})".replace(
        "'", '"'
    )
    next = f"In a revision: {operation}"
    missing = [name for name in (time, deletion) if not table.has_column(name)]
    if missing:
        return Obstacle(
            subject=str(table.name),
            reason=f"it has no column {quote_all(tuple(missing))}",
            next=next,
        )
    for name, type_ in ((time, TIME_TYPE), (deletion, ID_TYPE)):
        column = table.column(name)
        if column.base_type != type_ or column.not_null or column.generated:
            return Obstacle(
                subject=f"{table.name}.{quote(name)}",
                reason=f"it is {column.type}, and a {type_} that may be NULL is needed",
                next="Name another column in [soft_delete] of fkdoctor.toml.",
            )
    if not table.row_identity:
        return Obstacle(
            subject=str(table.name),
            reason="its rows have neither a primary key nor unique NOT NULL columns, so none could "
            "be told from another",
            next=f"Give it one: alter table {table.name} add primary key (…);",
        )
    return None


def root_obstacles(schema: Schema, table: Table) -> Iterator[Obstacle]:
    """What stands against soft-deleting rows of the table at all, beside missing columns."""
    if table.partition_of is not None:
        yield Obstacle(
            subject=str(table.name),
            reason=f"it is a partition of {table.partition_of}",
            next=f"Name the whole table: {whole(schema, table.name).name}",
        )
    yield from rule_obstacles(table)


def rule_obstacles(table: Table) -> Iterator[Obstacle]:
    """The rewrite rules that would put something else in the place of marking a row."""
    for rule in table.rules:
        if rule.event == "UPDATE" and rule.state in _FIRES:
            yield Obstacle(
                subject=f"{table.name} rule {quote(rule.name)}",
                reason="it rewrites the UPDATE that marks a row as deleted",
                next=f"Make it a trigger, then: drop rule {quote(rule.name)} on {table.name};",
            )


def key_obstacles(schema: Schema, table: Table, key: ForeignKey) -> Iterator[Obstacle]:
    """What stands against following the key, which leads to rows that go."""
    if key.period:
        yield Obstacle(
            subject=key.label,
            reason="it is a temporal key (PERIOD)",
            next="Delete the rows that reference by it first.",
        )
    if schema.table(key.referenced).partition_of is not None:
        yield Obstacle(
            subject=key.label,
            reason=f"it references {key.referenced}, a partition of {table.name}",
            next=f"Let it reference {table.name}.",
        )


def change_obstacles(schema: Schema, key: ForeignKey, referencing: Table) -> Iterator[Obstacle]:
    """What stands against setting the key's columns, given that there are such rows."""
    written = set(key.written_columns)
    if not referencing.row_identity:
        yield Obstacle(
            subject=str(referencing.name),
            reason="its rows have neither a primary key nor unique NOT NULL columns, so what is "
            "set in them could not be taken back",
            next=f"Give it one: alter table {referencing.name} add primary key (…);",
        )
    elif written & set(referencing.row_identity):
        yield Obstacle(
            subject=key.label,
            reason=f"{_names(written & set(referencing.row_identity))} is part of the key by which "
            "its rows are known",
            next="Repoint or delete these rows first.",
        )
    for name in sorted(written):
        column = referencing.column(name)
        if column.not_null and (
            key.on_delete is ReferentialAction.SET_NULL or column.default is None
        ):
            yield Obstacle(
                subject=f"{referencing.name}.{quote(name)}",
                reason=f"{quote(key.name)} would set it to NULL, and it is NOT NULL",
                next="Repoint or delete these rows first, or change the rule of the key.",
            )
    yield from _shared_columns(schema, key, referencing, written)
    yield from rule_obstacles(referencing)


def _shared_columns(
    schema: Schema, key: ForeignKey, referencing: Table, written: set[str]
) -> Iterator[Obstacle]:
    for other in schema.keys_from(referencing.name):
        alike = (other.referenced, other.referencing_columns, other.on_delete) == (
            key.referenced,
            key.referencing_columns,
            key.on_delete,
        )
        if not alike and other.enforced and written & set(other.referencing_columns):
            yield Obstacle(
                subject=key.label,
                reason=f"{_names(written & set(other.referencing_columns))} also belongs to "
                f"{quote(other.name)}, so that the order of the two would matter",
                next="Repoint or delete these rows first.",
            )
    for other in enforced_keys(schema, referencing):
        if written & set(other.referenced_columns):
            yield Obstacle(
                subject=key.label,
                reason=f"what it sets is itself referenced, by {other.label}",
                next="Repoint or delete these rows first.",
            )


def _names(columns: Iterable[str]) -> str:
    return quote_all(tuple(sorted(columns)))


def trigger_caveats(tables: Iterable[Table], event: str) -> Iterator[str]:
    """The triggers that fire beside the work."""
    for table in tables:
        for trigger in table.triggers:
            # The guard of op.add_soft_delete changes nothing.
            guard = trigger.function.rstrip('"').endswith("_guard")
            if event in trigger.events and trigger.state in _FIRES and not guard:
                yield (
                    f"trigger {quote(trigger.name)} on {table.name} fires {trigger.timing} {event};"
                    " what it does is not remembered"
                )
