"""A laboratory in which PostgreSQL tries out what the rules claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from uuid import uuid4

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from fkdoctor.audit import Finding, audit_schema
from fkdoctor.schema import Schema

Case = str | tuple[str, int, int]
"""SQL that makes the tables `up` (referenced) and `down`, or that and the majors that take it."""


class Laboratory:
    """A database with a schema per case."""

    def __init__(self, url: str, look: Callable[[str], Schema]) -> None:
        self.url = url
        self._look = look
        self.reconnect()

    def reconnect(self) -> None:
        """Start a new session, which sees what was done to the catalog behind its back."""
        self.connection: Connection = psycopg2.connect(self.url)
        self.connection.autocommit = True
        self.major = self.connection.server_version // 10000

    def prepare(self, cases: Mapping[str, Case]) -> list[str]:
        """Build the cases that this server takes; their names."""
        built = []
        for name, case in cases.items():
            sql, since, until = (case, 12, 99) if isinstance(case, str) else case
            if since <= self.major <= until:
                self.run(f"create schema {name}; set search_path = {name}, public; {sql}")
                built.append(name)
        return built

    def run(self, sql: str) -> list[tuple[object, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def run_each(self, sql: str | None) -> None:
        """Run the lines one by one, as psql does with what is pasted."""
        assert sql is not None
        for statement in sql.splitlines():
            self.run(statement)

    def refuses(self, case: str, sql: str) -> bool:
        """Whether the statements fail, as one transaction, in the case's schema."""
        try:
            self.run(f"begin; set local search_path = {case}, public; {sql}; commit")
        except psycopg2.Error:
            self.run("rollback")
            return True
        return False

    def schema(self) -> Schema:
        return self._look(self.url)

    def found(self, rule: str) -> dict[str, Finding]:
        """The rule's findings by the schema they are in: one a case."""
        findings = [finding for finding in audit_schema(self.schema()) if finding.rule.id == rule]
        by_case = {finding.keys[0].referencing.schema: finding for finding in findings}
        assert len(by_case) == len(findings)
        return by_case


@pytest.fixture
def lab(database_url: str, inspect_at: Callable[[str], Schema]) -> Iterator[Laboratory]:
    """A database of the test's own, with a schema per case."""
    laboratory = Laboratory(database_url, inspect_at)
    with closing(laboratory.connection):
        yield laboratory


@pytest.fixture
def role(lab: Laboratory) -> Iterator[str]:
    """A role in the laboratory's server, dropped with all it owns there."""
    name = f"fkd_role_{uuid4().hex}"
    lab.run(f"create role {name}")
    try:
        yield name
    finally:
        lab.reconnect()
        lab.run(f"reassign owned by {name} to current_user")
        lab.run(f"drop owned by {name}; drop role {name}")
