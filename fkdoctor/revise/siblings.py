"""Whether another order of the keys' triggers changes what a DELETE does. Pure.

PostgreSQL applies the keys of a referenced row in the order of their triggers' names, which hold
the order in which the keys were made. A key that was put in another's place is the newest.
"""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName

_BLOCKING = (ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT)


def describe_order(before: Schema, after: Schema, table: TableName, name: str) -> Iterator[str]:
    """A sentence for each sibling that the key met in another order before, where that matters."""
    old, new = (_find(schema, table, name) for schema in (before, after))
    if old is None or new is None:
        return
    for sibling in after.keys_from(table):
        was = _find(before, table, sibling.name)
        if sibling.name == name or sibling.referenced != new.referenced or was is None:
            continue
        if _is_first(old, was) != _is_first(new, sibling) and _order_matters(new, sibling):
            first, second = (new, sibling) if _is_first(new, sibling) else (sibling, new)
            yield (
                f"a DELETE in {new.referenced} now meets {_say(first)} before {_say(second)}; "
                f"it was the other way round. {_consequence(first, second)}"
            )


def _find(schema: Schema, table: TableName, name: str) -> ForeignKey | None:
    return next((key for key in schema.keys_from(table) if key.name == name), None)


def _say(key: ForeignKey) -> str:
    return f"{key.label} (ON DELETE {key.on_delete.sql})"


def _is_first(one: ForeignKey, other: ForeignKey) -> bool:
    mine, theirs = _delete_triggers(one), _delete_triggers(other)
    return any(mine[table] < theirs[table] for table in mine.keys() & theirs.keys())


def _delete_triggers(key: ForeignKey) -> dict[TableName, bytes]:
    """The trigger that acts on a DELETE, by the table or partition that it is on."""
    triggers = (*key.triggers, *(one for clone in key.clones for one in clone.triggers))
    return {one.table: one.name.encode() for one in triggers if one.function.endswith("_del")}


def _blocks(key: ForeignKey) -> bool:
    deferred = key.on_delete is ReferentialAction.NO_ACTION and key.initially_deferred
    return key.on_delete in _BLOCKING and not deferred


def _order_matters(one: ForeignKey, other: ForeignKey) -> bool:
    acting = [key for key in (one, other) if key.on_delete not in _BLOCKING]
    if len(acting) == 1:
        actor, blocker = acting[0], other if acting[0] is one else one
        if not _blocks(blocker):
            return False
        if actor.on_delete is ReferentialAction.CASCADE:
            return True
        return bool(set(actor.written_columns) & set(blocker.referencing_columns))
    shared = set(one.referencing_columns) & set(other.referencing_columns)
    return len(acting) == 2 and one.on_delete is not other.on_delete and bool(shared)


def _consequence(first: ForeignKey, second: ForeignKey) -> str:
    if _blocks(first):
        return "A row that both hold now stops the DELETE, although the second would let go of it."
    if _blocks(second):
        return "A row that both hold is let go by the first, so that it stops the DELETE no longer."
    return "Where both hold a row, what the first does now comes first."
