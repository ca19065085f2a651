"""Does the audit see every key that is not kept, and only those?"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg2
import psycopg2.errors
import pytest

from fkdoctor.audit import audit_schema

DELETE = "delete from up where id = 1"


PARTITIONED_UP = (
    "create table up (id int primary key) partition by range (id);"
    "create table up_1 partition of up for values from (0) to (10);"
    "create table up_2 partition of up for values from (10) to (20) partition by range (id);"
    "create table up_21 partition of up_2 for values from (10) to (20);"
    "insert into up values (0), (1), (11);"
)
PLAIN_UP = "create table up (id int primary key); insert into up values (0), (1), (11);"
PARTITIONED_DOWN = (
    "create table down (z int, a int references up) partition by range (z);"
    "create table down_1 partition of down for values from (0) to (10);"
    "create table down_2 partition of down for values from (10) to (20) partition by range (z);"
    "create table down_21 partition of down_2 for values from (10) to (20);"
)
PLAIN_DOWN = "create table down (z int, a int references up);"


def test_missing_triggers_are_found_exactly_where_rows_can_dangle(lab: Any) -> None:
    """However versions arrange triggers on partitioned tables, and whatever they forget."""
    cases = lab.prepare(
        {
            "plain": PLAIN_UP + PLAIN_DOWN,
            "from_partitioned": PLAIN_UP + PARTITIONED_DOWN,
            "to_partitioned": PARTITIONED_UP + PLAIN_DOWN,
            "both_partitioned": PARTITIONED_UP + PARTITIONED_DOWN,
            "attached": PLAIN_UP + "create table down (z int, a int references up)"
            " partition by range (z); create table down_1 (z int, a int);"
            "alter table down attach partition down_1 for values from (0) to (20)",
            "attached_with_key": PLAIN_UP + "create table down (z int, a int references up)"
            " partition by range (z); create table down_1 (z int, a int references up);"
            "alter table down attach partition down_1 for values from (0) to (20)",
            "referenced_attached": PARTITIONED_UP
            + PLAIN_DOWN
            + "create table up_3 (id int not null);"
            "alter table up attach partition up_3 for values from (20) to (30);"
            "insert into up values (21)",
            "detached": PLAIN_UP
            + PARTITIONED_DOWN.replace("table down (", "table whole (")
            .replace("of down for", "of whole for")
            .replace("down_1", "down")
            + "alter table whole detach partition down",
            "detached_from_both": PARTITIONED_UP
            + PARTITIONED_DOWN.replace("table down (", "table whole (")
            .replace("of down for", "of whole for")
            .replace("down_1", "down")
            + "alter table whole detach partition down",
            "own_key_of_leaf": PLAIN_UP
            + "create table whole (z int, a int) partition by range (z);"
            "create table down partition of whole for values from (0) to (20);"
            "alter table down add foreign key (a) references up",
            "self_reference": "create table down (id int primary key, a int references down);",
            "self_partitioned": "create table down (id int primary key, a int references down)"
            " partition by range (id);"
            "create table down_1 partition of down for values from (0) to (50)",
            "subpartitioned_later": PLAIN_UP
            + PARTITIONED_DOWN
            + "create table down_22 partition of down for values from (20) to (30)"
            " partition by range (z);"
            "create table down_221 partition of down_22 for values from (20) to (30)",
            "period": (
                "create extension btree_gist schema public;"
                "create table up (id int, at int4range, primary key (id, at without overlaps));"
                "create table down (z int, a int, at int4range,"
                " foreign key (a, period at) references up (id, period at));",
                18,
                99,
            ),
        }
    )
    dangling = {case for case in cases if _rows_can_dangle(lab, case)}

    assert set(lab.found("FK006")) == dangling
    # 12 forgets keys of detached partitions and of partitioned tables that reference themselves;
    # 13 and 14 lose the key of a detached partition altogether: there is none to look at.
    known = {12: {"detached_from_both", "self_partitioned"}}
    assert dangling == known.get(lab.major, set())


def _rows_can_dangle(lab: Any, case: str) -> bool:
    if not lab.run(
        f"select 1 from pg_constraint where contype = 'f' and conrelid = '{case}.down'::regclass"
    ):
        return False
    attempts = {
        "self_reference": ["insert into down values (1, 77)"],
        "self_partitioned": ["insert into down values (1, 77)"],
        "period": ["insert into down values (1, 1, '[20,25)')"],
    }.get(case, [f"insert into down values ({z}, 77)" for z in (1, 11, 21)])
    if case.startswith("self_"):
        lab.run(f"insert into {case}.down values (2, 2), (3, 2)")
        attempts += ["delete from down where id = 2", "update down set id = 4 where id = 2"]
    elif case == "period":
        lab.run(f"insert into {case}.up values (1, '[1,9)')")
        lab.run(f"insert into {case}.down values (1, 1, '[2,5)')")
        attempts += ["delete from up", "update up set id = 2"]
    else:
        for (identity,) in lab.run(f"select id from {case}.up"):
            lab.run(f"insert into {case}.down values (1, {identity})")
            attempts += [f"delete from up where id = {identity}"]
            attempts += [f"update up set id = {identity} + 2 where id = {identity}"]
    # A row that is in no partition is refused too, which says nothing about the key.
    return not all(lab.refuses(case, attempt) for attempt in attempts)


@pytest.mark.usefixtures("superuser")
def test_missing_triggers_can_be_put_back(lab: Any) -> None:
    case = PLAIN_UP + PLAIN_DOWN + "insert into down values (1, 1);"
    lab.prepare(
        {
            name: case
            + "delete from pg_depend where classid = 'pg_trigger'::regclass and objid in"
            + f" (select oid from pg_trigger where tgrelid = '{table}'::regclass and tgisinternal);"
            + f"delete from pg_trigger where tgrelid = '{table}'::regclass and tgisinternal"
            for name, table in (("without_action", "up"), ("without_check", "down"))
        }
    )
    lab.reconnect()
    found = lab.found("FK006")

    assert (
        "acting on DELETE and acting on UPDATE of without_action.up"
        in found["without_action"].detail
    )
    assert (
        "checking INSERT and checking UPDATE of without_check.down" in found["without_check"].detail
    )
    assert not lab.refuses("without_check", "insert into down values (1, 77); delete from down")
    for finding in found.values():
        lab.run_each(finding.sql)
    assert lab.found("FK006") == {}
    assert lab.refuses("without_action", DELETE)
    assert lab.refuses("without_check", "insert into down values (1, 77)")


@pytest.mark.usefixtures("superuser")
@pytest.mark.parametrize("state", ["disable trigger all", "enable replica trigger"])
def test_disabled_triggers_let_rows_dangle_and_the_pasted_sql_shows_them(
    lab: Any, state: str
) -> None:
    lab.prepare({"sound": PLAIN_UP + PLAIN_DOWN, "broken": PLAIN_UP + PLAIN_DOWN})
    if state == "enable replica trigger":
        names = lab.run("select tgname from pg_trigger where tgrelid = 'broken.down'::regclass")
        for (name,) in names:
            lab.run(f'alter table broken.down enable replica trigger "{name}"')
    else:
        lab.run(f"alter table broken.down {state}")

    (finding,) = lab.found("FK005").values()
    assert finding.detail == ("Switched off: checking INSERT and checking UPDATE of broken.down.")
    assert lab.refuses("sound", "insert into down values (1, 77)")
    assert not lab.refuses("broken", "insert into down values (1, 77)")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation, match=r"\(a\)=\(77\)"):
        lab.run_each(finding.sql)
    assert lab.found("FK005") == {}


def test_disabled_triggers_of_users_are_no_finding(lab: Any) -> None:
    lab.prepare({"users": PLAIN_UP + PLAIN_DOWN + "alter table down disable trigger user;"})

    assert lab.found("FK005") == lab.found("FK006") == {}


@pytest.mark.usefixtures("superuser")
def test_a_partition_whose_triggers_are_disabled_is_named(lab: Any) -> None:
    lab.prepare({"leaf": PLAIN_UP + PARTITIONED_DOWN + "alter table down_1 disable trigger all"})

    assert "leaf.down_1" in lab.found("FK005")["leaf"].detail
    assert not lab.refuses("leaf", "insert into down values (1, 77)")
    assert lab.refuses("leaf", "insert into down values (11, 77)")


@pytest.mark.usefixtures("superuser")
def test_replica_sessions_are_found_and_keep_no_key(lab: Any) -> None:
    lab.prepare({"load": PLAIN_UP + PLAIN_DOWN})
    database = lab.connection.info.dbname
    lab.run(f"alter database {database} set session_replication_role = 'Replica'")

    (finding,) = (f for f in audit_schema(lab.schema()) if f.rule.id == "FK007")
    assert finding.subject == f"DATABASE {database}"
    with closing(psycopg2.connect(lab.url)) as connection, connection.cursor() as cursor:
        cursor.execute("insert into load.down values (1, 77)")
    lab.run_each(finding.sql)
    assert "FK007" not in [f.rule.id for f in audit_schema(lab.schema())]


def test_not_valid_partitions_of_a_valid_key_are_no_finding(lab: Any) -> None:
    """Up to 17 the copies for the partitions of a referenced table stay marked NOT VALID."""
    lab.prepare(
        {
            "validated": PARTITIONED_UP + "create table down (a int);"
            "alter table down add foreign key (a) references up not valid;"
            "alter table down validate constraint down_a_fkey",
            "waiting": PARTITIONED_UP + "create table down (a int);"
            "insert into down values (77);"
            "alter table down add foreign key (a) references up not valid",
        }
    )

    (finding,) = lab.found("FK003").values()
    assert finding.subject == "waiting.down.down_a_fkey"
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        lab.run_each(finding.sql)

    written = datetime(2026, 1, 31, 12)
    schema = lab.schema()
    dated = replace(
        schema,
        foreign_keys=tuple(replace(key, written_at=written) for key in schema.foreign_keys),
    )
    details = [one.detail for one in audit_schema(dated) if one.rule.id == "FK003"]
    assert [detail.endswith("It is so since 2026-01-31.") for detail in details] == [True]


def test_a_key_that_would_be_validated_row_by_row_says_so(lab: Any, role: str) -> None:
    def case(grant: str) -> str:
        return (
            "create table up (id int primary key); insert into up select generate_series(1, 500);"
            "create table t (id int primary key, a int);"
            "insert into t select n, n from generate_series(1, 500) as n;"
            "alter table t add foreign key (a) references up not valid;"
            f"alter table t owner to {role}; grant usage on schema :schema to {role}; {grant}"
        )

    cases = {
        "secret": case(""),
        "readable": case(f"grant select on up to {role}"),
        "by_column": case(f"grant select (id) on up to {role}"),
        "secured": case(f"grant select on up to {role}; alter table up enable row level security"),
        "own": case(f"alter table up owner to {role}; alter table up enable row level security"),
    }
    names = lab.prepare({name: sql.replace(":schema", name) for name, sql in cases.items()})
    findings = lab.found("FK003")
    said = {name for name in names if "looked up by itself" in findings[name].detail}

    looked_up = set()
    for name in names:
        ((lookups,),) = lab.run(
            f"set local role {role}; alter table {name}.t validate constraint t_a_fkey;"
            " select coalesce(idx_scan, 0) from pg_stat_xact_user_tables"
            f" where relid = '{name}.up'::regclass"
        )
        if lookups >= 500:
            looked_up.add(name)
    assert said == looked_up == {"secret", "secured"}
