"""Does coverage say of every shape of index what PostgreSQL does with it?

The oracle is PostgreSQL: a referenced row is deleted, and auto_explain shows the plan of the query
by which the foreign key looks for referencing rows, generic and with sequential scans switched off.
An index serves when it takes the search to the rows by a condition on its leading column; fully,
when its first columns are just those of the key. Shapes 1 to 21 are known to be judged wrongly by
other checkers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.coverage import Support, key_coverage
from fkdoctor.inspect.proof import ask_planner
from fkdoctor.schema import Schema, TableName

NONE, PARTLY, FULLY = Support

ONE = "create table up (id {type} primary key); create table down (a {type} references up, z int);"
TWO = (
    "create table up (x int, y int, primary key (x, y));"
    "create table down (a int, b int, z int, foreign key (a, b) references up);"
)
PARTITIONED = (
    "create table up (id int primary key);"
    "create table down (a int references up, z int) partition by range (z);"
    "create table down_1 partition of down for values from (0) to (10);"
    "create table down_2 partition of down for values from (10) to (20);"
)
ROW = {"int": "1", "text": "'t'", "uuid": "'0b1f7dd2-66c6-4c3c-8b0a-5c9bb8a6a0cd'"}


@dataclass(frozen=True)
class Shape:
    """Tables `up` and `down` with a foreign key and what lies on it, and what is claimed of it."""

    name: str
    sql: str
    support: Support
    row: str = "1"
    since: int = 12
    until: int = 99
    lossy: bool = False


def one(index: str, type: str = "int") -> str:
    return ONE.format(type=type) + index


SHAPES = (
    # The 21 shapes.
    Shape("no_index", one(""), NONE),
    Shape("plain", one("create index on down (a)"), FULLY),
    Shape("descending", one("create index on down (a desc nulls last)"), FULLY),
    Shape("prefix_of_longer", one("create index on down (a, z)"), FULLY),
    Shape("not_leading", one("create index on down (z, a)"), NONE),
    Shape("include_only", one("create index on down (z) include (a)"), NONE),
    Shape("with_include", one("create index on down (a) include (z)"), FULLY),
    Shape("expression", one("create index on down (abs(a))"), NONE),
    Shape("hash", one("create index on down using hash (a)"), FULLY),
    Shape("brin", one("create index on down using brin (a)"), NONE, lossy=True),
    Shape("partial_other", one("create index on down (a) where z = 1"), NONE),
    Shape("partial_not_null", one("create index on down (a) where a is not null"), FULLY),
    Shape("invalid", one("create index idx on down (a); {invalidate}"), NONE),
    Shape(
        "pattern_ops", one("create index on down (a text_pattern_ops)", "text"), FULLY, row="'t'"
    ),
    Shape("other_collation", one('create index on down (a collate "C")', "text"), NONE, row="'t'"),
    Shape("unique_prefix", TWO + "alter table down add primary key (a, b, z)", FULLY, row="1, 1"),
    Shape("composite_same_order", TWO + "create index on down (a, b)", FULLY, row="1, 1"),
    Shape("composite_other_order", TWO + "create index on down (b, a, z)", FULLY, row="1, 1"),
    Shape("composite_gap", TWO + "create index on down (a, z, b)", PARTLY, row="1, 1"),
    Shape(
        "only_leaves", PARTITIONED + "create index on down_1 (a); create index on down_2 (a)", FULLY
    ),
    Shape("whole_partitioned", PARTITIONED + "create index on down (a)", FULLY),
    # More of them.
    Shape("one_leaf", PARTITIONED + "create index on down_1 (a)", NONE),
    Shape(
        "leaves_of_different_worth",
        "create table up (x int, y int, primary key (x, y));"
        "create table down (a int, b int, z int, foreign key (a, b) references up)"
        " partition by range (z);"
        "create table down_1 partition of down for values from (0) to (10);"
        "create table down_2 partition of down for values from (10) to (20);"
        "create index on down_1 (a, b); create index on down_2 (b)",
        PARTLY,
        row="1, 1",
    ),
    Shape(
        "subpartitioned",
        "create table up (id int primary key);"
        "create table down (a int references up, z int) partition by range (z);"
        "create table down_1 partition of down for values from (0) to (10) partition by range (z);"
        "create table down_11 partition of down_1 for values from (0) to (5);"
        "create table down_12 partition of down_1 for values from (5) to (10);"
        "create index on down_11 (a)",
        NONE,
    ),
    Shape("partitioned_root_only", PARTITIONED + "create index on only down (a)", NONE),
    Shape(
        "partitioned_referenced",
        "create table up (id int primary key) partition by range (id);"
        "create table up_1 partition of up for values from (0) to (10);"
        "create table down (a int references up, z int);"
        "create index on down (a)",
        FULLY,
    ),
    Shape(
        "partial_not_null_of_both",
        TWO + "create index on down (a, b) where a is not null and b is not null",
        FULLY,
        row="1, 1",
    ),
    Shape(
        "partial_not_null_of_one",
        TWO + "create index on down (a, b) where b is not null",
        FULLY,
        row="1, 1",
    ),
    Shape("partial_not_null_of_other", one("create index on down (a) where z is not null"), NONE),
    Shape(
        "partial_not_null_and_more",
        one("create index on down (a) where a is not null and z > 0"),
        NONE,
    ),
    Shape(
        "partial_not_null_quoted",
        'create table up (id int primary key); create table down ("A b" int references up);'
        'create index on down ("A b") where "A b" is not null',
        FULLY,
    ),
    Shape("one_of_two", TWO + "create index on down (a)", PARTLY, row="1, 1"),
    Shape("other_one_of_two", TWO + "create index on down (b)", PARTLY, row="1, 1"),
    Shape("hash_of_two", TWO + "create index on down using hash (a)", PARTLY, row="1, 1"),
    Shape("same_column_twice", TWO + "create index on down (a, a, b)", PARTLY, row="1, 1"),
    Shape("expression_first", TWO + "create index on down (abs(z), a, b)", NONE, row="1, 1"),
    Shape("exclusion", one("alter table down add exclude (a with =)"), FULLY),
    Shape(
        "exclusion_gist",
        one("alter table down add exclude using gist (a with =, int4range(z, z + 1) with &&)"),
        FULLY,
    ),
    Shape("gist_not_leading", one("create index on down using gist (z, a)"), NONE),
    Shape("gist_of_two", TWO + "create index on down using gist (b, a)", FULLY, row="1, 1"),
    Shape("gin", one("create index on down using gin (a)"), FULLY),
    Shape("gin_any_place", one("create index on down using gin (z, a)"), FULLY),
    Shape("gin_of_two", TWO + "create index on down using gin (a, z, b)", FULLY, row="1, 1"),
    Shape("gin_one_of_two", TWO + "create index on down using gin (z, b)", PARTLY, row="1, 1"),
    Shape("spgist", one("create index on down using spgist (a)", "text"), FULLY, row="'t'"),
    Shape("uuid", one("create index on down (a)", "uuid"), FULLY, row=ROW["uuid"]),
    Shape(
        "cross_type_narrow",
        "create table up (id bigint primary key); create table down (a int references up);"
        "create index on down (a)",
        FULLY,
    ),
    Shape(
        "cross_type_wide",
        "create table up (id smallint primary key); create table down (a bigint references up);"
        "create index on down (a)",
        FULLY,
    ),
    Shape(
        "cross_type_cast",
        "create table up (id numeric primary key); create table down (a int references up);"
        "create index on down (a)",
        NONE,
    ),
    Shape(
        "cross_type_float",
        "create table up (id double precision primary key);"
        "create table down (a real references up);"
        "create index on down (a)",
        FULLY,
    ),
    Shape(
        "cross_type_date",
        "create table up (id timestamp primary key);"
        "create table down (a date references up);"
        "create index on down (a)",
        FULLY,
        row="'2024-02-29'",
    ),
    Shape(
        "cross_type_varchar",
        "create table up (id text primary key); create table down (a varchar(9) references up);"
        "create index on down (a)",
        FULLY,
        row="'t'",
    ),
    Shape(
        "cross_type_char",
        "create table up (id text primary key); create table down (a char(9) references up);"
        "create index on down (a)",
        NONE,
        row="'t'",
    ),
    Shape(
        "domain",
        "create domain number as int; create domain higher as number;"
        "create table up (id number primary key); create table down (a higher references up);"
        "create index on down (a)",
        FULLY,
    ),
    Shape(
        "referenced_in_other_collation",
        'create table up (id text collate "C" primary key);'
        "create table down (a text references up);"
        "create index on down (a)",
        FULLY,
        row="'t'",
    ),
    Shape(
        "index_in_referenced_collation",
        'create table up (id text collate "C" primary key);'
        "create table down (a text references up);"
        'create index on down (a collate "C")',
        NONE,
        row="'t'",
    ),
    Shape(
        "referencing_in_other_collation",
        "create table up (id text primary key);"
        'create table down (a text collate "C" references up);'
        "create index on down (a)",
        FULLY,
        row="'t'",
    ),
    Shape(
        "nondeterministic_referencing",
        "create collation same (provider = icu, locale = 'und', deterministic = false);"
        "create table up (id text primary key);"
        "create table down (a text collate same references up);"
        "create index on down (a)",
        FULLY,
        row="'t'",
        until=17,
    ),
    Shape(
        "index_in_referenced_nondeterministic",
        "create collation same (provider = icu, locale = 'und', deterministic = false);"
        "create table up (id text collate same primary key);"
        "create table down (a text references up);"
        "create index on down (a collate same)",
        FULLY,
        row="'t'",
        until=17,
    ),
    Shape(
        "both_nondeterministic",
        "create collation same (provider = icu, locale = 'und', deterministic = false);"
        "create table up (id text collate same primary key);"
        "create table down (a text collate same references up);"
        "create index on down (a)",
        FULLY,
        row="'t'",
    ),
    Shape(
        "nondeterministic_referenced",
        "create collation same (provider = icu, locale = 'und', deterministic = false);"
        "create table up (id text collate same primary key);"
        "create table down (a text references up);"
        "create index on down (a)",
        NONE,
        row="'t'",
        until=17,
    ),
    Shape(
        "self_reference",
        "create table down (id int primary key, a int references down);create index on down (a)",
        FULLY,
        row="1, null",
    ),
    Shape(
        "cascade",
        "create table up (id int primary key);"
        "create table down (a int references up on delete cascade);"
        "create index on down (a)",
        FULLY,
    ),
    Shape(
        "nulls_not_distinct",
        one("create unique index on down (a, z) nulls not distinct"),
        FULLY,
        since=15,
    ),
    Shape(
        "enum",
        "create type state as enum ('on', 'off');"
        "create table up (id state primary key); create table down (a state references up);"
        "create index on down (a)",
        FULLY,
        row="'on'",
    ),
    Shape(
        "period",
        "create table up (id int, at daterange, primary key (id, at without overlaps));"
        "create table down (a int, b daterange,"
        " foreign key (a, period b) references up (id, period at));"
        "create index on down using gist (a, b)",
        FULLY,
        row="1, '[2024-01-01,2025-01-01)'",
        since=18,
    ),
    Shape(
        "period_unindexed",
        "create table up (id int, at daterange, primary key (id, at without overlaps));"
        "create table down (a int, b daterange,"
        " foreign key (a, period b) references up (id, period at));",
        NONE,
        row="1, '[2024-01-01,2025-01-01)'",
        since=18,
    ),
)

INVALIDATE = "update pg_catalog.pg_index set indisvalid = false where indexrelid = 'idx'::regclass"


@dataclass(frozen=True)
class Observed:
    """The Schema of all shapes, and the plans of the lookups that their deletes did."""

    url: str
    schema: Schema
    plans: dict[str, list[dict[str, object]]]


@pytest.fixture(scope="module")
def observed(make_template: object, server_url: str, has_icu: bool) -> Iterator[Observed]:
    name = make_template(lambda url: None)  # type: ignore[operator]
    url = psycopg2.extensions.make_dsn(server_url, dbname=name)
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("select rolsuper from pg_roles where rolname = current_user")
            if cursor.fetchone() != (True,):
                pytest.skip("auto_explain is loaded by superusers only")
            cursor.execute("create extension btree_gist; create extension btree_gin")
        plans = {
            shape.name: _delete_and_explain(connection, shape)
            for shape in SHAPES
            if _exists(shape, connection, has_icu)
        }
    with connect(open_engine(resolve_target(url, Config()))) as reading:
        yield Observed(url=url, schema=inspect_database(reading), plans=plans)


def _exists(shape: Shape, connection: Connection, has_icu: bool) -> bool:
    if "provider = icu" in shape.sql and not has_icu:
        return False
    return shape.since <= connection.server_version // 10000 <= shape.until


def _delete_and_explain(connection: Connection, shape: Shape) -> list[dict[str, object]]:
    with connection.cursor() as cursor:
        cursor.execute(f"create schema {shape.name}; set search_path = {shape.name}, public")
        cursor.execute(shape.sql.replace("{invalidate}", INVALIDATE))
        table = "up" if "create table up" in shape.sql else "down"
        cursor.execute(f"insert into {table} values ({shape.row})")
        cursor.execute(
            "load 'auto_explain';"
            "set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;"
            "set auto_explain.log_format = json; set auto_explain.log_level = notice;"
            "set plan_cache_mode = force_generic_plan; set enable_seqscan = off"
        )
        notices: list[str] = []
        connection.notices = notices
        cursor.execute(f"delete from {table}")
        connection.notices = []
        cursor.execute("discard all")
    plans = [json.loads(text.partition("plan:\n")[2]) for text in notices if "plan:\n" in text]
    lookups = [plan for plan in plans if re.search(r'"down\w*" (x )?WHERE \$1', plan["Query Text"])]
    assert len(lookups) == 1, f"the foreign key asks once: {plans}"
    return list(_scans(lookups[0]["Plan"]))


def _scans(node: dict[str, object]) -> Iterator[dict[str, object]]:
    """The nodes that read a table or, below a bitmap, an index."""
    below = node.get("Plans", [])
    assert isinstance(below, list)
    bitmap = [child for child in below if child["Node Type"] == "Bitmap Index Scan"]
    if bitmap:
        yield {**bitmap[0], "Relation Name": node["Relation Name"]}
        return
    of_referencing = str(node.get("Relation Name", "")).startswith("down")
    if of_referencing and str(node["Node Type"]).endswith("Scan"):
        yield node
    for child in below:
        yield from _scans(child)


def _planned_support(observed: Observed, shape: Shape) -> Support:
    """What the plans say: the worst of all tables read."""
    wanted = set(observed.schema.keys_from(TableName(shape.name, "down"))[0].referencing_columns)
    worst = Support.FULLY
    for scan in observed.plans[shape.name]:
        table = observed.schema.table(TableName(shape.name, str(scan["Relation Name"])))
        condition = str(scan.get("Index Cond", ""))
        found = {name for name in wanted if re.search(rf"\b{name}\b", condition)}
        if not found:
            worst = min(worst, Support.NONE)
            continue
        (index,) = (i for i in table.indexes if i.name == scan["Index Name"])
        leading = [part.column for part in index.keys[: len(wanted)]]
        if index.method == "gin":
            leading = [part.column for part in index.keys]
        elif leading[0] not in found:
            worst = min(worst, Support.NONE)
            continue
        worst = min(worst, Support.FULLY if found & set(leading) == wanted else Support.PARTLY)
    assert observed.plans[shape.name]
    return worst


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_coverage_is_what_the_planner_does(observed: Observed, shape: Shape) -> None:
    if shape.name not in observed.plans:
        pytest.skip(f"takes PostgreSQL {shape.since} to {shape.until}, perhaps with ICU")
    (key,) = observed.schema.keys_from(TableName(shape.name, "down"))

    assert key_coverage(observed.schema, key).support is shape.support
    if shape.lossy:
        # The planner takes it, but a BRIN index leads to whole ranges of blocks.
        assert [scan["Node Type"] for scan in observed.plans[shape.name]] == ["Bitmap Index Scan"]
    else:
        assert _planned_support(observed, shape) is shape.support


def test_the_planner_says_when_asked_what_it_does(observed: Observed) -> None:
    with connect(open_engine(resolve_target(observed.url, Config()))) as connection:
        asked = ask_planner(connection, observed.schema, observed.schema.foreign_keys)
    assert asked.unread == ()
    for shape in SHAPES:
        if shape.name in observed.plans and "period" not in shape.name:
            (key,) = asked.keys_from(TableName(shape.name, "down"))
            worst = min(plan.columns_found for plan in asked.plans_for(key))
            columns = len(key.referencing_columns)
            said = Support.FULLY if worst == columns else Support.PARTLY if worst else Support.NONE
            assert said is shape.support, shape.name


def test_the_partitions_that_lack_an_index_are_named(observed: Observed) -> None:
    (key,) = observed.schema.keys_from(TableName("one_leaf", "down"))

    assert key_coverage(observed.schema, key).lacking == (TableName("one_leaf", "down_2"),)


def test_an_index_that_does_not_serve_says_why(observed: Observed) -> None:
    obstacles = {}
    for name in (
        "not_leading",
        "partial_other",
        "invalid",
        "other_collation",
        "brin",
        "expression",
    ):
        (key,) = observed.schema.keys_from(TableName(name, "down"))
        obstacles[name] = [fit.obstacle for fit in key_coverage(observed.schema, key).near_misses]

    assert obstacles == {
        "not_leading": ["begins with z"],
        "partial_other": ["leaves out references: WHERE (z = 1)"],
        "invalid": ["is INVALID (its build failed, or is still running)"],
        "other_collation": [
            'sorts a by pg_catalog."C", while the foreign key compares by pg_catalog."default"'
        ],
        "brin": ["is a BRIN index, which finds blocks and not rows"],
        "expression": [],
    }
