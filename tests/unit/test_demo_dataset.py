"""The demo's rows, without a database: what is generated, and that its ground truth is true."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from itertools import islice, pairwise
from random import Random
from urllib.parse import parse_qsl, urlsplit

import pytest

from fkdoctor.demo.crawl import CrawledLetter, Origin, crawl_letters, vary_url
from fkdoctor.demo.dataset import Scale
from fkdoctor.demo.grammar import Name, bind_phrases, inflect_noun, read_vocabulary, write_phrase
from fkdoctor.demo.letters import revise_letter, write_letter
from fkdoctor.demo.postings import write_postings

ROWS = 6_000
SEED = 7


@pytest.fixture(scope="module")
def rows() -> tuple[CrawledLetter, ...]:
    return tuple(crawl_letters(ROWS, SEED))


def normalise_url(url: str) -> tuple[object, ...]:
    """What is left of an address when everything that does not choose the page is taken away."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    chosen = [
        (key, value)
        for key, value in pairs
        if not key.startswith("utm_") and key not in ("gclid", "fbclid")
    ]
    return (parts.netloc.lower(), parts.path.rstrip("/"), tuple(sorted(chosen)))


def shingles(text: str) -> set[str]:
    letters = "".join(c for c in text.lower() if c.isalnum())
    return {letters[at : at + 3] for at in range(len(letters) - 2)}


def resemblance(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def firsts(rows: tuple[CrawledLetter, ...]) -> dict[int, CrawledLetter]:
    return {row.letter: row for row in rows if row.origin is Origin.FIRST}


def test_the_same_seed_gives_the_same_rows(rows: tuple[CrawledLetter, ...]) -> None:
    assert tuple(crawl_letters(ROWS, SEED)) == rows
    assert list(write_postings(50, SEED)) == list(write_postings(50, SEED))


def test_another_seed_gives_other_rows(rows: tuple[CrawledLetter, ...]) -> None:
    other = list(crawl_letters(200, SEED + 1))
    assert not {row.content for row in other} & {row.content for row in rows}
    assert list(write_postings(50, SEED)) != list(write_postings(50, SEED + 1))


def test_rows_do_not_depend_on_the_hash_seed_of_the_process() -> None:
    script = (
        "from hashlib import sha256;"
        "from fkdoctor.demo.dataset import Scale, _letter_lines, _posting_lines,"
        " _recommendation_lines, _interaction_lines;"
        "s = Scale(letters=60, postings=20, recommendations=100, interactions=100);"
        "lines = [line for make in (_letter_lines, _posting_lines, _recommendation_lines,"
        " _interaction_lines) for line in make(s, 7)];"
        "print(len(lines), sha256(''.join(lines).encode()).hexdigest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1
    assert printed.pop().startswith("280 ")


def test_the_first_rows_are_the_same_at_a_larger_scale(rows: tuple[CrawledLetter, ...]) -> None:
    # The last rows of the smaller crawl catch up with outstanding copies.
    count = 4_000
    larger = islice(crawl_letters(10 * ROWS, SEED), count)
    for small, large in zip(rows, larger, strict=False):
        assert replace(large, created_at=small.created_at, updated_at=small.updated_at) == small


@pytest.mark.parametrize("count", [0, 1, 2, 50, 500])
def test_a_crawl_has_exactly_the_rows_asked_for(count: int) -> None:
    assert sum(1 for _ in crawl_letters(count, SEED)) == count
    assert sum(1 for _ in write_postings(count, SEED)) == count


def test_between_a_tenth_and_a_fifth_of_the_rows_are_duplicates(
    rows: tuple[CrawledLetter, ...],
) -> None:
    duplicates = len(rows) - len({row.letter for row in rows})
    assert 0.10 * ROWS <= duplicates <= 0.20 * ROWS
    assert duplicates == sum(row.origin is not Origin.FIRST for row in rows)
    sizes = Counter(Counter(row.letter for row in rows).values())
    assert sizes[2] > sizes[3] > sizes[4] > 0


def test_rows_with_the_same_normalised_url_hold_the_same_letter(
    rows: tuple[CrawledLetter, ...],
) -> None:
    letters = defaultdict(set)
    for row in rows:
        if row.url:
            letters[normalise_url(row.url)].add(row.letter)
    assert len(letters) > 0.8 * ROWS
    assert {len(members) for members in letters.values()} == {1}


def test_a_page_met_again_keeps_its_normalised_url_and_a_repost_has_another(
    rows: tuple[CrawledLetter, ...],
) -> None:
    first = firsts(rows)
    for row in rows:
        url = first[row.letter].url
        if row.origin in (Origin.RECRAWLED, Origin.EDITED):
            assert row.url
            assert url
            assert normalise_url(row.url) == normalise_url(url)
        elif row.origin is Origin.REPOSTED and row.url:
            assert url
            assert normalise_url(row.url) != normalise_url(url)


def test_every_kind_of_url_variation_occurs(rows: tuple[CrawledLetter, ...]) -> None:
    first = firsts(rows)
    seen: Counter[str] = Counter()
    for row in rows:
        if row.origin not in (Origin.RECRAWLED, Origin.EDITED):
            continue
        ours, theirs = urlsplit(row.url or ""), urlsplit(first[row.letter].url or "")
        given = [key for key, _ in parse_qsl(theirs.query)]
        found = [key for key, _ in parse_qsl(ours.query)]
        seen["same"] += row.url == first[row.letter].url
        seen["http"] += ours.scheme == "http"
        seen["host"] += ours.netloc != theirs.netloc
        seen["slash"] += ours.path.endswith("/")
        seen["fragment"] += bool(ours.fragment)
        seen["order"] += [key for key in found if key in given] != given
        seen.update(key for key in found if key not in given)
    kinds = {"same", "http", "host", "slash", "fragment", "order"}
    tracking = {"utm_source", "utm_medium", "utm_campaign", "gclid", "fbclid"}
    assert kinds | tracking == set(+seen)


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/",
        "https://a.example/p?no=1&cate=x",
        "https://a.example/%EC%9E%90/7",
    ],
)
def test_a_varied_url_leads_to_the_same_page(url: str) -> None:
    rng = Random(SEED)
    spellings = {vary_url(url, rng) for _ in range(300)}
    assert len(spellings) > 50
    assert {normalise_url(spelling) for spelling in spellings} == {normalise_url(url)}


