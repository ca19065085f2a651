"""What SET NULL and SET DEFAULT of a DELETE change, and what could refuse it.

A *change* is a row in a temporary table: where the changed row is (`leaf`, `at`), in which phase
(`level`), by which key (`via`), and the level at which the row goes itself (`until`; NULL: it
stays).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Insert, Subquery, TableClause
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql import quoted_name
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import Constraint, ForeignKey, Index, Schema, Table, TableName
from fkdoctor.statement.closure import GONE, Check, Closure, Hop, compared, is_at_binds
from fkdoctor.statement.images import index_entries, refuses, same_entry
from fkdoctor.statement.lookup import TID, rows_of
from fkdoctor.statement.parts import Query, alone, make_table, match_key, plain_type, quoted

_COLUMNS = ("leaf", "at", "level", "via", "until")


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The temporary table of the changes to rows of `table`, the topmost of its partitions."""

    table: Table
    number: int

    @property
    def name(self) -> str:
        """The temporary table's name."""
        return f"fkdoctor_changed_{self.number}"

    @cached_property
    def clause(self) -> TableClause:
        """The temporary table."""
        return make_table(TableName("pg_temp", self.name), _COLUMNS)

    def is_at(self, rows: FromClause) -> ColumnElement[bool]:
        """Whether the change is one of the row."""
        return sa.and_(self.clause.c.leaf == rows.c.tableoid, self.clause.c.at == rows.c.ctid)


def create_changes(changes: Changes) -> CreateTable:
    """DDL of the table of changes; it goes with the transaction."""
    columns: list[sa.Column[Any]] = [sa.Column("leaf", OID), sa.Column("at", TID)]
    columns += [sa.Column(name, sa.Integer) for name in _COLUMNS[2:]]
    return CreateTable(
        sa.Table(
            changes.name,
            sa.MetaData(),
            *columns,
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DROP",
        )
    )


def insert_changes(changes: Changes, check: Check) -> Insert:
    """Puts the rows in that the hop's key changes: those that have not gone before."""
    hop = check.hop
    until = sa.null() if check.gone is None else check.gone.c.level
    query = (
        sa.select(
            hop.rows.c.tableoid,
            hop.rows.c.ctid,
            hop.source.clause.c.level + 1,
            sa.literal_column(str(hop.number)),
            until,
        )
        .select_from(check.joined)
        .where(check.state != GONE)
    )
    return changes.clause.insert().from_select(
        list(changes.clause.c), alone(query, hop.referencing, hop.rows)
    )


def count_changes(changes: Changes) -> Query:
    """How many changes there are: via, level, whether the row stays, whether contested, number.

    Contested is one of a row that goes in the same phase.
    """
    own = changes.clause.c
    columns = (
        own.via,
        own.level,
        own.until.is_(None),
        sa.func.coalesce(own.until == own.level, False),
    )
    return sa.select(*columns, sa.func.count()).group_by(*columns).order_by(*columns)


def count_changed_rows(changes: Changes) -> Query:
    """How many rows are changed and stay, and how many rows are changed more than once."""
    own = changes.clause.c
    rows = (
        sa.select(
            sa.func.count().label("times"), sa.func.bool_and(own.until.is_(None)).label("stays")
        )
        .group_by(own.leaf, own.at)
        .subquery("rows")
    )
    stays, twice = rows.c.stays, rows.c.times > 1
    return sa.select(sa.func.count().filter(stays), sa.func.count().filter(twice)).select_from(rows)


def show_changes(changes: Changes, limit: int) -> Query:
    """Some changes of rows that stay, at the binds `via` and `level`: the rows' places."""
    own = changes.clause.c
    here = (own.via == sa.bindparam("via"), own.level == sa.bindparam("level"))
    places = (sa.cast(own.leaf, sa.BigInteger), sa.cast(own.at, sa.Text))
    query = sa.select(*places).where(*here, own.until.is_(None))
    return query.order_by(own.leaf, own.at).limit(limit)


def find_change(changes: Changes) -> Query:
    """Level and via of the first change of the row at the binds `leaf` and `at`."""
    own = changes.clause.c
    query = sa.select(own.level, own.via).where(is_at_binds(own.leaf, own.at))
    return query.order_by(own.level, own.via).limit(1)


