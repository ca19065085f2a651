"""The foreign keys as a graph to be drawn: boxes for tables, arrows from referencing to referenced.

A partitioned table stands for its partitions. Tables without a key in scope are left out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fkdoctor.audit import Report, Severity
from fkdoctor.identifier import quote, quote_all
from fkdoctor.inspect.graph import find_cycles
from fkdoctor.schema import ForeignKey, LogicalReference, Schema, TableName

COLOURS = {
    "CASCADE": "#d55e00",
    "SET NULL": "#0072b2",
    "SET DEFAULT": "#56b4e9",
    "RESTRICT": "#009e73",
    "NO ACTION": "#888888",
    "logical": "#cc79a7",
}
"""A colour for each rule, and for references that only fkdoctor.toml declares.

Told apart also by those who confuse red and green (Okabe and Ito, 2008).
"""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A table: `title` as short as it can be, `worst` of its findings, whether it is in a cycle."""

    table: TableName
    title: str
    rows: int | None
    worst: Severity | None
    cyclic: bool


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """A reference between two boxes, by their positions in the diagram.

    `rule` is one of COLOURS; `loose` is whether PostgreSQL does not keep it, or not for all rows;
    `cyclic` is whether it is part of a circle.
    """

    label: str
    columns: str
    source: int
    target: int
    rule: str
    loose: bool
    cyclic: bool
    worst: Severity | None


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """What is to be drawn."""

    database: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def make_diagram(report: Report) -> Diagram:
    """The graph of the report's keys and logical references."""
    schema = report.schema
    whole = _Wholes(schema)
    logical = tuple(
        one
        for one in schema.references
        if report.scope.covers(one.referencing) or report.scope.covers(one.referenced)
    )
    by_key, by_table = _worst(report, whole)
    # Keys of partitions that say the same as those of others are drawn once, with the worst mark.
    groups: dict[_Drawn, list[str]] = defaultdict(list)
    references: tuple[ForeignKey | LogicalReference, ...] = (*report.foreign_keys, *logical)
    for one in references:
        groups[_draw(one, whole)].append(one.label)
    tables = sorted({table for drawn in groups for table in (drawn.source, drawn.target)})
    position = {table: number for number, table in enumerate(tables)}
    circle = {table: number for number, group in enumerate(find_cycles(schema)) for table in group}
    short = len({table.schema for table in tables}) == 1
    return Diagram(
        database=schema.database,
        boxes=tuple(
            Box(
                table=table,
                title=quote(table.name) if short else str(table),
                rows=schema.row_estimate(table),
                worst=by_table.get(table),
                cyclic=table in circle,
            )
            for table in tables
        ),
        arrows=tuple(
            Arrow(
                label=labels[0],
                columns=drawn.columns,
                source=position[drawn.source],
                target=position[drawn.target],
                rule=drawn.rule,
                loose=drawn.loose,
                cyclic=(
                    drawn.source != drawn.target
                    and drawn.source in circle
                    and circle[drawn.source] == circle.get(drawn.target)
                ),
                worst=max((by_key[label] for label in labels if label in by_key), default=None),
            )
            for drawn, labels in groups.items()
        ),
    )


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """What one sees of a reference."""

    source: TableName
    target: TableName
    columns: str
    rule: str
    loose: bool


def _draw(reference: ForeignKey | LogicalReference, whole: _Wholes) -> _Drawn:
    target = whole.of(reference.referenced)
    if isinstance(reference, LogicalReference):
        rule, loose = "logical", True
        there = reference.referenced_column
    else:
        rule, loose = reference.on_delete.sql, not (reference.enforced and reference.validated)
        there = quote_all(reference.referenced_columns)
    here, _, _ = reference.arrow.partition(" → ")
    return _Drawn(
        source=whole.of(reference.referencing),
        target=target,
        columns=f"{here} → {target}({there})",
        rule=rule,
        loose=loose,
    )


class _Wholes:
    """Which partitioned table a partition belongs to."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def of(self, table: TableName) -> TableName:
        while (above := self._schema.table(table).partition_of) is not None:
            table = above
        return table


def _worst(report: Report, whole: _Wholes) -> tuple[dict[str, Severity], dict[TableName, Severity]]:
    """The gravest finding of each key and of each table; a key's counts for its own table."""
    by_key: dict[str, Severity] = {}
    by_table: dict[TableName, Severity] = {}
    for finding in report.findings:
        for key in finding.keys[:1]:
            by_key[key.label] = max(finding.severity, by_key.get(key.label, Severity.INFO))
            table = whole.of(key.referencing)
            by_table[table] = max(finding.severity, by_table.get(table, Severity.INFO))
        for named in finding.tables if not finding.keys else ():
            if report.schema.has_table(named):
                table = whole.of(named)
                by_table[table] = max(finding.severity, by_table.get(table, Severity.INFO))
    return by_key, by_table
