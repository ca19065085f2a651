"""Rules about tables that reference each other in a circle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from fkdoctor.audit import remedy
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import listed
from fkdoctor.inspect.graph import enforced_part, find_cycles, keys_within, with_keys
from fkdoctor.schema import ForeignKey, MatchType, Schema, TableName

MANY = 8


def find_rigid_cycles(schema: Schema) -> Iterator[Evidence]:
    """The groups of tables in a circle of keys that are neither deferrable nor may be NULL."""
    rigid, cycles = _rigid_cycles(schema)
    for tables in cycles:
        keys = keys_within(rigid, tables)
        loosened = _keys_to_loosen(rigid, tables)
        yield Evidence(
            subject=str(tables[0]),
            detail=f"{_circle(tables)}. None of these keys can be put off: {_arrows(keys)}.",
            keys=keys,
            sql="\n".join(remedy.alter_constraint(key, "DEFERRABLE") for key in loosened),
        )


def find_loose_cycles(schema: Schema) -> Iterator[Evidence]:
    """The groups of tables in a circle that can be opened: a key is deferrable or may be NULL."""
    _, rigid = _rigid_cycles(schema)
    enforced = enforced_part(schema)
    for tables in find_cycles(enforced):
        if tables not in rigid:
            keys = keys_within(enforced, tables)
            yield Evidence(
                subject=str(tables[0]),
                detail=f"{_circle(tables)}. It opens at {_openings(schema, keys)}.",
                keys=keys,
            )


@lru_cache(maxsize=1)
def _rigid_cycles(schema: Schema) -> tuple[Schema, tuple[tuple[TableName, ...], ...]]:
    """The schema with the keys alone that nothing loosens, and the circles of these."""
    rigid = with_keys(
        schema,
        lambda key: key.enforced and not key.deferrable and not _may_be_absent(schema, key),
    )
    return rigid, find_cycles(rigid)


def _may_be_absent(schema: Schema, key: ForeignKey) -> bool:
    """Whether a row can be without a reference: MATCH FULL asks for NULL in all columns."""
    nullable = [not here.not_null for here, _ in schema.column_pairs[key.oid]]
    return all(nullable) if key.match is MatchType.FULL else any(nullable)


def _keys_to_loosen(rigid: Schema, tables: tuple[TableName, ...]) -> list[ForeignKey]:
    """A few keys without which no circle is left among the tables."""
    chosen: list[ForeignKey] = []
    rest = replace(rigid, foreign_keys=keys_within(rigid, tables))
    while cycles := find_cycles(rest):
        key = keys_within(rest, cycles[0])[0]
        chosen.append(key)
        left = tuple(other for other in rest.foreign_keys if other is not key)
        rest = replace(rest, foreign_keys=left)
    return chosen


def _circle(tables: tuple[TableName, ...]) -> str:
    named = [str(table) for table in tables[:MANY]]
    if len(tables) > MANY:
        named.append(f"{len(tables) - MANY} more")
    return f"{len(tables)} tables reference each other in a circle: {listed(named)}"


def _arrows(keys: tuple[ForeignKey, ...]) -> str:
    named = [f"{key.label} ({key.arrow})" for key in keys[:MANY]]
    if len(keys) > MANY:
        named.append(f"{len(keys) - MANY} more")
    return listed(named)


def _openings(schema: Schema, keys: tuple[ForeignKey, ...]) -> str:
    openings = [
        f"{key.label} ({'deferrable' if key.deferrable else 'may be NULL'})"
        for key in keys
        if key.deferrable or _may_be_absent(schema, key)
    ]
    if len(openings) > MANY:
        openings[MANY:] = [f"{len(openings) - MANY} more"]
    return listed(openings)


RULES = (
    Rule(
        id="FK017",
        name="rigid-cycle",
        severity=Severity.WARNING,
        condition=(
            "Tables reference each other in a circle of keys of which none is deferrable and none "
            "has columns that may be NULL."
        ),
        effect=(
            "No row can be the first: an INSERT into any of the tables fails, unless one statement "
            "(with data-modifying WITH clauses) inserts into all of them. Dumps of the data alone "
            "can't be restored, and deleting is as hard."
        ),
        remedy=(
            "Make a key of the circle deferrable, and insert with SET CONSTRAINTS … DEFERRED; or "
            "let its columns be NULL."
        ),
        check=find_rigid_cycles,
    ),
    Rule(
        id="FK018",
        name="cycle",
        severity=Severity.INFO,
        condition=(
            "Tables reference each other in a circle, and at least one key of it is deferrable or "
            "has columns that may be NULL."
        ),
        effect=(
            "There is no order of the tables in which rows can be inserted, deleted or loaded one "
            "table after the other: the circle has to be opened first, and closed afterwards."
        ),
        remedy="Know where it opens: insert NULL there and fill it in later, or defer that key.",
        check=find_loose_cycles,
    ),
)
