"""Indexes on referencing columns: built only if none serves, finished after any accident."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg2
import pytest
from alembic.operations import Operations

from fkdoctor.errors import Blocked, Incomplete, Refused
from fkdoctor.revise import Patience

Execute = Callable[[str], list[tuple[object, ...]]]
Operate = Callable[..., None]
Dump = Callable[[], str]

TABLES = """
    create table letter (id int, tenant int, primary key (tenant, id));
    create table recommendation (id int primary key, tenant int, letter_id int,
        constraint k foreign key (tenant, letter_id) references letter (tenant, id));
"""
NAME = "recommendation_tenant_letter_id_idx"


def _add(op: Operations) -> None:
    op.add_reference_index("recommendation", ["tenant", "letter_id"], schema="public")


def _drop(op: Operations) -> None:
    op.drop_reference_index("recommendation", ["tenant", "letter_id"], schema="public")


def _indexes(execute: Execute) -> list[tuple[object, ...]]:
    return execute(
        """select c.relname::text, i.indisvalid from pg_index as i
        join pg_class as c on c.oid = i.indexrelid
        where i.indrelid = 'recommendation'::regclass and not i.indisprimary order by 1"""
    )


def test_an_index_is_built_once_and_dropped(execute: Execute, operate: Operate, dump: Dump) -> None:
    execute(TABLES)
    before = dump()
    operate(_add)
    assert _indexes(execute) == [(NAME, True)]
    built = dump()
    operate(_add)
    assert dump() == built
    operate(_drop)
    assert dump() == before
    operate(_drop)
    assert dump() == before


@pytest.mark.parametrize(
    "index",
    [
        "(letter_id, tenant)",
        "(tenant, letter_id, id)",
        "(letter_id, tenant) where letter_id is not null",
    ],
)
def test_an_index_that_serves_is_enough_and_stays(
    execute: Execute, operate: Operate, dump: Dump, index: str
) -> None:
    execute(f"{TABLES} create index mine on recommendation {index}")
    before = dump()
    operate(_add)
    assert dump() == before
    operate(_drop)
    assert dump() == before


@pytest.mark.parametrize("index", ["(tenant)", "(tenant, letter_id) where id > 5", "(id, tenant)"])
def test_an_index_that_does_not_serve_is_not_enough(
    execute: Execute, operate: Operate, index: str
) -> None:
    execute(f"{TABLES} create index mine on recommendation {index}")
    operate(_add)
    assert _indexes(execute) == [("mine", True), (NAME, True)]


def test_an_index_of_the_same_name_that_was_there_is_not_dropped(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(f"{TABLES} create index {NAME} on recommendation (tenant, letter_id)")
    before = dump()
    operate(_add)
    operate(_drop)
    assert dump() == before


@pytest.fixture
def half_built(
    execute: Execute, operate: Operate, database_url: str
) -> Callable[[Callable[[Operations], None]], None]:
    """Called with an operation that builds an index: cuts it off while it builds."""

    def half_built(use: Callable[[Operations], None]) -> None:
        with psycopg2.connect(database_url) as holder, holder.cursor() as cursor:
            # The build waits for every writer that is there when it begins.
            cursor.execute("lock table recommendation in row exclusive mode")
            failures: list[BaseException] = []

            def run() -> None:
                try:
                    operate(use)
                except BaseException as problem:
                    failures.append(problem)

            thread = threading.Thread(target=run)
            thread.start()
            ask = """select pg_terminate_backend(a.pid) from pg_stat_activity as a, pg_index as i
                where a.datname = current_database() and a.query ilike '%index concurrently%'
                    and a.pid <> pg_backend_pid() and not i.indisvalid
                    and a.wait_event_type = 'Lock'"""
            while not execute(ask) and thread.is_alive():
                pass
            thread.join()
        holder.close()
        assert [type(problem) for problem in failures] == [Incomplete]

    return half_built


def test_what_was_left_half_built_is_built_anew(
    execute: Execute, operate: Operate, dump: Dump, half_built: Callable[..., None]
) -> None:
    execute(TABLES)
    before = dump()
    half_built(_add)
    assert _indexes(execute) == [(f"{NAME}_fkdoctor", False)]
    operate(_add)
    assert _indexes(execute) == [(NAME, True)]
    operate(_drop)
    assert dump() == before


def test_an_invalid_index_of_somebody_else_is_repaired_and_stays_theirs(
    execute: Execute, operate: Operate, half_built: Callable[..., None], database_url: str
) -> None:
    execute(TABLES)
    half_built(_add)
    execute(f"alter index {NAME}_fkdoctor rename to theirs")
    operate(_add)
    assert _indexes(execute) == [("theirs", True)]
    operate(_drop)
    assert _indexes(execute) == [("theirs", True)]


def test_a_built_index_that_was_not_yet_named_is_taken_up(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(TABLES)
    operate(_add)
    finished = dump()
    execute(
        f"alter index {NAME} rename to {NAME}_fkdoctor; comment on index {NAME}_fkdoctor is null"
    )
    operate(_add)
    assert dump() == finished


def test_who_keeps_an_index_from_being_built_is_named(
    execute: Execute, operate: Operate, database_url: str
) -> None:
    execute(TABLES)
    with psycopg2.connect(database_url) as holder, holder.cursor() as cursor:
        cursor.execute("lock table recommendation in row exclusive mode")
        short = Patience(first=50, longest=50, tries=1, total=2_500)
        with pytest.raises(Blocked) as caught:
            operate(_add, short)
        assert f"pid {holder.info.backend_pid} " in caught.value.why
        assert "idle in transaction" in caught.value.why
    holder.close()
    operate(_add)
    assert _indexes(execute) == [(NAME, True)]


def test_timeouts_of_the_session_are_as_before(
    execute: Execute, engine: object, operate: Operate
) -> None:
    execute(TABLES)

    def revision(op: Operations) -> None:
        op.execute("set lock_timeout = '7s'; set statement_timeout = '70s'")
        _add(op)
        found = op.get_bind().exec_driver_sql(
            "select current_setting('lock_timeout'), current_setting('statement_timeout')"
        )
        assert found.one() == ("7s", "70s")

    operate(revision)


def _build(op: Operations) -> None:
    op.build_index("by_letter", "recommendation", ["letter_id"], schema="public", unique=True)


def test_any_index_is_built_anew_where_it_was_left_half_built(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(f"{TABLES} insert into letter values (1, 1);")
    execute("insert into recommendation values (1, 1, 1), (2, 1, 1)")
    before = dump()
    with pytest.raises(Refused, match="could not create unique index"):
        operate(_build)
    assert ("by_letter", False) in _indexes(execute)
    execute("delete from recommendation where id = 2")
    operate(_build)
    assert ("by_letter", True) in _indexes(execute)
    built = dump()
    operate(_build)
    assert dump() == built
    for _ in range(2):
        operate(
            lambda op: op.remove_index(
                "by_letter", "recommendation", ["letter_id"], schema="public"
            )
        )
        assert dump() == before


def test_another_index_of_the_name_is_left_alone(execute: Execute, operate: Operate) -> None:
    execute(f"{TABLES} create index by_letter on recommendation (tenant)")
    with pytest.raises(Blocked, match="another index named by_letter"):
        operate(_build)


def test_a_duplicate_key_goes_only_where_another_one_holds(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(
        f"""{TABLES} alter table recommendation add constraint again foreign key (letter_id, tenant)
        references letter (id, tenant) on delete cascade not valid"""
    )
    before = dump()
    with pytest.raises(Refused, match="not said again by a key that is in force"):
        operate(lambda op: op.drop_duplicate_key("recommendation", "k"))
    assert dump() == before
    definition = execute("select pg_get_constraintdef(oid) from pg_constraint"
                         " where conname = 'again'")[0][0]  # fmt: skip
    use = {"definition": str(definition).replace(" letter(", " public.letter(")}
    for _ in range(2):
        operate(lambda op: op.drop_duplicate_key("recommendation", "again", **use))
    assert dump() != before
    for _ in range(2):
        operate(lambda op: op.restore_duplicate_key("recommendation", "again", **use))
    assert dump() == before
