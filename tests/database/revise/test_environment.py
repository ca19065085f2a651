"""Where the operations run: under long transactions, in an asynchronous env.py, behind a pooler."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest
from alembic import command
from alembic.config import Config
from alembic.operations import Operations
from psycopg2.extensions import make_dsn, parse_dsn
from sqlalchemy.engine import URL

from fkdoctor.errors import Blocked, ConfigError, Refused
from fkdoctor.revise import Patience

Execute = Callable[[str], list[tuple[object, ...]]]
Operate = Callable[..., None]

TABLES = """
    create table letter (id int primary key);
    create table recommendation (id int primary key, letter_id int constraint k references letter);
    create table elsewhere (id int);
    insert into letter select generate_series(1, 10);
    insert into recommendation select n, n from generate_series(1, 10) as n;
"""
# A tenth of a second is long here.
HURRIED = Patience(first=20, longest=80, tries=500, total=60_000, oldest=100)
PATIENT = Patience(first=20, longest=80, tries=500, total=60_000, oldest=100, wait=True)
RULE = "select confdeltype::text from pg_constraint where conname = 'k'"


def _change(op: Operations) -> None:
    op.change_on_delete("recommendation", "k", "CASCADE", schema="public")


@contextmanager
def _open_for_long(url: str, statement: str) -> Iterator[int]:
    """A transaction of somebody else; the value is its pid."""
    with closing(psycopg2.connect(url)) as holder, holder.cursor() as cursor:
        cursor.execute(f"{statement}; select pg_sleep(0.2)")
        yield holder.info.backend_pid
        holder.rollback()


USES = {
    "a change of a rule": _change,
    "a validation": lambda op: op.validate_foreign_key("recommendation", "other"),
    "an index": lambda op: op.add_reference_index("recommendation", ["letter_id"]),
    "a reference": lambda op: op.adopt_reference("recommendation", ["id"], "letter"),
    "a soft delete": lambda op: op.add_soft_delete("recommendation"),
}


@pytest.mark.parametrize("use", USES)
def test_nothing_is_begun_under_a_transaction_that_has_been_open_for_long(
    execute: Execute,
    operate: Operate,
    dump: Callable[[], str],
    database_url: str,
    use: str,
) -> None:
    execute(
        TABLES + "alter table recommendation add constraint other foreign key (letter_id)"
        " references letter on update cascade not valid"
    )
    before = dump()
    with (
        _open_for_long(database_url, "select * from recommendation") as pid,
        pytest.raises(Blocked, match="has been open for long") as caught,
    ):
        operate(USES[use], HURRIED)
    assert f"pid {pid} (" in caught.value.why
    assert "idle in transaction, for " in caught.value.why
    assert "select * from recommendation" in caught.value.why
    assert dump() == before


def test_a_long_transaction_elsewhere_is_no_matter(
    execute: Execute, operate: Operate, database_url: str
) -> None:
    execute(TABLES)
    with _open_for_long(database_url, "select * from elsewhere"):
        operate(_change, HURRIED)
    assert execute(RULE) == [("c",)]


def test_told_to_wait_it_waits_without_a_lock(
    execute: Execute, operate: Operate, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    execute(TABLES)
    thread = threading.Thread(target=operate, args=(_change, PATIENT))
    with (
        caplog.at_level(logging.INFO, "fkdoctor.revise"),
        _open_for_long(database_url, "select * from letter") as pid,
    ):
        thread.start()
        while not any("waiting, without a lock" in line for line in caplog.messages):
            assert thread.is_alive()
        others = f"select count(*) from pg_locks where pid <> {pid} and not granted"
        assert execute(others) == [(0,)]
        assert execute(RULE) == [("a",)]
    thread.join()
    assert execute(RULE) == [("c",)]
    assert any(f"pid {pid} (" in line for line in caplog.messages)


def test_a_prepared_transaction_is_named_too(
    execute: Execute, operate: Operate, database_url: str
) -> None:
    if execute("show max_prepared_transactions") == [("0",)]:
        pytest.skip("the server allows none")
    execute(TABLES)
    with closing(psycopg2.connect(database_url)) as holder, holder.cursor() as cursor:
        holder.autocommit = True
        cursor.execute("begin; lock table letter in access share mode; prepare transaction 'p'")
        cursor.execute("select pg_sleep(0.2)")
        try:
            with pytest.raises(Blocked, match="open for long") as caught:
                operate(_change, HURRIED)
            assert "a prepared transaction" in caught.value.why
        finally:
            cursor.execute("rollback prepared 'p'")


ENV = """
import asyncio
from alembic import context
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
import fkdoctor.revise

def run(connection):
    context.configure(
        connection=connection,
        transaction_per_migration=True,
        fkdoctor_patience=context.config.attributes["patience"],
    )
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(context.config.attributes["url"], poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)

asyncio.run(main())
"""
REVISION = """
from alembic import op

revision = "1"
down_revision = None

def upgrade():
    op.add_reference_index("recommendation", ["letter_id"], schema="public")
    op.change_on_delete("recommendation", "k", "CASCADE", schema="public")
    op.adopt_reference("recommendation", ["id"], "letter", schema="public", dangling="delete")
    op.add_soft_delete("letter", schema="public")

def downgrade():
    op.drop_soft_delete("letter", schema="public")
    op.release_reference("recommendation", ["id"], "letter", schema="public", dangling="delete")
    op.restore_on_delete("recommendation", "k", "CASCADE", schema="public")
    op.drop_reference_index("recommendation", ["letter_id"], schema="public")
