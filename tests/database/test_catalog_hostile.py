"""Inspecting where it is hard: shadowed catalogs, odd names, people at work, very many tables."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple

import psycopg2
import pytest

from fkdoctor.errors import Blocked, ConfigError
from fkdoctor.identifier import quote
from fkdoctor.schema import Schema, TableKind, TableName

Inspect = Callable[..., Schema]
Execute = Callable[[str], list[tuple[object, ...]]]

SHOP = """
    create domain price as numeric(10, 2) not null default 0;
    create table shops (id int primary key, name text default 'a' || 'b' check (name <> ''));
    create table orders (
        id int generated always as identity primary key, shop int references shops, total price
    ) partition by range (id);
    create table orders_1 partition of orders for values from (0) to (1000);
    create index on orders (shop, (total + 1)) where total > 0;
    create function note() returns trigger language plpgsql as 'begin return null; end';
    create trigger note after delete on shops for each row execute function note();
    create rule keep as on delete to orders_1 do instead nothing;
"""


# A search_path in which something else comes before pg_catalog

EVIL = """
    create schema evil;
    create function evil.wrong() returns text language plpgsql
        as $$ begin raise exception 'shadowed'; end $$;
    create function evil.current_schema() returns name language sql
        as 'select evil.wrong()::name';
    create function evil.version() returns text language sql as 'select evil.wrong()';
    create function evil.current_setting(text) returns text language sql as 'select evil.wrong()';
    create function evil.set_config(text, text, boolean) returns text language sql
        as 'select evil.wrong()';
    create function evil.format_type(oid, integer) returns text language sql
        as 'select evil.wrong()';
    create function evil.quote_ident(text) returns text language sql as 'select evil.wrong()';
    create function evil.pg_get_expr(pg_node_tree, oid) returns text language sql
        as 'select evil.wrong()';
    create function evil.pg_get_constraintdef(oid) returns text language sql
        as 'select evil.wrong()';
    create function evil.pg_get_indexdef(oid) returns text language sql as 'select evil.wrong()';
    create function evil.array_to_string(smallint[], text) returns text language sql
        as 'select evil.wrong()';
    create function evil.never(oid, oid) returns boolean language sql
        as 'select evil.wrong() is null';
    create function evil.never(name, name) returns boolean language sql
        as 'select evil.wrong() is null';
    create function evil.never(text, text) returns boolean language sql
        as 'select evil.wrong() is null';
    create function evil.join(text, text) returns text language sql as 'select evil.wrong()';
    create operator evil.= (leftarg = oid, rightarg = oid, function = evil.never);
    create operator evil.<> (leftarg = name, rightarg = name, function = evil.never);
    create operator evil.= (leftarg = text, rightarg = text, function = evil.never);
    create operator evil.|| (leftarg = text, rightarg = text, function = evil.join);
    create table evil.pg_class (oid oid); create table evil.pg_namespace (oid oid);
    create table evil.pg_constraint (oid oid); create table evil.pg_attribute (oid oid);
    create table evil.pg_trigger (oid oid); create table evil.pg_type (typname name);
    create view evil.pg_index as select evil.wrong() as indexrelid;
    create domain evil.text as pg_catalog.text check (value = 'shadowed');
    create domain evil.bigint as pg_catalog.int8 check (value < 0);
