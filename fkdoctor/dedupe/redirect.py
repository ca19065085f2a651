"""Where a merged row's key leads."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import TEXT_FORM, said, set_local
from fkdoctor.errors import ConfigError
from fkdoctor.identifier import quote_all
from fkdoctor.resources import execute_query
from fkdoctor.schema import Table
from fkdoctor.statement.journal import write_key


def resolve_key(connection: Connection, table: Table, key: Sequence[str]) -> tuple[str, ...] | None:
    """The key of the row that stands for the merged one now; None where none was merged.

    Chains are followed: a survivor may have been merged later. The connection must not be in a
    transaction. Raises ConfigError for what cannot be a key of the table.
    """
    identity = table.row_identity
    if len(key) != len(identity):
        raise ConfigError(
            f"{' '.join(key)} is no key of {table.name}.",
            why=f"Its rows are known by {quote_all(identity)}."
            if identity
            else "It has no primary key.",
            next="Give a value for each of these columns.",
        )
    with connection.begin():
        execute_query(connection, "ledger/prefer_catalog")
        set_local(connection, **TEXT_FORM)
        try:
            written = connection.execute(write_key(table, key)).scalar_one()
        except DBAPIError as error:
            raise ConfigError(
                f"{' '.join(key)} is no key of {table.name}.",
                why=said(error),
                next="Write it as PostgreSQL would.",
            ) from error
        row = execute_query(
            connection,
            "ledger/resolve",
            table_schema=table.name.schema,
            table_name=table.name.name,
            key=list(written),
        ).one_or_none()
    return row and tuple(row.new_key)
