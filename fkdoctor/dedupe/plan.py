"""What a dedupe would do, as a value: counted, reviewed, saved, refused when stale. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from fkdoctor.identifier import quote
from fkdoctor.schema import LogicalReference, TableName

# Measured (benchmarks/dedupe.py): a row of some 100 bytes with two indexes and its journal entry;
# right after a checkpoint whole pages are written, which makes up most of it. Of ten other shapes
# (wide rows, many indexes, collisions, fields) 0.6 to 2.1 times what was written right after one,
# and 1.2 to 2.7 times where no whole pages were.
WAL_PER_ROW = 1_600
ROWS_PER_SECOND = 15_000


class Member(NamedTuple):
    """A row of a cluster: its primary key as text, and a fingerprint of the whole row."""

    key: tuple[str, ...]
    fingerprint: str


class Merge(NamedTuple):
    """Rows that agree on all match values: one survives, the duplicates go."""

    survivor: Member
    duplicates: tuple[Member, ...]
    matched: tuple[str, ...]


class Collision(NamedTuple):
    """A referencing row that goes, or is demoted, because repointing would make it break a
    constraint.

    It collides with the row `kept`, to which references to it move. A link whose both ends become
    one survivor has none. `policy` is how that was decided.
    """

    table: TableName
    constraint: str
    row: Member
    kept: Member | None
    policy: str

    @property
    def goes(self) -> bool:
        """Whether the row goes; else it stays, and takes another value."""
        return not self.policy.startswith("demote(")


class Cluster(NamedTuple):
    """What is merged together or not at all: merges of rows of the deduplicated table, mostly one,
    and the collisions that they bring about. Without the others, some of these would not be."""

    number: int
    merges: tuple[Merge, ...]
    collisions: tuple[Collision, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Repoint:
    """The references of one foreign key that move from duplicates to survivors.

    `on_delete` is what the key would do to them if the duplicates were simply deleted. `indexed`
    says whether PostgreSQL finds them without reading the whole table.
    """

    table: TableName
    constraint: str
    columns: tuple[str, ...]
    rows: int
    on_delete: str
    indexed: bool

    @property
    def label(self) -> str:
        """Table and constraint."""
        return f"{self.table}.{quote(self.constraint)}"


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What becomes of rows of one table that collide by one constraint, and of how many."""

    table: TableName
    constraint: str
    policy: str
    rows: int

    @property
    def goes(self) -> bool:
        """Whether the rows go; else they stay, and take another value."""
        return not self.policy.startswith("demote(")


@dataclass(frozen=True, kw_only=True)
class CollisionRule:
    """What a user wants done with colliding rows of a table, in the words of the policies.

    `links` says what becomes of links whose both ends become one survivor, `above` of a survivor
    that references its own duplicate.
    """

    table: TableName
    collisions: str = "refuse"
    links: str = "refuse"
    above: str = "refuse"


@dataclass(frozen=True, kw_only=True)
class FieldRule:
    """What a survivor's column will hold, made of its own value and its duplicates'.

    `argument` is the column that newest and oldest go by, what concat puts between values, or the
    SQL of an expression.
    """

    table: TableName
    column: str
    kind: str
    argument: str = ""

    def __str__(self) -> str:
        kind = f"{self.kind}:{self.argument}" if self.argument else self.kind
        kind = self.argument if self.kind == "expression" else kind
        return f"{self.table}.{quote(self.column)} = {kind}"


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Something that this plan cannot be applied past: where, and why."""

    subject: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DedupePlan:
    """The head of a plan; its clusters are in the plan file.

    `fingerprint` is that of `tables`, the deduplicated table and all that reference it or rows that
    collide; `references` are those of them that only fkdoctor.toml declares. `survivors` can be
    more than the clusters, of which some are tied together; `refilled` of these, and of rows for
    which others go, change by `fields`. `left_out` tells of `skipped` clusters why they are not in
    the plan. `oversized` counts groups too large to be duplicates, which
    are left alone.
    """

    id: str
    created_at: str
    database: str
    table: TableName
    key_columns: tuple[str, ...]
    match: tuple[str, ...]
    survivor: tuple[str, ...]
    fingerprint: str
    tables: tuple[TableName, ...]
    references: tuple[LogicalReference, ...]
    clusters: int
    survivors: int
    duplicates: int
    rules: tuple[CollisionRule, ...]
    fields: tuple[FieldRule, ...]
    refilled: int
    resolutions: tuple[Resolution, ...]
    repoints: tuple[Repoint, ...]
    obstacles: tuple[Obstacle, ...]
    caveats: tuple[str, ...]
    oversized: int
    oversized_rows: int
    skipped: int = 0
    left_out: tuple[Obstacle, ...] = ()

    @property
    def needs_derivation(self) -> bool:
        """Whether the clusters and collisions alone do not say what becomes of every row."""
        return any(reference.embedded for reference in self.references) or any(
            rule.above == "inherit" or "demote(" in rule.collisions for rule in self.rules
        )

    @property
    def changed(self) -> int:
        """How many rows an apply changes or deletes."""
        return (
            self.duplicates
            + self.moving
            + self.refilled
            + sum(resolution.rows for resolution in self.resolutions)
        )

    @property
    def wal_bytes(self) -> int:
        """An estimate of the WAL that an apply writes, the ledger's included."""
        return self.changed * WAL_PER_ROW

    @property
    def seconds(self) -> float:
        """An estimate of how long an apply takes with one worker, where keys have indexes."""
        return self.changed / ROWS_PER_SECOND

    @property
    def moving(self) -> int:
        """How many references move."""
        return sum(repoint.rows for repoint in self.repoints)
