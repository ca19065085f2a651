"""How --match and --survivor are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fkdoctor.dedupe.criteria import Normaliser, Preference, parse_match, parse_survivor
from fkdoctor.errors import ConfigError
from fkdoctor.schema import Column, Schema, Table

TYPES = {
    "url": "text",
    "source_url": "character varying",
    "link": "ext.citext",
    "Link": "text",
    "url_hash": "text",
    "link_id": "bigint",
    "href": "bytea",
    "curl": "text",
    "updated_at": "timestamp with time zone",
    "a:b": "text",
    'x"y:url': "text",
    "Titel Ä": "text",
}


@pytest.fixture
def letter(make_schema: Callable[..., Schema]) -> Table:
    """A table with a column of each of the TYPES."""
    return replace(
        make_schema(["letter"]).tables[0],
        columns=tuple(
            Column(
                name=name,
                type=base_type,
                base_type=base_type,
                type_modifier=-1,
                collation=None,
                deterministic=True,
                not_null=False,
                default=None,
                generated=False,
                identity=False,
            )
            for name, base_type in TYPES.items()
        ),
    )


@pytest.mark.parametrize(
    ("text", "column", "normaliser"),
    [
        ("url", "url", Normaliser.URL),
        (" URL ", "url", Normaliser.URL),
        ("source_url", "source_url", Normaliser.URL),
        ("link", "link", Normaliser.URL),
        ('"Link"', "Link", Normaliser.URL),
        ("url:exact", "url", Normaliser.EXACT),
        ("curl", "curl", Normaliser.EXACT),
        ("curl:url", "curl", Normaliser.URL),
        ("url_hash", "url_hash", Normaliser.EXACT),
        ("link_id", "link_id", Normaliser.EXACT),
        ("href", "href", Normaliser.EXACT),
        ('"a:b"', "a:b", Normaliser.EXACT),
        ('"a:b":url', "a:b", Normaliser.URL),
        ('"x""y:url"', 'x"y:url', Normaliser.EXACT),
        ('"Titel Ä":exact', "Titel Ä", Normaliser.EXACT),
    ],
)
def test_a_match_is_a_column_under_a_normaliser(
    letter: Table, text: str, column: str, normaliser: Normaliser
) -> None:
    match = parse_match(letter, text)
    assert (match.column, match.normaliser, match.expression) == (column, normaliser, None)


@pytest.mark.parametrize("text", ["(lower(url))", "(url) || (curl)", "(a::text)"])
def test_a_match_in_parentheses_is_an_expression(letter: Table, text: str) -> None:
    match = parse_match(letter, text)
    assert (match.column, match.expression) == (None, text)
    assert str(match) == f"the expression {text}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("titel", "has no column titel"),
        ("link.url", "has no column link.url"),
        ("LINK ID", "is not a name"),
        ("", "is not a name"),
        ("lower(url)", "has no column lower(url)"),
        ("url:URL", "There is no normaliser 'URL'"),
        ("url:", "There is no normaliser ''"),
        ("url:lower", "There are: exact, url"),
        ("link_id:url", "cannot hold URLs"),
        ("href:url", "of type bytea"),
    ],
)
def test_a_match_that_cannot_be_is_refused(letter: Table, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint.replace("(", r"\(").replace(")", r"\)")):
        parse_match(letter, text)


@pytest.mark.parametrize(
    ("text", "preference", "column", "descending", "shown"),
    [
        ("newest", Preference.NEWEST, "updated_at", True, "newest updated_at"),
        ("oldest", Preference.OLDEST, "updated_at", False, "oldest updated_at"),
        ("newest:url", Preference.NEWEST, "url", True, "newest url"),
        ('oldest:"a:b"', Preference.OLDEST, "a:b", False, 'oldest "a:b"'),
        ("most_complete", Preference.MOST_COMPLETE, None, True, "most complete"),
        (" most_referenced ", Preference.MOST_REFERENCED, None, True, "most referenced"),
    ],
)
def test_a_survivor_rule_is_a_word(
    letter: Table,
    text: str,
    preference: Preference,
    column: str | None,
    descending: bool,
    shown: str,
) -> None:
    rule = parse_survivor(letter, text)
    assert (rule.preference, rule.column, rule.descending) == (preference, column, descending)
    assert str(rule) == shown


@pytest.mark.parametrize(
    ("text", "expression", "descending"),
    [
        ("(length(url))", "(length(url))", True),
        ("(length(url)) desc", "(length(url))", True),
        ("(length(url)) ASC", "(length(url))", False),
        ("(a) + (b) asc", "(a) + (b)", False),
        ("(a = ') asc')", "(a = ') asc')", True),
    ],
)
def test_a_survivor_rule_may_be_an_expression(
    letter: Table, text: str, expression: str, descending: bool
) -> None:
    rule = parse_survivor(letter, text)
    assert (rule.preference, rule.expression) == (Preference.EXPRESSION, expression)
    assert rule.descending is descending


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("latest", "There is no survivor rule 'latest'"),
        ("expression", "There is no survivor rule 'expression'"),
        ("", "There is no survivor rule ''"),
        ("most_complete:url", "takes no column"),
        ("newest:made", "has no column made"),
        ("(url) up", "cannot be read"),
        ("(url", "cannot be read"),
    ],
)
def test_a_survivor_rule_that_cannot_be_is_refused(
    letter: Table, text: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_survivor(letter, text)


def test_newest_needs_a_column_where_none_tells_the_time(letter: Table) -> None:
    table = replace(letter, columns=letter.columns[:3])
    with pytest.raises(ConfigError, match="Write newest:column"):
        parse_survivor(table, "newest")