"""


@pytest.mark.parametrize(
    "setting",
    [
        "alter database {database} set search_path = evil, pg_catalog, public",
        "alter role current_user in database {database} set search_path = evil, pg_catalog, public",
    ],
)
def test_nothing_in_the_search_path_shadows_the_catalog(
    inspect_after: Inspect, execute: Execute, setting: str
) -> None:
    before = inspect_after(SHOP + EVIL)
    database = quote(before.database)
    after = inspect_after(setting.format(database=database))
    assert astuple(after) == astuple(before)
    # It was in force: a new session meets the shadows.
    with pytest.raises(psycopg2.errors.RaiseException, match="shadowed"):
        execute("select current_schema()")


@pytest.mark.usefixtures("superuser")
def test_an_extension_with_operators_on_catalog_types_does_not_confuse(
    inspect_after: Inspect,
) -> None:
    before = inspect_after(SHOP)
    after = inspect_after("create extension intarray; create extension citext")
    assert after.tables == before.tables


def test_definitions_are_qualified_whatever_the_search_path(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create schema a; create schema b;
        create table a.t (id int primary key);
        create function a.f() returns int language sql as 'select 1';
        create table b.t (id int default a.f() references a.t check (id <> a.f()));
        create index on b.t (id) where id > 5;
        """
    )
    (key,) = schema.foreign_keys
    assert key.definition == "FOREIGN KEY (id) REFERENCES a.t(id)"
    table = schema.table(TableName("b", "t"))
    assert table.column("id").default == "a.f()"
    assert table.constraints[0].definition == "CHECK ((id <> a.f()))"
    assert " ON b.t " in table.indexes[0].definition


# Names

ODD_NAMES = [
    "Capital",
    "two words",
    " ",
    'quo"te',
    '"',
    "apo'strophe",
    "dot.ted",
    "select",
    "user",
    "100%",
    "%s",
    "%(x)s",
    ":name",
    "::int",
    "a:b",
    "back\\slash",
    "new\nline",
    "tab\t",
    "$1",
    "$$",
    "{x}",
    "--",
    "/*",
    ";",
    "1st",
    "été",
    "ÉTÉ",
    "이력서",
    "🦜",
    "x" * 63,
    "이" * 21,
    "?",
    "(",
    "a,b",
]


def test_odd_names_are_read_as_they_are(inspect_after: Inspect) -> None:
    statements = []
    for name in ODD_NAMES:
        q, key, check = quote(name), quote(name[:20] + "?"), quote(name[:20] + "!")
        statements.append(
            f"create schema {q};"
            f"create table {q}.{q} ({q} int default 1, constraint {key} primary key ({q}));"
            f"create table {q}.referencing (id int, {q} int,"
            f" constraint {q} foreign key ({q}) references {q}.{q} ({q}),"
            f" constraint {check} check ({q} > 0));"
            f"create index on {q}.referencing (({q} + 1)) where {q} > 0;"
            f"create function {q}.{q}() returns trigger language plpgsql as"
            " 'begin return null; end';"
            f"create trigger {q} after delete on {q}.{q} for each row execute function {q}.{q}();"
            f"create rule {q} as on delete to {q}.{q} do also select 1;"
        )
    schema = inspect_after("".join(statements))
    assert len(schema.tables) == 2 * len(ODD_NAMES)
    for name in ODD_NAMES:
        table = schema.table(TableName(name, name))
        assert table.columns[0].name == name
        assert table.primary_key is not None
        assert (table.primary_key.name, table.primary_key.columns) == (name[:20] + "?", (name,))
        assert (table.triggers[0].name, table.rules[0].name) == (name, name)
        assert table.triggers[0].function == f"{quote(name)}.{quote(name)}"
        key = schema.foreign_key(TableName(name, "referencing"), name)
        assert (key.referencing_columns, key.referenced_columns) == ((name,), (name,))
        assert schema.resolve_table(f"{quote(name)}.{quote(name)}") == table.name
        assert schema.resolve_table(quote(name)) == table.name
    # What is printed is SQL that means the same.
    again = "".join(
        f"alter table {key.referencing} drop constraint {quote(key.name)};"
        f"alter table {key.referencing} add constraint {quote(key.name)} {key.definition};"
        for key in schema.foreign_keys
    )
    for before, after in zip(schema.foreign_keys, inspect_after(again).foreign_keys, strict=True):
        assert (before.label, before.definition) == (after.label, after.definition)


