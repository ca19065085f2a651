"""What the merges of a table bring about in the tables that reference it, to any depth.

A row that would break a constraint once its references have moved is itself a duplicate, of the
row that it collides with; so its own references move too. Planned and applied by the same code: the
plan over all clusters, an apply over those of a batch, to compare with the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from sqlalchemy import Connection

from fkdoctor.database import read_snapshot
from fkdoctor.dedupe.obstacles import key_obstacles, mentions
from fkdoctor.dedupe.ordering import order_by
from fkdoctor.dedupe.partitions import all_indexes
from fkdoctor.dedupe.plan import CollisionRule, Obstacle
from fkdoctor.dedupe.policy import (
    INHERIT,
    KEEP_REFERENCING,
    is_demotion,
    order_of,
    parse_demotion,
)
from fkdoctor.identifier import quote
from fkdoctor.inspect.graph import delete_order
from fkdoctor.resources import execute_query
from fkdoctor.schema import LogicalReference, Schema, Table, TableName
from fkdoctor.statement import contest as contests
from fkdoctor.statement import image as images
from fkdoctor.statement import verdict
from fkdoctor.statement.ascent import ascent_name, create_ascent
from fkdoctor.statement.contest import ContestTable, Exclusive
from fkdoctor.statement.embedded import (
    EmbeddedTable,
    create_embedded,
    select_embedded_ties,
    select_member_ties,
    select_shared_ties,
)
from fkdoctor.statement.image import Demotion, ImageTable
from fkdoctor.statement.members import (
    MemberTable,
    analyze_members,
    carry_columns,
    create_members,
)
from fkdoctor.statement.merge import find_stale_clusters, lock_members
from fkdoctor.statement.parts import Query
from fkdoctor.statement.temporary import analyze_temporary, drop_temporary


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the catalog says of constraints beyond the Schema, by table: expressions of generated
    columns, and operators of constraints that exclude rows."""

    generated: Mapping[TableName, Mapping[str, str]]
    operators: Mapping[tuple[TableName, str], tuple[str, ...]]


def read_facts(connection: Connection) -> Facts:
    """The facts, of the whole database. The connection must not be in a transaction."""
    generated: dict[TableName, dict[str, str]] = {}
    with read_snapshot(connection):
        for row in execute_query(connection, "dedupe/generated"):
            of_table = generated.setdefault(TableName(row.schema, row.name), {})
            of_table[row.column_name] = row.expression
        operators = {
            (TableName(row.schema, row.name), row.constraint_name): tuple(row.operators)
            for row in execute_query(connection, "dedupe/exclusions")
        }
    return Facts(generated=generated, operators=operators)


