"""Rows that reference nothing, by their keys."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from fkdoctor.identifier import quote_all
from fkdoctor.revise.executor import Executor
from fkdoctor.schema import ForeignKey, Schema
from fkdoctor.statement.dangling import find_dangling, identity_columns

_SHOWN = 10


def describe_dangling(executor: Executor, schema: Schema, key: ForeignKey) -> str:
    """A sentence that names up to ten of the rows; empty where they cannot be read."""
    try:
        rows = executor.observe(find_dangling(schema, key, _SHOWN + 1, ordered=True))
    except DBAPIError:
        return ""
    if not rows:
        return ""  # row security may hide them, or somebody repaired them meanwhile
    identity = identity_columns(schema, key)
    columns = quote_all(key.referencing_columns)
    named = [
        f"{_values(row[: len(identity)])} → {_values(row[len(identity) :])}"
        for row in rows[:_SHOWN]
    ]
    more = " and more" if len(rows) > _SHOWN else ""
    return f"Rows ({quote_all(identity)} → {columns}): {', '.join(named)}{more}."


def _values(values: tuple[str | None, ...]) -> str:
    shown = ["NULL" if value is None else value for value in values]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown)})"
