"""Unique keys that hold among live rows only, so that a deleted row's value can be used again.

A full unique index gets a twin with the condition, built beside the writers, which in one short
transaction takes its place and name. At every moment one of the two is in force. What the index
was, and whether a constraint owned it, is remembered in the twin's comment; the way back is the
same with the twin full again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import DEADLOCK_DETECTED, said, sqlstate
from fkdoctor.errors import Blocked, Incomplete, Refused, UnknownName
from fkdoctor.identifier import quote, quote_all, shorten
from fkdoctor.revise.ddl import (
    block,
    comment_on_index,
    comment_on_key,
    create_unique_index,
    drop_index,
    drop_key,
    literal,
    lock_table,
    refuse,
    rename_index,
    use_index,
)
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.mark import KeyText, recall, remember
from fkdoctor.schema import Index, Schema, TableKind, TableName

_UNIQUE_VIOLATION = "23505"
_MOST_STEPS = 12
_CONSTRAINT = "constraint: "
_TWIN = "_fkdoctor"


@dataclass(frozen=True, kw_only=True)
class _Form:
    """A unique index but for its name: what follows the table in CREATE INDEX, and the condition.

    `comment` is on the constraint where there is one, else on the index.
    """

    rest: str
    predicate: str | None
    constraint: bool
    comment: str | None

    def __str__(self) -> str:
        where = f" WHERE {self.predicate}" if self.predicate else ""
        return f"{_CONSTRAINT if self.constraint else ''}{self.rest}{where}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A unique index of that name is to get another form; `live` is the condition on live rows."""

    table: TableName
    name: str
    form: _Form
    live: str

    @property
    def qualified(self) -> TableName:
        """The index with its schema, which is always the table's."""
        return TableName(self.table.schema, self.name)

    @property
    def twin(self) -> TableName:
        """The new form until it is in place."""
        return TableName(self.table.schema, shorten(self.name, _TWIN))


def make_partial(
    executor: Executor, table: TableName, column: str, wanted: tuple[str, ...] | None
) -> bool:
    """Whether a unique key had to be changed to hold among live rows only.

    `wanted` names indexes or constraints; None means every one that can be changed, the others are
    said in the log. Raises Refused for one that is named and cannot.
    """
    schema = executor.read_schema()
    facts = _read_facts(executor, table)
    changes = list(_wish_partial(executor, schema, table, column, wanted, facts))
    for change in changes:
        _reach(executor, change)
    return bool(changes)


def changed_keys(executor: Executor, table: TableName, column: str) -> tuple[Change, ...]:
    """What leads each unique key that was changed here back to what it was."""
    changes = []
    for index in executor.read_schema().table(table).indexes:
        was = recall(index.comment) if index.unique else None
        if was is not None:
            form = _read_memory(was)
            changes.append(Change(table=table, name=index.name, form=form, live=_live(column)))
    return tuple(changes)


def make_full(executor: Executor, changes: Iterable[Change]) -> None:
    """Gives the unique keys their form back."""
    for change in changes:
        _reach(executor, change)


def clear_unfinished(executor: Executor, table: TableName, column: str) -> None:
    """Drops the partial forms that an earlier run built and did not put in their place."""
    unique = [index for index in executor.read_schema().table(table).indexes if index.unique]
    twins = {shorten(index.name, _TWIN) for index in unique}
    for index in unique:
        if (
            index.name in twins
            and not index.constraint
            and _live(column) in (index.predicate or "")
        ):
            left = TableName(table.schema, index.name)
            executor.tell(f"index {left}", Step.CLEAR.value)
            executor.run(partial(executor.execute, drop_index(left)))


def _live(column: str) -> str:
    """The condition, as PostgreSQL prints it."""
    return f"{quote(column)} IS NULL"


def _read_facts(executor: Executor, table: TableName) -> dict[str, Row[Any]]:
    rows = executor.fetch("unique_indexes", {"schema": table.schema, "table": table.name})
    return {row.name: row for row in rows}


