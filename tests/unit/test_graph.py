"""The walks over the graph, compared with the plainest possible way to say the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fkdoctor.inspect.graph import (
    cascade_reach,
    delete_order,
    find_cycles,
    keys_into,
    keys_within,
    partition_family,
)
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName

Make = Callable[..., Schema]
CASCADE, NO_ACTION = ReferentialAction.CASCADE, ReferentialAction.NO_ACTION
NAMES = "abcdefgh"


def _name(name: str) -> TableName:
    return TableName("s", name)


def _names(groups: tuple[tuple[TableName, ...], ...]) -> list[str]:
    return ["".join(table.name for table in group) for group in groups]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, list[tuple[str, str, ReferentialAction]], dict[str, str]]:
    """Tables, some of them partitions of earlier ones, and any keys among them."""
    tables = NAMES[: draw(st.integers(1, len(NAMES)))]
    table = st.sampled_from(tables)
    actions = st.sampled_from(ReferentialAction)
    keys = draw(st.lists(st.tuples(table, table, actions), max_size=12))
    parts = {}
    for position, name in enumerate(tables):
        if position and draw(st.integers(0, 2)) == 0:
            parts[name] = draw(st.sampled_from(tables[:position]))
    return tables, keys, parts


class Plain:
    """The same graph as a relation: which table's rows are rows of which, and who references whom.

    Two tables overlap where one is a partition, at any depth, of the other.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.tables = [table.name for table in schema.tables]
        self.above = {
            table.name: {table.name}
            | ({table.partition_of} if table.partition_of is not None else set())
            for table in schema.tables
        }
        for _ in self.tables:
            self.above = {
                table: set().union(*(self.above[upper] for upper in uppers))
                for table, uppers in self.above.items()
            }

    def overlap(self, one: TableName, other: TableName) -> bool:
        return one in self.above[other] or other in self.above[one]

    def joins(self, key: ForeignKey, referencing: TableName, referenced: TableName) -> bool:
        return self.overlap(referencing, key.referencing) and self.overlap(
            key.referenced, referenced
        )

    def reachable(self, among: list[TableName]) -> set[tuple[TableName, TableName]]:
        """Pairs with a path of references between them: the transitive closure."""
        pairs = {
            (one, other)
            for one, other in itertools.product(among, among)
            if any(self.joins(key, one, other) for key in self.schema.foreign_keys)
        }
        for middle, one, other in itertools.product(among, among, among):
            if (one, middle) in pairs and (middle, other) in pairs:
                pairs.add((one, other))
        return pairs


def _circles(pairs: set[tuple[TableName, TableName]], among: list[TableName]) -> set[frozenset]:
    return {
        frozenset(other for other in among if other == one or {(one, other), (other, one)} <= pairs)
        for one in among
    }


@given(graphs())
def test_a_family_is_the_partitions_above_and_below(make_schema: Make, graph: tuple) -> None:
    schema = make_schema(*graph)
    plain = Plain(schema)
    for table in plain.tables:
        family = partition_family(schema, table)
        assert len(set(family)) == len(family)
        assert set(family) == {other for other in plain.tables if plain.overlap(table, other)}
        assert set(keys_into(schema, table)) == {
            key for key in schema.foreign_keys if plain.overlap(table, key.referenced)
        }


@given(graphs())
def test_cycles_are_the_tables_that_reach_each_other(make_schema: Make, graph: tuple) -> None:
    schema = make_schema(*graph)
    plain = Plain(schema)
    whole = [table.name for table in schema.tables if table.partition_of is None]
    circles = _circles(plain.reachable(whole), whole)
    found = find_cycles(schema)
    assert len(found) == len(set(found))
    assert {frozenset(group) for group in found} == {c for c in circles if len(c) > 1}
    assert all(list(group) == sorted(group) for group in found)


@given(graphs(), st.data())
def test_referencing_tables_come_before_referenced_ones(
    make_schema: Make, graph: tuple, data: st.DataObject
) -> None:
    schema = make_schema(*graph)
    plain = Plain(schema)
    among = data.draw(st.lists(st.sampled_from(plain.tables), unique=True))
    groups = delete_order(schema, among)
    pairs = plain.reachable(among)
    assert {frozenset(group) for group in groups} == _circles(pairs, among)
    turn = {table: number for number, group in enumerate(groups) for table in group}
    assert sorted(turn) == sorted(among)
    assert all(turn[referencing] <= turn[referenced] for referencing, referenced in pairs)


