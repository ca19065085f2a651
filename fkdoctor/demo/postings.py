"""Job postings in Korean and English, each under a URL of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from random import Random

from fkdoctor.demo.grammar import (
    Name,
    Phrase,
    Prose,
    Vocabulary,
    bind_phrases,
    pick,
    write_phrase,
)
from fkdoctor.demo.letters import KOREAN_SHARE, PROSE, draw_company

POSTING_BEGAN = datetime(2025, 9, 1, tzinfo=UTC)
POSTING_ENDED = datetime(2026, 5, 31, tzinfo=UTC)

_PAGES = {
    "ko": (
        "https://recruit.onmaru.example/jobs/{id}",
        "https://www.iljarimadang.example/posting?no={id}",
    ),
    "en": (
        "https://jobs.hirely.example/postings/{id}",
        "https://board.quillboard.example/vacancy?id={id}",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class JobPosting:
    """One row of mlops.job_postings."""

    url: str
    source: str
    title: str
    content: str
    company: str
    location: str | None
    employment_type: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Style:
    """Everything one occupation's postings are written with, in one language."""

    positions: tuple[str, ...]
    locations: tuple[str, ...]
    employments: tuple[str, ...]
    titles: tuple[Phrase, ...]
    introductions: tuple[Phrase, ...]
    lists: Mapping[str, tuple[Phrase, ...]]


def write_postings(rows: int, seed: int) -> Iterator[JobPosting]:
    """The rows in the order of publication, the first of which gets id 1."""
    rng = Random(f"job postings {seed}")
    interval = (POSTING_ENDED - POSTING_BEGAN) / max(rows, 1)
    for row in range(rows):
        published_at = POSTING_BEGAN + interval * (row + rng.random())
        yield _write_posting(row, published_at, rng)


def _write_posting(number: int, published_at: datetime, rng: Random) -> JobPosting:
    language = "ko" if rng.random() < KOREAN_SHARE else "en"
    style = pick(rng, _bind_styles(language))
    company, location = draw_company(language, rng), Name(pick(rng, style.locations))
    names = {
        "company": company,
        "position": Name(pick(rng, style.positions)),
        "location": location,
        "year": "2026",
    }
    title = write_phrase(pick(rng, style.titles), rng).format_map(names)
    page = pick(rng, _PAGES[language])
    return JobPosting(
        url=page.format(id=700_001 + 3 * number),
        source=page.split(".")[1],
        title=title[0].upper() + title[1:],
        content=_compose_content(style, rng).format_map(names),
        company=str(company),
        location=str(location) if rng.random() < 0.9 else None,
        employment_type=pick(rng, style.employments) if rng.random() < 0.9 else None,
        created_at=published_at,
        updated_at=published_at,
    )


def _compose_content(style: _Style, rng: Random) -> str:
    parts = [write_phrase(pick(rng, style.introductions), rng)]
    for heading, phrases in style.lists.items():
        skipped = int(rng.random() * len(phrases))
        items = [f"- {write_phrase(phrase, rng)}" for phrase in phrases]
        parts.append("\n".join([heading, *items[:skipped], *items[skipped + 1 :]]))
    return "\n\n".join(parts)


@cache
def _bind_styles(language: str) -> tuple[_Style, ...]:
    prose = PROSE[language]
    return tuple(_bind_style(prose, occupation) for occupation in prose.occupations)


def _bind_style(prose: Prose, occupation: Vocabulary) -> _Style:
    # A posting is for one position at one place, so these slots are filled per posting.
    vocabulary = {**prose.shared, **occupation}
    positions, locations = vocabulary.pop("position"), vocabulary.pop("location")
    return _Style(
        positions=positions,
        locations=locations,
        employments=vocabulary["employment"],
        titles=bind_phrases(prose.posting_titles, vocabulary),
        introductions=bind_phrases(prose.posting_introductions, vocabulary),
        lists={
            heading: bind_phrases(templates, vocabulary)
            for heading, templates in prose.posting_lists.items()
        },
    )
