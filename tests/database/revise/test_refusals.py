"""What is refused: each by name, with nothing changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg2.extensions import make_dsn
from sqlalchemy import Engine

from fkdoctor.errors import (
    AmbiguousName,
    Blocked,
    ConfigError,
    FkdoctorError,
    Incomplete,
    Refused,
    UnknownName,
)

Execute = Callable[[str], list[tuple[object, ...]]]
Operate = Callable[..., None]
Dump = Callable[[], str]

TABLES = """
    create table letter (id int primary key);
    create table recommendation (id int primary key, letter_id int not null
        constraint k references letter, other int constraint another references letter);
    create table logged (at date, letter_id int constraint logged_k references letter)
        partition by range (at);
    create table logged_2026 partition of logged for values from ('2026-01-01') to ('2027-01-01');
    create table partitioned (id int primary key) partition by range (id);
    create table pointing (id int constraint pointing_k references partitioned);
    create table parent (id int primary key);
    create table heir () inherits (parent);
    create view glance as select * from recommendation;
    create index logged_letter_id on logged (letter_id);
"""


@pytest.fixture
def refuse(execute: Execute, operate: Operate, dump: Dump) -> Callable[..., FkdoctorError]:
    """Called with an operation: the error with which it changed nothing."""

    def refuse(use: Callable[[Operations], None], kind: type[FkdoctorError]) -> FkdoctorError:
        before = dump()
        with pytest.raises(kind) as caught:
            operate(use)
        assert type(caught.value) is kind
        assert dump() == before
        assert caught.value.what
        assert caught.value.why
        assert caught.value.next
        return caught.value

    return refuse


def _change(table: str, name: str, rule: str = "CASCADE", schema: str | None = "public"):  # type: ignore[no-untyped-def]
    return lambda op: op.change_on_delete(table, name, rule, schema=schema)


WRONG = {
    "no such key": (_change("recommendation", "kk"), UnknownName, "another, k"),
    "no such table": (_change("recommendations", "k"), UnknownName, "public.recommendation"),
    "a view": (_change("glance", "k"), UnknownName, "is a view"),
    "no such rule": (_change("recommendation", "k", "VANISH"), ConfigError, "SET DEFAULT"),
    "a copy for a partition": (
        _change("logged_2026", "logged_k"),
        Refused,
        "public.logged.logged_k",
    ),
    "set null in vain": (_change("recommendation", "k", "SET NULL"), Refused, "letter_id"),
    "an index on a view": (
        lambda op: op.add_reference_index("glance", ["letter_id"], schema="public"),
        UnknownName,
        "is a view",
    ),
    "an index without a key": (
        lambda op: op.add_reference_index("recommendation", ["id"], schema="public"),
        UnknownName,
        "letter_id → public.letter(id)",
    ),
    "soft delete of a view": (
        lambda op: op.add_soft_delete("glance", schema="public"),
        UnknownName,
        "is a view",
    ),
    "soft delete of a partition": (
        lambda op: op.add_soft_delete("logged_2026", schema="public"),
        Refused,
        "Name the whole table: public.logged",
    ),
    "soft delete where others inherit": (
        lambda op: op.add_soft_delete("parent", schema="public"),
        Refused,
        "public.heir",
    ),
    "an index that exists under the name": (
        lambda op: op.add_reference_index(
            "recommendation", ["letter_id"], schema="public", name="logged_letter_id"
        ),
        Blocked,
        "logged_letter_id",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_clear_error(
    execute: Execute, refuse: Callable[..., FkdoctorError], case: str
) -> None:
    use, kind, names = WRONG[case]
    execute(TABLES)
    assert names in str(refuse(use, kind))


def test_a_bare_name_is_found_and_an_ambiguous_one_refused(
    execute: Execute, operate: Operate, refuse: Callable[..., FkdoctorError]
) -> None:
    execute(TABLES)
    operate(_change("recommendation", "k", schema=None))
    execute("create schema other; create table other.recommendation ()")
    problem = refuse(_change("recommendation", "k", "RESTRICT", schema=None), AmbiguousName)
    assert "other.recommendation or public.recommendation" in problem.why


def test_a_key_of_somebody_else_under_the_shadows_name_is_left_alone(
    execute: Execute, refuse: Callable[..., FkdoctorError]
) -> None:
    execute(f"{TABLES} alter table recommendation rename constraint another to k_fkdoctor")
    assert "k_fkdoctor" in str(refuse(_change("recommendation", "k"), Blocked))


def test_a_key_whose_triggers_are_off_is_refused(
    execute: Execute, refuse: Callable[..., FkdoctorError], superuser: None
) -> None:
    execute(f"{TABLES} alter table recommendation disable trigger all")
    assert "RI_ConstraintTrigger" in str(refuse(_change("recommendation", "k"), Refused))


def test_a_temporal_key_is_refused(
    execute: Execute, refuse: Callable[..., FkdoctorError], major: int
) -> None:
    if major < 18:
        pytest.skip("PostgreSQL 18 and newer")
    execute(
        """create table a (id int4range, p tstzrange, primary key (id, p without overlaps));
        create table b (id int4range, p tstzrange,
            constraint k foreign key (id, period p) references a (id, period p))"""
    )
    assert "temporal" in str(refuse(_change("b", "k"), Refused))


def test_a_read_only_session_is_refused(
    execute: Execute, operate_at: Operate, database_url: str, dump: Dump
) -> None:
    execute(TABLES)
    before = dump()
    reader = make_dsn(database_url, options="-c default_transaction_read_only=on")
    with pytest.raises(Refused, match="cannot be written to"):
        operate_at(reader, _change("recommendation", "k"))
    assert dump() == before


@pytest.fixture
def role(execute: Execute, superuser: None) -> str:
    """The name of a role that owns nothing, and is gone with the database."""
    name = str(execute("select 'fkd_role_' || pg_catalog.md5(pg_catalog.current_database())")[0][0])
    execute(f"{TABLES} create role {name}; grant usage on schema public to {name}")
    return name


@pytest.fixture
def operate_as(operate_at: Operate, database_url: str, role: str, execute: Execute):  # type: ignore[no-untyped-def]
    """As `operate`, in the role that owns nothing."""
    yield lambda use: operate_at(make_dsn(database_url, options=f"-c role={role}"), use)
    execute(f"reassign owned by {role} to current_user; drop owned by {role}; drop role {role}")


def test_a_role_that_does_not_own_the_table_is_refused(
    operate_as: Callable[..., None], role: str, dump: Dump
) -> None:
    before = dump()
    for use in (
        _change("recommendation", "k"),
        lambda op: op.add_reference_index("recommendation", ["letter_id"], schema="public"),
        lambda op: op.add_soft_delete("letter", schema="public"),
    ):
        with pytest.raises(Refused, match=f"role {role} may not alter") as caught:
            operate_as(use)
        assert "It belongs to" in caught.value.why
    assert dump() == before


def test_a_role_without_the_right_to_reference_is_refused(
    execute: Execute, operate_as: Callable[..., None], role: str, dump: Dump
) -> None:
    execute(f"alter table recommendation owner to {role}")
    before = dump()
    with pytest.raises(Refused) as caught:
        operate_as(_change("recommendation", "k"))
    assert caught.value.next == f"As postgres: grant references on public.letter to {role};" or (
        f"to {role};" in caught.value.next
    )
    assert dump() == before


def test_the_right_to_reference_suffices(
    execute: Execute, operate_as: Callable[..., None], role: str
) -> None:
    execute(f"alter table recommendation owner to {role}; grant references on letter to {role}")
    operate_as(_change("recommendation", "k"))
    found = execute("select confdeltype::text from pg_constraint where conname = 'k'")
    assert found == [("c",)]


def test_an_outer_transaction_is_explained(execute: Execute, engine: Engine, dump: Dump) -> None:
    execute(TABLES)
    before = dump()
    with engine.begin() as connection:
        context = MigrationContext.configure(connection)
        with pytest.raises(ConfigError, match="outside of Alembic") as caught:
            _change("recommendation", "k")(Operations(context))
    assert "engine.connect()" in caught.value.next
    assert dump() == before


def test_a_refusal_after_a_change_says_what_was_done(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(TABLES)

    def revision(op: Operations) -> None:
        _change("recommendation", "another")(op)
        _change("recommendation", "k", "SET NULL")(op)

    with pytest.raises(Incomplete, match="cannot be SET NULL") as caught:
        operate(revision)
    assert "Done before it: another changed." in caught.value.why


DANGLING = """
    create table letter (id int primary key);
    create table recommendation (tenant int, id int, letter_id int
        constraint k references letter on delete cascade, primary key (tenant, id));
    insert into letter select generate_series(1, 30);
    insert into recommendation select n % 2, n, n from generate_series(1, 30) as n;
    create function keep() returns trigger language plpgsql as 'begin return null; end';
    create trigger keep before delete on recommendation for each row execute function keep();
    comment on constraint k on recommendation is 'Ours.';
