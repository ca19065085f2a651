"""Connections: which database, how to reach it, how long to wait, what to try again."""

from __future__ import annotations

import logging
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import psycopg2
import psycopg2.errorcodes
from psycopg2.extensions import connection as PsycopgConnection
from psycopg2.extensions import make_dsn, parse_dsn
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from fkdoctor.config import Config
from fkdoctor.errors import ConfigError, Incomplete, ServerUnavailable, UnsupportedServer

log = logging.getLogger(__name__)

Result = TypeVar("Result")

OLDEST_SERVER = 12
"""The oldest major version read and tested."""

_URI = re.compile(r"(?i)(postgres(?:ql)?)(?:\+[a-z0-9_]+)?://")
_OTHER_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A database address as libpq takes it, and who named it. `str()` holds no password."""

    dsn: str
    source: str

    def __str__(self) -> str:
        given = parse_dsn(self.dsn)
        named = [f"{word} {given[word]}" for word in ("service", "dbname") if given.get(word)]
        where = " ".join(named).replace("dbname", "database") or "the default database"
        if hosts := _list_hosts(given):
            where += f" on {hosts}"
        if given.get("user"):
            where += f" as {given['user']}"
        return f"{where} (from {self.source})"

    def __repr__(self) -> str:
        return f"Target({self})"


def resolve_target(
    url: str | None, config: Config, environ: Mapping[str, str] = os.environ
) -> Target:
    """The database to use, from the first of --url, FKDOCTOR_URL, DATABASE_URL and fkdoctor.toml.

    An address is a URL (`postgresql://`, `postgres://`, SQLAlchemy's `postgresql+driver://`) or a
    libpq keyword string (`host=… dbname=…`, `service=…`). Raises ConfigError when none is given or
    the one that is given cannot be read.
    """
    database = config.database
    file = str(config.path)
    if url is not None and not url.strip():
        raise ConfigError(
            "The address from --url is empty.",
            why="Perhaps the shell variable in it is not set. No other source was tried.",
            next="Write --url postgresql://user@host/database, or leave --url out.",
        )
    named = (
        (url, "--url"),
        (environ.get("FKDOCTOR_URL"), "FKDOCTOR_URL"),
        (environ.get("DATABASE_URL"), "DATABASE_URL"),
        (database.url, file),
        (environ.get(database.url_env or ""), f"{database.url_env} named in {file}"),
    )
    for value, source in named:
        if value and value.strip():
            return Target(dsn=_normalise_address(value, source), source=source)
    if database.url_env:
        why = f"{file} names the environment variable {database.url_env}, which is not set."
    else:
        why = "Looked at --url, FKDOCTOR_URL, DATABASE_URL and fkdoctor.toml."
    raise ConfigError(
        "No database is given.",
        why=why,
        next="For example: --url postgresql://user@localhost/mlops, or try: fkdoctor demo",
    )


def _normalise_address(value: str, source: str) -> str:
    """The address in libpq's own form. The messages never repeat it: it may hold a password."""
    value = value.strip()
    if _URI.match(value):
        value = _URI.sub("postgresql://", value, count=1)
    elif other := _OTHER_SCHEME.match(value):
        raise ConfigError(
            f"The address from {source} is not a PostgreSQL one.",
            why=f"It begins with {other[1]}://.",
            next="Write postgresql://user@host/database.",
        )
    try:
        if "\0" in value:
            raise ValueError
        _check_parts(value, parse_dsn(value))
    except (psycopg2.ProgrammingError, ValueError):
        raise ConfigError(
            f"The address from {source} cannot be read.",
            why="It is neither a URL nor a libpq keyword string, or it has a parameter unknown to "
            "libpq (asyncpg's ssl=… is sslmode=… here), or its password is not percent-encoded "
            "(@ is %40, / is %2F).",
            next="Write postgresql://user@host/database, 'host=… dbname=…' or 'service=…'.",
        ) from None
    return value


def _check_parts(value: str, parts: Mapping[str, str]) -> None:
    """Raises ValueError where a password has strayed into what we and libpq show.

    In `postgresql://u:pa@ss@host/db` libpq takes `ss@host` for the host, in `host:pa/ss@db` it
    takes `pa` for the port.
    """
    shown = [parts.get(name, "") for name in ("host", "port", "dbname")]
    if _URI.match(value) and any("@" in part and part in value for part in shown):
        raise ValueError
    if re.search(r"[^0-9,]", parts.get("port", "")) or "://" in parts.get("dbname", ""):
        raise ValueError


def _list_hosts(parts: Mapping[str, str]) -> str:
    """The hosts with their ports, as in a URL: `localhost:5432,[::1]:5433`."""
    hosts = (parts.get("host") or parts.get("hostaddr") or "").split(",")
    ports = parts.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    pairs = zip(hosts, ports, strict=False)
    return ",".join(
        (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        for host, port in pairs
    )


def open_engine(target: Target) -> Engine:
    """An engine for the target, over psycopg2 whatever SQLAlchemy's default driver is.

    Its connections raise UnsupportedServer when the server is too old. Nothing is pooled, so every
    connection is new and a crash leaves nothing behind.
    """
    given = parse_dsn(target.dsn)
    # In UTF-8 whatever PGCLIENTENCODING says, so that every name can be read.
    ours = {"client_encoding": "UTF8", "fallback_application_name": "fkdoctor"}
    # A service may hold a connect_timeout, which one of ours would override.
    decided = {"connect_timeout", "service"} & given.keys()
    if not decided and not {"PGCONNECT_TIMEOUT", "PGSERVICE"} & os.environ.keys():
        ours["connect_timeout"] = "10"
    dsn = make_dsn(target.dsn, **ours)
    engine = create_engine(
        "postgresql+psycopg2://",
        creator=lambda: _open_connection(dsn),
        poolclass=NullPool,
        use_native_hstore=False,
    )
    event.listen(engine, "first_connect", _shield_first_queries)
    return engine


def _open_connection(dsn: str) -> PsycopgConnection:
    connection = psycopg2.connect(dsn)
    version = connection.server_version
    if version < OLDEST_SERVER * 10_000:
        connection.close()
        raise UnsupportedServer(
            f"This is PostgreSQL {version // 10_000}.",
            why=f"fkdoctor reads PostgreSQL {OLDEST_SERVER} and newer.",
            next="Upgrade the server, or restore a dump on a newer one and look there.",
        )
    return connection


def _shield_first_queries(connection: PsycopgConnection, record: object) -> None:
    """Afterwards SQLAlchemy's own first queries, which it rolls back, see only pg_catalog.

    They call current_schema() unqualified: with a search_path of `evil, pg_catalog` that would run
    a function of the same name in `evil`.
    """
    with connection.cursor() as cursor:
        cursor.execute("set local search_path = pg_catalog")


@contextmanager
def connect(engine: Engine) -> Iterator[Connection]:
    """A connection to a server that fkdoctor can work with.

    Raises ServerUnavailable when nothing answers and UnsupportedServer when it is too old.
    """
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise ServerUnavailable(
            "The database does not answer.",
            why=" ".join(str(error.orig).split()),
            next="Check the address, or try the bundled server: fkdoctor demo",
        ) from None
    with connection:
        yield connection


# What pg_get_expr and its like depend on, at PostgreSQL's defaults.
_PRINTING = {
    "search_path": "",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "datestyle": "ISO, MDY",
    "extra_float_digits": "1",
    "intervalstyle": "postgres",
    "timezone": "UTC",
}


@contextmanager
def read_snapshot(
    connection: Connection, *, statement_timeout: int = 0, lock_timeout: int = 0
) -> Iterator[None]:
    """Everything read inside sees one moment of the database and changes nothing.

    What the server prints of definitions is qualified and the same whatever the role's and the
    client's settings. Timeouts are in milliseconds, 0 is none.
    """
    with connection.begin():
        connection.execute(text("set transaction isolation level repeatable read, read only"))
        set_local(
            connection, statement_timeout=statement_timeout, lock_timeout=lock_timeout, **_PRINTING
        )
        yield


TEXT_FORM = {
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "array_nulls": "on",
}
"""Settings under which every value can be read back from its text as it was."""


def set_local(connection: Connection, **settings: str | int) -> None:
    """Set parameters until the end of the transaction; safe behind a transaction pooler."""
    connection.execute(
        text(
            "select pg_catalog.set_config(s.name, s.value, true) from rows from ("
            "pg_catalog.unnest(cast(:names as pg_catalog.text[])), "
            "pg_catalog.unnest(cast(:values as pg_catalog.text[]))) as s (name, value)"
        ),
        {"names": list(settings), "values": [str(value) for value in settings.values()]},
    )


def sqlstate(error: DBAPIError) -> str:
    """The error's SQLSTATE, `''` where the connection broke before there was one."""
    # psycopg 3, on which somebody's Alembic may run our operations, names it otherwise.
    return getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None) or ""


LOCK_NOT_AVAILABLE = psycopg2.errorcodes.LOCK_NOT_AVAILABLE
DEADLOCK_DETECTED = psycopg2.errorcodes.DEADLOCK_DETECTED
SERIALIZATION_FAILURE = psycopg2.errorcodes.SERIALIZATION_FAILURE
INSUFFICIENT_PRIVILEGE = psycopg2.errorcodes.INSUFFICIENT_PRIVILEGE
INTERNAL_ERROR = psycopg2.errorcodes.INTERNAL_ERROR
CHARACTER_NOT_IN_REPERTOIRE = psycopg2.errorcodes.CHARACTER_NOT_IN_REPERTOIRE
QUERY_CANCELED = psycopg2.errorcodes.QUERY_CANCELED
READ_ONLY = psycopg2.errorcodes.READ_ONLY_SQL_TRANSACTION


def retryable(error: DBAPIError) -> bool:
    """Whether the transaction may succeed when tried again: a lock wait, deadlock or race."""
    return sqlstate(error) in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED, SERIALIZATION_FAILURE)


