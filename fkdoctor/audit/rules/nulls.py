"""Rules about NULL in foreign keys: what writes it, what forbids it, what it leaves unchecked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal

from fkdoctor.audit import remedy
from fkdoctor.audit.condition import Constant, Effect, effect_of_writing, forbids
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.rules.actions import (
    SET_COLUMNS_SINCE,
    demanded_not_null,
    has_default,
    keys_doing,
    null_obstacles,
)
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.identifier import quote, quote_all
from fkdoctor.schema import (
    Column,
    Constraint,
    Flaw,
    ForeignKey,
    Index,
    MatchType,
    ReferentialAction,
    Schema,
    Table,
    TableName,
)


def find_refused_nulls(schema: Schema) -> Iterator[Evidence]:
    """The keys whose SET NULL or SET DEFAULT a CHECK refuses, for every row or for some."""
    for key, action, written in _writing(schema):
        columns = tuple(written)
        any_value = any(value is not None for value in written.values())
        told: dict[str, Severity] = {}
        for table in _holding(schema, key):
            always_filled = [column.name for column in table.columns if column.not_null]
            for check in _checks(table, columns):
                effect = effect_of_writing(
                    check.definition, key.referencing_columns, written, always_filled
                )
                which = f"{quote(check.name)}, {_condition(check)}"
                if effect is Effect.ALWAYS:
                    refused = "with it" if any_value else "without it"
                    told[f"{which}, allows no row {refused}"] = Severity.ERROR
                elif effect is Effect.SOMETIMES:
                    told[f"{which}, does not allow that in every row"] = Severity.WARNING
        if told:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"{action} writes {'the default' if any_value else 'NULL'} into "
                    f"{columns_of(columns)} of "
                    f"{with_rows(schema, key.referencing)}, but {listed(told)}: then the command "
                    f"on {key.referenced} fails."
                ),
                keys=(key,),
                severity=max(told.values()),
            )


def _writing(schema: Schema) -> Iterator[tuple[ForeignKey, str, Mapping[str, Constant]]]:
    """The keys that write NULL or a constant, on which event by which action, and what they write.

    Without those that NOT NULL stops.
    """
    for key, action, columns in _nulling(schema):
        yield key, action, dict.fromkeys(columns)
    for key, event, columns in keys_doing(schema, ReferentialAction.SET_DEFAULT):
        table = schema.table(key.referencing)
        defaults = {name: read_constant(table.column(name)) for name in columns}
        known = {name: value for name, value in defaults.items() if value is not None}
        if len(known) == len(columns):
            yield key, f"ON {event} SET DEFAULT", known


_NUMBER = re.compile(r"\(?'?(-?\d+(?:\.\d+)?)'?\)?(?:::[a-z ]+(?:\(\d+(?:,\d+)?\))?)?")
_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric"})


def read_constant(column: Column) -> int | Decimal | None:
    """The number that is the column's default; None where it is anything else."""
    found = _NUMBER.fullmatch(column.default or "") if column.base_type in _NUMBERS else None
    if found is None or column.identity:
        return None
    return Decimal(found[1]) if "." in found[1] else int(found[1])


def _nulling(schema: Schema) -> Iterator[tuple[ForeignKey, str, tuple[str, ...]]]:
    """The keys that write NULL, on which event by which action, where no NOT NULL stops them."""
    for key, event, columns in keys_doing(schema, ReferentialAction.SET_NULL):
        if not null_obstacles(schema, key, columns):
            yield key, f"ON {event} SET NULL", columns
    for key, event, columns in keys_doing(schema, ReferentialAction.SET_DEFAULT):
        table = schema.table(key.referencing)
        without = tuple(name for name in columns if not has_default(table.column(name)))
        if without and not null_obstacles(schema, key, without):
            yield key, f"ON {event} SET DEFAULT", without


def _holding(schema: Schema, key: ForeignKey) -> tuple[Table, ...]:
    """The key's table and the partitions that hold its rows."""
    table = schema.table(key.referencing)
    leaves = schema.leaves(table.name)
    return leaves if leaves == (table,) else (table, *leaves)


def _checks(table: Table, columns: tuple[str, ...]) -> Iterator[Constraint]:
    """The CHECKs on one of the columns, but those that just demand a value."""
    for constraint in table.constraints:
        asks = constraint.kind == "c" and constraint.enforced
        if (
            asks
            and not set(columns).isdisjoint(constraint.columns)
            and demanded_not_null(constraint.definition) is None
        ):
            yield constraint


def _condition(check: Constraint) -> str:
    return check.definition.removesuffix(" NOT VALID").removesuffix(" NO INHERIT")


