"""The demo's rows in a real PostgreSQL: all there, unchanged, and nothing in the next one's way."""

from __future__ import annotations

from collections.abc import Callable

import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from fkdoctor.demo.crawl import crawl_letters
from fkdoctor.demo.dataset import LoadedCounts, Scale, load_dataset
from fkdoctor.demo.postings import write_postings
from fkdoctor.errors import Refused
from fkdoctor.revise import upgrade

SCALE = Scale(letters=1_500, postings=150, recommendations=4_000, interactions=1_000)
SEED = 11
TABLES = ("cover_letter_samples", "job_postings", "job_recommendations", "user_interactions")


def open_engine(url: str, client_encoding: str = "UTF8") -> Engine:
    return create_engine(
        "postgresql+psycopg2://",
        creator=lambda: psycopg2.connect(url, client_encoding=client_encoding),
        poolclass=NullPool,
    )


def create_tables(url: str) -> None:
    upgrade(open_engine(url), "0001")


def load_rows(url: str) -> None:
    create_tables(url)
    with open_engine(url).begin() as connection:
        load_dataset(connection, SCALE, SEED)


@pytest.fixture(scope="session")
def loaded_template(make_template: Callable[[Callable[[str], object]], str]) -> str:
    return make_template(load_rows)


@pytest.fixture
def loaded(make_database: Callable[..., str], loaded_template: str) -> Engine:
    return open_engine(make_database(loaded_template))


@pytest.fixture
def empty_url(database_url: str) -> str:
    create_tables(database_url)
    return database_url


def count_rows(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            table: connection.exec_driver_sql(f"select count(*) from mlops.{table}").scalar_one()
            for table in TABLES
        }


def insert_next(engine: Engine) -> dict[str, int]:
    """The ids that the next rows get, which reference one another."""
    with engine.begin() as connection:
        letter = connection.execute(
            text(
                "insert into mlops.cover_letter_samples (source, language, title, content)"
                " values ('upload', 'en', 'Next', 'Next letter') returning id"
            )
        ).scalar_one()
        job = connection.execute(
            text(
                "insert into mlops.job_postings (url, source, title, content, company)"
                " values ('https://next.example', 'next', 'Next', 'Next job', 'Next') returning id"
            )
        ).scalar_one()
        recommendation = connection.execute(
            text(
                "insert into mlops.job_recommendations (resume_id, job_id, score, model)"
                " values (:letter, :job, 0.5, 'next') returning id"
            ),
            {"letter": letter, "job": job},
        ).scalar_one()
        interaction = connection.execute(
            text(
                "insert into mlops.user_interactions (user_id, resume_id, job_id, kind)"
                " values (cast(:user as uuid), :letter, :job, 'view') returning id"
            ),
            {"user": "00000000-0000-4000-8000-000000000000", "letter": letter, "job": job},
        ).scalar_one()
    return dict(zip(TABLES, (letter, job, recommendation, interaction), strict=True))


def test_the_tables_hold_as_many_rows_as_the_scale_says(empty_url: str) -> None:
    engine = open_engine(empty_url)
    with engine.begin() as connection:
        counts = load_dataset(connection, SCALE, SEED)
    assert counts == LoadedCounts(
        cover_letter_samples=1_500,
        job_postings=150,
        job_recommendations=4_000,
        user_interactions=1_000,
    )
    assert list(count_rows(engine).values()) == [1_500, 150, 4_000, 1_000]


def test_letters_arrive_as_they_were_generated(loaded: Engine) -> None:
    expected = [
        (
            number,
            row.url,
            row.source,
            row.language,
            row.title,
            row.content,
            row.company,
            row.position,
            row.created_at,
            row.updated_at,
        )
        for number, row in enumerate(crawl_letters(SCALE.letters, SEED), start=1)
    ]
    with loaded.connect() as connection:
        found = connection.exec_driver_sql(
            "select id, url, source, language, title, content, company, position,"
            " created_at, updated_at from mlops.cover_letter_samples order by id"
        ).all()
    assert [tuple(row) for row in found] == expected
    texts = [row.content for row in found]
    for special in ("\n", "\t", "\\"):
        assert any(special in content for content in texts), special
    urls = {row.url for row in found}
    assert {None, ""} <= urls


