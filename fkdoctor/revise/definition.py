"""A foreign key's definition as pg_get_constraintdef prints it, taken apart and put together.

The text carries everything that a rule change must not lose: MATCH, ON UPDATE, the columns of SET
NULL, deferrability, NOT VALID. Only the parts that change are touched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fkdoctor.errors import Refused

_NAMES = r'(?:"(?:[^"]|"")*+"|[^"()])*+'
_ACTION = r"(?:NO ACTION|RESTRICT|CASCADE|SET NULL|SET DEFAULT)"
# The order of the clauses is that of pg_get_constraintdef_worker (ruleutils.c, 12 to 18).
_DEFINITION = re.compile(
    rf"(?P<reference>FOREIGN KEY \((?P<columns>{_NAMES})\)"
    rf" REFERENCES (?P<referenced>{_NAMES})\({_NAMES}\))"
    rf"(?: MATCH (?P<match>FULL|PARTIAL))?"
    rf"(?: ON UPDATE (?P<on_update>{_ACTION}))?"
    rf"(?: ON DELETE (?P<on_delete>{_ACTION}(?: \({_NAMES}\))?))?"
    r"(?P<deferrable> DEFERRABLE)?(?P<deferred> INITIALLY DEFERRED)?"
    r"(?P<unenforced> NOT ENFORCED)?(?P<unvalidated> NOT VALID)?"
)


@dataclass(frozen=True, kw_only=True)
class KeyDefinition:
    """The definition in pieces; `str()` gives PostgreSQL's text back.

    `reference` is all up to the referenced columns; `columns` and `referenced` are the referencing
    columns and the referenced table in it, as SQL text. `match` is empty for SIMPLE, an action for
    NO ACTION: PostgreSQL does not print those.
    """

    reference: str
    columns: str
    referenced: str
    match: str
    on_update: str
    on_delete: str
    deferrable: bool
    deferred: bool
    enforced: bool
    validated: bool

    def __str__(self) -> str:
        pieces = (
            self.reference,
            self.match and f"MATCH {self.match}",
            self.on_update and f"ON UPDATE {self.on_update}",
            self.on_delete and f"ON DELETE {self.on_delete}",
            "DEFERRABLE" if self.deferrable else "",
            "INITIALLY DEFERRED" if self.deferred else "",
            "" if self.enforced else "NOT ENFORCED",
            "" if self.validated or not self.enforced else "NOT VALID",
        )
        return " ".join(piece for piece in pieces if piece)

    def unvalidated(self) -> KeyDefinition:
        """The same key as it can be added without reading a row: NOT VALID, or NOT ENFORCED."""
        return replace(self, validated=False)

    def checked(self) -> KeyDefinition:
        """The same key with all rows checked; unchanged where it is not enforced."""
        return replace(self, validated=self.enforced)


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
        columns=found["columns"],
        referenced=found["referenced"],
        match=found["match"] or "",
        on_update=found["on_update"] or "",
        on_delete=found["on_delete"] or "",
        deferrable=found["deferrable"] is not None,
        deferred=found["deferred"] is not None,
        enforced=enforced,
        validated=enforced and found["unvalidated"] is None,
    )
