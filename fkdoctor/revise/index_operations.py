"""Alembic operations that build any index beside the writers; importing this registers them.

`op.create_index(…, postgresql_concurrently=True)` needs an autocommit block, waits without a limit,
and leaves an invalid index behind when it is cut off, which the next try then takes for the index.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from alembic.operations import Operations
from alembic.operations.ops import CreateIndexOp
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from fkdoctor.errors import Blocked, Refused
from fkdoctor.identifier import quote
from fkdoctor.revise.ddl import drop_index
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.invocation import (
    find_table,
    is_offline,
    offline_table,
    run_online,
    write,
    write_block,
)
from fkdoctor.revise.partition_indexes import (
    WholeIndex,
    drop_whole_index,
    ensure_whole_index,
)
from fkdoctor.revise.reversible import Reversible, reversible
from fkdoctor.revise.rights import require_alterable
from fkdoctor.schema import Index, Schema, TableKind, TableName


@reversible(
    "build_index",
    "remove_index",
    """Drop the index, if it is there.

    Locks: ACCESS EXCLUSIVE on the table, for milliseconds.
    """,
)
@dataclass
class BuildIndex(Reversible):
    """Build the index beside the writers, anew where an earlier run left it half built.

    `options` are those of `op.create_index` that begin with `postgresql_`.

    Locks: SHARE UPDATE EXCLUSIVE on the table. Waits for transactions that are open when it
    begins, at most five minutes.
    """

    name: str
    table: str
    columns: tuple[Any, ...]
    _: KW_ONLY
    schema: str | None = None
    unique: bool = False
    options: dict[str, Any] | None = None

    def statement(self, schema: str) -> str:
        """The CREATE INDEX CONCURRENTLY."""
        options = {**(self.options or {}), "postgresql_concurrently": True}
        create = CreateIndexOp(
            self.name, self.table, list(self.columns), schema=schema, unique=self.unique, **options
        )
        compiled = CreateIndex(create.to_index()).compile(
            dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
            compile_kwargs={"literal_binds": True},
        )
        return str(compiled)


@Operations.implementation_for(BuildIndex)
def _build_index(operations: Operations, operation: BuildIndex) -> None:
    if is_offline(operations):
        table = offline_table(operation.table, operation.schema)
        index = TableName(table.schema, operation.name)
        if operation.undo:
            write_block(operations, drop_index(index))
            return
        with operations.get_context().autocommit_block():
            write(operations, [operation.statement(table.schema)])
        return

    def work(executor: Executor) -> bool:
        table = find_table(executor, operation.table, operation.schema)
        schema = executor.read_schema()
        if schema.has_table(table) and schema.table(table).kind is TableKind.PARTITIONED:
            whole = _whole(table, operation)
            act = drop_whole_index if operation.undo else ensure_whole_index
            return act(executor, whole)
        if operation.undo:
            return _remove(executor, table, operation.name)
        return _build(executor, table, operation)

    done = "removed" if operation.undo else "built"
    run_online(operations, f"index {operation.name} {done}", work)


def _whole(table: TableName, operation: BuildIndex) -> WholeIndex:
    if operation.unique or operation.options or not _is_plain(operation):
        raise Refused(
            f"{quote(operation.name)} cannot be built on {table}, which is partitioned.",
            why="Unique indexes, expressions and options are built here on plain tables only.",
            next="Build it on each partition (op.build_index), then on the whole: op.create_index",
        )
    return WholeIndex(table=table, columns=operation.columns, name=operation.name)


def _is_plain(operation: BuildIndex) -> bool:
    return all(isinstance(column, str) for column in operation.columns)


def _find(schema: Schema, table: TableName, name: str) -> Index | None:
    return next((index for index in schema.table(table).indexes if index.name == name), None)


def _build(executor: Executor, table: TableName, operation: BuildIndex) -> bool:
    schema = executor.read_schema()
    require_alterable(executor, schema, table)
    index = TableName(table.schema, operation.name)
    found = _find(schema, table, operation.name)
    if found is not None and found.valid:
        another = _is_plain(operation) and found.columns != operation.columns
        if found.unique != operation.unique or another:
            raise Blocked(
                f"{table} has another index named {quote(operation.name)}.",
                why=f"It is: {found.definition}.",
                next="Rename one of them.",
            )
        executor.tell(f"index {index}", "it is there")
        return False
    executor.require_quiet(table)
    if found is not None:
        executor.tell(f"index {index}", "drop what an earlier run left half built")
        executor.run(lambda: executor.execute(drop_index(index)))
    executor.tell(f"index {index}", "build it, beside the writers")
    executor.run_concurrently(operation.statement(table.schema))
    return True


def _remove(executor: Executor, table: TableName, name: str) -> bool:
    schema = executor.read_schema()
    index = TableName(table.schema, name)
    if not schema.has_table(table) or _find(schema, table, name) is None:
        executor.tell(f"index {index}", "it is gone")
        return False
    require_alterable(executor, schema, table)
    executor.tell(f"index {index}", "drop it")
    executor.run(lambda: executor.execute(drop_index(index)))
    return True
