"""Unique keys of partitioned tables among live rows, and back to what they were."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Any

import psycopg2
import pytest
from alembic.operations import Operations
from interruptions import Trial
from originals import Original
from sqlalchemy import Engine, event

from fkdoctor.database import connect
from fkdoctor.errors import Incomplete, Refused, UnknownName
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import install_ledger
from fkdoctor.revise.operations import AddSoftDelete
from fkdoctor.softdelete.delete import soft_delete
from fkdoctor.softdelete.restore import restore_deletion
from fkdoctor.softdelete.selection import Selection

Execute = Callable[[str], list[tuple[Any, ...]]]
Operate = Callable[..., None]
Dump = Callable[[], str]

# Partitions at two depths, one in another schema, one with its columns in another order.
TABLES = """
    create schema "Old";
    create table letter (id int, part int, code text, note text, kind int default 1,
        primary key (id, part)) partition by list (part);
    create table letter_1 (note text, gone int, part int not null, kind int default 1,
        id int not null, code text);
    alter table letter_1 drop column gone;
    alter table letter attach partition letter_1 for values in (1);
    create table "Letter 2" partition of letter for values in (2) partition by list (part);
    create table "Old"."letter 2a" partition of "Letter 2" for values in (2);
    create table letter_9 partition of letter default;
    insert into letter values (1, 1, 'a', 'x'), (2, 1, 'b', 'y'), (3, 2, 'a', 'z'),
        (4, 9, 'a', 'w');
