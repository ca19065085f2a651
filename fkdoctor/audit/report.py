"""The audit of a Schema: which rules spoke, what of it is in scope, ignored, or known already."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from functools import cached_property

from fkdoctor.audit.finding import Finding, Rule, Severity
from fkdoctor.audit.rules import RULES
from fkdoctor.errors import ConfigError, UnknownName
from fkdoctor.garbage import garbage_uncollected
from fkdoctor.inspect.graph import partition_family
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName


def audit_schema(schema: Schema, rules: Iterable[Rule] = RULES) -> tuple[Finding, ...]:
    """Everything the rules find, gravest first, then by rule and subject."""
    with garbage_uncollected():
        findings = _find(schema, rules)
    findings.sort(key=lambda finding: (-finding.severity, finding.rule.id, finding.subject))
    return tuple(findings)


def _find(schema: Schema, rules: Iterable[Rule]) -> list[Finding]:
    return [
        Finding(
            rule=rule,
            severity=rule.severity if evidence.severity is None else evidence.severity,
            subject=evidence.subject,
            detail=evidence.detail,
            keys=evidence.keys,
            tables=evidence.tables,
            sql=evidence.sql,
            toml=evidence.toml,
        )
        for rule in rules
        for evidence in rule.check(schema)
    ]


LEDGER_SCHEMA = "fkdoctor"
"""Where fkdoctor keeps its own tables."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is asked about: whole schemas, and tables with their partitions.

    If both are empty, everything but the tables of fkdoctor itself.
    """

    schemas: tuple[str, ...] = ()
    tables: tuple[TableName, ...] = ()

    def covers(self, table: TableName) -> bool:
        """Whether the table is asked about."""
        if not self.schemas and not self.tables:
            return table.schema != LEDGER_SCHEMA
        return table.schema in self.schemas or table in self.tables


def select_scope(
    schema: Schema,
    schemas: Iterable[str] = (),
    tables: Iterable[str] = (),
    search: tuple[str, ...] = (),
) -> Scope:
    """The scope that typed names mean; bare table names are looked up in the schemas of `search`.

    Raises UnknownName or AmbiguousName, with the candidates.
    """
    known = sorted({table.name.schema for table in schema.tables})
    asked = tuple(schemas)
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            raise UnknownName(
                f"There is no schema {name} with tables in database {schema.database}.",
                why=f"There are: {', '.join(near or known)}." if known else "It has no table.",
                next=f"Did you mean {near[0]}?" if near else "Correct --schema or fkdoctor.toml.",
            )
    found = [schema.resolve_table(name, search) for name in tables]
    return Scope(
        schemas=asked,
        tables=tuple(member for table in found for member in partition_family(schema, table)),
    )


class Mark(Enum):
    """How a foreign key looks at a glance."""

    GOOD = "good"
    CAUTION = "caution"
    BAD = "bad"


_BLOCKING = (ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT)


@dataclass(frozen=True, kw_only=True)
class Report:
    """An audit's outcome.

    `findings` are in scope and not ignored. `compared` says whether there is a baseline, `known`
    are the keys of the findings that it has already, `gone` its keys that nothing finds any more;
    `idle_ignores` are patterns of the ignore list to which nothing corresponds.
    """

    schema: Schema
    scope: Scope
    findings: tuple[Finding, ...]
    ignored: int
    compared: bool
    known: frozenset[str]
    gone: tuple[str, ...]
    idle_ignores: tuple[str, ...]
    rules: tuple[Rule, ...]

    @property
    def new(self) -> tuple[Finding, ...]:
        """The findings that the baseline does not have; all where there is no baseline."""
        return tuple(finding for finding in self.findings if finding.key not in self.known)

    @cached_property
    def foreign_keys(self) -> tuple[ForeignKey, ...]:
        """The keys in scope: those from or to a table that is asked about."""
        return tuple(key for key in self.schema.foreign_keys if _in_scope(self.scope, key))

    @cached_property
    def _worst(self) -> dict[int, Severity]:
        worst: dict[int, Severity] = {}
        for finding in self.findings:
            for key in finding.keys:
                worst[key.oid] = max(finding.severity, worst.get(key.oid, Severity.INFO))
        return worst

    def mark_of(self, key: ForeignKey) -> Mark:
        """BAD with an error; CAUTION with a warning or a rule that blocks the DELETE; else GOOD."""
        worst = self._worst.get(key.oid, Severity.INFO)
        if worst is Severity.ERROR:
            return Mark.BAD
        if worst is Severity.WARNING or key.on_delete in _BLOCKING:
            return Mark.CAUTION
        return Mark.GOOD

    def count(self, severity: Severity) -> int:
        """How many findings there are of that severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def fails(self, fail_on: Severity | None) -> bool:
        """Whether a finding that the baseline does not have is as grave as `fail_on`, or graver."""
        if fail_on is None:
            return False
        return any(finding.severity >= fail_on for finding in self.new)


def make_report(
    schema: Schema,
    *,
    scope: Scope = Scope(),
    ignore: tuple[str, ...] = (),
    baseline: frozenset[str] | None = None,
    rules: tuple[Rule, ...] = RULES,
) -> Report:
    """The outcome of the rules on the schema.

    The rules see the whole schema, so that a cycle or a twin outside the scope is seen too.
    `ignore` holds rules (`FK004`) or findings (`FK004:schema.table.*`). Raises ConfigError for an
    unknown rule.
    """
    for pattern in ignore:
        _check_pattern(pattern, rules)
    found = audit_schema(schema, rules)
    in_scope = [finding for finding in found if _concerns(scope, finding)]
    kept = tuple(
        finding for finding in in_scope if not any(_matches(pattern, finding) for pattern in ignore)
    )
    keys = {finding.key for finding in found}
    known = baseline or frozenset()
    return Report(
        schema=schema,
        scope=scope,
        findings=kept,
        ignored=len(in_scope) - len(kept),
        compared=baseline is not None,
        known=known & {finding.key for finding in kept},
        gone=tuple(sorted(known - keys)),
        idle_ignores=tuple(
            pattern
            for pattern in ignore
            if not any(_matches(pattern, finding) for finding in found)
        ),
        rules=rules,
    )


def _in_scope(scope: Scope, key: ForeignKey) -> bool:
    return scope.covers(key.referencing) or scope.covers(key.referenced)


def _concerns(scope: Scope, finding: Finding) -> bool:
    """Whether the finding is about something in scope, or about the whole database."""
    if not finding.keys and not finding.tables:
        return True
    return any(_in_scope(scope, key) for key in finding.keys) or any(
        scope.covers(table) for table in finding.tables
    )


def _matches(pattern: str, finding: Finding) -> bool:
    return fnmatchcase(finding.key, pattern if ":" in pattern else f"{pattern}:*")


def _check_pattern(pattern: str, rules: tuple[Rule, ...]) -> None:
    asked = pattern.partition(":")[0]
    if not any(fnmatchcase(rule.id, asked) for rule in rules):
        known = [rule.id for rule in rules]
        raise ConfigError(
            f"ignore names {asked}, which is no rule.",
            why=f"The rules are {known[0]} to {known[-1]}.",
            next="List them with: fkdoctor rules",
        )
