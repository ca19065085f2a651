"""What an operation asks for, and what becomes of a definition by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fkdoctor.errors import ConfigError
from fkdoctor.revise.change import KeyChange, read_change
from fkdoctor.revise.definition import parse_definition
from fkdoctor.schema import MatchType, ReferentialAction

SIMPLE = "FOREIGN KEY (a) REFERENCES s.t(id)"
FULL = f"{SIMPLE} MATCH FULL ON UPDATE CASCADE ON DELETE SET NULL (a) DEFERRABLE NOT VALID"

CHANGES = [
    (SIMPLE, read_change("CASCADE"), f"{SIMPLE} ON DELETE CASCADE"),
    (f"{SIMPLE} ON DELETE CASCADE", read_change("no  action"), SIMPLE),
    (
        FULL,
        read_change("RESTRICT"),
        f"{SIMPLE} MATCH FULL ON UPDATE CASCADE ON DELETE RESTRICT DEFERRABLE NOT VALID",
    ),
    (
        'FOREIGN KEY (" ON DELETE CASCADE") REFERENCES t(id)',
        read_change("set null"),
        'FOREIGN KEY (" ON DELETE CASCADE") REFERENCES t(id) ON DELETE SET NULL',
    ),
    (SIMPLE, read_change(None, on_update="CASCADE"), f"{SIMPLE} ON UPDATE CASCADE"),
    (SIMPLE, read_change(None, match="FULL"), f"{SIMPLE} MATCH FULL"),
    (f"{SIMPLE} MATCH FULL", read_change(None, match="simple"), SIMPLE),
    (SIMPLE, read_change(None, deferrable=True), f"{SIMPLE} DEFERRABLE"),
    (
        SIMPLE,
        read_change(None, initially="DEFERRED"),
        f"{SIMPLE} DEFERRABLE INITIALLY DEFERRED",
    ),
    (
        f"{SIMPLE} DEFERRABLE INITIALLY DEFERRED",
        read_change(None, deferrable=True),
        f"{SIMPLE} DEFERRABLE INITIALLY DEFERRED",
    ),
    (
        f"{SIMPLE} DEFERRABLE INITIALLY DEFERRED",
        read_change(None, initially="immediate"),
        f"{SIMPLE} DEFERRABLE",
    ),
    (
        f"{SIMPLE} DEFERRABLE INITIALLY DEFERRED",
        read_change(None, deferrable=False),
        SIMPLE,
    ),
    (
        SIMPLE,
        read_change("SET NULL", set_columns=["a", "B"]),
        f'{SIMPLE} ON DELETE SET NULL (a, "B")',
    ),
    # Without a list the columns of a rule that is there already stay.
    (
        f"{SIMPLE} ON DELETE SET NULL (a)",
        read_change("SET NULL"),
        f"{SIMPLE} ON DELETE SET NULL (a)",
    ),
    (
        f"{SIMPLE} ON DELETE SET NULL (a)",
        read_change("SET NULL", set_columns=[]),
        f"{SIMPLE} ON DELETE SET NULL",
    ),
    (f"{SIMPLE} NOT VALID", KeyChange(validated=True), SIMPLE),
    (f"{SIMPLE} NOT ENFORCED", KeyChange(validated=True), f"{SIMPLE} NOT ENFORCED"),
]


@pytest.mark.parametrize(("before", "change", "after"), CHANGES)
def test_only_what_is_asked_for_changes(before: str, change: KeyChange, after: str) -> None:
    definition = parse_definition(before)
    assert str(change.apply(definition)) == after
    assert change.holds(definition) == (before == after)


definitions = st.sampled_from([before for before, _, _ in CHANGES])
changes = st.builds(
    KeyChange,
    on_delete=st.none() | st.sampled_from(ReferentialAction),
    on_update=st.none() | st.sampled_from(ReferentialAction),
    match=st.none() | st.sampled_from([MatchType.SIMPLE, MatchType.FULL]),
    deferrable=st.none() | st.booleans(),
)


@given(definitions, changes)
def test_what_was_changed_has_the_change(before: str, change: KeyChange) -> None:
    assert change.holds(change.apply(parse_definition(before)))


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"on_delete": None}, "No change"),
        ({"on_delete": "VANISH"}, "SET DEFAULT"),
        ({"on_delete": None, "on_update": "VANISH"}, "SET DEFAULT"),
        ({"on_delete": None, "match": "PARTIAL"}, "SIMPLE, FULL"),
        ({"on_delete": None, "initially": "LATER"}, "DEFERRED, IMMEDIATE"),
        ({"on_delete": "CASCADE", "set_columns": ["a"]}, "CASCADE"),
        ({"on_delete": None, "set_columns": ["a"]}, "not given"),
        ({"on_delete": None, "deferrable": False, "initially": "DEFERRED"}, "not deferrable"),
    ],
)
def test_what_makes_no_sense_is_said(arguments: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_change(**arguments)  # type: ignore[arg-type]
    assert names in str(caught.value)
