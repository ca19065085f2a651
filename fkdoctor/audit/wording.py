"""Phrases that rules and reports share, so that one thing is said in one way."""

from __future__ import annotations

from collections.abc import Iterable

from fkdoctor.identifier import quote_all
from fkdoctor.schema import Schema, TableName


def row_count(schema: Schema, table: TableName) -> str:
    """PostgreSQL's estimate as a phrase: `about 20,000 rows`."""
    estimate = schema.row_estimate(table)
    if estimate is None:
        return "never analysed"
    return f"about {estimate:,} {'row' if estimate == 1 else 'rows'}"


def with_rows(schema: Schema, table: TableName) -> str:
    """The table and, if known, its rows: `mlops.job_postings (about 20,000 rows)`."""
    known = schema.row_estimate(table) is not None
    return f"{table} ({row_count(schema, table)})" if known else str(table)


def columns_of(names: tuple[str, ...]) -> str:
    """The columns as one phrase: `resume_id`, `(tenant_id, resume_id)`."""
    return quote_all(names) if len(names) == 1 else f"({quote_all(names)})"


def listed(phrases: Iterable[str], conjunction: str = "and") -> str:
    """The phrases as one: `a`, `a and b`, `a, b and c`."""
    *rest, last = phrases
    return f"{', '.join(rest)} {conjunction} {last}" if rest else last
