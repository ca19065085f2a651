"""What survivors take over from their duplicates, column by column.

A temporary table has a row for each survivor that changes: its identity as `key_i`, and each column
that has a rule as `value_i`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, FromClause, Subquery, TableClause
from sqlalchemy.dialects import postgresql

from fkdoctor.schema import Column, TableName
from fkdoctor.statement.expression import DUPLICATE, SURVIVOR, parse_merging
from fkdoctor.statement.journal import JOURNAL, RUN, STEP
from fkdoctor.statement.members import MemberTable
from fkdoctor.statement.parts import (
    NamedType,
    Query,
    alone,
    alone_change,
    as_text,
    collated,
    equal,
    image,
    make_table,
    quoted,
    read_text,
    same_text,
    text_array,
)
from fkdoctor.statement.temporary import CreateFilled


@dataclass(frozen=True, kw_only=True)
class FieldTable:
    """The temporary table for the members. `rules` are by column: what is done, and with what."""

    members: MemberTable
    rules: Mapping[str, tuple[str, str]]

    @property
    def name(self) -> str:
        """The name of the temporary table."""
        return f"fkdoctor_field_of_{self.members.name}"

    @cached_property
    def clause(self) -> TableClause:
        """The temporary table itself."""
        names = [f"key_{i}" for i in range(self.members.key_width)]
        names += [f"value_{i}" for i in range(len(self.rules))]
        return make_table(TableName("pg_temp", self.name), names)

    @property
    def columns(self) -> list[Column]:
        """The columns that have a rule."""
        return [self.members.table.column(name) for name in self.rules]


def create_fields(fields: FieldTable) -> CreateFilled:
    """Computes what each survivor will hold, from the rows as they are; only where it changes."""
    rows = _ranked_rows(fields)
    keep = [rows.c[f"keep_{i}"] for i in range(fields.members.key_width)]
    values = [
        _aggregate(rows, number, column, *fields.rules[column.name])
        for number, column in enumerate(fields.columns)
    ]
    grouped = (
        sa.select(
            *keep,
            *(value.label(f"value_{i}") for i, value in enumerate(values)),
        )
        .group_by(*keep)
        .subquery("grouped")
    )
    finished = [
        _finish(fields, grouped, number, column) for number, column in enumerate(fields.columns)
    ]
    merged = sa.select(
        *(grouped.c[f"keep_{i}"] for i in range(fields.members.key_width)),
        *(value.label(f"value_{i}") for i, value in enumerate(finished)),
    ).subquery("merged")
    now = fields.members.row
    key = [
        collated(fields.members.column(name), merged.c[f"keep_{i}"])
        for i, name in enumerate(fields.members.key_columns)
    ]
    changes = [
        same_text(as_text(merged.c[f"value_{i}"])).is_distinct_from(
            same_text(as_text(now.c[column.name]))
        )
        for i, column in enumerate(fields.columns)
    ]
    return CreateFilled(
        fields.name,
        alone(
            sa.select(
                *(value.label(f"key_{i}") for i, value in enumerate(key)),
                *(merged.c[f"value_{i}"] for i in range(len(values))),
            )
            .select_from(merged.join(now, equal(fields.members.row_key, key)))
            .where(sa.or_(*changes)),
            fields.members.table,
            now,
        ),
    )


def create_demotions(fields: FieldTable, value: str | None) -> CreateFilled:
    """The members that do not survive, each with the value (a text) for the one column."""
    (column,) = fields.columns
    members = fields.members
    return CreateFilled(
        fields.name,
        sa.select(
            *(key.label(f"key_{i}") for i, key in enumerate(members.member_key)),
            sa.cast(sa.literal(value, sa.Text), NamedType(column.type)).label("value_0"),
        ).where(~members.clause.c.is_survivor),
    )


def _ranked_rows(fields: FieldTable) -> Subquery:
    """The rows of all merges: `keep_i`, the columns as `column_i`, and `place` in the merge.

    For each column, `pick_i` says whether it is the row that the rule picks, and `new_i` whether it
    is the first that holds its value.
    """
    members, row = fields.members, fields.members.row
    keep = [members.clause.c[f"keep_{i}"] for i in range(members.key_width)]
    usual = [members.clause.c.is_survivor.desc(), *members.row_key]

    def place(order: list[Any], *more: ColumnElement[Any]) -> ColumnElement[int]:
        return sa.func.row_number().over(partition_by=[*keep, *more], order_by=order)

    picks, news = [], []
    for number, column in enumerate(fields.columns):
        kind, argument = fields.rules[column.name]
        order = [*_preference(kind, argument, column, row), *usual]
        picks.append((place(order) == 1).label(f"pick_{number}"))
        # Only for what is put together of several values, which then are text.
        news.append(
            (
                place(usual, same_text(as_text(row.c[column.name]))) == 1
                if kind == "concat"
                else sa.false()
            ).label(f"new_{number}")
        )
    return alone(
        sa.select(
            *keep,
            place(usual).label("place"),
            *(row.c[column.name].label(f"column_{i}") for i, column in enumerate(fields.columns)),
            *picks,
            *news,
        )
        .select_from(members.clause.join(row, equal(members.row_key, members.member_key)))
        .where(members.clause.c.keep_0.is_not(None)),
        fields.members.table,
        row,
    ).subquery("ranked")


def _preference(kind: str, argument: str, column: Column, row: FromClause) -> list[Any]:
    """Which row's value is picked: those that come first in this order."""
    value = row.c[column.name]
    there: ColumnElement[bool] = value.is_not(None)
    if kind in ("coalesce", "longest") and _is_text(column):
        there = sa.and_(there, as_text(value) != "")
    match kind:
        case "coalesce":
            return [there.desc()]
        case "newest":
            return [there.desc(), row.c[argument].desc().nulls_last()]
        case "oldest":
            return [there.desc(), row.c[argument].asc().nulls_last()]
        case "longest":
            return [there.desc(), sa.func.pg_catalog.length(as_text(value)).desc().nulls_last()]
    return []


