"""What becomes of rows that collide, as a user says it: read into rules of tables. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from fkdoctor.dedupe.criteria import Preference, SurvivorRule, parse_survivor
from fkdoctor.dedupe.plan import CollisionRule, FieldRule
from fkdoctor.errors import ConfigError
from fkdoctor.identifier import quote, split_qualified
from fkdoctor.schema import Column, Schema, Table, TableName

REFUSE = "refuse"
KEEP_REFERENCING = "keep_survivors"
DELETE = "delete"
SET_NULL = "null"
INHERIT = "inherit"
IDENTICAL = "identical"

MERGE_FIELDS = "merge_fields"

SKIP = "skip"
_SIMPLE = (REFUSE, SKIP, KEEP_REFERENCING, MERGE_FIELDS)
_CHOICES = {
    "collisions": (
        *_SIMPLE,
        "newest[:column]",
        "oldest[:column]",
        "most_complete",
        "(SQL) [asc]",
        "demote(column = value)",
    ),
    "links": (REFUSE, DELETE),
    "above": (REFUSE, SET_NULL, INHERIT),
}
_FLAGS = {"collisions": "--on-collision", "links": "--on-link", "above": "--on-loop"}


def read_rules(
    schema: Schema,
    resolve: Callable[[str], TableName],
    given: Iterable[tuple[str, str]],
) -> tuple[CollisionRule, ...]:
    """The rules of the tables, from pairs of what it is about (`collisions`, `links`, `above`) and
    `table=policy`. Later ones replace earlier ones. Raises ConfigError."""
    rules: dict[TableName, CollisionRule] = {}
    for kind, text in given:
        name, separator, policy = text.partition("=")
        policy = policy.strip()
        if not separator or not policy:
            raise ConfigError(
                f"{text!r} is no policy for a table.",
                why="It is not of the form TABLE=POLICY.",
                next=f"For example: {_FLAGS[kind]} TABLE={_CHOICES[kind][1]}",
            )
        table = schema.table(resolve(name.strip()))
        _check(kind, table, policy)
        rule = rules.get(table.name, CollisionRule(table=table.name))
        rules[table.name] = _amend(rule, kind, policy)
    return tuple(rules[name] for name in sorted(rules))


def _amend(rule: CollisionRule, kind: str, policy: str) -> CollisionRule:
    match kind:
        case "collisions":
            return replace(rule, collisions=policy)
        case "links":
            return replace(rule, links=policy)
    return replace(rule, above=policy)


def _check(kind: str, table: Table, policy: str) -> None:
    if policy in _CHOICES[kind]:
        return
    if kind == "collisions" and is_demotion(policy):
        parse_demotion(table, policy)
        return
    if kind == "collisions":
        rule = parse_survivor(table, policy)
        if rule.preference is not Preference.MOST_REFERENCED:
            return
    raise ConfigError(
        f"There is no policy {policy!r} for {_FLAGS[kind]}.",
        why=f"There are: {', '.join(_CHOICES[kind])}.",
        next=f"For example: {_FLAGS[kind]} {table.name}={_CHOICES[kind][1]}",
    )


FIELD_KINDS = (
    "keep",
    "coalesce",
    "newest",
    "oldest",
    "longest",
    "sum",
    "min",
    "max",
    "and",
    "or",
    "concat",
    "union",
)
EXPRESSION = "expression"
_TIMED = ("newest", "oldest")
_SEPARATOR = "; "


def read_fields(
    schema: Schema,
    resolve: Callable[[str], TableName],
    root: TableName,
    given: Iterable[str],
) -> tuple[FieldRule, ...]:
    """The rules of columns, from `column=rule` of the deduplicated table and `table.column=rule` of
    others. Later ones replace earlier ones. Raises ConfigError."""
    rules: dict[tuple[TableName, str], FieldRule] = {}
    for text in given:
        name, separator, rule = text.partition("=")
        if not separator or not rule.strip():
            raise ConfigError(
                f"{text!r} is no rule for a column.",
                why="It is not of the form COLUMN=RULE.",
                next=f"For example: --field note=longest. Rules: {', '.join(FIELD_KINDS)}.",
            )
        *of_table, column = split_qualified(name)
        named = resolve(".".join(map(quote, of_table))) if of_table else root
        field = _read_field(schema.table(named), column, rule.lstrip())
        rules[named, column] = field
    return tuple(rules.values())


def _read_field(table: Table, column: str, rule: str) -> FieldRule:
    if rule.startswith("("):
        _check_field(table, column)
        return FieldRule(table=table.name, column=column, kind=EXPRESSION, argument=rule.rstrip())
    kind, separator, argument = rule.partition(":")
    kind = kind.strip()
    if kind not in FIELD_KINDS or (separator and kind not in (*_TIMED, "concat")):
        raise ConfigError(
            f"There is no rule {rule!r} for {table.name}.{quote(column)}.",
            why=f"There are: {', '.join(FIELD_KINDS)}, and SQL expressions in parentheses.",
            next="For example: --field note=longest --field name=newest:updated_at",
        )
    if kind in _TIMED:
        parsed = parse_survivor(table, rule)
        argument = parsed.column or ""
    elif kind == "concat" and not separator:
        argument = _SEPARATOR
    _check_field(table, column)
    if kind == "union" and not _holds_several(table.column(column)):
        raise ConfigError(
            f"{table.name}.{quote(column)} has no union.",
            why=f"It is of type {table.column(column).type}; arrays and jsonb have one.",
            next="Take another rule, such as concat.",
        )
    return FieldRule(table=table.name, column=column, kind=kind, argument=argument)


def _holds_several(column: Column) -> bool:
    return column.base_type == "jsonb" or column.base_type.endswith("[]")


def _check_field(table: Table, column: str) -> None:
    if not table.has_column(column):
        names = ", ".join(quote(c.name) for c in table.columns)
        raise ConfigError(
            f"{table.name} has no column {quote(column)}.",
            why=f"Its columns: {names}.",
            next="Name one of them.",
        )
    if table.column(column).generated or column in table.row_identity:
        raise ConfigError(
            f"{table.name}.{quote(column)} can have no rule.",
            why="It is generated, or part of what the row is known by.",
            next="Leave it out.",
        )


def order_of(table: Table, policy: str) -> Iterator[SurvivorRule]:
    """The rule by which one of colliding rows stays, where that is not that it does not move."""
    if policy not in _SIMPLE and not is_demotion(policy):
        yield parse_survivor(table, policy)


_DEMOTE = "demote("
_DEMOTION = re.compile(
    r"demote\(\s*(?P<column>\w+|\"(?:[^\"]|\"\")+\")\s*=\s*"
    r"(?:'(?P<text>(?:[^']|'')*)'|(?P<word>[\w.+-]+))\s*\)"
)


def is_demotion(policy: str) -> bool:
    """Whether colliding rows stay, with another value in one column."""
    return policy.startswith(_DEMOTE)


def parse_demotion(table: Table, policy: str) -> tuple[str, str | None]:
    """The column and the value, as text, of `demote(column = value)`. Raises ConfigError."""
    match = _DEMOTION.fullmatch(policy)
    if match is None:
        raise ConfigError(
            f"{policy!r} cannot be read.",
            why="A column is demoted to one value: a number, true, false, null or 'text'.",
            next=f"For example: --on-collision {table.name}='demote(is_primary = false)'",
        )
    (column,) = split_qualified(match["column"])
    _check_field(table, column)
    text = match["word"] if match["text"] is None else match["text"].replace("''", "'")
    value = None if (match["word"] or "").lower() == "null" else text
    if value is None and table.column(column).not_null:
        raise ConfigError(
            f"{table.name}.{quote(column)} cannot be demoted to NULL.",
            why="It is NOT NULL.",
            next="Give another value.",
        )
    return column, value
