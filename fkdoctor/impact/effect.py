"""What a statement would do, as values: verdict, effects, what blocks it, what is uncertain."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fkdoctor.schema import ForeignKey, ReferentialAction, TableName


class Verdict(Enum):
    """How the statement ends."""

    ALLOWED = "allowed"
    BLOCKED = "blocked"
    BLOCKED_AT_COMMIT = "blocked at commit"
    FAILS = "fails"
    ORDER_DEPENDENT = "order-dependent"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, kw_only=True)
class RowKey:
    """A row, by the columns that identify it; by `ctid` where none does. Values are as text.

    `contents` are all columns with their values, if they were asked for.
    """

    table: TableName
    columns: tuple[str, ...]
    values: tuple[str, ...]
    contents: tuple[tuple[str, str | None], ...] = ()

    def __lt__(self, other: RowKey) -> bool:
        """Numbers by size, and all else by its letters."""
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[object, ...]:
        return self.table, *((len(text), text) for text in self.values)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A row on a path, and the key by which it references the row before it; None at the start."""

    row: RowKey
    key: ForeignKey | None


Path = tuple[Step, ...]
"""From a row that the statement itself deletes to the row in question."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one key (None: the statement itself) does to rows of `table` at one level.

    `action` is the key's. Each deleted row counts once, by the key that gets there first; a changed
    row (`deletes` is false) counts once for each key, if it is not deleted in the end.
    `source` is the table whose rows the key references. `estimated` is the planner's guess.
    `sample` are some of the rows.
    """

    table: TableName
    source: TableName | None
    key: ForeignKey | None
    action: ReferentialAction | None
    deletes: bool
    level: int
    rows: int
    estimated: bool = False
    sample: tuple[RowKey, ...] = ()


class Trouble(Enum):
    """Why PostgreSQL refuses."""

    REFERENCED = "still referenced"
    MISSING = "the new reference leads nowhere"
    PARTLY_NULL = "MATCH FULL does not allow a part of the reference to be NULL"
    NOT_NULL = "the column may not be NULL"
    CHECK = "a CHECK constraint refuses the new row"
    UNIQUE = "another row has the value"
    NOT_TRUNCATED = "a table that references it would not be truncated"


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """What stops the statement: the key that acts or looks, and the rule (`name`) of `table`.

    `key` is None where the statement itself offends a rule. `rows` is the number of rows of `table`
    that are in the way, `paths` lead to some of them. `level` is the phase in which PostgreSQL
    meets the first; `always` is false if in some order of rows nothing is in the way.
    """

    trouble: Trouble
    key: ForeignKey | None
    table: TableName
    name: str
    level: int
    at_commit: bool
    rows: int
    paths: tuple[Path, ...]
    always: bool = True


@dataclass(frozen=True, kw_only=True)
class KeyOrder:
    """Two keys of which the one created first fires first: `first`, today.

    Were they created the other way round, as after some dumps and restores, `reversed` would be the
    verdict (or, where it is the same, other rows would be left).
    """

    first: ForeignKey
    second: ForeignKey
    reversed: Verdict


@dataclass(frozen=True, kw_only=True)
class Caveat:
    """Something the preview cannot see into, or leaves out: `subject` and why.

    Where it is `decisive`, it can keep rows from being deleted or changed, or stop the statement.
    """

    subject: str
    reason: str
    decisive: bool = False


@dataclass(frozen=True, kw_only=True)
class Impact:
    """The answer. What stops the statement is listed together, though it stops at the first.

    Effects are those it would have if nothing stopped it. `caveats` are what could make it come out
    differently; without any, the answer is exact. Several verdicts in `possible` hang on the order
    in which the statement happens to meet its rows, which PostgreSQL leaves undefined. `why` is the
    path by which the row that was asked about would go or change, None if it would not. Unless
    `rows_known`, not even the statement's own rows could be found, and there are no effects.
    """

    command: str
    table: TableName
    verdict: Verdict
    effects: tuple[Effect, ...]
    changed_rows: int
    obstacles: tuple[Obstacle, ...]
    key_orders: tuple[KeyOrder, ...]
    possible: tuple[Verdict, ...]
    caveats: tuple[Caveat, ...]
    why: Path | None = None
    rows_known: bool = True

    @property
    def deleted_rows(self) -> int:
        """How many rows are deleted, all tables together."""
        return sum(effect.rows for effect in self.effects if effect.deletes)

    @property
    def estimated(self) -> bool:
        """Whether some number is the planner's guess."""
        return any(effect.estimated for effect in self.effects)
