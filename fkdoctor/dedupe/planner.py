"""Makes the plan: finds clusters, chooses survivors, counts what would move. Changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Subquery

from fkdoctor.database import set_local
from fkdoctor.dedupe.criteria import (
    Match,
    Normaliser,
    Preference,
    SurvivorRule,
    is_text,
    parse_match,
    parse_survivor,
)
from fkdoctor.dedupe.obstacles import caveats, checked_unique_keys, key_obstacles, table_obstacles
from fkdoctor.dedupe.plan import Cluster, DedupePlan, Member, Obstacle, Repoint
from fkdoctor.dedupe.planfile import write_plan
from fkdoctor.errors import Blocked, ConfigError
from fkdoctor.inspect.coverage import Support, key_coverage
from fkdoctor.schema import ForeignKey, Schema, Table, TableName
from fkdoctor.statement import members as sql
from fkdoctor.statement.expression import normalise_url, parse_expression

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
    """The plan to merge the table's duplicates, its clusters saved in the file at `path`.

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
    members = sql.carry_columns(table, keys)
    matches = [parse_match(table, text) for text in criteria.match]
    rules = [parse_survivor(table, text) for text in criteria.survivor]
    expressions = [_match_expression(members, match) for match in matches]
    with connection.begin():
        connection.execute(sa.text("set transaction isolation level repeatable read"))
        set_local(connection, row_security="off", timezone="UTC", **TEXT_FORM)
        oversized, oversized_rows = _find_members(
            connection, members, expressions, rules, keys, criteria
        )
        clusters, duplicates = connection.execute(sql.count_members(members)).one()
        repoints, obstacles = _look_ahead(connection, schema, members, keys)
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
            repoints=tuple(repoints),
            obstacles=tuple(dict.fromkeys(obstacles)),
            caveats=tuple(caveats(schema, table, keys)),
            oversized=oversized,
            oversized_rows=oversized_rows,
        )
        write_plan(path, plan, _read_clusters(connection, members, expressions))
    return plan


def blocked(obstacles: Sequence[Obstacle]) -> Blocked:
    """The refusal that names every obstacle."""
    return Blocked(
        "Refused: something is in the way; nothing was changed.",
        why="\n".join(f"{obstacle.subject}: {obstacle.reason}." for obstacle in obstacles),
        next="Settle these, or leave the rows out, then make a new plan.",
    )


def _match_expression(members: sql.MemberTable, match: Match) -> ColumnElement[Any]:
    if match.column is None:
        assert match.expression is not None
        return parse_expression(members.table, match.expression)
    if match.normaliser is Normaliser.URL:
        return normalise_url(members.row, match.column).collate("C")
    return members.row.c[match.column]


def _find_members(
    connection: Connection,
    members: sql.MemberTable,
    expressions: Sequence[ColumnElement[Any]],
    rules: Sequence[SurvivorRule],
    keys: Sequence[ForeignKey],
    criteria: Criteria,
) -> tuple[int, int]:
    """Fills the member table; says how many groups were too large, and of how many rows."""
    connection.execute(sql.create_matches(members))
    connection.execute(sql.insert_matches(members, expressions))
    oversized = connection.execute(sql.count_oversized(members, criteria.max_cluster)).one()
    connection.execute(sql.drop_oversized(members, criteria.max_cluster))
    connection.execute(sql.ANALYZE_MATCHES)
    counts = (
        [sql.reference_counts(members, key) for key in keys]
        if any(rule.preference is Preference.MOST_REFERENCED for rule in rules)
        else []
    )
    order = [_ordering(members, rule, counts) for rule in rules]
    if members.table.has_column(criteria.soft_delete_column):
        deleted = members.row.c[criteria.soft_delete_column].is_not(None)
        order.insert(0, sql.Ordering(expression=deleted, descending=False))
    connection.execute(sql.create_members(members))
    connection.execute(sql.insert_members(members, expressions, order, counts))
    connection.execute(sql.ANALYZE_MEMBERS)
    return int(oversized[0]), int(oversized[1])


