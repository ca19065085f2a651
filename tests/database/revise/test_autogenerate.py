"""`alembic revision --autogenerate`: what comes of it stops nobody, and leads to the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from fkdoctor.config import Config as FkdoctorConfig
from fkdoctor.database import open_engine, resolve_target

Execute = Callable[[str], list[tuple[object, ...]]]
Dump = Callable[[], str]

ENV = """
from alembic import context
import fkdoctor.revise

with context.config.attributes["engine"].connect() as connection:
    context.configure(
        connection=connection,
        transaction_per_migration=True,
        target_metadata=context.config.attributes["metadata"],
        process_revision_directives=fkdoctor.revise.rewrite_directives,
    )
    with context.begin_transaction():
        context.run_migrations()
"""
MAKO = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
'''
AS_FOUND = """
    create table letter (id int primary key, tenant int, unique (tenant, id));
    create table recommendation (
        id int primary key, letter_id int, tenant int, other_id int, status text,
        constraint k foreign key (letter_id) references letter,
        constraint pair foreign key (tenant, letter_id) references letter (tenant, id)
            on update cascade deferrable
    );
    insert into letter select n, 1 from generate_series(1, 9) as n;
    insert into recommendation select n, n, 1, n from generate_series(1, 9) as n;
"""


def _model(*arguments: object) -> MetaData:
    """The tables as they were found, with something more in them."""
    metadata = MetaData()
    Table(
        "letter",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("tenant", Integer),
        UniqueConstraint("tenant", "id"),
    )
    Table(
        "recommendation",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("letter_id", Integer),
        Column("tenant", Integer),
        Column("other_id", Integer),
        Column("status", Text),
        *arguments,  # type: ignore[arg-type]
    )
    return metadata


def _key() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["letter_id"], ["letter.id"], name="k")


def _pair() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["tenant", "letter_id"],
        ["letter.tenant", "letter.id"],
        name="pair",
        onupdate="CASCADE",
        deferrable=True,
    )


@pytest.fixture
def generate(tmp_path: Path, database_url: str) -> Callable[[MetaData], list[str]]:
    """Called with a model: the texts of the revisions that lead to it, first to last."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(ENV)
    (tmp_path / "script.py.mako").write_text(MAKO)
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    config.attributes["engine"] = open_engine(resolve_target(database_url, FkdoctorConfig(), {}))

    def run(metadata: MetaData) -> list[str]:
        config.attributes["metadata"] = metadata
        before = {path.name for path in (tmp_path / "versions").glob("*.py")}
        command.revision(config, "wanted", autogenerate=True)
        scripts = reversed(list(ScriptDirectory.from_config(config).walk_revisions()))
        paths = [Path(script.path) for script in scripts if Path(script.path).name not in before]
        return [path.read_text() for path in paths]

    run.config = config  # type: ignore[attr-defined]
    return run


def _body(revision: str, function: str = "upgrade") -> str:
    """The statements of the function, each on one line."""
    text = revision.split(f"def {function}():")[1].split("\n\n")[0]
    lines = [line.strip() for line in text.splitlines() if "# ###" not in line and line.strip()]
    return " ".join(lines).replace("( ", "(").replace(",)", ")").replace(", )", ")")


def _there_and_back(generate: Callable[[MetaData], list[str]], model: MetaData, dump: Dump) -> None:
    """The revisions lead to the model, after which nothing is missing, and back."""
    before = dump()
    config = generate.config  # type: ignore[attr-defined]
    command.upgrade(config, "head")
    (empty,) = generate(model)
    assert _body(empty) == "pass"
    command.downgrade(config, "base")
    assert dump() == before


def test_a_key_dropped_and_created_again_is_a_change_of_its_rule(
    execute: Execute, dump: Dump, generate: Callable[[MetaData], list[str]]
) -> None:
    execute(AS_FOUND)
    model = _model(
        ForeignKeyConstraint(["letter_id"], ["letter.id"], name="k", ondelete="CASCADE"),
        ForeignKeyConstraint(
            ["tenant", "letter_id"],
            ["letter.tenant", "letter.id"],
            onupdate="CASCADE",
            deferrable=True,
            initially="DEFERRED",
        ),
    )
    (revision,) = generate(model)
    assert _body(revision) == (
        'op.change_on_delete("recommendation", "k", "CASCADE", schema="public", '
        'definition="FOREIGN KEY (letter_id) REFERENCES public.letter(id)") '
        'op.change_on_delete("recommendation", "pair", schema="public", initially="DEFERRED", '
        'definition="FOREIGN KEY (tenant, letter_id) REFERENCES public.letter(tenant, id) '
        'ON UPDATE CASCADE DEFERRABLE")'
    )
    assert "op.restore_on_delete(" in _body(revision, "downgrade")
    _there_and_back(generate, model, dump)


