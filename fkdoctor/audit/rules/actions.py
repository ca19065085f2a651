"""Rules about what a foreign key does with its rows when the referenced row goes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fkdoctor.audit import remedy
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.identifier import quote, quote_all
from fkdoctor.inspect.coverage import not_null_columns
from fkdoctor.schema import Column, ForeignKey, MatchType, ReferentialAction, Schema, Table

SET_COLUMNS_SINCE = 15
"""The first version with `ON DELETE SET NULL (column)`."""


def find_impossible_set_null(schema: Schema) -> Iterator[Evidence]:
    """The keys whose SET NULL PostgreSQL must refuse, whatever the rows are."""
    for key, event, columns in keys_doing(schema, ReferentialAction.SET_NULL):
        obstacles = null_obstacles(schema, key, columns)
        obstacles += _beside_values(key, columns, "kept")
        if obstacles:
            yield _failing_action(
                schema, key, f"ON {event} SET NULL", columns, obstacles, _allow_null(schema, key)
            )


def find_impossible_set_default(schema: Schema) -> Iterator[Evidence]:
    """The keys whose SET DEFAULT would write NULL where no NULL may be."""
    for key, event, columns in keys_doing(schema, ReferentialAction.SET_DEFAULT):
        without = tuple(name for name in columns if not has_default(_column(schema, key, name)))
        obstacles = null_obstacles(schema, key, without)
        obstacles += _beside_values(key, without, "not NULL")
        if obstacles:
            yield _failing_action(
                schema, key, f"ON {event} SET DEFAULT", without, obstacles, sql=None
            )


def _beside_values(key: ForeignKey, nulled: tuple[str, ...], what: str) -> list[str]:
    """That NULL in these columns alone is refused, if it is."""
    others = tuple(name for name in key.referencing_columns if name not in nulled)
    if key.match is not MatchType.FULL or not (nulled and others):
        return []
    return [f"MATCH FULL does not allow NULL beside {columns_of(others)}, which is {what}"]


def find_set_default_without_default(schema: Schema) -> Iterator[Evidence]:
    """The keys whose SET DEFAULT is in truth a SET NULL."""
    for key, event, columns in keys_doing(schema, ReferentialAction.SET_DEFAULT):
        without = tuple(name for name in columns if not has_default(_column(schema, key, name)))
        obstacles = null_obstacles(schema, key, without)
        if without and not obstacles and not _beside_values(key, without, ""):
            yield Evidence(
                subject=key.label,
                detail=(
                    f"ON {event} SET DEFAULT writes NULL into {columns_of(without)} of "
                    f"{with_rows(schema, key.referencing)}: no default is declared."
                ),
                keys=(key,),
            )


def find_undecided(schema: Schema) -> Iterator[Evidence]:
    """The keys with NO ACTION, which is what one gets without saying anything."""
    for key in schema.foreign_keys:
        if key.initially_deferred:  # Somebody chose, and the order of the DELETEs does not matter.
            continue
        if key.enforced and key.on_delete is ReferentialAction.NO_ACTION:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"ON DELETE NO ACTION: a row of {with_rows(schema, key.referenced)} "
                    f"can't be deleted while {with_rows(schema, key.referencing)} references it."
                ),
                keys=(key,),
            )


def keys_doing(
    schema: Schema, action: ReferentialAction
) -> Iterator[tuple[ForeignKey, str, tuple[str, ...]]]:
    """Every key that does `action`, with the events on which it does and the columns it writes."""
    for key in schema.foreign_keys:
        if not key.enforced:
            continue
        if key.on_delete is action:
            both = key.on_update is action and not key.set_columns
            yield key, "DELETE and ON UPDATE" if both else "DELETE", key.written_columns
        elif key.on_update is action:
            yield key, "UPDATE", key.referencing_columns


def _column(schema: Schema, key: ForeignKey, name: str) -> Column:
    return schema.table(key.referencing).column(name)


_NULL_LITERAL = re.compile(r"NULL(::.+)?")


def has_default(column: Column) -> bool:
    """Whether SET DEFAULT writes something else than NULL."""
    if column.identity:
        return True
    return column.default is not None and not _NULL_LITERAL.fullmatch(column.default)


def null_obstacles(schema: Schema, key: ForeignKey, columns: tuple[str, ...]) -> list[str]:
    """What forbids NULL in one of the columns, in the table or in one of its partitions."""
    found: dict[str, None] = {}
    root = schema.table(key.referencing)
    leaves = schema.leaves(root.name)
    for table in leaves if leaves == (root,) else (root, *leaves):
        where = "" if table is root else f" in partition {table.name}"
        primary = table.primary_key.columns if table.primary_key else ()
        for name in columns:
            if table.column(name).not_null:
                part = ", part of the primary key" if name in primary else ""
                # A partition repeats what its parent forbids.
                if not any(obstacle.startswith(f"{quote(name)} is NOT NULL") for obstacle in found):
                    found[f"{quote(name)} is NOT NULL{part}{where}"] = None
        for constraint in table.constraints:
            demanded = demanded_not_null(constraint.definition) if constraint.enforced else None
            for name in columns:
                if demanded and quote(name) in demanded:
                    obstacle = (
                        f"CHECK constraint {quote(constraint.name)} demands a value in "
                        f"{quote(name)}"
                    )
                    if obstacle not in found:
                        found[f"{obstacle}{where}"] = None
    return list(found)


_CHECK = re.compile(r"CHECK \((.+)\)(?: NO INHERIT)?(?: NOT VALID)?")


def demanded_not_null(definition: str) -> frozenset[str] | None:
    """The columns, quoted, for which the CHECK demands just a value; None if it demands more."""
    check = _CHECK.fullmatch(definition)
    return not_null_columns(check[1]) if check else None


def _failing_action(
    schema: Schema,
    key: ForeignKey,
    action: str,
    columns: tuple[str, ...],
    obstacles: list[str],
    sql: str | None,
) -> Evidence:
    verb = "have another key" if action.startswith("ON UPDATE") else "be deleted"
    detail = (
        f"{action} would write NULL into {columns_of(columns)}, but {listed(obstacles)}: a row of "
        f"{with_rows(schema, key.referenced)} can't {verb} while "
        f"{with_rows(schema, key.referencing)} references it"
        f"{' from there' if all(' in partition ' in one for one in obstacles) else ''}."
    )
    writers = _filling_triggers(schema.table(key.referencing))
    if writers:
        detail += f" Unless {listed(writers, 'or')}, which runs before, puts a value there."
    return Evidence(subject=key.label, detail=detail, keys=(key,), sql=sql)


def _filling_triggers(table: Table) -> list[str]:
    """The triggers that see the row before PostgreSQL checks it for NULLs."""
    return [
        f"trigger {quote(trigger.name)}"
        for trigger in table.triggers
        if trigger.timing == "BEFORE" and trigger.for_each_row and "UPDATE" in trigger.events
    ]


def _allow_null(schema: Schema, key: ForeignKey) -> str | None:
    """SQL that lets the rule work without giving up a promise; None where that needs a decision.

    From 15 on, the columns of a composite key that may be NULL can be nulled alone.
    """
    nullable = tuple(
        name for name in key.referencing_columns if not null_obstacles(schema, key, (name,))
    )
    possible = schema.major >= SET_COLUMNS_SINCE and key.match is MatchType.SIMPLE
    if not (nullable and possible) or key.on_update is ReferentialAction.SET_NULL:
        return None
    written = f" ({quote_all(key.set_columns)})" if key.set_columns else ""
    definition = key.definition.replace(
        f" ON DELETE SET NULL{written}", f" ON DELETE SET NULL ({quote_all(nullable)})"
    )
    return remedy.replace_key(schema, key, definition)


RULES = (
    Rule(
        id="FK008",
        name="impossible-set-null",
        severity=Severity.ERROR,
        condition=(
            "The key does SET NULL, but one of the columns it would write may not be NULL, or "
            "MATCH FULL forbids NULL beside the columns it would keep."
        ),
        effect=(
            "PostgreSQL accepts the declaration. The DELETE of every row that is referenced fails "
            "with an error that names the NOT NULL column and not the foreign key."
        ),
        remedy=(
            "Decide what is meant: CASCADE if the rows have no sense without the referenced one, "
            "RESTRICT if it must stay, or let the column be NULL. In a composite key, let SET NULL "
            "write only the columns that may be NULL (PostgreSQL 15 and newer)."
        ),
        check=find_impossible_set_null,
    ),
    Rule(
        id="FK009",
        name="impossible-set-default",
        severity=Severity.ERROR,
        condition=(
            "The key does SET DEFAULT, and a column it would write has no default, and may not be "
            "NULL, or not alone by MATCH FULL."
        ),
        effect=(
            "Without a default PostgreSQL writes NULL, which the column forbids: the DELETE of "
            "every row that is referenced fails."
        ),
        remedy=(
            "Declare a default that exists in the referenced table, or choose CASCADE or RESTRICT."
        ),
        check=find_impossible_set_default,
    ),
    Rule(
        id="FK010",
        name="set-default-without-default",
        severity=Severity.WARNING,
        condition="The key does SET DEFAULT, and a column it would write has no default.",
        effect="It does what SET NULL does, which is not what its declaration says.",
        remedy=(
            "Declare the default that was meant, one that exists in the referenced table; or say "
            "SET NULL."
        ),
        check=find_set_default_without_default,
    ),
    Rule(
        id="FK019",
        name="undecided-action",
        severity=Severity.INFO,
        condition=(
            "The key is ON DELETE NO ACTION, which is what it is when nothing is said, and not "
            "INITIALLY DEFERRED."
        ),
        effect=(
            "A referenced row can't be deleted before the rows that reference it. Often nobody "
            "chose that, and the first to hear of it is who deletes duplicates or a user's data."
        ),
        remedy=(
            "Decide: CASCADE where the rows have no sense without the referenced one, SET NULL "
            "where they have, RESTRICT where the DELETE is to be refused. A key that is meant to "
            'be so goes into the ignore list: ignore = ["FK019:schema.table.constraint"].'
        ),
        check=find_undecided,
    ),
)
