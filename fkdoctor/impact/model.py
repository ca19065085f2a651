"""PostgreSQL's trigger queue, over rows given to it: what a DELETE does, and what stops it. Pure.

A statement's rows queue the triggers of foreign keys; all that are queued fire in order, and what
they write queues the next phase (trigger.c, afterTriggerInvokeEvents; ri_triggers.c). Triggers of a
phase see what earlier ones of the same phase did. What is deferred looks at the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fkdoctor.impact.effect import Trouble
from fkdoctor.impact.firing import Event, Firing
from fkdoctor.impact.world import (
    Image,
    Row,
    RowId,
    Values,
    Verification,
    World,
    pick,
)
from fkdoctor.schema import ForeignKey, MatchType, ReferentialAction, TableName


@dataclass(eq=False, slots=True)
class Queued:
    """A trigger that waits for its turn, with the row as it was and as it became."""

    firing: Firing
    row: RowId
    old: Image
    new: Image | None
    version: int
    phase: int
    creator: Queued | None


@dataclass(frozen=True, kw_only=True)
class Stop:
    """What stops the statement: at which row, through which key, in which phase.

    `name` is the constraint or column. `cause` is the trigger that met it; its row and those of its
    creators are the path that leads here.
    """

    trouble: Trouble
    key: ForeignKey | None
    name: str
    row: RowId
    phase: int
    at_commit: bool
    deferrable: bool
    cause: Queued | None


@dataclass(frozen=True, kw_only=True)
class Written:
    """What became of a row: by which trigger last (None: by the statement), None if it is gone."""

    cause: Queued | None
    image: Image | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the statement does: what stops it, in the order of meeting, and every row it writes.

    After a stop the model goes on as if it were not there, to find the others. `updates` are all
    changes of rows with the trigger that made them (None: the statement). `contests` are the
    decisions that would have gone another way in another order: of two firings of one row, or
    (None) of two rows of one statement.
    """

    stops: tuple[Stop, ...]
    written: Mapping[RowId, Written]
    updates: tuple[tuple[RowId, Queued | None], ...]
    contests: frozenset[tuple[Firing, Firing] | None]

    @property
    def passes(self) -> bool:
        """Whether the statement and its COMMIT succeed."""
        return not self.stops


Order: TypeAlias = Callable[[list[RowId]], list[RowId]]
"""In which order a statement meets its rows."""

Firings: TypeAlias = Callable[[TableName, Event], Sequence[Firing]]


def run_delete(world: World, firings: Firings, rows: Sequence[Row], order: Order) -> Outcome:
    """What a DELETE of the rows does, when its statements meet rows in that order."""
    run = _Run(world, firings, order)
    run.state.add(world.keep(rows))
    for row in order([row.id for row in rows]):
        run.delete(row, None)
    return run.finish()


def run_update(
    world: World, firings: Firings, rows: Sequence[tuple[Row, Image]], order: Order
) -> Outcome:
    """What an UPDATE does that gives each row the values that stand beside it."""
    run = _Run(world, firings, order)
    run.state.add(world.keep(row for row, _ in rows))
    changes = {row.id: change for row, change in rows}
    run.update(order(list(changes)), changes, None)
    return run.finish()


