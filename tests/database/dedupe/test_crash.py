"""The connection or the process is killed on the way; the same command then goes on to the end.

Whatever is killed inside a transaction is undone, so each statement of one batch is tried, and of
what follows the beginning and the end of each transaction.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Engine, event

from fkdoctor.config import ReferenceConfig
from fkdoctor.errors import Incomplete

Database = Any  # the fixture's class lives in conftest.py

SIMPLE = """
    create table letter (id int primary key, same text, code text unique);
    create table recommendation (id int primary key, letter_id int references letter
        on delete cascade);
    create table answer (id int primary key, code text references letter (code) on delete set null);
    create table mark (letter_id int references letter on delete cascade, tag text, seen int,
        primary key (letter_id, tag));
    insert into letter values (1, 'a', 'A'), (2, 'a', 'B'), (3, 'b', 'C'), (4, 'b', 'D');
    insert into recommendation values (1, 1), (2, 2), (3, 3), (4, 4);
    insert into answer values (1, 'B'), (2, 'D'), (3, 'A');
    insert into mark values (1, 'p', 1), (2, 'p', 1), (2, 'q', 1), (3, 'p', 1), (4, 'p', 1);
"""
# Deep collisions, links that go, a tree, and rows that are known by what they reference.
LINKED = """
    create table letter (id int primary key, same text, above int references letter);
    create table link (a int references letter, b int references letter, primary key (a, b));
    create table profile (id int primary key, letter_id int unique references letter, note text);
    create table line (id int primary key, profile_id int not null references profile, tag text,
        unique (profile_id, tag));
    insert into letter values (1, 'a', null), (2, 'a', null), (3, 'a', null), (4, 'b', 1),
        (5, 'b', 1), (6, 'c', 3);
    insert into link values (1, 6), (2, 6), (2, 3), (4, 6), (5, 6);
    insert into profile values (1, 1, 'n'), (2, 2, 'n'), (5, 5, 'm');
    insert into line values (1, 1, 'p'), (2, 2, 'p'), (3, 2, 'q'), (4, 5, 'p');
"""
# Rows that stay and are primary no longer, and survivors that inherit what is above.
DEMOTED = """
    create table letter (id int primary key, same text, above int references letter);
    create table address (id int primary key, letter_id int references letter, is_primary bool);
    create unique index on address (letter_id) where is_primary;
    insert into letter values (6, null, null), (3, 'a', 6), (2, 'a', 3), (1, 'a', 2), (4, 'b', 6),
        (5, 'b', 4);
    insert into address values (1, 1, true), (2, 2, true), (3, 3, false), (4, 5, true);
"""
# Several references in one value, rows whose key moves with them, and rows of some kind only.
EMBEDDED = """
    create table letter (id int primary key, same text);
    create table visit (letter_id int primary key references letter, letters int[], doc jsonb);
    create table note (id int primary key, kind text, target int, unique (kind, target));
    insert into letter values (1, 'a'), (2, 'a'), (3, 'b'), (4, 'b'), (5, null);
    insert into visit values (2, '{2,1,5}', '{"ids": [2, 3]}'), (5, '{4,4}', '{"ids": ["4"]}'),
        (4, '{}', null);
    insert into note values (1, 'letter', 1), (2, 'letter', 2), (3, 'job', 2), (4, 'letter', 4);
"""
# Letters in partitions, and references that take their rows into others.
PARTED = """
    create table letter (id int primary key, same text) partition by hash (id);
    create table letter_0 partition of letter for values with (modulus 2, remainder 0);
    create table letter_1 partition of letter for values with (modulus 2, remainder 1);
    create table visit (letter_id int references letter, tag text, primary key (letter_id, tag))
        partition by list (letter_id);
    create table visit_some partition of visit for values in (1, 4);
    create table visit_rest partition of visit default;
    insert into letter values (1, 'a'), (2, 'a'), (3, 'b'), (4, 'b'), (5, 'b');
    insert into visit values (1, 'p'), (2, 'p'), (2, 'q'), (3, 'p'), (4, 'p'), (4, 'q'), (5, 'r');
