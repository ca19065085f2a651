"""Rows that reference nothing, by their keys."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from fkdoctor.identifier import quote_all
from fkdoctor.revise.executor import Executor
from fkdoctor.schema import ForeignKey, MatchType, Schema, Table
from fkdoctor.statement.members import row_identity
from fkdoctor.statement.parts import Query, as_text, make_table, references

_SHOWN = 10


def describe_dangling(executor: Executor, schema: Schema, key: ForeignKey) -> str:
    """A sentence that names up to ten of the rows; empty where they cannot be read."""
    referencing = schema.table(key.referencing)
    try:
        rows = executor.observe(find_dangling(key, referencing))
    except DBAPIError:
        return ""
    if not rows:
        return ""  # row security may hide them, or somebody repaired them meanwhile
    identity = quote_all(row_identity(referencing) or ("ctid",))
    columns = quote_all(key.referencing_columns)
    width = len(row_identity(referencing) or ("ctid",))
    named = [f"{_values(row[:width])} → {_values(row[width:])}" for row in rows[:_SHOWN]]
    more = " and more" if len(rows) > _SHOWN else ""
    return f"Rows ({identity} → {columns}): {', '.join(named)}{more}."


def _values(values: tuple[str | None, ...]) -> str:
    shown = ["NULL" if value is None else value for value in values]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown)})"


def find_dangling(key: ForeignKey, referencing: Table) -> Query:
    """Up to eleven rows that the key does not allow: the row's key, then its reference, as text.

    As VALIDATE sees it (ri_triggers.c, RI_Initial_Check): with MATCH SIMPLE a row with a NULL in
    the reference is none, with MATCH FULL only one with all NULL.
    """
    identity = row_identity(referencing) or ("ctid",)
    rows = make_table(key.referencing, {*identity, *key.referencing_columns}).alias("referencing")
    target = make_table(key.referenced, key.referenced_columns).alias("referenced")
    found = (
        sa.select(sa.literal(1))
        .select_from(target)
        .with_hint(target, "ONLY", "postgresql")
        .where(references(key, [target.c[name] for name in key.referenced_columns], rows))
        .correlate(rows)
    )
    given = [rows.c[name].is_not(None) for name in key.referencing_columns]
    checked = sa.or_(*given) if key.match is MatchType.FULL else sa.and_(*given)
    return (
        sa.select(*(as_text(rows.c[name]) for name in (*identity, *key.referencing_columns)))
        .with_hint(rows, "ONLY", "postgresql")
        .where(checked, ~found.exists())
        .order_by(*(rows.c[name] for name in identity))
        .limit(_SHOWN + 1)
    )
