"""`fkdoctor undo`: take a run back."""

from __future__ import annotations

from pathlib import Path

import click

from fkdoctor.cli.output import format_option, write
from fkdoctor.cli.progress import show_progress
from fkdoctor.cli.session import database_options, open_session
from fkdoctor.dedupe.undo import undo_dedupe
from fkdoctor.errors import Incomplete
from fkdoctor.render.dedupe import undone_text
from fkdoctor.render.document import to_json


@click.command()
@click.argument("run", type=click.IntRange(min=1))
@click.option(
    "--partly", is_flag=True, help="Leave clusters merged of which a row changed since the run."
)
@click.option(
    "--cluster",
    "clusters",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="NUMBER",
    help="Take back only this cluster, as the plan numbers it. May be given several times.",
)
@format_option("text", "json")
@database_options
def undo(
    run: int,
    partly: bool,
    clusters: tuple[int, ...],
    output_format: str,
    url: str | None,
    config_path: Path | None,
) -> None:
    """Take RUN back: restore the rows it deleted and every reference it moved.

    Refused, with names, when one of these rows was changed since.
    """
    with (
        open_session(url, config_path) as session,
        show_progress("Undoing", "clusters") as report,
    ):
        try:
            progress = undo_dedupe(
                session.connection,
                run,
                partly=partly,
                clusters=clusters,
                lock_timeout=session.config.database.lock_timeout,
                report=lambda progress: report(progress.done, progress.total),
            )
        except KeyboardInterrupt:
            click.echo(
                "What is undone stays undone; the batch at hand was rolled back.\n"
                f"Go on with: fkdoctor undo {run}",
                err=True,
            )
            raise
    if output_format == "json":
        document = {
            "run": run,
            "restored": progress.restored,
            "repointed": progress.repointed,
            "kept_clusters": progress.kept,
            "conflicts": progress.conflicts,
        }
        write(to_json(document))
    else:
        write(undone_text(progress) + "\n")
    if progress.kept:
        raise Incomplete(
            "Some clusters stay merged.",
            why="Rows of theirs were changed after the run.",
            next=f"Look at them, then: fkdoctor undo {run}",
        )
