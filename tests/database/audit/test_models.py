"""Do sessions of SQLAlchemy do with the rows what the audit says of the models?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from fkdoctor.audit import Finding, Severity, audit_schema
from fkdoctor.config import Config
from fkdoctor.database import open_engine, resolve_target
from fkdoctor.errors import ConfigError
from fkdoctor.inspect.models import with_models


def make_models(nullable: bool, ondelete: str | None, **options: Any) -> tuple[Any, Any, Any]:
    """The base, the one and the many: who holds no class loses it."""

    class Base(DeclarativeBase):
        pass

    class Up(Base):
        __tablename__ = "up"
        id: Mapped[int] = mapped_column(primary_key=True)
        downs: Mapped[list[Any]] = relationship("Down", **options)

    class Down(Base):
        __tablename__ = "down"
        id: Mapped[int] = mapped_column(primary_key=True)
        up_id: Mapped[int] = mapped_column(
            sa.ForeignKey("up.id", ondelete=ondelete), nullable=nullable
        )

    return Base, Up, Down


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Called with a base: an address at which it can be imported."""

    def publish(base: object) -> str:
        name = f"models_{uuid4().hex}"
        module = type(sys)(name)
        module.Base = base  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
        return f"{name}:Base"

    return publish


def findings(lab: Any, address: str, rule: str) -> list[Finding]:
    schema = with_models(lab.schema(), address)
    return [finding for finding in audit_schema(schema) if finding.rule.id == rule]


DELETES = {"cascade": "all, delete"}
PASSIVE = {"passive_deletes": True}

# The column may be NULL, the rule, the relationship; what the audit says, and what becomes of the
# rows when the one is deleted in a session that has loaded nothing.
CASES: dict[str, tuple[bool, str | None, dict[str, Any], Severity | None, str]] = {
    "nulled": (True, None, {}, None, "released"),
    "not_null": (False, None, {}, Severity.ERROR, "refused"),
    "not_null_under_cascade": (False, "CASCADE", {}, Severity.ERROR, "refused"),
    "kept_from_cascade": (True, "CASCADE", {}, Severity.WARNING, "released"),
    "one_by_one": (False, "CASCADE", DELETES, Severity.INFO, "deleted"),
    "said_twice": (False, "CASCADE", {**DELETES, **PASSIVE}, None, "deleted"),
    "mapper_alone": (False, None, DELETES, None, "deleted"),
    "left_to_restrict": (False, "RESTRICT", {**DELETES, **PASSIVE}, Severity.ERROR, "refused"),
    "left_to_set_null": (True, "SET NULL", PASSIVE, None, "released"),
    "all_passive": (False, "CASCADE", {"passive_deletes": "all"}, None, "deleted"),
    "all_passive_restrict": (False, "RESTRICT", {"passive_deletes": "all"}, None, "refused"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_session_does_what_the_audit_says(lab: Any, publish: Any, name: str) -> None:
    nullable, ondelete, options, severity, outcome = CASES[name]
    base, up, _many = make_models(nullable, ondelete, **options)
    engine = open_engine(resolve_target(lab.url, Config(), {}))
    base.metadata.create_all(engine)
    lab.run("insert into up values (1); insert into down values (1, 1), (2, 1)")

    found = findings(lab, publish(base), "FK056")
    assert [one.severity for one in found] == ([severity] if severity is not None else [])
    assert findings(lab, publish(base), "FK054") == findings(lab, publish(base), "FK055") == []

    with Session(engine) as session:
        session.delete(session.get(up, 1))
        try:
            session.commit()
        except IntegrityError:
            session.rollback()
    left = lab.run("select up_id from down order by id")
    assert {(): "deleted", (None, None): "released", (1, 1): "refused"}[
        tuple(row[0] for row in left)
    ] == outcome


def test_each_difference_between_model_and_database_is_named(lab: Any, publish: Any) -> None:
    metadata = sa.MetaData()
    sa.Table("up", metadata, sa.Column("id", sa.Integer, primary_key=True))
    sa.Table(
        "down",
        metadata,
        sa.Column("same", sa.ForeignKey("up.id", ondelete="set null")),
        sa.Column("rule", sa.ForeignKey("up.id", ondelete="CASCADE")),
        sa.Column("late", sa.ForeignKey("up.id", deferrable=True, initially="DEFERRED")),
        sa.Column("missing", sa.ForeignKey("up.id")),
    )
    lab.run(
        "create table up (id int primary key);"
        "create table down (same int references up on delete set null,"
        " rule int references up on update cascade, late int references up, missing int,"
        " unknown int references up)"
    )
    address = publish(metadata)

    assert {one.subject: one.detail for one in findings(lab, address, "FK054")} == {
        "public.down.down_rule_fkey": "rule → public.up(id): ON DELETE is CASCADE in the model, "
        "NO ACTION in the database; ON UPDATE is NO ACTION in the model, CASCADE in the database.",
        "public.down.down_late_fkey": "late → public.up(id): DEFERRABLE is INITIALLY DEFERRED in "
        "the model, NOT DEFERRABLE in the database.",
    }
    assert {one.subject: one.severity for one in findings(lab, address, "FK055")} == {
        "public.down: missing → public.up(id)": Severity.WARNING,
        "public.down.down_unknown_fkey": Severity.INFO,
    }


def test_columns_of_set_null_are_compared(lab: Any, publish: Any) -> None:
    if lab.major < 15:
        pytest.skip("needs PostgreSQL 15")
    metadata = sa.MetaData()
    sa.Table(
        "up",
        metadata,
        sa.Column("t", sa.Integer, primary_key=True),
        sa.Column("id", sa.Integer, primary_key=True),
    )
    sa.Table(
        "down",
        metadata,
        sa.Column("t", sa.Integer),
        sa.Column("a", sa.Integer),
        sa.ForeignKeyConstraint(["t", "a"], ["up.t", "up.id"], ondelete="SET NULL (a)"),
    )
    try:
        metadata.create_all(open_engine(resolve_target(lab.url, Config(), {})))
    except sa.exc.CompileError:
        pytest.skip("this SQLAlchemy knows no columns of SET NULL")
    assert findings(lab, publish(metadata), "FK054") == []


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("no_such_module_anywhere:Base", "can't be imported"),
        ("sys:no_such_thing", "can't be imported"),
        ("sys", "does not say where"),
        ("sys:path", "holds no models"),
    ],
)
def test_an_address_without_models_is_refused(lab: Any, address: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        with_models(lab.schema(), address)


def test_models_in_the_current_directory_are_found(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"app_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text("import sqlalchemy as sa\nmetadata = sa.MetaData()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert with_models(lab.schema(), f"{name}:metadata").model_keys == ()
