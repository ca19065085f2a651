"""The ledger: created once, by whoever may; anything else that is there is told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import psycopg2
import pytest
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from psycopg2.extensions import make_dsn
from sqlalchemy import Engine, event

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.errors import Blocked
from fkdoctor.ledger import install
from fkdoctor.ledger.install import install_ledger, require_ledger

Execute = Callable[[str], list[tuple[object, ...]]]

TABLES = """
    select c.relname::text from pg_class as c
    where c.relnamespace = 'fkdoctor'::regnamespace and c.relkind = 'r' order by 1
"""
OURS = [
    ("deletion",),
    ("deletion_journal",),
    ("deletion_step",),
    ("journal",),
    ("ledger_version",),
    ("redirect",),
    ("run",),
    ("step",),
]


def engine_at(url: str, **parameters: str) -> Engine:
    return open_engine(resolve_target(make_dsn(url, **parameters), Config(), {}))


def install_at(url: str, **parameters: str) -> bool:
    with connect(engine_at(url, **parameters)) as connection:
        return install_ledger(connection)


def require_at(url: str, **parameters: str) -> None:
    with connect(engine_at(url, **parameters)) as connection:
        require_ledger(connection)


def run_command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fkdoctor", *arguments, "--url", url],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.fixture
def role(superuser: None, execute: Execute) -> Iterator[str]:
    """A role that may do nothing."""
    name = f"fkd_role_{uuid4().hex}"
    execute(f"create role {name} login")
    try:
        yield name
    finally:
        execute(f"drop owned by {name} cascade; drop role {name}")


def test_it_is_created_once(database_url: str, execute: Execute) -> None:
    assert install_at(database_url) is True
    assert execute(TABLES) == OURS
    execute(
        "insert into fkdoctor.run (plan_id, kind, table_schema, table_name, plan, status) "
        "values ('p', 'dedupe', 's', 't', '{}', 'applied')"
    )
    assert install_at(database_url) is False
    assert execute("select plan_id from fkdoctor.run") == [("p",)]
    require_at(database_url)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_two_who_create_it_at_once_create_it_once(
    database_url: str, execute: Execute, isolation: str
) -> None:
    barrier = Barrier(2)
    options = "-c default_transaction_isolation=" + isolation.replace(" ", "\\ ")

    def create() -> bool:
        engine = engine_at(database_url, options=options)
        event.listen(engine, "begin", lambda connection: barrier.wait())
        with connect(engine) as connection:
            return install_ledger(connection)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(create) for _ in range(2)]
        assert sorted(future.result() for future in futures) == [False, True]
    assert execute(TABLES) == OURS
    assert execute("select count(*) from fkdoctor.ledger_version") == [(1,)]


def test_a_hostile_search_path_changes_nothing(database_url: str, execute: Execute) -> None:
    execute(
        """
        create schema evil;
        create domain evil.text as int; create domain evil.jsonb as int;
        create function evil.clock_timestamp() returns timestamptz language sql as 'select now()';
        """
    )
    assert install_at(database_url, options="-c search_path=evil,pg_catalog")
    require_at(database_url, options="-c search_path=evil,pg_catalog")
    assert execute(TABLES) == OURS
    assert execute(
        "select distinct format_type(atttypid, null) from pg_attribute "
        "where attrelid = 'fkdoctor.journal'::regclass and attnum > 0 order by 1"
    ) == [("bigint",), ("boolean",), ("integer",), ("jsonb",), ("smallint",), ("text[]",)]


def test_where_there_is_none_it_is_missing(database_url: str) -> None:
    with pytest.raises(Blocked, match="ledger is missing") as refused:
        require_at(database_url)
    assert refused.value.next.endswith("fkdoctor init")


def test_an_empty_schema_of_that_name_is_filled(database_url: str, execute: Execute) -> None:
    execute("create schema fkdoctor")
    with pytest.raises(Blocked, match="ledger is missing"):
        require_at(database_url)
    assert install_at(database_url)
    require_at(database_url)


def test_a_schema_of_that_name_with_other_tables_is_left_alone(
    database_url: str, execute: Execute
) -> None:
    execute("create schema fkdoctor; create table fkdoctor.step (mine int)")
    with pytest.raises(Blocked, match="nothing was changed") as refused:
        install_at(database_url)
    assert '"step" already exists' in refused.value.why
    assert execute(TABLES) == [("step",)]


def test_a_ledger_of_a_newer_fkdoctor_is_left_alone(database_url: str, execute: Execute) -> None:
    install_at(database_url)
    execute("update fkdoctor.ledger_version set version_num = '9999'")
    for use in (require_at, install_at):
        with pytest.raises(Blocked, match="ledger is of a newer version") as refused:
            use(database_url)
        assert "9999" in refused.value.why
        assert refused.value.next == "Upgrade fkdoctor."
    assert execute("select version_num from fkdoctor.ledger_version") == [("9999",)]


def test_a_ledger_that_was_emptied_of_its_version_is_not_taken_for_ours(
    database_url: str, execute: Execute
) -> None:
    install_at(database_url)
    execute("delete from fkdoctor.ledger_version")
    with pytest.raises(Blocked, match="ledger is missing"):
        require_at(database_url)
    with pytest.raises(Blocked, match="already exists"):
        install_at(database_url)
    assert execute(TABLES) == OURS


def test_a_role_without_create_is_told_what_it_needs(
    database_url: str, execute: Execute, role: str
) -> None:
    as_role = {"options": f"-c role={role}"}
    with pytest.raises(Blocked, match="cannot be created") as refused:
        install_at(database_url, **as_role)
    assert "permission denied for database" in refused.value.why
    assert "CREATE" in refused.value.next
    assert execute("select count(*) from pg_namespace where nspname = 'fkdoctor'") == [(0,)]
    # An administrator makes the schema; that is enough.
    execute(f"create schema fkdoctor authorization {role}")
    assert install_at(database_url, **as_role)
    require_at(database_url, **as_role)


def test_a_role_that_may_not_look_is_not_told_that_it_is_missing(
    database_url: str, execute: Execute, role: str
) -> None:
    install_at(database_url)
    as_role = {"options": f"-c role={role}"}
    with pytest.raises(Blocked, match="may not be read"):
        require_at(database_url, **as_role)
    execute(f"grant usage on schema fkdoctor to {role}")
    with pytest.raises(Blocked, match="may not be read"):
        require_at(database_url, **as_role)
    execute(f"grant select on fkdoctor.ledger_version to {role}")
    require_at(database_url, **as_role)


def test_a_session_that_may_not_write_reads_but_does_not_create(database_url: str) -> None:
    read_only = {"options": "-c default_transaction_read_only=on"}
    with pytest.raises(Blocked, match="cannot be created") as refused:
        install_at(database_url, **read_only)
    assert "read-only transaction" in refused.value.why
    install_at(database_url)
    require_at(database_url, **read_only)
    assert install_at(database_url, **read_only) is False


def test_its_revisions_go_down_as_they_came_up(database_url: str, execute: Execute) -> None:
    install_at(database_url)
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(install.__file__).parent))
    revisions = ScriptDirectory.from_config(config).walk_revisions()
    assert [revision.revision for revision in revisions] == list(reversed(install.VERSIONS))
    with engine_at(database_url).begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert execute(TABLES) == [("ledger_version",)]
    assert install_at(database_url)
    assert execute(TABLES) == OURS


def test_the_users_own_alembic_table_is_not_touched(database_url: str, execute: Execute) -> None:
    execute(
        "create table alembic_version (version_num varchar(32) primary key); "
        "insert into alembic_version values ('theirs')"
    )
    install_at(database_url)
    assert execute("select version_num from public.alembic_version") == [("theirs",)]


def test_runs_are_listed_newest_first(database_url: str, execute: Execute) -> None:
    assert run_command(database_url, "init").returncode == 0
    assert run_command(database_url, "runs").stdout.strip() == (
        "Nothing was applied in this database yet."
    )
    execute(
        """
        insert into fkdoctor.run (plan_id, kind, table_schema, table_name, plan, status, deleted)
        values ('one', 'dedupe', 's', 't', '{}', 'undone', 1),
            ('two', 'dedupe', 'Ö "x"', '%(y)s', '{}', 'applying', 2000)
        """
    )
    listed = run_command(database_url, "runs").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["2", "1"]
    assert "2,000" in listed[0]
    document = json.loads(run_command(database_url, "runs", "--format", "json").stdout)
    assert [(run["id"], run["table_name"], run["deleted"]) for run in document] == [
        (2, "%(y)s", 2000),
        (1, "t", 1),
    ]


def test_the_command_line_refuses_without_a_ledger(database_url: str) -> None:
    for arguments in (("runs",), ("undo", "1")):
        run = run_command(database_url, *arguments)
        assert run.returncode == 3
        assert "The ledger is missing." in run.stderr
        assert "Traceback" not in run.stderr


def test_who_holds_the_installation_is_waited_for(database_url: str, execute: Execute) -> None:
    with (
        closing(psycopg2.connect(database_url)) as other,
        other.cursor() as cursor,
        ThreadPoolExecutor(1) as pool,
    ):
        cursor.execute("select pg_advisory_xact_lock(7380102843949412210)")
        created = pool.submit(install_at, database_url)
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        while execute(waiting) == [(0,)]:
            assert not created.done()
        other.rollback()
        assert created.result() is True
