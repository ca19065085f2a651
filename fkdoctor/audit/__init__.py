"""Rules that look at a Schema and say how its foreign keys can hurt. Pure."""

from fkdoctor.audit.finding import Finding, Rule, Severity
from fkdoctor.audit.report import Mark, Report, Scope, audit_schema, make_report, select_scope
from fkdoctor.audit.rules import RULES

__all__ = [
    "RULES",
    "Finding",
    "Mark",
    "Report",
    "Rule",
    "Scope",
    "Severity",
    "audit_schema",
    "make_report",
    "select_scope",
]
