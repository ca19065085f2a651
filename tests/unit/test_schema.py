"""Names that people type, and what is said when they mean nothing or too much."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fkdoctor.errors import AmbiguousName, UnknownName
from fkdoctor.schema import ReferentialAction, Schema, TableName

Make = Callable[..., Schema]
CASCADE = ReferentialAction.CASCADE


@pytest.fixture
def schema(make_schema: Make) -> Schema:
    tables = ["mlops.jobs", "mlops.job_postings", "archive.jobs", "archive.Jobs", "s.a.b"]
    return make_schema(
        [*tables, "mlops.cover letters"],
        [("mlops.job_postings", "mlops.jobs", CASCADE)],
        views=["mlops.open_jobs"],
    )


@pytest.mark.parametrize(
    ("typed", "schemas", "meant"),
    [
        ("job_postings", (), ("mlops", "job_postings")),
        ("JOB_POSTINGS", (), ("mlops", "job_postings")),
        ('"cover letters"', (), ("mlops", "cover letters")),
        ("mlops.jobs", (), ("mlops", "jobs")),
        ("Archive.Jobs", (), ("archive", "jobs")),
        ('archive."Jobs"', (), ("archive", "Jobs")),
        ('"Jobs"', (), ("archive", "Jobs")),
        ("jobs", ("mlops",), ("mlops", "jobs")),
        # A schema that is written out is taken even where it is not configured.
        ("archive.jobs", ("mlops",), ("archive", "jobs")),
    ],
)
def test_a_typed_name_is_the_one_table_it_can_mean(
    schema: Schema, typed: str, schemas: tuple[str, ...], meant: tuple[str, str]
) -> None:
    assert schema.resolve_table(typed, schemas) == TableName(*meant)


@pytest.mark.parametrize("schemas", [(), ("mlops", "archive")])
def test_a_bare_name_in_two_schemas_is_refused_with_both(
    schema: Schema, schemas: tuple[str, ...]
) -> None:
    with pytest.raises(AmbiguousName) as refused:
        schema.resolve_table("jobs", schemas)
    assert str(refused.value).splitlines() == [
        "jobs is ambiguous.",
        "It could be archive.jobs or mlops.jobs.",
        "Write the schema too, for example: archive.jobs",
    ]


@pytest.mark.parametrize(
    ("typed", "schemas", "told"),
    [
        ("job_posting", (), "Nearest: mlops.job_postings"),
        ("mlops.job_posting", (), "Nearest: mlops.job_postings"),
        ("nothing_like_it", (), "It has 6 tables."),
        ("jobs", ("public",), "There is archive.jobs, mlops.jobs."),
        ("open_jobs", (), "Foreign keys and rows to merge live in tables."),
        ("mlops.open_jobs", (), "Foreign keys and rows to merge live in tables."),
        ("db.mlops.jobs", (), "Nearest: "),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(
    schema: Schema, typed: str, schemas: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UnknownName) as refused:
        schema.resolve_table(typed, schemas)
    what, why, to_type = str(refused.value).splitlines()
    assert typed in what
    assert why.startswith(told)
    assert to_type


def test_a_key_is_found_by_table_and_name(schema: Schema) -> None:
    postings = TableName("mlops", "job_postings")
    assert schema.foreign_key(postings, "key_0").label == "mlops.job_postings.key_0"
    with pytest.raises(UnknownName, match=r"Its foreign keys: key_0\."):
        schema.foreign_key(postings, "key_1")
    with pytest.raises(UnknownName, match="It has no foreign key at all"):
        schema.foreign_key(TableName("mlops", "jobs"), "key_0")


def test_keys_are_known_from_both_ends(schema: Schema) -> None:
    (key,) = schema.foreign_keys
    assert schema.keys_from(TableName("mlops", "job_postings")) == (key,)
    assert schema.keys_to(TableName("mlops", "jobs")) == (key,)
    assert schema.keys_to(TableName("archive", "jobs")) == ()


def test_leaves_are_the_partitions_that_hold_rows(make_schema: Make) -> None:
    above = {"p1": "p", "p2": "p", "p21": "p2", "p22": "p2"}
    schema = make_schema(["p", "p1", "p2", "p21", "p22", "t"], partitions=above)

    def leaves(name: str) -> list[str]:
        return [table.name.name for table in schema.leaves(TableName("s", name))]

    assert leaves("p") == ["p1", "p21", "p22"]
    assert leaves("p2") == ["p21", "p22"]
    assert leaves("t") == ["t"]
