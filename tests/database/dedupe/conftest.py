"""A database with a ledger, and short ways to plan, apply and undo in it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from psycopg2.extensions import make_dsn
from sqlalchemy import Engine

from fkdoctor.config import Config, ReferenceConfig
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.dedupe.apply import apply_dedupe
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.policy import read_fields, read_rules
from fkdoctor.dedupe.progress import Progress
from fkdoctor.dedupe.undo import UndoProgress, undo_dedupe
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare
from fkdoctor.ledger.install import install_ledger

TABLES = """
    select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname not in
        ('information_schema', 'fkdoctor')
    order by 1, 2
"""


_NOT_BUILT_IN = ("ICU is not supported in this build", "unsupported XML feature")


@dataclass(frozen=True)
class Database:
    """A database with a ledger. `options` are libpq's, as in `-c timezone=UTC`."""

    url: str
    folder: Path

    def clean(self) -> None:
        """Nobody is connected, and there is nothing in the database but an empty ledger."""
        self.execute(CLEAN)

    def execute(self, statements: str, values: object = None) -> list[tuple[Any, ...]]:
        """The last statement's rows; everything is committed.

        The test is skipped where the server is built without the ICU or libxml that it takes.
        """
        with closing(psycopg2.connect(self.url)) as connection, connection:
            connection.set_client_encoding("UTF8")
            with connection.cursor() as cursor:
                try:
                    cursor.execute(statements, values)
                except psycopg2.errors.FeatureNotSupported as error:
                    if error.diag.message_primary not in _NOT_BUILT_IN:
                        raise
                    pytest.skip(error.diag.message_primary)
                return cursor.fetchall() if cursor.description else []

    def engine(self, **parameters: str) -> Engine:
        """An engine on it; parameters are libpq's, such as `options` or `user`."""
        return open_engine(resolve_target(make_dsn(self.url, **parameters), Config(), {}))

    def plan(
        self,
        table: str = "letter",
        match: tuple[str, ...] = ("same",),
        *,
        rules: Sequence[tuple[str, str]] = (),
        fields: Sequence[str] = (),
        references: Sequence[ReferenceConfig] = (),
        **parameters: str,
    ) -> Path:
        """The file of a plan in which rows that agree on `match` go, but for the lowest key.

        `rules` are pairs such as `("collisions", "link=newest")`, `fields` as `note=longest`,
        `references` those of fkdoctor.toml.
        """
        path = self.folder / f"{uuid4().hex}.plan.jsonl"
        with connect(self.engine(**parameters)) as connection:
            schema = declare(inspect_database(connection), Config(references=tuple(references)))
            name = schema.resolve_table(table)
            criteria = Criteria(
                match=match,
                survivor=(),
                rules=read_rules(schema, schema.resolve_table, rules),
                fields=read_fields(schema, schema.resolve_table, name, fields),
            )
            plan = plan_dedupe(connection, schema, name, criteria, path)
        assert not plan.obstacles, plan.obstacles
        return path

    def apply(
        self,
        path: Path,
        *,
        batch_size: int = 1_000,
        lock_timeout: int = 300,
        watch: Callable[[Engine], None] = lambda engine: None,
        how: Mapping[str, Any] | None = None,
        **parameters: str,
    ) -> Progress:
        """What was done in the end. `watch` sees the engine before it is used; `how` are further
        arguments."""
        engine = self.engine(**parameters)
        watch(engine)
        more = {"batch_size": batch_size, "lock_timeout": lock_timeout} | dict(how or {})
        with connect(engine) as connection:
            return apply_dedupe(connection, path, **more)

    def undo(
        self,
        run: int = 1,
        *,
        partly: bool = False,
        batch_size: int = 1_000,
        lock_timeout: int = 300,
        watch: Callable[[Engine], None] = lambda engine: None,
        **parameters: str,
    ) -> UndoProgress:
        """What was taken back in the end. `watch` sees the engine before it is used."""
        engine = self.engine(**parameters)
        watch(engine)
        with connect(engine) as connection:
            return undo_dedupe(
                connection,
                run,
                partly=partly,
                batch_size=batch_size,
                lock_timeout=lock_timeout,
            )

    def merge(self, table: str = "letter", match: tuple[str, ...] = ("same",)) -> Progress:
        """What was done in the end with a plan made just before."""
        return self.apply(self.plan(table, match))

    def contents(self) -> dict[str, list[str]]:
        """Every row of every table but the ledger's, as text, in the order of the texts."""
        found = {}
        with closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            connection.set_client_encoding("UTF8")
            cursor.execute("set timezone = 'UTC'; set search_path = ''; set xmloption = content")
            cursor.execute(TABLES)
            for schema, table in cursor.fetchall():
                name = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))
                cursor.execute(f'select r::text from only {name} as r order by r::text collate "C"')
                found[name] = [text for (text,) in cursor.fetchall()]
        return found

    def dump(self, pg_dump: Path) -> list[str]:
        """Structure and rows as pg_dump writes them, in the order of the lines."""
        command = [pg_dump, "--inserts", "--exclude-schema=fkdoctor", self.url]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        # \\restrict is followed by a random word.
        return sorted(line for line in text.splitlines() if "restrict " not in line[:14])

    def check_round_trip(self, repointed: int, table: str = "letter") -> None:
        """Merges the duplicates of the table, sees that nothing else went, and takes it back."""
        before = self.contents()
        done = self.merge(table)
        assert (done.repointed, done.stale) == (repointed, ())
        assert done.deleted > 0
        merged = self.contents()
        gone = {name: len(rows) - len(merged[name]) for name, rows in before.items()}
        assert sorted(gone.values())[-1] == sum(gone.values()) == done.deleted
        head = json.loads(self.plan(table).read_text().splitlines()[0])
        assert head["duplicates"] == 0, "a second plan finds something left to merge"
        back = self.undo(done.run_id)
        assert (back.restored, back.repointed, back.kept) == (done.deleted, repointed, ())
        assert self.contents() == before

    def status(self, run: int = 1) -> str:
        """The run's status in the ledger."""
        ((status,),) = self.execute("select status from fkdoctor.run where id = %s", (run,))
        return str(status)


