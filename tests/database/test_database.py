"""Reaching a server: every form of address, what goes wrong, and what a snapshot promises."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fkdoctor.config import Config
from fkdoctor.database import (
    connect,
    open_engine,
    read_snapshot,
    resolve_target,
    retryable,
    set_local,
    sqlstate,
)
from fkdoctor.embedded import Server, start_server
from fkdoctor.embedded.account import choose_account
from fkdoctor.errors import ServerUnavailable, UnsupportedServer
from fkdoctor.schema import Schema

Execute = Callable[[str], list[tuple[object, ...]]]
Inspect = Callable[..., Schema]

ROOT = Path(__file__).parents[2]
SECRET = "hunter2 @/:%'\\"
ENCODED = "hunter2%20%40%2F%3A%25%27%5C"


def _ask(url: str, question: str = "select pg_catalog.current_database()") -> object:
    with connect(open_engine(resolve_target(url, Config(), {}))) as connection:
        return connection.execute(text(question)).scalar()


# Addresses, on a server of our own that asks `guest` for a password


@pytest.fixture(scope="module")
def port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def guarded(port: int) -> Iterator[Server]:
    """A server on a socket and, over TCP, on `port`; the role `guest` has the password SECRET."""
    addresses = {"listen_addresses": "localhost", "port": str(port)}
    with start_server(extra_settings=addresses) as server:
        rules = "local all postgres trust\nlocal all all password\nhost all all all password\n"
        (server.data / "pg_hba.conf").write_text(rules)
        with closing(psycopg2.connect(server.url(), port=port)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("create role guest login password %s", (SECRET,))
                cursor.execute('create database "ml ops@%"')
                cursor.execute("select pg_catalog.pg_reload_conf()")
        yield server


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://guest:{encoded}@127.0.0.1:{port}/ml%20ops%40%25",
        "postgres://guest:{encoded}@localhost:{port}/ml%20ops%40%25",
        "postgresql+psycopg2://guest:{encoded}@localhost:{port}/ml%20ops%40%25",
        "postgresql+asyncpg://guest:{encoded}@localhost:{port}/ml%20ops%40%25",
        "postgresql:///ml%20ops%40%25?host={socket}&port={port}&user=guest&password={encoded}",
        "postgresql://guest:{encoded}@{socket_encoded}:{port}/ml%20ops%40%25",
        "postgresql://guest:{encoded}@localhost:1,localhost:{port}/ml%20ops%40%25",
        "host=127.0.0.1 port={port} dbname='ml ops@%' user=guest password='{escaped}'",
        "host={socket} port={port} dbname = 'ml ops@%' user=guest password = '{escaped}'",
        "host=localhost,127.0.0.1 port={port} dbname='ml ops@%' user=guest password='{escaped}'",
    ],
)
def test_every_form_of_address_leads_to_the_database(
    guarded: Server, port: int, address: str
) -> None:
    url = address.format(
        encoded=ENCODED,
        escaped=SECRET.replace("\\", "\\\\").replace("'", "\\'"),
        port=port,
        socket=guarded.directory,
        socket_encoded=str(guarded.directory).replace("/", "%2F"),
    )
    assert _ask(url) == "ml ops@%"
    assert "hunter2" not in str(resolve_target(url, Config(), {}))


def test_an_ipv6_address_leads_to_the_database(guarded: Server, port: int) -> None:
    with suppress(OSError), closing(socket.create_connection(("::1", port))):
        assert _ask(f"postgresql://guest:{ENCODED}@[::1]:{port}/postgres") == "postgres"
        return
    pytest.skip("this machine has no IPv6")


def test_a_service_and_the_variables_of_libpq_are_heeded(
    guarded: Server, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").write_text(
        f"[mlops]\nhost=localhost\nport={port}\ndbname=ml ops@%\nuser=guest\n"
        f"password={SECRET}\napplication_name=from service\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    assert _ask("service=mlops") == "ml ops@%"
    assert _ask("service=mlops dbname=postgres") == "postgres"
    assert _ask("postgresql:///?service=mlops") == "ml ops@%"
    name = "select pg_catalog.current_setting('application_name')"
    assert _ask("service=mlops", name) == "from service"

    monkeypatch.setenv("PGPASSWORD", SECRET)
    monkeypatch.setenv("PGPORT", str(port))
    monkeypatch.setenv("PGHOST", "localhost")
    monkeypatch.setenv("PGUSER", "guest")
    assert _ask("postgresql:///postgres") == "postgres"
    assert _ask("dbname=postgres", name) == "fkdoctor"
    monkeypatch.setenv("PGAPPNAME", "nightly")
    assert _ask("dbname=postgres", name) == "nightly"
    assert _ask("dbname=postgres application_name=given", name) == "given"
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=5MB")
    assert _ask("dbname=postgres", "select pg_catalog.current_setting('work_mem')") == "5MB"
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    assert _ask("dbname=postgres", "select '이력서'") == "이력서"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://guest:hunter2-wrong@localhost:{port}/postgres", "password authentication"),
        ("postgresql://guest@localhost:{port}/postgres", "no password"),
        ("postgresql://guest:{encoded}@localhost:{port}/nowhere", '"nowhere" does not exist'),
        ("postgresql://nobody:{encoded}@localhost:{port}/postgres", "password authentication"),
        ("postgresql://guest:{encoded}@localhost:{port}/postgres?sslmode=require", "SSL"),
        ("host={socket} port=1 user=guest", "No such file"),
    ],
)
def test_a_refused_connection_is_told_in_three_lines(
    guarded: Server, port: int, address: str, told: str
) -> None:
    url = address.format(port=port, encoded=ENCODED, socket=guarded.directory)
    run = subprocess.run(
        [sys.executable, "-m", "fkdoctor", "audit", "--url", url],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (2, "")
    what, why, to_type = run.stderr.splitlines()
    assert what == "The database does not answer."
    assert told in why
    assert to_type == "Check the address, or try the bundled server: fkdoctor demo"
    assert "hunter2" not in run.stderr


@pytest.mark.parametrize("source", ["FKDOCTOR_URL", "DATABASE_URL", "fkdoctor.toml", "url_env"])
def test_a_command_says_which_database_it_uses_and_by_whom(
    guarded: Server, port: int, source: str, tmp_path: Path
) -> None:
    url = f"postgresql://guest:{ENCODED}@localhost:{port}/postgres"
    names = {"FKDOCTOR_URL", "DATABASE_URL"}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    where = source
    if source in names:
        environment[source] = url
    elif source == "url_env":
        environment["THE_URL"] = url
        where = f"THE_URL named in {tmp_path / 'fkdoctor.toml'}"
        (tmp_path / "fkdoctor.toml").write_text('[database]\nurl_env = "THE_URL"\n')
    else:
        where = str(tmp_path / "fkdoctor.toml")
        (tmp_path / "fkdoctor.toml").write_text(f"[database]\nurl = '{url}'\n")
    run = subprocess.run(
        [sys.executable, "-m", "fkdoctor", "audit"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    used = f"Using database postgres on localhost:{port} as guest (from {where})."
    assert run.stderr.splitlines()[0] == used
    assert "hunter2" not in run.stdout + run.stderr


# Servers that are none


@contextmanager
def _listening(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port at which `answer` deals with each connection."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with closing(client):
                        answer(client)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_that_speaks_something_else_is_refused() -> None:
    greeting = b"SSH-2.0-OpenSSH_9.2\r\n"
    with (
        _listening(lambda client: client.sendall(greeting)) as port,
        pytest.raises(ServerUnavailable),
    ):
        _ask(f"postgresql://localhost:{port}/mlops?sslmode=disable")


def test_a_server_that_says_nothing_is_given_up() -> None:
    with (
        _listening(lambda client: time.sleep(5)) as port,
        pytest.raises(ServerUnavailable, match="timeout"),
    ):
        _ask(f"postgresql://127.0.0.1:{port}/mlops?sslmode=disable&connect_timeout=2")


def test_a_server_that_is_too_old_is_refused() -> None:
    def message(kind: bytes, body: bytes) -> bytes:
        return kind + (len(body) + 4).to_bytes(4, "big") + body

    def answer(client: socket.socket) -> None:
        client.recv(1024)
        settings = {"server_version": "9.6.24", "client_encoding": "UTF8", "DateStyle": "ISO"}
        client.sendall(
            message(b"R", bytes(4))
            + b"".join(
                message(b"S", f"{name}\0{value}\0".encode()) for name, value in settings.items()
            )
            + message(b"Z", b"I")
        )
        client.recv(1024)

    with _listening(answer) as port, pytest.raises(UnsupportedServer) as refused:
        _ask(f"postgresql://127.0.0.1:{port}/mlops?sslmode=disable&gssencmode=disable")
    assert str(refused.value).splitlines()[:2] == [
        "This is PostgreSQL 9.",
        "fkdoctor reads PostgreSQL 12 and newer.",
    ]


# What a snapshot promises


def test_a_snapshot_sees_one_moment_and_writes_nothing(database_url: str, execute: Execute) -> None:
    execute("create table t (id int)")
    with connect(open_engine(resolve_target(database_url, Config(), {}))) as connection:
        with read_snapshot(connection, statement_timeout=5_000, lock_timeout=700):
            count = text("select count(*) from public.t")
            assert connection.execute(count).scalar() == 0
            execute("insert into t values (1)")
            assert connection.execute(count).scalar() == 0
            settings = ("search_path", "statement_timeout", "lock_timeout")
            asked = [
                connection.execute(text(f"select pg_catalog.current_setting('{name}')")).scalar()
                for name in settings
            ]
            assert asked == ["", "5s", "700ms"]
            with pytest.raises(DBAPIError) as refused:
                connection.execute(text("insert into public.t values (2)"))
            assert sqlstate(refused.value) == "25006"
            connection.rollback()
        with read_snapshot(connection):
            assert connection.execute(count).scalar() == 1
        # The settings end with the transaction.
        assert connection.execute(text("show search_path")).scalar() != ""


def test_a_setting_is_local_to_its_transaction(database_url: str) -> None:
    with connect(open_engine(resolve_target(database_url, Config(), {}))) as connection:
        with connection.begin():
            set_local(connection, lock_timeout=123, application_name="it's me; --")
            assert connection.execute(text("show lock_timeout")).scalar() == "123ms"
            assert connection.execute(text("show application_name")).scalar() == "it's me; --"
        assert connection.execute(text("show application_name")).scalar() == "fkdoctor"


def test_waits_that_may_end_are_told_from_errors(database_url: str, execute: Execute) -> None:
    execute("create table t (id int)")
    with closing(psycopg2.connect(database_url)) as other, other.cursor() as cursor:
        cursor.execute("lock table t")
        with connect(open_engine(resolve_target(database_url, Config(), {}))) as connection:
            with connection.begin() as transaction:
                set_local(connection, lock_timeout=50)
                with pytest.raises(DBAPIError) as waited:
                    connection.execute(text("lock table t"))
                transaction.rollback()
            assert retryable(waited.value)
            with pytest.raises(DBAPIError) as wrong, connection.begin():
                connection.execute(text("select 1 / 0"))
            assert not retryable(wrong.value)
            assert sqlstate(wrong.value) == "22012"


@pytest.mark.parametrize(
    "setting",
    [
        "default_transaction_read_only = on",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "standard_conforming_strings = off",
        "datestyle = 'german'",
        "extra_float_digits = 0",
        "quote_all_identifiers = on",
        "timezone = 'Asia/Seoul'",
        "intervalstyle = 'iso_8601'",
        "bytea_output = 'escape'",
        "row_security = off",
        "statement_timeout = '5min'",
        "client_min_messages = 'debug1'",
    ],
)
def test_the_settings_of_a_database_do_not_change_what_is_read(
    inspect_after: Inspect, setting: str
) -> None:
    before = inspect_after(
        """
        create table up (id int primary key, x float default 0.1, at date default '2026-01-31',
            t timestamptz default '2026-01-31 12:00+00', i interval default '1 day 2 hours',
            b bytea default '\\x00ff');
        create table down (a int constraint k references up, b text default E'a\\\\b');
        alter table down enable row level security;
        """
    )
    after = inspect_after(f'alter database "{before.database}" set {setting}')
    assert astuple(after) == astuple(before)


def test_a_standby_is_read_like_its_primary(tmp_path: Path, inspect_at: Inspect) -> None:
    account = choose_account()
    with start_server() as primary:
        if not (primary.bin / "pg_basebackup").is_file():
            pytest.skip("these programs of PostgreSQL have no pg_basebackup")
        with closing(psycopg2.connect(primary.url())) as connection, connection:
            connection.cursor().execute(
                "create table up (id int primary key);"
                "create table down (a int default 1 + 1 references up)"
            )
        copy = primary.directory / "standby"
        source = ["-h", str(primary.directory), "-U", "postgres", "-X", "stream", "-c", "fast"]
        subprocess.run(
            [primary.bin / "pg_basebackup", "-R", "-D", copy, *source],
            check=True,
            capture_output=True,
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
        )
        standby = subprocess.Popen(
            [primary.bin / "postgres", "-D", copy, "-k", copy, "-c", "listen_addresses="],
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            address = f"host={copy} user=postgres dbname=postgres"
            _await(lambda: psycopg2.connect(address).close())
            assert _ask(address, "select pg_catalog.pg_is_in_recovery()") is True
            assert astuple(inspect_at(address)) == astuple(inspect_at(primary.url()))
        finally:
            standby.send_signal(signal.SIGINT)
            standby.wait()


# A pooler that gives each transaction another session


@pytest.fixture
def pooled_url(database_url: str, tmp_path: Path) -> Iterator[str]:
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("there is no pgbouncer on this machine")
    account = choose_account()
    with closing(psycopg2.connect(database_url)) as connection:
        info = connection.info
        server = {"host": info.host, "port": info.port, "user": info.user, "dbname": info.dbname}
        if info.password:
            server["password"] = info.password
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = tmp_path / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\npooled = {make_dsn(**server)}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
        "unix_socket_dir =\n"
    )
    # Readable for the user it runs as; pytest's directories are not.
    descriptor = os.open(settings, os.O_RDONLY)
    process = subprocess.Popen(
        [program, "-q", f"/dev/fd/{descriptor}"],
        pass_fds=[descriptor],
        user=account.uid,
        group=account.gid,
        extra_groups=account.groups,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(descriptor)
    url = f"postgresql://anybody@127.0.0.1:{port}/pooled"
    try:
        _await(lambda: psycopg2.connect(url).close())
        yield url
    finally:
        process.terminate()
        process.communicate()


def test_a_database_behind_a_transaction_pooler_is_read(
    pooled_url: str, inspect_after: Inspect, inspect_at: Inspect
) -> None:
    direct = inspect_after(
        "create table up (id int primary key, a int default 1 + 1 check (a > 0));"
        "create table down (a int references up)"
    )
    with closing(psycopg2.connect(pooled_url)) as other, other.cursor() as cursor:
        # Somebody else's session is given to us next, with what was set in it.
        cursor.execute("set search_path = up; set statement_timeout = '1min'")
        other.rollback()
        for _ in range(5):
            assert astuple(inspect_at(pooled_url)) == astuple(direct)
        target = resolve_target(pooled_url, Config(), {})
        with connect(open_engine(target)) as one, connect(open_engine(target)) as two:
            with read_snapshot(one), read_snapshot(two):
                sessions = {
                    each.execute(text("select pg_catalog.pg_backend_pid()")).scalar()
                    for each in (one, two)
                }
            assert len(sessions) == 2
    assert parse_dsn(pooled_url)["dbname"] == "pooled"


def _await(ready: Callable[[], object]) -> None:
    for _ in range(200):
        try:
            ready()
        except psycopg2.OperationalError:
            time.sleep(0.05)
        else:
            return
    ready()


# What a command meets on the way


def _start_command(url: str, body: str) -> subprocess.Popen[str]:
    """`fkdoctor probe`, a command that runs `body` with a `connection` to the database."""
    program = f"""
