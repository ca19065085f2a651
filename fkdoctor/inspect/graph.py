"""Pure walks over the foreign-key graph: who references whom, cycles, cascades, delete order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName


@dataclass(frozen=True, kw_only=True)
class Reach:
    """A table that a DELETE can reach: by how many steps at least, and by which key last."""

    table: TableName
    depth: int
    via: ForeignKey


def partition_family(schema: Schema, table: TableName) -> tuple[TableName, ...]:
    """The table with all partitions above and below it: the same rows under several names."""
    above: list[TableName] = []
    current = schema.table(table).partition_of
    if current is None and not schema.partitions(table):
        return (table,)
    while current is not None:
        above.append(current)
        current = schema.table(current).partition_of
    below: list[TableName] = []
    waiting = [table]
    while waiting:
        partitions = [partition.name for partition in schema.partitions(waiting.pop())]
        below += partitions
        waiting += partitions
    return (*above, table, *below)


def keys_into(schema: Schema, table: TableName) -> tuple[ForeignKey, ...]:
    """The foreign keys that rows of the table can be referenced by, also as partition rows."""
    return tuple(
        key for member in partition_family(schema, table) for key in schema.keys_to(member)
    )


def cascade_reach(
    schema: Schema,
    table: TableName,
    actions: frozenset[ReferentialAction] = frozenset({ReferentialAction.CASCADE}),
) -> tuple[Reach, ...]:
    """The tables from which a DELETE in `table` can delete rows too, nearest first.

    `actions` are the rules to follow. The table itself is listed when a cycle leads back to it.
    """
    reached: dict[TableName, Reach] = {}
    waiting = deque([(table, 0)])
    while waiting:
        current, depth = waiting.popleft()
        for key in keys_into(schema, current):
            if key.on_delete in actions and key.referencing not in reached:
                reached[key.referencing] = Reach(table=key.referencing, depth=depth + 1, via=key)
                waiting.append((key.referencing, depth + 1))
    return tuple(reached.values())


def with_keys(schema: Schema, chosen: Callable[[ForeignKey], bool]) -> Schema:
    """The schema with the chosen foreign keys alone."""
    return replace(schema, foreign_keys=tuple(filter(chosen, schema.foreign_keys)))


@lru_cache(maxsize=1)
def enforced_part(schema: Schema) -> Schema:
    """The schema with the foreign keys that are enforced."""
    return with_keys(schema, lambda key: key.enforced)


def find_cycles(schema: Schema) -> tuple[tuple[TableName, ...], ...]:
    """The groups of tables that reference each other in a circle; self-references are not listed.

    A partitioned table stands for its partitions.
    """
    whole = [table.name for table in schema.tables if table.partition_of is None]
    return tuple(tuple(sorted(group)) for group in _components(schema, whole) if len(group) > 1)


def keys_within(schema: Schema, tables: Iterable[TableName]) -> tuple[ForeignKey, ...]:
    """The foreign keys by which rows of one of the tables reference rows of another of them."""
    members = set(tables)
    found = {
        key.label: key
        for table in members
        for key in _keys_out_of(schema, table)
        if members.intersection(partition_family(schema, key.referenced)) - {table}
    }
    return tuple(found[label] for label in sorted(found))


def _keys_out_of(schema: Schema, table: TableName) -> Iterator[ForeignKey]:
    """The foreign keys that rows of the table have, also as partition rows."""
    for member in partition_family(schema, table):
        yield from schema.keys_from(member)


def delete_order(schema: Schema, tables: Iterable[TableName]) -> tuple[tuple[TableName, ...], ...]:
    """The tables in an order in which rows can be deleted: referencing before referenced.

    Tables in one group reference each other in a circle and have no order among themselves.
    """
    members = set(tables)
    # Tarjan's algorithm yields a component after all that it points at.
    groups = [tuple(sorted(group)) for group in _components(schema, sorted(members))]
    return tuple(reversed(groups))


def _components(schema: Schema, tables: Sequence[TableName]) -> Iterator[list[TableName]]:
    """Strongly connected components of the tables, referenced before referencing.

    Tarjan's algorithm (1972), without recursion.
    """
    members = set(tables)
    number: dict[TableName, int] = {}
    lowest: dict[TableName, int] = {}
    stack: list[TableName] = []
    on_stack: set[TableName] = set()

    def targets(table: TableName) -> Iterator[TableName]:
        for key in _keys_out_of(schema, table):
            yield from sorted(members.intersection(partition_family(schema, key.referenced)))

    for root in tables:
        if root in number:
            continue
        path = [(root, targets(root))]
        number[root] = lowest[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while path:
            table, remaining = path[-1]
            for target in remaining:
                if target not in number:
                    number[target] = lowest[target] = len(number)
                    stack.append(target)
                    on_stack.add(target)
                    path.append((target, targets(target)))
                    break
                if target in on_stack:
                    lowest[table] = min(lowest[table], number[target])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[table])
                if lowest[table] == number[table]:
                    group: list[TableName] = []
                    while not group or group[-1] != table:
                        group.append(stack.pop())
                        on_stack.discard(group[-1])
                    yield group