def _ordering(
    members: sql.MemberTable, rule: SurvivorRule, counts: Sequence[Subquery]
) -> sql.Ordering:
    match rule.preference:
        case Preference.NEWEST | Preference.OLDEST:
            assert rule.column is not None
            expression: ColumnElement[Any] = members.row.c[rule.column]
        case Preference.MOST_COMPLETE:
            expression = sa.func.pg_catalog.num_nonnulls(*_present_values(members))
        case Preference.MOST_REFERENCED:
            zero = sa.literal(0)
            expression = sum(
                (sa.func.coalesce(counted.c.number, 0) for counted in counts), start=zero
            )
        case Preference.EXPRESSION:
            assert rule.expression is not None
            expression = parse_expression(members.table, rule.expression)
    return sql.Ordering(expression=expression, descending=rule.descending)


def _present_values(members: sql.MemberTable) -> Iterator[ColumnElement[Any]]:
    """The row's values, NULL also where the value is the empty text."""
    for column in members.table.columns:
        value = members.row.c[column.name]
        yield sa.func.nullif(value, "") if is_text(column.base_type) else value


def _look_ahead(
    connection: Connection,
    schema: Schema,
    members: sql.MemberTable,
    keys: Sequence[ForeignKey],
) -> tuple[list[Repoint], list[Obstacle]]:
    """What moves along each key, and what would go wrong if it did."""
    repoints: list[Repoint] = []
    obstacles: list[Obstacle] = []
    moving: dict[TableName, list[ForeignKey]] = {}
    for key in keys:
        rows = connection.execute(sql.count_references(members, key)).scalar_one()
        repoints.append(
            Repoint(
                table=key.referencing,
                constraint=key.name,
                columns=key.referencing_columns,
                rows=rows,
                on_delete=key.on_delete.sql,
                indexed=key_coverage(schema, key).support is not Support.NONE,
            )
        )
        if not rows:
            continue
        moving.setdefault(key.referencing, []).append(key)
        obstacles += key_obstacles(schema, key)
        if not sql.row_identity(schema.table(key.referencing)):
            obstacles.append(
                Obstacle(
                    subject=str(key.referencing),
                    reason="its rows have neither primary key nor unique NOT NULL columns, so a "
                    "change to them could not be undone",
                )
            )
        if key.self_referencing:
            entangled = connection.execute(sql.members_referencing(members, key)).scalars().all()
            if entangled:
                obstacles.append(
                    Obstacle(
                        subject=key.label,
                        reason="rows of a cluster reference duplicates themselves: "
                        + _list_keys(entangled),
                    )
                )
    for referencing, of_table in moving.items():
        if not obstacles:
            table = schema.table(referencing)
            obstacles += _collisions(connection, members, table, tuple(of_table))
    return repoints, obstacles


def _collisions(
    connection: Connection, members: sql.MemberTable, table: Table, keys: tuple[ForeignKey, ...]
) -> Iterator[Obstacle]:
    for unique in checked_unique_keys(table, keys):
        groups = connection.execute(sql.find_collisions(members, keys, table, unique)).scalars()
        colliding = list(groups)
        if colliding:
            examples = "; ".join(" and ".join(group) for group in colliding)
            yield Obstacle(
                subject=f"{table.name} unique key {unique.name}",
                reason=f"rows would collide once repointed: {examples}"
                + (" and perhaps more" if len(colliding) == sql.SHOWN else ""),
            )


def _list_keys(keys: Sequence[Sequence[str]]) -> str:
    shown = ", ".join("(" + ", ".join(key) + ")" for key in keys)
    return shown + (" and perhaps more" if len(keys) == sql.SHOWN else "")


def _read_clusters(
    connection: Connection,
    members: sql.MemberTable,
    expressions: Sequence[ColumnElement[Any]],
) -> Iterator[Cluster]:
    statement = sql.select_members(members, expressions)
    rows = connection.execute(
        statement, execution_options={"stream_results": True, "yield_per": 5_000}
    )
    for number, group in groupby(rows, key=lambda row: row.cluster):
        survivor, *duplicates = group
        yield Cluster(
            number=number,
            survivor=Member(key=tuple(survivor.key), fingerprint=survivor.fingerprint),
            duplicates=tuple(
                Member(key=tuple(row.key), fingerprint=row.fingerprint) for row in duplicates
            ),
            matched=tuple(survivor.matched),
        )
