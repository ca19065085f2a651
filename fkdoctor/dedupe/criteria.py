"""What makes rows duplicates, and which of them stays: the words of a user as values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import quote, split_qualified
from fkdoctor.schema import Column, Table

_TEXT_TYPES = frozenset({"text", "character varying", "character"})


class Normaliser(Enum):
    """What is done to a column's values before they are compared."""

    EXACT = "exact"
    URL = "url"


@dataclass(frozen=True, kw_only=True)
class Match:
    """One thing that duplicates agree on: a column under a normaliser, or an SQL expression."""

    text: str
    column: str | None = None
    normaliser: Normaliser = Normaliser.EXACT
    expression: str | None = None

    def __str__(self) -> str:
        if self.column is None:
            return f"the expression {self.expression}"
        if self.normaliser is Normaliser.EXACT:
            return f"column {quote(self.column)}"
        return f"column {quote(self.column)}, normalised as a URL"


class Preference(Enum):
    """What a row must have more of than others to survive."""

    NEWEST = "newest"
    OLDEST = "oldest"
    MOST_COMPLETE = "most_complete"
    MOST_REFERENCED = "most_referenced"
    EXPRESSION = "expression"


@dataclass(frozen=True, kw_only=True)
class SurvivorRule:
    """One rule; later rules decide where earlier ones leave rows equal, the lowest key at last."""

    preference: Preference
    column: str | None = None
    expression: str | None = None
    descending: bool = True

    def __str__(self) -> str:
        match self.preference:
            case Preference.EXPRESSION:
                return f"{'largest' if self.descending else 'smallest'} {self.expression}"
            case Preference.NEWEST | Preference.OLDEST:
                return f"{self.preference.value} {quote(self.column or '')}"
            case _:
                return str(self.preference.value).replace("_", " ")


DEFAULT_SURVIVOR = ("most_complete", "most_referenced")


def parse_match(table: Table, text: str) -> Match:
    """The match that a user wrote: `column`, `column:exact`, `column:url` or `(expression)`.

    A bare column whose name says that it holds URLs is normalised as one. Raises ConfigError.
    """
    text = text.strip()
    if text.startswith("("):
        return Match(text=text, expression=text)
    name, separator, kind = text.rpartition(":")
    if not separator or '"' in kind:
        name, separator, kind = text, "", ""
    column = table.column(_find_column(table, name))
    kinds = {normaliser.value: normaliser for normaliser in Normaliser}
    if separator and kind not in kinds:
        raise ConfigError(
            f"There is no normaliser {kind!r} in the match {text!r}.",
            why=f"There are: {', '.join(kinds)}.",
            next=f"Write {name}:url, {name}:exact, or an SQL expression in parentheses.",
        )
    normaliser = kinds[kind] if separator else _usual_normaliser(column)
    if normaliser is Normaliser.URL and not is_text(column):
        raise ConfigError(
            f"{table.name}.{quote(column.name)} cannot hold URLs.",
            why=f"It is of type {column.type}.",
            next=f"Write {name}:exact.",
        )
    return Match(text=text, column=column.name, normaliser=normaliser)


def _usual_normaliser(column: Column) -> Normaliser:
    """URL for `url`, `source_url`, `link`; not for `url_hash`, whose case may matter."""
    last = column.name.lower().split("_")[-1]
    is_url = last in ("url", "uri", "link", "href") and is_text(column)
    return Normaliser.URL if is_url else Normaliser.EXACT


def parse_survivor(table: Table, text: str) -> SurvivorRule:
    """The rule that a user wrote: `newest`, `newest:column`, `oldest:…`, `most_complete`,
    `most_referenced`, or `(expression)`, `(expression) asc`: the largest or smallest survives.

    Raises ConfigError.
    """
    text = text.strip()
    if text.startswith("("):
        body, _, direction = text.rpartition(")")
        direction = direction.strip().lower()
        if direction not in ("", "asc", "desc"):
            raise ConfigError(
                f"The survivor rule {text!r} cannot be read.",
                why=f"After the parenthesis stands {direction!r}.",
                next="Write (expression), (expression) asc or (expression) desc.",
            )
        return SurvivorRule(
            preference=Preference.EXPRESSION,
            expression=body + ")",
            descending=direction != "asc",
        )
    name, _, column = text.partition(":")
    preferences = {preference.value: preference for preference in Preference}
    preferences.pop(Preference.EXPRESSION.value)
    if name not in preferences:
        raise ConfigError(
            f"There is no survivor rule {name!r}.",
            why=f"There are: {', '.join(preferences)}, and SQL expressions in parentheses.",
            next="For example: --survivor newest:updated_at --survivor most_complete",
        )
    preference = preferences[name]
    if preference not in (Preference.NEWEST, Preference.OLDEST):
        if column:
            raise ConfigError(
                f"The survivor rule {name} takes no column.",
                why=f"It was given {column!r}.",
                next=f"Write {name}.",
            )
        return SurvivorRule(preference=preference)
    return SurvivorRule(
        preference=preference,
        column=_find_column(table, column) if column else _time_column(table, name),
        descending=preference is Preference.NEWEST,
    )


def _find_column(table: Table, text: str) -> str:
    parts = split_qualified(text)
    if len(parts) == 1 and table.has_column(parts[0]):
        return parts[0]
    raise ConfigError(
        f"{table.name} has no column {text}.",
        why="Its columns: " + ", ".join(quote(column.name) for column in table.columns) + ".",
        next="Name one of them, or write an SQL expression in parentheses.",
    )


def _time_column(table: Table, rule: str) -> str:
    for name in ("updated_at", "modified_at", "created_at"):
        if table.has_column(name):
            return name
    raise ConfigError(
        f"The survivor rule {rule!r} needs a column.",
        why=f"{table.name} has no updated_at, modified_at or created_at.",
        next=f"Write {rule}:column.",
    )


def is_text(column: Column) -> bool:
    """Whether the column holds text, of which the empty one counts as missing."""
    return column.base_type in _TEXT_TYPES or column.base_type.endswith(".citext")
