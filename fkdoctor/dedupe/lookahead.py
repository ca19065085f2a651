"""Looks ahead: what would move along each foreign key, and what would be wrong then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from sqlalchemy import Connection

from fkdoctor.dedupe.obstacles import key_obstacles
from fkdoctor.dedupe.plan import Obstacle, Repoint
from fkdoctor.identifier import quote
from fkdoctor.inspect.coverage import Support, key_coverage
from fkdoctor.schema import ForeignKey, Schema, Table, TableName
from fkdoctor.statement import lookahead as sql
from fkdoctor.statement.members import SHOWN, MemberTable, count_references, members_referencing
from fkdoctor.statement.parts import Query

_SHOWN_LENGTH = 60


def look_ahead(
    connection: Connection, schema: Schema, members: MemberTable, keys: Sequence[ForeignKey]
) -> tuple[tuple[Repoint, ...], tuple[Obstacle, ...]]:
    """What moves along each key from the duplicates in the member table, and what is in the way."""
    repoints: list[Repoint] = []
    moving: dict[TableName, list[ForeignKey]] = {}
    for key in keys:
        rows = connection.execute(count_references(members, key)).scalar_one()
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
        if rows:
            moving.setdefault(key.referencing, []).append(key)
    obstacles: dict[Obstacle, None] = {}
    for name, of_table in moving.items():
        foreseen = [obstacle for key in of_table for obstacle in key_obstacles(schema, key)]
        # What is of a shape that is not handled can't be asked about either.
        obstacles |= dict.fromkeys(
            foreseen or _find_wrongs(connection, schema.table(name), members, keys, of_table)
        )
    return tuple(repoints), tuple(obstacles)


def _find_wrongs(
    connection: Connection,
    table: Table,
    members: MemberTable,
    keys: Sequence[ForeignKey],
    moving: Sequence[ForeignKey],
) -> Iterator[Obstacle]:
    """What would be wrong with rows of the referencing table, of whose `keys` some are `moving`."""
    for key in moving:
        yield from _find(
            connection,
            key.label,
            "its survivors have no value to reference for rows",
            sql.find_lost_references(members, key, table),
        )
        if key.self_referencing:
            yield from _find_wrong_hierarchy(connection, members, key)
    own = [key for key in keys if key.referencing == table.name]
    for first, second in combinations(own, 2):
        yield from _find(
            connection,
            f"{first.label} and {second.label}",
            "rows would reference one survivor twice",
            sql.find_self_links(members, first, second, table),
        )
    for unique in table.unique_keys:
        touching = [key for key in moving if set(key.referencing_columns) & set(unique.columns)]
        if touching:
            yield from _find(
                connection,
                f"{table.name} unique key {quote(unique.name)}",
                "rows would collide once repointed",
                sql.find_collisions(members, touching, table, unique),
            )


def _find_wrong_hierarchy(
    connection: Connection, members: MemberTable, key: ForeignKey
) -> Iterable[Obstacle]:
    entangled = tuple(
        _find(
            connection,
            key.label,
            "rows of a cluster reference duplicates themselves",
            members_referencing(members, key),
        )
    )
    # What is entangled is a loop as well.
    return entangled or _find(
        connection,
        key.label,
        "survivors would come to be above themselves",
        sql.find_loops(members, key),
    )


def _find(connection: Connection, subject: str, wrong: str, query: Query) -> Iterator[Obstacle]:
    found = connection.execute(query).scalars().all()
    if found:
        more = " and perhaps more" if len(found) == SHOWN else ""
        yield Obstacle(
            subject=subject, reason=f"{wrong}: {'; '.join(map(_name_rows, found))}{more}"
        )


def _name_rows(keys: Sequence[str] | Sequence[Sequence[str]]) -> str:
    """A row's key, or the keys of several rows: `(3, 7)`, `(3) and (4)`."""
    if isinstance(keys[0], str):
        return f"({', '.join(str(value)[:_SHOWN_LENGTH] for value in keys)})"
    return " and ".join(_name_rows(key) for key in keys if not isinstance(key, str))