@dataclass(kw_only=True)
class Derivation:
    """The member tables, the deduplicated table's first, and what was found on the way.

    `made` are member tables that exist already, and are empty but for the first. `ties` are pairs
    of clusters that only go together. Rows in `demoted` stay, with another value in one column.
    `references` are those of fkdoctor.toml. With `lock`, rows that collide are locked;
    `stale` are clusters of which one of them changed while that was waited for.
    """

    schema: Schema
    facts: Facts
    rules: Mapping[TableName, CollisionRule]
    members: dict[TableName, MemberTable]
    made: dict[TableName, MemberTable]
    images: dict[TableName, ImageTable] = field(default_factory=dict)
    ties: set[tuple[int, int]] = field(default_factory=set)
    obstacles: dict[Obstacle, None] = field(default_factory=dict)
    lock: bool = False
    stale: set[int] = field(default_factory=set)
    demoted: dict[TableName, MemberTable] = field(default_factory=dict)
    references: tuple[LogicalReference, ...] = ()

    def __post_init__(self) -> None:
        self.members = {name: _let_inherit(self, members) for name, members in self.members.items()}

    def rule(self, table: TableName) -> CollisionRule:
        """What the user wants done in the table."""
        return self.rules.get(table) or CollisionRule(table=table)

    def carry(self, table: Table, number: int) -> MemberTable:
        """A member table for the table."""
        keys = self.schema.keys_to(table.name)
        return carry_columns(table, keys, number, self.references)

    def embedded(self) -> Iterator[EmbeddedTable]:
        """The references within values that lead to members."""
        for number, reference in enumerate(self.references):
            members = self.members.get(reference.referenced)
            table = self.schema.table(reference.referencing)
            if members and reference.embedded and table.row_identity:
                going = self.members.get(table.name)
                yield EmbeddedTable(
                    reference=reference, table=table, members=members, going=going, number=number
                )

    def refuse(self, subject: str, reason: str) -> None:
        """Writes down what is in the way."""
        self.obstacles[Obstacle(subject=subject, reason=reason)] = None

    def forget(self) -> None:
        """Goes back to where only the deduplicated table has members, and these are as given."""
        root = next(iter(self.members))
        self.members = {root: self.members[root]}
        self.images, self.ties, self.obstacles, self.stale = {}, set(), {}, set()
        self.demoted = {}

    def merged(self) -> tuple[TableName, ...]:
        """The tables with members, referencing before referenced."""
        groups = delete_order(self.schema, self.members)
        return tuple(name for group in groups for name in group)


def derive_collisions(connection: Connection, derivation: Derivation) -> None:
    """Finds every row that collides, from the members of the deduplicated table on.

    Member tables are made for the tables in which it finds some.
    """
    (root,) = derivation.members
    schema = derivation.schema
    reached = _reach(schema, root)
    for group in reversed(delete_order(schema, reached)):
        again = True
        while again:
            found = [_look_at(connection, derivation, name) for name in group]
            merged = [name for name in group if name in derivation.members]
            if len(merged) > 1:
                _refuse_circle(derivation, merged, group)
                return
            again = any(found) and any(
                key.referenced in group for name in group for key in schema.keys_from(name)
            )
    for embedded in derivation.embedded():
        fill_embedded(connection, embedded)
        _tie(connection, derivation, select_embedded_ties(embedded))
        if embedded.going:
            _tie(connection, derivation, select_member_ties(embedded))
    for one, other in combinations(derivation.embedded(), 2):
        if one.place == other.place:
            _tie(connection, derivation, select_shared_ties(one, other))


def _refuse_circle(
    derivation: Derivation, merged: Sequence[TableName], group: Sequence[TableName]
) -> None:
    """Rows of several of the group's tables would go, and there is no order in which they can."""
    keys = [key for name in group for key in derivation.schema.keys_from(name)]
    within = ", ".join(key.label for key in keys if key.referenced in group)
    others = [name for name in merged if name != next(iter(derivation.members))]
    advice = f"--on-collision {quote(others[0].name)}='demote(column = value)'"
    derivation.refuse(
        ", ".join(str(name) for name in merged),
        f"rows of each would go because they collide, and {within} form a circle, so that neither "
        f"can go first; let those of one table stay: {advice}",
    )


def fill_embedded(connection: Connection, embedded: EmbeddedTable) -> None:
    """Computes what the rows will hold that have references within a value."""
    connection.execute(drop_temporary(embedded.name))
    connection.execute(create_embedded(embedded))


def _reach(schema: Schema, root: TableName) -> set[TableName]:
    reached, waiting = {root}, [root]
    while waiting:
        for key in schema.keys_to(waiting.pop()):
            if key.referencing not in reached:
                reached.add(key.referencing)
                waiting.append(key.referencing)
    return reached


