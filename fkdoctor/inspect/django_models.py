"""What an application's Django models say about foreign keys, as values.

Django carries out on_delete by itself, with NO ACTION DEFERRABLE INITIALLY DEFERRED in the
database; DB_CASCADE, DB_SET_NULL and DB_SET_DEFAULT (6.1) leave it to the database.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import read_schemas
from fkdoctor.inspect.models import look_here
from fkdoctor.schema import LogicalReference, ModelKey, ModelPolymorph, Schema, TableName

_DEFAULT_SCHEMA = "public"


def with_django(schema: Schema, settings: str) -> Schema:
    """The schema with what the models of all installed apps say, by a module of settings.

    The application is set up as by `manage.py`. Raises ConfigError where it can't be.
    """
    try:
        import django
        from django.apps import apps
        from django.conf import settings as current
    except ImportError as error:
        raise ConfigError(
            "Django is not installed here.",
            why=f"{error}.",
            next="Run it where the application runs, in its environment.",
        ) from None
    look_here()
    try:
        importlib.import_module(settings)
    except Exception as error:  # whatever somebody's module raises while it is imported
        raise _unusable(settings, "can't be imported", error) from error
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    try:
        django.setup()
    except Exception as error:
        raise _unusable(settings, "can't be used", error) from error
    models = apps.get_models(include_auto_created=True)
    if not models:
        raise ConfigError(
            f"The settings {settings} lead to no model.",
            why=f"INSTALLED_APPS names {len(current.INSTALLED_APPS)} apps, none with models.",
            next="Name the settings of the application: --django package.settings",
        )
    options = current.DATABASES.get("default", {}).get("OPTIONS", {}).get("options", "")
    return with_django_models(schema, models, read_search_path(str(options)))


def _unusable(settings: str, what: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"The settings {settings} {what}.",
        why=f"{type(error).__name__}: {error}.",
        next="Run it where the application runs, in its environment: --django package.settings",
    )


_SEARCH_PATH = re.compile(r"(?:-c\s*|--)search_path=((?:\\.|[^\s\\])+)")


def read_search_path(options: str) -> tuple[str, ...]:
    """The schemas that libpq's `options` name: `-c search_path=shop,public`; () where none."""
    found = _SEARCH_PATH.search(options)
    if found is None:
        return ()
    return read_schemas(re.sub(r"\\(.)", r"\1", found[1]))


def with_django_models(
    schema: Schema, models: Iterable[Any], search_path: tuple[str, ...] = ()
) -> Schema:
    """The schema with what these models say; `search_path` is where Django finds their tables."""
    concrete = [model for model in models if not model._meta.proxy]
    names = {model: _table(schema, model, search_path) for model in concrete}
    keys = [key for model in concrete for key in _keys(names, model)]
    return replace(
        schema,
        model_keys=(*schema.model_keys, *keys),
        model_polymorphs=tuple(pair for model in concrete for pair in _polymorphs(names, model)),
        modelled=schema.modelled | frozenset(names.values()),
        references=(*schema.references, *_unkept(schema, keys)),
    )


def _table(schema: Schema, model: Any, search_path: tuple[str, ...]) -> TableName:
    """Where the model's table is. As Django would find it; else the only one of that name."""
    # Django has no word for a schema; `shop"."orders` is how one is smuggled through its quotes.
    *above, name = str(model._meta.db_table).strip('"').split('"."')
    if above:
        return TableName(above[-1], name)
    for place in search_path or (_DEFAULT_SCHEMA,):
        if schema.has_table(TableName(place, name)):
            return TableName(place, name)
    everywhere = [table.name for table in schema.tables if table.name.name == name]
    if len(everywhere) == 1:
        return everywhere[0]
    return TableName((search_path or (_DEFAULT_SCHEMA,))[0], name)


def _keys(names: dict[Any, TableName], model: Any) -> Iterator[ModelKey]:
    """The model's own keys; those of a model that it inherits from are in that one's table."""
    from django.db.models import ForeignKey

    for field in model._meta.local_concrete_fields:
        if not isinstance(field, ForeignKey):
            continue
        target = field.target_field
        referenced = names.get(target.model._meta.concrete_model)
        if referenced is None:
            continue  # a model that is swapped for another one, or of an app that is not installed
        in_database, by_django = _rule(field.remote_field.on_delete)
        yield ModelKey(
            name=None,
            referencing=names[model],
            referencing_columns=(field.column,),
            referenced=referenced,
            referenced_columns=(target.column,),
            on_delete=in_database,
            on_update=None,
            match=None,
            deferrable=True,
            initially_deferred=True,
            not_null=() if field.null else (field.column,),
            constrained=field.db_constraint and model._meta.managed,
            carried_out=by_django,
            label=f"{model._meta.label}.{field.name}",
        )


def _rule(on_delete: Any) -> tuple[str | None, str]:
    """What Django has the database do, and what it does by itself."""
    name = getattr(on_delete, "__name__", "")
    if name.startswith("DB_"):
        return name.removeprefix("DB_").replace("_", " "), ""
    if name == "DO_NOTHING":
        return None, ""
    known = ("CASCADE", "PROTECT", "RESTRICT", "SET_NULL", "SET_DEFAULT")
    return None, name.replace("_", " ") if name in known else "SET(…)"


def _unkept(schema: Schema, keys: Iterable[ModelKey]) -> Iterator[LogicalReference]:
    """The references of which the models say that no key keeps them, so that rows are asked."""
    declared = {one.label for one in schema.references}
    for key in keys:
        if key.constrained or not schema.has_table(key.referencing):
            continue
        if not schema.has_table(key.referenced):
            continue
        (column,), (target,) = key.referencing_columns, key.referenced_columns
        here, there = schema.table(key.referencing), schema.table(key.referenced)
        kept = any(
            one.referencing_columns == (column,) and one.referenced == key.referenced
            for one in schema.keys_from(key.referencing)
        )
        reference = LogicalReference(
            referencing=key.referencing,
            referencing_column=column,
            referenced=key.referenced,
            referenced_column=target,
        )
        known = here.has_column(column) and there.has_column(target)
        if known and not kept and reference.label not in declared:
            yield reference


def _polymorphs(names: dict[Any, TableName], model: Any) -> Iterator[ModelPolymorph]:
    pairs = [field for field in model._meta.private_fields if hasattr(field, "ct_field")]
    for field in pairs:
        own = {one.name: one for one in model._meta.local_concrete_fields}
        kind, key = own.get(field.ct_field), own.get(getattr(field, "fk_field", ""))
        kinds = names.get(kind.remote_field.model) if kind is not None else None
        if kind is None or key is None or kinds is None:
            continue  # inherited: it is told of the model whose table has the columns
        yield ModelPolymorph(
            label=f"{model._meta.label}.{field.name}",
            table=names[model],
            kind=kind.column,
            key=key.column,
            kinds=kinds,
            targets=tuple(_targets(names)),
        )


def _targets(names: dict[Any, TableName]) -> Iterator[tuple[str, TableName, str]]:
    for model, table in names.items():
        key = model._meta.pk
        if getattr(key, "column", None):  # else of several columns
            yield f"{model._meta.app_label}.{model._meta.model_name}", table, key.column
