"""How a preview compares with executing the DELETE and rolling it back: time, WAL, locks, memory.

    python benchmarks/preview_delete.py [--url URL] [--rows 200000,2000000] [--runs 3]

Five levels under CASCADE, ten rows below each row, half of each table deleted; beside them a table
that is set to NULL and one that could block. Without --url a server is started and thrown away;
with it, a database is made there and dropped, and WAL that others write counts too. Executing and
previewing alternate; the fastest run of each is printed, since what slows one down is the machine.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2
import sqlalchemy as sa
from scratch import database, server

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.impact.effect import Verdict
from fkdoctor.impact.preview import preview_delete
from fkdoctor.impact.scope import Scope
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.schema import Schema, TableName

LEVELS = 5
FAN_OUT = 10
RATIO, WAL_BYTES = 0.5, 1_000_000


@dataclass
class Measured:
    seconds: list[float] = field(default_factory=list)
    wal: int = 0
    locks: set[str] = field(default_factory=set)
    memory_kb: int = 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="a server on which a database may be made")
    parser.add_argument(
        "--rows", default="200000,2000000", help="deleted rows, with commas between"
    )
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    good = True
    with server(options.url) as url:
        for rows in (int(text) for text in options.rows.split(",")):
            with database(url) as own:
                good &= compare(own, rows, options.runs)
    return 0 if good else 1


def build(url: str, rows: int) -> int:
    """The number of roots; half of them are to be deleted."""
    roots = max(round(2 * rows / sum(FAN_OUT**level for level in range(LEVELS))), 2)
    lines = []
    for level in range(LEVELS):
        above = f"references l{level - 1} on delete cascade" if level else ""
        lines.append(f"create table l{level} (id int primary key, up int {above}, note text)")
        size = roots * FAN_OUT**level
        lines.append(
            f"insert into l{level} select i, i / {FAN_OUT}, repeat('x', 40)"
            f" from generate_series(0, {size - 1}) as i"
        )
        lines.append(f"create index on l{level} (up)")
    kept = roots * FAN_OUT**3 // 2
    lines += [
        "create table claim (id int primary key, l3 int references l3)",
        f"insert into claim select i, {kept} + i from generate_series(0, {kept - 1}) as i",
        "create table mark (id int primary key, l2 int references l2 on delete set null)",
        f"insert into mark select i, i from generate_series(0, {roots * FAN_OUT**2 - 1}) as i",
        "create index on claim (l3)",
        "create index on mark (l2)",
    ]
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for line in lines:
            cursor.execute(line)
        cursor.execute("vacuum (analyze)")
        cursor.execute("checkpoint")
    return roots


def compare(url: str, rows: int, runs: int) -> bool:
    roots = build(url, rows)
    engine = open_engine(resolve_target(url, Config(), {}))
    executed, previewed, bounded = Measured(), Measured(), Measured()
    deleted = 0
    with connect(engine) as connection:
        schema = inspect_database(connection)
        for _ in range(runs):
            with watch(connection, url, executed):
                deleted = execute(connection, roots)
            with watch(connection, url, previewed):
                found = preview(connection, schema, roots, Scope())
            assert found == deleted, f"the preview counts {found}, the DELETE {deleted}"
            with watch(connection, url, bounded):
                preview(connection, schema, roots, Scope(row_limit=1_000, shown=0))
    ratio = min(previewed.seconds) / min(executed.seconds)
    print(f"{deleted:,} rows deleted through {LEVELS} levels")
    for name, one in (
        ("execute, roll back", executed),
        ("preview", previewed),
        ("preview --limit 1000", bounded),
    ):
        print(
            f"  {name:<21} {min(one.seconds):7.2f} s  {one.wal / 1e6:9.2f} MB WAL  "
            f"{one.memory_kb / 1024:6.0f} MB backend  {', '.join(sorted(one.locks)) or 'no locks'}"
        )
    writes_locked = previewed.locks - {"AccessShareLock"}
    good = ratio <= RATIO and previewed.wal < WAL_BYTES and not writes_locked
    print(f"  ratio {ratio:.2f} (at most {RATIO}): {'good' if good else 'NOT GOOD'}", flush=True)
    return good


def execute(connection: sa.Connection, roots: int) -> int:
    query = "select coalesce(sum(n_tup_del), 0) from pg_stat_xact_user_tables"
    with connection.begin() as transaction:
        before = int(connection.exec_driver_sql(query).scalar_one())
        connection.exec_driver_sql(f"delete from l0 where id < {roots // 2}")
        connection.exec_driver_sql("set constraints all immediate")
        after = int(connection.exec_driver_sql(query).scalar_one())
        transaction.rollback()
    return after - before


def preview(connection: sa.Connection, schema: Schema, roots: int, scope: Scope) -> int:
    table = TableName("public", "l0")
    where = sa.column("id") < roots // 2
    impact = preview_delete(connection, schema, table, where=where, scope=scope)
    assert impact.verdict is (Verdict.UNCERTAIN if scope.row_limit else Verdict.ALLOWED)
    return impact.deleted_rows


@contextmanager
def watch(connection: sa.Connection, url: str, measured: Measured) -> Iterator[None]:
    """Measures what happens inside; another connection looks at its locks meanwhile."""
    with connection.begin():
        pid = int(connection.exec_driver_sql("select pg_backend_pid()").scalar_one())
    done = threading.Event()
    watcher = threading.Thread(target=look, args=(url, pid, measured, done.is_set))
    with closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        other.autocommit = True
        cursor.execute("select pg_current_wal_insert_lsn()")
        (before,) = cursor.fetchone() or ("0/0",)
        watcher.start()
        began = time.monotonic()
        yield
        measured.seconds.append(time.monotonic() - began)
        cursor.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)", (before,))
        measured.wal = max(measured.wal, int((cursor.fetchone() or (0,))[0]))
    done.set()
    watcher.join()


LOCKS = """
    select distinct l.mode from pg_locks as l join pg_class as c on c.oid = l.relation
    where l.pid = %s and c.relnamespace = 'public'::regnamespace
        and l.database = (select oid from pg_database where datname = current_database())
"""


def look(url: str, pid: int, measured: Measured, is_done: Callable[[], bool]) -> None:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while not is_done():
            cursor.execute(LOCKS, (pid,))
            measured.locks.update(mode for (mode,) in cursor)
            measured.memory_kb = max(measured.memory_kb, read_memory(pid))
            time.sleep(0.02)


def read_memory(pid: int) -> int:
    """The backend's own memory in kB, without shared buffers; 0 where it cannot be seen."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


if __name__ == "__main__":
    sys.exit(main())
