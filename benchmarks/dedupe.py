"""How merging with a journal compares with a naive loop and with hand-written SQL without one.

    python benchmarks/dedupe.py [--url URL] [--rows 20000,80000,320000] [--batch-size 10000]

A tenth of the rows are duplicates. Eight rows of a wide table reference each row, two of a table in
which some collide once repointed, and two of a link table whose primary key is the reference. Each
way merges the same rows in a copy of the same database; what is left is compared.
Without --url a server is started and thrown away; with it, databases are made there and dropped.
Seconds hang on the machine, ratios hardly do.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg2
from psycopg2.extensions import make_dsn

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.dedupe.apply import apply_dedupe
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.undo import undo_dedupe
from fkdoctor.embedded import start_server
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import install_ledger

SCHEMA = """
    create table letter (id int primary key, same int not null, title text, body text);
    create table visit (id int primary key, letter_id int not null references letter, note text);
    create table mark (id int primary key, letter_id int not null references letter, tag int,
        unique (letter_id, tag));
    create table link (letter_id int references letter on delete cascade, person int,
        primary key (letter_id, person));
"""
# Row n of the last tenth is a duplicate of row n - 9/10.
ROWS = """
    insert into letter select n, case when n > {kept} then n - {kept} else n end,
        'title ' || n, repeat('x', 300) from generate_series(1, {rows}) as n;
    insert into visit select n, 1 + n % {rows}, repeat('y', 100)
        from generate_series(1, {rows} * 8) as n;
    insert into mark select n * 2 + t, n, case when t = 0 then 0 else n end
        from generate_series(1, {rows}) as n, generate_series(0, 1) as t;
    insert into link select n, t * n from generate_series(1, {rows}) as n,
        generate_series(0, 1) as t;
    create index on visit (letter_id);
"""
BY_HAND = """
    create temporary table map on commit drop as
        select n.id as old, k.id as new from letter as n
        join letter as k on k.same = n.same and k.id < n.id;
    alter table map add primary key (old);
    analyze map;
    update visit set letter_id = m.new from map as m where letter_id = m.old;
    delete from mark as l using map as m where l.letter_id = m.old and exists (
        select 1 from mark as k where k.letter_id = m.new and k.tag = l.tag);
    update mark set letter_id = m.new from map as m where letter_id = m.old;
    delete from link as l using map as m where l.letter_id = m.old and exists (
        select 1 from link as k where k.letter_id = m.new and k.person = l.person);
    update link set letter_id = m.new from map as m where letter_id = m.old;
    delete from letter using map as m where id = m.old;
"""
ONE_BY_ONE = """
    update visit set letter_id = {new} where letter_id = {old};
    delete from mark as l where letter_id = {old} and exists (
        select 1 from mark as k where k.letter_id = {new} and k.tag = l.tag);
    update mark set letter_id = {new} where letter_id = {old};
    delete from link as l where letter_id = {old} and exists (
        select 1 from link as k where k.letter_id = {new} and k.person = l.person);
    update link set letter_id = {new} where letter_id = {old};
    delete from letter where id = {old};
"""
STATE = """
    select (select md5(string_agg(t::text, ',' order by t.id)) from letter as t),
        (select md5(string_agg(t::text, ',' order by t.id)) from visit as t),
        (select md5(string_agg(t::text, ',' order by t.letter_id, t.tag)) from
            (select letter_id, tag from mark) as t),
        (select md5(string_agg(t::text, ',' order by t)) from link as t)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="a server on which databases may be made")
    parser.add_argument("--rows", default="20000,80000,320000", help="with commas between")
    parser.add_argument("--batch-size", type=int, default=10_000)
    options = parser.parse_args()
    with server(options.url) as url:
        for rows in (int(text) for text in options.rows.split(",")):
            compare(url, rows, options.batch_size)
    return 0


@contextmanager
def server(url: str | None) -> Iterator[str]:
    if url:
        yield url
    else:
        with start_server() as started:
            yield started.url()


def compare(url: str, rows: int, batch_size: int) -> None:
    template = f"fkd_benchmark_{uuid4().hex}"
    run(url, f"create database {template}")
    own = make_dsn(url, dbname=template)
    with connect(open_engine(resolve_target(own, Config(), {}))) as connection:
        install_ledger(connection)
    run(own, SCHEMA + ROWS.format(rows=rows, kept=rows - rows // 10))
    run(own, "vacuum (analyze)")
    duplicates = rows // 10
    ways: dict[str, Callable[[str], dict[str, float]]] = {
        "naive loop, a commit per duplicate": lambda at: loop(at, duplicates, rows, each=True),
        "naive loop, one transaction": lambda at: loop(at, duplicates, rows, each=False),
        "by hand, set-based": lambda at: {"": timed(lambda: run(at, BY_HAND))},
        "fkdoctor": lambda at: ours(at, batch_size),
    }
    print(f"{duplicates:,} duplicates in {rows:,} rows")
    states, base = set(), 0.0
    for name, way in ways.items():
        with copy(url, template) as at:
            for part, seconds in way(at).items():
                base = seconds if name.startswith("by hand") else base
                ratio = f"{seconds / base:6.2f}x" if base else ""
                label = f"{name} {part}".strip()
                print(f"  {label:<36} {seconds:8.2f} s  {duplicates / seconds:8,.0f}/s {ratio}")
            if name != "fkdoctor":  # which has undone it again
                states.add(tuple(run(at, STATE)[0]))
            else:
                states.add(STATES.pop())
    run(url, f"drop database {template}")
    print("  all leave the same rows" if len(states) == 1 else "  NOT THE SAME ROWS", flush=True)


STATES: list[tuple[object, ...]] = []


@contextmanager
def copy(url: str, template: str) -> Iterator[str]:
    name = f"fkd_benchmark_{uuid4().hex}"
    run(url, f"create database {name} template {template}")
    run(url, "checkpoint")
    try:
        yield make_dsn(url, dbname=name)
    finally:
        run(url, f"drop database {name}")


def run(url: str, statements: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = "database" in statements or "vacuum" in statements
        cursor.execute(statements)
        connection.commit()
        return cursor.fetchall() if cursor.description else []


def timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def loop(url: str, duplicates: int, rows: int, *, each: bool) -> dict[str, float]:
    """Of so many duplicates at most 2,000, and the rest estimated by them."""
    some = min(duplicates, 2_000) if each else duplicates
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:

        def merge(numbers: range) -> None:
            for number in numbers:
                old = rows - duplicates + number
                cursor.execute(ONE_BY_ONE.format(old=old, new=number))
                if each:
                    connection.commit()
            connection.commit()

        seconds = timed(lambda: merge(range(1, some + 1))) * duplicates / some
        merge(range(some + 1, duplicates + 1))
    return {"": seconds}


def ours(url: str, batch_size: int) -> dict[str, float]:
    path = Path(tempfile.mkdtemp()) / "plan.jsonl"
    engine = open_engine(resolve_target(url, Config(), {}))
    found = {}
    with connect(engine) as connection:
        schema = inspect_database(connection)
        name = schema.resolve_table("letter")
        criteria = Criteria(match=("same",), survivor=())
        found["plan"] = timed(lambda: plan_dedupe(connection, schema, name, criteria, path))
        found["apply"] = timed(lambda: apply_dedupe(connection, path, batch_size=batch_size))
        STATES.append(tuple(run(url, STATE)[0]))
        found["undo"] = timed(lambda: undo_dedupe(connection, 1, batch_size=batch_size))
    return found


if __name__ == "__main__":
    sys.exit(main())
