"""Rules about keys that are not what one takes them for at first sight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fkdoctor.audit import remedy
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import columns_of, with_rows
from fkdoctor.identifier import quote, shorten
from fkdoctor.inspect.coverage import Support, key_coverage
from fkdoctor.schema import (
    ForeignKey,
    Index,
    ReferentialAction,
    Schema,
    Table,
    TableKind,
    TableName,
)


def find_undeferred_restrict(schema: Schema) -> Iterator[Evidence]:
    """The keys that say DEFERRABLE and RESTRICT, which never waits."""
    for key in schema.foreign_keys:
        events = [
            event
            for event, action in (("DELETE", key.on_delete), ("UPDATE", key.on_update))
            if action is ReferentialAction.RESTRICT
        ]
        if key.enforced and key.deferrable and events:
            said = "INITIALLY DEFERRED" if key.initially_deferred else "DEFERRABLE"
            yield Evidence(
                subject=key.label,
                detail=(
                    f"It says {said}, but ON {' and ON '.join(events)} RESTRICT refuses at once: "
                    f"only what is written into {with_rows(schema, key.referencing)} can wait for "
                    "COMMIT."
                ),
                keys=(key,),
            )


def find_past_primary_keys(schema: Schema) -> Iterator[Evidence]:
    """The keys that reference another unique key than the primary one."""
    for key in schema.foreign_keys:
        primary = schema.table(key.referenced).primary_key
        if primary and not set(primary.columns) <= set(key.referenced_columns):
            nullable = [
                column.name
                for column in schema.table(key.referenced).columns
                if column.name in key.referenced_columns and not column.not_null
            ]
            detail = (
                f"It references {columns_of(key.referenced_columns)} of "
                f"{with_rows(schema, key.referenced)}, whose primary key is "
                f"{columns_of(primary.columns)}."
            )
            if nullable:
                detail += (
                    f" {columns_of(tuple(nullable))} may be NULL there: such a row can't be "
                    "referenced."
                )
            yield Evidence(subject=key.label, detail=detail, keys=(key,))


def find_implied_keys(schema: Schema) -> Iterator[Evidence]:
    """The keys that a composite key of the same table to the same table makes superfluous."""
    for key in schema.foreign_keys:
        wider = next(
            (
                other
                for other in schema.keys_from(key.referencing)
                if len(other.referencing_columns) > len(key.referencing_columns)
                and _implies(schema, other, key)
            ),
            None,
        )
        if wider:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"{wider.label} ({wider.arrow}) checks this too: each row of "
                    f"{with_rows(schema, key.referencing)} is looked up twice in {key.referenced}."
                ),
                keys=(key, wider),
                sql=remedy.drop(key),
            )


def _implies(schema: Schema, wider: ForeignKey, key: ForeignKey) -> bool:
    """Whether no row that `wider` allows is refused by `key`, and both do the same."""
    pairs = set(zip(key.referencing_columns, key.referenced_columns, strict=True))
    wider_pairs = set(zip(wider.referencing_columns, wider.referenced_columns, strict=True))
    table = schema.table(key.referencing)
    return (
        wider.referenced == key.referenced
        and pairs < wider_pairs
        and wider.enforced
        and key.enforced
        and wider.validated
        and not wider.period
        and all(table.column(here).not_null for here, _ in wider_pairs - pairs)
        and (wider.on_delete, wider.on_update) == (key.on_delete, key.on_update)
        and (wider.deferrable, wider.initially_deferred) == (key.deferrable, key.initially_deferred)
        and (
            wider.on_delete in _BLOCKING
            or (
                wider.on_delete is ReferentialAction.CASCADE
                and wider.on_update in (*_BLOCKING, ReferentialAction.CASCADE)
            )
        )
    )


_BLOCKING = (ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT)

_GENERATED = re.compile(r"(.+_fkey)\d*")


def find_misleading_names(schema: Schema) -> Iterator[Evidence]:
    """The keys with the name that PostgreSQL gives to another table's or column's key."""
    others = [
        (key, stem, own)
        for key in schema.foreign_keys
        if (match := _GENERATED.fullmatch(key.name)) and (stem := match[1])
        for own in (_generated_name(key.referencing, key.referencing_columns),)
        if stem != own
    ]
    names = {
        (table.name.schema, _generated_name(table.name, (column.name,))): (table.name, column.name)
        for table in (schema.tables if others else ())
        for column in table.columns
    }
    for key, stem, own in others:
        meant = names.get((key.referencing.schema, stem))
        if meant is None:
            continue
        table, column = meant
        if table == key.referencing and column in key.referencing_columns:
            continue
        new = _free_name(schema, key, own)
        yield Evidence(
            subject=key.label,
            detail=(
                f"The name is the one that a key of {columns_of((column,))} of {table} gets, but "
                f"it is that of {columns_of(key.referencing_columns)} of {key.referencing}."
            ),
            keys=(key,),
            sql=remedy.alter_table(
                key.referencing, f"RENAME CONSTRAINT {quote(key.name)} TO {quote(new)}"
            ),
        )


def _generated_name(table: TableName, columns: Iterable[str]) -> str:
    return shorten("_".join((table.name, *columns)), "_fkey")


def _free_name(schema: Schema, key: ForeignKey, name: str) -> str:
    table = schema.table(key.referencing)
    taken = {other.name for other in schema.keys_from(key.referencing)}
    taken |= {constraint.name for constraint in table.constraints}
    free, number = name, 0
    while free in taken:
        number += 1
        free = f"{name}{number}"
    return free


def find_invalid_indexes(schema: Schema) -> Iterator[Evidence]:
    """The invalid indexes on the columns of keys that another index serves."""
    for table in schema.tables:
        if table.kind is not TableKind.TABLE:
            continue
        for index in table.indexes:
            keys = _served_otherwise(schema, table, index)
            if keys:
                name = TableName(table.name.schema, index.name)
                yield Evidence(
                    subject=str(name),
                    detail=(
                        f"{name} on {with_rows(schema, table.name)} is INVALID: no query reads it, "
                        f"and every write keeps it up. Another index serves {keys[0].label}."
                    ),
                    keys=keys,
                    sql=f"DROP INDEX CONCURRENTLY {name};",
                )


def _served_otherwise(schema: Schema, table: Table, index: Index) -> tuple[ForeignKey, ...]:
    if index.valid or index.constraint is not None or not index.keys:
        return ()
    found = tuple(
        key
        for key in schema.keys_from(table.name)
        if key.enforced and index.keys[0].column in key.referencing_columns
    )
    served = all(key_coverage(schema, key).support is Support.FULLY for key in found)
    return found if served else ()


RULES = (
    Rule(
        id="FK040",
        name="undeferred-restrict",
        severity=Severity.INFO,
        condition="The key is DEFERRABLE, and its action is RESTRICT.",
        effect=(
            "RESTRICT never waits for COMMIT, whatever SET CONSTRAINTS says: deleting the "
            "referenced row first, and the referencing ones later in the transaction, fails."
        ),
        remedy=(
            "NO ACTION in place of RESTRICT, if deleting in any order is meant; NOT DEFERRABLE, if "
            "not. As it is, where only INSERTs are to come in any order."
        ),
        check=find_undeferred_restrict,
    ),
    Rule(
        id="FK041",
        name="reference-past-primary-key",
        severity=Severity.INFO,
        condition=(
            "The key references a unique key of the other table that does not contain its primary "
            "key."
        ),
        effect=(
            "Two names for one row: joins go over different columns, and a value that people see "
            "and change, such as a code or an address, is copied into all referencing rows."
        ),
        remedy="Reference the primary key; or ON UPDATE CASCADE, if the value may change.",
        check=find_past_primary_keys,
    ),
    Rule(
        id="FK042",
        name="implied-key",
        severity=Severity.INFO,
        condition=(
            "A composite key of the table leads to the same table with these columns and others "
            "that are NOT NULL, and does the same ON DELETE and ON UPDATE."
        ),
        effect="Each INSERT, UPDATE and DELETE does one check that can never fail by itself.",
        remedy="Drop the narrower key.",
        check=find_implied_keys,
    ),
    Rule(
        id="FK043",
        name="misleading-name",
        severity=Severity.INFO,
        condition=(
            "The key has the very name that PostgreSQL gives to a key of another table or column, "
            "which is there too: a table or column was renamed or swapped."
        ),
        effect=(
            "Error messages and migrations name the wrong thing; a new key of that column gets a "
            "number behind its name."
        ),
        remedy="Rename the constraint.",
        check=find_misleading_names,
    ),
    Rule(
        id="FK044",
        name="invalid-index",
        severity=Severity.WARNING,
        condition=(
            "An index that begins with a column of the key is INVALID, and another index serves "
            "the key."
        ),
        effect=(
            "A CREATE INDEX CONCURRENTLY failed, or still runs. Once failed, the index only costs: "
            "each write keeps it up. CREATE INDEX CONCURRENTLY IF NOT EXISTS takes it for done."
        ),
        remedy="Drop it, unless it is being built at this moment (pg_stat_progress_create_index).",
        check=find_invalid_indexes,
    ),
)
