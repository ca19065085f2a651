"""On a standby what reads answers, and what writes refuses and says where to go."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

import fkdoctor.revise  # noqa: F401  registers the operations
from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.embedded import start_server
from fkdoctor.embedded.account import choose_account
from fkdoctor.errors import Refused
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import install_ledger
from fkdoctor.softdelete.delete import soft_delete
from fkdoctor.softdelete.selection import Selection

Run = Callable[..., Any]
TABLES = """
    create table letter (id int primary key, url text, deleted_at timestamptz, deletion_id uuid);
    create table answer (id int primary key, letter_id int constraint k references letter,
        deleted_at timestamptz, deletion_id uuid);
    create table bare (id int primary key, letter_id int);
    create table page (id int primary key, letter_id int references letter);
    create table twin (id int primary key, url text);
    insert into twin select n, 'same' from generate_series(1, 3) as n;
    insert into letter (id, url) select n, n / 2 from generate_series(1, 10) as n;
    insert into answer (id, letter_id) select n, n from generate_series(1, 5) as n;
    alter table answer add constraint unchecked foreign key (letter_id) references letter not valid,
        add constraint changed foreign key (letter_id) references letter;
"""


class Standby(NamedTuple):
    """Its address, what its primary had soft-deleted, and a plan that was made there."""

    url: str
    deletion: str
    plan: str


@pytest.fixture(scope="module")
def standby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standby]:
    """A standby of a server of ours; it starts from a copy, and its primary sends it no more."""
    account = choose_account()
    with start_server(extra_settings={"autovacuum": "off"}) as primary:
        engine = open_engine(resolve_target(primary.url(), Config(), {}))
        with closing(psycopg2.connect(primary.url())) as connection:
            connection.autocommit = True
            connection.cursor().execute(TABLES)
        with connect(engine) as connection:
            install_ledger(connection)
            schema = inspect_database(connection)
            letter = schema.resolve_table("letter")
            done = soft_delete(connection, schema, letter, Selection(where="id = 9"))
            context = MigrationContext.configure(connection)
            with context.begin_transaction(_per_migration=True):
                operations = Operations(context)
                operations.change_on_delete("answer", "changed", "SET NULL")
                operations.add_reference_index("answer", ["letter_id"])
        engine.dispose()
        plan = tmp_path_factory.mktemp("plans") / "letter.plan.jsonl"
        for words in (("twin", "--apply", "--yes"), ("letter", "--out", str(plan))):
            command = [sys.executable, "-m", "fkdoctor", "dedupe", *words, "--match", "url"]
            subprocess.run(
                [*command, "--url", primary.url()], check=True, capture_output=True, cwd=plan.parent
            )
        with closing(psycopg2.connect(primary.url())) as connection:
            connection.autocommit = True
            connection.cursor().execute("checkpoint")
        copy = primary.directory / "standby"
        shutil.copytree(primary.data, copy, ignore=shutil.ignore_patterns("postmaster.*"))
        (copy / "standby.signal").touch()
        for path in (copy, *copy.rglob("*")):
            if account.uid is not None:
                os.chown(path, account.uid, -1)
        process = subprocess.Popen(
            [primary.bin / "postgres", "-D", copy, "-k", copy, "-c", "listen_addresses="],
            user=account.uid,
            group=account.gid,
            extra_groups=account.groups,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            url = f"postgresql://postgres@/postgres?host={copy}"
            _await(lambda: psycopg2.connect(url).close())
            yield Standby(url, str(done.id), plan.read_text())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _await(attempt: Callable[[], None]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            return attempt()
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def run(standby: Standby, fkdoctor: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs fkdoctor on the standby."""
    monkeypatch.setenv("FKDOCTOR_URL", standby.url)
    return fkdoctor


