"""Which rows reference nothing, or half: by a key's own operators, as PostgreSQL checks it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import quoted_name
from sqlalchemy.sql.selectable import NamedFromClause

from fkdoctor.schema import (
    Column,
    ForeignKey,
    LogicalReference,
    MatchType,
    ModelPolymorph,
    Schema,
    TableName,
    compared_as,
)
from fkdoctor.statement.embedded import select_keys_in_json
from fkdoctor.statement.members import row_identity
from fkdoctor.statement.parts import Query, alone, as_text, make_table, match_key, plain_type

Reference = ForeignKey | LogicalReference


def count_dangling(schema: Schema, reference: Reference) -> Query:
    """How many rows the reference does not allow: one number."""
    rows, dangling = _dangling(schema, reference, percent=None)
    return _select(schema, reference, rows, [sa.func.count()]).where(*dangling)


def sample_dangling(schema: Schema, reference: Reference, percent: float) -> Query:
    """How many rows of so many percent of the blocks reference something, and how many in vain."""
    rows, (given, absent) = _dangling(schema, reference, percent=percent)
    counts = [sa.func.count(), sa.func.count().filter(absent)]
    return _select(schema, reference, rows, counts).where(given)


def find_dangling(
    schema: Schema, reference: Reference, limit: int, *, ordered: bool = False
) -> Query:
    """Up to `limit` such rows: the row's key, then its reference, as text."""
    rows, dangling = _dangling(schema, reference, percent=None)
    identity = [rows.c[name] for name in identity_columns(schema, reference)]
    pointer = (
        [rows.c[name] for name in reference.referencing_columns]
        if isinstance(reference, ForeignKey)
        else [_pointer(reference, rows)]
    )
    columns = [as_text(value) for value in (*identity, *pointer)]
    query = _select(schema, reference, rows, columns).where(*dangling).limit(limit)
    return query.order_by(*identity) if ordered else query


def lock_dangling(schema: Schema, key: ForeignKey, columns: Sequence[str], limit: int) -> Query:
    """Up to `limit` such rows, locked: these columns, and where the row is (ctid)."""
    rows, dangling = _dangling(schema, key, percent=None, more=(*columns, "ctid"))
    values = [rows.c[name] for name in (*columns, "ctid")]
    query = _select(schema, key, rows, values).where(*dangling).limit(limit)
    return query.with_for_update(of=rows)


def count_kinds(table: TableName, kind: str, key: str, percent: float, limit: int) -> Query:
    """The commonest values of `kind` in rows with a `key`, of a sample, and how often they come."""
    rows = make_table(table, {kind, key}).tablesample(sa.func.system(percent), name="referencing")
    number = sa.func.count()
    return (
        sa.select(as_text(rows.c[kind]), number)
        .where(rows.c[kind].is_not(None), rows.c[key].is_not(None))
        .group_by(rows.c[kind])
        .order_by(number.desc(), rows.c[kind])
        .limit(limit)
    )


def count_model_kinds(pair: ModelPolymorph, percent: float) -> Query:
    """The kinds as `app_label.model` in rows with a key, commonest first, and how often they come.

    Of all rows, or of so many percent of the blocks if fewer than 100.
    """
    table = make_table(pair.table, {pair.kind, pair.key})
    rows = (
        table.tablesample(sa.func.system(percent), name="referencing")
        if percent < 100
        else table.alias("referencing")
    )
    kinds = make_table(pair.kinds, {"id", "app_label", "model"}).alias("kinds")
    name = as_text(kinds.c.app_label).concat(".").concat(as_text(kinds.c.model))
    number = sa.func.count()
    return (
        sa.select(name, number)
        .select_from(rows.join(kinds, kinds.c.id == rows.c[pair.kind]))
        .where(rows.c[pair.key].is_not(None))
        .group_by(name)
        .order_by(number.desc(), name)
    )


def is_of_model_kind(pair: ModelPolymorph, kind: str) -> str:
    """The condition, as SQL, that a row is of the kind `app_label.model`."""
    app_label, _, model = kind.partition(".")
    kinds = make_table(pair.kinds, {"id", "app_label", "model"})
    number = (
        sa.select(kinds.c.id)
        .where(kinds.c.app_label == app_label, kinds.c.model == model)
        .scalar_subquery()
    )
    condition = sa.column(quoted_name(pair.kind, quote=None)) == number
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    compiled = condition.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    return " ".join(str(compiled).split())


