"""What a database is made of, as frozen values: tables, columns, indexes, keys.

Everything that thinks (audit, graph walks, plans) takes these; `fkdoctor.inspect` reads them from
PostgreSQL. Letters in the enums are the catalog's own.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from fkdoctor.errors import AmbiguousName, UnknownName
from fkdoctor.identifier import quote, quote_all, split_qualified


class TableName(NamedTuple):
    """A table's schema and name; `str()` gives it as SQL text.

    A tuple, because a large audit asks for the hash of these a million times.
    """

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


class ReferentialAction(Enum):
    """What a foreign key does to referencing rows (pg_constraint.confdeltype, confupdtype)."""

    NO_ACTION = "a"
    RESTRICT = "r"
    CASCADE = "c"
    SET_NULL = "n"
    SET_DEFAULT = "d"

    @property
    def sql(self) -> str:
        """The action's words: `SET NULL`."""
        return self.name.replace("_", " ")


class MatchType(Enum):
    """How NULLs in a composite key are treated (pg_constraint.confmatchtype)."""

    SIMPLE = "s"
    FULL = "f"
    PARTIAL = "p"


class TableKind(Enum):
    """pg_class.relkind of the tables that can hold or point at rows."""

    TABLE = "r"
    PARTITIONED = "p"
    FOREIGN = "f"


