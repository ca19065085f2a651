"""Which rows a plan takes for duplicates, and which of them it keeps."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fkdoctor.database import connect
from fkdoctor.dedupe.plan import Cluster, DedupePlan
from fkdoctor.dedupe.planfile import read_clusters, read_plan
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.errors import ConfigError
from fkdoctor.inspect.catalog import inspect_database

Make = Callable[..., tuple[DedupePlan, list[Cluster]]]
Key = tuple[str, ...]


@pytest.fixture
def make(db: Any, tmp_path: Path) -> Make:
    """Makes a plan for the table: its head and its clusters, as they stand in the file."""

    def make(
        table: str = "letter",
        match: str | tuple[str, ...] = "same",
        survivor: str | tuple[str, ...] = (),
        options: str = "",
        **criteria: Any,
    ) -> tuple[DedupePlan, list[Cluster]]:
        path = tmp_path / "plan.jsonl"
        given = Criteria(
            match=(match,) if isinstance(match, str) else match,
            survivor=(survivor,) if isinstance(survivor, str) else survivor,
            **criteria,
        )
        with connect(db.engine(options=options)) as connection:
            schema = inspect_database(connection)
            plan = plan_dedupe(connection, schema, schema.resolve_table(table), given, path)
        assert read_plan(path) == plan
        return plan, list(read_clusters(path))

    return make


def keys_of(clusters: list[Cluster]) -> dict[Any, list[Any]]:
    """The keys of the duplicates by that of their survivor; bare where it is one column."""

    def bare(key: Key) -> str | Key:
        return key if len(key) > 1 else key[0]

    return {
        bare(merge.survivor.key): [bare(member.key) for member in merge.duplicates]
        for cluster in clusters
        for merge in cluster.merges
    }


def test_rows_that_agree_are_clusters(db: Any, make: Make) -> None:
    db.execute("""
        create table letter (id int primary key, same text);
        insert into letter values (5, 'a'), (1, 'a'), (3, 'a'), (2, 'b'), (9, 'c'), (4, 'c');
    """)
    plan, clusters = make()
    assert keys_of(clusters) == {"1": ["3", "5"], "4": ["9"]}
    assert (plan.clusters, plan.duplicates) == (2, 3)
    assert [cluster.number for cluster in clusters] == [1, 2]
    assert [cluster.merges[0].matched for cluster in clusters] == [("a",), ("c",)]
    assert plan.key_columns == ("id",)
    assert plan.match == ("column same",)
    assert plan.survivor == ("lowest key",)
    assert db.execute("select count(*) from letter") == [(6,)]


def test_null_and_empty_text_agree_with_nothing(db: Any, make: Make) -> None:
    db.execute("""
        create table letter (id int primary key, same text, padded char(3), tags text[], day date);
        insert into letter values (1, null, null, null, null), (2, null, null, null, null),
            (3, '', '', '{}', null), (4, '', '', '{}', 'infinity'),
            (5, ' ', 'x', '{a}', 'infinity'), (6, ' ', 'x', '{a}', null);
    """)
    assert keys_of(make()[1]) == {"5": ["6"]}
    assert keys_of(make(match="padded")[1]) == {"5": ["6"]}
    assert keys_of(make(match="day")[1]) == {"4": ["5"]}
    assert keys_of(make(match=("tags", "same"))[1]) == {"5": ["6"]}


def test_rows_must_agree_on_every_match(db: Any, make: Make) -> None:
    db.execute("""
        create table letter (id int primary key, site text, number int, title text);
        insert into letter values (1, 'a', 1, 'X'), (2, 'a', 1, 'x'), (3, 'a', 2, 'x'),
            (4, 'b', 1, 'x'), (5, 'a', 1, 'y'), (6, 'a', null, 'x'), (7, 'a', null, 'x');
    """)
    plan, clusters = make(match=("site", "number", "(lower(title))"))
    assert keys_of(clusters) == {"1": ["2"]}
    assert clusters[0].merges[0].matched == ("a", "1", "x")
    assert plan.match == ("column site", "column number", "the expression (lower(title))")


SURVIVORS: list[tuple[str | tuple[str, ...], str]] = [
    ((), "1"),
    ("newest", "4"),
    ("oldest", "3"),
    ("newest:made", "2"),
    ("oldest:made", "5"),
    ("most_complete", "3"),
    ("most_referenced", "4"),
    ("(length(title))", "1"),
    ("(length(title)) desc", "1"),
    ("(length(title)) asc", "2"),
    (("(nullif(title, '') is null) asc", "newest:made"), "1"),
    (("(note = 'n')", "oldest"), "3"),
    (("most_complete", "newest"), "3"),
    (("(id % 2)", "most_referenced"), "3"),
    (("(id % 2) asc", "most_referenced"), "4"),
    (("(1 + id * 0)", "(id::text || '%') desc"), "5"),
]


def test_survivor_rules_decide_in_their_order(db: Any, make: Make) -> None:
    db.execute("""
        create table letter (id int primary key, same text, title text, note text, made date,
            updated_at timestamptz);
        insert into letter values
            (1, 'a', 'long title', null, '2026-01-02', '2026-01-02'),
            (2, 'a', '', null, '2026-01-09', '2026-01-02'),
            (3, 'a', 'titles', 'n', '2026-01-02', '2026-01-01'),
            (4, 'a', '', '', '2026-01-02', '2026-01-03'),
            (5, 'a', 'x', null, '2025-01-01', null);
        create table one (id int primary key, letter_id int references letter);
        create table two (id int primary key, letter_id int references letter);
        insert into one values (1, 3), (2, 3), (3, 4), (4, 4);
        insert into two values (1, 4), (2, 5);
    """)
    for survivor, expected in SURVIVORS:
        assert list(keys_of(make(survivor=survivor)[1])) == [expected], survivor


def test_the_plan_does_not_depend_on_the_order_of_rows_on_disk(db: Any, make: Make) -> None:
    rows = [(n, n % 7, n % 5 if n % 3 == 0 else None) for n in range(1, 60)]
    db.execute("""
        create table letter (id int primary key, same int, note int);
        create table other (id int primary key, letter_id int references letter);
    """)
    found = []
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        values = str(rows)[1:-1].replace("None", "null")
        db.execute(f"truncate letter cascade; insert into letter values {values}")
        db.execute("insert into other select id, id from letter where id > 20")
        plan, clusters = make(survivor=("most_complete", "most_referenced"))
        found.append((clusters, plan.repoints, plan.fingerprint))
    assert found == [found[0]] * 3
    assert sum(len(cluster.merges[0].duplicates) for cluster in found[0][0]) == 59 - 7


@pytest.mark.parametrize(
    ("column", "deleted", "live"),
    [("timestamptz", "now()", "null"), ("boolean not null", "true", "false")],
)
def test_a_soft_deleted_row_survives_no_live_one(
    db: Any, make: Make, column: str, deleted: str, live: str
) -> None:
    db.execute(f"""
        create table letter (id int primary key, same text, note text, gone {column});
        insert into letter values (1, 'a', 'x', {deleted}), (2, 'a', null, {live}),
            (3, 'a', 'x', {live}), (4, 'b', null, {deleted}), (5, 'b', 'x', {deleted});
        create table other (id int primary key, letter_id int references letter);
        insert into other values (1, 1), (2, 1), (3, 2);
    """)
    survivor = ("most_referenced", "most_complete")
    _, clusters = make(survivor=survivor, soft_delete_column="gone")
    assert keys_of(clusters) == {"2": ["1", "3"], "5": ["4"]}
    _, clusters = make(survivor=survivor, soft_delete_column="deleted_at")
    assert keys_of(clusters) == {"1": ["2", "3"], "5": ["4"]}


def test_values_that_too_many_share_are_left_alone_and_counted(db: Any, make: Make) -> None:
    db.execute("""
        create table letter (id int primary key, same int);
        insert into letter select n, 1 from generate_series(1, 3) as n;
        insert into letter select n, 2 from generate_series(11, 14) as n;
        insert into letter select n, 3 from generate_series(21, 26) as n;
        insert into letter select n, n from generate_series(31, 40) as n;
    """)
    plan, clusters = make(max_cluster=3)
    assert keys_of(clusters) == {"1": ["2", "3"]}
    assert (plan.oversized, plan.oversized_rows) == (2, 10)
    plan, clusters = make(max_cluster=6)
    assert (plan.clusters, plan.oversized, plan.oversized_rows) == (3, 0, 0)


def test_a_table_without_duplicates_or_rows_makes_an_empty_plan(db: Any, make: Make) -> None:
    db.execute(
        "create table letter (id int primary key, same text);"
        "create table other (letter_id int references letter)"
    )
    for _ in range(2):
        plan, clusters = make(survivor="most_referenced")
        assert (plan.clusters, plan.duplicates, plan.moving, clusters) == (0, 0, 0, [])
        assert [repoint.label for repoint in plan.repoints] == ["public.other.other_letter_id_fkey"]
        db.execute("insert into letter values (1, 'a'), (2, 'b') on conflict do nothing")


KEYS = {
    "composite": (
        "tenant uuid, id int, primary key (id, tenant)",
        [
            ("a" * 8 + "-0000-4000-8000-000000000000", 1),
            ("b" * 8 + "-0000-4000-8000-000000000000", 1),
        ],
        [
            ("1", "a" * 8 + "-0000-4000-8000-000000000000"),
            ("1", "b" * 8 + "-0000-4000-8000-000000000000"),
        ],
    ),
    "text that looks like SQL, JSON and lines": (
        "id text primary key",
        [("a'); --\\",), ('{"b", [\n,\r\t] \u2028 %s :x',)],
        [("a'); --\\",), ('{"b", [\n,\r\t] \u2028 %s :x',)],
    ),
    "times": (
        "id timestamptz primary key",
        [("2026-01-01 09:00:00.000001+09",), ("infinity",)],
        [("2026-01-01 00:00:00.000001+00",), ("infinity",)],
    ),
    "dates before Christ": (
        "id date primary key",
        [("0044-03-15 BC",), ("2026-01-01",)],
        [("0044-03-15 BC",), ("2026-01-01",)],
    ),
    "intervals": (
        "id interval primary key",
        [("-1 day 25 hours",), ("1 mon",)],
        [("-1 days +25:00:00",), ("1 mon",)],
    ),
    "bytes": ("id bytea primary key", [("\\x00ff",), ("\\x5c",)], [("\\x00ff",), ("\\x5c",)]),
    "floats": ("id float8 primary key", [("0.1",), ("NaN",)], [("0.1",), ("NaN",)]),
    "padded": ("id char(4) primary key", [("a",), ("b",)], [("a",), ("b",)]),
    "long": (
        "id text primary key",
        [("x" * 2_000,), ("y" * 2_000,)],
        [("x" * 2_000,), ("y" * 2_000,)],
    ),
    "of a domain that must not be null": (
        "id code primary key",
        [("a",), ("b",)],
        [("a",), ("b",)],
    ),
    "an enum in its own order": (
        "id mood primary key",
        [("sad",), ("happy",)],
        [("sad",), ("happy",)],
    ),
    "with quotes in the name": ('"a ""b"" %s :c" int primary key', [(1,), (2,)], [("1",), ("2",)]),
}


def test_keys_of_any_type_are_kept_as_text(db: Any, make: Make) -> None:
    db.execute("""
        create domain code as text not null check (value <> '');
        create type mood as enum ('sad', 'happy');
    """)
    for case, (definition, given, expected) in KEYS.items():
        db.execute(f"create table letter ({definition}, same text default 'a')")
        for values in given:
            db.execute(f"insert into letter values ({', '.join(['%s'] * len(values))})", values)
        _, ((cluster),) = make()
        (merge,) = cluster.merges
        found = [merge.survivor.key, *(member.key for member in merge.duplicates)]
        assert found == expected, case
        db.execute("drop table letter")


def test_columns_may_be_called_as_ours_are(db: Any, make: Make) -> None:
    names = [
        "fkdoctor_row",
        "fkdoctor_member",
        "alike",
        "size",
        "number",
        "key_0",
        "order_0",
        "cluster",
    ]
    db.execute(f"""
        create table fkdoctor_member (member_0 int primary key, {" int, ".join(names)} int);
        insert into fkdoctor_member select n, {", ".join(["n / 3"] * len(names))}
        from generate_series(1, 8) as n;
        create table fkdoctor_match (
            member_0 int primary key, alike int references fkdoctor_member);
        insert into fkdoctor_match values (1, 2), (2, 5), (3, 5);
    """)
    for name in (names[0], *names[2:5]):
        _, clusters = make(
            "fkdoctor_member",
            (name, f"({name} + 0)"),
            ("most_referenced", f"({name})", f"newest:{name}"),
        )
        assert keys_of(clusters) == {"2": ["1"], "5": ["3", "4"], "6": ["7", "8"]}
        prints = [cluster.merges[0].survivor.fingerprint for cluster in clusters]
        assert len(set(prints)) == 3


def test_a_change_to_any_column_changes_the_fingerprint(db: Any, make: Make) -> None:
    db.execute("create table letter (id int primary key, same text, fkdoctor_row int, note text)")
    db.execute("insert into letter values (1, 'a', 0, 'x'), (2, 'a', 0, 'x')")
    before = make()[1][0].merges[0]
    db.execute("update letter set note = 'y' where id = 2")
    after = make()[1][0].merges[0]
    assert after.survivor == before.survivor
    assert after.duplicates[0].fingerprint != before.duplicates[0].fingerprint


@pytest.mark.parametrize("columns", [100, 101, 1_590])
def test_tables_may_be_wide(db: Any, make: Make, columns: int) -> None:
    names = [f"c{n}" for n in range(columns)]
    db.execute(f"create table letter (id int primary key, same int, {' int, '.join(names)} int)")
    db.execute("insert into letter (id, same) values (1, 1), (2, 1), (3, 1)")
    db.execute(f"update letter set {names[0]} = 1, {names[-1]} = 2 where id = 2")
    _, clusters = make(survivor="most_complete")
    assert keys_of(clusters) == {"2": ["1", "3"]}


def test_columns_may_be_of_types_that_do_not_compare(db: Any, make: Make) -> None:
    db.execute("""
        create table letter (id int primary key, same text, a json, b point, c xml, d int[]);
        insert into letter values
            (1, 'a', '{}', null, null, null), (2, 'a', '{}', '(1,2)', '<a/>', '{1}');
    """)
    assert keys_of(make(survivor="most_complete")[1]) == {"2": ["1"]}
    for match in ("a", "b", "c"):
        with pytest.raises(ConfigError, match="could not identify an"):
            make(match=match)
    assert keys_of(make(match="(a::jsonb)")[1]) == {"1": ["2"]}


def test_text_agrees_as_its_collation_says(db: Any, make: Make) -> None:
    db.execute("""
        create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table letter (
            id int primary key, same text collate blind, plain text, url text collate blind);
        insert into letter values (1, 'A', 'A', 'HTTP://A.example'), (2, 'a', 'a', 'a.example/'),
            (3, 'b', 'a', 'A.example/B'), (4, '', 'c', 'a.example/b');
    """)
    assert keys_of(make()[1]) == {"1": ["2"]}
    assert make()[1][0].merges[0].matched == ("A",)
    assert keys_of(make(survivor="(id)")[1]) == {"2": ["1"]}
    assert make(survivor="(id)")[1][0].merges[0].matched == ("a",)
    assert keys_of(make(match="plain")[1]) == {"2": ["3"]}
    assert keys_of(make(match="url")[1]) == {"1": ["2"]}


def test_references_are_counted_as_the_key_compares(db: Any, make: Make, major: int) -> None:
    if major >= 18:
        pytest.skip("refuses a key between columns of different collations")
    db.execute("""
        create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table letter (id text collate blind primary key, same text);
        create table plain (id int primary key, letter_id text collate "C" references letter);
        insert into letter values ('A', 's'), ('b', 's'), ('c', 't'), ('d', 't');
        insert into plain values (1, 'a'), (2, 'A'), (3, 'B'), (4, 'd');
    """)
    plan, clusters = make(survivor="most_referenced")
    assert keys_of(clusters) == {"A": ["b"], "d": ["c"]}
    assert plan.moving == 1
    plan, _ = make(survivor="(id)")
    assert plan.moving == 2


def test_operators_of_others_are_not_used(db: Any, make: Make) -> None:
    db.execute("""
        create schema evil;
        create function evil.wrong(int, int) returns boolean language sql as 'select true';
        create operator evil.= (leftarg = int, rightarg = int, function = evil.wrong);
        create function evil.lower(text) returns text language sql as 'select null';
        create table letter (id int primary key, same text);
        create table other (id int primary key, letter_id int references letter);
        insert into letter values (1, 'a'), (2, 'a'), (3, 'B'), (4, 'b');
        insert into other values (1, 1), (2, 2);
    """)
    path = "-c search_path=evil,public,pg_catalog"
    plan, clusters = make(match="(lower(same))", survivor="most_referenced", options=path)
    assert keys_of(clusters) == {"1": ["2"], "3": ["4"]}
    assert plan.moving == 1


def test_rows_of_heirs_and_partitions_are_counted_as_the_key_sees_them(db: Any, make: Make) -> None:
    db.execute("""
        create table letter (id int primary key, same text);
        insert into letter values (1, 'a'), (2, 'a');
        create table parted (at int primary key, letter_id int references letter on delete cascade)
            partition by range (at);
        create table parted_1 partition of parted for values from (0) to (9);
        create table parent (letter_id int references letter);
        create table heir () inherits (parent);
        insert into parted values (1, 2), (2, 2);
        insert into heir values (1), (7);
    """)
    plan, clusters = make(survivor="most_referenced")
    assert keys_of(clusters) == {"2": ["1"]}
    plan, _ = make()
    rows = {repoint.table.name: repoint.rows for repoint in plan.repoints}
    assert rows == {"parted": 2, "parent": 0}
    assert plan.obstacles == ()


def test_what_matched_is_shown_shortened(db: Any, make: Make) -> None:
    db.execute("create table letter (id int primary key, same text)")
    db.execute("insert into letter select n, repeat('자', 5000) from generate_series(1, 2) as n")
    assert make()[1][0].merges[0].matched == ("자" * 200,)


def test_nothing_is_left_in_the_database(db: Any, make: Make) -> None:
    db.execute("create table letter (id int primary key, same text)")
    db.execute("insert into letter values (1, 'a'), (2, 'a')")
    before = db.contents()
    make()
    assert db.contents() == before
    assert db.execute("select count(*) from pg_class where relname ~ 'fkdoctor_ma?'") == [(0,)]
    assert db.execute("select count(*) from fkdoctor.run") == [(0,)]
