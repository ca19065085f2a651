"""`fkdoctor show`: one run of the history."""

from __future__ import annotations

from pathlib import Path

import click

from fkdoctor.cli.output import format_option, write
from fkdoctor.cli.session import database_options, open_session
from fkdoctor.ledger.history import read_run, read_steps
from fkdoctor.ledger.install import require_ledger
from fkdoctor.render.dedupe import run_text
from fkdoctor.render.document import to_json


@click.command()
@click.argument("run", type=click.IntRange(min=1))
@format_option("text", "json")
@database_options
def show(run: int, output_format: str, url: str | None, config_path: Path | None) -> None:
    """Tell what RUN did to which table."""
    with open_session(url, config_path) as session:
        require_ledger(session.connection)
        found = read_run(session.connection, run)
        steps = read_steps(session.connection, run)
    if output_format == "json":
        write(to_json(found | {"steps": steps}))
    else:
        write(run_text(found, steps) + "\n")
