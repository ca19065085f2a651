"""Where the files that belong to fkdoctor lie: installed, editable or in a bare checkout."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, text

_PACKAGE = Path(__file__).parent


def resource_dir(name: str) -> Path:
    """The directory `sql` or `migrations`: inside the installed package, else beside it."""
    installed = _PACKAGE / f"_{name}"
    return installed if installed.is_dir() else _PACKAGE.parent / name


@cache
def load_query(name: str) -> str:
    """The text of `sql/<name>.sql`, for example `catalog/foreign_keys`."""
    return (resource_dir("sql") / f"{name}.sql").read_text(encoding="utf-8")


def execute_query(connection: Connection, name: str, **values: object) -> CursorResult[Any]:
    """The result of `sql/<name>.sql` with these values."""
    return connection.execute(text(load_query(name)), values)
