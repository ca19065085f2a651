"""Behind pgbouncer, which gives each transaction any of its sessions."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from pwd import getpwnam
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn
from sqlalchemy import Engine, event

Database = Any  # the fixture's class lives in conftest.py

ROWS = """
    create table letter (id int primary key, same int, note text);
    create table visit (id int primary key, letter_id int references letter);
    create table mark (letter_id int references letter, tag int, at timestamptz default now(),
        primary key (letter_id, tag));
    insert into letter select n, (n + 1) / 2, 'n' || n from generate_series(1, 60) as n;
    insert into visit select n, 1 + n % 60 from generate_series(1, 200) as n;
    insert into mark select n, t, '2026-01-01' from generate_series(1, 60) as n,
        generate_series(0, 1) as t;
    create index on visit (letter_id);
"""


@pytest.fixture
def pooled(db: Database) -> Iterator[Database]:
    """The same database through a pooler of transactions with few sessions."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer is installed")
    given = parse_dsn(db.url)
    folder = Path(tempfile.mkdtemp())
    server = {"host": given["host"], "port": given.get("port", "5432"), "dbname": given["dbname"]}
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"""
        [databases]
        pooled = {" ".join(f"{name}={value}" for name, value in server.items())}
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = trust
        auth_file = {folder / "users"}
        pool_mode = transaction
        default_pool_size = 4
        server_reset_query =
        """.replace("\n        ", "\n")
    )
    (folder / "users").write_text(f'"{given["user"]}" "{given.get("password", "")}"\n')
    user = _find_user(given["host"]) if os.geteuid() == 0 else None
    if user is not None:
        for path in (folder, settings, folder / "users"):
            shutil.chown(path, user)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, str(settings)], stdout=log, stderr=log, user=user)
    url = make_dsn(host="127.0.0.1", port=port, dbname="pooled", user=given["user"])
    try:
        wait_for(url, process)
        yield replace(db, url=url)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _find_user(host: str) -> int:
    """Who may reach the server, where pgbouncer refuses to run as root."""
    return os.stat(host).st_uid if host.startswith("/") else getpwnam("nobody").pw_uid


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < until:
        try:
            psycopg2.connect(url, connect_timeout=5).close()
        except psycopg2.OperationalError:
            time.sleep(0.05)
            continue
        return
    raise AssertionError("pgbouncer did not start, or does not reach the server")


def occupy(pooled: Database) -> list[Any]:
    """Sessions of others, of which each transaction in turn frees another one."""
    return [psycopg2.connect(pooled.url) for _ in range(6)]


@pytest.mark.parametrize("workers", [1, 2])
def test_plan_apply_and_undo_behind_a_pooler(db: Database, pooled: Database, workers: int) -> None:
    db.execute(ROWS)
    before = db.contents()
    others = occupy(pooled)
    spoilers: list[str] = []

    def spoil(connection: Any) -> None:
        """Somebody else's settings stay in the session that the pooler hands out next."""
        with others[len(spoilers) % len(others)].cursor() as cursor:
            cursor.execute(
                "set timezone = 'Asia/Seoul'; set search_path = 'nowhere'; set datestyle = 'SQL';"
                "set intervalstyle = 'iso_8601'; set extra_float_digits = 0"
            )
        others[len(spoilers) % len(others)].commit()
        spoilers.append("spoilt")

    def watch(engine: Engine) -> None:
        event.listen(engine, "commit", spoil)

    path = pooled.plan()
    done = pooled.apply(
        path, batch_size=4, watch=watch, lock_timeout=5_000, how={"workers": workers}
    )
    assert (done.deleted, done.stale) == (90, ())
    assert spoilers
    assert pooled.plan().read_text().splitlines()[1:] == []
    assert db.execute("select count(*) from pg_class where relname like 'fkdoctor%'") == [(0,)]
    assert db.execute(
        "select count(*) from pg_locks where locktype = 'advisory' and database = "
        "(select oid from pg_database where datname = current_database())"
    ) == [(0,)]
    back = pooled.undo(batch_size=4, watch=watch)
    assert (back.restored, back.kept) == (90, ())
    assert db.contents() == before
    for other in others:
        other.close()
