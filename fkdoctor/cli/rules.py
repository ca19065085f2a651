"""`fkdoctor rules` and `fkdoctor explain`: what the audit looks for."""

from __future__ import annotations

import click

from fkdoctor.audit.explanation import explain_rule
from fkdoctor.cli.output import format_option, write
from fkdoctor.render import rules as page

_format = format_option("text", "json", "markdown")


@click.command()
@_format
def rules(output_format: str) -> None:
    """List the rules of the audit."""
    renderers = {
        "text": page.list_rules,
        "json": page.list_rules_as_json,
        "markdown": page.list_rules_as_markdown,
    }
    write(renderers[output_format]())


@click.command()
@click.argument("rule")
@_format
def explain(rule: str, output_format: str) -> None:
    """Tell one rule, by its id or name, with an example of what it finds and of what is right."""
    renderers = {
        "text": page.explain,
        "json": page.explain_as_json,
        "markdown": page.explain_as_markdown,
    }
    write(renderers[output_format](explain_rule(rule)))
