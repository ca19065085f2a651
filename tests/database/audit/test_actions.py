"""Does the audit say rightly what a rule of deletion will do?"""

from __future__ import annotations

from typing import Any

UP = "create table up (id int primary key); insert into up values (0), (1);"
PAIR = "create table up (id int, y int, primary key (id, y)); insert into up values (0, 0), (1, 1);"
BOTH = "foreign key (a, b) references up"
DELETE = "delete from up where id = 1"


def test_set_null_is_found_exactly_where_it_fails(lab: Any) -> None:
    def one(column: str, more: str = "") -> str:
        return (
            UP + f"create table down (a {column} default 1 references up on delete set null{more})"
        )

    def two(a: str, key: str) -> str:
        return (
            PAIR + f"create table down (a {a} default 1, b int default 1, z int default 1, {key})"
        )

    cases = lab.prepare(
        {
            "nullable": one("int"),
            "not_null": one("int not null"),
            "primary_key": one("int primary key"),
            "domain_not_null": "create domain required as int not null;" + one("required"),
            "domain_over_domain": "create domain required as int not null;"
            "create domain higher as required;" + one("higher"),
            "check_constraint": one("int check (a is not null)"),
            "check_other": one("int check (a > 0)"),
            "check_not_valid": one("int")
            + "; alter table down add check (a is not null) not valid",
            "check_not_enforced": (one("int", ", check (a is not null) not enforced"), 18, 99),
            "check_of_both": two(
                "int", f"{BOTH} on delete set null, check (a is not null and b is not null)"
            ),
            "check_of_either": two(
                "int", f"{BOTH} on delete set null, check (a is not null or z is not null)"
            ),
            "pair_nullable": two("int", f"{BOTH} on delete set null"),
            "pair_half": two("int not null", f"{BOTH} on delete set null"),
            "listed_nullable": (two("int not null", f"{BOTH} on delete set null (b)"), 15, 99),
            "listed_not_null": (two("int not null", f"{BOTH} on delete set null (a)"), 15, 99),
            "match_full": two("int", f"{BOTH} match full on delete set null"),
            "full_part": (two("int", f"{BOTH} match full on delete set null (b)"), 15, 99),
            "full_all": (two("int", f"{BOTH} match full on delete set null (b, a)"), 15, 99),
            "not_null_in_partition": UP + "create table down (z int default 1,"
            " a int default 1 references up on delete set null) partition by range (z);"
            "create table leaf partition of down (a not null) for values from (0) to (9)",
        }
    )
    lab.run(";".join(f"insert into {case}.down default values" for case in cases))
    failing = {case for case in cases if lab.refuses(case, DELETE)}

    assert set(lab.found("FK008")) == failing
    assert {"not_null", "pair_half", "not_null_in_partition"} <= failing < set(cases)


def test_a_partition_that_alone_forbids_null_is_named(lab: Any) -> None:
    lab.prepare(
        {
            "parts": UP
            + "create table down (z int, a int references up on delete set null)"
            + " partition by list (z); create table strict partition of down"
            + " (check (a is not null)) for values in (0);"
            + "create table loose partition of down for values in (1);",
            "whole": UP
            + "create table down (z int, a int references up on delete set null,"
            + " check (a is not null)) partition by list (z);"
            + "create table leaf partition of down for values in (0)",
        }
    )
    found = lab.found("FK008")
    assert "demands a value in a in partition parts.strict: a row of" in found["parts"].detail
    assert found["parts"].detail.endswith("references it from there.")
    assert "partition" not in found["whole"].detail
    lab.run("insert into parts.down values (0, 0), (1, 1)")
    assert lab.refuses("parts", "delete from up where id = 0")
    assert not lab.refuses("parts", DELETE)


def test_set_null_on_update_is_found_where_it_fails(lab: Any) -> None:
    down = "create table down (a int {} default 1 references up on update set null)"
    cases = lab.prepare(
        {"nullable": UP + down.format(""), "not_null": UP + down.format("not null")}
    )
    lab.run(";".join(f"insert into {case}.down default values" for case in cases))
    failing = {case for case in cases if lab.refuses(case, "update up set id = 7 where id = 1")}

    assert set(lab.found("FK008")) == failing == {"not_null"}


def test_a_trigger_that_may_fill_the_column_is_named(lab: Any) -> None:
    lab.prepare(
        {
            "filled": UP
            + "create table down (a int not null references up on delete set null);"
            + "create function fill() returns trigger language plpgsql as"
            + " 'begin new.a = coalesce(new.a, 0); return new; end';"
            + "create trigger keeper before update on down for each row execute function fill();"
            + "insert into down values (1)"
        }
    )

    assert not lab.refuses("filled", DELETE)
    assert lab.found("FK008")["filled"].detail.endswith(
        "Unless trigger keeper, which runs before, puts a value there."
    )


def test_set_null_can_spare_the_column_that_must_stay(lab: Any) -> None:
    lab.prepare(
        {
            "tenant": PAIR
            + f"create table down (a int not null, b int, {BOTH} on delete set null);"
            + "insert into down values (1, 1)"
        }
    )
    sql = lab.found("FK008")["tenant"].sql
    if lab.major < 15:
        assert sql is None
        return
    lab.run_each(sql)

    assert lab.found("FK008") == {}
    assert not lab.refuses("tenant", DELETE)
    assert lab.run("select * from tenant.down") == [(1, None)]


def test_set_default_is_found_where_it_fails_or_writes_null(lab: Any) -> None:
    down = "create table down (z int default 1, a {} references up on delete set default)"
    cases = lab.prepare(
        {
            "declared": UP + down.format("int default 0"),
            "declared_not_null": UP + down.format("int not null default 0"),
            "none": UP + down.format("int"),
            "none_not_null": UP + down.format("int not null"),
            "default_null": UP + down.format("int default null"),
            "null_cast": "create table up (id varchar(9) primary key);"
            "insert into up values (0), (1);" + down.format("varchar(9) default null"),
            "of_domain": "create domain ours as int default 0;" + UP + down.format("ours"),
            "identity": UP
            + down.format("int generated by default as identity (minvalue 0 start 0)"),
        }
    )
    lab.run(";".join(f"insert into {case}.down (a) values (1)" for case in cases))
    outcome = {}
    for case in cases:
        refused = lab.refuses(case, DELETE.replace("1", "'1'"))
        outcome[case] = "fails" if refused else lab.run(f"select a from {case}.down")[0][0]

    assert set(lab.found("FK009")) == {case for case in cases if outcome[case] == "fails"}
    assert set(lab.found("FK010")) == {case for case in cases if outcome[case] is None}
    assert set(outcome.values()) == {"fails", None, 0}


def test_no_action_is_undecided_and_others_are_not(lab: Any) -> None:
    lab.prepare(
        {
            "unsaid": UP + "create table down (a int references up)",
            "said": UP + "create table down (a int references up on delete no action)",
            "put_off": UP + "create table down (a int references up initially deferred)",
            "may_be_put_off": UP + "create table down (a int references up deferrable)",
            "restrict": UP + "create table down (a int references up on delete restrict)",
            "cascade": UP + "create table down (a int references up on delete cascade)",
        }
    )

    assert set(lab.found("FK019")) == {"unsaid", "said", "may_be_put_off"}
    lab.run("insert into put_off.down values (1)")
    assert not lab.refuses("put_off", "delete from up; delete from down")
