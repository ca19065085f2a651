"""Rows from the database for the model: one query per key and phase, nothing written, no lock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.impact.limits import refuse_unforeseen, relevant_rules
from fkdoctor.impact.rules import evaluate, read_default, refused_by_domain
from fkdoctor.impact.world import Claim, Image, Row, RowId, Value, Values, Verification
from fkdoctor.inspect.graph import partition_family
from fkdoctor.resources import execute_query
from fkdoctor.schema import ForeignKey, Index, Schema, Table, TableName
from fkdoctor.statement import lookup
from fkdoctor.statement.images import given_images, select_claims, select_failing
from fkdoctor.statement.parts import Query


class Restart(Exception):
    """Two spellings were found to be the same value after both had been handed out."""


class TooLarge(Exception):
    """More rows are reached than may be loaded."""


class Spellings:
    """One spelling per value, where a key takes several for the same: 1.0 and 1.00, citext.

    Columns that keys connect share their values. What is equal is learned from the rows that
    PostgreSQL finds.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._group: dict[tuple[TableName, str], tuple[TableName, str]] = {}
        self._chosen: dict[tuple[TableName, str], dict[str, str]] = defaultdict(dict)
        self._own: dict[tuple[TableName, str, str], str] = {}
        for key in schema.foreign_keys:
            for one, other in zip(key.referencing_columns, key.referenced_columns, strict=True):
                left = self._find(self._top(key.referencing), one)
                right = self._find(self._top(key.referenced), other)
                if left != right:
                    self._group[left] = right

    def _top(self, table: TableName) -> TableName:
        while (above := self._schema.table(table).partition_of) is not None:
            table = above
        return table

    def _find(self, table: TableName, column: str) -> tuple[TableName, str]:
        place = table, column
        while place in self._group:
            place = self._group[place]
        return place

    def choose(self, table: TableName, column: str, text: Value) -> Value:
        """The spelling that stands for the value of the column."""
        if text is None:
            return None
        top = self._top(table)
        chosen = self._chosen[self._find(top, column)].setdefault(text, text)
        self._own.setdefault((top, column, chosen), text)
        return chosen

    def spell(self, table: TableName, column: str, chosen: Value) -> Value:
        """The value as the column itself spells it."""
        return None if chosen is None else self._own.get((self._top(table), column, chosen), chosen)

    def equate(self, table: TableName, column: str, text: Value, chosen: Value) -> None:
        """Learns that the column's text is the value that `chosen` stands for."""
        assert text is not None
        assert chosen is not None
        group = self._chosen[self._find(self._top(table), column)]
        known = group.setdefault(text, chosen)
        if known != chosen:
            for spelling, standing in group.items():
                if standing == known:
                    group[spelling] = chosen
            raise Restart