"""


def test_dangling_rows_are_named_and_the_old_key_stays_in_force(
    execute: Execute, refuse: Callable[..., FkdoctorError]
) -> None:
    # The trigger swallows the cascade: the key is valid, and three rows reference nothing.
    execute(f"{DANGLING} delete from letter where id in (7, 8, 21)")
    problem = refuse(_change("recommendation", "k", "RESTRICT"), Refused)
    assert "(tenant, id → letter_id): (0, 8) → 8, (1, 7) → 7, (1, 21) → 21." in problem.why
    assert "ON DELETE CASCADE" in problem.why


def test_after_the_repair_the_same_call_succeeds(
    execute: Execute, operate: Operate, refuse: Callable[..., FkdoctorError]
) -> None:
    execute(f"{DANGLING} delete from letter where id <= 12")
    problem = refuse(_change("recommendation", "k", "RESTRICT"), Refused)
    assert problem.why.count("→") == 11
    assert "and more." in problem.why
    execute("update recommendation set letter_id = null where letter_id <= 12")
    operate(_change("recommendation", "k", "RESTRICT"))
    found = execute("select confdeltype::text, convalidated from pg_constraint where conname = 'k'")
    assert found == [("r", True)]


def test_half_null_references_of_match_full_are_dangling(
    execute: Execute, operate: Operate, superuser: None
) -> None:
    execute(
        """create table a (x int, y int, primary key (x, y));
        create table b (id int primary key, x int, y int,
            constraint k foreign key (x, y) references a match full);
        set session_replication_role = replica;
        insert into b values (1, null, null), (2, 5, null), (3, 5, 6)"""
    )
    with pytest.raises(Refused) as caught:
        operate(_change("b", "k"))
    assert "(id → x, y): 2 → (5, NULL), 3 → (5, 6)." in caught.value.why
