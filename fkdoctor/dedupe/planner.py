"""Makes the plan: finds clusters, chooses survivors, counts what would move. Changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import INSUFFICIENT_PRIVILEGE, READ_ONLY, set_local, sqlstate
from fkdoctor.dedupe.criteria import (
    Match,
    Normaliser,
    Preference,
    SurvivorRule,
    is_text,
    parse_match,
    parse_survivor,
)
from fkdoctor.dedupe.lookahead import look_ahead
from fkdoctor.dedupe.obstacles import caveats, table_obstacles
from fkdoctor.dedupe.plan import Cluster, DedupePlan, Member, Obstacle, Repoint
from fkdoctor.dedupe.planfile import check_place, write_plan
from fkdoctor.errors import Blocked, ConfigError
from fkdoctor.identifier import quote
from fkdoctor.resources import load_query
from fkdoctor.schema import ForeignKey, Schema, TableName
from fkdoctor.statement import matches as sql
from fkdoctor.statement.expression import normalise_url, parse_expression
from fkdoctor.statement.members import (
    ANALYZE_MEMBERS,
    MemberTable,
    carry_columns,
    count_members,
    create_members,
)

TEXT_FORM = {
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "array_nulls": "on",
}
"""Settings under which every value can be read back from its text as it was."""


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What makes rows of a table duplicates and which of them stays, as the user wrote it.

    Values that more than `max_cluster` rows share are no key (a landing page, a placeholder): such
    rows are left alone and counted. Rows with a value in `soft_delete_column` never survive others.
    """

    match: tuple[str, ...]
    survivor: tuple[str, ...]
    max_cluster: int = 100
    soft_delete_column: str = "deleted_at"


def plan_dedupe(
    connection: Connection, schema: Schema, name: TableName, criteria: Criteria, path: Path
) -> DedupePlan:
    """The plan to merge the table's duplicates, its clusters saved at `path`: see locate_plan.

    The connection must not be in a transaction. All is read at one moment; nothing but temporary
    tables is written. Raises Blocked when the table is of a shape that can't be merged, ConfigError
    for criteria that don't fit it.
    """
    table = schema.table(name)
    in_the_way = list(table_obstacles(schema, table))
    if in_the_way:
        raise blocked(in_the_way)
    if not criteria.match:
        raise ConfigError(
            "Nothing says what makes rows duplicates.",
            why=f"There is no --match, and no [dedupe.{name.name}] match in fkdoctor.toml.",
            next="For example: --match url, or --match '(lower(title))'",
        )
    keys = schema.keys_to(name)
    members = carry_columns(table, keys)
    matches = [parse_match(table, text) for text in criteria.match]
    rules = [parse_survivor(table, text) for text in criteria.survivor]
    expressions = [_match_expression(members, match) for match in matches]
    order = [_ordering(members, rule) for rule in rules]
    if table.has_column(criteria.soft_delete_column):
        order.insert(0, _live_first(members, criteria.soft_delete_column))
    check_place(path)
    with _explained_refusals(), connection.begin():
        connection.execute(sa.text("set transaction isolation level repeatable read"))
        _execute(connection, "ledger/prefer_catalog")
        set_local(
            connection,
            row_security="off",
            standard_conforming_strings="on",  # as expressions were read
            timezone="UTC",
            **TEXT_FORM,
        )
        oversized, oversized_rows = _find_members(
            connection, members, expressions, order, keys, criteria.max_cluster
        )
        clusters, duplicates = connection.execute(count_members(members)).one()
        repoints, obstacles = look_ahead(connection, schema, members, keys)
        involved = (name, *sorted({key.referencing for key in keys} - {name}))
        plan = DedupePlan(
            id=str(uuid.uuid4()),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            database=schema.database,
            table=name,
            key_columns=members.key_columns,
            match=tuple(str(match) for match in matches),
            survivor=(*(str(rule) for rule in rules), "lowest key"),
            fingerprint=schema.fingerprint(involved),
            tables=involved,
            clusters=clusters,
            duplicates=duplicates,
            repoints=repoints,
            obstacles=(*_unreplicable(connection, name, repoints), *obstacles),
            caveats=tuple(caveats(schema, table, keys)),
            oversized=oversized,
            oversized_rows=oversized_rows,
        )
        write_plan(path, plan, _read_clusters(connection, members))
    return plan


def blocked(obstacles: Sequence[Obstacle]) -> Blocked:
    """The refusal that names every obstacle."""
    return Blocked(
        "Refused: something is in the way; nothing was changed.",
        why="\n".join(f"{obstacle.subject}: {obstacle.reason}." for obstacle in obstacles),
        next="Settle these, or leave the rows out, then make a new plan.",
    )


def _match_expression(members: MemberTable, match: Match) -> ColumnElement[Any]:
    if match.column is None:
        assert match.expression is not None
        return parse_expression(members.table, match.expression)
    if match.normaliser is Normaliser.URL:
        return normalise_url(members.row, match.column).collate("C")
    value = members.row.c[match.column]
    column = members.table.column(match.column)
    # Bytes compare faster than words, and where equality is that of bytes it is the same.
    return value.collate("C") if is_text(column) and column.deterministic else value


