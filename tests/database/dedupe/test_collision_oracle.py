"""Random tables, rows and policies: the engine against a merge that goes row by row over dicts.

The oracle knows nothing of batches, locks or SQL. It computes what every row would hold, takes the
rows in the order of the policy, and gives up each that collides with one already taken.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg2
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fkdoctor.database import connect
from fkdoctor.dedupe.apply import apply_dedupe
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.policy import read_rules
from fkdoctor.dedupe.undo import undo_dedupe
from fkdoctor.errors import Blocked
from fkdoctor.inspect.catalog import inspect_database

Database = Any  # the fixture's class lives in conftest.py
Row = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """A foreign key: to which table, by number; 0 are the letters."""

    to: int
    action: str
    deferrable: bool


@dataclass(frozen=True)
class Unique:
    """A unique index over columns, perhaps for rows only of which `q` is 0, perhaps of lower(n)."""

    columns: tuple[str, ...]
    partial: bool
    deferrable: bool


@dataclass(frozen=True)
class Shape:
    """A table with its keys, its rows (places of the rows referenced, then p and q), its policy.

    With `keyed` it has no id of its own: its key columns and p are the primary key. Then it may be
    in `parts`, by its first key or by p.
    """

    keys: tuple[Key, ...]
    uniques: tuple[Unique, ...]
    keyed: bool
    rows: tuple[tuple[int | None, ...], ...]
    policy: str
    links: str
    parts: str = ""

    @property
    def divided_by(self) -> str:
        """The column that decides in which partition a row is; '' if there are none."""
        fits = self.keyed and all(self.parts in unique.columns for unique in self.uniques)
        return self.parts if fits else ""


@dataclass(frozen=True)
class World:
    """The letters (what they agree on, and which is above), the other tables, and the edits: which
    table, which row, which column. `parted` is whether the letters are in partitions."""

    letters: tuple[tuple[int | None, int | None, int], ...]
    tree: bool
    parted: bool
    above: str
    policy: str
    shapes: tuple[Shape, ...]
    edits: tuple[tuple[int, int, str], ...]
    batch_size: int


POLICIES = ["refuse", "keep_survivors", "newest:q", "oldest:q", "(p) asc", "most_complete"]
places = st.sampled_from([0, 1, 2, 3, 1, 2, 3, 4, 5, None])
small = st.sampled_from([0, 0, 0, 0, 1, None])


@st.composite
def shapes(draw: st.DrawFn, number: int) -> Shape:
    keys = tuple(
        Key(
            to=draw(st.sampled_from([0, 0, *range(1, number)])),
            action=draw(st.sampled_from(["no action", "restrict", "cascade", "set null"])),
            deferrable=draw(st.booleans()),
        )
        for _ in range(draw(st.sampled_from([1, 1, 1, 2])))
    )
    names = [*(f"k{i}" for i in range(1, len(keys))), "p"]
    uniques = tuple(
        Unique(
            columns=("k0", *draw(st.lists(st.sampled_from(names), unique=True))),
            partial=draw(st.integers(0, 3)) == 3,
            deferrable=draw(st.integers(0, 3)) == 3,
        )
        for _ in range(draw(st.sampled_from([1, 1, 1, 2])))
    )
    row = st.tuples(*(places for _ in keys), small, small)
    return Shape(
        keys=keys,
        uniques=uniques,
        keyed=draw(st.integers(0, 4)) == 4,
        rows=tuple(draw(st.lists(row, min_size=5, max_size=9))),
        policy=draw(st.sampled_from([*POLICIES, "demote(q = 1)"])),
        links=draw(st.sampled_from(["refuse", "delete", "delete"])),
        parts=draw(st.sampled_from(["", "k0", "k0", "p"])),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    number = draw(st.integers(4, 6))
    tree = draw(st.integers(0, 3)) == 3
    above = places if tree else st.none()
    letter = st.tuples(st.sampled_from([0, 0, 0, 1, 1]), above, st.integers(0, 1))
    return World(
        letters=tuple(draw(st.lists(letter, min_size=number, max_size=number))),
        tree=tree,
        parted=draw(st.integers(0, 3)) == 3,
        above=draw(st.sampled_from(["refuse", "null", "inherit"])),
        policy=draw(st.sampled_from(POLICIES)),
        shapes=tuple(draw(shapes(i)) for i in range(1, draw(st.integers(1, 3)) + 1)),
        edits=tuple(
            draw(
                st.lists(
                    st.tuples(st.integers(0, 3), st.integers(0, 7), st.sampled_from(["q", "gone"])),
                    max_size=draw(st.sampled_from([0, 0, 2])),
                )
            )
        ),
        batch_size=draw(st.integers(1, 3)),
    )


@dataclass
class Table:
    """A table of the oracle: rows by id; `forward` says for which other row one was given up."""

    name: str
    keys: dict[str, Key]
    uniques: list[Unique]
    identity: tuple[str, ...]
    policy: str
    links: str
    rows: dict[int, Row] = field(default_factory=dict)
    forward: dict[int, int | None] = field(default_factory=dict)
    demoted: set[int] = field(default_factory=set)

    def collide(self, one: Row, other: Row) -> bool:
        """Whether a unique index would not let both stand."""
        for unique in self.uniques:
            if unique.partial and (one["q"] != 0 or other["q"] != 0):
                continue
            values = [one[name] for name in unique.columns]
            if None not in values and values == [other[name] for name in unique.columns]:
                return True
        return False

    def weigh(self, row: Row) -> tuple[Any, ...]:
        """The smaller, the better, as the policy has it."""
        q, p = row["q"], row.get("p")
        match self.policy:
            case "newest:q":
                return (q is None, -(q or 0))
            case "oldest:q":
                return (q is None, q or 0)
            case "(p) asc":
                return (p is None, p or 0)
            case "most_complete":
                return (-sum(value is not None for value in row.values()),)
        return ()

    def identify(self, row: Row) -> tuple[Any, ...]:
        """What the row is known by."""
        return tuple(row[name] for name in self.identity)


class Oracle:
    """The world as dicts."""

    def __init__(self, world: World) -> None:
        self.refused: set[str] = set()
        above = {"above": Key(to=0, action="no action", deferrable=True)} if world.tree else {}
        uniques = [Unique(columns=("above", "p"), partial=False, deferrable=False)]
        uniques = uniques if world.tree and not world.parted else []
        self.above = world.above
        self.tables = [Table("letter", above, uniques, ("id",), world.policy, "refuse")]
        for number, (same, up, p) in enumerate(world.letters):
            up = up if up is not None and up < number else None
            row = {"id": number, "same": same, "above": up, "p": p, "q": number % 2}
            self._add(self.tables[0], row)
        for number, shape in enumerate(world.shapes, 1):
            keys = {f"k{i}": key for i, key in enumerate(shape.keys)}
            key_columns = (*keys, "p")
            table = Table(
                f"r{number}",
                keys,
                [*shape.uniques],
                key_columns if shape.keyed else ("id",),
                shape.policy,
                shape.links,
            )
            if shape.keyed:
                table.uniques.append(Unique(columns=key_columns, partial=False, deferrable=False))
            self.tables.append(table)
            for id_, values in enumerate(shape.rows):
                row = dict(zip((*keys, "p", "q"), values, strict=True)) | {"id": id_}
                for name, key in keys.items():
                    if row[name] not in self.tables[key.to].rows:
                        row[name] = None
                if not shape.keyed or None not in table.identify(row):
                    self._add(table, row)

    def _add(self, table: Table, row: Row) -> None:
        if not any(table.collide(row, other) for other in table.rows.values()):
            table.rows[row["id"]] = row

    def clusters(self) -> dict[int, list[int]]:
        """Survivor to duplicates."""
        groups: dict[int, list[int]] = {}
        for id_, row in sorted(self.tables[0].rows.items()):
            if row["same"] is not None:
                groups.setdefault(row["same"], []).append(id_)
        return {group[0]: group[1:] for group in groups.values() if len(group) > 1}

    def final(self, table: Table, row: Row) -> Row:
        """The row once all its references have moved."""
        moved = row | ({"q": 1} if row["id"] in table.demoted else {})
        for name, key in table.keys.items():
            target = self.tables[key.to]
            if row[name] in target.forward:
                end = target.forward[row[name]]
                own = target is table and end == row["id"]
                moved[name] = self._above(row["id"], row[name]) if own else end
        return moved

    def _above(self, survivor: int, duplicate: int) -> int | None:
        """What a survivor references in place of its own duplicate."""
        letters, met = self.tables[0], set()
        while self.above == "inherit" and duplicate not in met:
            met.add(duplicate)
            up: int | None = letters.rows[duplicate]["above"]
            if up is None or up == survivor:
                return None
            if letters.forward.get(up) != survivor:
                return letters.forward.get(up, up)
            duplicate = up
        return None

    def merge(self, clusters: dict[int, list[int]]) -> None:
        """Does it all; `refused` then says what must not have been done."""
        root = self.tables[0]
        root.forward = {d: s for s, duplicates in clusters.items() for d in duplicates}
        for survivor in clusters:
            if (
                self.above == "refuse"
                and root.forward.get(root.rows[survivor]["above"]) == survivor
            ):
                self.refused.add("a survivor references its duplicate")
        for table in self.tables:
            self._drop_links(table)
            while self._give_up(table):
                pass
        for table in self.tables:
            for id_, row in table.rows.items():
                for name, key in table.keys.items():
                    forward = self.tables[key.to].forward
                    if id_ not in table.forward and forward.get(row[name], 0) is None:
                        self.refused.add("a link has rows of its own")
            finals = {id_: self.final(table, row) for id_, row in table.rows.items()}
            for lost, kept in table.forward.items():
                if table is not root or lost not in (d for ds in clusters.values() for d in ds):
                    self._judge(table, finals, lost, kept)
            table.rows = {id_: finals[id_] for id_ in finals if id_ not in table.forward}

    def _judge(self, table: Table, finals: dict[int, Row], lost: int, kept: int | None) -> None:
        if kept is None:
            if table.links == "refuse":
                self.refused.add("a link")
        elif table.policy == "refuse":
            ignored = {*table.identity, "id"}
            one, other = finals[lost], finals[kept]
            if any(one[name] != other[name] for name in one if name not in ignored):
                self.refused.add("rows differ")

    def _drop_links(self, table: Table) -> None:
        for id_, row in table.rows.items():
            ends: dict[int, list[int]] = {}
            for name, key in table.keys.items():
                if row[name] is not None:
                    ends.setdefault(key.to, []).append(row[name])
            for to, found in ends.items():
                forward = self.tables[to].forward
                lead = {forward.get(end, end) for end in found}
                if len(set(found)) == 2 and len(lead) == 1:
                    table.forward[id_] = None

    def _give_up(self, table: Table) -> bool:
        """Whether more rows turned out to collide."""
        alive = {id_: row for id_, row in table.rows.items() if id_ not in table.forward}
        finals = {id_: self.final(table, row) for id_, row in alive.items()}
        survivors = set(table.forward.values())
        moved = {
            id_
            for id_, row in alive.items()
            if any(row[name] in self.tables[key.to].forward for name, key in table.keys.items())
        }
        order = sorted(
            alive,
            key=lambda id_: (
                id_ not in survivors,
                table.weigh(alive[id_] | ({} if "id" in table.identity else {"id": None})),
                id_ in moved,
                table.identify(alive[id_]),
            ),
        )
        kept: list[int] = []
        if table.policy.startswith("demote"):
            return self._demote(table, order, finals)
        before = len(table.forward)
        for id_ in order:
            rival = next((k for k in kept if table.collide(finals[id_], finals[k])), None)
            if rival is None:
                kept.append(id_)
            else:
                if id_ in survivors:
                    self.refused.add("a row that stays for others collides")
                table.forward[id_] = rival
        return len(table.forward) > before and table is self.tables[0]

    def _demote(self, table: Table, order: list[int], finals: dict[int, Row]) -> bool:
        """Whether more rows had to make way by another value."""
        losers, kept = [], list[int]()
        for id_ in order:
            rivals = [k for k in kept if table.collide(finals[id_], finals[k])]
            losers += [id_] if rivals else []
            kept += [] if rivals else [id_]
            if any(one in table.demoted for one in rivals) or (rivals and id_ in table.demoted):
                self.refused.add("a demoted row collides still")
                return False
        table.demoted |= set(losers)
        return bool(losers)

    def contents(self) -> list[list[tuple[Any, ...]]]:
        """All rows, comparable with the engine's."""
        found = []
        for table in self.tables:
            names = [*table.keys, "p", "q"] + (["id"] if "id" in table.identity else [])
            rows = [tuple(row[name] for name in names) for row in table.rows.values()]
            found.append(sorted(rows, key=repr))
        return found


