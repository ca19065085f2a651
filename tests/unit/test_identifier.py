"""Names as SQL text. What PostgreSQL itself quotes is asked in tests/database/test_quoting.py."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import MAX_BYTES, quote, quote_all, shorten, split_qualified

# What a PostgreSQL name can hold: anything but NUL, and nothing that is not a character.
names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=70
)


@given(names, names)
@example('"', ".")
@example(" ", '"."')
@example("select", "Été\n")
def test_a_quoted_name_is_read_back_as_it_was(schema: str, table: str) -> None:
    assert split_qualified(f"{quote(schema)}.{quote(table)}") == (schema, table)
    assert split_qualified(f" {quote(schema)} . {quote(table)} ") == (schema, table)
    assert split_qualified(quote(table)) == (table,)


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ("Jobs", ("jobs",)),
        ("MLOPS.Jobs", ("mlops", "jobs")),
        ('mlops."Jobs"', ("mlops", "Jobs")),
        ('"a.b".c', ("a.b", "c")),
        ('"say ""hi"""', ('say "hi"',)),
        ("a.b.c", ("a", "b", "c")),
        # PostgreSQL folds ASCII letters alone.
        ("ÉTÉ", ("ÉtÉ",)),
        ("이력서", ("이력서",)),
        ("a$b", ("a$b",)),
    ],
)
def test_bare_parts_are_folded_as_postgresql_folds_them(
    written: str, parts: tuple[str, ...]
) -> None:
    assert split_qualified(written) == parts


@pytest.mark.parametrize(
    "text", ["", " ", ".", "a.", ".a", "a..b", "a b", '"a', 'a"', '""', '"a"b', 'a"b"', "a. .b"]
)
def test_what_is_no_name_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        split_qualified(text)
    what, why, to_type = str(refused.value).splitlines()
    assert repr(text) in what
    assert "schema.table" in why
    assert "mlops.job_postings" in to_type


def test_names_are_quoted_only_where_sql_needs_it() -> None:
    assert quote_all(("id", "Id", "order", "a b", 'x"y', "_1", "1a", "")) == (
        'id, "Id", "order", "a b", "x""y", _1, "1a", ""'
    )


@given(names, st.text(st.sampled_from("_abé이"), max_size=20))
def test_a_shortened_name_fits_and_keeps_its_beginning_and_its_suffix(
    name: str, suffix: str
) -> None:
    short = shorten(name, suffix)
    assert len(short.encode()) <= MAX_BYTES
    assert short.endswith(suffix)
    kept = short.removesuffix(suffix) if suffix else short
    assert name.startswith(kept)
    # Nothing is cut without need: one character more would not fit.
    if kept != name:
        longer = name[: len(kept) + 1] + suffix
        assert len(longer.encode()) > MAX_BYTES


def test_a_name_is_never_cut_inside_a_character() -> None:
    assert shorten("a" * 61 + "이") == "a" * 61
    assert shorten("a" * 60 + "이") == "a" * 60 + "이"
    assert shorten("이" * 30, "_fk") == "이" * 20 + "_fk"