def _look_at(connection: Connection, derivation: Derivation, name: TableName) -> bool:
    """Whether more rows of the table turned out to collide, and others may therefore."""
    image = image_of(derivation, name)
    if image is None:
        return False
    if image.own:
        _climb(connection, image.own)
        for query in images.select_own_ties(image):
            _tie(connection, derivation, query)
    found = _drop_links(connection, derivation, image)
    if is_demotion(derivation.rule(name).collisions):
        _prepare_demotion(connection, derivation, image)
    exclusives = tuple(_find_exclusives(derivation, image_of(derivation, name) or image))
    lost = bool(exclusives)
    while lost:
        image = image_of(derivation, name) or image
        if image.own:
            _climb(connection, image.own)  # a link that goes is above nobody
        lost = _hold_contests(connection, derivation, image, exclusives) > 0
        found += lost
        lost = lost and image.demotion is not None  # do they collide as they are then?
    if found and derivation.lock:
        for changing in (derivation.members.get(name), derivation.demoted.get(name)):
            if changing:
                connection.execute(lock_members(changing)).close()
                derivation.stale |= set(connection.execute(find_stale_clusters(changing)).scalars())
    return found > 0


def image_of(derivation: Derivation, name: TableName) -> ImageTable | None:
    """What moves in the table; None where nothing can.

    Keys with an obstacle are left out: a plan in which references move by them is refused.
    """
    schema = derivation.schema
    moves = tuple(
        (key, derivation.members[key.referenced])
        for key in schema.keys_from(name)
        if key.referenced in derivation.members and not any(key_obstacles(schema, key))
    )
    if not moves:
        return None
    known = derivation.images.get(name)
    image = ImageTable(
        table=schema.table(name),
        number=known.number if known else len(derivation.images),
        moves=moves,
        own=derivation.members.get(name),
        demotion=_demotion_of(derivation, name),
    )
    derivation.images[name] = image
    return image


def _prepare_demotion(connection: Connection, derivation: Derivation, image: ImageTable) -> None:
    """Makes the table of the rows that are demoted."""
    table = image.table
    if table.name not in derivation.demoted:
        members = derivation.carry(table, image.number)
        members = replace(members, demoted=True)
        connection.execute(drop_temporary(members.name))
        connection.execute(create_members(members))
        derivation.demoted[table.name] = members


def _demotion_of(derivation: Derivation, name: TableName) -> Demotion | None:
    if name not in derivation.demoted:
        return None
    policy = derivation.rule(name).collisions
    column, value = parse_demotion(derivation.schema.table(name), policy)
    return Demotion(members=derivation.demoted[name], column=column, value=value)


def _find_exclusives(derivation: Derivation, image: ImageTable) -> Iterator[Exclusive]:
    """The constraints that a row of the table could break because it moves."""
    table = image.table
    moving = set(image.moving)
    moving |= {column.name for column in table.columns if column.generated}
    for place, (part, index) in enumerate(all_indexes(derivation.schema, table)):
        operators = derivation.facts.operators.get((part.name, index.constraint or ""), ())
        if (index.unique or operators) and mentions(index, moving):
            leaves = () if part is table else derivation.schema.leaves(part.name)
            yield Exclusive(
                place=place,
                name=index.constraint or index.name,
                index=index,
                operators=operators,
                leaves=tuple(leaf.name for leaf in leaves),
            )


def members_of(connection: Connection, derivation: Derivation, table: Table) -> MemberTable:
    """The table's member table, which is made if it is missing."""
    if table.name not in derivation.members:
        members = derivation.made.get(table.name)
        if members is None:
            number = max(len(derivation.members), len(derivation.made))
            members = derivation.carry(table, number)
            members = _let_inherit(derivation, members)
            connection.execute(create_members(members))
            derivation.made[table.name] = members
        derivation.members[table.name] = members
    return derivation.members[table.name]


def _let_inherit(derivation: Derivation, members: MemberTable) -> MemberTable:
    """The members, whose survivors inherit where the user wants it."""
    name = members.table.name
    if derivation.rule(name).above != INHERIT:
        return members
    own = [key for key in derivation.schema.keys_to(name) if key.self_referencing]
    return replace(members, inheriting=tuple(own))


