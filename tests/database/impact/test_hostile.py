"""Keys of odd types, names and shapes: previews agree with rehearsals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.errors import UnknownName
from fkdoctor.impact.ask import preview_statement
from fkdoctor.impact.effect import Impact, Verdict
from fkdoctor.impact.rehearsal import rehearse
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.statement.script import parse_script

Execute = Callable[[str], list[tuple[Any, ...]]]
Check = Callable[..., Impact]


@pytest.fixture
def check(database_url: str, execute: Execute) -> Check:
    """Called with SQL that makes tables and a statement: its impact, which a rehearsal confirms."""

    def check(tables: str, statement: str, **scope: Any) -> Impact:
        execute(tables or "select 1")
        with connect(open_engine(resolve_target(database_url, Config(), {}))) as connection:
            schema = inspect_database(connection)
            (parsed,) = parse_script(statement)
            impact = preview_statement(connection, schema, parsed)
            rehearsal = rehearse(connection, schema, sa.text(parsed.sql), impact)
        assert rehearsal.differences == ()
        return impact

    return check


CHAIN = """
    create table a (k {0} primary key);
    create table b (k {1} primary key references a on delete cascade, n {1} references a
        on delete set null);
    create table c (k {1} references b on delete {2});
    insert into a values ({3}), ({5});
    insert into b values ({4}, {4});
    insert into c values ({4});
