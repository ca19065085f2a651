"""Every rule, by id.

A rule is a record, a function beside it, and bad.sql and good.sql under examples/<id>/. Its page is
written by `python -m fkdoctor.render.rules docs/rules`.
"""

from fkdoctor.audit.finding import Rule
from fkdoctor.audit.rules import (
    actions,
    conflicts,
    cycles,
    duplicates,
    emulation,
    enforcement,
    indexes,
    inheritance,
    interference,
    models,
    nulls,
    reach,
    rights,
    rows,
    shape,
    soft_delete,
    tenants,
    types,
    undeclared,
    upserts,
)

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            *actions.RULES,
            *conflicts.RULES,
            *cycles.RULES,
            *duplicates.RULES,
            *emulation.RULES,
            *enforcement.RULES,
            *indexes.RULES,
            *inheritance.RULES,
            *interference.RULES,
            *models.RULES,
            *nulls.RULES,
            *reach.RULES,
            *rights.RULES,
            *rows.RULES,
            *shape.RULES,
            *soft_delete.RULES,
            *tenants.RULES,
            *types.RULES,
            *undeclared.RULES,
            *upserts.RULES,
        ),
        key=lambda rule: rule.id,
    )
)
