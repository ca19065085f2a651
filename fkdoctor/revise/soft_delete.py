"""Soft delete: columns that say when and by which deletion, an index that finds the deleted rows.

Adding the columns changes no row and takes its lock for a moment. The index holds deleted rows
only, so it costs the live ones nothing; it serves restoring a deletion, whose rows have one time,
and the purge of what was deleted long ago.

`deletion_id` has no foreign key into the ledger: see docs/decisions/0008-soft-delete.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from fkdoctor.errors import Refused
from fkdoctor.identifier import quote
from fkdoctor.inspect.graph import partition_family
from fkdoctor.revise import guard, live_view, uniqueness
from fkdoctor.revise.ddl import (
    block,
    comment_as_created,
    create_index,
    drop_index,
    is_marked,
    last_line,
    literal,
    lock_table,
    refuse,
)
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.indexes import (
    IndexWish,
    drop_reference_index,
    ensure_index,
    name_index,
)
from fkdoctor.revise.mark import CREATED
from fkdoctor.revise.partition_indexes import (
    WholeIndex,
    drop_whole_index,
    ensure_whole_index,
)
from fkdoctor.revise.rights import require_alterable
from fkdoctor.schema import ForeignKey, Index, Table, TableKind, TableName

TIME_TYPE = "timestamp with time zone"
ID_TYPE = "uuid"


@dataclass(frozen=True, kw_only=True)
class SoftDelete:
    """What a table is to have. `unique_keys` is None for every one that can be made partial."""

    table: TableName
    column: str
    deletion_column: str
    unique_keys: tuple[str, ...] | None
    view: str | None
    guard: bool
    partitioned: bool = False

    @property
    def only(self) -> str:
        """What a statement about the table says before its name."""
        return "" if self.partitioned else "only "

    @property
    def columns(self) -> tuple[tuple[str, str, str], ...]:
        """Name, type and purpose of both columns."""
        return (
            (self.column, TIME_TYPE, "the time of a soft delete"),
            (self.deletion_column, ID_TYPE, "the id of a deletion"),
        )


def add_soft_delete(executor: Executor, wish: SoftDelete) -> bool:
    """Whether anything was missing: columns, index, partial unique keys, view, guard.

    A column that is there and fits is left as it is. Raises Refused for one that does not fit.
    """
    schema = executor.read_schema()
    table = wish.table
    before = require_alterable(executor, schema, table, partitioned=True)
    wish = replace(wish, partitioned=before.kind is TableKind.PARTITIONED)
    _refuse_partition(before)
    heirs = [str(other.name) for other in schema.tables if table in other.inherits]
    if heirs:
        raise Refused(
            f"Other tables inherit from {table}.",
            why=f"They would get the column too: {', '.join(heirs)}.",
            next="Add the column by hand where it is wanted.",
        )
    for column, type_, _ in wish.columns:
        what = "it is there" if before.has_column(column) else f"add it, {type_}, empty"
        executor.tell(f"{table}.{quote(column)}", what)
    changed = not all(before.has_column(column) for column, _, _ in wish.columns)
    if changed:
        executor.require_quiet(*partition_family(schema, table))
    executor.run(lambda: executor.execute(compose_columns(wish)))
    changed = _ensure_index(executor, wish) or changed
    changed = uniqueness.make_partial(executor, table, wish.column, wish.unique_keys) or changed
    if wish.view is not None:
        changed = _add_view(executor, wish, wish.view) or changed
    if wish.guard:
        changed = _add_guards(executor, wish) or changed
    return changed


def _refuse_partition(table: Table) -> None:
    if table.partition_of is not None:
        raise Refused(
            f"{table.name} is a partition of {table.partition_of}.",
            why="A partition has the columns of the whole table, no more and no fewer.",
            next=f"Name the whole table: {table.partition_of}",
        )


def compose_columns(wish: SoftDelete) -> str:
    """The statement that adds and marks the columns, or refuses one that does not fit."""
    return block(
        "\n    ".join(_compose_column(wish, *column) for column in wish.columns),
        declare=("kind text", "fixed boolean"),
    )


def _compose_column(wish: SoftDelete, column: str, type_: str, purpose: str) -> str:
    table = wish.table
    unfit = refuse(
        f"kind <> '{type_}' or fixed",
        what=f"{literal(f'{table}.{quote(column)} cannot hold {purpose}.')}",
        why="'It is ' || kind || case when fixed then ', and cannot be NULL.' else '.' end",
        next=literal('Choose another column (column="…"), or change that one.'),
    )
    return f"""\
