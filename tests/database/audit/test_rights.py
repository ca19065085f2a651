"""Does a key fail for want of a right, or pass row security and replication by, as claimed?"""

from __future__ import annotations

from typing import Any

import pytest

ACTIONS = ("no action", "cascade", "set null")
TABLES = (
    "create table up (id int primary key);"
    "create table down (id int primary key, a int references up on delete {action});"
    "insert into up values (1), (2), (3); insert into down values (1, 1);"
    "grant usage on schema {name} to {role};"
    "alter table up owner to {role}; alter table down owner to {role};"
)


@pytest.mark.usefixtures("superuser")
def test_a_right_that_an_owner_lacks_stops_everybody(lab: Any, role: str) -> None:
    lacking = [
        (table, right) for table in ("up", "down") for right in ("SELECT", "UPDATE", "DELETE")
    ]
    cases = {
        f"{action.replace(' ', '_')}_{table}_{right}".lower(): (action, table, right)
        for action in ACTIONS
        for table, right in lacking
    }
    lab.prepare(
        {
            name: TABLES.format(action=action, name=name, role=role)
            + f"revoke {right} on {table} from {role}"
            for name, (action, table, right) in cases.items()
        }
    )
    found = lab.found("FK035")

    for name in cases:
        told = found[name].detail if name in found else ""
        assert lab.refuses(name, "insert into down values (2, 2)") is ("inserted" in told), name
        assert lab.refuses(name, "delete from up where id = 3") is (
            "can be deleted" in told or ("inserted" in told and "no_action" in name)
        ), name
    for finding in found.values():
        lab.run_each(finding.sql)
    assert lab.found("FK035") == {}


@pytest.mark.usefixtures("superuser")
def test_an_owner_needs_the_schema(lab: Any, role: str) -> None:
    lab.prepare({"closed": TABLES.format(action="cascade", name="closed", role=role)})
    assert lab.found("FK035") == {}

    lab.run(f"revoke usage on schema closed from {role}")
    finding = lab.found("FK035")["closed"]
    assert lab.refuses("closed", "delete from up where id = 3")
    lab.run_each(finding.sql)
    assert not lab.refuses("closed", "delete from up where id = 3")


@pytest.mark.usefixtures("superuser")
def test_cascade_deletes_rows_that_a_policy_hides(lab: Any, role: str) -> None:
    up_down = TABLES.replace("{role};", "current_user;").replace("to current_user", "to {role}", 1)
    lab.prepare(
        {
            "hidden": up_down.format(action="cascade", name="hidden", role=role)
            + "alter table down enable row level security",
            "on_both": up_down.format(action="cascade", name="on_both", role=role)
            + "alter table down enable row level security;"
            "alter table up enable row level security",
            "blocking": up_down.format(action="restrict", name="blocking", role=role)
            + "alter table down enable row level security",
        }
    )
    assert set(lab.found("FK036")) == {"hidden"}

    lab.run(f"grant select, delete on hidden.up, hidden.down to {role}; set role {role}")
    assert lab.run("select count(*) from hidden.down") == [(0,)]
    lab.run("delete from hidden.up where id = 1; reset role")
    assert lab.run("select count(*) from hidden.down") == [(0,)]


@pytest.mark.usefixtures("superuser")
def test_replicated_changes_are_told_where_one_side_has_them(lab: Any) -> None:
    sql = TABLES.partition("grant")[0].format(action="cascade")
    lab.prepare({"whole": sql, "above": sql, "below": sql, "always": sql, "none": sql})
    triggers = lab.run(
        "select tgname, tgrelid::regclass::text from pg_trigger"
        " where tgrelid in ('always.up'::regclass, 'always.down'::regclass)"
    )
    for name, table in triggers:
        lab.run(f'alter table {table} enable always trigger "{name}"')
    lab.run(
        "create subscription feed connection 'host=nowhere' publication p"
        " with (connect = false, slot_name = none)"
    )
    try:
        lab.run(
            "insert into pg_subscription_rel (srsubid, srrelid, srsubstate, srsublsn)"
            " select s.oid, t.name::regclass, 'r', '0/0' from pg_subscription as s,"
            " unnest(array['whole.up', 'whole.down', 'above.up', 'below.down', 'always.up'])"
            " as t (name) where s.subname = 'feed'"
        )
        found = lab.found("FK037")
    finally:
        lab.run("drop subscription feed")
    assert set(found) == {"above", "below"}

    # What the worker that applies changes does: it is a session in this role.
    lab.run("set session_replication_role = replica")
    lab.run("delete from above.up where id = 1; insert into below.down values (9, 9)")
    lab.run("delete from always.up where id = 1; reset session_replication_role")
    assert lab.run("select count(*) from above.down") == [(1,)]
    assert lab.run("select count(*) from below.down where a = 9") == [(1,)]
    assert lab.run("select count(*) from always.down") == [(0,)]
