"""Our operations as lines of a revision, for Alembic's autogenerate and for `fkdoctor fix`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import TextClause

from fkdoctor.revise.reversible import Reversible


def render_operation(operation: Reversible, prefix: str = "op.") -> str:
    """The call that makes the operation, as Python on one or more lines."""
    function = prefix + (operation.back if operation.undo else operation.there)
    values = {field.name: getattr(operation, field.name) for field in fields(operation)}
    defaults = {field.name: field.default for field in fields(operation)}
    del values["undo"]
    positional = [field.name for field in fields(operation) if not field.kw_only]
    arguments = [_render_value(values.pop(name)) for name in positional]
    while len(arguments) > 1 and arguments[-1] == "None":
        arguments.pop()
    arguments += [
        f"{name}={_render_value(value)}"
        for name, value in values.items()
        if value != defaults[name]
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


@renderers.dispatch_for(Reversible)
def _render(context: AutogenContext, operation: Reversible) -> str:
    return render_operation(operation, context.opts.get("alembic_module_prefix") or "op.")
