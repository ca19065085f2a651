"""What does a CHECK say about rows of which only is known which columns are NULL?

Its text is parsed and followed with every choice that is left open: other columns NULL or not,
comparisons true or false, alike wherever the same one stands. What this does not understand, it
says nothing about.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp

MOST_CHOICES = 12
"""How many open choices are tried out in all combinations, 4,096 at most."""


class Effect(Enum):
    """Whether a row that a CHECK allows is refused once some of its columns are NULL."""

    NEVER = auto()
    SOMETIMES = auto()
    ALWAYS = auto()
    UNKNOWN = auto()


def effect_of_nulls(
    definition: str, filled: Iterable[str], nulled: Iterable[str], not_null: Iterable[str]
) -> Effect:
    """What happens to rows in which `filled` had values when `nulled` of these become NULL.

    `definition` is as pg_get_constraintdef prints it; `not_null` are columns that always have one.
    """
    check = _parse_check(definition)
    if check is None:
        return Effect.UNKNOWN
    before, after = frozenset(filled), frozenset(nulled)
    if check.columns.isdisjoint(after):
        return Effect.NEVER
    open_columns = sorted(check.columns - before - frozenset(not_null))
    refused = kept = False
    try:
        for world in _worlds(check, open_columns):
            if check.holds(world, frozenset()) is False:
                continue
            if check.holds(world, after) is False:
                refused = True
            else:
                kept = True
    except _NotUnderstood:
        return Effect.UNKNOWN
    if not refused:
        return Effect.NEVER
    return Effect.SOMETIMES if kept else Effect.ALWAYS


def forbids(definition: str, null: Iterable[str], filled: Iterable[str]) -> bool:
    """Whether the CHECK allows no row in which these are NULL and those have values."""
    check = _parse_check(definition)
    if check is None:
        return False
    nulls = frozenset(null)
    open_columns = sorted(check.columns - nulls - frozenset(filled))
    try:
        worlds = _worlds(check, open_columns)
        return all(check.holds(world, nulls) is False for world in worlds)
    except _NotUnderstood:
        return False


class _NotUnderstood(Exception):
    """The expression has something in it that this module does not know."""


@dataclass(frozen=True)
class _Some:
    """A value of which is known only that it is not NULL, by the text that stands for it."""

    text: str


_Value = bool | int | _Some | None


@dataclass(frozen=True, kw_only=True)
class _World:
    """One choice: the columns that are NULL, and what is true of the comparisons."""

    nulls: frozenset[str]
    truths: Mapping[str, bool]


@dataclass(frozen=True, kw_only=True)
class _Check:
    """A parsed CHECK; `atoms` are its comparisons, as column and literal where they are that."""

    tree: exp.Expr
    columns: frozenset[str]
    atoms: Mapping[str, str | None]

    def holds(self, world: _World, more_nulls: frozenset[str]) -> bool | None:
        """Whether it is true, false or unknown in the world, with some more columns NULL."""
        return _Evaluation(world, more_nulls).truth(self.tree)


def _worlds(check: _Check, open_columns: list[str]) -> Iterator[_World]:
    atoms = sorted(check.atoms)
    if len(open_columns) + len(atoms) > MOST_CHOICES:
        raise _NotUnderstood
    for truths in itertools.product((True, False), repeat=len(atoms)):
        chosen = dict(zip(atoms, truths, strict=True))
        equal = [check.atoms[atom] for atom in atoms if chosen[atom] and check.atoms[atom]]
        # A column equals one literal at most.
        if len(equal) != len(set(equal)):
            continue
        for nulls in itertools.product((True, False), repeat=len(open_columns)):
            names = (name for name, null in zip(open_columns, nulls, strict=True) if null)
            yield _World(nulls=frozenset(names), truths=chosen)


_DEFINITION = re.compile(r"CHECK \((.+)\)(?: NO INHERIT)?(?: NOT VALID)?(?: NOT ENFORCED)?", re.S)


@lru_cache(maxsize=1024)
def _parse_check(definition: str) -> _Check | None:
    # Takes longer to import than an audit without such a CHECK.
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    match = _DEFINITION.fullmatch(definition)
    try:
        tree = sqlglot.parse_one(match[1], dialect="postgres") if match else None
    except (SqlglotError, RecursionError):
        return None
    if tree is None:
        return None
    columns = frozenset(column.name for column in tree.find_all(exp.Column))
    collector = _Collector()
    try:
        collector.truth(tree)
    except _NotUnderstood:
        return None
    return _Check(tree=tree, columns=columns, atoms=collector.atoms)


_COMPARED: Mapping[str, Callable[[int, int], bool]] = {
    "EQ": operator.eq,
    "NEQ": operator.ne,
    "GT": operator.gt,
    "GTE": operator.ge,
    "LT": operator.lt,
    "LTE": operator.le,
}
# The comparison by which another is decided: x <= y is the opposite of x > y.
_ORDERS = {"GT": (">", True), "LTE": (">", False), "GTE": (">=", True), "LT": (">=", False)}
_COMPUTED: Mapping[str, Callable[[int, int], int]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
}
# Strict: NULL if an argument is NULL, and else never.
_STRICT = {"Length", "Lower", "Upper", "Trim", "Abs"}
_PATTERNS = {"Like", "ILike", "RegexpLike", "RegexpILike", "SimilarTo"}


class _Evaluation:
    """The value of expressions in one world."""

    def __init__(self, world: _World, more_nulls: frozenset[str]) -> None:
        self._world = world
        self._nulls = world.nulls | more_nulls

    def truth(self, node: exp.Expr) -> bool | None:
        """The value as a condition."""
        value = self.value(node)
        if isinstance(value, _Some):
            return self._atom(value.text, None)
        return None if value is None else bool(value)

    def value(self, node: exp.Expr) -> _Value:
        """The value: NULL, a number or truth that follows, or something that is not NULL."""
        value = self._value(node)
        # Newer sqlglot marks NOT in IS NOT NULL, NOT LIKE and the like so, older puts a Not around.
        if node.args.get("negate"):
            return None if value is None else not value
        return value

    def _value(self, node: exp.Expr) -> _Value:
        kind = type(node).__name__
        match kind:
            case "Paren":
                return self.value(node.this)
            case "Null":
                return None
            case "Boolean":
                return bool(node.this)
            case "Literal":
                return int(node.this) if node.is_int else _Some(node.sql())
            case "Column":
                return None if node.name in self._nulls else _Some(node.sql())
            case "And" | "Or":
                return self._junction(node, decisive=kind == "Or")
            case "Not":
                truth = self.truth(node.this)
                return None if truth is None else not truth
            case "Is":
                return self._is(node)
            case "NullSafeEQ" | "NullSafeNEQ":
                return self._distinct(node, equal=kind == "NullSafeEQ")
            case "In":
                return self._any_of(node.this, node.expressions)
            case "Coalesce":
                return self._coalesce(node)
            case "Case":
                return self._case(node)
            case "Cast":
                return self._cast(node)
            case "Between":
                return self._strict(kind, node.this, node.args["low"], node.args["high"])
            case "Anonymous":
                return self._function(node)
        if kind in _COMPARED:
            return self._compare(node, kind)
        if kind in _COMPUTED:
            return self._compute(node, kind)
        if kind in _PATTERNS:
            return self._strict(kind, node.this, node.expression)
        if kind in _STRICT:
            return None if self.value(node.this) is None else _Some(node.sql())
        raise _NotUnderstood

    def _atom(self, text: str, column: str | None) -> bool:
        """Whether a comparison is true; `column` if it says that the column equals a literal."""
        return self._world.truths[text]

    def _junction(self, node: exp.Expr, *, decisive: bool) -> bool | None:
        sides = [self.truth(node.this), self.truth(node.expression)]
        if decisive in sides:
            return decisive
        return None if None in sides else not decisive

    def _is(self, node: exp.Expr) -> bool:
        kind = type(node.expression).__name__
        if kind == "Null":
            return self.value(node.this) is None
        if kind == "Boolean":
            return self.truth(node.this) is bool(node.expression.this)
        raise _NotUnderstood

    def _distinct(self, node: exp.Expr, *, equal: bool) -> bool:
        left, right = self.value(node.this), self.value(node.expression)
        if left is None or right is None:
            return (left is right) is equal
        return self._equal(node.this, node.expression, left, right) is equal

    def _compare(self, node: exp.Expr, kind: str) -> bool | None:
        among = type(node.expression).__name__
        if (kind, among) in (("EQ", "Any"), ("NEQ", "All")):
            found = self._any_of(node.this, _elements(node.expression))
            return found if among == "Any" or found is None else not found
        left, right = self.value(node.this), self.value(node.expression)
        if left is None or right is None:
            return None
        if not isinstance(left, _Some) and not isinstance(right, _Some):
            return _COMPARED[kind](left, right)
        if kind in ("EQ", "NEQ"):
            return self._equal(node.this, node.expression, left, right) is (kind == "EQ")
        sign, holds = _ORDERS[kind]
        return self._atom(f"{node.this.sql()} {sign} {node.expression.sql()}", None) is holds

    def _equal(self, left: exp.Expr, right: exp.Expr, here: _Value, there: _Value) -> bool:
        if not isinstance(here, _Some) and not isinstance(there, _Some):
            return here == there
        column, literal = _bare(left), _bare(right)
        if type(column).__name__ in ("Literal", "Boolean"):
            column, literal = literal, column
        if type(literal).__name__ == "Boolean":
            return self._atom(column.sql(), None) is bool(literal.this)
        one = type(column).__name__ == "Column" and type(literal).__name__ == "Literal"
        return self._atom(f"{column.sql()} = {literal.sql()}", column.name if one else None)

    def _any_of(self, node: exp.Expr, among: list[exp.Expr]) -> bool | None:
        value = self.value(node)
        if value is None:
            return None
        found = [
            None if (other := self.value(one)) is None else self._equal(node, one, value, other)
            for one in among
        ]
        return True if True in found else None if None in found else False

    def _compute(self, node: exp.Expr, kind: str) -> _Value:
        left, right = self.value(node.this), self.value(node.expression)
        if left is None or right is None:
            return None
        if isinstance(left, _Some) or isinstance(right, _Some):
            return _Some(node.sql())
        return _COMPUTED[kind](left, right)

    def _coalesce(self, node: exp.Expr) -> _Value:
        for argument in (node.this, *node.expressions):
            value = self.value(argument)
            if value is not None:
                return value
        return None

    def _case(self, node: exp.Expr) -> _Value:
        if node.this is not None:
            raise _NotUnderstood
        for branch in node.args["ifs"]:
            if self.truth(branch.this):
                return self.value(branch.args["true"])
        default = node.args.get("default")
        return None if default is None else self.value(default)

    def _cast(self, node: exp.Expr) -> _Value:
        value = self.value(node.this)
        if isinstance(value, bool):
            return int(value) if "INT" in node.args["to"].sql().upper() else value
        return value

    def _strict(self, kind: str, *operands: exp.Expr) -> bool | None:
        if any(self.value(operand) is None for operand in operands):
            return None
        return self._atom(f"{kind} {' '.join(operand.sql() for operand in operands)}", None)

    def _function(self, node: exp.Expr) -> int:
        name = str(node.this).lower()
        if name not in ("num_nonnulls", "num_nulls"):
            raise _NotUnderstood
        nulls = sum(self.value(argument) is None for argument in node.expressions)
        return nulls if name == "num_nulls" else len(node.expressions) - nulls


class _Collector(_Evaluation):
    """Goes through the whole expression once, and notes what is open in it."""

    def __init__(self) -> None:
        super().__init__(_World(nulls=frozenset(), truths={}), frozenset())
        self.atoms: dict[str, str | None] = {}

    def _atom(self, text: str, column: str | None) -> bool:
        self.atoms[text] = column
        return True

    def _junction(self, node: exp.Expr, *, decisive: bool) -> bool | None:
        super()._junction(node, decisive=decisive)
        return True

    def _case(self, node: exp.Expr) -> _Value:
        super()._case(node)
        for branch in node.args["ifs"]:
            self.truth(branch.this)
            self.value(branch.args["true"])
        default = node.args.get("default")
        return None if default is None else self.value(default)

    def _coalesce(self, node: exp.Expr) -> _Value:
        values = [self.value(argument) for argument in (node.this, *node.expressions)]
        return values[0]


def _bare(node: exp.Expr) -> exp.Expr:
    """The expression without casts and parentheses around it."""
    while type(node).__name__ in ("Cast", "Paren"):
        node = node.this
    return node


def _elements(node: exp.Expr) -> list[exp.Expr]:
    """The elements of ANY (ARRAY[…])."""
    array = _bare(node.this)
    if type(array).__name__ != "Array":
        raise _NotUnderstood
    return list(array.expressions)
