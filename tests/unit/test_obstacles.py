"""What stands in a dedupe's way, told from schemas made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fkdoctor.dedupe.obstacles import caveats, key_obstacles, table_obstacles
from fkdoctor.schema import (
    Column,
    ForeignKey,
    Index,
    IndexKey,
    KeyTrigger,
    ReferentialAction,
    RewriteRule,
    Schema,
    Table,
    TableName,
    Trigger,
    TriggerState,
)

CASCADE = ReferentialAction.CASCADE
LETTER, LINK = TableName("s", "letter"), TableName("s", "link")


def column(name: str, generated: bool = False) -> Column:
    """An integer column that must not be null."""
    return Column(
        name=name,
        type="integer",
        base_type="integer",
        type_modifier=-1,
        collation=None,
        deterministic=True,
        not_null=True,
        default=None,
        generated=generated,
        identity=False,
    )


def index(name: str, *keys: str, primary: bool = False, predicate: str | None = None) -> Index:
    """A unique index; a key with a sign in it is an expression."""
    return Index(
        name=name,
        method="btree",
        keys=tuple(
            IndexKey(
                column=key if key.isidentifier() else None,
                expression=None if key.isidentifier() else key,
                operator_class="int4_ops",
                operator_family="btree pg_catalog.integer_ops",
                collation=None,
                descending=False,
                nulls_first=False,
            )
            for key in keys
        ),
        include=(),
        unique=True,
        primary=primary,
        immediate=True,
        nulls_not_distinct=False,
        predicate=predicate,
        valid=True,
        ready=True,
        live=True,
        parent=None,
        constraint=None,
        comment=None,
    )


@pytest.fixture
def schema(make_schema: Callable[..., Schema]) -> Schema:
    """`link` references `letter` by its column a, and has columns n, a, b and the generated g."""
    bare = make_schema(["letter", "link"], [("link", "letter", CASCADE)])
    letter, link = bare.tables
    tables = (
        replace(letter, columns=(column("id"),), indexes=(index("pk", "id", primary=True),)),
        replace(
            link,
            columns=(column("n"), column("a"), column("b"), column("g", generated=True)),
            indexes=(index("pk", "n", primary=True),),
        ),
    )
    return replace(bare, tables=tables)


def change(schema: Schema, name: TableName, **changes: object) -> Schema:
    """The schema with the table changed."""
    tables = [replace(t, **changes) if t.name == name else t for t in schema.tables]
    return replace(schema, tables=tuple(tables))


def the_key(schema: Schema, **changes: object) -> tuple[Schema, ForeignKey]:
    """The schema with its foreign key changed, and that key."""
    key = replace(schema.foreign_keys[0], **changes)
    return replace(schema, foreign_keys=(key,)), key


def test_a_plain_key_to_a_plain_table_is_free(schema: Schema) -> None:
    assert not list(table_obstacles(schema, schema.table(LETTER)))
    assert not list(key_obstacles(schema, schema.foreign_keys[0]))
    assert not list(caveats(schema, schema.table(LETTER), schema.foreign_keys))


def test_every_obstacle_is_told_at_once(schema: Schema) -> None:
    rule = RewriteRule(name="r", event="DELETE", instead=True, state=TriggerState.ORIGIN)
    other = replace(schema, replication_role="replica")
    other = change(other, LETTER, indexes=(), rules=(rule,))
    subjects = [obstacle.subject for obstacle in table_obstacles(other, other.table(LETTER))]
    assert subjects == ["database mlops", "s.letter", "s.letter rule r"]


@pytest.mark.parametrize(
    ("event", "instead", "state", "action", "refused"),
    [
        ("DELETE", True, TriggerState.ORIGIN, CASCADE, True),
        ("DELETE", True, TriggerState.ALWAYS, CASCADE, True),
        ("DELETE", True, TriggerState.DISABLED, CASCADE, False),
        ("DELETE", True, TriggerState.REPLICA, CASCADE, False),
        ("DELETE", False, TriggerState.ORIGIN, CASCADE, False),
        ("UPDATE", True, TriggerState.ORIGIN, CASCADE, False),
        ("UPDATE", True, TriggerState.ORIGIN, ReferentialAction.SET_NULL, True),
        ("UPDATE", True, TriggerState.ORIGIN, ReferentialAction.SET_DEFAULT, True),
        ("DELETE", True, TriggerState.ORIGIN, ReferentialAction.NO_ACTION, False),
        ("INSERT", True, TriggerState.ORIGIN, CASCADE, False),
    ],
)
def test_a_rule_that_the_action_of_a_key_would_meet_is_in_the_way(
    schema: Schema,
    event: str,
    instead: bool,
    state: TriggerState,
    action: ReferentialAction,
    refused: bool,
) -> None:
    rule = RewriteRule(name="r", event=event, instead=instead, state=state)
    schema, _ = the_key(change(schema, LINK, rules=(rule,)), on_delete=action)
    found = list(table_obstacles(schema, schema.table(LETTER)))
    assert bool(found) is refused
    assert all(obstacle.subject == "s.link rule r" for obstacle in found)


@pytest.mark.parametrize(
    ("unique", "refused"),
    [
        (index("u", "a"), False),
        (index("u", "b", "a"), False),
        (index("u", "b"), False),
        (index("u", "(b + 1)"), False),
        (index("u", "b", predicate="(n > 3)"), False),
        (index("u", "g"), False),
        (index("u", "(b + a)"), False),
        (index("u", "(g + 1)"), False),
        (index("u", "b", predicate="(a > 3)"), False),
        (index("u", "((link.*)::text)"), True),
        (replace(index("u", "a"), valid=False), True),
        (replace(index("u", "a"), method="gist"), False),
        (replace(index("u", "(b + a)"), unique=False), False),
    ],
)
def test_a_unique_index_is_in_the_way_where_nobody_can_ask_it(
    schema: Schema, unique: Index, refused: bool
) -> None:
    schema = change(schema, LINK, indexes=(index("pk", "n", primary=True), unique))
    found = list(key_obstacles(schema, schema.foreign_keys[0]))
    assert bool(found) is refused
    assert all("index u" in obstacle.subject for obstacle in found)


def test_a_name_in_quotes_is_found_in_an_expression(schema: Schema) -> None:
    odd = 'a"b'
    link = schema.table(LINK)
    schema, key = the_key(
        change(schema, LINK, columns=(*link.columns, column(odd))), referencing_columns=(odd,)
    )
    unique = replace(index("u", '("a""b" + 1)'), valid=False)
    schema = change(schema, LINK, indexes=(index("pk", "n", primary=True), unique))
    assert [obstacle.subject for obstacle in key_obstacles(schema, key)] == ["s.link index u"]


def test_triggers_that_fire_are_told(schema: Schema) -> None:
    def trigger(name: str, event: str, state: TriggerState = TriggerState.ORIGIN) -> Trigger:
        return Trigger(
            name=name,
            function="f",
            timing="AFTER",
            events=(event,),
            for_each_row=True,
            state=state,
        )

    def with_triggers(table: Table) -> tuple[Trigger, ...]:
        return (
            trigger("Gone", "DELETE"),
            trigger("changed", "UPDATE", TriggerState.ALWAYS),
            trigger("off", "DELETE", TriggerState.DISABLED),
            trigger("elsewhere", "UPDATE", TriggerState.REPLICA),
        )

    for table in schema.tables:
        schema = change(schema, table.name, triggers=with_triggers(table))
    told = list(caveats(schema, schema.table(LETTER), schema.foreign_keys))
    assert [line.partition(";")[0] for line in told] == [
        'trigger "Gone" on s.letter fires AFTER DELETE',
        "trigger changed on s.link fires AFTER UPDATE",
    ]


def test_a_key_that_is_not_enforced_is_told(schema: Schema) -> None:
    trigger = KeyTrigger(name="t", table=LINK, function="f", state=TriggerState.DISABLED)
    for changes in ({"enforced": False}, {"triggers": (trigger,)}):
        changed, key = the_key(schema, **changes)
        assert list(caveats(changed, changed.table(LETTER), (key,))) == [
            "s.link.key_0 is not enforced: references that are made while the plan is applied may "
            "be left dangling"
        ]
