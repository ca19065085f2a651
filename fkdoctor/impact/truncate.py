"""What a TRUNCATE would do: it empties tables, and asks no key what to do with the rows.

Every key counts that leads to a table that is emptied, whether rows use it or not, and also when it
is disabled or NOT ENFORCED (heap_truncate_find_FKs; measured on 12 to 18).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from fkdoctor.errors import ConfigError
from fkdoctor.impact.closure import SCAN_LIMIT
from fkdoctor.impact.effect import Caveat, Effect, Impact, Obstacle, Trouble, Verdict
from fkdoctor.impact.reach import find_family
from fkdoctor.impact.scope import Scope, with_heirs
from fkdoctor.schema import ForeignKey, Schema, TableKind, TableName
from fkdoctor.statement.lookup import count_rows
from fkdoctor.statement.script import Statement


@dataclass(frozen=True, kw_only=True)
class _Emptied:
    """A table that is emptied, and by which key it comes to that."""

    level: int
    key: ForeignKey | None


def preview_truncate(
    connection: Connection,
    schema: Schema,
    statement: Statement,
    tables: Sequence[TableName],
    scope: Scope,
) -> Impact:
    """What the TRUNCATE of the tables would do."""
    emptied: dict[TableName, _Emptied] = {}
    for name, target in zip(tables, statement.targets, strict=True):
        if target.only and schema.table(name).kind is TableKind.PARTITIONED:
            raise ConfigError(
                f"{name} cannot be truncated with ONLY.",
                why="It is partitioned: the rows are in its partitions.",
                next=f"Leave ONLY out: TRUNCATE {name}",
            )
        members = [schema.table(name)] if target.only else with_heirs(schema, schema.table(name))
        for member in members:
            for leaf in schema.leaves(member.name):
                emptied[leaf.name] = _Emptied(level=0, key=None)
    missing = _find_missing(schema, emptied)
    if statement.cascade:
        _follow(schema, emptied)
    effects = _count_rows(connection, schema, emptied, scope)
    obstacles = () if statement.cascade else tuple(_make_obstacle(schema, key) for key in missing)
    return Impact(
        command="TRUNCATE",
        table=tables[0],
        verdict=Verdict.BLOCKED if obstacles else Verdict.ALLOWED,
        effects=tuple(sorted(effects, key=lambda effect: (effect.level, effect.table))),
        changed_rows=0,
        obstacles=obstacles,
        key_orders=(),
        possible=(),
        caveats=tuple(_find_caveats(schema, emptied)),
    )


def _find_missing(schema: Schema, emptied: Mapping[TableName, _Emptied]) -> list[ForeignKey]:
    """The keys to tables that are emptied from tables that are not."""
    return [
        key
        for key in schema.foreign_keys
        if any(leaf.name in emptied for leaf in schema.leaves(key.referenced))
        if not all(leaf.name in emptied for leaf in schema.leaves(key.referencing))
    ]


def _follow(schema: Schema, emptied: dict[TableName, _Emptied]) -> None:
    """Adds the tables that CASCADE empties too."""
    level = 0
    while found := _find_missing(schema, emptied):
        level += 1
        for key in found:
            for leaf in schema.leaves(key.referencing):
                emptied.setdefault(leaf.name, _Emptied(level=level, key=key))


def _count_rows(
    connection: Connection, schema: Schema, emptied: Mapping[TableName, _Emptied], scope: Scope
) -> list[Effect]:
    """The rows of the tables; partitions that are emptied for the same cause count together."""
    effects: dict[tuple[TableName, _Emptied], Effect] = {}
    for name, at in emptied.items():
        table, family = schema.table(name), find_family(schema, name)
        known = effects.get((family, at))
        estimated = table.size_bytes > SCAN_LIMIT and not scope.exact
        if estimated:
            rows = table.row_estimate or 0
        else:
            rows = connection.execute(count_rows(table)).scalar_one()
        effects[family, at] = Effect(
            table=family,
            source=find_family(schema, at.key.referenced) if at.key else None,
            key=at.key,
            action=None,
            deletes=True,
            level=at.level,
            rows=rows + (known.rows if known else 0),
            estimated=estimated or (known is not None and known.estimated),
        )
    return list(effects.values())


def _make_obstacle(schema: Schema, key: ForeignKey) -> Obstacle:
    return Obstacle(
        trouble=Trouble.NOT_TRUNCATED,
        key=key,
        table=find_family(schema, key.referencing),
        name=key.name,
        level=0,
        at_commit=False,
        rows=0,
        paths=(),
    )


def _find_caveats(schema: Schema, emptied: Mapping[TableName, _Emptied]) -> Iterator[Caveat]:
    for name in sorted(emptied):
        table = schema.table(name)
        for trigger in table.triggers:
            if "TRUNCATE" in trigger.events:
                yield Caveat(
                    subject=f"{name}.{trigger.name}",
                    reason=f"the trigger runs {trigger.function}: what it does is not foreseen",
                )
