"""What an application's SQLAlchemy models say about foreign keys, as values."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapper, RelationshipDirection, RelationshipProperty, configure_mappers

from fkdoctor.errors import ConfigError
from fkdoctor.schema import ModelKey, ModelRelation, Schema, TableName

_DEFAULT_SCHEMA = "public"


def with_models(schema: Schema, address: str) -> Schema:
    """The schema with what the models at `package.module:Base` say.

    Base is a declarative base, a registry, or a MetaData, which knows of keys but no relationships.
    The module is imported, from the current directory too. Raises ConfigError where it can't be.
    """
    found = _load(address)
    registry = getattr(found, "registry", found)
    metadata = getattr(found, "metadata", found)
    if not isinstance(metadata, sa.MetaData):
        raise ConfigError(
            f"{address} holds no models.",
            why=f"It is a {type(found).__name__}, without metadata.",
            next="Name the declarative base: --models package.module:Base",
        )
    mappers = getattr(registry, "mappers", ())
    try:
        configure_mappers()
    except SQLAlchemyError as error:
        raise ConfigError(
            f"The models at {address} can't be configured.",
            why=f"SQLAlchemy says: {error}.",
            next="Import all modules with models in the one that is named.",
        ) from None
    tables = [table for table in metadata.tables.values() if isinstance(table, sa.Table)]
    return replace(
        schema,
        model_keys=tuple(key for table in tables for key in _keys(table)),
        model_relations=tuple(sorted(_relations(mappers), key=lambda relation: relation.label)),
        modelled=frozenset(_name(table) for table in tables),
    )


def look_here() -> None:
    """Let modules be imported from the current directory too, as `python -m` does."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _load(address: str) -> Any:
    module_name, colon, attribute = address.partition(":")
    if not (module_name and colon and attribute):
        raise ConfigError(
            f"--models {address} does not say where the models are.",
            why="",
            next="Write the module and what it holds: --models package.module:Base",
        )
    look_here()
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever somebody's module raises while it is imported
        raise ConfigError(
            f"The models at {address} can't be imported.",
            why=f"{type(error).__name__}: {error}.",
            next="Run it where the application runs, in its environment.",
        ) from error
    return found


def _name(table: sa.Table) -> TableName:
    return TableName(table.schema or table.metadata.schema or _DEFAULT_SCHEMA, table.name)


def _keys(table: sa.Table) -> Iterator[ModelKey]:
    for constraint in table.foreign_key_constraints:
        elements = constraint.elements
        name = constraint.name
        yield ModelKey(
            name=str(name) if name is not None else None,
            referencing=_name(table),
            referencing_columns=tuple(column.name for column in constraint.columns),
            referenced=_name(constraint.referred_table),
            referenced_columns=tuple(element.column.name for element in elements),
            on_delete=constraint.ondelete,
            on_update=constraint.onupdate,
            match=constraint.match,
            deferrable=bool(constraint.deferrable),
            initially_deferred=str(constraint.initially or "").upper() == "DEFERRED",
            not_null=tuple(column.name for column in constraint.columns if not column.nullable),
        )


def _relations(mappers: Iterable[Mapper[Any]]) -> Iterator[ModelRelation]:
    for mapper in mappers:
        for relation in mapper.relationships:
            inherited = relation.parent is not mapper
            to_many = relation.direction is RelationshipDirection.ONETOMANY
            if to_many and not relation.viewonly and not inherited:
                yield from _relation(mapper, relation)


def _relation(mapper: Mapper[Any], relation: RelationshipProperty[Any]) -> Iterator[ModelRelation]:
    target = relation.target
    source = mapper.local_table
    if not isinstance(target, sa.Table) or not isinstance(source, sa.Table):
        return
    passive = relation.passive_deletes
    yield ModelRelation(
        label=f"{mapper.class_.__name__}.{relation.key}",
        referencing=_name(target),
        referencing_columns=tuple(
            column.name for _, column in relation.local_remote_pairs or () if column is not None
        ),
        referenced=_name(source),
        deletes=relation.cascade.delete,
        passive="all" if passive == "all" else "unloaded" if passive else "",
    )