select pg_catalog.format_type(a.atttypid, null), a.attnotnull or a.attgenerated <> ''
    into kind, fixed
    from pg_catalog.pg_attribute as a
    where a.attrelid = cast({literal(str(table))} as pg_catalog.regclass)
        and a.attname = {literal(column)} and a.attnum > 0 and not a.attisdropped;
    if not found then
        alter table {wish.only}{table} add column {quote(column)} {type_};
        {comment_as_created("column", f"{table}.{quote(column)}")};
        kind := '{type_}';
        fixed := false;
    end if;
    {unfit}"""  # noqa: S608  names are quoted, texts are literals


def compose_index(wish: SoftDelete) -> tuple[str, ...]:
    """The statements of a script that build and mark the index, unless its name is taken.

    Another revision may have built it. That it serves is not looked at.
    """
    index = _wish_index(wish.table, wish.column)
    create = create_index(index.name, wish.table, index.columns, index.predicate)
    name = literal(str(index.qualified))
    before = f"cast(pg_catalog.to_regclass({name}) is null as pg_catalog.text)"
    return (
        # Outside of a transaction only the session can remember.
        block(f"perform pg_catalog.set_config('fkdoctor.absent', {before}, false);"),
        create.replace("concurrently ", "concurrently if not exists ", 1),
        block(
            f"""
    if pg_catalog.current_setting('fkdoctor.absent') = 'true' then
        {comment_as_created("index", str(index.qualified))};
    end if;"""
        ),
    )


def _is_deleted(column: str) -> str:
    """The condition, as PostgreSQL prints it but for the parentheses."""
    return f"{quote(column)} IS NOT NULL"


def _index_serves(column: str, index: Index) -> bool:
    return (
        index.valid
        and index.live
        and index.method == "btree"
        and index.keys[0].column == column
        and index.predicate in (None, f"({_is_deleted(column)})")
    )


def _wish_index(table: TableName, column: str) -> IndexWish:
    return IndexWish(
        table=table,
        columns=(column,),
        predicate=_is_deleted(column),
        name=name_index(table.name, (column,)),
        serves=partial(_index_serves, column),
    )


def _wish_whole_index(table: TableName, column: str) -> WholeIndex:
    return WholeIndex(
        table=table,
        columns=(column,),
        predicate=f"({_is_deleted(column)})",
        name=name_index(table.name, (column,)),
        serves=lambda leaf, index: _index_serves(column, index),
    )


def _ensure_index(executor: Executor, wish: SoftDelete) -> bool:
    if wish.partitioned:
        return ensure_whole_index(executor, _wish_whole_index(wish.table, wish.column))
    return ensure_index(executor, _wish_index(wish.table, wish.column))


def _add_view(executor: Executor, wish: SoftDelete, view: str) -> bool:
    name = TableName(wish.table.schema, view)
    missing = name not in executor.read_schema().views
    what = "create it, of the live rows" if missing else "it is there"
    executor.tell(f"view {name}", what)
    executor.run(lambda: executor.execute(compose_view(wish, view)))
    return missing


def compose_view(wish: SoftDelete, view: str) -> str:
    """The statement that creates the view of live rows."""
    return live_view.compose_view(wish.table, view, (wish.column, wish.deletion_column))


def _add_guards(executor: Executor, wish: SoftDelete) -> bool:
    schema = executor.read_schema()
    keys = guard.guarded_keys(schema, wish.table, wish.column)
    for key in set(schema.keys_from(wish.table)) - set(keys):
        executor.tell(key.label, f"no guard: {guard.reason_against(schema, key, wish.column)}")
    changed = False
    for key in keys:
        require_alterable(executor, schema, key.referenced, partitioned=True)
        name = guard.name_guard(key)
        triggers = schema.table(key.referencing).triggers
        if any(trigger.function == str(name) for trigger in triggers):
            executor.tell(key.label, "it is guarded")
            continue
        executor.tell(key.label, "guard it: no live row may reference a soft-deleted one")
        statements = tuple(guard.compose_guard(schema, key, wish.column))

        def install(key: ForeignKey = key, statements: tuple[str, ...] = statements) -> None:
            both = (schema.table(key.referenced), schema.table(key.referencing))
            executor.lock("share row exclusive", *both)
            for statement in statements:
                executor.execute(statement)

        executor.run(install)
        changed = True
    return changed


def drop_soft_delete(executor: Executor, wish: SoftDelete) -> bool:
    """Whether anything had been created here; now that is gone, and unique keys are full again.

    Raises Refused, with nothing dropped, while rows are soft-deleted: they would live again.
    """
    table = wish.table
    schema = executor.read_schema()
    before = require_alterable(executor, schema, table, partitioned=True)
    wish = replace(wish, partitioned=before.kind is TableKind.PARTITIONED)
    _refuse_partition(before)
    executor.require_quiet(*partition_family(schema, table))
    if uniqueness.is_changed(executor, table):
        executor.run(lambda: executor.execute(block(_refuse_deleted(wish))))
        uniqueness.make_full(executor, table, wish.column)
    executor.tell(str(table), "drop what was created here for its soft delete")

    def remove() -> None:
        # Dropping a guard locks the other table too.
        executor.lock("access exclusive", *guard.guarded_tables(schema, table))
        executor.execute(compose_removal(wish))

    executor.run(remove)
    # What an earlier run left half built, and of which the column was not ours.
    uniqueness.clear_unfinished(executor, table, wish.column)
    _drop_index(executor, wish)
    after = executor.read_schema().table(table)
    return _shape(before) != _shape(after)


def _drop_index(executor: Executor, wish: SoftDelete) -> None:
    """Drops the index, or what there is of it, if it was created here."""
    if wish.partitioned:
        drop_whole_index(executor, _wish_whole_index(wish.table, wish.column))
    else:
        name = name_index(wish.table.name, (wish.column,))
        drop_reference_index(executor, wish.table, (wish.column,), name)


def _shape(table: Table) -> tuple[object, ...]:
    return table.columns, table.indexes, table.triggers


def _comment_of(table: TableName, column: str) -> str:
    return f"""\
