"""Does the SQL that the audit offers give the index that is missing?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fkdoctor.audit import Severity, audit_schema
from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.proof import ask_planner
from fkdoctor.schema import SEQUENTIAL

PLAIN_UP = "create table up (id int primary key); insert into up values (0), (1), (11);"
PARTITIONED_DOWN = (
    "create table down (z int, a int references up) partition by range (z);"
    "create table down_1 partition of down for values from (0) to (10);"
    "create table down_2 partition of down for values from (10) to (20) partition by range (z);"
    "create table down_21 partition of down_2 for values from (10) to (20);"
)
PLAIN_DOWN = "create table down (z int, a int references up);"


@pytest.mark.usefixtures("superuser")
def test_the_pasted_index_covers_partitions_and_those_to_come(lab: Any) -> None:
    lab.prepare(
        {
            "whole": PLAIN_UP + PARTITIONED_DOWN + "create table down_a_idx (id int)",
            "partly": PLAIN_UP + PARTITIONED_DOWN + "create index on down_1 (a)",
            "broken": PLAIN_UP + PLAIN_DOWN + "create index idx on down (a);"
            "update pg_index set indisvalid = false where indexrelid = 'idx'::regclass",
        }
    )
    found = lab.found("FK001")
    for finding in found.values():
        lab.run_each(finding.sql)
    lab.run("create table whole.down_3 partition of whole.down for values from (20) to (30)")

    assert lab.found("FK001") == {}
    assert (found["partly"].sql, found["broken"].sql) == (
        "CREATE INDEX CONCURRENTLY ON partly.down_21 (a);",
        "REINDEX INDEX CONCURRENTLY broken.idx;",
    )


def test_names_that_need_quotes_are_quoted_in_text_and_sql(lab: Any) -> None:
    lab.prepare(
        {
            "odd": 'create table "Up ""1" (id int primary key);'
            'create table "down; drop" ("A b" int constraint "on" references "Up ""1")'
        }
    )
    finding = lab.found("FK001")["odd"]

    assert finding.subject == 'odd."down; drop"."on"'
    assert finding.sql == 'CREATE INDEX CONCURRENTLY ON odd."down; drop" ("A b");'
    lab.run(finding.sql)
    assert lab.found("FK001") == {}


def test_cascade_multiplies_what_a_missing_index_costs(lab: Any) -> None:
    lab.prepare(
        {
            "chain": "create table top (id int primary key);"
            "create table up (id int primary key, top int references top on delete cascade);"
            "create index on up (top);"
            "create table down (a int references up);"
            "insert into top select generate_series(1, 10);"
            "insert into up select i, i % 10 + 1 from generate_series(1, 1000) as i;"
            "insert into down select i % 1000 + 1 from generate_series(1, 5000) as i;"
            "analyze top, up, down"
        }
    )
    schema = lab.schema()
    (finding,) = (one for one in audit_schema(schema) if one.rule.id == "FK001")
    assert "one row of chain.top comes here by CASCADE (chain.top → chain.up)" in finding.detail
    assert "reads about 500,000 rows on average" in finding.detail
    assert finding.severity is Severity.WARNING

    larger = replace(
        schema,
        tables=tuple(
            replace(table, row_estimate=20_000_000) if table.name.name == "down" else table
            for table in schema.tables
        ),
    )
    (finding,) = (one for one in audit_schema(larger) if one.rule.id == "FK001")
    assert finding.severity is Severity.ERROR

    # The oracle: rows that PostgreSQL says it has read for the check of each row.
    lab.run("truncate chain.down; insert into chain.down select null from generate_series(1, 5000)")
    lab.run("begin")
    before = lab.run("select pg_stat_get_xact_tuples_returned('chain.down'::regclass)")[0][0]
    lab.run("delete from chain.top where id = 1")
    after = lab.run("select pg_stat_get_xact_tuples_returned('chain.down'::regclass)")[0][0]
    lab.run("rollback")
    assert after - before == 500_000


def test_the_planners_word_counts_where_it_was_asked(lab: Any) -> None:
    lab.prepare(
        {
            "bare": PLAIN_UP + PLAIN_DOWN,
            "indexed": PLAIN_UP + PLAIN_DOWN + "create index on down (a)",
        }
    )
    with connect(open_engine(resolve_target(lab.url, Config()))) as connection:
        schema = inspect_database(connection)
        asked = ask_planner(connection, schema, schema.foreign_keys)
    (finding,) = (one for one in audit_schema(asked) if one.rule.id == "FK001")
    assert finding.keys[0].referencing.schema == "bare"
    assert "switched off, the planner says: Seq Scan." in finding.detail

    overruled = replace(
        asked,
        plans=tuple(
            replace(plan, columns_found=1, scan="Index Scan using i")
            if plan.table.schema == "bare"
            else replace(plan, columns_found=0, scan=SEQUENTIAL)
            for plan in asked.plans
        ),
    )
    (finding,) = (one for one in audit_schema(overruled) if one.rule.id == "FK001")
    assert finding.keys[0].referencing.schema == "indexed"


def test_an_index_that_only_filters_on_an_empty_table_decides_nothing(lab: Any) -> None:
    lab.prepare(
        {
            "two_ways": PLAIN_UP
            + "create table down (z int not null, a int references up);"
            + "create unique index on down (z, a); create index on down (a); analyze down"
        }
    )
    with connect(open_engine(resolve_target(lab.url, Config()))) as connection:
        schema = inspect_database(connection)
        asked = ask_planner(connection, schema, schema.foreign_keys)
    filtering = replace(
        asked,
        plans=tuple(replace(plan, columns_found=0, scan="Index Scan") for plan in asked.plans),
    )
    for seen in (asked, filtering):
        assert "FK001" not in {finding.rule.id for finding in audit_schema(seen)}
