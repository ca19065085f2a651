"""Operations that are cut off at random, then done or undone: they end as if nothing had been.

By hand, on any server: python tests/database/revise/interruptions.py --url URL --originals 200
(`--cuts 0` cuts at every statement, `--kill 20` also kills `alembic upgrade` so often).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
from alembic.migration import MigrationContext
from alembic.operations import Operations
from originals import SCHEMAS, Original, draw_original
from sqlalchemy import event

from fkdoctor.config import Config
from fkdoctor.database import open_engine, resolve_target
from fkdoctor.embedded.binaries import find_client
from fkdoctor.errors import Blocked, Incomplete, Refused
from fkdoctor.revise import Patience
from fkdoctor.revise.rendering import render_operation
from fkdoctor.revise.reversible import Reversible

QUICK = Patience(first=50, longest=400, tries=500, total=60_000)

# Copies for referenced partitions stay as they were added before 18: nothing reads that.
STATE = """
    select 'key', k.conrelid::regclass || '.' || k.conname || ' -> ' || k.confrelid::regclass,
        case when k.conparentid <> 0 and current_setting('server_version_num')::int < 180000
            then replace(pg_get_constraintdef(k.oid), ' NOT VALID', '')
            else pg_get_constraintdef(k.oid) end,
        obj_description(k.oid, 'pg_constraint')
    from pg_constraint as k where k.contype in ('f', 'u') and k.connamespace = any ({schemas})
    union all
    select 'index', c.oid::regclass || coalesce(' of ' || h.inhparent::regclass, ''),
        pg_get_indexdef(c.oid) || ' ' || i.indisvalid, obj_description(c.oid, 'pg_class')
    from pg_index as i join pg_class as c on c.oid = i.indexrelid
    left join pg_inherits as h on h.inhrelid = c.oid
    where c.relnamespace = any ({schemas})
    union all
    select 'column', c.oid::regclass || '.' || a.attname, format_type(a.atttypid, a.atttypmod),
        col_description(c.oid, a.attnum)
    from pg_class as c join pg_attribute as a on a.attrelid = c.oid
    where c.relnamespace = any ({schemas}) and c.relkind in ('r', 'p', 'v') and a.attnum > 0
        and not a.attisdropped
    order by 1, 2, 3
""".replace(
    "{schemas}",
    f"array(select oid from pg_namespace where nspname in ('{SCHEMAS[0]}', '{SCHEMAS[1]}'))",
)
TABLES = f"""
    select c.oid::regclass::text from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where n.nspname in ('{SCHEMAS[0]}', '{SCHEMAS[1]}') and c.relkind in ('r', 'p') order by 1
