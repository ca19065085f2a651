"""Unique keys among live rows, the view of them, and the guard between tables with soft delete."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Engine, event

from fkdoctor.config import Config
from fkdoctor.database import open_engine, resolve_target
from fkdoctor.errors import ConfigError, Incomplete, Refused, UnknownName

Execute = Callable[[str], list[tuple[Any, ...]]]
Operate = Callable[..., None]
Dump = Callable[[], str]


def _add(**wish: Any) -> Callable[[Operations], None]:
    return lambda op: op.add_soft_delete("letter", schema="public", **wish)


def _drop(op: Operations) -> None:
    op.drop_soft_delete("letter", schema="public")


# Unique keys

FORMS = {
    "a constraint": "alter table letter add constraint u unique (code)",
    "a constraint with a comment": """alter table letter add constraint u unique (code);
        comment on constraint u on letter is E'Ours,\nin two lines.'""",
    "several columns, included ones and a fill factor": """alter table letter
        add constraint u unique (kind, code) include (note) with (fillfactor = 70)""",
    "a bare index": "create unique index u on letter (code)",
    "an index with a comment": """create unique index u on letter (code);
        comment on index u is 'Ours.'""",
    "an expression": "create unique index u on letter (lower(code))",
    "an index with a condition": "create unique index u on letter (code) where kind > 0",
    "orders, collations and operator classes": """create unique index u on letter
        (code collate "C" text_pattern_ops desc nulls last, kind)""",
    "a name in need of quotes": 'create unique index "The ""U"" %s" on letter ("co de")',
    "a long name": f"create unique index {'u' * 63} on letter (code)",
}
TABLE = """
    create table letter (id int primary key, code text, kind int default 1, note text,
        "co de" int);
    insert into letter values (1, 'a', 1, 'x', 1), (2, 'b', 1, 'y', 2);
