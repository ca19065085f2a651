"""A reference that nobody declared becomes a key; what dangles is reported or moved aside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import psycopg2
import pytest
from alembic.operations import Operations
from sqlalchemy import Engine, event

from fkdoctor.errors import FkdoctorError, Incomplete, Refused, UnknownName

Execute = Callable[[str], list[tuple[object, ...]]]
Operate = Callable[..., None]
Dump = Callable[[], str]

TABLES = """
    create table letter (id int primary key, code text unique, part text);
    create unique index partial on letter (part) where part is not null;
    create table recommendation (id int generated always as identity primary key, letter_id int,
        code text, twice int generated always as (letter_id * 2) stored, fixed int not null
        default 0);
    insert into letter select n, 'c' || n from generate_series(1, 20) as n;
    insert into recommendation (letter_id, code)
        select n, 'c' || n from generate_series(1, 20) as n;
"""
DANGLING = "insert into recommendation (letter_id) values (null), (77), (88);"
ROWS = "select id, letter_id, code from recommendation order by id"
KEYS = """select conname::text, pg_get_constraintdef(oid), convalidated from pg_constraint
    where contype = 'f' and conparentid = 0 order by 1"""


def _adopt(**arguments: Any) -> Callable[[Operations], None]:
    return lambda op: op.adopt_reference("recommendation", ["letter_id"], "letter", **arguments)


def _release(**arguments: Any) -> Callable[[Operations], None]:
    return lambda op: op.release_reference("recommendation", ["letter_id"], "letter", **arguments)


def test_a_reference_is_adopted_and_released(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(TABLES)
    before = dump()
    operate(_adopt(on_delete="cascade", on_update="cascade", initially="deferred"))
    assert execute(KEYS) == [
        (
            "recommendation_letter_id_fkey",
            "FOREIGN KEY (letter_id) REFERENCES letter(id) ON UPDATE CASCADE ON DELETE CASCADE"
            " DEFERRABLE INITIALLY DEFERRED",
            True,
        )
    ]
    once = dump()
    operate(_adopt(on_delete="cascade", on_update="cascade", initially="deferred"))
    assert dump() == once
    operate(_release())
    assert dump() == before


def test_rows_that_dangle_are_named_and_nothing_is_added(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(TABLES + DANGLING)
    before = dump(), execute(ROWS)
    with pytest.raises(Refused, match="rows reference what is not in") as caught:
        operate(_adopt())
    assert "(id → letter_id): 22 → 77, 23 → 88. No key was added." in caught.value.why
    assert (dump(), execute(ROWS)) == before


@pytest.mark.parametrize("policy", ["delete", "set null"])
def test_what_dangles_is_moved_aside_and_comes_back(
    execute: Execute, operate: Operate, dump: Dump, policy: str
) -> None:
    execute(TABLES + DANGLING)
    before, rows = dump(), execute(ROWS)
    operate(_adopt(dangling=policy))
    wanted = [row for row in rows if row[1] not in (77, 88)]
    if policy == "set null":
        wanted = [(row[0], None if row[1] in (77, 88) else row[1], row[2]) for row in rows]
    assert execute(ROWS) == wanted
    moved = execute("select id, letter_id from recommendation_letter_id_fkey_dangling order by id")
    assert moved == [(22, 77), (23, 88)]
    assert [row[2] for row in execute(KEYS)] == [True]
    operate(_release(dangling=policy))
    assert (dump(), execute(ROWS)) == (before, rows)


def test_what_somebody_set_since_is_not_overwritten(execute: Execute, operate: Operate) -> None:
    execute(TABLES + DANGLING)
    operate(_adopt(dangling="set null"))
    execute("update recommendation set letter_id = 3 where id = 22")
    operate(_release(dangling="set null"))
    found = execute("select id, letter_id from recommendation where id > 20 order by id")
    assert found == [(21, None), (22, 3), (23, 88)]


def test_the_rows_may_be_kept_and_the_key_not_valid(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(TABLES + DANGLING)
    before = dump()
    operate(_adopt(dangling="keep"))
    assert [row[2] for row in execute(KEYS)] == [False]
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        execute("insert into recommendation (letter_id) values (99)")
    operate(_release(dangling="keep"))
    assert dump() == before


SWALLOW = """
    create function keep() returns trigger language plpgsql as 'begin return {}; end';
    create trigger keep before {} on recommendation for each row execute function keep();
