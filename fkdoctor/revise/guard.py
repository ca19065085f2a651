"""A guard in the database: no live row references a soft-deleted one.

A foreign key is content with a soft-deleted row, which is still there. So for each key between two
tables with soft delete there is a function with three triggers. Two check at the end of the
transaction: what comes to reference, and what is soft-deleted. The third, before a row is
soft-deleted, locks it FOR UPDATE: for that lock the check of an insert into the referencing table
(FOR KEY SHARE, by PostgreSQL itself) waits, and the other way round, so that neither overlooks the
other. Where nothing is soft-deleted, that costs the writers of the referenced table nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from fkdoctor.identifier import quote, shorten
from fkdoctor.revise.ddl import (
    block,
    comment_as_created,
    last_line,
    literal,
    lock_table,
    refuse,
)
from fkdoctor.revise.mark import CREATED
from fkdoctor.schema import ForeignKey, Schema, Table, TableKind, TableName

Columns = tuple[str, str]
"""The names of the columns that say when, and by which deletion."""


_PARTITIONED = 13
"""The first major version with BEFORE triggers FOR EACH ROW on partitioned tables."""


def guarded_keys(schema: Schema, table: TableName, column: str) -> tuple[ForeignKey, ...]:
    """The keys of the table of which both ends can be soft-deleted and guarded."""
    keys = schema.keys_from(table)
    return tuple(key for key in keys if reason_against(schema, key, column) is None)


def reason_against(schema: Schema, key: ForeignKey, column: str) -> str | None:
    """Why the key cannot be guarded; None if it can."""
    if not key.enforced:
        return "it is not enforced"
    if key.period:
        return "it is a temporal key (PERIOD)"
    if not key.self_referencing and not schema.table(key.referenced).has_column(column):
        return f"rows of {key.referenced} cannot be soft-deleted"
    if schema.major < _PARTITIONED and _is_partitioned(schema, key.referenced):
        return (
            f"{key.referenced} is partitioned, and PostgreSQL {schema.major} has no BEFORE "
            "triggers for that"
        )
    return None


def _is_partitioned(schema: Schema, table: TableName) -> bool:
    return schema.table(table).kind is TableKind.PARTITIONED


def guarded_tables(schema: Schema, table: TableName) -> tuple[Table, ...]:
    """The tables of the guards that the table has a part in, referenced ones first."""
    keys = [
        key
        for key in (*schema.keys_to(table), *schema.keys_from(table))
        if str(name_guard(key))
        in (trigger.function for trigger in schema.table(key.referencing).triggers)
    ]
    names = [key.referenced for key in keys] + [key.referencing for key in keys]
    return tuple(schema.table(name) for name in dict.fromkeys(names))


def name_guard(key: ForeignKey) -> TableName:
    """The function of the key's guard, which is also the name of its triggers."""
    digest = hashlib.sha256(key.label.encode()).hexdigest()[:8]
    return TableName(key.referencing.schema, shorten(key.name, f"_{digest}_guard"))


def compose_guard(schema: Schema, key: ForeignKey, column: str) -> Iterator[str]:
    """The statements that make the guard, or refuse where live rows reference deleted ones.

    Locks: SHARE ROW EXCLUSIVE on both tables, referenced first.
    """
    guard = name_guard(key)
    for table in dict.fromkeys((key.referenced, key.referencing)):
        yield lock_table(table, "share row exclusive", partitions=_is_partitioned(schema, table))
    referencing, referenced = (
        f"{'' if _is_partitioned(schema, table) else 'only '}{table}"
        for table in (key.referencing, key.referenced)
    )
    yield block(
        refuse(
            f"exists (select from {referencing} as referencing"
            f" join {referenced} as referenced on {_match(key, 'referencing')}"
            f" where {_guarded(column)})",
            what=literal(f"Live rows of {key.referencing} reference soft-deleted ones."),
            why=literal(f"By {key.label}; a guard would be broken from the start."),
            next=literal("Restore those rows or delete what references them, then run it again."),
        )
    )
    yield f"create or replace {_function(key, guard, column, referencing, referenced)}"
    yield comment_as_created("function", f"{guard}()")
    yield from _triggers(key, guard, column)


