"""A foreign key's definition as pg_get_constraintdef prints it, taken apart and put together.

The text carries everything that a rule change must not lose: MATCH, ON UPDATE, the columns of SET
NULL, deferrability, NOT VALID. Only the part that changes is touched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fkdoctor.errors import Refused
from fkdoctor.schema import ReferentialAction

_NAMES = r'(?:"(?:[^"]|"")*+"|[^"()])*+'
_ACTION = r"(?:NO ACTION|RESTRICT|CASCADE|SET NULL|SET DEFAULT)"
# The order of the clauses is that of pg_get_constraintdef_worker (ruleutils.c, 12 to 18).
_DEFINITION = re.compile(
    rf"(?P<reference>FOREIGN KEY \({_NAMES}\) REFERENCES (?P<referenced>{_NAMES})\({_NAMES}\)"
    rf"(?: MATCH (?:FULL|PARTIAL))?(?: ON UPDATE {_ACTION})?)"
    rf"(?: ON DELETE (?P<on_delete>{_ACTION}(?: \({_NAMES}\))?))?"
    r"(?P<timing>(?: DEFERRABLE)?(?: INITIALLY DEFERRED)?)"
    r"(?P<unenforced> NOT ENFORCED)?(?P<unvalidated> NOT VALID)?"
)


@dataclass(frozen=True, kw_only=True)
class KeyDefinition:
    """The definition in pieces; `str()` gives PostgreSQL's text back.

    `reference` reaches from FOREIGN KEY to ON UPDATE; `referenced` is the table named in it, as SQL
    text. `on_delete` is empty for NO ACTION, which PostgreSQL does not print.
    """

    reference: str
    referenced: str
    on_delete: str
    timing: str
    enforced: bool
    validated: bool

    def __str__(self) -> str:
        rule = f" ON DELETE {self.on_delete}" if self.on_delete else ""
        ending = "" if self.enforced else " NOT ENFORCED"
        ending += "" if self.validated or not self.enforced else " NOT VALID"
        return f"{self.reference}{rule}{self.timing}{ending}"

    def with_rule(self, action: ReferentialAction) -> KeyDefinition:
        """The same key with another ON DELETE."""
        rule = "" if action is ReferentialAction.NO_ACTION else action.sql
        return replace(self, on_delete=rule)

    def unvalidated(self) -> KeyDefinition:
        """The same key as it can be added without reading a row: NOT VALID, or NOT ENFORCED."""
        return replace(self, validated=False)


def parse_definition(text: str) -> KeyDefinition:
    """The definition in pieces.

    Raises Refused for a text that pg_get_constraintdef would not print: better no change than one
    that loses something.
    """
    found = _DEFINITION.fullmatch(text)
    if found is None:
        raise Refused(
            "A foreign key's definition cannot be read.",
            why=f"It is: {text}",
            next="Write it as pg_get_constraintdef(oid) prints it with an empty search_path.",
        )
    enforced = found["unenforced"] is None
    return KeyDefinition(
        reference=found["reference"],
        referenced=found["referenced"],
        on_delete=found["on_delete"] or "",
        timing=found["timing"],
        enforced=enforced,
        validated=enforced and found["unvalidated"] is None,
    )