def count_half_null(schema: Schema, key: ForeignKey) -> Query:
    """How many rows have NULL in some of the key's columns and a value in others."""
    rows = _referencing(schema, key, percent=None)
    given = [rows.c[name].is_not(None) for name in key.referencing_columns]
    return _select(schema, key, rows, [sa.func.count()]).where(sa.or_(*given), ~sa.and_(*given))


def count_under_deleted(
    schema: Schema, key: ForeignKey, mark: Column, own_mark: Column | None
) -> Query:
    """How many rows, alive ones where the table marks its own, reference one marked as deleted."""
    rows = _referencing(schema, key, percent=None, more=[own_mark.name] if own_mark else [])
    target = make_table(key.referenced, {*key.referenced_columns, mark.name}).alias("referenced")
    found = (
        alone(sa.select(sa.literal(1)).select_from(target), schema.table(key.referenced), target)
        .where(
            match_key(
                key, [target.c[name] for name in key.referenced_columns], _values(schema, key, rows)
            ),
            ~_alive(target, mark),
        )
        .correlate(rows)
    )
    query = _select(schema, key, rows, [sa.func.count()]).where(found.exists())
    return query.where(_alive(rows, own_mark)) if own_mark else query


def seek_default(schema: Schema, key: ForeignKey) -> Query | None:
    """1 where no referenced row is the one that SET DEFAULT leads to, else 0.

    None where a column has no default, which means NULL, and so no row; or gets another each time.
    """
    here = schema.table(key.referencing)
    defaults = [here.column(name).default for name in key.referencing_columns]
    if None in defaults or any("nextval(" in (default or "") for default in defaults):
        return None
    if any(here.column(name).identity for name in key.referencing_columns):
        return None
    if key.set_columns and set(key.set_columns) != set(key.referencing_columns):
        return None
    target = make_table(key.referenced, key.referenced_columns).alias("referenced")
    values = [
        sa.cast(sa.literal_column(f"({default})"), plain_type(here.column(name)))
        for name, default in zip(key.referencing_columns, defaults, strict=True)
    ]
    there = [target.c[name] for name in key.referenced_columns]
    found = alone(
        sa.select(sa.literal(1)).select_from(target), schema.table(key.referenced), target
    ).where(match_key(key, there, values))
    given = sa.and_(*(value.is_not(None) for value in values))
    return sa.select(sa.cast(sa.and_(given, ~found.exists()), sa.Integer))


def _alive(rows: FromClause, mark: Column) -> ColumnElement[bool]:
    column = rows.c[mark.name]
    if mark.base_type == "boolean":
        return sa.cast(column, sa.Boolean).is_not(sa.true())
    return column.is_(None)


def identity_columns(schema: Schema, reference: Reference) -> tuple[str, ...]:
    """The columns by which `find_dangling` names a row."""
    return row_identity(schema.table(reference.referencing)) or ("ctid",)


def _dangling(
    schema: Schema, reference: Reference, percent: float | None, more: Sequence[str] = ()
) -> tuple[NamedFromClause, tuple[ColumnElement[bool], ColumnElement[bool]]]:
    """The referencing rows, whether one references something, and whether that is not there.

    With MATCH SIMPLE a row with a NULL in the reference references nothing, with MATCH FULL only
    one with NULL in all (ri_triggers.c, RI_Initial_Check).
    """
    rows = _referencing(schema, reference, percent, more)
    if isinstance(reference, LogicalReference):
        target = make_table(reference.referenced, [reference.referenced_column]).alias("referenced")
        pointer = _pointer(reference, rows)
        key: ColumnElement[Any] = target.c[reference.referenced_column]
        if reference.path or _keeps_as_text(schema, reference):
            key = as_text(key)
        found = sa.select(sa.literal(1)).select_from(target).where(key == pointer).correlate(rows)
        return rows, (pointer.is_not(None), ~found.exists())
    given = [rows.c[name].is_not(None) for name in reference.referencing_columns]
    checked = sa.or_(*given) if reference.match is MatchType.FULL else sa.and_(*given)
    if reference.period:
        return rows, (checked, ~_covered(schema, reference, rows))
    target = make_table(reference.referenced, reference.referenced_columns).alias("referenced")
    found = alone(
        sa.select(sa.literal(1)).select_from(target), schema.table(reference.referenced), target
    )
    keys = [target.c[name] for name in reference.referenced_columns]
    found = found.where(match_key(reference, keys, _values(schema, reference, rows)))
    return rows, (checked, ~found.correlate(rows).exists())