def _function(
    key: ForeignKey, guard: TableName, column: str, referencing: str, referenced: str
) -> str:
    unseen = f"Rows of {key.referenced} are not soft-deleted in REPEATABLE READ."
    message = f"{key.label}: a live row would reference a soft-deleted one."
    own = " and ".join(f"referenced.{quote(c)} = old.{quote(c)}" for c in key.referenced_columns)
    given = " and ".join(f"referenced.{quote(c)} = new.{quote(c)}" for c in key.referenced_columns)
    body = f"""
begin
    if tg_argv[0] = 'lock' then
        if pg_catalog.current_setting('transaction_isolation') = 'repeatable read' then
            raise exception using errcode = 'feature_not_supported',
                message = {literal(unseen)},
                detail = 'Rows that come to reference them meanwhile would be overlooked.',
                hint = 'Use READ COMMITTED or SERIALIZABLE.';
        end if;
        perform from {referenced} as referenced where {own} for update;
        return new;
    elsif tg_argv[0] = 'referencing' then
        -- What is being deleted now is waited for, and seen afterwards.
        perform from {referenced} as referenced
        where {_match(key, "new")} for key share;
        perform from {referencing} as referencing
        join {referenced} as referenced on {_match(key, "referencing")}
        where {_guarded(column)} and {_match(key, "new")};
    else
        perform from {referencing} as referencing
        join {referenced} as referenced on {_match(key, "referencing")}
        where {_guarded(column)} and {given};
    end if;
    if found then
        raise exception using errcode = 'foreign_key_violation',
            message = {literal(message)},
            schema = {literal(key.referencing.schema)},
            table = {literal(key.referencing.name)},
            constraint = {literal(key.name)};
    end if;
    return null;
end"""
    tag = "$guard$"
    while tag in body:
        tag = tag[:-1] + "_$"
    # As its owner: to lock a row FOR KEY SHARE takes the right to change it.
    return (
        f"function {guard}() returns trigger language plpgsql security definer"
        f" set search_path = '' set row_security = 'off' as {tag}{body}\n{tag}"
    )


def _match(key: ForeignKey, referencing: str) -> str:
    """That a row of `referencing` points at a row of `referenced`, by the key's own operators."""
    pairs = zip(key.referenced_columns, key.operators, key.referencing_columns, strict=True)
    return " and ".join(
        f"{_operand('referenced', one, operator.left_type)} operator({operator.name}) "
        f"{_operand(referencing, other, operator.right_type)}"
        for one, operator, other in pairs
    )


def _operand(row: str, column: str, type_name: str) -> str:
    value = f"{row}.{quote(column)}"
    if type_name.startswith("any") or type_name == "record":
        return value  # An operator for many types; nothing can be cast to that.
    plain = {"character": "pg_catalog.bpchar", "bit": 'pg_catalog."bit"'}.get(type_name, type_name)
    return f"cast({value} as {plain})"


def _guarded(column: str) -> str:
    return f"referencing.{quote(column)} is null and referenced.{quote(column)} is not null"


def _triggers(key: ForeignKey, guard: TableName, column: str) -> Iterator[str]:
    name, time = quote(guard.name), quote(column)
    lock = quote(shorten(guard.name.removesuffix("_guard"), "_lock"))
    refers = quote(shorten(guard.name.removesuffix("_guard"), "_live"))
    deleted = f"when (old.{time} is null and new.{time} is not null)"
    for trigger, table in (
        (lock, key.referenced),
        (name, key.referenced),
        (refers, key.referencing),
    ):
        yield f"drop trigger if exists {trigger} on {table}"
    yield (
        f"create trigger {lock} before update of {time} on {key.referenced}"
        f" for each row {deleted} execute function {guard}('lock')"
    )
    late = "deferrable initially deferred for each row"
    yield (
        f"create constraint trigger {name} after update of {time} on {key.referenced}"
        f" {late} {deleted} execute function {guard}('referenced')"
    )
    columns = ", ".join(quote(each) for each in (*key.referencing_columns, column))
    yield (
        f"create constraint trigger {refers} after insert or update of {columns}"
        f" on {key.referencing} {late} when (new.{time} is null)"
        f" execute function {guard}('referencing')"
    )


def compose_removal(table: TableName) -> str:
    """PL/pgSQL that drops every guard that the table has a part in.

    It needs a variable `guard record`. Locks: ACCESS EXCLUSIVE on the other tables too.
    """
    comment = "pg_catalog.obj_description(p.oid, 'pg_proc')"
    return f"""\
    for guard in
        select distinct p.oid, n.nspname, p.proname
        from pg_catalog.pg_trigger as t
        join pg_catalog.pg_proc as p on p.oid = t.tgfoid
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where t.tgrelid = pg_catalog.to_regclass({literal(str(table))})
            and p.proname like '%\\_guard' and {last_line(comment)} = {literal(CREATED)}
        order by 1
    loop
        -- Its triggers, those on the other table too, and nothing else depend on it.
        execute pg_catalog.format('drop function %I.%I() cascade', guard.nspname, guard.proname);
    end loop;"""  # noqa: S608  texts are literals
