"""Turns what `alembic revision --autogenerate` writes into operations that stop nobody.

In env.py: `context.configure(…, process_revision_directives=rewrite_directives)`. What Alembic
would write for a foreign key reads the whole table under locks that stop every writer, and it
neither sees a key that is NOT VALID nor one that is there twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import MigrateOperation, ops
from alembic.util import rev_id
from sqlalchemy import ClauseElement, Column, MetaData, text
from sqlalchemy.dialects import postgresql

from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.revise.duplicates import find_twins
from fkdoctor.revise.index_operations import BuildIndex
from fkdoctor.revise.key_operations import ChangeOnDelete, ValidateForeignKey
from fkdoctor.revise.reference_operations import AdoptReference, DropDuplicateKey
from fkdoctor.schema import ForeignKey, Schema, TableName


def rewrite_directives(
    context: MigrationContext, revision: object, directives: list[ops.MigrationScript]
) -> None:
    """Rewrite the revisions in place: a hook for `process_revision_directives`.

    A key that is dropped and created again becomes a change of its rule, a new key on a table that
    is there is adopted, a new index on one is built beside the writers; keys that are NOT VALID or
    there twice are dealt with. What remains comes first, in a revision of its own: those others
    commit, so what stands before them in one revision could not be taken back with it.
    """
    rewritten: list[ops.MigrationScript] = []
    for script in directives:
        rewritten += _rewrite_script(context, script)
    directives[:] = rewritten


def _rewrite_script(
    context: MigrationContext, script: ops.MigrationScript
) -> Iterator[ops.MigrationScript]:
    connection = context.connection
    if connection is None or script.upgrade_ops is None or script.downgrade_ops is None:
        yield script
        return
    with connection.engine.connect() as observer:
        schema = inspect_database(observer)
        default = observer.scalar(text("select pg_catalog.current_schema()"))
    search = Search(
        schema=schema,
        default=default or "public",
        created=frozenset(_created(script.upgrade_ops.ops)),
    )
    plain, safe = _split(search, script.upgrade_ops.ops)
    metadata = context.opts.get("target_metadata")
    safe += _unseen(search, metadata, safe, script.upgrade_ops.ops)
    _fill(script, plain or safe)
    yield script
    if not plain or not safe:
        return
    following = ops.MigrationScript(
        rev_id=rev_id(),
        message=f"{script.message or 'keys and indexes'}, beside the writers",
        upgrade_ops=ops.UpgradeOps([]),
        downgrade_ops=ops.DowngradeOps([]),
        head=script.rev_id,
        version_path=script.version_path,
    )
    _fill(following, safe)
    yield following


def _fill(script: ops.MigrationScript, operations: list[MigrateOperation]) -> None:
    assert script.upgrade_ops is not None
    assert script.downgrade_ops is not None
    script.upgrade_ops.ops = operations
    script.upgrade_ops.reverse_into(script.downgrade_ops)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Where things are looked up: the database, its default schema, tables that are yet to come."""

    schema: Schema
    default: str
    created: frozenset[tuple[str | None, str]]

    def table(self, schema: str | None, name: str) -> TableName:
        """The table's full name."""
        return TableName(schema or self.default, name)

    def is_there(self, schema: str | None, name: str) -> bool:
        """Whether the table is in the database, with rows that others write."""
        return (schema, name) not in self.created and self.schema.has_table(
            self.table(schema, name)
        )

    def key(self, table: TableName, name: str) -> ForeignKey | None:
        """The foreign key of that name, if it is there."""
        return next((key for key in self.schema.keys_from(table) if key.name == name), None)


def _created(operations: Iterable[MigrateOperation]) -> Iterator[tuple[str | None, str]]:
    for operation in operations:
        if isinstance(operation, ops.CreateTableOp):
            yield operation.schema, operation.table_name


def _split(
    search: Search, operations: Iterable[MigrateOperation]
) -> tuple[list[MigrateOperation], list[MigrateOperation]]:
    """What Alembic may do as it is, and what is done beside the writers."""
    plain: list[MigrateOperation] = []
    safe: list[MigrateOperation] = []
    for operation in operations:
        if isinstance(operation, ops.ModifyTableOps):
            rest, found = _split_table(search, operation.ops)
            safe += found
            if rest:
                plain.append(
                    ops.ModifyTableOps(operation.table_name, rest, schema=operation.schema)
                )
        elif (build := _as_build(search, operation)) is not None:
            safe.append(build)
        else:
            plain.append(operation)
    return plain, safe