def test_some_letters_have_no_url_or_an_empty_one(rows: tuple[CrawledLetter, ...]) -> None:
    missing = [row for row in rows if not row.url]
    assert 0 < len(missing) < 0.03 * ROWS
    assert {row.url for row in missing} == {None, ""}
    assert len({row.letter for row in missing}) > 0.6 * len(missing)


def test_copies_come_later_than_the_letter_they_repeat(rows: tuple[CrawledLetter, ...]) -> None:
    assert all(earlier.created_at < later.created_at for earlier, later in pairwise(rows))
    assert all(row.created_at <= row.updated_at for row in rows)
    seen: set[int] = set()
    for row in rows:
        assert (row.letter in seen) == (row.origin is not Origin.FIRST)
        seen.add(row.letter)


def test_a_later_crawl_fills_in_fields_and_sometimes_loses_them(
    rows: tuple[CrawledLetter, ...],
) -> None:
    first = firsts(rows)
    changes = Counter(
        (first[row.letter].company is None, row.company is None)
        for row in rows
        if row.origin is not Origin.FIRST
    )
    assert changes[True, False] > changes[True, True] > 0
    assert changes[False, False] > changes[False, True] > 0


def test_recrawled_text_is_equal_edited_text_similar_and_other_text_different(
    rows: tuple[CrawledLetter, ...],
) -> None:
    first = firsts(rows)
    edited = [row for row in rows if row.origin is Origin.EDITED]
    for row in rows:
        if row.origin is Origin.RECRAWLED:
            assert row.content == first[row.letter].content
    for row in edited:
        original = first[row.letter].content
        assert row.content != original
        assert resemblance(row.content, original) > 0.6
    strangers = [(one, other) for one, other in pairwise(first.values())][:500]
    assert all(resemblance(one.content, other.content) < 0.5 for one, other in strangers)


