"""Which step follows from which state of a key and its shadow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fkdoctor.errors import Blocked, ConfigError
from fkdoctor.revise.executor import Patience
from fkdoctor.revise.mark import KeyText, describe_shadow
from fkdoctor.revise.state import KeyState, Shadow, Step, Strategy, name_shadow, next_step
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName

TABLE = TableName("s", "recommendation")
OLD = "FOREIGN KEY (a) REFERENCES s.letter(id)"
NEW = f"{OLD} ON DELETE CASCADE"
WANTED = KeyText(definition=NEW, comment="[fkdoctor was: …]")


@pytest.fixture(scope="module")
def key(make_schema: Callable[..., Schema]) -> ForeignKey:
    reference = ("recommendation", "letter", ReferentialAction.NO_ACTION)
    schema = make_schema(["recommendation", "letter"], [reference])
    return replace(schema.foreign_keys[0], name="k", definition=OLD)


def _shadow(key: ForeignKey, definition: str, purpose: KeyText = WANTED) -> ForeignKey:
    comment = describe_shadow("k", purpose)
    return replace(key, name=name_shadow("k"), definition=definition, comment=comment)


def _step(
    original: ForeignKey | None,
    *shadows: ForeignKey | None,
    final: KeyText | None = WANTED,
    strategy: Strategy = Strategy.SHADOW,
) -> Step:
    places = tuple(Shadow(table=TABLE, key=shadow) for shadow in shadows)
    return next_step(
        KeyState(
            table=TABLE,
            name="k",
            referenced=TableName("s", "letter"),
            partitioned=len(places) > 1,
            original=original,
            shadows=places,
            final=final,
            strategy=strategy,
        )
    )


def test_the_way_leads_over_a_validated_shadow(key: ForeignKey) -> None:
    assert _step(key, None) is Step.ADD
    assert _step(key, _shadow(key, f"{NEW} NOT VALID")) is Step.VALIDATE
    assert _step(key, _shadow(key, NEW)) is Step.SWAP
    assert _step(replace(key, definition=NEW), None, final=None) is Step.DONE


def test_of_a_partitioned_table_each_leaf_needs_a_validated_shadow(key: ForeignKey) -> None:
    ready, unready = _shadow(key, NEW), _shadow(key, f"{NEW} NOT VALID")
    assert _step(key, ready, None) is Step.ADD
    assert _step(key, ready, unready) is Step.VALIDATE
    assert _step(key, ready, ready) is Step.SWAP


def test_a_key_that_is_to_stay_not_valid_needs_no_shadow(key: ForeignKey) -> None:
    original = replace(key, definition=f"{OLD} NOT VALID")
    wanted = KeyText(definition=f"{NEW} NOT VALID", comment=None)
    assert _step(original, None, final=wanted) is Step.REPLACE


def test_a_flip_puts_the_key_in_its_place_and_then_checks_it(key: ForeignKey) -> None:
    assert _step(key, None, strategy=Strategy.FLIP) is Step.REPLACE
    flipped = replace(key, definition=f"{NEW} NOT VALID")
    assert _step(flipped, None, strategy=Strategy.FLIP) is Step.CHECK


def test_only_the_rows_are_still_to_be_checked(key: ForeignKey) -> None:
    wanted = KeyText(definition=OLD, comment=None)
    assert _step(replace(key, definition=f"{OLD} NOT VALID"), None, final=wanted) is Step.CHECK


def test_when_a_key_is_checked_is_changed_in_place(key: ForeignKey) -> None:
    for ending in ("", " NOT VALID"):
        original = replace(key, definition=OLD + ending)
        wanted = KeyText(definition=f"{OLD} DEFERRABLE INITIALLY DEFERRED{ending}", comment=None)
        assert _step(original, None, final=wanted) is Step.RETIME


def test_a_shadow_that_is_no_longer_needed_goes_first(key: ForeignKey) -> None:
    wanted = KeyText(definition=f"{OLD} DEFERRABLE", comment=None)
    assert _step(key, _shadow(key, NEW), final=wanted) is Step.DISCARD


def test_a_shadow_nobody_needs_any_more_is_dropped(key: ForeignKey) -> None:
    assert _step(key, _shadow(key, NEW), final=None) is Step.DISCARD


def test_a_shadow_made_for_something_else_is_dropped(key: ForeignKey) -> None:
    other = KeyText(definition=f"{OLD} ON DELETE RESTRICT", comment=None)
    assert _step(key, _shadow(key, f"{OLD} ON DELETE RESTRICT", other)) is Step.DISCARD


def test_a_shadow_takes_the_place_of_a_key_that_somebody_dropped(key: ForeignKey) -> None:
    assert _step(None, _shadow(key, f"{NEW} NOT VALID")) is Step.VALIDATE
    assert _step(None, _shadow(key, NEW)) is Step.ADOPT


@pytest.mark.parametrize("comment", [None, "Somebody's key."])
def test_a_key_of_somebody_else_is_never_taken_for_a_shadow(
    key: ForeignKey, comment: str | None
) -> None:
    theirs = replace(key, name=name_shadow("k"), definition=NEW, comment=comment)
    with pytest.raises(Blocked, match="k_fkdoctor"):
        _step(key, theirs)


def test_the_shadow_of_another_key_is_not_taken(key: ForeignKey) -> None:
    comment = describe_shadow("another", WANTED)
    theirs = replace(key, name=name_shadow("k"), definition=NEW, comment=comment)
    with pytest.raises(Blocked):
        _step(key, theirs)


names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1)


@given(names.filter(lambda name: len(name.encode()) <= 63))
def test_a_shadows_name_fits_and_is_not_the_keys(name: str) -> None:
    assert len(name_shadow(name).encode()) <= 63
    assert name_shadow(name) != name


def test_long_names_that_differ_at_the_end_have_different_shadows() -> None:
    one, other = "k" * 62 + "1", "k" * 62 + "2"
    assert name_shadow(one) != name_shadow(other)


def test_the_wait_doubles_up_to_the_longest() -> None:
    patience = Patience(first=200, longest=2_000)
    waits = [patience.lock_timeout(attempt) for attempt in range(1, 7)]
    assert waits == [200, 400, 800, 1_600, 2_000, 2_000]


@given(st.integers(1, 10_000))
def test_a_pause_is_never_longer_than_twice_the_wait(attempt: int) -> None:
    patience = Patience()
    assert 0 <= patience.pause(attempt) <= 2 * patience.lock_timeout(attempt) / 1000


def test_waiting_without_a_limit_cannot_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="lock timeout"):
        Patience(longest=0)
