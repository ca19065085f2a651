"""What a preview says, verdict by verdict, and that it leaves no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
import sqlalchemy as sa

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.errors import Refused
from fkdoctor.impact.effect import Impact, Trouble, Verdict
from fkdoctor.impact.preview import preview_delete
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.schema import TableName

Preview = Callable[..., Impact]
Execute = Callable[[str], list[tuple[Any, ...]]]
Try = Callable[[str], str]

SHOP = """
    create table customer (id int primary key, name text);
    create table orders (id int primary key, customer int references customer on delete cascade);
    create table item (id int primary key, orders int references orders on delete cascade);
    create table note (id int primary key, item int references item on delete set null);
    create index on orders (customer); create index on item (orders); create index on note (item);
    insert into customer select i, 'c' || i from generate_series(1, 5) as i;
    insert into orders select i, (i - 1) / 2 + 1 from generate_series(1, 10) as i;
    insert into item select i, (i - 1) / 3 + 1 from generate_series(1, 30) as i;
    insert into note select i, i from generate_series(1, 30) as i;
"""


def summarise(impact: Impact) -> dict[tuple[int, str, str], int]:
    return {
        (e.level, e.table.name, e.action.sql if e.action else "DELETE"): e.rows
        for e in impact.effects
    }


def test_an_allowed_delete_is_counted_by_level_table_and_rule(
    execute: Execute, preview: Preview
) -> None:
    execute(SHOP)
    impact = preview("customer", "id <= 2")
    assert impact.verdict is Verdict.ALLOWED
    assert summarise(impact) == {
        (0, "customer", "DELETE"): 2,
        (1, "orders", "CASCADE"): 4,
        (2, "item", "CASCADE"): 12,
        (3, "note", "SET NULL"): 12,
    }
    assert (impact.deleted_rows, impact.changed_rows) == (18, 12)
    assert not impact.caveats
    assert not impact.obstacles


def test_a_blocked_delete_shows_the_row_in_the_way_and_the_path_to_it(
    execute: Execute, preview: Preview, try_statement: Try
) -> None:
    execute(SHOP)
    execute("create table claim (id int primary key, item int references item)")
    execute("insert into claim values (7, 4), (8, 5), (9, 30)")
    impact = preview("customer", "id = 1")
    assert impact.verdict is Verdict.BLOCKED
    (obstacle,) = impact.obstacles
    assert (obstacle.trouble, obstacle.rows, obstacle.level) == (Trouble.REFERENCED, 2, 2)
    steps = [(step.row.table.name, step.row.values) for step in obstacle.paths[0]]
    assert steps == [("customer", ("1",)), ("orders", ("2",)), ("item", ("4",)), ("claim", ("7",))]
    assert try_statement("delete from customer where id = 1") == obstacle.name
    assert preview("customer", "id = 3").verdict is Verdict.ALLOWED


def test_a_deferred_key_blocks_at_commit(execute: Execute, preview: Preview) -> None:
    execute(SHOP)
    execute(
        "create table claim (id int, item int references item initially deferred);"
        "insert into claim values (1, 1)"
    )
    assert preview("customer", "id = 1").verdict is Verdict.BLOCKED_AT_COMMIT


def test_set_null_on_a_not_null_column_fails(
    execute: Execute, preview: Preview, try_statement: Try
) -> None:
    execute(SHOP)
    execute("alter table note alter item set not null")
    impact = preview("customer", "id = 1")
    assert impact.verdict is Verdict.FAILS
    (obstacle,) = impact.obstacles
    assert (obstacle.trouble, obstacle.name, obstacle.rows) == (Trouble.NOT_NULL, "item", 6)
    assert try_statement("delete from customer where id = 1") == "item"


DIAMOND = """
    create table root (id int primary key);
    create table leaf (id int primary key, a int, b int);
    alter table leaf add constraint {0} foreign key (a) references root {1};
    alter table leaf add constraint {2} foreign key (b) references root {3};
    insert into root values (1), (2);
    insert into leaf values (1, 1, 1);
