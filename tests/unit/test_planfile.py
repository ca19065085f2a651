"""Plans as files: written whole, read with suspicion, cut by hand."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fkdoctor.dedupe.apply import choose_batch_size
from fkdoctor.dedupe.plan import (
    Cluster,
    Collision,
    CollisionRule,
    DedupePlan,
    FieldRule,
    Member,
    Merge,
    Obstacle,
    Repoint,
    Resolution,
)
from fkdoctor.dedupe.planfile import (
    Extent,
    check_clusters,
    locate_plan,
    read_clusters,
    read_plan,
    write_plan,
)
from fkdoctor.errors import ConfigError
from fkdoctor.schema import LogicalReference, TableName

PLAN = DedupePlan(
    id="5b1c0d2e-1111-4222-8333-444455556666",
    created_at="2026-01-01T00:00:00+00:00",
    database='Datenbank "ä"',
    table=TableName("mlops", "letters/../한글"),
    key_columns=("id",),
    match=("column url",),
    survivor=("newest", "lowest key"),
    fingerprint="0123456789abcdef",
    tables=(TableName("mlops", "letters/../한글"), TableName("x", "y")),
    references=(
        LogicalReference(
            referencing=TableName("x", "w"),
            referencing_column="owner",
            referenced=TableName("mlops", "letters/../한글"),
            referenced_column="id",
            condition="kind = 'letter'",
        ),
    ),
    clusters=3,
    survivors=4,
    duplicates=4,
    rules=(
        CollisionRule(table=TableName("x", "y"), collisions="newest:at"),
        CollisionRule(table=TableName("x", "z"), links="delete", above="null"),
    ),
    fields=(
        FieldRule(table=TableName("x", "y"), column="a b", kind="newest", argument="at"),
        FieldRule(table=TableName("x", "y"), column="c", kind="sum"),
    ),
    refilled=2,
    resolutions=(
        Resolution(table=TableName("x", "y"), constraint="u", policy="identical", rows=1),
    ),
    repoints=(
        Repoint(
            table=TableName("x", "y"),
            constraint="k",
            columns=("a", "b"),
            rows=7,
            on_delete="SET NULL",
            indexed=False,
        ),
    ),
    obstacles=(Obstacle(subject="here", reason="there"),),
    caveats=("a", "b"),
    oversized=1,
    oversized_rows=101,
)


def member(key: str) -> Member:
    """A row with a fingerprint that fits its key."""
    return Member(key=(key,), fingerprint=f"print of {key}")


def cluster(number: int, *keys: str) -> Cluster:
    """A cluster of which the first key survives."""
    survivor, *duplicates = map(member, keys)
    merge = Merge(survivor=survivor, duplicates=tuple(duplicates), matched=("https://…",))
    return Cluster(number=number, merges=(merge,))


CLUSTERS = [
    cluster(1, "1", "5", "3"),
    cluster(2, "2", "4"),
    Cluster(
        number=3,
        merges=(
            *cluster(3, "7", "6").merges,
            Merge(survivor=member("8"), duplicates=(member("9"),), matched=("x", "y")),
        ),
        collisions=(
            Collision(
                table=TableName("x", "y"),
                constraint="u",
                row=Member(key=("1", "a b"), fingerprint="3"),
                kept=Member(key=("2", "a b"), fingerprint="4"),
                policy="identical",
            ),
            Collision(
                table=TableName("x", "z"),
                constraint="a and b",
                row=member("1"),
                kept=None,
                policy="delete",
            ),
        ),
    ),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of PLAN with CLUSTERS."""
    path = tmp_path / "plan.jsonl"
    write_plan(path, PLAN, CLUSTERS)
    return path


def cut(path: Path, number: int, line: str | None) -> None:
    """Replace the line of that number, or take it out."""
    lines = path.read_text().splitlines(keepends=True)
    lines[number - 1 : number] = [] if line is None else [line + "\n"]
    path.write_text("".join(lines))


def test_a_plan_is_read_as_it_was_written(path: Path) -> None:
    assert read_plan(path) == PLAN
    assert list(read_clusters(path)) == CLUSTERS
    assert check_clusters(path) == Extent(clusters=3, duplicates=5)


