"""Rules about INSERT … ON CONFLICT that rely on a unique key which soft delete changes."""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.rules.soft_delete import occupied_by_deleted
from fkdoctor.audit.upserts import Upsert, read_upserts
from fkdoctor.audit.wording import columns_of, with_rows
from fkdoctor.identifier import quote
from fkdoctor.inspect.soft_delete import live_condition, soft_delete_column
from fkdoctor.schema import Index, Schema, Table, TableName, UpsertSource


def find_upserts_past_live_rows(schema: Schema) -> Iterator[Evidence]:
    """The upserts that fail on a partial unique index, or meet rows that are marked as deleted."""
    told: set[str] = set()
    for source in schema.upsert_sources:
        for upsert in read_upserts(source.source):
            table = _find_table(schema, source, upsert)
            said = _judge(schema, table, upsert) if table else None
            if table is None or said is None:
                continue
            target = (
                columns_of(upsert.columns) if upsert.columns else quote(upsert.constraint or "")
            )
            subject = f"{source.label}: {table.name} {target}"
            if subject not in told:
                told.add(subject)
                detail, severity = said
                yield Evidence(
                    subject=subject,
                    detail=f"{source.label} {detail}",
                    tables=(table.name,),
                    severity=severity,
                )


def _find_table(schema: Schema, source: UpsertSource, upsert: Upsert) -> Table | None:
    """The table that the name means; None where that is not certain."""
    if len(upsert.table) == 2:
        name = TableName(*upsert.table)
        return schema.table(name) if schema.has_table(name) else None
    if len(upsert.table) != 1:
        return None
    (bare,) = upsert.table
    known = [table for table in schema.tables if table.name.name == bare]
    if any(view.name == bare for view in schema.views):
        return None
    for place in source.search_path:
        if place == "$user":
            return known[0] if len(known) == 1 else None
        if schema.has_table(TableName(place, bare)):
            return schema.table(TableName(place, bare))
    return known[0] if len(known) == 1 and not source.search_path else None


def _judge(schema: Schema, table: Table, upsert: Upsert) -> tuple[str, Severity] | None:
    """What goes wrong, from behind the name of who does it, and how badly."""
    if upsert.constraint is not None:
        arbiters = [one for one in table.indexes if one.constraint == upsert.constraint]
    else:
        arbiters = [
            one
            for one in table.indexes
            if one.unique and one.valid and set(one.columns or ()) == set(upsert.columns)
        ]
    whole = [one for one in arbiters if one.predicate is None]
    mark = soft_delete_column(schema, table)
    if not whole:
        return _judge_partial(table, upsert, arbiters)
    if mark is None or mark.name in upsert.action:
        return None
    met = [one for one in whole if occupied_by_deleted(table, one, mark)]
    if len(met) < len(whole) or (upsert.conditional and len(arbiters) > len(whole)):
        return None
    happens = (
        "nothing is inserted, and nothing says so"
        if upsert.action[:1] == ("nothing",)
        else "it changes that row unseen"
    )
    return (
        f"inserts into {with_rows(schema, table.name)} ON CONFLICT {_target(upsert)}: where a row "
        f"that is marked in {quote(mark.name)} has the value, {happens}. With a unique index over "
        f"the live rows only, write ON CONFLICT {columns_of(met[0].columns or ())} WHERE "
        f"{live_condition(mark)}; as it stands, it fails then.",
        Severity.WARNING,
    )


def _judge_partial(
    table: Table, upsert: Upsert, arbiters: list[Index]
) -> tuple[str, Severity] | None:
    if not arbiters or upsert.conditional:
        return None
    names = ", ".join(str(TableName(table.name.schema, one.name)) for one in arbiters)
    return (
        f"inserts into {table.name} ON CONFLICT {_target(upsert)}, for which there is only "
        f"{names}, a unique index over a part of the rows: every such INSERT fails. Write ON "
        f"CONFLICT {_target(upsert)} WHERE {arbiters[0].predicate}.",
        Severity.ERROR,
    )


def _target(upsert: Upsert) -> str:
    if upsert.constraint is not None:
        return f"ON CONSTRAINT {quote(upsert.constraint)}"
    return f"({', '.join(map(quote, upsert.columns))})"


RULES = (
    Rule(
        id="FK058",
        name="upsert-over-deleted",
        severity=Severity.WARNING,
        condition=(
            "A function, or a statement in pg_stat_statements, inserts ON CONFLICT on a unique key "
            "of a table that marks rows as deleted, and says nothing of the mark. An error where, "
            "in any table, the only unique index on these columns holds for a part of the rows. "
            "Strings that EXECUTE runs are not read."
        ),
        effect=(
            "The upsert meets the deleted row: it changes it, or inserts nothing, and nobody sees "
            "either. When the key is changed to hold among live rows only, as soft delete needs "
            "it, ON CONFLICT without that condition finds no index, and every such INSERT fails."
        ),
        remedy=(
            "Change both together: a unique index over the live rows (FK045), and the same "
            "condition in ON CONFLICT (…) WHERE …. Or let the upsert revive the row: DO UPDATE SET "
            "deleted_at = NULL."
        ),
        check=find_upserts_past_live_rows,
    ),
)
