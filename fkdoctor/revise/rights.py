"""Whether this session may do what an operation is about to do, asked before anything is done."""

from __future__ import annotations

from fkdoctor.errors import Refused
from fkdoctor.identifier import quote
from fkdoctor.revise.executor import Executor
from fkdoctor.schema import Schema, Table, TableKind, TableName


def require_alterable(
    executor: Executor, schema: Schema, name: TableName, *, partitioned: bool = False
) -> Table:
    """The table, if the session may alter it; with `partitioned` it may have partitions.

    Raises UnknownName for a name that is not there or a view, Refused for the rest.
    """
    table = schema.table(name)
    if table.kind is TableKind.FOREIGN:
        raise Refused(
            f"{name} is a foreign table.",
            why="A key or an index of it would be on another server.",
            next="Make the change there.",
        )
    if table.kind is TableKind.PARTITIONED and not partitioned:
        raise Refused(
            f"{name} is a partitioned table.",
            why="This operation knows plain tables only.",
            next="Make the change by hand, partition by partition.",
        )
    for each in (table, *_below(schema, name)):
        _require_right(executor, schema, each.name)
    return table


def _below(schema: Schema, name: TableName) -> tuple[Table, ...]:
    partitions = schema.partitions(name)
    foreign = [table.name for table in partitions if table.kind is TableKind.FOREIGN]
    if foreign:
        raise Refused(
            f"{name} has a partition that is a foreign table.",
            why=f"PostgreSQL knows no key and no index on {foreign[0]}.",
            next="Detach it first.",
        )
    return tuple(found for table in partitions for found in (table, *_below(schema, table.name)))


def _require_right(executor: Executor, schema: Schema, name: TableName) -> None:
    rights = executor.fetch("rights", {"schema": name.schema, "table": name.name})[0]
    if rights.standby or rights.read_only:
        raise Refused(
            f"Database {schema.database} cannot be written to.",
            why="The server is a standby."
            if rights.standby
            else "The session is read only (default_transaction_read_only).",
            next="Connect to the primary server." if rights.standby else "Set it to off.",
        )
    if not rights.may_alter:
        raise Refused(
            f"The role {quote(rights.role)} may not alter {name}.",
            why=f"It belongs to {quote(rights.owner)}.",
            next=f"Connect as {quote(rights.owner)}, or as a member of that role.",
        )


def require_referenceable(executor: Executor, name: TableName) -> None:
    """Raises Refused unless the role may make a foreign key to the table."""
    rights = executor.fetch("rights", {"schema": name.schema, "table": name.name})[0]
    if not rights.may_reference:
        raise Refused(
            f"The role {quote(rights.role)} may not reference {name}.",
            why=f"It belongs to {quote(rights.owner)}, and REFERENCES on it is not granted.",
            next=f"As {quote(rights.owner)}: grant references on {name} to {quote(rights.role)};",
        )
