"""Rules about what Django does with rows by itself, and the database by its rule (--django)."""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.rules.models import BLOCKING, same_keys
from fkdoctor.audit.wording import columns_of, with_rows
from fkdoctor.schema import ForeignKey, ModelKey, ReferentialAction, Schema

_COMPUTED = "SET(…)"


def find_emulated_actions(schema: Schema) -> Iterator[Evidence]:
    """The keys for which Django and the database do not do the same with the rows."""
    for model in schema.model_keys:
        if model.carried_out is None:
            continue
        for key in same_keys(schema, model):
            told = _judge(schema, model, key) if key.enforced else None
            if told:
                detail, severity = told
                yield Evidence(
                    subject=f"{model.label} ({key.label})",
                    detail=detail,
                    keys=(key,),
                    severity=severity,
                )


def _judge(schema: Schema, model: ModelKey, key: ForeignKey) -> tuple[str, Severity] | None:
    """What comes of deleting a referenced row through Django and in SQL (Django 4.2 to 6.1)."""
    if not model.carried_out:
        return _judge_left(schema, model, key)
    refuses = model.carried_out in ("PROTECT", "RESTRICT")
    many = with_rows(schema, key.referencing)
    column = schema.table(key.referencing).column(key.referencing_columns[0])
    ends_as = _ends_as(schema, key)
    blocked = key.on_delete in BLOCKING or (ends_as == "SET NULL" and column.not_null)
    if model.carried_out == "SET NULL" and column.not_null:
        return (
            f"{model.label} has on_delete=SET_NULL, but {columns_of(key.referencing_columns)} of "
            f"{many} is NOT NULL in the database: a row that is referenced can't be deleted "
            "through Django.",
            Severity.ERROR,
        )
    if refuses and blocked:
        return None
    if refuses:
        return (
            f"{model.label} refuses to delete what is referenced (on_delete={_word(model)}), but "
            f"only in Django: a DELETE in SQL does {key.on_delete.sql} with the rows of {many}.",
            Severity.WARNING,
        )
    if blocked:
        return (
            f"{model.label} does on_delete={_word(model)}, but only in Django: a DELETE in SQL is "
            f"refused where rows of {many} reference the row (ON DELETE {key.on_delete.sql}).",
            Severity.INFO,
        )
    if model.carried_out == ends_as:
        return None
    if model.carried_out == _COMPUTED and ends_as == "SET DEFAULT":
        return None  # mostly the same value, and nothing here can know it
    empty = ", which is NULL," if ends_as != key.on_delete.sql else ""
    return (
        f"{model.label} does on_delete={_word(model)} in Django, while a DELETE in SQL does "
        f"{key.on_delete.sql}{empty} with the rows of {many}.",
        Severity.WARNING,
    )


def _ends_as(schema: Schema, key: ForeignKey) -> str:
    """What the key's rule comes to: a default that is missing is NULL."""
    column = schema.table(key.referencing).column(key.referencing_columns[0])
    if key.on_delete is ReferentialAction.SET_DEFAULT and column.default is None:
        return "SET NULL"
    return key.on_delete.sql


def _judge_left(schema: Schema, model: ModelKey, key: ForeignKey) -> tuple[str, Severity] | None:
    """Where Django leaves the rows to the database: DB_CASCADE and its like, DO_NOTHING."""
    if model.on_delete in (None, _ends_as(schema, key)):
        return None
    does = (
        f"refuses (ON DELETE {key.on_delete.sql})"
        if key.on_delete in BLOCKING
        else f"does {key.on_delete.sql}"
    )
    return (
        f"{model.label} leaves ON DELETE {model.on_delete} to the database, which {does} where "
        f"rows of {with_rows(schema, key.referencing)} reference the row.",
        Severity.ERROR,
    )


def _word(model: ModelKey) -> str:
    return (model.carried_out or "").replace(" ", "_")


RULES = (
    Rule(
        id="FK057",
        name="emulated-action",
        severity=Severity.WARNING,
        condition=(
            "What Django does on delete and the key's ON DELETE rule end differently. Info where "
            "the database only refuses, as Django makes it; an error where Django leaves it to the "
            "database (DB_CASCADE and its like), which does something else."
        ),
        effect=(
            "Django carries out on_delete row by row in Python. A DELETE in SQL, by another "
            "program, or by CASCADE from a table that Django does not know, ends otherwise: rows "
            "go that Django would keep, or nothing can be deleted."
        ),
        remedy=(
            "Say the same twice: op.change_on_delete changes the rule beside the writers, and "
            "Django 6.1 leaves it to the database with DB_CASCADE, DB_SET_NULL and DB_SET_DEFAULT."
        ),
        check=find_emulated_actions,
        reads_models=True,
    ),
)
