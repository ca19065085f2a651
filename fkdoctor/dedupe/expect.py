"""What a batch brings about, as the plan has it: quick, and right unless somebody wrote meanwhile.

Which rows collide follows from these rows, from those for which they go and from the clusters. All
of them are locked and compared with what the plan saw. What can still be new is a row that was
written since: where it comes to collide, PostgreSQL refuses it; where it links two rows of one
merge, it is found here. Such a batch is done again, with everything derived anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from sqlalchemy import Connection

from fkdoctor.dedupe.derive import Derivation, derive_collisions, image_of, members_of
from fkdoctor.dedupe.plan import Cluster, Member, Obstacle
from fkdoctor.dedupe.policy import INHERIT
from fkdoctor.dedupe.start import PLAN_AGAIN
from fkdoctor.dedupe.work import find_differing_clusters, merged_tables
from fkdoctor.errors import Blocked
from fkdoctor.schema import TableName
from fkdoctor.statement import merge
from fkdoctor.statement.image import find_links
from fkdoctor.statement.members import MemberTable, analyze_members, clear_members

PlannedMember = tuple[int, bool, Member, Member | None]
"""A row's cluster, whether it survives, the row, and the survivor."""


def list_members(clusters: Iterable[Cluster]) -> Iterator[PlannedMember]:
    """The rows of the deduplicated table that the clusters merge."""
    for cluster in clusters:
        for together in cluster.merges:
            yield cluster.number, True, together.survivor, together.survivor
            for member in together.duplicates:
                yield cluster.number, False, member, together.survivor


def list_colliding(
    root: TableName, clusters: Iterable[Cluster]
) -> Mapping[TableName, Sequence[PlannedMember]]:
    """By table the rows that collide, as the plan says, and those for which they go.

    Of the deduplicated table, `root`, they are behind the members that the clusters name.
    """
    found: dict[TableName, list[PlannedMember]] = {root: list(list_members(clusters))}
    known = {root: {row.key for _, _, row, _ in found[root]}}
    for cluster in clusters:
        for collision in cluster.collisions:
            table, kept = collision.table, collision.kept
            of_table = found.setdefault(table, [])
            of_table.append((cluster.number, False, collision.row, kept))
            if kept and kept.key not in (keys := known.setdefault(table, set())):
                keys.add(kept.key)
                of_table.append((cluster.number, True, kept, kept))
    return found


def fill(connection: Connection, members: MemberTable, planned: Iterable[PlannedMember]) -> None:
    """Puts these members in, and locks their rows."""
    names = ["clusters", "survivors", "fingerprints"]
    names += [f"{kind}_{i}" for kind in ("member", "keep") for i in range(members.key_width)]
    nothing = (None,) * members.key_width
    rows = [
        (cluster, survives, row.fingerprint, *row.key, *(keep.key if keep else nothing))
        for cluster, survives, row, keep in planned
    ]
    binds = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    connection.execute(merge.fill_members(members), binds)
    connection.execute(analyze_members(members))
    # A statement of its own: the next one sees what was committed while this one waited.
    connection.execute(merge.lock_members(members)).close()


def expect_collisions(
    connection: Connection, derivation: Derivation, clusters: Sequence[Cluster]
) -> set[int] | None:
    """Fills in the rows that collide as the plan says; which clusters are stale, and left out.

    None when that cannot be told: when a row links two ends of one merge of which the plan does not
    know, or where survivors inherit what is above their duplicates.
    """
    if any(rule.above == INHERIT for rule in derivation.rules.values()):
        return None
    schema = derivation.schema
    (root,) = derivation.members
    planned = list_colliding(root, clusters)
    for name in reversed(merged_tables(schema, root, planned)):
        fill(connection, members_of(connection, derivation, schema.table(name)), planned[name])
    stale: set[int] = set()
    for members in derivation.members.values():
        stale |= set(connection.execute(merge.find_stale_clusters(members)).scalars())
    for members in derivation.members.values():
        if stale:
            connection.execute(merge.drop_clusters(members), {"clusters": sorted(stale)})
        for statement in merge.carry_values(members):
            connection.execute(statement)
    referencing = {key.referencing for name in planned for key in schema.keys_to(name)}
    for name in sorted(referencing):
        image = image_of(derivation, name)
        if image and any(connection.execute(query).first() for query in find_links(image)):
            return None
    return stale


def derive_anew(
    connection: Connection, derivation: Derivation, batch: Sequence[Cluster]
) -> set[int]:
    """Finds what the merges of the batch bring about, which is what the plan says.

    Clusters for which it is not are stale and dropped, until the rest agrees.
    """
    ((root, members),) = derivation.members.items()
    fill(connection, members, list_members(batch))
    stale = set(connection.execute(merge.find_stale_clusters(members)).scalars())
    if stale:
        connection.execute(merge.drop_clusters(members), {"clusters": sorted(stale)})
    for statement in merge.carry_values(members):
        connection.execute(statement)
    while True:
        derive_collisions(connection, derivation)
        if derivation.obstacles:
            raise unforeseen(next(iter(derivation.obstacles)))
        differing = find_differing_clusters(connection, derivation, batch, stale)
        if not differing:
            return stale
        stale |= differing
        connection.execute(merge.drop_clusters(members), {"clusters": sorted(stale)})
        connection.execute(merge.drop_derived(members))
        for name, other in derivation.made.items():
            if name != root:
                connection.execute(clear_members(other))
        derivation.forget()


def unforeseen(obstacle: Obstacle) -> Blocked:
    """The refusal for what the plan did not foresee."""
    return Blocked(
        "Refused; nothing of this batch was changed.",
        why=f"{obstacle.subject}: {obstacle.reason}.",
        next=PLAN_AGAIN,
    )
