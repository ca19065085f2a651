"""Builds an index on a partitioned table beside the writers: leaf by leaf, then as one.

CREATE INDEX CONCURRENTLY knows no partitioned table. A plain CREATE INDEX on one takes over, from
each partition, an index that is equal, and builds none there (DefineIndex, indexcmds.c): so it
lasts a moment once every leaf has one. Partitions to come get theirs from it.
"""

from __future__ import annotations

from functools import partial

from fkdoctor.errors import Incomplete
from fkdoctor.identifier import quote_all
from fkdoctor.inspect.coverage import Support, index_fit
from fkdoctor.revise.ddl import comment_as_created, create_whole_index, drop_index
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.indexes import IndexWish, ensure_index, find_keys, name_index
from fkdoctor.revise.mark import is_created
from fkdoctor.revise.rights import require_alterable
from fkdoctor.schema import ForeignKey, Index, Schema, Table, TableName

_MOST_ROUNDS = 12


def index_partitions(
    executor: Executor, table: TableName, columns: tuple[str, ...], name: str
) -> bool:
    """Whether an index had to be built for the foreign keys on these columns.

    Where some partitions have one of their own, only the others get one, and the whole table none:
    it would take those over, and could not be dropped without them.
    """
    whole = TableName(table.schema, name)
    for _ in range(_MOST_ROUNDS):
        schema = executor.read_schema()
        require_alterable(executor, schema, table, partitioned=True)
        keys = find_keys(schema, table, columns)
        leaves = schema.leaves(table)
        theirs = [leaf.name for leaf in leaves if _has_its_own(schema, keys, leaf, columns)]
        done = _find(schema.table(table), name) is not None or len(theirs) == len(leaves) > 0
        if done:
            executor.tell(f"index {whole}", "it is there and serves")
            return executor.steps > 0
        for leaf in leaves:
            if leaf.name not in theirs:
                ensure_index(executor, _wish(leaf.name, columns))
        if theirs:
            executor.warn(
                f"index {whole}",
                f"{theirs[0]} and others have their own: partitions to come will have none",
            )
            return executor.steps > 0
        executor.require_quiet(table, *(leaf.name for leaf in leaves))
        executor.tell(f"index {whole}", "make one of those of the partitions")
        if executor.run(partial(_join, executor, schema, table, columns, whole)):
            return True
    raise Incomplete(
        f"The index {whole} does not come about.",
        why=f"Again and again {table} gets another partition meanwhile.",
        next="Run the same command again when no partitions are added.",
    )


def _find(table: Table, name: str) -> Index | None:
    return next((index for index in table.indexes if index.name == name), None)


def _has_its_own(
    schema: Schema, keys: tuple[ForeignKey, ...], leaf: Table, columns: tuple[str, ...]
) -> bool:
    """Whether an index serves there that was not created here."""
    building = _wish(leaf.name, columns).building.name
    return any(
        all(index_fit(schema, key, leaf.name, index).support is Support.FULLY for key in keys)
        for index in leaf.indexes
        if index.name != building and not (is_created(index.comment) and _is_equal(index, columns))
    )


def _wish(table: TableName, columns: tuple[str, ...]) -> IndexWish:
    return IndexWish(
        table=table,
        columns=columns,
        predicate=None,
        name=name_index(table.name, columns),
        serves=lambda index: _is_equal(index, columns),
    )


def _is_equal(index: Index, columns: tuple[str, ...]) -> bool:
    """Whether PostgreSQL would take the index over instead of building one."""
    plain = f" USING btree ({quote_all(columns)})"
    return index.valid and not index.unique and index.definition.endswith(plain)


def _join(
    executor: Executor,
    schema: Schema,
    table: TableName,
    columns: tuple[str, ...],
    whole: TableName,
) -> bool:
    """Whether the index on the whole table was made; False when a leaf lacks one after all."""
    executor.lock("share", schema.table(table))
    now = executor.read_schema()
    for leaf in now.leaves(table):
        if not any(_is_equal(index, columns) for index in leaf.indexes):
            return False
    executor.execute(create_whole_index(whole.name, table, columns))
    executor.execute(comment_as_created("index", str(whole)))
    return True


def drop_partition_indexes(
    executor: Executor, table: TableName, columns: tuple[str, ...], name: str
) -> bool:
    """Whether indexes had been created here; now they are gone."""
    schema = executor.read_schema()
    require_alterable(executor, schema, table, partitioned=True)
    whole = TableName(table.schema, name)
    found = _find(schema.table(table), name)
    if found is not None and not is_created(found.comment):
        executor.tell(str(whole), "it was not created here: left as it is")
        return False
    created = [whole] if found is not None else _created_on_leaves(schema, table, columns)
    for index in created:
        executor.tell(str(index), "drop it")
        executor.run(partial(_drop, executor, schema, table, index))
    return bool(created)


def _created_on_leaves(
    schema: Schema, table: TableName, columns: tuple[str, ...]
) -> list[TableName]:
    return [
        TableName(leaf.name.schema, index.name)
        for leaf in schema.leaves(table)
        for index in leaf.indexes
        if _is_equal(index, columns)
        and (is_created(index.comment) or index.name == _wish(leaf.name, columns).building.name)
    ]


def _drop(executor: Executor, schema: Schema, table: TableName, index: TableName) -> None:
    executor.lock("access exclusive", schema.table(table))
    executor.execute(drop_index(index))