def said(error: DBAPIError) -> str:
    """What PostgreSQL said, in one line: message, detail and hint, without our own SQL."""
    diagnosis = getattr(error.orig, "diag", None)
    parts = [getattr(diagnosis, f"message_{part}", None) for part in ("primary", "detail", "hint")]
    return " ".join(" ".join(part for part in parts if part).split()) or " ".join(
        str(error.orig).split()
    )


def remedy(error: DBAPIError) -> str:
    """What to do next about a statement that PostgreSQL refused, as a sentence."""
    if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
        return "Connect as a role that may do this, or have the right granted."
    if sqlstate(error) == READ_ONLY:
        return "Connect to the primary server, in a session that may write."
    return "Settle that, then run the same command again."


def lost(error: DBAPIError) -> bool:
    """Whether the connection broke, and with it whatever was not committed."""
    return error.connection_invalidated or not sqlstate(error)


def run_transaction(
    connection: Connection, work: Callable[[], Result], *, tries: int = 6
) -> Result:
    """What `work` returned from a transaction that was committed.

    A transaction that lost a lock wait, a deadlock or a race is tried again as a whole, after a
    random pause that doubles. Incomplete after the last try, when a statement was cancelled, and
    when the connection was lost. Every other error rolls back and passes through.
    """
    for tries_left in reversed(range(tries)):
        try:
            with connection.begin():
                return work()
        except DBAPIError as error:
            why = said(error)
            if lost(error):
                raise Incomplete(
                    "Stopped: the connection was lost.",
                    why=why,
                    next="Run the same command again; what is committed stays.",
                ) from error
            if sqlstate(error) == QUERY_CANCELED:
                raise Incomplete(
                    "Stopped: a statement was cancelled.",
                    why=why,
                    next="Allow it more time (statement_timeout) or take smaller batches, and run "
                    "the same command again; what is committed stays.",
                ) from error
            if not retryable(error):
                raise
            if not tries_left:
                raise Incomplete(
                    f"Stopped: somebody else held the rows through {tries} tries.",
                    why=why,
                    next="Run the same command again; what is committed stays.",
                ) from error
            log.info("transaction is tried again", extra={"sqlstate": sqlstate(error)})
            time.sleep(random.uniform(0, 0.1 * 2 ** (tries - tries_left)))
    raise AssertionError("the last try returns or raises")