class TriggerState(Enum):
    """pg_trigger.tgenabled: in which session_replication_role the trigger fires."""

    ORIGIN = "O"
    ALWAYS = "A"
    REPLICA = "R"
    DISABLED = "D"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """A column. `base_type` is the type under all domains, without a length.

    `highest` is the highest number that the last ANALYZE saw, where keys reference it.
    """

    name: str
    type: str
    base_type: str
    type_modifier: int
    collation: str | None
    deterministic: bool
    not_null: bool
    default: str | None
    generated: bool
    identity: bool
    highest: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexKey:
    """One key of an index: a column or an expression.

    `operator_family` is written `method schema.name`.
    """

    column: str | None
    expression: str | None
    operator_class: str
    operator_family: str
    collation: str | None
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """An index, whether or not a constraint owns it. `parent` is the index it is a partition of.

    `written` is its CREATE INDEX, where inspect_database was asked for that.
    """

    name: str
    method: str
    keys: tuple[IndexKey, ...]
    include: tuple[str, ...]
    unique: bool
    primary: bool
    immediate: bool
    nulls_not_distinct: bool
    predicate: str | None
    valid: bool
    ready: bool
    live: bool
    parent: str | None
    constraint: str | None
    comment: str | None
    written: str | None = None

    @property
    def definition(self) -> str:
        """`written`, which must have been asked for."""
        assert self.written is not None, self.name
        return self.written

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The key columns in order; None where a key is an expression."""
        names = tuple(key.column for key in self.keys if key.column is not None)
        return names if len(names) == len(self.keys) else None


@dataclass(frozen=True, kw_only=True)
class UniqueKey:
    """Columns of which a table promises that no two rows agree on all; a key may reference them."""

    name: str
    columns: tuple[str, ...]
    primary: bool
    deferrable: bool
    nulls_not_distinct: bool


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A CHECK (`kind` 'c') or EXCLUDE ('x') constraint, by its definition."""

    name: str
    kind: str
    columns: tuple[str, ...]
    validated: bool
    enforced: bool
    definition: str


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A trigger somebody wrote (not one of PostgreSQL's own for foreign keys).

    `columns` are those of UPDATE OF, () for any; `conditional` is whether it has a WHEN.
    """

    name: str
    function: str
    timing: str
    events: tuple[str, ...]
    for_each_row: bool
    state: TriggerState
    columns: tuple[str, ...] = ()
    conditional: bool = False

    @property
    def acting(self) -> bool:
        """Whether it fires in an ordinary session."""
        return self.state in (TriggerState.ORIGIN, TriggerState.ALWAYS)


@dataclass(frozen=True, kw_only=True)
class TriggerFunction:
    """A function that a trigger calls; `name` is qualified as in Trigger."""

    name: str
    language: str
    source: str


@dataclass(frozen=True, kw_only=True)
class UpsertSource:
    """SQL in which INSERT … ON CONFLICT may stand: a function's, or that of statements that ran.

    `search_path` is what a bare name in it is looked up in, () where that is not known.
    """

    label: str
    source: str
    search_path: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RewriteRule:
    """A rule on the table; `instead` replaces the statement.

    `conditional` is whether it has a WHERE, `same_command` whether it does what the statement does,
    such as another DELETE, in its place.
    """

    name: str
    event: str
    instead: bool
    state: TriggerState
    conditional: bool = False
    same_command: bool = False

    @property
    def acting(self) -> bool:
        """Whether it replaces or adds to statements in an ordinary session."""
        return self.state in (TriggerState.ORIGIN, TriggerState.ALWAYS)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with all that hangs on it. `row_estimate` is None where it was never analysed.

    `owner_lacks` are the rights (USAGE is on the schema) that its own owner does not have, and
    `subscriptions` are those that write into the table.
    """

    name: TableName
    kind: TableKind
    owner: str
    row_estimate: int | None
    size_bytes: int
    persistence: str
    partition_of: TableName | None
    partition_key: str | None
    inherits: tuple[TableName, ...]
    row_security: bool
    force_row_security: bool
    replica_identity: str
    readable: bool
    comment: str | None
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    constraints: tuple[Constraint, ...]
    triggers: tuple[Trigger, ...]
    rules: tuple[RewriteRule, ...]
    partition_bound: str | None = None
    owner_lacks: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()

    @cached_property
    def _columns_by_name(self) -> Mapping[str, Column]:
        return {column.name: column for column in self.columns}

    def column(self, name: str) -> Column:
        """The column of that name; KeyError where there is none."""
        return self._columns_by_name[name]

    def has_column(self, name: str) -> bool:
        """Whether the table has a column of that name."""
        return name in self._columns_by_name

    @cached_property
    def unique_keys(self) -> tuple[UniqueKey, ...]:
        """The keys that hold for every row: no predicate, no expression, valid; primary first."""
        keys = [
            UniqueKey(
                name=index.constraint or index.name,
                columns=index.columns,
                primary=index.primary,
                deferrable=not index.immediate,
                nulls_not_distinct=index.nulls_not_distinct,
            )
            for index in self.indexes
            if index.unique and index.valid and index.predicate is None and index.columns
        ]
        return tuple(sorted(keys, key=lambda key: (not key.primary, key.name)))

    @cached_property
    def primary_key(self) -> UniqueKey | None:
        """The primary key, if there is one."""
        return next((key for key in self.unique_keys if key.primary), None)

    @property
    def row_identity(self) -> tuple[str, ...]:
        """The columns by which a row can be found again; empty when there are none."""
        for key in self.unique_keys:
            if key.primary or all(self.column(name).not_null for name in key.columns):
                return key.columns
        return ()


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyOperator:
    """The equality a foreign key uses for one column pair.

    `name` is the referenced = referencing operator as `schema.operator`, between the two types;
    `families` are the operator families in which an index on the referencing column can look its
    commutator up.
    """

    name: str
    left_type: str
    right_type: str
    families: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyTrigger:
    """One of PostgreSQL's own triggers that make a foreign key work."""

    name: str
    table: TableName
    function: str
    state: TriggerState


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyClone:
    """The copy of a foreign key that PostgreSQL keeps for one partition."""

    name: str
    referencing: TableName
    referenced: TableName
    validated: bool
    triggers: tuple[KeyTrigger, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignKey:
    """A foreign key as it was written; the copies for partitions are in `clones`.

    `triggers` are in firing order. `definition` is pg_get_constraintdef with an empty search_path,
    so every name in it is qualified. Of a key that is not validated, `written_at` is when it came
    to be as it is, if the server knows, and `validated_by_row` whether VALIDATE by the table's
    owner would look each row up by itself.
    """

    oid: int
    name: str
    referencing: TableName
    referencing_columns: tuple[str, ...]
    referenced: TableName
    referenced_columns: tuple[str, ...]
    on_delete: ReferentialAction
    on_update: ReferentialAction
    set_columns: tuple[str, ...]
    match: MatchType
    deferrable: bool
    initially_deferred: bool
    validated: bool
    enforced: bool
    period: bool
    operators: tuple[KeyOperator, ...]
    triggers: tuple[KeyTrigger, ...]
    clones: tuple[KeyClone, ...]
    comment: str | None
    definition: str
    written_at: datetime | None = None
    validated_by_row: bool = False

    @property
    def label(self) -> str:
        """Table and constraint: `mlops.job_recommendations.job_recommendations_job_id_fkey`."""
        return f"{self.referencing}.{quote(self.name)}"

    @property
    def arrow(self) -> str:
        """What points where: `job_id → mlops.job_postings(id)`."""
        columns = quote_all(self.referencing_columns)
        if len(self.referencing_columns) > 1:
            columns = f"({columns})"
        return f"{columns} → {self.referenced}({quote_all(self.referenced_columns)})"

    @property
    def self_referencing(self) -> bool:
        """Whether the key points at its own table."""
        return self.referencing == self.referenced

    @property
    def written_columns(self) -> tuple[str, ...]:
        """The columns that ON DELETE SET NULL or SET DEFAULT writes."""
        return self.set_columns or self.referencing_columns


@dataclass(frozen=True, kw_only=True, slots=True)
class LogicalKey(ForeignKey):
    """A reference that no constraint declares, in the form of a key.

    It holds for rows for which the `condition` is true, SQL over the `columns` of the table, which
    may be `partitioned`.
    """

    condition: str | None
    columns: tuple[str, ...]
    partitioned: bool


@dataclass(frozen=True, kw_only=True)
class PartitionKey(ForeignKey):
    """The key of one `partition` as a key of a table above it, which holds for these rows only.

    `leaves` are the tables in which they are.
    """

    partition: TableName
    leaves: tuple[TableName, ...]

    @property
    def label(self) -> str:
        """The partition and the constraint, as it was written."""
        return f"{self.partition}.{quote(self.name)}"


@dataclass(frozen=True, kw_only=True)
class LogicalReference:
    """A reference that PostgreSQL does not know: fkdoctor.toml declares it, or it is `guessed`.

    `elements` is whether the column is an array, each element of which references a row; `path`
    leads to the references in a JSON column, by names, and None for any element of an array;
    `condition` is SQL on the referencing row, where only some rows reference that table.
    """

    referencing: TableName
    referencing_column: str
    referenced: TableName
    referenced_column: str
    elements: bool = False
    path: tuple[str | None, ...] = ()
    condition: str | None = None
    guessed: bool = False

    @property
    def embedded(self) -> bool:
        """Whether a row can hold any number of them, within one value."""
        return self.elements or bool(self.path)

    @property
    def label(self) -> str:
        """Where it comes from: `mlops.user_interactions.letter_id`, and its condition if any."""
        column = f"{self.referencing}.{quote(self.referencing_column)}{self.written_path}"
        return f"{column} where {self.condition}" if self.condition else column

    @property
    def written_path(self) -> str:
        """The path as fkdoctor.toml has it: ` $.letters[*].id`; '' where there is none."""
        if not self.path:
            return ""
        return " $" + "".join("[*]" if one is None else f".{quote(one)}" for one in self.path)

    @property
    def arrow(self) -> str:
        """What points where: `letter_id → mlops.cover_letter_samples(id)`."""
        brackets = "[]" if self.elements else self.written_path
        return (
            f"{quote(self.referencing_column)}{brackets} → "
            f"{self.referenced}({quote(self.referenced_column)})"
        )


_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_TEXTS = frozenset({"text", "character varying"})


def compared_as(theirs: Column, ours: Column) -> tuple[str, str] | None:
    """The types between which an equality of PostgreSQL's own compares the columns; of an array,
    its elements."""
    mine = ours.base_type.removesuffix("[]")
    pair = {theirs.base_type, mine}
    if len(pair) == 1 or pair <= _INTEGERS:
        return theirs.base_type, mine
    # An application that keeps keys of any table in one column keeps them as text.
    return ("text", "text") if mine in _TEXTS else None


@dataclass(frozen=True, kw_only=True)
class ModelKey:
    """A foreign key as an application's model declares it; None where it says nothing.

    `not_null` are the columns that may not be NULL by the model. `constrained` is whether it wants
    a key in the database at all; `carried_out` what the mapper does with the rows by itself, such
    as CASCADE or PROTECT ('' where it leaves all to the database, None where its relationships say
    so); `label` is then the model's `Class.attribute`.
    """

    name: str | None
    referencing: TableName
    referencing_columns: tuple[str, ...]
    referenced: TableName
    referenced_columns: tuple[str, ...]
    on_delete: str | None
    on_update: str | None
    match: str | None
    deferrable: bool
    initially_deferred: bool
    not_null: tuple[str, ...]
    constrained: bool = True
    carried_out: str | None = None
    label: str = ""

    @property
    def arrow(self) -> str:
        """What points where, as ForeignKey.arrow says it."""
        columns = quote_all(self.referencing_columns)
        if len(self.referencing_columns) > 1:
            columns = f"({columns})"
        return f"{columns} → {self.referenced}({quote_all(self.referenced_columns)})"


@dataclass(frozen=True, kw_only=True)
class ModelRelation:
    """A relationship of a model to many others, and what its mapper does with them.

    `label` is `Class.attribute`; `deletes` is whether deleting the one deletes the many, `passive`
    is '' (they are loaded first), 'unloaded' (those not loaded are left to the database) or 'all'.
    """

    label: str
    referencing: TableName
    referencing_columns: tuple[str, ...]
    referenced: TableName
    deletes: bool
    passive: str


@dataclass(frozen=True, kw_only=True)
class ModelPolymorph:
    """Two columns of which a model says that they name a row of any of several tables.

    `label` is `Class.attribute`; `kind` has the number of a row of `kinds`, a table with the
    columns app_label and model, and `key` the key of the row that is meant. `targets` are those two
    as `app_label.model`, each with the table and its key.
    """

    label: str
    table: TableName
    kind: str
    key: str
    kinds: TableName
    targets: tuple[tuple[str, TableName, str], ...]


class Flaw(Enum):
    """What was looked for in the rows of a reference.

    DANGLING: it references nothing. HALF_NULL: a composite one is NULL in a part.
    UNDER_DELETED: it references a row that is marked as deleted. NO_DEFAULT: there is no row that
    SET DEFAULT would lead to.
    """

    DANGLING = "dangling"
    HALF_NULL = "half null"
    UNDER_DELETED = "under deleted"
    NO_DEFAULT = "no default"


@dataclass(frozen=True, kw_only=True)
class RowCount:
    """How many rows of a reference (its label) have a flaw.

    `looked_at` is None where all rows were counted, and else how many were, by a sample; `rows` are
    some of the rows with the flaw, by `identity` and then what they reference.
    """

    reference: str
    flaw: Flaw
    count: int
    looked_at: int | None = None
    identity: tuple[str, ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()


@dataclass(frozen=True, kw_only=True)
class KindCount:
    """In how many sampled rows a column says that its neighbour `key` is of that kind."""

    table: TableName
    key: str
    kind: str
    count: int


SEQUENTIAL = "Seq Scan"


@dataclass(frozen=True, kw_only=True)
class KeyPlan:
    """How the planner would find the rows of `table` that reference a row by the key (its label).

    `scan` is SEQUENTIAL or names the index, `columns_found` is how many of the key's columns the
    index looks up.
    """

    reference: str
    table: TableName
    scan: str
    columns_found: int


@dataclass(frozen=True, kw_only=True)
class Unread:
    """Something the role could not read, and why: a report is silent about it."""

    subject: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReplicaSetting:
    """Sessions of the role, in the database, start with session_replication_role = replica.

    A part that is None means any; `str()` says both as ALTER does.
    """

    role: str | None
    database: str | None

    def __str__(self) -> str:
        role = f"ROLE {quote(self.role) if self.role else 'ALL'}"
        if self.database is None:
            return role
        database = f"DATABASE {quote(self.database)}"
        return f"{role} IN {database}" if self.role else database


@dataclass(frozen=True, kw_only=True, eq=False)
class Schema:
    """One consistent look at a database: every table and every foreign key outside the catalogs.

    Equal to itself alone, so that what is worked out of it can be remembered.

    `references` and `soft_delete_column` are what fkdoctor.toml says about it, `row_counts` and
    `kinds` what was found in the rows and `plans` what the planner said, if they were asked;
    `model_keys`, `model_relations`, `model_polymorphs` and `modelled` (tables) what the
    application's models say.
    """

    database: str
    server_version: int
    replication_role: str
    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]
    views: frozenset[TableName]
    unread: tuple[Unread, ...]
    replica_settings: tuple[ReplicaSetting, ...] = ()
    trigger_functions: tuple[TriggerFunction, ...] = ()
    upsert_sources: tuple[UpsertSource, ...] = ()
    references: tuple[LogicalReference, ...] = ()
    soft_delete_column: str = "deleted_at"
    row_counts: tuple[RowCount, ...] = ()
    kinds: tuple[KindCount, ...] = ()
    plans: tuple[KeyPlan, ...] = ()
    model_keys: tuple[ModelKey, ...] = ()
    model_relations: tuple[ModelRelation, ...] = ()
    model_polymorphs: tuple[ModelPolymorph, ...] = ()
    modelled: frozenset[TableName] = frozenset()

    @cached_property
    def _plans(self) -> Mapping[str, tuple[KeyPlan, ...]]:
        grouped: dict[str, list[KeyPlan]] = defaultdict(list)
        for plan in self.plans:
            grouped[plan.reference].append(plan)
        return {label: tuple(plans) for label, plans in grouped.items()}

    @cached_property
    def _row_counts(self) -> Mapping[tuple[str, Flaw], RowCount]:
        return {(found.reference, found.flaw): found for found in self.row_counts}

    @cached_property
    def _tables_by_name(self) -> Mapping[TableName, Table]:
        return {table.name: table for table in self.tables}

    @cached_property
    def _trigger_functions_by_name(self) -> Mapping[str, TriggerFunction]:
        return {function.name: function for function in self.trigger_functions}

    @cached_property
    def _keys_to(self) -> Mapping[TableName, tuple[ForeignKey, ...]]:
        grouped: dict[TableName, list[ForeignKey]] = defaultdict(list)
        for key in self.foreign_keys:
            grouped[key.referenced].append(key)
        return {name: tuple(keys) for name, keys in grouped.items()}

    @cached_property
    def _keys_from(self) -> Mapping[TableName, tuple[ForeignKey, ...]]:
        grouped: dict[TableName, list[ForeignKey]] = defaultdict(list)
        for key in self.foreign_keys:
            grouped[key.referencing].append(key)
        return {name: tuple(keys) for name, keys in grouped.items()}

    @cached_property
    def column_pairs(self) -> Mapping[int, tuple[tuple[Column, Column], ...]]:
        """The columns of each foreign key, by its oid: referencing and referenced, pair by pair."""
        found = {}
        for key in self.foreign_keys:
            here, there = self.table(key.referencing), self.table(key.referenced)
            found[key.oid] = tuple(
                zip(
                    map(here.column, key.referencing_columns),
                    map(there.column, key.referenced_columns),
                    strict=True,
                )
            )
        return found

    @cached_property
    def _partitions(self) -> Mapping[TableName, tuple[Table, ...]]:
        grouped: dict[TableName, list[Table]] = defaultdict(list)
        for table in self.tables:
            if table.partition_of is not None:
                grouped[table.partition_of].append(table)
        return {name: tuple(tables) for name, tables in grouped.items()}

    @property
    def major(self) -> int:
        """The server's major version, 18 for 180006."""
        return self.server_version // 10000

    def table(self, name: TableName) -> Table:
        """The table of that name; UnknownName where there is none."""
        try:
            return self._tables_by_name[name]
        except KeyError:
            raise self._unknown(str(name), self._tables_by_name) from None

    def plans_for(self, key: ForeignKey) -> tuple[KeyPlan, ...]:
        """What the planner said of the key, for each table with its rows; () if it wasn't asked."""
        return self._plans.get(key.label, ()) if self.plans else ()

    def row_count(self, reference: ForeignKey | LogicalReference, flaw: Flaw) -> RowCount | None:
        """How many of its rows have the flaw; None where they were not looked at."""
        return self._row_counts.get((reference.label, flaw)) if self.row_counts else None

    def trigger_function(self, trigger: Trigger) -> TriggerFunction | None:
        """The function that the trigger calls; None where it could not be read."""
        return self._trigger_functions_by_name.get(trigger.function)

    def has_table(self, name: TableName) -> bool:
        """Whether there is a table of that name."""
        return name in self._tables_by_name

    def keys_to(self, name: TableName) -> tuple[ForeignKey, ...]:
        """The foreign keys that reference the table, self-references included."""
        return self._keys_to.get(name, ())

    def keys_from(self, name: TableName) -> tuple[ForeignKey, ...]:
        """The foreign keys that the table has."""
        return self._keys_from.get(name, ())

    def partitions(self, name: TableName) -> tuple[Table, ...]:
        """The table's direct partitions."""
        return self._partitions.get(name, ())

    def leaves(self, name: TableName) -> tuple[Table, ...]:
        """The partitions below the table that hold rows; the table itself if not partitioned."""
        table = self.table(name)
        if table.kind is not TableKind.PARTITIONED:
            return (table,)
        return tuple(
            leaf for partition in self.partitions(name) for leaf in self.leaves(partition.name)
        )

    def row_estimate(self, name: TableName) -> int | None:
        """How many rows PostgreSQL believes the table or its partitions to have; None: no idea."""
        table = self.table(name)
        if table.kind is not TableKind.PARTITIONED:
            return table.row_estimate
        known = [leaf.row_estimate for leaf in self.leaves(name) if leaf.row_estimate is not None]
        return sum(known) if known else None

    def foreign_key(self, table: TableName, name: str) -> ForeignKey:
        """The table's foreign key of that name; UnknownName where there is none."""
        for key in self.keys_from(table):
            if key.name == name:
                return key
        known = ", ".join(quote(key.name) for key in self.keys_from(table))
        raise UnknownName(
            f"{table} has no foreign key {quote(name)}.",
            why=f"Its foreign keys: {known}." if known else "It has no foreign key at all.",
            next="See them all with: fkdoctor audit",
        )

    def resolve_table(self, text: str, schemas: tuple[str, ...] = ()) -> TableName:
        """The table that a typed name means: `schema.table`, or a bare name found in `schemas`.

        Without `schemas` every schema is looked through. Raises UnknownName or AmbiguousName, both
        with the candidates.
        """
        parts = split_qualified(text)
        if len(parts) == 2 and TableName(*parts) in self._tables_by_name:
            return TableName(*parts)
        if len(parts) != 1:
            raise self._unknown(text, self._tables_by_name)
        everywhere = sorted(name for name in self._tables_by_name if name.name == parts[0])
        found = [name for name in everywhere if not schemas or name.schema in schemas]
        if len(found) == 1:
            return found[0]
        if found:
            raise AmbiguousName(
                f"{text} is ambiguous.",
                why="It could be " + " or ".join(str(name) for name in found) + ".",
                next=f"Write the schema too, for example: {found[0]}",
            )
        if everywhere:
            raise UnknownName(
                f"There is no table {text} in the schemas {', '.join(schemas)}.",
                why="There is " + ", ".join(str(name) for name in everywhere) + ".",
                next=f"Write the schema too: {everywhere[0]}",
            )
        raise self._unknown(text, self._tables_by_name)

    def _unknown(self, text: str, known: Iterable[TableName]) -> UnknownName:
        names = sorted(known)
        views = [str(view) for view in self.views if text in (str(view), quote(view.name))]
        if views:
            return UnknownName(
                f"{views[0]} is a view.",
                why="Foreign keys and rows to merge live in tables.",
                next="Name the table behind it.",
            )
        bare = text.rsplit(".", 1)[-1].strip('"')
        close = set(difflib.get_close_matches(bare, {name.name for name in names}, n=3))
        near = [str(name) for name in names if name.name in close][:4]
        return UnknownName(
            f"There is no table {text} in database {self.database}.",
            why=f"Nearest: {', '.join(near)}." if near else f"It has {len(names)} tables.",
            next="List them with: fkdoctor audit",
        )

    def fingerprint(self, names: Iterable[TableName]) -> str:
        """A digest of the tables' structure and of every key to or from them.

        Row counts, sizes, comments and OIDs do not count: the same schema restored elsewhere has
        the same fingerprint.
        """
        digest = hashlib.sha256()
        for name in sorted(set(names)):
            digest.update(repr(_structure(self.table(name))).encode())
            keys = {key.label: key for key in (*self.keys_to(name), *self.keys_from(name))}
            for label in sorted(keys):
                digest.update(repr(_structure(keys[label])).encode())
        return digest.hexdigest()[:16]


_VOLATILE = frozenset(
    {
        "comment",
        "highest",
        "oid",
        "owner_lacks",
        "readable",
        "row_estimate",
        "size_bytes",
        "subscriptions",
        "written_at",
    }
)


def _structure(value: object) -> object:
    """The value as nested tuples, without the fields that change by themselves."""
    if isinstance(value, frozenset):
        return tuple(sorted(value))
    if isinstance(value, tuple):
        return tuple(_structure(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        # The names of PostgreSQL's own triggers hold OIDs.
        left_out = _VOLATILE | ({"name"} if isinstance(value, KeyTrigger) else set())
        return tuple(
            (field.name, _structure(getattr(value, field.name)))
            for field in fields(value)
            if field.name not in left_out
        )
    return value