def test_percent_signs_and_colons_in_texts_do_no_harm(inspect_after: Inspect) -> None:
    text = "50% :a %s %(b)s ::int {c} \\d"
    schema = inspect_after(
        f"""
        create table t (a text default '{text}' check (a <> '{text}'), b int);
        create index on t ((a || '{text}')) where a > '{text}';
        create table up (id int primary key);
        create table down (a int constraint k references up);
        comment on constraint k on down is '{text}';
        """
    )
    table = schema.table(TableName("public", "t"))
    (index,) = table.indexes
    assert table.column("a").default == f"'{text}'::text"
    assert text in table.constraints[0].definition
    assert index.predicate is not None
    assert text in index.predicate
    assert text in (index.keys[0].expression or "")
    assert schema.foreign_keys[0].comment == text


def test_the_same_names_in_many_schemas_are_kept_apart(inspect_after: Inspect) -> None:
    schema = inspect_after(
        "".join(
            f"create schema s{number}; set search_path = s{number};"
            "create table up (id int primary key);"
            f"create table down (a{number} int constraint k references up);"
            for number in range(5)
        )
    )
    assert [(key.label, key.arrow) for key in schema.foreign_keys] == [
        (f"s{number}.down.k", f"a{number} → s{number}.up(id)") for number in range(5)
    ]
    for number in range(5):
        assert len(schema.keys_to(TableName(f"s{number}", "up"))) == 1


def test_a_database_in_an_old_encoding_is_read(server_url: str, inspect_at: Inspect) -> None:
    with _database_encoded(server_url, "EUC_KR") as url:
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as c:
            connection.set_client_encoding("UTF8")
            c.execute('create table "이력서" ("제목" text default \'가\')')
        schema = inspect_at(url)
    assert [table.name.name for table in schema.tables] == ["이력서"]
    assert schema.tables[0].columns[0].name == "제목"


def test_names_that_are_in_no_encoding_are_refused_clearly(
    server_url: str, inspect_at: Inspect
) -> None:
    with _database_encoded(server_url, "SQL_ASCII") as url:
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as c:
            c.execute(b'create table "\xc3\xa9t\xc3\xa9" (id int)')
        assert [table.name.name for table in inspect_at(url).tables] == ["été"]
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as c:
            c.execute(b'create table "\xe9t\xe9" (id int)')
        with pytest.raises(ConfigError, match="SQL_ASCII"):
            inspect_at(url)


@contextmanager
def _database_encoded(server_url: str, encoding: str) -> Iterator[str]:
    name = f"fkd_test_{encoding.lower()}_{random.randrange(10**9)}"
    with closing(psycopg2.connect(server_url)) as server:
        server.autocommit = True
        with server.cursor() as cursor:
            provider = "locale_provider libc" if server.server_version >= 150000 else ""
            cursor.execute(
                f"create database {name} template template0 encoding '{encoding}'"
                f" lc_collate 'C' lc_ctype 'C' {provider}"
            )
            try:
                yield psycopg2.extensions.make_dsn(server_url, dbname=name)
            finally:
                cursor.execute(f"drop database {name}")


# Other people at work

CHANGES = (
    "create table busy_{n} (id int primary key, a int default 1 + 1 check (a > 0),"
    " up int references shops)",
    "create index on busy_{n} ((a + 1)) where a > 0",
    "alter table busy_{n} add column b text default 'x', add check (b <> '')",
    "alter table busy_{n} rename to busier_{n}",
    "create table part_{n} partition of orders for values from ({n}000) to ({n}999)",
    "alter table orders detach partition part_{n}",
    "drop table busier_{n}",
    "drop table part_{n}",
)