def finds_other_reference(changes: Changes, via: int, other: Hop) -> Query:
    """Whether a row changed by the key numbered `via` references by `other` a row that goes."""
    joined = other.joined.join(changes.clause, changes.is_at(other.rows))
    query = sa.select(sa.literal(1)).select_from(joined).where(changes.clause.c.via == via)
    return _exists(alone(query, other.referencing, other.rows))


def finds_referencing(changes: Changes, via: int, key: ForeignKey, schema: Schema) -> Query:
    """Whether a row that `via` changes is itself referenced by `key`."""
    table, referencing = schema.table(key.referenced), schema.table(key.referencing)
    rows, others = rows_of(table, "changed"), rows_of(referencing, "referencing")
    values = compared(
        [table.column(name) for name in key.referenced_columns],
        [referencing.column(name) for name in key.referencing_columns],
        [rows.c[name] for name in key.referenced_columns],
    )
    matches = match_key(key, values, [others.c[name] for name in key.referencing_columns])
    joined = changes.clause.join(rows, changes.is_at(rows)).join(others, matches)
    query = sa.select(sa.literal(1)).select_from(joined).where(changes.clause.c.via == via)
    return _exists(alone(alone(query, table, rows), referencing, others))


def finds_look(
    changes: Changes, key: ForeignKey, schema: Schema, nulling: Sequence[int], gone: Closure | None
) -> Query:
    """Whether a row changed twice references by `key` a row that goes or that is not there.

    PostgreSQL looks at all references of such a row again, but for those that are NULL by then:
    `nulling` are the keys that see to that.
    """
    table, referenced = schema.table(key.referencing), schema.table(key.referenced)
    rows, targets = rows_of(table, "changed"), rows_of(referenced, "target")
    own = changes.clause.c
    kept = sa.func.bool_and(own.via.not_in(nulling)) if nulling else sa.true()
    twice = (
        sa.select(own.leaf, own.at)
        .group_by(own.leaf, own.at)
        .having(sa.func.count() > 1, kept)
        .subquery("twice")
    )
    at = sa.and_(twice.c.leaf == rows.c.tableoid, twice.c.at == rows.c.ctid)
    values = [rows.c[name] for name in key.referencing_columns]
    matches = match_key(key, _pointed_at(referenced, targets, key), values)
    found = alone(sa.select(sa.literal(1)).select_from(targets).where(matches), referenced, targets)
    wrong = ~found.exists()
    if gone is not None:
        goes = match_key(key, _going(gone, key), values)
        wrong = sa.or_(
            wrong, sa.select(sa.literal(1)).select_from(gone.clause).where(goes).exists()
        )
    query = sa.select(sa.literal(1)).select_from(twice.join(rows, at))
    query = query.where(*(value.is_not(None) for value in values), wrong)
    return _exists(alone(query, table, rows))


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one key does to rows of `referencing`: `new` are the columns it writes, as text."""

    changes: Changes
    via: int
    referencing: Table
    new: Mapping[str, str | None]

    @cached_property
    def rows(self) -> NamedFromClause:
        """The rows, as they were."""
        return rows_of(self.referencing, "changed")

    @cached_property
    def joined(self) -> FromClause:
        """The changes by the key with their rows."""
        own = self.changes.clause
        return own.join(self.rows, sa.and_(own.c.via == self.via, self.changes.is_at(self.rows)))

    def values(self, names: Sequence[str]) -> list[ColumnElement[Any]]:
        """What becomes of the columns."""
        return [self._written(name) if name in self.new else self.rows.c[name] for name in names]

    def _written(self, name: str) -> ColumnElement[Any]:
        text = self.new[name]
        value = sa.null() if text is None else sa.literal(text, sa.Text)
        return sa.cast(value, plain_type(self.referencing.column(name)))

    def select(self, broken: ColumnElement[bool]) -> Query:
        """The changes that break something, as `count_broken` and `show_broken` take them."""
        own = self.changes.clause.c
        query = sa.select(own.level, own.until, own.leaf, own.at).select_from(self.joined)
        return alone(query.where(broken), self.referencing, self.rows)


def count_broken(broken: Query) -> Query:
    """How many changes break something: level, until, number."""
    own = broken.subquery("broken").c
    columns = (own.level, own.until)
    return sa.select(*columns, sa.func.count()).group_by(*columns).order_by(*columns)


def show_broken(broken: Query, limit: int) -> Query:
    """Some changes that break something, of rows that stay if there are any: leaf, at, level."""
    own = broken.subquery("broken").c
    places = (sa.cast(own.leaf, sa.BigInteger), sa.cast(own.at, sa.Text))
    order = (own.until.desc().nulls_first(), own.level, own.leaf, own.at)
    return sa.select(*places, own.level).order_by(*order).limit(limit)


def select_partly_null(change: Change, key: ForeignKey) -> Query:
    """The changes after which only a part of the reference by `key` is NULL."""
    values = change.values(key.referencing_columns)
    none, some = (value.is_(None) for value in values), (value.is_not(None) for value in values)
    return change.select(sa.and_(sa.or_(*none), sa.or_(*some)))


def select_absent(change: Change, key: ForeignKey, referenced: Table) -> Query:
    """The changes after which `key` leads to no row."""
    targets = rows_of(referenced, "target")
    values = change.values(key.referencing_columns)
    matches = match_key(key, _pointed_at(referenced, targets, key), values)
    found = alone(sa.select(sa.literal(1)).select_from(targets).where(matches), referenced, targets)
    return change.select(sa.and_(*(value.is_not(None) for value in values), ~found.exists()))


def finds_new_reference(change: Change, key: ForeignKey, gone: Closure) -> Query:
    """Whether `key` leads a changed row to one that goes."""
    matches = match_key(key, _going(gone, key), change.values(key.referencing_columns))
    query = sa.select(sa.literal(1)).select_from(change.joined.join(gone.clause, matches))
    return _exists(alone(query, change.referencing, change.rows))


def _pointed_at(table: Table, rows: FromClause, key: ForeignKey) -> list[ColumnElement[Any]]:
    names = key.referenced_columns
    return _as_referenced(table, names, [rows.c[name] for name in names])


def _going(gone: Closure, key: ForeignKey) -> list[ColumnElement[Any]]:
    return _as_referenced(gone.table, key.referenced_columns, gone.values(key.referenced_columns))


def _as_referenced(
    table: Table, names: Sequence[str], values: Sequence[ColumnElement[Any]]
) -> list[ColumnElement[Any]]:
    """The values in the collation of the referenced columns, in which PostgreSQL looks them up."""
    collations = [table.column(name).collation for name in names]
    return [
        value if collation is None else value.collate(quoted_name(collation, quote=False))
        for value, collation in zip(values, collations, strict=True)
    ]


def _exists(query: Query) -> Query:
    return sa.select(query.exists())


# What a partition's own rules say. `change.referencing` is the partition itself here.

_LEVEL, _UNTIL, _LEAF, _AT = "fkdoctor_level", "fkdoctor_until", "fkdoctor_leaf", "fkdoctor_at"


def _images(change: Change) -> Subquery:
    """The rows as they become, called like the table, as its expressions are."""
    own = change.changes.clause.c
    names = [column.name for column in change.referencing.columns]
    query = sa.select(
        own.level.label(_LEVEL),
        own.until.label(_UNTIL),
        own.leaf.label(_LEAF),
        own.at.label(_AT),
        *(
            value.label(quoted(name))
            for name, value in zip(names, change.values(names), strict=True)
        ),
    ).select_from(change.joined)
    query = alone(query, change.referencing, change.rows)
    return query.subquery(quoted(change.referencing.name.name))


def select_refused(change: Change, check: Constraint) -> Query:
    """The changes that the CHECK constraint refuses."""
    images = _images(change)
    columns = zip(("level", "until", "leaf", "at"), (_LEVEL, _UNTIL, _LEAF, _AT), strict=True)
    query = sa.select(*(images.c[own].label(name) for name, own in columns))
    return query.select_from(images).where(refuses(check))


def finds_collision(change: Change, index: Index) -> Query:
    """Whether a change brings a row in the way of another in the unique index."""
    kept = [_LEAF, _AT]
    wanted = index_entries(_images(change), index, kept, "wanted")
    other = index_entries(_images(change), index, kept, "other")
    rows = rows_of(change.referencing, change.referencing.name.name)
    held = index_entries(rows, index, ["tableoid", "ctid"], "held")
    by_held = sa.and_(same_entry(index, wanted, held), wanted.c[_AT] != held.c.ctid)
    by_other = sa.and_(same_entry(index, wanted, other), wanted.c[_AT] != other.c[_AT])
    one = sa.literal(1)
    in_way = alone(sa.select(one).select_from(wanted.join(held, by_held)), change.referencing, rows)
    together = sa.select(one).select_from(wanted.join(other, by_other))
    return sa.select(sa.or_(in_way.exists(), together.exists()))
