"""Rules about the types and collations of the columns on both sides."""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import listed
from fkdoctor.identifier import quote
from fkdoctor.inspect.coverage import compared_by_cast
from fkdoctor.schema import Column, ForeignKey, Schema


def find_narrower_types(schema: Schema) -> Iterator[Evidence]:
    """The keys with a column that can't hold every value of the column it references."""
    for key in schema.foreign_keys:
        pairs = schema.column_pairs[key.oid]
        problems = [
            f"{_named(key, here, there)}: {shortfall}{_fullness(here, there)}"
            for here, there in pairs
            if (shortfall := _shortfall(here, there))
        ]
        if problems:
            full = any(_filled(here, there) >= 1 for here, there in pairs)
            yield _evidence(key, problems, Severity.ERROR if full else None)


def find_different_types(schema: Schema) -> Iterator[Evidence]:
    """The keys with columns of different types, of which the referencing one holds no less."""
    for key in schema.foreign_keys:
        problems = []
        for here, there in schema.column_pairs[key.oid]:
            if here.base_type != there.base_type and not _shortfall(here, there):
                cost = (
                    "every comparison converts the referencing column, so no plain index on it "
                    "serves"
                    if compared_by_cast(here, there)
                    else "every value fits, and PostgreSQL compares the two directly"
                )
                problems.append(f"{_named(key, here, there)}: {cost}")
        if problems:
            yield _evidence(key, problems)


def find_different_collations(schema: Schema) -> Iterator[Evidence]:
    """The keys whose columns have different collations, both deterministic."""
    for key, problems in _collations(schema, deterministic=True):
        yield _evidence(key, problems)


def find_upgrade_blockers(schema: Schema) -> Iterator[Evidence]:
    """The keys with different collations of which one is nondeterministic; 18 refuses them."""
    for key, problems in _collations(schema, deterministic=False):
        yield _evidence(key, problems)


def _collations(schema: Schema, *, deterministic: bool) -> Iterator[tuple[ForeignKey, list[str]]]:
    for key in schema.foreign_keys:
        problems = [
            f"{quote(here.name)} has collation {here.collation}, "
            f"{key.referenced}.{quote(there.name)} has {there.collation}"
            for here, there in schema.column_pairs[key.oid]
            if here.collation != there.collation
            and (here.deterministic and there.deterministic) is deterministic
        ]
        if problems:
            yield key, problems


def _evidence(key: ForeignKey, problems: list[str], severity: Severity | None = None) -> Evidence:
    detail = f"{listed(problems)}."
    return Evidence(subject=key.label, detail=detail, keys=(key,), severity=severity)


def _named(key: ForeignKey, here: Column, there: Column) -> str:
    return (
        f"{quote(here.name)} is {here.type}, {key.referenced}.{quote(there.name)} is {there.type}"
    )


# Bytes do not matter here: the last value, and the digits that any value fits into.
_WHOLE = {"smallint": (32_767, 5), "integer": (2_147_483_647, 10), "bigint": (2**63 - 1, 19)}


def _filled(here: Column, there: Column) -> float:
    """How far the referenced numbers have got towards the last one that fits; 0 if not known."""
    if here.base_type not in _WHOLE or there.highest is None:
        return 0.0
    return there.highest / _WHOLE[here.base_type][0]


def _fullness(here: Column, there: Column) -> str:
    filled = _filled(here, there)
    if filled <= 0:
        return ""
    return f", and {quote(there.name)} has got to {there.highest:,}, {filled:.0%} of that"


_TEXT = {"text", "character varying", "character"}
_TIME = {
    "time without time zone",
    "time with time zone",
    "timestamp without time zone",
    "timestamp with time zone",
}
_UNLIMITED = 10**9


