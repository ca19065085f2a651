"""Pauses between batches: for replicas that are behind, and for the WAL that is written."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.dedupe.pace import Limits
from fkdoctor.dedupe.progress import Progress
from fkdoctor.errors import Blocked
from fkdoctor.ledger.install import install_ledger

Database = Any  # the fixture's class lives in conftest.py

ROWS = """
    create table letter (id int primary key, same int, body text);
    create table visit (id int primary key, letter_id int references letter, body text);
    insert into letter select n, (n + 1) / 2, 'x' from generate_series(1, 200) as n;
    insert into visit select n, 1 + n % 200, repeat('y', 500) from generate_series(1, 4000) as n;
    create index on visit (letter_id);
"""


def test_wal_is_written_no_faster_than_allowed(db: Database) -> None:
    db.execute(ROWS)
    path = db.plan()
    ((before,),) = db.execute("select pg_current_wal_lsn()")
    waited: list[str] = []
    began = time.monotonic()
    db.apply(
        path,
        batch_size=20,
        how={
            "limits": Limits(max_wal_rate=1.0),
            "report": lambda progress: waited.append(progress.waiting),
        },
    )
    took = time.monotonic() - began
    ((bytes_,),) = db.execute("select pg_wal_lsn_diff(pg_current_wal_lsn(), %s)", (before,))
    assert any("for WAL" in what for what in waited)
    # But for what is written before the first batch and after the last pause.
    assert float(bytes_) / took < 1_300_000


def test_a_role_that_cannot_see_replicas_is_told(db: Database, role: str) -> None:
    db.execute(ROWS + f"grant all on all tables in schema public to {role}")
    path = db.plan()
    lag = {"limits": Limits(max_lag=1.0)}
    done = db.apply(path, how=lag, user=role)
    assert done.deleted == 100, "there is no replica here"


class Pair:
    """A primary of its own with a standby, both in a folder, reached by its sockets alone."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.user = "postgres" if os.geteuid() == 0 else None

    def url(self, name: str) -> str:
        """The address of the `primary` or the `standby`."""
        return f"postgresql:///postgres?host={self.folder}&port={PORTS[name]}&user=tester"

    def run(self, program: str, *arguments: str) -> None:
        """Runs a program of PostgreSQL, as somebody else than root."""
        with (self.folder / "log").open("a") as log:
            command = [self.programs / program, *arguments]
            subprocess.run(
                command, check=True, stdout=log, stderr=log, cwd=self.folder, user=self.user
            )

    def start(self, name: str) -> None:
        """Starts one of the two."""
        options = f"-p {PORTS[name]} -k {self.folder} -c listen_addresses="
        options += " -c fsync=off -c wal_receiver_status_interval=1"
        self.run(
            "pg_ctl",
            "start",
            "-w",
            "-D",
            str(self.folder / name),
            "-o",
            options,
            "-l",
            f"{name}.log",
        )

    def execute(self, name: str, statement: str) -> Any:
        """The statement's first value."""
        with closing(psycopg2.connect(self.url(name))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchone()[0] if cursor.description else None

    def stop(self, name: str) -> None:
        """Stops one of the two."""
        self.run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.folder / name))


PORTS = {"primary": 1, "standby": 2}


@pytest.fixture
def pair(db: Database, superuser: None, major: int) -> Iterator[Pair]:
    """A primary with a standby."""
    ((beside,),) = db.execute("select setting from pg_config where name = 'BINDIR'")
    places = [
        beside,
        f"/usr/lib/postgresql/{major}/bin",
        os.path.dirname(shutil.which("initdb") or ""),
    ]
    wanted = ("initdb", "pg_ctl", "pg_basebackup")
    found = [at for at in places if all(Path(at, program).is_file() for program in wanted)]
    if not found:
        pytest.skip("no pg_basebackup is at hand")
    programs = Path(found[0])
    folder = Path(tempfile.mkdtemp())
    made = Pair(programs, folder)
    if made.user:
        shutil.chown(folder, made.user)
    names = []
    try:
        made.run("initdb", "-D", str(folder / "primary"), "-U", "tester", "-A", "trust", "-N")
        for name in PORTS:
            if name == "standby":
                source = ("-h", str(folder), "-p", str(PORTS["primary"]), "-U", "tester")
                source += ("-C", "-S", "standby")
                made.run("pg_basebackup", "-D", str(folder / name), "-R", "-c", "fast", *source)
            made.start(name)
            names.append(name)
        yield made
    finally:
        for name in reversed(names):
            if (folder / name / "postmaster.pid").exists():
                made.stop(name)
        shutil.rmtree(folder)


