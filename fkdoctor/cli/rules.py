"""`fkdoctor rules` and `fkdoctor explain`: what the audit looks for."""

from __future__ import annotations

import click

from fkdoctor.audit.explanation import explain_rule
from fkdoctor.cli.output import write
from fkdoctor.render import rules as page

_format = click.option(
    "--format", "format_", type=click.Choice(("text", "json", "markdown")), default="text"
)


@click.command()
@_format
def rules(format_: str) -> None:
    """List the rules of the audit."""
    renderers = {
        "text": page.list_rules,
        "json": page.list_rules_as_json,
        "markdown": page.list_rules_as_markdown,
    }
    write(renderers[format_]())


@click.command()
@click.argument("rule")
@_format
def explain(rule: str, format_: str) -> None:
    """Tell one rule, by its id or name, with an example of what it finds and of what is right."""
    renderers = {
        "text": page.explain,
        "json": page.explain_as_json,
        "markdown": page.explain_as_markdown,
    }
    write(renderers[format_](explain_rule(rule)))