def _is_text(column: Column) -> bool:
    plain = ("text", "character varying", "character")
    return column.base_type in plain or column.base_type.endswith(".citext")


def _aggregate(
    rows: FromClause, number: int, column: Column, kind: str, argument: str
) -> ColumnElement[Any]:
    """What the rule makes of all the values."""
    value = rows.c[f"column_{number}"]
    f = sa.func.pg_catalog
    match kind:
        case "sum" | "min" | "max":
            return sa.cast(getattr(f, kind)(value), NamedType(column.type))
        case "and":
            return f.bool_and(value)
        case "or":
            return f.bool_or(value)
        case "concat":
            ordered = postgresql.aggregate_order_by(sa.literal(argument), rows.c.place)
            filled = sa.and_(rows.c[f"new_{number}"], as_text(value) != "")
            joined = f.string_agg(as_text(value), ordered).filter(filled)
            return read_text(column, joined)
        case "union":
            in_order = postgresql.aggregate_order_by(as_text(value), rows.c.place)
            return sa.func.array_agg(in_order).filter(value.is_not(None))
        case "expression":
            return sa.null()
    # By way of text: there is no aggregate that hands on a value of any type.
    texts = sa.func.array_agg(as_text(value)).filter(rows.c[f"pick_{number}"])
    picked = sa.type_coerce(texts, sa.ARRAY(sa.Text))[1]
    return read_text(column, picked)


def _finish(
    fields: FieldTable, grouped: FromClause, number: int, column: Column
) -> ColumnElement[Any]:
    """The survivor's value, of what was aggregated."""
    kind, argument = fields.rules[column.name]
    value = grouped.c[f"value_{number}"]
    if kind == "expression":
        found = _compute(fields, grouped, argument)
    elif kind == "union" and column.base_type == "jsonb":
        found = _unite_json(value)
    elif kind == "union":
        found = _unite_arrays(value)
    else:
        return value
    return sa.cast(found, NamedType(column.type))


def _unite_arrays(texts: ColumnElement[Any]) -> ColumnElement[Any]:
    """All different elements of the arrays that are given as texts, in their order."""
    row = (
        sa.func.unnest(texts)
        .table_valued("text", with_ordinality="place")
        .render_derived("rows")
        .lateral()
    )
    element = (
        sa.func.unnest(sa.cast(row.c.text, sa.ARRAY(sa.Text)))
        .table_valued("text", with_ordinality="place")
        .render_derived("elements")
        .lateral()
    )
    first = sa.func.min(postgresql.array([row.c.place, element.c.place])).label("first")
    each = (
        sa.select(element.c.text, first)
        .select_from(row.join(element, sa.true()))
        .group_by(element.c.text)
        .subquery("each")
    )
    ordered = postgresql.aggregate_order_by(each.c.text, each.c.first)
    together = sa.select(sa.func.array_agg(ordered)).scalar_subquery()
    empty = sa.cast(sa.literal("{}"), sa.ARRAY(sa.Text))
    return sa.case((texts.is_not(None), sa.func.coalesce(together, empty)))


