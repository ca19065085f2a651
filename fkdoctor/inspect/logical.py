"""References that nobody declared to PostgreSQL: those of fkdoctor.toml, and columns like some."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from fkdoctor.config import Config, ReferenceConfig
from fkdoctor.errors import ConfigError
from fkdoctor.identifier import split_qualified
from fkdoctor.schema import (
    Column,
    LogicalReference,
    Schema,
    Table,
    TableKind,
    TableName,
)


def declare(schema: Schema, config: Config) -> Schema:
    """The schema with what fkdoctor.toml says about it.

    Raises ConfigError where a reference names a table or column that is not there.
    """
    return replace(
        schema,
        references=tuple(_resolve(schema, config, reference) for reference in config.references),
        soft_delete_column=config.soft_delete_column,
    )


def _resolve(schema: Schema, config: Config, reference: ReferenceConfig) -> LogicalReference:
    elements = reference.source.endswith("[]")
    here, column = _find_column(schema, config, reference.source.removesuffix("[]"))
    there, target = _find_column(schema, config, reference.target)
    if elements is not schema.table(here).column(column).type.endswith("[]"):
        raise ConfigError(
            f"{config.path}: [[reference]] from = {reference.source!r} does not fit.",
            why=f"{here}.{column} is of type {schema.table(here).column(column).type}.",
            next="Write [] behind the column's name where it is an array, and only there.",
        )
    in_json = schema.table(here).column(column).base_type in _JSON
    if in_json is not bool(reference.path):
        raise ConfigError(
            f"{config.path}: [[reference]] from = {reference.source!r} does not fit.",
            why=f"{here}.{column} is of type {schema.table(here).column(column).type}.",
            next='Give a path where it is JSON, such as path = "$.letters[*].id", and only there.',
        )
    return LogicalReference(
        referencing=here,
        referencing_column=column,
        referenced=there,
        referenced_column=target,
        elements=elements,
        path=_parse_path(config, reference.path) if reference.path else (),
        condition=reference.where,
    )


_STEP = re.compile(r"\[\*\]|\.(?:(?P<name>[^\W\d][\w$-]*)|\"(?P<quoted>(?:[^\"]|\"\")+)\")")


def _parse_path(config: Config, path: str) -> tuple[str | None, ...]:
    """The names in `$.letters[*].id`, with None for [*]."""
    steps: list[str | None] = []
    place = 1
    while path.startswith("$") and (step := _STEP.match(path, place)):
        quoted = step["quoted"] and step["quoted"].replace('""', '"')
        steps.append(step["name"] or quoted)
        place = step.end()
    if place != len(path) or not steps:
        raise ConfigError(
            f"{config.path}: [[reference]] path = {path!r} cannot be read.",
            why='It is made of .name, ."name" and [*], for any element, behind a $.',
            next='For example: path = "$.letters[*].id".',
        )
    return tuple(steps)


def _find_column(schema: Schema, config: Config, written: str) -> tuple[TableName, str]:
    *table, column = split_qualified(written)
    if len(table) == 1:
        name = schema.resolve_table(_rejoin(table), config.database.schemas)
    else:
        name = TableName(*table) if len(table) == 2 else TableName("", "")
    if not schema.has_table(name):
        raise ConfigError(
            f"{config.path}: [[reference]] names {written}, and there is no such table.",
            why=f"Database {schema.database} has {len(schema.tables)} tables.",
            next="Write schema.table.column, each as it is in the catalog.",
        )
    if not schema.table(name).has_column(column):
        known = ", ".join(one.name for one in schema.table(name).columns)
        raise ConfigError(
            f"{config.path}: [[reference]] names {written}, and {name} has no such column.",
            why=f"It has {known}.",
            next="Write schema.table.column, each as it is in the catalog.",
        )
    return name, column


def _rejoin(parts: Iterable[str]) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """A column that looks like a reference, and to what; `by_name` says what in its name does."""

    table: TableName
    column: Column
    target: TableName
    target_column: str
    by_name: str

    @property
    def in_json(self) -> bool:
        """Whether it is a list in JSON, which nothing here looks into."""
        return self.column.base_type in _JSON

    @property
    def reference(self) -> LogicalReference:
        """The reference that it looks like."""
        return LogicalReference(
            referencing=self.table,
            referencing_column=self.column.name,
            referenced=self.target,
            referenced_column=self.target_column,
            elements=self.column.base_type.endswith("[]"),
            guessed=True,
        )


# What names end with where they hold another row's key: `user_id`, `userId`, `user_uuid`.
_ENDING = re.compile(
    r"(?P<stem>.+?)(?:_(?P<key>id|uuid|guid|code|key)|(?P<camel>Id|ID|Uuid))(?P<many>s?)"
)


def find_likenesses(schema: Schema, *, elements: bool = False) -> Iterator[Likeness]:
    """The columns that no key has and that look like the key of another table.

    A column counts when what comes before `_id` in its name is one table's name, singular or
    plural, or when it is called like one table's primary key; and the types are the same. With
    `elements`, those are arrays of keys (`job_ids`).
    """
    targets = _targets(schema)
    referencing = _referencing_columns(schema)
    for table in schema.tables:
        if table.partition_of is not None or table.kind is TableKind.FOREIGN:
            continue
        for column in table.columns:
            if column.name in referencing[table.name] or column.generated:
                continue
            found = targets.named_by(table, column, elements=elements)
            if found is not None:
                yield found


@lru_cache(maxsize=1)
def _referencing_columns(schema: Schema) -> Mapping[TableName, set[str]]:
    """The columns that some reference starts from, also those of partitions' own keys."""
    found: dict[TableName, set[str]] = defaultdict(set)
    for key in schema.foreign_keys:
        table: TableName | None = key.referencing
        while table is not None:
            found[table].update(key.referencing_columns)
            table = schema.table(table).partition_of
    for reference in schema.references:
        found[reference.referencing].add(reference.referencing_column)
    for heir in schema.tables:
        for above in _ancestors(schema, heir):
            found[heir.name] |= found[above]
    return found


