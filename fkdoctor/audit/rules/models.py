"""Rules about what an application's models say, and the database does (--models)."""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import columns_of, with_rows
from fkdoctor.identifier import quote
from fkdoctor.schema import (
    ForeignKey,
    MatchType,
    ModelKey,
    ModelRelation,
    ReferentialAction,
    Schema,
)


def find_differing_models(schema: Schema) -> Iterator[Evidence]:
    """The keys of which the model says something else than the database."""
    for model in schema.model_keys:
        keys = same_keys(schema, model)
        differing = [(key, said) for key in keys if (said := _differences(schema, key, model))]
        # Where one of several twins is as the model says, the twins are the finding (FK011, FK012).
        if keys and len(differing) == len(keys):
            key, said = differing[0]
            yield Evidence(
                subject=key.label,
                detail=f"{key.arrow}: {'; '.join(said)}.",
                keys=(key,),
            )


def same_keys(schema: Schema, model: ModelKey) -> list[ForeignKey]:
    """The database's keys between the same columns; several where there are twins."""
    pairs = set(zip(model.referencing_columns, model.referenced_columns, strict=True))
    return [
        key
        for key in schema.keys_from(model.referencing)
        if key.referenced == model.referenced
        and set(zip(key.referencing_columns, key.referenced_columns, strict=True)) == pairs
    ]


def _differences(schema: Schema, key: ForeignKey, model: ModelKey) -> list[str]:
    compared = [
        (quote(name), _null(name in model.not_null), _null(column.not_null))
        for name in key.referencing_columns
        for column in (schema.table(key.referencing).column(name),)
    ]
    if model.constrained:
        compared += (
            ("ON UPDATE", _action(model.on_update), key.on_update.sql),
            ("MATCH", (model.match or "SIMPLE").upper(), _match(key)),
            ("DEFERRABLE", _when(model.deferrable, model.initially_deferred), _when_key(key)),
        )
    if model.constrained and model.carried_out is None:  # else see FK057
        compared.insert(0, ("ON DELETE", _action(model.on_delete), _delete(key)))
    return [
        f"{what} is {theirs} in the model, {ours} in the database"
        for what, theirs, ours in compared
        if theirs != ours
    ]


def _null(not_null: bool) -> str:
    return "NOT NULL" if not_null else "nullable"


def _action(written: str | None) -> str:
    return " ".join((written or "NO ACTION").upper().replace("(", " (").split())


def _delete(key: ForeignKey) -> str:
    columns = f" {columns_of(key.set_columns)}" if key.set_columns else ""
    if columns and not columns.startswith(" ("):
        columns = f" ({columns.strip()})"
    return f"{key.on_delete.sql}{columns.upper()}"


def _match(key: ForeignKey) -> str:
    # Of a single column both mean the same, and PostgreSQL keeps what was written.
    return "SIMPLE" if key.match is MatchType.SIMPLE else key.match.name


def _when(deferrable: bool, initially_deferred: bool) -> str:
    if initially_deferred:
        return "INITIALLY DEFERRED"
    return "DEFERRABLE" if deferrable else "NOT DEFERRABLE"


def _when_key(key: ForeignKey) -> str:
    return _when(key.deferrable, key.initially_deferred)


def find_one_sided_keys(schema: Schema) -> Iterator[Evidence]:
    """The keys that only the model has, or only the database."""
    for model in schema.model_keys:
        known = schema.has_table(model.referencing) and schema.has_table(model.referenced)
        if known and not same_keys(schema, model):
            rows = with_rows(schema, model.referencing)
            yield Evidence(
                subject=f"{model.referencing}: {model.arrow}",
                detail=(
                    f"The model says that {model.arrow} is a foreign key of {rows}; the database "
                    "has none."
                    if model.constrained
                    else f"{model.label} references {model.referenced} by {model.arrow} of {rows}; "
                    "the database has no key, and the model wants none."
                ),
                tables=(model.referencing, model.referenced),
                severity=None if model.constrained else Severity.INFO,
            )
    if not schema.modelled:
        return
    declared = {id(key) for model in schema.model_keys for key in same_keys(schema, model)}
    for key in schema.foreign_keys:
        both = key.referencing in schema.modelled and key.referenced in schema.modelled
        if both and id(key) not in declared:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"The database has {key.label} ({key.arrow}); the model of "
                    f"{key.referencing} does not know of it."
                ),
                keys=(key,),
                severity=Severity.INFO,
            )


BLOCKING = (ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT)


