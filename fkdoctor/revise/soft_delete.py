"""Soft delete: a nullable `deleted_at`, and the index that finds the deleted rows.

Adding the column changes no row and takes its lock for a moment. The index holds only deleted rows,
so it costs the live ones nothing; it serves the purge of what was deleted long ago.
"""

from __future__ import annotations

from fkdoctor.errors import Refused
from fkdoctor.identifier import quote
from fkdoctor.revise import indexes
from fkdoctor.revise.ddl import (
    block,
    comment_as_created,
    drop_index,
    is_marked,
    last_line,
    literal,
    lock_table,
    refuse,
)
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.indexes import IndexWish, ensure_index, name_index
from fkdoctor.revise.mark import CREATED
from fkdoctor.revise.rights import require_alterable
from fkdoctor.schema import Index, TableName

COLUMN_TYPE = "timestamp with time zone"


def add_soft_delete(executor: Executor, table: TableName, column: str) -> bool:
    """Whether the column or its index was missing.

    A column that is there and fits is left as it is. Raises Refused for one that does not fit.
    """
    schema = executor.read_schema()
    before = require_alterable(executor, schema, table)
    heirs = [str(other.name) for other in schema.tables if table in other.inherits]
    if heirs:
        raise Refused(
            f"Other tables inherit from {table}.",
            why=f"They would get the column too: {', '.join(heirs)}.",
            next="Add the column by hand where it is wanted.",
        )
    what = "it is there" if before.has_column(column) else f"add it, {COLUMN_TYPE}, empty"
    executor.tell(f"{table}.{quote(column)}", what)
    if not before.has_column(column):
        executor.require_quiet(table)
    executor.run(lambda: executor.execute(compose_column(table, column)))
    added = not before.has_column(column)
    return ensure_index(executor, _wish_index(table, column)) or added


def compose_column(table: TableName, column: str) -> str:
    """The statement that adds and marks the column, or refuses one that does not fit."""
    unfit = refuse(
        f"kind <> '{COLUMN_TYPE}' or fixed",
        what=f"{literal(f'{table}.{quote(column)} cannot hold the time of a soft delete.')}",
        why="'It is ' || kind || case when fixed then ', and cannot be NULL.' else '.' end",
        next=literal('Choose another column (column="…"), or change that one.'),
    )
    return block(
        f"""
    select pg_catalog.format_type(a.atttypid, null), a.attnotnull or a.attgenerated <> ''
    into kind, fixed
    from pg_catalog.pg_attribute as a
    where a.attrelid = cast({literal(str(table))} as pg_catalog.regclass)
        and a.attname = {literal(column)} and a.attnum > 0 and not a.attisdropped;
    if not found then
        alter table only {table} add column {quote(column)} {COLUMN_TYPE};
        {comment_as_created("column", f"{table}.{quote(column)}")};
        return;
    end if;
    {unfit}""",  # noqa: S608  names are quoted, texts are literals
        declare=("kind text", "fixed boolean"),
    )


def compose_index(table: TableName, column: str) -> tuple[str, ...]:
    """The statements that build and mark the index, for a database where none serves."""
    wish = _wish_index(table, column)
    return indexes.compose_index(table, wish.columns, wish.predicate, wish.name)


def _is_deleted(column: str) -> str:
    return f"{quote(column)} is not null"


def _wish_index(table: TableName, column: str) -> IndexWish:
    def serves(index: Index) -> bool:
        return (
            index.valid
            and index.live
            and index.method == "btree"
            and index.keys[0].column == column
            and index.predicate in (None, f"({quote(column)} IS NOT NULL)")
        )

    return IndexWish(
        table=table,
        columns=(column,),
        predicate=_is_deleted(column),
        name=name_index(table.name, (column,)),
        serves=serves,
    )


def drop_soft_delete(executor: Executor, table: TableName, column: str) -> bool:
    """Whether the column or the index had been created here; now that is gone.

    Raises Refused, with nothing dropped, while rows are soft-deleted: they would live again.
    """
    schema = executor.read_schema()
    before = require_alterable(executor, schema, table)
    executor.tell(f"{table}.{quote(column)}", "drop what was created here")
    executor.require_quiet(table)
    executor.run(lambda: executor.execute(compose_removal(table, column)))
    after = executor.read_schema().table(table)
    return (before.columns, before.indexes) != (after.columns, after.indexes)


def compose_removal(table: TableName, column: str) -> str:
    """The statement that drops the column and the index, each only if it is marked."""
    index = TableName(table.schema, name_index(table.name, (column,)))
    comment = f"""\
(
        select d.description
        from pg_catalog.pg_attribute as a
        join pg_catalog.pg_description as d
            on d.objoid = a.attrelid and d.objsubid = a.attnum
            and d.classoid = cast('pg_catalog.pg_class' as pg_catalog.regclass)
        where a.attrelid = cast({literal(str(table))} as pg_catalog.regclass)
            and a.attname = {literal(column)} and not a.attisdropped
    )"""  # noqa: S608  texts are literals
    deleted = refuse(
        f"exists (select from only {table} where {_is_deleted(column)})",
        what=literal(f"{table} has soft-deleted rows."),
        why=literal(f"Without {quote(column)} they would be live again."),
        next=literal("Restore them (set it to NULL) or delete them first."),
        indent=8,
    )
    return block(
        f"""
    -- Row security must not hide rows from the check.
    perform pg_catalog.set_config('row_security', 'off', true);
    if {last_line(comment)} = {literal(CREATED)} then
        {lock_table(table, "access exclusive")};
        {deleted}
        alter table only {table} drop column {quote(column)};
    elsif {is_marked(literal(str(index)))} then
        {drop_index(index)};
    end if;"""
    )