class _State:
    """The rows that were looked at, as they are now."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.known: set[RowId] = set()
        self.live: dict[RowId, Image] = {}
        self.version: dict[RowId, int] = defaultdict(int)
        self._pointing: dict[tuple[int, Values], dict[RowId, None]] = defaultdict(dict)
        self._pointed: dict[tuple[int, Values], dict[RowId, None]] = defaultdict(dict)

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.id not in self.known:
                self.known.add(row.id)
                self._put(row.id, row.values)

    def _put(self, row: RowId, image: Image) -> None:
        self.live[row] = image
        for key in self.world.outgoing(row.table):
            self._pointing[key.oid, pick(image, key.referencing_columns)][row] = None
        for key in self.world.incoming(row.table):
            self._pointed[key.oid, pick(image, key.referenced_columns)][row] = None

    def take(self, row: RowId) -> Image:
        image = self.live.pop(row)
        for key in self.world.outgoing(row.table):
            del self._pointing[key.oid, pick(image, key.referencing_columns)][row]
        for key in self.world.incoming(row.table):
            del self._pointed[key.oid, pick(image, key.referenced_columns)][row]
        return image

    def change(self, row: RowId, image: Image) -> None:
        self.take(row)
        self.version[row] += 1
        self._put(row, image)

    def referencing(self, key: ForeignKey, values: Values) -> list[RowId]:
        return list(self._pointing.get((key.oid, values), ()))

    def referenced(self, key: ForeignKey, values: Values) -> list[RowId]:
        return list(self._pointed.get((key.oid, values), ()))


class _Run:
    """One way through the queue."""

    def __init__(self, world: World, firings: Firings, order: Order) -> None:
        self.world = world
        self.schema = world.schema
        self.firings = firings
        self.order = order
        self.state = _State(world)
        self.phase = 0
        self.queue: list[Queued] = []
        self.deferred: list[Queued] = []
        self.at_commit = False
        self.stops: list[Stop] = []
        self.written: dict[RowId, Written] = {}
        self.updates: list[tuple[RowId, Queued | None]] = []
        self.claims: dict[tuple[RowId, str], Values] = {}
        self.contests: set[tuple[Firing, Firing] | None] = set()

    def finish(self) -> Outcome:
        while self.queue:
            phase = [queued for queued in self.queue if not queued.firing.deferred]
            self.deferred += [queued for queued in self.queue if queued.firing.deferred]
            self.queue = []
            self._fetch(phase)
            self._find_contests(phase)
            self.phase += 1
            for queued in phase:
                self._fire(queued)
        self.at_commit = True
        self._fetch(self.deferred)
        for queued in self.deferred:
            self._fire(queued)
        return Outcome(
            stops=tuple(self.stops),
            written=self.written,
            updates=tuple(self.updates),
            contests=frozenset(self.contests),
        )

    # What statements do.

    def delete(self, row: RowId, cause: Queued | None) -> None:
        old = self.state.take(row)
        self.written[row] = Written(cause=cause, image=None)
        for firing in self.firings(row.table, Event.DELETE):
            if None not in pick(old, firing.key.referenced_columns):
                self._enqueue(firing, row, old, None, cause)

    def update(
        self, rows: Sequence[RowId], changes: Mapping[RowId, Image], cause: Queued | None
    ) -> None:
        images = [(row, changes[row]) for row in rows]
        by_table: dict[TableName, list[tuple[RowId, Image]]] = defaultdict(list)
        for row, change in images:
            by_table[row.table].append((row, change))
        verified = {
            row: verification
            for table, of_table in by_table.items()
            for (row, _), verification in zip(
                of_table, self.world.verify(table, self._merged(of_table)), strict=True
            )
        }
        for row, change in images:
            old = self.state.live[row]
            new = {**old, **change}
            self._verify(row, change, verified[row], cause)
            rewritten = self.state.version[row] > 0
            self.state.change(row, new)
            self.written[row] = Written(cause=cause, image=new)
            self.updates.append((row, cause))
            for firing in self.firings(row.table, Event.UPDATE):
                if _is_due(firing, old, new, rewritten):
                    self._enqueue(firing, row, old, new, cause)

    def _merged(self, changes: Sequence[tuple[RowId, Image]]) -> list[tuple[RowId, Image]]:
        """The rows with all columns that are no longer as they were at first."""
        merged: list[tuple[RowId, Image]] = []
        for row, change in changes:
            first, now = self.world.rows[row].values, self.state.live[row]
            before = {name: value for name, value in now.items() if value != first.get(name, "")}
            merged.append((row, {**before, **change}))
        return merged

    def _verify(
        self, row: RowId, change: Image, verification: Verification, cause: Queued | None
    ) -> None:
        table = self.schema.table(row.table)
        for name, value in change.items():
            if value is None and table.column(name).not_null:
                self._stop(Trouble.NOT_NULL, name, row, cause)
        for name in verification.failing:
            self._stop(Trouble.CHECK, name, row, cause)
        for claim in verification.claims:
            holders = {
                holder
                for holder in claim.holders
                if holder in self.state.live or holder not in self.state.known
                if (holder, claim.index) not in self.claims
            }
            holders |= {
                other
                for (other, index), value in self.claims.items()
                if index == claim.index and value == claim.value and other in self.state.live
            }
            if holders - {row}:
                self._stop(Trouble.UNIQUE, claim.index, row, cause, deferrable=claim.deferrable)
            self.claims[row, claim.index] = claim.value

    def _enqueue(
        self, firing: Firing, row: RowId, old: Image, new: Image | None, creator: Queued | None
    ) -> None:
        self.queue.append(
            Queued(
                firing=firing,
                row=row,
                old=old,
                new=new,
                version=self.state.version[row],
                phase=self.phase,
                creator=creator,
            )
        )

    # What triggers do.

    def _fire(self, queued: Queued) -> None:
        match queued.firing.action:
            case None:
                self._check_reference(queued)
            case ReferentialAction.NO_ACTION:
                self._check_unreferenced(queued)
            case ReferentialAction.RESTRICT:
                self._report_references(queued)
            case ReferentialAction.CASCADE if queued.new is None:
                for row in self.order(self._matches(queued)):
                    self.delete(row, queued)
            case _:
                rows = self._matches(queued)
                if rows:
                    change = self._change(queued)
                    self.update(self.order(rows), dict.fromkeys(rows, change), queued)
                if queued.firing.action is ReferentialAction.SET_DEFAULT:
                    # Where the default is the key that goes, no check is queued: nothing changed.
                    self._check_unreferenced(queued)

    def _matches(self, queued: Queued) -> list[RowId]:
        key = queued.firing.key
        return self.state.referencing(key, pick(queued.old, key.referenced_columns))

    def _change(self, queued: Queued) -> Image:
        key = queued.firing.key
        columns = key.referencing_columns if queued.new is not None else key.written_columns
        match queued.firing.action:
            case ReferentialAction.SET_NULL:
                return dict.fromkeys(columns)
            case ReferentialAction.SET_DEFAULT:
                return {column: self.world.find_default(key, column) for column in columns}
        assert queued.new is not None
        return dict(zip(columns, pick(queued.new, key.referenced_columns), strict=True))

    def _check_unreferenced(self, queued: Queued) -> None:
        key = queued.firing.key
        same_key = self.state.referenced(key, pick(queued.old, key.referenced_columns))
        # PostgreSQL looks for a row that took over the key in the same partition only.
        if not any(row.table == queued.row.table for row in same_key):
            self._report_references(queued)

    def _report_references(self, queued: Queued) -> None:
        for row in self._matches(queued):
            self._stop(Trouble.REFERENCED, queued.firing.key.name, row, queued)

    def _check_reference(self, queued: Queued) -> None:
        row, key = queued.row, queued.firing.key
        if row not in self.state.live or self.state.version[row] != queued.version:
            return
        assert queued.new is not None
        values = pick(queued.new, key.referencing_columns)
        nulls = values.count(None)
        if nulls:
            if key.match is MatchType.FULL and nulls < len(values):
                self._stop(Trouble.PARTLY_NULL, key.name, row, queued)
        elif not self.state.referenced(key, values):
            self._stop(Trouble.MISSING, key.name, row, queued)

    def _stop(
        self,
        trouble: Trouble,
        name: str,
        row: RowId,
        cause: Queued | None,
        *,
        deferrable: bool = False,
    ) -> None:
        self.stops.append(
            Stop(
                trouble=trouble,
                key=cause.firing.key if cause else None,
                name=name,
                row=row,
                phase=self.phase,
                at_commit=self.at_commit,
                deferrable=deferrable,
                cause=cause,
            )
        )

    # What is looked up before.

    def _fetch(self, phase: Sequence[Queued]) -> None:
        """Has the rows at hand that the triggers will look for, those of one key at a time."""
        wanted: dict[tuple[bool, int], tuple[ForeignKey, dict[Values, None]]] = {}
        for queued in phase:
            key, looks_up = queued.firing.key, queued.firing.action is None
            image = queued.new if looks_up else queued.old
            assert image is not None
            values = pick(image, key.referencing_columns if looks_up else key.referenced_columns)
            if None not in values:
                wanted.setdefault((looks_up, key.oid), (key, {}))[1][values] = None
        for (looks_up, _), (key, values_of_key) in wanted.items():
            find = self.world.find_referenced if looks_up else self.world.find_referencing
            self.state.add([self.world.rows[row] for row in find(key, list(values_of_key))])

    def _find_contests(self, phase: Sequence[Queued]) -> None:
        """Notes where two triggers of the phase look at one row, and one of them writes."""
        touching: dict[RowId, list[Queued]] = defaultdict(list)
        for queued in phase:
            if queued.firing.action is not None:
                for row in self._matches(queued):
                    touching[row].append(queued)
            else:
                assert queued.new is not None
                values = pick(queued.new, queued.firing.key.referencing_columns)
                for row in (queued.row, *self.state.referenced(queued.firing.key, values)):
                    touching[row].append(queued)
        for group in touching.values():
            for number, one in enumerate(group):
                for other in group[number + 1 :]:
                    if _differ(one.firing, other.firing):
                        self.contests.add(_find_decision(one, other))


def _differ(one: Firing, other: Firing) -> bool:
    """Whether the two need not lead to the same in either order."""
    looking = (None, ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT)
    if one.action in looking and other.action in looking:
        return False
    cascade = ReferentialAction.CASCADE
    return {one.action, other.action} != {cascade} or Event.UPDATE in (one.event, other.event)


def _find_decision(one: Queued, other: Queued) -> tuple[Firing, Firing] | None:
    """What puts the one before the other: two firings of one row, or (None) the order of rows."""
    while one.creator is not other.creator:
        assert one.creator is not None
        assert other.creator is not None
        one, other = one.creator, other.creator
    if one.row == other.row:
        return one.firing, other.firing
    return None


def _is_due(firing: Firing, old: Image, new: Image, rewritten: bool) -> bool:
    """Whether PostgreSQL queues the trigger after an UPDATE (RI_FKey_*_upd_check_required)."""
    key = firing.key
    if firing.action is not None:
        before = pick(old, key.referenced_columns)
        return None not in before and before != pick(new, key.referenced_columns)
    now = pick(new, key.referencing_columns)
    nulls = now.count(None)
    if nulls:
        return key.match is MatchType.FULL and nulls < len(now)
    # A row that this transaction has written before is looked at again whatever changed.
    return rewritten or now != pick(old, key.referencing_columns)
