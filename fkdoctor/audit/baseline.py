"""The baseline: a file with the findings that are accepted for now.

JSON, a finding's key a line, sorted, so that a diff of two baselines shows what changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from fkdoctor.audit.finding import Finding
from fkdoctor.errors import ConfigError

VERSION = 1


def load_baseline(path: Path) -> frozenset[str]:
    """The keys in the file. Raises ConfigError for a file that is missing or no baseline."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read.",
            why=f"{error.strerror}.",
            next=f"Make it with: fkdoctor audit --write-baseline {path}",
        ) from None
    except ValueError as error:
        raise _no_baseline(path, f"It is not JSON: {error}.") from None
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise _no_baseline(path, f'It has no "version": {VERSION}.')
    findings = document.get("findings")
    if not isinstance(findings, list) or not all(isinstance(key, str) for key in findings):
        raise _no_baseline(path, 'Its "findings" is not a list of texts.')
    return frozenset(findings)


def format_baseline(findings: Iterable[Finding]) -> str:
    """The findings as the content of a baseline file."""
    keys = sorted({finding.key for finding in findings})
    return json.dumps({"version": VERSION, "findings": keys}, indent=2, ensure_ascii=False) + "\n"


def _no_baseline(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path} is not a baseline of fkdoctor.",
        why=why,
        next=f"Make it anew with: fkdoctor audit --write-baseline {path}",
    )
