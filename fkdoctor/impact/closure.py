"""Finds all rows that a DELETE reaches set by set, and judges by the level at which each goes.

A key that looks at referencing rows in phase k finds those still there that go at a later level
than k, or at k + 1 by something that fires after it. Where no circle of keys is reached, each table
is gone through once. Nothing is written but temporary tables; no row is locked.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.database import READ_ONLY, said, set_local, sqlstate
from fkdoctor.identifier import quote
from fkdoctor.impact.effect import Effect, Trouble
from fkdoctor.impact.firing import Event, FiringOrder
from fkdoctor.impact.limits import refuse_unforeseen, relevant_rules
from fkdoctor.impact.model import Unsupported
from fkdoctor.impact.reach import Link, Reach, find_family
from fkdoctor.impact.rules import evaluate, read_default, refused_by_domain
from fkdoctor.inspect.coverage import Support, key_coverage
from fkdoctor.inspect.graph import keys_into, partition_family
from fkdoctor.schema import ForeignKey, MatchType, ReferentialAction, Schema, Table, TableName
from fkdoctor.statement import closure as sql
from fkdoctor.statement.changes import (
    Change,
    Changes,
    count_broken,
    count_changed_rows,
    count_changes,
    create_changes,
    find_change,
    finds_collision,
    finds_look,
    finds_new_reference,
    finds_other_reference,
    finds_referencing,
    insert_changes,
    select_absent,
    select_partly_null,
    select_refused,
    show_broken,
    show_changes,
)
from fkdoctor.statement.parts import Query

SCAN_LIMIT = 100 << 20
"""Bytes of a table that are read from end to end for want of an index; beyond, it is estimated."""

FEW = 20
"""Where a table has this many times the rows that are looked up in it, an index is better."""

Place = tuple[int, str]
"""The oid of a table and a ctid."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A row by its place, and the key by which it references the row before; None at the start."""

    place: Place
    key: ForeignKey | None


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A look that finds something in the way, as Obstacle has it; `traces` lead to some rows."""

    trouble: Trouble
    key: ForeignKey
    table: TableName
    name: str
    level: int
    at_commit: bool
    rows: int
    traces: tuple[tuple[Trace, ...], ...] = ()


@dataclass(kw_only=True)
class Survey:
    """What the closure says. Where `questions` are left, the order within a phase decides.

    With `misled`, updates of the statement change what references what, and the levels are only a
    guess. `settled` are pairs of keys of which the first spares the second's look by firing before.
    What happens after the phase `horizon` may be different for what is guessed or unsupported. With
    `more_than`, so many rows go that it was not thought through to the end.
    """

    effects: list[tuple[Effect, tuple[Place, ...]]] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    misled: list[str] = field(default_factory=list)
    settled: list[tuple[ForeignKey, ForeignKey]] = field(default_factory=list)
    guessed: list[ForeignKey] = field(default_factory=list)
    unsupported: list[Unsupported] = field(default_factory=list)
    changed: dict[TableName, int] = field(default_factory=dict)
    horizon: float = math.inf
    more_than: int | None = None


@dataclass(frozen=True, kw_only=True)
class Seed:
    """Rows that the statement itself deletes: those of `table` of which `chosen` is true."""

    table: Table
    rows: NamedFromClause
    chosen: ColumnElement[bool]


class TooMany(Exception):
    """More rows go than anybody wants to know of."""


class Closing:
    """A DELETE on its way through the keys. Its temporary tables go with the transaction."""

    def __init__(
        self,
        connection: Connection,
        schema: Schema,
        order: FiringOrder,
        reach: Reach,
        *,
        exact: bool = False,
        shown: int = 0,
        limit: int | None = None,
        asked: TableName | None = None,
    ) -> None:
        self.connection = connection
        self.schema = schema
        self.order = order
        self.reach = reach
        self.survey = Survey()
        self._exact = exact
        self._shown = shown
        self._limit = limit
        self._asked = asked
        self._changes: dict[TableName, Changes] = {}
        self._closures: dict[TableName, sql.Closure] = {}
        self._counts: dict[TableName, Counter[tuple[int, int]]] = defaultdict(Counter)
        self._cyclic: set[TableName] = set()
        self._left_out: set[int] = set()

    def make_tables(self, families: Collection[TableName]) -> None:
        """Makes the first temporary tables, for rows that the statement itself deletes."""
        self._cyclic = self._find_cyclic(families)
        for family in families:
            self._make_closure(family)

    def take(self, seeds: Mapping[TableName, Sequence[Seed]]) -> None:
        """Takes in the rows that the statement itself deletes, by family.

        Raises Unsupported where finding them would write something.
        """
        try:
            with self.connection.begin_nested():
                self.connection.execute(sa.text("set transaction read only"))
                for family, of_family in seeds.items():
                    for seed in of_family:
                        statement = sql.seed_closure(
                            self._closures[family], seed.rows, seed.table, seed.chosen, self._left
                        )
                        self._count(family, 0, 0, self._run(statement))
        except DBAPIError as error:
            if sqlstate(error) != READ_ONLY:
                raise
            raise Unsupported("the condition", f"it changes something: {said(error)}") from error

    @property
    def _left(self) -> int | None:
        """One more than how many rows may still be found."""
        if self._limit is None:
            return None
        return self._limit + 1 - sum(counts.total() for counts in self._counts.values())

    def _count(self, family: TableName, level: int, via: int, rows: int) -> None:
        if rows:
            self._counts[family][level, via] += rows
        if self._left is not None and self._left <= 0:
            raise TooMany

    def _find_cyclic(self, seeds: Collection[TableName]) -> set[TableName]:
        """The families whose rows can be come upon more than once."""
        cascades = [link for link in self.reach.links if link.cascades]
        cyclic = {link.target for link in cascades if link.target in (link.source, *seeds)}
        return cyclic.union(*(group for group in self.reach.groups if len(group) > 1))

    def _run(self, statement: Executable, **binds: object) -> int:
        return self.connection.execute(statement, binds).rowcount

    # Which rows go.

    def follow(self) -> None:
        """Finds all rows that go, group by group of families."""
        for group in self.reach.groups:
            if self._cyclic.intersection(group):
                self._circle(group)
            else:
                self._pass(group[0])

    def report(self) -> None:
        """Adds what was found so far to the survey's effects."""
        for family, counts in self._counts.items():
            self._report_deleted(family, counts)

    def _make_closure(self, family: TableName) -> sql.Closure:
        if family not in self._closures:
            keys = keys_into(self.schema, family)
            carried = {column for key in keys for column in key.referenced_columns}
            closure = sql.Closure(
                table=self.schema.table(family),
                number=len(self._closures),
                carried=tuple(sorted(carried)),
                cyclic=family in self._cyclic,
            )
            for statement in sql.create_closure(closure):
                self.connection.execute(statement)
            self._closures[family] = closure
        return self._closures[family]

    def rows(self, family: TableName) -> int:
        """How many rows of the family go."""
        return self._counts[family].total()

    def levels(self, family: TableName) -> set[int]:
        """The levels at which rows of the family go."""
        return {level for level, _ in self._counts[family]}

    def closure(self, family: TableName) -> sql.Closure | None:
        """The rows of the family that go, if any do."""
        return self._closures.get(family) if self.rows(family) else None

    def hop(self, link: Link) -> sql.Hop | None:
        """The link as a way for rows, if there are any, and if it is not to be left out."""
        closure = self.closure(link.source)
        if closure is None or self._is_left_out(link, closure):
            return None
        if link.uneven:
            self.survey.misled.append(f"{link.key.label} acts for some partitions only")
        return self._make_hop(link, closure)

    def _make_hop(self, link: Link, closure: sql.Closure) -> sql.Hop:
        leaves = {leaf.name for leaf in self.schema.leaves(link.key.referenced)}
        whole = {leaf.name for leaf in self.schema.leaves(link.source)} == leaves
        return sql.Hop(
            number=link.number,
            key=link.key,
            source=closure,
            referencing=self.schema.table(link.key.referencing),
            leaves=() if whole else tuple(sorted(leaves)),
        )

    def _is_left_out(self, link: Link, closure: sql.Closure) -> bool:
        """Whether following the link would read a large table end to end: then it is guessed."""
        if self._exact or link.number in self._left_out:
            return not self._exact
        size = sum(leaf.size_bytes for leaf in self.schema.leaves(link.key.referencing))
        if size <= SCAN_LIMIT or key_coverage(self.schema, link.key).support is not Support.NONE:
            return False
        self._left_out.add(link.number)
        self.survey.guessed.append(link.key)
        phase = min(self.levels(link.source))
        self.survey.horizon = min(self.survey.horizon, phase - 1)
        plan = self.connection.execute(sql.Explain(sql.select_hop(self._make_hop(link, closure))))
        guess = Effect(
            table=link.target,
            source=link.source,
            key=link.key,
            action=link.action,
            deletes=link.cascades,
            level=phase + 1,
            rows=int(plan.scalar_one()[0]["Plan"]["Plan Rows"]),
            estimated=True,
        )
        self.survey.effects.append((guess, ()))
        return True

    def _pass(self, family: TableName) -> None:
        """Goes through a family to which nothing leads back: once."""
        links = [link for link in self.reach.links_to(family) if link.cascades]
        hops = [hop for link in links if (hop := self.hop(link)) is not None]
        if not hops:
            return
        alone = len(self.reach.links_to(family)) == 1 and not self.reach.links_from(family)
        if alone and family != self._asked:
            # Nobody asks which of its rows go.
            for level, rows in self.connection.execute(
                sql.count_reached(hops[0], self._left)
            ).all():
                self._count(family, level, links[0].number, rows)
            return
        closure = self._make_closure(family)
        if len(hops) == 1:
            rows = self._run(sql.follow(hops[0], closure, self._left))
            (source,) = {link.source for link in links if link.number == hops[0].number}
            levels = self.levels(source)
            if len(levels) == 1:
                self._count(family, levels.pop() + 1, hops[0].number, rows)
                return
        else:
            self._run(sql.follow_all(hops, closure, self._left))
        for level, via, rows in self.connection.execute(sql.count_levels(closure)).all():
            self._count(family, level, via, rows)

    def _circle(self, group: Sequence[TableName]) -> None:
        """Goes through families that lead to each other: level by level, each row once."""
        links = [link for link in self.reach.links if link.cascades and link.target in group]
        starts = [level for link in links for level in self.levels(link.source)]
        if not starts:
            return
        for family in group:
            self._make_closure(family)
        level = min(starts)
        while any(level <= max(self.levels(link.source), default=-1) for link in links):
            for link in links:
                counts = self._counts[link.source].items()
                rows = sum(number for (at, _), number in counts if at == level)
                if rows and (hop := self.hop(link)) is not None:
                    with self._index_preferred(rows, link):
                        closure = self._closures[link.target]
                        statement = sql.follow_level(hop, closure, self._left)
                        reached = self._run(statement, level=level)
                    self._count(link.target, level + 1, link.number, reached)
            level += 1

    @contextmanager
    def _index_preferred(self, rows: int, link: Link) -> Iterator[None]:
        """Keeps PostgreSQL from reading a table from end to end for a few rows of a growing one."""
        known = self.schema.row_estimate(link.key.referencing)
        few = known is None or rows * FEW < known
        if few:
            set_local(self.connection, enable_hashjoin="off", enable_mergejoin="off")
        yield
        if few:
            set_local(self.connection, enable_hashjoin="on", enable_mergejoin="on")

    def _report_deleted(self, family: TableName, counts: Mapping[tuple[int, int], int]) -> None:
        links = {link.number: link for link in self.reach.links}
        for (level, via), rows in sorted(counts.items()):
            effect = Effect(
                table=family,
                source=links[via].source if via else None,
                key=links[via].key if via else None,
                action=links[via].action if via else None,
                deletes=True,
                level=level,
                rows=rows,
            )
            self.survey.effects.append((effect, self._show_deleted(family, level, via)))

    def _show_deleted(self, family: TableName, level: int, via: int) -> tuple[Place, ...]:
        if not self._shown:
            return ()
        if (closure := self._closures.get(family)) is not None:
            return self._places(sql.show_closure(closure, self._shown), level=level, via=via)
        (link,) = (link for link in self.reach.links if link.number == via)
        hop = self._make_hop(link, self._closures[link.source])
        return self._places(sql.show_reached(hop, self._shown), level=level - 1)

    def _places(self, query: Query, **binds: object) -> tuple[Place, ...]:
        return tuple((leaf, at) for leaf, at in self.connection.execute(query, binds))

    def explain(self, family: TableName, place: Place) -> tuple[Trace, ...] | None:
        """The path by which the row of the family goes, or else changes; None if neither."""
        leaf, at = place
        binds = {"leaf": leaf, "at": at}
        found = None
        if (closure := self.closure(family)) is not None:
            found = self.connection.execute(sql.find_in_closure(closure), binds).one_or_none()
        if found is None and (changes := self._changes.get(family)) is not None:
            found = self.connection.execute(find_change(changes), binds).one_or_none()
        if found is None:
            return None
        level, via = found
        if not via:
            return (Trace(place=place, key=None),)
        (link,) = (link for link in self.reach.links if link.number == via)
        return self._trace(link, leaf, at, *self._find_origin(link, leaf, at, level))

    # What the keys find that only look.

    def look(self) -> None:
        """Asks each key that may refuse what it will find."""
        for link in self.reach.links:
            if link.checks and (hop := self.hop(link)) is not None:
                check = self._make_check(link, hop)
                self._look(link, check)

    def _make_check(self, link: Link, hop: sql.Hop) -> sql.Check:
        before = [
            other.key
            for other in self.reach.links
            if other.cascades
            and other.key.referencing == link.key.referencing
            and other.source == link.source
            and self._fires_before(other.key, link.key)
        ]
        return sql.Check(
            hop=hop,
            target=self.closure(link.target),
            before=tuple(before),
            deferred=link.deferred,
        )

    def _fires_before(self, first: ForeignKey, second: ForeignKey) -> bool:
        """Whether the one fires first wherever the other fires."""
        for leaf in self.schema.leaves(second.referenced):
            keys = [firing.key for firing in self.order.on(leaf.name, Event.DELETE)]
            if first not in keys or second in keys[: keys.index(first)]:
                return False
        return True

    def _look(self, link: Link, check: sql.Check) -> None:
        stays: Counter[int] = Counter()
        for state, level, rows in self.connection.execute(sql.count_states(check)).all():
            if state == sql.CONTESTED:
                self.survey.questions.append(
                    f"{rows} rows of {link.key.referencing} go in the same phase in which "
                    f"{link.key.label} looks for them"
                )
            elif state == sql.SETTLED:
                self.survey.settled += [(key, link.key) for key in check.before]
            elif state == sql.STAYS:
                stays[level] = rows
        if stays:
            staying = self.connection.execute(sql.select_staying(check, self._shown)).all()
            self.survey.hits.append(
                Hit(
                    trouble=Trouble.REFERENCED,
                    key=link.key,
                    table=link.target,
                    name=link.key.name,
                    level=min(stays),
                    at_commit=link.deferred,
                    rows=stays.total(),
                    traces=tuple(self._trace(link, *row) for row in staying),
                )
            )

    def _trace(
        self, link: Link, row_leaf: int, row_at: str, leaf: int, at: str, level: int, via: int
    ) -> tuple[Trace, ...]:
        """The path from the statement's own row to a row that references what goes."""
        trace = [Trace(place=(row_leaf, row_at), key=link.key)]
        links = {one.number: one for one in self.reach.links}
        while via:
            trace.append(Trace(place=(leaf, at), key=links[via].key))
            leaf, at, via = self._find_cause(links[via], leaf, at, level)
            level -= 1
        trace.append(Trace(place=(leaf, at), key=None))
        return tuple(reversed(trace))

    def _find_cause(self, link: Link, leaf: int, at: str, level: int) -> tuple[int, str, int]:
        """The place and via of the row by which a row is reached at the level."""
        hop = self.hop(link)
        assert hop is not None
        binds = {"leaf": leaf, "at": at, "level": level - 1}
        cause_leaf, cause_at, via = self.connection.execute(sql.select_cause(hop), binds).one()
        return cause_leaf, cause_at, via

    # What the keys change.

    def change(self) -> None:
        """Asks what SET NULL and SET DEFAULT do, and whether something refuses it."""
        by_family: dict[TableName, list[Link]] = defaultdict(list)
        for link in self.reach.links:
            if link.changes:
                by_family[link.target].append(link)
        for family, links in by_family.items():
            self._change_family(family, links)

    def _change_family(self, family: TableName, links: Sequence[Link]) -> None:
        hops = [(link, hop) for link in links if (hop := self.hop(link)) is not None]
        if not hops:
            return
        changes = Changes(table=self.schema.table(family), number=len(self.survey.changed))
        self._changes[family] = changes
        self.connection.execute(create_changes(changes))
        for link, hop in hops:
            self._run(insert_changes(changes, self._make_check(link, hop)))
        numbers: dict[int, Counter[tuple[int, bool, bool]]] = defaultdict(Counter)
        for via, level, stays, contested, rows in self.connection.execute(count_changes(changes)):
            numbers[via][level, stays, contested] = rows
        stay, twice = self.connection.execute(count_changed_rows(changes)).one()
        self.survey.changed[family] = stay
        changing = [link for link, _ in hops if numbers[link.number]]
        for link in changing:
            self._change(link, changes, numbers[link.number])
        if twice:
            self._look_twice(changing, changes)

    def _change(
        self, link: Link, changes: Changes, numbers: Mapping[tuple[int, bool, bool], int]
    ) -> None:
        key = link.key
        for (level, stays, _), rows in sorted(numbers.items()):
            if stays:
                effect = Effect(
                    table=link.target,
                    source=link.source,
                    key=key,
                    action=link.action,
                    deletes=False,
                    level=level,
                    rows=rows,
                )
                shown = self._places(
                    show_changes(changes, self._shown), via=link.number, level=level
                )
                self.survey.effects.append((effect, shown))
        self._find_detours(link, changes)
        try:
            new = self._new_values(link)
            for leaf in self.schema.leaves(key.referencing):
                nulled = [name for name, value in new.items() if value is None]
                refuse_unforeseen(self.schema, leaf, new, nulled)
        except Unsupported as unsupported:
            self._give_up(unsupported, numbers)
            return
        change = Change(
            changes=changes,
            via=link.number,
            referencing=self.schema.table(key.referencing),
            new=new,
        )
        self._look_at_references(link, change)
        try:
            for leaf in self.schema.leaves(key.referencing):
                self._look_at_rules(link, replace(change, referencing=leaf))
        except Unsupported as unsupported:
            self._give_up(unsupported, numbers)

    def _new_values(self, link: Link) -> dict[str, str | None]:
        if link.action is ReferentialAction.SET_NULL:
            return dict.fromkeys(link.key.written_columns)
        return {
            column: read_default(self.connection, self.schema, link.key.referencing, column)
            for column in link.key.written_columns
        }

    def _give_up(
        self, unsupported: Unsupported, numbers: Mapping[tuple[int, bool, bool], int]
    ) -> None:
        """Notes that from the phase of the first of the changes on, other things may happen."""
        self.survey.unsupported.append(unsupported)
        first = min(level for level, _, _ in numbers) - 1
        self.survey.horizon = min(self.survey.horizon, first)

    def _find_detours(self, link: Link, changes: Changes) -> None:
        """Sees whether the changes themselves decide what other keys find."""
        written = set(link.key.written_columns)
        for other in self.reach.links_to(link.target):
            shared = written & set(other.key.referencing_columns)
            if other is link or not shared or (hop := self.hop(other)) is None:
                continue
            if self._finds(finds_other_reference(changes, link.number, hop)):
                self.survey.misled.append(
                    f"{link.key.label} changes columns by which {other.key.label} finds rows"
                )
        for key in keys_into(self.schema, link.target):
            if not written & set(key.referenced_columns) or not self._acts(key):
                continue
            if self._finds(finds_referencing(changes, link.number, key, self.schema)):
                self.survey.misled.append(
                    f"{link.key.label} changes columns that {key.label} references"
                )

    def _acts(self, key: ForeignKey) -> bool:
        """Whether something fires when a row that the key references changes."""
        return any(
            firing.key is key and firing.action is not None
            for leaf in self.schema.leaves(key.referenced)
            for firing in self.order.on(leaf.name, Event.UPDATE)
        )

    def _is_looked_after(self, key: ForeignKey) -> bool:
        """Whether something fires when a row that has the key changes."""
        return any(
            firing.key is key and firing.action is None
            for leaf in self.schema.leaves(key.referencing)
            for firing in self.order.on(leaf.name, Event.UPDATE)
        )

    def _look_at_references(self, link: Link, change: Change) -> None:
        """Asks where the new references lead."""
        family = partition_family(self.schema, link.key.referencing)
        for key in (key for member in family for key in self.schema.keys_from(member)):
            written = set(change.new) & set(key.referencing_columns)
            looked_after = self._is_looked_after(key)
            if not written:
                continue
            if any(change.new[name] is None for name in written):
                if key.match is MatchType.FULL and looked_after:
                    broken = select_partly_null(change, key)
                    self._break(link, key, Trouble.PARTLY_NULL, key.name, broken, looks=True)
                continue
            referenced = self.schema.table(key.referenced)
            gone = self.closure(find_family(self.schema, key.referenced))
            if gone is not None and self._finds(finds_new_reference(change, key, gone)):
                self.survey.misled.append(f"the default of {key.label} leads to a row that goes")
            if looked_after:
                broken = select_absent(change, key, referenced)
                self._break(link, key, Trouble.MISSING, key.name, broken, looks=True)

    def _look_at_rules(self, link: Link, change: Change) -> None:
        """Asks a partition, or a table that is none, what it says of the new rows."""
        table = change.referencing
        nulled = [name for name, value in change.new.items() if value is None]
        for name in nulled:
            if table.column(name).not_null:
                self._break(link, link.key, Trouble.NOT_NULL, name, change.select(sa.true()))
        for name, value in change.new.items():
            refused = refused_by_domain(self.connection, table.column(name), value)
            if refused is not None:
                self._break(link, link.key, Trouble.CHECK, refused, change.select(sa.true()))
        checks, indexes = relevant_rules(table, change.new, nulled)
        for check in checks:
            broken = select_refused(change, check)
            self._break(link, link.key, Trouble.CHECK, check.name, broken)
        for index in indexes:
            found = evaluate(self.connection, finds_collision(change, index), {}, index.name)
            if found[0][0]:
                name = quote(index.constraint or index.name)
                self.survey.questions.append(f"rows of {table.name} come to collide in {name}")

    def _break(
        self,
        link: Link,
        key: ForeignKey,
        trouble: Trouble,
        name: str,
        changes: Query,
        *,
        looks: bool = False,
    ) -> None:
        """Notes what is offended by changes: a rule at once, or a key that looks a phase later."""
        at_commit = looks and key.initially_deferred
        broken: Counter[int] = Counter()
        for level, until, rows in evaluate(self.connection, count_broken(changes), {}, name):
            looked = level + looks
            if until is None or (until > looked and not at_commit):
                broken[looked - 1] += rows
            elif until == looked and not at_commit:
                self.survey.questions.append(
                    f"{rows} rows of {link.target} go in the same phase in which "
                    f"{quote(name)} would refuse what {link.key.label} makes of them"
                )
        if broken:
            shown = evaluate(self.connection, show_broken(changes, self._shown), {}, name)
            self.survey.hits.append(
                Hit(
                    trouble=trouble,
                    key=key,
                    table=link.target,
                    name=name,
                    level=min(broken),
                    at_commit=at_commit,
                    rows=broken.total(),
                    traces=tuple(
                        self._trace(link, leaf, at, *self._find_origin(link, leaf, at, level))
                        for leaf, at, level in shown
                    ),
                )
            )

    def _find_origin(self, link: Link, leaf: int, at: str, level: int) -> tuple[int, str, int, int]:
        """The row whose going changes the row: place, level and via."""
        cause_leaf, cause_at, via = self._find_cause(link, leaf, at, level)
        return cause_leaf, cause_at, level - 1, via

    def _look_twice(self, links: Sequence[Link], changes: Changes) -> None:
        """Asks what PostgreSQL finds that looks at all references of a row changed twice."""
        if any(link.action is ReferentialAction.SET_DEFAULT for link in links):
            self.survey.questions.append(f"rows of {changes.table.name} are changed twice")
            return
        written = {name for link in links for name in link.key.written_columns}
        for leaf in self.schema.leaves(changes.table.name):
            if any(relevant_rules(leaf, written, written)):
                self.survey.questions.append(f"rows of {changes.table.name} are changed twice")
                return
        family = partition_family(self.schema, changes.table.name)
        for key in (key for member in family for key in self.schema.keys_from(member)):
            if self._is_looked_after(key):
                nulling = [
                    link.number
                    for link in links
                    if set(link.key.written_columns) & set(key.referencing_columns)
                ]
                gone = self.closure(find_family(self.schema, key.referenced))
                if self._finds(finds_look(changes, key, self.schema, nulling, gone)):
                    self.survey.questions.append(
                        f"rows of {changes.table.name} are changed twice, and {key.label} is "
                        "looked at again"
                    )

    def _finds(self, query: Query) -> bool:
        return bool(self.connection.execute(query).scalar())