(
        select d.description
        from pg_catalog.pg_attribute as a
        join pg_catalog.pg_description as d
            on d.objoid = a.attrelid and d.objsubid = a.attnum
            and d.classoid = cast('pg_catalog.pg_class' as pg_catalog.regclass)
        where a.attrelid = cast({literal(str(table))} as pg_catalog.regclass)
            and a.attname = {literal(column)} and not a.attisdropped
    )"""  # noqa: S608  texts are literals


def _is_created(table: TableName, column: str) -> str:
    return f"{last_line(_comment_of(table, column))} = {literal(CREATED)}"


def _refuse_deleted(wish: SoftDelete) -> str:
    """PL/pgSQL that refuses where a column that would be dropped says something of a row."""
    checks = ["perform pg_catalog.set_config('row_security', 'off', true);"]
    for column, _, _ in wish.columns:
        deleted = refuse(
            f"exists (select from {wish.only}{wish.table} where {_is_deleted(column)})",
            what=literal(f"{wish.table} has soft-deleted rows."),
            why=literal(f"Without {quote(column)} they would be live again.")
            if column == wish.column
            else literal(f"Without {quote(column)} nothing says by which deletion."),
            next=literal("Restore them (fkdoctor restore) or delete them (fkdoctor purge) first."),
            indent=8,
        )
        checks.append(f"if {_is_created(wish.table, column)} then\n        {deleted}\n    end if;")
    return "-- Row security must not hide rows from the check.\n    " + "\n    ".join(checks)


def compose_removal(wish: SoftDelete) -> str:
    """The statement that drops guards, views, columns and index, each only if it is marked."""
    table = wish.table
    index = TableName(table.schema, name_index(table.name, (wish.column,)))
    drops = "\n    ".join(
        f"if {_is_created(table, column)} then\n"
        f"        alter table {wish.only}{table} drop column {quote(column)};\n"
        f"    end if;"
        for column, _, _ in wish.columns
    )
    any_created = " or ".join(_is_created(table, column) for column, _, _ in wish.columns)
    return block(
        f"""
    if {any_created} then
        {lock_table(table, "access exclusive", partitions=wish.partitioned)};
    end if;
    {_refuse_deleted(wish)}
{guard.compose_removal(table)}
{live_view.compose_removal(table)}
    {drops}
    -- Under a column of ours it went with that.
    if {is_marked(literal(str(index)))} then
        {drop_index(index)};
    end if;""",
        declare=("guard record", "glance record"),
    )
