"""Unique keys that hold among live rows only, so that a deleted row's value can be used again.

A full unique index gives way to one with the condition, by `unique_swap`. What the index was, and
whether a constraint owned it, is remembered in the new one's comment, of a partition's part in that
of the part; the way back is the same with the new one full again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from sqlalchemy import Row

from fkdoctor.errors import Refused, UnknownName
from fkdoctor.identifier import quote, quote_all
from fkdoctor.inspect.coverage import Support, key_coverage
from fkdoctor.inspect.graph import partition_family
from fkdoctor.revise.ddl import block, literal, refuse
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.mark import KeyText, recall, remember
from fkdoctor.revise.unique_swap import (
    Change,
    Form,
    Member,
    change_form,
    drop_left_over,
    name_twin,
    read_facts,
)
from fkdoctor.schema import Index, Schema, Table, TableKind, TableName

_CONSTRAINT = "constraint: "


def make_partial(
    executor: Executor, table: TableName, column: str, wanted: tuple[str, ...] | None
) -> bool:
    """Whether a unique key had to be changed to hold among live rows only.

    `wanted` names indexes or constraints, those of single partitions among them; None means every
    one that can be changed, the others are said in the log. Raises Refused for one that is named
    and cannot.
    """
    schema = executor.read_schema()
    chosen = list(_choose(executor, schema, table, column, wanted))
    for owner, name in chosen:
        change_form(executor, partial(_plan_partial, executor, owner, name, column))
    clear_unfinished(executor, table, column)
    _warn_of_lost_indexes(executor, table)
    return bool(chosen)


def _warn_of_lost_indexes(executor: Executor, table: TableName) -> None:
    """A foreign key finds deleted rows too, so the index of its unique key serves it no more."""
    schema = executor.read_schema()
    for key in (key for name in partition_family(schema, table) for key in schema.keys_from(name)):
        coverage = key_coverage(schema, key)
        changed = [fit for fit in coverage.near_misses if recall(fit.index.comment) is not None]
        if changed and coverage.support is not Support.FULLY:
            executor.warn(
                key.label,
                f"{quote(changed[0].index.name)} serves it no more, since it leaves deleted rows "
                f"out: a DELETE in {key.referenced} reads all of {key.referencing}; build another "
                "with op.add_reference_index",
            )


def is_changed(executor: Executor, table: TableName) -> bool:
    """Whether a unique key of the table, or of a partition, was changed here."""
    return any(_list_changed(executor.read_schema(), table))


def make_full(executor: Executor, table: TableName, column: str) -> None:
    """Gives the unique keys that were changed here their form back."""
    for owner, name in list(_list_changed(executor.read_schema(), table)):
        change_form(executor, partial(_plan_full, executor, owner, name, column))


def clear_unfinished(executor: Executor, table: TableName, column: str) -> None:
    """Drops the new forms that an earlier run built and did not put in their place."""
    schema = executor.read_schema()
    for member in partition_family(schema, table):
        unique = [index for index in schema.table(member).indexes if index.unique]
        for index in unique:
            for twin in unique:
                if twin.name == name_twin(index.name) and _is_twin(twin, index, column):
                    drop_left_over(executor, TableName(member.schema, twin.name))


def _is_twin(twin: Index, index: Index, column: str) -> bool:
    """Whether the one can only be the other form of the other one."""
    partial_now = _holds_among_live(index, column)
    return (
        twin.constraint is None
        and twin.parent is None
        and (
            _holds_among_live(twin, column) != partial_now
            and (not partial_now or recall(index.comment) is not None)
        )
    )


def _holds_among_live(index: Index, column: str) -> bool:
    return _live(column) in (index.predicate or "")


def _live(column: str) -> str:
    """The condition, as PostgreSQL prints it."""
    return f"{quote(column)} IS NULL"


def _list_changed(schema: Schema, table: TableName) -> Iterator[tuple[TableName, str]]:
    for owner, index in _list_whole(schema, table):
        if recall(index.comment) is not None:
            yield owner.name, index.name


def _list_whole(schema: Schema, table: TableName) -> Iterator[tuple[Table, Index]]:
    """The unique indexes of the table and its partitions that are no part of another one."""
    for member in partition_family(schema, table):
        owner = schema.table(member)
        unique = [index for index in owner.indexes if index.unique and index.live]
        twins = {name_twin(index.name) for index in unique}
        for index in unique:
            if index.parent is None and index.name not in twins:
                yield owner, index


def _list_parts(
    schema: Schema, owner: Table, index: Index, above: TableName | None = None
) -> Iterator[tuple[Table, Index, TableName | None]]:
    """The index and its parts at any depth, each with the index that it is a part of."""
    yield owner, index, above
    here = TableName(owner.name.schema, index.name)
    for partition in schema.partitions(owner.name):
        for part in partition.indexes:
            if part.parent == index.name:
                yield from _list_parts(schema, partition, part, here)


def _choose(
    executor: Executor,
    schema: Schema,
    table: TableName,
    column: str,
    wanted: tuple[str, ...] | None,
) -> Iterator[tuple[TableName, str]]:
    """The table and name of each unique index that is to get the condition and can."""
    whole = list(_list_whole(schema, table))
    _require_known(table, [index for _, index in whole], wanted)
    for owner, index in whole:
        if wanted is not None and not {index.name, index.constraint} & set(wanted):
            continue
        if _holds_among_live(index, column):
            continue
        reason = _reason_against_any(executor, schema, owner, index)
        subject = f"unique key {owner.name}.{quote(index.name)}"
        if reason is None:
            yield owner.name, index.name
        elif wanted is not None:
            raise Refused(
                f"The {subject} cannot hold among live rows only.",
                why=f"{reason[0].upper()}{reason[1:]}.",
                next="Leave it out of unique_keys; a deleted row then keeps its value.",
            )
        else:
            executor.tell(subject, f"it goes on counting deleted rows: {reason}")
    for constraint in schema.table(table).constraints:
        if constraint.kind == "x" and wanted is None:
            subject = f"constraint {table}.{quote(constraint.name)}"
            executor.tell(subject, "it goes on counting deleted rows: it excludes rows")


def _require_known(
    table: TableName, unique: Iterable[Index], wanted: tuple[str, ...] | None
) -> None:
    known = {name for index in unique for name in (index.name, index.constraint) if name}
    for name in wanted or ():
        if name not in known:
            names = quote_all(tuple(sorted(known)))
            raise UnknownName(
                f"{table} has no unique key {quote(name)}.",
                why=f"Its unique keys: {names}." if known else "It has none at all.",
                next="Correct unique_keys in the revision.",
            )


def _reason_against_any(
    executor: Executor, schema: Schema, owner: Table, index: Index
) -> str | None:
    """Why the index, or a part of it, has to stay as it is; None if it can be changed."""
    for table, part, above in _list_parts(schema, owner, index):
        reason = _reason_against(schema, table.name, part, _read_fact(executor, table, part))
        if above and part.constraint and not index.constraint:
            reason = "a part of it is a constraint, without which PostgreSQL does not drop it"
        if reason is not None:
            return f"{reason}, in {table.name}" if above else reason
    return None


def _read_fact(executor: Executor, table: Table, index: Index) -> Row[Any]:
    return next(row for row in read_facts(executor, table.name) if row.name == index.name)


def _reason_against(schema: Schema, table: TableName, index: Index, fact: Row[Any]) -> str | None:
    if index.primary:
        return "it is the primary key"
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
    if index.constraint is not None and fact.index_comment is not None:
        return "the index of its constraint has a comment of its own"
    return None


def _find(schema: Schema, table: TableName, name: str) -> tuple[Table, Index] | None:
    if schema.has_table(table):
        owner = schema.table(table)
        for index in owner.indexes:
            if index.name == name:
                return owner, index
    return None


def _plan_partial(
    executor: Executor, table: TableName, name: str, column: str, schema: Schema
) -> Change | None:
    """What leads the index to the condition that the row is live; None when it has it."""
    found = _find(schema, table, name)
    if found is None or _holds_among_live(found[1], column):
        return None
    live, members = _live(column), []
    for owner, index, above in _list_parts(schema, *found):
        fact = _read_fact(executor, owner, index)
        form = Form(
            rest=_read_rest(owner, index, fact),
            predicate=f"{live} AND {index.predicate}" if index.predicate else live,
            constraint=False,
            comment=remember(_describe(owner, index, fact)),
        )
        members.append(_member(owner, index, above, form))
    return Change(members=tuple(members), live=live, partial=True)


def _plan_full(
    executor: Executor, table: TableName, name: str, column: str, schema: Schema
) -> Change | None:
    """What leads the index to what its comment says it was; None when that says nothing.

    A partition that came later has a part without such a comment; it follows the index above.
    """
    found = _find(schema, table, name)
    if found is None or recall(found[1].comment) is None:
        return None
    forms: dict[TableName | None, Form] = {}
    members = []
    for owner, index, above in _list_parts(schema, *found):
        was = recall(index.comment)
        if was is not None:
            form = _read_memory(was)
        else:
            rest = forms[above].rest
            if forms[above].constraint and owner.kind is not TableKind.PARTITIONED:
                rest = _read_rest(owner, index, _read_fact(executor, owner, index))
            constraint = forms[above].constraint
            form = Form(rest=rest, predicate=None, constraint=constraint, comment=index.comment)
        forms[TableName(owner.name.schema, index.name)] = form
        members.append(_member(owner, index, above, form))
    return Change(members=tuple(members), live=_live(column), partial=False)


def _member(owner: Table, index: Index, above: TableName | None, form: Form) -> Member:
    leaf = owner.kind is not TableKind.PARTITIONED
    return Member(table=owner.name, name=index.name, form=form, above=above, leaf=leaf)


def _read_rest(owner: Table, index: Index, fact: Row[Any]) -> str:
    """What follows the table in the index's CREATE INDEX, without the condition."""
    only = "ONLY " if owner.kind is TableKind.PARTITIONED else ""
    where = f" WHERE {index.predicate}" if index.predicate else ""
    start = f"CREATE UNIQUE INDEX {quote(index.name)} ON {only}{owner.name} "
    assert index.definition.startswith(start)
    assert index.definition.endswith(where)
    rest = index.definition[len(start) : len(index.definition) - len(where)]
    return rest + (f" TABLESPACE {quote(fact.tablespace)}" if fact.tablespace else "")