READS = {
    "audit": ("audit", "--fail-on", "never"),
    "audit --data": ("audit", "--data", "--fail-on", "never"),
    "audit --prove": ("audit", "--prove", "--fail-on", "never"),
    "graph": ("graph", "--format", "dot"),
    "impact": ("impact", "delete from letter where id = 7"),
    "fix": ("fix", "--sql"),
    "lint": ("lint", "delete.sql"),
    "init, of a ledger that is there": ("init",),
    "deletions": ("deletions",),
    "runs": ("runs",),
}


@pytest.mark.parametrize("words", READS.values(), ids=READS)
def test_what_reads_answers(run: Run, tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "delete.sql").write_text("delete from letter where id = 7;")
    done = run(*words)
    assert done.code == 0, done.err
    assert "letter" in done.out or words[0] in ("runs", "init", "lint")


def test_impact_says_what_would_happen(run: Run) -> None:
    allowed, blocked = (run("impact", f"delete from letter where id = {id}") for id in (7, 3))
    assert (allowed.code, blocked.code) == (0, 1)
    assert "ALLOWED: 1 row deleted" in allowed.out
    assert "1 row of public.answer still references what goes" in blocked.out


WRITES = {
    "dedupe": ("dedupe", "letter", "--match", "url"),
    "dedupe --apply": ("dedupe", "--plan", "saved.plan.jsonl", "--apply", "--yes"),
    "undo": ("undo", "1"),
    "soft-delete, shown only": ("soft-delete", "letter", "--where", "id = 7"),
    "restore, shown only": ("restore", "DELETION"),
    "purge, shown only": ("purge", "--older-than", "1h"),
    "soft-delete": ("soft-delete", "letter", "--where", "id = 7", "--yes"),
    "restore": ("restore", "DELETION", "--yes"),
    "purge": ("purge", "--older-than", "1h", "--yes"),
    "impact --rehearse": ("impact", "delete from letter where id = 7", "--rehearse"),
}


@pytest.mark.parametrize("words", WRITES.values(), ids=WRITES)
def test_what_writes_refuses(
    run: Run, standby: Standby, tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "saved.plan.jsonl").write_text(standby.plan)
    done = run(*(standby.deletion if word == "DELETION" else word for word in words))
    assert done.code == 3, done.err
    assert "read-only transaction" in done.err
    assert "on the primary server" in done.err or "to the primary server" in done.err


OPERATIONS: dict[str, Callable[[Operations], None]] = {
    "change_on_delete": lambda op: op.change_on_delete("answer", "k", "CASCADE"),
    "restore_on_delete": lambda op: op.restore_on_delete("answer", "changed", "SET NULL"),
    "validate_foreign_key": lambda op: op.validate_foreign_key("answer", "unchecked"),
    "drop_reference_index": lambda op: op.drop_reference_index("answer", ["letter_id"]),
    "adopt_reference": lambda op: op.adopt_reference("bare", ["letter_id"], "letter"),
    "add_reference_index": lambda op: op.add_reference_index("page", ["letter_id"]),
    "drop_duplicate_key, which is one": lambda op: op.drop_duplicate_key("answer", "unchecked"),
    "build_index": lambda op: op.build_index("i", "answer", ["letter_id"]),
    "add_soft_delete": lambda op: op.add_soft_delete("bare", schema="public"),
    "drop_soft_delete": lambda op: op.drop_soft_delete("letter", schema="public"),
    "create_where_absent": lambda op: op.create_where_absent(
        "s", {"t": "create table s.t (id int);"}
    ),
}


@pytest.mark.parametrize("use", OPERATIONS.values(), ids=OPERATIONS)
def test_an_operation_of_a_revision_refuses(
    standby: Standby, use: Callable[[Operations], None]
) -> None:
    engine = open_engine(resolve_target(standby.url, Config(), {}))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"transaction_per_migration": True})
        with context.begin_transaction(_per_migration=True), pytest.raises(Refused) as caught:
            use(Operations(context))
    assert "standby" in caught.value.why or "in a read-only transaction" in caught.value.what
    assert caught.value.next.startswith("Connect to the primary server")
