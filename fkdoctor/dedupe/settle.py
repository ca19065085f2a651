"""What the merges bring about, once the clusters are left out of which that is not settled."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from fkdoctor.dedupe.derive import Derivation, derive_collisions
from fkdoctor.dedupe.lookahead import find_differing, judge_collisions
from fkdoctor.dedupe.plan import Obstacle, Resolution
from fkdoctor.dedupe.policy import SKIP
from fkdoctor.statement.comparison import select_differing_clusters
from fkdoctor.statement.members import (
    analyze_members,
    clear_members,
    count_members,
    relabel_clusters,
)
from fkdoctor.statement.merge import drop_clusters, drop_derived


@dataclass(frozen=True, kw_only=True)
class Settled:
    """The rows that collide, by table and constraint, and how many merges there are in how many
    clusters. `left_out` tells why `skipped` clusters are not among them."""

    clusters: int
    survivors: int
    duplicates: int
    resolutions: tuple[Resolution, ...]
    skipped: int
    left_out: tuple[Obstacle, ...]


def derive_settled(connection: Connection, derivation: Derivation) -> Settled:
    """Finds every row that collides, as derive_collisions does, and joins the clusters that are
    tied.

    Where rows differ in a table whose policy is to skip, their clusters are left out. Others may
    come out differently then, so that all is derived anew.
    """
    root, members = next(iter(derivation.members.items()))
    skipped, left_out = 0, dict[Obstacle, None]()
    while True:
        derive_collisions(connection, derivation)
        _join_tied(connection, derivation)
        resolutions = judge_collisions(connection, derivation)
        wrong: set[int] = set()
        for name, colliding in derivation.members.items():
            if derivation.rule(name).collisions == SKIP and name in derivation.images:
                wrong |= set(connection.execute(select_differing_clusters(colliding)).scalars())
                left_out |= dict.fromkeys(find_differing(connection, derivation, colliding))
        if not wrong:
            break
        skipped += len(wrong)
        connection.execute(drop_clusters(members), {"clusters": sorted(wrong)})
        connection.execute(drop_derived(members))
        for name, other in derivation.made.items():
            if name != root:
                connection.execute(clear_members(other))
        derivation.forget()
        connection.execute(analyze_members(members))
    clusters, survivors, duplicates = connection.execute(count_members(members)).one()
    return Settled(
        clusters=clusters,
        survivors=survivors,
        duplicates=duplicates,
        resolutions=resolutions,
        skipped=skipped,
        left_out=tuple(left_out),
    )


def _join_tied(connection: Connection, derivation: Derivation) -> None:
    """Gives tied clusters the lowest of their numbers."""
    above: dict[int, int] = {}

    def find(cluster: int) -> int:
        while (parent := above.get(cluster, cluster)) != cluster:
            above[cluster] = above.get(parent, parent)
            cluster = parent
        return cluster

    for one, other in sorted(derivation.ties):
        first, second = sorted((find(one), find(other)))
        if first != second:
            above[second] = first
    if above:
        numbers = {"old": list(above), "new": [find(cluster) for cluster in above]}
        for members in (*derivation.members.values(), *derivation.demoted.values()):
            connection.execute(relabel_clusters(members), numbers)
