"""What may be typed as an SQL expression, and what is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fkdoctor.errors import ConfigError
from fkdoctor.schema import Column, Schema, Table
from fkdoctor.statement.expression import parse_expression

NAMES = ("id", "title", "lower", "user", "position", "Mixed Case", "제목", "é", 'a"b', "tags")


@pytest.fixture
def letter(make_schema: Callable[..., Schema]) -> Table:
    """A table with columns of odd names."""
    columns = tuple(
        Column(
            name=name,
            type="text",
            base_type="text",
            type_modifier=-1,
            collation=None,
            deterministic=True,
            not_null=False,
            default=None,
            generated=False,
            identity=False,
        )
        for name in NAMES
    )
    return replace(make_schema(["letter"]).tables[0], columns=columns)


@pytest.mark.parametrize(
    "text",
    [
        "(title)",
        "lower(title)",
        "(LOWER(TITLE))",
        "(lower)",
        "(lower(lower))",
        '("lower")',
        '("user")',
        "(position)",
        '("Mixed Case")',
        '("a""b")',
        "(제목)",
        "(é)",
        "(title -- a remark\n)",
        "(title) -- a remark",
        "(title /* of */ || /* /* many */ */ 'x')",
        "(title || ';' || ')' || '--' || ':x' || '%s' || '/*')",
        "(title || $$ ) select $$ || $x$;$x$)",
        "(E'\\'' || title)",
        "('\\' || title)",
        "(title::text::varchar(3) || id::text)",
        '("My Schema"."My Function"(title, variadic array[\'a\']))',
        "(case when title is null then id else 0 end)",
        "(title) || (id)",
        "((((title))))",
        "(tags[1])",
        '(title collate "C")',
        "(id % 7)",
        "(date_trunc('day', title::timestamptz) at time zone 'Asia/Seoul')",
        "(title like 'a!%' escape '!' and not id between 1 and 3)",
        "(extract(epoch from title::timestamptz))",
        "(substring(title from 2 for 3) || trim(both 'x' from title))",
        "(normalize(title, NFKC))",
        "(title ? 'x')",
        "(title operator(pg_catalog.||) title)",
    ],
)
def test_one_expression_over_a_row_is_taken(letter: Table, text: str) -> None:
    assert text in str(parse_expression(letter, text))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not one expression"),
        ("()", "not one expression"),
        ("(title", "cannot be read as SQL: Expecting )"),
        ("(title))", "cannot be read as SQL"),
        ("(title || )", "cannot be read as SQL"),
        ("(title); drop table letter", "cannot be read as SQL"),
        ("(title)); drop table letter; --", ""),
        ("(title, id)", "not one expression"),
        ("title, id", "not one expression"),
        ("(title), (id)", "not one expression"),
        ("title) from letter where (true", ""),
        ("title) union select (id", "not one expression"),
        ("(title) limit 1", ""),
        ("(title order by id)", ""),
        ("(distinct title)", ""),
        ("(title /* )", "comment in it does not end"),
        ("('title)", "string, name or comment"),
        ('("title)', "string, name or comment"),
        ("(" * 20_000 + "title", "nested too deeply"),
        ("(select 1)", "columns of one row"),
        ("(title || (select max(id) from letter))", "columns of one row"),
        ("(exists (select 1 from letter))", "columns of one row"),
        ("(id in (select id from other))", "columns of one row"),
        ("(id in (values (1)))", "columns of one row"),
        ("(array(select id))", "columns of one row"),
        ("(with x as (select 1) select title)", "columns of one row"),
        ("(*)", "columns of one row"),
        ("(letter.*)", "columns of one row"),
        ("(count(*))", "columns of one row"),
        ("(count(id))", "several rows"),
        ("(max(title))", "several rows"),
        ("(string_agg(title, ','))", "several rows"),
        ("(row_number() over (order by title))", "several rows"),
        ("(my_own(title) over ())", "several rows"),
        ("(unnest(tags))", "columns of one row"),
        ("(title || :x)", "columns of one row"),
        ("(title || %(x)s)", "columns of one row"),
        ("(title || $1)", "columns of one row"),
        ("(title || %s)", "columns of one row"),
        ("(1)", "names no column"),
        ("(now())", "names no column"),
        ("(current_user)", "names no column"),
        ("(user)", "is a function"),
        ("(USER)", "is a function"),
    ],
)
def test_what_is_more_or_less_is_refused(letter: Table, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_expression(letter, text)
    assert caught.value.what == f"The expression {text} cannot be used."
    assert why in caught.value.why
    assert caught.value.next


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("(titel)", "titel"),
        ("(lower(titel))", "titel"),
        ('("Title")', '"Title"'),
        ("(Mixed)", "Mixed"),
        ("(É)", "É"),
        ("(letter.title)", "letter.title"),
        ("(s.letter.title)", "s.letter.title"),
        ("(ctid)", "ctid"),
        ("(tableoid)", "tableoid"),
        ("(fkdoctor_row)", "fkdoctor_row"),
    ],
)
def test_an_unknown_column_is_named_with_those_there_are(
    letter: Table, text: str, name: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_expression(letter, text)
    assert caught.value.what == f"The expression {text} names {name}."
    assert '"Mixed Case"' in caught.value.why
    assert "title" in caught.value.why