def _ancestors(schema: Schema, table: Table) -> Iterator[TableName]:
    """The tables that it inherits from: their references are told there."""
    for above in table.inherits:
        yield above
        yield from _ancestors(schema, schema.table(above))


_JSON = ("json", "jsonb")


class _Targets:
    """The tables that a column's name can mean: those with a primary key of one column."""

    def __init__(self, schema: Schema) -> None:
        self._by_name: dict[str, list[tuple[Table, Column]]] = defaultdict(list)
        self._by_key: dict[str, list[tuple[Table, Column]]] = defaultdict(list)
        self._schema = schema
        self._endings: set[str] = set()
        for table in schema.tables:
            words = table.name.name.lower().split("_")
            self._endings.update("_".join(words[n:]) for n in range(1, len(words)))
            key = table.primary_key
            if key is None or len(key.columns) != 1 or table.partition_of is not None:
                continue
            column = table.column(key.columns[0])
            self._by_name[table.name.name.lower()].append((table, column))
            if _ENDING.fullmatch(column.name):
                self._by_key[column.name].append((table, column))

    def named_by(self, table: Table, column: Column, *, elements: bool) -> Likeness | None:
        is_array = column.base_type.endswith("[]") or column.base_type in _JSON
        if is_array is not elements:
            return None
        match = _ENDING.fullmatch(column.name)
        if not match or bool(match["many"]) is not elements:
            return None
        primary = table.primary_key.columns if table.primary_key else ()
        if (column.name,) == primary:
            return None
        of_type = None if column.base_type in _JSON else column.base_type.removesuffix("[]")
        stem = _snake(match["stem"])
        at_end = _forms(stem.rpartition("_")[2]) if "_" in stem else ()
        if self._endings.intersection(_forms(stem)):
            at_end = ()  # audit_event_id may mean user_audit_events, and hardly means events.
        for names, by in (
            (_forms(stem), "the table's name"),
            (at_end, "the table's name at its end"),
        ):
            candidates = [one for name in names for one in self._by_name.get(name, ())]
            near = [one for one in candidates if one[0].name.schema == table.name.schema]
            fitting = [one for one in near or candidates if of_type in (None, one[1].base_type)]
            if len(fitting) == 1 and _ends_like(match, fitting[0][1]):
                target, key = fitting[0]
                # A row names another of its table by a role (parent_node_id), if it does.
                if target is table and names is not at_end:
                    return None
                return _likeness(table, column, target, key, by)
        alike = [one for one in self._by_key.get(column.name, ()) if one[0] is not table]
        near = [one for one in alike if one[0].name.schema == table.name.schema]
        fitting = [one for one in near or alike if of_type in (None, one[1].base_type)]
        owner = self._owner(alike)
        if owner in fitting:
            return _likeness(table, column, *owner, "the name of its primary key")
        return None

    def _owner(self, alike: list[tuple[Table, Column]]) -> tuple[Table, Column] | None:
        """Of tables whose keys have one name the one whose rows it names, if that is clear.

        A primary key that is itself a reference names the rows of the other table.
        """
        named = {
            (table.name, column.name): {
                key.referenced
                for key in self._schema.keys_from(table.name)
                if column.name in key.referencing_columns
            }
            or {table.name}
            for table, column in alike
        }
        rows = set().union(*named.values())
        owners = [one for one in alike if named[one[0].name, one[1].name] == {one[0].name}]
        return owners[0] if rows == {table.name for table, _ in owners} and len(rows) == 1 else None

    def of_kind(self, pair: Polymorph, kind: str) -> tuple[TableName, str] | None:
        """The table and key of the rows of that kind: `Blog::Post` and `blog.post` mean posts."""
        name = _snake(re.split(r"::|[./\\]", kind)[-1])
        candidates = [one for form in _forms(name) for one in self._by_name.get(form, ())]
        near = [one for one in candidates if one[0].name.schema == pair.table.schema]
        fitting = [one for one in near or candidates if one[1].base_type == pair.key.base_type]
        if len(fitting) != 1:
            return None
        table, key = fitting[0]
        return table.name, key.name


