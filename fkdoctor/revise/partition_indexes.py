"""Builds an index on a partitioned table beside the writers: leaf by leaf, then as one.

CREATE INDEX CONCURRENTLY knows no partitioned table. A plain CREATE INDEX on one takes over, from
each partition, an index that is equal, and builds none there (DefineIndex, indexcmds.c): so it
lasts a moment once every leaf has one. Partitions to come get theirs from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fkdoctor.errors import Incomplete
from fkdoctor.identifier import quote_all
from fkdoctor.inspect.coverage import Support, index_fit
from fkdoctor.revise.ddl import comment_as_created, create_whole_index, drop_index
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.indexes import IndexWish, ensure_index, find_keys, name_index, name_taken
from fkdoctor.revise.mark import is_created
from fkdoctor.revise.rights import require_alterable
from fkdoctor.schema import Index, Schema, Table, TableName

_MOST_ROUNDS = 12


@dataclass(frozen=True, kw_only=True)
class WholeIndex:
    """An index to have on a partitioned table, or else on each of its leaves.

    `predicate` is as PostgreSQL prints it, in parentheses; `serves` says of a leaf and an index
    that is there whether that will do as well.
    """

    table: TableName
    columns: tuple[str, ...]
    name: str
    predicate: str | None = None
    serves: Callable[[Table, Index], bool] = lambda leaf, index: False

    @property
    def qualified(self) -> TableName:
        """The index with its schema, which is always the table's."""
        return TableName(self.table.schema, self.name)

    def is_met(self, index: Index) -> bool:
        """Whether PostgreSQL would take the index over instead of building one."""
        end = f" USING btree ({quote_all(self.columns)})"
        end += f" WHERE {self.predicate}" if self.predicate else ""
        return index.valid and not index.unique and index.definition.endswith(end)

    def on_leaf(self, leaf: TableName) -> IndexWish:
        """The index of one leaf."""
        return IndexWish(
            table=leaf,
            columns=self.columns,
            predicate=self.predicate,
            name=name_index(leaf.name, self.columns),
            serves=self.is_met,
        )

    def has_its_own(self, leaf: Table) -> bool:
        """Whether an index serves there that was not created here."""
        building = self.on_leaf(leaf.name).building.name
        return any(
            self.serves(leaf, index)
            for index in leaf.indexes
            if index.name != building and not (is_created(index.comment) and self.is_met(index))
        )


def index_partitions(
    executor: Executor, table: TableName, columns: tuple[str, ...], name: str
) -> bool:
    """Whether an index had to be built for the foreign keys on these columns."""
    schema = executor.read_schema()
    keys = find_keys(schema, table, columns)

    def serves(leaf: Table, index: Index) -> bool:
        return all(
            index_fit(schema, key, leaf.name, index).support is Support.FULLY for key in keys
        )

    return ensure_whole_index(
        executor, WholeIndex(table=table, columns=columns, name=name, serves=serves)
    )


def ensure_whole_index(executor: Executor, wish: WholeIndex) -> bool:
    """Whether an index had to be built.

    Where some partitions have one of their own, only the others get one, and the whole table none:
    it would take those over, and could not be dropped without them.
    """
    table, subject = wish.table, f"index {wish.qualified}"
    for _ in range(_MOST_ROUNDS):
        schema = executor.read_schema()
        require_alterable(executor, schema, table, partitioned=True)
        leaves = schema.leaves(table)
        theirs = [leaf.name for leaf in leaves if wish.has_its_own(leaf)]
        if _is_there(schema.table(table), wish) or len(theirs) == len(leaves) > 0:
            executor.tell(subject, "it is there and serves")
            return executor.steps > 0
        for leaf in leaves:
            if leaf.name not in theirs:
                ensure_index(executor, wish.on_leaf(leaf.name))
        if theirs:
            executor.warn(
                subject,
                f"{theirs[0]} and others have their own: partitions to come will have none",
            )
            return executor.steps > 0
        executor.require_quiet(table, *(leaf.name for leaf in leaves))
        executor.tell(subject, "make one of those of the partitions")
        if executor.run(partial(_join, executor, schema, wish)):
            return True
    raise Incomplete(
        f"The {subject} does not come about.",
        why=f"Again and again {table} gets another partition meanwhile.",
        next="Run the same command again when no partitions are added.",
    )


def _is_there(table: Table, wish: WholeIndex) -> bool:
    """Whether the whole table has it; Blocked if another index has its name."""
    for index in table.indexes:
        if index.name == wish.name:
            if not (wish.is_met(index) or wish.serves(table, index)):
                raise name_taken(wish.qualified, wish.table, wish.columns)
            return True
    return False


def _join(executor: Executor, schema: Schema, wish: WholeIndex) -> bool:
    """Whether the index on the whole table was made; False when a leaf lacks one after all."""
    executor.lock("share", schema.table(wish.table))
    now = executor.read_schema()
    for leaf in now.leaves(wish.table):
        if not any(wish.is_met(index) for index in leaf.indexes):
            return False
    executor.execute(create_whole_index(wish.name, wish.table, wish.columns, wish.predicate))
    executor.execute(comment_as_created("index", str(wish.qualified)))
    return True


def drop_partition_indexes(
    executor: Executor, table: TableName, columns: tuple[str, ...], name: str
) -> bool:
    """Whether indexes had been created here; now they are gone."""
    return drop_whole_index(executor, WholeIndex(table=table, columns=columns, name=name))


def drop_whole_index(executor: Executor, wish: WholeIndex) -> bool:
    """Whether it, or an index of a leaf, had been created here; now they are gone."""
    schema, table = executor.read_schema(), wish.table
    require_alterable(executor, schema, table, partitioned=True)
    found = next((one for one in schema.table(table).indexes if one.name == wish.name), None)
    if found is not None and not is_created(found.comment):
        executor.tell(str(wish.qualified), "it was not created here: left as it is")
        return False
    created = [wish.qualified] if found is not None else _created_on_leaves(schema, wish)
    for index in created:
        executor.tell(str(index), "drop it")
        executor.run(partial(_drop, executor, schema, table, index))
    return bool(created)


def _created_on_leaves(schema: Schema, wish: WholeIndex) -> list[TableName]:
    return [
        TableName(leaf.name.schema, index.name)
        for leaf in schema.leaves(wish.table)
        for index in leaf.indexes
        if index.name == wish.on_leaf(leaf.name).building.name
        or (wish.is_met(index) and is_created(index.comment))
    ]


def _drop(executor: Executor, schema: Schema, table: TableName, index: TableName) -> None:
    executor.lock("access exclusive", schema.table(table))
    executor.execute(drop_index(index))
