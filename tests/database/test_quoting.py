"""Quoting, folding and cutting of names: PostgreSQL is asked how it does them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import cursor as Cursor

from fkdoctor.identifier import KEYWORDS, quote, shorten, split_qualified

names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=70
)
plain_names = st.text("aA_0$é", min_size=1)


@pytest.fixture(scope="module")
def server(server_url: str) -> Iterator[Cursor]:
    with closing(psycopg2.connect(server_url)) as connection:
        connection.autocommit = True
        connection.set_client_encoding("UTF8")
        with connection.cursor() as cursor:
            yield cursor


def _ask(server: Cursor, question: str, *values: object) -> list[tuple[str, ...]]:
    server.execute(question, values)
    return server.fetchall()


def test_every_keyword_is_quoted_that_the_server_quotes(server: Cursor) -> None:
    words = _ask(server, "select word, quote_ident(word) from pg_get_keywords()")
    assert len(words) > 400
    for word, quoted in words:
        # Other versions may class the word otherwise: quoted once too often does no harm.
        assert quote(word) == (quoted if word not in KEYWORDS else f'"{word}"')


def test_only_words_that_some_version_has_are_taken_for_keywords(server: Cursor) -> None:
    newest = 180000
    (version,) = _ask(server, "select current_setting('server_version_num')::int")[0]
    if int(version) < newest:
        pytest.skip("an older server does not know the newer keywords")
    known = {word for (word,) in _ask(server, "select word from pg_get_keywords()")}
    assert known >= KEYWORDS


@settings(max_examples=300)
@given(st.lists(names | plain_names, min_size=1))
def test_random_names_are_quoted_as_the_server_quotes_them(server: Cursor, some: list[str]) -> None:
    asked = _ask(server, "select n, quote_ident(n) from unnest(%s) as n", some)
    assert [(name, quote(name)) for name in some if name not in KEYWORDS] == [
        (name, quoted) for name, quoted in asked if name not in KEYWORDS
    ]


@settings(max_examples=200)
@given(st.lists(st.from_regex(r"[A-Za-zÀ-ɏ가-힣_][A-Za-z0-9À-ɏ_$]*", fullmatch=True), min_size=1))
def test_bare_names_are_folded_as_the_server_folds_them(server: Cursor, some: list[str]) -> None:
    # parse_ident reads a name as the SQL parser does.
    asked = _ask(server, "select (parse_ident(n))[1] from unnest(%s) as n", some)
    assert [split_qualified(name) for name in some] == asked


@settings(max_examples=100)
@given(st.lists(names, min_size=1))
def test_names_are_cut_where_the_server_cuts_them(server: Cursor, some: list[str]) -> None:
    asked = _ask(server, "select n::name::text from unnest(%s) as n", some)
    assert [(shorten(name),) for name in some] == asked