"""


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_unique_key_comes_to_hold_among_live_rows_and_is_restored_exactly(
    execute: Execute, operate: Operate, dump: Dump, form: str
) -> None:
    execute(TABLE + form)
    before = dump()
    again = """insert into letter select id + 10, code, kind, note, "co de" from letter
        where id = 1"""
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute(again)
    operate(_add())
    changed = dump()
    operate(_add())
    assert dump() == changed
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute(again)
    execute(f"update letter set deleted_at = now() where id = 1; {again}")
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
    execute(TABLE + "alter table letter add constraint u unique nulls not distinct (code)")
    before = dump()
    operate(_add())
    assert "NULLS NOT DISTINCT WHERE (deleted_at IS NULL)" in dump()
    operate(_drop)
    assert dump() == before


STAYS = {
    "referenced": (
        "alter table letter add constraint u unique (code);"
        "create table r (code text constraint k references letter (code))",
        "a foreign key cannot reference an index with a condition (public.r.k)",
    ),
    "deferrable": (
        "alter table letter add constraint u unique (code) deferrable",
        "it is deferrable",
    ),
    "replica identity": (
        """alter table letter alter code set not null, add constraint u unique (code);
        alter table letter replica identity using index u""",
        "it is the replica identity",
    ),
    "clustered": (
        "alter table letter add constraint u unique (code); alter table letter cluster on u",
        "the table is clustered by it",
    ),
    "named in a function": (
        """alter table letter add constraint u unique (code);
        create function put() returns void language sql as
        'insert into letter (id, code) values (1, null) on conflict on constraint u do nothing'""",
        "its constraint is named in public.put()",
    ),
    "named in a view": (
        """alter table letter add constraint u unique (code);
        create rule put as on insert to letter where new.id < 0 do instead
        insert into letter (id) values (1) on conflict on constraint u do nothing""",
        "its constraint is named in rule put",
    ),
}


@pytest.mark.parametrize(("form", "reason"), STAYS.values(), ids=STAYS)
def test_a_unique_key_that_cannot_be_partial_stays_and_is_named_with_the_reason(
    execute: Execute,
    operate: Operate,
    dump: Dump,
    caplog: pytest.LogCaptureFixture,
    form: str,
    reason: str,
) -> None:
    execute(TABLE + form)
    before = dump()
    with caplog.at_level("INFO"):
        operate(_add())
    told = [message for message in caplog.messages if message.startswith("unique key")]
    assert any(
        message.startswith("unique key public.letter.u: it goes on counting deleted rows")
        and reason in message
        for message in told
    )
    assert any("letter_pkey" in message and "primary key" in message for message in told)
    operate(_drop)
    assert dump() == before
    with pytest.raises(Refused, match="cannot hold among live rows only") as caught:
        operate(_add(unique_keys=["u"]))
    assert reason[1:] in caught.value.why


def test_a_foreign_key_that_loses_its_index_by_that_is_named(
    execute: Execute, operate: Operate, caplog: pytest.LogCaptureFixture
) -> None:
    execute(
        TABLE
        + """create table sender (id int primary key); create table box (id int primary key);
        alter table letter add sender_id int unique references sender,
            add box_id int unique references box;
        create index on letter (box_id);"""
    )
    with caplog.at_level("WARNING"):
        operate(_add())
    (told,) = caplog.messages
    assert told.startswith("public.letter.letter_sender_id_fkey: letter_sender_id_key serves it no")
    assert "a DELETE in public.sender reads all of public.letter" in told
    with caplog.at_level("WARNING"):
        operate(lambda op: op.add_reference_index("letter", ["sender_id"], schema="public"))
        operate(_add())
    assert len(caplog.messages) == 1


def test_only_the_keys_that_are_named_are_changed(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(
        TABLE + "alter table letter add constraint u unique (code), add constraint w unique (note)"
    )
    operate(_add(unique_keys=()))
    assert "UNIQUE (code)" in dump()
    assert "UNIQUE (note)" in dump()
    operate(_add(unique_keys=["w"]))
    assert "UNIQUE (code)" in dump()
    assert "UNIQUE (note)" not in dump()
    with pytest.raises(UnknownName, match="no unique key wrong") as caught:
        operate(_add(unique_keys=["wrong"]))
    assert caught.value.why == "Its unique keys: letter_pkey, u, w."


def test_values_of_deleted_rows_that_were_used_again_stop_the_way_back(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    # The column is theirs, so the rows stay deleted, and in the way.
    execute(
        TABLE + """alter table letter add deleted_at timestamptz, add constraint u unique (code)"""
    )
    before = dump()
    operate(_add())
    execute("update letter set deleted_at = now(), code = 'b' where id = 1")
    changed = dump()
    with pytest.raises((Refused, Incomplete), match="cannot hold for all rows again") as caught:
        operate(_drop)
    assert "(code)=(b)" in caught.value.why
    assert dump() == changed
    execute("delete from letter where id = 1")
    operate(_drop)
    assert dump() == before


def test_an_index_of_the_name_that_is_needed_is_not_taken_for_ours(
    execute: Execute, operate: Operate
) -> None:
    execute(
        TABLE
        + """alter table letter add constraint u unique (code);
        create index u_fkdoctor on letter (note)"""
    )
    with pytest.raises((Refused, Incomplete), match=r"name public\.u_fkdoctor is taken"):
        operate(_add())
    assert execute("select indexdef from pg_indexes where indexname = 'u_fkdoctor'") == [
        ("CREATE INDEX u_fkdoctor ON public.letter USING btree (note)",)
    ]


def test_a_run_that_was_cut_off_anywhere_is_finished_by_the_next(
    make_database: Callable[..., str],
    make_template: Callable[..., str],
    dump_at: Callable[..., str],
) -> None:
    def load(url: str) -> None:
        _run(
            url,
            TABLE
            + """alter table letter add constraint u unique (code);
            create unique index w on letter (note) where kind > 0;
            comment on index w is 'Ours.'""",
        )

    found = make_template(load)
    complete = _add(view="live", guard=True)
    wanted = make_database(found)
    before = dump_at(wanted)
    _operate(_engine(wanted), complete)
    ends = {"there": dump_at(wanted), "back": before}
    cuts = 0
    for number in range(1, 60):
        url = make_database(found)
        if not (cut := _cut(url, complete, number)):
            break
        cuts += cut
        _operate(_engine(url), complete)
        assert dump_at(url) == ends["there"], f"cut at turn {number}"
    for number in range(1, 60):
        url = make_database(found)
        _operate(_engine(url), complete)
        if not (cut := _cut(url, _drop, number)):
            break
        cuts += cut
        _operate(_engine(url), _drop)
        assert dump_at(url) == ends["back"], f"cut at turn {number}"
    assert cuts > 12


def _cut(url: str, use: Callable[[Operations], None], number: int) -> bool:
    """Whether the work came to the turn of that number, at which its connection was cut."""
    engine, left = _engine(url), [number]

    def before(connection: Any, cursor: object, statement: str, *_: object) -> None:
        # What is cut off before a COMMIT is as what is cut off after the one before.
        turns = ("commit", "create index concurrently", "create unique index concurrently")
        left[0] -= statement.startswith(turns)
        if left[0] == 0:
            left[0] = -1
            pid = connection.connection.dbapi_connection.info.backend_pid
            _run(url, f"select pg_terminate_backend({pid})")
            while _run(url, f"select pid from pg_stat_activity where pid = {pid}"):
                pass

    event.listen(engine, "before_cursor_execute", before)
    with suppress(Incomplete):
        _operate(engine, use)
    return left[0] < 0


def _run(url: str, statements: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statements)
        return cursor.fetchall() if cursor.description else []


def _engine(url: str) -> Engine:
    return open_engine(resolve_target(url, Config(), {}))


def _operate(engine: Engine, use: Callable[[Operations], None]) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        with context.begin_transaction(_per_migration=True):
            use(Operations(context))


# Scripts


def _write_script(use: Callable[[Operations], None], capsys: pytest.CaptureFixture[str]) -> str:
    context = MigrationContext.configure(
        dialect_name="postgresql",
        opts={"as_sql": True, "transaction_per_migration": True, "literal_binds": True},
    )
    with context.begin_transaction(_per_migration=True):
        use(Operations(context))
    # What a revision that is recorded writes at its end.
    for callback in context.on_version_apply_callbacks:
        callback()
    return capsys.readouterr().out


def _play(psql: Path, url: str, script: str) -> subprocess.CompletedProcess[str]:
    command = [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url]
    return subprocess.run(command, input=script, capture_output=True, text=True)


def test_a_script_does_the_same_but_for_unique_keys(
    execute: Execute,
    operate: Operate,
    dump: Dump,
    capsys: pytest.CaptureFixture[str],
    psql: Path,
    database_url: str,
) -> None:
    execute("create table letter (id int primary key)")
    before = dump()
    operate(_add(view="live"))
    online = dump()
    assert _play(psql, database_url, _write_script(_drop, capsys)).returncode == 0
    assert dump() == before
    assert _play(psql, database_url, _write_script(_add(view="live"), capsys)).returncode == 0
    assert dump() == online


def test_a_script_stops_where_a_unique_key_would_have_to_change(
    execute: Execute,
    operate: Operate,
    dump: Dump,
    capsys: pytest.CaptureFixture[str],
    psql: Path,
    database_url: str,
) -> None:
    execute(TABLE + "alter table letter add constraint u unique (code)")
    before = dump()
    there = _play(psql, database_url, _write_script(_add(), capsys))
    assert "cannot change the unique keys of public.letter" in there.stderr
    assert "It would have to read what they are: u." in there.stderr
    assert dump() == before
    operate(_add())
    online = dump()
    back = _play(psql, database_url, _write_script(_drop, capsys))
    assert "cannot give the unique keys of public.letter their form back" in back.stderr
    assert dump() == online


@pytest.mark.parametrize("wish", [{"unique_keys": ["u"]}, {"guard": True}])
def test_what_a_script_cannot_do_is_said_when_it_is_written(
    wish: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="are not written"):
        _write_script(_add(**wish), capsys)


# The view


def test_the_view_shows_live_rows_and_takes_new_ones(
    execute: Execute, operate: Operate, dump: Dump, major: int
) -> None:
    execute('create table letter (id int primary key, "The %s" text, gone int)')
    execute("alter table letter drop column gone; insert into letter values (1), (2)")
    before = dump()
    operate(_add(view="live letters"))
    assert ("security_invoker" in dump()) == (major >= 15)
    execute("update letter set deleted_at = now() where id = 1")
    assert execute('select * from "live letters"') == [(2, None)]
    execute("""insert into "live letters" (id, "The %s") values (3, 'x')""")
    assert execute("select deleted_at from letter where id = 3") == [(None,)]
    execute("update letter set deleted_at = null")
    added = dump()
    operate(_add(view="live letters"))
    assert dump() == added
    operate(_drop)
    assert dump() == before


def test_a_view_does_not_take_a_name_that_is_in_use(execute: Execute, operate: Operate) -> None:
    execute("create table letter (id int primary key); create view live as select 1 as one")
    with pytest.raises((Refused, Incomplete), match=r"name public\.live is taken"):
        operate(_add(view="live"))
    assert execute("select one from live") == [(1,)]


# The guard

GUARDED = """
    create table letter (id int, part int, primary key (id, part));
    create table answer (id int primary key, letter int, part int, up int references answer,
        constraint "k ""q"" " foreign key (letter, part) references letter);
    insert into letter values (1, 1), (2, 1);
    insert into answer values (1, 1, 1, null), (2, 2, 1, null), (3, null, 1, 1);
