"""`alembic upgrade head` on the mlops database: new, existing, as a script, and back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.errors import Refused
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.coverage import Support, key_coverage
from fkdoctor.ledger.install import install_ledger
from fkdoctor.revise import downgrade, upgrade
from fkdoctor.schema import Schema, TableName
from fkdoctor.softdelete.delete import soft_delete
from fkdoctor.softdelete.restore import restore_deletion
from fkdoctor.softdelete.selection import Selection

ROOT = Path(__file__).parents[2]

Execute = Callable[[str], list[tuple[object, ...]]]
Alembic = Callable[..., subprocess.CompletedProcess[str]]
Dump = Callable[[], str]

LETTER = "insert into mlops.cover_letter_samples (source, language, title, content)"
SOME_ROWS = f"""
    {LETTER} values ('crawl', 'ko', '지원 동기', '…'), ('crawl', 'en', 'Backend', '…');
    insert into mlops.job_postings (url, source, title, content, company)
        values ('https://example.org/1', 'crawl', 'Engineer', '…', 'A');
    insert into mlops.job_recommendations (resume_id, job_id, score, model)
        values (1, 1, 0.5, 'm'), (2, 1, 0.7, 'm');
    insert into mlops.user_interactions (user_id, resume_id, job_id, kind)
        values ('00000000-0000-0000-0000-000000000001', 1, 1, 'view');
"""
# As a team may have made it by hand, before fkdoctor came.
EXISTING = """
    create schema mlops;
    create table mlops.cover_letter_samples (id serial primary key, body text);
    create table mlops.job_postings (id bigint primary key, deleted_at timestamptz);
    create table mlops.job_recommendations (
        resume_id bigint, job_id bigint not null, primary key (resume_id, job_id),
        constraint job_recommendations_resume_id_fkey foreign key (resume_id)
            references mlops.cover_letter_samples on update cascade
            deferrable initially deferred);
    alter table mlops.job_recommendations add constraint job_recommendations_job_id_fkey
        foreign key (job_id) references mlops.job_postings on delete restrict not valid;
    comment on constraint job_recommendations_job_id_fkey on mlops.job_recommendations
        is 'Kept for the annual report.';
    insert into mlops.cover_letter_samples (body) values ('…');
    insert into mlops.job_postings values (1);
    insert into mlops.job_recommendations values (1, 1);
