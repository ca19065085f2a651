"""Roles that may not read everything: what is missing is said, never left out in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from uuid import uuid4

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from fkdoctor.errors import ConfigError
from fkdoctor.schema import Schema, Unread

Execute = Callable[[str], list[tuple[object, ...]]]
Inspect = Callable[..., Schema]

pytestmark = pytest.mark.usefixtures("superuser")

SHOP = """
    create schema shop; create schema hidden;
    create table shop.customers (id int primary key, name text default 'x' check (name <> ''));
    create table shop.orders (
        id int primary key, customer int constraint by references shop.customers on delete cascade
    );
    create index on shop.orders (customer) where customer > 0;
    create table hidden.notes (id int, customer int constraint of references shop.customers);
    create function shop.note() returns trigger language plpgsql as 'begin return null; end';
    create trigger note after delete on shop.customers for each row execute function shop.note();
    create rule keep as on delete to shop.orders do also select 1;
"""


@pytest.fixture
def role(server_url: str, execute: Execute) -> Iterator[str]:
    """A role that may do nothing, in a database that holds SHOP."""
    name = f"fkd_role_{uuid4().hex}"
    execute(SHOP + f"create role {name} login")
    try:
        yield name
    finally:
        execute(f"drop owned by {name}; drop role {name}")


@pytest.fixture
def inspect_as(database_url: str, role: str, inspect_at: Inspect) -> Callable[[], Schema]:
    """Looks at the test's database as the role."""
    return lambda: inspect_at(make_dsn(database_url, options=f"-c role={role}"))


def test_a_role_without_any_right_reads_every_definition(
    inspect_as: Inspect, inspect_after: Inspect, execute: Execute, role: str
) -> None:
    everything = inspect_after()
    assert all(table.readable for table in everything.tables)
    seen = inspect_as()
    assert seen.foreign_keys == everything.foreign_keys
    assert len(seen.foreign_keys) == 2
    assert seen.unread == ()
    for table, whole in zip(seen.tables, everything.tables, strict=True):
        assert not table.readable
        assert (table.columns, table.indexes) == (whole.columns, whole.indexes)
        assert (table.constraints, table.triggers) == (whole.constraints, whole.triggers)
        assert table.rules == whole.rules
    # PostgreSQL agrees that the role may not read the rows.
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        execute(f"set role {role}; select * from shop.customers")


def test_rows_are_readable_with_usage_and_select_together(
    inspect_as: Inspect, execute: Execute, role: str
) -> None:
    execute(f"grant select on shop.customers, hidden.notes to {role}")
    assert not any(table.readable for table in inspect_as().tables)
    execute(f"grant usage on schema shop to {role}")
    readable = {str(table.name): table.readable for table in inspect_as().tables}
    assert readable == {"hidden.notes": False, "shop.customers": True, "shop.orders": False}


@pytest.mark.parametrize(
    ("catalog", "subjects"),
    [
        # The triggers of keys are told by pg_trigger too.
        ("pg_trigger", {"triggers", "key triggers"}),
        ("pg_rewrite", {"rules"}),
    ],
)
def test_an_optional_part_that_is_closed_is_named(
    inspect_as: Inspect, inspect_after: Inspect, execute: Execute, catalog: str, subjects: set[str]
) -> None:
    everything = inspect_after()
    execute(f"revoke select on pg_catalog.{catalog} from public")
    seen = inspect_as()
    assert {unread.subject for unread in seen.unread} == subjects
    assert all(catalog in unread.reason for unread in seen.unread)
    assert all(isinstance(unread, Unread) for unread in seen.unread)
    # No key is missing, only what the closed catalog would have told.
    assert [key.label for key in seen.foreign_keys] == [
        key.label for key in everything.foreign_keys
    ]
    assert [key.definition for key in seen.foreign_keys] == [
        key.definition for key in everything.foreign_keys
    ]


@pytest.mark.parametrize(
    "catalog",
    [
        "pg_constraint",
        "pg_attribute",
        "pg_class",
        "pg_namespace",
        "pg_index",
        "pg_type",
        "pg_inherits",
        "pg_attrdef",
        "pg_collation",
        "pg_description",
        "pg_operator",
        "pg_amop",
        "pg_opclass",
    ],
)
def test_without_a_needed_catalog_there_is_one_clear_error(
    inspect_as: Inspect, execute: Execute, catalog: str
) -> None:
    execute(f"revoke select on pg_catalog.{catalog} from public")
    with pytest.raises(ConfigError) as refused:
        inspect_as()
    what, why, to_type = str(refused.value).splitlines()
    assert what == "The catalog could not be read."
    assert f"permission denied for table {catalog}" in why
    assert "grant" in to_type


@pytest.mark.parametrize("function", ["pg_get_constraintdef(oid)", "pg_get_indexdef(oid)"])
def test_without_a_needed_function_there_is_one_clear_error(
    inspect_as: Inspect, execute: Execute, function: str
) -> None:
    execute(f"revoke execute on function pg_catalog.{function} from public")
    with pytest.raises(ConfigError, match="permission denied for function"):
        inspect_as()


def test_a_role_with_its_own_search_path_reads_the_same(
    database_url: str, role: str, inspect_at: Inspect, inspect_after: Inspect, execute: Execute
) -> None:
    everything = inspect_after(
        """
        create schema evil;
        create function evil.current_schema() returns name language plpgsql
            as $$ begin raise exception 'shadowed'; end $$;
        create function evil.pg_get_expr(pg_node_tree, oid) returns text language plpgsql
            as $$ begin raise exception 'shadowed'; end $$;
        create table evil.pg_constraint (oid oid);
        """
    )
    execute(
        f"grant usage on schema evil to {role};alter role {role} set search_path = evil, pg_catalog"
    )
    as_role = make_dsn(database_url, user=role)
    try:
        connection = psycopg2.connect(as_role)
    except psycopg2.OperationalError:
        pytest.skip("this server lets no new role log in without a password")
    with (
        closing(connection),
        connection.cursor() as cursor,
        pytest.raises(psycopg2.errors.RaiseException, match="shadowed"),
    ):
        cursor.execute("select current_schema()")
    assert inspect_at(as_role).foreign_keys == everything.foreign_keys
