"""What PostgreSQL makes of URLs, against what Python's own library for them says."""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fkdoctor.demo.crawl import crawl_letters
from fkdoctor.demo.dataset import SEED
from fkdoctor.schema import TableName
from fkdoctor.statement.expression import TRACKING_PARAMETERS, normalise_url
from fkdoctor.statement.parts import make_table

Normalise = Callable[[Sequence[str | None]], list[str | None]]

LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def say_what_stays(url: str) -> str:
    """The normalised URL, obviously."""
    before, _, fragment = url.strip(" \t\r\n").partition("#")
    has_host = re.match(r"https?://|//", before, re.IGNORECASE | re.ASCII)
    parts = urlsplit(before if has_host else f"//{before}")
    user, at, host = parts.netloc.rpartition("@")
    host = re.sub(r":(80|443)\Z", "", host.translate(LOWER))
    kept = []
    for parameter in parts.query.split("&"):
        name = parameter.split("=")[0].translate(LOWER)
        if parameter and not name.startswith("utm_") and name not in TRACKING_PARAMETERS:
            kept.append(parameter)
    kept.sort(key=lambda parameter: parameter.split("=")[0])
    query = "?" + "&".join(kept) if kept else ""
    application = f"#{fragment}" if fragment.startswith(("/", "!")) else ""
    return user + at + host + parts.path.rstrip("/") + query + application


@pytest.fixture
def normalise(db: Any) -> Iterator[Normalise]:
    """What PostgreSQL says of each of the URLs."""
    row = make_table(TableName("pg_temp", "page"), ("place", "url")).alias("page")
    query = sa.select(normalise_url(row, "url")).select_from(row).order_by(row.c.place)
    fill = sa.text("""
        insert into page
        select place, url from unnest(cast(:urls as text[])) with ordinality as given (url, place)
    """)
    with db.engine().connect() as connection:
        connection.execute(sa.text("create temporary table page (place int, url text)"))

        def normalise(urls: Sequence[str | None]) -> list[str | None]:
            connection.execute(sa.text("truncate page"))
            connection.execute(fill, {"urls": list(urls)})
            return list(connection.execute(query).scalars())

        yield normalise


ONE_PAGE = [
    "https://a.example/x http://a.example/x //a.example/x a.example/x HTTPS://a.example/x",
    "https://a.example/x https://A.Example/x https://a.example:443/x http://A.EXAMPLE:80/x",
    "https://a.example https://a.example/ https://a.example// https://a.example/? a.example?&&",
    "https://a.example/x https://a.example/x/ https://a.example/x#top a.example/x/?#",
    "https://a.example/x?b=2&a=1 https://a.example/x?a=1&b=2 https://a.example/x/?a=1&&b=2&",
    "a.example?id=7 a.example?utm_source=s&id=7 a.example/?id=7&gclid=x a.example?id=7&UTM_X=1",
    "https://user:Secret@a.example/x https://user:Secret@A.example:443/x",
    "a.example/자기소개서 A.example/자기소개서/",
]
DIFFERENT_PAGES = [
    "a.example/x a.example/X a.example/x.html a.example/x/y a.example/y",
    "a.example/x?id=1 a.example/x?id=2 a.example/x?ID=1 a.example/x",
    "a.example/x?id a.example/x?id= a.example/x?di",
    "a.example/x?id=1&id=2 a.example/x?id=2&id=1",
    "a.example/x?ref=1 a.example/x?ref=2",
    "https://a.example:8080/x https://a.example/x https://a.example:8443/x",
    "ftp://a.example/x https://a.example/x mailto:a@a.example/x",
    "https://me@a.example/x https://Me@a.example/x https://a.example/x",
    "https://web.example/http://a.example/x https://web.example/https://a.example/x",
    "https://web.example/?u=http://a.example/x https://web.example/?u=https://a.example/x",
    "https://a.example/%7Ex https://a.example/~x https://a.example/%7ex",
    "https://bücher.example/x https://xn--bcher-kva.example/x",
    "https://a.example/#/letter/1 https://a.example/#/letter/2 https://a.example/#!1 a.example",
    "a.example:/x b.example:/x /x",
    "https://[2001:db8::80]/x https://[2001:db8::443]/x",
]


def test_addresses_of_one_page_are_one(normalise: Normalise) -> None:
    for urls in map(str.split, ONE_PAGE):
        assert len(set(normalise(urls))) == 1, urls


def test_addresses_of_different_pages_are_different(normalise: Normalise) -> None:
    for urls in map(str.split, DIFFERENT_PAGES):
        assert len(set(normalise(urls))) == len(urls), urls


def test_nothing_is_made_of_nothing(normalise: Normalise) -> None:
    assert (
        normalise([None, "", " \t\r\n", "https://", "HTTP:///", "/", "#top", "?utm_source=x"])
        == [None] + [""] * 7
    )


letters = "aBc1ü한%~.:@-_"
text = st.text(letters, max_size=5)
parameter = st.one_of(
    st.builds(str.__add__, text, st.just("=")).flatmap(lambda name: text.map(name.__add__)),
    st.sampled_from(
        ["utm_Source=x", "UTM_", "gclid=1", "Ref_Src=2", "ref=3", "a=1", "a=2", "b", ""]
    ),
    st.just("u=https://a.example/x?y"),
)
url = st.builds(
    "{}{}{}{}{}{}{}{}".format,
    st.sampled_from(["", " ", "\t\n"]),
    st.sampled_from(["https://", "http://", "HTTPS://", "Http://", "//", "", "ftp://", "https:/"]),
    st.sampled_from(["", "me@", "Me:Pa:ss@", "a@B@", "@"]),
    st.one_of(
        st.sampled_from(["", "a.example", "A.Example", "BÜCHER.example", "a.example:"]), text
    ),
    st.sampled_from(["", ":80", ":443", ":8080", ":4430", ":"]),
    st.lists(st.one_of(st.just("/"), text.map("/".__add__), st.just("/http://b")), max_size=4).map(
        "".join
    ),
    st.one_of(st.just(""), st.lists(parameter, max_size=5).map("&".join).map("?".__add__)),
    st.sampled_from(["", "#", "#top", "#/a/B?c", "#!x", "##", "#a#/b", " ", "\r\n"]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(urls=st.lists(url, min_size=20, max_size=60))
def test_agrees_with_the_standard_library(normalise: Normalise, urls: list[str]) -> None:
    assert normalise(urls) == [say_what_stays(url) for url in urls]


def test_crawled_letters_are_told_apart(normalise: Normalise) -> None:
    crawled = [row for row in crawl_letters(20_000, SEED) if row.url]
    letters = defaultdict(list)
    for row, page in zip(crawled, normalise([row.url for row in crawled]), strict=True):
        letters[page].append(row.letter)
    assert all(len(set(found)) == 1 for found in letters.values())
    assert sum(len(found) - 1 for found in letters.values()) == 2_692