"""


@pytest.mark.parametrize(
    ("referenced", "referencing", "value", "same", "other"),
    [
        ("numeric", "numeric", "1.0", "1.00", "2"),
        ("bigint", "int", "1", "1", "2"),
        ("text", "varchar(9)", "'x'", "'x'", "'y'"),
        ("varchar(9)", "text", "'%s :x \\'", "'%s :x \\'", "'y'"),
        ("char(5)", "char(3)", "'x'", "'x'", "'y'"),
        ("uuid", "uuid", f"'{'0' * 32}'", f"'{'0' * 32}'", f"'{'1' * 32}'"),
        ("float8", "float8", "0.0", "'-0.0'", "1.5"),
        ("timestamptz", "timestamptz", "'2026-01-01 00:00+00'", "'2026-01-01 01:00+01'", "now()"),
        ("bytea", "bytea", "'\\x00ff'", "'\\x00ff'", "'\\x01'"),
        ("int[]", "int[]", "'{1,2}'", "'{1,2}'", "'{2}'"),
        ("jsonb", "jsonb", """'{"a": 1}'""", """'{"a":1.0}'""", "'2'"),
        ("interval", "interval", "'1 day'", "'24 hours'", "'2 days'"),
    ],
)
def test_equal_values_are_found_however_they_are_written(
    check: Check, referenced: str, referencing: str, value: str, same: str, other: str
) -> None:
    for rule, verdict, deleted in (
        ("cascade", Verdict.ALLOWED, 3),
        ("set null", Verdict.ALLOWED, 2),
        ("no action", Verdict.BLOCKED, 2),
    ):
        tables = CHAIN.format(referenced, referencing, rule, value, same, other)
        impact = check(
            f"drop table if exists a, b, c; {tables}", f"delete from a where k = {value}"
        )
        assert (rule, impact.verdict, impact.deleted_rows) == (rule, verdict, deleted)


@pytest.mark.parametrize("rule", ["cascade", "no action"])
def test_a_collation_decides_what_is_equal(
    check: Check, has_icu: bool, major: int, rule: str
) -> None:
    if not has_icu:
        pytest.skip("no ICU")
    collation = (
        "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
    )
    typed = "text collate ci"
    impact = check(
        collation + CHAIN.format(typed, typed, rule, "'ABC'", "'abc'", "'d'"),
        "delete from a where k = 'abc'",
    )
    assert impact.deleted_rows == (3 if rule == "cascade" else 2)


def test_names_that_need_quotes_and_look_like_parameters(check: Check) -> None:
    impact = check(
        """
        create schema "S %s";
        create table "S %s"."T :a" ("id :x" int primary key, "select" int);
        create table "S %s"."U'" ("%(ref)s" int constraint "FK "" x" references "S %s"."T :a"
            on delete cascade, "Ä" int);
        insert into "S %s"."T :a" values (1, 1), (2, 2);
        insert into "S %s"."U'" values (1, 1), (1, 2), (2, 3);
        """,
        'delete from "S %s"."T :a" x where x."id :x" = 1 and \':a %s\' <> \'%\'',
    )
    assert impact.deleted_rows == 3


def test_rows_of_inheriting_tables_go_without_their_keys(check: Check) -> None:
    tables = """
        create table a (id int primary key);
        create table heir (note text) inherits (a);
        create table b (id int references a on delete cascade);
        insert into a values (1), (2);
        insert into heir values (1, 'x'), (3, 'y');
        insert into b values (1), (2);
    """
    assert check(tables, "delete from a").deleted_rows == 6
    assert check("", "delete from only a").deleted_rows == 4
    assert check("", "delete from heir").deleted_rows == 2


def test_partitions_of_partitions_on_both_sides(check: Check) -> None:
    tables = """
        create table a (id int primary key) partition by range (id);
        create table a1 partition of a for values from (0) to (10) partition by range (id);
        create table a11 partition of a1 for values from (0) to (5);
        create table a12 partition of a1 for values from (5) to (10);
        create table a2 partition of a for values from (10) to (20);
        create table b (id int, a int references a on delete cascade) partition by list (id);
        create table b1 partition of b for values in (1, 2);
        create table b2 partition of b default;
        create table c (a int references a on delete set null);
        insert into a select generate_series(0, 19);
        insert into b select i % 4, i from generate_series(0, 19) as i;
        insert into c select i from generate_series(0, 19) as i;
    """
    impact = check(tables, "delete from a where id > 3")
    assert (impact.deleted_rows, impact.changed_rows) == (32, 16)
    assert check("", "delete from a12").deleted_rows == 10
    assert check("", "delete from only a").deleted_rows == 0
    blocked = check(
        "create table d (a int references a on delete restrict); insert into d values (7), (12)",
        "delete from a1",
    )
    assert (blocked.verdict, blocked.obstacles[0].rows) == (Verdict.BLOCKED, 1)


def test_domains_and_expressions_of_unique_indexes(check: Check) -> None:
    tables = """
        create domain ref as int check (value <> 7);
        create table a (id int primary key);
        create table b (id int primary key, a ref default 3 references a on delete set default,
            k text);
        create unique index on b (coalesce(a, 0), lower(k));
        insert into a values (1), (2), (3);
        insert into b values (1, 1, 'x'), (2, 2, 'X');
    """
    assert check(tables, "delete from a where id = 1").verdict is Verdict.ALLOWED
    assert check("", "delete from a where id in (1, 2)").verdict is Verdict.FAILS
    seven = "alter table b alter a set default 7"
    assert check(seven, "delete from a where id = 1").verdict is Verdict.FAILS


def test_a_key_to_a_period_blocks(check: Check, major: int) -> None:
    if major < 18:
        pytest.skip("from 18 on")
    impact = check(
        """
        create extension btree_gist;
        create table a (id int, at daterange, primary key (id, at without overlaps));
        create table b (id int, at daterange, foreign key (id, period at) references a);
        insert into a values (1, '[2026-01-01,2026-02-01)'), (1, '[2026-02-01,2026-03-01)'),
            (2, '[2026-01-01,2026-02-01)');
        insert into b values (1, '[2026-01-15,2026-02-15)');
        """,
        "delete from a where id = 1 and at = '[2026-02-01,2026-03-01)'",
    )
    assert impact.verdict in (Verdict.BLOCKED, Verdict.UNCERTAIN)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("a int default random() * 2 references a on delete set default", "computed"),
        (
            "a int references a on delete set null, g int generated always as (a + 1) stored",
            "generated",
        ),
        ("a int references a on delete set null, exclude (coalesce(a, 0) with =)", "EXCLUDE"),
    ],
)
def test_what_is_not_foreseen_is_said(check: Check, column: str, reason: str) -> None:
    impact = check(
        f"""
        create table a (id int primary key);
        create table b (id int primary key, {column});
        insert into a values (0), (1), (2);
        insert into b (id, a) values (1, 1);
        """,
        "delete from a where id = 1",
    )
    assert impact.verdict is Verdict.UNCERTAIN
    assert reason in impact.caveats[0].reason


def test_a_view_is_no_table(check: Check) -> None:
    with pytest.raises(UnknownName, match="is a view"):
        check("create view v as select 1 as id", "delete from v where id = 1")
