"""Gives a unique index another form by a twin, built beside the writers, that takes its place.

Of a partitioned table each leaf gets a twin of its own, since CREATE INDEX CONCURRENTLY knows no
partitioned table. In the last transaction the old index goes with all its parts, the twins take the
names of the leaves' parts, and the indexes above them are created on their tables ONLY, which reads
no row, and have the parts attached. At every moment the old index or the new one is in force.

Nothing is assumed of what an earlier, broken run has done: what to change is asked anew before each
round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import DEADLOCK_DETECTED, said, sqlstate
from fkdoctor.errors import Blocked, Incomplete, Refused
from fkdoctor.identifier import quote, shorten
from fkdoctor.revise.ddl import (
    add_unique,
    attach_index,
    comment_on_index,
    comment_on_key,
    create_unique_index,
    create_upper_index,
    drop_index,
    drop_key,
    rename_index,
    use_index,
)
from fkdoctor.revise.executor import Executor
from fkdoctor.schema import Index, Schema, TableName

_UNIQUE_VIOLATION = "23505"
_MOST_ROUNDS = 12
_TWIN = "_fkdoctor"


@dataclass(frozen=True, kw_only=True)
class Form:
    """A unique index but for its name.

    `rest` is what follows the table in CREATE UNIQUE INDEX, without the condition; of a constraint
    on a partitioned table what follows its name in ADD CONSTRAINT. `comment` is on the constraint
    where there is one, else on the index.
    """

    rest: str
    predicate: str | None
    constraint: bool
    comment: str | None


@dataclass(frozen=True, kw_only=True)
class Member:
    """A unique index of a table, or of one partition, that is to get another form.

    `above` is the index that it is a part of, and a `leaf` is a table that holds rows.
    """

    table: TableName
    name: str
    form: Form
    above: TableName | None
    leaf: bool

    @property
    def qualified(self) -> TableName:
        """The index with its schema, which is always the table's."""
        return TableName(self.table.schema, self.name)

    @property
    def twin(self) -> TableName:
        """The new form until it is in place."""
        return TableName(self.table.schema, name_twin(self.name))

    @property
    def label(self) -> str:
        """Table and index, for the log."""
        return f"{self.table}.{quote(self.name)}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """An index and its parts, each before those below it, that are to get another form.

    All that the form has more or less is the condition on `live` rows, as PostgreSQL prints it.
    """

    members: tuple[Member, ...]
    live: str
    partial: bool

    @cached_property
    def whole(self) -> Member:
        """The index that is no part of another one."""
        return self.members[0]

    @cached_property
    def leaves(self) -> tuple[Member, ...]:
        """Those of the tables that hold rows."""
        return tuple(member for member in self.members if member.leaf)


Plan = Callable[[Schema], Change | None]
"""What there is to change in the database as it is now; None when all is done."""


def name_twin(name: str) -> str:
    """The name of an index's new form until it is in place."""
    return shorten(name, _TWIN)


def change_form(executor: Executor, plan: Plan) -> bool:
    """Whether there was anything to change; now the plan says that there is not."""
    label = ""
    for number in range(_MOST_ROUNDS):
        schema = executor.read_schema()
        change = plan(schema)
        if change is None:
            return number > 0
        label = change.whole.label
        if not number:
            executor.require_quiet(*(member.table for member in change.members))
        try:
            for leaf in change.leaves:
                _ensure_twin(executor, schema, change, leaf)
            executor.tell(f"unique key {label}", "put its new form in its place")
            executor.run(partial(_swap, executor, schema, change))
        except DBAPIError as error:
            # Two builds on one table can wait for each other; what was half built is cleared.
            if sqlstate(error) != DEADLOCK_DETECTED:
                raise
    raise Incomplete(
        f"The unique key {label} does not come about.",
        why="Each try ended in a deadlock with another session, or there was one more partition.",
        next="Find out what else builds indexes or adds partitions there, then run the same "
        "command again.",
    )


