"""Rules about the rows themselves: they speak where the rows were looked at (--data)."""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.schema import Flaw, ForeignKey, LogicalReference, RowCount, Schema


def find_dangling_rows(schema: Schema) -> Iterator[Evidence]:
    """The references of which rows reference nothing, keys and logical ones alike."""
    references: tuple[ForeignKey | LogicalReference, ...]
    references = (*schema.foreign_keys, *schema.references)
    for reference in references:
        found = schema.row_count(reference, Flaw.DANGLING)
        if found is None or not found.count:
            continue
        logical = isinstance(reference, LogicalReference)
        yield Evidence(
            subject=reference.label,
            detail=(
                f"{how_many(found)} {with_rows(schema, reference.referencing)} "
                f"{'references' if found.count == 1 else 'reference'} nothing in "
                f"{reference.referenced}, by the {_kind(reference)} {reference.arrow}."
                f"{_shown(found)}"
            ),
            keys=() if isinstance(reference, LogicalReference) else (reference,),
            tables=(reference.referencing, reference.referenced) if logical else (),
        )


def _kind(reference: ForeignKey | LogicalReference) -> str:
    if isinstance(reference, LogicalReference):
        return "reference"
    if not reference.enforced:
        return "key, which is NOT ENFORCED:"
    return "key" if reference.validated else "key, which is NOT VALID:"


def how_many(found: RowCount) -> str:
    """The count as the start of a sentence: `3 rows of`, `5 of 20,113 sampled rows of`."""
    if found.looked_at is not None:
        return f"{found.count:,} of {found.looked_at:,} sampled rows of"
    return f"{found.count:,} {'row' if found.count == 1 else 'rows'} of"


def _shown(found: RowCount) -> str:
    if not found.rows:
        return ""
    width = len(found.identity)
    named = [f"{_values(row[:width])} → {_values(row[width:])}" for row in found.rows]
    if found.count > len(named):
        named.append(f"{found.count - len(named):,} more")
    return f" By {columns_of(found.identity)}: {listed(named)}."


def _values(values: tuple[str | None, ...]) -> str:
    shown = ["NULL" if value is None else value for value in values]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown)})"


def find_references_to_deleted(schema: Schema) -> Iterator[Evidence]:
    """The keys of which live rows reference rows that are marked as deleted."""
    for key in schema.foreign_keys:
        found = schema.row_count(key, Flaw.UNDER_DELETED)
        if found is not None and found.count:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"{how_many(found)} {with_rows(schema, key.referencing)} "
                    f"{'references' if found.count == 1 else 'reference'}, by {key.arrow}, a row "
                    "that is marked as deleted."
                ),
                keys=(key,),
            )


def find_missing_defaults(schema: Schema) -> Iterator[Evidence]:
    """The keys whose SET DEFAULT leads to a row that is not there."""
    for key in schema.foreign_keys:
        found = schema.row_count(key, Flaw.NO_DEFAULT)
        if found is not None and found.count:
            here = schema.table(key.referencing)
            defaults = [here.column(name).default or "NULL" for name in key.referencing_columns]
            yield Evidence(
                subject=key.label,
                detail=(
                    f"SET DEFAULT lets rows of {with_rows(schema, key.referencing)} reference "
                    f"{listed(defaults)}, and {key.referenced} has no such row: the command on "
                    f"{key.referenced} fails where a row is referenced."
                ),
                keys=(key,),
            )


RULES = (
    Rule(
        id="FK051",
        name="dangling-rows",
        severity=Severity.ERROR,
        condition=(
            "Rows reference something that is not there, although a foreign key or a [[reference]] "
            "of fkdoctor.toml says that it is. Compared by the key's own operators and MATCH rule."
        ),
        effect=(
            "Joins lose these rows, applications meet nothing where something must be, and no dump "
            "of the key can be restored. Keys marked valid have such rows after triggers were "
            "disabled or swallowed a CASCADE, and after loads in replica role."
        ),
        remedy=(
            "Find out which came first: restore what is referenced, set the reference to NULL, or "
            "delete the rows. Then look at what let them in (FK005, FK006, FK007, FK023)."
        ),
        check=find_dangling_rows,
        reads_rows=True,
    ),
    Rule(
        id="FK052",
        name="reference-to-deleted",
        severity=Severity.INFO,
        condition=(
            "Live rows reference rows that are marked as deleted. Live are all rows of a table "
            "that marks none."
        ),
        effect=(
            "For the database all is well. The application shows what is gone, or fails to find "
            "what it must show; and the deleted rows can't be purged."
        ),
        remedy="Mark, release or move these rows; and see to it whenever a row is marked.",
        check=find_references_to_deleted,
        reads_rows=True,
    ),
    Rule(
        id="FK053",
        name="missing-default-row",
        severity=Severity.ERROR,
        condition=(
            "The key does SET DEFAULT, and no row of the referenced table has the columns' default."
        ),
        effect=(
            "The DELETE of every row that is referenced fails: the rows it leaves would reference "
            "nothing."
        ),
        remedy="Insert the row that the default means, and keep it; or choose another rule.",
        check=find_missing_defaults,
        reads_rows=True,
    ),
)
