"""Hints: columns that look like references although no foreign key says so."""

from __future__ import annotations

import json
from collections.abc import Iterator

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.remedy import alter_table, index_part
from fkdoctor.audit.wording import listed, with_rows
from fkdoctor.identifier import quote, shorten, text_literal
from fkdoctor.inspect.coverage import finds_by
from fkdoctor.inspect.logical import (
    Likeness,
    find_likenesses,
    find_polymorphs,
    tables_of_kinds,
)
from fkdoctor.schema import Flaw, Schema, TableKind, TableName


def find_undeclared(schema: Schema) -> Iterator[Evidence]:
    """The columns that look like a reference to one row."""
    polymorphic = {(pair.table, pair.key.name) for pair in find_polymorphs(schema)}
    polymorphic |= {(pair.table, pair.key) for pair in schema.model_polymorphs}
    for likeness in find_likenesses(schema):
        held = _held(schema, likeness)
        if (likeness.table, likeness.column.name) in polymorphic or held is None:
            continue
        indexed = finds_by(schema.table(likeness.table), likeness.column.name)
        yield Evidence(
            subject=_label(likeness.table, likeness.column.name),
            detail=(
                f"{_looks(schema, likeness)}; "
                f"{'it is indexed' if indexed else 'no index finds rows by it'}.{held}"
            ),
            tables=(likeness.table, likeness.target),
            sql=_adopt(schema, likeness, indexed=indexed),
            toml=_reference_block(likeness),
        )


def find_listed(schema: Schema) -> Iterator[Evidence]:
    """The arrays that look like references to many rows."""
    for likeness in find_likenesses(schema, elements=True):
        held = _held(schema, likeness)
        if held is None:
            continue
        yield Evidence(
            subject=_label(likeness.table, likeness.column.name),
            detail=f"{_looks(schema, likeness)}, each element one.{held}",
            tables=(likeness.table, likeness.target),
            toml=None if likeness.in_json else _reference_block(likeness),
        )


def find_polymorphic(schema: Schema) -> Iterator[Evidence]:
    """The pairs of columns that look like references to rows of several tables."""
    for pair in find_polymorphs(schema):
        kind, key = quote(pair.kind.name), quote(pair.key.name)
        found = {
            one.kind: one.count
            for one in schema.kinds
            if (one.table, one.key) == (pair.table, pair.key.name)
        }
        tables = tables_of_kinds(schema, pair, found)
        said = [f"{name} ({count:,})" for name, count in found.items()]
        yield Evidence(
            subject=_label(pair.table, pair.key.name),
            detail=(
                f"In {with_rows(schema, pair.table)}, {kind} seems to say of which kind the row is "
                f"whose key {key} holds; no foreign key checks that."
                + (f" In a sample it says {listed(said)}." if said else "")
            ),
            tables=(pair.table, *(table for table, _ in tables.values())),
            toml="\n\n".join(
                _block(
                    _label(pair.table, pair.key.name),
                    _label(*target),
                    where=f"{kind} = {text_literal(name)}",
                )
                for name, target in tables.items()
            )
            or None,
        )

    yield from _modelled_polymorphs(schema)


def _modelled_polymorphs(schema: Schema) -> Iterator[Evidence]:
    """Those of which a model says so: GenericForeignKey of Django."""
    for pair in schema.model_polymorphs:
        if not schema.has_table(pair.table):
            continue
        found = {
            one.kind: one.count
            for one in schema.kinds
            if (one.table, one.key) == (pair.table, pair.key)
        }
        references = [
            one
            for one in schema.references
            if (one.referencing, one.referencing_column) == (pair.table, pair.key)
        ]
        said = [f"{kind} ({count:,})" for kind, count in found.items()]
        yield Evidence(
            subject=_label(pair.table, pair.key),
            detail=(
                f"{pair.label} is a GenericForeignKey: in {with_rows(schema, pair.table)}, "
                f"{quote(pair.kind)} says of which kind the row is whose key {quote(pair.key)} "
                "holds; no foreign key checks that."
                + (f" The kinds are {listed(said)}." if said else "")
            ),
            tables=(pair.table, *(one.referenced for one in references)),
            toml="\n\n".join(
                _block(
                    _label(pair.table, pair.key),
                    _label(one.referenced, one.referenced_column),
                    where=one.condition,
                )
                for one in references
            )
            or None,
        )


BELIEVED = 0.9
"""Which part of the values must be keys of the other table, where the rows were looked at."""


