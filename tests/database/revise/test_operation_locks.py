"""The strong locks of each operation, there and back, transaction by transaction, by pg_locks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from alembic.operations import Operations
from sqlalchemy import Engine, event

Execute = Callable[[str], list[tuple[Any, ...]]]
Operate = Callable[..., None]
Use = Callable[[Operations], None]

# What stops a writer, a reader too, or only other DDL.
MODES = {
    "ShareLock": "SHARE",
    "ShareRowExclusiveLock": "SHARE ROW",
    "AccessExclusiveLock": "ACCESS",
    "ShareUpdateExclusiveLock": "SHARE UPDATE",
}
ORDER = ("SHARE UPDATE", "SHARE", "SHARE ROW", "ACCESS")
LOCKS = """
    select c.relname::text, l.mode from pg_catalog.pg_locks as l
    join pg_catalog.pg_class as c on c.oid = l.relation
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where l.pid = {pid} and l.granted and n.nspname = 'public'
        and c.relkind in ('r', 'p') and c.relname !~ '_dangling$'
"""
PLAIN = """
    create table letter (id int primary key, code text constraint u unique);
    create table answer (id int primary key, letter_id int);
    insert into letter select n, n from generate_series(1, 9) as n;
    insert into answer select n, n from generate_series(1, 9) as n;
"""
PARTED = """
    create table letter (id int primary key);
    create table answer (id int, letter_id int) partition by range (id);
    create table answer_1 partition of answer for values from (0) to (5);
    create table answer_2 partition of answer for values from (5) to (50);
    insert into letter select generate_series(1, 9);
    insert into answer select n, n from generate_series(1, 9) as n;
"""
CODED = """
    create table answer (id int, code text, constraint u unique (code, id)) partition by range (id);
    create table answer_1 partition of answer for values from (0) to (5);
    create table answer_2 partition of answer for values from (5) to (50);
    insert into answer select n, n from generate_series(1, 9) as n;
