"""`fkdoctor fix`: from findings to a green audit, by revisions in somebody's own tree, and back."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Execute = Callable[[str], list[tuple[object, ...]]]
Run = Callable[..., subprocess.CompletedProcess[str]]
Dump = Callable[[], str]

SHOP = """
    create table customer (id int primary key);
    create table "Order" (
        id int primary key,
        customer_id int constraint placed_by references customer,
        "Paid ""by"" whom" int constraint "paid ""by"" whom" references customer on delete set null,
        invoice_id int not null,
        unique (id, invoice_id)
    );
    create table item (
        id int primary key,
        order_id int not null constraint belongs_to references "Order",
        constraint once_more foreign key (order_id) references "Order"
    );
    create table log (at int, order_id int);
    alter table log add constraint about foreign key (order_id) references "Order" not valid;
    comment on constraint placed_by on "Order" is 'Who placed it; ask "sales".';
    insert into customer select generate_series(1, 30);
    insert into "Order" select n, n, n, n from generate_series(1, 30) as n;
    insert into item select n, n from generate_series(1, 30) as n;
    insert into log select n, n from generate_series(1, 30) as n;
"""
POLICIES = """
[[policy]]
referencing = "item"
on_delete = "CASCADE"

[[policy]]
referenced = "public.Order"
on_delete = "RESTRICT"

[[policy]]
referencing = "Order"
on_delete = "SET NULL"
on_update = "CASCADE"
"""
ENV = """
from alembic import context
from sqlalchemy import create_engine

engine = create_engine("postgresql+psycopg2://", creator=lambda: __import__("psycopg2").connect(
    __import__("os").environ["DATABASE_URL"]))
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with engine.connect() as connection:
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
"""
MAKO = '''"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa
${imports if imports else ""}

revision: str = ${repr(up_revision)}
down_revision: Union[str, None] = ${repr(down_revision)}
branch_labels: Union[str, Sequence[str], None] = ${repr(branch_labels)}
depends_on: Union[str, Sequence[str], None] = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
'''
ROOT = Path(__file__).parents[3]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with an Alembic tree of somebody's own, and a fkdoctor.toml with policies."""
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = %(here)s/migrations\n")
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    (tmp_path / "migrations" / "script.py.mako").write_text(MAKO)
    (tmp_path / "fkdoctor.toml").write_text(POLICIES)
    return tmp_path


