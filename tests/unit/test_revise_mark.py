"""What is remembered in comments."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fkdoctor.revise.mark import (
    CREATED,
    KeyText,
    describe_shadow,
    is_created,
    read_shadow,
    recall,
    remember,
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1)
comments = st.none() | texts
keys = st.builds(
    KeyText, definition=texts.map(lambda text: f"FOREIGN KEY {text}"), comment=comments
)


@given(keys)
def test_what_a_key_was_is_recalled_exactly(key: KeyText) -> None:
    assert recall(remember(key)) == key


@given(keys, keys)
def test_a_second_change_does_not_forget_the_first(first: KeyText, second: KeyText) -> None:
    between = KeyText(definition=second.definition, comment=remember(first))
    assert recall(remember(between)) == between
    assert recall(between.comment) == first


@given(texts, keys)
def test_a_shadow_says_what_it_is_to_become(name: str, final: KeyText) -> None:
    assert read_shadow(name, describe_shadow(name, final)) == final


@given(texts, texts, keys)
def test_a_shadow_of_one_key_is_none_of_another(name: str, other: str, final: KeyText) -> None:
    found = read_shadow(other, describe_shadow(name, final))
    assert (found is not None) == (name == other)


@given(comments)
def test_a_comment_of_somebody_else_says_nothing(comment: str | None) -> None:
    assert recall(comment) is None
    assert read_shadow("key", comment) is None
    assert not is_created(comment)


def test_the_mark_of_creation_counts_only_as_the_last_line() -> None:
    assert is_created(CREATED)
    assert is_created(f"Letters.\n{CREATED}")
    assert not is_created(f"{CREATED}\nLetters.")
    assert not is_created(f"Letters. {CREATED}")