def _shortfall(here: Column, there: Column) -> str | None:
    """Which values of `there` the column `here` can't hold, as a phrase; None if it holds all.

    None also where nothing is known about the two types together.
    """
    mine, theirs = here.base_type, there.base_type
    if mine in _WHOLE and theirs in _WHOLE and _WHOLE[mine] < _WHOLE[theirs]:
        return f"{mine} ends at {_WHOLE[mine][0]:,}"
    if mine in _TEXT and theirs in _TEXT and _length(here) < _length(there):
        return f"it takes {_length(here)} characters at most"
    if {mine, theirs} <= {"numeric", *_WHOLE} and "numeric" in (mine, theirs):
        before, after = _digits(here)
        needed_before, needed_after = _digits(there)
        if before < needed_before:
            return f"it takes {before} digits before the point"
        if after < needed_after:
            return f"it takes {after} digits after the point" if after else "it takes whole numbers"
    if mine == theirs and mine in _TIME and _precision(here) < _precision(there):
        return f"it rounds to {_precision(here)} digits of a second"
    if (mine, theirs) == ("real", "double precision"):
        return "real keeps about 6 digits, so most values of the other can't be matched"
    return None


def _length(column: Column) -> int:
    """How many characters fit (pg_attribute.atttypmod is that and 4)."""
    return column.type_modifier - 4 if column.type_modifier >= 0 else _UNLIMITED


def _digits(column: Column) -> tuple[int, int]:
    """How many digits fit before and after the point.

    atttypmod of numeric(p, s) is ((p << 16) | s) + 4, s in 11 bits with a sign.
    """
    if column.base_type in _WHOLE:
        return _WHOLE[column.base_type][1], 0
    if column.type_modifier < 0:
        return _UNLIMITED, _UNLIMITED
    packed = column.type_modifier - 4
    precision = packed >> 16 & 0xFFFF
    scale = ((packed & 0x7FF) ^ 0x400) - 0x400
    return precision - scale, scale


def _precision(column: Column) -> int:
    return column.type_modifier if column.type_modifier >= 0 else 6


RULES = (
    Rule(
        id="FK013",
        name="narrower-type",
        severity=Severity.WARNING,
        condition="A referencing column can't hold every value of the column that it references.",
        effect=(
            "The day the referenced column gets such a value, no row can reference it: the INSERT "
            "fails with an overflow or 'value too long'. For integer against bigint that day is "
            "known: id 2,147,483,648. An error where the last ANALYZE has seen such a value."
        ),
        remedy=(
            "Give the referencing column the type of the referenced one. Widening varchar takes a "
            "moment; integer to bigint rewrites the table, so on a large one add a bigint column, "
            "fill it in batches and swap."
        ),
        check=find_narrower_types,
    ),
    Rule(
        id="FK014",
        name="different-type",
        severity=Severity.INFO,
        condition=(
            "A referencing column has another type than the column that it references, and is not "
            "known to hold less."
        ),
        effect=(
            "Between integers, or text and varchar, it costs a little. Between others PostgreSQL "
            "converts the referencing column at each comparison, and can't use its index."
        ),
        remedy="Give both columns the same type when they are next changed.",
        check=find_different_types,
    ),
    Rule(
        id="FK015",
        name="different-collation",
        severity=Severity.INFO,
        condition="A referencing column has another collation than the column that it references.",
        effect=(
            'The key works, but a join over it fails with "could not determine which collation to '
            'use" unless it names one, and then it can use the index of one side only.'
        ),
        remedy="Give both columns the same collation when they are next changed.",
        check=find_different_collations,
    ),
    Rule(
        id="FK016",
        name="nondeterministic-collation",
        severity=Severity.WARNING,
        condition=(
            "The two columns have different collations, and at least one of them is "
            "nondeterministic (compares 'a' and 'A' as equal, for example)."
        ),
        effect=(
            "PostgreSQL 18 refuses such a key: pg_upgrade and restoring a dump there fail. Before, "
            "which rows reference which depends on the side one looks from."
        ),
        remedy="Give both columns the same collation before the upgrade.",
        check=find_upgrade_blockers,
        until=17,
    ),
)
