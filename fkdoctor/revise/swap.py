"""Changes a foreign key by putting a shadow in its place.

PostgreSQL cannot alter ON DELETE. Dropping the key and adding it again reads the whole table under
locks that stop every writer, or leaves a time without the key. Instead a twin with the new rule,
the shadow, is added without reading a row, validated beside the writers, and takes the old key's
place and name in one short transaction. At every moment one of the two is in force.

A partitioned table gets a shadow on each leaf. In the last transaction the old key goes and the new
one is added to the whole table: it finds on each leaf a validated key that is equal, makes that its
copy, and reads no row (tryAttachPartitionForeignKey, tablecmds.c).

Nothing is assumed of what an earlier, broken run has done: before each step the catalog is read
anew, and in the step's transaction, under its lock, compared with what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from sqlalchemy.exc import DBAPIError

from fkdoctor.database import sqlstate
from fkdoctor.errors import Blocked, Incomplete, Refused
from fkdoctor.identifier import quote
from fkdoctor.revise.dangling import describe_dangling
from fkdoctor.revise.ddl import (
    add_key,
    comment_on_key,
    drop_key,
    rename_key,
    retime_key,
    validate_key,
)
from fkdoctor.revise.definition import parse_definition
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.mark import KeyText, describe_shadow, pend
from fkdoctor.revise.state import KeyRow, KeyState, Step, Strategy, query_keys
from fkdoctor.schema import ForeignKey, Schema, TableName

_FOREIGN_KEY_VIOLATION = "23503"


class ChangedMeanwhile(Exception):
    """Under the lock the keys are not what was read before it."""


def take_step(executor: Executor, schema: Schema, state: KeyState, step: Step) -> None:
    """Do the step in short transactions.

    Raises ChangedMeanwhile when the keys are not what the step was chosen for; Refused or
    Incomplete when rows reference nothing.
    """
    _WORK[step](executor, schema, state)


def _lock(executor: Executor, schema: Schema, mode: str, *tables: TableName) -> None:
    executor.lock(mode, *(schema.table(table) for table in tables))


def read_rows(executor: Executor, state: KeyState) -> list[KeyRow]:
    """What the catalog says of the keys at this moment, in the transaction that is open."""
    rows = executor.fetch("keys", query_keys(state.table, state.name))
    return [KeyRow._make(row) for row in rows]


def _check_unchanged(
    executor: Executor, state: KeyState, only: TableName | None = None
) -> list[KeyRow]:
    """The rows as they are now; ChangedMeanwhile if they are not what the step was chosen for.

    With `only`, what other partitions have does not matter.
    """
    now = read_rows(executor, state)
    tables = {state.table, only}
    one, other = (
        [row for row in rows if only is None or row.referencing in tables]
        for rows in (now, state.seen)
    )
    if one != other:
        raise ChangedMeanwhile
    return now


def _final(state: KeyState) -> KeyText:
    assert state.final is not None
    return state.final


def _add(executor: Executor, schema: Schema, state: KeyState) -> None:
    for shadow in state.missing:
        executor.run(partial(_add_shadow, executor, schema, state, shadow.table))


def _add_shadow(executor: Executor, schema: Schema, state: KeyState, table: TableName) -> None:
    final = _final(state)
    definition = str(parse_definition(final.definition).unvalidated())
    # Referenced first: applications delete and update in that order.
    _lock(executor, schema, "share row exclusive", state.referenced, table)
    _check_unchanged(executor, state, table)
    executor.execute(add_key(table, state.shadow_name, definition))
    comment = describe_shadow(state.name, final)
    executor.execute(comment_on_key(table, state.shadow_name, comment))
    rows = read_rows(executor, state)
    _require_definition(state, rows, table, state.shadow_name, definition)


def _require_definition(
    state: KeyState, rows: Iterable[KeyRow], table: TableName, name: str, definition: str
) -> KeyRow:
    """The row of the key that was just written; Refused unless PostgreSQL read what we meant."""
    for row in rows:
        if row.oid and row.name == name and row.referencing == table and not row.parent:
            if row.definition == definition:
                return row
            raise Refused(
                f"{state.label}: PostgreSQL reads the new definition in another way.",
                why=f"Given: {definition}. Read: {row.definition}.",
                next="Make this change by hand, and please report it.",
            )
    raise ChangedMeanwhile


def _validate(executor: Executor, schema: Schema, state: KeyState) -> None:
    for shadow in state.unready:

        def work(table: TableName = shadow.table) -> None:
            _lock(executor, schema, "row share", state.referenced)
            _lock(executor, schema, "share update exclusive", table)
            _check_unchanged(executor, state, table)
            executor.execute(validate_key(table, state.shadow_name))

        assert shadow.key is not None
        if state.partitioned:
            executor.tell(f"{shadow.table}.{quote(state.shadow_name)}", Step.VALIDATE.value)
        try:
            executor.run(work)
        except DBAPIError as error:
            if sqlstate(error) != _FOREIGN_KEY_VIOLATION:
                raise
            raise _discard_and_report(executor, schema, state, shadow.key, error) from error


def _discard_and_report(
    executor: Executor, schema: Schema, state: KeyState, key: ForeignKey, error: DBAPIError
) -> Refused | Incomplete:
    found = describe_dangling(executor, schema, key) or " ".join(str(error.orig).split())
    what = f"{state.label}: rows reference what is not in {state.referenced}."
    next = "Delete or repair those rows, then run the same command again."
    executor.tell(state.label, Step.DISCARD.value)
    if state.original is None and not state.adopted:
        return Incomplete(what, why=f"{found} The shadow stays, not validated.", next=next)
    if state.original is None:
        stays = "No key was added."
    else:
        stays = f"The key is as it was, ON DELETE {state.original.on_delete.sql}."
    try:
        _discard(executor, schema, state)
    except Blocked as blocked:
        return Incomplete(
            what,
            why=f"{found} {stays} Beside it stays the shadow "
            f"{quote(state.shadow_name)}, not validated: {blocked.what} {blocked.why}",
            next=next,
        )
    return Refused(what, why=f"{found} {stays}", next=next)


def _discard(executor: Executor, schema: Schema, state: KeyState) -> None:
    for shadow in state.present:

        def work(table: TableName = shadow.table, key: ForeignKey | None = shadow.key) -> None:
            assert key is not None
            _lock(executor, schema, "access exclusive", state.referenced, table)
            if any(row.oid == key.oid for row in read_rows(executor, state)):
                executor.execute(drop_key(table, state.shadow_name))

        executor.run(work)


def _put_in_place(executor: Executor, schema: Schema, state: KeyState) -> None:
    """Drop the old key, if there is one, and put what is final in its place, in one transaction."""
    final = _final(state)
    goal = parse_definition(final.definition)
    comment = final.comment
    if state.strategy is Strategy.FLIP and goal.validated and not state.present:
        # Checked in the next step.
        goal, comment = goal.unvalidated(), pend(comment)

    def work() -> None:
        if state.original is None and state.present and not state.partitioned:
            # Renaming locks the one table only.
            _lock(executor, schema, "access exclusive", state.table)
        else:
            _lock(executor, schema, "access exclusive", state.referenced, state.table)
        before = _check_unchanged(executor, state)
        if state.original is not None:
            executor.execute(drop_key(state.table, state.name))
        if state.present and not state.partitioned:
            executor.execute(rename_key(state.table, state.shadow_name, state.name))
        else:
            whole = state.partitioned
            executor.execute(add_key(state.table, state.name, str(goal), partitions=whole))
        executor.execute(comment_on_key(state.table, state.name, comment))
        after = read_rows(executor, state)
        written = _require_definition(state, after, state.table, state.name, str(goal))
        copies = _copies(after, written)
        if state.partitioned:
            _require_whole(executor, state, schema, copies)
        _restore_copies(executor, copies, before, state)

    executor.run(work)


def _copies(rows: Iterable[KeyRow], written: KeyRow) -> tuple[KeyRow, ...]:
    """The copies of the key for partitions on either side, at any depth."""
    by_parent: dict[int, list[KeyRow]] = {}
    for row in rows:
        if row.oid is not None and row.parent:
            by_parent.setdefault(row.parent, []).append(row)
    found: list[KeyRow] = []
    waiting = [written]
    while waiting:
        oid = waiting.pop().oid
        assert oid is not None
        below = by_parent.get(oid, [])
        found += below
        waiting += below
    return tuple(found)


def _require_whole(
    executor: Executor, state: KeyState, schema: Schema, copies: tuple[KeyRow, ...]
) -> None:
    """Raises Incomplete unless there is one copy for each partition, and no other.

    Releases before 13.17, 14.14, 15.9, 16.5 and 17.1, and all of 12, leave copies behind when a
    leaf's key to a partitioned table is attached.
    """
    referencing = executor.read_partitions(state.table)
    referenced = executor.read_partitions(state.referenced)
    wanted = {(table, state.referenced) for table in referencing if table != state.table}
    wanted |= {(state.table, table) for table in referenced if table != state.referenced}
    found = [copy.place for copy in copies]
    if sorted(found) != sorted(wanted):
        raise Incomplete(
            f"{state.label}: PostgreSQL {schema.server_version // 10000}."
            f"{schema.server_version % 10000} would leave copies of keys behind.",
            why="Both tables are partitioned, and a fault of this release, which a later minor one "
            "mends, would keep the partitions' own keys as well. The key is as it was.",
            next="Upgrade the server, then run the same command again.",
        )


def _restore_copies(
    executor: Executor, copies: Iterable[KeyRow], before: Iterable[KeyRow], state: KeyState
) -> None:
    """Give each copy the name and the comment that the old key's copy in its place had."""
    old = [row for row in before if row.name == state.name and row.referencing == state.table]
    was = {copy.place: copy for row in old if not row.parent for copy in _copies(before, row)}
    for copy in copies:
        before_it = was.get(copy.place)
        name = before_it.name if before_it else _name_copy(copy, state)
        comment = before_it.comment if before_it else None
        if copy.name != name:
            executor.execute(rename_key(copy.referencing, copy.name, name))
        if copy.comment != comment:
            executor.execute(comment_on_key(copy.referencing, name, comment))