def prepare(pair: Pair, at_database: Callable[[str], Database]) -> Database:
    """The primary, with a ledger and rows to merge."""
    with connect(open_engine(resolve_target(pair.url("primary"), Config(), {}))) as connection:
        install_ledger(connection)
    db = at_database(pair.url("primary"))
    db.execute(ROWS)
    return db


def test_a_replica_in_sync_is_not_waited_for_by_whoever_may_see_it(
    pair: Pair, at_database: Callable[[str], Database]
) -> None:
    db = prepare(pair, at_database)
    db.execute(
        """
        create role nobody login;
        grant usage on schema fkdoctor to nobody;
        grant select, insert, update, delete on all tables in schema fkdoctor to nobody;
        grant all on all tables in schema public to nobody;
        """
    )
    before, path = db.contents(), db.plan()
    limits = {"limits": Limits(max_lag=60.0)}
    with pytest.raises(Blocked, match="cannot be seen") as refused:
        db.apply(path, how=limits, user="nobody")
    assert "pg_monitor" in refused.value.next
    assert db.contents() == before
    db.execute("grant pg_monitor to nobody")
    waited: list[str] = []
    report = {"report": lambda progress: waited.append(progress.waiting)}
    done = db.apply(path, how=limits | report, batch_size=20, user="nobody")
    assert (done.deleted, set(waited)) == (100, {""})


def test_a_replica_that_is_not_connected_is_named_and_one_that_leaves_is_waited_for(
    pair: Pair, at_database: Callable[[str], Database]
) -> None:
    db = prepare(pair, at_database)
    before, path = db.contents(), db.plan()
    limits = {"limits": Limits(max_lag=60.0)}
    gone = "select count(*) from pg_replication_slots where active"
    pair.stop("standby")
    while pair.execute("primary", gone):
        pass
    with pytest.raises(Blocked, match="cannot be known") as refused:
        db.apply(path, how=limits)
    assert "slot standby" in refused.value.why
    assert db.contents() == before
    pair.start("standby")
    while not pair.execute("primary", gone):
        pass
    waited: list[Progress] = []

    def report(progress: Progress) -> None:
        if progress.done and not waited and not progress.waiting:
            pair.stop("standby")
            while pair.execute("primary", gone):
                pass
        if progress.waiting and not waited:
            waited.append(progress)
            pair.start("standby")

    done = db.apply(path, how=limits | {"report": report}, batch_size=20)
    assert done.deleted == 100
    assert "slot standby, which is not connected" in waited[0].waiting
    assert 0 < waited[0].done < waited[0].total


def test_a_replica_that_is_behind_is_waited_for(
    pair: Pair, at_database: Callable[[str], Database]
) -> None:
    db = prepare(pair, at_database)
    pair.execute("standby", "select pg_wal_replay_pause()")
    db.execute("update letter set body = 'z'")
    lag = "select coalesce(max(extract(epoch from replay_lag)), 0) from pg_stat_replication"
    while pair.execute("primary", lag) < 0.5:
        assert pair.execute("primary", "select count(*) from pg_stat_replication") == 1
        db.execute("update letter set body = 'x'")  # what is not replayed must have been sent
    db.execute("update letter set body = 'x'")
    path = db.plan()
    waited: list[Progress] = []

    def report(progress: Progress) -> None:
        if progress.waiting and not waited:
            pair.execute("standby", "select pg_wal_replay_resume()")
            waited.append(progress)

    done = db.apply(path, how={"limits": Limits(max_lag=0.2), "report": report})
    assert done.deleted == 100
    assert waited[0].done == 0
    assert "a replica that is" in waited[0].waiting
