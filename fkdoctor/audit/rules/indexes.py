"""Rules about finding the referencing rows: is there an index that PostgreSQL can use?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fkdoctor.audit import remedy
from fkdoctor.audit.cascade import Cascades, Chain, cascades_of
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.inspect.coverage import Coverage, IndexFit, Support, index_fit, key_coverage
from fkdoctor.schema import SEQUENTIAL, ForeignKey, Schema, TableName


def find_unindexed(schema: Schema) -> Iterator[Evidence]:
    """The keys of which at least one referencing table has no index that serves at all."""
    cascades = cascades_of(schema)
    for key, coverage in _badly_covered(schema, Support.NONE):
        problem = (
            f"No index finds the rows of {with_rows(schema, key.referencing)} by "
            f"{columns_of(key.referencing_columns)}."
        )
        worst = _worst_reading(schema, cascades, key)
        if worst is None:
            yield _evidence(schema, key, coverage, problem)
        else:
            chain, read = worst
            path = " → ".join((str(chain[0].referenced), *(str(one.referencing) for one in chain)))
            problem += (
                f" The DELETE of one row of {chain[0].referenced} comes here by CASCADE ({path}) "
                f"and reads about {read:,.0f} rows on average."
            )
            grave = Severity.ERROR if read >= UNBEARABLE else None
            yield _evidence(schema, key, coverage, problem, grave)


UNBEARABLE = 1_000_000_000
"""How many rows one DELETE may read: some minutes."""


def _worst_reading(
    schema: Schema, cascades: Cascades, key: ForeignKey
) -> tuple[Chain, float] | None:
    """The chain of CASCADE keys by which one DELETE reads the most rows for this key, and how many.

    None where no CASCADE leads to the referenced table, or the tables were never analysed.
    """
    each = schema.row_estimate(key.referencing)
    found: list[tuple[float, Chain]] = []
    for chain in cascades.ways_to(key.referenced).values():
        rows = float(each or 0)
        for step in chain:
            below, above = (
                schema.row_estimate(cascades.whole(table))
                for table in (step.referencing, step.referenced)
            )
            rows = rows * below / above if below and above else 0.0
        if chain and rows > (each or 0):
            found.append((rows, chain))
    if not found:
        return None
    read, chain = max(found, key=lambda one: one[0])
    return chain, read


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
            coverage = _ask_planner(schema, key, key_coverage(schema, key))
            if coverage.support is support:
                yield key, coverage


def _ask_planner(schema: Schema, key: ForeignKey, coverage: Coverage) -> Coverage:
    """The coverage as the planner sees it, where it was asked and its answer decides.

    It decides when it finds by all columns, or can use no index at all. Between several indexes it
    takes any on a table that is small today, also one that only filters.
    """
    plans = schema.plans_for(key)
    number = len(key.referencing_columns)
    decided = [plan.scan == SEQUENTIAL or plan.columns_found == number for plan in plans]
    if not plans or not all(decided):
        return coverage
    lacking = tuple(plan.table for plan in plans if plan.scan == SEQUENTIAL)
    support = Support.NONE if lacking else Support.FULLY
    return replace(coverage, support=support, lacking=lacking)


def _proof(schema: Schema, key: ForeignKey, lacking: tuple[TableName, ...]) -> str:
    """What the planner would do, for the first table that lacks an index; '' if it wasn't asked."""
    for plan in schema.plans_for(key):
        if plan.table in lacking:
            return (
                f" Asked for the rows of {plan.table}, with sequential scans switched off, the "
                f"planner says: {plan.scan}."
            )
    return ""


def _evidence(
    schema: Schema,
    key: ForeignKey,
    coverage: Coverage,
    problem: str,
    severity: Severity | None = None,
) -> Evidence:
    leaves = schema.leaves(key.referencing)
    if 0 < len(coverage.lacking) < len(leaves):
        names = listed(str(name) for name in coverage.lacking)
        problem += f" That is so in {len(coverage.lacking)} of {len(leaves)} partitions: {names}."
    for fit in coverage.near_misses:
        problem += f" {TableName(fit.table.schema, fit.index.name)} {fit.obstacle}."
    problem += _proof(schema, key, coverage.lacking)
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
    return Evidence(subject=key.label, detail=problem, keys=(key,), sql=sql, severity=severity)


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
            "key's own operator and collation. An error where CASCADE multiplies that to "
            f"{UNBEARABLE:,} rows read for one that is deleted."
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