def _describe(owner: Table, index: Index, fact: Row[Any]) -> KeyText:
    """What the index is, for the way back."""
    if index.constraint is None:
        where = f" WHERE {index.predicate}" if index.predicate else ""
        return KeyText(
            definition=_read_rest(owner, index, fact) + where, comment=fact.index_comment
        )
    if owner.kind is TableKind.PARTITIONED:
        text = _read_constraint(index, fact)
    else:
        text = _read_rest(owner, index, fact)
    return KeyText(definition=_CONSTRAINT + text, comment=fact.constraint_comment)


def _read_constraint(index: Index, fact: Row[Any]) -> str:
    """What follows the name in ADD CONSTRAINT, since USING INDEX knows no partitioned table."""
    assert index.columns is not None
    parts = ["UNIQUE"]
    if index.nulls_not_distinct:
        parts.append("NULLS NOT DISTINCT")
    parts.append(f"({quote_all(index.columns)})")
    if index.include:
        parts.append(f"INCLUDE ({quote_all(index.include)})")
    if fact.options:
        parts.append(f"WITH ({fact.options})")
    if fact.tablespace:
        parts.append(f"USING INDEX TABLESPACE {quote(fact.tablespace)}")
    return " ".join(parts)


def _read_memory(was: KeyText) -> Form:
    text = was.definition.removeprefix(_CONSTRAINT)
    constraint = text != was.definition
    # A constraint's index has no condition; the text of another one may go as it is.
    return Form(rest=text, predicate=None, constraint=constraint, comment=was.comment)


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
