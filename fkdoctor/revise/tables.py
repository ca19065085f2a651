"""Tables that are created only where there are none, and dropped only where that was done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from fkdoctor.identifier import quote
from fkdoctor.revise.ddl import block, comment_as_created, is_marked, last_line, literal, refuse
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.mark import CREATED, is_created
from fkdoctor.schema import TableName


def create_absent(executor: Executor, schema: str, tables: Mapping[str, str]) -> bool:
    """Whether a table was missing. Creates the schema and those tables, in one transaction.

    `tables` maps each name to the statements that make it, referenced tables first.
    """
    before = executor.read_schema()
    names = [TableName(schema, table) for table in tables]
    absent = [name for name in names if not before.has_table(name)]
    for name in names:
        executor.tell(str(name), "create it" if name in absent else "it is there: left as it is")
    executor.run(lambda: executor.execute(compose_creation(schema, tables)))
    return bool(absent)


def compose_creation(schema: str, tables: Mapping[str, str]) -> str:
    """The statement that creates and marks what is missing."""
    return block("\n    ".join(_create_each(schema, tables)))


def _create_each(schema: str, tables: Mapping[str, str]) -> Iterator[str]:
    yield f"if pg_catalog.to_regnamespace({literal(quote(schema))}) is null then"
    yield f"    create schema {quote(schema)};"
    yield f"    {comment_as_created('schema', quote(schema))};"
    yield "end if;"
    for table, statements in tables.items():
        name = TableName(schema, table)
        yield f"if pg_catalog.to_regclass({literal(str(name))}) is null then"
        yield f"    {statements.strip().rstrip(';')};"
        yield f"    {comment_as_created('table', str(name))};"
        yield "end if;"


def drop_created(executor: Executor, schema: str, tables: Sequence[str]) -> bool:
    """Whether one of the tables had been created here. Drops those, in one transaction.

    `tables` are in the order in which they can be dropped: referencing before referenced. Raises
    Refused, with nothing dropped, when one of them holds a row.
    """
    before = executor.read_schema()
    names = [TableName(schema, table) for table in tables]
    created = [
        name for name in names if before.has_table(name) and is_created(before.table(name).comment)
    ]
    for name in names:
        what = "drop it" if name in created else "it was not created here: left as it is"
        executor.tell(str(name), what)
    executor.run(lambda: executor.execute(compose_removal(schema, tables)))
    return bool(created)


def compose_removal(schema: str, tables: Sequence[str]) -> str:
    """The statement that drops what the creation marked, if all of it is empty."""
    names = ", ".join(literal(str(TableName(schema, table))) for table in tables)
    schema_comment = (
        f"pg_catalog.obj_description("
        f"pg_catalog.to_regnamespace({literal(quote(schema))}), 'pg_namespace')"
    )
    holds_rows = refuse(
        "filled",
        what="name || ' holds rows.'",
        why=literal("It was created by the upgrade and would be dropped with them."),
        next=literal("Save and delete its rows, or stay at this revision."),
        indent=8,
    )
    return block(
        f"""
    -- Row security must not hide rows from the check.
    perform pg_catalog.set_config('row_security', 'off', true);
    foreach name in array tables loop
        if {is_marked("name")} then
            created := created || name;
        end if;
    end loop;
    for position in reverse coalesce(pg_catalog.array_length(created, 1), 0) .. 1 loop
        execute 'lock table only ' || created[position] || ' in access exclusive mode';
    end loop;
    foreach name in array created loop
        execute 'select exists (select from only ' || name || ')' into filled;
        {holds_rows}
    end loop;
    foreach name in array created loop
        execute 'drop table ' || name;
    end loop;
    if {last_line(schema_comment)} = {literal(CREATED)} then
        begin
            drop schema {quote(schema)};
        exception when dependent_objects_still_exist then
            null; -- somebody else has put something into it
        end;
    end if;""",  # noqa: S608  names are quoted, texts are literals
        declare=(
            f"tables constant text[] := array[{names}]",
            "created text[] := cast(array[] as text[])",
            "name text",
            "filled boolean",
        ),
    )
