"""Builds an index beside the writers, unless one serves already; safe to run again after a crash.

The index is built under a name of ours and gets its own name together with the mark that we created
it. So an index by that name is finished, and one under the building name is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

from sqlalchemy.exc import DBAPIError

from fkdoctor.database import DEADLOCK_DETECTED, sqlstate
from fkdoctor.errors import Blocked, Incomplete, Refused, UnknownName
from fkdoctor.identifier import quote, quote_all, shorten
from fkdoctor.inspect.coverage import Support, compared_by_cast, index_fit
from fkdoctor.revise.ddl import (
    comment_as_created,
    create_index,
    drop_index,
    reindex,
    rename_index,
)
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.mark import is_created
from fkdoctor.revise.rights import require_alterable
from fkdoctor.schema import ForeignKey, Index, Schema, TableName

_MOST_STEPS = 12


class Step(Enum):
    """What to do next; the value says so in the log."""

    BUILD = "build it, beside the writers"
    REPAIR = "build it anew, beside the writers: it is not valid"
    NAME = "give it its name"
    CLEAR = "drop what an earlier run left half built"
    DONE = "it is there and serves"


@dataclass(frozen=True, kw_only=True)
class IndexWish:
    """An index to have: `serves` says whether one that is there will do as well."""

    table: TableName
    columns: tuple[str, ...]
    predicate: str | None
    name: str
    serves: Callable[[Index], bool]

    @property
    def qualified(self) -> TableName:
        """The index with its schema, which is always the table's."""
        return TableName(self.table.schema, self.name)

    @property
    def building(self) -> TableName:
        """The index with its schema while it is built."""
        return name_building(self.table, self.name)


def name_building(table: TableName, name: str) -> TableName:
    """The index with its schema while it is built, and what is left of it after a crash."""
    return TableName(table.schema, shorten(name, "_fkdoctor"))


def name_index(table: str, columns: Sequence[str]) -> str:
    """The name an index gets that is not given one, in PostgreSQL's manner."""
    return shorten("_".join((table, *columns)), "_idx")


def add_reference_index(
    executor: Executor, table: TableName, columns: tuple[str, ...], name: str
) -> bool:
    """Whether an index had to be built for the foreign keys on these columns."""
    schema = executor.read_schema()
    keys = find_keys(schema, table, columns)

    def serves(index: Index) -> bool:
        return all(index_fit(schema, key, table, index).support is Support.FULLY for key in keys)

    wish = IndexWish(
        table=table,
        columns=columns,
        predicate=None,
        name=name,
        serves=serves,
    )
    return ensure_index(executor, wish)


def drop_reference_index(
    executor: Executor, table: TableName, columns: tuple[str, ...], name: str
) -> bool:
    """Whether the index, or a part of it, had been created here; now it is gone."""
    schema = executor.read_schema()
    building = name_building(table, name)
    created = [
        TableName(table.schema, index.name)
        for index in (schema.table(table).indexes if schema.has_table(table) else ())
        if (index.name == name and is_created(index.comment))
        or (index.name == building.name and index.columns == columns)
    ]
    if not created:
        executor.tell(str(TableName(table.schema, name)), "it was not created here: left as it is")
        return False
    require_alterable(executor, schema, table)
    for index in created:
        executor.tell(str(index), "drop it")
        executor.run(partial(executor.execute, drop_index(index)))
    return True


def find_keys(schema: Schema, table: TableName, columns: tuple[str, ...]) -> tuple[ForeignKey, ...]:
    """The foreign keys on these columns.

    Raises UnknownName where there is none, Refused where no index could serve them.
    """
    keys = tuple(
        key
        for key in schema.keys_from(schema.table(table).name)
        if set(key.referencing_columns) == set(columns)
    )
    if not keys:
        known = "; ".join(key.arrow for key in schema.keys_from(table))
        raise UnknownName(
            f"{table} has no foreign key on {quote_all(columns)}.",
            why=f"Its foreign keys: {known}." if known else "It has no foreign key at all.",
            next="Name the columns of one of its foreign keys, all of them.",
        )
    for key in keys:
        _refuse_useless(schema, key)
    return keys


