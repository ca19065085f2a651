"""Are the rows that the audit counts those that PostgreSQL's own check would refuse?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fkdoctor.audit import audit_schema
from fkdoctor.config import Config, ReferenceConfig
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.errors import ConfigError
from fkdoctor.inspect import rows as inspect_rows
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare
from fkdoctor.inspect.rowlog import RowLog
from fkdoctor.inspect.rows import (
    Thoroughness,
    choose_references,
    count_rows,
    with_rows_counted,
)
from fkdoctor.schema import Flaw, LogicalReference, RowCount, Schema, Unread

ALL = Thoroughness(exact=True, statement_timeout=0)
SAMPLE = Thoroughness(exact=False, statement_timeout=0)
NO_CONFIG = Config()


def counted(url: str, config: Config = NO_CONFIG, thoroughness: Thoroughness = ALL) -> Schema:
    with connect(open_engine(resolve_target(url, Config()))) as connection:
        schema = declare(inspect_database(connection), config)
        references = choose_references(schema, lambda table: True)
        for counts, unread in count_rows(connection, schema, references, thoroughness):
            schema = with_rows_counted(schema, counts, unread)
    return schema


def by_schema(counts: Iterable[RowCount], flaw: Flaw) -> dict[str, int]:
    return {one.reference.split(".")[0]: one.count for one in counts if one.flaw is flaw}


INT = "create table up (id int primary key); insert into up values (1), (2);"
PAIR = "create table up (x int, y int, primary key (x, y)); insert into up values (1, 1);"
NOCASE = (
    "create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
)

# What is in the tables before the key is added NOT VALID, the key, how many rows dangle.
CASES: dict[str, tuple[str, str, int]] = {
    "clean": (INT + "create table down (a int); insert into down values (1), (null)", "(a)", 0),
    "a_few": (
        INT + "create table down (a int); insert into down values (1), (7), (8), (8), (null)",
        "(a)",
        3,
    ),
    "simple": (
        PAIR + "create table down (x int, y int);"
        "insert into down values (1, 1), (1, 2), (null, 9), (9, null), (null, null)",
        "(x, y)",
        1,
    ),
    "match_full": (
        PAIR + "create table down (x int, y int);"
        "insert into down values (1, 1), (1, 2), (null, 9), (9, null), (null, null)",
        "(x, y) {} match full",
        3,
    ),
    "heirs_below": (
        INT + "create table down (a int); create table heir () inherits (down);"
        "insert into down values (7); insert into heir values (8)",
        "(a)",
        1,
    ),
    "heirs_above": (
        INT + "create table heir () inherits (up); insert into heir values (7);"
        "create table down (a int); insert into down values (7)",
        "(a)",
        1,
    ),
    "other_types": (
        INT + "create table down (a bigint); insert into down values (1), (5000000000)",
        "(a)",
        1,
    ),
    "blanks": (
        "create table up (id char(5) primary key); insert into up values ('a');"
        "create table down (a text); insert into down values ('a'), ('a  '), ('b')",
        "(a)",
        1,
    ),
    "numbers": (
        "create table up (id numeric primary key); insert into up values (1.0), (2);"
        "create table down (a int); insert into down values (1), (2), (3)",
        "(a)",
        1,
    ),
    "collations": (
        "create table up (id text collate \"C\" primary key); insert into up values ('a');"
        "create table down (a text collate \"POSIX\"); insert into down values ('a'), ('b')",
        "(a)",
        1,
    ),
    "partitioned_above": (
        "create table up (id int primary key) partition by range (id);"
        "create table up_1 partition of up for values from (0) to (5);"
        "create table up_2 partition of up for values from (5) to (9);"
        "insert into up values (1), (6); create table down (a int);"
        "insert into down values (1), (6), (7), (77)",
        "(a)",
        2,
    ),
    "odd_names": (
        'create table "Up s" ("id:1" int primary key); create table up () inherits ("Up s");'
        'create table down (a int, "%s;" int primary key); insert into down values (7, 1)',
        '(a) {"Up s"}',
        1,
    ),
}


def test_as_many_rows_dangle_as_postgresql_refuses(lab: Any, has_icu: bool) -> None:
    cases = dict(CASES)
    if has_icu and lab.major < 18:
        cases["nondeterministic"] = (
            NOCASE + "create table up (id text collate nocase primary key);"
            "insert into up values ('a'); create table down (a text);"
            "insert into down values ('A'), ('b')",
            "(a)",
            1,
        )
    for name, (tables, key, _) in cases.items():
        columns, _, rest = key.partition("{")
        target, _, match = rest.partition("}")
        lab.prepare(
            {
                name: f"{tables}; alter table down add constraint k foreign key {columns}"
                f" references {target or 'up'}{match} not valid"
            }
        )
    schema = counted(lab.url)

    assert schema.unread == ()
    expected = {name: dangling for name, (_, _, dangling) in cases.items()}
    assert by_schema(schema.row_counts, Flaw.DANGLING) == expected
    for name, dangling in expected.items():
        refused = lab.refuses(name, "alter table down validate constraint k")
        assert refused is (dangling > 0), name
    halves = by_schema(schema.row_counts, Flaw.HALF_NULL)
    assert halves == {"simple": 2}


def test_rows_behind_a_valid_key_are_found_and_named(lab: Any) -> None:
    lab.prepare(
        {
            "s": INT
            + "create table down (t int, id int, a int references up, primary key (t, id));"
            "alter table down disable trigger all;"
            "insert into down select 1, i, i from generate_series(1, 20) as i",
            "no_key": INT + "create table down (a int references up);"
            "alter table down disable trigger all; insert into down values (7)",
        }
    )
    found = {
        finding.subject: finding.detail
        for finding in audit_schema(counted(lab.url))
        if finding.rule.id == "FK051"
    }

    assert found["s.down.down_a_fkey"].startswith(
        "18 rows of s.down reference nothing in s.up, by the key a → s.up(id). By (t, id): "
        "(1, 3) → 3, (1, 4) → 4,"
    )
    assert found["s.down.down_a_fkey"].endswith("and 8 more.")
    assert "By ctid: (0,1) → 7." in found["no_key.down.down_a_fkey"]


def test_periods_are_covered_by_several_rows_together(lab: Any) -> None:
    up = (
        "create extension if not exists btree_gist schema public;"
        "create table up (id int, during int4range, primary key (id, during without overlaps));"
        "insert into up values (1, '[1,5)'), (1, '[5,9)'), (2, '[1,3)');"
        "create table down (id int, during int4range);"
        "insert into down values (1, '[2,8)'), (2, '[2,4)'), (3, '[1,2)'), (1, '[1,20)');"
    )
    key = "foreign key (id, period during) references up (id, period during)"
    if not lab.prepare(
        {"temporal": (up + f"alter table down add constraint k {key} not valid", 18, 99)}
    ):
        pytest.skip("needs PostgreSQL 18")

    schema = counted(lab.url)
    assert by_schema(schema.row_counts, Flaw.DANGLING) == {"temporal": 3}
    lab.run("delete from temporal.down where id > 1 or upper(during) = 20")
    assert by_schema(counted(lab.url).row_counts, Flaw.DANGLING) == {"temporal": 0}
    assert not lab.refuses("temporal", "alter table down validate constraint k")


def test_declared_references_are_looked_at_like_keys(lab: Any) -> None:
    lab.prepare(
        {
            "s": INT + "create table down (id int primary key, kind text, a int, many int[]);"
            "insert into down values (1, 'x:y', 1, '{1,2}'), (2, 'x:y', 7, '{2,9,8}'),"
            " (3, '%', 8, null), (4, null, null, '{null}')"
        }
    )
    config = Config(
        references=(
            ReferenceConfig(source="s.down.a", target="s.up.id", where="kind = 'x:y'"),
            ReferenceConfig(source="s.down.many[]", target="s.up.id"),
        )
    )
    schema = counted(lab.url, config)

    assert schema.unread == ()
    found = {
        finding.subject: finding for finding in audit_schema(schema) if finding.rule.id == "FK051"
    }
    some = found["s.down.a where kind = 'x:y'"]
    assert "1 row of s.down references nothing in s.up" in some.detail
    assert "By id: 2 → 7." in some.detail
    assert "By id: 2 → 9 and 2 → 8." in found["s.down.many"].detail
    assert {str(table) for table in some.tables} == {
        "s.down",
        "s.up",
    }


def test_a_sample_comes_first_and_alone_where_it_is_enough(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect_rows, "SAMPLED", 2_000)
    lab.prepare(
        {
            "s": INT + "create table down (a int); insert into down select i % 2 * 6 + 1"
            " from generate_series(1, 20000) as i;"
            "alter table down add foreign key (a) references up not valid; analyze down"
        }
    )
    (sampled,) = counted(lab.url, thoroughness=SAMPLE).row_counts
    assert sampled.looked_at is not None
    assert 0 < sampled.count < sampled.looked_at < 20_000

    (exact,) = counted(lab.url).row_counts
    assert (exact.count, exact.looked_at, len(exact.rows)) == (10_000, None, 10)


def test_what_takes_too_long_or_is_forbidden_is_said_and_the_rest_goes_on(
    lab: Any, role: str
) -> None:
    lab.prepare(
        {
            "slow": INT + "create table down (a int); insert into down select 7 from"
            " generate_series(1, 10);"
            "create function crawl(int) returns int language plpgsql as"
            " 'begin perform pg_sleep(1); return $1; end';",
            "hidden": INT + "create table down (a int references up)",
            "quick": INT + "create table down (a int references up)",
        }
    )
    lab.run(f"grant usage on schema slow, hidden, quick to {role}")
    lab.run(f"grant select on all tables in schema slow, quick to {role}")
    config = Config(
        references=(
            ReferenceConfig(source="slow.down.a", target="slow.up.id", where="slow.crawl(a) = 7"),
        )
    )
    thoroughness = Thoroughness(exact=True, statement_timeout=300)
    found: list[RowCount] = []
    unread: list[Unread] = []
    with connect(open_engine(resolve_target(lab.url, NO_CONFIG))) as connection:
        schema = declare(inspect_database(connection), config)
        connection.exec_driver_sql(f"set role {role}")
        connection.commit()
        references = choose_references(schema, lambda table: True)
        for counts, failures in count_rows(connection, schema, references, thoroughness):
            found += counts
            unread += failures

    assert by_schema(found, Flaw.DANGLING) == {"quick": 0}
    reasons = {one.subject: one.reason for one in unread}
    assert "permission denied for table down" in reasons["the rows of hidden.down.down_a_fkey"]
    assert "statement timeout" in reasons["the rows of slow.down.a where slow.crawl(a) = 7"]


def test_row_security_gives_an_error_and_no_wrong_count(lab: Any, role: str) -> None:
    lab.prepare(
        {
            "s": INT + "create table down (a int references up);"
            "alter table down disable trigger all; insert into down values (7);"
            "alter table down enable row level security;"
        }
    )
    lab.run(f"grant usage on schema s to {role}; grant select on s.up, s.down to {role}")
    with connect(open_engine(resolve_target(lab.url, Config()))) as connection:
        schema = inspect_database(connection)
        connection.exec_driver_sql(f"set role {role}")
        connection.commit()
        ((counts, unread),) = count_rows(connection, schema, schema.foreign_keys, ALL)
    assert counts == ()
    assert "row-level security" in unread[0].reason


def test_live_rows_that_reference_deleted_ones_are_counted(lab: Any) -> None:
    up = "create table up (id int primary key, deleted_at date); insert into up values"
    up += " (1, now()), (2, null);"
    rows = "insert into down values (1), (1), (2), (null)"
    lab.prepare(
        {
            "unmarked": f"{up} create table down (a int references up); {rows}",
            "marked": f"{up} create table down (a int references up, is_deleted boolean);"
            f"{rows}; update down set is_deleted = true where ctid = '(0,1)'",
            "unmarked_above": INT + f"create table down (a int references up); {rows}",
        }
    )
    schema = counted(lab.url)
    assert by_schema(schema.row_counts, Flaw.UNDER_DELETED) == {"unmarked": 2, "marked": 1}


def test_a_default_without_a_row_makes_the_delete_fail(lab: Any) -> None:
    down = "create table down (a int {} references up on delete set default);"
    rows = "insert into down values (1)"
    lab.prepare(
        {
            "missing": INT + down.format("default 7") + rows,
            "present": INT + down.format("default 2") + rows,
            "no_default": INT + down.format("") + rows,
            "computed": INT + down.format("default (1 + 6)") + rows,
            "sequence": INT + "create sequence q;" + down.format("default nextval('q')") + rows,
        }
    )
    schema = counted(lab.url)
    missing = by_schema(schema.row_counts, Flaw.NO_DEFAULT)
    assert missing == {"missing": 1, "present": 0, "computed": 1}
    for name, lacks in missing.items():
        assert lab.refuses(name, "delete from up where id = 1") is bool(lacks)


def test_a_log_lets_a_later_look_skip_what_is_known(lab: Any, tmp_path: Path) -> None:
    lab.prepare({"s": INT + "create table down (a int references up, b int references up)"})
    schema = counted(lab.url)
    first, second = schema.foreign_keys
    log = RowLog(tmp_path / "rows.jsonl", schema)
    count = RowCount(
        reference=first.label, flaw=Flaw.DANGLING, count=2, identity=("id",), rows=(("1", None),)
    )
    log.add(first, [count])
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"database": "half a li')

    again = RowLog(tmp_path / "rows.jsonl", schema)
    assert again.find(first) == (count,)
    assert again.find(second) is None
    lab.run(
        "alter table s.down drop constraint down_a_fkey, add constraint down_a_fkey"
        " foreign key (a) references s.up on delete cascade"
    )
    assert again.find(counted(lab.url).foreign_keys[0]) is None

    guessed = LogicalReference(
        referencing=first.referencing,
        referencing_column="a",
        referenced=first.referenced,
        referenced_column="id",
        guessed=True,
    )
    log.add(guessed, [count])
    again = RowLog(tmp_path / "rows.jsonl", schema)
    assert again.find(guessed) is not None
    assert again.find(replace(guessed, guessed=False)) is None

    (tmp_path / "other").write_text("cheese\n")
    with pytest.raises(ConfigError, match="is not a file of row counts"):
        RowLog(tmp_path / "other", schema)


def test_a_valid_key_to_come_is_told_so(lab: Any) -> None:
    lab.prepare({"s": INT + "create table down (a int)"})
    lab.run("alter table s.down add foreign key (a) references s.up not valid")
    (finding,) = (one for one in audit_schema(counted(lab.url)) if one.rule.id == "FK003")
    assert finding.detail.endswith("At the moment none does: validating will succeed.")
    lab.run_each(finding.sql)
