"""Alembic operations with a way back, each written once: as a dataclass.

    @reversible("add_thing", "drop_thing", "Drop the thing, if it was added here.")
    @dataclass
    class AddThing(Reversible):
        '''Add a thing to the table.'''

        table: str
        _: KW_ONLY
        schema: str | None = None

Its fields are the arguments of `op.add_thing` and of `op.drop_thing`, its docstring is that of the
first, and what a revision says of it is read from the fields as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeVar

from alembic.operations import MigrateOperation, Operations

from fkdoctor.errors import ConfigError

Names = tuple[str, ...]
"""Names, which may be given as any sequence."""


@dataclass(kw_only=True)
class Reversible(MigrateOperation):
    """An operation and, with `undo`, what takes it back."""

    there: ClassVar[str]
    back: ClassVar[str]
    undo: bool = False

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, str) and str(each.type).startswith(("Names", "tuple")):
                raise ConfigError(
                    f"op.{self.back if self.undo else self.there}: {each.name} is {value!r}.",
                    why="A list of names is wanted.",
                    next=f'Write {each.name}=["{value}"].',
                )
            if isinstance(value, Iterable) and not isinstance(value, str | dict | tuple):
                setattr(self, each.name, tuple(value))

    def reverse(self) -> Self:
        """The operation that undoes this one."""
        return replace(self, undo=not self.undo)


Operation = TypeVar("Operation", bound=Reversible)


def reversible(there: str, back: str, doc: str) -> Callable[[type[Operation]], type[Operation]]:
    """Registers the class with Alembic under both names; `doc` is the docstring of the way back."""

    def register(kind: type[Operation]) -> type[Operation]:
        kind.there, kind.back = there, back
        _announce(kind, there, inspect.getdoc(kind) or "", undo=False)
        _announce(kind, back, inspect.cleandoc(doc), undo=True)
        return kind

    return register


def _announce(kind: type[Reversible], name: str, doc: str, *, undo: bool) -> None:
    def invoke(
        cls: type[Reversible], operations: Operations, *arguments: Any, **named: Any
    ) -> None:
        operations.invoke(cls(*arguments, undo=undo, **named))

    invoke.__name__, invoke.__doc__ = name, doc
    setattr(kind, name, classmethod(invoke))
    Operations.register_operation(name)(kind)
    # Alembic has read *arguments and **named; help() is to show what they are.
    method, own = getattr(Operations, name), inspect.signature(kind)
    first = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown = [each for each in own.parameters.values() if each.name != "undo"]
    method.__signature__ = own.replace(parameters=[first, *shown])
