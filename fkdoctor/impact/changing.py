"""What SET NULL and SET DEFAULT of a DELETE change, and whether something refuses it.

Rows that go in the end count where a rule looks at them before; where a change itself decides what
other keys find, the levels are only a guess, and the survey says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sa

from fkdoctor.identifier import quote
from fkdoctor.impact.closure import Closing
from fkdoctor.impact.effect import Effect, Trouble
from fkdoctor.impact.firing import Event
from fkdoctor.impact.limits import refuse_unforeseen, relevant_rules
from fkdoctor.impact.reach import Link, find_family
from fkdoctor.impact.rules import evaluate, read_default, refused_by_domain
from fkdoctor.impact.survey import Hit, Place, Trace
from fkdoctor.impact.world import Unsupported
from fkdoctor.inspect.graph import keys_into, partition_family
from fkdoctor.schema import ForeignKey, MatchType, ReferentialAction, TableName
from fkdoctor.statement import closure as sql
from fkdoctor.statement.changes import (
    Change,
    Changes,
    count_broken,
    count_changed_rows,
    count_changes,
    create_changes,
    find_change,
    finds_collision,
    finds_look,
    finds_new_reference,
    finds_other_reference,
    finds_referencing,
    insert_changes,
    select_absent,
    select_partly_null,
    select_refused,
    show_broken,
    show_changes,
)
from fkdoctor.statement.parts import Query


class Changing:
    """The changes by a DELETE of which the closure is complete."""

    def __init__(self, closing: Closing) -> None:
        self._closing = closing
        self._connection = closing.connection
        self._schema = closing.schema
        self._survey = closing.survey
        self._changes: dict[TableName, Changes] = {}

    def change(self) -> None:
        """Asks what SET NULL and SET DEFAULT do, and whether something refuses it."""
        by_family: dict[TableName, list[Link]] = defaultdict(list)
        for link in self._closing.reach.links:
            if link.changes:
                by_family[link.target].append(link)
        for family, links in by_family.items():
            self._change_family(family, links)

    def _change_family(self, family: TableName, links: Sequence[Link]) -> None:
        hops = [(link, hop) for link in links if (hop := self._closing.hop(link)) is not None]
        if not hops:
            return
        changes = Changes(table=self._schema.table(family), number=len(self._survey.changed))
        self._changes[family] = changes
        self._connection.execute(create_changes(changes))
        for link, hop in hops:
            self._closing.run(insert_changes(changes, self._closing.make_check(link, hop)))
        numbers: dict[int, Counter[tuple[int, bool, bool]]] = defaultdict(Counter)
        for via, level, stays, contested, rows in self._connection.execute(count_changes(changes)):
            numbers[via][level, stays, contested] = rows
        stay, twice = self._connection.execute(count_changed_rows(changes)).one()
        self._survey.changed[family] = stay
        changing = [link for link, _ in hops if numbers[link.number]]
        for link in changing:
            self._change(link, changes, numbers[link.number])
        if twice:
            self._look_twice(changing, changes)

    def _change(
        self, link: Link, changes: Changes, numbers: Mapping[tuple[int, bool, bool], int]
    ) -> None:
        key = link.key
        for (level, stays, _), rows in sorted(numbers.items()):
            if stays:
                effect = Effect(
                    table=link.target,
                    source=link.source,
                    key=key,
                    action=link.action,
                    deletes=False,
                    level=level,
                    rows=rows,
                )
                shown = self._closing.places(
                    show_changes(changes, self._closing.shown), via=link.number, level=level
                )
                self._survey.effects.append((effect, shown))
        self._find_detours(link, changes)
        try:
            new = self._new_values(link)
            for leaf in self._schema.leaves(key.referencing):
                nulled = [name for name, value in new.items() if value is None]
                refuse_unforeseen(self._schema, leaf, new, nulled)
        except Unsupported as unsupported:
            self._give_up(unsupported, numbers)
            return
        change = Change(
            changes=changes,
            via=link.number,
            referencing=self._schema.table(key.referencing),
            new=new,
        )
        self._look_at_references(link, change)
        try:
            for leaf in self._schema.leaves(key.referencing):
                self._look_at_rules(link, replace(change, referencing=leaf))
        except Unsupported as unsupported:
            self._give_up(unsupported, numbers)

    def _new_values(self, link: Link) -> dict[str, str | None]:
        if link.action is ReferentialAction.SET_NULL:
            return dict.fromkeys(link.key.written_columns)
        return {
            column: read_default(self._connection, self._schema, link.key.referencing, column)
            for column in link.key.written_columns
        }

    def _give_up(
        self, unsupported: Unsupported, numbers: Mapping[tuple[int, bool, bool], int]
    ) -> None:
        """Notes that from the phase of the first of the changes on, other things may happen."""
        self._survey.unsupported.append(unsupported)
        first = min(level for level, _, _ in numbers) - 1
        self._survey.horizon = min(self._survey.horizon, first)

    def _find_detours(self, link: Link, changes: Changes) -> None:
        """Sees whether the changes themselves decide what other keys find."""
        written = set(link.key.written_columns)
        for other in self._closing.reach.links_to(link.target):
            shared = written & set(other.key.referencing_columns)
            if other is link or not shared or (hop := self._closing.hop(other)) is None:
                continue
            if self._finds(finds_other_reference(changes, link.number, hop)):
                self._survey.misled.append(
                    f"{link.key.label} changes columns by which {other.key.label} finds rows"
                )
        for key in keys_into(self._schema, link.target):
            if not written & set(key.referenced_columns) or not self._acts(key):
                continue
            if self._finds(finds_referencing(changes, link.number, key, self._schema)):
                self._survey.misled.append(
                    f"{link.key.label} changes columns that {key.label} references"
                )

    def _acts(self, key: ForeignKey) -> bool:
        """Whether something fires when a row that the key references changes."""
        return any(
            firing.key is key and firing.action is not None
            for leaf in self._schema.leaves(key.referenced)
            for firing in self._closing.order.on(leaf.name, Event.UPDATE)
        )

    def _is_looked_after(self, key: ForeignKey) -> bool:
        """Whether something fires when a row that has the key changes."""
        return any(
            firing.key is key and firing.action is None
            for leaf in self._schema.leaves(key.referencing)
            for firing in self._closing.order.on(leaf.name, Event.UPDATE)
        )

    def _look_at_references(self, link: Link, change: Change) -> None:
        """Asks where the new references lead."""
        family = partition_family(self._schema, link.key.referencing)
        for key in (key for member in family for key in self._schema.keys_from(member)):
            written = set(change.new) & set(key.referencing_columns)
            looked_after = self._is_looked_after(key)
            if not written:
                continue
            if any(change.new[name] is None for name in written):
                if key.match is MatchType.FULL and looked_after:
                    broken = select_partly_null(change, key)
                    self._break(link, key, Trouble.PARTLY_NULL, key.name, broken, looks=True)
                continue
            referenced = self._schema.table(key.referenced)
            gone = self._closing.closure(find_family(self._schema, key.referenced))
            if gone is not None and self._finds(finds_new_reference(change, key, gone)):
                self._survey.misled.append(f"the default of {key.label} leads to a row that goes")
            if looked_after:
                broken = select_absent(change, key, referenced)
                self._break(link, key, Trouble.MISSING, key.name, broken, looks=True)

    def _look_at_rules(self, link: Link, change: Change) -> None:
        """Asks a partition, or a table that is none, what it says of the new rows."""
        table = change.referencing
        nulled = [name for name, value in change.new.items() if value is None]
        for name in nulled:
            if table.column(name).not_null:
                self._break(link, link.key, Trouble.NOT_NULL, name, change.select(sa.true()))
        for name, value in change.new.items():
            refused = refused_by_domain(self._connection, table.column(name), value)
            if refused is not None:
                self._break(link, link.key, Trouble.CHECK, refused, change.select(sa.true()))
        checks, indexes = relevant_rules(table, change.new, nulled)
        for check in checks:
            broken = select_refused(change, check)
            self._break(link, link.key, Trouble.CHECK, check.name, broken)
        for index in indexes:
            found = evaluate(self._connection, finds_collision(change, index), {}, index.name)
            if found[0][0]:
                name = quote(index.constraint or index.name)
                self._survey.questions.append(f"rows of {table.name} come to collide in {name}")

    def _break(
        self,
        link: Link,
        key: ForeignKey,
        trouble: Trouble,
        name: str,
        changes: Query,
        *,
        looks: bool = False,
    ) -> None:
        """Notes what is offended by changes: a rule at once, or a key that looks a phase later."""
        at_commit = looks and key.initially_deferred
        broken: Counter[int] = Counter()
        for level, until, rows in evaluate(self._connection, count_broken(changes), {}, name):
            looked = level + looks
            if until is None or (until > looked and not at_commit):
                broken[looked - 1] += rows
            elif until == looked and not at_commit:
                self._survey.questions.append(
                    f"{rows} rows of {link.target} go in the same phase in which "
                    f"{quote(name)} would refuse what {link.key.label} makes of them"
                )
        if broken:
            shown = evaluate(self._connection, show_broken(changes, self._closing.shown), {}, name)
            self._survey.hits.append(
                Hit(
                    trouble=trouble,
                    key=key,
                    table=link.target,
                    name=name,
                    level=min(broken),
                    at_commit=at_commit,
                    rows=broken.total(),
                    traces=tuple(
                        self._closing.trace(
                            link, leaf, at, *self._find_origin(link, leaf, at, level)
                        )
                        for leaf, at, level in shown
                    ),
                )
            )

    def _find_origin(self, link: Link, leaf: int, at: str, level: int) -> tuple[int, str, int, int]:
        """The row whose going changes the row: place, level and via."""
        cause_leaf, cause_at, via = self._closing.find_cause(link, leaf, at, level)
        return cause_leaf, cause_at, level - 1, via

    def _look_twice(self, links: Sequence[Link], changes: Changes) -> None:
        """Asks what PostgreSQL finds that looks at all references of a row changed twice."""
        if any(link.action is ReferentialAction.SET_DEFAULT for link in links):
            self._survey.questions.append(f"rows of {changes.table.name} are changed twice")
            return
        written = {name for link in links for name in link.key.written_columns}
        for leaf in self._schema.leaves(changes.table.name):
            if any(relevant_rules(leaf, written, written)):
                self._survey.questions.append(f"rows of {changes.table.name} are changed twice")
                return
        family = partition_family(self._schema, changes.table.name)
        for key in (key for member in family for key in self._schema.keys_from(member)):
            if self._is_looked_after(key):
                nulling = [
                    link.number
                    for link in links
                    if set(link.key.written_columns) & set(key.referencing_columns)
                ]
                gone = self._closing.closure(find_family(self._schema, key.referenced))
                if self._finds(finds_look(changes, key, self._schema, nulling, gone)):
                    self._survey.questions.append(
                        f"rows of {changes.table.name} are changed twice, and {key.label} is "
                        "looked at again"
                    )

    def _finds(self, query: Query) -> bool:
        return bool(self._connection.execute(query).scalar())

    def explain(self, family: TableName, place: Place) -> tuple[Trace, ...] | None:
        """The path by which the row of the family goes, or else changes; None if neither."""
        leaf, at = place
        binds = {"leaf": leaf, "at": at}
        found = None
        if (closure := self._closing.closure(family)) is not None:
            found = self._connection.execute(sql.find_in_closure(closure), binds).one_or_none()
        if found is None and (changes := self._changes.get(family)) is not None:
            found = self._connection.execute(find_change(changes), binds).one_or_none()
        if found is None:
            return None
        level, via = found
        if not via:
            return (Trace(place=place, key=None),)
        (link,) = (link for link in self._closing.reach.links if link.number == via)
        return self._closing.trace(link, leaf, at, *self._find_origin(link, leaf, at, level))
