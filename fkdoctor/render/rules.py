"""The rules themselves: their list, and one with its examples, as text, JSON and Markdown.

`python -m fkdoctor.render.rules docs/rules` writes the pages of the documentation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from fkdoctor.audit import RULES, Rule
from fkdoctor.audit.explanation import Explanation, explain_rule
from fkdoctor.render.document import describe_rule, to_json
from fkdoctor.render.markdown import cell

_WRITTEN = "<!-- Written by `python -m fkdoctor.render.rules docs/rules` from the rule itself. -->"


def versions_of(rule: Rule) -> str:
    """Where the rule can speak: `PostgreSQL 18 and newer`; '' where on every version."""
    if rule.reads_rows:
        return "with --data"
    if rule.reads_models:
        return "with --models or --django"
    if rule.since:
        return f"PostgreSQL {rule.since} and newer"
    return f"PostgreSQL {rule.until} and older" if rule.until else ""


def list_rules(rules: Iterable[Rule] = RULES) -> str:
    """The rules as text, one a line."""
    return "".join(
        f"{rule.id}  {rule.severity.label:<7}  {rule.name:<29}{versions_of(rule)}".rstrip() + "\n"
        for rule in rules
    )


def list_rules_as_json(rules: Iterable[Rule] = RULES) -> str:
    """The rules as a JSON list."""
    return to_json([describe_rule(rule) for rule in rules])


def list_rules_as_markdown(rules: Iterable[Rule] = RULES) -> str:
    """The rules as a Markdown page that links to theirs."""
    rows = [
        f"| [{rule.id}]({rule.id}.md) | {rule.name} | {rule.severity.label} "
        f"| {cell(rule.condition)} |"
        for rule in rules
    ]
    return "\n".join(
        (
            _WRITTEN,
            "",
            "# Rules",
            "",
            "What `fkdoctor audit` looks for. An id never changes its meaning.",
            "",
            "An **error** already fails, or is not checked although it seems to be. A **warning** "
            "works, and hurts when the tables grow, a value comes or the server is upgraded. "
            "**Info** is worth knowing.",
            "",
            "| Rule | Name | Severity | When it speaks |",
            "|---|---|---|---|",
            *rows,
            "",
        )
    )


def explain(explanation: Explanation) -> str:
    """The rule and its examples as text."""
    rule = explanation.rule
    versions = versions_of(rule)
    return "\n".join(
        (
            f"{rule.id} {rule.name} ({rule.severity.label}{', ' if versions else ''}{versions})",
            "",
            f"When: {rule.condition}",
            "",
            f"Why it hurts: {rule.effect}",
            "",
            f"What to do: {rule.remedy}",
            "",
            *(("Model:", "", _indented(explanation.model)) if explanation.model else ()),
            "Bad:",
            "",
            _indented(explanation.bad),
            "Good:",
            "",
            _indented(explanation.good),
        )
    )


def explain_as_json(explanation: Explanation) -> str:
    """The rule and its examples as JSON."""
    document = describe_rule(explanation.rule)
    model = {"model": explanation.model} if explanation.model else {}
    return to_json({**document, **model, "bad": explanation.bad, "good": explanation.good})


def explain_as_markdown(explanation: Explanation) -> str:
    """The rule's page."""
    rule = explanation.rule
    versions = versions_of(rule)
    model = ("## Model", "", f"```python\n{explanation.model}```", "")
    return "\n".join(
        (
            _WRITTEN,
            "",
            f"# {rule.id}: {rule.name}",
            "",
            f"Severity: **{rule.severity.label}**."
            + (f" {versions[0].upper()}{versions[1:]}." if versions else ""),
            "",
            f"**When it speaks.** {rule.condition}",
            "",
            f"**Why it hurts.** {rule.effect}",
            "",
            f"**What to do.** {rule.remedy}",
            "",
            *(model if explanation.model else ()),
            "## Bad",
            "",
            f"```sql\n{explanation.bad}```",
            "",
            "## Good",
            "",
            f"```sql\n{explanation.good}```",
            "",
            f'To leave it out, for one key or everywhere: `ignore = ["{rule.id}:schema.table.*"]` '
            f'or `ignore = ["{rule.id}"]` under `[audit]` in `fkdoctor.toml`.',
            "",
        )
    )


def rule_pages() -> dict[str, str]:
    """The content of docs/rules, by file name."""
    pages = {f"{rule.id}.md": explain_as_markdown(explain_rule(rule.id)) for rule in RULES}
    return {"README.md": list_rules_as_markdown(), **pages}


def _indented(sql: str) -> str:
    return "".join(f"    {line}\n" if line else "\n" for line in sql.splitlines())


def _write_pages(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("FK*.md"):
        old.unlink()
    for name, content in rule_pages().items():
        (directory / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    _write_pages(Path(sys.argv[1]))
