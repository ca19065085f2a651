"""Which index can PostgreSQL use to find the rows that reference a row?

Without one, every DELETE or key UPDATE of a referenced row reads the whole referencing table. Pure;
the tests let PostgreSQL delete a row for each shape and look at the plan it took.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from fkdoctor.identifier import quote
from fkdoctor.schema import Column, ForeignKey, Index, Schema, Table, TableName


class Support(IntEnum):
    """How well the best index serves; ordered, so that the worst partition decides by `min`."""

    NONE = 0
    PARTLY = 1
    FULLY = 2


@dataclass(frozen=True, kw_only=True)
class IndexFit:
    """How well one index serves a foreign key; where not fully, `obstacle` says what is missing."""

    table: TableName
    index: Index
    support: Support
    obstacle: str = ""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How a foreign key is served.

    `support` is that of the worst partition, `lacking` are the tables that are not served fully,
    and `near_misses` what their indexes on the key's columns lack.
    """

    support: Support
    lacking: tuple[TableName, ...]
    near_misses: tuple[IndexFit, ...]


def key_coverage(schema: Schema, key: ForeignKey) -> Coverage:
    """How well the referencing columns are indexed, over all partitions of the referencing table.

    FULLY: one lookup finds just the rows. PARTLY: the index narrows the search by some of the
    columns, the rest is filtered. NONE: the table is read from end to end.
    """
    support = Support.FULLY
    lacking: list[TableName] = []
    near_misses: list[IndexFit] = []
    for table in schema.leaves(key.referencing) or (schema.table(key.referencing),):
        fits = [
            index_fit(schema, key, table.name, index)
            for index in table.indexes
            if any(part.column in key.referencing_columns for part in index.keys)
        ]
        best = max((fit.support for fit in fits), default=Support.NONE)
        support = min(support, best)
        if best is not Support.FULLY:
            lacking.append(table.name)
            near_misses += fits
    return Coverage(support=support, lacking=tuple(lacking), near_misses=tuple(near_misses))


def index_fit(schema: Schema, key: ForeignKey, table: TableName, index: Index) -> IndexFit:
    """How well one index of the referencing table, or of its partition `table`, serves the key."""
    support, obstacle = _judge(schema, key, index)
    return IndexFit(table=table, index=index, support=support, obstacle=obstacle)


def _judge(schema: Schema, key: ForeignKey, index: Index) -> tuple[Support, str]:
    if not (index.valid and index.ready and index.live):
        return Support.NONE, "is INVALID (its build failed, or is still running)"
    if not _holds_all(key.referencing_columns, index):
        return Support.NONE, f"leaves out references: WHERE {index.predicate}"
    if index.method == "brin":
        return Support.NONE, "is a BRIN index, which finds blocks and not rows"
    wanted = set(key.referencing_columns)
    # GIN finds each of its columns equally well, in any position; the others from the left.
    usable = index.keys if index.method == "gin" else index.keys[: len(wanted)]
    obstacles = [_key_obstacle(schema, key, index, place) for place in range(len(usable))]
    found = {part.column for part, obstacle in zip(usable, obstacles, strict=True) if not obstacle}
    if found == wanted:
        return Support.FULLY, ""
    if not found or (obstacles[0] and index.method != "gin"):
        return Support.NONE, obstacles[0]
    missing = ", ".join(quote(name) for name in key.referencing_columns if name not in found)
    return Support.PARTLY, f"does not find by {missing}, which is filtered afterwards"


def _key_obstacle(schema: Schema, key: ForeignKey, index: Index, place: int) -> str:
    """Why the index's key at that place can't look up a column of the foreign key; '' if it can."""
    part = index.keys[place]
    begins = "begins with" if place == 0 else "has"
    if part.column is None:
        return f"{begins} an expression"
    if part.column not in key.referencing_columns:
        return f"{begins} {quote(part.column)}"
    position = key.referencing_columns.index(part.column)
    if part.operator_family not in key.operators[position].families:
        return f"can't look up {key.operators[position].name} for {quote(part.column)}"
    compared = compared_collation(
        schema.table(key.referencing).column(part.column),
        schema.table(key.referenced).column(key.referenced_columns[position]),
    )
    if part.collation != compared:
        return (
            f"sorts {quote(part.column)} by {part.collation}, while the foreign key compares by "
            f"{compared}"
        )
    return ""


_NOT_NULL = re.compile(r'\(?("(?:[^"]|"")+"|[^\s"()]+) IS NOT NULL\)?')


def not_null_columns(condition: str) -> frozenset[str] | None:
    """The columns, quoted, that the condition demands to be not null; None if it demands more.

    Reads what pg_get_expr prints: `(a IS NOT NULL)`, `((a IS NOT NULL) AND (b IS NOT NULL))`.
    """
    if condition.startswith("((") and condition.endswith("))"):
        condition = condition[1:-1]
    found = [_NOT_NULL.fullmatch(part) for part in condition.split(" AND ")]
    if any(match is None for match in found):
        return None
    return frozenset(match[1] for match in found if match is not None)


def _holds_all(columns: Iterable[str], index: Index) -> bool:
    """Whether every row with values in `columns` is in the index: it leaves out NULLs at most."""
    if index.predicate is None:
        return True
    demanded = not_null_columns(index.predicate)
    return demanded is not None and demanded <= {quote(name) for name in columns}


def finds_by(table: Table, column: str) -> bool:
    """Whether an index of the table would find the rows by the column, were it a reference."""
    return any(
        index.valid
        and index.ready
        and index.live
        and index.method in ("btree", "hash")
        and index.keys[0].column == column
        and _holds_all((column,), index)
        for index in table.indexes
    )


def compared_collation(referencing: Column, referenced: Column) -> str | None:
    """The collation in which PostgreSQL looks for referencing rows; only an index in it can serve.

    That of the referencing column, unless the referenced column's is nondeterministic: only then
    does ri_triggers.c append COLLATE (measured on 12 to 18).
    """
    return referencing.collation if referenced.deterministic else referenced.collation


# Types between which PostgreSQL has operators for index lookups, or no need to convert.
_COMPARED_DIRECTLY = (
    frozenset({"smallint", "integer", "bigint"}),
    frozenset({"real", "double precision"}),
    frozenset({"date", "timestamp without time zone", "timestamp with time zone"}),
    frozenset({"text", "character varying"}),
)


def compared_by_cast(referencing: Column, referenced: Column) -> bool:
    """Whether the referencing column is converted for each comparison.

    Then no index on the plain column can serve the foreign key.
    """
    types = {referencing.base_type, referenced.base_type}
    return len(types) > 1 and not any(types <= group for group in _COMPARED_DIRECTLY)