@lru_cache(maxsize=1)
def _targets(schema: Schema) -> _Targets:
    return _Targets(schema)


def tables_of_kinds(
    schema: Schema, pair: Polymorph, kinds: Iterable[str]
) -> dict[str, tuple[TableName, str]]:
    """The table that each kind names, and its key; one that names none, or several, is left out."""
    targets = _targets(schema)
    return {kind: found for kind in kinds if (found := targets.of_kind(pair, kind)) is not None}


def _likeness(table: Table, column: Column, target: Table, key: Column, by: str) -> Likeness:
    return Likeness(
        table=table.name, column=column, target=target.name, target_column=key.name, by_name=by
    )


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _forms(stem: str) -> tuple[str, ...]:
    """The names that a table of such things has: `city` → city, citys, cities."""
    forms = [stem, f"{stem}s", f"{stem}es"]
    if stem.endswith("y"):
        forms.append(f"{stem[:-1]}ies")
    return tuple(forms)


def _ends_like(match: re.Match[str], key: Column) -> bool:
    """Whether the name's end says the kind of key that the table has: `_uuid` for `uuid`."""
    ending = (match["key"] or match["camel"]).lower()
    name = key.name.lower()
    return name == ending or name.endswith(f"_{ending}") or (ending == "id" and name == "uuid")


@dataclass(frozen=True, kw_only=True)
class Polymorph:
    """Two columns that say together which row is meant: of which kind, and its key."""

    table: TableName
    kind: Column
    key: Column


_KINDS = ("type", "kind", "class", "model", "table")
_TEXTUAL = {"text", "character varying", "character", "name"}
# The key of something that is elsewhere: cve and CVE-2021-44228, card and pm_1J5Q.
_OUTSIDE = re.compile(r"(?:^|_)(?:external|provider|remote)(?:_|$)")


@lru_cache(maxsize=1)
def find_polymorphs(schema: Schema) -> tuple[Polymorph, ...]:
    """The pairs `x_type`, `x_id` of which no key has the second."""
    return tuple(_find_polymorphs(schema))


def _find_polymorphs(schema: Schema) -> Iterator[Polymorph]:
    referencing = _referencing_columns(schema)
    for table in schema.tables:
        if table.partition_of is not None or table.kind is TableKind.FOREIGN:
            continue
        by_name = {column.name: column for column in table.columns}
        own = {key.columns for key in table.unique_keys if key.primary}
        for column in table.columns:
            match = _ENDING.fullmatch(column.name)
            if not match or match["many"] or column.name in referencing[table.name]:
                continue
            if (column.name,) in own:
                continue
            stem = match["stem"]
            names = [f"{stem}_{kind}" for kind in _KINDS] + [f"{stem}{k.title()}" for k in _KINDS]
            kind = next((by_name[name] for name in names if name in by_name), None)
            if column.base_type in _TEXTUAL and _OUTSIDE.search(stem):
                continue
            if kind is not None and kind.base_type in _TEXTUAL:
                yield Polymorph(table=table.name, kind=kind, key=column)
