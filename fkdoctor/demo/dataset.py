"""Loading the demo's rows into the mlops schema: generated and copied in as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import cast
from uuid import UUID

from psycopg2.extensions import connection as DriverConnection
from psycopg2.extensions import cursor as Cursor
from sqlalchemy import Connection, text

from fkdoctor.demo.crawl import crawl_letters
from fkdoctor.demo.grammar import pick
from fkdoctor.demo.postings import write_postings
from fkdoctor.errors import Refused

SEED = 20_260_630
ACTIVITY_BEGAN = datetime(2026, 6, 1, tzinfo=UTC)
ACTIVITY_ENDED = datetime(2026, 6, 30, tzinfo=UTC)

_MODELS = ("two-tower-v3", "two-tower-v3", "two-tower-v2", "cross-encoder-v1", "popularity-v1")
_KINDS = ("view",) * 12 + ("click",) * 5 + ("save",) * 2 + ("apply",)
_USERS = 5_000
_WITHOUT_LETTER = 0.3
_SPREAD = 40
_LINES_PER_READ = 64

# Ids are written, not drawn from the sequences: the referencing rows must know them beforehand.
_COPY_LETTERS = """
copy mlops.cover_letter_samples
  (id, url, source, language, title, content, company, position, created_at, updated_at)
from stdin with (format text, encoding 'UTF8')
"""
_COPY_POSTINGS = """
copy mlops.job_postings
  (id, url, source, title, content, company, location, employment_type, created_at, updated_at)
from stdin with (format text, encoding 'UTF8')
"""
_COPY_RECOMMENDATIONS = """
copy mlops.job_recommendations (id, resume_id, job_id, score, model, created_at, updated_at)
from stdin with (format text, encoding 'UTF8')
"""
_COPY_INTERACTIONS = """
copy mlops.user_interactions (id, user_id, resume_id, job_id, kind, occurred_at)
from stdin with (format text, encoding 'UTF8')
"""
# The other two tables cannot hold rows when these do not.
_FIND_ROWS = text("""
select exists (select from mlops.cover_letter_samples)
    or exists (select from mlops.job_postings)
""")
_ADVANCE_SEQUENCES = text("""
select pg_catalog.setval(pg_catalog.pg_get_serial_sequence(loaded.name, 'id'), loaded.rows)
from (values
  ('mlops.cover_letter_samples', cast(:letters as bigint)),
  ('mlops.job_postings', cast(:postings as bigint)),
  ('mlops.job_recommendations', cast(:recommendations as bigint)),
  ('mlops.user_interactions', cast(:interactions as bigint))
) as loaded (name, rows)
where loaded.rows > 0
""")
_ANALYZE = text("""
analyze mlops.cover_letter_samples, mlops.job_postings,
  mlops.job_recommendations, mlops.user_interactions
""")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many rows each table gets. Referencing rows need rows to reference."""

    letters: int = 20_000
    postings: int = 3_000
    recommendations: int = 100_000
    interactions: int = 30_000

    def __post_init__(self) -> None:
        if min(self.letters, self.postings, self.recommendations, self.interactions) < 0:
            raise ValueError(f"negative number of rows in {self}")
        if (self.recommendations or self.interactions) and not (self.letters and self.postings):
            raise ValueError(f"nothing to reference in {self}")


@dataclass(frozen=True, kw_only=True)
class LoadedCounts:
    """How many rows the server took in, by table."""

    cover_letter_samples: int
    job_postings: int
    job_recommendations: int
    user_interactions: int


def load_dataset(
    connection: Connection, scale: Scale | None = None, seed: int = SEED
) -> LoadedCounts:
    """The rows loaded into the empty mlops tables; the transaction is left to the caller.

    Memory does not grow with the scale. The identity sequences go on after the loaded rows and
    the tables are analyzed. Raises Refused when one of the tables already holds rows.
    """
    scale = scale or Scale()
    if connection.scalar(_FIND_ROWS):
        raise Refused(
            "The mlops tables already hold rows.",
            why="The demo's rows bring their own ids, which would collide with those there.",
            next="Load into an empty database: create one, then run alembic upgrade head.",
        )
    driver = cast(DriverConnection, connection.connection.driver_connection)
    with driver.cursor() as cursor:
        counts = LoadedCounts(
            cover_letter_samples=_copy(cursor, _COPY_LETTERS, _letter_lines(scale, seed)),
            job_postings=_copy(cursor, _COPY_POSTINGS, _posting_lines(scale, seed)),
            job_recommendations=_copy(
                cursor, _COPY_RECOMMENDATIONS, _recommendation_lines(scale, seed)
            ),
            user_interactions=_copy(cursor, _COPY_INTERACTIONS, _interaction_lines(scale, seed)),
        )
    connection.execute(
        _ADVANCE_SEQUENCES,
        {
            "letters": counts.cover_letter_samples,
            "postings": counts.job_postings,
            "recommendations": counts.job_recommendations,
            "interactions": counts.user_interactions,
        },
    )
    connection.execute(_ANALYZE)
    return counts


