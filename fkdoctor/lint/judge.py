"""What the statements of a migration would do to a live database, and what to write instead.

The locks are those that PostgreSQL 12 to 18 take (documentation, "Explicit Locking"; a test
compares them with pg_locks). Seconds are rough: rows by a speed that a small server reaches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import said
from fkdoctor.errors import FkdoctorError
from fkdoctor.identifier import quote, quote_all
from fkdoctor.impact.ask import preview_statement
from fkdoctor.impact.effect import Impact, Verdict
from fkdoctor.impact.reach import find_family
from fkdoctor.impact.scope import Scope, find_target
from fkdoctor.inspect.graph import partition_family
from fkdoctor.lint.ddl import AddForeignKey, CreateTable, DropConstraint, DropTable, read_changes
from fkdoctor.lint.source import Passage
from fkdoctor.schema import ForeignKey, Schema, TableKind, TableName
from fkdoctor.statement.script import Command, Statement, Target, parse_script, read_words

CHECKED_ROWS, DELETED_ROWS = 1_500_000, 200_000
"""How many rows a second a new key is checked on, and are deleted."""

MANY = 10_000
"""More rows than this in one DELETE, or under a lock, are worth a word."""


class Level(IntEnum):
    """How grave a hazard is."""

    NOTE = 1
    WARNING = 2
    ERROR = 3

    @property
    def label(self) -> str:
        """The level in small letters."""
        return self.name.lower()


@dataclass(frozen=True, kw_only=True)
class Lock:
    """A lock that is held until the transaction ends."""

    table: TableName
    mode: str


@dataclass(frozen=True, kw_only=True)
class Hazard:
    """What a statement would do. `rows` are deleted, or checked under the locks.

    `safe` is SQL to write in its place. `impact` is there for what can be previewed.
    """

    path: Path
    line: int
    rule: str
    level: Level
    message: str
    locks: tuple[Lock, ...] = ()
    rows: int | None = None
    seconds: float | None = None
    safe: str | None = None
    impact: Impact | None = None


RULES = {
    "delete": "What a DELETE, or an UPDATE of keys, does to the rows that reference the rows.",
    "truncate": "TRUNCATE empties tables, and with CASCADE all that reference them.",
    "drop-table": "DROP TABLE drops the foreign keys to and from the table too.",
    "add-foreign-key": "A foreign key that is not added NOT VALID is checked while writers wait.",
    "drop-foreign-key": "Dropping a foreign key locks both tables against everybody.",
    "unknown-table": "A statement names a table that is not in the database.",
    "not-judged": "A statement could not be judged.",
}
"""The rules by their ids."""

ACCESS_EXCLUSIVE, SHARE_ROW_EXCLUSIVE = "ACCESS EXCLUSIVE", "SHARE ROW EXCLUSIVE"


def judge_passages(
    connection: Connection,
    schema: Schema,
    passages: Sequence[Passage],
    *,
    statement_timeout: int = 0,
) -> tuple[Hazard, ...]:
    """The hazards in the order of the passages; each is judged as if the others were not."""
    judge = _Judge(connection, schema, Scope(shown=1, statement_timeout=statement_timeout))
    return tuple(hazard for passage in passages for hazard in judge.judge(passage))


class _Judge:
    def __init__(self, connection: Connection, schema: Schema, scope: Scope) -> None:
        self.connection = connection
        self.schema = schema
        self.scope = scope
        self.created: set[Target] = set()

    def judge(self, passage: Passage) -> Iterator[Hazard]:
        if passage.sql is None:
            yield self._hazard(
                passage, "not-judged", Level.NOTE, "The SQL is only known when the file is run."
            )
            return
        verb = next((word.upper for word in read_words(passage.sql)), "")
        try:
            if verb in ("DELETE", "UPDATE", "TRUNCATE", "WITH"):
                yield from self._judge_statement(passage, passage.sql)
            for change in read_changes(passage.sql):
                match change:
                    case CreateTable():
                        self.created.add(change.table)
                    case DropTable():
                        yield from self._judge_drop(passage, change)
                    case AddForeignKey():
                        yield from self._judge_key(passage, change)
                    case DropConstraint():
                        yield from self._judge_constraint(passage, change)
        except FkdoctorError as problem:
            why = f"{problem.what} {problem.why}".strip()
            yield self._hazard(passage, "not-judged", Level.NOTE, why)
        except DBAPIError as problem:
            why = f"PostgreSQL refuses to look: {said(problem)}"
            yield self._hazard(passage, "not-judged", Level.NOTE, why)

    def _hazard(
        self,
        passage: Passage,
        rule: str,
        level: Level,
        message: str,
        *,
        locks: tuple[Lock, ...] = (),
        rows: int | None = None,
        seconds: float | None = None,
        safe: str | None = None,
        impact: Impact | None = None,
    ) -> Hazard:
        return Hazard(
            path=passage.path,
            line=passage.line,
            rule=rule,
            level=level,
            message=message,
            locks=locks,
            rows=rows,
            seconds=seconds,
            safe=safe,
            impact=impact,
        )

    def _find(self, target: Target) -> TableName | None:
        """The table; None if the migration makes it itself."""
        if target in self.created:
            return None
        with self.connection.begin():
            return find_target(self.connection, self.schema, target)

    def _rows(self, table: TableName) -> int | None:
        return self.schema.row_estimate(table)

    # Statements on rows.

    def _judge_statement(self, passage: Passage, sql: str) -> Iterator[Hazard]:
        if read_words(sql)[0].upper == "WITH" and not _deletes(sql):
            return
        for statement in parse_script(sql):
            if any(target in self.created for target in statement.targets):
                continue
            if statement.command is Command.UPDATE and not self._touches_keys(statement):
                continue
            if statement.parameters:
                text = "Its parameters are only known when the file is run."
                yield self._hazard(passage, "not-judged", Level.NOTE, text)
                continue
            impact = preview_statement(self.connection, self.schema, statement, scope=self.scope)
            yield self._judge_impact(passage, statement, impact)

    def _touches_keys(self, statement: Statement) -> bool:
        """Whether the UPDATE writes a column that some key names, on either side."""
        table = self._find(statement.target)
        if table is None:
            return False
        family = partition_family(self.schema, table)
        named = {
            column
            for key in self.schema.foreign_keys
            for side, columns in (
                (key.referencing, key.referencing_columns),
                (key.referenced, key.referenced_columns),
            )
            if side in family
            for column in columns
        }
        return not named.isdisjoint(statement.assignments)

    def _judge_impact(self, passage: Passage, statement: Statement, impact: Impact) -> Hazard:
        truncates = statement.command is Command.TRUNCATE
        tables = sorted({effect.table for effect in impact.effects if effect.rows or truncates})
        others = [table for table in tables if table != find_family(self.schema, impact.table)]
        if impact.verdict in (Verdict.BLOCKED, Verdict.BLOCKED_AT_COMMIT, Verdict.FAILS):
            level = Level.ERROR
        elif others or impact.caveats or impact.verdict is not Verdict.ALLOWED:
            level = Level.WARNING
        else:
            level = Level.WARNING if impact.deleted_rows > MANY else Level.NOTE
        mode = ACCESS_EXCLUSIVE if truncates else "ROW EXCLUSIVE"
        touched = sorted({find_family(self.schema, impact.table), *tables})
        written = impact.deleted_rows + impact.changed_rows
        return self._hazard(
            passage,
            "truncate" if truncates else "delete",
            level,
            _describe(impact, others),
            locks=tuple(Lock(table=table, mode=mode) for table in touched),
            rows=written,
            seconds=None if truncates else written / DELETED_ROWS,
            safe=self._in_batches(statement, impact),
            impact=impact,
        )

    def _in_batches(self, statement: Statement, impact: Impact) -> str | None:
        """The DELETE in batches, where it is large and its condition stands alone."""
        identity = self.schema.table(impact.table).row_identity
        if (
            statement.command is not Command.DELETE
            or statement.where is None
            or not identity
            or impact.deleted_rows <= MANY
            or impact.verdict is not Verdict.ALLOWED
        ):
            return None
        columns = quote_all(identity)
        where = statement.where.replace("\\:", ":")
        rows = ("FROM", str(impact.table), "AS", quote(statement.alias), "WHERE", where)
        return "\n".join(
            (
                "-- until it deletes nothing more, with a COMMIT after each",
                " ".join(("DELETE FROM", str(impact.table), "WHERE", f"({columns})", "IN (")),
                " ".join(("    SELECT", columns, *rows, "LIMIT 1000")),
                ");",
            )
        )

    # Statements on tables and keys.

    def _judge_drop(self, passage: Passage, change: DropTable) -> Iterator[Hazard]:
        names = [name for target in change.tables if (name := self._find(target)) is not None]
        dropped = {member for name in names for member in self._below(name)}
        for name in names:
            mine = self._below(name)
            inward = [
                key
                for key in self.schema.foreign_keys
                if key.referenced in mine and key.referencing not in dropped
            ]
            outward = [
                key
                for key in self.schema.foreign_keys
                if key.referencing in mine and key.referenced not in dropped
            ]
            locked = {name, *(key.referencing for key in inward)}
            locked |= {key.referenced for key in outward}
            rows = self._rows(name)
            message = f"{name} goes with {_about(rows)}."
            level = Level.WARNING
            if inward and not change.cascade:
                level = Level.ERROR
                message = f"It fails: {_list_keys(inward)} depend on {name}."
            elif inward:
                level = Level.ERROR
                message += (
                    f" CASCADE drops {_list_keys(inward)}, not the rows: they keep values that "
                    "lead nowhere."
                )
            yield self._hazard(
                passage,
                "drop-table",
                level,
                message,
                locks=tuple(Lock(table=one, mode=ACCESS_EXCLUSIVE) for one in sorted(locked)),
                rows=rows,
                safe="\n".join(
                    (
                        "SET lock_timeout = '2s';  -- and try again if it times out",
                        *(
                            f"ALTER TABLE {key.referencing} DROP CONSTRAINT {quote(key.name)};"
                            for key in (*inward, *outward)
                        ),
                        f"DROP TABLE {name};",
                    )
                ),
            )

    def _below(self, name: TableName) -> set[TableName]:
        """The table and its partitions."""
        family = partition_family(self.schema, name)
        return set(family[family.index(name) :])

    def _judge_key(self, passage: Passage, change: AddForeignKey) -> Iterator[Hazard]:
        table, referenced = self._find(change.table), self._find(change.referenced)
        if table is None or change.not_valid:
            return  # a table that is made here is empty; NOT VALID takes its locks for a moment
        rows = self._rows(table)
        partitioned = self.schema.table(table).kind is TableKind.PARTITIONED
        locks = [Lock(table=table, mode=SHARE_ROW_EXCLUSIVE)]
        if referenced is not None and referenced != table:
            locks.append(Lock(table=referenced, mode=SHARE_ROW_EXCLUSIVE))
        name = change.name or f"{table.name}_{'_'.join(change.columns)}_fkey"
        if partitioned and self.schema.major < 18:
            safe = (
                f"-- {table} is partitioned: before PostgreSQL 18 no key of it can be NOT VALID.\n"
                "-- Add it to each partition NOT VALID, validate it there, then here."
            )
        else:
            clause = change.definition
            if change.name is None:
                clause = f"CONSTRAINT {quote(name)} {clause}"
            safe = (
                f"ALTER TABLE {table} ADD {clause} NOT VALID;\n"
                f"COMMIT;\nALTER TABLE {table} VALIDATE CONSTRAINT {quote(name)};"
            )
        yield self._hazard(
            passage,
            "add-foreign-key",
            Level.WARNING if rows is not None and rows <= MANY else Level.ERROR,
            f"{_about(rows)} of {table} are checked while all who write to "
            f"{table} or {change.referenced} wait.",
            locks=tuple(locks),
            rows=rows,
            seconds=None if rows is None else rows / CHECKED_ROWS,
            safe=safe,
        )

    def _judge_constraint(self, passage: Passage, change: DropConstraint) -> Iterator[Hazard]:
        table = self._find(change.table)
        if table is None:
            return
        keys = [key for key in self.schema.keys_from(table) if key.name == change.name]
        for key in keys:
            locks = {key.referencing, key.referenced}
            yield self._hazard(
                passage,
                "drop-foreign-key",
                Level.WARNING,
                f"{key.referencing} and {key.referenced} are locked against everybody, readers too;"
                " behind a long transaction all others queue up.",
                locks=tuple(Lock(table=one, mode=ACCESS_EXCLUSIVE) for one in sorted(locks)),
                safe=(
                    "SET lock_timeout = '2s';  -- and try again if it times out\n"
                    f"ALTER TABLE {key.referencing} DROP CONSTRAINT {quote(key.name)};"
                ),
            )


def _deletes(sql: str) -> bool:
    return any(word.upper in ("DELETE", "UPDATE") for word in read_words(sql))


def _describe(impact: Impact, others: Sequence[TableName]) -> str:
    parts = [f"{impact.verdict.value.capitalize()}: {impact.deleted_rows:,} rows deleted"]
    if impact.changed_rows:
        parts.append(f"{impact.changed_rows:,} changed")
    text = ", ".join(parts)
    if others:
        text += f", also in {', '.join(str(table) for table in others)}"
    if impact.obstacles:
        text += f"; in the way: {', '.join(sorted({one.name for one in impact.obstacles}))}"
    if impact.caveats:
        text += f"; not foreseen: {impact.caveats[0].subject}"
    return f"{text}."


def _list_keys(keys: Sequence[ForeignKey]) -> str:
    return ", ".join(key.label for key in keys)


def _about(rows: int | None) -> str:
    return "an unknown number of rows" if rows is None else f"about {rows:,} rows"
