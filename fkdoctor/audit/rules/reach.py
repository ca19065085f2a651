"""Rules about how far CASCADE carries a DELETE, and where to."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fkdoctor.audit.cascade import Cascades, cascades_of
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.identifier import quote
from fkdoctor.inspect.graph import (
    cascade_reach,
    enforced_part,
    find_cycles,
    keys_into,
    keys_within,
    with_keys,
)
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName

DEEP, WIDE, MANY_ROWS = 3, 10, 10_000
"""From how many levels, tables, or rows for one that is deleted, a cascade is worth knowing."""

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """What the DELETE of one row can take along: tables by level, rows by estimate.

    `rows` are those of each table that is reached, on average for one row of `root`; a table that
    was never analysed, or is reached only through one, is not among them.
    """

    root: TableName
    levels: Mapping[TableName, int]
    rows: Mapping[TableName, float]
    keys: tuple[ForeignKey, ...]
    nulling: int

    @property
    def depth(self) -> int:
        """How many levels it goes down."""
        return max(self.levels.values())


def measure_cascade(schema: Schema, cascades: Cascades, root: TableName) -> Cascade | None:
    """What a DELETE in `root` can take along, by all keys of the schema; None where nothing."""
    levels: dict[TableName, int] = {}
    rows: dict[TableName, float] = {root: 1.0}
    keys: list[ForeignKey] = []
    for reach in cascade_reach(schema, root):
        table, above = cascades.whole(reach.table), cascades.whole(reach.via.referenced)
        if table == root or table in levels:
            continue
        levels[table] = reach.depth
        keys.append(reach.via)
        total, of = schema.row_estimate(table), schema.row_estimate(above)
        if above in rows and total is not None and of:
            rows[table] = min(rows[above] * total / of, total)
    if not levels:
        return None
    del rows[root]
    nulling = {
        key.label
        for table in (root, *levels)
        for key in keys_into(schema, table)
        if key.on_delete in _WRITING
    }
    return Cascade(root=root, levels=levels, rows=rows, keys=tuple(keys), nulling=len(nulling))


_WRITING = (ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT)


def find_wide_cascades(schema: Schema) -> Iterator[Evidence]:
    """The tables at the top of a cascade that goes deep, wide, or takes many rows."""
    enforced = enforced_part(schema)
    cascades = cascades_of(schema)
    for table in enforced.tables:
        top = table.partition_of is None and len(cascades.ways_to(table.name)) == 1
        cascade = measure_cascade(enforced, cascades, table.name) if top else None
        if cascade is None:
            continue
        many = sum(cascade.rows.values()) >= MANY_ROWS
        if cascade.depth >= DEEP or len(cascade.levels) >= WIDE or many:
            yield Evidence(
                subject=str(table.name),
                detail=_tell_cascade(enforced, cascade),
                keys=cascade.keys,
                tables=(table.name,),
            )


def _tell_cascade(schema: Schema, cascade: Cascade) -> str:
    number, depth = len(cascade.levels), cascade.depth
    told = (
        f"The DELETE of one row of {with_rows(schema, cascade.root)} can delete rows of {number} "
        f"{'table' if number == 1 else 'tables'}, {depth} {'level' if depth == 1 else 'levels'} "
        f"deep"
    )
    if cascade.rows:
        total = sum(cascade.rows.values())
        told += f", on average about {total:,.0f} {'row' if round(total) == 1 else 'rows'} in all"
    ordered = sorted(
        cascade.levels.items(), key=lambda item: (item[1], -cascade.rows.get(item[0], 0), item[0])
    )
    names = [
        f"{table} (level {level}{_share(cascade.rows.get(table))})"
        for table, level in ordered[:SHOWN]
    ]
    if number > SHOWN:
        names.append(f"{number - SHOWN} more")
    told += f": {listed(names)}."
    if cascade.nulling:
        plural = "keys do" if cascade.nulling > 1 else "key does"
        told += f" On the way {cascade.nulling} {plural} SET NULL or SET DEFAULT: an UPDATE each."
    return told


def _share(rows: float | None) -> str:
    if rows is None:
        return ""
    return f", {rows:,.0f}" if rows >= 1 else ", less than 1"


def find_cascade_circles(schema: Schema) -> Iterator[Evidence]:
    """The groups of tables that delete from each other in a circle."""
    cascading = with_keys(
        schema, lambda key: key.enforced and key.on_delete is ReferentialAction.CASCADE
    )
    for tables in find_cycles(cascading):
        keys = keys_within(cascading, tables)
        shown = [str(table) for table in tables[:SHOWN]]
        if len(tables) > SHOWN:
            shown.append(f"{len(tables) - SHOWN} more")
        yield Evidence(
            subject=str(tables[0]),
            detail=(
                f"A DELETE in one of {listed(shown)} deletes rows of all of them, and comes back: "
                f"{listed(f'{key.label} ({key.arrow})' for key in keys[:SHOWN])}."
            ),
            keys=keys,
        )


def find_crossings(schema: Schema) -> Iterator[Evidence]:
    """The keys that change rows of another owner's table, or in another schema."""
    for key in schema.foreign_keys:
        acts = [
            f"ON {event} {action.sql}"
            for event, action in (("DELETE", key.on_delete), ("UPDATE", key.on_update))
            if action in (ReferentialAction.CASCADE, *_WRITING)
        ]
        here, there = schema.table(key.referencing), schema.table(key.referenced)
        foreign = here.owner != there.owner
        if not key.enforced or not acts or not (foreign or here.name.schema != there.name.schema):
            continue
        borders = [
            f"{what} {quote(inside)}, where {there.name} is {quote(outside)}'s"
            if what == "owned by"
            else f"{what} {quote(inside)}, not in {quote(outside)}"
            for what, inside, outside in (
                ("owned by", here.owner, there.owner),
                ("in schema", here.name.schema, there.name.schema),
            )
            if inside != outside
        ]
        yield Evidence(
            subject=key.label,
            detail=(
                f"{listed(acts)} changes rows of {with_rows(schema, here.name)}, which is "
                f"{listed(borders)}: whoever may change {there.name} does that with the rights of "
                f"{quote(here.owner)}."
            ),
            keys=(key,),
            severity=Severity.WARNING if foreign else Severity.INFO,
        )


