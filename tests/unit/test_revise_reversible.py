"""Operations are written once: the fields of a class are the arguments there and back."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

import fkdoctor.revise  # noqa: F401  registers the operations
from fkdoctor.errors import ConfigError
from fkdoctor.revise.rendering import render_operation
from fkdoctor.revise.reversible import Reversible

PAGE = Path(__file__).parents[2] / "docs/reference/operations.md"
KINDS = sorted(Reversible.__subclasses__(), key=lambda kind: kind.there)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.there)
def test_both_ways_say_what_they_take_and_do(kind: type[Reversible]) -> None:
    there, back = getattr(Operations, kind.there), getattr(Operations, kind.back)
    assert list(inspect.signature(there).parameters) == list(inspect.signature(back).parameters)
    assert "undo" not in inspect.signature(there).parameters
    assert there.__doc__
    assert back.__doc__
    assert there.__doc__ != back.__doc__


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.there)
def test_the_page_shows_the_call_as_it_is(kind: type[Reversible]) -> None:
    own = inspect.signature(getattr(Operations, kind.there))
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in list(own.parameters.values())[1:]
    ]
    plain = inspect.Signature(parameters)
    page = " ".join(PAGE.read_text(encoding="utf-8").replace('"', "'").split())
    assert f" op.{kind.there}{plain} " in page


def test_names_may_come_in_any_form_and_the_way_back_is_the_same_call() -> None:
    operations = Operations(MigrationContext.configure(dialect_name="postgresql"))
    seen: list[Reversible] = []
    operations.invoke = seen.append  # type: ignore[assignment,method-assign]
    operations.add_reference_index("t", (name for name in ("a", "b")), schema="s")  # type: ignore[attr-defined]
    operations.drop_reference_index("t", ["a", "b"], schema="s")  # type: ignore[attr-defined]
    there, back = seen
    assert there.reverse() == back
    assert render_operation(back) == 'op.drop_reference_index("t", ["a", "b"], schema="s")'


def test_a_name_where_a_list_is_wanted_is_said_with_what_to_write() -> None:
    operations = Operations(MigrationContext.configure(dialect_name="postgresql"))
    with pytest.raises(ConfigError, match="columns is 'letter_id'") as caught:
        operations.add_reference_index("answer", "letter_id")  # type: ignore[attr-defined]
    assert caught.value.next == 'Write columns=["letter_id"].'