def _wish_partial(
    executor: Executor,
    schema: Schema,
    table: TableName,
    column: str,
    wanted: tuple[str, ...] | None,
    facts: dict[str, Row[Any]],
) -> Iterator[Change]:
    found = schema.table(table)
    unique = [index for index in found.indexes if index.unique and index.live]
    _require_known(table, unique, wanted)
    live = _live(column)
    for index in unique:
        if index.name.endswith(_TWIN):
            continue
        if wanted is not None and not {index.name, index.constraint} & set(wanted):
            continue
        if index.predicate is not None and live in index.predicate:
            continue
        fact = facts[index.name]
        reason = _reason_against(schema, table, index, fact)
        subject = f"unique key {table}.{quote(index.name)}"
        if reason is None:
            before = _read_form(table, index, fact)
            predicate = f"{live} AND {index.predicate}" if index.predicate else live
            after = _Form(
                rest=before.rest,
                predicate=predicate,
                constraint=False,
                comment=remember(KeyText(definition=str(before), comment=before.comment)),
            )
            yield Change(table=table, name=index.name, form=after, live=live)
        elif wanted is not None:
            raise Refused(
                f"The {subject} cannot hold among live rows only.",
                why=f"{reason[0].upper()}{reason[1:]}.",
                next="Leave it out of unique_keys; a deleted row then keeps its value.",
            )
        else:
            executor.tell(subject, f"it goes on counting deleted rows: {reason}")
    for constraint in found.constraints:
        if constraint.kind == "x" and wanted is None:
            subject = f"constraint {table}.{quote(constraint.name)}"
            executor.tell(subject, "it goes on counting deleted rows: it excludes rows")


def _require_known(table: TableName, unique: list[Index], wanted: tuple[str, ...] | None) -> None:
    known = {name for index in unique for name in (index.name, index.constraint) if name}
    for name in wanted or ():
        if name not in known:
            names = quote_all(tuple(sorted(known)))
            raise UnknownName(
                f"{table} has no unique key {quote(name)}.",
                why=f"Its unique keys: {names}." if known else "It has none at all.",
                next="Correct unique_keys in the revision.",
            )


def _reason_against(schema: Schema, table: TableName, index: Index, fact: Row[Any]) -> str | None:
    """Why the index has to stay as it is; None if it can be changed."""
    if index.primary:
        return "it is the primary key"
    if schema.table(table).kind is TableKind.PARTITIONED:
        return "its table is partitioned"
    if not index.valid:
        return "it is not valid"
    if not index.immediate:
        return "it is deferrable, and an index with a condition cannot be"
    if index.columns is not None and index.predicate is None:
        keys = [
            key.label
            for key in schema.keys_to(table)
            if set(key.referenced_columns) == set(index.columns)
        ]
        if keys:
            return f"a foreign key cannot reference an index with a condition ({', '.join(keys)})"
    if fact.used_by:
        return f"its constraint is named in {fact.used_by}"
    if fact.replica_identity:
        return "it is the replica identity"
    if fact.clustered:
        return "the table is clustered by it"
    if fact.constraint_comment is not None and fact.index_comment is not None:
        return "the constraint and its index each have a comment"
    return None


def _read_form(table: TableName, index: Index, fact: Row[Any]) -> _Form:
    where = f" WHERE {index.predicate}" if index.predicate else ""
    start = f"CREATE UNIQUE INDEX {quote(index.name)} ON {table} "
    assert index.definition.startswith(start)
    assert index.definition.endswith(where)
    rest = index.definition[len(start) : len(index.definition) - len(where)]
    if fact.tablespace:
        rest += f" TABLESPACE {quote(fact.tablespace)}"
    constraint = index.constraint is not None
    return _Form(
        rest=rest,
        predicate=index.predicate,
        constraint=constraint,
        comment=(fact.constraint_comment if constraint else None) or fact.index_comment,
    )


def _read_memory(was: KeyText) -> _Form:
    text = was.definition.removeprefix(_CONSTRAINT)
    constraint = text != was.definition
    # A constraint's index has no condition; the text of another one may go as it is.
    return _Form(rest=text, predicate=None, constraint=constraint, comment=was.comment)


class Step(Enum):
    """What to do next; the value says so in the log."""

    BUILD = "build its new form, beside the writers"
    CLEAR = "drop what an earlier run left half built"
    SWAP = "put its new form in its place"


def _reach(executor: Executor, change: Change) -> None:
    """Takes steps until the index has its new form; before each it looks at what is there."""
    for _ in range(_MOST_STEPS):
        indexes = {
            index.name: index for index in executor.read_schema().table(change.table).indexes
        }
        present, twin = indexes.get(change.name), indexes.get(change.twin.name)
        step = _next_step(change, present, twin)
        if present is None or step is None:
            return
        executor.tell(f"unique key {change.table}.{quote(change.name)}", step.value)
        try:
            match step:
                case Step.BUILD:
                    _build(executor, change)
                case Step.CLEAR:
                    executor.run(partial(executor.execute, drop_index(change.twin)))
                case Step.SWAP:
                    executor.run(partial(_swap, executor, change, present))
        except DBAPIError as error:
            # Two builds on one table can wait for each other; what was half built is cleared.
            if sqlstate(error) != DEADLOCK_DETECTED:
                raise
    raise Incomplete(
        f"The unique key {change.qualified} does not come about.",
        why="Each try ended in a deadlock with another session.",
        next="Find out what else builds indexes there, then run the same command again.",
    )