"""


@pytest.fixture
def alembic(tmp_path: Path) -> Alembic:
    """Runs `alembic` as a user would in the checkout, without an address in the environment."""

    def alembic(
        *arguments: str, check: bool = True, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in ("FKDOCTOR_URL", "DATABASE_URL") and not name.startswith("PG")
        }
        return subprocess.run(
            [sys.executable, "-m", "alembic", "-c", ROOT / "alembic.ini", *arguments],
            cwd=tmp_path,
            env={**inherited, **environ},
            capture_output=True,
            text=True,
            check=check,
        )

    return alembic


@pytest.fixture
def dump(database_url: str, pg_dump: Path) -> Dump:
    """The database's structure as pg_dump writes it, without Alembic's own table."""

    def dump() -> str:
        command = [pg_dump, "--schema-only", "--exclude-table=alembic_version*", database_url]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        # \restrict is followed by a random word.
        return "".join(
            line for line in text.splitlines(keepends=True) if "restrict " not in line[:14]
        )

    return dump


def _rules(execute: Execute) -> list[tuple[object, ...]]:
    return execute(
        """select conrelid::regclass::text, conname::text, confdeltype::text, convalidated
        from pg_constraint where contype = 'f' order by 1, 2"""
    )


RECOMMENDATIONS = "mlops.job_recommendations"
UPGRADED = [
    (RECOMMENDATIONS, "job_recommendations_job_id_fkey", "c", True),
    (RECOMMENDATIONS, "job_recommendations_resume_id_fkey", "c", True),
    ("mlops.user_interactions", "user_interactions_job_id_fkey", "c", True),
    ("mlops.user_interactions", "user_interactions_resume_id_fkey", "c", True),
]


def test_an_empty_database_goes_up_and_down_again(
    alembic: Alembic, execute: Execute, dump: Dump, database_url: str
) -> None:
    before = dump()
    alembic("-x", f"url={database_url}", "upgrade", "head")
    assert _rules(execute) == UPGRADED
    assert "0004" in alembic("-x", f"url={database_url}", "current").stdout
    alembic("-x", f"url={database_url}", "downgrade", "base")
    assert dump() == before


def test_as_found_a_recommended_letter_cannot_be_deleted_and_upgraded_it_can(
    database_url: str, execute: Execute, inspect_after: Callable[..., Schema]
) -> None:
    engine = open_engine(resolve_target(database_url, Config(), {}))
    upgrade(engine, "0001")
    execute(SOME_ROWS)
    table = TableName("mlops", "job_recommendations")
    found = inspect_after()
    assert [key_coverage(found, key).support for key in found.keys_from(table)] == [
        Support.NONE
    ] * 2
    with pytest.raises(Exception, match="job_recommendations_resume_id_fkey"):
        execute("delete from mlops.cover_letter_samples where id = 1")
    upgrade(engine)
    execute("delete from mlops.cover_letter_samples where id = 1")
    assert execute("select resume_id from mlops.job_recommendations") == [(2,)]
    assert execute("select count(*) from mlops.user_interactions") == [(0,)]
    after = inspect_after()
    assert all(key_coverage(after, key).support is Support.FULLY for key in after.foreign_keys)
    for name in ("cover_letter_samples", "job_postings"):
        column = after.table(TableName("mlops", name)).column("deleted_at")
        assert (column.type, column.not_null) == ("timestamp with time zone", False)


def test_an_existing_database_is_changed_where_asked_and_restored_exactly(
    database_url: str, execute: Execute, dump: Dump
) -> None:
    execute(EXISTING)
    engine = open_engine(resolve_target(database_url, Config(), {}))
    before = dump()
    upgrade(engine)
    keys = "select conname::text, pg_get_constraintdef(oid) from pg_constraint where conname like"
    assert execute(f"{keys} 'job_recommendations_%fkey' order by 1") == [
        (
            "job_recommendations_job_id_fkey",
            "FOREIGN KEY (job_id) REFERENCES mlops.job_postings(id) ON DELETE CASCADE NOT VALID",
        ),
        (
            "job_recommendations_resume_id_fkey",
            "FOREIGN KEY (resume_id) REFERENCES mlops.cover_letter_samples(id)"
            " ON UPDATE CASCADE ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
        ),
    ]
    # The primary key serves resume_id already; only job_id lacks an index.
    assert "job_recommendations_job_id_idx" in dump()
    assert "job_recommendations_resume_id_idx" not in dump()
    downgrade(engine, "base")
    assert dump() == before
    assert execute("select count(*) from mlops.job_recommendations") == [(1,)]


def test_every_single_step_back_is_exact(database_url: str, dump: Dump) -> None:
    engine = open_engine(resolve_target(database_url, Config(), {}))
    states = [dump()]
    for revision in ("0001", "0002", "0003", "0004"):
        upgrade(engine, revision)
        states.append(dump())
    assert len(set(states)) == len(states)
    for revision in ("0003", "0002", "0001", "base"):
        states.pop()
        downgrade(engine, revision)
        assert dump() == states[-1]


def test_rows_in_tables_that_were_created_stop_the_last_step_back(
    alembic: Alembic, database_url: str, execute: Execute, dump: Dump
) -> None:
    engine = open_engine(resolve_target(database_url, Config(), {}))
    upgrade(engine, "0001")
    execute(f"{LETTER} values ('crawl', 'ko', '…', '…')")
    before = dump()
    with pytest.raises(Refused, match=r"mlops\.cover_letter_samples holds rows"):
        downgrade(engine, "base")
    assert dump() == before
    done = alembic("-x", f"url={database_url}", "downgrade", "base", check=False)
    assert done.returncode == 3
    assert "mlops.cover_letter_samples holds rows." in done.stderr
    assert "Traceback" not in done.stderr
    assert execute("select count(*) from mlops.cover_letter_samples") == [(1,)]


def test_a_script_does_what_the_revisions_do(
    alembic: Alembic, database_url: str, execute: Execute, dump: Dump, psql: Path
) -> None:
    engine = open_engine(resolve_target(database_url, Config(), {}))
    before = dump()
    upgrade(engine)
    online = dump()
    downgrade(engine, "base")
    execute("drop table alembic_version_mlops")
    _run_script(psql, database_url, alembic("upgrade", "head", "--sql").stdout)
    assert dump() == online
    assert execute("select version_num from alembic_version_mlops") == [("0004",)]
    _run_script(psql, database_url, alembic("downgrade", "head:base", "--sql").stdout)
    assert dump() == before


def test_what_a_script_did_is_undone_online_and_the_other_way_round(
    alembic: Alembic, database_url: str, execute: Execute, dump: Dump, psql: Path
) -> None:
    engine = open_engine(resolve_target(database_url, Config(), {}))
    before = dump()
    _run_script(psql, database_url, alembic("upgrade", "head", "--sql").stdout)
    downgrade(engine, "base")
    assert dump() == before
    upgrade(engine)
    _run_script(psql, database_url, alembic("downgrade", "head:base", "--sql").stdout)
    assert dump() == before


def _run_script(
    psql: Path, url: str, script: str, *options: str
) -> subprocess.CompletedProcess[str]:
    command = [psql, "-qXd", url, *(options or ("-v", "ON_ERROR_STOP=1"))]
    return subprocess.run(command, input=script, text=True, capture_output=True, check=True)


def test_a_script_for_another_database_changes_nothing_and_records_nothing(
    alembic: Alembic, database_url: str, execute: Execute, dump: Dump, psql: Path
) -> None:
    execute(EXISTING)
    upgrade(open_engine(resolve_target(database_url, Config(), {})), "0001")
    rules = _rules(execute)
    script = alembic("upgrade", "0001:0002", "--sql").stdout
    # This client goes on after every error.
    told = _run_script(psql, database_url, script, "-v", "ON_ERROR_STOP=0").stderr
    assert "is not what this script was written for" in told
    assert "ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED" in told
    assert _rules(execute) == rules
    assert execute("select version_num from alembic_version_mlops") == [("0001",)]


def test_a_script_that_stopped_half_way_is_finished_online(
    alembic: Alembic, database_url: str, execute: Execute, dump: Dump, psql: Path
) -> None:
    engine = open_engine(resolve_target(database_url, Config(), {}))
    upgrade(engine, "0002")
    wanted = dump()
    downgrade(engine, "0001")
    script = alembic("upgrade", "0001:0002", "--sql").stdout
    statements = [part for part in script.split("\n\n") if part.strip()]
    validation = next(n for n, part in enumerate(statements) if "validate constraint" in part)
    _run_script(psql, database_url, "\n".join(statements[:validation]))
    upgrade(engine, "0002")
    assert dump() == wanted


def test_the_address_is_found_as_every_command_finds_it(
    alembic: Alembic, database_url: str, tmp_path: Path
) -> None:
    nowhere = "postgresql://nobody:geheim@127.0.0.1:1/nowhere"
    for arguments, environ, source in (
        (("-x", f"url={database_url}"), {"FKDOCTOR_URL": nowhere}, "--url"),
        ((), {"FKDOCTOR_URL": database_url, "DATABASE_URL": nowhere}, "FKDOCTOR_URL"),
        ((), {"DATABASE_URL": database_url}, "DATABASE_URL"),
    ):
        done = alembic(*arguments, "current", **environ)
        assert f"(from {source})" in done.stderr
        assert "geheim" not in done.stderr
    (tmp_path / "fkdoctor.toml").write_text(f'[database]\nurl = "{database_url}"\n')
    assert "fkdoctor.toml)" in alembic("current").stderr
    other = tmp_path / "other.toml"
    other.write_text(f'[database]\nurl = "{nowhere}"\n')
    assert "geheim" not in alembic("-x", f"config={other}", "current", check=False).stderr


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "No database is given."),
        ({"DATABASE_URL": "postgresql://x:geheim@127.0.0.1:1/nowhere"}, "does not answer"),
        ({"DATABASE_URL": "mysql://x:geheim@127.0.0.1/nowhere"}, "not a PostgreSQL one"),
    ],
)
def test_a_missing_database_is_said_in_a_few_lines(
    alembic: Alembic, environ: dict[str, str], said: str
) -> None:
    done = alembic("upgrade", "head", check=False, **environ)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "geheim" not in done.stderr
    assert len(done.stderr.splitlines()) <= 4


def test_the_lock_timeout_of_the_configuration_counts(
    alembic: Alembic, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "fkdoctor.toml").write_text(
        f'[database]\nurl = "{database_url}"\nlock_timeout = "0s"\n'
    )
    done = alembic("upgrade", "head", check=False)
    assert done.returncode == 2
    assert "without a lock timeout" in done.stderr


def test_an_alembic_history_of_the_users_own_is_left_alone(
    database_url: str, execute: Execute
) -> None:
    execute(
        "create table alembic_version (version_num text); insert into alembic_version values ('x')"
    )
    upgrade(open_engine(resolve_target(database_url, Config(), {})))
    assert execute("select * from alembic_version") == [("x",)]


def test_a_database_that_the_first_0003_upgraded_gets_what_that_left_out(
    database_url: str, execute: Execute, dump: Dump
) -> None:
    engine = open_engine(resolve_target(database_url, Config(), {}))
    upgrade(engine, "0002")
    before = dump()
    upgrade(engine, "0003")
    # It knew of no deletions.
    for table in ("cover_letter_samples", "job_postings"):
        execute(f"alter table mlops.{table} drop column deletion_id")
    upgrade(engine)
    execute(SOME_ROWS)
    with connect(engine) as connection:
        install_ledger(connection)
        schema = inspect_database(connection)
        done = soft_delete(
            connection,
            schema,
            TableName("mlops", "cover_letter_samples"),
            Selection(keys=("1",)),
            reason="asked to leave",
        )
        assert {taken.table.name for taken in done.taken} == {
            "cover_letter_samples",
            "job_recommendations",
            "user_interactions",
        }
        assert restore_deletion(connection, schema, str(done.id)).rows == done.rows
    execute("truncate mlops.cover_letter_samples, mlops.job_postings cascade")
    execute("drop schema fkdoctor cascade")
    downgrade(engine, "0002")
    assert dump() == before