def _split_table(
    search: Search, operations: Iterable[MigrateOperation]
) -> tuple[list[MigrateOperation], list[MigrateOperation]]:
    rest = list(operations)
    safe: list[MigrateOperation] = []
    drops = [
        operation
        for operation in rest
        if isinstance(operation, ops.DropConstraintOp) and operation.constraint_type == "foreignkey"
    ]
    for drop in sorted(drops, key=lambda drop: str(drop.constraint_name)):
        before = drop.reverse()
        if not isinstance(before, ops.CreateForeignKeyOp):
            continue
        after = next((each for each in rest if _is_same_key(before, each)), None)
        if after is not None and drop.constraint_name:
            assert isinstance(after, ops.CreateForeignKeyOp)
            change = _as_change(search, drop, before, after)
            safe += [change] if change is not None else []
            rest.remove(drop)
            rest.remove(after)
        elif (duplicate := _as_duplicate(search, drop)) is not None:
            safe.append(duplicate)
            rest.remove(drop)
    for operation in tuple(rest):
        build = _as_build(search, operation) or _as_adoption(search, operation)
        if build is not None:
            safe.append(build)
            rest.remove(operation)
    return rest, safe


def _is_same_key(before: ops.CreateForeignKeyOp, other: MigrateOperation) -> bool:
    return isinstance(other, ops.CreateForeignKeyOp) and _signature(before) == _signature(other)


def _signature(key: ops.CreateForeignKeyOp) -> tuple[object, ...]:
    pairs = tuple(sorted(zip(key.local_cols, key.remote_cols, strict=True)))
    return key.kw.get("referent_schema"), key.referent_table, pairs


def _as_change(
    search: Search,
    drop: ops.DropConstraintOp,
    before: ops.CreateForeignKeyOp,
    after: ops.CreateForeignKeyOp,
) -> ChangeOnDelete | None:
    """The change of the rule; None where the key has it, which older SQLAlchemy may misread."""
    table = search.table(drop.schema, drop.table_name)
    name = str(drop.constraint_name)
    key = search.key(table, name)
    old, new = _read_rule(before) if key is None else _rule_of(key), _read_rule(after)
    changed = {part: new[part] for part in new if new[part] != old[part]}
    if "set_columns" in changed:
        changed = {"on_delete": new["on_delete"], **changed}
        changed["set_columns"] = changed["set_columns"] or ()
    if changed.get("match", "") is None:  # the model does not say
        del changed["match"]
    if not changed:
        return None
    return ChangeOnDelete(
        table=table.name,
        constraint=name,
        schema=table.schema,
        definition=key.definition if key else None,
        comment=key.comment if key else None,
        **changed,
    )


def _rule_of(key: ForeignKey) -> dict[str, Any]:
    """The rule of a key as it is, in our operations' words."""
    return {
        "on_delete": key.on_delete.sql,
        "set_columns": key.set_columns or None,
        "on_update": key.on_update.sql,
        "deferrable": key.deferrable,
        "initially": "DEFERRED" if key.initially_deferred else "IMMEDIATE",
        "match": key.match.name,
    }


_COLUMNS = re.compile(r"\s*\((.*)\)\Z", re.DOTALL)


def _read_rule(key: ops.CreateForeignKeyOp) -> dict[str, Any]:
    """The rule of a key as Alembic has it, in our operations' words."""
    on_delete = str(key.kw.get("ondelete") or "NO ACTION")
    listed = _COLUMNS.search(on_delete)
    columns = None
    if listed:
        on_delete = on_delete[: listed.start()]
        columns = tuple(_unquote(name) for name in listed[1].split(","))
    deferrable = bool(key.kw.get("deferrable"))
    initially = str(key.kw.get("initially") or "IMMEDIATE").upper()
    return {
        "on_delete": " ".join(on_delete.upper().split()),
        "set_columns": columns,
        "on_update": " ".join(str(key.kw.get("onupdate") or "NO ACTION").upper().split()),
        "deferrable": deferrable or initially == "DEFERRED",
        "initially": initially,
        "match": key.kw.get("match"),
    }


