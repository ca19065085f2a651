"""What stands against taking a deletion back, row by row, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from fkdoctor.identifier import quote, quote_all
from fkdoctor.inspect.graph import partition_family
from fkdoctor.schema import ForeignKey, Schema, Table
from fkdoctor.softdelete.shape import whole
from fkdoctor.softdelete.walk import Walk, describe
from fkdoctor.statement import restoration as sql
from fkdoctor.statement.parts import Query
from fkdoctor.statement.softdelete import GoneTable

_OTHER = "\0"  # which no name can hold


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a deletion did to a table: rows it took, or with `constraint` the columns it set."""

    number: int
    table: Table
    key_columns: tuple[str, ...]
    columns: tuple[str, ...]
    constraint: str | None
    rows: int


@dataclass(frozen=True, kw_only=True)
class _Question:
    """A query for rows in the way, and what it means of such a row.

    In `meaning`, _OTHER stands for the key of the other row that the query found.
    """

    query: Query
    table: Table
    meaning: str
    step: int | None = None


def key_of(schema: Schema, step: Step) -> ForeignKey | None:
    """The key that a step set, if it is still there."""
    for key in schema.keys_from(step.table.name):
        if key.name == step.constraint:
            return key
    return None


def find_conflicts(walk: Walk, steps: Sequence[Step], binds: Mapping[str, Any]) -> Iterator[str]:
    """Each row that cannot come back as it was, the first ten of a kind, and how many more."""
    for question in _questions(walk, steps):
        found = walk.connection.execute(question.query, {**binds, "step": question.step}).all()
        for row in found:
            yield f"{describe(question.table.name, [row.key], 1)}: {_tell(question, row)}"
        if found and found[0].number > len(found):
            yield f"and {found[0].number - len(found):,} more like the last one"


def _tell(question: _Question, row: Row[Any]) -> str:
    told = question.meaning
    if "other" in row._fields:
        told = told.replace(_OTHER, f"({', '.join(row.other)})")
    if "deletion" in row._fields:
        by = (
            f"deletion {row.deletion} took"
            if row.deletion
            else "is soft-deleted without a deletion"
        )
        told += f", which {by}"
    return told


def _questions(walk: Walk, steps: Sequence[Step]) -> Iterator[_Question]:
    for taken in walk.taken():
        yield from _about_rows(walk, walk.gone[taken.table])
    for step in steps:
        if step.constraint is not None:
            yield from _about_changes(walk, step)


def _about_rows(walk: Walk, gone: GoneTable) -> Iterator[_Question]:
    table, live = gone.table, f"({quote(walk.marks.time)} IS NULL)"
    for index in table.indexes:
        if index.unique and index.columns and index.predicate == live:
            yield _Question(
                query=sql.find_rivals(gone, index, walk.marks),
                table=table,
                meaning=f"the live row {_OTHER} has its {quote_all(index.columns)} now",
            )
    for member in partition_family(walk.schema, table.name):
        for key in walk.schema.keys_from(member):
            referenced = whole(walk.schema, key.referenced)
            if key.enforced and not key.period and referenced.has_column(walk.marks.time):
                by = walk.gone.get(referenced.name)
                target = walk.schema.table(key.referenced)
                yield _Question(
                    query=sql.find_deleted_referenced(gone, key, target, by, walk.marks),
                    table=table,
                    meaning=_leads(key),
                )


def _about_changes(walk: Walk, step: Step) -> Iterator[_Question]:
    yield _Question(
        query=sql.find_changed_since(step.table, step.key_columns, step.columns),
        table=step.table,
        meaning=f"it is gone, or its {quote_all(step.columns)} was changed since",
        step=step.number,
    )
    key = key_of(walk.schema, step)
    if key is None:
        return
    referenced = whole(walk.schema, key.referenced)
    if referenced.has_column(walk.marks.time):
        by = walk.gone.get(referenced.name)
        target = walk.schema.table(key.referenced)
        yield _Question(
            query=sql.find_deleted_remembered(step.table, key, target, by, walk.marks),
            table=step.table,
            meaning=_leads(key),
            step=step.number,
        )


def _leads(key: ForeignKey) -> str:
    return f"{quote(key.name)} leads to {key.referenced} {_OTHER}"