def find_shared_columns(schema: Schema) -> Iterator[Evidence]:
    """The composite keys whose SET NULL also writes a column that another key shares."""
    for key, event, columns in keys_doing(schema, ReferentialAction.SET_NULL):
        if len(key.referencing_columns) < 2 or null_obstacles(schema, key, columns):
            continue
        shared = {name: others for name in columns if (others := _sharing(schema, key, name))}
        # Where all are shared, none is known to be the reference itself.
        if not shared or len(shared) == len(columns):
            continue
        labels = sorted({other.label for found in shared.values() for other in found})
        yield Evidence(
            subject=key.label,
            detail=(
                f"ON {event} SET NULL writes NULL into {columns_of(columns)} of "
                f"{with_rows(schema, key.referencing)}. {columns_of(tuple(shared))} is also part "
                f"of {listed(labels)}, which the row then no longer references."
            ),
            keys=(key, *(other for found in shared.values() for other in found)),
            sql=_set_only(schema, key, event, tuple(c for c in columns if c not in shared)),
        )


def _sharing(schema: Schema, key: ForeignKey, name: str) -> list[ForeignKey]:
    """The table's other keys that the column is part of, but those that say a part of this one."""
    pairs = set(zip(key.referencing_columns, key.referenced_columns, strict=True))
    return [
        other
        for other in schema.keys_from(key.referencing)
        if name in other.referencing_columns
        and set(other.referencing_columns) != set(key.referencing_columns)
        and not (
            other.referenced == key.referenced
            and set(zip(other.referencing_columns, other.referenced_columns, strict=True)) < pairs
        )
    ]


def _set_only(schema: Schema, key: ForeignKey, event: str, columns: tuple[str, ...]) -> str | None:
    """SQL that lets ON DELETE write only these columns; None where PostgreSQL can't."""
    if event != "DELETE" or schema.major < SET_COLUMNS_SINCE or key.match is MatchType.FULL:
        return None
    written = f" ({quote_all(key.set_columns)})" if key.set_columns else ""
    definition = key.definition.replace(
        f" ON DELETE SET NULL{written}", f" ON DELETE SET NULL ({quote_all(columns)})"
    )
    return remedy.replace_key(schema, key, definition)


def find_half_nulls(schema: Schema) -> Iterator[Evidence]:
    """The composite keys with MATCH SIMPLE that a row can pass by being NULL in a part."""
    for key in schema.foreign_keys:
        if len(key.referencing_columns) < 2 or key.match is MatchType.FULL or not key.enforced:
            continue
        columns, table = key.referencing_columns, schema.table(key.referencing)
        nullable = tuple(name for name in columns if not table.column(name).not_null)
        halves = {name: rest for name in nullable if (rest := _left_over(schema, key, name))}
        if not halves:
            continue
        told = [
            f"NULL in {quote(name)} and a value in {columns_of(rest)}"
            for name, rest in halves.items()
        ]
        full = len(nullable) == len(columns) and not key.set_columns
        now = schema.row_count(key, Flaw.HALF_NULL)
        counted = f" There are {now.count:,} such rows now." if now is not None else ""
        yield Evidence(
            subject=key.label,
            detail=(
                f"A row of {with_rows(schema, key.referencing)} with "
                f"{listed(told, 'or')} "
                f"is not checked against {key.referenced}.{counted}"
            ),
            keys=(key,),
            sql=_match_full(schema, key) if full else None,
        )


def _left_over(schema: Schema, key: ForeignKey, null: str) -> tuple[str, ...]:
    """The columns that still seem to reference something in a row with NULL in that one.

    Columns that other keys share, such as a tenant's number, say nothing about this key unless all
    are shared; and where the rest always has a value, NULL says that there is no reference.
    """
    table = schema.table(key.referencing)
    columns = key.referencing_columns
    telling = [name for name in columns if not _sharing(schema, key, name)] or columns
    checks = [
        check
        for check in table.constraints
        if check.kind == "c" and check.enforced and check.validated
    ]
    return tuple(
        name
        for name in telling
        if name != null
        and (null not in telling or not table.column(name).not_null)
        and not any(forbids(check.definition, (null,), (name,)) for check in checks)
    )


def _match_full(schema: Schema, key: ForeignKey) -> str:
    before, _, after = key.definition.partition(") REFERENCES ")
    target, closing, actions = after.partition(")")
    return remedy.replace_key(
        schema, key, f"{before}) REFERENCES {target}{closing} MATCH FULL{actions}"
    )


def find_colliding_actions(schema: Schema) -> Iterator[Evidence]:
    """The keys whose action writes the same into many rows of a column that must be unique."""
    for key in schema.foreign_keys:
        if not key.enforced:
            continue
        told: dict[str, None] = {}
        for event, action, columns in _writes(key):
            for table in _holding(schema, key):
                for index in table.indexes:
                    if _collides(table, index, columns, action):
                        told[
                            f"ON {event} {action.sql} writes "
                            f"{_written(table, columns, action)} into {columns_of(columns)}, and "
                            f"{_promise(table.name, index)}"
                        ] = None
        if told:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"{listed(told)}. With a second such row of "
                    f"{with_rows(schema, key.referencing)} the command on {key.referenced} fails."
                ),
                keys=(key,),
            )


