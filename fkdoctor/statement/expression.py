"""What a user typed as SQL: checked against the table's columns, and used as it was typed.

Also the URL normaliser, as SQL, so that no row has to leave the database to be matched.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
import sqlglot
from sqlalchemy import ColumnElement, Subquery
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.selectable import NamedFromClause
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import quote, split_qualified
from fkdoctor.schema import Table

TRACKING_PARAMETERS = (
    "_ga", "_gl", "dclid", "fbclid", "gbraid", "gclid", "igshid", "mc_cid", "mc_eid", "msclkid",
    "ref_src", "referrer", "spm", "trk", "wbraid", "yclid",
)  # fmt: skip
"""Query parameters that say where a visitor came from, not what the page shows; and all utm_*."""

# Unquoted, PostgreSQL takes these words for functions, whatever columns there are; sqlglot does so
# with the other words of this kind.
_NOT_COLUMNS = frozenset({"user", "current_role", "system_user"})

_OF_MORE_THAN_A_ROW = (exp.Query, exp.UDTF, exp.Star, exp.Placeholder, exp.Parameter)


def parse_expression(table: Table, text: str) -> ColumnElement[Any]:
    """The expression over one row of the table, as it was typed.

    sqlglot reads it only to check it: what it would write again is not always the same to
    PostgreSQL (functions are translated, the names of quoted ones changed). Raises ConfigError when
    it is no single expression, names an unknown column or none, or has a subquery.
    """
    nodes = _read(text)
    if any(isinstance(node, exp.AggFunc | exp.Window) for node in nodes):
        raise _unusable(text, "It may not look at several rows.")
    columns = [node for node in nodes if isinstance(node, exp.Column)]
    for column in columns:
        _check_column(table, column, text)
    if not columns:
        raise _unusable(text, "It names no column, so that it is the same for every row.")
    return _as_typed(text)


SURVIVOR, DUPLICATE = "survivor", "duplicate"


def parse_merging(table: Table, text: str) -> ColumnElement[Any]:
    """The expression over a survivor's row, `survivor`, and aggregates of its duplicates, each a
    `duplicate`, as it was typed. Raises ConfigError."""
    nodes = _read(text)
    if any(isinstance(node, exp.Window) for node in nodes):
        raise _unusable(text, "It may aggregate duplicates, but not look at them through windows.")
    columns = [node for node in nodes if isinstance(node, exp.Column)]
    for column in columns:
        if column.table not in (SURVIVOR, DUPLICATE) or column.db:
            raise _unusable(
                text,
                f"It names {column.sql(dialect='postgres')}; every column is of the survivor or of "
                f"a duplicate, such as {SURVIVOR}.{table.columns[0].name}.",
            )
        _check_column(table, column, text, prefixed=True)
    if not columns:
        raise _unusable(text, "It names no column, so that it is the same for every row.")
    return _as_typed(text)


def _as_typed(text: str) -> ColumnElement[Any]:
    # Inside a CASE, PostgreSQL refuses functions that return several rows; it costs nothing.
    return sa.literal_column(f"CASE WHEN true THEN (\n{text}\n) END")


def _read(text: str) -> list[exp.Expr]:
    """What the one expression is made of, which is of no more than rows at hand."""
    select = f"SELECT (\n{text}\n)"  # lines of its own: it may end in a comment
    try:
        parsed = sqlglot.parse(select, read="postgres")
    except ParseError as error:
        said = error.errors[0]["description"] if error.errors else str(error)
        raise _unusable(text, f"It cannot be read as SQL: {said}.") from None
    except TokenError:
        raise _unusable(text, "A string, name or comment in it does not end.") from None
    except RecursionError:
        raise _unusable(text, "It is nested too deeply.") from None
    tree = parsed[0] if len(parsed) == 1 else None
    if not isinstance(tree, exp.Select) or _filled(tree) != ["expressions"]:
        raise _unusable(text, "It is not one expression.")
    if len(tree.expressions) != 1 or isinstance(tree.expressions[0].unnest(), exp.Tuple):
        raise _unusable(text, "It is not one expression.")
    nodes = list(tree.expressions[0].walk())
    if any(isinstance(node, _OF_MORE_THAN_A_ROW) for node in nodes):
        raise _unusable(text, "It may only compute with columns of one row.")
    return nodes


def _filled(tree: exp.Expression) -> list[str]:
    return [name for name, value in tree.args.items() if value]


def _check_column(table: Table, node: exp.Column, text: str, *, prefixed: bool = False) -> None:
    identifier = node.this
    name = identifier.name if identifier.quoted else split_qualified(identifier.name)[0]
    if not prefixed and not identifier.quoted and name in _NOT_COLUMNS:
        raise _unusable(text, f'{name} is a function; the column is "{name}", in quotes.')
    if (node.table and not prefixed) or not table.has_column(name):
        raise ConfigError(
            f"The expression {text} names {node.sql(dialect='postgres')}.",
            why=f"{table.name} has the columns "
            + ", ".join(quote(column.name) for column in table.columns)
            + ".",
            next="Name columns of that table, without a prefix.",
        )


def _unusable(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"The expression {text} cannot be used.",
        why=why,
        next="Write one SQL expression over the table's columns, for example: (lower(email))",
    )


def normalise_url(row: NamedFromClause, column: str) -> ColumnElement[str]:
    """What stays of a URL when all that does not say which page it is has gone.

    Away go white space around it, http and https, the case of the host, the default ports, slashes
    at the end, the fragment, tracking parameters, and the order of parameters with different names.
    What may tell pages apart stays: the case of all else, other schemes, user names, percent signs
    as they are, and fragments that begin with / or !, which are paths of an application.
    """
    f = sa.func.pg_catalog
    # "C" compares bytes, lowers ASCII only, and can be searched whatever the column's collation.
    raw = sa.cast(row.c[column], sa.Text).collate("C")
    before_fragment = f.split_part(f.btrim(raw, " \t\r\n"), "#", 1).label("page")
    page = _compute_once(sa.select(before_fragment).correlate(row))
    address = f.split_part(page.c.page, "?", 1).label("address")
    found = _compute_once(sa.select(page.c.page, address))
    rest = _compute_once(sa.select(found.c.page, _drop_scheme(found.c.address).label("rest")))
    host = f.split_part(rest.c.rest, "/", 1).label("host")
    last = _compute_once(sa.select(rest.c.page, rest.c.rest, host))
    normalised = (
        _normalise_address(last.c.rest, last.c.host)
        .concat(_normalise_query(last.c.page))
        .concat(_application_path(raw))
    )
    return sa.select(normalised).correlate(row).scalar_subquery()


def _compute_once(query: sa.Select[Any]) -> Subquery:
    """The query as a table whose columns OFFSET 0 keeps from being computed at each mention."""
    return query.offset(0).subquery()


def _drop_scheme(address: ColumnElement[str]) -> ColumnElement[str]:
    f = sa.func.pg_catalog
    return sa.case(
        (f.starts_with(address, "https://"), f.right(address, -8)),
        (f.lower(f.left(address, 8)) == "https://", f.right(address, -8)),
        (f.lower(f.left(address, 7)) == "http://", f.right(address, -7)),
        (f.starts_with(address, "//"), f.right(address, -2)),
        else_=address,
    )


def _normalise_address(rest: ColumnElement[str], host: ColumnElement[str]) -> ColumnElement[str]:
    f = sa.func.pg_catalog
    user = sa.func.coalesce(f.substring(host, "^.*@"), "")
    name = f.lower(f.regexp_replace(host, "^.*@", ""))
    rebuilt = user.concat(f.regexp_replace(name, ":(80|443)$", "")).concat(
        f.substr(rest, f.length(host) + 1)
    )
    is_plain = sa.and_(f.lower(host) == host, f.strpos(host, ":") + f.strpos(host, "@") == 0)
    # Nearly all are plain, and searching is cheaper than taking apart.
    normalised = sa.case((is_plain, rest), else_=rebuilt)
    return sa.case((rest.like("%/"), f.rtrim(normalised, "/")), else_=normalised)


def _normalise_query(page: ColumnElement[str]) -> ColumnElement[str]:
    f = sa.func.pg_catalog
    parts = (
        sa.func.unnest(f.string_to_array(f.right(page, -f.strpos(page, "?")), "&"))
        .table_valued("part", with_ordinality="place")
        .render_derived()
    )
    name = f.split_part(parts.c.part, "=", 1)
    in_order = postgresql.aggregate_order_by(sa.literal("&"), name.collate("C"), parts.c.place)
    kept = (
        sa.select(f.string_agg(parts.c.part, in_order))
        .where(
            parts.c.part != "",
            f.lower(f.left(parts.c.part, 4)) != "utm_",
            f.lower(name).not_in(TRACKING_PARAMETERS),
        )
        .scalar_subquery()
    )
    return sa.case(
        (f.strpos(page, "?") == 0, ""), else_=sa.func.coalesce(sa.literal("?").concat(kept), "")
    )


def _application_path(raw: ColumnElement[str]) -> ColumnElement[str]:
    f = sa.func.pg_catalog
    trimmed = f.btrim(raw, " \t\r\n")
    fragment = f.substr(trimmed, f.strpos(trimmed, "#"))
    return sa.case(
        (f.strpos(raw, "#") == 0, ""),
        (f.left(fragment, 2).in_(("#/", "#!")), fragment),
        else_="",
    )
