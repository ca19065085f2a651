"""Tables created where there are none, and dropped only where that was done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from alembic.operations import Operations

from fkdoctor.errors import Refused

Execute = Callable[[str], list[tuple[object, ...]]]
Operate = Callable[..., None]
Dump = Callable[[], str]

TABLES = {
    "letter": "create table shop.letter (id int primary key, text text default 'a\n  b')",
    "answer": """
        create table shop.answer (id int primary key, letter_id int references shop.letter);
        create index answer_letter_id_idx on shop.answer (letter_id);""",
}


def _create(op: Operations) -> None:
    op.create_where_absent("shop", TABLES)


def _drop(op: Operations) -> None:
    op.drop_where_created("shop", TABLES)


def test_what_is_missing_is_created_and_dropped_again(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    before = dump()
    operate(_create)
    assert execute("insert into shop.letter values (1) returning text") == [("a\n  b",)]
    execute("delete from shop.letter")
    after = dump()
    operate(_create)
    assert dump() == after
    operate(_drop)
    assert dump() == before
    operate(_drop)
    assert dump() == before


def test_a_table_that_is_there_is_left_as_it_is(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(
        """create schema shop; create table shop.letter (id int primary key, mine text);
        insert into shop.letter values (1, 'x')"""
    )
    before = dump()
    operate(_create)
    assert execute("select * from shop.letter") == [(1, "x")]
    operate(_drop)
    assert dump() == before
    assert execute("select * from shop.letter") == [(1, "x")]


def test_rows_are_never_dropped(execute: Execute, operate: Operate, dump: Dump) -> None:
    operate(_create)
    execute("insert into shop.letter values (1)")
    before = dump()
    with pytest.raises(Refused, match=r"shop\.letter holds rows"):
        operate(_drop)
    assert dump() == before
    assert execute("select count(*) from shop.letter") == [(1,)]


def test_rows_that_row_security_hides_are_not_dropped_either(
    execute: Execute, operate: Operate
) -> None:
    operate(_create)
    execute(
        """insert into shop.letter values (1);
        alter table shop.letter enable row level security;
        alter table shop.letter force row level security"""
    )
    with pytest.raises(Refused):
        operate(_drop)
    execute("alter table shop.letter no force row level security")
    assert execute("select count(*) from shop.letter") == [(1,)]


def test_a_table_that_somebody_made_their_own_is_kept(execute: Execute, operate: Operate) -> None:
    operate(_create)
    execute("comment on table shop.letter is 'Ours now.'")
    operate(_drop)
    assert execute("select to_regclass('shop.letter')::text, to_regclass('shop.answer')") == [
        ("shop.letter", None)
    ]


def test_a_view_on_a_table_stops_the_drop_with_its_name(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    operate(_create)
    execute("create view shop.glance as select * from shop.letter")
    before = dump()
    with pytest.raises(Refused, match=r"shop\.letter") as caught:
        operate(_drop)
    assert "view shop.glance" in caught.value.why
    assert dump() == before


def test_the_schema_stays_while_something_else_is_in_it(execute: Execute, operate: Operate) -> None:
    operate(_create)
    execute("create function shop.mine() returns int language sql as 'select 1'")
    operate(_drop)
    assert execute("select shop.mine(), to_regclass('shop.letter')") == [(1, None)]


def test_a_failing_table_leaves_none_behind(execute: Execute, operate: Operate, dump: Dump) -> None:
    before = dump()
    tables = {**TABLES, "third": "create table shop.third (id int references shop.nowhere)"}
    with pytest.raises(Refused, match=r"shop\.nowhere"):
        operate(lambda op: op.create_where_absent("shop", tables))
    assert dump() == before
