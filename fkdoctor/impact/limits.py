"""What the model does not foresee when a row is changed, and constants among defaults. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection

from fkdoctor.identifier import quote
from fkdoctor.impact.world import Unsupported
from fkdoctor.schema import Column, Constraint, Index, Schema, Table

_LITERAL = r"(?:E?'(?:[^']|'')*'|-?\d+(?:\.\d+)?|true|false|NULL)"
_TYPE = r"(?:::[\w .\"]+(?:\([\d,]+\))?(?:\[\])*)"
_CONSTANT = re.compile(rf"\(*{_LITERAL}\)*(?:{_TYPE}\)*)*", re.IGNORECASE)


def is_constant(default: str) -> bool:
    """Whether the default is the same each time: a literal, as pg_get_expr prints one."""
    return _CONSTANT.fullmatch(default) is not None


def refuse_unforeseen(
    schema: Schema, table: Table, changed: Collection[str], nulled: Collection[str]
) -> None:
    """Raises Unsupported where a change of the columns does more than change them.

    `nulled` are those of them that become NULL.
    """
    above = table.partition_of
    while above is not None:
        parent = schema.table(above)
        for name in changed:
            if mentions(parent.partition_key or "", name):
                raise Unsupported(
                    str(above), f"{quote(name)} decides in which partition a row is; it could move"
                )
        above = parent.partition_of
    generated = [column for column in table.columns if column.generated]
    if generated:
        raise Unsupported(
            str(table.name), f"{quote(generated[0].name)} is generated, perhaps from what changes"
        )
    for constraint in table.constraints:
        index = _exclusion_index(table, constraint.name) if constraint.kind == "x" else None
        if index is not None and concerns(index, changed, nulled):
            raise Unsupported(
                str(table.name), f"the EXCLUDE constraint {quote(constraint.name)} could refuse it"
            )


def _exclusion_index(table: Table, name: str) -> Index | None:
    return next((index for index in table.indexes if index.constraint == name), None)


def concerns(index: Index, changed: Collection[str], nulled: Collection[str]) -> bool:
    """Whether the change can bring a row into the way of another in a unique index."""
    columns = {part.column for part in index.keys}
    if not index.nulls_not_distinct and columns & set(nulled):
        return False
    computed = None in columns or index.predicate is not None
    return computed or bool(columns & set(changed))


def mentions(expression: str, name: str) -> bool:
    """Whether the name occurs in the SQL text."""
    return re.search(rf"(?<![\w\"]){re.escape(quote(name))}(?![\w\"])", expression) is not None


def relevant_rules(
    table: Table, changed: Collection[str], nulled: Collection[str]
) -> tuple[list[Constraint], list[Index]]:
    """The CHECKs and unique indexes that a change of the columns could offend."""
    checks = [
        constraint
        for constraint in table.constraints
        if constraint.kind == "c" and constraint.enforced
        # One that names no column takes the whole row; one NOT VALID may be offended already.
        if not constraint.columns
        or not constraint.validated
        or set(changed) & set(constraint.columns)
    ]
    indexes = [
        index
        for index in table.indexes
        if index.unique and index.ready and concerns(index, changed, nulled)
    ]
    return checks, indexes


_MODIFIER = re.compile(r"\([\d,]+\)")


def is_domain(column: Column) -> bool:
    """Whether the column's type is a domain, which may refuse values."""
    return _MODIFIER.sub("", column.type) != column.base_type