"""
FORMS = {
    "a constraint": "alter table letter add constraint u unique (code, part)",
    "comments on the whole and on parts": """
        alter table letter add constraint u unique (code, part);
        comment on constraint u on letter is E'Ours,\\nin two lines.';
        comment on constraint letter_1_code_part_key on letter_1 is 'Of one.';
        comment on constraint "letter 2a_code_part_key" on "Old"."letter 2a" is 'Of another.'""",
    "parts of other names": """alter table letter add constraint "The ""U"" %s" unique (code, part);
        alter index letter_1_code_part_key rename to "one's";
        alter index "Letter 2_code_part_key" rename to "two's" """,
    "included columns and a fill factor": """alter table letter
        add constraint u unique (part, code) include (note) with (fillfactor = 70)""",
    "a bare index": "create unique index u on letter (code, part)",
    "an index with a condition": "create unique index u on letter (code, part) where kind > 0",
    "an expression": "create unique index u on letter (lower(code), part)",
    "orders and operator classes": """create unique index u on letter
        (code collate "C" text_pattern_ops desc nulls last, part)""",
    "parts that were attached": """
        create unique index u on only letter (code, part);
        create unique index one on letter_1 (code desc, part) with (fillfactor = 50);
        create unique index nine on letter_9 (code, part);
        comment on index nine is 'The rest.';
        create unique index two on only "Letter 2" (code, part);
        create unique index "two a" on "Old"."letter 2a" (code, part);
        alter index u attach partition one;
        alter index u attach partition nine;
        alter index two attach partition "Old"."two a";
        alter index u attach partition two""",
    "one of a single partition": "alter table letter_1 add constraint u unique (code)",
}
AGAIN = """insert into letter (id, part, code, note, kind)
    select id + 10, part, code, note, kind from letter where id = 1"""


def _add(**wish: Any) -> Callable[[Operations], None]:
    return lambda op: op.add_soft_delete("letter", schema="public", **wish)


def _drop(op: Operations) -> None:
    op.drop_soft_delete("letter", schema="public")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_unique_key_comes_to_hold_among_live_rows_and_is_restored_exactly(
    execute: Execute, operate: Operate, dump: Dump, form: str
) -> None:
    execute(TABLES + form)
    before = dump()
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute(AGAIN)
    operate(_add())
    changed = dump()
    operate(_add())
    assert dump() == changed
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute(AGAIN)
    execute(f"update letter set deleted_at = now() where id = 1; {AGAIN}")
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute("update letter set deleted_at = null")
    execute("delete from letter where id = 1")
    operate(_drop)
    assert dump() == before
    operate(_drop)
    assert dump() == before


def test_nulls_that_are_not_distinct_stay_so(
    execute: Execute, operate: Operate, dump: Dump, major: int
) -> None:
    if major < 15:
        pytest.skip("NULLS NOT DISTINCT came with 15")
    execute(TABLES + "alter table letter add constraint u unique nulls not distinct (code, part)")
    before = dump()
    operate(_add())
    # Of the whole, of both below, of the one at the second depth, and of the default.
    assert dump().count("NULLS NOT DISTINCT WHERE (deleted_at IS NULL)") == 5
    operate(_drop)
    assert dump() == before


def test_partitions_that_come_later_follow_there_and_back(
    execute: Execute, operate: Operate
) -> None:
    execute(TABLES + FORMS["a constraint"])
    operate(_add())
    execute("""
        create table letter_3 partition of letter for values in (3) partition by list (part);
        create table letter_3a partition of letter_3 for values in (3);
        insert into letter (id, part, code, deleted_at) values (5, 3, 'c', now()), (6, 3, 'c', null)
    """)
    execute("delete from letter where id = 5")
    operate(_drop)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute("insert into letter_3a (id, part, code) values (7, 3, 'c')")
    assert execute("""select count(*)::int from pg_constraint where contype = 'u'
        and pg_get_constraintdef(oid) = 'UNIQUE (code, part)'""") == [(7,)]
    assert execute("select count(*)::int from pg_index where not indisvalid") == [(0,)]


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (
            """alter table letter add constraint u unique (code, part);
            create table r (code text, part int,
                constraint k foreign key (code, part) references letter (code, part))""",
            "a foreign key cannot reference an index with a condition (public.r.k)",
        ),
        (
            """alter table letter alter code set not null, add constraint u unique (code, part);
            alter table letter_1 replica identity using index letter_1_code_part_key""",
            "it is the replica identity, in public.letter_1",
        ),
        (
            """alter table letter add constraint u unique (code, part);
            create table r (code text, part int, constraint k foreign key (code, part)
                references letter_1 (code, part))""",
            "a foreign key cannot reference an index with a condition (public.r.k), in "
            "public.letter_1",
        ),
        ("create unique index u on only letter (code, part)", "it is not valid"),
        (
            """create unique index u on letter (code, part);
            drop table letter_9;
            create table letter_9 (like letter, constraint nine unique (code, part));
            alter table letter attach partition letter_9 default""",
            "a part of it is a constraint, without which PostgreSQL does not drop it, in "
            "public.letter_9",
        ),
        (
            """alter table letter add constraint u unique (code, part);
            comment on index letter_1_code_part_key is 'Of the index.'""",
            "the index of its constraint has a comment of its own, in public.letter_1",
        ),
    ],
)
def test_one_that_cannot_be_partial_stays_and_is_named_with_the_reason(
    execute: Execute,
    operate: Operate,
    dump: Dump,
    caplog: pytest.LogCaptureFixture,
    form: str,
    reason: str,
) -> None:
    execute(TABLES + form)
    before = dump()
    with caplog.at_level(logging.INFO, "fkdoctor.revise"):
        operate(_add())
    stays = "it goes on counting deleted rows"
    assert f"unique key public.letter.u: {stays}: {reason}" in caplog.messages
    assert (
        f"unique key public.letter.letter_pkey: {stays}: it is the primary key" in caplog.messages
    )
    operate(_drop)
    assert dump() == before
    with pytest.raises(Refused, match="cannot hold among live rows only") as caught:
        operate(_add(unique_keys=["u"]))
    assert reason[1:] in caught.value.why


def test_only_the_keys_that_are_named_are_changed(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(
        TABLES
        + """alter table letter add constraint u unique (code, part);
        alter table letter_1 add constraint w unique (note)"""
    )
    operate(_add(unique_keys=["w"]))
    assert "UNIQUE (code, part)" in dump()
    assert "UNIQUE (note)" not in dump()
    with pytest.raises(UnknownName) as caught:
        operate(_add(unique_keys=["wrong"]))
    assert caught.value.why == "Its unique keys: letter_pkey, u, w."


def test_values_that_were_used_again_stop_the_way_back_and_no_new_form_stays(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    # The column is theirs, so the rows stay deleted, and in the way.
    execute(TABLES + "alter table letter add deleted_at timestamptz;" + FORMS["a constraint"])
    before = dump()
    operate(_add())
    for part in (1, 2, 9):
        execute(f"""update letter set deleted_at = now(), code = 'again' where part = {part};
            insert into letter values (100 + {part}, {part}, 'again')""")
        changed = dump()
        with pytest.raises((Refused, Incomplete), match="cannot hold for all rows again") as caught:
            operate(_drop)
        assert f"(code, part)=(again, {part})" in caught.value.why
        assert dump() == changed
        execute("delete from letter where deleted_at is not null")
    operate(_drop)
    assert dump() == before


@pytest.mark.parametrize("form", ["a constraint", "parts that were attached"])
def test_a_run_that_was_cut_off_is_finished_or_taken_back(database_url: str, form: str) -> None:
    trial = Trial(database_url)
    build = ("create schema one", "set search_path to one", TABLES, FORMS[form])
    operation = AddSoftDelete(table="letter", schema="one")
    trial.check(Original(name=form, build=build, operation=operation), random.Random(form), cuts=5)
    assert trial.tally["cut there"] > 2
    assert trial.tally["cut back"] > 0


def test_a_partition_that_comes_before_the_last_step_is_taken_along(
    execute: Execute, operate: Operate, engine: Engine
) -> None:
    execute(TABLES + FORMS["a constraint"])
    late: list[str] = []

    def before(connection: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("create unique index concurrently") and not late:
            late.append(statement)
            execute("create table letter_3 partition of letter for values in (3)")

    event.listen(engine, "before_cursor_execute", before)
    operate(_add())
    assert late
    predicates = execute("""select pg_get_expr(indpred, indrelid), indisvalid from pg_index
        where indisunique and not indisprimary and indrelid = any (array(
            select relid from pg_partition_tree('letter')))""")
    assert predicates == [("(deleted_at IS NULL)", True)] * 6


def test_an_undo_that_was_cut_off_leaves_no_full_key_when_it_is_done_again(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(TABLES + FORMS["a constraint"])
    operate(_add())
    added = dump()
    # What a way back has built when it is killed.
    execute("""create unique index letter_1_code_part_key_fkdoctor on letter_1 (code, part)""")
    operate(_add())
    assert dump() == added


def test_writers_of_all_partitions_go_on_while_the_new_forms_are_built(
    execute: Execute, operate: Operate, database_url: str
) -> None:
    execute(TABLES + FORMS["a constraint"])
    operate(_add(unique_keys=()))
    building = """select count(*)::int from pg_stat_activity where datname = current_database()
        and query like 'create unique index concurrently%' and state = 'active'"""
    connection = psycopg2.connect(database_url)
    with connection.cursor() as cursor:
        # No build of this leaf can end while this transaction is open.
        cursor.execute("""insert into "Old"."letter 2a" (id, part, code) values (20, 2, 'q')""")
        thread = threading.Thread(target=operate, args=(_add(),))
        thread.start()
        while execute(building) == [(0,)]:
            assert thread.is_alive()
        execute("""set lock_timeout = '2s';
            insert into letter (id, part, code) values (21, 1, 'q'), (22, 2, 'r'), (23, 9, 'q');
            update letter set note = 'seen' where id > 20""")
        connection.rollback()
    connection.close()
    thread.join()
    assert execute("select count(*)::int from letter where note = 'seen'") == [(3,)]


def test_a_restore_refuses_where_a_live_row_has_the_value_by_now(
    execute: Execute, operate: Operate, engine: Engine
) -> None:
    execute(TABLES + FORMS["a constraint"])
    operate(_add())
    with connect(engine) as connection:
        install_ledger(connection)
        schema = inspect_database(connection)
        letter = schema.resolve_table("letter")
        done = soft_delete(connection, schema, letter, Selection(where="id = 3"))
        assert done.id is not None
        execute("insert into letter (id, part, code) values (30, 2, 'a')")
        with pytest.raises(Refused) as caught:
            restore_deletion(connection, schema, done.id)
        assert "the live row (30, 2) has its code, part now" in caught.value.why
        execute("delete from letter where id = 30")
        restore_deletion(connection, schema, done.id)
    assert execute("select code from letter where id = 3 and deleted_at is null") == [("a",)]
