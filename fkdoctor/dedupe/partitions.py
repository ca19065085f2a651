"""Tables in several parts: which of them a merge names, and what stands against it. Pure.

The rows of a partition are rows of the tables above it. A merge knows each row under one name only,
that of the topmost table by whose keys the row can be found again; a key that only one partition
has is followed as that table's, for the rows of the partition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace

from fkdoctor.dedupe.plan import Obstacle
from fkdoctor.identifier import quote
from fkdoctor.inspect.graph import keys_into, partition_family
from fkdoctor.schema import ForeignKey, Index, PartitionKey, Schema, Table, TableKind, TableName


def lift_keys(schema: Schema) -> Schema:
    """The schema in which keys of partitions are those of the tables that rows are known by."""
    return replace(schema, foreign_keys=tuple(_lift(schema, key) for key in schema.foreign_keys))


def _lift(schema: Schema, key: ForeignKey) -> ForeignKey:
    top = known_as(schema, key.referencing)
    if top == key.referencing or isinstance(key, PartitionKey):
        return key
    written = {field.name: getattr(key, field.name) for field in fields(key)}
    return PartitionKey(
        **written | {"referencing": top},
        partition=key.referencing,
        leaves=tuple(leaf.name for leaf in schema.leaves(key.referencing)),
    )


def as_written(key: ForeignKey) -> ForeignKey:
    """The key with the table that has it, if that is but a partition of where it is followed."""
    return replace(key, referencing=key.partition) if isinstance(key, PartitionKey) else key


def known_as(schema: Schema, name: TableName) -> TableName:
    """The topmost table above the partition whose rows can be found again; else the partition."""
    top, above = name, schema.table(name).partition_of
    while above is not None:
        if schema.table(above).row_identity:
            top = above
        above = schema.table(above).partition_of
    return top


def part_obstacles(schema: Schema, table: Table) -> Iterator[Obstacle]:
    """What stands against changing rows of the table, because of its partitions."""
    for leaf in schema.leaves(table.name):
        if leaf.kind is TableKind.FOREIGN:
            where = "it" if leaf is table else f"its partition {leaf.name}"
            yield Obstacle(subject=str(table.name), reason=f"{where} is a foreign table")
    for key in keys_into(schema, table.name):
        if key.referenced != table.name:
            yield Obstacle(
                subject=str(table.name),
                reason=f"its rows are also referenced as rows of {key.referenced}, by {key.label}",
            )


def move_obstacles(schema: Schema, key: ForeignKey) -> Iterator[Obstacle]:
    """What stands against repointing by the key where rows may change their partition for it."""
    table = schema.table(key.referencing)
    column = next(
        (name for name in key.referencing_columns if _places_rows(schema, table, name)), None
    )
    if column is None:
        return
    if table.partition_of is not None:
        yield Obstacle(
            subject=key.label,
            reason=f"{quote(column)} decides in which partition of {table.partition_of} a row is, "
            f"and only {table.name} has a key by which its rows can be found",
        )
    referenced_by = [other for other in schema.keys_to(table.name) if other.enforced]
    if schema.major < 15 and referenced_by:
        # Until 15, such an UPDATE is a DELETE to the keys, with all that ON DELETE does.
        yield Obstacle(
            subject=key.label,
            reason=f"{quote(column)} decides in which partition a row is, and PostgreSQL "
            f"{schema.major} deletes a row that changes it, which {referenced_by[0].label} would "
            "see",
        )
    for leaf, index in own_indexes(schema, table):
        if index.unique or excludes(leaf, index):
            yield Obstacle(
                subject=f"{leaf.name} index {quote(index.name)}",
                reason=f"only this partition has it, and {quote(column)} decides in which "
                "partition a row is, so that collisions are not foreseen",
            )


def places_rows(schema: Schema, table: Table, columns: tuple[str, ...]) -> bool:
    """Whether one of the columns may decide in which partition a row of the table is."""
    return any(_places_rows(schema, table, name) for name in columns)


def _places_rows(schema: Schema, table: Table, column: str) -> bool:
    family = (schema.table(name) for name in partition_family(schema, table.name))
    # PostgreSQL writes a column by its name, perhaps in quotes, also within expressions.
    written = re.compile(rf"(?<![\w$]){re.escape(column.replace(chr(34), chr(34) * 2))}(?![\w$])")
    return any(written.search(one.partition_key or "") for one in family)


def parts(schema: Schema, table: Table) -> Iterator[Table]:
    """The table, and its partitions at any depth."""
    yield table
    for partition in schema.partitions(table.name):
        yield from parts(schema, partition)


def own_indexes(schema: Schema, table: Table) -> Iterator[tuple[Table, Index]]:
    """The indexes that partitions of the table have and the table has not."""
    for part in parts(schema, table):
        if part is not table:
            yield from ((part, index) for index in part.indexes if index.parent is None)


def all_indexes(schema: Schema, table: Table) -> Iterator[tuple[Table, Index]]:
    """The indexes over rows of the table: its own, then those that only partitions have."""
    yield from ((table, index) for index in table.indexes)
    yield from own_indexes(schema, table)


def excludes(table: Table, index: Index) -> bool:
    """Whether an exclusion constraint owns the index."""
    return any(c.kind == "x" and c.name == index.constraint for c in table.constraints)


def heirs(schema: Schema, table: Table) -> Iterator[Table]:
    """The tables that inherit from the table, at any depth, each once."""
    found: dict[TableName, None] = {}
    waiting = [table.name]
    while waiting:
        name = waiting.pop()
        below = [heir for heir in schema.tables if name in heir.inherits]
        waiting += [heir.name for heir in below if heir.name not in found]
        found |= dict.fromkeys(heir.name for heir in below)
    return (schema.table(name) for name in found)


def uncovered_heirs(schema: Schema, key: ForeignKey) -> Iterator[ForeignKey]:
    """The key as it would be for each table that inherits its columns and has no such key.

    PostgreSQL does not look at these rows (documentation, "Inheritance", caveats).
    """
    for heir in heirs(schema, schema.table(key.referencing)):
        own = [
            other
            for other in schema.keys_from(heir.name)
            if other.referenced == key.referenced
            and other.referencing_columns == key.referencing_columns
        ]
        if not own and heir.kind is TableKind.TABLE:
            yield replace(key, referencing=heir.name)
