"""Survivor rules as the ORDER BY of a statement."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from fkdoctor.dedupe.criteria import Preference, SurvivorRule, is_text
from fkdoctor.statement.expression import parse_expression
from fkdoctor.statement.matches import Ordering
from fkdoctor.statement.members import MemberTable


def order_by(members: MemberTable, rule: SurvivorRule) -> Ordering:
    """The rule over MemberTable.row."""
    expression: ColumnElement[Any] | None
    match rule.preference:
        case Preference.NEWEST | Preference.OLDEST:
            assert rule.column is not None
            expression = members.row.c[rule.column]
        case Preference.MOST_COMPLETE:
            expression = _count_present(members)
        case Preference.MOST_REFERENCED:
            expression = None
        case Preference.EXPRESSION:
            assert rule.expression is not None
            expression = parse_expression(members.table, rule.expression)
    return Ordering(expression=expression, descending=rule.descending)


def live_first(members: MemberTable, column: str) -> Ordering:
    """Rows that are not soft-deleted before those that are: a time is set, or a flag is true."""
    value = members.row.c[column]
    is_flag = members.table.column(column).base_type == "boolean"
    deleted = value.is_(True) if is_flag else value.is_not(None)
    return Ordering(expression=deleted, descending=False)


def _count_present(members: MemberTable) -> ColumnElement[Any]:
    """How many of the row's values are neither NULL nor empty text."""
    values = [
        sa.func.nullif(members.row.c[column.name], "")
        if is_text(column)
        else members.row.c[column.name]
        for column in members.table.columns
    ]
    # A function takes at most 100 arguments.
    parts = [values[i : i + 100] for i in range(0, len(values), 100)]
    counted: ColumnElement[Any] = sa.literal(0)
    for part in parts:
        counted = counted + sa.func.pg_catalog.num_nonnulls(*part)
    return counted
