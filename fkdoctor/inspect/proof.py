"""What the planner says of each key: would it find the referencing rows by an index?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from fkdoctor.database import lost, read_snapshot, said, set_local
from fkdoctor.identifier import quote
from fkdoctor.inspect.coverage import compared_collation
from fkdoctor.inspect.failure import LOCK_TIMEOUT_MS
from fkdoctor.schema import SEQUENTIAL, ForeignKey, Index, KeyPlan, Schema, Table, Unread
from fkdoctor.statement.closure import Explain
from fkdoctor.statement.planning import look_up_references


def ask_planner(connection: Connection, schema: Schema, keys: Iterable[ForeignKey]) -> Schema:
    """The schema with a plan for each key and each table that holds its rows.

    Nothing is executed. Sequential scans are switched off, so that the planner takes any index that
    it can use, also on a table that is small today. Keys with PERIOD are left out.
    """
    plans: list[KeyPlan] = []
    unread: list[Unread] = []
    for key in keys:
        if not key.enforced or key.period:
            continue
        for table in schema.leaves(key.referencing):
            try:
                with read_snapshot(connection, lock_timeout=LOCK_TIMEOUT_MS):
                    set_local(connection, enable_seqscan="off", row_security="off")
                    query = Explain(
                        look_up_references(schema, key, table.name, _collations(schema, key))
                    )
                    (explained,) = connection.execute(query).scalar_one()
            except DBAPIError as error:
                if lost(error):
                    raise
                unread.append(Unread(subject=f"the plan for {key.label}", reason=said(error)))
            else:
                plans.append(_read_plan(key, table, explained["Plan"]))
    return replace(schema, plans=tuple(plans), unread=(*schema.unread, *unread))


def _collations(schema: Schema, key: ForeignKey) -> list[str | None]:
    here, there = schema.table(key.referencing), schema.table(key.referenced)
    return [
        compared_collation(here.column(name), there.column(target))
        for name, target in zip(key.referencing_columns, key.referenced_columns, strict=True)
    ]


def _read_plan(key: ForeignKey, table: Table, plan: dict[str, Any]) -> KeyPlan:
    indexes = {index.name: index for index in table.indexes}
    found: frozenset[str] = frozenset()
    scan = SEQUENTIAL
    for node in _nodes(plan):
        index = indexes.get(node.get("Index Name", ""))
        if index is not None:
            found = _found_by(key, index, node.get("Index Cond", ""))
            scan = f"{node['Node Type']} using {quote(index.name)}"
    return KeyPlan(
        reference=key.label,
        table=table.name,
        scan=scan,
        columns_found=len(found),
    )


def _found_by(key: ForeignKey, index: Index, condition: str) -> frozenset[str]:
    """The key's columns that lead the index to the rows, and do not only filter in it."""
    if index.method == "brin":
        return frozenset()
    compared = {
        name
        for name in key.referencing_columns
        if re.search(rf'(?<![\w"$]){re.escape(quote(name))}(?![\w"$])', condition)
    }
    leading = index.keys if index.method == "gin" else index.keys[: len(key.referencing_columns)]
    if index.method != "gin" and leading[0].column not in compared:
        return frozenset()
    return frozenset(part.column for part in leading if part.column in compared)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