def test_letters_are_korean_and_english_and_of_believable_length(
    rows: tuple[CrawledLetter, ...],
) -> None:
    languages = Counter(row.language for row in rows)
    assert set(languages) == {"ko", "en"}
    assert min(languages.values()) > 0.2 * ROWS
    for row in rows:
        hangul = sum("가" <= character <= "힣" for character in row.content)
        assert hangul > 0.5 * len(row.content) if row.language == "ko" else hangul == 0
        assert 600 <= len(row.content) <= 1_800


def test_revised_letters_stay_of_believable_length() -> None:
    rng = Random(SEED)
    letters = sorted((write_letter(rng) for _ in range(2_000)), key=lambda one: len(one.content))
    for letter in letters[:20] + letters[-20:]:
        for _ in range(50):
            assert 600 <= len(revise_letter(letter, rng)) <= 1_800


def test_texts_have_no_slot_left_open(rows: tuple[CrawledLetter, ...]) -> None:
    postings = tuple(write_postings(500, SEED))
    written = [asdict(row) for row in rows] + [asdict(posting) for posting in postings]
    texts = [str(value) for fields in written for value in fields.values()]
    assert not [text for text in texts if set("{}") & set(text) or "%%" in text]
    titles = [row.title for row in rows] + [posting.title for posting in postings]
    assert all(title and title == title.strip() for title in titles)


def test_every_host_is_reserved_for_examples(rows: tuple[CrawledLetter, ...]) -> None:
    urls = [row.url for row in rows if row.url] + [row.url for row in write_postings(500, SEED)]
    assert {urlsplit(url).netloc.lower().rsplit(".", 1)[1] for url in urls} == {"example"}


def test_every_posting_has_a_url_of_its_own() -> None:
    postings = list(write_postings(2_000, SEED))
    assert len({normalise_url(posting.url) for posting in postings}) == 2_000
    assert all(posting.content and posting.company for posting in postings)


def test_memory_does_not_grow_with_the_rows() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in crawl_letters(count, SEED):
            pass
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return high

    peak(10)
    assert peak(9_000) < 1.5 * peak(4_000)


@pytest.mark.parametrize("wrong", [{"letters": -1}, {"postings": 0}, {"letters": 0}])
def test_a_scale_that_cannot_be_loaded_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"negative number|nothing to reference"):
        Scale(**wrong)


@pytest.mark.parametrize(
    ("noun", "spec", "expected"),
    [
        ("책임감", "은", "책임감은"),
        ("끈기", "은", "끈기는"),
        ("경청", "이", "경청이"),
        ("배려", "이", "배려가"),
        ("정직", "을", "정직을"),
        ("글쓰기", "을", "글쓰기를"),
        ("기록", "과", "기록과"),
        ("신뢰", "과", "신뢰와"),
        ("시험", "으로", "시험으로"),
        ("도구", "으로", "도구로"),
        ("엑셀", "으로", "엑셀로"),
        ("서울", "을", "서울을"),
        ("Python", "을", "Python을"),
        ("Spring", "이", "Spring이"),
        ("SQL", "으로", "SQL로"),
        ("SQL", "을", "SQL을"),
        ("Kafka", "을", "Kafka를"),
        ("문제", "이었습니다", "문제였습니다"),
        ("장애물", "이라는", "장애물이라는"),
        ("담당자", "으로서", "담당자로서"),
        ("accountant", "a", "an accountant"),
        ("user researcher", "a", "a user researcher"),
        ("nurse", "a", "a nurse"),
        ("nurse", "", "nurse"),
    ],
)
def test_a_noun_takes_the_particle_or_article_its_sound_asks_for(
    noun: str, spec: str, expected: str
) -> None:
    assert inflect_noun(noun, spec) == expected
    assert f"{Name(noun):{spec}}" == expected


def test_a_phrase_fills_known_slots_and_leaves_the_others_for_later() -> None:
    words = read_vocabulary("tool: 엑셀\npercent: 30")
    (phrase,) = bind_phrases(("{company:은} {tool:을} 써서 {percent}% 줄였습니다.",), words)
    sentence = write_phrase(phrase, Random(SEED))
    assert sentence == "{company:은} 엑셀을 써서 30% 줄였습니다."
    assert sentence.format(company=Name("새솔")) == "새솔은 엑셀을 써서 30% 줄였습니다."