def test_the_columns_of_set_null_are_read(
    execute: Execute, dump: Dump, generate: Callable[[MetaData], list[str]], major: int
) -> None:
    if major < 15:
        pytest.skip("PostgreSQL 15 and newer")
    execute(AS_FOUND)
    pair = ForeignKeyConstraint(
        ["tenant", "letter_id"],
        ["letter.tenant", "letter.id"],
        onupdate="CASCADE",
        deferrable=True,
        ondelete="SET NULL (letter_id)",
    )
    model = _model(_key(), pair)
    (revision,) = generate(model)
    assert '"pair", "SET NULL", schema="public", set_columns=["letter_id"]' in _body(revision)
    _there_and_back(generate, model, dump)


def test_a_new_key_and_a_new_index_are_made_beside_the_writers(
    execute: Execute, dump: Dump, generate: Callable[[MetaData], list[str]]
) -> None:
    execute(AS_FOUND)
    model = _model(
        _key(),
        _pair(),
        ForeignKeyConstraint(["other_id"], ["letter.id"], name="other", ondelete="SET NULL"),
        Index("by_status", "status", postgresql_where=text("status <> 'it''s'")),
        Index("by_lower", text("lower(status)"), unique=False),
    )
    (revision,) = generate(model)
    body = _body(revision)
    assert "create_index" not in body
    assert "create_foreign_key" not in body
    assert 'op.adopt_reference("recommendation", ["other_id"], "letter", ["id"]' in body
    assert 'op.build_index("by_status", "recommendation", ["status"]' in body
    assert 'sa.text("lower(status)")' in body
    _there_and_back(generate, model, dump)


def test_what_else_there_is_comes_first_in_a_revision_of_its_own(
    execute: Execute, dump: Dump, generate: Callable[[MetaData], list[str]]
) -> None:
    execute(AS_FOUND)
    model = _model(
        Column("author_id", Integer, ForeignKey("author.id", name="by")),
        _key(),
        _pair(),
        Index("by_author", "author_id"),
    )
    Table(
        "author",
        model,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("letter_id", Integer, ForeignKey("letter.id", name="theirs"), index=True),
    )
    first, second = generate(model)
    # A table that is new has no writers yet.
    assert "op.create_table('author'" in _body(first)
    assert "op.add_column('recommendation'" in _body(first)
    assert "ix_author_letter_id" in _body(first)
    assert _body(second).startswith("op.build_index(") or _body(second).startswith("op.adopt_")
    assert 'op.adopt_reference("recommendation", ["author_id"], "author", ["id"]' in _body(second)
    _there_and_back(generate, model, dump)


def test_keys_that_are_not_valid_or_there_twice_are_seen(
    execute: Execute, dump: Dump, generate: Callable[[MetaData], list[str]]
) -> None:
    execute(
        AS_FOUND
        + """alter table recommendation
        add constraint again foreign key (letter_id) references letter,
        add constraint late foreign key (other_id) references letter not valid;
        comment on constraint again on recommendation is 'Theirs.'"""
    )
    model = _model(
        _key(),
        _pair(),
        ForeignKeyConstraint(["other_id"], ["letter.id"], name="late"),
    )
    (revision,) = generate(model)
    body = _body(revision)
    assert 'op.drop_duplicate_key("recommendation", "again", schema="public"' in body
    assert 'op.validate_foreign_key("recommendation", "late", schema="public"' in body
    config = generate.config  # type: ignore[attr-defined]
    before = dump()
    command.upgrade(config, "head")
    assert execute("select conname::text, convalidated from pg_constraint where contype = 'f'"
                   " order by 1") == [("k", True), ("late", True), ("pair", True)]  # fmt: skip
    command.downgrade(config, "base")
    assert dump() == before


def test_a_duplicate_with_another_rule_is_dropped_as_one(
    execute: Execute, dump: Dump, generate: Callable[[MetaData], list[str]]
) -> None:
    execute(
        AS_FOUND
        + """alter table recommendation add constraint again foreign key (letter_id)
        references letter on delete restrict"""
    )
    model = _model(_key(), _pair())
    (revision,) = generate(model)
    assert _body(revision).startswith('op.drop_duplicate_key("recommendation", "again"')
    _there_and_back(generate, model, dump)


def test_a_model_that_is_there_already_needs_nothing(
    execute: Execute, generate: Callable[[MetaData], list[str]]
) -> None:
    execute(AS_FOUND)
    (revision,) = generate(_model(_key(), _pair()))
    assert _body(revision) == "pass"