def _climb(connection: Connection, members: MemberTable) -> None:
    """Finds out what survivors inherit, as their clusters are by now."""
    for key in members.inheriting:
        connection.execute(drop_temporary(ascent_name(members, key)))
        connection.execute(create_ascent(members, key))


def _drop_links(connection: Connection, derivation: Derivation, image: ImageTable) -> int:
    """How many rows link different rows of one merge."""
    queries = list(images.find_links(image))
    if not any(connection.execute(query).first() for query in queries):
        return 0
    members = members_of(connection, derivation, image.table)
    dropped = sum(
        connection.execute(statement).rowcount for statement in images.insert_links(image, members)
    )
    connection.execute(analyze_members(members))
    return dropped


def _tie(connection: Connection, derivation: Derivation, query: Query) -> None:
    for (clusters,) in connection.execute(query):
        first = min(clusters)
        derivation.ties |= {(first, other) for other in clusters if other != first}


def _hold_contests(
    connection: Connection,
    derivation: Derivation,
    image: ImageTable,
    exclusives: Sequence[Exclusive],
) -> int:
    """How many rows collide with others that stay."""
    contest = ContestTable(
        image=image, generated=derivation.facts.generated.get(image.table.name, {})
    )
    for name in (image.name, contest.name):
        connection.execute(drop_temporary(name))
    connection.execute(images.create_image(image))
    connection.execute(analyze_temporary(image.name))
    connection.execute(contests.create_contest(contest))
    entries = 0
    for exclusive in exclusives:
        entries += connection.execute(contests.find_contests(contest, exclusive)).rowcount
    if not entries:
        return 0
    rule = derivation.rule(image.table.name)
    if image.demotion:
        members = image.demotion.members
    else:
        members = members_of(connection, derivation, image.table)
    order = [order_by(members, rule) for rule in order_of(image.table, rule.collisions)]
    # Without statistics the planner takes every row to meet every other.
    connection.execute(analyze_temporary(contest.name))
    connection.execute(verdict.rank_rows(contest, order, members.row))
    connection.execute(analyze_temporary(contest.name))
    while connection.execute(verdict.keep_best(contest)).rowcount:
        connection.execute(analyze_temporary(contest.name))
        connection.execute(verdict.drop_beaten(contest))
    connection.execute(analyze_temporary(contest.name))
    # By other keys, rows move when those that go are gone.
    if not image.demotion and any(key.self_referencing for key, _ in image.moves):
        _refuse_blocked(connection, derivation, contest)
    if image.demotion:
        for (key,) in connection.execute(verdict.find_demoted(contest)):
            derivation.refuse(
                str(image.table.name),
                f"row ({', '.join(key)}) collides still with "
                f"{quote(image.demotion.column)} = {image.demotion.value or 'NULL'}",
            )
            return 0
    _tie(connection, derivation, verdict.select_ties(contest))
    lost, kept = verdict.insert_losers(contest, members, exclusives)
    losers = connection.execute(lost).rowcount
    connection.execute(analyze_members(members))
    connection.execute(kept)
    connection.execute(analyze_members(members))
    for (key,) in connection.execute(verdict.find_double_losers(members)):
        derivation.refuse(
            str(image.table.name), f"row ({', '.join(key)}) stays for others and collides itself"
        )
    return int(losers)


def _refuse_blocked(connection: Connection, derivation: Derivation, contest: ContestTable) -> None:
    name = contest.image.table.name
    advice = f"let the other one stay: --on-collision {quote(name.name)}={KEEP_REFERENCING}"
    if derivation.rule(name).collisions == KEEP_REFERENCING:
        advice = "take its cluster out of the matches, or that row away"
    for (key,) in connection.execute(verdict.find_blocked_moves(contest)):
        derivation.refuse(
            str(contest.image.table.name),
            f"row ({', '.join(key)}) would stay and move to where another still is; {advice}",
        )
