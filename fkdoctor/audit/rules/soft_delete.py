"""Rules about tables whose rows are marked as deleted, and stay."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.remedy import alter_table, create_index
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.identifier import quote, shorten
from fkdoctor.inspect.coverage import Support, index_fit
from fkdoctor.inspect.graph import keys_into
from fkdoctor.inspect.soft_delete import live_condition, soft_delete_column
from fkdoctor.schema import (
    Column,
    ForeignKey,
    Index,
    ReferentialAction,
    Schema,
    Table,
    TableKind,
    TableName,
)

SHOWN = 8

_UNIQUE_BY_ITSELF = re.compile(r"(?:^|_)(?:guid|token|uuid)$")


def find_unique_over_deleted(schema: Schema) -> Iterator[Evidence]:
    """The unique indexes that rows marked as deleted still occupy."""
    for table in schema.tables:
        mark = soft_delete_column(schema, table)
        if mark is None or table.partition_of is not None:
            continue
        occupied = [index for index in table.indexes if occupied_by_deleted(table, index, mark)]
        for place, index in enumerate(occupied):
            columns = tuple(part.column for part in index.keys if part.column is not None)
            used = _referencing(schema, table.name, columns)
            name = TableName(table.name.schema, index.name)
            detail = (
                f"A row of {with_rows(schema, table.name)} that is marked in {quote(mark.name)} "
                f"still has its {columns_of(columns)} for itself ({name}): no live row can have "
                "the same."
            )
            if used:
                detail += (
                    f" {listed(key.label for key in used)} references it, and can't reference a "
                    "partial index."
                )
            yield Evidence(
                subject=str(name),
                detail=detail,
                tables=(table.name,),
                sql=None if used else _only_live(schema, table, mark, occupied[: place + 1]),
            )


def occupied_by_deleted(table: Table, index: Index, mark: Column) -> bool:
    """Whether it keeps a value for a row that is marked, a value that somebody chose."""
    plain = index.columns
    if not index.unique or index.primary or not index.valid or plain is None:
        return False
    if index.predicate is not None or mark.name in plain:
        return False
    key = table.primary_key
    if key and set(key.columns) <= set(plain):
        return False
    if len(plain) == 1 and (
        table.column(plain[0]).base_type == "uuid" or _UNIQUE_BY_ITSELF.search(plain[0].lower())
    ):
        return plain[0].lower().endswith("_id")  # else a name of its own, made by the application
    return not any(_is_generated(table.column(name)) for name in plain)


def _is_generated(column: Column) -> bool:
    """Whether the database makes the value, so that none is wanted twice."""
    made = column.default or ""
    return column.identity or column.generated or "nextval(" in made or "uuid" in made


def _referencing(
    schema: Schema, table: TableName, columns: tuple[str, ...]
) -> tuple[ForeignKey, ...]:
    return tuple(
        key for key in keys_into(schema, table) if set(key.referenced_columns) == set(columns)
    )


def _only_live(schema: Schema, table: Table, mark: Column, going: list[Index]) -> str | None:
    """The statements that replace the last of `going`, when the others are gone.

    A foreign key that the index serves gets one of its own before: no partial one can serve it.
    """
    index = going[-1]
    if table.kind is not TableKind.TABLE or index.method != "btree" or index.nulls_not_distinct:
        return None
    name = shorten(index.name, "_live")
    listing = ", ".join(map(quote, index.columns or ()))
    own = [
        create_index(schema, key, (table.name,))
        for key in schema.keys_from(table.name)
        if key.enforced and _serves_alone(schema, key, table, index, going)
    ]
    drop = (
        alter_table(table.name, f"DROP CONSTRAINT {quote(index.constraint)}")
        if index.constraint
        else f"DROP INDEX CONCURRENTLY {TableName(table.name.schema, index.name)};"
    )
    live = (
        f"CREATE UNIQUE INDEX CONCURRENTLY {quote(name)} ON {table.name} ({listing}) "
        f"WHERE {live_condition(mark)};"
    )
    return "\n".join((*dict.fromkeys(filter(None, own)), live, drop))


def _serves_alone(
    schema: Schema, key: ForeignKey, table: Table, index: Index, going: list[Index]
) -> bool:
    """Whether the key is served better with the index than by those that stay."""
    best = max(
        (
            index_fit(schema, key, table.name, one).support
            for one in table.indexes
            if one not in going
        ),
        default=Support.NONE,
    )
    return index_fit(schema, key, table.name, index).support > best


def find_cascades_into_marked(schema: Schema) -> Iterator[Evidence]:
    """The keys whose CASCADE really deletes rows that are otherwise marked."""
    for key in schema.foreign_keys:
        if not key.enforced or key.on_delete is not ReferentialAction.CASCADE:
            continue
        here, there = schema.table(key.referencing), schema.table(key.referenced)
        mark = soft_delete_column(schema, here)
        if mark is not None and soft_delete_column(schema, there) is None:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"Rows of {with_rows(schema, here.name)} are marked in {quote(mark.name)} and "
                    f"kept. A DELETE in {with_rows(schema, there.name)}, which has no such column, "
                    "removes them for good."
                ),
                keys=(key,),
            )


_ACTING = (
    ReferentialAction.CASCADE,
    ReferentialAction.SET_NULL,
    ReferentialAction.SET_DEFAULT,
)


def find_idle_actions(schema: Schema) -> Iterator[Evidence]:
    """The tables that are marked, with the keys whose action marking does not set off."""
    for table in schema.tables:
        mark = soft_delete_column(schema, table)
        if mark is None or table.partition_of is not None:
            continue
        idle = [
            key
            for key in keys_into(schema, table.name)
            if key.enforced
            and key.on_delete in _ACTING
            and not key.self_referencing
            and soft_delete_column(schema, schema.table(key.referencing)) is None
        ]
        if idle:
            told = [f"{key.label} ({key.on_delete.sql})" for key in idle[:SHOWN]]
            if len(idle) > SHOWN:
                told.append(f"{len(idle) - SHOWN} more")
            yield Evidence(
                subject=str(table.name),
                detail=(
                    f"A row of {with_rows(schema, table.name)} is deleted by setting "
                    f"{quote(mark.name)}, which is no DELETE: {listed(told)} "
                    f"{'does' if len(idle) == 1 else 'do'} nothing then, and the rows go on "
                    "referencing it."
                ),
                keys=tuple(idle),
                tables=(table.name,),
            )


RULES = (
    Rule(
        id="FK045",
        name="unique-over-deleted",
        severity=Severity.WARNING,
        condition=(
            "A table has a column that marks rows as deleted (fkdoctor.toml names it; else "
            "deleted_at and the like), and a unique index that holds the marked rows too. Keys "
            "that a generator makes are left out."
        ),
        effect=(
            "What a deleted row had can't be used again: who signs up anew with the same address "
            "is refused. An upsert meets the deleted row, and changes it unseen."
        ),
        remedy=(
            "A unique index over the live rows only, in place of this one; and one of its own for "
            "a foreign key that this one serves."
        ),
        check=find_unique_over_deleted,
    ),
    Rule(
        id="FK046",
        name="cascade-into-soft-delete",
        severity=Severity.INFO,
        condition=(
            "CASCADE leads into a table whose rows are marked as deleted, from one whose rows are "
            "not."
        ),
        effect=(
            "The rows that soft delete is to keep are gone for good, live and marked ones, with "
            "one DELETE in the other table."
        ),
        remedy="RESTRICT; or soft delete for the referenced table too.",
        check=find_cascades_into_marked,
    ),
    Rule(
        id="FK047",
        name="idle-action",
        severity=Severity.INFO,
        condition=(
            "A table's rows are marked as deleted, and keys from tables without such a column do "
            "CASCADE, SET NULL or SET DEFAULT."
        ),
        effect=(
            "Marking is an UPDATE: what ON DELETE promises does not happen, and live rows go on "
            "referencing a row that counts as deleted."
        ),
        remedy=(
            "Mark or release the referencing rows in the same transaction; fkdoctor's "
            "op.add_soft_delete gives them the column."
        ),
        check=find_idle_actions,
    ),
)
