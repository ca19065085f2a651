"""Do the rows keep what the keys say? Each key is asked in a short transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import lost, read_snapshot, said, set_local
from fkdoctor.identifier import quote
from fkdoctor.inspect.failure import LOCK_TIMEOUT_MS
from fkdoctor.inspect.logical import find_likenesses, find_polymorphs
from fkdoctor.inspect.soft_delete import soft_delete_column
from fkdoctor.schema import (
    Flaw,
    ForeignKey,
    KindCount,
    LogicalReference,
    MatchType,
    ModelPolymorph,
    ReferentialAction,
    RowCount,
    Schema,
    TableName,
    Unread,
    compared_as,
)
from fkdoctor.statement.dangling import (
    Reference,
    count_dangling,
    count_half_null,
    count_kinds,
    count_model_kinds,
    count_under_deleted,
    find_dangling,
    identity_columns,
    is_of_model_kind,
    sample_dangling,
    seek_default,
)
from fkdoctor.statement.parts import Query

SHOWN = 10
"""How many rows are named for each reference."""

SAMPLED = 20_000
"""About how many rows a sample has; a table with fewer is counted at once."""


GUESSED = 2_000
"""About how many rows are looked at to tell whether a column is a reference at all."""


@dataclass(frozen=True, kw_only=True)
class Thoroughness:
    """How the rows are looked at: a sample of them, or all; and how long one query may run."""

    exact: bool
    statement_timeout: int


def choose_references(schema: Schema, covers: Callable[[TableName], bool]) -> tuple[Reference, ...]:
    """The keys, logical references and likely ones from or to a table that is asked about."""
    likely = [
        likeness
        for likeness in (*find_likenesses(schema), *find_likenesses(schema, elements=True))
        if not likeness.in_json
    ]
    everything: tuple[Reference, ...] = (
        *schema.foreign_keys,
        *schema.references,
        *(likeness.reference for likeness in likely),
    )
    return tuple(one for one in everything if covers(one.referencing) or covers(one.referenced))


def count_rows(
    connection: Connection,
    schema: Schema,
    references: Iterable[Reference],
    thoroughness: Thoroughness,
) -> Iterator[tuple[tuple[RowCount, ...], tuple[Unread, ...]]]:
    """For each reference in turn: what its rows are like, and what could not be found out.

    First a sample of the rows, which soon shows if much is wrong, then all of them. Nothing is
    locked but by ACCESS SHARE, for the time of one query.
    """
    for reference in references:
        counts: list[RowCount] = []
        unread: list[Unread] = []
        for question in _questions(schema, reference, thoroughness):
            try:
                with read_snapshot(
                    connection,
                    statement_timeout=thoroughness.statement_timeout,
                    lock_timeout=LOCK_TIMEOUT_MS,
                ):
                    # Better an error than a count of what the policies show.
                    set_local(connection, row_security="off")
                    found = question.ask(connection)
            except DBAPIError as error:
                if lost(error):
                    raise
                unread.append(
                    Unread(subject=f"{question.subject} of {reference.label}", reason=said(error))
                )
            else:
                # The exact count takes the place of the sample's.
                counts = [one for one in counts if one.flaw is not found.flaw] + [found]
        yield tuple(counts), tuple(unread)


MOST_KINDS = 20


def count_kinds_of_references(
    connection: Connection,
    schema: Schema,
    covers: Callable[[TableName], bool],
    statement_timeout: int,
) -> Schema:
    """The schema with the kinds that columns such as owner_type name, by a sample of the rows."""
    kinds: list[KindCount] = []
    unread: list[Unread] = []
    for pair in find_polymorphs(schema):
        if not covers(pair.table):
            continue
        percent = min(100.0, 100 * GUESSED / max(schema.row_estimate(pair.table) or 1, 1))
        query = count_kinds(pair.table, pair.kind.name, pair.key.name, percent, MOST_KINDS)
        try:
            with read_snapshot(
                connection, statement_timeout=statement_timeout, lock_timeout=LOCK_TIMEOUT_MS
            ):
                set_local(connection, row_security="off")
                found = connection.execute(query).all()
        except DBAPIError as error:
            if lost(error):
                raise
            what = f"the kinds in {pair.table}.{quote(pair.kind.name)}"
            unread.append(Unread(subject=what, reason=said(error)))
        else:
            kinds += (
                KindCount(table=pair.table, key=pair.key.name, kind=kind, count=number)
                for kind, number in found
            )
    return replace(schema, kinds=(*schema.kinds, *kinds), unread=(*schema.unread, *unread))


def declare_model_polymorphs(
    connection: Connection,
    schema: Schema,
    covers: Callable[[TableName], bool],
    thoroughness: Thoroughness,
) -> Schema:
    """The schema with a reference for each kind that the rows of a model's polymorphic pair have.

    By all rows, or by a sample of a large table where `thoroughness` is not exact.
    """
    kinds: list[KindCount] = []
    references: list[LogicalReference] = []
    unread: list[Unread] = []
    for pair in schema.model_polymorphs:
        if not (covers(pair.table) and schema.has_table(pair.table)):
            continue
        rows = max(schema.row_estimate(pair.table) or 1, 1)
        percent = 100.0 if thoroughness.exact else min(100.0, 100 * SAMPLED / rows)
        try:
            with read_snapshot(
                connection,
                statement_timeout=thoroughness.statement_timeout,
                lock_timeout=LOCK_TIMEOUT_MS,
            ):
                set_local(connection, row_security="off")
                found = connection.execute(count_model_kinds(pair, percent)).all()
        except DBAPIError as error:
            if lost(error):
                raise
            what = f"the kinds in {pair.table}.{quote(pair.kind)}"
            unread.append(Unread(subject=what, reason=said(error)))
            continue
        for kind, count in found:
            kinds.append(KindCount(table=pair.table, key=pair.key, kind=kind, count=count))
            references += _references_of_kind(schema, pair, kind)
    return replace(
        schema,
        kinds=(*schema.kinds, *kinds),
        references=(*schema.references, *references),
        unread=(*schema.unread, *unread),
    )


def _references_of_kind(
    schema: Schema, pair: ModelPolymorph, kind: str
) -> Iterator[LogicalReference]:
    """The reference of the rows of that kind, if a model is that and its table is there."""
    for name, table, column in pair.targets:
        if name != kind or not schema.has_table(table):
            continue
        here, there = schema.table(pair.table), schema.table(table)
        if there.has_column(column) and compared_as(there.column(column), here.column(pair.key)):
            yield LogicalReference(
                referencing=pair.table,
                referencing_column=pair.key,
                referenced=table,
                referenced_column=column,
                condition=is_of_model_kind(pair, kind),
            )


def with_rows_counted(
    schema: Schema, counts: Iterable[RowCount], unread: Iterable[Unread]
) -> Schema:
    """The schema with what was found in its rows, and with what could not be."""
    return replace(
        schema,
        row_counts=(*schema.row_counts, *counts),
        unread=(*schema.unread, *unread),
    )


@dataclass(frozen=True, kw_only=True)
class _Question:
    subject: str
    ask: Callable[[Connection], RowCount]


def _questions(
    schema: Schema, reference: Reference, thoroughness: Thoroughness
) -> Iterator[_Question]:
    estimate = schema.row_estimate(reference.referencing)
    if isinstance(reference, LogicalReference) and reference.guessed:
        share = min(100.0, 100 * GUESSED / max(estimate or 1, 1))
        yield _Question(
            subject="a sample of the rows",
            ask=lambda connection: _sample(connection, schema, reference, share),
        )
        return
    large = estimate is not None and estimate > SAMPLED
    if large:
        percent = max(100 * SAMPLED / (estimate or 1), 0.0001)
        yield _Question(
            subject="a sample of the rows",
            ask=lambda connection: _sample(connection, schema, reference, percent),
        )
    if large and not thoroughness.exact:
        return
    yield _Question(
        subject="the rows", ask=lambda connection: _count_dangling(connection, schema, reference)
    )
    if isinstance(reference, LogicalReference) or not reference.enforced:
        return
    yield from _key_questions(schema, reference)


def _key_questions(schema: Schema, key: ForeignKey) -> Iterator[_Question]:
    here, there = schema.table(key.referencing), schema.table(key.referenced)
    nullable = [name for name in key.referencing_columns if not here.column(name).not_null]
    if nullable and len(key.referencing_columns) > 1 and key.match is MatchType.SIMPLE:
        yield _counting(key, Flaw.HALF_NULL, "half-null rows", count_half_null(schema, key))
    mark = soft_delete_column(schema, there)
    if mark is not None and not key.period:
        own = soft_delete_column(schema, here)
        query = count_under_deleted(schema, key, mark, own)
        yield _counting(key, Flaw.UNDER_DELETED, "rows that reference deleted ones", query)
    if ReferentialAction.SET_DEFAULT in (key.on_delete, key.on_update):
        default = seek_default(schema, key)
        if default is not None:
            yield _counting(key, Flaw.NO_DEFAULT, "the row of the default", default)


def _counting(key: ForeignKey, flaw: Flaw, subject: str, query: Query) -> _Question:
    def ask(connection: Connection) -> RowCount:
        return RowCount(
            reference=key.label, flaw=flaw, count=connection.execute(query).scalar_one()
        )

    return _Question(subject=subject, ask=ask)


def _sample(
    connection: Connection, schema: Schema, reference: Reference, percent: float
) -> RowCount:
    looked_at, count = connection.execute(sample_dangling(schema, reference, percent)).one()
    return RowCount(reference=reference.label, flaw=Flaw.DANGLING, count=count, looked_at=looked_at)


def _count_dangling(connection: Connection, schema: Schema, reference: Reference) -> RowCount:
    count = connection.execute(count_dangling(schema, reference)).scalar_one()
    rows = connection.execute(find_dangling(schema, reference, SHOWN)).all() if count else ()
    return RowCount(
        reference=reference.label,
        flaw=Flaw.DANGLING,
        count=count,
        identity=identity_columns(schema, reference) if count else (),
        rows=tuple(tuple(row) for row in rows),
    )
