"""Rules about finding the referencing rows: is there an index that PostgreSQL can use?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fkdoctor.audit import remedy
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.inspect.coverage import Coverage, IndexFit, Support, index_fit, key_coverage
from fkdoctor.schema import ForeignKey, Schema, TableName


def find_unindexed(schema: Schema) -> Iterator[Evidence]:
    """The keys of which at least one referencing table has no index that serves at all."""
    for key, coverage in _badly_covered(schema, Support.NONE):
        yield _evidence(
            schema,
            key,
            coverage,
            f"No index finds the rows of {with_rows(schema, key.referencing)} by "
            f"{columns_of(key.referencing_columns)}.",
        )


def find_partly_indexed(schema: Schema) -> Iterator[Evidence]:
    """The keys whose best index narrows the search by some of the columns only."""
    for key, coverage in _badly_covered(schema, Support.PARTLY):
        yield _evidence(
            schema,
            key,
            coverage,
            f"No index of {with_rows(schema, key.referencing)} has "
            f"{columns_of(key.referencing_columns)} as its first columns.",
        )


def _badly_covered(schema: Schema, support: Support) -> Iterator[tuple[ForeignKey, Coverage]]:
    for key in schema.foreign_keys:
        # A single column is found or not, never in part.
        possible = support is not Support.PARTLY or len(key.referencing_columns) > 1
        if key.enforced and possible:
            coverage = key_coverage(schema, key)
            if coverage.support is support:
                yield key, coverage


def _evidence(schema: Schema, key: ForeignKey, coverage: Coverage, problem: str) -> Evidence:
    leaves = schema.leaves(key.referencing)
    if 0 < len(coverage.lacking) < len(leaves):
        names = listed(str(name) for name in coverage.lacking)
        problem += f" That is so in {len(coverage.lacking)} of {len(leaves)} partitions: {names}."
    for fit in coverage.near_misses:
        problem += f" {TableName(fit.table.schema, fit.index.name)} {fit.obstacle}."
    rebuilt = [fit for fit in coverage.near_misses if _serves_when_rebuilt(schema, key, fit)]
    if rebuilt and {fit.table for fit in rebuilt} == set(coverage.lacking):
        sql: str | None = "\n".join(remedy.reindex(fit.table, fit.index.name) for fit in rebuilt)
    else:
        sql = remedy.create_index(schema, key, coverage.lacking)
    if sql is None:
        problem += (
            " The columns differ in type so that each comparison converts the referencing column:"
            " no index on it can serve before the types are made equal."
        )
    return Evidence(subject=key.label, detail=problem, keys=(key,), sql=sql)


def _serves_when_rebuilt(schema: Schema, key: ForeignKey, fit: IndexFit) -> bool:
    whole = replace(fit.index, valid=True, ready=True, live=True)
    return whole != fit.index and (
        index_fit(schema, key, fit.table, whole).support is Support.FULLY
    )


RULES = (
    Rule(
        id="FK001",
        name="unindexed-reference",
        severity=Severity.WARNING,
        condition=(
            "No index of the referencing table, or of one of its partitions, lets PostgreSQL look "
            "up the rows that reference a given row. An index serves when it is valid, holds every "
            "row that has a reference, begins with a column of the key, and compares with the "
            "key's own operator and collation."
        ),
        effect=(
            "Every DELETE in the referenced table, and every UPDATE of its key, reads the whole "
            "referencing table once for each row, and holds its locks meanwhile."
        ),
        remedy=(
            "Create an index that begins with the key's columns. CONCURRENTLY does not stop "
            "writers; it can't run inside a transaction."
        ),
        check=find_unindexed,
    ),
    Rule(
        id="FK002",
        name="partly-indexed-reference",
        severity=Severity.INFO,
        condition=(
            "The best index of the referencing table begins with some of the key's columns, but "
            "its first columns are not just all of them."
        ),
        effect=(
            "PostgreSQL reads every row that agrees in the columns it can look up and drops those "
            "that differ in the others. That is slow when the first columns take few values, as a "
            "tenant's number does."
        ),
        remedy=(
            "Nothing, where the columns that are looked up tell the rows well apart. Else create "
            "an index whose first columns are the key's, in any order."
        ),
        check=find_partly_indexed,
    ),
)