"""


@pytest.mark.parametrize(
    ("first", "second", "verdict", "reversed"),
    [
        ("on delete cascade", "", Verdict.ALLOWED, Verdict.BLOCKED),
        ("", "on delete cascade", Verdict.BLOCKED, Verdict.ALLOWED),
    ],
)
def test_the_order_in_which_keys_were_created_is_named_where_it_decides(
    execute: Execute,
    preview: Preview,
    try_statement: Try,
    first: str,
    second: str,
    verdict: Verdict,
    reversed: Verdict,
) -> None:
    execute(DIAMOND.format("one", first, "two", second))
    impact = preview("root", "id = 1")
    assert impact.verdict is verdict
    (pair,) = impact.key_orders
    assert (pair.first.name, pair.second.name, pair.reversed) == ("one", "two", reversed)
    assert bool(try_statement("delete from root where id = 1")) is (verdict is Verdict.BLOCKED)
    execute("drop table leaf, root")
    execute(DIAMOND.format("two", second, "one", first))
    assert preview("root", "id = 1").verdict is reversed
    assert bool(try_statement("delete from root where id = 1")) is (reversed is Verdict.BLOCKED)


def test_what_hangs_on_the_order_of_rows_is_called_undefined(
    execute: Execute, preview: Preview, try_statement: Try
) -> None:
    execute(DIAMOND.format("one", "on delete cascade", "two", "on delete restrict"))
    execute("update leaf set b = 2")
    impact = preview("root")
    assert impact.verdict is Verdict.ORDER_DEPENDENT
    assert set(impact.possible) == {Verdict.ALLOWED, Verdict.BLOCKED}
    assert try_statement("delete from root") == ""
    # The same rows the other way round on the disk.
    execute(
        "truncate leaf, root; insert into root values (2), (1); insert into leaf values (1, 1, 2)"
    )
    assert preview("root").verdict is Verdict.ORDER_DEPENDENT
    assert try_statement("delete from root") == "two"


@pytest.mark.parametrize(
    ("when", "body", "verdict", "reason"),
    [
        ("before", "return null;", Verdict.UNCERTAIN, "can return NULL"),
        ("before", "return new;", Verdict.UNCERTAIN, "can return NULL"),
        (
            "before",
            "if old.id = 2 then return null; end if; return old;",
            Verdict.UNCERTAIN,
            "NULL",
        ),
        ("before", "return old;", Verdict.ALLOWED, "what else it does"),
        ("before", "raise notice 'gone'; return old;", Verdict.ALLOWED, "what else it does"),
        ("before", "return (select i from item i limit 1);", Verdict.UNCERTAIN, "what it returns"),
        ("before", "raise 'no';", Verdict.UNCERTAIN, "it raises an error"),
        ("after", "return null;", Verdict.ALLOWED, "what else it does"),
        (
            "after",
            "if old.id = 2 then raise 'no'; end if; return old;",
            Verdict.UNCERTAIN,
            "can raise",
        ),
    ],
)
def test_a_trigger_that_can_interfere_makes_it_uncertain(
    execute: Execute,
    preview: Preview,
    try_statement: Try,
    when: str,
    body: str,
    verdict: Verdict,
    reason: str,
) -> None:
    execute(SHOP)
    execute(f"""
        create function act() returns trigger language plpgsql as $$begin {body} end$$;
        create trigger act {when} delete on item for each row execute function act();
    """)
    impact = preview("customer", "id = 1")
    assert impact.verdict is verdict
    (caveat,) = impact.caveats
    assert caveat.subject == "public.item.act"
    assert f"{when.upper()} DELETE" in caveat.reason
    assert reason in caveat.reason
    if verdict is Verdict.ALLOWED:
        assert try_statement("delete from customer where id = 1") == ""


def test_what_a_trigger_puts_back_is_uncertain(execute: Execute, preview: Preview) -> None:
    execute(SHOP)
    execute("""
        create function stay() returns trigger language plpgsql as
            'begin new.item := old.item; return new; end';
        create trigger stay before update on note for each row execute function stay();
        create function touch() returns trigger language plpgsql as
            'begin new.touched := now(); return new; end';
        alter table note add touched timestamptz;
        create trigger touch before update on note for each row execute function touch();
    """)
    impact = preview("customer", "id = 1")
    assert impact.verdict is Verdict.UNCERTAIN
    assert [caveat.subject for caveat in impact.caveats if caveat.decisive] == ["public.note.stay"]
    assert [caveat.subject for caveat in impact.caveats] == [
        "public.note.stay",
        "public.note.touch",
    ]


def test_nothing_is_locked_but_against_ddl_and_nothing_stays(
    database_url: str, execute: Execute
) -> None:
    execute(SHOP + "create table claim (id int, item int references item);")
    engine = open_engine(resolve_target(database_url, Config(), {}))
    modes: set[str] = set()
    with connect(engine) as connection, closing(psycopg2.connect(database_url)) as other:
        schema = inspect_database(connection)
        with connection.begin():
            pid = connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
            sa.event.listen(
                engine, "after_cursor_execute", lambda *_: modes.update(read_locks(other, pid))
            )
            where = sa.column("id") > 0
            impact = preview_delete(
                connection, schema, TableName("public", "customer"), where=where
            )
            assert impact.deleted_rows == 45
            temporary = "select count(*) from pg_class where relname ~ '^fkdoctor_'"
            assert connection.exec_driver_sql(temporary).scalar_one() == 0
    assert modes == {"AccessShareLock"}
    assert execute("select count(*) from item") == [(30,)]


def read_locks(connection: Any, pid: int) -> list[str]:
    """The modes of the locks that the other backend holds on tables of ours, and nobody else's."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "select distinct mode from pg_locks where pid = %s and relation in"
            " (select oid from pg_class where relnamespace = 'public'::regnamespace)",
            (pid,),
        )
        return [mode for (mode,) in cursor]