def _ensure_twin(executor: Executor, schema: Schema, change: Change, leaf: Member) -> None:
    found = next(
        (index for index in schema.table(leaf.table).indexes if index.name == leaf.twin.name), None
    )
    if found is not None:
        if not (found.unique and found.constraint is None):
            raise Blocked(
                f"The name {leaf.twin} is taken.",
                why=f"fkdoctor needs it while it changes {quote(leaf.name)}.",
                next=f"Rename it: alter index {leaf.twin} rename to …;",
            )
        if found.valid and (change.live in (found.predicate or "")) == change.partial:
            return
        _drop_twins(executor, schema, [leaf])
    executor.tell(f"unique key {leaf.label}", "build its new form, beside the writers")
    create = create_unique_index(leaf.twin.name, leaf.table, leaf.form.rest, leaf.form.predicate)
    try:
        executor.run_concurrently(create)
    except DBAPIError as error:
        if sqlstate(error) != _UNIQUE_VIOLATION:
            raise
        # On other leaves too they would be in force for deleted rows.
        _drop_twins(executor, executor.read_schema(), change.leaves)
        raise Refused(
            f"The unique key {change.whole.qualified} cannot hold for all rows again.",
            why=said(error),
            next="Delete the soft-deleted rows that have a live row's values, or restore them "
            "under other values, then run the same command again.",
        ) from error


def _drop_twins(executor: Executor, schema: Schema, leaves: Iterable[Member]) -> None:
    for leaf in leaves:
        if any(index.name == leaf.twin.name for index in schema.table(leaf.table).indexes):
            drop_left_over(executor, leaf.twin)


def drop_left_over(executor: Executor, twin: TableName) -> None:
    """Drops what an earlier run built and did not put in its place."""
    executor.tell(f"index {twin}", "drop what an earlier run left half built")
    executor.run(partial(executor.execute, drop_index(twin)))


def _swap(executor: Executor, schema: Schema, change: Change) -> None:
    """Does nothing where there is another partition by now."""
    whole = change.whole
    executor.lock("access exclusive", schema.table(whole.table))
    if set(executor.read_partitions(whole.table)) != {member.table for member in change.members}:
        return
    present = _find(schema, whole)
    if present.constraint is not None:
        executor.execute(drop_key(whole.table, present.constraint))
    else:
        executor.execute(drop_index(whole.qualified))
    for member in change.members:
        _put_in_place(executor, member)
    # Each part that is attached is valid, so the whole is.
    if not all(row.valid for row in read_facts(executor, whole.table) if row.name == whole.name):
        raise Incomplete(
            f"The unique key {whole.qualified} is as it was.",
            why="PostgreSQL does not take the new indexes of its partitions for all of it.",
            next="Please report this, with the definitions of the partitions' indexes.",
        )


def _find(schema: Schema, member: Member) -> Index:
    return next(one for one in schema.table(member.table).indexes if one.name == member.name)


def _put_in_place(executor: Executor, member: Member) -> None:
    table, name, form = member.table, member.name, member.form
    if member.leaf:
        executor.execute(rename_index(member.twin, name))
        if form.constraint:
            executor.execute(use_index(table, name))
    elif form.constraint:
        executor.execute(add_unique(table, name, form.rest))
    else:
        executor.execute(create_upper_index(name, table, form.rest, form.predicate))
    if form.constraint:
        executor.execute(comment_on_key(table, name, form.comment))
    else:
        executor.execute(comment_on_index(member.qualified, form.comment))
    if member.above is not None:
        executor.execute(attach_index(member.above, member.qualified))


def read_facts(executor: Executor, table: TableName) -> list[Row[Any]]:
    """What the rows of `sql/revise/unique_indexes.sql` say of the table, in this transaction."""
    return executor.fetch("unique_indexes", {"schema": table.schema, "table": table.name})
