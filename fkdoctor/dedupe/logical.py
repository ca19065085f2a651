"""References that fkdoctor.toml declares, as keys that a merge follows like any other. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from fkdoctor.dedupe.obstacles import mentions, rule_obstacles
from fkdoctor.dedupe.partitions import all_indexes, excludes, known_as, lift_keys
from fkdoctor.dedupe.plan import Obstacle
from fkdoctor.identifier import quote
from fkdoctor.schema import (
    ForeignKey,
    KeyOperator,
    LogicalKey,
    LogicalReference,
    MatchType,
    ReferentialAction,
    Schema,
    TableKind,
    compared_as,
)


def follow_references(schema: Schema, references: Iterable[LogicalReference]) -> Schema:
    """The schema in which these references are keys too, but for those with an obstacle and those
    of which a row can hold several.

    Keys of partitions are those of the whole table in it.
    """
    keys = [
        _make_key(schema, reference)
        for reference in references
        if not reference.embedded and not any(reference_obstacles(schema, [reference]))
    ]
    return lift_keys(replace(schema, foreign_keys=(*schema.foreign_keys, *keys)))


def reference_obstacles(
    schema: Schema, references: Iterable[LogicalReference]
) -> Iterator[Obstacle]:
    """The references that a merge can't follow."""
    for reference in references:
        ours = schema.table(reference.referencing).column(reference.referencing_column)
        theirs = schema.table(reference.referenced).column(reference.referenced_column)
        if reference.embedded and not schema.table(reference.referencing).row_identity:
            reason = "its rows have neither primary key nor unique NOT NULL columns"
        elif ours.base_type == "json":
            reason = "it is of type json, which a change would write otherwise: use jsonb"
        elif known_as(schema, reference.referencing) != reference.referencing:
            reason = "it is a column of a partition: name that of the whole table"
        elif not reference.path and compared_as(theirs, ours) is None:
            reason = f"{ours.type} is not compared with {theirs.type}"
        else:
            continue
        yield Obstacle(subject=reference.label, reason=reason)


def _make_key(schema: Schema, reference: LogicalReference) -> ForeignKey:
    table = schema.table(reference.referencing)
    ours = table.column(reference.referencing_column)
    theirs = schema.table(reference.referenced).column(reference.referenced_column)
    left, right = compared_as(theirs, ours) or ("text", "text")
    families = {
        key.operator_family
        for index in table.indexes
        for key in index.keys
        if key.column == ours.name
    }
    return LogicalKey(
        oid=0,
        name=reference.referencing_column,
        referencing=reference.referencing,
        referencing_columns=(reference.referencing_column,),
        referenced=reference.referenced,
        referenced_columns=(reference.referenced_column,),
        on_delete=ReferentialAction.NO_ACTION,
        on_update=ReferentialAction.NO_ACTION,
        set_columns=(),
        match=MatchType.SIMPLE,
        deferrable=False,
        initially_deferred=False,
        validated=False,
        enforced=False,
        period=False,
        operators=(
            KeyOperator(
                name="pg_catalog.=",
                left_type=left,
                right_type=right,
                families=frozenset(families),
            ),
        ),
        triggers=(),
        clones=(),
        comment=None,
        definition=f"{reference.arrow} where {reference.condition}",
        condition=reference.condition,
        columns=tuple(column.name for column in table.columns),
        partitioned=table.kind is TableKind.PARTITIONED,
    )


def embedded_obstacles(schema: Schema, reference: LogicalReference) -> Iterator[Obstacle]:
    """What stands against changing the values that hold the references, given that there are
    some."""
    table = schema.table(reference.referencing)
    name = reference.referencing_column
    reasons = []
    if table.column(name).generated:
        reasons.append(f"{quote(name)} is a generated column")
    reasons += [
        f"{quote(index.name)} is unique over it, where collisions are not foreseen"
        for part, index in all_indexes(schema, table)
        if (index.unique or excludes(part, index)) and mentions(index, {name})
    ]
    yield from (Obstacle(subject=reference.label, reason=reason) for reason in reasons)
    yield from rule_obstacles(table, table.rules)
