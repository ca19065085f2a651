"""Declares a reference that nobody declared, and takes such a key away again.

The shadow comes first: once it is there, no new row can dangle. Then the rows that dangle already
are reported, or repaired as the policy says, and what they were is kept in a table beside. When the
rest is validated the shadow gets the key's name.
"""

from __future__ import annotations

from dataclasses import dataclass

from fkdoctor.errors import Incomplete, Refused, UnknownName
from fkdoctor.identifier import quote, quote_all
from fkdoctor.revise.change import KeyChange
from fkdoctor.revise.dangling import (
    Dangling,
    name_kept,
    put_back,
    refuse_further_deeds,
    refuse_policy,
    repair_dangling,
)
from fkdoctor.revise.ddl import drop_key
from fkdoctor.revise.definition import KeyDefinition, parse_definition
from fkdoctor.revise.executor import Executor
from fkdoctor.revise.keys import Task, fulfil
from fkdoctor.revise.mark import CREATED, KeyText, is_created, read_shadow
from fkdoctor.revise.obstacles import refuse_impossible
from fkdoctor.revise.rights import require_alterable
from fkdoctor.revise.state import KeyState, effective
from fkdoctor.schema import (
    ForeignKey,
    MatchType,
    ReferentialAction,
    Schema,
    Table,
    TableName,
)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A reference to declare, under the name that its key gets."""

    table: TableName
    columns: tuple[str, ...]
    referenced: TableName
    referenced_columns: tuple[str, ...]
    name: str
    change: KeyChange
    dangling: Dangling

    @property
    def definition(self) -> KeyDefinition:
        """The key as PostgreSQL will print it."""
        text = (
            f"FOREIGN KEY ({quote_all(self.columns)}) REFERENCES "
            f"{self.referenced}({quote_all(self.referenced_columns)})"
        )
        wanted = self.change.apply(parse_definition(text))
        return wanted.unvalidated() if self.dangling is Dangling.KEEP else wanted


def adopt_reference(executor: Executor, reference: Reference) -> bool:
    """Whether the key had to be added; now the reference is declared.

    Raises Refused, with nothing added, when rows dangle and the policy is to refuse.
    """
    schema = executor.read_schema()
    _check_columns(schema, reference)
    refuse_impossible(
        schema,
        reference.table,
        f"{reference.table}.{quote(reference.name)}",
        reference.columns,
        reference.change,
        full=reference.change.match is MatchType.FULL,
    )
    declared = _find_declared(schema, reference)
    if declared is not None:
        _require_equal(declared, reference)
        executor.tell(declared.label, "it is declared already: left as it is")
        return False
    kept = name_kept(reference.table, reference.name)
    refuse_policy(schema, reference.table, reference.columns, reference.dangling, kept)
    rule = reference.change.on_delete or ReferentialAction.NO_ACTION
    refuse_further_deeds(schema, reference.table, reference.referenced, rule, reference.dangling)
    moved: list[int] = []

    def prepare(schema: Schema, state: KeyState) -> None:
        if reference.dangling in (Dangling.DELETE, Dangling.SET_NULL):
            for shadow in state.unready:
                assert shadow.key is not None
                moved.append(
                    repair_dangling(executor, schema, shadow.key, reference.dangling, kept)
                )

    task = Task(
        table=reference.table,
        name=reference.name,
        intend=lambda key: None,
        change=reference.change,
        adopt=KeyText(definition=str(reference.definition), comment=CREATED),
        referenced=reference.referenced,
        prepare=prepare,
    )
    try:
        return fulfil(executor, task)
    except Refused as problem:
        if not sum(moved):
            raise
        raise Incomplete(problem.what, why=problem.why, next=problem.next) from problem


def _check_columns(schema: Schema, reference: Reference) -> None:
    referencing, referenced = schema.table(reference.table), schema.table(reference.referenced)
    if len(reference.columns) != len(reference.referenced_columns):
        raise Refused(
            f"{quote_all(reference.columns)} cannot reference "
            f"{reference.referenced}({quote_all(reference.referenced_columns)}).",
            why="There must be as many columns on both sides.",
            next="Correct the columns.",
        )
    for table, columns in (
        (referencing, reference.columns),
        (referenced, reference.referenced_columns),
    ):
        for name in columns:
            if not table.has_column(name):
                known = quote_all(tuple(column.name for column in table.columns))
                raise UnknownName(
                    f"{table.name} has no column {quote(name)}.",
                    why=f"Its columns: {known}.",
                    next="Correct the name.",
                )
    _require_unique(referenced, reference.referenced_columns)


def _require_unique(referenced: Table, columns: tuple[str, ...]) -> None:
    keys = [key for key in referenced.unique_keys if not key.deferrable]
    if not any(sorted(key.columns) == sorted(columns) for key in keys):
        known = "; ".join(quote_all(key.columns) for key in keys)
        raise Refused(
            f"{referenced.name}({quote_all(columns)}) cannot be referenced.",
            why=f"No unique key is on exactly these columns. There is: {known or 'none'}. "
            "A partial or deferrable one does not count.",
            next="Reference one of those, or add a unique constraint first.",
        )


def _find_declared(schema: Schema, reference: Reference) -> ForeignKey | None:
    pairs = sorted(zip(reference.columns, reference.referenced_columns, strict=True))
    for key in schema.keys_from(reference.table):
        found = sorted(zip(key.referencing_columns, key.referenced_columns, strict=True))
        if key.name == reference.name and (key.referenced, found) != (reference.referenced, pairs):
            raise Refused(
                f"{reference.table} has another foreign key named {quote(reference.name)}.",
                why=f"It is {key.arrow}.",
                next='Give the new one another name: name="…".',
            )
        # Its own shadow, of an earlier run, has its name elsewhere.
        if (
            key.referenced == reference.referenced
            and found == pairs
            and not _is_shadow(reference, key)
        ):
            return key
    return None


def _is_shadow(reference: Reference, key: ForeignKey) -> bool:
    return read_shadow(reference.name, key.comment) is not None


def _require_equal(declared: ForeignKey, reference: Reference) -> None:
    if not reference.change.holds(parse_definition(effective(declared).definition)):
        raise Refused(
            f"{declared.label} declares that reference already, with another rule.",
            why=f"It is {declared.definition}.",
            next="Change it with op.change_on_delete.",
        )


def release_reference(executor: Executor, reference: Reference) -> bool:
    """Whether the key had been added here; now it is gone, and rows that were moved are back."""
    schema = executor.read_schema()
    table = require_alterable(executor, schema, reference.table, partitioned=True)
    key = next((key for key in schema.keys_from(table.name) if key.name == reference.name), None)
    dropped = key is not None and is_created(key.comment)
    if key is not None and dropped:
        _drop(executor, schema, key)
    elif key is not None:
        executor.tell(key.label, "it was not added here: left as it is")
        return False
    for leaf in schema.leaves(table.name):
        for shadow in schema.keys_from(leaf.name):
            if key is None and _is_shadow(reference, shadow):
                _drop(executor, schema, shadow)
                dropped = True
    kept = name_kept(reference.table, reference.name)
    back = put_back(executor, schema, reference.table, reference.columns, reference.dangling, kept)
    return dropped or back


def _drop(executor: Executor, schema: Schema, key: ForeignKey) -> None:
    def work() -> None:
        executor.lock(
            "access exclusive", schema.table(key.referenced), schema.table(key.referencing)
        )
        executor.execute(drop_key(key.referencing, key.name))

    executor.tell(key.label, "drop it")
    executor.run(work)
