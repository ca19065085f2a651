"""Does a DELETE go as far as the audit says, and in whose tables?"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from random import Random
from typing import Any

import psycopg2
import pytest

from fkdoctor.audit import audit_schema
from fkdoctor.audit.cascade import Cascades
from fkdoctor.audit.rules.reach import Cascade, measure_cascade
from fkdoctor.schema import TableName

UP = "create table up (id int primary key); insert into up values (0), (1);"


def table(name: str, above: str, action: str = "cascade") -> str:
    return f"create table {name} (id int primary key, a int references {above} on delete {action});"


def chain(depth: int, action: str = "cascade") -> str:
    names = ["up", *(f"t{number}" for number in range(1, depth + 1))]
    return UP + "".join(table(here, above, action) for above, here in itertools.pairwise(names))


def star(width: int) -> str:
    return UP + "".join(table(f"t{number}", "up") for number in range(width))


def filled(each: int) -> str:
    return (
        "create table up (id int primary key); insert into up select generate_series(1, 10);"
        + table("mid", "up")
        + table("down", "mid")
        + "insert into mid select i, i % 10 + 1 from generate_series(1, 100) as i;"
        + f"insert into down select i, i % 100 + 1 from generate_series(1, {100 * each}) as i;"
        + "analyze up, mid, down"
    )


def subjects(lab: Any, rule: str) -> dict[str, Any]:
    found = [finding for finding in audit_schema(lab.schema()) if finding.rule.id == rule]
    return {finding.subject: finding for finding in found}


def test_a_cascade_is_wide_by_levels_tables_or_rows(lab: Any) -> None:
    lab.prepare(
        {
            "two": chain(2),
            "three": chain(3),
            "three_nulling": chain(3, "set null"),
            "nine": star(9),
            "ten": star(10),
            "few_rows": filled(100),
            "many_rows": filled(1_000),
            "in_a_circle": UP
            + "alter table up add b int;"
            + chain(3)[len(UP) :]
            + "alter table up add foreign key (b) references t3 on delete cascade",
        }
    )
    found = subjects(lab, "FK027")

    assert set(found) == {"three.up", "ten.up", "many_rows.up"}
    assert (
        "rows of 3 tables, 3 levels deep: three.t1 (level 1), three.t2" in found["three.up"].detail
    )
    assert found["ten.up"].detail.endswith("ten.t7 (level 1) and 2 more.")


def test_the_average_is_that_of_real_deletes(lab: Any) -> None:
    lab.prepare({"rows": filled(100)})
    schema = lab.schema()
    root, mid, down = (TableName("rows", name) for name in ("up", "mid", "down"))
    cascade = measure_cascade(schema, Cascades(schema), root)
    assert isinstance(cascade, Cascade)
    assert cascade.levels == {mid: 1, down: 2}
    assert cascade.rows == {mid: 10.0, down: 1_000.0}

    lab.run("delete from rows.up where id <= 5")
    left = [lab.run(f"select count(*) from {name}")[0][0] for name in (mid, down)]
    assert left == [100 - 5 * 10, 10_000 - 5 * 1_000]


def test_no_average_is_made_up_where_there_are_no_statistics(lab: Any) -> None:
    lab.prepare({"three": chain(3)})

    assert "average" not in subjects(lab, "FK027")["three.up"].detail


def test_keys_that_null_on_the_way_are_counted(lab: Any) -> None:
    lab.prepare(
        {
            "three": chain(3)
            + table("one", "t3", "set null")
            + table("two", "up", "set null")
            + table("refusing", "t2", "restrict")
        }
    )

    assert "On the way 2 keys do SET NULL or" in subjects(lab, "FK027")["three.up"].detail


def random_cascades(random: Random) -> str:
    names = range(7)
    tables = "".join(f"create table t{name} (id int primary key);" for name in names)
    keys = []
    for number in range(random.randint(4, 10)):
        here, there = random.sample(names, 2)
        keys.append(
            f"alter table t{here} add column c{number} int references t{there}"
            f" on delete {random.choice(('cascade', 'cascade', 'set null'))};"
        )
    return tables + "".join(keys)


def test_on_random_tables_rows_of_every_level_go_and_of_no_other_table(lab: Any) -> None:
    random = Random(27)
    names = lab.prepare({f"r{number}": random_cascades(random) for number in range(20)})
    schema = lab.schema()
    cascades = Cascades(schema)
    measured = 0
    for name in names:
        for number in range(7):
            root = TableName(name, f"t{number}")
            cascade = measure_cascade(schema, cascades, root)
            levels = cascade.levels if cascade else {}
            ids = {root: 1}
            lab.run(f"insert into {root} values (1)")
            for place, key in enumerate(cascade.keys if cascade else (), 2):
                ids[key.referencing] = place
                lab.run(
                    f"insert into {key.referencing} (id, {key.referencing_columns[0]})"
                    f" values ({place}, {ids[key.referenced]})"
                )
            lab.run(f"delete from {root}")
            assert not any(lab.run(f"select id from {reached}") for reached in ids)
            assert set(levels) == set(ids) - {root}
            # What is not reached keeps its rows, whatever they reference.
            for other in {TableName(name, f"t{n}") for n in range(7)} - set(ids):
                for key in schema.keys_from(other):
                    if key.referenced in ids:
                        lab.run(
                            f"insert into {key.referenced} (id) values (1) on conflict do nothing"
                        )
                        lab.run(
                            f"insert into {other} (id, {key.referencing_columns[0]}) values (1, 1)"
                        )
                        lab.run(f"insert into {root} (id) values (1) on conflict do nothing")
                        lab.run(f"delete from {root}")
                        assert lab.run(f"select id from {other}") == [(1,)]
                        lab.run(f"delete from {other}")
            lab.run("truncate " + ", ".join(f"{name}.t{n}" for n in range(7)))
            measured += len(levels)

    assert measured > 50


def test_a_circle_of_cascades_comes_back(lab: Any) -> None:
    def circle(one: str, other: str) -> str:
        return (
            "create table up (id int primary key, a int);"
            f"create table down (id int primary key, a int references up on delete {one});"
            f"alter table up add foreign key (a) references down on delete {other};"
        )

    cases = lab.prepare(
        {
            "all_of_them": circle("cascade", "cascade"),
            "nulling": circle("cascade", "set null"),
            "refusing": circle("cascade", "restrict"),
            "itself": "create table down (id int primary key,"
            " a int references down on delete cascade);"
            "create table up (id int primary key, a int)",
        }
    )
    for case in set(cases) - {"itself"}:
        lab.run(
            f"insert into {case}.up values (1, null), (2, null), (3, null);"
            f"insert into {case}.down values (1, 1), (2, 2);"
            f"update {case}.up set a = id - 1 where id > 1"
        )
    lab.run("delete from all_of_them.up where id = 1")
    assert (
        lab.run("select * from all_of_them.up") == lab.run("select * from all_of_them.down") == []
    )
    lab.run("delete from nulling.up where id = 1")
    assert lab.run("select count(*) from nulling.up") == [(2,)]
    assert set(subjects(lab, "FK028")) == {"all_of_them.down"}


@pytest.mark.usefixtures("superuser")
def test_an_action_changes_rows_of_another_owner_unseen(lab: Any, role: str) -> None:
    down = "create table down (a int {} references up on delete {});"
    mine = f"alter table up owner to {role}; grant usage on schema {{}} to {role};"
    cases = lab.prepare(
        {
            "theirs": UP + down.format("", "cascade") + mine.format("theirs"),
            "nulled": UP + down.format("", "set null") + mine.format("nulled"),
            "updated": UP
            + "create table down (a int references up on update cascade);"
            + mine.format("updated"),
            "refused": UP + down.format("", "restrict") + mine.format("refused"),
            "same": UP + down.format("", "cascade"),
            "elsewhere": UP
            + "drop schema if exists aside cascade; create schema aside;"
            + "create table aside.down (a int references up on delete cascade);",
        }
    )
    found = subjects(lab, "FK029")

    assert {key: finding.severity.label for key, finding in found.items()} == {
        "theirs.down.down_a_fkey": "warning",
        "nulled.down.down_a_fkey": "warning",
        "updated.down.down_a_fkey": "warning",
        "aside.down.down_a_fkey": "info",
    }
    for case in ("theirs", "nulled"):
        lab.run(f"insert into {case}.down values (1); set role {role}")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            lab.run(f"delete from {case}.down")
        lab.run(f"delete from {case}.up where id = 1; reset role")
        assert lab.run(f"select a from {case}.down") == ([(None,)] if case == "nulled" else [])
    assert len(cases) == 6


@pytest.mark.parametrize(
    ("name", "is_record"),
    [
        ("audit_events", True),
        ("order_history", True),
        ("logs", True),
        ("login_log", True),
        ("change_audit_trail", True),
        ("general_ledger", True),
        ("log_entries", True),
        ("web_hook_logs_daily", True),
        ("logs_p20240101", True),
        ("audit_event_filters", False),
        ("logs_issues_connections", False),
        ("blog_posts", False),
        ("catalog", False),
        ("dialogue", False),
        ("prehistory", False),
        ("auditions", False),
        ("technologies", False),
    ],
)
def test_tables_of_records_are_known_by_whole_words(
    make_schema_with: Callable[[str], Any], name: str, is_record: bool
) -> None:
    found = [finding.rule.id for finding in audit_schema(make_schema_with(name))]

    assert ("FK030" in found) is is_record


@pytest.fixture
def make_schema_with(lab: Any) -> Callable[[str], Any]:
    """Called with a name: the schema with a table of that name under CASCADE."""

    def make(name: str) -> Any:
        lab.run(f"{UP} create table {name} (a int references up on delete cascade)")
        return lab.schema()

    return make


def clicks(each: int, action: str = "set null", more: str = "") -> str:
    return (
        "create table up (id int primary key); insert into up values (1), (2);"
        f"create table t (id int primary key, a int default 2 references up on delete {action},"
        f" b int) with (fillfactor = 40); insert into t select n, 1 + n % 2"
        f" from generate_series(1, {2 * each}) as n; {more}; analyze up, t"
    )


def test_a_null_in_many_rows_is_a_new_row_and_index_entry_each(lab: Any, major: int) -> None:
    lab.prepare(
        {
            "nulls": clicks(10_000, more="create index on t (a)"),
            "defaults": clicks(10_000, "set default", "create index on t (b) include (a)"),
            "unindexed": clicks(10_000, more="create index on t (b)"),
            "blocks": clicks(10_000, more="create index on t using brin (a)"),
            "few": clicks(9_999),
            "cascades": clicks(10_000, "cascade"),
            "unknown": clicks(10_000).removesuffix("; analyze up, t"),
        }
    )
    found = subjects(lab, "FK060")

    assert set(found) == {
        f"{name}.t.t_a_fkey" for name in ("nulls", "defaults", "unindexed", "blocks")
    }
    renewed = set()
    for subject, finding in found.items():
        name = subject.partition(".")[0]
        assert "a in up to 10,000 rows of " in finding.detail
        entries = "with an entry in each of its 2 indexes" in finding.detail
        # A row that stays in its block without a new entry is counted as "heap only".
        ((changed, heap_only),) = lab.run(
            f"delete from {name}.up where id = 1; select n_tup_upd, n_tup_hot_upd"
            f" from pg_stat_xact_user_tables where relid = '{name}.t'::regclass"
        )
        assert changed == 10_000
        assert entries is (heap_only == 0)
        if entries:
            renewed.add(name)
    assert renewed == {"nulls", "defaults"} | ({"blocks"} if major < 16 else set())
