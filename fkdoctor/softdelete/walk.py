"""Collects the rows that go, level by level along the foreign keys that cascade.

One statement a key and level: the rows are put into a temporary table of their own table and, when
something is about to be done, locked FOR UPDATE in the order of their keys. Referenced rows are
locked before referencing ones, so nothing can come to reference a row that was looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.errors import StalePlan
from fkdoctor.resources import execute_query
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, Table, TableName
from fkdoctor.softdelete.outcome import Taken
from fkdoctor.softdelete.shape import enforced_keys, lack, whole
from fkdoctor.statement import softdelete as sql
from fkdoctor.statement.softdelete import GoneTable, Marks

_MANY = 1_000


@dataclass(kw_only=True)
class Walk:
    """The rows found so far, by table; `via` are the keys by which rows of it were reached."""

    connection: Connection
    schema: Schema
    marks: Marks
    lock: bool
    gone: dict[TableName, GoneTable] = field(default_factory=dict)
    rows: dict[TableName, int] = field(default_factory=dict)
    via: dict[TableName, list[str]] = field(default_factory=dict)

    def open(self, table: Table) -> GoneTable:
        """The temporary table for the table, made when it is first asked for."""
        if table.name not in self.gone:
            keys = enforced_keys(self.schema, table)
            referenced = {column for key in keys for column in key.referenced_columns}
            gone = sql.gone_table(len(self.gone), table, referenced)
            self.connection.execute(sql.create_gone(gone))
            self.gone[table.name] = gone
            self.rows[table.name] = 0
            self.via[table.name] = []
        return self.gone[table.name]

    def note(self, gone: GoneTable, rows: int) -> None:
        """Count rows that were put in."""
        self.rows[gone.table.name] += rows
        if rows >= _MANY:
            self.connection.execute(sql.analyze_gone(gone))

    def taken(self) -> tuple[Taken, ...]:
        """The tables of which rows go, in the order in which they were reached."""
        return tuple(
            Taken(table=name, rows=rows, via=tuple(self.via[name]))
            for name, rows in self.rows.items()
            if rows
        )


def walk_from(
    walk: Walk,
    table: Table,
    row: NamedFromClause,
    condition: ColumnElement[bool],
    binds: Mapping[str, Any],
) -> None:
    """Collects the rows of the condition and all that go with them."""
    root = walk.open(table)
    query = sql.fill_roots(root, row, condition, lock=walk.lock)
    found = walk.connection.execute(query, binds).rowcount
    walk.note(root, found)
    reached = {table.name} if found else set()
    level = 0
    while reached:
        reached = _next_level(walk, level, reached)
        level += 1


def _next_level(walk: Walk, level: int, reached: set[TableName]) -> set[TableName]:
    """The tables of which new rows were found, one level deeper."""
    found = set()
    for name in sorted(reached):
        for key in cascading_keys(walk.schema, walk.gone[name].table):
            target = whole(walk.schema, key.referencing)
            if lack(target, walk.marks.time, walk.marks.deletion) is not None:
                continue
            by = walk.open(target)
            query = sql.fill_referencing(
                walk.gone[name],
                key,
                walk.schema.table(key.referencing),
                by,
                walk.marks,
                lock=walk.lock,
            )
            rows = walk.connection.execute(query, {"level": level}).rowcount
            if rows:
                walk.note(by, rows)
                found.add(target.name)
                if key.label not in walk.via[target.name]:
                    walk.via[target.name].append(key.label)
    return found


def cascading_keys(schema: Schema, table: Table) -> Iterator[ForeignKey]:
    """The keys along which rows go with rows of the table."""
    for key in enforced_keys(schema, table):
        if key.on_delete is ReferentialAction.CASCADE and not key.period:
            yield key


def describe(table: TableName, keys: list[list[str]], number: int) -> str:
    """Rows by their keys: `public.answer (1), (2) and 5 more`."""
    shown = ", ".join(f"({', '.join(map(str, key))})" for key in keys)
    more = f" and {number - len(keys):,} more" if number > len(keys) else ""
    return f"{table} {shown}{more}"


def require_same_keys(walk: Walk, tables: Sequence[Table]) -> None:
    """Raises StalePlan where a foreign key to the tables came or went since the schema was read.

    From the first change on, nobody can add one until the transaction ends.
    """
    for table in tables:
        for member in {table.name, *(key.referenced for key in enforced_keys(walk.schema, table))}:
            found = execute_query(
                walk.connection,
                "catalog/referencing_keys",
                table_schema=member.schema,
                table_name=member.name,
            ).scalars()
            if set(found) != {key.oid for key in walk.schema.keys_to(member)}:
                raise StalePlan(
                    "Refused: the schema has changed meanwhile; nothing was changed.",
                    why=f"A foreign key to {member} was added or dropped.",
                    next="Run the same command again.",
                )
