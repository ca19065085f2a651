"""Temporary tables that go with the transaction, filled as they are made."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import ClauseElement, Executable
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from fkdoctor.statement.parts import Query


class CreateFilled(Executable, ClauseElement):
    """CREATE TEMPORARY TABLE … ON COMMIT DROP AS SELECT …, for which SQLAlchemy 2.0 has no form.

    Unlike INSERT … SELECT, PostgreSQL reads for it in parallel. The name is one of ours.
    """

    inherit_cache = False

    def __init__(self, name: str, source: Query | sa.CompoundSelect[Any]) -> None:
        self.name = name
        self.source = source


@compiles(CreateFilled)
def _compile_create_filled(element: CreateFilled, compiler: SQLCompiler, **kw: object) -> str:
    source = compiler.process(element.source, **kw)
    return f"CREATE TEMPORARY TABLE {element.name} ON COMMIT DROP AS {source}"


def drop_temporary(name: str) -> sa.TextClause:
    """Drops a temporary table of ours, if it is there."""
    return sa.text(f"drop table if exists pg_temp.{name}")


def analyze_temporary(name: str) -> sa.TextClause:
    """Lets the planner know what is in a temporary table of ours."""
    return sa.text(f"analyze pg_temp.{name}")
