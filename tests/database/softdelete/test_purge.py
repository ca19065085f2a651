"""What a purge deletes for good, in which order, and what it leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event

from fkdoctor.database import connect
from fkdoctor.errors import Blocked, Incomplete, StalePlan
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.schema import TableName
from fkdoctor.softdelete.purge import purge_deleted

Database = Any  # the fixture's class lives in conftest.py

SOFT = "deleted_at timestamptz, deletion_id uuid"
SHOP = f"""
    create table customer (id int primary key, {SOFT});
    create table purchase (id int primary key, {SOFT},
        customer int constraint of_customer references customer on delete cascade);
    create table visit (id int primary key,
        customer int constraint by_customer references customer on delete set null);
    insert into customer select generate_series(1, 20);
    insert into purchase (id, customer) select n, (n + 1) / 2 from generate_series(1, 40) as n;
"""


def _age(db: Database, days: int) -> None:
    for table in ("customer", "purchase"):
        db.execute(f"update {table} set deleted_at = deleted_at - interval '{days} days'")


def test_what_is_old_enough_goes_leaf_first_in_batches(db: Database) -> None:
    db.execute(SHOP)
    db.delete("customer", "id <= 10")
    _age(db, 40)
    db.delete("customer", "id = 11")
    assert db.preview_purge(50).rows == 0
    preview = db.preview_purge(30)
    assert [(str(t.table), t.old, t.rows) for t in preview.tables] == [
        ("public.customer", 10, 10),
        ("public.purchase", 20, 20),
    ]
    assert db.execute("select count(*) from customer") == [(20,)]
    deletes: list[str] = []

    def watch(engine: Engine) -> None:
        def note(*arguments: Any) -> None:
            if "DELETE FROM ONLY public" in arguments[2].replace('"', ""):
                deletes.append("purchase" if '"purchase"' in arguments[2] else "customer")

        event.listen(engine, "before_cursor_execute", note)

    done = db.purge(30, batch_size=4, watch=watch)
    assert (done.rows, done.done) == (30, True)
    assert deletes == ["purchase"] * 5 + ["customer"] * 3
    assert db.execute("select count(*) from customer") == [(10,)]
    assert db.execute("select count(deleted_at) from purchase") == [(2,)]
    assert db.execute(
        """select s.table_name, s.rows, s.purged from fkdoctor.deletion_step as s
        join fkdoctor.deletion as d on d.id = s.deletion_id
        where d.selection = 'id <= 10' order by 1"""
    ) == [("customer", 10, 10), ("purchase", 20, 20)]


@pytest.mark.parametrize(
    ("late", "key"),
    [
        ("insert into visit values (1, 1)", "public.visit.by_customer"),
        ("insert into purchase (id, customer) values (99, 1)", "public.purchase.of_customer"),
        (
            "insert into purchase (id, customer, deleted_at) values (99, 1, now())",
            "public.purchase.of_customer",
        ),
        (
            """create table log (customer int constraint of_log references customer
                on delete cascade); insert into log values (1)""",
            "public.log.of_log",
        ),
        (
            """create table log (customer int); insert into log values (1);
            alter table log add constraint of_log foreign key (customer) references customer
                on delete cascade not valid""",
            "public.log.of_log",
        ),
    ],
)
def test_a_row_that_any_row_references_stays_and_nothing_is_done_along_the_key(
    db: Database, late: str, key: str
) -> None:
    db.execute(SHOP)
    db.delete("customer", "id <= 3")
    _age(db, 40)
    db.execute(late)
    preview = db.preview_purge(30)
    (customer, _) = preview.tables
    assert (customer.old, customer.rows, customer.kept_by) == (3, 2, (key,))
    done = db.purge(30)
    assert done.rows == preview.rows
    assert done.tables[0].kept_by == (key,)
    assert db.execute("select id from customer where id <= 3") == [(1,)]
    assert db.execute("select count(*) from visit where customer is null") == [(0,)]
    assert db.execute("select count(*) from purchase where customer = 1") == [
        (1 if "purchase" in key else 0,)
    ]
    if "log" in key:
        assert db.execute("select customer from log") == [(1,)]


def test_what_comes_to_be_referenced_while_its_row_is_waited_for_stays(db: Database) -> None:
    db.execute(SHOP)
    db.delete("customer", "id <= 3")
    late: list[str] = []

    def watch(engine: Engine) -> None:
        def insert(*arguments: Any) -> None:
            # After the leaves were looked for, and before they are locked.
            if "INSERT INTO" in arguments[2] and not late and '"customer"' in arguments[2]:
                late.append(arguments[2])
                db.execute("insert into visit values (1, 2)")

        event.listen(engine, "before_cursor_execute", insert)

    db.purge(watch=watch)
    assert late
    assert db.execute("select id from customer where id <= 3") == [(2,)]
    assert db.execute("select customer from visit") == [(2,)]


def test_rows_that_the_application_marked_itself_go_too(db: Database) -> None:
    db.execute(SHOP + "update purchase set deleted_at = now() where id = 40")
    assert db.purge().rows == 1


def test_circles_go_together_unless_something_references_them(db: Database) -> None:
    db.execute(
        f"""create table a (id int primary key, {SOFT}, b int);
        create table b (id int primary key, {SOFT}, a int constraint ba references a);
        alter table a add constraint ab foreign key (b) references b on delete restrict;
        create table c (id int primary key, a int references a);
        insert into a (id) select generate_series(1, 3);
        insert into b (id, a) select n, n from generate_series(1, 3) as n;
        update a set b = id; insert into c values (1, 2);
        update a set deleted_at = now(); update b set deleted_at = now()"""
    )
    preview = db.preview_purge()
    assert [(t.old, t.rows) for t in preview.tables] == [(3, 2), (3, 2)]
    assert db.purge(batch_size=1).rows == 4
    assert db.execute("select a.id, b.id from a join b on b.a = a.id") == [(2, 2)]


def test_only_the_tables_that_are_named_are_purged(db: Database) -> None:
    db.execute(SHOP)
    db.delete("customer", "id = 1")
    with connect(db.engine()) as connection:
        schema = inspect_database(connection)
        done = purge_deleted(
            connection, schema, datetime.now(UTC), tables=[TableName("public", "purchase")]
        )
        assert done.rows == 2
        with pytest.raises(Blocked, match="something is in the way") as caught:
            purge_deleted(
                connection, schema, datetime.now(UTC), tables=[TableName("public", "visit")]
            )
    assert "it has no column" in caught.value.why
    assert db.execute("select count(*) from customer") == [(20,)]


def test_a_trigger_that_keeps_rows_stops_it_with_what_was_done(db: Database) -> None:
    db.execute(
        SHOP
        + """create function f() returns trigger language plpgsql as 'begin return null; end';
        create trigger keep before delete on customer for each row execute function f()"""
    )
    db.delete("customer", "id <= 3")
    assert db.preview_purge().caveats
    with pytest.raises(Incomplete, match="Stopped after 6 rows") as caught:
        db.purge()
    assert "public.customer: 0 of 3 rows were deleted" in caught.value.why
    assert db.execute("select count(*) from customer") == [(20,)]


@pytest.mark.parametrize(
    ("body", "when"),
    [
        ("delete from note where customer = old.id", "before"),
        ("delete from note where customer = old.id", "after"),
        ("delete from customer where id = 20", "after"),
        # A row that is put in now is gone along its key before anybody has seen it.
        ("insert into note values (old.id, old.id)", "before"),
    ],
)
def test_a_trigger_that_takes_further_rows_stops_it(db: Database, body: str, when: str) -> None:
    db.execute(
        SHOP
        + f"""create table note (id int, customer int references customer on delete cascade
                deferrable initially deferred);
        create table other (id int);
        create function f() returns trigger language plpgsql as
            'begin if old.deleted_at is not null then {body}; end if; return old; end';
        create trigger more {when} delete on customer for each row execute function f()"""
    )
    db.delete("customer", "id <= 3")
    if "delete from note" in body:
        # What is not referenced by a key is no obstacle, and is not to go either.
        db.execute(
            "alter table note drop constraint note_customer_fkey; insert into note values (1, 1)"
        )
    rows = "select (select count(*) from note), (select count(*) from customer)"
    before = db.execute(rows)
    with pytest.raises(Incomplete, match="Stopped after 6 rows") as caught:
        db.purge()
    assert "more rows were deleted: by a trigger" in caught.value.why
    assert db.execute(rows) == before


def test_a_trigger_that_writes_elsewhere_is_no_obstacle(db: Database) -> None:
    db.execute(
        SHOP
        + """create table note (id int, seen int default 0);
        insert into note select generate_series(1, 20);
        create function f() returns trigger language plpgsql as
            'begin update note set seen = seen + 1 where id = old.id;
            insert into note values (-old.id); return null; end';
        create trigger more after delete on customer for each row execute function f()"""
    )
    db.delete("customer", "id <= 3")
    assert db.purge().rows == 9
    assert db.execute("select count(*) from note where seen = 1 or id < 0") == [(6,)]


def test_a_key_that_came_meanwhile_stops_it(db: Database) -> None:
    db.execute(SHOP)
    db.delete("customer", "id <= 3")
    came: list[bool] = []

    def watch(engine: Engine) -> None:
        def add(*arguments: Any) -> None:
            if "DELETE FROM ONLY" in arguments[2] and not came:
                came.append(True)
                db.execute("create table late (id int references purchase on delete cascade)")

        event.listen(engine, "before_cursor_execute", add)

    with pytest.raises(StalePlan, match="schema has changed") as caught:
        db.purge(watch=watch)
    assert "public.purchase" in caught.value.why
    assert db.execute("select count(*) from purchase") == [(40,)]
