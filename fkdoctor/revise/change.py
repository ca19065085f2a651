"""What is to be different about a foreign key, as a value: it can be applied and recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import quote_all
from fkdoctor.revise.definition import KeyDefinition
from fkdoctor.schema import MatchType, ReferentialAction

_ACTIONS = {action.sql: action for action in ReferentialAction}
_SETTING = (ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT)


@dataclass(frozen=True, kw_only=True)
class KeyChange:
    """The parts of a key that are to change; None leaves a part as it is.

    `set_columns` are the columns that ON DELETE SET NULL or SET DEFAULT writes, () all of them.
    `validated` is only ever True: the rows that are there are to be checked.
    """

    on_delete: ReferentialAction | None = None
    set_columns: tuple[str, ...] | None = None
    on_update: ReferentialAction | None = None
    match: MatchType | None = None
    deferrable: bool | None = None
    deferred: bool | None = None
    validated: bool | None = None

    def apply(self, definition: KeyDefinition) -> KeyDefinition:
        """The definition with the change in it; one that has it comes back as it is."""
        after = replace(definition, on_delete=self._delete_rule(definition))
        if self.on_update is not None:
            after = replace(after, on_update=_print_action(self.on_update))
        if self.match is not None:
            after = replace(after, match="" if self.match is MatchType.SIMPLE else self.match.name)
        if self.deferrable is not None:
            after = replace(
                after, deferrable=self.deferrable, deferred=after.deferred and self.deferrable
            )
        if self.deferred is not None:
            after = replace(after, deferred=self.deferred)
        return after.checked() if self.validated else after

    def holds(self, definition: KeyDefinition) -> bool:
        """Whether the definition has the change in it."""
        return self.apply(definition) == definition

    def _delete_rule(self, definition: KeyDefinition) -> str:
        if self.on_delete is None:
            return definition.on_delete
        words = _print_action(self.on_delete)
        if self.set_columns is None and definition.on_delete.partition(" (")[0] == words:
            return definition.on_delete
        if self.set_columns:
            return f"{words} ({quote_all(self.set_columns)})"
        return words


def _print_action(action: ReferentialAction) -> str:
    return "" if action is ReferentialAction.NO_ACTION else action.sql


def read_change(
    on_delete: str | None,
    *,
    set_columns: Sequence[str] | None = None,
    on_update: str | None = None,
    match: str | None = None,
    deferrable: bool | None = None,
    initially: str | None = None,
) -> KeyChange:
    """The change that the arguments of an operation ask for.

    Raises ConfigError for a word that PostgreSQL does not know, for arguments that contradict each
    other, and where nothing is asked for.
    """
    delete = None if on_delete is None else read_action(on_delete, "ON DELETE")
    if set_columns is not None and delete not in _SETTING:
        raise ConfigError(
            "set_columns says which columns ON DELETE SET NULL or SET DEFAULT writes.",
            why=f"The rule is {delete.sql if delete else 'not given'}.",
            next='Give on_delete="SET NULL" beside it, or leave set_columns out.',
        )
    deferred = None if initially is None else _read_initially(initially)
    if deferred and deferrable is False:
        raise ConfigError(
            "A key that is not deferrable cannot be INITIALLY DEFERRED.",
            next="Leave deferrable=False or initially= out.",
        )
    change = KeyChange(
        on_delete=delete,
        set_columns=None if set_columns is None else tuple(set_columns),
        on_update=None if on_update is None else read_action(on_update, "ON UPDATE"),
        match=None if match is None else _read_match(match),
        deferrable=True if deferred else deferrable,
        deferred=deferred,
    )
    if change == KeyChange():
        raise ConfigError(
            "No change is asked for.",
            why="None of on_delete, on_update, match, deferrable and initially is given.",
            next='Say what is to change, for example: on_delete="CASCADE"',
        )
    return change


def read_action(words: str, clause: str) -> ReferentialAction:
    """The action of these words; ConfigError where there is none."""
    action = _ACTIONS.get(_plain(words))
    if action is None:
        raise _unknown(words, f"rule for {clause}", _ACTIONS)
    return action


def _read_match(words: str) -> MatchType:
    if _plain(words) not in ("SIMPLE", "FULL"):
        raise _unknown(words, "MATCH", ("SIMPLE", "FULL"))
    return MatchType[_plain(words)]


def _read_initially(words: str) -> bool:
    if _plain(words) not in ("DEFERRED", "IMMEDIATE"):
        raise _unknown(words, "INITIALLY", ("DEFERRED", "IMMEDIATE"))
    return _plain(words) == "DEFERRED"


def _plain(words: str) -> str:
    return " ".join(words.upper().split())


def _unknown(words: str, what: str, known: object) -> ConfigError:
    assert isinstance(known, dict | tuple)
    return ConfigError(
        f"{words!r} is no {what}.",
        why=f"There are {', '.join(known)}.",
        next="Correct it in the revision.",
    )
