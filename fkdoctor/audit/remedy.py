"""SQL to paste, as text: the audit never runs it.

It holds no lock for long that stops writers. Statements that fkdoctor itself runs are composed in
`fkdoctor.statement`.
"""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.identifier import quote, shorten
from fkdoctor.inspect.coverage import compared_by_cast, compared_collation
from fkdoctor.schema import Column, ForeignKey, Schema, TableKind, TableName

NOT_VALID_ON_PARTITIONED = 18
"""The first version that adds a key to a partitioned table without checking its rows at once."""


def alter_table(table: TableName, change: str) -> str:
    """The statement that does `change` to the table."""
    return f"ALTER TABLE {table} {change};"


def alter_constraint(key: ForeignKey, change: str) -> str:
    """The statement that changes when the key is checked, or whether; it reads no row."""
    return alter_table(key.referencing, f"ALTER CONSTRAINT {quote(key.name)} {change}")


def create_index(schema: Schema, key: ForeignKey, tables: tuple[TableName, ...]) -> str | None:
    """The statements that index the referencing columns in `tables`, which lack it.

    None where the columns are converted for each comparison, so that no plain index would serve.
    When a whole partitioned table lacks it, the index is built partition by partition and attached,
    which also gives it to partitions to come.
    """
    pairs = schema.column_pairs[key.oid]
    if any(compared_by_cast(*pair) for pair in pairs):
        return None
    columns = ", ".join(index_part(*pair) for pair in pairs)
    index_on = f"USING gist ({columns})" if key.period else f"({columns})"
    leaves = {leaf.name for leaf in schema.leaves(key.referencing)}
    partitioned = schema.table(key.referencing).kind is TableKind.PARTITIONED
    if not partitioned or leaves > set(tables):
        return "\n".join(f"CREATE INDEX CONCURRENTLY ON {table} {index_on};" for table in tables)
    return "\n".join(
        _index_partitions(schema, key, key.referencing, index_on, relation_names(schema), None)
    )


def index_part(here: Column, there: Column) -> str:
    """How an index has to name the referencing column `here` to find what references `there`."""
    collation = compared_collation(here, there)
    return quote(here.name) + (f" COLLATE {collation}" if collation != here.collation else "")


def _index_partitions(
    schema: Schema,
    key: ForeignKey,
    table: TableName,
    index_on: str,
    taken: set[TableName],
    parent: TableName | None,
) -> Iterator[str]:
    stem = "_".join((table.name, *key.referencing_columns))
    number = 0
    while (index := TableName(table.schema, shorten(stem, f"_idx{number or ''}"))) in taken:
        number += 1
    taken.add(index)
    if schema.table(table).kind is TableKind.PARTITIONED:
        yield f"CREATE INDEX {quote(index.name)} ON ONLY {table} {index_on};"
        for partition in schema.partitions(table):
            yield from _index_partitions(schema, key, partition.name, index_on, taken, index)
    else:
        yield f"CREATE INDEX CONCURRENTLY {quote(index.name)} ON {table} {index_on};"
    if parent:
        yield f"ALTER INDEX {parent} ATTACH PARTITION {index};"


def relation_names(schema: Schema) -> set[TableName]:
    """The names that tables, views and indexes have already; an index can have none of them."""
    names = set(schema.views)
    for table in schema.tables:
        names.add(table.name)
        names |= {TableName(table.name.schema, index.name) for index in table.indexes}
    return names


def reindex(table: TableName, index: str) -> str:
    """The statement that builds an invalid index anew."""
    return f"REINDEX INDEX CONCURRENTLY {TableName(table.schema, index)};"


def validate(key: ForeignKey) -> str:
    """The statement that checks the rows that are there, while others read and write."""
    return alter_table(key.referencing, f"VALIDATE CONSTRAINT {quote(key.name)}")


def drop(key: ForeignKey) -> str:
    """The statement that drops the key."""
    return alter_table(key.referencing, f"DROP CONSTRAINT {quote(key.name)}")


def drop_rule(table: TableName, rule: str) -> str:
    """The statement that drops the rewrite rule."""
    return f"DROP RULE {quote(rule)} ON {table};"


def recheck(schema: Schema, key: ForeignKey) -> str:
    """The statements that check a key's rows although PostgreSQL takes it for valid.

    VALIDATE does nothing on a key that is marked valid, so a twin is added, checked and dropped.
    """
    return "\n".join((*_add_twin(schema, key, key.definition), f"{_on_twin(key, 'DROP')};"))


def replace_key(schema: Schema, key: ForeignKey, definition: str) -> str:
    """The statements that put a key with another definition in the key's place, never without."""
    rename = f"RENAME CONSTRAINT {quote(_twin(key))} TO {quote(key.name)}"
    return "\n".join(
        (
            *_add_twin(schema, key, definition),
            "BEGIN;",
            drop(key),
            alter_table(key.referencing, rename),
            "COMMIT;",
        )
    )


def _twin(key: ForeignKey) -> str:
    return shorten(key.name, "_new")


def _on_twin(key: ForeignKey, verb: str) -> str:
    return f"ALTER TABLE {key.referencing} {verb} CONSTRAINT {quote(_twin(key))}"


def _add_twin(schema: Schema, key: ForeignKey, definition: str) -> tuple[str, ...]:
    partitioned = schema.table(key.referencing).kind is TableKind.PARTITIONED
    add = f"{_on_twin(key, 'ADD')} {definition.removesuffix(' NOT VALID')}"
    if partitioned and schema.major < NOT_VALID_ON_PARTITIONED:
        return (f"{add};",)
    return (f"{add} NOT VALID;", f"{_on_twin(key, 'VALIDATE')};")
