"""Which rows are meant: a condition, or keys."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import quote_all
from fkdoctor.schema import Table
from fkdoctor.statement.expression import parse_expression
from fkdoctor.statement.softdelete import has_key


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Rows of a table: those that `where` holds for, an SQL condition over one row, or those with
    one of the `keys`, each as text: a value, or several with commas between, quoted as in CSV."""

    where: str | None = None
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.where is None) == (not self.keys):
            raise ConfigError(
                "Nothing says which rows are meant." if not self.keys else "Two things say it.",
                why="Rows are named by a condition or by their keys.",
                next="For example: --where \"status = 'spam'\", or --key 42",
            )

    def __str__(self) -> str:
        return self.where if self.where is not None else f"key {', '.join(self.keys)}"


def read_condition(
    selection: Selection, table: Table, row: NamedFromClause
) -> tuple[ColumnElement[bool], Mapping[str, Any]]:
    """The selection as a condition on the row, and the values of its binds."""
    if selection.where is not None:
        condition: ColumnElement[Any] = parse_expression(table, selection.where)
        return condition, {}
    columns = table.row_identity
    values = [_read_key(text, columns) for text in selection.keys]
    binds = {f"key_{i}": [value[i] for value in values] for i in range(len(columns))}
    return has_key(table, row, columns), binds


def _read_key(text: str, columns: Sequence[str]) -> Sequence[str]:
    values = [text] if len(columns) == 1 else next(csv.reader([text], skipinitialspace=True), [])
    if len(values) != len(columns):
        raise ConfigError(
            f"The key {text!r} does not fit.",
            why=f"A row is known by {quote_all(tuple(columns))}: {len(columns)} values.",
            next="Write them with commas between, for example: --key 7,42",
        )
    return values