def test_postings_arrive_as_they_were_generated(loaded: Engine) -> None:
    expected = [
        (number, row.url, row.title, row.content, row.company, row.location, row.employment_type)
        for number, row in enumerate(write_postings(SCALE.postings, SEED), start=1)
    ]
    with loaded.connect() as connection:
        found = connection.exec_driver_sql(
            "select id, url, title, content, company, location, employment_type"
            " from mlops.job_postings order by id"
        ).all()
    assert [tuple(row) for row in found] == expected


def test_recommendations_reach_first_and_last_letters_and_some_interactions_name_no_letter(
    loaded: Engine,
) -> None:
    with loaded.connect() as connection:
        first, last, letters, jobs = connection.exec_driver_sql(
            "select min(resume_id), max(resume_id), count(distinct resume_id),"
            " count(distinct job_id) from mlops.job_recommendations"
        ).one()
        nameless, users = connection.exec_driver_sql(
            "select count(*) filter (where resume_id is null), count(distinct user_id)"
            " from mlops.user_interactions"
        ).one()
    assert (first, last) == (1, SCALE.letters)
    assert letters > 0.7 * SCALE.letters
    assert jobs > 0.9 * SCALE.postings
    assert 0.2 < nameless / SCALE.interactions < 0.4
    assert 100 < users < SCALE.interactions


def test_the_next_rows_do_not_collide_with_the_loaded_ones(loaded: Engine) -> None:
    before = count_rows(loaded)
    assert insert_next(loaded) == {table: count + 1 for table, count in before.items()}


def test_tables_left_empty_begin_with_the_first_id(empty_url: str) -> None:
    engine = open_engine(empty_url)
    nothing = Scale(letters=0, postings=0, recommendations=0, interactions=0)
    with engine.begin() as connection:
        counts = load_dataset(connection, nothing)
    assert counts.cover_letter_samples == 0
    assert insert_next(engine) == dict.fromkeys(TABLES, 1)


def test_the_planner_knows_how_many_rows_there_are(loaded: Engine) -> None:
    with loaded.connect() as connection:
        estimates = connection.exec_driver_sql(
            "select relname, cast(reltuples as bigint) from pg_catalog.pg_class"
            " where relnamespace = cast('mlops' as regnamespace) and relkind = 'r'"
        ).all()
    assert dict(tuple(row) for row in estimates) == count_rows(loaded)


def test_the_transaction_is_the_callers(empty_url: str) -> None:
    engine = open_engine(empty_url)
    with engine.connect() as connection:
        load_dataset(connection, SCALE, SEED)
        connection.rollback()
    assert count_rows(engine) == dict.fromkeys(TABLES, 0)


@pytest.mark.parametrize("table", ["cover_letter_samples", "job_postings"])
def test_tables_that_hold_rows_are_refused_and_left_alone(empty_url: str, table: str) -> None:
    engine = open_engine(empty_url)
    insert_next(engine)
    with engine.begin() as connection:
        for other in reversed(TABLES):
            if other != table:
                connection.exec_driver_sql(f"delete from mlops.{other}")
    before = count_rows(engine)
    assert sum(before.values()) == before[table] == 1
    with (
        pytest.raises(Refused, match="already hold rows"),
        engine.begin() as connection,
    ):
        load_dataset(connection, SCALE, SEED)
    assert count_rows(engine) == before


def test_the_clients_encoding_does_not_matter(empty_url: str) -> None:
    with open_engine(empty_url, client_encoding="LATIN1").begin() as connection:
        load_dataset(connection, SCALE, SEED)
    expected = [row.content for row in crawl_letters(SCALE.letters, SEED)]
    with open_engine(empty_url).connect() as connection:
        found = connection.exec_driver_sql(
            "select content from mlops.cover_letter_samples order by id"
        ).scalars()
        assert list(found) == expected