class _LineReader:
    """The lines as the file that psycopg2's COPY wants to read from."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def read(self, size: int = -1, /) -> bytes:
        """Some more lines, `b""` at the end. COPY takes more than `size` just as well."""
        return "".join(islice(self._lines, _LINES_PER_READ)).encode()

    def readline(self, size: int = -1, /) -> bytes:
        """The next line, `b""` at the end."""
        return next(self._lines, "").encode()


def _copy(cursor: Cursor, statement: str, lines: Iterator[str]) -> int:
    cursor.copy_expert(statement, _LineReader(lines))
    return cursor.rowcount


def _letter_lines(scale: Scale, seed: int) -> Iterator[str]:
    for number, row in enumerate(crawl_letters(scale.letters, seed), start=1):
        yield (
            f"{number}\t{_escape(row.url)}\t{_escape(row.source)}\t{row.language}\t"
            f"{_escape(row.title)}\t{_escape(row.content)}\t{_escape(row.company)}\t"
            f"{_escape(row.position)}\t{row.created_at}\t{row.updated_at}\n"
        )


def _posting_lines(scale: Scale, seed: int) -> Iterator[str]:
    for number, row in enumerate(write_postings(scale.postings, seed), start=1):
        yield (
            f"{number}\t{_escape(row.url)}\t{_escape(row.source)}\t{_escape(row.title)}\t"
            f"{_escape(row.content)}\t{_escape(row.company)}\t{_escape(row.location)}\t"
            f"{_escape(row.employment_type)}\t{row.created_at}\t{row.updated_at}\n"
        )


def _recommendation_lines(scale: Scale, seed: int) -> Iterator[str]:
    """Recommendations as a nightly run makes them: letter by letter, popular jobs more often.

    The order matters to the server: each row locks the letter it references, and neighbours
    share a page.
    """
    rng = Random(f"recommendations {seed}")
    random = rng.random
    interval = _activity_interval(scale.recommendations)
    for row in range(scale.recommendations):
        place = (row + int(random() * _SPREAD)) % scale.recommendations
        resume = 1 + place * scale.letters // scale.recommendations
        job = 1 + int(random() ** 2 * scale.postings)
        score, model = 0.4 + 0.6 * random(), pick(rng, _MODELS)
        made_at = ACTIVITY_BEGAN + interval * row
        yield f"{row + 1}\t{resume}\t{job}\t{score:.4f}\t{model}\t{made_at}\t{made_at}\n"


def _interaction_lines(scale: Scale, seed: int) -> Iterator[str]:
    """What 5,000 users did, some of them far more than others."""
    rng = Random(f"interactions {seed}")
    random = rng.random
    users = tuple(str(UUID(int=rng.getrandbits(128), version=4)) for _ in range(_USERS))
    interval = _activity_interval(scale.interactions)
    for row in range(scale.interactions):
        user = users[int(random() ** 2 * _USERS)]
        letter = 1 + int(random() * scale.letters)
        resume = "\\N" if random() < _WITHOUT_LETTER else letter
        job = 1 + int(random() ** 2 * scale.postings)
        occurred_at = ACTIVITY_BEGAN + interval * row
        yield f"{row + 1}\t{user}\t{resume}\t{job}\t{pick(rng, _KINDS)}\t{occurred_at}\n"


def _activity_interval(rows: int) -> timedelta:
    return (ACTIVITY_ENDED - ACTIVITY_BEGAN) / max(rows, 1)


def _escape(value: str | None) -> str:
    """The value in COPY's text format."""
    if value is None:
        return "\\N"
    return (
        value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    )
