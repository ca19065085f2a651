"""What a soft delete, a restore or a purge would do or has done, as frozen values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fkdoctor.errors import Blocked, UndoConflict
from fkdoctor.schema import ReferentialAction, TableName


@dataclass(frozen=True, kw_only=True)
class Taken:
    """How many rows of a table are soft-deleted, and by which foreign keys they were reached."""

    table: TableName
    rows: int
    via: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Change:
    """How many live rows lose a reference: the key's columns become NULL or their default."""

    key: str
    table: TableName
    columns: tuple[str, ...]
    action: ReferentialAction | None
    rows: int


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """What stands in the way, and what to do about it."""

    subject: str
    reason: str
    next: str


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """A soft delete. `id` and `deleted_at` are None while it is only a preview.

    `already_deleted` rows were asked for and stay as they are.
    """

    id: str | None
    deleted_at: datetime | None
    table: TableName
    selection: str
    reason: str | None
    taken: tuple[Taken, ...]
    changes: tuple[Change, ...]
    already_deleted: int
    missing: int
    obstacles: tuple[Obstacle, ...]
    caveats: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many rows are soft-deleted in all tables."""
        return sum(taken.rows for taken in self.taken)


@dataclass(frozen=True, kw_only=True)
class Restoration:
    """A deletion taken back. `conflicts` stand against it, in a preview."""

    id: str
    table: TableName
    selection: str
    deleted_by: str
    deleted_at: datetime
    done: bool
    restored: tuple[Taken, ...]
    changes: tuple[Change, ...]
    missing: int
    conflicts: tuple[str, ...]
    caveats: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many rows live again in all tables."""
        return sum(restored.rows for restored in self.restored)


@dataclass(frozen=True, kw_only=True)
class Purged:
    """How many rows of a table are old enough, how many of them go, and what keeps the others."""

    table: TableName
    old: int
    rows: int
    kept_by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Purge:
    """A purge of rows that were soft-deleted before a time."""

    before: datetime
    done: bool
    tables: tuple[Purged, ...]
    obstacles: tuple[Obstacle, ...]
    caveats: tuple[str, ...]

    @property
    def rows(self) -> int:
        """How many rows go from all tables."""
        return sum(table.rows for table in self.tables)


def blocked(obstacles: tuple[Obstacle, ...]) -> Blocked:
    """The refusal that names every obstacle."""
    return Blocked(
        "Refused: something is in the way; nothing was changed.",
        why="\n".join(f"{obstacle.subject}: {obstacle.reason}." for obstacle in obstacles),
        next="\n".join(dict.fromkeys(obstacle.next for obstacle in obstacles)),
    )


def conflicting(id: str, conflicts: tuple[str, ...]) -> UndoConflict:
    """The refusal that names every conflict of a restore."""
    return UndoConflict(
        f"Refused: deletion {id} cannot be taken back as it was made; nothing was changed.",
        why="\n".join(conflicts),
        next=f"Settle these, then: fkdoctor restore {id}",
    )
