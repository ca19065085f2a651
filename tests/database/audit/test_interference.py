"""Do triggers and rules meet what a key does just as the audit says?"""

from __future__ import annotations

from typing import Any

UP = "create table up (id int primary key); insert into up values (0), (1), (2);"
DELETE = "delete from up where id = 1"
UPDATE = "update up set id = 5 where id = 1"


def function(body: str) -> str:
    return f"create function f() returns trigger language plpgsql as $f$ begin {body} end $f$;"


def trigger(event: str, more: str = "for each row") -> str:
    return f"create trigger t before {event} on down {more} execute function f();"


def dangling(lab: Any, case: str, statement: str = DELETE) -> bool:
    """Whether the statement leaves a row behind that references nothing."""
    assert not lab.refuses(case, statement)
    ((count,),) = lab.run(
        f"select count(*) from {case}.down as d where d.a is not null"
        f" and not exists (select from {case}.up as u where u.id = d.a)"
    )
    return bool(count)


def test_an_action_is_swallowed_exactly_where_a_row_dangles(lab: Any) -> None:
    def down(action: str, more: str = "") -> str:
        return (
            UP + f"create table down (a int default 0 references up on delete {action}, d boolean)"
            f"{more}; insert into down values (1, true);"
        )

    skip, keep = function("return null;"), function("return old;")
    cases = lab.prepare(
        {
            "cascade": down("cascade") + skip + trigger("delete"),
            "cascade_new": down("cascade") + function("return new;") + trigger("delete or update"),
            "cascade_both": down("cascade")
            + function("if tg_op = 'DELETE' then return old; end if; return new;")
            + trigger("delete or update"),
            "cascade_kept": down("cascade") + keep + trigger("delete"),
            "cascade_refused": down("set null")
            + function("raise exception 'no';")
            + trigger("delete"),
            "cascade_update": down("cascade") + skip + trigger("update"),
            "cascade_statement": down("cascade") + skip + trigger("delete", "for each statement"),
            "cascade_disabled": down("cascade")
            + skip
            + trigger("delete")
            + "alter table down disable trigger t",
            "cascade_replica": down("cascade")
            + skip
            + trigger("delete")
            + "alter table down enable replica trigger t",
            "cascade_when": down("cascade") + skip + trigger("delete", "for each row when (old.d)"),
            "cascade_maybe": down("cascade")
            + function("if old.d then return null; end if; return old;")
            + trigger("delete"),
            "cascade_depth": down("cascade")
            + function("if pg_trigger_depth() = 1 then return null; end if; return old;")
            + trigger("delete"),
            "set_null": down("set null") + skip + trigger("update"),
            "set_null_delete": down("set null") + skip + trigger("delete"),
            "set_null_of": down("set null") + skip + trigger("update of a"),
            "set_null_of_other": down("set null") + skip + trigger("update of d"),
            "set_null_kept": down("set null") + function("return new;") + trigger("update"),
            "set_null_same": down("set null")
            + function("if new is not distinct from old then return null; end if; return new;")
            + trigger("update"),
            "set_null_put_back": down("set null")
            + function("new.a := old.a; return new;")
            + trigger("update"),
            "set_null_other_put_back": down("set null")
            + function("new.d := old.d; return new;")
            + trigger("update"),
            "partition": UP + "create table down (a int references up on delete cascade, d boolean)"
            " partition by list (d); create table down_1 partition of down for values in (true);"
            "insert into down values (1, true);"
            + skip
            + trigger("delete").replace("on down", "on down_1"),
            "not_enforced": (
                UP + "create table down (a int references up on delete cascade not enforced);"
                "insert into down values (0);" + skip + trigger("delete"),
                18,
                99,
            ),
        }
    )
    swallowed = {case for case in cases if dangling(lab, case)}
    found = lab.found("FK023")

    assert set(found) == swallowed
    assert {"cascade", "cascade_new", "set_null", "partition"} < swallowed < set(cases)
    assert {case for case in found if found[case].severity.label == "warning"} == {
        "cascade_when",
        "cascade_maybe",
        "set_null_put_back",
    }


def test_an_action_on_update_is_swallowed_too(lab: Any) -> None:
    down = "create table down (a int references up on update {}); insert into down values (1);"
    cases = lab.prepare(
        {
            "cascade": UP + down.format("cascade") + function("return null;") + trigger("update"),
            "set_null": UP + down.format("set null") + function("return null;") + trigger("update"),
            "delete": UP + down.format("cascade") + function("return null;") + trigger("delete"),
        }
    )
    swallowed = {case for case in cases if dangling(lab, case, UPDATE)}

    assert set(lab.found("FK023")) == swallowed == {"cascade", "set_null"}


