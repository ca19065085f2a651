"""What a dedupe would do, as a value: counted, reviewed, saved, refused when stale. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from fkdoctor.identifier import quote
from fkdoctor.schema import TableName


@dataclass(frozen=True, kw_only=True)
class Member:
    """A row of a cluster: its primary key as text, and a fingerprint of the whole row."""

    key: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Rows that agree on all match values: one survives, the duplicates go."""

    number: int
    survivor: Member
    duplicates: tuple[Member, ...]
    matched: tuple[str, ...]


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
class Obstacle:
    """Something that this plan cannot be applied past: where, and why."""

    subject: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DedupePlan:
    """The head of a plan; its clusters are in the plan file.

    `fingerprint` is that of `tables`, the deduplicated table and all that reference it.
    `oversized` counts groups too large to be duplicates, which are left alone.
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
    clusters: int
    duplicates: int
    repoints: tuple[Repoint, ...]
    obstacles: tuple[Obstacle, ...]
    caveats: tuple[str, ...]
    oversized: int
    oversized_rows: int

    @property
    def references(self) -> int:
        """How many references move."""
        return sum(repoint.rows for repoint in self.repoints)