# What a table holds is named last: audit_events are records, audit_event_filters are not.
_RECORDS = re.compile(
    r"(?:^|_)(?:audit|audits|changelog|history|ledger|log|logs|trail)"
    r"(?:_(?:entry|entries|event|events|item|items|line|lines|message|messages|record|records))?"
    r"(?:_(?:archive|archived|daily|monthly|old|p?\d+))*$"
)


def find_deleted_records(schema: Schema) -> Iterator[Evidence]:
    """The keys whose CASCADE deletes from tables that are named like records."""
    for key in schema.foreign_keys:
        name = _RECORDS.search(key.referencing.name.lower())
        records_too = _RECORDS.search(key.referenced.name.lower())
        if name and not records_too and key.enforced and key.on_delete is ReferentialAction.CASCADE:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"With a row of {key.referenced} go all that "
                    f"{with_rows(schema, key.referencing)} has recorded about it."
                ),
                keys=(key,),
            )


def find_wide_writing(schema: Schema) -> Iterator[Evidence]:
    """The keys that write NULL or a default into many rows when one row is deleted."""
    for key in schema.foreign_keys:
        if not key.enforced or key.on_delete not in _WRITING:
            continue
        here, there = schema.row_estimate(key.referencing), schema.row_estimate(key.referenced)
        if not here or not there or here / there < MANY_ROWS:
            continue
        yield Evidence(
            subject=key.label,
            detail=(
                f"The DELETE of one row of {with_rows(schema, key.referenced)} changes "
                f"{columns_of(key.written_columns)} in up to {here / there:,.0f} rows of "
                f"{with_rows(schema, key.referencing)} on average, and each is written anew"
                f"{_in_indexes(schema, key)}."
            ),
            keys=(key,),
        )


