"""The rows that the model thinks over, and where it asks for more of them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from fkdoctor.schema import ForeignKey, Schema, TableName

Value: TypeAlias = str | None
"""A column's value. Two are equal if, and only if, PostgreSQL's foreign keys take them so."""

Values: TypeAlias = tuple[Value, ...]
Image: TypeAlias = Mapping[str, Value]


class RowId(NamedTuple):
    """Where a row is: its own table (a partition, not what is above it), block and item."""

    table: TableName
    block: int
    item: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row before the statement, with at least the columns that keys name."""

    id: RowId
    values: Image


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a new image of a row wants in a unique index, and which rows had it before."""

    index: str
    value: Values
    deferrable: bool
    holders: frozenset[RowId]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What a table's own rules say of a new image: CHECKs that fail, and what must be unique."""

    failing: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()


class Source(Protocol):
    """Where rows come from. What is asked for is asked once, for many values at a time."""

    def find_referencing(self, key: ForeignKey, values: Collection[Values]) -> Iterable[Row]:
        """The rows that reference any of the values by the key."""

    def find_referenced(self, key: ForeignKey, values: Collection[Values]) -> Iterable[Row]:
        """The rows that have one of the values, which a referencing row has, as their key."""

    def find_default(self, table: TableName, column: str) -> Value:
        """The value that SET DEFAULT writes."""

    def verify(
        self, table: TableName, images: Sequence[tuple[RowId, Image]]
    ) -> Sequence[Verification]:
        """For each row, what its table says of it with the changed columns."""


class Unsupported(Exception):
    """Something is reached that the model does not foresee: `subject` and `reason` name it."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(f"{subject}: {reason}")
        self.subject = subject
        self.reason = reason


class World:
    """The database as the model sees it: the schema, and the rows that were asked for so far."""

    def __init__(self, schema: Schema, source: Source) -> None:
        self.schema = schema
        self.source = source
        self.rows: dict[RowId, Row] = {}
        self._asked: dict[tuple[str, int, Values], list[RowId]] = {}
        self._defaults: dict[tuple[TableName, str], Value] = {}
        self._verified: dict[tuple[RowId, frozenset[tuple[str, Value]]], Verification] = {}
        self._outgoing: dict[TableName, list[ForeignKey]] = defaultdict(list)
        self._incoming: dict[TableName, list[ForeignKey]] = defaultdict(list)
        for key in schema.foreign_keys:
            for leaf in schema.leaves(key.referencing):
                self._outgoing[leaf.name].append(key)
            for leaf in schema.leaves(key.referenced):
                self._incoming[leaf.name].append(key)

    def outgoing(self, table: TableName) -> Sequence[ForeignKey]:
        """The keys that rows of the table have."""
        return self._outgoing.get(table, ())

    def incoming(self, table: TableName) -> Sequence[ForeignKey]:
        """The keys that rows of the table can be referenced by."""
        return self._incoming.get(table, ())

    def find_referencing(self, key: ForeignKey, values: Collection[Values]) -> list[RowId]:
        """The rows that referenced any of the values at first."""
        return self._find("referencing", key, key.referencing_columns, values)

    def find_referenced(self, key: ForeignKey, values: Collection[Values]) -> list[RowId]:
        """The rows that had one of the values as their key at first."""
        return self._find("referenced", key, key.referenced_columns, values)

    def _find(
        self, side: str, key: ForeignKey, columns: Sequence[str], values: Collection[Values]
    ) -> list[RowId]:
        missing = {value for value in values if (side, key.oid, value) not in self._asked}
        if missing:
            for value in missing:
                self._asked[side, key.oid, value] = []
            find = self.source.find_referencing
            if side == "referenced":
                find = self.source.find_referenced
            for row in self.keep(find(key, missing)):
                self._asked[side, key.oid, pick(row.values, columns)].append(row.id)
        return [row for value in values for row in self._asked[side, key.oid, value]]

    def keep(self, rows: Iterable[Row]) -> list[Row]:
        """The rows, remembered."""
        return [self.rows.setdefault(row.id, row) for row in rows]

    def find_default(self, key: ForeignKey, column: str) -> Value:
        """What SET DEFAULT writes: the default of the key's own table, not of a partition."""
        place = key.referencing, column
        if place not in self._defaults:
            self._defaults[place] = self.source.find_default(*place)
        return self._defaults[place]

    def verify(self, table: TableName, images: Sequence[tuple[RowId, Image]]) -> list[Verification]:
        """For each row, what its table says of it with the changed columns."""
        asked = [(row, frozenset(change.items())) for row, change in images]
        missing = [
            image for image, known in zip(images, asked, strict=True) if known not in self._verified
        ]
        if missing:
            for (row, change), found in zip(
                missing, self.source.verify(table, missing), strict=True
            ):
                self._verified[row, frozenset(change.items())] = found
        return [self._verified[one] for one in asked]


def pick(image: Image, columns: Iterable[str]) -> Values:
    """The values of the columns."""
    return tuple(image[column] for column in columns)
