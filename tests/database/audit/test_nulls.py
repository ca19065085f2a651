"""Is a NULL refused, or let through, where the audit says so?"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from fkdoctor.audit import Severity
from fkdoctor.audit.condition import Effect, effect_of_writing, forbids

UP = "create table up (id int primary key); insert into up values (0), (1), (2);"

CHECKS = {
    "exactly_one": ("num_nonnulls(a, b) = 1", Severity.ERROR),
    "at_least_one": ("num_nonnulls(a, b) >= 1", Severity.WARNING),
    "at_most_one": ("num_nonnulls(a, b) <= 1", None),
    "one_or_other": ("(a is null) <> (b is null)", Severity.ERROR),
    "kind_decides": ("kind <> 'x' or a is not null", Severity.WARNING),
    "kind_as_case": ("case when kind = 'x' then a is not null else true end", Severity.WARNING),
    "coalesced": ("coalesce(a, b) is not null", Severity.WARNING),
    "counted": ("(a is not null)::int + (b is not null)::int = 1", Severity.ERROR),
    "positive": ("a > 0", None),
    "known_kind": ("kind in ('x', 'y')", None),
    "open_kind": ("(a is null) = (kind = any (array['open', 'new']))", Severity.ERROR),
}


def down(check: str) -> str:
    return (
        f"{UP} create table down (id int primary key, kind text not null default 'x', a int"
        f" references up on delete set null, b int, check ({check}));"
    )


def test_a_check_refuses_what_set_null_writes(lab: Any) -> None:
    lab.prepare({name: down(check) for name, (check, _) in CHECKS.items()})
    found = lab.found("FK031")

    for name, (_, expected) in CHECKS.items():
        assert (found[name].severity if name in found else None) is expected, name
        outcomes = set()
        for kind in ("x", "y", "open"):
            for b in ("null", "1"):
                row = f"insert into {name}.down values (1, '{kind}', 1, {b})"
                if not lab.refuses(name, row):
                    outcomes.add(lab.refuses(name, "delete from up where id = 1"))
                    lab.run(
                        f"delete from {name}.down; insert into {name}.up values (1)"
                        " on conflict do nothing"
                    )
        refusals = {Severity.ERROR: {True}, Severity.WARNING: {True, False}, None: {False}}
        assert outcomes == refusals[expected], name


def random_condition(random: Random, depth: int) -> str:
    column = random.choice("abk")
    if depth == 0 or random.random() < 0.3:
        return random.choice(
            (
                f"{column} is null",
                f"{column} is not null",
                f"{column} = {random.randint(1, 3)}",
                f"{column} <> {random.randint(1, 3)}",
                f"{column} in (1, {random.randint(2, 3)})",
                f"{column} > {random.randint(0, 2)}",
                f"num_nulls(a, b) = {random.randint(0, 2)}",
                f"coalesce({column}, k) = {random.randint(1, 3)}",
                f"{column} is distinct from {random.randint(1, 3)}",
            )
        )
    one, other = (random_condition(random, depth - 1) for _ in range(2))
    return random.choice(
        (
            f"({one} and {other})",
            f"({one} or {other})",
            f"not ({one})",
            f"(({one}) is true)",
            f"(case when {one} then {other} else {one} end)",
        )
    )


@pytest.mark.parametrize("written", [None, 2, 0])
def test_conditions_are_judged_as_postgresql_evaluates_them(
    execute: Callable[[str], list[tuple[Any, ...]]], written: int | None
) -> None:
    """Every row of a small world, with values and NULLs: allowed before, refused afterwards?"""
    random = Random(12)
    conditions = [random_condition(random, 3) for _ in range(150)]
    table = "create table t (a int, b int, k int not null)"
    checks = "".join(
        f"; alter table t add constraint c{number} check ({condition})"
        for number, condition in enumerate(conditions)
    )
    execute(table + checks)
    definitions = execute(
        "select pg_get_constraintdef(oid) from pg_constraint"
        " where conrelid = 't'::regclass and contype = 'c'"
        " order by substr(conname, 2)::int"
    )
    world = (
        "from unnest(array[1, 2, 3, 4]) as a cross join unnest(array[null, 1, 2, 3, 4]) as b"
        " cross join unnest(array[1, 2, 3, 4]) as k"
    )
    understood = 0
    for condition, (definition,) in zip(conditions, definitions, strict=True):
        ((refused, kept, half),) = execute(
            f"select count(*) filter (where after is false), count(*) filter (where after is not"
            f" false), (select count(*) {world} where b is not null and (select {condition} from"
            f" (values (null::int, b, k)) as r (a, b, k)) is not false) from (select (select"
            f" {condition} from (values ({'null' if written is None else written}::int, b, k))"
            f" as r (a, b, k)) as after {world}"
            f" where ({condition}) is not false) as rows"
        )
        effect = effect_of_writing(definition, ["a"], {"a": written}, ["k"])
        understood += effect is not Effect.UNKNOWN
        if effect is Effect.NEVER:
            assert not refused, condition
        if effect is Effect.ALWAYS:
            assert not kept, condition
        if effect is Effect.SOMETIMES and ">" not in condition and written is None:
            assert refused, condition
        if forbids(definition, ["a"], ["b", "k"]):
            assert not half, condition
    assert understood > 100


TWO = "create table up (x int, y int, primary key (x, y)); insert into up values (1, 1);"
OTHER = "create table other (x int primary key); insert into other values (1);"

HALVES = {
    "both_nullable": (
        TWO + "create table down (x int, y int, foreign key (x, y) references up)",
        1,
    ),
    "match_full": (
        TWO + "create table down (x int, y int, foreign key (x, y) references up match full)",
        0,
    ),
    "not_null": (
        TWO + "create table down (x int not null, y int not null,"
        " foreign key (x, y) references up)",
        0,
    ),
    "one_nullable": (
        TWO + "create table down (x int not null, y int, foreign key (x, y) references up)",
        0,
    ),
    "checked": (
        TWO + "create table down (x int, y int, foreign key (x, y) references up,"
        " check (num_nulls(x, y) in (0, 2)))",
        0,
    ),
    "checked_otherwise": (
        TWO + "create table down (x int, y int, foreign key (x, y) references up,"
        " check ((x is null) = (y is null)))",
        0,
    ),
    "tenant": (
        TWO + OTHER + "create table down (x int not null references other, y int,"
        " foreign key (x, y) references up)",
        0,
    ),
    "absent_tenant": (
        TWO + OTHER + "create table down (x int references other, y int not null,"
        " foreign key (x, y) references up)",
        1,
    ),
}


def test_half_null_rows_pass_where_the_audit_says_so(lab: Any) -> None:
    lab.prepare({name: sql for name, (sql, _) in HALVES.items()})
    found = lab.found("FK033")

    assert set(found) == {name for name, (_, expected) in HALVES.items() if expected}
    assert not lab.refuses("both_nullable", "insert into down values (null, 7)")
    assert not lab.refuses("absent_tenant", "insert into down values (null, 7)")
    for name in ("match_full", "not_null", "checked", "checked_otherwise"):
        assert lab.refuses(name, "insert into down values (null, 7)")
        assert lab.refuses(name, "insert into down values (7, null)")


def test_the_pasted_match_full_refuses_half_null_rows(lab: Any) -> None:
    lab.prepare({"on_both": HALVES["both_nullable"][0]})
    lab.run_each(lab.found("FK033")["on_both"].sql)

    assert lab.refuses("on_both", "insert into down values (null, 7)")
    assert lab.found("FK033") == {}


TENANTS = (
    "create table tenants (id int primary key); insert into tenants values (1);"
    "create table up (tenant int, id int, primary key (tenant, id)); insert into up values (1, 1);"
    "create table down (tenant int {null} references tenants, up int, foreign key (tenant, up)"
    " references up on delete set null {columns}); insert into down values (1, 1);"
)


def test_set_null_takes_the_tenant_along(lab: Any) -> None:
    lab.prepare(
        {
            "all_columns": TENANTS.format(null="", columns=""),
            "own_column": (TENANTS.format(null="", columns="(up)"), 15, 99),
            "refused": TENANTS.format(null="not null", columns=""),
        }
    )
    found = lab.found("FK032")
    assert set(found) == {"all_columns"}

    if lab.major >= 15:
        lab.run_each(found["all_columns"].sql)
        assert lab.found("FK032") == {}
        lab.run("delete from all_columns.up")
        assert lab.run("select * from all_columns.down") == [(1, None)]
    else:
        assert found["all_columns"].sql is None
        lab.run("delete from all_columns.up")
        assert lab.run("select * from all_columns.down") == [(None, None)]


COLLISIONS = {
    "plain_unique": (
        UP + "create table down (a int unique references up on delete set null);"
        "insert into down values (1), (2)",
        False,
    ),
    "one_null": (
        (
            UP + "create table down (a int references up on delete set null,"
            " unique nulls not distinct (a)); insert into down values (1), (2)",
            15,
            99,
        ),
        True,
    ),
    "kept_apart": (
        (
            UP + "create table down (id int primary key, a int references up on delete set null,"
            " unique nulls not distinct (a, id)); insert into down values (1, 1), (2, 2)",
            15,
            99,
        ),
        False,
    ),
    "one_default": (
        UP + "create table down (a int default 0 unique references up on delete set default);"
        "insert into down values (1), (2)",
        True,
    ),
    "no_default": (
        UP + "create table down (a int unique references up on delete set default);"
        "insert into down values (1), (2)",
        False,
    ),
    "partial": (
        (
            UP + "create table down (a int references up on delete set null);"
            "create unique index on down (a) nulls not distinct where a is not null;"
            "insert into down values (1), (2)",
            15,
            99,
        ),
        False,
    ),
}


@pytest.mark.parametrize("name", COLLISIONS)
def test_the_second_delete_collides_where_the_audit_says_so(lab: Any, name: str) -> None:
    case, expected = COLLISIONS[name]
    if not lab.prepare({name: case}):
        pytest.skip("not on this version")

    assert (name in lab.found("FK034")) is expected
    assert not lab.refuses(name, "delete from up where id = 1")
    assert lab.refuses(name, "delete from up where id = 2") is expected