_WRITING = (ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT)


def _writes(key: ForeignKey) -> Iterator[tuple[str, ReferentialAction, tuple[str, ...]]]:
    if key.on_delete in _WRITING:
        yield "DELETE", key.on_delete, key.written_columns
    if key.on_update in _WRITING and key.on_update is not key.on_delete:
        yield "UPDATE", key.on_update, key.referencing_columns


_LITERAL = re.compile(r"(?:-?\d+(?:\.\d+)?|'(?:[^']|'')*'|true|false)(?:::.+)?")


def _collides(
    table: Table, index: Index, columns: tuple[str, ...], action: ReferentialAction
) -> bool:
    """Whether two rows that agree in the rest of the index get the same in these columns."""
    written = set(columns) & {part.column for part in index.keys}
    if not (index.unique and index.valid and written):
        return False
    nulled = [
        name
        for name in sorted(filter(None, written))
        if action is ReferentialAction.SET_NULL or not has_default(table.column(name))
    ]
    constant = all(
        name in nulled or _LITERAL.fullmatch(table.column(name).default or "")
        for name in filter(None, written)
    )
    if not constant or (nulled and not index.nulls_not_distinct):
        return False
    # A column that stays and tells rows apart by itself leaves nothing to collide.
    rest = {part.column for part in index.keys} - written
    alone = [set(key.columns) for key in table.unique_keys if set(key.columns) <= rest]
    excluded = index.predicate is not None and any(
        f"{quote(name)} IS NOT NULL" in index.predicate for name in nulled
    )
    return not alone and not excluded


def _written(table: Table, columns: tuple[str, ...], action: ReferentialAction) -> str:
    if action is ReferentialAction.SET_NULL:
        return "NULL"
    return listed(table.column(name).default or "NULL" for name in columns)


def _promise(table: TableName, index: Index) -> str:
    nulls = " NULLS NOT DISTINCT" if index.nulls_not_distinct else ""
    return f"{TableName(table.schema, index.name)} is UNIQUE{nulls}"


RULES = (
    Rule(
        id="FK031",
        name="null-against-check",
        severity=Severity.ERROR,
        condition=(
            "The key does SET NULL, or SET DEFAULT with a number, and a CHECK constraint allows no "
            "row in which the column is that instead of filled. A warning where that depends on "
            "other columns. Conditions that are not understood are left out."
        ),
        effect=(
            "The DELETE of the referenced row fails with the name of the CHECK. That is common "
            "where just one of several references must be filled: its SET NULL can never work."
        ),
        remedy=(
            "CASCADE, where a row without the reference has no sense; RESTRICT, where it must "
            "stay; or a CHECK that allows a row whose reference is gone."
        ),
        check=find_refused_nulls,
    ),
    Rule(
        id="FK032",
        name="shared-column-nulled",
        severity=Severity.WARNING,
        condition=(
            "A composite key does SET NULL on a column that is also part of another key of the "
            "table, such as the tenant's number."
        ),
        effect=(
            "When the referenced row goes, the row does not only lose that reference: it belongs "
            "to no tenant any more, its other keys check nothing, and row security may hide it."
        ),
        remedy=(
            "Let SET NULL write the key's own columns only: ON DELETE SET NULL (column), from "
            "PostgreSQL 15 on. Before, declare the shared column NOT NULL, and decide for CASCADE "
            "or RESTRICT."
        ),
        check=find_shared_columns,
    ),
    Rule(
        id="FK033",
        name="half-null-reference",
        severity=Severity.WARNING,
        condition=(
            "A composite key is MATCH SIMPLE, and a row can have NULL in one of its columns and a "
            "value in another that is no other key's."
        ),
        effect=(
            "MATCH SIMPLE does not check a row with a NULL in any of the columns: what the others "
            "say may reference nothing, and no DELETE finds the row."
        ),
        remedy=(
            "MATCH FULL, if the columns are to be filled together or not at all; NOT NULL for the "
            "column that always has a value; or a CHECK (num_nulls(a, b) IN (0, 2))."
        ),
        check=find_half_nulls,
    ),
    Rule(
        id="FK034",
        name="colliding-action",
        severity=Severity.WARNING,
        condition=(
            "The key does SET NULL into a column of a unique index with NULLS NOT DISTINCT, or SET "
            "DEFAULT with a constant into one of any unique index."
        ),
        effect=(
            "The first DELETE works. The next that would leave a second row with the same value "
            "fails as a duplicate."
        ),
        remedy=(
            "Let NULLs be distinct, or leave rows without a reference out of the index (WHERE … IS "
            "NOT NULL); or choose CASCADE or RESTRICT."
        ),
        check=find_colliding_actions,
    ),
)