def _keeps_as_text(schema: Schema, reference: LogicalReference) -> bool:
    """Whether keys of another type are kept as text, as where they are those of any table."""
    here = schema.table(reference.referencing).column(reference.referencing_column)
    there = schema.table(reference.referenced).column(reference.referenced_column)
    one = replace(here, base_type=here.base_type.removesuffix("[]"))
    return one.base_type != there.base_type and compared_as(there, one) == ("text", "text")


def _covered(schema: Schema, key: ForeignKey, rows: FromClause) -> ColumnElement[bool]:
    """Whether referenced rows together cover the row's period (the last column, 18 and newer)."""
    *names, period = key.referenced_columns
    *pointers, span = (rows.c[name] for name in key.referencing_columns)
    target = make_table(key.referenced, key.referenced_columns).alias("referenced")
    same = [
        target.c[name].op(f"OPERATOR({operator.name})", is_comparison=True)(pointer)
        for name, operator, pointer in zip(names, key.operators, pointers, strict=False)
    ]
    union = sa.func.pg_catalog.range_agg(target.c[period])
    covering = (
        alone(sa.select(union).select_from(target), schema.table(key.referenced), target)
        .where(*same)
        .correlate(rows)
        .scalar_subquery()
    )
    contained = span.op("OPERATOR(pg_catalog.<@)", is_comparison=True)(covering)
    return sa.func.coalesce(contained, sa.false())


def _values(schema: Schema, key: ForeignKey, rows: FromClause) -> Sequence[ColumnElement[Any]]:
    """The row's reference, in the collation of the referenced columns where theirs is another."""
    here, there = schema.table(key.referencing), schema.table(key.referenced)
    values = []
    for name, target in zip(key.referencing_columns, key.referenced_columns, strict=True):
        collation = there.column(target).collation
        value: ColumnElement[Any] = rows.c[name]
        if collation is not None and collation != here.column(name).collation:
            value = value.collate(quoted_name(collation, quote=False))
        values.append(value)
    return values


def _referencing(
    schema: Schema, reference: Reference, percent: float | None, more: Sequence[str] = ()
) -> NamedFromClause:
    columns = {*identity_columns(schema, reference), *more}
    if isinstance(reference, ForeignKey):
        columns |= set(reference.referencing_columns)
    else:
        columns.add(reference.referencing_column)
    table = make_table(reference.referencing, columns)
    if percent is None:
        return table.alias("referencing")
    return table.tablesample(sa.func.system(percent), name="referencing")


_ELEMENT = "fkdoctor_element"


def _pointer(reference: LogicalReference, rows: FromClause) -> ColumnElement[Any]:
    if reference.embedded:
        return sa.column(_ELEMENT)
    column: ColumnElement[Any] = rows.c[reference.referencing_column]
    return column


def _select(
    schema: Schema,
    reference: Reference,
    rows: NamedFromClause,
    columns: Sequence[ColumnElement[Any]],
) -> Query:
    """A SELECT from the referencing rows, or from the elements of their arrays."""
    if isinstance(reference, ForeignKey):
        query = sa.select(*columns).select_from(rows)
        return alone(query, schema.table(reference.referencing), rows)
    source: FromClause = rows
    if reference.path:
        document = rows.c[reference.referencing_column]
        keys = select_keys_in_json(document, reference.path, _ELEMENT)
        source = rows.join(keys.lateral("elements"), sa.true())
    if reference.elements:
        elements = sa.func.pg_catalog.unnest(rows.c[reference.referencing_column])
        source = rows.join(
            elements.table_valued(_ELEMENT).render_derived("elements").lateral(), sa.true()
        )
    query = sa.select(*columns).select_from(source)
    if reference.condition is not None:
        query = query.where(sa.text(f"({reference.condition.replace(':', chr(92) + ':')})"))
    return query
