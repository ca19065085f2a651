"""Makes the plan: finds clusters, chooses survivors, counts what would move. Changes nothing."""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import INSUFFICIENT_PRIVILEGE, READ_ONLY, TEXT_FORM, set_local, sqlstate
from fkdoctor.dedupe.criteria import (
    Match,
    Normaliser,
    is_text,
    parse_match,
    parse_survivor,
)
from fkdoctor.dedupe.derive import Derivation, read_facts
from fkdoctor.dedupe.logical import follow_references, reference_obstacles
from fkdoctor.dedupe.lookahead import look_ahead, resolve
from fkdoctor.dedupe.mapping import match_map
from fkdoctor.dedupe.obstacles import caveats, only_declared, table_obstacles
from fkdoctor.dedupe.ordering import live_first, order_by
from fkdoctor.dedupe.partitions import parts, places_rows
from fkdoctor.dedupe.plan import (
    Cluster,
    Collision,
    CollisionRule,
    DedupePlan,
    FieldRule,
    Member,
    Merge,
    Obstacle,
    Repoint,
)
from fkdoctor.dedupe.planfile import check_place, write_plan
from fkdoctor.dedupe.policy import MERGE_FIELDS
from fkdoctor.dedupe.settle import derive_settled
from fkdoctor.dedupe.work import fields_of
from fkdoctor.errors import Blocked, ConfigError
from fkdoctor.identifier import quote
from fkdoctor.resources import execute_query
from fkdoctor.schema import ForeignKey, Schema, TableName
from fkdoctor.statement import matches as sql
from fkdoctor.statement.comparison import compared_columns, select_collisions
from fkdoctor.statement.expression import normalise_url, parse_expression
from fkdoctor.statement.fields import count_fields, create_fields
from fkdoctor.statement.matches import Ordering
from fkdoctor.statement.members import (
    MemberTable,
    analyze_members,
    carry_columns,
    create_members,
)
from fkdoctor.statement.pairs import survives


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What makes rows of a table duplicates and which of them stays, as the user wrote it.

    Values that more than `max_cluster` rows share are no key (a landing page, a placeholder): such
    rows are left alone and counted. Rows with a value in `soft_delete_column` never survive others.
    `rules` say what becomes of rows that collide, `fields` what survivors take over. A `map` names
    duplicates and survivors in place of `match` and `survivor`.
    """

    match: tuple[str, ...]
    survivor: tuple[str, ...]
    max_cluster: int = 100
    soft_delete_column: str = "deleted_at"
    rules: tuple[CollisionRule, ...] = ()
    fields: tuple[FieldRule, ...] = ()
    map: Path | None = None


def plan_dedupe(
    connection: Connection, schema: Schema, name: TableName, criteria: Criteria, path: Path
) -> DedupePlan:
    """The plan to merge the table's duplicates, its clusters saved at `path`: see locate_plan.

    References that only fkdoctor.toml declares (Schema.references) are followed as well. The
    connection must not be in a transaction. All is read at one moment; nothing but temporary tables
    is written. Raises Blocked when the table is of a shape that can't be merged, ConfigError for
    criteria that don't fit it.
    """
    declared = tuple(reference for reference in schema.references if not reference.guessed)
    catalog, schema = schema, follow_references(schema, declared)
    table = schema.table(name)
    in_the_way = list(table_obstacles(schema, table))
    if in_the_way:
        raise blocked(in_the_way)
    if not criteria.match and criteria.map is None:
        raise ConfigError(
            "Nothing says what makes rows duplicates.",
            why=f"There is no --match or --map, and no [dedupe.{name.name}] match in "
            "fkdoctor.toml.",
            next="For example: --match url, or --match '(lower(title))'",
        )
    keys = schema.keys_to(name)
    members = carry_columns(table, keys, references=declared)
    matches = [parse_match(table, text) for text in criteria.match]
    rules = [parse_survivor(table, text) for text in criteria.survivor]
    expressions = [_match_expression(members, match) for match in matches]
    order = [order_by(members, rule) for rule in rules]
    if table.has_column(criteria.soft_delete_column):
        order.insert(0, live_first(members, criteria.soft_delete_column))
    check_place(path)
    facts = read_facts(connection)
    with _explained_refusals(), connection.begin():
        connection.execute(sa.text("set transaction isolation level repeatable read"))
        execute_query(connection, "ledger/prefer_catalog")
        set_local(
            connection,
            row_security="off",
            standard_conforming_strings="on",  # as expressions were read
            timezone="UTC",
            **TEXT_FORM,
        )
        oversized = oversized_rows = 0
        if criteria.map is not None:
            match_map(connection, members, criteria.map)
            order = [Ordering(expression=survives(members), descending=True)]
        else:
            connection.execute(sql.create_matches(members, expressions))
            found = connection.execute(sql.count_oversized(members, criteria.max_cluster)).one()
            oversized, oversized_rows = int(found[0]), int(found[1])
            connection.execute(sql.drop_oversized(members, criteria.max_cluster))
        _choose_survivors(connection, members, order, keys)
        derivation = Derivation(
            schema=schema,
            facts=facts,
            rules={rule.table: rule for rule in criteria.rules},
            members={name: members},
            made={name: members},
            references=tuple(
                one for one in declared if not any(reference_obstacles(schema, [one]))
            ),
        )
        settled = derive_settled(connection, derivation)
        repoints, obstacles = look_ahead(connection, derivation)
        references = tuple(r for r in declared if r.referenced in derivation.members)
        fields = tuple(_list_fields(derivation, criteria.fields))
        refilled = _count_refilled(connection, derivation, fields)
        involved = _involved(schema, derivation)
        plan = DedupePlan(
            id=str(uuid.uuid4()),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            database=schema.database,
            table=name,
            key_columns=members.key_columns,
            match=tuple(str(match) for match in matches) or (f"the map {criteria.map}",),
            survivor=("as the map says",)
            if criteria.map
            else (*(str(rule) for rule in rules), "lowest key"),
            # An apply knows no other references than those of the plan.
            fingerprint=follow_references(catalog, references).fingerprint(involved),
            tables=involved,
            references=references,
            clusters=settled.clusters,
            survivors=settled.survivors,
            duplicates=settled.duplicates,
            rules=criteria.rules,
            fields=fields,
            refilled=refilled,
            resolutions=settled.resolutions,
            repoints=repoints,
            obstacles=(
                *reference_obstacles(schema, references),
                *_unreplicable(connection, derivation, repoints),
                *obstacles,
            ),
            caveats=(*_caveats(schema, derivation), *_outdated_views(connection, involved)),
            oversized=oversized,
            oversized_rows=oversized_rows,
            skipped=settled.skipped,
            left_out=settled.left_out,
        )
        write_plan(path, plan, _read_clusters(connection, derivation))
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


def _choose_survivors(
    connection: Connection,
    members: MemberTable,
    order: Sequence[Ordering],
    keys: Sequence[ForeignKey],
) -> None:
    """Fills the member table from the matches."""
    connection.execute(sql.ANALYZE_MATCHES)
    connection.execute(create_members(members))
    connection.execute(sql.insert_members(members, order, keys))
    connection.execute(analyze_members(members))


def _list_fields(derivation: Derivation, given: Sequence[FieldRule]) -> Iterator[FieldRule]:
    """The rules of columns that survivors have, those of the policy merge_fields included.

    Raises ConfigError for a column that moves with the merge.
    """
    for name, members in derivation.members.items():
        image = derivation.images.get(name)
        moving = {*(image.moving if image else ())}
        moving |= {one.column.name for one in derivation.embedded() if one.table.name == name}
        of_table = {rule.column: rule for rule in given if rule.table == name}
        if wrong := [column for column in of_table if column in moving]:
            raise ConfigError(
                f"{name}.{quote(wrong[0])} can have no rule.",
                why="It references rows that are merged themselves.",
                next="Leave it out: references are repointed.",
            )
        if derivation.rule(name).collisions == MERGE_FIELDS:
            for column in compared_columns(members.table):
                if column not in moving and column not in of_table:
                    of_table[column] = FieldRule(table=name, column=column, kind="coalesce")
        yield from (rule for rule in of_table.values() if rule.kind != "keep")


def _count_refilled(
    connection: Connection, derivation: Derivation, fields: Sequence[FieldRule]
) -> int:
    """How many survivors would hold something else."""
    refilled = 0
    for name, members in derivation.members.items():
        if of_table := [rule for rule in fields if rule.table == name]:
            table = fields_of(members, of_table)
            connection.execute(create_fields(table))
            refilled += connection.execute(count_fields(table)).scalar_one()
    return refilled


def _involved(schema: Schema, derivation: Derivation) -> tuple[TableName, ...]:
    """The tables with members, the deduplicated one first, and all that reference these."""
    referencing = {key.referencing for name in derivation.members for key in schema.keys_to(name)}
    referencing |= {embedded.table.name for embedded in derivation.embedded()}
    first, *others = derivation.members
    return (first, *sorted({*others, *referencing} - {first}))


def _caveats(schema: Schema, derivation: Derivation) -> Iterator[str]:
    told: dict[str, None] = {}
    for name in derivation.members:
        told |= dict.fromkeys(caveats(schema, schema.table(name), schema.keys_to(name)))
    told |= {
        only_declared(embedded.reference.label, embedded.table.name): None
        for embedded in derivation.embedded()
    }
    return iter(told)


def _outdated_views(connection: Connection, tables: Sequence[TableName]) -> Iterator[str]:
    for row in execute_query(connection, "dedupe/materialized"):
        if TableName(row.schema, row.name) in tables:
            table = TableName(row.schema, row.name)
            yield f"materialized view {row.view} reads {table}: refresh it afterwards"


def _unreplicable(
    connection: Connection, derivation: Derivation, repoints: Sequence[Repoint]
) -> Iterator[Obstacle]:
    """The tables of which a publication forbids what the plan would do."""
    schema = derivation.schema
    changes = {(table, "DELETE") for table in derivation.members}
    for repoint in repoints:
        if repoint.rows:
            moves = places_rows(schema, schema.table(repoint.table), repoint.columns)
            changes |= {(repoint.table, event) for event in ("UPDATE", "DELETE")[: 1 + moves]}
    wanted = {
        (part.name, event) for name, event in changes for part in parts(schema, schema.table(name))
    }
    for row in execute_query(connection, "dedupe/unreplicable"):
        if (TableName(row.schema, row.name), row.event) in wanted:
            yield Obstacle(
                subject=str(TableName(row.schema, row.name)),
                reason=f"publication {quote(row.publication)} publishes every {row.event} of it, "
                "and it has no replica identity",
            )


_STREAMED = {"stream_results": True, "yield_per": 5_000}


def _read_clusters(connection: Connection, derivation: Derivation) -> Iterator[Cluster]:
    """The clusters in their order, each with its merges and collisions."""
    collisions = [
        _read_collisions(connection, derivation, members)
        for name, members in (*derivation.members.items(), *derivation.demoted.items())
        if name in derivation.images
    ]
    all_collisions = heapq.merge(*collisions, key=itemgetter(0))
    upcoming = next(all_collisions, None)
    merges = _read_merges(connection, derivation)
    for number, group in groupby(merges, key=itemgetter(0)):
        of_cluster = []
        while upcoming and upcoming[0] == number:
            of_cluster.append(upcoming[1])
            upcoming = next(all_collisions, None)
        yield Cluster(
            number=number,
            merges=tuple(merge for _, merge in group),
            collisions=tuple(of_cluster),
        )


def _read_merges(connection: Connection, derivation: Derivation) -> Iterator[tuple[int, Merge]]:
    members = next(iter(derivation.members.values()))
    for row in connection.execute(sql.select_clusters(members), execution_options=_STREAMED):
        survivor, *duplicates = (
            Member(key=tuple(key), fingerprint=fingerprint)
            for key, fingerprint in zip(row.keys, row.fingerprints, strict=True)
        )
        merge = Merge(survivor=survivor, duplicates=tuple(duplicates), matched=tuple(row.matched))
        yield row.cluster, merge


def _read_collisions(
    connection: Connection, derivation: Derivation, members: MemberTable
) -> Iterator[tuple[int, Collision]]:
    name = members.table.name
    for row in connection.execute(select_collisions(members), execution_options=_STREAMED):
        is_link = row.kept_fingerprint is None
        yield (
            row.cluster,
            Collision(
                table=name,
                constraint=row.because,
                row=Member(key=tuple(row.row), fingerprint=row.row_fingerprint),
                kept=None
                if is_link
                else Member(key=tuple(row.kept), fingerprint=row.kept_fingerprint),
                policy=resolve(derivation, name, differs=row.differs, link=is_link),
            ),
        )


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
                "PostgreSQL cannot compute what --match, --map or --survivor say.",
                why=said,
                next="Correct the column or expression that it names, for example with a cast.",
            ) from error
        raise