@pytest.fixture
def role(server_url: str, execute: Execute) -> Iterator[str]:
    """A role that may read SHOP, and nothing else."""
    name = f"fkd_role_{uuid4().hex}"
    execute(SHOP + f"create role {name}; grant select on all tables in schema public to {name}")
    try:
        yield name
    finally:
        execute(f"drop owned by {name}; drop role {name}")


@pytest.mark.usefixtures("superuser")
def test_the_right_to_read_is_enough(role: str, preview: Preview) -> None:
    assert preview("customer", "id = 1", role=role).deleted_rows == 9


@pytest.mark.usefixtures("superuser")
def test_without_temporary_tables_a_small_delete_is_answered_and_a_large_one_refused(
    role: str, execute: Execute, preview: Preview
) -> None:
    execute(
        "do $$ begin execute 'revoke temp on database ' || quote_ident(current_database())"
        " || ' from public'; end $$"
    )
    impact = preview("customer", "id = 1", role=role)
    assert (impact.verdict, impact.deleted_rows, impact.changed_rows) == (Verdict.ALLOWED, 9, 6)
    with pytest.raises(Refused, match="More than 5 rows"):
        preview("customer", "id = 1", role=role, model_limit=5)


@pytest.mark.usefixtures("superuser")
def test_a_table_that_may_not_be_read_is_refused(
    role: str, execute: Execute, preview: Preview
) -> None:
    execute(f"revoke select on note from {role}")
    with pytest.raises(Refused, match="cannot look into") as refused:
        preview("customer", "id = 1", role=role)
    assert "note" in refused.value.why


@pytest.mark.usefixtures("superuser")
def test_rows_that_row_security_hides_are_not_passed_over(
    role: str, execute: Execute, preview: Preview
) -> None:
    execute("alter table item enable row level security")
    with pytest.raises(Refused):
        preview("customer", "id = 1", role=role)
    (caveat,) = preview("customer", "id = 1").caveats
    assert caveat.subject == "public.item"


def test_the_time_limit_ends_it(execute: Execute, preview: Preview) -> None:
    execute(SHOP)
    with pytest.raises(Refused, match="too long"):
        preview("customer", "id = 1 and pg_sleep(20) is not null", statement_timeout=200)


def test_a_large_table_without_an_index_is_estimated_unless_exactness_is_asked_for(
    execute: Execute, preview: Preview, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(SHOP)
    execute(
        "create table big (id int, note text, customer int references customer "
        "on delete cascade);"
        "insert into big select i, 'n', 1 + i % 5 from generate_series(1, 5000) as i;"
        "analyze big"
    )
    monkeypatch.setattr("fkdoctor.impact.closure.SCAN_LIMIT", 10_000)
    impact = preview("customer", "id = 1")
    assert impact.verdict is Verdict.UNCERTAIN
    (guess,) = (effect for effect in impact.effects if effect.estimated)
    assert guess.table.name == "big"
    assert guess.rows > 0
    assert any("no index" in caveat.reason for caveat in impact.caveats)
    exact = preview("customer", "id = 1", exact=True)
    assert exact.verdict is Verdict.ALLOWED
    assert not exact.estimated
    assert summarise(exact)[1, "big", "CASCADE"] == 1000


def test_a_circle_of_keys_ends(execute: Execute, preview: Preview) -> None:
    execute("""
        create table person (id int primary key, boss int references person on delete cascade);
        insert into person select i, nullif(i / 2, 0) from generate_series(1, 1000) as i;
        update person set boss = 1000 where id = 1;
        create index on person (boss);
    """)
    impact = preview("person", "id = 500", model_limit=0)
    assert (impact.verdict, impact.deleted_rows) == (Verdict.ALLOWED, 1000)
    assert max(effect.level for effect in impact.effects) > 8


def test_all_that_is_read_is_of_one_moment(database_url: str, execute: Execute) -> None:
    execute(SHOP)
    engine = open_engine(resolve_target(database_url, Config(), {}))

    def disturb(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith("INSERT"):
            execute(
                "insert into orders select i, 1 from generate_series(100 * (select count(*)"
                " from orders), 100 * (select count(*) from orders) + 9) as i"
            )

    with connect(engine) as connection:
        schema = inspect_database(connection)
        sa.event.listen(engine, "after_cursor_execute", disturb)
        where = sa.column("id") == 1
        impact = preview_delete(connection, schema, TableName("public", "customer"), where=where)
    assert impact.deleted_rows == 9
    assert execute("select count(*) > 10 from orders") == [(True,)]


def test_in_a_read_only_database_it_answers_as_on_a_standby(
    execute: Execute, preview: Preview
) -> None:
    execute(SHOP)
    execute(
        "do $$ begin execute 'alter database ' || quote_ident(current_database()) ||"
        " ' set default_transaction_read_only = on'; end $$"
    )
    assert preview("customer", "id = 1").deleted_rows == 9
    with pytest.raises(Refused, match="More than 3 rows"):
        preview("customer", "id = 1", model_limit=3)
