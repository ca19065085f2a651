"""One server a run, one database a test.

The server is FKDOCTOR_TEST_URL, which needs CREATEDB and keeps nothing of ours, or else one that
fkdoctor starts and throws away. A test takes `database_url`, an empty database of its own; or
`make_database` with a template of `make_template`, whose content is then loaded once a run:

    @pytest.fixture(scope="session")
    def shop_template(make_template):
        return make_template(load_shop)           # load_shop(url) fills an empty database

    @pytest.fixture
    def shop_url(make_database, shop_template):
        return make_database(shop_template)
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from uuid import uuid4

import hypothesis
import psycopg2
import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn, quote_ident
from pytest_postgresql import factories

from fkdoctor.cli import main
from fkdoctor.embedded import start_server
from fkdoctor.embedded.binaries import find_client

FILE_COPY = 150000

# How long an example takes says more of the machine than of what is tested. The same ones are drawn
# each time, unless somebody asks for a number of them.
hypothesis.settings.register_profile(
    "untimed", deadline=None, derandomize="FKDOCTOR_EXAMPLES" not in os.environ
)
hypothesis.settings.load_profile("untimed")

# A shell makes its background jobs ignore Ctrl-C, and all that they start inherits it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The address of a server on which databases may be created."""
    if url := os.environ.get("FKDOCTOR_TEST_URL"):
        yield url
    else:
        with start_server() as server:
            yield server.url()


@pytest.fixture(scope="session")
def make_template(server_url: str) -> Iterator[Callable[[Callable[[str], object]], str]]:
    """Called with a loader, which gets the URL of an empty database: the name of a template."""
    made: list[str] = []

    def make(load: Callable[[str], object]) -> str:
        name = _new_name("template")
        _create_database(server_url, name, "template0")
        made.append(name)
        load(_with_database(server_url, name))
        return name

    yield make
    for name in made:
        _drop_database(server_url, name)


@pytest.fixture(scope="session")
def template(make_template: Callable[[Callable[[str], object]], str]) -> str:
    """The name of a template with nothing in it."""
    return make_template(lambda url: None)


@pytest.fixture
def make_database(server_url: str, template: str) -> Iterator[Callable[..., str]]:
    """Called with a template's name, or nothing: the URL of a new copy, dropped after the test."""
    made: list[str] = []

    def make(template: str = template) -> str:
        name = _new_name("test")
        _create_database(server_url, name, template)
        made.append(name)
        return _with_database(server_url, name)

    yield make
    for name in made:
        _drop_database(server_url, name)


@pytest.fixture
def database_url(make_database: Callable[..., str]) -> str:
    """The URL of an empty database that is the test's own."""
    return make_database()


class Outcome(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def fkdoctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Runs fkdoctor with these words in an empty directory. FKDOCTOR_URL is the caller's to set."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fkdoctor", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        code = ended.value.code or 0
        assert isinstance(code, int)
        return Outcome(code, out, err)

    return run


@pytest.fixture(scope="session")
def psql() -> Path:
    """The newest psql at hand."""
    program = find_client("psql")
    assert program, "psql is missing: the test extra brings one"
    return program


@pytest.fixture(scope="session")
def pg_dump(server_url: str) -> Path:
    """The server's own pg_dump, else the newest at hand.

    A newer one also prints what a server's security release notes beside columns (pg_attver).
    """
    with closing(psycopg2.connect(server_url)) as connection:
        program = find_client("pg_dump", major=connection.server_version // 10_000)
    assert program, "pg_dump is missing: the test extra brings one"
    return program


@pytest.fixture(scope="session")
def fkdoctor_server(server_url: str, template: str) -> SimpleNamespace:
    """Our server in the words of pytest-postgresql.

    It ends every connection to the database that it copies from, so that must be one of ours.
    """
    with closing(psycopg2.connect(server_url)) as connection:
        return SimpleNamespace(
            host=connection.info.host,
            port=connection.info.port,
            user=connection.info.user,
            password=connection.info.password,
            options=connection.info.options,
            maintenance_dbname=connection.info.dbname,
            template_dbname=template,
        )


postgresql_proc = factories.postgresql_noproc(
    depends_on="fkdoctor_server", dbname=f"fkd_{uuid4().hex[:12]}_"
)
postgresql = factories.postgresql("postgresql_proc")


def _new_name(kind: str) -> str:
    return f"fkd_{kind}_{uuid4().hex}"


def _with_database(url: str, name: str) -> str:
    if "://" not in url:
        return make_dsn(url, dbname=name)
    return re.sub(r"^(\w+://[^/?]*)(/[^?]*)?", rf"\1/{name}", url)


def _create_database(server_url: str, name: str, template: str) -> None:
    with closing(_connect_to_server(server_url)) as connection, connection.cursor() as cursor:
        # Copying files is several times faster than WAL where the data lie in memory.
        strategy = "strategy file_copy" if connection.server_version >= FILE_COPY else ""
        names = [quote_ident(part, connection) for part in (name, template)]
        cursor.execute("create database {} template {} {}".format(*names, strategy))


def _drop_database(server_url: str, name: str) -> None:
    with closing(_connect_to_server(server_url)) as connection, connection.cursor() as cursor:
        # Not WITH (FORCE): it wants to end an autovacuum worker too, which only a superuser may.
        cursor.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = %s and backend_type = 'client backend'",
            (name,),
        )
        cursor.execute(f"drop database {quote_ident(name, connection)}")


def _connect_to_server(server_url: str) -> Connection:
    connection = psycopg2.connect(server_url)
    connection.autocommit = True
    return connection