@given(keys=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, unique=True))
def test_keys_may_be_any_text(tmp_path_factory: pytest.TempPathFactory, keys: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    wanted = [cluster(1, *keys)]
    write_plan(path, PLAN, wanted)
    assert list(read_clusters(path)) == wanted
    assert check_clusters(path) == Extent(clusters=1, duplicates=len(keys) - 1)


def test_a_cluster_is_taken_out_by_deleting_its_line(path: Path) -> None:
    cut(path, 3, None)
    assert list(read_clusters(path)) == [CLUSTERS[0], CLUSTERS[2]]
    assert check_clusters(path) == Extent(clusters=2, duplicates=4)
    cut(path, 3, "")
    cut(path, 2, None)
    assert list(read_clusters(path)) == []
    assert check_clusters(path) == Extent(clusters=0, duplicates=0)
    assert read_plan(path) == PLAN


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "Expecting property name"),
        ("{}", "KeyError: 'cluster'"),
        ("[]", "it is no JSON object"),
        ("[" * 100_000, "recursion"),
        ('{"cluster": 2, "matched": [], "survivor": ["2", "p"]}', "KeyError: 'duplicates'"),
        ('{"cluster": 2, "matched": [], "survivor": ["2", "p"], "duplicates": []}', "one or more"),
        (
            '{"cluster": 2, "matched": [], "survivor": ["2", "p"], "duplicates": [["2", "q"]]}',
            "one or more other rows",
        ),
        (
            '{"cluster": 2, "matched": [], "survivor": ["2", "p"], "duplicates": [["p"]]}',
            "1 texts of its primary key",
        ),
        (
            '{"cluster": 2, "matched": [], "survivor": ["2", "2", "p"], "duplicates": []}',
            "1 texts of its primary key",
        ),
        (
            '{"cluster": 2, "matched": [], "survivor": "2p", "duplicates": [["3", "q"]]}',
            "no list of texts",
        ),
        (
            '{"cluster": 2, "matched": [], "survivor": [2, "p"], "duplicates": [["3", "q"]]}',
            "no list of texts",
        ),
        (
            '{"cluster": 2, "matched": [], "survivor": ["2", null], "duplicates": [["3", "q"]]}',
            "no list of texts",
        ),
        (
            '{"cluster": true, "matched": [], "survivor": ["2", "p"], "duplicates": [["3", "q"]]}',
            "no number of a cluster",
        ),
        (
            '{"cluster": 2147483648, "matched": [], "survivor": ["", ""], "duplicates": []}',
            "no number of a cluster",
        ),
    ],
)
def test_a_damaged_line_is_named(path: Path, line: str, complaint: str) -> None:
    cut(path, 3, line)
    with pytest.raises(ConfigError) as caught:
        check_clusters(path)
    assert caught.value.what == f"{path} is damaged in line 3."
    assert complaint in caught.value.why
    assert read_plan(path) == PLAN


def test_a_file_that_was_cut_off_is_damaged(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole) - 60, len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match=r"damaged in line 4|cannot be read"):
            check_clusters(path)


def test_lines_in_another_order_are_refused(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[2], lines[1]]))
    with pytest.raises(ConfigError, match=r"line 3\.\ncluster 1 is out of order"):
        check_clusters(path)
    path.write_text("\n".join([lines[0], lines[1], lines[1]]))
    with pytest.raises(ConfigError, match=r"line 3\.\ncluster 1 is out of order"):
        check_clusters(path)


@pytest.mark.parametrize(
    ("clusters", "row", "pair"),
    [
        ([cluster(1, "1", "2"), cluster(4, "3", "2")], "2", (1, 4)),
        ([cluster(1, "1", "2"), cluster(2, "2", "3")], "2", (1, 2)),
        ([cluster(1, "3", "2"), cluster(2, "1", "3")], "3", (1, 2)),
        ([cluster(1, "1", "2"), cluster(2, "1", "3")], "1", (1, 2)),
    ],
)
def test_a_row_in_two_clusters_is_refused(
    path: Path, clusters: list[Cluster], row: str, pair: tuple[int, int]
) -> None:
    write_plan(path, PLAN, clusters)
    with pytest.raises(ConfigError) as caught:
        check_clusters(path)
    assert caught.value.what == f"{path} names row ({row}) twice."
    assert caught.value.why == f"It is in cluster {pair[0]} and in cluster {pair[1]}."


def test_rows_are_compared_by_their_whole_key(path: Path) -> None:
    def pair(number: int, left: str, right: str) -> Cluster:
        rows = [
            Member(key=(left, right), fingerprint="p"),
            Member(key=(right, left), fingerprint="p"),
        ]
        merge = Merge(survivor=rows[0], duplicates=(rows[1],), matched=())
        return Cluster(number=number, merges=(merge,))

    plan = replace(PLAN, key_columns=("a", "b"))
    write_plan(path, plan, [pair(1, "1", "2"), pair(2, "1", "3"), pair(3, "2", "3")])
    assert check_clusters(path) == Extent(clusters=3, duplicates=3)
    write_plan(path, plan, [pair(1, "1", "2"), pair(2, "1", "3"), pair(3, "2", "1")])
    with pytest.raises(ConfigError, match=r"names row \(2, 1\) twice"):
        check_clusters(path)


