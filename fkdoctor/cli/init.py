"""`fkdoctor init`: create the ledger."""

from __future__ import annotations

from pathlib import Path

import click

from fkdoctor.cli.session import database_options, open_session
from fkdoctor.ledger.install import install_ledger


@click.command()
@database_options
def init(url: str | None, config_path: Path | None) -> None:
    """Create or upgrade the schema fkdoctor in the database, where runs and journals are kept."""
    with open_session(url, config_path) as session:
        changed = install_ledger(session.connection)
    click.echo("The ledger is ready." if changed else "The ledger is up to date.", err=True)
