"""What a crawler stores: cover letters met once, met again under a varied URL, and reposted.

The rows carry the ground truth, which a database would not know: which letter each row holds and
how the row came about. Two rows with the same letter number hold the same letter. Two rows whose
URLs say the same after normalisation (scheme, host case, tracking parameters, order of the query,
trailing slash and fragment aside) always hold the same letter; the reverse does not hold for
reposts and for letters without a URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from heapq import heappop, heappush
from random import Random
from urllib.parse import SplitResult, urlsplit

from fkdoctor.demo.grammar import pick
from fkdoctor.demo.letters import Letter, revise_letter, write_letter

CRAWL_BEGAN = datetime(2024, 6, 1, tzinfo=UTC)
CRAWL_ENDED = datetime(2026, 5, 31, tzinfo=UTC)

# How many further times a letter is met; the mean of 0.18 makes 15 % of all rows duplicates.
_COPIES = (0,) * 88 + (1,) * 7 + (2,) * 4 + (3,)
_LONGEST_DELAY = 3_000
_WITHOUT_URL = 0.006
_WITH_EMPTY_URL = 0.004
_WITHOUT_COMPANY = 0.15
_WITHOUT_POSITION = 0.1

# Page addresses of the sources, by language; {id} differs for every letter.
_PAGES = {
    "ko": (
        "https://www.jasoseo-bank.example/view?no={id}&cate=letter",
        "https://career.onmaru.example/community/letters/{id}",
        "https://blog.haru.example/archive/{id}",
        "https://m.jobteo.example/resume/read.php?category=intro&letter_id={id}&page=1",
        "https://archive.seomdal.example/%EC%9E%90%EC%86%8C%EC%84%9C/{id}",
    ),
    "en": (
        "https://www.letterfield.example/samples/{id}",
        "https://hirely.example/cover-letter?id={id}&level=any",
        "https://forum.quillboard.example/t/cover-letters/{id}",
        "https://docs.foliohub.example/p/{id}/cover-letter",
    ),
}
# Sites that republish what others wrote, under numbers of their own.
_REPOST_PAGES = {
    "ko": ("https://scrap.moajaso.example/p/{id}", "https://share.gulmoum.example/read?doc={id}"),
    "en": ("https://mirror.textscrap.example/doc?key={id}", "https://samples.rehost.example/{id}"),
}
_TRACKING = (
    "utm_source=newsletter",
    "utm_source=search&utm_medium=cpc",
    "utm_source=feed&utm_medium=social&utm_campaign=spring",
    "utm_campaign=hiring_week",
    "gclid=Cj0KCQ{token}",
    "fbclid=IwAR{token}",
)
_FRAGMENTS = ("content", "comments", "top", "letter")


class Origin(Enum):
    """How a row came about."""

    FIRST = "first"
    RECRAWLED = "recrawled"
    EDITED = "edited"
    REPOSTED = "reposted"


@dataclass(frozen=True, kw_only=True, slots=True)
class CrawledLetter:
    """One row of mlops.cover_letter_samples, and the truth about it: `letter` and `origin`."""

    letter: int
    origin: Origin
    url: str | None
    source: str
    language: str
    title: str
    content: str
    company: str | None
    position: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Meeting:
    """A letter as it was first met, kept while the crawler will still come back to it."""

    letter: Letter
    first: CrawledLetter


def crawl_letters(rows: int, seed: int) -> Iterator[CrawledLetter]:
    """The rows in the order of crawling, the first of which gets id 1.

    Memory does not grow with the number of rows: a letter is met again within 3,000 rows. Apart
    from the times, which spread over two years, and the very end, where outstanding copies are
    caught up with, the first rows are the same however many follow.
    """
    rng = Random(f"cover letters {seed}")
    outstanding: list[tuple[int, int, _Meeting]] = []
    interval = (CRAWL_ENDED - CRAWL_BEGAN) / max(rows, 1)
    letters = tickets = 0
    for row in range(rows):
        crawled_at = CRAWL_BEGAN + interval * (row + rng.random())
        if outstanding and (outstanding[0][0] <= row or len(outstanding) >= rows - row):
            ticket, meeting = heappop(outstanding)[1:]
            yield _meet_again(meeting, ticket, crawled_at, rng)
            continue
        letter = write_letter(rng)
        first = _meet_letter(letter, letters, crawled_at, rng)
        letters += 1
        for _ in range(pick(rng, _COPIES)):
            tickets += 1
            due = row + 1 + int(rng.random() * _LONGEST_DELAY)
            heappush(outstanding, (due, tickets, _Meeting(letter=letter, first=first)))
        yield first


def vary_url(url: str, rng: Random) -> str:
    """The same page's address as another link to it spells it."""
    parts = urlsplit(url)
    if rng.random() < 0.5:
        tracking = pick(rng, _TRACKING).format(token=f"{int(rng.random() * 16**10):010x}")
        pair = [parts.query, tracking] if rng.random() < 0.7 else [tracking, parts.query]
        parts = parts._replace(query="&".join(filter(None, pair)))
    if rng.random() < 0.3:
        parts = parts._replace(query="&".join(reversed(parts.query.split("&"))))
    if rng.random() < 0.25:
        parts = parts._replace(path=parts.path + "/")
    if rng.random() < 0.25:
        parts = parts._replace(scheme="http")
    if rng.random() < 0.2:
        parts = parts._replace(fragment=pick(rng, _FRAGMENTS))
    if rng.random() < 0.15:
        parts = _raise_host(parts, rng)
    return parts.geturl()


