"""What a plan does to which table in which order, and whether a batch comes out as it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from fkdoctor.dedupe.derive import Derivation
from fkdoctor.dedupe.plan import Cluster, DedupePlan, FieldRule, Member
from fkdoctor.dedupe.policy import parse_demotion
from fkdoctor.inspect.graph import delete_order
from fkdoctor.schema import ForeignKey, LogicalReference, Schema, TableName
from fkdoctor.statement.comparison import select_collisions
from fkdoctor.statement.fields import FieldTable
from fkdoctor.statement.journal import moves_identity
from fkdoctor.statement.members import MemberTable


@dataclass(frozen=True, kw_only=True)
class Step:
    """One kind of change to each batch: references of a `key` or `reference` move, rows of a table
    go, or survivors get other values in the columns of `fields`.

    `siblings` are the steps that change what identifies rows of the same table.
    """

    number: int
    table: TableName
    key: ForeignKey | None = None
    reference: LogicalReference | None = None
    fields: tuple[FieldRule, ...] = ()
    siblings: tuple[int, ...] = ()

    @property
    def action(self) -> str:
        """The word for it in the ledger."""
        if self.key or self.reference:
            return "repoint"
        return "update" if self.fields else "delete"

    @property
    def changed(self) -> tuple[str, ...]:
        """The columns that it changes; () where it deletes rows."""
        if self.reference:
            return (self.reference.referencing_column,)
        if self.key:
            return self.key.referencing_columns
        return tuple(field.column for field in self.fields)


@dataclass(frozen=True, kw_only=True)
class Work:
    """All that is done about the duplicates of one table, in the order of the steps; or that it
    `demotes` rows of it."""

    table: TableName
    steps: tuple[Step, ...]
    demotes: bool = False

    @property
    def delete(self) -> Step:
        """The step that deletes the duplicates."""
        return next(step for step in self.steps if step.action == "delete")

    @property
    def update(self) -> Step | None:
        """The step that gives survivors other values; not before the duplicates are gone, because
        values may be unique."""
        return next((step for step in self.steps if step.action == "update"), None)


def merged_tables(
    schema: Schema, root: TableName, colliding: Iterable[TableName]
) -> tuple[TableName, ...]:
    """The deduplicated table and those of which rows collide, in the order in which rows go.

    A table's rows go before those that they reference, so that these can be repointed without a
    collision and go when nothing references them.
    """
    names = {root, *colliding}
    return tuple(name for group in delete_order(schema, names) for name in group)


def going_tables(plan: DedupePlan) -> Iterator[TableName]:
    """The tables of which rows go because they collide."""
    return (found.table for found in plan.resolutions if found.goes)


def plan_work(schema: Schema, plan: DedupePlan) -> tuple[Work, ...]:
    """What is done, in its order."""
    steps: list[tuple[TableName, Step]] = []
    demotions: list[Step] = []
    for name in sorted({found.table for found in plan.resolutions if not found.goes}):
        policy = next(rule.collisions for rule in plan.rules if rule.table == name)
        column, _ = parse_demotion(schema.table(name), policy)
        field = FieldRule(table=name, column=column, kind="demote")
        demotions.append(Step(number=len(demotions) + 1, table=name, fields=(field,)))
    steps += [(step.table, step) for step in demotions]
    tables = merged_tables(schema, plan.table, going_tables(plan))
    for name in tables:
        for key in schema.keys_to(name):
            steps.append((name, Step(number=len(steps) + 1, table=key.referencing, key=key)))
        for reference in plan.references:
            if reference.embedded and reference.referenced == name:
                number, table = len(steps) + 1, reference.referencing
                steps.append((name, Step(number=number, table=table, reference=reference)))
        steps.append((name, Step(number=len(steps) + 1, table=name)))
        if fields := tuple(field for field in plan.fields if field.table == name):
            steps.append((name, Step(number=len(steps) + 1, table=name, fields=fields)))
    moving: dict[TableName, tuple[int, ...]] = {}
    for _, step in steps:
        if step.key and moves_identity(schema.table(step.table), step.key.referencing_columns):
            moving[step.table] = (*moving.get(step.table, ()), step.number)
    for _, step in steps:
        if (step.fields or step.reference) and step.table in moving:
            moving[step.table] = (*moving[step.table], step.number)
    # Rows make way before others move.
    first = [replace(step, siblings=moving.get(step.table, ())) for step in demotions]
    return (
        *(Work(table=step.table, steps=(step,), demotes=True) for step in first),
        *(
            Work(
                table=name,
                steps=tuple(
                    replace(step, siblings=moving.get(step.table, ()))
                    for merged, step in steps
                    if merged == name and step not in demotions
                ),
            )
            for name in tables
        ),
    )


def count_planned(
    root: TableName, table: TableName, clusters: Sequence[Cluster]
) -> tuple[int, int]:
    """How many survivors the clusters have in the table, and how many rows that go."""
    survivors: set[tuple[str, ...]] = set()
    duplicates = 0
    for cluster in clusters:
        for merge in cluster.merges if table == root else ():
            survivors.add(merge.survivor.key)
            duplicates += len(merge.duplicates)
        for collision in cluster.collisions:
            if collision.table == table and collision.goes:
                duplicates += 1
                if collision.kept:
                    survivors.add(collision.kept.key)
    return len(survivors), duplicates


def fields_of(members: MemberTable, rules: Sequence[FieldRule]) -> FieldTable:
    """The table of what the survivors among the members will hold."""
    return FieldTable(
        members=members, rules={rule.column: (rule.kind, rule.argument) for rule in rules}
    )


_Fact = tuple[TableName, Member, Member | None]


def find_differing_clusters(
    connection: Connection,
    derivation: Derivation,
    batch: Sequence[Cluster],
    stale: Set[int],
) -> set[int]:
    """The clusters of the batch that would bring about other collisions than planned."""
    planned = Counter(
        (cluster.number, (collision.table, collision.row, collision.kept))
        for cluster in batch
        if cluster.number not in stale
        for collision in cluster.collisions
    )
    found = Counter(_read_found(connection, derivation))
    differing = {number for number, _ in (planned - found) + (found - planned)}
    # A tie that the plan does not know: neither cluster is what it was.
    return differing | derivation.stale | {cluster for tie in derivation.ties for cluster in tie}


def _read_found(connection: Connection, derivation: Derivation) -> Iterator[tuple[int, _Fact]]:
    for name, members in (*derivation.members.items(), *derivation.demoted.items()):
        for row in connection.execute(select_collisions(members)):
            kept = row.kept_fingerprint and Member(
                key=tuple(row.kept), fingerprint=row.kept_fingerprint
            )
            gone = Member(key=tuple(row.row), fingerprint=row.row_fingerprint)
            yield row.cluster, (name, gone, kept)
