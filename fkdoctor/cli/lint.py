"""`fkdoctor lint`: what migrations would do to keys and rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from fkdoctor.cli.output import format_option, wants_colour, write
from fkdoctor.cli.progress import show_wait
from fkdoctor.cli.session import database_options, open_session
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.lint.judge import Hazard, Level, judge_passages
from fkdoctor.lint.source import read_sources
from fkdoctor.render.document import to_json
from fkdoctor.render.lint import lint_document, lint_sarif, lint_text

HAZARDS = 1


@click.command()
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="PATH…"
)
@format_option("text", "json", "sarif")
@click.option(
    "--fail-on",
    type=click.Choice(("note", "warning", "error", "never")),
    default="error",
    show_default=True,
    help="Exit with 1 at such a hazard or a graver one.",
)
@database_options
def lint(
    paths: tuple[Path, ...],
    output_format: str,
    fail_on: str,
    url: str | None,
    config_path: Path | None,
) -> None:
    """Judge the SQL files and Alembic revisions at PATH against a live database.

    What their DELETE, UPDATE and TRUNCATE statements would do to the rows that are there now, and
    what DROP TABLE and adding or dropping a foreign key would lock, for how long, and what to write
    in their place. Nothing of them is executed. A directory stands for the *.sql and *.py below it.

    \b
      fkdoctor lint migrations/versions --format sarif > lint.sarif
    """
    passages = read_sources(paths)
    with open_session(url, config_path) as session, show_wait("Judging"):
        timeout = session.config.database.statement_timeout
        schema = inspect_database(session.connection, statement_timeout=timeout)
        hazards = judge_passages(session.connection, schema, passages, statement_timeout=timeout)
    write(_render(hazards, len(passages), output_format))
    if fail_on != "never" and any(one.level >= Level[fail_on.upper()] for one in hazards):
        click.get_current_context().exit(HAZARDS)


def _render(hazards: Sequence[Hazard], statements: int, output_format: str) -> str:
    if output_format == "json":
        return to_json(lint_document(hazards, statements))
    if output_format == "sarif":
        return to_json(lint_sarif(hazards))
    return lint_text(hazards, statements, colour=wants_colour())
