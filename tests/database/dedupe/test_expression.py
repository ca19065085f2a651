"""What a user types means to PostgreSQL what it would mean in a query of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fkdoctor.database import connect
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.errors import ConfigError
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.schema import TableName
from fkdoctor.statement.expression import parse_expression
from fkdoctor.statement.parts import make_table

LETTERS = """
    create schema "My Schema";
    create function "My Schema"."My Function"(text, variadic text[]) returns text
        language sql as $$ select $1 || '<' || array_to_string($2, '|') || '>' $$;
    create function public.nvl(text, text) returns text language sql as $$ select 'mine' $$;
    create function public.strpos(text, text, int) returns int language sql as $$ select -1 $$;
    create function public.twice(text) returns setof text
        language sql as $$ values ($1), ($1) $$;
    create aggregate public.glue (text) (sfunc = textcat, stype = text);
    create table letter (id int primary key, title text, lower text, "user" text, "Mixed Case" text,
        제목 text, "a""b" text, tags text[], data jsonb, made timestamptz, score numeric,
        part float8, flag boolean, "%s" text, ":x" text, "x:y" text);
    insert into letter values
        (1, 'Hello %s World', 'L', 'u', 'M', 'ㄱ', 'q', '{a,b}', '{"k": {"j": 1}}',
            '2026-03-01 23:30+00', 7.50, -0.5, true, 'p', 'c', 'd'),
        (2, 'it''s \\ "x" /* -- */ :x', '', null, '', 'é', '', '{}', '{"k": null}',
            'infinity', -7, 'nan', false, '', '', '');
    insert into letter values (3);
"""

EXPRESSIONS = [
    *r"""
    lower(title)
    lower(lower)
    "user" || "Mixed Case" || 제목 || "a""b"
    "%s" || ":x" || "x:y" || '%' || '%%' || '%s' || '%(x)s' || ':x' || ' :y ' || '::'
    title ~ '^H' and title !~* 'x$' or title like '%\%s%' escape '\'
    title::varchar(3)::text || id::text
    cast(score as int) % 3 + mod(id, 2)
    score / id * 2 - -id
    - id ^ 2 ^ 2
    id # 3 | 4 & 6
    ~ id << 2
    strpos(title, 'W') + position('o' in title) + public.strpos('a', 'b', 3)
    nvl(title, 'theirs')
    substr(title, -1, 4) || substring(title from 2 for 3) || substring(title from 'W.*')
    btrim(title, 'H') || ltrim(title, 'H') || trim(both 'd' from title)
    E'a\tb' || $$it's$$ || $x$ $$ $x$ || U&'\D55C' || title
    'back\slash' || title
    extract(epoch from made - interval '1 day 2 hours')
    date_trunc('month', made at time zone 'Asia/Seoul')::date
    made + '1 week' > timestamptz '2026-03-05'
    to_char(made, 'YYYY-MM-DD"T"HH24:MI') || date_part('dow', made)
    (data -> 'k' ->> 'j') || (data #>> '{k,j}') || (data -> 'k' -> 'j')
    data @> '{"k": null}' or data ? 'k' or data ?| array['z']
    tags[1] || tags[1:1]::text || cardinality(tags) || array_to_string(tags || 'c'::text, ',')
    'a' = any (tags) and id = any (array[1, 2]) and id <> all ('{7,8}'::int[])
    case when flag then 'yes' when not flag then 'no' end
    case id when 1 then 'one' else 'other' end
    coalesce(title, '') = '' or nullif(lower, '') is null
    id in (1, 3) and id not in (2) and id between symmetric 3 and 1
    flag is not true or flag is unknown or title is distinct from lower
    part is null or part = 'nan' or part < 0
    title collate "C" < 'a' collate "C"
    concat(title, '-', lower) || concat_ws('-', title, null, lower)
    greatest(id, 2) + least(id, 2) + div(7, id) + width_bucket(id, 0, 10, 5)
    round(score, 1)::text || trunc(score) || sign(score) || ceil(part) || sqrt(id) || log(10, id)
    md5(title) || encode(sha256(convert_to(title, 'UTF8')), 'hex') || hashtext(title)
    regexp_replace(title, '\s+', ' ', 'g') || (regexp_match(title, 'W(.)'))[1]
    split_part(title, ' ', 2) || left(title, -1) || right(title, 3) || reverse(title)
    "My Schema"."My Function"(title, 'p', 'q') || "My Schema"."My Function"(title, variadic tags)
    lpad(id::text, 3, '0') || chr(id + 64) || ascii(title)
    row(id, title) is null
    id operator(pg_catalog.+) 1
    """.strip().splitlines(),
    "title || -- a remark :x %s ; )\n 'x' /* another /* in it */ ; */ || 'y' -- and one",
]


def test_an_expression_means_what_it_says(db: Any) -> None:
    db.execute(LETTERS)
    ours, plain = {}, {}
    with connect(db.engine()) as connection:
        table = inspect_database(connection).table(TableName("public", "letter"))
        row = make_table(table.name, [column.name for column in table.columns])
        for text in map(str.strip, EXPRESSIONS):
            parsed = sa.cast(parse_expression(table, f"({text}\n)"), sa.Text)
            found = connection.execute(sa.select(parsed).select_from(row).order_by(row.c.id))
            ours[text] = [tuple(value) for value in found]
            plain[text] = db.execute(f"select cast((\n{text}\n) as text) from letter order by id")
    assert ours == plain
    assert len(ours) == len(EXPRESSIONS) > 40
    assert not [text for text, values in plain.items() if set(values) == {(None,)}]


NOT_COMPUTED = [
    ("(public.twice(title))", "set-returning functions are not allowed"),
    ("(generate_series(1, id))", "set-returning functions are not allowed"),
    ("(public.glue(title))", "aggregate"),
    ("(title + 1)", "operator does not exist"),
    ("(no_such_function(title))", "function no_such_function(text) does not exist"),
    ("(title::no_such_type)", 'type "no_such_type" does not exist'),
    ("(1 / (id - id))", "division by zero"),
    ("(title::int)", "invalid input syntax"),
    ("(title as x)", "syntax error"),
    ('(title collate "none")', "collation"),
    ("(data::json)", "could not identify an"),
]


@pytest.mark.parametrize("place", ["match", "survivor"])
def test_what_postgresql_cannot_compute_is_a_mistake_in_the_question(
    db: Any, tmp_path: Path, place: str
) -> None:
    db.execute(LETTERS)
    name = TableName("public", "letter")
    with connect(db.engine()) as connection:
        schema = inspect_database(connection)
        for expression, complaint in NOT_COMPUTED:
            criteria = {"match": ("(id % 1)",), "survivor": ()} | {place: (expression,)}
            with pytest.raises(ConfigError, match="cannot compute") as caught:
                plan_dedupe(connection, schema, name, Criteria(**criteria), tmp_path)
            assert complaint in caught.value.why
    assert not list(tmp_path.iterdir())