def _name_copy(copy: KeyRow, state: KeyState) -> str:
    # As PostgreSQL names it where the name is free; its own names for the other side stay.
    return state.name if copy.name == state.shadow_name else copy.name


def _retime(executor: Executor, schema: Schema, state: KeyState) -> None:
    final = _final(state)
    goal = parse_definition(final.definition)

    def work() -> None:
        _lock(executor, schema, "access exclusive", state.table)
        _check_unchanged(executor, state)
        executor.execute(retime_key(state.table, state.name, goal.deferrable, goal.deferred))
        executor.execute(comment_on_key(state.table, state.name, final.comment))
        rows = read_rows(executor, state)
        _require_definition(state, rows, state.table, state.name, final.definition)

    executor.run(work)


def _check(executor: Executor, schema: Schema, state: KeyState) -> None:
    """Validate the key where it stands; of a partitioned table leaf by leaf, then as a whole."""
    final, key = _final(state), state.original
    assert key is not None
    leaves = [shadow.table for shadow in state.shadows] if state.partitioned else []
    copies = {
        clone.referencing: clone.name
        for clone in key.clones
        if clone.referencing in leaves and not clone.validated
    }

    def validate(table: TableName, name: str, *, last: bool) -> None:
        _lock(executor, schema, "row share", state.referenced)
        _lock(executor, schema, "share update exclusive", table)
        _check_unchanged(executor, state, table)
        executor.execute(validate_key(table, name))
        if last:
            executor.execute(comment_on_key(table, name, final.comment))

    try:
        for table, name in copies.items():
            executor.tell(f"{table}.{quote(name)}", Step.CHECK.value)
            executor.run(partial(validate, table, name, last=False))
        # What is validated meanwhile has changed the rows that were seen.
        if not copies:
            executor.run(partial(validate, state.table, state.name, last=True))
    except DBAPIError as error:
        if sqlstate(error) != _FOREIGN_KEY_VIOLATION:
            raise
        found = describe_dangling(executor, schema, key) or " ".join(str(error.orig).split())
        kind = Incomplete if executor.steps else Refused
        raise kind(
            f"{state.label}: rows reference what is not in {state.referenced}.",
            why=f"{found} The key is in force for new rows, and stays NOT VALID.",
            next="Delete or repair those rows, then run the same command again.",
        ) from error


_WORK: dict[Step, Callable[[Executor, Schema, KeyState], None]] = {
    Step.ADD: _add,
    Step.VALIDATE: _validate,
    Step.SWAP: _put_in_place,
    Step.ADOPT: _put_in_place,
    Step.REPLACE: _put_in_place,
    Step.RETIME: _retime,
    Step.CHECK: _check,
    Step.DISCARD: _discard,
}
