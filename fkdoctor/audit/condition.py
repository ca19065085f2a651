"""What does a CHECK say about rows of which only is known which columns are NULL or a constant?

Its text is parsed and followed with every choice that is left open: other columns NULL or not,
comparisons true or false, alike wherever the same values are compared. What this does not
understand, it says nothing about.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, auto
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp

MOST_WORLDS = 4_096
"""How many combinations of open choices are tried out."""


class Effect(Enum):
    """Whether a row that a CHECK allows is refused once some of its columns are written."""

    NEVER = auto()
    SOMETIMES = auto()
    ALWAYS = auto()
    UNKNOWN = auto()


Constant = int | Decimal | None
"""A value that is written: NULL or a number."""


def effect_of_writing(
    definition: str,
    filled: Iterable[str],
    written: Mapping[str, Constant],
    not_null: Iterable[str],
) -> Effect:
    """What happens to rows in which `filled` had values when columns become what is `written`.

    `definition` is as pg_get_constraintdef prints it; `not_null` are columns that always have one.
    """
    check = _parse_check(definition)
    if check is None:
        return Effect.UNKNOWN
    before = frozenset((*filled, *not_null))
    if check.columns.isdisjoint(written):
        return Effect.NEVER
    refused = kept = False
    try:
        for was, becomes in _explore(check.tree, before, ({}, written)):
            if was is not False:
                refused |= becomes is False
                kept |= becomes is not False
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
    try:
        return all(
            holds is False
            for (holds,) in _explore(check.tree, frozenset(filled), (dict.fromkeys(null),))
        )
    except _NotUnderstood:
        return False


class _NotUnderstood(Exception):
    """The expression has something in it that this module does not know."""


class _Open(Exception):
    """The value depends on something that no choice was made about."""

    def __init__(self, question: str) -> None:
        self.question = question


@dataclass(frozen=True)
class _Some:
    """A value of which is known only that it is not NULL, by the text that stands for it."""

    text: str


_Value = bool | int | Decimal | str | _Some | None


@dataclass(frozen=True, kw_only=True)
class _Check:
    """A parsed CHECK and the columns in it."""

    tree: exp.Expr
    columns: frozenset[str]


def _explore(
    tree: exp.Expr, filled: frozenset[str], writes: tuple[Mapping[str, Constant], ...]
) -> Iterator[tuple[bool | None, ...]]:
    """In every world that differs: whether it holds, once with each of these columns written."""
    waiting: list[dict[str, bool]] = [{}]
    worlds = 0
    while waiting:
        answers = waiting.pop()
        try:
            yield tuple(_Evaluation(answers, filled, written).truth(tree) for written in writes)
        except _Open as open_:
            worlds += 1
            if worlds > MOST_WORLDS:
                raise _NotUnderstood from None
            waiting += [
                {**answers, open_.question: answer}
                for answer in (True, False)
                if not answer or _possible(answers, open_.question)
            ]


_EQUALITY = re.compile(r"(?P<value>.+) = (?P<constant>'.*'|-?[0-9.]+)", re.S)


def _possible(answers: Mapping[str, bool], question: str) -> bool:
    """Whether it can be true besides: a value equals one constant at most."""
    asked = _EQUALITY.fullmatch(question)
    return asked is None or not any(
        answer and (known := _EQUALITY.fullmatch(told)) and known["value"] == asked["value"]
        for told, answer in answers.items()
    )


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
    return _Check(tree=tree, columns=columns)


_COMPARED: Mapping[str, Callable[[Decimal | int, Decimal | int], bool]] = {
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
# A cast to these leaves the value what it is.
_SAME = {"TEXT", "VARCHAR", "CHAR", "BPCHAR"}


class _Evaluation:
    """The value of expressions in one world."""

    def __init__(
        self, answers: Mapping[str, bool], filled: frozenset[str], written: Mapping[str, Constant]
    ) -> None:
        self._answers = answers
        self._filled = filled
        self._written = written

    def truth(self, node: exp.Expr) -> bool | None:
        """The value as a condition."""
        return self._as_truth(self.value(node))

    def _as_truth(self, value: _Value) -> bool | None:
        if isinstance(value, _Some):
            return self._ask(value.text)
        if value is None or isinstance(value, bool):
            return value
        raise _NotUnderstood

    def value(self, node: exp.Expr) -> _Value:
        """The value: NULL, a number or truth that follows, or something that is not NULL."""
        value = self._value(node)
        # Newer sqlglot marks NOT in IS NOT NULL, NOT LIKE and the like so, older puts a Not around.
        if node.args.get("negate"):
            return None if value is None else not self._as_truth(value)
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
                return _constant(node)
            case "Neg":
                return self._negative(node)
            case "Column":
                if node.name in self._written:
                    return self._written[node.name]
                return None if self._is_null(node.name) else _Some(node.sql())
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
            case "EQ" | "NEQ":
                return self._equation(node, equal=kind == "EQ")
            case "Anonymous":
                return self._function(node)
        if kind in _ORDERS:
            return self._order(node, kind)
        if kind in _COMPUTED:
            return self._compute(node, kind)
        if kind in _PATTERNS:
            return self._strict(kind, node.this, node.expression)
        if kind in _STRICT:
            value = self.value(node.this)
            return None if value is None else _Some(f"{kind}({_text(value)})")
        raise _NotUnderstood

    def _ask(self, question: str) -> bool:
        try:
            return self._answers[question]
        except KeyError:
            raise _Open(question) from None

    def _is_null(self, column: str) -> bool:
        return column not in self._filled and self._ask(f"{column} IS NULL")

    def _junction(self, node: exp.Expr, *, decisive: bool) -> bool | None:
        sides = [self.truth(node.this)]
        if sides[0] is not decisive:
            sides.append(self.truth(node.expression))
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
        return self._equal(left, right) is equal

    def _equation(self, node: exp.Expr, *, equal: bool) -> bool | None:
        among = type(node.expression).__name__
        if (equal, among) in ((True, "Any"), (False, "All")):
            found = self._any_of(node.this, _elements(node.expression))
            return found if found is None else found is equal
        left, right = self.value(node.this), self.value(node.expression)
        if left is None or right is None:
            return None
        return self._equal(left, right) is equal

    def _order(self, node: exp.Expr, kind: str) -> bool | None:
        left, right = self.value(node.this), self.value(node.expression)
        if left is None or right is None:
            return None
        if isinstance(left, int | Decimal) and isinstance(right, int | Decimal):
            return _COMPARED[kind](left, right)
        sign, holds = _ORDERS[kind]
        return self._ask(f"{_text(left)} {sign} {_text(right)}") is holds

    def _equal(self, left: _Value, right: _Value) -> bool:
        if not isinstance(left, _Some):
            left, right = right, left
        if not isinstance(left, _Some):
            return left == right
        if isinstance(right, bool):
            return self._ask(left.text) is right
        return left == right or self._ask(f"{left.text} = {_text(right)}")

    def _any_of(self, node: exp.Expr, among: list[exp.Expr]) -> bool | None:
        value = self.value(node)
        if value is None:
            return None
        found = [
            None if (other := self.value(one)) is None else self._equal(value, other)
            for one in among
        ]
        return True if True in found else None if None in found else False

    def _negative(self, node: exp.Expr) -> _Value:
        value = self.value(node.this)
        if value is None or isinstance(value, int | Decimal):
            return None if value is None else -value
        return _Some(f"-{_text(value)}")

    def _compute(self, node: exp.Expr, kind: str) -> _Value:
        left, right = self.value(node.this), self.value(node.expression)
        if left is None or right is None:
            return None
        if isinstance(left, int) and isinstance(right, int):
            return _COMPUTED[kind](left, right)
        return _Some(f"{kind}({_text(left)}, {_text(right)})")

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
        to = node.args["to"].sql().upper().partition("(")[0]
        if isinstance(value, bool):
            return int(value) if "INT" in to else value
        if isinstance(value, _Some) and to not in _SAME:
            return _Some(f"{to}({value.text})")
        return value

    def _strict(self, kind: str, *operands: exp.Expr) -> bool | None:
        values = [self.value(operand) for operand in operands]
        if None in values:
            return None
        return self._ask(f"{kind}({', '.join(map(_text, values))})")

    def _function(self, node: exp.Expr) -> int:
        name = str(node.this).lower()
        if name not in ("num_nonnulls", "num_nulls"):
            raise _NotUnderstood
        nulls = sum(self.value(argument) is None for argument in node.expressions)
        return nulls if name == "num_nulls" else len(node.expressions) - nulls


def _constant(node: exp.Expr) -> _Value:
    if node.args["is_string"]:
        return str(node.this)
    return int(node.this) if str(node.this).isdecimal() else Decimal(node.this)


def _text(value: _Value) -> str:
    if isinstance(value, _Some):
        return value.text
    return f"'{value}'" if isinstance(value, str) else str(value)


def _elements(node: exp.Expr) -> list[exp.Expr]:
    """The elements of ANY (ARRAY[…])."""
    array = node.this
    while type(array).__name__ in ("Cast", "Paren"):
        array = array.this
    if type(array).__name__ != "Array":
        raise _NotUnderstood
    return list(array.expressions)
