"""How merging with a journal compares with loops and with hand-written SQL without one.

    python benchmarks/dedupe.py [--url URL] [--rows 62500] [--times 1,4,16] [--ways hand,fkdoctor]

A tenth of the rows are duplicates. Eight rows of a wide table reference each row, two of a table in
which some collide once repointed, and two of a link table whose primary key is the reference. Each
way merges the same rows in a copy of the same database; what is left is compared.
Beside the seconds stands the processor time of client and server together, where the server is on
this machine under Linux: on a busy machine it says more. Of the loops, 2,000 duplicates (ORM: 200)
are merged and the rest is estimated by them. Without --url a server is started and thrown away;
with it, databases are made there and dropped.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import sqlalchemy as sa
from scratch import database, execute, server
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column, relationship

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.dedupe.apply import apply_dedupe
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.undo import undo_dedupe
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import install_ledger

SOME = 2_000
"""So many duplicates are merged by a loop; the rest is estimated."""

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
MAP = """
    create temporary table map on commit drop as
        select n.id as old, k.id as new from letter as n
        join letter as k on k.same = n.same and k.id < n.id;
    alter table map add primary key (old);
    analyze map;
"""
# Each with what it takes to undo it.
CHANGES = {
    "update visit set letter_id = m.new from map as m where letter_id = m.old": "visit.id, m.old",
    """delete from mark as l using map as m where l.letter_id = m.old and exists (
        select 1 from mark as k where k.letter_id = m.new and k.tag = l.tag)""": "l.*",
    "update mark set letter_id = m.new from map as m where letter_id = m.old": "mark.id, m.old",
    """delete from link as l using map as m where l.letter_id = m.old and exists (
        select 1 from link as k where k.letter_id = m.new and k.person = l.person)""": "l.*",
    "update link set letter_id = m.new from map as m where letter_id = m.old": "link.*, m.old",
    "delete from letter using map as m where id = m.old": "letter.*",
}
BY_HAND = MAP + ";".join(CHANGES)
WITH_JOURNAL = f"{MAP} create table kept (step int, row jsonb);" + ";".join(
    f"with done as ({change} returning {kept})"
    f" insert into kept select {step}, to_jsonb(done) from done"
    for step, (change, kept) in enumerate(CHANGES.items())
)
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
STATE = " union all ".join(
    f"select count(*), sum(hashtextextended(t::text, 0)) from {rows} as t"
    for rows in ("letter", "visit", "(select letter_id, tag from mark)", "link")
)


class Base(DeclarativeBase):
    pass


class Letter(Base):
    __tablename__ = "letter"
    id = mapped_column(sa.Integer, primary_key=True)
    visits = relationship("Visit")
    marks = relationship("Mark")
    links = relationship("Link", passive_deletes=True)


class Visit(Base):
    __tablename__ = "visit"
    id = mapped_column(sa.Integer, primary_key=True)
    letter_id = mapped_column(sa.ForeignKey("letter.id"))


class Mark(Base):
    __tablename__ = "mark"
    id = mapped_column(sa.Integer, primary_key=True)
    letter_id = mapped_column(sa.ForeignKey("letter.id"))
    tag = mapped_column(sa.Integer)


class Link(Base):
    __tablename__ = "link"
    letter_id = mapped_column(sa.ForeignKey("letter.id"), primary_key=True)
    person = mapped_column(sa.Integer, primary_key=True)


@dataclass
class Taken:
    """Seconds, those of the processors if they are known, and bytes of WAL."""

    seconds: float
    busy: float | None
    wal: float

    def times(self, factor: float) -> Taken:
        return Taken(self.seconds * factor, self.busy and self.busy * factor, self.wal * factor)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="a server on which databases may be made")
    parser.add_argument("--rows", type=int, default=62_500)
    parser.add_argument("--times", default="1,4,16", help="sizes, with commas between")
    parser.add_argument("--ways", default=",".join(WAYS), help="with commas between")
    options = parser.parse_args()
    with server(options.url) as url:
        for times in (int(text) for text in options.times.split(",")):
            compare(url, options.rows * times, options.ways.split(","))
    return 0


def compare(url: str, rows: int, ways: list[str]) -> None:
    duplicates = rows // 10
    print(f"{duplicates:,} duplicates in {rows:,} rows", flush=True)
    with database(url) as own:
        with connect(open_engine(resolve_target(own, Config(), {}))) as connection:
            install_ledger(connection)
        execute(own, SCHEMA + ROWS.format(rows=rows, kept=rows - duplicates))
        execute(own, "vacuum (analyze)", alone=True)
        template = str(psycopg2.extensions.parse_dsn(own)["dbname"])
        states, base = set(), None
        for way in ways:
            with database(url, template) as at:
                name, merge = WAYS[way]
                found, note, state = merge(at, duplicates, rows)
                for part, taken in found.items():
                    base = taken if way == "hand" else base
                    print(
                        line(f"{name} {part}".strip(), taken, base, duplicates) + note, flush=True
                    )
                states |= {state} if state else set()
    print("  all leave the same rows" if len(states) == 1 else "  NOT THE SAME ROWS", flush=True)


def line(label: str, taken: Taken, base: Taken | None, duplicates: int) -> str:
    told = f"  {label:<32}{taken.seconds:9.2f} s {duplicates / taken.seconds:9,.0f}/s"
    told += f"{taken.seconds / base.seconds:7.2f}x" if base else " " * 8
    if taken.busy:
        told += f"   busy {taken.busy:7.2f} s"
        told += f"{taken.busy / base.busy:7.2f}x" if base and base.busy else ""
    return f"{told}   WAL {taken.wal / 1e6:6,.0f} MB"


def busy(pid: int) -> float | None:
    """The processor seconds of this process and of the server's."""
    try:
        spent = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError):
        return None
    return spent + time.process_time()


