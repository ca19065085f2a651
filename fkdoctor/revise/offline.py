"""A rule change as a script, for `alembic upgrade --sql`.

A script cannot look and decide, so it says at the start what it expects, and at the end, in the
transaction that records the revision, that it was reached. A database that is otherwise stops it
before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.identifier import quote
from fkdoctor.revise.ddl import (
    add_key,
    block,
    comment_on_key,
    drop_key,
    literal,
    lock_table,
    refuse,
    rename_key,
    retime_key,
    validate_key,
)
from fkdoctor.revise.definition import KeyDefinition, parse_definition
from fkdoctor.revise.mark import KeyText, describe_shadow
from fkdoctor.revise.state import Step, Strategy, name_shadow, step_in_place
from fkdoctor.schema import TableName


def compose_change(
    table: TableName,
    name: str,
    before: KeyText,
    after: KeyText,
    lock_timeout: int,
    strategy: Strategy,
) -> Iterator[str]:
    """The statements and comments that turn `before` into `after`, in transactions of their own."""
    goal = parse_definition(after.definition)
    yield (
        f"-- {_comment(table, name)}: change it without stopping writers.\n"
        "-- A script does not try again when a lock is not to be had in time. If it stops, run\n"
        "-- the revision online, without --sql: that goes on from what is there."
    )
    first = require_key(table, name, before)
    begin = ("begin", f"set local lock_timeout = '{lock_timeout}ms'")
    match step_in_place(parse_definition(before.definition), goal, strategy):
        case Step.CHECK:
            yield from begin
            yield first
            yield from _check(table, name, after)
        case Step.RETIME:
            yield from begin
            yield lock_table(table, "access exclusive")
            yield first
            yield retime_key(table, name, goal.deferrable, goal.deferred)
            yield comment_on_key(table, name, after.comment)
            yield "commit"
        case Step.REPLACE:
            yield from begin
            yield from _lock_both(table, goal, "access exclusive")
            yield first
            yield drop_key(table, name)
            yield add_key(table, name, str(goal.unvalidated()))
            yield comment_on_key(table, name, after.comment)
            yield "commit"
            if goal.validated:
                yield from begin
                yield from _check(table, name, after)
        case _:
            yield from begin
            yield from _lock_both(table, goal, "share row exclusive")
            yield first
            yield from _swap(table, name, goal, after, begin)


def compose_adoption(
    table: TableName, name: str, wanted: KeyText, lock_timeout: int
) -> Iterator[str]:
    """The statements that add a key and then check its rows, in transactions of their own."""
    goal = parse_definition(wanted.definition)
    begin = ("begin", f"set local lock_timeout = '{lock_timeout}ms'")
    yield from begin
    yield from _lock_both(table, goal, "share row exclusive")
    yield add_key(table, name, str(goal.unvalidated()))
    yield comment_on_key(table, name, wanted.comment)
    yield "commit"
    if goal.validated:
        yield from begin
        yield from _check(table, name, wanted)


def compose_release(table: TableName, name: str, referenced: str) -> Iterator[str]:
    """The statements that drop a key, referenced table first."""
    for each in dict.fromkeys((referenced, str(table))):
        yield lock_table(each, "access exclusive")
    yield drop_key(table, name)


def _lock_both(table: TableName, goal: KeyDefinition, mode: str) -> Iterator[str]:
    # Referenced first, as applications take their locks.
    for each in dict.fromkeys((goal.referenced, str(table))):
        yield lock_table(each, mode)


def _check(table: TableName, name: str, after: KeyText) -> Iterator[str]:
    yield "set local statement_timeout = 0"
    yield validate_key(table, name)
    yield comment_on_key(table, name, after.comment)
    yield "commit"


def _swap(
    table: TableName, name: str, goal: KeyDefinition, after: KeyText, begin: tuple[str, ...]
) -> Iterator[str]:
    shadow = name_shadow(name)
    yield add_key(table, shadow, str(goal.unvalidated()))
    yield comment_on_key(table, shadow, describe_shadow(name, after))
    yield "commit"
    yield from begin
    yield "set local statement_timeout = 0"
    yield validate_key(table, shadow)
    yield "commit"
    yield from begin
    yield from _lock_both(table, goal, "access exclusive")
    yield drop_key(table, name)
    yield rename_key(table, shadow, name)
    yield comment_on_key(table, name, after.comment)
    yield "commit"


def require_key(table: TableName, name: str, expected: KeyText) -> str:
    """The statement that stops unless the key is as expected, comment included."""
    comment = "null" if expected.comment is None else literal(expected.comment)
    label = f"{table}.{quote(name)}"
    different = refuse(
        f"found is distinct from {literal(expected.definition)} "
        f"or remark is distinct from {comment}",
        what=literal(f"{label} is not what this script was written for."),
        why=f"coalesce('It is: ' || found || coalesce(' -- ' || remark, ''), 'It is missing.')"
        f" || {literal(f' Expected: {expected.definition}')}",
        next=literal("Run the revision online, without --sql."),
    )
    partitioned = refuse(
        "exists (select from pg_catalog.pg_class as c where c.relkind = 'p'"
        f" and c.oid = pg_catalog.to_regclass({literal(str(table))}))",
        what=literal(f"{table} is partitioned."),
        why=literal("A script does not know its partitions, each of which takes a step."),
        next=literal("Run the revision online, without --sql."),
    )
    return block(
        f"""
    {partitioned}
    perform pg_catalog.set_config('search_path', '', true);
    select pg_catalog.pg_get_constraintdef(k.oid), d.description
    into found, remark
    from pg_catalog.pg_constraint as k
    left join pg_catalog.pg_description as d
        on d.objoid = k.oid and d.classoid = cast('pg_catalog.pg_constraint' as pg_catalog.regclass)
    where k.conrelid = pg_catalog.to_regclass({literal(str(table))})
        and k.conname = {literal(name)} and k.contype = 'f';
    perform pg_catalog.set_config('search_path', path, true);
    {different}""",  # noqa: S608  names are quoted, texts are literals
        declare=(
            "path constant text := pg_catalog.current_setting('search_path')",
            "found text",
            "remark text",
        ),
    )


def _comment(table: TableName, name: str) -> str:
    return f"{table}.{quote(name)}".replace("\n", " ")
