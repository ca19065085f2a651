"""Runs the steps of an operation: short transactions of their own, with bounded waits for locks.

A statement that waits for a lock makes every later one wait behind it. So no wait is longer than
`Patience` says; then the whole transaction is given up, the sessions in the way are named, and it
is tried again. There is never a last try without a limit.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from alembic.operations import Operations
from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from fkdoctor.database import (
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    READ_ONLY,
    remedy,
    set_local,
    sqlstate,
)
from fkdoctor.errors import Blocked, ConfigError, FkdoctorError, Incomplete, Refused
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.resources import load_query
from fkdoctor.revise.ddl import REFUSED, lock_table
from fkdoctor.revise.watch import beside, sleep
from fkdoctor.schema import Schema, Table, TableKind, TableName

Result = TypeVar("Result")

log = logging.getLogger("fkdoctor.revise")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a step waits for its locks, and how often it tries. Times are in milliseconds.

    The wait doubles from `first` to `longest`. Beyond deadlock_timeout (1 s unless changed) the
    server also asks an autovacuum that is in the way to stop. Under a transaction on the tables
    that has been open for `oldest` nothing is begun; with `wait` it is waited for, without a lock,
    for `total` at most.
    """

    first: int = 200
    longest: int = 2_000
    tries: int = 30
    total: int = 300_000
    oldest: int = 60_000
    wait: bool = False

    def __post_init__(self) -> None:
        if min(self.first, self.longest, self.tries, self.total, self.oldest) <= 0:
            raise ConfigError(
                "A rule is not changed without a lock timeout.",
                why="All of a table's readers and writers would wait behind the one that waits.",
                next='Set lock_timeout in [database], for example: lock_timeout = "2s"',
            )

    def lock_timeout(self, attempt: int) -> int:
        """How long the attempt (from 1) may wait for a lock."""
        return int(min(self.longest, self.first * 2 ** min(attempt - 1, 30)))

    def pause(self, attempt: int) -> float:
        """Seconds until the next attempt: anything up to twice the wait ("full jitter")."""
        return random.uniform(0, 2 * self.lock_timeout(attempt) / 1000)