def _held(schema: Schema, likeness: Likeness) -> str | None:
    """What the rows say for it, as a sentence; None where they say that it is no reference."""
    found = schema.row_count(likeness.reference, Flaw.DANGLING)
    if found is None or found.looked_at is None:
        return ""
    if not found.looked_at:
        return " No row that was looked at has a value."
    kept = found.looked_at - found.count
    if kept < BELIEVED * found.looked_at:
        return None
    return f" Of {found.looked_at:,} sampled values {kept:,} are keys there."


def _looks(schema: Schema, likeness: Likeness) -> str:
    return (
        f"{quote(likeness.column.name)} of {with_rows(schema, likeness.table)} looks like a "
        f"reference to {with_rows(schema, likeness.target)}: it has {likeness.by_name} and "
        + (
            "is a list in JSON"
            if likeness.in_json
            else f"the type of {quote(likeness.target_column)}, "
            f"{likeness.column.type.removesuffix('[]')}"
        )
    )


def _label(table: TableName, column: str) -> str:
    return f"{table}.{quote(column)}"


def _reference_block(likeness: Likeness) -> str:
    brackets = "[]" if likeness.column.base_type.endswith("[]") else ""
    source = _label(likeness.table, likeness.column.name) + brackets
    target = _label(likeness.target, likeness.target_column)
    return _block(source, target)


def _block(source: str, target: str, where: str | None = None) -> str:
    # A TOML basic string is escaped as one in JSON.
    lines = {"from": source, "to": target, "where": where}
    return "\n".join(
        (
            "[[reference]]",
            *(
                f"{key} = {json.dumps(value, ensure_ascii=False)}"
                for key, value in lines.items()
                if value
            ),
        )
    )


def _adopt(schema: Schema, likeness: Likeness, *, indexed: bool) -> str | None:
    """SQL that makes it a foreign key; None where that has to check all rows at once."""
    if schema.table(likeness.table).kind is TableKind.PARTITIONED:
        return None
    target = schema.table(likeness.target).column(likeness.target_column)
    part = index_part(likeness.column, target)
    name = shorten(f"{likeness.table.name}_{likeness.column.name}", "_fkey")
    add = (
        f"ADD CONSTRAINT {quote(name)} FOREIGN KEY ({quote(likeness.column.name)}) "
        f"REFERENCES {likeness.target} ({quote(likeness.target_column)}) NOT VALID"
    )
    return "\n".join(
        (
            *(() if indexed else (f"CREATE INDEX CONCURRENTLY ON {likeness.table} ({part});",)),
            alter_table(likeness.table, add),
            alter_table(likeness.table, f"VALIDATE CONSTRAINT {quote(name)}"),
        )
    )


RULES = (
    Rule(
        id="FK048",
        name="undeclared-reference",
        severity=Severity.INFO,
        condition=(
            "A column without a foreign key has a table's name, or that of a table's primary key, "
            "in its name, and the type of that primary key. A hint, from names and types; with "
            "--data also from a sample of the rows, 90 % of which must be keys there."
        ),
        effect=(
            "If it is a reference, nothing keeps it: deleting or merging the other row leaves it "
            "dangling, and no tool that reads foreign keys knows of it."
        ),
        remedy=(
            "If it is one, declare it: as a foreign key, where rows can't be left without what "
            "they reference (fkdoctor fix --rule FK048 writes the revisions); or as [[reference]] "
            "in fkdoctor.toml, which the audit then watches. If not: the ignore list."
        ),
        check=find_undeclared,
    ),
    Rule(
        id="FK049",
        name="polymorphic-reference",
        severity=Severity.INFO,
        condition=(
            "A table has two columns, such as owner_type and owner_id, of which the second has no "
            "foreign key. A hint, from names and types, or from a GenericForeignKey of Django "
            "(--django); with --data it tells the kinds that the rows have, and the tables these "
            "name."
        ),
        effect=(
            "No foreign key can check a reference whose table is named by a value: deleting the "
            "other row leaves it dangling."
        ),
        remedy=(
            "A column and a foreign key for each kind, with CHECK (num_nonnulls(…) = 1); or a "
            "[[reference]] in fkdoctor.toml for each kind, with where = \"owner_type = 'User'\"."
        ),
        check=find_polymorphic,
    ),
    Rule(
        id="FK050",
        name="listed-references",
        severity=Severity.INFO,
        condition=(
            "An array column such as job_ids has a table's name in its name, and elements of the "
            "type of its primary key; or a column of JSON has such a name. A hint, with --data "
            "confirmed by a sample of the arrays."
        ),
        effect=(
            "PostgreSQL has no foreign keys from the elements of an array: deleting or merging a "
            "row leaves its key in the arrays."
        ),
        remedy="A table of pairs with two foreign keys; or a [[reference]] in fkdoctor.toml.",
        check=find_listed,
    ),
)
