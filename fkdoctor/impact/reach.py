"""Which tables a DELETE can reach, by which keys, in which order they can be gone through. Pure.

A *family* is a table with its partitions, called by the name of the topmost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from fkdoctor.impact.firing import Event, FiringOrder
from fkdoctor.inspect.graph import delete_order, keys_into
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName

CHECKS = frozenset({ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT})


@dataclass(frozen=True, kw_only=True)
class Link:
    """A key that acts when rows of one family go, on rows of another or the same.

    `uneven` where it does so on some of the partitions only.
    """

    number: int
    key: ForeignKey
    action: ReferentialAction
    source: TableName
    target: TableName
    uneven: bool

    @property
    def cascades(self) -> bool:
        """Whether it deletes referencing rows."""
        return self.action is ReferentialAction.CASCADE

    @property
    def checks(self) -> bool:
        """Whether it changes nothing, but may refuse."""
        return self.action in CHECKS

    @property
    def changes(self) -> bool:
        """Whether it changes referencing rows (and does not delete them)."""
        return self.action in (ReferentialAction.SET_NULL, ReferentialAction.SET_DEFAULT)

    @property
    def deferred(self) -> bool:
        """Whether it looks only at COMMIT."""
        return self.action is ReferentialAction.NO_ACTION and self.key.initially_deferred


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What can be reached from some families.

    `groups` are the families that lose rows, each after those it loses them through; families in
    one group lose rows through each other. `silent` are keys that should act and do not.
    """

    groups: tuple[tuple[TableName, ...], ...]
    links: tuple[Link, ...]
    silent: tuple[ForeignKey, ...]

    @cached_property
    def families(self) -> tuple[TableName, ...]:
        """The families that lose rows, in order."""
        return tuple(family for group in self.groups for family in group)

    def links_to(self, family: TableName) -> tuple[Link, ...]:
        """The links that act on rows of the family."""
        return tuple(link for link in self.links if link.target == family)

    def links_from(self, family: TableName) -> tuple[Link, ...]:
        """The links that act when rows of the family go."""
        return tuple(link for link in self.links if link.source == family)


def find_family(schema: Schema, table: TableName) -> TableName:
    """The topmost table of which the table is a partition; itself if it is none."""
    while (above := schema.table(table).partition_of) is not None:
        table = above
    return table


def find_reach(schema: Schema, order: FiringOrder, families: Iterable[TableName]) -> Reach:
    """What a DELETE of rows of the families can reach."""
    links: list[Link] = []
    silent: list[ForeignKey] = []
    reached = list(families)
    for family in reached:
        for key in keys_into(schema, family):
            leaves = schema.leaves(key.referenced)
            actions = {
                leaf.name: firing.action
                for leaf in leaves
                for firing in order.on(leaf.name, Event.DELETE)
                if firing.key is key and firing.action is not None
            }
            if len(actions) < len(leaves):
                silent.append(key)
            if not actions:
                continue
            link = Link(
                number=len(links) + 1,
                key=key,
                action=next(iter(actions.values())),
                source=family,
                target=find_family(schema, key.referencing),
                uneven=len(actions) < len(leaves),
            )
            links.append(link)
            if link.cascades and link.target not in reached:
                reached.append(link.target)
    cascades = [link.key for link in links if link.cascades]
    only_cascades = replace(schema, foreign_keys=tuple(cascades))
    return Reach(
        groups=tuple(reversed(delete_order(only_cascades, reached))),
        links=tuple(links),
        silent=tuple(silent),
    )
