"""`fkdoctor runs`: the history."""

from __future__ import annotations

from pathlib import Path

import click

from fkdoctor.cli.output import format_option, write
from fkdoctor.cli.session import database_options, open_session
from fkdoctor.ledger.install import require_ledger
from fkdoctor.render.dedupe import runs_markdown, runs_text
from fkdoctor.render.document import to_json
from fkdoctor.resources import execute_query


@click.command()
@format_option("text", "json", "markdown")
@database_options
def runs(output_format: str, url: str | None, config_path: Path | None) -> None:
    """List what was applied in the database, newest first."""
    with open_session(url, config_path) as session:
        require_ledger(session.connection)
        rows = execute_query(session.connection, "ledger/runs").mappings().all()
    history = [dict(row) for row in rows]
    if output_format == "json":
        write(to_json(history))
    else:
        render = runs_markdown if output_format == "markdown" else runs_text
        write(render(history) + "\n")
