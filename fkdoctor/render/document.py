"""An audit as a document of plain values, for JSON; docs/reference/audit.schema.json describes it.

Fields are added, never renamed or removed, while `version` is the same.
"""

from __future__ import annotations

import json
from typing import Any

from fkdoctor.audit import Finding, Report, Rule, Severity
from fkdoctor.schema import ForeignKey
from fkdoctor.version import __version__

VERSION = 1


def report_as_json(report: Report) -> str:
    """The report as indented JSON, with a line feed at the end."""
    return to_json(_report(report))


def to_json(document: Any) -> str:
    """Plain values as indented JSON with a line feed at the end; times and the like as text."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def describe_rule(rule: Rule) -> dict[str, Any]:
    """A rule as plain values."""
    return {
        "id": rule.id,
        "name": rule.name,
        "severity": rule.severity.label,
        "condition": rule.condition,
        "effect": rule.effect,
        "remedy": rule.remedy,
        "since": rule.since,
        "until": rule.until,
        "reads_rows": rule.reads_rows,
        "reads_models": rule.reads_models,
    }


def _report(report: Report) -> dict[str, Any]:
    schema, scope = report.schema, report.scope
    major, minor = divmod(schema.server_version, 10_000)
    spoke = {finding.rule.id for finding in report.findings}
    return {
        "version": VERSION,
        "fkdoctor": __version__,
        "database": {"name": schema.database, "server": f"{major}.{minor}"},
        "scope": {
            "schemas": list(scope.schemas),
            "tables": [str(table) for table in scope.tables],
            "table_count": sum(scope.covers(table.name) for table in schema.tables),
            "foreign_key_count": len(report.foreign_keys),
            "rule_count": len(report.rules),
        },
        "summary": {
            **{severity.label: report.count(severity) for severity in reversed(Severity)},
            "known": len(report.known),
            "ignored": report.ignored,
        },
        "findings": [_finding(report, finding) for finding in report.findings],
        "gone": list(report.gone),
        "rules": [describe_rule(rule) for rule in report.rules if rule.id in spoke],
        "foreign_keys": [_foreign_key(report, key) for key in report.foreign_keys],
        "unread": [
            {"subject": unread.subject, "reason": unread.reason} for unread in schema.unread
        ],
    }


def _finding(report: Report, finding: Finding) -> dict[str, Any]:
    return {
        "key": finding.key,
        "rule": finding.rule.id,
        "name": finding.rule.name,
        "severity": finding.severity.label,
        "subject": finding.subject,
        "detail": finding.detail,
        "sql": finding.sql,
        "toml": finding.toml,
        "tables": [str(table) for table in finding.tables],
        "foreign_keys": [key.label for key in finding.keys],
        "known": finding.key in report.known,
    }


def _foreign_key(report: Report, key: ForeignKey) -> dict[str, Any]:
    return {
        "label": key.label,
        "mark": report.mark_of(key).value,
        "name": key.name,
        "referencing": {
            "schema": key.referencing.schema,
            "table": key.referencing.name,
            "columns": list(key.referencing_columns),
            "row_estimate": report.schema.row_estimate(key.referencing),
        },
        "referenced": {
            "schema": key.referenced.schema,
            "table": key.referenced.name,
            "columns": list(key.referenced_columns),
            "row_estimate": report.schema.row_estimate(key.referenced),
        },
        "on_delete": key.on_delete.sql,
        "on_update": key.on_update.sql,
        "set_columns": list(key.set_columns),
        "match": key.match.name,
        "deferrable": key.deferrable,
        "initially_deferred": key.initially_deferred,
        "validated": key.validated,
        "enforced": key.enforced,
    }
