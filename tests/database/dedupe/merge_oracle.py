"""A merge that goes row by row over dicts: slow, and right to the eye.

It knows nothing of batches, locks or SQL. It computes what every row would hold, takes the rows in
the order of the policy, and gives up each that collides with one already taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from merge_world import Key, Unique, World, name_table

Row = dict[str, Any]


@dataclass
class Table:
    """A table of the oracle: rows by id; `forward` says for which other row one was given up."""

    name: str
    keys: dict[str, Key]
    uniques: list[Unique]
    identity: tuple[str, ...]
    policy: str
    links: str
    field: str
    major: int
    holds: str = ""
    held: int = 0
    rows: dict[int, Row] = field(default_factory=dict)
    forward: dict[int, int | None] = field(default_factory=dict)
    demoted: set[int] = field(default_factory=set)

    @property
    def columns(self) -> list[str]:
        """What can be written."""
        names = ["id"] if "id" in self.identity else []
        names += ["same", "above", "a"] if self.name == "letter" else []
        for name, key in self.keys.items():
            names += [name] * (name not in names) + [f"{name}x"] * key.wide
        return [*names, "p", "q", "v", *(["e"] if self.holds else [])]

    def points(self, row: Row, name: str) -> int | None:
        """What the row references by the key."""
        key, to = self.keys[name], row[name]
        if key.how == "composite" and row[f"{name}x"] is None:
            return None
        if key.how == "pair" and row[f"{name}x"] != 1:
            return None
        return to  # type: ignore[no-any-return]

    def collide(self, one: Row, other: Row) -> bool:
        """Whether a constraint would not let both stand."""
        return any(self._hit(unique, one, other) for unique in self.uniques)

    def _hit(self, unique: Unique, one: Row, other: Row) -> bool:
        mine, theirs = ([row[name] for name in unique.columns] for row in (one, other))
        match unique.kind:
            case "partial" if one["q"] != 0 or other["q"] != 0:
                return False
            case "nulls" if self.major >= 15:
                return mine == theirs
            case "exclusion":
                ends = [one["k0"], one["p"], other["k0"], other["p"]]
                return None not in ends and mine[0] == theirs[0] and abs(ends[1] - ends[3]) <= 1
            case "expression" | "generated":
                mine[0], theirs[0] = (v and v % 2 for v in (mine[0], theirs[0]))
        return None not in mine and mine == theirs

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
                generated = any(unique.kind == "generated" for unique in self.uniques)
                names = [*self.columns, *(["k0"] if generated else [])]
                return (-sum(row[name] is not None for name in names),)
        return ()

    def identify(self, row: Row) -> tuple[Any, ...]:
        """What the row is known by."""
        return tuple(row[name] for name in self.identity)


class Oracle:
    """The world as dicts. `refused` says what must not be done, `differing` why clusters are left
    out, `clashing` which tables have rows that collide by what they took over, or that move to
    where another one only leaves: PostgreSQL looks after each row."""

    def __init__(self, world: World, major: int) -> None:
        self.refused: set[str] = set()
        self.differing = False
        self.clashing: set[str] = set()
        up = Key(to=0, action="no action", deferrable=True, how="key")
        single = [Unique(columns=("above", "p"), kind="plain", deferrable=False)]
        self.above = world.above
        letter = Table(
            "letter",
            {"above": up} if world.tree else {},
            single if world.tree and not world.parted else [],
            ("a", "id") if world.wide else ("id",),
            world.policy,
            "refuse",
            world.field,
            major,
        )
        self.tables = [letter]
        for number, (same, over, p, a, v) in enumerate(world.letters):
            over = over if over is not None and over < number else None
            row = {"id": number, "same": same, "above": over, "p": p, "q": number % 2}
            self._add(letter, row | {"a": a, "v": v})
        for number, shape in enumerate(world.shapes, 1):
            keys = {f"k{i}": key for i, key in enumerate(shape.keys)}
            table = Table(
                name_table(number),
                keys,
                [*shape.uniques],
                (*keys, "p") if shape.keyed else ("id",),
                shape.policy,
                shape.links,
                shape.field,
                major,
                shape.holds,
                shape.held,
            )
            if shape.keyed:
                columns = table.identity
                table.uniques.append(Unique(columns=columns, kind="plain", deferrable=False))
            self.tables.append(table)
            for id_, (ends, held, p, q, v, x) in enumerate(shape.rows):
                row = {"id": id_, "p": p, "q": q, "v": v, "e": list(held)}
                for (name, key), end in zip(keys.items(), ends, strict=True):
                    row |= self._point(name, key, end, x)
                if not shape.keyed or None not in table.identify(row):
                    self._add(table, row)

    def _point(self, name: str, key: Key, end: int | None, x: int | None) -> Row:
        there = end in self.tables[key.to].rows
        match key.how:
            case "key":
                return {name: end if there else None}
            case "composite":
                a = self.tables[0].rows[end]["a"] if end is not None and there else None
                return {name: end if there else None, f"{name}x": a if x is not None else None}
            case "pair":
                return {name: end, f"{name}x": x if x is None else x + 1}
        return {name: end}

    def _add(self, table: Table, row: Row) -> None:
        if not any(table.collide(row, other) for other in table.rows.values()):
            table.rows[row["id"]] = row

    def clusters(self) -> dict[int, list[int]]:
        """Survivor to duplicates."""
        letters, groups = self.tables[0], dict[int, list[int]]()
        for id_, row in sorted(letters.rows.items(), key=lambda item: letters.identify(item[1])):
            if row["same"] is not None:
                groups.setdefault(row["same"], []).append(id_)
        return {group[0]: group[1:] for group in groups.values() if len(group) > 1}

    def final(self, table: Table, row: Row) -> Row:
        """The row once all its references have moved."""
        moved = row | ({"q": 1} if row["id"] in table.demoted else {})
        for name, key in table.keys.items():
            target, end = self.tables[key.to], table.points(row, name)
            if end in target.forward:
                new = target.forward[end]
                if target is table and new == row["id"]:
                    new = self._above(row["id"], end)
                moved[name] = new
                if key.how == "composite" and new is not None:
                    moved[f"{name}x"] = target.rows[new]["a"]
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

    def _hold(self, table: Table, held: list[int]) -> list[int | None]:
        """What the value holds once its references have moved: of those that come to lead to one
        row, the first."""
        forward = self.tables[table.held].forward
        moved = [forward.get(one, one) for one in held]
        reached = {new for old, new in zip(held, moved, strict=True) if new != old}
        return [new for i, new in enumerate(moved) if new not in reached or new not in moved[:i]]

    def merge(self, clusters: dict[int, list[int]]) -> None:
        """Does it all; `refused` then says what must not have been done."""
        root = self.tables[0]
        root.forward = {d: s for s, duplicates in clusters.items() for d in duplicates}
        for survivor in clusters:
            end = root.forward.get(root.rows[survivor]["above"])
            if self.above == "refuse" and end == survivor:
                self.refused.add("a survivor references its duplicate")
        for table in self.tables:
            self._drop_links(table)
            while self._give_up(table):
                pass
        given = {duplicate for duplicates in clusters.values() for duplicate in duplicates}
        for table in self.tables:
            self._look_for_lost(table)
            finals = {id_: self.final(table, row) for id_, row in table.rows.items()}
            for lost, kept in table.forward.items():
                if table is not root or lost not in given:
                    self._judge(table, finals, lost, kept)
        # Only now: what rows hold now is asked until the last one has moved.
        self._finish()

    def _look_for_lost(self, table: Table) -> None:
        for id_, row in table.rows.items():
            for name, key in table.keys.items():
                forward = self.tables[key.to].forward
                if id_ not in table.forward and forward.get(table.points(row, name), 0) is None:
                    self.refused.add("a link has rows of its own")
            forward = self.tables[table.held].forward
            held = row["e"] if table.holds and id_ not in table.forward else ()
            if any(forward.get(one, 0) is None for one in held):
                self.refused.add("a link has rows of its own")

    def _finish(self) -> None:
        done, clashing = [], self.clashing
        for table in self.tables:
            rows = {}
            for id_, row in table.rows.items():
                if id_ in table.forward:
                    continue
                lost = [table.rows[one] for one, to in table.forward.items() if to == id_]
                lost.sort(key=table.identify)
                taken = self._take_over(table, row, lost) if lost else row
                rows[id_] = self.final(table, row) | {
                    name: taken[name] for name in taken if taken[name] != row[name]
                }
                if table.holds and taken["e"] is not None:
                    rows[id_]["e"] = self._hold(table, taken["e"])
            done.append(rows)
        for table, rows in zip(self.tables, done, strict=True):
            alive = list(rows.values())
            left = [table.rows[id_] for id_ in rows if rows[id_] != table.rows[id_]]
            if any(
                one["id"] != other["id"] and table.collide(one, other)
                for one in alive
                for other in (*alive, *left)
            ):
                clashing.add(table.name)
            table.rows = rows

    def _take_over(self, table: Table, row: Row, lost: list[Row]) -> Row:
        """The row that stays with what it takes over from those that go, sorted by key."""
        rules = {"v": table.field} if table.field else {}
        if table.policy == "merge_fields":
            moving = {
                column
                for name, key in table.keys.items()
                if self.tables[key.to].forward
                for column in [name, *([f"{name}x"] if key.how == "composite" else [])]
            }
            moving |= {"e"} if self.tables[table.held].forward else set()
            mine = {*table.columns} - moving - {*table.identity}
            rules = dict.fromkeys(mine, "coalesce") | rules
        rows, new = [row, *lost], dict(row)
        for name, rule in rules.items():
            given = [one for one in rows if one[name] is not None]
            values = [one[name] for one in given]
            if not values:
                continue
            match rule:
                case "coalesce":
                    new[name] = values[0]
                case "sum" | "min" | "max":
                    new[name] = {"sum": sum, "min": min, "max": max}[rule](values)
                case _:
                    sign = -1 if rule == "newest:q" else 1
                    best = min(given, key=lambda one: (one["q"] is None, sign * (one["q"] or 0)))
                    new[name] = best[name]
        return new

    def _judge(self, table: Table, finals: dict[int, Row], lost: int, kept: int | None) -> None:
        if kept is None:
            if table.links == "refuse":
                self.refused.add("a link")
        elif table.policy in ("refuse", "skip"):
            compared = {*table.columns} - {*table.identity, "id"}
            one, other = finals[lost], finals[kept]
            if any(one[name] != other[name] for name in compared):
                if table.policy == "skip":
                    self.differing = True
                else:
                    self.refused.add("rows differ")

    def _drop_links(self, table: Table) -> None:
        for id_, row in table.rows.items():
            ends: dict[int, list[int]] = {}
            for name, key in table.keys.items():
                end = table.points(row, name)
                if end is not None:
                    ends.setdefault(key.to, []).append(end)
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
            if any(
                table.points(row, name) in self.tables[key.to].forward
                for name, key in table.keys.items()
            )
        }
        order = sorted(
            alive,
            key=lambda id_: (
                id_ not in survivors,
                table.weigh(alive[id_]),
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
        return [
            sorted((tuple(row[name] for name in table.columns) for row in rows), key=repr)
            for table in self.tables
            for rows in [table.rows.values()]
        ]
