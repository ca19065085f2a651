"""Rows of the catalog → Schema: joined by OID, letters read, partition copies folded. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from fkdoctor.identifier import quote, read_schemas
from fkdoctor.schema import (
    Column,
    Constraint,
    ForeignKey,
    Index,
    IndexKey,
    KeyClone,
    KeyOperator,
    KeyTrigger,
    MatchType,
    ReferentialAction,
    ReplicaSetting,
    RewriteRule,
    Schema,
    Table,
    TableKind,
    TableName,
    Trigger,
    TriggerFunction,
    TriggerState,
    Unread,
    UpsertSource,
)

Value = TypeVar("Value")
Rows = Sequence[Any]


class SchemaChanged(Exception):
    """Something was dropped between the snapshot and the look at its definition."""


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """What the queries under sql/catalog returned, by name, and which could not be asked."""

    rows: Mapping[str, Rows]
    unread: tuple[Unread, ...]


def assemble_schema(catalog: Catalog, present: Collection[int] | None = None) -> Schema:
    """The Schema that the rows describe; `present` are the tables (OIDs) that are still there.

    Raises SchemaChanged when the definition of something on one of these tables is missing.
    """
    rows = catalog.rows
    (server,) = rows["server"]
    tables = [
        row
        for row in rows["tables"]
        if row.kind in _TABLE_KINDS and (present is None or row.oid in present)
    ]
    names = {row.oid: TableName(row.schema, row.name) for row in tables}
    columns: dict[int, dict[int, Column]] = {row.oid: {} for row in tables}
    highest = {(row.table_oid, row.position): row.highest for row in rows["highest_values"]}
    for row in rows["columns"]:
        if row.table_oid in columns:
            number = highest.get((row.table_oid, row.position))
            columns[row.table_oid][row.position] = _column(row, number)
    parents: dict[int, list[int]] = defaultdict(list)
    for row in rows["inheritance"]:
        parents[row.oid].append(row.parent)

    def by_table(name: str, build: Callable[[Any], Value]) -> dict[int, tuple[Value, ...]]:
        grouped: dict[int, list[Value]] = defaultdict(list)
        for row in rows[name]:
            if row.table_oid in names:
                grouped[row.table_oid].append(build(row))
        return {oid: tuple(values) for oid, values in grouped.items()}

    indexes = by_table("indexes", _index_builder(rows, columns, parents))
    constraints = by_table("constraints", lambda row: _constraint(row, columns[row.table_oid]))
    triggers = by_table("triggers", lambda row: _trigger(row, columns[row.table_oid]))
    rules = by_table("rules", _rule)
    owners = {row.table_oid: row for row in rows["owner_rights"]}
    subscriptions = by_table("subscriptions", lambda row: str(row.name))
    found = []
    for row in tables:
        above = tuple(names[oid] for oid in parents[row.oid] if oid in names)
        found.append(
            Table(
                name=names[row.oid],
                kind=TableKind(row.kind),
                owner=row.owner,
                row_estimate=row.row_estimate,
                size_bytes=row.size_bytes,
                persistence=row.persistence,
                partition_of=above[0] if row.is_partition and above else None,
                partition_key=row.partition_key,
                inherits=() if row.is_partition else above,
                row_security=row.row_security,
                force_row_security=row.force_row_security,
                replica_identity=row.replica_identity,
                readable=row.readable,
                comment=row.comment,
                columns=tuple(columns[row.oid].values()),
                indexes=indexes.get(row.oid, ()),
                constraints=constraints.get(row.oid, ()),
                triggers=triggers.get(row.oid, ()),
                rules=rules.get(row.oid, ()),
                partition_bound=row.partition_bound,
                owner_lacks=tuple(owners[row.oid].lacks) if row.oid in owners else (),
                subscriptions=subscriptions.get(row.oid, ()),
            )
        )
    keys = [
        row for row in rows["foreign_keys"] if {row.referencing, row.referenced} <= names.keys()
    ]
    everywhere = {row.oid for row in rows["tables"]}
    outside = [
        Unread(
            subject=f"foreign key {quote(row.name)}",
            reason="it is between a table and one in a system schema",
        )
        for row in rows["foreign_keys"]
        if not {row.referencing, row.referenced} <= everywhere
    ]
    return Schema(
        database=server.database,
        server_version=server.version,
        replication_role=server.replication_role,
        tables=tuple(sorted(found, key=lambda table: table.name)),
        foreign_keys=_foreign_keys(keys, rows, names, columns),
        views=frozenset(
            TableName(row.schema, row.name) for row in rows["tables"] if row.kind in ("v", "m")
        ),
        unread=(*catalog.unread, *outside),
        replica_settings=tuple(
            ReplicaSetting(role=row.role, database=row.database) for row in rows["replica_settings"]
        ),
        trigger_functions=tuple(
            TriggerFunction(name=row.name, language=row.language, source=row.source)
            for row in rows["trigger_functions"]
        ),
        upsert_sources=tuple(_upsert_sources(rows)),
    )


def _upsert_sources(rows: Mapping[str, Rows]) -> Iterator[UpsertSource]:
    for row in rows["upserting_functions"]:
        path = read_schemas(row.search_path) if row.search_path is not None else ()
        yield UpsertSource(label=row.name, source=row.source, search_path=path)
    for row in rows["upserting_statements"]:
        yield UpsertSource(label=f"pg_stat_statements {row.number}", source=row.source)


_TABLE_KINDS = frozenset(kind.value for kind in TableKind)


def _present(definition: str | None) -> str:
    if definition is None:
        raise SchemaChanged
    return definition


# The same few lists, over and over.
@lru_cache(maxsize=4096)
def _positions(written: str) -> tuple[int, ...]:
    return tuple(int(position) for position in written.split())


def _column(row: Any, highest: int | None) -> Column:
    return Column(
        name=row.name,
        type=row.type,
        base_type=row.base_type,
        type_modifier=row.type_modifier,
        collation=row.collation,
        deterministic=row.deterministic,
        not_null=row.not_null,
        default=row.default_text,
        generated=row.generated,
        identity=row.identity,
        highest=highest,
    )


def _constraint(row: Any, columns: Mapping[int, Column]) -> Constraint:
    return Constraint(
        name=row.name,
        kind=row.kind,
        columns=tuple(
            columns[position].name for position in _positions(row.positions or "") if position > 0
        ),
        validated=row.validated,
        enforced=row.enforced,
        definition=_present(row.definition),
    )


_EVENTS = ((4, "INSERT"), (8, "DELETE"), (16, "UPDATE"), (32, "TRUNCATE"))


def _trigger(row: Any, columns: Mapping[int, Column]) -> Trigger:
    timing = "BEFORE" if row.bits & 2 else "INSTEAD OF" if row.bits & 64 else "AFTER"
    return Trigger(
        name=row.name,
        function=row.function,
        timing=timing,
        events=tuple(event for bit, event in _EVENTS if row.bits & bit),
        for_each_row=bool(row.bits & 1),
        state=TriggerState(row.state),
        columns=tuple(columns[position].name for position in _positions(row.positions)),
        conditional=row.conditional,
    )


_RULE_EVENTS = {"2": "UPDATE", "3": "INSERT", "4": "DELETE"}


def _rule(row: Any) -> RewriteRule:
    return RewriteRule(
        name=row.name,
        event=_RULE_EVENTS[row.event],
        instead=row.instead,
        state=TriggerState(row.state),
        conditional=row.conditional,
        same_command=row.same_command,
    )


_DESCENDING, _NULLS_FIRST = 1, 2


def _index_builder(
    rows: Mapping[str, Rows],
    columns: Mapping[int, Mapping[int, Column]],
    parents: Mapping[int, Sequence[int]],
) -> Callable[[Any], Index]:
    classes = {row.oid: row for row in rows["operator_classes"]}
    collations = {row.oid: row.name for row in rows["collations"]}
    expressions = {(row.oid, row.position): row.expression for row in rows["index_expressions"]}
    names = {row.oid: row.name for row in rows["indexes"]}
    definitions = {row.oid: row.definition for row in rows["index_definitions"]}

    def build(row: Any) -> Index:
        of_table = columns[row.table_oid]
        positions = _positions(row.positions)
        per_key = zip(
            positions[: row.key_count],
            _positions(row.operator_classes),
            _positions(row.collations),
            _positions(row.options),
            strict=False,
        )
        keys = tuple(
            IndexKey(
                column=of_table[position].name if position > 0 else None,
                expression=expressions.get((row.oid, number)),
                operator_class=classes[operator_class].name,
                operator_family=classes[operator_class].family,
                collation=collations.get(collation),
                descending=bool(option & _DESCENDING),
                nulls_first=bool(option & _NULLS_FIRST),
            )
            for number, (position, operator_class, collation, option) in enumerate(per_key, 1)
        )
        above = parents.get(row.oid)
        return Index(
            name=row.name,
            method=row.method,
            keys=keys,
            include=tuple(of_table[position].name for position in positions[row.key_count :]),
            unique=row.is_unique,
            primary=row.is_primary,
            immediate=row.immediate,
            nulls_not_distinct=row.nulls_not_distinct,
            predicate=_present(row.predicate) if row.is_partial else None,
            valid=row.valid,
            ready=row.ready,
            live=row.live,
            parent=names.get(above[0]) if above else None,
            constraint=row.constraint_name,
            comment=row.comment,
            written=_present(definitions.get(row.oid)) if definitions else None,
        )

    return build


def _in_firing_order(triggers: Iterable[KeyTrigger]) -> tuple[KeyTrigger, ...]:
    # PostgreSQL compares the bytes of the names, so ..._100003 fires before ..._99986.
    return tuple(sorted(triggers, key=lambda trigger: trigger.name.encode()))


def _foreign_keys(
    entries: Iterable[Any],
    rows: Mapping[str, Rows],
    names: Mapping[int, TableName],
    columns: Mapping[int, Mapping[int, Column]],
) -> tuple[ForeignKey, ...]:
    operators = {
        row.oid: KeyOperator(
            name=row.name,
            left_type=row.left_type,
            right_type=row.right_type,
            families=frozenset(row.families),
        )
        for row in rows["key_operators"]
    }
    triggers: dict[int, list[KeyTrigger]] = defaultdict(list)
    for row in rows["key_triggers"]:
        if row.table_oid in names:
            triggers[row.constraint_oid].append(
                KeyTrigger(
                    name=row.name,
                    table=names[row.table_oid],
                    function=row.function,
                    state=TriggerState(row.state),
                )
            )
    by_oid = {row.oid: row for row in entries}
    clones: dict[int, list[KeyClone]] = defaultdict(list)
    for row in by_oid.values():
        if row.parent:
            written = row
            while written.parent:
                written = by_oid[written.parent]
            clones[written.oid].append(
                KeyClone(
                    name=row.name,
                    referencing=names[row.referencing],
                    referenced=names[row.referenced],
                    validated=row.validated,
                    triggers=_in_firing_order(triggers[row.oid]),
                )
            )

    def build(row: Any) -> ForeignKey:
        referencing, referenced = columns[row.referencing], columns[row.referenced]
        return ForeignKey(
            oid=row.oid,
            name=row.name,
            referencing=names[row.referencing],
            referencing_columns=tuple(
                referencing[position].name for position in _positions(row.referencing_positions)
            ),
            referenced=names[row.referenced],
            referenced_columns=tuple(
                referenced[position].name for position in _positions(row.referenced_positions)
            ),
            on_delete=ReferentialAction(row.on_delete),
            on_update=ReferentialAction(row.on_update),
            set_columns=tuple(
                referencing[position].name for position in _positions(row.set_positions)
            ),
            match=MatchType(row.match),
            deferrable=row.is_deferrable,
            initially_deferred=row.is_deferred,
            validated=row.validated,
            enforced=row.enforced,
            period=row.period,
            operators=tuple(operators[oid] for oid in _positions(row.operators)),
            triggers=_in_firing_order(triggers[row.oid]),
            clones=tuple(
                sorted(clones[row.oid], key=lambda c: (c.referencing, c.referenced, c.name))
            ),
            comment=row.comment,
            definition=_present(row.definition),
            written_at=row.written_at,
            validated_by_row=bool(row.validated_by_row),
        )

    keys = [build(row) for row in by_oid.values() if not row.parent]
    return tuple(sorted(keys, key=lambda key: (key.referencing, key.name)))
