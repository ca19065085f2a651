"""A key's rule is changed and restored: nothing else of it changes, nothing is lost."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.operations import Operations

from fkdoctor.identifier import quote
from fkdoctor.schema import ReferentialAction, Schema, TableName

Execute = Callable[[str], list[tuple[object, ...]]]

TABLES = """
    create table letter (id int primary key, tenant int not null, code text unique,
        unique (tenant, id));
    create table recommendation (id int primary key, letter_id int, tenant int, code text);
    insert into letter select n, 1, 'c' || n from generate_series(1, 20) as n;
    insert into recommendation select n, n, 1, 'c' || n from generate_series(1, 20) as n;
"""
ORIGINALS = {
    "plain": "foreign key (letter_id) references letter",
    "restrict": "foreign key (letter_id) references letter on delete restrict",
    "set null": "foreign key (letter_id) references letter on delete set null",
    "on update": "foreign key (letter_id) references letter on update cascade",
    "deferred": "foreign key (letter_id) references letter on update cascade on delete set default"
    " deferrable initially deferred",
    "deferrable": "foreign key (letter_id) references letter deferrable",
    "not valid": "foreign key (letter_id) references letter not valid",
    "composite": "foreign key (tenant, letter_id) references letter (tenant, id) match full",
    "other order": "foreign key (letter_id, tenant) references letter (id, tenant)",
    "unique target": "foreign key (code) references letter (code)",
    "self reference": "foreign key (letter_id) references recommendation",
}
NEWER_ORIGINALS = {
    "set some null": (15, "foreign key (tenant, letter_id) references letter (tenant, id)"
    " on delete set null (letter_id)"),
    "not enforced": (18, "foreign key (letter_id) references letter not enforced"),
}  # fmt: skip


def _cascade(op: Operations) -> None:
    op.change_on_delete("recommendation", "k", "CASCADE", schema="public")


def _restore(op: Operations) -> None:
    op.restore_on_delete("recommendation", "k", "CASCADE", schema="public")


@pytest.fixture(params=[*ORIGINALS, *NEWER_ORIGINALS])
def original(request: pytest.FixtureRequest, major: int) -> str:
    """The definition of a key as somebody may have written it."""
    since, definition = NEWER_ORIGINALS.get(request.param, (0, ORIGINALS.get(request.param)))
    if major < since:
        pytest.skip(f"PostgreSQL {since} and newer")
    assert definition is not None
    return definition


def _definition(execute: Execute, name: str = "k") -> tuple[object, ...]:
    return execute(
        f"""select pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint'), convalidated
        from pg_constraint where conname = '{name}' and contype = 'f'"""
    )[0]


def test_every_original_is_changed_and_restored_exactly(
    execute: Execute,
    inspect_after: Callable[..., Schema],
    operate: Callable[..., None],
    dump: Callable[[], str],
    original: str,
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {original}")
    before, as_found = (
        dump(),
        inspect_after().foreign_key(TableName("public", "recommendation"), "k"),
    )
    operate(_cascade)
    changed = inspect_after().foreign_key(as_found.referencing, "k")
    assert changed.on_delete is ReferentialAction.CASCADE
    kept = ("match", "on_update", "deferrable", "initially_deferred", "validated", "enforced")
    for field in (*kept, "referenced", "referenced_columns", "referencing_columns"):
        assert getattr(changed, field) == getattr(as_found, field)
    assert dump() != before
    operate(_restore)
    assert dump() == before


def test_the_new_rule_is_in_force(execute: Execute, operate: Callable[..., None]) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS['plain']}")
    operate(_cascade)
    execute("delete from letter where id <= 5")
    assert execute("select count(*), min(id) from recommendation") == [(15, 6)]


def test_a_key_that_has_the_rule_is_left_as_it_is(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str]
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS['plain']}")
    execute("alter table recommendation drop constraint k, add constraint k foreign key (letter_id)"
    " references letter on delete cascade")  # fmt: skip
    before = dump(), execute("select oid from pg_constraint where conname = 'k'")
    operate(_cascade)
    assert (dump(), execute("select oid from pg_constraint where conname = 'k'")) == before
    operate(_restore)
    assert (dump(), execute("select oid from pg_constraint where conname = 'k'")) == before


def test_a_second_run_changes_nothing(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str]
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS['plain']}")
    before = dump()
    operate(_cascade)
    once = dump()
    operate(_cascade)
    assert dump() == once
    operate(_restore)
    operate(_restore)
    assert dump() == before


@pytest.mark.parametrize(
    "comment", ["A letter's.", "Two\nlines\n", "it's 100% \\ [fkdoctor was: x"]
)
def test_somebodys_comment_is_kept(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str], comment: str
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS['plain']}")
    quoted = comment.replace("'", "''")
    execute(f"comment on constraint k on recommendation is '{quoted}'")
    before = dump()
    operate(_cascade)
    assert str(_definition(execute)[1]).startswith(comment)
    operate(_restore)
    assert _definition(execute)[1] == comment
    assert dump() == before


def test_two_changes_are_restored_one_by_one(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str]
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS['plain']}")
    states = [dump()]
    operate(_cascade)
    states.append(dump())
    operate(lambda op: op.change_on_delete("recommendation", "k", "set null", schema="public"))
    assert "ON DELETE SET NULL" in str(_definition(execute)[0])
    for _ in range(2):  # the second as after a crash: the first must not have uncovered the next
        operate(lambda op: op.restore_on_delete("recommendation", "k", "SET NULL", schema="public"))
        assert dump() == states[1]
    operate(_restore)
    assert dump() == states[0]


def test_what_was_survives_a_dump_and_a_restore(
    execute: Execute,
    operate: Callable[..., None],
    operate_at: Callable[..., None],
    dump: Callable[[], str],
    dump_at: Callable[[str], str],
    make_database: Callable[..., str],
    psql: Path,
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS['deferred']}")
    before = dump()
    operate(_cascade)
    elsewhere = make_database()
    subprocess.run([psql, "-qXd", elsewhere], input=dump(), text=True, check=True)
    operate_at(elsewhere, _restore)
    assert dump_at(elsewhere) == before


ODD = ['Odd "one"', "a%s:b", "$fkdoctor$", "it's", "back\\slash", "new\nline", "ON DELETE CASCADE"]


@pytest.mark.parametrize("odd", [*ODD, "é" * 31])
def test_odd_names_are_no_trouble(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str], odd: str
) -> None:
    name = quote(odd)
    execute(f"create schema {name}")
    execute(f"create table {name}.{name} ({name} int primary key)")
    execute(
        f"create table {name}.t ({name} int, constraint {name} foreign key ({name}) "
        f"references {name}.{name} on update cascade)"
    )
    before = dump()
    operate(lambda op: op.add_reference_index("t", [odd], schema=odd))
    operate(lambda op: op.change_on_delete("t", odd, "CASCADE", schema=odd))
    operate(lambda op: op.add_soft_delete("t", schema=odd, column=odd + "x"[: 62 - len(odd)]))
    assert dump() != before
    operate(lambda op: op.drop_soft_delete("t", schema=odd, column=odd + "x"[: 62 - len(odd)]))
    operate(lambda op: op.restore_on_delete("t", odd, "CASCADE", schema=odd))
    operate(lambda op: op.drop_reference_index("t", [odd], schema=odd))
    assert dump() == before


def test_two_keys_with_one_long_beginning_do_not_meet(
    execute: Execute, operate: Callable[..., None]
) -> None:
    execute(TABLES)
    names = ["k" * 62 + end for end in "ab"]
    for name in names:
        execute(f"alter table recommendation add constraint {name} {ORIGINALS['plain']}")
    for name in names:
        operate(lambda op, name=name: op.change_on_delete("recommendation", name, "CASCADE"))
        assert "ON DELETE CASCADE" in str(_definition(execute, name)[0])


def test_a_key_written_on_one_partition_is_a_plain_key(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str]
) -> None:
    execute(
        """create table letter (id int primary key);
        create table r (id int, letter_id int) partition by range (id);
        create table r1 partition of r for values from (0) to (10);
        alter table r1 add constraint k foreign key (letter_id) references letter"""
    )
    before = dump()
    operate(lambda op: op.change_on_delete("r1", "k", "CASCADE"))
    assert "ON DELETE CASCADE" in str(_definition(execute)[0])
    operate(lambda op: op.restore_on_delete("r1", "k", "CASCADE"))
    assert dump() == before


def test_each_step_is_told(
    execute: Execute, operate: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS['plain']}")
    with caplog.at_level(logging.INFO, "fkdoctor.revise"):
        operate(_cascade)
    told = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[1].split()[0] for line in told] == ["add", "validate", "put", "as"]
    assert all(line.startswith("public.recommendation.k: ") for line in told)
