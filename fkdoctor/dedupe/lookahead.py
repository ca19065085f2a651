"""Looks ahead: what would move along each foreign key, and what would be wrong then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from fkdoctor.dedupe.derive import Derivation
from fkdoctor.dedupe.logical import embedded_obstacles
from fkdoctor.dedupe.obstacles import key_obstacles, shared_columns
from fkdoctor.dedupe.partitions import as_written, uncovered_heirs
from fkdoctor.dedupe.plan import Obstacle, Repoint, Resolution
from fkdoctor.dedupe.policy import IDENTICAL, REFUSE, is_demotion
from fkdoctor.identifier import quote, quote_all
from fkdoctor.inspect.coverage import Support, key_coverage
from fkdoctor.schema import ForeignKey, Schema, Table, TableName
from fkdoctor.statement import comparison
from fkdoctor.statement import lookahead as sql
from fkdoctor.statement.embedded import (
    EmbeddedTable,
    count_embedded,
    find_lost,
    find_matrices,
    find_own,
)
from fkdoctor.statement.members import (
    SHOWN,
    MemberTable,
    count_references,
    nullable_columns,
)
from fkdoctor.statement.parts import Query

_SHOWN_LENGTH = 60


def look_ahead(
    connection: Connection, derivation: Derivation
) -> tuple[tuple[Repoint, ...], tuple[Obstacle, ...]]:
    """What moves along each key from duplicates to survivors, and what is in the way."""
    schema = derivation.schema
    repoints: list[Repoint] = []
    obstacles = dict(derivation.obstacles)
    for name, members in derivation.members.items():
        for key in schema.keys_to(name):
            going = derivation.members.get(key.referencing)
            rows = connection.execute(count_references(members, key, going)).scalar_one()
            repoints.append(
                Repoint(
                    table=key.referencing,
                    constraint=key.name,
                    columns=key.referencing_columns,
                    rows=rows,
                    on_delete=key.on_delete.sql,
                    indexed=key_coverage(schema, as_written(key)).support is not Support.NONE,
                )
            )
            obstacles |= dict.fromkeys(_find_uncovered(connection, schema, members, key))
            # Also of rows that go: an obstacle can hide that they do.
            if rows or connection.execute(count_references(members, key)).scalar_one():
                # What is of a shape that is not handled can't be asked about either.
                foreseen = tuple(key_obstacles(schema, key))
                obstacles |= dict.fromkeys(
                    foreseen or _find_wrongs(connection, derivation, members, key)
                )
        obstacles |= dict.fromkeys(_find_unsettled(connection, derivation, members))
    for embedded in derivation.embedded():
        reference = embedded.reference
        rows = connection.execute(count_embedded(embedded)).scalar_one()
        repoints.append(
            Repoint(
                table=reference.referencing,
                constraint=reference.arrow.partition(" → ")[0],
                columns=(reference.referencing_column,),
                rows=rows,
                on_delete="NO ACTION",
                indexed=False,
            )
        )
        if rows:
            obstacles |= dict.fromkeys(embedded_obstacles(schema, reference))
            obstacles |= dict.fromkeys(_find_embedded_wrongs(connection, embedded))
    return tuple(repoints), tuple(obstacles)


def _find_embedded_wrongs(connection: Connection, embedded: EmbeddedTable) -> Iterator[Obstacle]:
    reference = embedded.reference
    if reference.elements:
        yield from _find(
            connection,
            reference.label,
            "it has arrays of several dimensions",
            find_matrices(embedded),
        )
    yield from _find(
        connection,
        reference.label,
        "its survivors have no value to reference for rows",
        find_lost(embedded),
    )
    if reference.referencing == reference.referenced:
        yield from _find(
            connection,
            reference.label,
            "rows of a cluster reference duplicates themselves",
            find_own(embedded),
        )


def _find_uncovered(
    connection: Connection, schema: Schema, members: MemberTable, key: ForeignKey
) -> Iterator[Obstacle]:
    """The rows of heirs that point at duplicates, of which PostgreSQL would not notice."""
    for own in uncovered_heirs(schema, key):
        rows = connection.execute(count_references(members, own)).scalar_one()
        if rows:
            yield Obstacle(
                subject=key.label,
                reason=f"{rows} rows of {own.referencing}, which inherits from {key.referencing}, "
                "reference duplicates, and the key does not hold for them; declare that as a "
                "[[reference]] in fkdoctor.toml",
            )


def judge_collisions(connection: Connection, derivation: Derivation) -> tuple[Resolution, ...]:
    """What becomes of the rows that collide, counted by table and constraint.

    Those that differ in nothing but their keys are told from the others.
    """
    found = []
    for name, members in derivation.members.items():
        image = derivation.images.get(name)
        if image is None:
            continue
        connection.execute(comparison.judge_losers(image, members))
        for because, differs, link, rows in connection.execute(
            comparison.count_collisions(members)
        ):
            found.append(
                Resolution(
                    table=name,
                    constraint=because,
                    policy=resolve(derivation, name, differs=differs, link=link),
                    rows=rows,
                )
            )
    for name, members in derivation.demoted.items():
        for because, _, _, rows in connection.execute(comparison.count_collisions(members)):
            policy = derivation.rule(name).collisions
            found.append(Resolution(table=name, constraint=because, policy=policy, rows=rows))
    return tuple(found)


def resolve(derivation: Derivation, table: TableName, *, differs: bool, link: bool) -> str:
    """The policy that decides on a row of the table that collides."""
    rule = derivation.rule(table)
    if link:
        return rule.links
    return rule.collisions if differs or is_demotion(rule.collisions) else IDENTICAL


def _find_unsettled(
    connection: Connection, derivation: Derivation, members: MemberTable
) -> Iterator[Obstacle]:
    """The rows that collide and that nobody has said what to do with."""
    table, image = members.table, derivation.images.get(members.table.name)
    if image is None:
        return
    rule = derivation.rule(table.name)
    if rule.links == REFUSE:
        links: dict[str, list[str]] = {}
        for because, key in connection.execute(comparison.select_links(members)):
            links.setdefault(because, []).append(_name_row(key))
        for because, named in links.items():
            yield _obstacle(because, "rows would reference one survivor twice", named)
    if rule.collisions == REFUSE:
        yield from find_differing(connection, derivation, members)


def find_differing(
    connection: Connection, derivation: Derivation, members: MemberTable
) -> Iterator[Obstacle]:
    """The rows that collide and differ, by constraint, with what they differ in."""
    table, image = members.table, derivation.images[members.table.name]
    differing: dict[str, list[str]] = {}
    columns = comparison.compared_columns(table)
    for row in connection.execute(comparison.select_differing(image, members)):
        told = _tell_difference(columns, row.lost_values, row.kept_values)
        pair = f"{_name_row(row.lost)} and {_name_row(row.kept)} differ in {told}"
        differing.setdefault(row.because, []).append(pair)
    for because, named in differing.items():
        subject = f"{table.name} unique key {quote(because)}"
        yield _obstacle(subject, "rows would collide once repointed", named)


def _tell_difference(
    columns: Sequence[str], lost: Sequence[str | None], kept: Sequence[str | None]
) -> str:
    return ", ".join(
        f"{quote(name)} ({_show(one)} / {_show(other)})"
        for name, one, other in zip(columns, lost, kept, strict=True)
        if one != other
    )


def _show(value: str | None) -> str:
    if value is None:
        return "NULL"
    return repr(value if len(value) <= _SHOWN_LENGTH else value[: _SHOWN_LENGTH - 1] + "…")


def _find_wrongs(
    connection: Connection, derivation: Derivation, members: MemberTable, key: ForeignKey
) -> Iterator[Obstacle]:
    """What would be wrong with rows that move by the key."""
    table: Table = derivation.schema.table(key.referencing)
    going = derivation.members.get(table.name)
    yield from _find(
        connection,
        key.label,
        "its survivors have no value to reference for rows",
        sql.find_lost_references(members, key, table, going),
    )
    for other, shared in shared_columns(derivation.schema, key):
        yield from _find(
            connection,
            key.label,
            f"{quote_all(shared)} also belongs to {quote(other.name)}, and would change with the "
            "references to"
            if other.referencing == key.referencing and set(shared) <= {*other.referencing_columns}
            else f"{other.label} references its {quote_all(shared)}, which would change with the "
            "references to",
            sql.find_torn(members, key, shared),
        )
    if key.self_referencing:
        rule = derivation.rule(table.name).above
        if rule == REFUSE or not nullable_columns(table, key):
            yield from _find(
                connection,
                key.label,
                "rows of a cluster reference duplicates themselves",
                sql.find_entangled(members, key),
            )
        yield from _find_loops(connection, members, key)


def _find_loops(
    connection: Connection, members: MemberTable, key: ForeignKey
) -> Iterator[Obstacle]:
    loops: list[list[str]] = []
    for start in connection.execute(sql.find_loops(members, key)).scalars():
        if not any(", ".join(start) in loop for loop in loops):
            loops.append(connection.execute(sql.trace_loop(members, key, start)).scalar_one())
    if loops:
        named = [" → ".join(_name_row([row]) for row in (loop[-1], *loop)) for loop in loops]
        yield _obstacle(key.label, "survivors would come to be above themselves", named)


def _find(connection: Connection, subject: str, wrong: str, query: Query) -> Iterator[Obstacle]:
    found = connection.execute(query).scalars().all()
    if found:
        yield _obstacle(subject, wrong, [_name_row(key) for key in found])


def _obstacle(subject: str, wrong: str, named: Sequence[str]) -> Obstacle:
    more = " and perhaps more" if len(named) >= SHOWN else ""
    return Obstacle(subject=subject, reason=f"{wrong}: {'; '.join(named)}{more}")


def _name_row(key: Sequence[str]) -> str:
    """A row's key: `(3, 7)`."""
    return f"({', '.join(str(value)[:_SHOWN_LENGTH] for value in key)})"