"""
ROWS = "select md5(string_agg(t::text, chr(10) order by t::text)) from {} as t"


def dump_structure(program: Path, url: str) -> str:
    """The database's structure as that pg_dump writes it."""
    command = [program, "--schema-only", "--exclude-table=alembic_version*", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    # A \restrict is followed by a random word.
    return "".join(line for line in text.splitlines(keepends=True) if "restrict " not in line[:14])


class Wrong(AssertionError):
    """Something ended otherwise than it would have."""


class Trial:
    """One database in which originals are made, one after the other."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.tally: Counter[str] = Counter()
        with closing(psycopg2.connect(url)) as connection:
            self.major = connection.server_version // 10_000
        self._program = find_client("pg_dump", major=self.major)

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """The last statement's rows; everything is committed."""
        with (
            closing(psycopg2.connect(self.url)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def make(self, original: Original) -> bool:
        """Whether PostgreSQL takes the original's tables; now there is nothing else."""
        drops = [f'drop schema if exists "{name}" cascade' for name in SCHEMAS]
        self.run("set client_min_messages = error", *drops)
        try:
            self.run(*original.build)
        except psycopg2.errors.InvalidObjectDefinition:
            # Of two equal keys of a partitioned table, 18 wants both enforced or neither.
            self.tally["impossible"] += 1
            return False
        return True

    def state(self) -> list[tuple[Any, ...]]:
        """All that an operation could have changed, rows included."""
        tables = [name for (name,) in self.run(TABLES)]
        rows = [("rows", name, self.run(ROWS.format(name))) for name in tables]
        return [*self.run(STATE), *rows]

    def dump(self) -> str:
        """The structure as pg_dump writes it."""
        assert self._program is not None
        return dump_structure(self._program, self.url)

    def operate(self, operation: Reversible, cut: int = 0) -> bool:
        """Whether it came to its end; the connection is cut before statement number `cut`."""
        engine = open_engine(resolve_target(self.url, Config(), {}))
        cutter = _Cutter(self, cut)
        event.listen(engine, "before_cursor_execute", cutter.before)
        try:
            with engine.connect() as connection:
                opts = {"transaction_per_migration": True, "fkdoctor_patience": QUICK}
                context = MigrationContext.configure(connection, opts=opts)
                with context.begin_transaction(_per_migration=True):
                    Operations(context).invoke(operation)
        except Incomplete:
            if not cutter.cut:
                raise
            return False
        finally:
            self.statements = cutter.seen
            engine.dispose()
        return True

    def check(self, original: Original, rng: random.Random, cuts: int) -> None:
        """Raises Wrong unless it ends as without a cut; `cuts` is how many to try, 0 for all."""
        if not self.make(original):
            return
        there, back = original.operation, original.operation.reverse()
        before, dumped = self.state(), self.dump()
        try:
            self.operate(there)
        except (Refused, Blocked) as problem:
            self.tally["refused"] += 1
            self._compare(before, f"refused, {problem.what}")
            return
        total, after = self.statements, self.state()
        self.tally["changed something" if after != before else "nothing to do"] += 1
        self.operate(there)
        self._compare(after, "done a second time")
        self.operate(back)
        total_back = self.statements
        self._compare(before, "taken back")
        if self.dump() != dumped:
            raise Wrong("the dump is another one after there and back")
        numbers: Iterable[int] = range(1, max(total, total_back) + 1)
        if cuts:
            numbers = sorted(rng.sample(list(numbers), min(cuts, len(list(numbers)))))
        for number in numbers:
            if not self.operate(there, number):
                self.tally["cut there"] += 1
                if rng.random() < 0.3:
                    self.operate(back)
                    self.tally["taken back after a cut"] += 1
                    self._compare(before, f"cut at {number} and taken back")
                self.operate(there)
            self._compare(after, f"cut at {number} and done again")
            if not self.operate(back, number):
                self.tally["cut back"] += 1
                self.operate(back)
            self._compare(before, f"cut at {number} on the way back and done again")

    def kill(self, original: Original, rng: random.Random, kills: int) -> None:
        """As `check`, with `kill -9` of `alembic upgrade` and `downgrade` at random moments."""
        if not self.make(original):
            return
        before, dumped = self.state(), self.dump()
        try:
            self.operate(original.operation)
        except (Refused, Blocked):
            return
        after = self.state()
        self.operate(original.operation.reverse())
        with tempfile.TemporaryDirectory() as folder:
            tree = _Tree(Path(folder), self.url, original.operation)
            ways = {"upgrade": ("head", after), "downgrade": ("base", before)}
            for way, (goal, wanted) in ways.items():
                other, start = next((w, ways[w][0]) for w in ways if w != way)
                longest = 1.0
                for _ in range(kills):
                    lasted = tree.run(way, goal, seconds=rng.uniform(0, longest))
                    if lasted is None:
                        self.tally[f"{way} killed"] += 1
                    else:  # It came to its end first; now it is known when to kill it.
                        longest = lasted
                        tree.run(other, start)
                tree.run(way, goal)
                self._compare(wanted, f"{way} killed and run again")
        if self.dump() != dumped:
            raise Wrong("the dump is another one after there and back")

    def _compare(self, wanted: list[tuple[Any, ...]], when: str) -> None:
        found = self.state()
        if found != wanted:
            missing = [row for row in wanted if row not in found]
            surplus = [row for row in found if row not in wanted]
            raise Wrong(f"{when}: missing {missing}, surplus {surplus}")


class _Cutter:
    def __init__(self, trial: Trial, number: int) -> None:
        self._trial = trial
        self._number = number
        self._thread = threading.current_thread()
        self.seen = 0
        self.cut = False

    def before(self, connection: Any, *_: object) -> None:
        # The watcher has a thread of its own, and may or may not get to look.
        if threading.current_thread() is not self._thread:
            return
        self.seen += 1
        if self.seen == self._number:
            self.cut = True
            pid = connection.connection.dbapi_connection.info.backend_pid
            self._trial.run(f"select pg_terminate_backend({pid})")
            while self._trial.run(f"select 1 from pg_stat_activity where pid = {pid}"):
                pass


_ENV = """
import sys
from alembic import context
from fkdoctor.config import Config
from fkdoctor.database import open_engine, resolve_target
from fkdoctor.revise import Patience

target = resolve_target(context.config.get_main_option("url"), Config(), {})
with open_engine(target).connect() as connection:
    context.configure(
        connection=connection,
        transaction_per_migration=True,
        fkdoctor_patience=Patience(first=50, longest=400, tries=500, total=60_000),
    )
    print("ready", flush=True)
    with context.begin_transaction():
        context.run_migrations()
"""


class _Tree:
    """An Alembic tree with one revision, for the operation."""

    def __init__(self, folder: Path, url: str, operation: Reversible) -> None:
        self._folder = folder
        (folder / "versions").mkdir()
        (folder / "alembic.ini").write_text(
            f"[alembic]\nscript_location = {folder}\nurl = {url.replace('%', '%%')}\n"
        )
        (folder / "env.py").write_text(_ENV)
        body = '"""The operation."""\nimport fkdoctor.revise\nfrom alembic import op\n'
        body += 'revision, down_revision = "1", None\n'
        for function, one in (("upgrade", operation), ("downgrade", operation.reverse())):
            lines = render_operation(one).replace("\n", "\n    ")
            body += f"def {function}():\n    {lines}\n"
        (folder / "versions" / "one.py").write_text(body)

    def run(self, *arguments: str, seconds: float | None = None) -> float | None:
        """Seconds until it had done its work; None if it was killed before, `seconds` after."""
        command = [sys.executable, "-m", "alembic", "-c", str(self._folder / "alembic.ini")]
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        with process:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise Wrong(process.communicate()[1])
            began = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            lasted = time.monotonic() - began
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            errors = process.communicate()[1]
        if process.returncode == -signal.SIGKILL:
            return None
        if process.returncode:
            raise Wrong(errors)
        return lasted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="an empty database to work in")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--originals", type=int, default=100)
    parser.add_argument("--only", type=int)
    parser.add_argument("--cuts", type=int, default=0, help="per original; 0: all statements")
    parser.add_argument("--kill", type=int, default=0, metavar="TIMES")
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.originals)
    trial, wrong = Trial(options.url), 0
    for number in [options.only] if options.only is not None else numbers:
        original = draw_original(options.seed, number, trial.major)
        rng = random.Random(f"cuts {options.seed}:{number}")
        try:
            trial.check(original, rng, options.cuts)
            if options.kill:
                trial.kill(original, rng, options.kill)
        except Exception as problem:
            wrong += 1
            print(f"{original}\n-- {type(problem).__name__}: {problem}\n", flush=True)
            if wrong == 5:
                break
    print(f"PostgreSQL {trial.major}: {wrong} wrong;", dict(trial.tally))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