def statements(world: World) -> Iterator[str]:
    parts = " partition by hash (id)" if world.parted else ""
    yield f"create table letter (id int primary key, same int, above int, p int, q int){parts}"
    if world.parted:
        for part in range(3):
            bound = f"with (modulus 3, remainder {part})"
            yield f"create table letter_{part} partition of letter for values {bound}"
    if world.tree:
        yield "alter table letter add foreign key (above) references letter deferrable"
    if world.tree and not world.parted:
        yield "create unique index on letter (above, p)"
    for number, shape in enumerate(world.shapes, 1):
        names = [f"k{i}" for i in range(len(shape.keys))]
        columns = ", ".join(f"{name} int" for name in names)
        key = f"primary key ({', '.join(names)}, p)" if shape.keyed else "primary key (id)"
        number_column = "" if shape.keyed else "id int, "
        parts = f" partition by list ({shape.divided_by})" if shape.divided_by else ""
        yield f"create table r{number} ({number_column}{columns}, p int, q int, {key}){parts}"
        if parts:
            yield f"create table r{number}_some partition of r{number} for values in (1, 2)"
            yield f"create table r{number}_rest partition of r{number} default"
        for name, reference in zip(names, shape.keys, strict=True):
            to = "letter" if reference.to == 0 else f"r{reference.to}"
            late = "deferrable initially deferred" if reference.deferrable else ""
            action = reference.action
            yield (
                f"alter table r{number} add foreign key ({name}) references {to} (id) "
                f"on delete {action} {late}"
            )
        for unique in shape.uniques:
            over = ", ".join(unique.columns)
            if unique.deferrable and not unique.partial:
                yield f"alter table r{number} add unique ({over}) deferrable initially deferred"
            else:
                where = " where q = 0" if unique.partial else ""
                yield f"create unique index on r{number} ({over}){where}"