def _next_step(change: Change, present: Index | None, twin: Index | None) -> Step | None:
    if twin is not None and not (twin.unique and twin.constraint is None):
        raise Blocked(
            f"The name {change.twin} is taken.",
            why=f"fkdoctor needs it while it changes {quote(change.name)}.",
            next=f"Rename it: alter index {change.twin} rename to …;",
        )
    if present is None:
        return None
    if change.form.constraint:
        done = present.constraint is not None
    else:
        done = present.constraint is None and present.comment == change.form.comment
    if twin is None:
        return None if done else Step.BUILD
    fits = (change.live in (twin.predicate or "")) == (change.live in (change.form.predicate or ""))
    return Step.SWAP if twin.valid and fits and not done else Step.CLEAR


def _build(executor: Executor, change: Change) -> None:
    create = create_unique_index(
        change.twin.name, change.table, change.form.rest, change.form.predicate
    )
    try:
        executor.run_concurrently(create)
    except DBAPIError as error:
        if sqlstate(error) != _UNIQUE_VIOLATION:
            raise
        executor.run(lambda: executor.execute(drop_index(change.twin)))
        raise Refused(
            f"The unique key {change.qualified} cannot hold for all rows again.",
            why=said(error),
            next="Delete the soft-deleted rows that have a live row's values, or restore them "
            "under other values, then run the same command again.",
        ) from error


def _swap(executor: Executor, change: Change, present: Index) -> None:
    executor.execute(lock_table(change.table, "access exclusive"))
    if present.constraint is not None:
        executor.execute(drop_key(change.table, present.constraint))
    else:
        executor.execute(drop_index(change.qualified))
    executor.execute(rename_index(change.twin, change.name))
    if change.form.constraint:
        executor.execute(use_index(change.table, change.name))
        executor.execute(comment_on_key(change.table, change.name, change.form.comment))
    else:
        executor.execute(comment_on_index(change.qualified, change.form.comment))


def require_no_full_keys(table: TableName, column: str) -> str:
    """The statement for a script, which cannot choose: stops where a key would have to change."""
    found = f"""\
(
        select pg_catalog.string_agg(pg_catalog.quote_ident(c.relname), ', ' order by c.relname)
        from pg_catalog.pg_index as i
        join pg_catalog.pg_class as c on c.oid = i.indexrelid
        where i.indrelid = pg_catalog.to_regclass({literal(str(table))})
            and i.indisunique and not i.indisprimary and i.indimmediate
            and pg_catalog.strpos(
                coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), ''),
                {literal(_live(column))}) = 0
            and not exists (
                select from pg_catalog.pg_constraint as k
                where k.conindid = i.indexrelid and k.contype = 'f')
    )"""  # noqa: S608  texts are literals
    return block(
        f"""
    names := {found};
    """
        + refuse(
            "names is not null",
            what=literal(f"A script cannot change the unique keys of {table}."),
            why="'It would have to read what they are: ' || names || '.'",
            next=literal("Run the revision online, or leave them as they are: unique_keys=()."),
        ),
        declare=("names text",),
    )


def require_nothing_changed(table: TableName) -> str:
    """The statement for a script, which cannot build: stops where a key was changed here."""
    return block(
        f"""
    select pg_catalog.string_agg(pg_catalog.quote_ident(c.relname), ', ' order by c.relname)
    into names
    from pg_catalog.pg_index as i
    join pg_catalog.pg_class as c on c.oid = i.indexrelid
    where i.indrelid = pg_catalog.to_regclass({literal(str(table))}) and i.indisunique
        and pg_catalog.obj_description(c.oid, 'pg_class') ~ '\\[fkdoctor was: [^\n]*\\]$';
    """  # noqa: S608  texts are literals
        + refuse(
            "names is not null",
            what=literal(f"A script cannot give the unique keys of {table} their form back."),
            why="'They hold among live rows only: ' || names || '.'",
            next=literal("Run the revision online, without --sql."),
        ),
        declare=("names text",),
    )