CLEAN = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid();
    do $$ declare name text; begin
        for name in select nspname from pg_namespace
            where nspname !~ '^pg_' and nspname not in ('information_schema', 'fkdoctor')
        loop execute format('drop schema %I cascade', name); end loop;
        for name in select pubname from pg_publication
        loop execute format('drop publication %I', name); end loop;
    end $$;
    create schema public; grant usage on schema public to public;
    truncate fkdoctor.run, fkdoctor.step, fkdoctor.journal, fkdoctor.redirect restart identity;
"""


@pytest.fixture(scope="session")
def ledger_template(make_template: Callable[..., str]) -> str:
    """The name of a template with a ledger."""
    return make_template(_install)


def _install(url: str) -> None:
    with connect(open_engine(resolve_target(url, Config(), {}))) as connection:
        install_ledger(connection)


@pytest.fixture(scope="session")
def workbench(make_template: Callable[..., str]) -> str:
    """The URL of a database with a ledger, which tests use one after the other."""
    urls: list[str] = []

    def load(url: str) -> None:
        urls.append(url)
        _install(url)

    make_template(load)
    return urls[0]


@pytest.fixture
def db(workbench: str, tmp_path: Path) -> Database:
    """A database with a ledger and nothing else. Making a new one would take most of a test."""
    database = Database(workbench, tmp_path)
    database.clean()
    return database


@pytest.fixture
def at_database(tmp_path: Path) -> Callable[[str], Database]:
    """Called with a URL: the database there, which has a ledger."""
    return lambda url: Database(url, tmp_path)


@pytest.fixture
def role(superuser: None, server_url: str, db: Database) -> Iterator[str]:
    """A role that may work with the ledger, and nothing else."""
    name = f"fkd_role_{uuid4().hex}"
    db.execute(
        f"""
        create role {name} login;
        grant usage on schema fkdoctor to {name};
        grant select, insert, update, delete on all tables in schema fkdoctor to {name};
        """
    )
    try:
        yield name
    finally:
        db.execute(f"reset role; drop owned by {name} cascade; drop role {name}")
