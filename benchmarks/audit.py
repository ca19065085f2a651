"""How long the audit of a large catalog takes, beside SQLAlchemy's inspector and PostgreSQL itself.

    python benchmarks/audit.py [--url URL] [--tables 2000] [--keys 5000] [--runs 5]

A schema of so many tables and keys is made, and one four times as large. In turn and in one
process: fkdoctor reads and judges, SQLAlchemy's inspector reads the foreign keys, columns and
indexes of the same schema, and psycopg2 fetches the bare rows of three catalogs. Without --url a
server is started and thrown away; with it, a database is made there and dropped. The best of the
runs is printed, which other work on the machine disturbs least. Seconds hang on the machine, the
ratios hardly do.
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TypeVar

import psycopg2
import sqlalchemy as sa
from scratch import database, server

from fkdoctor.audit import audit_schema
from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.inspect.catalog import inspect_database

Result = TypeVar("Result")

LIMIT, GROWTH = 1.0, 1.25
"""Seconds for the smaller schema; how much more than its keys the time may grow."""

BARE = (
    "select attrelid, attname, atttypid, attnotnull from pg_attribute where attnum > 0",
    "select conrelid, confrelid, conkey, confkey, confdeltype from pg_constraint",
    "select indrelid, indkey, indisunique from pg_index",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="a server on which a database may be made")
    parser.add_argument("--tables", type=int, default=2_000)
    parser.add_argument("--keys", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    totals = []
    with server(options.url) as url:
        for factor in (1, 4):
            with database(url) as own:
                make_schema(own, options.tables * factor, options.keys * factor)
                totals.append(measure(own, options.runs))
    growth = totals[1] / totals[0] / 4
    print(f"four times the tables and keys: {growth:.2f} times as long for each key")
    good = totals[0] < LIMIT and growth < GROWTH
    print("as promised" if good else f"NOT as promised: {LIMIT} s, {GROWTH} times")
    return 0 if good else 1


def make_schema(url: str, tables: int, keys: int) -> None:
    """Tables with keys to one another: a few that many reference, four rules, half indexed."""
    chance = random.Random(1)
    rules = ("cascade", "set null", "no action", "restrict")
    per_table = Counter(chance.randrange(1, tables) for _ in range(keys))
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        for number in range(tables):
            columns = [
                "id bigint primary key",
                "name text",
                "state varchar(20) check (state <> '')",
            ]
            indexes = []
            for key in range(per_table[number]):
                hub = chance.random() < 0.3
                target = chance.randrange(min(number, 20) if hub else number)
                columns.append(
                    f"c{key}_id bigint references t{target} on delete {chance.choice(rules)}"
                )
                if chance.random() < 0.5:
                    indexes.append(f"create index on t{number} (c{key}_id)")
            cursor.execute(f"create table t{number} ({', '.join(columns)}); {'; '.join(indexes)}")
            if number % 200 == 199:
                connection.commit()
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("vacuum analyze pg_catalog.pg_attribute, pg_catalog.pg_constraint")


def measure(url: str, runs: int) -> float:
    """The seconds of the best audit."""
    engine = open_engine(resolve_target(url, Config(), {}))
    times: dict[str, list[float]] = {"read": [], "judge": [], "inspector": [], "bare": []}
    own: list[float] = []
    for _ in range(runs):
        with connect(engine) as connection:
            started = time.process_time()
            schema = timed(times["read"], partial(inspect_database, connection))
            findings = timed(times["judge"], partial(audit_schema, schema))
            own.append(time.process_time() - started)
        with connect(engine) as connection, connection.begin():
            timed(times["inspector"], partial(ask_inspector, connection))
            timed(times["bare"], partial(fetch_bare, connection))
    best = {name: min(found) for name, found in times.items()}
    total = min(map(sum, zip(times["read"], times["judge"], strict=True)))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    ratio = total / best["inspector"]
    print(
        f"{len(schema.tables):,} tables, {len(schema.foreign_keys):,} keys, "
        f"{len(findings):,} findings: read {best['read']:.2f} s, judge {best['judge']:.2f} s, "
        f"together {total:.2f} s, {min(own):.2f} s of it our own CPU; "
        f"SQLAlchemy's inspector {best['inspector']:.2f} s "
        f"(audit / inspector = {ratio:.2f}), bare rows {best['bare']:.2f} s "
        f"(read / bare = {best['read'] / best['bare']:.1f}); at most {memory} MiB"
    )
    return total


def timed(into: list[float], work: Callable[[], Result]) -> Result:
    start = time.perf_counter()
    result = work()
    into.append(time.perf_counter() - start)
    return result


def ask_inspector(connection: sa.Connection) -> None:
    inspector = sa.inspect(connection)
    inspector.get_multi_foreign_keys()
    inspector.get_multi_columns()
    inspector.get_multi_indexes()


def fetch_bare(connection: sa.Connection) -> None:
    for query in BARE:
        connection.exec_driver_sql(query).all()


if __name__ == "__main__":
    sys.exit(main())
