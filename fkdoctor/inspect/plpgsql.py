"""What does a trigger function written in PL/pgSQL return?

A BEFORE trigger for each row that returns NULL makes PostgreSQL skip the row without a word; in a
DELETE, NEW is NULL too. The function is read, not run: conditions on TG_OP, TG_WHEN, TG_LEVEL and
pg_trigger_depth() are decided as they come out at the place in question, of others both branches
are followed.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache


class Return(Enum):
    """What a way through the function comes to."""

    NULL = auto()
    ROW = auto()
    ERROR = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What the function can return, and which columns it may set back to their old value."""

    returns: frozenset[Return]
    restores: frozenset[str]

    @property
    def always_skips(self) -> bool:
        """Whether every way that does not end in an error returns NULL."""
        return Return.NULL in self.returns and self.returns <= {Return.NULL, Return.ERROR}

    @property
    def always_fails(self) -> bool:
        """Whether every way ends in an error."""
        return self.returns == {Return.ERROR}

    @property
    def may_skip(self) -> bool:
        """Whether some way returns NULL."""
        return Return.NULL in self.returns


_NOTHING_KNOWN = Behaviour(returns=frozenset({Return.UNKNOWN}), restores=frozenset())

ACTION_DEPTH = 2
"""pg_trigger_depth() in a trigger that a referential action fires: the action is a trigger too."""

Facts = dict[str, str | int]
"""What is known of where the trigger fires, by the variable or function that tells it."""


@lru_cache(maxsize=1024)
def read_trigger_function(
    source: str,
    event: str,
    *,
    timing: str = "BEFORE",
    level: str = "ROW",
    depth: int | None = ACTION_DEPTH,
) -> Behaviour:
    """What the function does as a trigger on `event`, DELETE or UPDATE; `depth` None is any."""
    facts: Facts = {"tg_op": event, "tg_when": timing, "tg_level": level}
    if depth is not None:
        facts["pg_trigger_depth"] = depth
    try:
        statements = _Reader(read_tokens(source)).read_function()
    except Unreadable:
        return _NOTHING_KNOWN
    walk = _Walk(facts)
    if walk.follow(statements):
        walk.returns.add(Return.ERROR)  # "control reached end of trigger procedure"
    return Behaviour(returns=frozenset(walk.returns), restores=frozenset(walk.restores))


class Unreadable(Exception):
    """The source is not what this reader takes PL/pgSQL for."""


_TOKEN = re.compile(
    r"""
    \s+ | --[^\n]*
    | (?P<comment>/\*)
    | (?P<text>[eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<name>"(?:[^"]|"")+")
    | (?P<word>[^\W\d][\w$]*)
    | (?P<sign>:=|<>|!=|<=|>=|<<|>>|::|.)
    """,
    re.VERBOSE | re.DOTALL,
)


def read_tokens(source: str) -> list[str]:
    """Words in lower case, signs, and texts as they are written; comments are left out."""
    found: list[str] = []
    position = 0
    while match := _TOKEN.match(source, position):
        position = match.end()
        if match["comment"]:
            position = _end_of_comment(source, position)
        elif match["word"]:
            found.append(match["word"].lower())
        elif match["name"]:
            # A column as it is, elsewhere no keyword.
            found.append(match["name"][1:-1] if found[-1:] == ["."] else match["name"])
        elif match["text"] or match["sign"]:
            found.append(match[0])
    return found


def _end_of_comment(source: str, position: int) -> int:
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(source, position):
        depth += 1 if match[0] == "/*" else -1
        if not depth:
            return match.end()
    raise Unreadable


@dataclass(frozen=True, kw_only=True)
class _Branches:
    """IF or CASE: each branch with its condition, None for ELSE; `total` if one must be taken."""

    branches: tuple[tuple[tuple[str, ...] | None, tuple[_Statement, ...]], ...]
    total: bool


@dataclass(frozen=True, kw_only=True)
class _Several:
    """A loop or a block: it may be gone through or not, but for a block's first part."""

    parts: tuple[tuple[_Statement, ...], ...]
    optional: bool


_Simple = tuple[str, ...]
_Statement = _Branches | _Several | _Simple