"""


@pytest.fixture(params=["psycopg_async", "asyncpg"])
def asynchronous(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Config:
    """An Alembic tree with an asynchronous env.py, on the driver of that name."""
    pytest.importorskip("greenlet")
    if request.param == "asyncpg":
        pytest.importorskip("asyncpg")
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "one.py").write_text(REVISION)
    (tmp_path / "env.py").write_text(ENV)
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    config.attributes["url"] = _url(f"postgresql+{request.param}", database_url)
    config.attributes["patience"] = Patience(first=100, longest=400, tries=100)
    return config


def _url(driver: str, url: str) -> URL:
    parts = parse_dsn(url)
    host = parts.get("host", "localhost")
    # A directory is a socket; both drivers take it as a parameter.
    query = {"host": host} if host.startswith("/") else {}
    return URL.create(
        driver,
        username=parts.get("user"),
        password=parts.get("password"),
        host=None if query else host,
        port=int(parts.get("port", 5432)),
        database=parts["dbname"],
        query=query,
    )


def test_an_asynchronous_env_py_goes_up_and_down(
    execute: Execute, dump: Callable[[], str], asynchronous: Config
) -> None:
    execute(TABLES + "insert into recommendation values (11)")
    before = dump()
    command.upgrade(asynchronous, "head")
    assert execute(RULE) == [("c",)]
    assert execute("select max(id) from recommendation") == [(10,)]
    command.downgrade(asynchronous, "base")
    assert dump() == before
    assert execute("select max(id) from recommendation") == [(11,)]


def test_a_refusal_has_its_three_lines_in_an_asynchronous_env_py_too(
    execute: Execute, asynchronous: Config
) -> None:
    execute(TABLES)
    command.upgrade(asynchronous, "head")
    execute("update letter set deleted_at = now()")
    with pytest.raises(Refused, match=r"^public\.letter has soft-deleted rows\.") as caught:
        command.downgrade(asynchronous, "base")
    assert "would be live again" in caught.value.why
    assert "fkdoctor restore" in caught.value.next


def test_an_asynchronous_env_py_gives_way_and_names_who_is_in_the_way(
    execute: Execute,
    asynchronous: Config,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    execute(TABLES + "create index on recommendation (letter_id)")
    with (
        caplog.at_level(logging.INFO, "fkdoctor.revise"),
        closing(psycopg2.connect(database_url)) as holder,
        holder.cursor() as cursor,
    ):
        cursor.execute("insert into recommendation values (12, 1)")
        thread = threading.Thread(target=command.upgrade, args=(asynchronous, "head"))
        thread.start()
        while not any(line.startswith("gave way") for line in caplog.messages):
            assert thread.is_alive()
        pid = holder.info.backend_pid
    thread.join()
    given = next(line for line in caplog.messages if line.startswith("gave way"))
    assert f"pid {pid} (" in given, given
    assert execute(RULE) == [("c",)]


@pytest.mark.parametrize("backends", [1, 2, 3])
def test_a_transaction_pooler_is_recognised(
    execute: Execute,
    operate_at: Operate,
    dump: Callable[[], str],
    database_url: str,
    backends: int,
) -> None:
    execute(TABLES)
    before = dump()
    with _pool(database_url, backends) as url, pytest.raises(ConfigError, match="pooler"):
        operate_at(url, _change)
    assert dump() == before


@contextmanager
def _pool(url: str, size: int) -> Iterator[str]:
    """The address of a pooler that lends its backends in turn, for a transaction at a time."""
    with socket.create_server(("localhost", 0)) as listening:
        pool = deque(_Backend(url) for _ in range(size))

        def accept() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=_serve, args=(client, pool), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        port = listening.getsockname()[1]
        yield make_dsn(url, host="localhost", port=port, sslmode="disable", gssencmode="disable")
        listening.shutdown(socket.SHUT_RDWR)
        for backend in pool:
            backend.close()


class _Backend:
    """A logged-in connection to the server, as bytes, and who has it."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg2.connect(url)
        self.socket = socket.socket(fileno=self._connection.fileno())
        self.socket.setblocking(True)
        self.lent = threading.Lock()
        parameters = ("server_version", "client_encoding", "standard_conforming_strings")
        self.parameters = {name: self._connection.get_parameter_status(name) for name in parameters}

    def close(self) -> None:
        self.socket.detach()
        self._connection.close()


def _lend(pool: deque[_Backend]) -> _Backend:
    while True:
        backend = pool.popleft()
        pool.append(backend)
        if backend.lent.acquire(timeout=0.01):
            return backend


def _serve(client: socket.socket, pool: deque[_Backend]) -> None:
    backend = pool[0]
    with client:
        (length,) = struct.unpack("!i", _read(client, 4))
        _read(client, length - 4)
        greeting = b"R" + struct.pack("!ii", 8, 0)
        for name, value in backend.parameters.items():
            body = f"{name}\0{value}\0".encode()
            greeting += b"S" + struct.pack("!i", 4 + len(body)) + body
        client.sendall(greeting + b"Z" + struct.pack("!ic", 5, b"I"))
        holding = False
        while message := _read_message(client):
            if message[:1] == b"X":
                break
            if not holding:
                backend = _lend(pool)
                holding = True
            backend.socket.sendall(message)
            answer = b"?"
            while answer[:1] != b"Z":
                answer = _read_message(backend.socket)
                client.sendall(answer)
            if answer[-1:] == b"I":
                backend.lent.release()
                holding = False
        if holding:
            backend.lent.release()


def _read_message(stream: socket.socket) -> bytes:
    kind = stream.recv(1)
    if not kind:
        return b""
    length = _read(stream, 4)
    return kind + length + _read(stream, struct.unpack("!i", length)[0] - 4)


def _read(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(size - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data