BRIN_STAYS = 16
"""The first version in which a change of what a BRIN index holds leaves the other indexes alone."""


def _in_indexes(schema: Schema, key: ForeignKey) -> str:
    """What a row that is written anew costs in indexes: an entry in each, if one has the column."""
    indexes = [
        index
        for index in schema.table(key.referencing).indexes
        if index.method != "brin" or schema.major < BRIN_STAYS
    ]
    held = {name for index in indexes for name in index.include}
    held |= {part.column for index in indexes for part in index.keys if part.column}
    if held.isdisjoint(key.written_columns):
        return ""
    if len(indexes) == 1:
        return ", and in its index"
    return f", with an entry in each of its {len(indexes)} indexes"


RULES = (
    Rule(
        id="FK027",
        name="wide-cascade",
        severity=Severity.INFO,
        condition=(
            f"A DELETE in a table, one that no CASCADE leads into, reaches {WIDE} tables or more, "
            f"goes {DEEP} levels deep or more, or takes along {MANY_ROWS:,} rows or more for one "
            "on average, by PostgreSQL's estimates."
        ),
        effect=(
            "One DELETE is many, in one transaction, with all their locks and triggers; who issues "
            "it sees the count of the first table only."
        ),
        remedy=(
            "Delete from the lowest level up and in batches where the rows are many. Ask for the "
            "counts of the very rows first."
        ),
        check=find_wide_cascades,
    ),
    Rule(
        id="FK028",
        name="cascade-circle",
        severity=Severity.WARNING,
        condition="Tables reference each other in a circle of keys that all do CASCADE.",
        effect=(
            "A DELETE in one of them goes round until no row is left that references a deleted "
            "one: how far depends on the rows alone, and can be the whole of all tables."
        ),
        remedy="Open the circle: let one of the keys do SET NULL or RESTRICT.",
        check=find_cascade_circles,
    ),
    Rule(
        id="FK029",
        name="action-across-owners",
        severity=Severity.WARNING,
        condition=(
            "The key does CASCADE, SET NULL or SET DEFAULT, and the referencing table belongs to "
            "another owner than the referenced one. Info where it is only in another schema."
        ),
        effect=(
            "Who may delete in the one table deletes or changes rows in the other, which they may "
            "neither see nor change themselves; row security of that table does not apply."
        ),
        remedy=(
            "Let the owner of the rows decide: RESTRICT, and a DELETE of their own first. Or put "
            "the key into the ignore list, if both owners agreed on it."
        ),
        check=find_crossings,
    ),
    Rule(
        id="FK030",
        name="deleted-records",
        severity=Severity.INFO,
        condition=(
            "CASCADE deletes rows of a table whose name ends in audit, changelog, history, ledger, "
            "log or trail (or audit_events, log_entries and the like), from one whose name does "
            "not."
        ),
        effect="What should tell later what happened to a row goes with the row.",
        remedy=(
            "SET NULL, with the key's old value in a column of its own; or no foreign key, since "
            "the records outlive what they are about."
        ),
        check=find_deleted_records,
    ),
    Rule(
        id="FK060",
        name="wide-writing",
        severity=Severity.INFO,
        condition=(
            f"A key does SET NULL or SET DEFAULT, and by PostgreSQL's estimates {MANY_ROWS:,} rows "
            "or more come on average on one that is referenced."
        ),
        effect=(
            "SET NULL is an UPDATE of each row: the whole row is written anew and stays locked "
            "until COMMIT, its triggers fire, and where an index has the column, so does an entry "
            "in every index of the table. That is often slower than deleting the rows."
        ),
        remedy=(
            "Write the NULLs in batches before the DELETE, each in a transaction of its own, and "
            "VACUUM afterwards."
        ),
        check=find_wide_writing,
    ),
)
