"""Several workers on one plan, in one process and in several, some of which are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import Engine, event

from fkdoctor.errors import Blocked, Incomplete

Database = Any  # the fixture's class lives in conftest.py

LEDGER = """
    select step, cluster, key::text, before::text, after::text from fkdoctor.journal
    union all select step, cluster, old_key::text, new_key::text, 'redirect' from fkdoctor.redirect
"""
TABLES = """
    create table letter (id int primary key, same text, note text);
    create table visit (id int primary key, letter_id int not null references letter);
    create table pair (id int primary key, a int references letter, b int references letter,
        tag int, unique (a, b, tag));
    create table mark (letter_id int references letter on delete cascade, tag int,
        primary key (letter_id, tag));
    create index on visit (letter_id); create index on pair (b);
"""


def build(db: Database, seed: int, clusters: int = 30) -> None:
    """Clusters of two to four rows; pairs cross from one cluster to others, and some collide."""
    draw = random.Random(seed)
    db.clean()
    db.execute(TABLES)
    rows = [(n + 1, n % clusters) for n in range(clusters * draw.randint(2, 4))]
    draw.shuffle(rows)
    ids = [number for number, _ in rows]
    values = ", ".join(f"({number}, 's{same}', 'n')" for number, same in rows)
    db.execute(f"insert into letter values {values}")
    visits = ", ".join(f"({n}, {draw.choice(ids)})" for n in range(200))
    db.execute(f"insert into visit values {visits}")
    # Few of the pairs collide: they tie their clusters to one.
    pairs = {(draw.choice(ids), draw.choice(ids), n // 2) for n in range(60)}
    values = ", ".join(f"({n}, {a}, {b}, {t})" for n, (a, b, t) in enumerate(sorted(pairs)))
    db.execute(f"insert into pair values {values}")
    marks = {(draw.choice(ids), draw.randint(0, 2)) for _ in range(150)}
    db.execute("insert into mark values " + ", ".join(str(mark) for mark in sorted(marks)))


def plan(db: Database) -> Path:
    path: Path = db.plan(rules=(("links", "pair=delete"),))
    return path


def state(db: Database) -> Any:
    return db.contents(), sorted(db.execute(LEDGER)), totals(db)


def totals(db: Database) -> Any:
    return db.execute("select deleted, repointed, status from fkdoctor.run")


def start(db: Database, path: Path, *more: str) -> subprocess.Popen[str]:
    command = ["dedupe", "--plan", str(path), "--yes", "--batch-size", "1", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "fkdoctor", *command, "--url", db.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def count_merged(db: Database) -> int:
    ((number,),) = db.execute("select count(distinct cluster) from fkdoctor.redirect")
    return int(number)


@contextmanager
def held(db: Database, query: str) -> Iterator[Any]:
    """Inside, another session holds rows."""
    with closing(psycopg2.connect(db.url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        yield connection


@pytest.mark.parametrize("seed", range(5))
def test_several_workers_end_where_one_does(db: Database, seed: int) -> None:
    build(db, seed)
    before = db.contents()
    alone = db.apply(plan(db), batch_size=2)
    wanted = state(db)
    build(db, seed)
    seen: set[int] = set()

    def watch(engine: Engine) -> None:
        event.listen(engine, "connect", lambda it, _: seen.add(it.info.backend_pid))

    together = db.apply(plan(db), batch_size=2, watch=watch, lock_timeout=5_000, how={"workers": 4})
    assert len(seen) == 4
    assert state(db) == wanted
    assert (together.deleted, together.done) == (alone.deleted, alone.done)
    assert together.stale == alone.stale == ()
    db.undo()
    assert db.contents() == before


def test_two_processes_share_a_plan(db: Database) -> None:
    build(db, 7)
    db.apply(plan(db), batch_size=1)
    wanted = state(db)
    build(db, 7)
    path = plan(db)
    processes = [start(db, path), start(db, path, "--workers", "2")]
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told
    assert state(db) == wanted


def test_batches_of_other_sizes_are_merged_once(db: Database) -> None:
    """One waits for rows that another one, with other batches, is about to merge."""
    build(db, 8)
    path = plan(db)
    done: list[Any] = []

    def overtake(engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", see)

    def see(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if not done and "FOR UPDATE" in statement and count_merged(db):
            done.append(None)
            done[0] = db.apply(path, batch_size=3)

    slow = db.apply(path, batch_size=7, watch=overtake)
    assert done[0].stale == slow.stale == ()
    assert slow.deleted == done[0].deleted == totals(db)[0][0]
    assert slow.done == slow.total == count_merged(db)
    assert db.apply(plan(db)).deleted == 0


def test_the_batch_of_a_process_that_is_killed_is_done_by_another(db: Database) -> None:
    build(db, 9)
    db.apply(plan(db), batch_size=1)
    wanted = state(db)
    clusters = count_merged(db)
    build(db, 9)
    path = plan(db)
    survivor = path.read_text().splitlines()[1].split('"survivor": ["')[1].split('"')[0]
    with held(db, f"select 1 from letter where id = {survivor} for update") as holder:
        first = start(db, path)
        while not db.execute("select 1 from pg_locks where not granted"):
            assert first.poll() is None
        second = start(db, path)
        while count_merged(db) < clusters - 1:
            assert second.poll() is None
        first.send_signal(signal.SIGKILL)
        first.communicate()
        assert second.poll() is None, "it waits for the batch that it could not have"
        holder.rollback()
    _, told = second.communicate(timeout=300)
    assert second.returncode == 0, told
    assert state(db) == wanted


def test_ctrl_c_stops_all_workers(db: Database) -> None:
    build(db, 10)
    before = db.contents()
    path = plan(db)
    with held(db, "select 1 from letter for update"):
        process = start(db, path, "--workers", "3")
        while len(db.execute("select distinct pid from pg_locks where not granted")) < 3:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "What is merged stays merged" in told
    assert "Traceback" not in told
    assert db.contents() == before
    assert count_merged(db) == 0


def test_one_worker_that_is_refused_stops_the_others(db: Database) -> None:
    build(db, 11)
    db.execute(
        """
        create function refuse() returns trigger language plpgsql as $$ begin
            if old.note = 'kept' then raise 'not this one'; end if; return old;
        end $$;
        create trigger t before delete on letter for each row execute function refuse();
        update letter set note = 'kept'
            where id = (select max(id) from letter where same = 's3');
        """
    )
    path = plan(db)
    with pytest.raises((Blocked, Incomplete)) as stopped:
        db.apply(path, batch_size=1, how={"workers": 3})
    assert "not this one" in stopped.value.why
    assert totals(db)[0][2] == "applying"
    merged = db.execute("select same from letter group by same having count(*) = 1")
    assert ("s3",) not in merged
    if merged:
        db.undo()