@given(graphs(), st.data())
def test_a_cascade_reaches_each_table_by_the_shortest_way(
    make_schema: Make, graph: tuple, data: st.DataObject
) -> None:
    schema = make_schema(*graph)
    plain = Plain(schema)
    start = data.draw(st.sampled_from(plain.tables))
    actions = data.draw(st.frozensets(st.sampled_from(ReferentialAction)))
    followed = [key for key in schema.foreign_keys if key.on_delete in actions]
    depth: dict[TableName, int] = {}
    for _ in plain.tables:
        known = [(start, 0), *depth.items()]
        for key in followed:
            ways = [steps + 1 for table, steps in known if plain.overlap(table, key.referenced)]
            if ways:
                depth[key.referencing] = min([*ways, depth.get(key.referencing, min(ways))])
    reach = cascade_reach(schema, start, actions)
    assert {found.table: found.depth for found in reach} == depth
    assert [found.depth for found in reach] == sorted(depth.values())
    for found in reach:
        assert found.via in followed
        assert found.via.referencing == found.table
        before = [start] if found.depth == 1 else [t for t, d in depth.items() if d < found.depth]
        assert any(plain.overlap(table, found.via.referenced) for table in before)


@given(graphs(), st.data())
def test_keys_within_join_two_of_the_tables(
    make_schema: Make, graph: tuple, data: st.DataObject
) -> None:
    schema = make_schema(*graph)
    plain = Plain(schema)
    among = data.draw(st.lists(st.sampled_from(plain.tables), unique=True))
    found = keys_within(schema, among)
    assert [key.label for key in found] == sorted({key.label for key in found})
    assert set(found) == {
        key
        for key in schema.foreign_keys
        if any(plain.joins(key, *pair) for pair in itertools.permutations(among, 2))
    }


def test_nothing_depends_on_the_order_in_which_tables_are_given(make_schema: Make) -> None:
    keys = [("a", "b", CASCADE), ("c", "b", CASCADE), ("d", "a", CASCADE), ("b", "d", NO_ACTION)]
    schema = make_schema("abcdef", keys)
    orders = {delete_order(schema, map(_name, p)) for p in itertools.permutations("abcdef")}
    assert len(orders) == 1
    assert _names(orders.pop()) == ["f", "e", "c", "abd"]


def test_a_table_that_references_itself_is_no_cycle(make_schema: Make) -> None:
    schema = make_schema("ab", [("a", "a", CASCADE), ("b", "a", CASCADE)])
    assert find_cycles(schema) == ()
    assert _names(delete_order(schema, [_name("a"), _name("b")])) == ["b", "a"]
    assert [(found.table.name, found.depth) for found in cascade_reach(schema, _name("a"))] == [
        ("a", 1),
        ("b", 1),
    ]


def test_a_circle_through_a_partition_is_found(make_schema: Make) -> None:
    # orders is partitioned; only its partition is referenced by name.
    keys = [("orders", "customers", CASCADE), ("customers", "orders_2026", CASCADE)]
    tables = ["customers", "orders", "orders_2025", "orders_2026"]
    schema = make_schema(tables, keys, {"orders_2025": "orders", "orders_2026": "orders"})
    assert find_cycles(schema) == ((_name("customers"), _name("orders")),)
    assert _names(delete_order(schema, map(_name, ["customers", "orders_2025"]))) == [
        "orders_2025",
        "customers",
    ]


def test_five_thousand_tables_in_a_row_are_walked_without_recursion(make_schema: Make) -> None:
    tables = [f"t{number:04}" for number in range(5_000)]
    keys = [(one, other, CASCADE) for one, other in itertools.pairwise(tables)]
    row = make_schema(tables, keys)
    last = _name(tables[-1])
    assert [table for (table,) in delete_order(row, (t.name for t in row.tables))] == [
        table.name for table in row.tables
    ]
    assert find_cycles(row) == ()
    reach = cascade_reach(row, last)
    assert (reach[-1].table, reach[-1].depth) == (_name(tables[0]), 4_999)

    ring = make_schema(tables, [*keys, (tables[-1], tables[0], NO_ACTION)])
    assert [len(group) for group in find_cycles(ring)] == [5_000]
    assert [len(group) for group in delete_order(ring, (t.name for t in ring.tables))] == [5_000]