"""
KEY = "alter table answer add constraint k foreign key (letter_id) references letter;"
NOT_VALID = KEY[:-1] + " not valid;"
TWIN = KEY + KEY.replace("constraint k", "constraint l")
DANGLING = "insert into answer values (10, 77);"
SOFT = "alter table letter add column deleted_at timestamptz;"
BY = "alter table letter add column deletion_id uuid;"
DEFINITION = "FOREIGN KEY (letter_id) REFERENCES public.letter(id)"

LETTER, ANSWER = "letter", "answer"
BOTH = (LETTER, ANSWER)
FAMILY = (ANSWER, "answer_1", "answer_2")
Held = set[tuple[str, str]]


def on(tables: str | tuple[str, ...], mode: str) -> Held:
    """The mode on each of the tables."""
    return {(table, mode) for table in ((tables,) if isinstance(tables, str) else tables)}


NOTHING: Held = set()
SHADOW = [on(BOTH, "SHARE ROW"), on(ANSWER, "SHARE UPDATE")]

CASES: dict[str, tuple[str, Use, list[Held], Use, list[Held]]] = {
    "change_on_delete": (
        PLAIN + KEY,
        lambda op: op.change_on_delete("answer", "k", "CASCADE"),
        [*SHADOW, on(BOTH, "ACCESS")],
        lambda op: op.restore_on_delete("answer", "k", "CASCADE"),
        [*SHADOW, on(BOTH, "ACCESS")],
    ),
    "change_on_delete by a flip": (
        PLAIN + KEY,
        lambda op: op.change_on_delete("answer", "k", "CASCADE", strategy="flip"),
        [on(BOTH, "ACCESS"), on(ANSWER, "SHARE UPDATE")],
        lambda op: op.restore_on_delete("answer", "k", "CASCADE", strategy="flip"),
        [on(BOTH, "ACCESS"), on(ANSWER, "SHARE UPDATE")],
    ),
    "change_on_delete, only when it is checked": (
        PLAIN + KEY,
        lambda op: op.change_on_delete("answer", "k", initially="DEFERRED"),
        [on(ANSWER, "ACCESS")],
        lambda op: op.restore_on_delete("answer", "k", initially="DEFERRED"),
        [on(ANSWER, "ACCESS")],
    ),
    "validate_foreign_key": (
        PLAIN + NOT_VALID,
        lambda op: op.validate_foreign_key("answer", "k"),
        [on(ANSWER, "SHARE UPDATE")],
        lambda op: op.unvalidate_foreign_key("answer", "k"),
        [on(BOTH, "ACCESS")],
    ),
    "adopt_reference": (
        PLAIN,
        lambda op: op.adopt_reference("answer", ["letter_id"], "letter"),
        [*SHADOW, on(ANSWER, "ACCESS")],
        lambda op: op.release_reference("answer", ["letter_id"], "letter"),
        [on(BOTH, "ACCESS")],
    ),
    "adopt_reference with a repair": (
        PLAIN + DANGLING,
        lambda op: op.adopt_reference("answer", ["letter_id"], "letter", dangling="delete"),
        [SHADOW[0], NOTHING, NOTHING, SHADOW[1], on(ANSWER, "ACCESS")],
        lambda op: op.release_reference("answer", ["letter_id"], "letter", dangling="delete"),
        [on(BOTH, "ACCESS"), NOTHING],
    ),
    "adopt_reference of a partitioned table": (
        PARTED,
        lambda op: op.adopt_reference("answer", ["letter_id"], "letter"),
        [
            on(("letter", "answer_1"), "SHARE ROW"),
            on(("letter", "answer_2"), "SHARE ROW"),
            on("answer_1", "SHARE UPDATE"),
            on("answer_2", "SHARE UPDATE"),
            on((LETTER, *FAMILY), "ACCESS"),
        ],
        lambda op: op.release_reference("answer", ["letter_id"], "letter"),
        [on((LETTER, *FAMILY), "ACCESS")],
    ),
    "drop_duplicate_key": (
        PLAIN + TWIN,
        lambda op: op.drop_duplicate_key("answer", "l", definition=DEFINITION),
        [on(BOTH, "ACCESS")],
        lambda op: op.restore_duplicate_key("answer", "l", definition=DEFINITION),
        [*SHADOW, on(ANSWER, "ACCESS")],
    ),
    "add_reference_index": (
        PLAIN + KEY,
        lambda op: op.add_reference_index("answer", ["letter_id"]),
        [NOTHING],
        lambda op: op.drop_reference_index("answer", ["letter_id"]),
        [on(ANSWER, "ACCESS")],
    ),
    "add_reference_index on a partitioned table": (
        PARTED + KEY,
        lambda op: op.add_reference_index("answer", ["letter_id"]),
        [NOTHING, NOTHING, on(FAMILY, "SHARE")],
        lambda op: op.drop_reference_index("answer", ["letter_id"]),
        [on(FAMILY, "ACCESS")],
    ),
    "build_index": (
        PLAIN,
        lambda op: op.build_index("i", "answer", ["letter_id"]),
        [],
        lambda op: op.remove_index("i", "answer", ["letter_id"]),
        [on(ANSWER, "ACCESS")],
    ),
    "build_index on a partitioned table": (
        PARTED,
        lambda op: op.build_index("i", "answer", ["letter_id"]),
        [NOTHING, NOTHING, on(FAMILY, "SHARE")],
        lambda op: op.remove_index("i", "answer", ["letter_id"]),
        [on(FAMILY, "ACCESS")],
    ),
    "add_soft_delete": (
        PLAIN,
        lambda op: op.add_soft_delete("letter", view="live"),
        [on(LETTER, "ACCESS"), NOTHING, on(LETTER, "ACCESS"), NOTHING],
        lambda op: op.drop_soft_delete("letter"),
        [NOTHING, on(LETTER, "ACCESS"), on(LETTER, "ACCESS")],
    ),
    "add_soft_delete with a guard": (
        PLAIN + KEY + SOFT,
        lambda op: op.add_soft_delete("answer", guard=True),
        [on(ANSWER, "ACCESS"), NOTHING, on(BOTH, "SHARE ROW")],
        lambda op: op.drop_soft_delete("answer"),
        [on(BOTH, "ACCESS")],
    ),
    "add_soft_delete on a partitioned table, with a unique key": (
        CODED + "alter table answer add deleted_at timestamptz;",
        lambda op: op.add_soft_delete("answer", deletion_column="by"),
        [on(FAMILY, "ACCESS"), NOTHING, NOTHING, on(FAMILY, "SHARE"), on(FAMILY, "ACCESS")],
        lambda op: op.drop_soft_delete("answer", deletion_column="by"),
        [NOTHING, on(FAMILY, "ACCESS"), on(FAMILY, "ACCESS")],
    ),
    "add_soft_delete on a partitioned table, with a guard": (
        PARTED + KEY + SOFT,
        lambda op: op.add_soft_delete("answer", guard=True),
        [
            on(FAMILY, "ACCESS"),
            NOTHING,
            NOTHING,
            on(FAMILY, "SHARE"),
            on((LETTER, *FAMILY), "SHARE ROW"),
        ],
        lambda op: op.drop_soft_delete("answer"),
        [on((LETTER, *FAMILY), "ACCESS")],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_transaction_takes_the_locks_that_the_page_names(
    execute: Execute, operate: Operate, engine: Engine, case: str
) -> None:
    tables, there, locks_there, back, locks_back = CASES[case]
    execute(tables)
    held: list[Held] = []

    def before(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        # Alembic's own COMMIT is not a statement here.
        if statement == "commit":
            cursor.execute(LOCKS.format(pid="pg_catalog.pg_backend_pid()"))
            held.append(_strongest(cursor.fetchall()))

    event.listen(engine, "before_cursor_execute", before)
    operate(there)
    assert _in_any_order(held) == _in_any_order(locks_there)
    held.clear()
    operate(back)
    assert _in_any_order(held) == _in_any_order(locks_back)


def _strongest(rows: list[tuple[str, str]]) -> Held:
    found: dict[str, str] = {}
    for table, mode in rows:
        short = MODES.get(mode)
        if short and (table not in found or ORDER.index(short) > ORDER.index(found[table])):
            found[table] = short
    return set(found.items())


def _in_any_order(held: list[Held]) -> list[Held]:
    """Partitions come in no order that anybody promises."""
    return sorted(held, key=lambda locks: (max(map(str, locks), default=""), len(locks)))


BUILDS: dict[str, tuple[str, Use, str]] = {
    "add_reference_index": (
        PLAIN + KEY,
        lambda op: op.add_reference_index("answer", ["letter_id"]),
        "answer",
    ),
    "build_index": (PLAIN, lambda op: op.build_index("i", "answer", ["letter_id"]), "answer"),
    "add_soft_delete": (PLAIN + SOFT + BY, lambda op: op.add_soft_delete("letter"), "letter"),
}


@pytest.mark.parametrize("build", BUILDS)
def test_while_an_index_is_built_nobody_else_waits(
    execute: Execute, operate: Operate, database_url: str, build: str
) -> None:
    tables, use, table = BUILDS[build]
    execute(tables)
    asked = f"""select l.pid, l.mode from pg_locks as l join pg_stat_activity as a using (pid)
        where l.relation = '{table}'::regclass and l.granted
            and a.query ~* '^create (unique )?index concurrently'"""
    with closing(psycopg2.connect(database_url)) as writer, writer.cursor() as cursor:
        # It cannot end while this writer's transaction is open.
        cursor.execute(f"insert into {table} select 20")
        thread = threading.Thread(target=operate, args=(use,))
        thread.start()
        while not (found := execute(asked)):
            assert thread.is_alive()
        assert _strongest([(table, mode) for _, mode in found]) == {(table, "SHARE UPDATE")}
        execute(f"insert into {table} select 21; update {table} set id = 22 where id = 21")
        writer.rollback()
        thread.join()
    assert execute(f"select id from {table} where id > 9") == [(22,)]
