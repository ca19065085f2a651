"""References within values: the elements of arrays, and what a path leads to in JSON.

A temporary table has a row for each row in which some lead to duplicates: its identity as `key_i`,
the `value` that its column will hold, and the `clusters` that change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, TableClause
from sqlalchemy.dialects import postgresql

from fkdoctor.schema import Column, LogicalReference, Table, TableName
from fkdoctor.statement.journal import JOURNAL, RUN, STEP
from fkdoctor.statement.members import MemberTable, is_going
from fkdoctor.statement.parts import (
    NamedType,
    Query,
    alone,
    alone_change,
    as_text,
    collated,
    equal,
    holds,
    image,
    make_table,
    same_text,
    text_array,
)
from fkdoctor.statement.temporary import CreateFilled

_TEXTS = ("text", "character varying")
_NUMBERS = ("smallint", "integer", "bigint", "numeric")
f = sa.func.pg_catalog


class Walk:
    """The way through a JSON document: `source` are the elements on it, `value` what is at its end,
    and `place` its names and numbers, as a text[]. `array` is the place above a [*] at its end."""

    def __init__(self, document: ColumnElement[Any], path: tuple[str | None, ...]) -> None:
        self.value = document
        self.source: FromClause | None = None
        names: list[ColumnElement[Any]] = []
        self.array: ColumnElement[Any] = _texts(names)
        self.number: ColumnElement[Any] = sa.literal(0)
        for depth, name in enumerate(path):
            if name is not None:
                self.value = self.value.op("->", return_type=postgresql.JSONB())(
                    sa.literal(name, sa.Text)
                )
                names.append(sa.literal(name, sa.Text))
                continue
            self.array = _texts(names)
            is_array = f.jsonb_typeof(self.value) == "array"
            elements = (
                f.jsonb_array_elements(sa.case((is_array, self.value)))
                .table_valued("value", with_ordinality="place")
                .render_derived(f"element_{depth}")
                .lateral()
            )
            above: Any = self.source
            self.source = above.join(elements, sa.true()) if above is not None else elements
            self.value, self.number = elements.c.value, elements.c.place
            names.append(as_text(elements.c.place - 1))
        self.place = _texts(names)

    @property
    def text(self) -> ColumnElement[str]:
        """The number or string at the end, as text."""
        return self.value.op("#>>", return_type=sa.Text())(_texts([]))

    @property
    def is_key(self) -> ColumnElement[bool]:
        """Whether there is a number or string."""
        return f.jsonb_typeof(self.value).in_(["number", "string"])


def _texts(names: list[ColumnElement[Any]]) -> ColumnElement[Any]:
    return sa.cast(postgresql.array(names, type_=sa.Text), sa.ARRAY(sa.Text))


def select_keys_in_json(
    document: ColumnElement[Any], path: tuple[str | None, ...], label: str
) -> Query:
    """What the path leads to in the document, as texts."""
    walk = Walk(sa.cast(document, postgresql.JSONB), path)
    query = sa.select(walk.text.label(label)).where(walk.is_key)
    return query if walk.source is None else query.select_from(walk.source)


@dataclass(frozen=True, kw_only=True)
class EmbeddedTable:
    """The temporary table for one reference. `going` are the members of the referencing table."""

    reference: LogicalReference
    table: Table
    members: MemberTable
    going: MemberTable | None
    number: int

    @property
    def name(self) -> str:
        """The name of the temporary table."""
        return f"fkdoctor_embedded_{self.number}"

    @property
    def place(self) -> tuple[TableName, str]:
        """The table and the column that hold the references."""
        return self.table.name, self.reference.referencing_column

    @property
    def column(self) -> Column:
        """The column that holds the references."""
        return self.table.column(self.reference.referencing_column)

    @property
    def identity(self) -> tuple[str, ...]:
        """What identifies a row of the referencing table."""
        return self.table.row_identity

    @cached_property
    def clause(self) -> TableClause:
        """The temporary table itself."""
        names = [f"key_{i}" for i in range(len(self.identity))]
        return make_table(TableName("pg_temp", self.name), (*names, "value", "clusters"))

    def rows(self, alias: str) -> FromClause:
        """The referencing table."""
        columns = [column.name for column in self.table.columns]
        return make_table(self.table.name, columns).alias(alias)

    def key(self, clause: FromClause) -> list[ColumnElement[Any]]:
        """The columns `key_i` of the clause as the identity."""
        return [
            collated(self.table.column(name), clause.c[f"key_{i}"])
            for i, name in enumerate(self.identity)
        ]

    def leads_to(self, text: ColumnElement[Any], map_: FromClause) -> ColumnElement[bool]:
        """Whether the reference leads to the duplicate in `map_`."""
        (key,) = self.members.values("member", [self.reference.referenced_column], map_)
        referenced = self.members.column(self.reference.referenced_column)
        as_key: ColumnElement[bool]
        if self.reference.path or _is_other(self.column, referenced):
            as_key = same_text(as_text(key)) == same_text(text)
        else:
            as_key = key == text
        return sa.and_(as_key, ~map_.c.is_survivor)

    def keep(self, map_: FromClause) -> ColumnElement[Any]:
        """The value to reference in its place."""
        (key,) = self.members.values("keep", [self.reference.referenced_column], map_)
        return key


def _is_other(column: Column, referenced: Column) -> bool:
    """Whether an array keeps as texts what the key keeps otherwise."""
    return column.base_type.removesuffix("[]") in _TEXTS and referenced.base_type not in _TEXTS


def _elements(embedded: EmbeddedTable, rows: FromClause) -> tuple[FromClause, Any, Any]:
    """The rows with what they hold: the source, what compares with keys, and a Walk or elements."""
    value = rows.c[embedded.column.name]
    if embedded.reference.path:
        walk = Walk(value, embedded.reference.path)
        source = rows if walk.source is None else rows.join(walk.source, sa.true())
        return source, sa.case((walk.is_key, walk.text)), walk
    elements = (
        f.unnest(value)
        .table_valued("value", with_ordinality="place")
        .render_derived("element")
        .lateral()
    )
    return rows.join(elements, sa.true()), elements.c.value, elements


def _select_hits(embedded: EmbeddedTable, *, without_keep: bool = False) -> Query:
    """The rows that reference duplicates and stay, once for each reference, with its `cluster`.

    With `without_keep`, only duplicates in whose place there is nothing to reference.
    """
    rows, map_ = embedded.rows("holding"), embedded.members.clause.alias("map")
    source, text, _ = _elements(embedded, rows)
    query = sa.select(
        *(rows.c[name].label(f"key_{i}") for i, name in enumerate(embedded.identity)),
        map_.c.cluster,
    ).select_from(source.join(map_, embedded.leads_to(text, map_)))
    if embedded.reference.condition is not None:
        query = query.where(holds(embedded.table, embedded.reference.condition, rows))
    if embedded.going:
        query = query.where(~is_going(embedded.going, rows))
    if without_keep:
        query = query.where(embedded.keep(map_).is_(None))
    return alone(query, embedded.table, rows)


def count_hits(embedded: EmbeddedTable) -> Query:
    """How many rows reference duplicates, and stay."""
    hits = _select_hits(embedded).subquery("hits")
    keys = [hits.c[f"key_{i}"] for i in range(len(embedded.identity))]
    each = sa.select(*keys).distinct().subquery("each")
    return sa.select(sa.func.count()).select_from(each)


def find_lost(embedded: EmbeddedTable) -> Query:
    """The rows that stay and reference one that goes with none in its place: their identity, at
    most ten."""
    hits = _select_hits(embedded, without_keep=True).subquery("hits")
    key = text_array([hits.c[f"key_{i}"] for i in range(len(embedded.identity))])
    return sa.select(key).distinct().limit(10)


def find_own(embedded: EmbeddedTable) -> Query:
    """The survivors that reference a duplicate of their own: their identity, at most ten."""
    map_ = embedded.members.clause
    rows = embedded.rows("holding")
    source, text, _ = _elements(embedded, rows)
    key = embedded.members.values("keep", embedded.members.key_columns, map_)
    here = equal([rows.c[name] for name in embedded.members.key_columns], key)
    query = sa.select(text_array([rows.c[name] for name in embedded.identity])).select_from(
        source.join(map_, sa.and_(embedded.leads_to(text, map_), here))
    )
    return alone(query.distinct().limit(10), embedded.table, rows)


def find_matrices(embedded: EmbeddedTable) -> Query:
    """The rows of which the array has several dimensions: their identity, at most ten."""
    rows = embedded.rows("holding")
    query = sa.select(text_array([rows.c[name] for name in embedded.identity])).where(
        f.array_ndims(rows.c[embedded.column.name]) > 1
    )
    return alone(query.limit(10), embedded.table, rows)


def create_embedded(embedded: EmbeddedTable) -> CreateFilled:
    """Computes what the rows will hold. Of the elements that lead to one survivor through the
    merge, the first stays; all others stay as and where they are."""
    hits = _select_hits(embedded).cte("hits")
    keys = [hits.c[f"key_{i}"] for i in range(len(embedded.identity))]
    clusters = sa.func.array_agg(hits.c.cluster.distinct()).label("clusters")
    each = sa.select(*keys, clusters).group_by(*keys).cte("each")
    values = _json_values(embedded, each) if embedded.reference.path else _arrays(embedded, each)
    here = equal(embedded.key(each), embedded.key(values))
    return CreateFilled(
        embedded.name,
        sa.select(
            *(each.c[f"key_{i}"] for i in range(len(embedded.identity))),
            values.c.value,
            each.c.clusters,
        ).select_from(each.join(values, here)),
    )


def _held(
    embedded: EmbeddedTable, each: FromClause
) -> tuple[list[ColumnElement[Any]], FromClause, FromClause, Any, FromClause]:
    """The identity of the rows in `each`, their source with the map joined where an element leads
    to a duplicate, the map, the elements, and the rows."""
    rows, map_ = embedded.rows("row_now"), embedded.members.clause.alias("map")
    source, text, elements = _elements(embedded, rows)
    here = equal([rows.c[name] for name in embedded.identity], embedded.key(each))
    keys: list[ColumnElement[Any]] = [
        rows.c[name].label(f"key_{i}") for i, name in enumerate(embedded.identity)
    ]
    joined = source.join(each, here).outerjoin(map_, embedded.leads_to(text, map_))
    return keys, joined, map_, elements, rows


def _drop_repeated(
    keys: Sequence[ColumnElement[Any]], found: FromClause
) -> tuple[list[ColumnElement[Any]], ColumnElement[bool]]:
    """The final elements of `found`, and whether each is the first of those that lead to one row
    through the merge, or untouched by it."""
    final = sa.func.coalesce(found.c.keep, found.c.element).label("final")
    alike = [*keys, sa.func.coalesce(found.c.keep, found.c.element)]
    reached = sa.func.bool_or(found.c.keep.is_not(None)).over(partition_by=alike)
    first = sa.func.min(found.c.place).over(partition_by=alike)
    return [*keys, found.c.place, final], sa.or_(~reached, found.c.place == first)


def _arrays(embedded: EmbeddedTable, each: FromClause) -> FromClause:
    column = embedded.column
    element_type = NamedType(column.base_type.removesuffix("[]"))
    keys, joined, map_, elements, rows = _held(embedded, each)
    found = alone(
        sa.select(
            *keys,
            elements.c.value.label("element"),
            elements.c.place,
            sa.cast(embedded.keep(map_), element_type).label("keep"),
        ).select_from(joined),
        embedded.table,
        rows,
    ).subquery("found")
    names = [found.c[f"key_{i}"] for i in range(len(embedded.identity))]
    selected, stays = _drop_repeated(names, found)
    judged = sa.select(*selected, stays.label("stays")).subquery("judged")
    keys = [judged.c[f"key_{i}"] for i in range(len(embedded.identity))]
    ordered = postgresql.aggregate_order_by(judged.c.final, judged.c.place)
    together = sa.func.array_agg(ordered).filter(judged.c.stays)
    return (
        sa.select(*keys, sa.cast(together, NamedType(column.type)).label("value"))
        .group_by(*keys)
        .subquery("arrays")
    )


def _json_values(embedded: EmbeddedTable, each: FromClause) -> FromClause:
    """The documents, in which one place after the other is changed."""
    width = range(len(embedded.identity))
    changes = _json_changes(embedded, each).subquery("changes")
    keys = [changes.c[f"key_{i}"] for i in width]
    number = sa.func.row_number().over(partition_by=keys, order_by=changes.c.place)
    numbered = sa.select(*keys, changes.c.place, changes.c.new, number.label("number")).cte(
        "numbered"
    )
    rows = embedded.rows("document")
    here = equal([rows.c[name] for name in embedded.identity], embedded.key(each))
    value: ColumnElement[Any] = sa.cast(rows.c[embedded.column.name], postgresql.JSONB)
    begin = alone(
        sa.select(
            *(each.c[f"key_{i}"] for i in width),
            value.label("value"),
            sa.cast(sa.literal(0), sa.BigInteger).label("number"),
        ).select_from(each.join(rows, here)),
        embedded.table,
        rows,
    )
    fold = begin.cte("fold", recursive=True)
    next_ = sa.and_(
        equal(embedded.key(fold), embedded.key(numbered)), numbered.c.number == fold.c.number + 1
    )
    changed = sa.case(
        (f.cardinality(numbered.c.place) == 0, numbered.c.new),
        else_=f.jsonb_set(fold.c.value, numbered.c.place, numbered.c.new),
    )
    fold = fold.union_all(
        sa.select(*(fold.c[f"key_{i}"] for i in width), changed, numbered.c.number).select_from(
            fold.join(numbered, next_)
        )
    )
    keys = [fold.c[f"key_{i}"] for i in width]
    last = sa.func.row_number().over(partition_by=keys, order_by=fold.c.number.desc())
    ends = sa.select(*keys, fold.c.value, last.label("last")).subquery("ends")
    return sa.select(ends).where(ends.c.last == 1).subquery("documents")


def _json_changes(embedded: EmbeddedTable, each: FromClause) -> Query:
    """What is to be set in the documents: `key_i`, `place`, a text[], and the `new` value there."""
    keys, joined, map_, walk, rows = _held(embedded, each)
    keep = embedded.keep(map_)
    new: ColumnElement[Any] = f.to_jsonb(as_text(keep))
    if embedded.members.column(embedded.reference.referenced_column).base_type in _NUMBERS:
        new = sa.case((f.jsonb_typeof(walk.value) == "number", f.to_jsonb(keep)), else_=new)
    moved = map_.c.cluster.is_not(None)
    if embedded.reference.path[-1] is not None:
        query = sa.select(*keys, walk.place.label("place"), new.label("new")).where(moved)
        return alone(query.select_from(joined), embedded.table, rows)
    found = alone(
        sa.select(
            *keys,
            walk.array.label("array"),
            walk.number.label("place"),
            walk.value.label("element"),
            sa.case((moved, new)).label("keep"),
        ).select_from(joined),
        embedded.table,
        rows,
    ).subquery("found")
    names = [*(found.c[f"key_{i}"] for i in range(len(embedded.identity))), found.c.array]
    selected, stays = _drop_repeated(names, found)
    moving = found.c.keep.is_not(None).label("moving")
    judged = sa.select(*selected, stays.label("stays"), moving).subquery("judged")
    keys = [judged.c[f"key_{i}"] for i in range(len(embedded.identity))]
    ordered = postgresql.aggregate_order_by(judged.c.final, judged.c.place)
    together = f.jsonb_agg(ordered).filter(judged.c.stays)
    return (
        sa.select(*keys, judged.c.array.label("place"), together.label("new"))
        .group_by(*keys, judged.c.array)
        .having(sa.func.bool_or(judged.c.moving))
    )


def count_embedded(embedded: EmbeddedTable) -> Query:
    """How many rows change."""
    return sa.select(sa.func.count()).select_from(embedded.clause)


def select_embedded_ties(embedded: EmbeddedTable) -> Query:
    """Which clusters meet in one row, where it is more than one: an integer[] a row."""
    clusters = embedded.clause.c.clusters
    return sa.select(clusters).where(f.cardinality(clusters) > 1).distinct()


def select_member_ties(embedded: EmbeddedTable) -> Query:
    """Which clusters meet where a member holds a reference to a duplicate of another one: an
    integer[] a row.

    The member is of the referencing table; that its reference moves changes it.
    """
    own = embedded.going
    assert own is not None
    mine = own.clause.alias("mine")
    hits = _select_hits(replace(embedded, going=None)).subquery("hits")
    here = equal(embedded.key(hits), own.values("member", embedded.identity, mine))
    return (
        sa.select(postgresql.array([mine.c.cluster, hits.c.cluster]))
        .select_from(hits.join(mine, here))
        .where(mine.c.cluster != hits.c.cluster)
        .distinct()
    )


def select_shared_ties(one: EmbeddedTable, other: EmbeddedTable) -> Query:
    """Which clusters meet in one row by two references in one column: an integer[] a row."""
    first, second = one.clause, other.clause
    together = f.array_cat(first.c.clusters, second.c.clusters)
    return (
        sa.select(together)
        .select_from(first.join(second, equal(one.key(first), other.key(second))))
        .where(first.c.clusters != second.c.clusters)
        .distinct()
    )


def repoint_embedded(embedded: EmbeddedTable) -> Query:
    """Writes the rows' new values, and the old ones into the journal.

    What an earlier step says of the same column, of those in the bind `alike`, is amended: the old
    value stays, the new one is another. One row: how many rows changed, and how many of them do not
    hold what they should.
    """
    table, column = embedded.table, embedded.column
    names = {*embedded.identity, column.name}
    new, old = make_table(table.name, names), make_table(table.name, names).alias("old")
    key = embedded.key(embedded.clause)
    found = alone(
        sa.select(
            *(value.label(f"key_{i}") for i, value in enumerate(key)),
            embedded.clause.c.clusters,
            embedded.clause.c.value,
            old.c[column.name].label("old"),
        ).select_from(
            embedded.clause.join(old, equal([old.c[name] for name in embedded.identity], key))
        ),
        table,
        old,
    ).subquery("found")
    first: ColumnElement[int] = sa.type_coerce(found.c.clusters, sa.ARRAY(sa.Integer))[1]
    wanted = same_text(as_text(new.c[column.name])) == same_text(as_text(found.c.value))
    changed = (
        alone_change(sa.update(new), table)
        .values({column.name: found.c.value})
        .where(equal([new.c[name] for name in embedded.identity], embedded.key(found)))
        .returning(
            first.label("cluster"),
            text_array([new.c[name] for name in embedded.identity]).label("key"),
            image([column], [found.c.old]).label("before"),
            image([column], [new.c[column.name]]).label("after"),
            wanted.label("wanted"),
        )
        .cte("changed")
    )
    followed = sa.bindparam("followed", type_=sa.Boolean)
    entry = (changed.c.cluster, STEP, changed.c.key, changed.c.before, changed.c.after, followed)
    alike = sa.bindparam("alike", type_=sa.ARRAY(sa.Integer))
    amended = (
        sa.update(JOURNAL)
        .values(after=changed.c.after)
        .where(
            JOURNAL.c.run_id == RUN,
            JOURNAL.c.step == sa.any_(alike),
            JOURNAL.c.key == same_text(changed.c.key),
        )
        .returning(JOURNAL.c.key.label("key"))
        .cte("amended")
    )
    known = sa.select(sa.literal(1)).where(amended.c.key == same_text(changed.c.key))
    entries = sa.select(RUN, *entry).where(~known.correlate(changed).exists())
    written = JOURNAL.insert().from_select(list(JOURNAL.c), entries).cte("written")
    astray = sa.func.count().filter(changed.c.wanted.is_not(True))
    return sa.select(sa.func.count(), astray).select_from(changed).add_cte(written)