"""


@pytest.mark.parametrize(
    ("policy", "trigger"),
    [
        ("delete", ("null", "delete")),
        ("set null", ("null", "update")),
        ("set null", ("old", "update")),
    ],
)
def test_a_trigger_that_keeps_the_rows_is_noticed(
    execute: Execute, operate: Operate, policy: str, trigger: tuple[str, str]
) -> None:
    execute(TABLES + DANGLING + SWALLOW.format(*trigger))
    rows = execute(ROWS)
    with pytest.raises(Incomplete, match="2 rows still reference nothing"):
        operate(_adopt(dangling=policy))
    assert execute(ROWS) == rows
    assert execute("select count(*) from recommendation_letter_id_fkey_dangling") == [(0,)]
    execute("drop trigger keep on recommendation")
    operate(_adopt(dangling=policy))
    operate(_release(dangling=policy))
    assert execute(ROWS) == rows


def test_a_partitioned_table_adopts_a_reference_leaf_by_leaf(
    execute: Execute, operate: Operate, dump: Dump
) -> None:
    execute(
        """create table letter (id int primary key);
        create table recommendation (id int, letter_id int) partition by range (id);
        create table part_1 (letter_id int, id int);
        alter table recommendation attach partition part_1 for values from (0) to (10);
        create table part_2 partition of recommendation for values from (10) to (30);
        insert into letter select generate_series(1, 20);
        insert into recommendation select n, n from generate_series(1, 20) as n;
        insert into recommendation values (5, 77), (15, 88)"""
    )
    before, rows = dump(), execute("select id, letter_id from recommendation order by 1, 2")
    operate(_adopt(dangling="delete", on_delete="CASCADE"))
    assert (
        execute("select conname::text, convalidated from pg_constraint where contype = 'f'")
        == [("recommendation_letter_id_fkey", True)] * 3
    )
    moved = execute("select id, letter_id from recommendation_letter_id_fkey_dangling order by 1")
    assert moved == [(5, 77), (15, 88)]
    operate(_release(dangling="delete"))
    assert execute("select id, letter_id from recommendation order by 1, 2") == rows
    assert dump() == before


WRONG = {
    "no such column": (
        lambda op: op.adopt_reference("recommendation", ["letter"], "letter"),
        UnknownName,
        "letter_id",
    ),
    "no unique key": (
        lambda op: op.adopt_reference("recommendation", ["code"], "letter", ["part"]),
        Refused,
        "id; code",
    ),
    "another number of columns": (
        lambda op: op.adopt_reference("recommendation", ["id", "code"], "letter"),
        Refused,
        "as many columns",
    ),
    "types that cannot be compared": (
        lambda op: op.adopt_reference("recommendation", ["letter_id"], "letter", ["code"]),
        Refused,
        "cannot be implemented",
    ),
    "set null in vain": (
        lambda op: op.adopt_reference("recommendation", ["fixed"], "letter", on_delete="SET NULL"),
        Refused,
        "fixed",
    ),
    "nothing that may be NULL": (
        lambda op: op.adopt_reference("recommendation", ["fixed"], "letter", dangling="set null"),
        Refused,
        "NOT NULL: fixed",
    ),
    "a name that is taken": (
        lambda op: op.adopt_reference("recommendation", ["letter_id"], "letter", name="other"),
        Refused,
        "code → public.letter(code)",
    ),
    "a reference with another rule": (
        lambda op: op.adopt_reference(
            "recommendation", ["code"], "letter", ["code"], on_delete="RESTRICT"
        ),
        Refused,
        "op.change_on_delete",
    ),
    "rows that others hang on": (
        lambda op: op.adopt_reference("letter", ["part"], "letter", ["code"], dangling="delete"),
        Refused,
        "public.recommendation.other",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_gets_one_clear_error(
    execute: Execute, operate: Operate, dump: Dump, case: str
) -> None:
    use, kind, names = WRONG[case]
    execute(
        f"""{TABLES} alter table recommendation add constraint other foreign key (code)
        references letter (code) on delete cascade;
        update letter set part = 'x' where id = 1"""
    )
    before = dump()
    with pytest.raises(FkdoctorError) as caught:
        operate(use)
    assert type(caught.value) is kind
    assert names in str(caught.value)
    assert dump() == before


@pytest.mark.parametrize("rule", ["CASCADE", "SET NULL", "SET DEFAULT"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_reference_to_itself_takes_no_row_along_that_is_not_kept(
    execute: Execute, operate: Operate, dump: Dump, rule: str, begun: bool
) -> None:
    # Once the new key is in force, the row that dangles would take those that lead to it along.
    execute("""create table node (id int primary key, up int);
        insert into node values (1, 1), (2, 99), (3, 2), (4, 3)""")
    before, rows = dump(), "select id, up from node order by 1"
    found = execute(rows)
    if begun:  # by a run that was killed
        operate(lambda op: op.adopt_reference("node", ["up"], "node", dangling="keep", name="k"))
        execute(
            """comment on constraint k on node is '[fkdoctor is about to put this in place of '
            'k: FOREIGN KEY (up) REFERENCES public.node(id) ON DELETE RULE]'""".replace(
                "RULE", rule
            )
        )
        execute("alter table node rename constraint k to k_fkdoctor")
        before = dump()
    with pytest.raises(Refused, match="would change other rows too") as caught:
        operate(
            lambda op: op.adopt_reference(
                "node", ["up"], "node", on_delete=rule, dangling="delete", name="k"
            )
        )
    assert caught.value.why == f"The reference itself leads to them ON DELETE {rule}."
    assert (dump(), execute(rows)) == (before, found)


def test_a_reference_to_itself_that_does_nothing_is_repaired(
    execute: Execute, operate: Operate
) -> None:
    execute("""create table node (id int primary key, up int);
        insert into node values (1, 1), (2, 99), (3, 1)""")
    operate(lambda op: op.adopt_reference("node", ["up"], "node", dangling="delete", name="k"))
    assert execute("select id from node order by 1") == [(1,), (3,)]
    operate(lambda op: op.release_reference("node", ["up"], "node", dangling="delete", name="k"))
    assert execute("select id, up from node order by 1") == [(1, 1), (2, 99), (3, 1)]


@pytest.mark.parametrize("direction", ["there", "back"])
def test_a_run_that_was_cut_off_anywhere_is_finished_by_the_next(
    make_template: Callable[..., str],
    make_database: Callable[..., str],
    operate_at: Operate,
    operate_on_engine: Operate,
    engine_of: Callable[[str], Engine],
    dump_at: Callable[[str], str],
    direction: str,
) -> None:
    found = make_template(lambda url: _execute(url, TABLES + DANGLING))
    policy = {"dangling": "set null"}

    def state(url: str) -> tuple[str, object]:
        return dump_at(url), _execute(url, ROWS)

    start = make_database(found)
    as_found = state(start)
    operate_at(start, _adopt(**policy))
    adopted = state(start)
    use = _adopt(**policy) if direction == "there" else _release(**policy)
    number = 0
    while True:
        number += 1
        url = make_database(found)
        if direction == "back":
            operate_at(url, _adopt(**policy))
        engine = engine_of(url)
        cut = _cut_at(engine, url, number)
        with suppress(Incomplete):
            operate_on_engine(engine, use)
            break
        assert cut
        operate_at(url, use)
        assert state(url) == (adopted if direction == "there" else as_found), number
    assert not cut
    assert number > (8 if direction == "there" else 4)


def _execute(url: str, statements: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statements)
        return cursor.fetchall() if cursor.description else []


def _cut_at(engine: Engine, url: str, number: int) -> list[bool]:
    """Cuts the connection at its BEGIN or COMMIT of that number; the list is filled then."""
    cut: list[bool] = []
    left = number

    def before(connection: Any, cursor: object, statement: str, *_: object) -> None:
        nonlocal left
        left -= statement in ("begin", "commit")
        if left == 0 and not cut:
            cut.append(True)
            pid = connection.connection.dbapi_connection.info.backend_pid
            _execute(url, f"select pg_terminate_backend({pid})")
            while _execute(url, f"select 1 from pg_stat_activity where pid = {pid}"):
                pass

    event.listen(engine, "before_cursor_execute", before)
    return cut
