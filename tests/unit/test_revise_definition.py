"""Taking a foreign key's definition apart; PostgreSQL's own texts are in the database tests."""

from __future__ import annotations

import pytest

from fkdoctor.errors import Refused
from fkdoctor.revise.definition import parse_definition

SIMPLE = "FOREIGN KEY (a) REFERENCES s.t(id)"


@pytest.mark.parametrize(
    "text",
    [
        SIMPLE,
        f"{SIMPLE} ON DELETE SET NULL (a)",
        f"{SIMPLE} MATCH FULL ON UPDATE SET DEFAULT ON DELETE RESTRICT",
        f"{SIMPLE} ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID",
        f"{SIMPLE} DEFERRABLE NOT ENFORCED",
        "FOREIGN KEY (a, PERIOD b) REFERENCES t(id, PERIOD c)",
        'FOREIGN KEY ("a) ON DELETE CASCADE", b) REFERENCES "s(".t("x""y", z)',
        'FOREIGN KEY (" REFERENCES ") REFERENCES s." ON DELETE "("(") ON DELETE SET NULL (")"")")',
    ],
)
def test_a_definition_comes_out_as_it_went_in(text: str) -> None:
    assert str(parse_definition(text)) == text


@pytest.mark.parametrize(
    ("definition", "added"),
    [
        (SIMPLE, f"{SIMPLE} NOT VALID"),
        (f"{SIMPLE} NOT VALID", f"{SIMPLE} NOT VALID"),
        (f"{SIMPLE} NOT ENFORCED", f"{SIMPLE} NOT ENFORCED"),
    ],
)
def test_a_key_is_added_without_reading_a_row(definition: str, added: str) -> None:
    assert str(parse_definition(definition).unvalidated()) == added


def test_the_referenced_table_is_found_in_the_text() -> None:
    text = 'FOREIGN KEY ("REFERENCES x(") REFERENCES "S".t(id)'
    assert parse_definition(text).referenced == '"S".t'


@pytest.mark.parametrize(
    "text",
    [
        "CHECK ((a > 0))",
        f"{SIMPLE} ON DELETE cascade",
        f"{SIMPLE} ON DELETE CASCADE ON UPDATE CASCADE",
        f"{SIMPLE} SOMETHING NEW",
        f"{SIMPLE}; drop table t",
        'FOREIGN KEY ("a) REFERENCES t(id)',
        f"{SIMPLE}\n",
        "",
    ],
)
def test_what_postgresql_would_not_print_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="cannot be read"):
        parse_definition(text)