def _raise_host(parts: SplitResult, rng: Random) -> SplitResult:
    return parts._replace(
        netloc=parts.netloc.upper() if rng.random() < 0.5 else parts.netloc.title()
    )


def _meet_letter(letter: Letter, number: int, crawled_at: datetime, rng: Random) -> CrawledLetter:
    page = pick(rng, _PAGES[letter.language]).format(id=100_003 + 7 * number)
    fate = rng.random()
    url = None if fate < _WITHOUT_URL else "" if fate < _WITHOUT_URL + _WITH_EMPTY_URL else page
    return CrawledLetter(
        letter=number,
        origin=Origin.FIRST,
        url=url,
        source=_name_source(page) if url else "upload",
        language=letter.language,
        title=letter.title,
        content=letter.content,
        company=None if rng.random() < _WITHOUT_COMPANY else letter.company,
        position=None if rng.random() < _WITHOUT_POSITION else letter.position,
        created_at=crawled_at,
        updated_at=_draw_update(crawled_at, rng),
    )


def _meet_again(meeting: _Meeting, ticket: int, crawled_at: datetime, rng: Random) -> CrawledLetter:
    letter, first = meeting.letter, meeting.first
    origin = _draw_origin(first, rng)
    url, source = first.url, first.source
    if origin is Origin.REPOSTED and url:
        url = pick(rng, _REPOST_PAGES[letter.language]).format(id=20_011 + 3 * ticket)
        source = _name_source(url)
    elif url and rng.random() < 0.85:
        url = vary_url(url, rng)
    same_text = origin is Origin.RECRAWLED or (origin is Origin.REPOSTED and rng.random() < 0.3)
    return replace(
        first,
        origin=origin,
        url=url,
        source=source,
        content=first.content if same_text else revise_letter(letter, rng),
        company=_read_again(first.company, letter.company, rng),
        position=_read_again(first.position, letter.position, rng),
        created_at=crawled_at,
        updated_at=_draw_update(crawled_at, rng),
    )


def _draw_origin(first: CrawledLetter, rng: Random) -> Origin:
    fate = rng.random()
    if not first.url:
        return Origin.REPOSTED
    return Origin.RECRAWLED if fate < 0.65 else Origin.EDITED if fate < 0.9 else Origin.REPOSTED


def _read_again(before: str | None, truth: str, rng: Random) -> str | None:
    """The field as the later crawl read it: often filled in at last, now and then lost."""
    if before is None:
        return truth if rng.random() < 0.7 else None
    return None if rng.random() < 0.05 else before


def _draw_update(crawled_at: datetime, rng: Random) -> datetime:
    """The time of the row's last update: mostly its creation, else up to three weeks later."""
    if rng.random() < 0.7:
        return crawled_at
    return crawled_at + timedelta(days=21) * rng.random()


def _name_source(page: str) -> str:
    return urlsplit(page).netloc.split(".")[-2]
