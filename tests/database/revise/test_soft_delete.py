"""A column for soft deletes: added where it is missing, taken away only where it was added."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from alembic.operations import Operations

from fkdoctor.errors import Refused

Execute = Callable[[str], list[tuple[object, ...]]]
Operate = Callable[..., None]
Dump = Callable[[], str]


def _add(op: Operations) -> None:
    op.add_soft_delete("letter", schema="public")


def _drop(op: Operations) -> None:
    op.drop_soft_delete("letter", schema="public")


def test_the_column_and_its_index_come_and_go(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute("create table letter (id int primary key); insert into letter values (1)")
    before = dump()
    operate(_add)
    assert execute("select id, deleted_at from letter") == [(1, None)]
    added = dump()
    assert "USING btree (deleted_at) WHERE (deleted_at IS NOT NULL)" in added
    operate(_add)
    assert dump() == added
    operate(_drop)
    assert dump() == before
    operate(_drop)
    assert dump() == before


def test_the_index_finds_what_was_deleted_long_ago(execute: Execute, operate: Operate) -> None:
    execute("create table letter (id int primary key)")
    operate(_add)
    execute(
        """insert into letter select n, case when n % 1000 = 0 then now() - n * interval '1 day' end
        from generate_series(1, 20000) as n; analyze letter"""
    )
    plan = execute("explain select id from letter where deleted_at < now() - interval '30 days'")
    assert "letter_deleted_at_idx" in str(plan)


@pytest.mark.parametrize("column", ["timestamptz", "timestamptz(3)", "timestamptz default null"])
def test_a_column_that_is_there_and_fits_stays(
    execute: Execute, operate: Operate, dump: Dump, column: str
) -> None:
    execute(f"create table letter (id int primary key, deleted_at {column})")
    before = dump()
    operate(_add)
    assert "letter_deleted_at_idx" in dump()
    execute("insert into letter values (1, now())")
    operate(_drop)
    assert dump() == before
    assert execute("select count(deleted_at) from letter") == [(1,)]


@pytest.mark.parametrize(
    "index",
    ["(deleted_at)", "(deleted_at, id)", "(deleted_at) where deleted_at is not null"],
)
def test_an_index_that_serves_is_enough_and_stays(
    execute: Execute, operate: Operate, dump: Dump, index: str
) -> None:
    execute(
        f"""create table letter (id int primary key, deleted_at timestamptz);
        create index letter_deleted_at_idx on letter {index}"""
    )
    before = dump()
    operate(_add)
    operate(_drop)
    assert dump() == before


@pytest.mark.parametrize(
    ("column", "named"),
    [
        ("timestamp", "timestamp without time zone."),
        ("boolean", "boolean."),
        ("timestamptz not null", "cannot be NULL"),
        ("timestamptz generated always as ('2026-01-01 00:00+00') stored", "cannot be NULL"),
    ],
)
def test_a_column_that_does_not_fit_is_refused(
    execute: Execute, operate: Operate, dump: Dump, column: str, named: str
) -> None:
    execute(f"create table letter (id int primary key, deleted_at {column})")
    before = dump()
    with pytest.raises(Refused, match=r"letter\.deleted_at cannot hold") as caught:
        operate(_add)
    assert named in caught.value.why
    assert dump() == before


def test_another_column_can_be_named(execute: Execute, operate: Operate, dump: Dump) -> None:
    execute("create table letter (id int primary key, deleted_at boolean)")
    before = dump()
    operate(lambda op: op.add_soft_delete("letter", schema="public", column="gone at"))
    assert execute('select "gone at" from letter') == []
    operate(lambda op: op.drop_soft_delete("letter", schema="public", column="gone at"))
    assert dump() == before


def test_soft_deleted_rows_do_not_come_to_life_again(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute("create table letter (id int primary key)")
    operate(_add)
    execute("insert into letter values (1, now()), (2, null)")
    before = dump()
    with pytest.raises(Refused, match="soft-deleted rows") as caught:
        operate(_drop)
    assert "deleted_at" in caught.value.why
    assert dump() == before
    execute("delete from letter where deleted_at is not null")
    operate(_drop)
    assert execute("select * from letter") == [(2,)]


def test_a_view_on_the_column_stops_the_drop_with_its_name(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute("create table letter (id int primary key)")
    operate(_add)
    execute("create view live as select id from letter where deleted_at is null")
    before = dump()
    with pytest.raises(Refused) as caught:
        operate(_drop)
    assert "view public.live" in caught.value.why
    assert "CASCADE" not in str(caught.value)
    assert dump() == before


def test_a_column_that_somebody_made_their_own_is_kept(execute: Execute, operate: Operate) -> None:
    execute("create table letter (id int primary key)")
    operate(_add)
    execute(
        "comment on column letter.deleted_at is 'Ours now.'; insert into letter values (1, now())"
    )
    operate(_drop)
    assert execute("select count(deleted_at) from letter") == [(1,)]