def _live_first(members: MemberTable, column: str) -> sql.Ordering:
    """Rows that are not soft-deleted before those that are: a time is set, or a flag is true."""
    value = members.row.c[column]
    is_flag = members.table.column(column).base_type == "boolean"
    deleted = value.is_(True) if is_flag else value.is_not(None)
    return sql.Ordering(expression=deleted, descending=False)


def _ordering(members: MemberTable, rule: SurvivorRule) -> sql.Ordering:
    expression: ColumnElement[Any] | None
    match rule.preference:
        case Preference.NEWEST | Preference.OLDEST:
            assert rule.column is not None
            expression = members.row.c[rule.column]
        case Preference.MOST_COMPLETE:
            expression = _count_present(members)
        case Preference.MOST_REFERENCED:
            expression = None
        case Preference.EXPRESSION:
            assert rule.expression is not None
            expression = parse_expression(members.table, rule.expression)
    return sql.Ordering(expression=expression, descending=rule.descending)


def _count_present(members: MemberTable) -> ColumnElement[Any]:
    """How many of the row's values are neither NULL nor empty text."""
    values = [
        sa.func.nullif(members.row.c[column.name], "")
        if is_text(column)
        else members.row.c[column.name]
        for column in members.table.columns
    ]
    # A function takes at most 100 arguments.
    parts = [values[i : i + 100] for i in range(0, len(values), 100)]
    counted: ColumnElement[Any] = sa.literal(0)
    for part in parts:
        counted = counted + sa.func.pg_catalog.num_nonnulls(*part)
    return counted


def _find_members(
    connection: Connection,
    members: MemberTable,
    expressions: Sequence[ColumnElement[Any]],
    order: Sequence[sql.Ordering],
    keys: Sequence[ForeignKey],
    max_cluster: int,
) -> tuple[int, int]:
    """Fills the member table; says how many groups were too large, and of how many rows."""
    connection.execute(sql.create_matches(members, expressions))
    oversized = connection.execute(sql.count_oversized(members, max_cluster)).one()
    connection.execute(sql.drop_oversized(members, max_cluster))
    connection.execute(sql.ANALYZE_MATCHES)
    connection.execute(create_members(members))
    connection.execute(sql.insert_members(members, order, keys))
    connection.execute(ANALYZE_MEMBERS)
    return int(oversized[0]), int(oversized[1])


def _unreplicable(
    connection: Connection, table: TableName, repoints: Sequence[Repoint]
) -> Iterator[Obstacle]:
    """The tables of which a publication forbids what the plan would do."""
    wanted = {(table, "DELETE")} | {
        (repoint.table, "UPDATE") for repoint in repoints if repoint.rows
    }
    for row in _execute(connection, "dedupe/unreplicable"):
        if (TableName(row.schema, row.name), row.event) in wanted:
            yield Obstacle(
                subject=str(TableName(row.schema, row.name)),
                reason=f"publication {quote(row.publication)} publishes every {row.event} of it, "
                "and it has no replica identity",
            )


def _read_clusters(connection: Connection, members: MemberTable) -> Iterator[Cluster]:
    rows = connection.execute(
        sql.select_clusters(members),
        execution_options={"stream_results": True, "yield_per": 5_000},
    )
    for row in rows:
        survivor, *duplicates = (
            Member(key=tuple(key), fingerprint=fingerprint)
            for key, fingerprint in zip(row.keys, row.fingerprints, strict=True)
        )
        yield Cluster(
            number=row.cluster,
            survivor=survivor,
            duplicates=tuple(duplicates),
            matched=tuple(row.matched),
        )


def _execute(connection: Connection, name: str) -> sa.CursorResult[Any]:
    return connection.execute(sa.text(load_query(name)))


# Classes of SQLSTATE for which a user's expression can be the only cause: data, syntax and names,
# what is not supported, functions that raise.
_OF_EXPRESSIONS = frozenset({"22", "42", "0A", "38", "39", "P0"})


@contextmanager
def _explained_refusals() -> Iterator[None]:
    """What PostgreSQL refuses inside is raised as what it means to somebody who wants a plan."""
    try:
        yield
    except DBAPIError as error:
        state, said = sqlstate(error), " ".join(str(error.orig).split())
        if state == INSUFFICIENT_PRIVILEGE:
            raise Blocked(
                "Refused: PostgreSQL does not show all that a plan needs; nothing was changed.",
                why=said,
                next="Connect as the owner of the tables, or as a role that may SELECT from them, "
                "bypass their row security and create temporary tables.",
            ) from error
        if state == READ_ONLY:
            raise Blocked(
                "Refused: a plan needs temporary tables; nothing was changed.",
                why=said,
                next="Plan on the primary server, in a session that may write.",
            ) from error
        if state[:2] in _OF_EXPRESSIONS:
            raise ConfigError(
                "PostgreSQL cannot compute what --match or --survivor say.",
                why=said,
                next="Correct the column or expression that it names, for example with a cast.",
            ) from error
        raise
