"""What the closure finds, as values: rows by where they are, what is in the way, open questions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.impact.effect import Effect, Trouble
from fkdoctor.impact.world import Unsupported
from fkdoctor.schema import ForeignKey, Table, TableName

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