@pytest.fixture
def run(tree: Path, database_url: str) -> Run:
    """Runs `fkdoctor` or `alembic` in that directory, on the test's database."""

    def run(program: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environ = {name: value for name, value in os.environ.items() if name != "FKDOCTOR_URL"}
        python_path = os.pathsep.join([str(ROOT), environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", program, *arguments],
            cwd=tree,
            env={**environ, "DATABASE_URL": database_url, "PYTHONPATH": python_path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def test_findings_and_policies_become_revisions_and_the_audit_is_green(
    execute: Execute, dump: Dump, run: Run, tree: Path
) -> None:
    execute(SHOP)
    before = dump()
    run("fkdoctor", "audit", "--fail-on", "warning", code=1)
    written = run("fkdoctor", "fix").stdout.split()
    assert [Path(path).parent for path in written] == [tree / "migrations" / "versions"] * 5
    run("alembic", "upgrade", "head")
    run("fkdoctor", "audit", "--fail-on", "info")
    assert execute(
        """select conname::text, confdeltype::text, confupdtype::text, convalidated
        from pg_constraint where contype = 'f' order by 1"""
    ) == [
        ("about", "r", "a", True),
        ("belongs_to", "c", "a", True),
        ('paid "by" whom', "n", "c", True),
        ("placed_by", "n", "c", True),
    ]
    assert run("fkdoctor", "fix").stderr.endswith("Nothing that an operation could mend.\n")
    run("alembic", "downgrade", "base")
    assert dump() == before


def test_a_revision_tells_why_and_what_it_will_do(execute: Execute, run: Run) -> None:
    execute(SHOP + "analyze; create index on item (order_id);")
    paths = run("fkdoctor", "fix", "--table", "log").stdout.split()
    (revision,) = [Path(path) for path in paths]
    module = ast.parse(revision.read_text())
    told = ast.get_docstring(module)
    assert told is not None
    assert told.splitlines()[0] == "validate about"
    assert "FK001:public.log.about" in told
    assert "FK003:public.log.about" in told
    assert "[[policy]] ON DELETE RESTRICT" in told
    assert told.count("locks: ") == told.count("time: ") == told.count("downgrade: ") == 3
    assert "about 30 rows are read" in told
    assert revision.name.endswith("_validate_about.py")


def test_the_script_for_psql_does_the_same_and_takes_it_back(
    execute: Execute, dump: Dump, run: Run, psql: Path, database_url: str
) -> None:
    execute(SHOP)
    before = dump()
    command = [psql, "-qXv", "ON_ERROR_STOP=1", "-d", database_url]
    there = run("fkdoctor", "fix", "--sql").stdout
    back = run("fkdoctor", "fix", "--sql", "--undo").stdout
    subprocess.run(command, input=there, text=True, check=True)
    run("fkdoctor", "audit", "--fail-on", "info")
    subprocess.run(command, input=back, text=True, check=True)
    assert dump() == before


def test_nothing_is_written_when_only_asked(execute: Execute, run: Run, tree: Path) -> None:
    execute(SHOP)
    told = run("fkdoctor", "fix", "--dry-run").stdout
    assert 'public."Order".placed_by ON DELETE SET NULL ON UPDATE CASCADE' in told
    assert list((tree / "migrations" / "versions").iterdir()) == []


def test_only_what_is_asked_for_is_mended(execute: Execute, run: Run) -> None:
    execute(SHOP)
    told = run("fkdoctor", "fix", "--dry-run", "--rule", "FK003").stdout
    assert told.startswith("validate about\n")
    assert "locks" in told
    assert "placed_by" not in told


def test_what_no_operation_can_do_is_left_to_a_person(
    execute: Execute, run: Run, tree: Path
) -> None:
    execute(SHOP + 'alter table "Order" alter customer_id set not null;')
    done = run("fkdoctor", "fix", "--dry-run")
    assert "placed_by ON DELETE" not in done.stdout
    assert 'policy for public."Order".placed_by: SET NULL would fail: customer_id' in done.stderr
    (tree / "fkdoctor.toml").write_text("")
    done = run("fkdoctor", "fix", "--dry-run")
    assert "Left to you: FK019:public.item.belongs_to" in done.stderr


def test_the_new_revisions_follow_the_head(execute: Execute, run: Run, tree: Path) -> None:
    execute(SHOP)
    for revision in ("one", "two"):
        (tree / "migrations" / "versions" / f"{revision}.py").write_text(
            f"revision = {revision!r}\ndown_revision = None\ndef upgrade(): pass\n"
            "def downgrade(): pass\n"
        )
    told = run("fkdoctor", "fix", code=2).stderr
    assert "has 2 heads" in told
    assert "one, two" in told
    first = run("fkdoctor", "fix", "--head", "two").stdout.split()[0]
    assert "down_revision: Union[str, None] = 'two'" in Path(first).read_text()


def test_a_tree_that_is_not_there_is_named(execute: Execute, run: Run, tree: Path) -> None:
    execute(SHOP)
    (tree / "alembic.ini").unlink()
    assert "There is no alembic.ini." in run("fkdoctor", "fix", code=2).stderr
    assert "--undo goes with --sql" in run("fkdoctor", "fix", "--undo", code=2).stderr


def test_the_audit_hands_its_findings_over(execute: Execute, run: Run, tree: Path) -> None:
    execute(SHOP)
    planned = run("fkdoctor", "fix", "--dry-run").stdout
    audit = run("fkdoctor", "audit", "--fix", "--format", "json", "--fail-on", "never")
    summary = json.loads(audit.stdout)["summary"]
    assert summary["error"] + summary["warning"] > 0
    revisions = list((tree / "migrations" / "versions").glob("*.py"))
    assert all(f"Wrote {revision}." in audit.stderr for revision in revisions)
    docstrings = [ast.get_docstring(ast.parse(path.read_text())) or "" for path in revisions]
    titles = [each.splitlines()[0] for each in docstrings]
    assert len(titles) == planned.count("Because of") > 1
    assert all(title in planned.replace('"', "'").splitlines() for title in titles)
    run("alembic", "upgrade", "head")
    run("fkdoctor", "audit", "--fail-on", "info")


def test_what_the_baseline_knows_is_not_mended(execute: Execute, run: Run, tree: Path) -> None:
    execute(SHOP)
    (tree / "fkdoctor.toml").write_text("")
    run("fkdoctor", "audit", "--write-baseline", "known.json")
    again = run("fkdoctor", "audit", "--against", "known.json", "--fix")
    assert "Nothing that an operation could mend." in again.stderr
    assert list((tree / "migrations" / "versions").glob("*.py")) == []


GUESSES = """
    create table author (id int primary key);
    create table book (id int primary key, author_id int not null, isbn text);
    create table page (id int primary key, book_id int, number int);
    create index page_book on page (book_id, number);
    create table book_author_id_idx (id int);
    insert into author values (1), (2);
    insert into book values (1, 1), (2, 2), (3, 2);
    insert into page values (1, 1), (2, 3), (3, null);
"""


def test_a_guess_is_adopted_only_where_it_is_asked_for(
    execute: Execute, dump: Dump, run: Run, tree: Path
) -> None:
    execute(GUESSES)
    (tree / "fkdoctor.toml").write_text(
        '[[policy]]\nreferencing = "page"\nreferenced = "book"\non_delete = "SET NULL"\n'
    )
    before = dump()
    told = run("fkdoctor", "fix").stderr
    assert "Left to you: FK048:public.book.author_id" in told
    assert "fkdoctor fix --rule FK048" in told
    assert list((tree / "migrations" / "versions").glob("*.py")) == []

    assert len(run("fkdoctor", "fix", "--rule", "undeclared-reference").stdout.split()) == 2
    run("alembic", "upgrade", "head")
    assert execute(
        """select conname::text, confrelid::regclass::text, confdeltype::text, convalidated
        from pg_constraint where contype = 'f' order by 1"""
    ) == [
        ("book_author_id_fkey", "author", "a", True),
        ("page_book_id_fkey", "book", "n", True),
    ]
    assert execute(
        "select tablename::text, indexname::text from pg_indexes where schemaname = 'public'"
        " and indexname not like '%pk%' order by 1"
    ) == [("book", "book_author_id_idx1"), ("page", "page_book")]
    run("fkdoctor", "audit", "--fail-on", "warning")
    run("alembic", "downgrade", "base")
    assert dump() == before


def test_a_wrong_guess_changes_nothing(execute: Execute, dump: Dump, run: Run) -> None:
    execute(GUESSES + "insert into book values (4, 77)")
    run("fkdoctor", "fix", "--rule", "FK048", "--table", "author")
    assert "77" in run("alembic", "upgrade", "head", code=1).stderr
    assert execute("select count(*) from pg_constraint where contype = 'f'") == [(0,)]


@pytest.mark.parametrize(
    ("dangling", "left", "valid"),
    [("delete", 3, True), ("set null", 4, True), ("keep", 4, False)],
)
def test_what_becomes_of_dangling_rows_is_said_by_a_policy(
    execute: Execute, dump: Dump, run: Run, tree: Path, dangling: str, left: int, valid: bool
) -> None:
    execute(GUESSES + "insert into page values (4, 77)")
    rows, before = execute("select * from page order by id"), dump()
    (tree / "fkdoctor.toml").write_text(
        f'[[policy]]\nreferencing = "page"\non_delete = "SET NULL"\ndangling = "{dangling}"\n'
    )
    run("fkdoctor", "fix", "--rule", "FK048", "--table", "page")
    run("alembic", "upgrade", "head")
    assert execute("select count(*) from page") == [(left,)]
    assert execute(
        "select convalidated from pg_constraint where conname = 'page_book_id_fkey'"
    ) == [(valid,)]
    run("alembic", "downgrade", "base")
    assert dump() == before
    assert execute("select * from page order by id") == rows


def test_a_guess_of_a_partitioned_table_is_adopted_too(
    execute: Execute, dump: Dump, run: Run
) -> None:
    execute(
        GUESSES
        + """create table sale (id int, book_id int) partition by range (id);
        create table sale_1 partition of sale for values from (0) to (10);
        create table sale_2 partition of sale for values from (10) to (20);
        insert into sale values (1, 1), (11, 2)"""
    )
    before = dump()
    run("fkdoctor", "fix", "--rule", "FK048", "--table", "sale")
    run("alembic", "upgrade", "head")
    assert execute(
        "select count(*) from pg_constraint where contype = 'f' and conrelid = 'sale'::regclass"
        " and convalidated"
    ) == [(1,)]
    assert execute("select count(*) from pg_indexes where indexname like '%book_id_idx'") == [(3,)]
    run("alembic", "downgrade", "base")
    assert dump() == before


def test_a_guess_that_cannot_be_adopted_is_left(execute: Execute, run: Run, tree: Path) -> None:
    execute(GUESSES)
    (tree / "fkdoctor.toml").write_text('[[policy]]\non_delete = "SET NULL"\n')
    told = run("fkdoctor", "fix", "--rule", "FK048", "--dry-run")
    assert "FK048:public.book.author_id: SET NULL would fail: author_id is NOT" in told.stderr
    assert told.stdout.startswith("adopt page book_id\n")
    assert "There is no rule FK999." in run("fkdoctor", "fix", "--rule", "FK999", code=2).stderr
