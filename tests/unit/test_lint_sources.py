"""Statements in files: found with their lines, and read as far as they concern keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from fkdoctor.errors import ConfigError
from fkdoctor.lint.ddl import (
    AddForeignKey,
    CreateTable,
    DropConstraint,
    DropTable,
    read_changes,
)
from fkdoctor.lint.source import read_sources
from fkdoctor.statement.script import Target


def find(tmp_path: Path, name: str, text: str) -> list[tuple[int, str | None]]:
    path = tmp_path / name
    path.write_text(text)
    return [(one.line, one.sql) for one in read_sources([path])]


def test_statements_of_an_sql_file_have_their_lines(tmp_path: Path) -> None:
    text = "-- one\ndelete from a;\n\ndo $$ begin; delete from b; end $$;\n drop\n table c"
    assert find(tmp_path, "a.sql", text) == [
        (2, "delete from a"),
        (4, "do $$ begin; delete from b; end $$"),
        (5, "drop\n table c"),
    ]


def test_an_unfinished_file_is_not_judged(tmp_path: Path) -> None:
    assert find(tmp_path, "a.sql", "delete from a where b = 'c") == [(1, None)]


REVISION = '''
from alembic import op
import sqlalchemy as sa

def upgrade() -> None:
    op.execute("delete from a; delete from b")
    op.execute(sa.text("""
        truncate c
    """))
    op.execute(f"delete from {d}")
    if True:
        op.drop_table("E", schema="s")
    op.drop_constraint("fk", "f", type_="foreignkey")
    op.create_foreign_key("g_fk", "g", "h", ["x", "y"], ["a", "b"], source_schema="s",
        referent_schema="t", ondelete="CASCADE", postgresql_not_valid=True)
    op.create_foreign_key(None, "g", "h", ["x"], ["a"])
    op.create_foreign_key("k", TABLE, "h", ["x"], ["a"])
    op.add_column("i", sa.Column("j"))

def downgrade() -> None:
    op.drop_table("k")
'''


def test_a_revision_is_what_upgrade_does(tmp_path: Path) -> None:
    assert find(tmp_path, "0001.py", REVISION) == [
        (6, "delete from a"),
        (6, "delete from b"),
        (8, "truncate c"),
        (10, None),
        (12, 'DROP TABLE s."E"'),
        (13, "ALTER TABLE f DROP CONSTRAINT fk"),
        (
            14,
            "ALTER TABLE s.g ADD CONSTRAINT g_fk FOREIGN KEY (x, y) REFERENCES t.h (a, b) "
            "ON DELETE CASCADE NOT VALID",
        ),
        (16, "ALTER TABLE g ADD FOREIGN KEY (x) REFERENCES h (a)"),
        (17, None),
    ]


def test_a_directory_is_its_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.sql").write_text("delete from b")
    (tmp_path / "a.sql").write_text("delete from a")
    (tmp_path / "c.txt").write_text("delete from c")
    assert [one.sql for one in read_sources([tmp_path])] == ["delete from a", "delete from b"]


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def upgrade(:")
    with pytest.raises(ConfigError, match="no Python"):
        read_sources([tmp_path])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_sources([tmp_path / "none.sql"])


def test_tables_and_keys_are_read_from_ddl() -> None:
    assert read_changes('drop table if exists a, b."C" cascade') == (
        DropTable(tables=(Target(parts=("a",)), Target(parts=("b", "C"))), cascade=True),
    )
    key, dropped = read_changes(
        'ALTER TABLE ONLY s.t /* c */ ADD CONSTRAINT fk FOREIGN KEY (x, "Y") REFERENCES u (a, b)'
        " ON DELETE SET NULL (x) NOT VALID, DROP CONSTRAINT IF EXISTS old CASCADE"
    )
    assert key == AddForeignKey(
        table=Target(parts=("s", "t")),
        name="fk",
        columns=("x", "Y"),
        referenced=Target(parts=("u",)),
        not_valid=True,
        definition='CONSTRAINT fk FOREIGN KEY (x, "Y") REFERENCES u (a, b) ON DELETE SET NULL (x) '
        "NOT VALID",
    )
    assert dropped == DropConstraint(table=Target(parts=("s", "t")), name="old")
    assert read_changes("create unlogged table if not exists s.t (a int)") == (
        CreateTable(table=Target(parts=("s", "t"))),
    )


@pytest.mark.parametrize(
    "sql",
    [
        "alter table t add column drop_constraint int",
        "alter table t add constraint c check (a > 0), alter column b set not null",
        "create index on t (a)",
        "drop index i",
        "select 1",
    ],
)
def test_other_ddl_is_passed_over(sql: str) -> None:
    assert read_changes(sql) == ()
