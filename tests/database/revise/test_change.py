"""A key's rule is changed and restored: nothing else of it changes, nothing is lost."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.operations import Operations

from fkdoctor.errors import Refused
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


OTHER_CHANGES = {
    "on update": ("plain", {"on_update": "CASCADE"}, "ON UPDATE CASCADE"),
    "both": (
        "restrict",
        {"on_delete": "CASCADE", "on_update": "SET NULL"},
        "ON UPDATE SET NULL ON",
    ),
    "match": ("other order", {"match": "FULL"}, "MATCH FULL"),
    "no match": ("composite", {"match": "SIMPLE"}, "letter(tenant, id)"),
    "deferred": ("not valid", {"initially": "DEFERRED"}, "DEFERRABLE INITIALLY DEFERRED NOT VALID"),
    "not deferred": ("deferred", {"deferrable": False}, "ON DELETE SET DEFAULT"),
}


@pytest.mark.parametrize("strategy", ["shadow", "flip"])
@pytest.mark.parametrize("case", OTHER_CHANGES)
def test_every_part_of_a_key_is_changed_and_restored(
    execute: Execute,
    operate: Callable[..., None],
    dump: Callable[[], str],
    case: str,
    strategy: str,
) -> None:
    original, asked, wanted = OTHER_CHANGES[case]
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS[original]}")
    before, validated = dump(), _definition(execute)[2]
    asked = {"on_delete": None, **asked, "strategy": strategy}
    operate(lambda op: op.change_on_delete("recommendation", "k", **asked))
    definition, comment, still_validated = _definition(execute)
    assert wanted in str(definition)
    assert str(comment).startswith("[fkdoctor was: ")
    assert still_validated == validated
    once = dump()
    operate(lambda op: op.change_on_delete("recommendation", "k", **asked))
    assert dump() == once
    operate(lambda op: op.restore_on_delete("recommendation", "k", **asked))
    assert dump() == before


def test_only_some_columns_are_set_null(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str], major: int
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS['other order']}")
    before = dump()

    def use(op: Operations) -> None:
        op.change_on_delete("recommendation", "k", "SET NULL", set_columns=["letter_id"])

    if major < 15:
        with pytest.raises(Refused, match="only some of its columns"):
            operate(use)
        assert dump() == before
        return
    operate(use)
    execute("delete from letter where id = 3")
    assert execute("select letter_id, tenant from recommendation where id = 3") == [(None, 1)]
    operate(lambda op: op.change_on_delete("recommendation", "k", "SET NULL", set_columns=[]))
    execute("delete from letter where id = 4")
    assert execute("select letter_id, tenant from recommendation where id = 4") == [(None, None)]
    for columns in ([], ["letter_id"]):
        operate(
            lambda op, columns=columns: op.restore_on_delete(
                "recommendation", "k", "SET NULL", set_columns=columns
            )
        )
    assert dump() == before


def test_a_flip_reads_the_rows_before_it_begins(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str], superuser: None
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {ORIGINALS['plain']}")
    execute("set session_replication_role = replica; delete from letter where id = 5")
    before = dump(), execute("select oid from pg_constraint where conname = 'k'")
    with pytest.raises(Refused, match="rows reference what is not in") as caught:
        operate(lambda op: op.change_on_delete("recommendation", "k", "CASCADE", strategy="flip"))
    assert "(id → letter_id): 5 → 5." in caught.value.why
    assert (dump(), execute("select oid from pg_constraint where conname = 'k'")) == before


VALIDATED = "foreign key (letter_id) references letter on update cascade"


def test_a_key_is_validated_and_not_valid_again(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str]
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {VALIDATED} not valid")
    before = dump()
    operate(lambda op: op.validate_foreign_key("recommendation", "k"))
    assert _definition(execute)[2] is True
    once = dump()
    operate(lambda op: op.validate_foreign_key("recommendation", "k"))
    assert dump() == once
    operate(lambda op: op.unvalidate_foreign_key("recommendation", "k"))
    assert dump() == before


def test_a_key_that_was_valid_is_left_valid(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str]
) -> None:
    execute(f"{TABLES} alter table recommendation add constraint k {VALIDATED}")
    operate(_cascade)
    before = dump()
    operate(lambda op: op.validate_foreign_key("recommendation", "k"))
    operate(lambda op: op.unvalidate_foreign_key("recommendation", "k"))
    assert dump() == before


def test_rows_that_dangle_are_named_and_the_key_stays_not_valid(
    execute: Execute, operate: Callable[..., None], dump: Callable[[], str]
) -> None:
    execute(f"{TABLES} insert into recommendation values (21, 99), (22, 98)")
    execute(f"alter table recommendation add constraint k {VALIDATED} not valid")
    before = dump()
    with pytest.raises(Refused, match="rows reference what is not in") as caught:
        operate(lambda op: op.validate_foreign_key("recommendation", "k"))
    assert "(id → letter_id): 21 → 99, 22 → 98." in caught.value.why
    assert dump() == before


PAIRS = {
    # The rule that is given, the sibling's, and whether a DELETE now ends otherwise.
    "a block that now comes first": ("CASCADE", "restrict", True),
    "a block that now comes last": ("RESTRICT", "cascade", True),
    "a block that waits for the end": ("CASCADE", "no action deferrable initially deferred", False),
    "the same action twice": ("CASCADE", "cascade", False),
    "an action on other columns": ("CASCADE", "set null", False),
    "a block on other columns": ("SET NULL", "restrict", False),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_it_is_said_when_another_order_of_keys_changes_what_a_delete_does(
    execute: Execute,
    operate: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    pair: str,
) -> None:
    rule, sibling, matters = PAIRS[pair]
    execute(
        f"""create table letter (id int primary key);
        create table recommendation (id int primary key, letter_id int
            constraint k references letter on update cascade,
            other_id int constraint sibling references letter on delete {sibling});
        insert into letter values (1); insert into recommendation values (1, 1, 1)"""
    )
    with caplog.at_level(logging.WARNING, "fkdoctor.revise"):
        operate(lambda op: op.change_on_delete("recommendation", "k", rule))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == matters
    outcome = _try_to_delete(execute)
    # The oracle: the same keys, made in the other order.
    execute("alter table recommendation rename constraint k to old")
    execute(
        f"""alter table recommendation drop constraint sibling, add constraint sibling
        foreign key (other_id) references letter on delete {sibling}"""
    )
    assert (_try_to_delete(execute) != outcome) == matters
    assert all("public.recommendation.sibling" in line for line in said)


def _try_to_delete(execute: Execute) -> object:
    """What a DELETE would do, undone."""
    execute("create table if not exists outcome (said text)")
    execute(
        """do $$ declare found text; begin
            begin
                delete from letter;
                select string_agg(recommendation::text, '') into found from recommendation;
                raise exception using errcode = 'ZZ001', message = coalesce(found, 'gone');
            exception when sqlstate 'ZZ001' then found := sqlerrm;
                when foreign_key_violation or restrict_violation then found := 'blocked';
            end;
            insert into outcome values (found);
        end $$"""
    )
    return execute("delete from outcome returning said")