def timed(url: str, pid: int, work: Callable[[], object]) -> Taken:
    """What the work took, right after a checkpoint."""
    execute(url, "checkpoint", alone=True)
    written, before, began = wal(url), busy(pid), time.monotonic()
    work()
    seconds, after = time.monotonic() - began, busy(pid)
    spent = after - before if after and before else None
    return Taken(seconds, spent, wal(url) - written)


def wal(url: str) -> float:
    """The bytes of WAL that the server has written."""
    ((written,),) = execute(url, "select pg_current_wal_insert_lsn() - '0/0'")
    return float(str(written))


Found = tuple[dict[str, Taken], str, tuple[object, ...] | None]


def by_hand(url: str, duplicates: int, rows: int, *, statements: str) -> Found:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:

        def merge() -> None:
            cursor.execute(statements)
            connection.commit()

        taken = timed(url, connection.get_backend_pid(), merge)
    return {"": taken}, "", tuple(execute(url, STATE))


def loop(url: str, duplicates: int, rows: int, *, each: bool) -> Found:
    some = min(duplicates, SOME)
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:

        def merge(numbers: range) -> None:
            for number in numbers:
                old = rows - duplicates + number
                for statement in ONE_BY_ONE.format(old=old, new=number).split(";")[:-1]:
                    cursor.execute(statement)
                if each:
                    connection.commit()
            connection.commit()

        pid = connection.get_backend_pid()
        taken = timed(url, pid, lambda: merge(range(1, some + 1))).times(duplicates / some)
        if duplicates > 10 * SOME:
            return {"": taken}, "", None
        merge(range(some + 1, duplicates + 1))
    return {"": taken}, "", tuple(execute(url, STATE))


def orm(url: str, duplicates: int, rows: int) -> Found:
    some = min(duplicates, SOME // 10)
    engine = open_engine(resolve_target(url, Config(), {}))
    with Session(engine) as session:

        def merge() -> None:
            for number in range(1, some + 1):
                survivor = session.get(Letter, number)
                duplicate = session.get(Letter, rows - duplicates + number)
                assert survivor
                assert duplicate
                for visit in list(duplicate.visits):
                    visit.letter_id = survivor.id
                for held, value in (("marks", "tag"), ("links", "person")):
                    there = {getattr(one, value) for one in getattr(survivor, held)}
                    for one in list(getattr(duplicate, held)):
                        if getattr(one, value) in there:
                            session.delete(one)
                        else:
                            one.letter_id = survivor.id
                session.flush()
                session.expire(duplicate)
                session.delete(duplicate)
                session.flush()
            session.commit()

        pid = session.execute(sa.text("select pg_backend_pid()")).scalar_one()
        return {"": timed(url, pid, merge).times(duplicates / some)}, "", None


def ours(url: str, duplicates: int, rows: int) -> Found:
    """In a process of its own, of which the memory can be told."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(measure_ours, url).result()


def measure_ours(url: str) -> Found:
    path = Path(tempfile.mkdtemp()) / "plan.jsonl"
    engine = open_engine(resolve_target(url, Config(), {}))
    with connect(engine) as connection:
        pid = connection.execute(sa.text("select pg_backend_pid()")).scalar_one()
        connection.rollback()
        schema = inspect_database(connection)
        name = schema.resolve_table("letter")
        criteria = Criteria(match=("same",), survivor=())
        plan = timed(url, pid, lambda: plan_dedupe(connection, schema, name, criteria, path))
        apply = timed(url, pid, lambda: apply_dedupe(connection, path))
        state = tuple(execute(url, STATE))
        undo = timed(url, pid, lambda: undo_dedupe(connection, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"plan": plan, "apply": apply, "undo": undo}, f"   peak {peak:.0f} MB", state


WAYS: dict[str, tuple[str, Callable[[str, int, int], Found]]] = {
    "hand": ("by hand, set-based", lambda *of: by_hand(*of, statements=BY_HAND)),
    "journal": ("by hand, with a journal", lambda *of: by_hand(*of, statements=WITH_JOURNAL)),
    "fkdoctor": ("fkdoctor", ours),
    "loop": ("naive loop, one transaction", lambda *of: loop(*of, each=False)),
    "commits": ("naive loop, a commit each", lambda *of: loop(*of, each=True)),
    "orm": ("ORM loop, one transaction", orm),
}


if __name__ == "__main__":
    sys.exit(main())
