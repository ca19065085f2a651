"""Signs for marks and severities."""

from __future__ import annotations

from fkdoctor.audit import Mark, Severity

MARKS = {Mark.GOOD: "✔", Mark.CAUTION: "⚠", Mark.BAD: "✖"}
SEVERITY_MARKS = {Severity.INFO: "·", Severity.WARNING: "⚠", Severity.ERROR: "✖"}
