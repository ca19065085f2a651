"""The connection is cut at each turn of the way; the same call then goes on to the end.

A transaction that is cut is undone, wherever that happens. So what counts is each COMMIT that is
not reached, what follows upon each that is, and each statement outside of a transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import psycopg2
import pytest
from alembic.operations import Operations
from sqlalchemy import Engine, event

from fkdoctor.config import Config
from fkdoctor.database import open_engine, resolve_target
from fkdoctor.errors import Incomplete

OperateAt = Callable[..., None]

TABLES = """
    create table letter (id int primary key);
    create table recommendation (id int primary key, letter_id int
        constraint k references letter on update cascade deferrable initially deferred);
    comment on constraint k on recommendation is 'Ours.';
    insert into letter select generate_series(1, 5);
    insert into recommendation select n, n from generate_series(1, 5) as n;
"""
STATE = """
    select 'key', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid),
        obj_description(oid, 'pg_constraint')
    from pg_constraint where connamespace = 'public'::regnamespace
    union all
    select 'index', c.relname::text, pg_get_indexdef(c.oid) || i.indisvalid,
        obj_description(c.oid, 'pg_class')
    from pg_index as i join pg_class as c on c.oid = i.indexrelid
    where c.relnamespace = 'public'::regnamespace
    union all
    select 'column', c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod),
        col_description(c.oid, a.attnum)
    from pg_class as c join pg_attribute as a on a.attrelid = c.oid
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0
        and not a.attisdropped
    order by 1, 2, 3
"""


def _there(op: Operations) -> None:
    op.add_reference_index("recommendation", ["letter_id"], schema="public")
    op.change_on_delete("recommendation", "k", "CASCADE", schema="public")
    op.add_soft_delete("letter", schema="public")


def _back(op: Operations) -> None:
    op.drop_soft_delete("letter", schema="public")
    op.restore_on_delete("recommendation", "k", "CASCADE", schema="public")
    op.drop_reference_index("recommendation", ["letter_id"], schema="public")


def _run(url: str, statements: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statements)
        return cursor.fetchall() if cursor.description else []


TURNS = ("begin", "commit", "create index concurrently")


class Cutter:
    """Cuts the connection that is about to take the turn of that number."""

    def __init__(self, engine: Engine, url: str, number: int) -> None:
        self.url = url
        self.left = number
        self.cut = False
        event.listen(engine, "before_cursor_execute", self.before)

    def before(self, connection: Any, cursor: object, statement: str, *_: object) -> None:
        self.left -= statement.startswith(TURNS)
        if self.left == 0 and not self.cut:
            self.cut = True
            pid = connection.connection.dbapi_connection.info.backend_pid
            _run(self.url, f"select pg_terminate_backend({pid})")
            while _run(self.url, f"select 1 from pg_stat_activity where pid = {pid}"):
                pass


PARTITIONED = """
    create table letter (id int primary key);
    create table recommendation (id int, letter_id int
        constraint k references letter deferrable) partition by range (id);
    create table part_1 partition of recommendation for values from (0) to (5);
    create table part_2 partition of recommendation for values from (5) to (50)
        partition by range (id);
    create table part_2a partition of part_2 for values from (5) to (50);
    comment on constraint k on recommendation is 'Ours.';
    comment on constraint k on part_2a is 'A copy.';
    insert into letter select generate_series(1, 9);
    insert into recommendation select n, n from generate_series(1, 9) as n;
"""


def _there_with_partitions(op: Operations) -> None:
    op.add_reference_index("recommendation", ["letter_id"], schema="public")
    op.change_on_delete("recommendation", "k", "CASCADE", schema="public")


def _back_with_partitions(op: Operations) -> None:
    op.restore_on_delete("recommendation", "k", "CASCADE", schema="public")
    op.drop_reference_index("recommendation", ["letter_id"], schema="public")


def _there_by_a_flip(op: Operations) -> None:
    op.change_on_delete("recommendation", "k", "CASCADE", strategy="flip", on_update="SET NULL")


def _back_by_a_flip(op: Operations) -> None:
    op.restore_on_delete("recommendation", "k", "CASCADE", strategy="flip", on_update="SET NULL")


CASES = {
    "a table": (TABLES, _there, _back, 10),
    "a partitioned table": (PARTITIONED, _there_with_partitions, _back_with_partitions, 10),
    "a flip": (TABLES, _there_by_a_flip, _back_by_a_flip, 4),
}


def _engine(url: str) -> Engine:
    return open_engine(resolve_target(url, Config(), {}))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("direction", ["there", "back"])
def test_a_run_that_was_cut_off_anywhere_is_finished_by_the_next(
    make_template: Callable[..., str],
    make_database: Callable[..., str],
    operate_at: OperateAt,
    operate_on_engine: Callable[..., None],
    case: str,
    direction: str,
) -> None:
    tables, there, back, turns = CASES[case]

    def change(url: str) -> None:
        _run(url, tables)
        operate_at(url, there)

    found, changed = make_template(lambda url: _run(url, tables)), make_template(change)
    use, start, end = (there, found, changed) if direction == "there" else (back, changed, found)
    wanted = _run(make_database(end), STATE)
    number = 0
    while True:
        number += 1
        url = make_database(start)
        engine = _engine(url)
        cutter = Cutter(engine, url, number)
        with suppress(Incomplete):
            operate_on_engine(engine, use)
            break
        assert cutter.cut
        operate_on_engine(_engine(url), use)
        assert _run(url, STATE) == wanted, f"cut at turn {number}"
    assert not cutter.cut
    assert number > turns
