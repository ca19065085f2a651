"""What surrounds tables: owners' rights, trigger functions, rules, subscriptions, statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from fkdoctor.schema import RewriteRule, Schema, Table, TableName

Inspect = Callable[..., Schema]
Execute = Callable[[str], list[tuple[object, ...]]]


def _table(schema: Schema, name: str) -> Table:
    return schema.table(TableName("public", name))


@pytest.fixture
def role(server_url: str, execute: Execute) -> Iterator[str]:
    """A role that may create tables in the test's database."""
    name = f"fkd_role_{uuid4().hex}"
    execute(f"create role {name}; grant all on schema public to {name}")
    try:
        yield name
    finally:
        execute(f"drop owned by {name}; drop role {name}")


@pytest.mark.usefixtures("superuser")
def test_what_an_owner_may_not_do_with_the_own_table_is_read(
    inspect_after: Inspect, execute: Execute, role: str
) -> None:
    execute(
        f"""
        create schema closed; grant all on schema closed to {role}; set role {role};
        create table whole (id int, b int);
        create table bare (id int); revoke all on bare from {role};
        create table frozen (id int); revoke update, delete on frozen from {role};
        create table one_column (id int, b int); revoke update on one_column from {role};
        grant update (b) on one_column to {role};
        create table closed.hidden (id int); reset role;
        revoke all on schema closed from {role};
        create table ours (id int); revoke all on ours from current_user
        """
    )
    schema = inspect_after()

    lacking = {table.name.name: table.owner_lacks for table in schema.tables}
    assert lacking == {
        "bare": ("SELECT", "UPDATE", "DELETE"),
        "frozen": ("UPDATE", "DELETE"),
        "hidden": ("USAGE",),
        "one_column": (),
        "ours": (),
        "whole": (),
    }


def test_the_source_of_trigger_functions_is_read(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table t (id int);
        create function "Keep it"() returns trigger language plpgsql as 'begin return null; end';
        create function other() returns int language sql as 'select 1';
        create trigger keep before delete on t for each row execute function "Keep it"();
        create trigger same before update on t for each row
            execute function suppress_redundant_updates_trigger();
        """
    )
    keep, same = _table(schema, "t").triggers
    function = schema.trigger_function(keep)

    assert function is not None
    assert (function.name, function.language) == ('public."Keep it"', "plpgsql")
    assert function.source == "begin return null; end"
    assert schema.trigger_function(same) is None
    assert len(schema.trigger_functions) == 1


def test_rules_tell_what_they_put_in_place(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table t (id int, gone boolean);
        create table log (id int);
        create rule a as on delete to t do instead nothing;
        create rule b as on delete to t where old.gone do instead nothing;
        create rule c as on delete to t do instead update t set gone = true where id = old.id;
        create rule d as on delete to t do instead delete from log where id = old.id;
        create rule e as on delete to t do instead (insert into log values (1); delete from log);
        create rule f as on update to t where new.gone do also insert into log values (1);
        """
    )
    told = {
        rule.name: (rule.conditional, rule.same_command, rule.acting)
        for rule in _table(schema, "t").rules
        if isinstance(rule, RewriteRule)
    }

    assert told == {
        "a": (False, False, True),
        "b": (True, False, True),
        "c": (False, False, True),
        "d": (False, True, True),
        "e": (False, True, True),
        "f": (True, False, True),
    }


@pytest.mark.usefixtures("superuser")
def test_tables_that_a_subscription_writes_into_are_read(
    inspect_after: Inspect, execute: Execute
) -> None:
    execute("create table fed (id int primary key); create table other (id int)")
    # As if the publisher had been asked for its tables.
    execute(
        "create subscription feed connection 'host=nowhere' publication p"
        " with (connect = false, slot_name = none)"
    )
    try:
        execute(
            "insert into pg_subscription_rel (srsubid, srrelid, srsubstate, srsublsn)"
            " select oid, 'fed'::regclass, 'r', '0/0' from pg_subscription where subname = 'feed'"
        )
        schema = inspect_after()
    finally:
        execute("drop subscription feed")

    assert _table(schema, "fed").subscriptions == ("feed",)
    assert _table(schema, "other").subscriptions == ()


def test_the_highest_number_is_read_where_keys_reference_it(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table up (id int primary key, big bigint unique, code text unique, free int);
        insert into up select i, i * 1000000::bigint, i, i from generate_series(1, 2000) as i;
        create table down (a int references up, b bigint references up (big),
            c text references up (code));
        create table many (id smallint primary key);
        insert into many values (7), (9); create table few (a smallint references many);
        create table none (id int primary key); create table nobody (a int references none);
        analyze;
        """
    )

    highest = {
        f"{table.name.name}.{column.name}": column.highest
        for table in schema.tables
        for column in table.columns
        if column.highest is not None
    }
    assert highest == {"up.id": 2000, "up.big": 2_000_000_000, "many.id": 9}


def test_a_key_that_is_not_valid_says_since_when_if_the_server_knows(
    inspect_after: Inspect, execute: Execute
) -> None:
    schema = inspect_after(
        """
        create table up (id int primary key);
        create table down (a int references up, b int);
        alter table down add constraint late foreign key (b) references up not valid;
        """
    )
    (knows,) = execute("select current_setting('track_commit_timestamp') = 'on'")[0]
    valid, late = schema.foreign_keys

    assert valid.written_at is None
    assert (late.written_at is not None) is knows