def usable(world: World) -> bool:
    """Whether no key references a table without ids."""
    return not any(
        key.to and world.shapes[key.to - 1].keyed for shape in world.shapes for key in shape.keys
    )


class Engine:
    """The same world in the database."""

    def __init__(self, db: Database, world: World) -> None:
        self.db, self.world = db, world

    def write(self, oracle: Oracle) -> None:
        """Fills the empty tables."""
        with psycopg2.connect(self.db.url) as connection, connection.cursor() as cursor:
            for table in oracle.tables:
                for row in table.rows.values():
                    names = [*table.keys, "p", "q"]
                    names += ["id"] if "id" in table.identity else []
                    names += ["same"] if table.name == "letter" else []
                    cursor.execute(
                        f"insert into {table.name} ({', '.join(names)}) values %s",
                        (tuple(row[name] for name in names),),
                    )
        connection.close()

    def read(self, oracle: Oracle) -> list[list[tuple[Any, ...]]]:
        """All rows."""
        found = []
        for table in oracle.tables:
            names = [*table.keys, "p", "q"] + (["id"] if "id" in table.identity else [])
            rows = self.db.execute(f"select {', '.join(names)} from {table.name}")
            found.append(sorted(rows, key=repr))
        return found


@settings(
    deadline=None,
    max_examples=int(os.environ.get("FKDOCTOR_EXAMPLES", "40")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds().filter(usable))
def test_collisions_are_merged_as_the_oracle_does(db: Database, world: World) -> None:
    db.clean()
    db.execute(";".join(statements(world)))
    check(db, world)


def check(db: Database, world: World) -> None:
    engine, before, oracle = Engine(db, world), Oracle(world), Oracle(world)
    engine.write(before)
    clusters = oracle.clusters()
    oracle.merge(clusters)
    path = db.folder / f"{uuid4().hex}.jsonl"
    with connect(db.engine()) as connection:
        schema = inspect_database(connection)
        given = [("collisions", f"letter={world.policy}"), ("above", f"letter={world.above}")]
        for number, shape in enumerate(world.shapes, 1):
            given += [
                ("collisions", f"r{number}={shape.policy}"),
                ("links", f"r{number}={shape.links}"),
            ]
        rules = read_rules(schema, schema.resolve_table, given)
        criteria = Criteria(match=("same",), survivor=(), rules=rules)
        plan = plan_dedupe(connection, schema, schema.resolve_table("letter"), criteria, path)
        if plan.obstacles:
            event("refused by the plan")
            # A tree may be refused for what only the engine has to mind: loops, whose turn it is.
            assert oracle.refused or world.tree, plan.obstacles
            assert engine.read(before) == before.contents()
            return
        assert not oracle.refused
        edit(db, world, before)
        edited = engine.read(before)
        try:
            done = apply_dedupe(connection, path, batch_size=world.batch_size)
        except Blocked:
            event("refused when applied")
            if not world.tree:
                raise
            assert engine.read(before) == edited
            return
        lines = [json.loads(line) for line in path.read_text().splitlines()[1:]]
        fresh = {}
        for line in lines:
            if line["cluster"] not in done.stale:
                for merge in (line, *line.get("tied", ())):
                    ids = [int(member[0]) for member in merge["duplicates"]]
                    fresh[int(merge["survivor"][0])] = ids
        if not world.edits:
            assert done.stale == ()
        before.merge(fresh)
        assert not before.refused
        event(f"merged {'with' if plan.resolutions else 'without'} collisions")
        assert engine.read(before) == before.contents()
        if done.stale == ():
            again = plan_dedupe(connection, schema, plan.table, criteria, path)
            assert (again.duplicates, again.resolutions) == (0, ())
        back = undo_dedupe(connection, done.run_id, batch_size=world.batch_size)
        assert back.kept == ()
    assert engine.read(before) == edited


def edit(db: Database, world: World, oracle: Oracle) -> None:
    """What somebody does between plan and apply."""
    for place, pick, what in world.edits:
        table = oracle.tables[place % len(oracle.tables)]
        if not table.rows:
            continue
        id_ = sorted(table.rows)[pick % len(table.rows)]
        row = table.rows[id_]
        where = " and ".join(f"{name} = {row[name]}" for name in table.identity)
        referenced = any(
            other[name] == id_
            for referencing in oracle.tables
            for other in referencing.rows.values()
            for name, key in referencing.keys.items()
            if oracle.tables[key.to] is table
        )
        if what == "gone" and not referenced:
            db.execute(f"delete from {table.name} where {where}")
            del table.rows[id_]
        elif what == "q":
            changed = row | {"q": 5}
            if not any(
                table.collide(changed, other) for other in table.rows.values() if other is not row
            ):
                db.execute(f"update {table.name} set q = 5 where {where}")
                table.rows[id_] = changed
