"""An audit as SARIF 2.1.0, the format in which code hosts take findings.

SARIF places a result in a file; a finding is in a database. It is placed at fkdoctor.toml, where
findings are left out, and carries the database object as its logical location.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from fkdoctor import __version__
from fkdoctor.audit import Finding, Report, Rule, Severity
from fkdoctor.config import FILE_NAME
from fkdoctor.render.document import to_json

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {Severity.INFO: "note", Severity.WARNING: "warning", Severity.ERROR: "error"}


def report_as_sarif(report: Report, *, file: str = FILE_NAME) -> str:
    """The report as SARIF with a line feed at the end; `file` is where the results are placed.

    All rules that were asked are listed. What the baseline has is `unchanged`, where there is one.
    """
    places = {rule.id: number for number, rule in enumerate(report.rules)}
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "fkdoctor",
                "version": __version__,
                "rules": [_rule(rule) for rule in report.rules],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [
            _result(report, finding, places[finding.rule.id], file) for finding in report.findings
        ],
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [
                    {
                        "level": "warning",
                        "message": {"text": f"Not read: {unread.subject} ({unread.reason})."},
                    }
                    for unread in report.schema.unread
                ],
            }
        ],
    }
    return to_json({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.condition},
        "fullDescription": {"text": rule.effect},
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _result(report: Report, finding: Finding, place: int, file: str) -> dict[str, Any]:
    pasted = [text for text in (finding.sql, finding.toml) if text]
    result: dict[str, Any] = {
        "ruleId": finding.rule.id,
        "ruleIndex": place,
        "level": _LEVELS[finding.severity],
        "message": {"text": "\n".join((f"{finding.subject}: {finding.detail}", *pasted))},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(file)},
                    "region": {"startLine": 1},
                },
                "logicalLocations": [
                    {"fullyQualifiedName": name, "kind": "resource"}
                    for name in dict.fromkeys(
                        (
                            finding.subject,
                            *(key.label for key in finding.keys),
                            *(str(table) for table in finding.tables),
                        )
                    )
                ],
            }
        ],
        "partialFingerprints": {"finding/v1": finding.key},
    }
    if report.compared:
        result["baselineState"] = "unchanged" if finding.key in report.known else "new"
    return result
