"""What fkdoctor remembers in comments, as their last line, so that a downgrade can restore it.

A comment moves with its object through a dump, needs no table, and is set in the transaction that
makes the change it tells of. Whoever overwrites it makes the object their own: a downgrade then
leaves it alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CREATED = "[fkdoctor created this]"
"""Marks a schema, table, column or index that was not there before."""

PENDING = "[fkdoctor has yet to validate this]"
"""Ends the comment of a key that is in its place, of which the rows are still to be checked."""

_WAS = re.compile(r"\[fkdoctor was: (.*)\]")


@dataclass(frozen=True, kw_only=True)
class KeyText:
    """All of a foreign key that a change of its rule touches: definition and comment."""

    definition: str
    comment: str | None


def is_created(comment: str | None) -> bool:
    """Whether the comment's last line says that fkdoctor created the object."""
    return comment is not None and _split_last_line(comment)[1] == CREATED


def remember(key: KeyText) -> str:
    """The comment of a key that takes the place of `key`: its own, and what it was."""
    return _add_line(key.comment, f"[fkdoctor was: {_on_one_line(key.definition)}]")


def recall(comment: str | None) -> KeyText | None:
    """What a key was before fkdoctor changed it; None if its comment does not say."""
    if comment is None:
        return None
    above, line = _split_last_line(comment)
    found = _WAS.fullmatch(line)
    if found is None:
        return None
    return KeyText(definition=_as_written(found[1]), comment=above)


def pend(comment: str | None) -> str:
    """The comment with the mark that the key's rows are still to be checked."""
    return _add_line(comment, PENDING)


def settle(comment: str | None) -> tuple[bool, str | None]:
    """Whether the comment has that mark, and the comment without it."""
    if comment is None:
        return False, None
    above, line = _split_last_line(comment)
    return (True, above) if line == PENDING else (False, comment)


def describe_shadow(name: str, final: KeyText) -> str:
    """The comment of a shadow: what it will be called, and be, when it takes the key's place."""
    return _add_line(final.comment, _purpose(name) + _on_one_line(final.definition) + "]")


def read_shadow(name: str, comment: str | None) -> KeyText | None:
    """What a shadow of the key `name` is to become; None if the comment is not of one."""
    if comment is None:
        return None
    above, line = _split_last_line(comment)
    purpose = _purpose(name)
    if not (line.startswith(purpose) and line.endswith("]")):
        return None
    return KeyText(definition=_as_written(line[len(purpose) : -1]), comment=above)


def _purpose(name: str) -> str:
    return f"[fkdoctor is about to put this in place of {_on_one_line(name)}: "


def _add_line(comment: str | None, line: str) -> str:
    return line if comment is None else f"{comment}\n{line}"


def _split_last_line(comment: str) -> tuple[str | None, str]:
    above, newline, line = comment.rpartition("\n")
    return (above if newline else None), line


def _on_one_line(text: str) -> str:
    # A quoted identifier may hold a line break.
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _as_written(line: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], line)
