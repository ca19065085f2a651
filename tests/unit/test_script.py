"""Statements as typed: what they are about, and nothing that PostgreSQL would read otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fkdoctor.statement.script import (
    Command,
    NotSupported,
    Statement,
    parse_condition,
    parse_script,
)


def parse(text: str) -> Statement:
    (statement,) = parse_script(text)
    return statement


def test_a_plain_delete_is_a_table_and_a_condition() -> None:
    statement = parse('delete from mlops."Letters" as l where l.id = 1 returning *')
    assert statement.command is Command.DELETE
    assert statement.target.parts == ("mlops", "Letters")
    assert (statement.alias, statement.where) == ("l", "l.id = 1")


def test_names_are_folded_as_sql_folds_them() -> None:
    assert parse('DELETE FROM ONLY Shop."Äpfel"').target.parts == ("shop", "Äpfel")
    assert parse("DELETE FROM ONLY t").target.only
    assert parse("DELETE FROM T").alias == "t"


def test_rows_that_hang_on_other_tables_are_a_query() -> None:
    statement = parse(
        "with old as (select id from a) delete from t using old join b using (id), c as d "
        "where old.id = t.id and b.x is distinct from d.x"
    )
    assert statement.where is None
    assert statement.rows == (
        "with old as (select id from a) SELECT t.tableoid, t.ctid FROM t AS t, old join b "
        "using (id), c as d WHERE old.id = t.id and b.x is distinct from d.x"
    )


def test_a_column_written_with_its_schema_keeps_the_table_without_an_alias() -> None:
    statement = parse("delete from shop.t where shop.t.id = 1")
    assert statement.where is None
    assert statement.rows == "SELECT t.tableoid, t.ctid FROM shop.t WHERE shop.t.id = 1"


@pytest.mark.parametrize(
    ("condition", "parameters"),
    [
        ("id = :id", ("id",)),
        ("id = $1 or id = $2", ("1", "2")),
        ("id = %s or id = %s", ("1", "2")),
        ("id = %(id)s", ("id",)),
        ("a[1:2] = :b", ("b",)),
        ("a::text = 'x:y' and b % s = 1 and c %s = 1", ()),
    ],
)
def test_parameters_are_told_from_operators(condition: str, parameters: tuple[str, ...]) -> None:
    assert parse(f"delete from t where {condition}").parameters == parameters


@pytest.mark.parametrize(
    "written",
    [
        "a = 'it''s' and b = E'x\ty' and c = U&'\\0041' and d = B'01'",
        "a @> '{}' and b ->> 'c' = '%' and d !~* 'e' and f ? 'g'",
        "a is not distinct from b and extract(year from c) > 5 and d between 1 and 1.5e3",
        "exists (select from x where x.t = t.id order by y limit 1) or a = any (array[1, 2])",
    ],
)
def test_expressions_stay_as_they_were_typed(written: str) -> None:
    where = parse(f"delete from t where {written}").where
    assert where is not None
    assert where.replace("\\:", ":") == written


def test_comments_and_dollar_quotes_are_gone() -> None:
    statement = parse("delete /* all */ from t where a = $x$it's$x$ -- ; drop table t")
    assert statement.sql == "delete from t where a = 'it''s'"


def test_an_update_is_its_columns_and_expressions() -> None:
    statement = parse('update t as x set id = x.id + 1, "B" = (select max(a), b from z) from u')
    assert statement.command is Command.UPDATE
    assert statement.assignments == {"id": "x.id + 1", "B": "(select max(a), b from z)"}
    assert statement.rows == "SELECT x.tableoid, x.ctid FROM t AS x, u"


def test_a_truncate_names_its_tables() -> None:
    statement = parse("truncate table a, b.c restart identity cascade")
    assert [str(target) for target in statement.targets] == ["a", "b.c"]
    assert statement.cascade
    assert not parse("truncate a").cascade


def test_several_statements_come_in_order() -> None:
    parsed = parse_script("delete from a; truncate b; ; delete from c where d = ';';")
    assert [str(one.target) for one in parsed] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no statement"),
        ("drop table t", "a DROP"),
        ("insert into t values (1)", "an INSERT"),
        ("select 1; delete from t", "a SELECT"),
        ("delete from t where a = 'x", "does not end"),
        ("delete from t where (a = 1", "cannot be read"),
        ("with d as (delete from a returning *) delete from t using d", "CTE"),
        ("delete from a.b.c", "without the database"),
        ("delete from t where current of c", "cannot be read"),
        ("update t set (a, b) = (1, 2)", "column = expression"),
        ("delete from t where a = E'x\\\\'", "told apart"),
        ("delete from t order by a limit 3", "no ORDER and LIMIT"),
        ("delete from t where a = 1 returning a limit 3", "no LIMIT"),
        ("update t set a = 1 order by a", "no ORDER"),
        ("delete t from t join u using (a)", "no TABLES"),
        ("delete from t join u using (a)", "no JOINS"),
        ("delete from t, u where t.a = u.a", "no JOINS"),
        ("delete from t tablesample system (10)", "no SAMPLE"),
    ],
)
def test_what_cannot_be_previewed_is_said(text: str, why: str) -> None:
    with pytest.raises(NotSupported, match="Not supported") as refused:
        parse_script(text)
    assert why in refused.value.why


@pytest.mark.parametrize("condition", ["true; delete from u", "true) or (true"])
def test_a_condition_is_only_a_condition(condition: str) -> None:
    with pytest.raises(NotSupported):
        parse_condition(("s", "t"), condition)


@given(st.text(alphabet="ab '\";-/*$:%\\\n()E&U1", max_size=12))
def test_no_condition_ends_the_statement_or_begins_a_comment(condition: str) -> None:
    try:
        statement = parse_condition(("s", "t"), condition)
    except NotSupported:
        return
    outside = _without_quoted(statement.sql)
    assert ";" not in outside
    assert "--" not in outside
    assert "/*" not in outside


def _without_quoted(sql: str) -> str:
    """What is outside strings and names, by PostgreSQL's rules, where no string is left open."""
    kept, at = "", 0
    while at < len(sql):
        if sql[at] not in "'\"":
            kept += sql[at]
            at += 1
            continue
        mark, escapes = sql[at], sql[at] == "'" and kept[-1:] in ("E", "e")
        at += 1
        while sql[at] != mark or sql[at + 1 : at + 2] == mark:
            at += 2 if sql[at] == mark or (escapes and sql[at] == "\\") else 1
        at += 1
    return kept