def find_quarrelling_mappers(schema: Schema) -> Iterator[Evidence]:
    """The relationships with which the mapper and the key's rule get in each other's way."""
    for relation in schema.model_relations:
        for key in _behind(schema, relation):
            told = _quarrel(schema, relation, key)
            if told:
                detail, severity = told
                yield Evidence(
                    subject=f"{relation.label} ({key.label})",
                    detail=detail,
                    keys=(key,),
                    severity=severity,
                )


def _behind(schema: Schema, relation: ModelRelation) -> list[ForeignKey]:
    if not schema.has_table(relation.referencing):
        return []
    return [
        key
        for key in schema.keys_from(relation.referencing)
        if key.referenced == relation.referenced
        and set(key.referencing_columns) == set(relation.referencing_columns)
        and key.enforced
    ]


def _quarrel(
    schema: Schema, relation: ModelRelation, key: ForeignKey
) -> tuple[str, Severity] | None:
    """What goes wrong when the mapper deletes the one side, and how badly (SQLAlchemy 2.0, 2.1).

    Without passive_deletes the mapper loads the many, and deletes them or sets their columns NULL;
    with it, it does so with those that are loaded already.
    """
    table = schema.table(key.referencing)
    fixed = [name for name in key.referencing_columns if table.column(name).not_null]
    many = with_rows(schema, key.referencing)
    cascades = key.on_delete is ReferentialAction.CASCADE
    if relation.passive == "all":
        return None  # The database alone decides.
    if relation.deletes:
        if relation.passive and key.on_delete in BLOCKING:
            return (
                f"{relation.label} has passive_deletes=True and leaves rows of {many} that are "
                f"not loaded to the database, where ON DELETE {key.on_delete.sql} refuses.",
                Severity.ERROR,
            )
        if not relation.passive and cascades:
            return (
                f"{relation.label} loads the rows of {many} and deletes them one by one, although "
                "ON DELETE CASCADE would: passive_deletes=True leaves it to the database.",
                Severity.INFO,
            )
        return None
    if fixed:
        which = "those that are loaded" if relation.passive else "all that reference it"
        return (
            f"{relation.label} neither deletes the rows of {many} nor leaves them alone: it sets "
            f"{columns_of(tuple(fixed))} of {which} NULL, which is NOT NULL, so deleting fails"
            f"{' although ON DELETE CASCADE would work' if cascades else ''}.",
            Severity.ERROR,
        )
    if cascades:
        which = "those rows that are loaded" if relation.passive else "all rows"
        return (
            f"ON DELETE CASCADE says that rows of {many} go along, but {relation.label} first sets "
            f"{columns_of(key.referencing_columns)} of {which} NULL, and they stay.",
            Severity.WARNING,
        )
    return None


RULES = (
    Rule(
        id="FK054",
        name="differing-model",
        severity=Severity.WARNING,
        condition=(
            "A model (SQLAlchemy, Django) and the database declare the same foreign key, with "
            "another rule, MATCH, deferrability or NOT NULL. What Django does on delete is FK057's."
        ),
        effect=(
            "Databases that are made from the model, as tests do, behave otherwise than the real "
            "one. Who reads the model expects what does not happen."
        ),
        remedy="Change the one that is wrong: the database by op.change_on_delete, or the model.",
        check=find_differing_models,
        reads_models=True,
    ),
    Rule(
        id="FK055",
        name="one-sided-key",
        severity=Severity.WARNING,
        condition=(
            "A model (SQLAlchemy, Django) declares a foreign key that the database does not have. "
            "Info where it is the other way round, or where the model wants none there "
            "(db_constraint=False, managed=False)."
        ),
        effect=(
            "The model promises what nothing keeps; or the database refuses what the model does "
            "not know of."
        ),
        remedy="Let a migration add the missing one, or remove what is too much.",
        check=find_one_sided_keys,
        reads_models=True,
    ),
    Rule(
        id="FK056",
        name="quarrelling-mapper",
        severity=Severity.WARNING,
        condition=(
            "What a SQLAlchemy relationship does with the many rows when the one is deleted "
            "(cascade, passive_deletes) goes against the key's ON DELETE rule or NOT NULL."
        ),
        effect=(
            "Deleting through the session fails, leaves rows that the database would delete, or "
            "loads them all to delete them one by one; a DELETE in SQL does something else."
        ),
        remedy=(
            'Say the same twice: ON DELETE CASCADE with cascade="all, delete" and '
            "passive_deletes=True; SET NULL with passive_deletes=True; RESTRICT with "
            'passive_deletes="all".'
        ),
        check=find_quarrelling_mappers,
        reads_models=True,
    ),
)