class DatabaseRows:
    """The model's source of rows. Raises TooLarge beyond `limit` rows."""

    def __init__(
        self, connection: Connection, schema: Schema, spellings: Spellings, *, limit: int
    ) -> None:
        self.connection = connection
        self.schema = schema
        self.spellings = spellings
        self.left = limit
        self._names: dict[int, TableName] = {}
        self._carried: dict[TableName, tuple[str, ...]] = {}

    def carried(self, table: TableName) -> tuple[str, ...]:
        """The columns that keys name, of the table's rows under any of their names."""
        if table not in self._carried:
            columns: set[str] = set()
            for member in partition_family(self.schema, table):
                for key in self.schema.keys_from(member):
                    columns.update(key.referencing_columns)
                for key in self.schema.keys_to(member):
                    columns.update(key.referenced_columns)
            self._carried[table] = tuple(sorted(columns))
        return self._carried[table]

    def load(
        self, table: Table, rows: NamedFromClause, chosen: ColumnElement[bool]
    ) -> Iterable[Row]:
        """The rows of the table that `chosen` is true of."""
        return [row for _, row in self.load_places(table, rows, chosen)]

    def load_places(
        self, table: Table, rows: NamedFromClause, chosen: ColumnElement[bool]
    ) -> list[tuple[tuple[int, str], Row]]:
        """The rows that `chosen` is true of, each behind the place where it was found."""
        carried = self.carried(table.name)
        query = lookup.select_chosen(table, rows, chosen, carried, self.left + 1)
        found = self.connection.execute(query).all()
        self._count(len(found))
        return [
            ((leaf, at), self.make_row(leaf, at, dict(zip(carried, texts, strict=True))))
            for leaf, at, texts in found
        ]

    def _count(self, rows: int) -> None:
        self.left -= rows
        if self.left < 0:
            raise TooLarge

    def find_referencing(self, key: ForeignKey, values: Collection[Values]) -> Iterable[Row]:
        """The rows that reference any of the values by the key."""
        query = lookup.select_referencing(
            self.schema, key, self.carried(key.referencing), self.left + 1
        )
        spelled = self._spell(key.referenced, key.referenced_columns, values)
        return self._find(query, key.referencing, key.referencing_columns, values, spelled)

    def find_referenced(self, key: ForeignKey, values: Collection[Values]) -> Iterable[Row]:
        """The rows that have one of the values as their key."""
        query = lookup.select_referenced(
            self.schema, key, self.carried(key.referenced), self.left + 1
        )
        spelled = self._spell(key.referencing, key.referencing_columns, values)
        return self._find(query, key.referenced, key.referenced_columns, values, spelled)

    def _spell(
        self, table: TableName, columns: Sequence[str], values: Collection[Values]
    ) -> list[Values]:
        return [
            tuple(
                self.spellings.spell(table, column, value)
                for column, value in zip(columns, of_row, strict=True)
            )
            for of_row in values
        ]

    def _find(
        self,
        query: Query,
        table: TableName,
        columns: Sequence[str],
        values: Collection[Values],
        spelled: Sequence[Values],
    ) -> list[Row]:
        asked = list(values)
        binds = {f"value_{i}": [of_row[i] for of_row in spelled] for i in range(len(columns))}
        found = self.connection.execute(query, binds).all()
        self._count(len(found))
        carried = self.carried(table)
        rows = []
        for number, leaf, at, texts in found:
            by_column = dict(zip(carried, texts, strict=True))
            for column, value in zip(columns, asked[number - 1], strict=True):
                self.spellings.equate(table, column, by_column[column], value)
            rows.append(self.make_row(leaf, at, by_column))
        return rows

    def make_row(self, leaf: int, at: str, texts: Image) -> Row:
        """The row at the place, with the values that stand for the texts."""
        row = self._row_id(leaf, at)
        values = {
            column: self.spellings.choose(row.table, column, text) for column, text in texts.items()
        }
        return Row(id=row, values=values)

    def _row_id(self, leaf: int, at: str) -> RowId:
        if leaf not in self._names:
            name = execute_query(self.connection, "impact/table_names", oids=[leaf]).one()
            self._names[leaf] = TableName(name.schema, name.name)
        block, item = at.strip("()").split(",")
        return RowId(self._names[leaf], int(block), int(item))

    def find_default(self, table: TableName, column: str) -> Value:
        """The value that SET DEFAULT writes; Unsupported where it is computed each time."""
        text = read_default(self.connection, self.schema, table, column)
        return self.spellings.choose(table, column, text)

    def verify(
        self, table: TableName, images: Sequence[tuple[RowId, Image]]
    ) -> Sequence[Verification]:
        """For each row, what its table says of it with the changed columns."""
        described = self.schema.table(table)
        alike: dict[tuple[tuple[str, bool], ...], list[tuple[RowId, Image]]] = defaultdict(list)
        for row, change in images:
            shape = tuple((name, change[name] is None) for name in sorted(change))
            alike[shape].append((row, change))
        verified: dict[RowId, Verification] = {}
        for shape, group in alike.items():
            changed = [name for name, _ in shape]
            nulled = [name for name, null in shape if null]
            refuse_unforeseen(self.schema, described, changed, nulled)
            verified.update(self._verify_alike(described, changed, nulled, group))
        return [verified[row] for row, _ in images]

    def _verify_alike(
        self,
        table: Table,
        changed: Sequence[str],
        nulled: Sequence[str],
        group: Sequence[tuple[RowId, Image]],
    ) -> dict[RowId, Verification]:
        """What the table says of rows in which the same columns change, the same ones to NULL."""
        failing: dict[RowId, list[str]] = {row: [] for row, _ in group}
        claims: dict[RowId, list[Claim]] = {row: [] for row, _ in group}
        for name in changed:
            for value in {change[name] for _, change in group}:
                spelled = self.spellings.spell(table.name, name, value)
                refused = refused_by_domain(self.connection, table.column(name), spelled)
                if refused is not None:
                    for row, change in group:
                        if change[name] == value:
                            failing[row].append(refused)
        checks, indexes = relevant_rules(table, changed, nulled)
        if checks or indexes:
            rows = [row for row, _ in group]
            binds: dict[str, list[str | None]] = {
                "places": [f"({row.block},{row.item})" for row in rows]
            }
            for i, name in enumerate(changed):
                binds[f"value_{i}"] = [
                    self.spellings.spell(table.name, name, change[name]) for _, change in group
                ]
            given = given_images(table, changed)
            for check in checks:
                for (number,) in evaluate(
                    self.connection, select_failing(given, check), binds, check.name
                ):
                    failing[rows[number - 1]].append(check.name)
            for index in indexes:
                found = evaluate(
                    self.connection, select_claims(given, table, index), binds, index.name
                )
                for number, claim in self._read_claims(table, index, found):
                    claims[rows[number - 1]].append(claim)
        return {
            row: Verification(failing=tuple(failing[row]), claims=tuple(claims[row]))
            for row, _ in group
        }

    def _read_claims(
        self, table: Table, index: Index, found: Sequence[Any]
    ) -> Iterator[tuple[int, Claim]]:
        holders: dict[int, set[RowId]] = defaultdict(set)
        entries: dict[int, Values] = {}
        for number, entry, leaf, at in found:
            entries[number] = tuple(entry)
            if leaf is not None:
                holders[number].add(self._row_id(leaf, at))
        for number, entry in entries.items():
            yield (
                number,
                Claim(
                    index=index.constraint or index.name,
                    value=entry,
                    deferrable=not index.immediate,
                    holders=frozenset(holders[number]),
                ),
            )
