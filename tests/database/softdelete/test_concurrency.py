"""Two at once, and cuts at every statement: either all of it is there, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from fkdoctor.errors import Incomplete, UndoConflict

Database = Any  # the fixture's class lives in conftest.py

SOFT = "deleted_at timestamptz, deletion_id uuid"
SHOP = f"""
    create table customer (id int primary key, {SOFT});
    create table purchase (id int primary key, {SOFT},
        customer int constraint of_customer references customer on delete cascade);
    create table visit (id int primary key, customer int references customer on delete set null);
    insert into customer select generate_series(1, 6);
    insert into purchase (id, customer) select n, (n + 1) / 2 from generate_series(1, 12) as n;
    insert into visit select n, n from generate_series(1, 6) as n;
"""


def _wait_for_lock(db: Database, waiting: Future[Any]) -> None:
    ask = (
        "select pid from pg_stat_activity"
        " where wait_event_type = 'Lock' and datname = current_database()"
    )
    while not db.execute(ask):
        assert not waiting.done(), waiting.result()


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_reference_that_is_being_made_is_waited_for_and_taken_along(
    db: Database, end: str
) -> None:
    db.execute(SHOP)
    with closing(psycopg2.connect(db.url)) as other, ThreadPoolExecutor(1) as pool:
        other.cursor().execute("insert into purchase (id, customer) values (99, 1)")
        waiting = pool.submit(db.delete, "customer", "id = 1", lock_timeout=20_000)
        try:
            _wait_for_lock(db, waiting)
        finally:
            getattr(other, end)()
        assert waiting.result().rows == (4 if end == "commit" else 3)
    assert db.execute(
        "select count(*) from purchase where customer = 1 and deleted_at is null"
    ) == [(0,)]


def test_a_row_that_another_deletion_took_meanwhile_is_left_to_it(db: Database) -> None:
    db.execute(SHOP)
    with closing(psycopg2.connect(db.url)) as other, ThreadPoolExecutor(1) as pool:
        other.cursor().execute("update customer set deleted_at = '2026-01-31' where id = 2")
        waiting = pool.submit(db.delete, "customer", "id < 3", lock_timeout=20_000)
        try:
            _wait_for_lock(db, waiting)
        finally:
            other.commit()
        assert [taken.rows for taken in waiting.result().taken] == [1, 2]
    assert db.execute("select deletion_id from customer where id = 2") == [(None,)]


def test_two_overlapping_soft_deletes_at_once_take_each_row_once(db: Database) -> None:
    db.execute(SHOP)
    with ThreadPoolExecutor(2) as pool:
        for n in range(5):
            first = pool.submit(db.delete, "customer", "id in (1, 2, 3, 4)")
            second = pool.submit(db.delete, "customer", "id in (3, 4, 5, 6)")
            one, two = first.result(), second.result()
            assert one.rows + two.rows == 18
            assert db.execute(
                """select count(*), count(distinct deletion_id), count(*) filter (where not exists
                    (select from purchase as p where p.customer = c.id
                        and p.deletion_id = c.deletion_id))
                from customer as c"""
            ) == [(6, len({d.id for d in (one, two) if d.id}), 0)]
            for deletion in (one, two):
                if deletion.id:
                    db.restore(deletion.id)
            assert db.execute("select count(customer), count(*) from visit") == [(6, 6)], n


def test_soft_deletes_that_lock_in_opposite_order_both_come_to_an_end(db: Database) -> None:
    db.execute(
        f"""create table a (id int primary key, {SOFT}, b int);
        create table b (id int primary key, {SOFT}, a int references a on delete cascade);
        insert into a (id, b) select n, n from generate_series(1, 200) as n;
        insert into b (id, a) select n, n from generate_series(1, 200) as n;
        alter table a add foreign key (b) references b on delete cascade"""
    )
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            futures = [pool.submit(db.delete, table, "id > 0") for table in ("a", "b")]
            done = [future.result() for future in futures]
            assert sorted(d.rows for d in done) == [0, 400]
            db.restore(next(d.id for d in done if d.id))


def test_a_lock_that_is_not_to_be_had_ends_it_with_nothing_changed(db: Database) -> None:
    db.execute(SHOP)
    before = db.contents()
    with closing(psycopg2.connect(db.url)) as other:
        other.cursor().execute("select from purchase where id = 1 for share")
        with pytest.raises(Incomplete, match="somebody else held the rows"):
            db.delete("customer", "id = 1", lock_timeout=20)
    assert db.contents() == before


def _cut_at(db: Database, number: int) -> Callable[[Engine], None]:
    def watch(engine: Engine) -> None:
        left = [number]

        def cut(connection: Any, cursor: object, statement: str, *_: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                pid = connection.connection.dbapi_connection.info.backend_pid
                db.execute(f"select pg_terminate_backend({pid})")
                while db.execute(f"select pid from pg_stat_activity where pid = {pid}"):
                    pass

        event.listen(engine, "before_cursor_execute", cut)

    return watch


def test_a_soft_delete_that_is_cut_off_anywhere_has_changed_nothing(db: Database) -> None:
    db.execute(SHOP)
    before = db.contents()
    cuts = 0
    # Reading the catalog takes some thirty statements, of which the first few are enough.
    done = None
    for number in range(1, 200, 4):
        with suppress(Incomplete, OperationalError):
            done = db.delete("customer", "id < 3", watch=_cut_at(db, number))
            break
        cuts += 1
        assert db.contents() == before
        assert db.execute("select count(*) from fkdoctor.deletion") == [(0,)]
    assert cuts > 10
    assert done is not None
    assert done.rows == 6
    state = db.contents()
    for number in range(30, 200, 4):
        with suppress(Incomplete, OperationalError):
            db.restore(done.id, watch=_cut_at(db, number))
            break
        assert db.contents() == state
    assert db.contents() == before


def test_a_purge_that_is_cut_off_anywhere_goes_on_from_there(db: Database) -> None:
    db.execute(SHOP)
    db.delete("customer", "id < 5")
    stopped = 0
    for number in range(20, 300, 7):
        with suppress(Incomplete, OperationalError):
            db.purge(batch_size=2, watch=_cut_at(db, number))
            break
        stopped += 1
    assert stopped > 3
    assert db.execute("select count(*), count(deleted_at) from customer") == [(2, 0)]
    assert db.execute(
        "select sum(rows) = sum(purged) from fkdoctor.deletion_step where action = 'delete'"
    ) == [(True,)]


def test_a_restore_waits_for_a_purge_and_is_then_refused(db: Database) -> None:
    db.execute(SHOP)
    done = db.delete("customer", "id = 1")
    with closing(psycopg2.connect(db.url)) as other, ThreadPoolExecutor(1) as pool:
        cursor = other.cursor()
        cursor.execute("delete from purchase where customer = 1")
        cursor.execute("update fkdoctor.deletion_step set purged = 2 where table_name = 'purchase'")
        engine_restore = pool.submit(db.restore, done.id)
        try:
            _wait_for_lock(db, engine_restore)
        finally:
            other.commit()
        with pytest.raises(UndoConflict, match="were purged"):
            engine_restore.result()
