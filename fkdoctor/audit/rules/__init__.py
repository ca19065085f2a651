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
    enforcement,
    indexes,
    interference,
    reach,
    types,
)

RULES: tuple[Rule, ...] = tuple(
    sorted(
        (
            *actions.RULES,
            *conflicts.RULES,
            *cycles.RULES,
            *duplicates.RULES,
            *enforcement.RULES,
            *indexes.RULES,
            *interference.RULES,
            *reach.RULES,
            *types.RULES,
        ),
        key=lambda rule: rule.id,
    )
)
