"""Which tables and columns do the INSERT … ON CONFLICT in a text name? Read, not run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fkdoctor.inspect.plpgsql import Unreadable, read_tokens


@dataclass(frozen=True, kw_only=True)
class Upsert:
    """An INSERT with ON CONFLICT.

    `table` is its name in one or two parts. Either `columns` are those of the conflict target, with
    a WHERE behind them if `conditional`, or `constraint` is what ON CONSTRAINT names. `action` are
    the words behind DO.
    """

    table: tuple[str, ...]
    columns: tuple[str, ...]
    conditional: bool
    constraint: str | None
    action: tuple[str, ...]


def read_upserts(source: str) -> Iterator[Upsert]:
    """The upserts in it that name their columns or a constraint, and stand in no string.

    Left out are those into a table that the text itself makes.
    """
    try:
        tokens = read_tokens(source)
    except Unreadable:
        return
    made = {tokens[place + 1] for place in range(len(tokens) - 1) if tokens[place] == "table"}
    for place in range(len(tokens) - 2):
        if tokens[place] == "insert" and tokens[place + 1] == "into":
            found = _read(tokens, place + 2)
            if found and not (len(found.table) == 1 and made & {found.table[0], "if"}):
                yield found


def _read(tokens: Sequence[str], place: int) -> Upsert | None:
    table, place = _read_name(tokens, place)
    end = _end_of_statement(tokens, place)
    words = tokens[place:end]
    depth = 0
    for at, word in enumerate(words):
        depth += word == "("
        depth -= word == ")"
        if not depth and word == "on" and tuple(words[at + 1 : at + 2]) == ("conflict",):
            return _read_target(table, words[at + 2 :])
    return None


def _read_target(table: tuple[str, ...], words: Sequence[str]) -> Upsert | None:
    """What stands behind ON CONFLICT, if that is a target that names columns or a constraint."""
    columns: list[str] = []
    constraint, conditional, place = None, False, 0
    match tuple(words[:3]):
        case ("on", "constraint", name):
            constraint, place = _plain(name), 3
        case ("(", *_):
            inside = words[1 : words.index(")")] if ")" in words else ()
            if any(word != "," for word in inside[1::2]) or len(inside) % 2 == 0:
                return None  # an expression, a collation or an operator class
            columns = [_plain(word) for word in inside[::2]]
            place = len(inside) + 2
            conditional = tuple(words[place : place + 1]) == ("where",)
    if conditional:
        place += tuple(words[place:]).index("do") if "do" in words[place:] else 0
    if not (columns or constraint) or tuple(words[place : place + 1]) != ("do",):
        return None
    return Upsert(
        table=table,
        columns=tuple(columns),
        conditional=conditional,
        constraint=constraint,
        action=tuple(words[place + 1 :]),
    )


def _read_name(tokens: Sequence[str], place: int) -> tuple[tuple[str, ...], int]:
    parts = [_plain(tokens[place])]
    while tuple(tokens[place + 1 : place + 2]) == (".",) and place + 2 < len(tokens):
        parts.append(tokens[place + 2])
        place += 2
    return tuple(parts), place + 1


def _end_of_statement(tokens: Sequence[str], place: int) -> int:
    """Where the statement ends: before a ; or the parenthesis that closes around it."""
    depth = 0
    for at in range(place, len(tokens)):
        depth += tokens[at] == "("
        depth -= tokens[at] == ")"
        if depth < 0 or (not depth and tokens[at] == ";"):
            return at
    return len(tokens)


def _plain(word: str) -> str:
    """The name that the word is, without quotes."""
    return word[1:-1].replace('""', '"') if word.startswith('"') else word