def test_a_schema_that_changes_meanwhile_is_read_whole_or_not_at_all(
    inspect_after: Inspect, inspect_at: Inspect, database_url: str
) -> None:
    quiet = inspect_after(SHOP)
    finished = threading.Event()
    made: list[str] = []
    problems: list[Exception] = []

    def change(number: int) -> None:
        with closing(psycopg2.connect(database_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for turn in itertools.count(number, 10):
                    for statement in CHANGES:
                        if finished.wait(0.02):
                            return
                        try:
                            cursor.execute(statement.format(n=turn))
                        except psycopg2.errors.DeadlockDetected:
                            break
                        except psycopg2.Error as problem:
                            problems.append(problem)
                            return
                        made.append(statement)

    threads = [threading.Thread(target=change, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    read = []
    try:
        for _ in range(60):
            with suppress(Blocked):
                read.append(inspect_at(database_url))
            if len(read) > 10 and set(made) == set(CHANGES):
                break
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    assert problems == []
    assert set(made) == set(CHANGES)
    assert read
    for schema in read:
        for table in quiet.tables:
            assert schema.table(table.name).columns == table.columns
            assert schema.table(table.name).indexes == table.indexes
        assert {key.label for key in quiet.foreign_keys} <= {
            key.label for key in schema.foreign_keys
        }
        for table in schema.tables:
            if table.name.name.startswith("busy"):
                assert table.primary_key is not None


@pytest.mark.parametrize("locked", ["public.orders, public.orders_1", "pg_catalog.pg_trigger"])
def test_a_lock_that_keeps_readers_out_is_named_in_the_end(
    inspect_after: Inspect, inspect_at: Inspect, database_url: str, locked: str
) -> None:
    inspect_after(SHOP)
    with closing(psycopg2.connect(database_url, application_name="alembic")) as connection:
        with connection.cursor() as cursor:
            try:
                cursor.execute(f"lock table {locked} in access exclusive mode")
            except psycopg2.errors.InsufficientPrivilege:
                pytest.skip("only a superuser locks the catalog")
        with pytest.raises(Blocked) as refused:
            inspect_at(database_url)
        pid = connection.info.backend_pid
    what, why, to_type = str(refused.value).splitlines()
    assert "lock that keeps readers out" in what
    assert why.startswith(f"Process {pid} (alembic, idle in transaction, ")
    assert why.endswith(f" s old) has locked {locked}.")
    assert to_type == "Run it again when that transaction has ended."


def test_a_short_lock_is_waited_for(
    inspect_after: Inspect, inspect_at: Inspect, database_url: str
) -> None:
    quiet = inspect_after(SHOP)
    with closing(psycopg2.connect(database_url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("lock table shops in access exclusive mode")
        timer = threading.Timer(0.7, connection.rollback)
        timer.start()
        try:
            assert astuple(inspect_at(database_url)) == astuple(quiet)
        finally:
            timer.join()


def test_writers_are_not_disturbed(inspect_after: Inspect, database_url: str) -> None:
    inspect_after(SHOP)
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("lock table shops, orders in share row exclusive mode")
        assert len(inspect_after().tables) == 3


# Size


def test_thousands_of_tables_are_read(inspect_after: Inspect, execute: Execute) -> None:
    # In pieces: each table takes locks until the end of its transaction.
    for piece in range(10):
        execute(
            f"""
            do $$ begin
                for n in {piece * 200}..{piece * 200 + 199} loop
                    execute format('create table t%s (id int primary key default 1 + 1, up int'
                        ' constraint k references t%s, check (up > 0))', n, greatest(n - 1, 0));
                end loop;
            end $$
            """
        )
    schema = inspect_after()
    assert len(schema.tables) == len(schema.foreign_keys) == 2_000
    assert all(len(key.triggers) == 4 for key in schema.foreign_keys)
    assert {table.kind for table in schema.tables} == {TableKind.TABLE}


@pytest.mark.usefixtures("superuser")
def test_a_key_into_a_system_schema_is_named_as_unread(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table information_schema.levels (id int primary key);
        create table t (a int constraint "To there" references information_schema.levels);
        """
    )
    assert schema.foreign_keys == ()
    assert [unread.subject for unread in schema.unread] == ['foreign key "To there"']