import sys, types
import click
from sqlalchemy import text
from fkdoctor import cli
from fkdoctor.cli.session import open_session
@click.command()
def probe():
    with open_session({url!r}, None) as session:
        connection = session.connection
        {body}
sys.modules["probe"] = types.SimpleNamespace(probe=probe)
cli._COMMANDS["probe"] = ("probe", "")
cli.main()
"""
    return subprocess.Popen(
        [sys.executable, "-c", program, "probe"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("statement", "code", "told"),
    [
        (
            "select 1 / 0",
            2,
            [
                "PostgreSQL refused a statement.",
                "division by zero",
                "Its transaction was rolled back. Settle the cause and run it again.",
            ],
        ),
        (
            "select pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())",
            4,
            [
                "The connection was lost.",
                None,
                "What was not committed is undone. Run the same command again.",
            ],
        ),
    ],
)
def test_an_error_of_postgresql_is_told_in_three_lines(
    database_url: str, statement: str, code: int, told: list[str | None]
) -> None:
    process = _start_command(database_url, f"connection.execute(text({statement!r}))")
    output, said = process.communicate()
    assert (process.returncode, output) == (code, "")
    using, *lines = said.splitlines()
    assert using.startswith("Using ")
    assert [line for line, expected in zip(lines, told, strict=True) if expected] == [
        expected for expected in told if expected
    ]


def test_ctrl_c_stops_a_query_at_once(database_url: str, execute: Execute) -> None:
    running = (
        "select count(*) from pg_catalog.pg_stat_activity"
        " where datname = current_database() and query like '%pg_sleep(600)%'"
        " and pid <> pg_backend_pid() and state = 'active'"
    )
    process = _start_command(
        database_url, "connection.execute(text('select pg_catalog.pg_sleep(600)'))"
    )
    try:
        while execute(running) == [(0,)]:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, output) == (130, "")
    assert said.splitlines()[-1] == "Stopped."
    assert "Traceback" not in said
    while execute(running) != [(0,)]:
        time.sleep(0.05)
