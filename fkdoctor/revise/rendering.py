"""Our operations as lines of a revision, for Alembic's autogenerate and for `fkdoctor fix`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrateOperation
from sqlalchemy import TextClause

from fkdoctor.revise.index_operations import BuildIndex
from fkdoctor.revise.key_operations import ChangeOnDelete, ValidateForeignKey
from fkdoctor.revise.operations import AddReferenceIndex, AddSoftDelete
from fkdoctor.revise.reference_operations import AdoptReference, DropDuplicateKey

# The operation's name there and back, and the fields that are given without their names.
_FORMS: dict[type[MigrateOperation], tuple[str, str, tuple[str, ...]]] = {
    ChangeOnDelete: ("change_on_delete", "restore_on_delete", ("table", "constraint", "on_delete")),
    ValidateForeignKey: (
        "validate_foreign_key",
        "unvalidate_foreign_key",
        ("table", "constraint"),
    ),
    DropDuplicateKey: ("drop_duplicate_key", "restore_duplicate_key", ("table", "constraint")),
    AdoptReference: (
        "adopt_reference",
        "release_reference",
        ("table", "columns", "referenced_table", "referenced_columns"),
    ),
    AddReferenceIndex: ("add_reference_index", "drop_reference_index", ("table", "columns")),
    AddSoftDelete: ("add_soft_delete", "drop_soft_delete", ("table",)),
    BuildIndex: ("build_index", "remove_index", ("name", "table", "columns")),
}


def render_operation(operation: MigrateOperation, prefix: str = "op.") -> str:
    """The call that makes the operation, as Python on one or more lines."""
    there, back, positional = _FORMS[type(operation)]
    values = {field.name: getattr(operation, field.name) for field in fields(operation)}  # type: ignore[arg-type]
    defaults = {field.name: field.default for field in fields(operation)}  # type: ignore[arg-type]
    function = prefix + (back if values.pop("undo") else there)
    arguments = [_render_value(values.pop(name)) for name in positional]
    while len(arguments) > 1 and arguments[-1] == "None":
        arguments.pop()
    arguments += [
        f"{name}={_render_value(value)}"
        for name, value in values.items()
        if value not in (defaults[name], {})
    ]
    line = f"{function}({', '.join(arguments)})"
    if len(line) <= 88:
        return line
    return f"{function}(\n" + "".join(f"    {argument},\n" for argument in arguments) + ")"


def _render_value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_render_value(item) for item in value)}]"
    if isinstance(value, TextClause):
        return f"sa.text({_render_value(value.text)})"
    if isinstance(value, str):
        text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{text}"'
    return repr(value)


def _render(context: AutogenContext, operation: Any) -> str:
    return render_operation(operation, context.opts.get("alembic_module_prefix") or "op.")


for _kind in _FORMS:
    renderers.dispatch_for(_kind)(_render)