def _refuse_useless(schema: Schema, key: ForeignKey) -> None:
    referencing, referenced = schema.table(key.referencing), schema.table(key.referenced)
    for name, target in zip(key.referencing_columns, key.referenced_columns, strict=True):
        one, other = referencing.column(name), referenced.column(target)
        if compared_by_cast(one, other):
            raise Refused(
                f"No index on {quote(name)} can serve {key.label}.",
                why=f"It is {one.type}, {key.referenced}.{quote(target)} is {other.type}: each "
                "comparison converts it.",
                next="Give both columns the same type first.",
            )


def ensure_index(executor: Executor, wish: IndexWish) -> bool:
    """Whether an index had to be built or finished."""
    for _ in range(_MOST_STEPS):
        schema = executor.read_schema()
        step, index = next_step(schema, wish)
        subject = wish.qualified if index == wish.building else index
        executor.tell(f"index {subject}", step.value)
        if step is Step.DONE:
            return executor.steps > 0
        require_alterable(executor, schema, wish.table)
        if not executor.steps:
            executor.require_quiet(wish.table)
        try:
            _take_step(executor, wish, step, index)
        except DBAPIError as error:
            # Two builds on one table can wait for each other; what was half built is cleared.
            if sqlstate(error) != DEADLOCK_DETECTED:
                raise
    raise Incomplete(
        f"The index {wish.qualified} does not come about.",
        why="Each try ended in a deadlock with another session.",
        next="Find out what else builds indexes there, then run the same command again.",
    )


def next_step(schema: Schema, wish: IndexWish) -> tuple[Step, TableName]:
    """The step that leads from what is there to an index that serves, and the index it is about.

    Raises Blocked when something else has one of the names.
    """
    table = schema.table(wish.table)
    ours = [index for index in table.indexes if index.name == wish.building.name]
    others = [index for index in table.indexes if index.name != wish.building.name]
    unfinished = ours[0] if ours else None
    if unfinished is not None and unfinished.columns != wish.columns:
        raise name_taken(wish.building, wish.table, wish.columns)
    serving = [
        index
        for index in others
        # One that we created is the best that can be had.
        if wish.serves(index)
        or (index.valid and index.name == wish.name and is_created(index.comment))
    ]
    if serving:
        if unfinished is not None:
            return Step.CLEAR, wish.building
        return Step.DONE, TableName(wish.table.schema, serving[0].name)
    broken = [
        index
        for index in others
        if index.live and not index.valid and wish.serves(replace(index, valid=True, ready=True))
    ]
    if broken:
        return Step.REPAIR, TableName(wish.table.schema, min(index.name for index in broken))
    if _is_taken(schema, wish.qualified):
        raise name_taken(wish.qualified, wish.table, wish.columns)
    if unfinished is None:
        return Step.BUILD, wish.building
    return (Step.NAME if unfinished.valid else Step.CLEAR), wish.building


def _is_taken(schema: Schema, name: TableName) -> bool:
    return (
        schema.has_table(name)
        or name in schema.views
        or any(
            index.name == name.name
            for table in schema.tables
            if table.name.schema == name.schema
            for index in table.indexes
        )
    )


def name_taken(name: TableName, table: TableName, columns: tuple[str, ...]) -> Blocked:
    """The error that says that something else has the name of an index that is needed."""
    return Blocked(
        f"The name {name} is taken.",
        why=f"fkdoctor needs it for an index on {table} ({quote_all(columns)}), and what has it "
        "does not serve.",
        next='Give the index another name: name="…".',
    )


def _take_step(executor: Executor, wish: IndexWish, step: Step, index: TableName) -> None:
    match step:
        case Step.BUILD:
            executor.run_concurrently(
                create_index(index.name, wish.table, wish.columns, wish.predicate)
            )
        case Step.REPAIR:
            executor.run_concurrently(reindex(index))
        case Step.CLEAR:
            executor.run(lambda: executor.execute(drop_index(index)))
        case Step.NAME:
            executor.run(lambda: _name(executor, wish))


def _name(executor: Executor, wish: IndexWish) -> None:
    executor.execute(rename_index(wish.building, wish.name))
    executor.execute(comment_as_created("index", str(wish.qualified)))


def compose_index(
    table: TableName, columns: tuple[str, ...], predicate: str | None, name: str
) -> tuple[str, ...]:
    """The statements that build and mark the index, for a database where none serves."""
    index = TableName(table.schema, name)
    return (
        create_index(name, table, columns, predicate),
        comment_as_created("index", str(index)),
    )
