"""Soft delete on tables with partitions: columns and index of the whole, the view, the guard."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from alembic.operations import Operations
from sqlalchemy import Engine, event

from fkdoctor.database import connect
from fkdoctor.errors import Blocked, Refused
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import install_ledger
from fkdoctor.softdelete.delete import soft_delete
from fkdoctor.softdelete.purge import purge_deleted
from fkdoctor.softdelete.restore import restore_deletion
from fkdoctor.softdelete.selection import Selection

Execute = Callable[[str], list[tuple[Any, ...]]]
Operate = Callable[..., None]
Dump = Callable[[], str]

TABLES = """
    create table letter (id int, part int, code text, primary key (id, part),
        constraint u unique (code, part)) partition by list (part);
    create table letter_1 (note int, part int not null, id int not null, code text);
    alter table letter_1 drop column note;
    alter table letter attach partition letter_1 for values in (1);
    create table "Letter 2" partition of letter for values in (2) partition by list (part);
    create table letter_2a partition of "Letter 2" for values in (2);
    create table answer (id int primary key, letter int, part int, up int references answer,
        constraint k foreign key (letter, part) references letter on delete cascade)
        partition by hash (id);
    create table answer_0 partition of answer for values with (modulus 2, remainder 0);
    create table answer_1 partition of answer for values with (modulus 2, remainder 1);
    insert into letter values (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c');
    insert into answer values (1, 1, 1, null), (2, 2, 1, null), (3, 3, 2, 2);
"""
INDEXES = """
    select c.relname::text from pg_index as i join pg_class as c on c.oid = i.indexrelid
    where pg_get_indexdef(c.oid) like '%(deleted_at)%' and i.indisvalid order by 1
"""


def _add(table: str = "letter", **wish: Any) -> Callable[[Operations], None]:
    return lambda op: op.add_soft_delete(table, schema="public", **wish)


def _drop(table: str = "letter") -> Callable[[Operations], None]:
    return lambda op: op.drop_soft_delete(table, schema="public")


def test_columns_index_and_view_come_and_go(execute: Execute, operate: Operate, dump: Dump) -> None:
    execute(TABLES)
    before = dump()
    operate(_add(view="live letters"))
    assert execute(INDEXES) == [
        ("Letter 2_deleted_at_idx",),
        ("letter_1_deleted_at_idx",),
        ("letter_2a_deleted_at_idx",),
        ("letter_deleted_at_idx",),
    ]
    execute("update letter set deleted_at = now() where id in (1, 3)")
    assert execute('select * from "live letters"') == [(2, 1, "b")]
    with pytest.raises(Refused, match="soft-deleted rows"):
        operate(_drop())
    execute("update letter set deleted_at = null")
    added = dump()
    operate(_add(view="live letters"))
    assert dump() == added
    operate(_drop())
    assert dump() == before


def test_a_partition_to_come_has_all_of_it(execute: Execute, operate: Operate) -> None:
    execute(TABLES)
    operate(_add())
    execute("create table letter_3 partition of letter for values in (3)")
    execute("insert into letter values (9, 3, 'z', now())")
    assert ("letter_3_deleted_at_idx",) in execute(INDEXES)


def test_no_index_is_built_under_a_lock_that_stops_writers(
    execute: Execute, operate: Operate, engine: Engine
) -> None:
    execute(TABLES)
    built: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("create index"):
            built.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    operate(_add())
    assert ["concurrently" in line for line in built] == [True, True, False]
    # The last one found one to take over on each leaf.
    assert len(execute(INDEXES)) == 4


def test_columns_that_are_there_stay_and_no_index_is_left(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(TABLES + "alter table letter add column deleted_at timestamptz")
    before = dump()
    operate(_add())
    assert len(execute(INDEXES)) == 4
    operate(_drop())
    assert dump() == before


def test_a_single_partition_is_refused_by_name(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(TABLES)
    before = dump()
    for use in (_add("letter_1"), _drop("letter_1")):
        with pytest.raises(Refused, match="is a partition of public") as caught:
            operate(use)
        assert caught.value.next == "Name the whole table: public.letter"
    assert dump() == before


@pytest.fixture
def guarded(execute: Execute, operate: Operate, major: int) -> None:
    """Both tables with soft delete, and a guard on each key of one."""
    if major == 12:
        pytest.skip("see test_on_12_there_is_no_guard_of_partitioned_tables")
    execute(TABLES)
    operate(_add())
    operate(_add("answer", guard=True))


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    "broken",
    [
        "update letter set deleted_at = now() where id = 1",
        "update letter set deleted_at = now() where id = 3",
        "update answer set deleted_at = now() where id = 2",
        """update letter set deleted_at = now() where id = 3;
        update answer set deleted_at = now() where id = 3;
        insert into answer values (4, 3, 2)""",
        """update answer set deleted_at = now() where id = 3;
        update letter set deleted_at = now() where id = 3;
        update answer set deleted_at = null where id = 3""",
    ],
)
def test_the_guard_refuses_live_rows_that_reference_deleted_ones(
    execute: Execute, broken: str
) -> None:
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        execute(broken)


@pytest.mark.usefixtures("guarded")
def test_the_guard_lets_all_go_in_one_transaction(execute: Execute) -> None:
    execute(
        """update letter set deleted_at = now() where id = 3;
        update answer set deleted_at = now() where id = 3"""
    )
    execute("create table letter_3 partition of letter for values in (3)")
    execute("insert into letter values (9, 3); insert into answer values (9, 9, 3)")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation, match="a live row would reference"):
        execute("update letter set deleted_at = now() where id = 9")


def test_the_guard_comes_and_goes(
    execute: Execute, operate: Operate, dump: Dump, major: int
) -> None:
    execute(TABLES)
    before = dump()
    operate(_add())
    unguarded = dump()
    operate(_add("answer", guard=True))
    added = dump()
    assert ("_guard" in added) == (major > 12)
    operate(_add("answer", guard=True))
    assert dump() == added
    operate(_drop("answer"))
    assert dump() == unguarded
    operate(_drop())
    assert dump() == before


def test_on_12_there_is_no_guard_of_partitioned_tables(
    execute: Execute, operate: Operate, caplog: pytest.LogCaptureFixture, major: int
) -> None:
    if major != 12:
        pytest.skip("PostgreSQL 12")
    execute(TABLES)
    operate(_add())
    with caplog.at_level(logging.INFO, "fkdoctor.revise"):
        operate(_add("answer", guard=True))
    assert "no guard: public.letter is partitioned" in caplog.text


@pytest.mark.usefixtures("guarded")
def test_rows_are_soft_deleted_restored_and_purged(execute: Execute, engine: Engine) -> None:
    rows = "select * from letter, answer order by 1, 2, 6"
    before = execute(rows)
    with connect(engine) as connection:
        install_ledger(connection)
        schema = inspect_database(connection)
        letter = schema.resolve_table("letter")
        # A live row of another letter is below this one's answer.
        with pytest.raises(Blocked, match="answer"):
            soft_delete(connection, schema, letter, Selection(where="id = 2"))
        execute("update answer set up = null")
        before = execute(rows)
        done = soft_delete(connection, schema, letter, Selection(where="id >= 2"))
        assert {(str(t.table), t.rows) for t in done.taken} == {
            ("public.letter", 2),
            ("public.answer", 2),
        }
        assert done.caveats == ()
        assert done.id is not None
        restore_deletion(connection, schema, done.id)
        assert execute(rows) == before
        soft_delete(connection, schema, letter, Selection(where="id >= 2"))
        outcome = purge_deleted(connection, schema, datetime.now(UTC) + timedelta(days=1))
        assert sum(table.rows for table in outcome.tables) == 4
    assert execute("select count(*) from letter") == [(1,)]
    assert execute("select count(*) from answer") == [(1,)]