"""
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "simple": (SIMPLE, {"fields": ("mark.seen=sum",)}),
    "linked": (LINKED, {"rules": (("links", "link=delete"),)}),
    "demoted": (
        DEMOTED,
        {
            "rules": (
                ("collisions", "address=demote(is_primary=false)"),
                ("above", "letter=inherit"),
            )
        },
    ),
    "embedded": (
        EMBEDDED,
        {
            "references": (
                ReferenceConfig(source="public.visit.letters[]", target="public.letter.id"),
                ReferenceConfig(
                    source="public.visit.doc", target="public.letter.id", path="$.ids[*]"
                ),
                ReferenceConfig(
                    source="public.note.target", target="public.letter.id", where="kind = 'letter'"
                ),
            )
        },
    ),
    "parted": (PARTED, {}),
}
LEDGER = " union all ".join(
    f"select '{table}', (to_jsonb(r) - '{{id, run_id, plan_id, plan}}'::text[]"
    " - '{started_at, finished_at, undone_at}'::text[])::text "
    f"from fkdoctor.{table} as r"
    for table in ("run", "step", "journal", "redirect")
)
FIRST = {"apply": "-- Begin a run of a plan", "undo": "-- What is this run?"}


class Killer:
    """Kills once it has seen so many statements and commits since the run began."""

    def __init__(self, first: str, number: int, kill: Callable[[Any], None]) -> None:
        self.first, self.left, self.kill = first, number, kill
        self.began = self.killed = False

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self.see_statement)
        event.listen(engine, "commit", self.see)

    def see_statement(self, connection: Any, cursor: Any, statement: str, *_: object) -> None:
        self.began = self.began or statement.startswith(self.first)
        self.see(connection)

    def see(self, connection: Any) -> None:
        self.left -= self.began
        if self.left == 0 and not self.killed:
            self.killed = True
            self.kill(connection)


def begin(db: Database, direction: str, shape: str = "simple") -> Callable[..., Any]:
    """The work that is to be killed, in a database in which it has not begun."""
    tables, policies = SHAPES[shape]
    db.execute(tables)
    path = db.plan(**policies)
    if direction == "apply":
        return lambda **options: db.apply(path, batch_size=1, **options)
    db.apply(path, batch_size=1)
    return lambda **options: db.undo(batch_size=1, **options)


def state(db: Database) -> Any:
    return db.contents(), sorted(db.execute(LEDGER))


@pytest.mark.parametrize("direction", ["apply", "undo"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_connection_that_is_cut_at_any_statement_costs_nothing(
    db: Database, direction: str, shape: str
) -> None:
    begin(db, direction, shape)()
    done = state(db)
    db.clean()
    work = begin(db, direction, shape)
    untouched = state(db)

    def cut(connection: Any) -> None:
        pid = connection.connection.dbapi_connection.info.backend_pid
        db.execute("select pg_terminate_backend(%s)", (pid,))
        while db.execute("select 1 from pg_stat_activity where pid = %s", (pid,)):
            pass

    number = cuts = 0
    while state(db)[0] == untouched[0]:
        number += 1
        killer = Killer(FIRST[direction], number, cut)
        with pytest.raises(Incomplete, match="connection was lost") as stopped:
            work(watch=killer)
        assert killer.killed
        assert "Run the same command again" in stopped.value.next
        cuts += 1
    assert cuts > 25
    # The first batch is done, and cut off before it could be told. Here and there in the rest:
    assert state(db)[0] != done[0]
    for number in range(1, 1_000, 11):
        killer = Killer(FIRST[direction], number, cut)
        try:
            work(watch=killer)
        except Incomplete:
            assert killer.killed
        else:
            break
    assert state(db) == done


@pytest.mark.parametrize("shape", ["linked", "embedded"])
def test_several_workers_of_which_a_connection_is_cut_lose_nothing(
    db: Database, shape: str
) -> None:
    begin(db, "apply", shape)()
    done = state(db)
    db.clean()
    work = begin(db, "apply", shape)

    def cut(connection: Any) -> None:
        pid = connection.connection.dbapi_connection.info.backend_pid
        db.execute("select pg_terminate_backend(%s)", (pid,))

    cuts = 0
    for number in range(3, 1_000, 9):
        killer = Killer(FIRST["apply"], number, cut)
        try:
            work(watch=killer, lock_timeout=20_000, how={"workers": 2})
        except Incomplete:
            assert killer.killed
            cuts += 1
        else:
            break
    assert cuts > 2
    assert state(db) == done


@pytest.mark.parametrize("direction", ["apply", "undo"])
def test_a_process_that_is_killed_at_any_transaction_costs_nothing(
    db: Database, direction: str
) -> None:
    begin(db, direction)()
    done = state(db)
    db.clean()
    work = begin(db, direction)
    reached = [state(db)[0]]
    for number in (1, 8, 20, 35, 50, 65, 80, 95, 110, 125):
        run_and_die(db, work, Killer(FIRST[direction], number, lambda _: die()))
        if state(db)[0] != reached[-1]:
            reached.append(state(db)[0])
    assert len(reached) > 1, "no batch was reached"
    work()
    assert state(db) == done


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def run_and_die(db: Database, work: Callable[..., Any], killer: Killer) -> None:
    child = os.fork()
    if not child:
        try:
            work(watch=killer)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    others = (
        "select 1 from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    while db.execute(others):
        pass


@pytest.mark.parametrize("direction", ["apply", "undo"])
def test_the_command_line_says_that_the_connection_was_lost(db: Database, direction: str) -> None:
    db.execute(
        SIMPLE
        + """
        create function cut() returns trigger language plpgsql as $$ begin
            perform pg_terminate_backend(pg_backend_pid()); return old;
        end $$;
        """
    )
    path = db.plan()
    if direction == "undo":
        db.apply(path)
    db.execute(
        "create trigger t after update on recommendation for each row execute function cut()"
    )
    if direction == "apply":
        path = db.plan()
    before = state(db)[0]
    command = ["dedupe", "--plan", str(path), "--yes"] if direction == "apply" else ["undo", "1"]
    run = subprocess.run(
        [sys.executable, "-m", "fkdoctor", *command, "--url", db.url],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 4, run.stderr
    assert "Stopped: the connection was lost." in run.stderr
    assert "Run the same command again; what is committed stays." in run.stderr
    assert "Traceback" not in run.stderr
    assert state(db)[0] == before
    db.execute("drop trigger t on recommendation")
