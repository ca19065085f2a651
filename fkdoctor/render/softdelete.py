"""Soft deletes, restores and purges as text and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from fkdoctor.identifier import quote_all
from fkdoctor.render.text import count_of
from fkdoctor.schema import TableName
from fkdoctor.softdelete.outcome import Change, Deletion, Obstacle, Purge, Restoration, Taken


def deletion_text(deletion: Deletion) -> str:
    """A soft delete, or its preview."""
    done = deletion.id is not None
    if done:
        lines = [
            f"Deletion {deletion.id}: {count_of(deletion.rows, 'row')} soft-deleted"
            f" at {_moment(deletion.deleted_at)}."
        ]
    else:
        lines = [f"Of {deletion.table}, {deletion.selection}:"]
        if deletion.rows:
            lines.append(f"{count_of(deletion.rows, 'row')} would be soft-deleted:")
        else:
            lines.append("nothing to soft-delete.")
    lines += _taken_lines(deletion.taken)
    lines += _change_lines(deletion.changes, done, restored=False)
    if deletion.already_deleted:
        lines.append(f"Deleted already, and left so: {count_of(deletion.already_deleted, 'row')}.")
    if deletion.missing:
        lines.append(f"Not there: {count_of(deletion.missing, 'row')}.")
    lines += _closing_lines(deletion.caveats, deletion.obstacles)
    return _lines(lines)


def restoration_text(restoration: Restoration) -> str:
    """A restore, or its preview."""
    told = (
        f"Deletion {restoration.id} of {restoration.table}, {restoration.selection}, "
        f"by {restoration.deleted_by} at {_moment(restoration.deleted_at)}:"
    )
    if restoration.done and not restoration.restored:
        return _lines([told, "restored already."])
    what = "restored" if restoration.done else "would be restored"
    lines = [told, f"{count_of(restoration.rows, 'row')} {what}:"]
    lines += _taken_lines(restoration.restored)
    lines += _change_lines(restoration.changes, restoration.done, restored=True)
    if restoration.missing:
        lines.append(
            f"No longer marked by it, and left as they are: {count_of(restoration.missing, 'row')}."
        )
    lines += _closing_lines(restoration.caveats, ())
    if restoration.conflicts:
        lines += ["", "In the way:", *(f"  {conflict}" for conflict in restoration.conflicts)]
    return _lines(lines)


def purge_text(purge: Purge) -> str:
    """A purge, or its preview."""
    what = "deleted for good" if purge.done else "would be deleted for good"
    lines = [
        f"Soft-deleted before {_moment(purge.before)}: "
        f"{count_of(sum(table.old for table in purge.tables), 'row')}; "
        f"{purge.rows:,} {what}."
    ]
    width = max((len(str(table.table)) for table in purge.tables), default=0)
    for table in purge.tables:
        if table.old:
            lines.append(
                f"  {table.table!s:<{width}}  {table.rows:,} of {count_of(table.old, 'row')}"
            )
            for key in table.kept_by:
                lines.append(f"    the others are referenced by rows that stay: {key}")
    lines += _closing_lines(purge.caveats, purge.obstacles)
    return _lines(lines)


def deletions_text(deletions: Iterable[Mapping[str, Any]]) -> str:
    """The history of soft deletes, a line each."""
    return _lines(
        f"{row['id']}  {_moment(row['deleted_at'])}  {_state(row):<8}  "
        f"{TableName(row['table_schema'], row['table_name'])}  "
        f"{count_of(int(row['taken']), 'row')}, by {row['deleted_by']}"
        + (f": {row['reason']}" if row["reason"] else "")
        for row in deletions
    ) or ("Nothing was soft-deleted in this database yet.\n")


def deletion_document(deletion: Deletion) -> dict[str, Any]:
    """A soft delete as plain values."""
    return {
        "id": deletion.id,
        "deleted_at": deletion.deleted_at and deletion.deleted_at.isoformat(),
        "table": str(deletion.table),
        "selection": deletion.selection,
        "reason": deletion.reason,
        "rows": deletion.rows,
        "taken": [_taken(taken) for taken in deletion.taken],
        "changes": [_change(change) for change in deletion.changes],
        "already_deleted": deletion.already_deleted,
        "missing": deletion.missing,
        "obstacles": [_obstacle(obstacle) for obstacle in deletion.obstacles],
        "caveats": list(deletion.caveats),
    }


def restoration_document(restoration: Restoration) -> dict[str, Any]:
    """A restore as plain values."""
    return {
        "id": restoration.id,
        "table": str(restoration.table),
        "selection": restoration.selection,
        "deleted_by": restoration.deleted_by,
        "deleted_at": restoration.deleted_at.isoformat(),
        "done": restoration.done,
        "rows": restoration.rows,
        "restored": [_taken(taken) for taken in restoration.restored],
        "changes": [_change(change) for change in restoration.changes],
        "missing": restoration.missing,
        "conflicts": list(restoration.conflicts),
        "caveats": list(restoration.caveats),
    }


def purge_document(purge: Purge) -> dict[str, Any]:
    """A purge as plain values."""
    return {
        "before": purge.before.isoformat(),
        "done": purge.done,
        "rows": purge.rows,
        "tables": [
            {
                "table": str(table.table),
                "old": table.old,
                "rows": table.rows,
                "kept_by": list(table.kept_by),
            }
            for table in purge.tables
        ],
        "obstacles": [_obstacle(obstacle) for obstacle in purge.obstacles],
        "caveats": list(purge.caveats),
    }


def _taken(taken: Taken) -> dict[str, Any]:
    return {"table": str(taken.table), "rows": taken.rows, "via": list(taken.via)}


def _change(change: Change) -> dict[str, Any]:
    return {
        "key": change.key,
        "table": str(change.table),
        "columns": list(change.columns),
        "action": change.action and change.action.sql,
        "rows": change.rows,
    }


def _obstacle(obstacle: Obstacle) -> dict[str, Any]:
    return {"subject": obstacle.subject, "reason": obstacle.reason, "next": obstacle.next}


def _taken_lines(tables: tuple[Taken, ...]) -> Iterator[str]:
    width = max((len(str(taken.table)) for taken in tables), default=0)
    for taken in tables:
        via = f"  by {', '.join(taken.via)}" if taken.via else ""
        yield f"  {taken.table!s:<{width}}  {count_of(taken.rows, 'row')}{via}"


def _change_lines(changes: tuple[Change, ...], done: bool, *, restored: bool) -> Iterator[str]:
    for change in changes:
        if restored:
            what = "is as it was" if done else "would be as it was"
        else:
            rule = change.action.sql.removeprefix("SET ") if change.action else "NULL"
            what = f"{'is' if done else 'would be'} set to {rule}, and remembered"
        yield (
            f"  {change.table}  {quote_all(change.columns)} {what} in "
            f"{count_of(change.rows, 'row')}  by {change.key}"
        )


def _closing_lines(caveats: tuple[str, ...], obstacles: tuple[Obstacle, ...]) -> Iterator[str]:
    if caveats:
        yield ""
        yield "Beside it:"
        yield from (f"  {caveat}" for caveat in caveats)
    if obstacles:
        yield ""
        yield "In the way:"
        for obstacle in obstacles:
            yield f"  {obstacle.subject}: {obstacle.reason}."
            yield f"    {obstacle.next}"


def _state(row: Mapping[str, Any]) -> str:
    if row["restored_at"] is not None:
        return "restored"
    if row["purged"]:
        return "purged" if row["purged"] >= row["taken"] else "in part"
    return "deleted"


def _moment(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S %Z}".strip() if time is not None else ""


def _lines(lines: Iterable[str]) -> str:
    """The lines without what a terminal would obey: values are anybody's."""
    return "".join(
        "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line) + "\n"
        for line in lines
    )
