"""Schemas made by hand, for tests that need no database."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from fkdoctor.schema import (
    ForeignKey,
    MatchType,
    ReferentialAction,
    Schema,
    Table,
    TableKind,
    TableName,
)

Reference = tuple[str, str, ReferentialAction]


@pytest.fixture(scope="session")
def make_schema() -> Callable[..., Schema]:
    """Called with table names, keys and partitions, a Schema of bare tables.

    A table is `name` (in the schema `s`) or `schema.name`; a key is (referencing, referenced,
    action); `partitions` says of which table a table is a partition.
    """
    return _make_schema


def _make_schema(
    tables: Iterable[str],
    keys: Iterable[Reference] = (),
    partitions: dict[str, str] | None = None,
    views: Iterable[str] = (),
) -> Schema:
    above = partitions or {}
    return Schema(
        database="mlops",
        server_version=180000,
        replication_role="origin",
        replica_settings=(),
        tables=tuple(_make_table(name, above.get(name), name in above.values()) for name in tables),
        foreign_keys=tuple(_make_key(number, *key) for number, key in enumerate(keys)),
        views=frozenset(_name(view) for view in views),
        unread=(),
    )


def _name(written: str) -> TableName:
    schema, _, name = written.rpartition(".")
    return TableName(schema or "s", name)


def _make_table(name: str, partition_of: str | None, partitioned: bool) -> Table:
    return Table(
        name=_name(name),
        kind=TableKind.PARTITIONED if partitioned else TableKind.TABLE,
        owner="mlops",
        row_estimate=None,
        size_bytes=0,
        persistence="p",
        partition_of=_name(partition_of) if partition_of else None,
        partition_key=None,
        inherits=(),
        row_security=False,
        force_row_security=False,
        replica_identity="d",
        readable=True,
        comment=None,
        columns=(),
        indexes=(),
        constraints=(),
        triggers=(),
        rules=(),
    )


def _make_key(
    number: int, referencing: str, referenced: str, action: ReferentialAction
) -> ForeignKey:
    return ForeignKey(
        oid=16384 + number,
        name=f"key_{number}",
        referencing=_name(referencing),
        referencing_columns=("a",),
        referenced=_name(referenced),
        referenced_columns=("id",),
        on_delete=action,
        on_update=ReferentialAction.NO_ACTION,
        set_columns=(),
        match=MatchType.SIMPLE,
        deferrable=False,
        initially_deferred=False,
        validated=True,
        enforced=True,
        period=False,
        operators=(),
        triggers=(),
        clones=(),
        comment=None,
        definition=f"FOREIGN KEY (a) REFERENCES {_name(referenced)}(id)",
    )
