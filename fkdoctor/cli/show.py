"""`fkdoctor show`: one run of the history."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fkdoctor.cli.output import write
from fkdoctor.cli.session import database_options, open_session
from fkdoctor.ledger.history import read_run, read_steps
from fkdoctor.ledger.install import require_ledger
from fkdoctor.render.dedupe import run_text


@click.command()
@click.argument("run", type=click.IntRange(min=1))
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
)
@database_options
def show(run: int, output_format: str, url: str | None, config_path: Path | None) -> None:
    """Tell what RUN did to which table."""
    with open_session(url, config_path) as session:
        require_ledger(session.connection)
        found = read_run(session.connection, run)
        steps = read_steps(session.connection, run)
    if output_format == "json":
        write(json.dumps(found | {"steps": steps}, indent=2, default=str) + "\n")
    else:
        write(run_text(found, steps) + "\n")
