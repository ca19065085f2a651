"""References that the audit takes a column for (FK048), as keys to adopt.

Done only where somebody asks for the rule by its id: a guess from names may be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fkdoctor.audit import Finding
from fkdoctor.audit.remedy import relation_names
from fkdoctor.config import PolicyConfig
from fkdoctor.identifier import quote, shorten
from fkdoctor.inspect.logical import find_likenesses
from fkdoctor.revise.fixes import Fix, Left, find_policy
from fkdoctor.revise.index_operations import BuildIndex
from fkdoctor.revise.indexes import name_index
from fkdoctor.revise.reference_operations import AdoptReference
from fkdoctor.schema import LogicalReference, Schema, TableName

UNDECLARED = "FK048"


def plan_adoptions(
    schema: Schema, findings: Iterable[Finding], policies: Sequence[PolicyConfig]
) -> tuple[tuple[Fix, ...], tuple[Left, ...]]:
    """The keys for the columns that FK048 found, with the index each needs; and what is left."""
    guessed = {one.reference.label: one.reference for one in find_likenesses(schema)}
    fixes: list[Fix] = []
    left: list[Left] = []
    for finding in findings:
        if finding.rule.id != UNDECLARED:
            continue
        planned = _plan(schema, guessed[finding.subject], policies, finding)
        if isinstance(planned, Left):
            left.append(planned)
        else:
            fixes.append(planned)
    return tuple(fixes), tuple(left)


def _plan(
    schema: Schema,
    reference: LogicalReference,
    policies: Sequence[PolicyConfig],
    finding: Finding,
) -> Fix | Left:
    table = schema.table(reference.referencing)
    column = table.column(reference.referencing_column)
    policy = find_policy(reference, policies)
    on_delete = (policy and policy.on_delete) or "NO ACTION"
    on_update = (policy and policy.on_update) or "NO ACTION"
    dangling = policy.dangling if policy else "refuse"
    if column.not_null and "SET NULL" in (on_delete, on_update, dangling.upper()):
        reason = f"SET NULL would fail: {quote(column.name)} is NOT NULL."
        return Left(subject=finding.key, reason=reason)
    adopt = AdoptReference(
        table=table.name.name,
        columns=(column.name,),
        referenced_table=reference.referenced.name,
        referenced_columns=(reference.referenced_column,),
        schema=table.name.schema,
        referenced_schema=reference.referenced.schema,
        name=shorten(f"{table.name.name}_{column.name}", "_fkey"),
        on_delete=on_delete,
        on_update=on_update,
        dangling=dangling,
    )
    return Fix(
        key=reference,
        operations=(*_index(schema, reference), adopt),
        reasons=(finding.key,),
    )


def _index(schema: Schema, reference: LogicalReference) -> tuple[BuildIndex, ...]:
    """The index, first, so that no DELETE reads the whole table once the key is there."""
    table = schema.table(reference.referencing)
    column = table.column(reference.referencing_column)
    for index in table.indexes:
        first = index.keys[0] if index.keys else None
        serves = index.valid and index.predicate is None and index.method == "btree"
        if serves and first and (first.column, first.collation) == (column.name, column.collation):
            return ()
    taken = relation_names(schema)
    name, number = name_index(table.name.name, (column.name,)), 0
    while TableName(table.name.schema, name) in taken:
        number += 1
        name = shorten(f"{table.name.name}_{column.name}", f"_idx{number}")
    return (
        BuildIndex(
            name=name, table=table.name.name, columns=(column.name,), schema=table.name.schema
        ),
    )
