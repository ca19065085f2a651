"""What a user typed as SQL: parsed, checked against the table's columns, and rebuilt.

Also the URL normaliser, as SQL, so that no row has to leave the database to be matched.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
import sqlglot
from sqlalchemy import ColumnElement
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.selectable import NamedFromClause
from sqlglot import exp
from sqlglot.errors import SqlglotError

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import quote
from fkdoctor.schema import Table

TRACKING_PARAMETERS = (
    "_ga", "_gl", "dclid", "fbclid", "gbraid", "gclid", "igshid", "mc_cid", "mc_eid", "msclkid",
    "ref", "ref_src", "referrer", "spm", "trk", "wbraid", "yclid",
)  # fmt: skip
"""Query parameters that say where a visitor came from, not what the page shows; and all utm_*."""


def parse_expression(table: Table, text: str) -> ColumnElement[Any]:
    """The expression over one row of the table, rebuilt from its syntax tree.

    Raises ConfigError when it is no single expression, names an unknown column or has a subquery.
    """
    try:
        parsed = sqlglot.parse(f"SELECT ({text})", read="postgres")
    except SqlglotError as error:
        raise _unreadable(text, str(error).splitlines()[0]) from None
    tree = parsed[0] if len(parsed) == 1 else None
    if not isinstance(tree, exp.Select) or set(_filled(tree)) != {"expressions"}:
        raise _unreadable(text, "It is not one expression.")
    if len(tree.expressions) != 1 or isinstance(tree.expressions[0].unnest(), exp.Tuple):
        raise _unreadable(text, "It is more than one expression.")
    for node in tree.expressions[0].walk():
        if isinstance(node, exp.Query | exp.Star | exp.Placeholder | exp.Parameter):
            raise _unreadable(text, "It may only compute with columns of one row.")
        if isinstance(node, exp.AggFunc | exp.Window):
            raise _unreadable(text, "It may not look at several rows.")
        if isinstance(node, exp.Column):
            _check_column(table, node, text)
    return sa.literal_column(tree.expressions[0].sql(dialect="postgres"))


def _filled(tree: exp.Expression) -> list[str]:
    return [name for name, value in tree.args.items() if value]


def _check_column(table: Table, node: exp.Column, text: str) -> None:
    identifier = node.this
    name = identifier.name if identifier.quoted else identifier.name.lower()
    if node.table or not table.has_column(name):
        raise ConfigError(
            f"The expression {text} names {node.sql(dialect='postgres')}.",
            why=f"{table.name} has the columns "
            + ", ".join(quote(column.name) for column in table.columns)
            + ".",
            next="Name columns of that table, without a prefix.",
        )


def _unreadable(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"The expression {text} cannot be used.",
        why=why,
        next="Write one SQL expression over the table's columns, for example: (lower(email))",
    )


def normalise_url(row: NamedFromClause, column: str) -> ColumnElement[str]:
    """What stays of a URL when all that does not say which page it is has gone.

    Away go the scheme, the case of the host, the default port, slashes at the end, the fragment,
    tracking parameters and the order of the query. Paths keep their case. Percent-encoding and
    Unicode host names are left as they are.
    """
    f = sa.func.pg_catalog
    # Each step is a subquery that OFFSET 0 keeps from being merged, so that it is computed once.
    url = f.btrim(sa.cast(row.c[column], sa.Text))
    first = sa.select(f.split_part(url, "#", 1).label("whole")).correlate(row).offset(0).subquery()
    address = f.split_part(first.c.whole, "?", 1).label("address")
    second = sa.select(first.c.whole, address).offset(0).subquery()
    has_scheme = f.right(f.split_part(second.c.address, "/", 1), 1) == ":"
    after_scheme = f.ltrim(f.substr(second.c.address, f.strpos(second.c.address, "/")), "/")
    rest = sa.case((has_scheme, after_scheme), else_=second.c.address).label("rest")
    third = sa.select(second.c.whole, rest).offset(0).subquery()
    host = f.lower(f.split_part(third.c.rest, "/", 1)).label("host")
    last = sa.select(third.c.whole, third.c.rest, host).offset(0).subquery()
    port_free = sa.case(
        (f.right(last.c.host, 4) == ":443", f.left(last.c.host, -4)),
        (f.right(last.c.host, 3) == ":80", f.left(last.c.host, -3)),
        else_=last.c.host,
    )
    path = f.rtrim(f.substr(last.c.rest, f.length(last.c.host) + 1), "/")
    normalised = port_free.concat(path).concat(_normalise_query(last.c.whole))
    return sa.select(normalised).correlate(row).scalar_subquery()


def _normalise_query(whole: ColumnElement[str]) -> ColumnElement[str]:
    f = sa.func.pg_catalog
    query = f.substr(whole, f.strpos(whole, "?") + 1)
    part = sa.func.unnest(f.string_to_array(query, "&")).table_valued("part").render_derived()
    name = f.lower(f.split_part(part.c.part, "=", 1))
    in_order = postgresql.aggregate_order_by(sa.literal("&"), part.c.part.collate("C"))
    kept = (
        sa.select(f.string_agg(part.c.part, in_order))
        .where(
            part.c.part != "",
            f.left(name, 4) != "utm_",
            name.not_in(TRACKING_PARAMETERS),
        )
        .scalar_subquery()
    )
    return sa.case(
        (f.strpos(whole, "?") > 0, sa.func.coalesce(sa.literal("?").concat(kept), "")), else_=""
    )
