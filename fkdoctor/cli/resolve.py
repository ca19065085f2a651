"""`fkdoctor resolve`: from the key of a merged row to the row that stands for it."""

from __future__ import annotations

from pathlib import Path

import click

from fkdoctor.cli.output import format_option, write
from fkdoctor.cli.session import database_options, open_session
from fkdoctor.dedupe.redirect import resolve_key
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import require_ledger
from fkdoctor.render.document import to_json


@click.command()
@click.argument("table")
@click.argument("key", nargs=-1, required=True)
@format_option("text", "json")
@database_options
def resolve(
    table: str, key: tuple[str, ...], output_format: str, url: str | None, config_path: Path | None
) -> None:
    """Say which row stands for the merged row of TABLE that had KEY.

    KEY is the primary key, a word for each of its columns. A key that was not merged stands for
    itself.
    """
    with open_session(url, config_path) as session:
        require_ledger(session.connection)
        schema = inspect_database(session.connection)
        name = schema.resolve_table(table, session.config.database.schemas)
        found = resolve_key(session.connection, schema.table(name), key)
    if found is None:
        click.echo("It was not merged.", err=True)
    if output_format == "json":
        document = {
            "table": str(name),
            "key": key,
            "merged": found is not None,
            "resolved": found or key,
        }
        write(to_json(document))
    else:
        write(" ".join(found or key) + "\n")
