"""Which column marks rows as deleted that stay in their table. Pure."""

from __future__ import annotations

from fkdoctor.identifier import quote
from fkdoctor.schema import Column, Schema, Table

_MOMENTS = {"deleted_at", "deleted_on", "deletedat", "date_deleted", "deleted_date"}
_SWITCHES = {"is_deleted", "isdeleted", "deleted"}


def soft_delete_column(schema: Schema, table: Table) -> Column | None:
    """The column that marks the table's rows as deleted; None where there is none.

    It is the one that fkdoctor.toml names; else a time that may be NULL, or a boolean, with a name
    that says so.
    """
    for column in table.columns:
        name = column.name.lower()
        if column.name == schema.soft_delete_column and not column.not_null:
            return column
        moment = column.base_type.startswith(("timestamp", "date")) and not column.not_null
        if (moment and name in _MOMENTS) or (column.base_type == "boolean" and name in _SWITCHES):
            return column
    return None


def live_condition(column: Column) -> str:
    """SQL that is true of rows that are alive: `deleted_at IS NULL`."""
    name = quote(column.name)
    if column.base_type != "boolean":
        return f"{name} IS NULL"
    return f"NOT {name}" if column.not_null else f"{name} IS NOT TRUE"
