"""Which columns look like references, and does what is to be pasted declare them?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fkdoctor.audit import audit_schema
from fkdoctor.config import Config, ReferenceConfig, load_config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.errors import ConfigError, UnknownName
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare
from fkdoctor.inspect.rows import (
    Thoroughness,
    choose_references,
    count_kinds_of_references,
    count_rows,
    with_rows_counted,
)

UP = "create table {} (id int primary key);"


def subjects(schema: Any, rule: str) -> dict[str, Any]:
    return {finding.subject: finding for finding in audit_schema(schema) if finding.rule.id == rule}


def test_columns_look_like_references_by_name_and_type(lab: Any) -> None:
    lab.prepare(
        {
            "singular": UP.format("person") + "create table down (person_id int)",
            "plural": UP.format("people_groups") + "create table down (people_group_id int)",
            "in_y": UP.format("cities") + "create table down (city_id int)",
            "role": UP.format("users") + "create table down (created_by_user_id int)",
            "camel": UP.format("users") + 'create table down ("userId" int)',
            "own_key_name": "create table films (film_key int primary key);"
            "create table down (film_key int)",
            "itself": "create table node (id int primary key, parent_node_id int)",
            "declared": UP.format("users") + "create table down (user_id int references users)",
            "other_type": UP.format("users") + "create table down (user_id text)",
            "no_table": UP.format("users") + "create table down (client_id int)",
            "the_key": "create table a (film_id int primary key);",
            "ambiguous": UP.format("users")
            + UP.format('"user"')
            + "create table down (user_id int)",
            "composite": "create table users (t int, id int, primary key (t, id));"
            "create table down (user_id int)",
            "polymorphic": UP.format("users") + "create table down (user_type text, user_id int)",
            "key_of_another": UP.format("finding")
            + "create table score (finding_key int primary key references finding);"
            "create table down (finding_key int)",
            "key_of_two": UP.format("finding")
            + "create table score (finding_key int primary key references finding);"
            "create table other (finding_key int primary key); create table down (finding_key int)",
            "key_with_an_extension": "create table films (film_nr_key int primary key);"
            "create table film_text (film_nr_key int primary key references films);"
            "create table down (film_nr_key int)",
            "other_events": UP.format("events")
            + UP.format("user_audit_events")
            + "create table down (audit_event_id int)",
            "own_name": "create table reactions (id int primary key, reaction_id int)",
            "outside": "create table down (external_type text, external_id text)",
        }
    )
    assert set(subjects(lab.schema(), "FK048")) == {
        "singular.down.person_id",
        "plural.down.people_group_id",
        "in_y.down.city_id",
        "role.down.created_by_user_id",
        'camel.down."userId"',
        "own_key_name.down.film_key",
        "itself.node.parent_node_id",
        "key_with_an_extension.down.film_nr_key",
    }
    assert set(subjects(lab.schema(), "FK049")) == {"polymorphic.down.user_id"}


def test_what_is_pasted_adopts_the_reference_and_leaves_it_indexed(lab: Any) -> None:
    long = "a_table_with_a_name_that_is_nearly_as_long_as_names_may_be"
    lab.prepare(
        {
            "bare": UP.format("users") + f"create table {long} (user_id int)",
            "partial": UP.format("users")
            + "create table down (user_id int, gone boolean);"
            + "create index on down (user_id) where not gone",
            "not_null": UP.format("users")
            + "create table down (user_id int);"
            + "create index on down (user_id) where user_id is not null",
        }
    )
    hints = subjects(lab.schema(), "FK048")
    indexed = {one for one, hint in hints.items() if "it is indexed" in hint.detail}
    assert indexed == {"not_null.down.user_id"}
    for hint in hints.values():
        lab.run_each(hint.sql)

    schema = lab.schema()
    assert {key.name for key in schema.foreign_keys} == {
        "down_user_id_fkey",
        f"{long}_user_id"[:58] + "_fkey",
    }
    assert subjects(schema, "FK048") == subjects(schema, "FK001") == {}


def test_arrays_look_like_references_by_their_elements(lab: Any) -> None:
    lab.prepare(
        {
            "listed": UP.format("jobs") + "create table down (job_ids int[], job_names text[])",
            "other_type": UP.format("jobs") + "create table down (job_ids text[])",
        }
    )
    assert set(subjects(lab.schema(), "FK050")) == {"listed.down.job_ids"}


def test_lists_in_json_are_told_and_not_looked_into(lab: Any) -> None:
    lab.prepare({"s": UP.format("jobs") + "create table down (job_ids jsonb, other jsonb)"})
    (hint,) = subjects(lab.schema(), "FK050").values()
    assert (hint.subject, hint.toml) == ("s.down.job_ids", None)
    with connect(open_engine(resolve_target(lab.url, Config()))) as connection:
        assert choose_references(inspect_database(connection), lambda table: True) == ()


def test_the_kinds_that_rows_have_become_references(lab: Any, tmp_path: Path) -> None:
    lab.prepare(
        {
            "s": UP.format("posts")
            + UP.format("user_accounts")
            + "create table tag (id text primary key);"
            + "create table down (id int primary key, owner_type text, owner_id int);"
            "insert into posts values (1); insert into down values (1, 'Blog::Post', 1),"
            " (2, 'Blog::Post', 7), (3, 'UserAccount', 8), (4, 'Tag', 1), (5, 'it''s', 1),"
            " (6, 'Post', null), (7, null, 7)"
        }
    )
    with connect(open_engine(resolve_target(lab.url, Config()))) as connection:
        schema = count_kinds_of_references(
            connection, inspect_database(connection), lambda table: True, 0
        )
    assert schema.unread == ()
    (hint,) = subjects(schema, "FK049").values()
    assert hint.detail.endswith("it says Blog::Post (2), Tag (1), UserAccount (1) and it's (1).")

    path = tmp_path / "fkdoctor.toml"
    path.write_text(hint.toml, encoding="utf-8")
    config = load_config(path)
    assert [reference.where for reference in config.references] == [
        "owner_type = 'Blog::Post'",
        "owner_type = 'UserAccount'",
    ]
    with connect(open_engine(resolve_target(lab.url, Config()))) as connection:
        schema = declare(inspect_database(connection), config)
        thorough = Thoroughness(exact=True, statement_timeout=0)
        for counts, unread in count_rows(
            connection, schema, choose_references(schema, lambda table: True), thorough
        ):
            schema = with_rows_counted(schema, counts, unread)
    assert schema.unread == ()
    dangling = [one.detail for one in audit_schema(schema) if one.rule.id == "FK051"]
    assert ["2 → 7" in dangling[0], "3 → 8" in dangling[1]] == [True, True]
    assert subjects(schema, "FK049") == {}


def test_what_is_pasted_ends_the_hint(lab: Any, tmp_path: Path) -> None:
    lab.prepare(
        {
            "Plain": "" or UP.format('"Up s"'),
            "listed": UP.format("jobs") + "create table down (job_ids int[], job_id int)",
        }
    )
    schema = lab.schema()
    blocks = [
        finding.toml for rule in ("FK048", "FK050") for finding in subjects(schema, rule).values()
    ]
    path = tmp_path / "fkdoctor.toml"
    path.write_text("\n\n".join(blocks), encoding="utf-8")
    declared = declare(schema, load_config(path))

    assert [reference.arrow for reference in declared.references] == [
        "job_id → listed.jobs(id)",
        "job_ids[] → listed.jobs(id)",
    ]
    assert subjects(declared, "FK048") == subjects(declared, "FK050") == {}


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("s.down.nothing", "s.up.id", "has no such column"),
        ("s.nothing.a", "s.up.id", "there is no such table"),
        ("a.b.c.d", "s.up.id", "there is no such table"),
        ("s.down.a[]", "s.up.id", "does not fit"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(
    lab: Any, source: str, target: str, told: str
) -> None:
    lab.prepare({"s": UP.format("up") + "create table down (a int)"})
    config = Config(references=(ReferenceConfig(source=source, target=target),))
    with pytest.raises((ConfigError, UnknownName), match=told):
        declare(lab.schema(), config)


def test_a_bare_table_is_looked_up_in_the_configured_schemas(lab: Any) -> None:
    lab.prepare({"s": UP.format("up") + "create table down (a int)"})
    config = replace(Config(), references=(ReferenceConfig(source="down.a", target="up.id"),))
    (reference,) = declare(lab.schema(), config).references
    assert reference.label == "s.down.a"


def test_the_rows_confirm_a_hint_or_end_it(lab: Any) -> None:
    tables = UP.format("jobs") + "create table down (job_id int, job_ids int[]);"
    tables += "insert into jobs select generate_series(1, 100);"
    lab.prepare(
        {
            "all_there": tables + "insert into down select i, array[i, 1]"
            " from generate_series(1, 100) as i",
            "mostly": tables
            + "insert into down select i, array[i] from generate_series(5, 105) as i",
            "others": tables + "insert into down select i * 7, array[i * 7]"
            " from generate_series(1, 100) as i",
            "empty": tables,
        }
    )
    with connect(open_engine(resolve_target(lab.url, Config()))) as connection:
        schema = inspect_database(connection)
        thorough = Thoroughness(exact=True, statement_timeout=0)
        for counts, unread in count_rows(
            connection, schema, choose_references(schema, lambda table: True), thorough
        ):
            schema = with_rows_counted(schema, counts, unread)

    assert schema.unread == ()
    hints = subjects(schema, "FK048")
    held = {name: finding.detail.partition("; ")[2] for name, finding in hints.items()}
    assert set(hints) == {"all_there.down.job_id", "mostly.down.job_id", "empty.down.job_id"}
    assert hints["all_there.down.job_id"].detail.endswith(
        "Of 100 sampled values 100 are keys there."
    )
    assert "Of 101 sampled values 96 are keys there." in held["mostly.down.job_id"]
    assert "No row that was looked at has a value." in held["empty.down.job_id"]
    lists = subjects(schema, "FK050")
    assert set(lists) == {"all_there.down.job_ids", "mostly.down.job_ids", "empty.down.job_ids"}
    assert subjects(schema, "FK051") == {}


def test_what_a_path_in_json_leads_to_is_counted(lab: Any) -> None:
    lab.prepare(
        {
            "s": UP.format("jobs")
            + """create table down (id int primary key, doc jsonb, old json, kind text);
            insert into jobs select generate_series(1, 5);
            insert into down values (1, '{"jobs": [{"id": 1}, {"id": 7}, {"id": "8"}]}', '[2, 9]'),
                (2, '{"jobs": [{"id": null}, {"id": [9]}, 9]}', '[]'), (3, '{"jobs": 7}', null),
                (4, null, '{"jobs": 9}'), (5, '{"jobs": [{"id": 3}]}', '[5]');"""
        }
    )
    references = (
        ReferenceConfig(source="s.down.doc", target="s.jobs.id", path="$.jobs[*].id"),
        ReferenceConfig(source="s.down.old", target="s.jobs.id", path="$[*]"),
    )
    with connect(open_engine(resolve_target(lab.url, Config()))) as connection:
        schema = declare(inspect_database(connection), Config(references=references))
        found = [
            (counts[0].count, counts[0].rows)
            for counts, unread in count_rows(
                connection,
                schema,
                schema.references,
                Thoroughness(exact=True, statement_timeout=0),
            )
            if not unread
        ]
    assert found == [(2, (("1", "7"), ("1", "8"))), (1, (("1", "9"),))]