def test_a_large_plan_is_checked_in_little_memory(path: Path) -> None:
    def clusters() -> Iterator[Cluster]:
        for number in range(1, 20_001):
            yield cluster(number, f"{number:08}", f"{number + 50_000:08}")

    write_plan(path, PLAN, clusters())
    tracemalloc.start()
    try:
        assert check_clusters(path) == Extent(clusters=20_000, duplicates=20_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000 * 25, "a set of the keys takes 200 bytes a key"
    with path.open("a") as file:
        again = {"cluster": 20_001, "matched": [], "survivor": ["x", "p"]}
        file.write(json.dumps(again | {"duplicates": [["00012345", "p"]]}) + "\n")
    with pytest.raises(ConfigError, match=r"row \(00012345\) twice"):
        check_clusters(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "damaged in line 1"),
        ("\n", "damaged in line 1"),
        ("{}", "format None, version None"),
        ('{"format": "fkdoctor dedupe plan", "version": 2}', "version 2"),
        ('{"format": "fkdoctor dedupe plan", "version": 3}', "damaged in line 1"),
        ("id,survivor\n1,2\n", "damaged in line 1"),
        ("\ufeff{}", "damaged in line 1"),
    ],
)
def test_what_is_no_plan_is_not_read(path: Path, text: str, complaint: str) -> None:
    path.write_text(text)
    for read in (read_plan, check_clusters):
        with pytest.raises(ConfigError, match=complaint):
            read(path)


@pytest.mark.parametrize("field", ["table", "key_columns", "tables", "repoints", "clusters"])
def test_a_head_with_something_else_in_it_is_not_read(path: Path, field: str) -> None:
    head = json.loads(path.read_text().splitlines()[0])
    for value in ("id", None, [1], [["a"]]):
        cut(path, 1, json.dumps(head | {field: value}))
        with pytest.raises(ConfigError, match="damaged in line 1"):
            read_plan(path)


def test_a_file_that_is_not_text_is_not_read(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        check_clusters(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_plan(path.with_name("none"))
    with pytest.raises(ConfigError, match="directory"):
        read_plan(path.parent)


def test_a_plan_in_a_directory_has_a_name_of_its_own(tmp_path: Path) -> None:
    path = locate_plan(tmp_path, PLAN)
    assert path == tmp_path / "letters_.._한글-5b1c0d2e.plan.jsonl"
    write_plan(tmp_path, PLAN, CLUSTERS)
    assert list(tmp_path.iterdir()) == [path]
    assert list(read_clusters(path)) == CLUSTERS


def test_a_file_is_replaced_as_a_whole_or_not_at_all(path: Path) -> None:
    def fail() -> Iterator[Cluster]:
        yield cluster(1, "8", "9")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_plan(path, PLAN, fail())
    assert list(read_clusters(path)) == CLUSTERS
    assert list(path.parent.iterdir()) == [path]
    write_plan(path, PLAN, CLUSTERS[:1])
    assert list(read_clusters(path)) == CLUSTERS[:1]


def test_where_a_plan_cannot_be_written_is_said(path: Path, tmp_path: Path) -> None:
    places = {
        tmp_path / "none" / "plan.jsonl": "No such file or directory",
        path / "plan.jsonl": "Not a directory",
        tmp_path / ("x" * 300): "File name too long",
        Path("/dev/null"): "neither a file nor a directory",
    }
    for place, why in places.items():
        with pytest.raises(ConfigError) as caught:
            write_plan(place, PLAN, CLUSTERS)
        assert caught.value.what == f"The plan cannot be written to {place}."
        assert why in caught.value.why
    assert list(tmp_path.iterdir()) == [path]
    assert not os.path.isfile("/dev/null")


def test_estimates_count_every_row_that_changes() -> None:
    moved = sum(repoint.rows for repoint in PLAN.repoints)
    lost = sum(resolution.rows for resolution in PLAN.resolutions)
    assert PLAN.changed == PLAN.duplicates + PLAN.refilled + moved + lost
    assert PLAN.wal_bytes > 1_000 * PLAN.changed
    assert PLAN.seconds > 0
    assert choose_batch_size(replace(PLAN, clusters=1_000, duplicates=100_000)) < 250
    many = replace(PLAN, clusters=1, duplicates=10**9, repoints=(), resolutions=())
    assert choose_batch_size(many) == 1