def _unquote(name: str) -> str:
    name = name.strip()
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _as_adoption(search: Search, operation: MigrateOperation) -> AdoptReference | None:
    if not isinstance(operation, ops.CreateForeignKeyOp):
        return None
    source_schema = operation.kw.get("source_schema")
    if not search.is_there(source_schema, operation.source_table):
        return None
    rule = _read_rule(operation)
    table = search.table(source_schema, operation.source_table)
    referenced = search.table(operation.kw.get("referent_schema"), operation.referent_table)
    return AdoptReference(
        table=table.name,
        columns=tuple(operation.local_cols),
        referenced_table=referenced.name,
        referenced_columns=tuple(operation.remote_cols),
        schema=table.schema,
        referenced_schema=referenced.schema if referenced.schema != table.schema else None,
        name=str(operation.constraint_name) if operation.constraint_name else None,
        on_delete=rule["on_delete"],
        set_columns=rule["set_columns"],
        on_update=rule["on_update"],
        match=rule["match"],
        deferrable=rule["deferrable"] or None,
        initially=rule["initially"] if rule["initially"] == "DEFERRED" else None,
    )


def _as_build(search: Search, operation: MigrateOperation) -> BuildIndex | None:
    if not isinstance(operation, ops.CreateIndexOp) or not operation.index_name:
        return None
    if not search.is_there(operation.schema, operation.table_name):
        return None
    given = {name: value for name, value in operation.kw.items() if value not in (None, [], {})}
    given.pop("postgresql_concurrently", None)
    options = {name: _as_sql(value) for name, value in given.items()}
    table = search.table(operation.schema, operation.table_name)
    return BuildIndex(
        name=str(operation.index_name),
        table=table.name,
        columns=tuple(
            str(getattr(column, "name", column))
            if isinstance(column, str | Column)
            else text(_as_sql(column))
            for column in operation.columns
        ),
        schema=table.schema,
        unique=bool(operation.unique),
        options=options or None,
    )


def _as_sql(value: Any) -> Any:
    """The value, an expression as its SQL text."""
    if not isinstance(value, ClauseElement):
        return value
    compiled = value.compile(
        dialect=postgresql.dialect(),  # type: ignore[no-untyped-call]
        compile_kwargs={"literal_binds": True},
    )
    return str(compiled)


def _as_duplicate(search: Search, drop: ops.DropConstraintOp) -> DropDuplicateKey | None:
    key = search.key(search.table(drop.schema, drop.table_name), str(drop.constraint_name))
    if key is None or not any(twin.validated for twin in find_twins(search.schema, key)):
        return None
    return _drop_duplicate(key)


def _drop_duplicate(key: ForeignKey) -> DropDuplicateKey:
    return DropDuplicateKey(
        table=key.referencing.name,
        constraint=key.name,
        schema=key.referencing.schema,
        definition=key.definition,
        comment=key.comment,
    )


def _unseen(
    search: Search,
    metadata: MetaData | None,
    safe: Iterable[MigrateOperation],
    operations: Iterable[MigrateOperation],
) -> Iterator[MigrateOperation]:
    """What Alembic does not see: keys of the model's tables that are NOT VALID or there twice."""
    touched = {
        (operation.schema, operation.table, operation.constraint)
        for operation in safe
        if isinstance(operation, ChangeOnDelete | DropDuplicateKey)
    }
    dropped = {
        (operation.schema or search.default, operation.table_name)
        for operation in operations
        if isinstance(operation, ops.DropTableOp)
    }
    for table in metadata.tables.values() if metadata is not None else ():
        name = search.table(table.schema, str(table.name))
        if (name.schema, name.name) in dropped:
            continue
        wanted = {str(key.name) for key in table.foreign_key_constraints if key.name}
        kept: list[ForeignKey] = []
        # The one that the model names comes first, and stays.
        keys = sorted(search.schema.keys_from(name), key=lambda key: key.name not in wanted)
        for key in keys:
            if (name.schema, name.name, key.name) in touched:
                kept.append(key)
                continue
            if any(_is_exact_twin(key, other) for other in kept):
                yield _drop_duplicate(key)
                continue
            kept.append(key)
            if key.enforced and not key.validated and _is_modelled(search, table, key):
                yield ValidateForeignKey(
                    table=name.name,
                    constraint=key.name,
                    schema=name.schema,
                    definition=key.definition,
                    comment=key.comment,
                )


def _is_exact_twin(key: ForeignKey, other: ForeignKey) -> bool:
    """Whether the two say the same to the letter, which Alembic takes for one."""
    return other.validated and key.definition.removesuffix(" NOT VALID") == other.definition


def _is_modelled(search: Search, table: Any, key: ForeignKey) -> bool:
    """Whether the model has a key on the same columns."""
    return any(
        sorted(column.name for column in one.columns) == sorted(key.referencing_columns)
        and search.table(one.referred_table.schema, one.referred_table.name) == key.referenced
        for one in table.foreign_key_constraints
    )