def _unite_json(texts: ColumnElement[Any]) -> ColumnElement[Any]:
    """All different elements of the lists that are given as texts, in their order; of objects, all
    names with their first values. What is of another kind than the first is passed over."""
    f = sa.func.pg_catalog
    row = (
        sa.func.unnest(texts)
        .table_valued("text", with_ordinality="place")
        .render_derived("rows")
        .lateral()
    )
    document = sa.cast(row.c.text, postgresql.JSONB)

    def parts(function: str, kind: str, *names: str) -> Any:
        given = getattr(f, function)(sa.case((f.jsonb_typeof(document) == kind, document)))
        found = given.table_valued(*names, with_ordinality="place")
        return found.render_derived("parts").lateral()

    item = parts("jsonb_array_elements", "array", "value")
    first = sa.func.min(postgresql.array([row.c.place, item.c.place])).label("first")
    each = (
        sa.select(item.c.value, first)
        .select_from(row.join(item, sa.true()))
        .group_by(item.c.value)
        .subquery("each")
    )
    ordered = postgresql.aggregate_order_by(each.c.value, each.c.first)
    lists = sa.select(f.jsonb_agg(ordered)).scalar_subquery()
    entry = parts("jsonb_each", "object", "key", "value")
    nth = sa.func.row_number().over(partition_by=entry.c.key, order_by=row.c.place)
    names = (
        sa.select(entry.c.key, entry.c.value, nth.label("nth"))
        .select_from(row.join(entry, sa.true()))
        .subquery("names")
    )
    merged = f.jsonb_object_agg(names.c.key, names.c.value)
    objects = sa.select(merged).where(names.c.nth == 1).scalar_subquery()
    one = sa.cast(sa.type_coerce(texts, sa.ARRAY(sa.Text))[1], postgresql.JSONB)
    return sa.case(
        (f.jsonb_typeof(one) == "array", sa.func.coalesce(lists, one)),
        (f.jsonb_typeof(one) == "object", sa.func.coalesce(objects, one)),
        else_=one,
    )


def _compute(fields: FieldTable, grouped: FromClause, text: str) -> ColumnElement[Any]:
    """What the user's expression makes of the survivor and its duplicates."""
    members, table = fields.members, fields.members.table
    columns = [column.name for column in table.columns]
    survivor = make_table(table.name, columns).alias(quoted(SURVIVOR))
    duplicate = make_table(table.name, columns).alias(quoted(DUPLICATE))
    merge = members.clause.alias("merge")

    def is_row(row: FromClause, key: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
        return equal([row.c[name] for name in members.key_columns], key)

    own = members.values("keep", members.key_columns, merge)
    going = is_row(duplicate, members.values("member", members.key_columns, merge))
    # HAVING makes it one row, and bare columns of duplicates an error.
    inner = (
        alone(sa.select(parse_merging(table, text)), table, duplicate)
        .select_from(merge.join(duplicate, going))
        .where(is_row(survivor, own), ~merge.c.is_survivor)
        .having(sa.true())
        .correlate(survivor)
        .scalar_subquery()
    )
    keep = [
        collated(members.column(name), grouped.c[f"keep_{i}"])
        for i, name in enumerate(members.key_columns)
    ]
    outer = alone(sa.select(inner).select_from(survivor), table, survivor)
    return outer.where(is_row(survivor, keep)).correlate(grouped).scalar_subquery()


def count_fields(fields: FieldTable) -> Query:
    """How many survivors change."""
    return sa.select(sa.func.count()).select_from(fields.clause)


def update_and_record(fields: FieldTable) -> Query:
    """Writes the survivors' new values, and the old ones into the journal.

    One row: how many survivors changed, and how many of them do not hold what they should.
    """
    members, table = fields.members, fields.members.table
    names = {*members.key_columns, *fields.rules}
    new = make_table(table.name, names)
    old = make_table(table.name, names).alias("old")
    key = [
        collated(members.column(name), fields.clause.c[f"key_{i}"])
        for i, name in enumerate(members.key_columns)
    ]
    found = alone(
        sa.select(
            members.clause.c.cluster,
            *(value.label(f"key_{i}") for i, value in enumerate(key)),
            *(old.c[name].label(f"old_{i}") for i, name in enumerate(fields.rules)),
            *(fields.clause.c[f"value_{i}"] for i in range(len(fields.rules))),
        ).select_from(
            fields.clause.join(old, equal([old.c[name] for name in members.key_columns], key)).join(
                members.clause, equal(members.member_key, key)
            )
        ),
        fields.members.table,
        old,
    ).subquery("found")
    here = equal(
        [new.c[name] for name in members.key_columns],
        [
            collated(members.column(name), found.c[f"key_{i}"])
            for i, name in enumerate(members.key_columns)
        ],
    )
    values = {name: found.c[f"value_{i}"] for i, name in enumerate(fields.rules)}
    as_wanted = sa.and_(
        *(
            same_text(as_text(new.c[name])).is_not_distinct_from(same_text(as_text(value)))
            for name, value in values.items()
        )
    )
    changed = (
        alone_change(sa.update(new), table)
        .values(values)
        .where(here)
        .returning(
            found.c.cluster,
            text_array([new.c[name] for name in members.key_columns]).label("key"),
            image(fields.columns, [found.c[f"old_{i}"] for i in range(len(fields.rules))]).label(
                "before"
            ),
            image(fields.columns, [new.c[name] for name in fields.rules]).label("after"),
            as_wanted.label("as_wanted"),
        )
        .cte("changed")
    )
    written = (
        JOURNAL.insert()
        .from_select(
            list(JOURNAL.c),
            sa.select(
                RUN,
                changed.c.cluster,
                STEP,
                changed.c.key,
                changed.c.before,
                changed.c.after,
                sa.bindparam("followed", type_=sa.Boolean),
            ),
        )
        .cte("written")
    )
    astray = sa.func.count().filter(changed.c.as_wanted.is_not(True))
    return sa.select(sa.func.count(), astray).select_from(changed).add_cte(written)