"""


@pytest.fixture
def guarded(execute: Execute, operate: Operate) -> None:
    execute(GUARDED)
    operate(_add())
    operate(lambda op: op.add_soft_delete("answer", schema="public", guard=True))


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(
    "broken",
    [
        "update letter set deleted_at = now() where id = 1",
        "update answer set deleted_at = now() where id = 1",
        """update letter set deleted_at = now() where id = 1;
        update answer set deleted_at = now() where id in (1, 3);
        insert into answer values (4, 1, 1)""",
    ],
)
def test_the_guard_refuses_live_rows_that_reference_deleted_ones(
    execute: Execute, broken: str
) -> None:
    with pytest.raises(psycopg2.errors.ForeignKeyViolation, match="a live row would reference"):
        execute(broken)


@pytest.mark.usefixtures("guarded")
def test_the_guard_lets_all_go_in_one_transaction_in_any_order(execute: Execute) -> None:
    execute(
        """update letter set deleted_at = now() where id = 1;
        update answer set deleted_at = now() where id = 1;
        update answer set deleted_at = now() where id = 3"""
    )
    for alive in ("letter = null where id = 1", "letter = 2 where id = 1"):
        execute(f"update answer set {alive}")
    execute("update answer set deleted_at = null where id in (1, 3)")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        execute("update answer set letter = 1 where id = 1")


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("first", ["delete", "insert"])
def test_of_two_at_once_the_guard_refuses_the_second(
    execute: Execute, database_url: str, first: str
) -> None:
    statements = {
        "delete": "update letter set deleted_at = now() where id = 2",
        "insert": "insert into answer values (9, 2, 1)",
    }
    execute("delete from answer where id = 2")
    second = "insert" if first == "delete" else "delete"
    with closing(psycopg2.connect(database_url)) as one, ThreadPoolExecutor(1) as pool:
        one.cursor().execute(statements[first])
        waiting = pool.submit(execute, statements[second])
        while not execute("select pid from pg_stat_activity where wait_event_type = 'Lock'"):
            assert not waiting.done(), "the second one does not wait"
        one.commit()
        with pytest.raises(psycopg2.errors.ForeignKeyViolation):
            waiting.result()


@pytest.mark.usefixtures("guarded")
def test_the_guard_refuses_a_soft_delete_that_could_overlook_new_rows(
    database_url: str,
) -> None:
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        connection.set_session(isolation_level="REPEATABLE READ")
        with pytest.raises(psycopg2.errors.FeatureNotSupported, match="REPEATABLE READ"):
            cursor.execute("update letter set deleted_at = now() where id = 2")


@pytest.mark.usefixtures("guarded")
def test_the_guard_works_for_a_role_that_may_only_write_its_table(
    execute: Execute, superuser: None
) -> None:
    execute(
        "drop role if exists fkd_writer; create role fkd_writer; grant usage on schema public "
        "to fkd_writer; grant insert on answer to fkd_writer"
    )
    try:
        execute("set role fkd_writer; insert into answer (id, letter, part) values (9, 2, 1)")
        execute("update answer set letter = null; update letter set deleted_at = now()")
        with pytest.raises(psycopg2.errors.ForeignKeyViolation):
            execute("set role fkd_writer; insert into answer (id, letter, part) values (8, 2, 1)")
    finally:
        execute("drop owned by fkd_writer; drop role fkd_writer")


def test_the_guard_comes_and_goes(execute: Execute, operate: Operate, dump: Dump) -> None:
    execute(GUARDED)
    before = dump()
    operate(_add())
    unguarded = dump()
    operate(lambda op: op.add_soft_delete("answer", schema="public", guard=True))
    added = dump()
    operate(lambda op: op.add_soft_delete("answer", schema="public", guard=True))
    assert dump() == added
    operate(lambda op: op.drop_soft_delete("answer", schema="public"))
    assert dump() == unguarded
    operate(_drop)
    assert dump() == before


def test_a_guard_is_not_put_over_what_it_would_refuse(execute: Execute, operate: Operate) -> None:
    execute(GUARDED)
    operate(_add())
    execute("update letter set deleted_at = now()")
    with pytest.raises((Refused, Incomplete), match=r"Live rows of public\.answer reference"):
        operate(lambda op: op.add_soft_delete("answer", schema="public", guard=True))
    assert execute("select tgname from pg_trigger where tgname like 'k %'") == []


# Locks

SHARE_ROW, ACCESS = "ShareRowExclusiveLock", "AccessExclusiveLock"
LOCKS = """
    select c.relname::text, l.mode from pg_locks as l join pg_class as c on c.oid = l.relation
    where l.pid = {pid} and c.relname in ('letter', 'answer') and l.granted and l.mode in
        ('ShareRowExclusiveLock', 'ShareUpdateExclusiveLock', 'AccessExclusiveLock')
