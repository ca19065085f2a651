"""DROP TABLE and ALTER TABLE as far as they make or drop foreign keys, read from tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fkdoctor.statement.script import Target, Word, read_words, split_words


@dataclass(frozen=True, kw_only=True)
class DropTable:
    """DROP TABLE of several tables."""

    tables: tuple[Target, ...]
    cascade: bool


@dataclass(frozen=True, kw_only=True)
class AddForeignKey:
    """ALTER TABLE … ADD FOREIGN KEY. `definition` is the clause as it was written."""

    table: Target
    name: str | None
    columns: tuple[str, ...]
    referenced: Target
    not_valid: bool
    definition: str


@dataclass(frozen=True, kw_only=True)
class DropConstraint:
    """ALTER TABLE … DROP CONSTRAINT; whether it is a foreign key, the database knows."""

    table: Target
    name: str


@dataclass(frozen=True, kw_only=True)
class CreateTable:
    """CREATE TABLE: later statements may mean a table that is not there yet."""

    table: Target


Change = DropTable | AddForeignKey | DropConstraint | CreateTable


def read_changes(sql: str) -> tuple[Change, ...]:
    """What the statement changes; nothing where it is another one."""
    words = read_words(sql)
    verbs = [word.upper for word in words[:2]]
    if verbs == ["DROP", "TABLE"]:
        return (_read_drop(words[2:]),)
    if verbs == ["ALTER", "TABLE"]:
        return tuple(_read_alter(words[2:]))
    if verbs[:1] == ["CREATE"]:
        return tuple(_read_create(words))
    return ()


def _skip(words: Sequence[Word], *phrases: str) -> Sequence[Word]:
    """The words behind the phrases that may stand first."""
    for phrase in phrases:
        parts = phrase.split()
        if [word.upper for word in words[: len(parts)]] == parts:
            words = words[len(parts) :]
    return words


def _take_name(words: Sequence[Word]) -> tuple[Target, Sequence[Word]]:
    parts = [words[0].name]
    words = words[1:]
    while len(words) > 1 and words[0].upper == ".":
        parts.append(words[1].name)
        words = words[2:]
    return Target(parts=tuple(parts)), words


def _read_drop(words: Sequence[Word]) -> DropTable:
    tables = []
    cascade = bool(words) and words[-1].upper == "CASCADE"
    for part in split_words(_skip(words, "IF EXISTS")):
        if part:
            tables.append(_take_name(part)[0])
    return DropTable(tables=tuple(tables), cascade=cascade)


def _read_alter(words: Sequence[Word]) -> Iterator[Change]:
    table, actions = _take_name(_skip(words, "IF EXISTS", "ONLY"))
    for action in split_words(actions):
        uppers = [word.upper for word in action]
        if uppers[:2] == ["DROP", "CONSTRAINT"]:
            named = _skip(action[2:], "IF EXISTS")
            yield DropConstraint(table=table, name=named[0].name)
        elif uppers[:1] == ["ADD"]:
            key = _read_key(table, action[1:])
            if key is not None:
                yield key


def _read_key(table: Target, words: Sequence[Word]) -> AddForeignKey | None:
    name = None
    definition = words
    if words[0].upper == "CONSTRAINT":
        name, words = words[1].name, words[2:]
    if [word.upper for word in words[:3]] != ["FOREIGN", "KEY", "("]:
        return None
    columns = []
    words = words[3:]
    while words and words[0].upper != ")":
        if words[0].upper != ",":
            columns.append(words[0].name)
        words = words[1:]
    referenced, rest = _take_name(_skip(words[1:], "REFERENCES"))
    uppers = [word.upper for word in rest]
    return AddForeignKey(
        table=table,
        name=name,
        columns=tuple(columns),
        referenced=referenced,
        not_valid=uppers[-2:] == ["NOT", "VALID"],
        definition=_write(definition),
    )


def _write(words: Sequence[Word]) -> str:
    joined = " ".join(word.text for word in words)
    return joined.replace("( ", "(").replace(" )", ")").replace(" ,", ",").replace(" . ", ".")


def _read_create(words: Sequence[Word]) -> Iterator[CreateTable]:
    rest = _skip(words[1:], "GLOBAL", "LOCAL", "TEMPORARY", "TEMP", "UNLOGGED")
    if rest and rest[0].upper == "TABLE":
        yield CreateTable(table=_take_name(_skip(rest[1:], "IF NOT EXISTS"))[0])
