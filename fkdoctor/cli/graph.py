"""`fkdoctor graph`: the foreign keys as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from fkdoctor.audit import make_report
from fkdoctor.cli.output import format_option, write
from fkdoctor.cli.session import choose_scope, database_options, open_session, scope_options
from fkdoctor.render.diagram import make_diagram
from fkdoctor.render.dot import render_dot, render_mermaid
from fkdoctor.render.svg import render_svg

_RENDERERS = {"svg": render_svg, "dot": render_dot, "mermaid": render_mermaid}


@click.command()
@scope_options
@format_option(*_RENDERERS)
@database_options
def graph(
    url: str | None,
    config_path: Path | None,
    schemas: tuple[str, ...],
    tables: tuple[str, ...],
    output_format: str,
) -> None:
    """Draw the foreign keys: an arrow from referencing to referenced, coloured by its rule.

    Thick arrows are part of a circle, dashed ones are not kept by PostgreSQL, or not for all rows.
    The picture goes to stdout: fkdoctor graph > keys.svg
    """
    with open_session(url, config_path) as session:
        config = session.config
        schema = session.read_schema()
    report = make_report(
        schema,
        scope=choose_scope(schema, config, schemas, tables),
        ignore=config.audit.ignore,
    )
    write(_RENDERERS[output_format](make_diagram(report)))