class _Reader:
    """Reads the statements of a function from its tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def read_function(self) -> tuple[_Statement, ...]:
        self._until("begin")
        return (self._block(),)

    def _next(self) -> str:
        if self._at >= len(self._tokens):
            raise Unreadable
        self._at += 1
        return self._tokens[self._at - 1]

    def _peek(self, ahead: int = 0) -> str:
        place = self._at + ahead
        return self._tokens[place] if place < len(self._tokens) else ""

    def _until(self, *ends: str) -> tuple[str, ...]:
        """The tokens before the next of `ends` that is in no parentheses and no CASE … END."""
        found: list[str] = []
        depth = 0
        while True:
            token = self._next()
            if not depth and token in ends:
                return tuple(found)
            depth += token in ("(", "case")
            depth -= token in (")", "end") and depth > 0
            found.append(token)

    def _close(self) -> None:
        """Pass over END IF; or the like."""
        while self._next() != ";":
            pass

    def _statements(self, *ends: str) -> tuple[_Statement, ...]:
        """The statements before one of `ends`, which is left to be read."""
        found: list[_Statement] = []
        while self._peek() not in ends:
            found.append(self._statement())
        return tuple(found)

    def _statement(self) -> _Statement:
        first = self._peek()
        if first == "<<":
            self._until(">>")
            first = self._peek()
        match first:
            case "if":
                return self._if()
            case "case":
                return self._case()
            case "declare" | "begin":
                self._until("begin")
                return self._block()
            case "loop" | "while" | "for" | "foreach":
                self._until("loop")
                body = self._statements("end")
                self._close()
                return _Several(parts=(body,), optional=True)
        return self._until(";")

    def _block(self) -> _Several:
        parts = [self._statements("end", "exception")]
        if self._next() == "exception":
            while self._peek() == "when":
                self._until("then")
                parts.append(self._statements("when", "end"))
            self._next()
        if self._at < len(self._tokens):
            self._close()
        return _Several(parts=tuple(parts), optional=False)

    def _if(self) -> _Branches:
        branches: list[tuple[tuple[str, ...] | None, tuple[_Statement, ...]]] = []
        word = self._next()
        while word in ("if", "elsif", "elseif"):
            condition = self._until("then")
            branches.append((condition, self._statements("elsif", "elseif", "else", "end")))
            word = self._next()
        if word == "else":
            branches.append((None, self._statements("end")))
        self._close()
        return _Branches(branches=tuple(branches), total=word == "else")

    def _case(self) -> _Branches:
        self._next()
        subject = self._until("when")
        branches: list[tuple[tuple[str, ...] | None, tuple[_Statement, ...]]] = []
        word = "when"
        while word == "when":
            value = self._until("then")
            condition = (*subject, "in", "(", *value, ")") if subject else value
            branches.append((condition, self._statements("when", "else", "end")))
            word = self._next()
        if word == "else":
            branches.append((None, self._statements("end")))
        self._close()
        # Without ELSE, a CASE that matches nothing is an error.
        return _Branches(branches=tuple(branches), total=True)


_MESSAGES = ("debug", "log", "info", "notice", "warning")


class _Walk:
    """Follows every way through the statements that the facts leave open."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.returns: set[Return] = set()
        self.restores: set[str] = set()

    def follow(self, statements: Iterable[_Statement]) -> bool:
        """Whether the statements can be left at their end."""
        return all(self._step(statement) for statement in statements)

    def _step(self, statement: _Statement) -> bool:
        match statement:
            case _Branches():
                return self._choose(statement)
            case _Several():
                through = [self.follow(part) for part in statement.parts]
                return any(through) or statement.optional
            case ("return", *value):
                self.returns.add(self._value(value))
                return False
            case ("raise", *rest) if not rest or rest[0] not in _MESSAGES:
                self.returns.add(Return.ERROR)
                return False
            case ("new", ".", column, ":=" | "=", "old", ".", same) if column == same:
                self.restores.add(column)
        return True

    def _choose(self, statement: _Branches) -> bool:
        through = []
        for condition, body in statement.branches:
            holds = True if condition is None else _decide(condition, self._facts)
            if holds is False:
                continue
            through.append(self.follow(body))
            if holds:
                return any(through)
        return any(through) or not statement.total

    def _value(self, value: list[str]) -> Return:
        match value:
            case ["null"]:
                return Return.NULL
            case ["new"]:
                return Return.NULL if self._facts["tg_op"] == "DELETE" else Return.ROW
            case ["old"] | ["coalesce", "(", "new" | "old", ",", "new" | "old", ")"]:
                return Return.ROW
        return Return.UNKNOWN


_COMPARISONS: Mapping[str, Callable[[object, object], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
}
_ORDERS: Mapping[str, Callable[[int, int], bool]] = {
    **_COMPARISONS,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def _decide(condition: tuple[str, ...], facts: Facts) -> bool | None:
    """Whether the condition holds; None where that is not known."""
    for word, decisive in (("or", True), ("and", False)):
        parts = _split(condition, word)
        if len(parts) > 1:
            known = [_decide(part, facts) for part in parts]
            if decisive in known:
                return decisive
            return None if None in known else not decisive
    match condition:
        case ("not", *rest):
            inner = _decide(tuple(rest), facts)
            return None if inner is None else not inner
        case ("(", *rest, ")") if len(_split(tuple(rest), ")")) == 1:
            return _decide(tuple(rest), facts)
        case ("true",) | ("false",):
            return condition == ("true",)
        case (left, sign, right) if sign in _COMPARISONS:
            values = [facts.get(token, token.strip("'").upper()) for token in (left, right)]
            if facts.keys() & {left, right}:
                return _COMPARISONS[sign](*values)
        case (fact, "in", "(", *values, ")") if fact in facts:
            return facts[fact] in [value.strip("'").upper() for value in values]
        case (fact, "not", "in", "(", *values, ")") if fact in facts:
            return facts[fact] not in [value.strip("'").upper() for value in values]
        case ("pg_trigger_depth", "(", ")", sign, number) if number.isdigit():
            depth = facts.get("pg_trigger_depth")
            if isinstance(depth, int) and sign in _ORDERS:
                return _ORDERS[sign](depth, int(number))
    return None


def _split(tokens: tuple[str, ...], at: str) -> list[tuple[str, ...]]:
    """The parts between the words `at` that are in no parentheses."""
    parts: list[tuple[str, ...]] = []
    depth = start = 0
    for place, token in enumerate(tokens):
        if token == at and not depth:
            parts.append(tokens[start:place])
            start = place + 1
        else:
            depth += (token == "(") - (token == ")")
    return [*parts, tokens[start:]]
