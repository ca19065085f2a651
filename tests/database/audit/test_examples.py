"""Does each rule find what its bad.sql shows, and nothing else, and does its remedy work?"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest

from fkdoctor.audit import RULES, Finding, Rule, audit_schema
from fkdoctor.audit.explanation import explain_rule
from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.identifier import quote
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.django_models import with_django_models
from fkdoctor.inspect.models import with_models
from fkdoctor.inspect.rows import (
    Thoroughness,
    choose_references,
    count_rows,
    with_rows_counted,
)
from fkdoctor.schema import Schema

NEEDS_SUPERUSER = {"FK005", "FK006", "FK007", "FK035", "FK037", "FK044"}
NEEDS_ICU = {"FK016"}
PASTABLE = {
    "FK001",
    "FK002",
    "FK003",
    "FK004",
    "FK005",
    "FK006",
    "FK007",
    "FK011",
    "FK017",
    "FK020",
    "FK021",
    "FK033",
    "FK035",
    "FK038",
    "FK042",
    "FK043",
    "FK044",
    "FK045",
    "FK048",
}


def run(url: str, sql: str) -> None:
    """Run the statements, each in a transaction of its own as psql would."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            if "$$" in sql:
                cursor.execute(sql)
                return
            for statement in sql.split(";\n"):
                if statement.strip():
                    cursor.execute(statement)


def look(url: str, *, rows: bool, model: str | None) -> Schema:
    with connect(open_engine(resolve_target(url, Config()))) as connection:
        schema = inspect_database(connection)
        if model and "django" in Path(model).read_text(encoding="utf-8"):
            schema = with_django_models(schema, import_django_models(model))
        elif model:
            schema = with_models(schema, f"{Path(model).stem}:Base")
        if rows:
            thorough = Thoroughness(exact=True, statement_timeout=0)
            references = choose_references(schema, lambda table: True)
            for counts, unread in count_rows(connection, schema, references, thorough):
                schema = with_rows_counted(schema, counts, unread)
        return schema


def import_django_models(model: str) -> list[Any]:
    django = pytest.importorskip("django")
    from django.conf import settings
    from django.test.utils import isolate_apps

    if not settings.configured:
        settings.configure()
        django.setup()
    with isolate_apps() as apps:
        importlib.import_module(Path(model).stem)
        return [model for of_app in apps.all_models.values() for model in of_app.values()]


def found(url: str, *, rows: bool = False, model: str | None = None) -> tuple[Finding, ...]:
    schema = look(url, rows=rows, model=model)
    assert schema.unread == ()
    return audit_schema(schema)


@pytest.fixture
def example_url(rule: Rule, database_url: str, has_icu: bool) -> Iterator[str]:
    """An empty database, if the rule can speak on this server."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        major = connection.server_version // 10000
        if not (rule.since or major) <= major <= (rule.until or major):
            pytest.skip(f"{rule.id} does not speak on PostgreSQL {major}")
        if rule.id in NEEDS_SUPERUSER:
            cursor.execute("select rolsuper from pg_roles where rolname = current_user")
            if cursor.fetchone() != (True,):
                pytest.skip("the example needs a superuser")
    if rule.id in NEEDS_ICU and not has_icu:
        pytest.skip("the server is built without ICU")
    yield database_url
    if rule.id == "FK037":  # A database with a subscription can't be dropped.
        run(database_url, "drop subscription example_feed")


@pytest.fixture
def model(rule: Rule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str | None:
    """The file of a module with the example's model, to be imported; None if it has none."""
    source = explain_rule(rule.id).model
    if source is None:
        return None
    name = f"model_{uuid4().hex}"
    path = tmp_path / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return str(path)


def in_database(keys: frozenset[str], url: str) -> list[str]:
    with closing(psycopg2.connect(url)) as connection:
        name = quote(connection.info.dbname)
    return sorted(key.replace("current_database()", name) for key in keys)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_bad_example_is_found_and_nothing_else(
    rule: Rule, example_url: str, model: str | None
) -> None:
    explanation = explain_rule(rule.id)
    run(example_url, explanation.bad)

    assert sorted(
        finding.key for finding in found(example_url, rows=rule.reads_rows, model=model)
    ) == in_database(explanation.found_in_bad, example_url)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_good_example_has_no_finding(rule: Rule, example_url: str, model: str | None) -> None:
    explanation = explain_rule(rule.id)
    run(example_url, explanation.good)

    keys = {finding.key for finding in found(example_url, rows=rule.reads_rows, model=model)}
    assert keys == explanation.found_in_good


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.id in PASTABLE], ids=lambda rule: rule.id
)
def test_pasted_sql_ends_the_finding(rule: Rule, example_url: str) -> None:
    run(example_url, explain_rule(rule.id).bad)
    (finding,) = (finding for finding in found(example_url) if finding.rule is rule)
    assert finding.sql is not None

    run(example_url, finding.sql)

    assert rule.id not in [finding.rule.id for finding in found(example_url)]