"""


def test_each_step_takes_the_locks_that_the_page_names(
    execute: Execute, operate: Operate, engine: Engine, database_url: str
) -> None:
    execute(GUARDED + "alter table answer add constraint u unique (up, part, id)")
    operate(_add())
    steps: list[set[tuple[str, str]]] = []

    def look(connection: Any, cursor: object, statement: str, *_: object) -> None:
        pid = connection.connection.dbapi_connection.info.backend_pid
        if statement == "begin":
            steps.append(set())
        elif statement != "commit" and steps:
            steps[-1] |= set(_run(database_url, LOCKS.format(pid=pid)))

    event.listen(engine, "after_cursor_execute", look)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        with context.begin_transaction(_per_migration=True):
            Operations(context).add_soft_delete(
                "answer", schema="public", view="live_answers", guard=True
            )
    access, share_row = (True, False), (False, True)
    answer, both = {("answer", access)}, {("letter", share_row), ("answer", share_row)}
    strongest = [
        {(table, mode) for table, mode in step if mode == max(m for t, m in step if t == table)}
        for step in ({(t, (m == ACCESS, m == SHARE_ROW)) for t, m in step} for step in steps)
    ]
    assert strongest == [
        answer,  # the columns
        set(),  # the index gets its name
        answer,  # the unique key
        set(),  # the view
        {("answer", share_row)},  # the guard of the self-reference
        both,  # the guard of the other key
    ]
