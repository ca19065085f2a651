"""Drops a foreign key that says again what another one says, and adds it again."""

from __future__ import annotations

from fkdoctor.errors import Refused, UnknownName
from fkdoctor.identifier import quote
from fkdoctor.revise.ddl import drop_key
from fkdoctor.revise.definition import parse_definition
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.keys import Task, fulfil
from fkdoctor.revise.mark import KeyText
from fkdoctor.revise.rights import require_alterable
from fkdoctor.schema import ForeignKey, Schema, TableName


def same_reference(key: ForeignKey) -> tuple[object, ...]:
    """What two keys have in common that hold the same columns to the same columns."""
    pairs = zip(key.referencing_columns, key.referenced_columns, strict=True)
    return key.referencing, key.referenced, tuple(sorted(pairs))


def find_twins(schema: Schema, key: ForeignKey) -> tuple[ForeignKey, ...]:
    """The other keys that hold the same columns to the same columns."""
    return tuple(
        other
        for other in schema.keys_from(key.referencing)
        if other.name != key.name and same_reference(other) == same_reference(key)
    )


def drop_duplicate(executor: Executor, table: TableName, name: str) -> bool:
    """Whether the key was there; now it is dropped.

    Raises Refused unless another one, validated and enforced, holds the same columns.
    """
    schema = executor.read_schema()
    require_alterable(executor, schema, table, partitioned=True)
    try:
        key = schema.foreign_key(table, name)
    except UnknownName:
        executor.tell(f"{table}.{quote(name)}", "it is gone")
        return False
    twins = find_twins(schema, key)
    if not any(twin.validated and twin.enforced for twin in twins):
        raise Refused(
            f"{key.label} is not said again by a key that is in force.",
            why=f"{', '.join(twin.label for twin in twins) or 'No other key'} holds {key.arrow}"
            + (", but is not validated." if twins else "."),
            next="Validate that one first, or drop this one by hand.",
        )
    tables = (schema.table(key.referenced), schema.table(table))
    executor.require_quiet(*(each.name for each in tables))

    def work() -> None:
        executor.lock("access exclusive", *tables)
        executor.execute(drop_key(table, name))

    executor.tell(key.label, "drop it")
    executor.run(work)
    return True


def restore_duplicate(executor: Executor, table: TableName, name: str, was: KeyText) -> bool:
    """Whether the key had to be added again."""
    schema = executor.read_schema()
    if any(key.name == name for key in schema.keys_from(table)):
        return False
    definition = parse_definition(was.definition)
    referenced = schema.resolve_table(definition.referenced)
    task = Task(table=table, name=name, intend=lambda key: None, adopt=was, referenced=referenced)
    return fulfil(executor, task)
