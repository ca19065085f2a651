"""A rule with its two examples: SQL that it finds fault with, and the same done well.

They lie in examples/<id>/ and are run by the tests. Their first lines name what is found: of the
rule itself only in bad.sql, of others where that can't be helped.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fkdoctor.audit.finding import Rule
from fkdoctor.audit.rules import RULES
from fkdoctor.errors import UnknownName

_EXAMPLES = Path(__file__).parent / "examples"
_FINDS = "-- Finds "
_ALSO_FINDS = "-- Also finds "


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A rule, SQL in which it finds something, and SQL in which it does not.

    `model` is Python: the application's model, beside which both are laid, where the rule asks it.
    """

    rule: Rule
    bad: str
    good: str
    model: str | None

    @property
    def found_in_bad(self) -> frozenset[str]:
        """The keys of the findings in `bad`, as its first lines name them."""
        return self._found_in(self.bad)

    @property
    def found_in_good(self) -> frozenset[str]:
        """The keys of the findings in `good`: other rules', if any."""
        return self._found_in(self.good)

    def _found_in(self, example: str) -> frozenset[str]:
        own = [
            f"{self.rule.id}:{line.removeprefix(_FINDS)}"
            for line in example.splitlines()
            if line.startswith(_FINDS)
        ]
        others = [
            line.removeprefix(_ALSO_FINDS)
            for line in example.splitlines()
            if line.startswith(_ALSO_FINDS)
        ]
        return frozenset((*own, *others))


def explain_rule(rule_id: str, rules: Iterable[Rule] = RULES) -> Explanation:
    """The rule of that id or name with its examples. Raises UnknownName, with the nearest."""
    known = {rule.id.lower(): rule for rule in rules} | {rule.name: rule for rule in rules}
    rule = known.get(rule_id.lower())
    if rule is None:
        near = difflib.get_close_matches(rule_id.lower(), known, n=3)
        raise UnknownName(
            f"There is no rule {rule_id}.",
            why=f"Nearest: {', '.join(known[name].id for name in near)}." if near else "",
            next="List them with: fkdoctor rules",
        )
    return Explanation(
        rule=rule,
        bad=_load(rule, "bad.sql"),
        good=_load(rule, "good.sql"),
        model=_load(rule, "model.py") if rule.reads_models else None,
    )


def _load(rule: Rule, name: str) -> str:
    return (_EXAMPLES / rule.id / name).read_text(encoding="utf-8")
