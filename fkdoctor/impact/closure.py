"""Finds all rows that a DELETE reaches set by set, and judges by the level at which each goes.

A key that looks at referencing rows in phase k finds those still there that go at a later level
than k, or at k + 1 by something that fires after it. Where no circle of keys is reached, each table
is gone through once. Nothing is written but temporary tables; no row is locked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable

from fkdoctor.database import READ_ONLY, said, set_local, sqlstate
from fkdoctor.impact.effect import Effect, Trouble
from fkdoctor.impact.firing import Event, FiringOrder
from fkdoctor.impact.reach import Link, Reach
from fkdoctor.impact.survey import Hit, Place, Seed, Survey, TooMany, Trace
from fkdoctor.impact.world import Unsupported
from fkdoctor.inspect.coverage import Support, key_coverage
from fkdoctor.inspect.graph import keys_into
from fkdoctor.schema import ForeignKey, Schema, TableName
from fkdoctor.statement import closure as sql
from fkdoctor.statement.parts import Query

SCAN_LIMIT = 100 << 20
"""Bytes of a table that are read from end to end for want of an index; beyond, it is estimated."""

FEW = 20
"""Where a table has this many times the rows that are looked up in it, an index is better."""


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
        self.shown = shown
        self._limit = limit
        self._asked = asked
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
                        self._count(family, 0, 0, self.run(statement))
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

    def run(self, statement: Executable, **binds: object) -> int:
        """How many rows the statement put in."""
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
            rows = self.run(sql.follow(hops[0], closure, self._left))
            (source,) = {link.source for link in links if link.number == hops[0].number}
            levels = self.levels(source)
            if len(levels) == 1:
                self._count(family, levels.pop() + 1, hops[0].number, rows)
                return
        else:
            self.run(sql.follow_all(hops, closure, self._left))
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
                        reached = self.run(statement, level=level)
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
        if not self.shown:
            return ()
        if (closure := self._closures.get(family)) is not None:
            return self.places(sql.show_closure(closure, self.shown), level=level, via=via)
        (link,) = (link for link in self.reach.links if link.number == via)
        hop = self._make_hop(link, self._closures[link.source])
        return self.places(sql.show_reached(hop, self.shown), level=level - 1)

    def places(self, query: Query, **binds: object) -> tuple[Place, ...]:
        """The places that a query returns."""
        return tuple((leaf, at) for leaf, at in self.connection.execute(query, binds))

    # What the keys find that only look.

    def look(self) -> None:
        """Asks each key that may refuse what it will find."""
        for link in self.reach.links:
            if link.checks and (hop := self.hop(link)) is not None:
                check = self.make_check(link, hop)
                self._look(link, check)

    def make_check(self, link: Link, hop: sql.Hop) -> sql.Check:
        """The hop with what becomes of the rows it leads to."""
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
            staying = self.connection.execute(sql.select_staying(check, self.shown)).all()
            self.survey.hits.append(
                Hit(
                    trouble=Trouble.REFERENCED,
                    key=link.key,
                    table=link.target,
                    name=link.key.name,
                    level=min(stays),
                    at_commit=link.deferred,
                    rows=stays.total(),
                    traces=tuple(self.trace(link, *row) for row in staying),
                )
            )

    def trace(
        self, link: Link, row_leaf: int, row_at: str, leaf: int, at: str, level: int, via: int
    ) -> tuple[Trace, ...]:
        """The path from the statement's own row to a row that references what goes."""
        trace = [Trace(place=(row_leaf, row_at), key=link.key)]
        links = {one.number: one for one in self.reach.links}
        while via:
            trace.append(Trace(place=(leaf, at), key=links[via].key))
            leaf, at, via = self.find_cause(links[via], leaf, at, level)
            level -= 1
        trace.append(Trace(place=(leaf, at), key=None))
        return tuple(reversed(trace))

    def find_cause(self, link: Link, leaf: int, at: str, level: int) -> tuple[int, str, int]:
        """The place and via of the row by which a row is reached at the level."""
        hop = self.hop(link)
        assert hop is not None
        binds = {"leaf": leaf, "at": at, "level": level - 1}
        cause_leaf, cause_at, via = self.connection.execute(sql.select_cause(hop), binds).one()
        return cause_leaf, cause_at, via