class Executor:
    """The migration's connection, between transactions, and an observer beside it.

    The observer is a second connection: it reads the catalog, and names who is in the way while
    the first one waits.
    """

    def __init__(self, connection: Connection, observer: Connection, patience: Patience) -> None:
        self._connection = connection
        self._observer = observer
        self.pid: int = connection.execute(_BACKEND).scalar_one()
        """The backend of the migration's connection."""
        self._deadlock_timeout: int = connection.execute(_DEADLOCK_TIMEOUT).scalar_one()
        self._in_the_way = ""
        self._wait = 0
        self._wanted: set[TableName] = set()
        self.patience = patience
        self.steps = 0
        """How many steps were committed."""

    def read_schema(self) -> Schema:
        """The database as it is now."""
        return inspect_database(self._observer, index_definitions=True)

    def tell(self, subject: str, what: str) -> None:
        """Log what is about to be done."""
        log.info("%s: %s", subject, what)

    def warn(self, subject: str, what: str) -> None:
        """Log what somebody should know of what was done."""
        log.warning("%s: %s", subject, what)

    def fetch(self, query: str, values: Mapping[str, object]) -> list[Row[Any]]:
        """The rows of `sql/revise/<query>.sql`, in the transaction that is open, if any."""
        statement = text(load_query(f"revise/{query}"))
        return list(self._connection.execute(statement, values))

    def look(self, query: str, values: Mapping[str, object]) -> list[Row[Any]]:
        """The rows of `sql/revise/<query>.sql`, read beside the migration's own connection."""
        with self._observer.begin():
            set_local(self._observer, search_path="")
            return list(self._observer.execute(text(load_query(f"revise/{query}")), values))

    def read_partitions(self, table: TableName) -> tuple[TableName, ...]:
        """The table and all partitions below it, as they are in the transaction that is open."""
        rows = self.fetch("partitions", {"schema": table.schema, "table": table.name})
        return tuple(TableName(row.schema, row.name) for row in rows)

    def observe(self, statement: Any) -> list[Row[Any]]:
        """The rows of a query, read beside the migration's own connection."""
        with self._observer.begin():
            return list(self._observer.execute(statement))

    def change(self, statement: Any) -> Any:
        """The one row that a statement that changes rows returns."""
        with self._watched(self._wait / 2000):
            return self._connection.execute(statement).one()

    def execute(self, statement: str) -> None:
        """Run DDL as it stands; watches who is in the way of it."""
        with self._watched(self._wait / 2000):
            self._execute(statement)

    def lock(self, mode: str, *tables: Table) -> None:
        """Lock the tables in this order, each once; those that the role may not lock are left out.

        A partitioned table is locked with its partitions, after itself. ALTER TABLE locks them all
        the same, but not in this order.

        While a mode that stops writers is waited for, everybody else waits behind. So what no
        writer notices comes first: whoever builds an index or vacuums is waited for there, and an
        autovacuum gives way (after deadlock_timeout). Then all tables together are waited for no
        longer than one; and the second no longer than half of deadlock_timeout: who holds it may
        have come to want the first, and is not to fail in a deadlock.
        """
        self._wanted.update(table.name for table in tables)
        allowed = [table for table in dict.fromkeys(tables) if self._may_lock(table.name)]
        stops = mode in ("share", "share row exclusive", "access exclusive")
        for table in allowed if stops else ():
            self._lock(table, "share update exclusive", self._wait)
        deadline = time.monotonic() + self._wait / 1000
        for number, table in enumerate(allowed):
            left = int((deadline - time.monotonic()) * 1000)
            self._lock(table, mode, min(left, self._deadlock_timeout // 2) if number else left)
        set_local(self._connection, lock_timeout=self._wait)

    def _may_lock(self, name: TableName) -> bool:
        rights = self.fetch("rights", {"schema": name.schema, "table": name.name})
        return bool(rights) and bool(rights[0].may_lock)

    def _lock(self, table: Table, mode: str, wait: int) -> None:
        set_local(self._connection, lock_timeout=max(1, wait))  # 0 would be no limit
        partitions = table.kind is TableKind.PARTITIONED
        self.execute(lock_table(table.name, mode, partitions=partitions))

    def require_quiet(self, *tables: TableName) -> None:
        """Return when no transaction has been open for long on one of the tables.

        Raises Blocked, with names, where one is and `Patience.wait` does not say to wait for it.
        """
        deadline = time.monotonic() + self.patience.total / 1000
        said = ""
        while named := self._name_open(tables, self.patience.oldest / 1000):
            if not self.patience.wait or time.monotonic() > deadline:
                raise Blocked(
                    "A transaction has been open for long on the tables to change.",
                    why=f"Everybody else would wait behind the wait for it: {named}.",
                    next="End it (select pg_terminate_backend(pid)), or wait for it: "
                    "Patience(wait=True), with `alembic -x wait=yes`.",
                )
            if named != said:
                log.info("waiting, without a lock, for %s", named)
                said = named
            sleep(self._connection, 0.5)

    def _name_holders(self) -> str:
        """Who has the tables, where the wait was over before anybody looked."""
        return self._name_open(tuple(self._wanted), 0)

    def _name_open(self, tables: tuple[TableName, ...], seconds: float) -> str:
        """The sessions of which a transaction that is older holds locks on the tables."""
        values = {
            "schemas": [table.schema for table in tables],
            "tables": [table.name for table in tables],
            "seconds": seconds,
            "ours": [self.pid],
        }
        return "; ".join(_name_session(row) for row in self.look("old_transactions", values))

    def run(self, work: Callable[[], Result]) -> Result:
        """What the work returned; in a transaction of its own, again while a lock is not to be had.

        `work` must be safe to repeat; what it did is rolled back. Raises Blocked in the end.
        """
        deadline = time.monotonic() + self.patience.total / 1000
        attempt = 1
        while True:
            self._wait = self.patience.lock_timeout(attempt)
            self._in_the_way = ""
            self._wanted.clear()
            try:
                with self._transaction():
                    result = work()
            except DBAPIError as error:
                if sqlstate(error) not in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED):
                    raise
                held_by = self._in_the_way or self._name_holders() or "a session that has gone"
                pause = self.patience.pause(attempt)
                if attempt == self.patience.tries or time.monotonic() + pause > deadline:
                    raise Blocked(
                        f"A lock could not be had in {attempt} tries.",
                        why=f"In the way: {held_by}.",
                        next="End that transaction (select pg_terminate_backend(pid)) or wait for "
                        "it, then run the same command again.",
                    ) from error
                log.info(
                    "gave way after %s ms, trying again (%s of %s); in the way: %s",
                    self._wait,
                    attempt + 1,
                    self.patience.tries,
                    held_by,
                )
                sleep(self._connection, pause)
                attempt += 1
            else:
                self.steps += 1
                return result

    def run_concurrently(self, statement: str) -> None:
        """Run a statement that cannot be in a transaction: CREATE INDEX or REINDEX CONCURRENTLY.

        It holds up no reader and no writer while it waits, so it may wait as long as all tries
        together. Says who it waits for.
        """
        before = self._connection.execute(
            text(
                "select pg_catalog.current_setting('lock_timeout'),"
                " pg_catalog.current_setting('statement_timeout')"
            )
        ).one()
        self._in_the_way = ""
        self._set_timeouts(str(self.patience.total), "0")
        try:
            with self._watched(1.0, tell=True):
                self._execute(statement)
        except DBAPIError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            raise Blocked(
                "An index could not be built.",
                why=f"In the way: {self._in_the_way or 'a session that has gone'}.",
                next="End that transaction (select pg_terminate_backend(pid)) or wait for it, "
                "then run the same command again; what is half built is built anew.",
            ) from error
        finally:
            if not self._connection.invalidated:
                self._set_timeouts(*before)
        self.steps += 1

    def _execute(self, statement: str) -> None:
        # Without parameters the driver leaves a % in an identifier alone.
        self._connection.exec_driver_sql(statement, execution_options={"no_parameters": True})

    def _set_timeouts(self, lock_timeout: str, statement_timeout: str) -> None:
        self._connection.execute(
            text(
                "select pg_catalog.set_config('lock_timeout', :lock, false),"
                " pg_catalog.set_config('statement_timeout', :statement, false)"
            ),
            {"lock": lock_timeout, "statement": statement_timeout},
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction by hand: to Alembic and SQLAlchemy the connection is in autocommit."""
        self._execute("begin")
        try:
            # Each wait is bounded, so the role's own statement_timeout would only turn a wait
            # into an error that is not tried again.
            set_local(
                self._connection,
                lock_timeout=self._wait,
                statement_timeout=0,
                search_path="",
            )
            yield
            self._execute("commit")
        except BaseException:
            if not self._connection.invalidated:
                self._execute("rollback")
            raise

    @contextmanager
    def _watched(self, first: float, *, tell: bool = False) -> Iterator[None]:
        """While the statement inside runs, look (after `first` seconds) at who is in its way."""

        def look() -> bool:
            try:
                found = self.look("blockers", {"pid": self.pid})
            except DBAPIError as error:
                self._in_the_way = f"unknown ({str(error.orig).splitlines()[0]})"
                return False
            named = "; ".join(_name_session(row) for row in found)
            if tell and named and named != self._in_the_way:
                log.info("waiting for %s", named)
            self._in_the_way = named or self._in_the_way
            return True

        with beside(self._connection, look, first):
            yield


_BACKEND = text("select pg_catalog.pg_backend_pid()")
_DEADLOCK_TIMEOUT = text(
    "select cast(s.setting as integer) from pg_catalog.pg_settings as s"
    " where s.name = 'deadlock_timeout'"
)


def _name_session(row: Row[Any]) -> str:
    if not row.pid:
        return "a prepared transaction (see pg_prepared_xacts)"
    age = "" if row.seconds is None else f", {row.state}, for {row.seconds:.0f} s"
    query = " ".join((row.query or "").split())
    query = query if len(query) <= 100 else query[:99] + "…"
    return f"pid {row.pid} ({row.role}{age}: {query})"


@contextmanager
def open_executor(operations: Operations) -> Iterator[Executor]:
    """An executor on the migration's connection. What was done before it is committed.

    Raises ConfigError when env.py began a transaction that cannot be committed here. Every error of
    the server comes out as an FkdoctorError.
    """
    context = operations.get_context()
    connection = context.connection
    assert connection is not None
    if getattr(context, "_in_external_transaction", False):
        raise ConfigError(
            "The migration runs in a transaction that was begun outside of Alembic.",
            why="Changing a rule without stopping writers takes several short transactions.",
            next="In env.py use engine.connect() instead of engine.begin(), and "
            "context.configure(…, transaction_per_migration=True).",
        )
    patience = context.opts.get("fkdoctor_patience") or Patience()
    executor: Executor | None = None
    try:
        with context.autocommit_block(), connection.engine.connect() as observer:
            executor = Executor(connection, observer, patience)
            _refuse_pooler(connection, executor.pid, observer)
            yield executor
    except PendingRollbackError as error:
        # The connection broke: this is Alembic failing to tidy up after the first error.
        raise _connection_lost(error.__context__ or error) from error
    except DBAPIError as error:
        raise _explain(error, changed=executor is not None and executor.steps > 0) from error
    except Blocked as problem:
        if executor is None or not executor.steps:
            raise
        raise Incomplete(problem.what, why=problem.why, next=problem.next) from problem


def _refuse_pooler(connection: Connection, pid: int, observer: Connection) -> None:
    """Raises ConfigError when a pooler hands backends around.

    Then two open connections may be one backend, or one connection, asked again, another backend.
    """
    # Twice: each is a transaction of its own, for which a pooler may turn to the next backend.
    ours = {pid, *(connection.execute(_BACKEND).scalar_one() for _ in range(2))}
    with observer.begin():
        beside = observer.execute(_BACKEND).scalar_one()
    if beside in ours or len(ours) > 1:
        raise ConfigError(
            "The database is reached through a pooler that hands out transactions.",
            why="Timeouts would be set for other sessions, and who is in the way could not be "
            "told: a connection is no backend of its own.",
            next="Connect to the server itself, or to a pool in session mode.",
        )


def _explain(error: DBAPIError, *, changed: bool) -> FkdoctorError:
    if error.connection_invalidated:
        return _connection_lost(error)
    what, why, hint = _read_parts(error)
    if sqlstate(error) == REFUSED:
        return Refused(what, why=why, next=hint)
    if sqlstate(error) == READ_ONLY:
        return Refused(f"PostgreSQL: {what}.", why=why, next=remedy(error))
    # PostgreSQL's own hint may be DROP … CASCADE.
    next = "Settle that, then run the same command again"
    if changed:
        return Incomplete(f"PostgreSQL: {what}.", why=why, next=f"{next}: it goes on from there.")
    return Refused(f"PostgreSQL: {what}.", why=why, next=f"{next}. Nothing was changed.")


def _read_parts(error: DBAPIError) -> tuple[str, str, str]:
    """The server's message, detail and hint, each on one line."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        parts = [getattr(diagnosis, f"message_{name}") for name in ("primary", "detail", "hint")]
    else:  # asyncpg, behind SQLAlchemy's own error
        cause = getattr(error.orig, "__cause__", None)
        parts = [getattr(cause, name, None) for name in ("message", "detail", "hint")]
    what, why, hint = (" ".join((part or "").split()) for part in parts)
    return what or str(error.orig).splitlines()[0], why, hint


def _connection_lost(error: BaseException) -> Incomplete:
    original = getattr(error, "orig", None) or error
    return Incomplete(
        "The connection to the database was lost.",
        why=(str(original).strip().splitlines() or [type(original).__name__])[0],
        next="Run the same command again: it goes on from what is in the database.",
    )
