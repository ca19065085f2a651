"""Rules about tables that inherit: a foreign key sees just the rows of the table it names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.remedy import alter_table
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.schema import ForeignKey, Schema, TableName


def find_uninherited_keys(schema: Schema) -> Iterator[Evidence]:
    """The keys of a table that others inherit from, which have no such key."""
    heirs = _heirs(schema)
    for key in schema.foreign_keys:
        without = [
            heir
            for heir in _descendants(heirs, key.referencing)
            if not any(_leads_alike(key, other) for other in schema.keys_from(heir))
        ]
        if key.enforced and without:
            tables = listed(with_rows(schema, heir) for heir in without)
            yield Evidence(
                subject=key.label,
                detail=(
                    f"The key does not hold for the rows of {tables}, though a SELECT from "
                    f"{key.referencing} shows them too."
                ),
                keys=(key,),
                tables=tuple(without),
                sql="\n".join(
                    line
                    for heir in without
                    for line in (
                        alter_table(heir, f"ADD {key.definition.removesuffix(' NOT VALID')}"),
                    )
                ),
            )


def find_unreferenceable_heirs(schema: Schema) -> Iterator[Evidence]:
    """The keys that lead to a table of which others inherit: their rows can't be referenced."""
    heirs = _heirs(schema)
    for key in schema.foreign_keys:
        below = _descendants(heirs, key.referenced)
        if key.enforced and below:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"Rows of {listed(with_rows(schema, heir) for heir in below)} are shown by a "
                    f"SELECT from {key.referenced}, but "
                    f"{columns_of(key.referencing_columns)} of {key.referencing} can't reference "
                    "them."
                ),
                keys=(key,),
                tables=below,
            )


def _heirs(schema: Schema) -> Mapping[TableName, list[TableName]]:
    heirs: dict[TableName, list[TableName]] = defaultdict(list)
    for table in schema.tables:
        for above in table.inherits:
            heirs[above].append(table.name)
    return heirs


def _descendants(
    heirs: Mapping[TableName, list[TableName]], table: TableName
) -> tuple[TableName, ...]:
    found: dict[TableName, None] = {}
    waiting = [table]
    while waiting:
        for heir in heirs.get(waiting.pop(), ()):
            if heir not in found:
                found[heir] = None
                waiting.append(heir)
    return tuple(sorted(found))


def _leads_alike(key: ForeignKey, other: ForeignKey) -> bool:
    """Whether it leads the same columns to the same ones; inheritance keeps their names."""
    return (
        other.enforced
        and key.referenced == other.referenced
        and set(zip(key.referencing_columns, key.referenced_columns, strict=True))
        == set(zip(other.referencing_columns, other.referenced_columns, strict=True))
    )


RULES = (
    Rule(
        id="FK038",
        name="uninherited-key",
        severity=Severity.WARNING,
        condition="Tables inherit from the referencing table, and do not have the key themselves.",
        effect=(
            "Inheritance does not pass foreign keys on. Rows of those tables may reference "
            "nothing, and ON DELETE does nothing with them."
        ),
        remedy="Add the key to each of them, or make the table a partitioned one.",
        check=find_uninherited_keys,
    ),
    Rule(
        id="FK039",
        name="unreferenceable-heirs",
        severity=Severity.INFO,
        condition="Tables inherit from the referenced table.",
        effect=(
            "A foreign key sees only the rows of the table that it names. An INSERT that "
            "references a row of an inheriting table fails, although a SELECT shows the row."
        ),
        remedy=(
            "Make the table a partitioned one; or reference the table that really holds the rows."
        ),
        check=find_unreferenceable_heirs,
    ),
)
