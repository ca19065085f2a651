"""How a DELETE comes down through CASCADE, and whether it meets a key that refuses.

PostgreSQL queues what keys do breadth first. The rows of the statement go in step 0; the triggers
on rows that went in step n fire one after the other, in the order of these rows and of the
triggers' names, and what they delete goes in step n + 1 (measured on 12 to 18). A table is taken
together with its partitions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from fkdoctor.inspect.graph import partition_family
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName

FAR = 8
"""How many levels up are looked at: a longer chain of CASCADE is told by its length alone."""

Chain = tuple[ForeignKey, ...]


class Cascades:
    """From which tables does a DELETE reach a table, and by which keys? Answers are remembered."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._ways: dict[TableName, Mapping[TableName, Chain]] = {}

    def whole(self, table: TableName) -> TableName:
        """The partitioned table that the table is a partition of, or the table itself."""
        while (above := self._schema.table(table).partition_of) is not None:
            table = above
        return table

    def ways_to(self, table: TableName) -> Mapping[TableName, Chain]:
        """The shortest chain of CASCADE keys, from the top down, from each table that has one.

        The table itself is among them, with no key.
        """
        table = self.whole(table)
        if table not in self._ways:
            self._ways[table] = self._find_ways(table)
        return self._ways[table]

    def _find_ways(self, table: TableName) -> dict[TableName, Chain]:
        found: dict[TableName, Chain] = {table: ()}
        waiting = deque([table])
        while waiting:
            current = waiting.popleft()
            for key in self._keys_up(current):
                above = self.whole(key.referenced)
                if above not in found and len(found[current]) < FAR:
                    found[above] = (key, *found[current])
                    waiting.append(above)
        return found

    def _keys_up(self, table: TableName) -> Iterator[ForeignKey]:
        for member in partition_family(self._schema, table):
            for key in self._schema.keys_from(member):
                if key.enforced and key.on_delete is ReferentialAction.CASCADE:
                    yield key


@lru_cache(maxsize=1)
def cascades_of(schema: Schema) -> Cascades:
    """The cascades of the schema, which several rules ask about."""
    return Cascades(schema)


class Meeting(Enum):
    """What a key that refuses finds when it looks for rows that another key takes away."""

    GONE = "gone"
    DEPENDS = "depends"
    THERE = "there"


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Two keys of one table meet in a DELETE from `root`: `taker` takes rows, `refuser` refuses.

    The chains lead from `root` down to the table that each references. Where it DEPENDS, `decisive`
    are the keys on one and the same row, of the taker's chain and of the refuser's: the one that
    fires first decides.
    """

    root: TableName
    taker: ForeignKey
    taker_chain: Chain
    refuser: ForeignKey
    refuser_chain: Chain
    meeting: Meeting
    decisive: tuple[ForeignKey, ForeignKey] | None


_REFUSING = (ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT)
_WRITING = (ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT)


def refuses(key: ForeignKey) -> bool:
    """Whether the key forbids a DELETE while rows reference, now or at COMMIT."""
    return key.enforced and key.on_delete in _REFUSING


def refuses_at_once(key: ForeignKey) -> bool:
    """Whether it does not wait for COMMIT. RESTRICT never waits, whatever it says."""
    waits = key.initially_deferred and key.on_delete is ReferentialAction.NO_ACTION
    return refuses(key) and not waits


def takes_from(taker: ForeignKey, other: ForeignKey) -> bool:
    """Whether `taker` deletes the rows, or writes columns by which they reference for `other`."""
    if not taker.enforced:
        return False
    if taker.on_delete is ReferentialAction.CASCADE:
        return True
    written = taker.written_columns if taker.on_delete in _WRITING else ()
    return not set(written).isdisjoint(other.referencing_columns)


def find_conflict(cascades: Cascades, taker: ForeignKey, refuser: ForeignKey) -> Conflict | None:
    """How the two keys of one table meet in a DELETE that reaches both; None if there is none.

    The nearest table is taken from which a DELETE reaches both.
    """
    to_taker = cascades.ways_to(taker.referenced)
    to_refuser = cascades.ways_to(refuser.referenced)
    roots = to_taker.keys() & to_refuser.keys()
    if not roots:
        return None
    root = min(roots, key=lambda table: (len(to_taker[table]) + len(to_refuser[table]), table))
    down, across = to_taker[root], to_refuser[root]
    decisive = None
    if len(down) < len(across):
        meeting = Meeting.GONE
    elif len(down) > len(across):
        meeting = Meeting.THERE
    else:
        meeting = Meeting.DEPENDS
        pairs = zip((*down, taker), (*across, refuser), strict=True)
        decisive = next(pair for pair in pairs if pair[0] is not pair[1])
        if decisive[0].referenced != decisive[1].referenced:
            return None
    return Conflict(
        root=root,
        taker=taker,
        taker_chain=down,
        refuser=refuser,
        refuser_chain=across,
        meeting=meeting,
        decisive=decisive,
    )