def test_a_rule_replaces_an_action_exactly_where_it_fails_or_leaves_a_row(lab: Any) -> None:
    def down(action: str, rule: str) -> str:
        return (
            UP + f"create table down (a int references up on delete {action}, d boolean);"
            f"create table log (x int); create rule r as on {rule};"
            "insert into down values (1, true);"
        )

    cases = lab.prepare(
        {
            "nothing": down("cascade", "delete to down do instead nothing"),
            "update": down("cascade", "delete to down do instead update down set d = null"),
            "other_delete": down("cascade", "delete to down do instead delete from log"),
            "only_some": down("cascade", "delete to down where old.d do instead nothing"),
            "also": down("cascade", "delete to down do also insert into log values (1)"),
            "on_update": down("cascade", "update to down do instead nothing"),
            "on_insert": down("cascade", "insert to log do instead nothing"),
            "disabled": down("cascade", "delete to down do instead nothing")
            + "alter table down disable rule r",
            "replica": down("cascade", "delete to down do instead nothing")
            + "alter table down enable replica rule r",
            "set_null": down("set null", "update to down do instead nothing"),
            "set_null_where": down("set null", "update to down where old.d do instead nothing"),
            "set_null_delete": down("set null", "delete to down do instead nothing"),
            "restrict": down("restrict", "delete to down do instead nothing") + "truncate down",
        }
    )
    # Row 2 is one that nothing references.
    failing = {case for case in cases if lab.refuses(case, "delete from up where id = 2")}
    left = {case for case in set(cases) - failing if dangling(lab, case)}
    found = lab.found("FK024")

    assert set(found) == failing | left
    assert failing == {"nothing", "update", "set_null"}
    assert left == {"other_delete", "only_some", "set_null_where"}
    for case, finding in found.items():
        assert ("referenced or not" in finding.detail) is (case in failing)
        lab.run_each(finding.sql)
    assert lab.found("FK024") == {}
    # A session that has met the rule keeps the plan made under it.
    lab.reconnect()
    assert not any(lab.refuses(case, DELETE) for case in failing)


def test_triggers_that_cascade_fires_are_named_and_fire(lab: Any) -> None:
    log = (
        UP
        + "create table log (x text);"
        + function("insert into log values (tg_name); return old;")
    )
    after = "create trigger t after {} execute function f();"
    down = "create table down (a int references up on delete {}); insert into down values (1);"
    cases = lab.prepare(
        {
            "row": log + down.format("cascade") + after.format("delete on down for each row"),
            "statement": log + down.format("cascade") + after.format("delete on down"),
            "before": log + down.format("cascade") + trigger("delete"),
            "update": log + down.format("cascade") + after.format("update on down"),
            "set_null": log + down.format("set null") + after.format("delete on down"),
            "truncate": log + down.format("cascade") + after.format("truncate on down"),
        }
    )
    for case in cases:
        assert not lab.refuses(case, DELETE)
    fired = {case for case in cases if lab.run(f"select x from {case}.log")}
    found = lab.found("FK025")

    assert set(found) == fired == {"row", "statement", "before"}
    assert "fires t (AFTER DELETE for each row, " in found["row"].detail


def test_a_trigger_that_swallows_is_told_once(lab: Any) -> None:
    lab.prepare(
        {
            "swallowed": UP
            + "create table down (a int references up on delete cascade);"
            + function("return null;")
            + trigger("delete")
        }
    )

    assert lab.found("FK025") == {}
    assert set(lab.found("FK023")) == {"swallowed"}


def test_an_action_is_refused_exactly_where_a_trigger_always_raises(lab: Any) -> None:
    down = "create table down (a int references up on delete {}, d boolean);"
    row = "insert into down values (1, true);"
    refuse = function("raise exception 'no';")
    sometimes = function("if old.d is null then raise exception 'no'; end if; return old;")
    for_inserts = function("if tg_op = 'INSERT' then raise exception 'no'; end if; return null;")
    after = "create trigger t after {} on down for each row execute function f();"
    cases = lab.prepare(
        {
            "cascade": UP + down.format("cascade") + row + refuse + trigger("delete"),
            "after": UP + down.format("cascade") + row + refuse + after.format("delete"),
            "other_event": UP + down.format("cascade") + row + refuse + trigger("update"),
            "set_null": UP + down.format("set null") + row + refuse + trigger("update"),
            "set_null_of": UP + down.format("set null") + row + refuse + trigger("update of d"),
            "set_null_delete": UP + down.format("set null") + row + refuse + trigger("delete"),
            "sometimes": UP + down.format("cascade") + row + sometimes + trigger("delete"),
            "inserts": UP + down.format("cascade") + for_inserts + after.format("insert or delete"),
            "statement": UP
            + down.format("cascade")
            + refuse
            + trigger("delete", "for each statement"),
            "row_but_none": UP + down.format("cascade") + refuse + trigger("delete"),
        }
    )
    failing = {case for case in cases if lab.refuses(case, DELETE)}
    found = lab.found("FK026")

    assert set(found) - {"row_but_none"} == failing
    assert failing == {"cascade", "after", "set_null", "statement"}
    assert "be there such rows or not" in found["statement"].detail
    assert set(lab.found("FK025")) == {"sometimes", "inserts"}
