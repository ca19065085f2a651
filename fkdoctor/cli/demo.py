"""`fkdoctor demo`: the whole job on a throw-away server, told as a story.

Every command shown is run as shown, on the same code as from a shell.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import IntegrityError

from fkdoctor.database import Target, connect, open_engine
from fkdoctor.demo.dataset import load_dataset
from fkdoctor.embedded import Server, start_server
from fkdoctor.embedded.binaries import find_client
from fkdoctor.resources import execute_query
from fkdoctor.revise.command import upgrade

_DELETE = "DELETE FROM mlops.cover_letter_samples WHERE id = :id"


@click.command()
@click.option("--keep", is_flag=True, help="Leave the server running at the end, to look around.")
def demo(keep: bool) -> None:
    """Show the whole job on a throw-away PostgreSQL: audit, migrate, deduplicate, undo."""
    with start_server() as server, tempfile.TemporaryDirectory() as directory:
        story = _Story(server, Path(directory))
        story.tell()
        if keep:
            stop = server.detach()
            click.echo(f"\nThe server keeps running. Stop it, and delete it, with: {stop}")
        _say_how_to_look(story.url, keep)


class _Story:
    """The demo's database, and the chapters told over it in order."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._plan = directory / "cover_letter_samples.plan.jsonl"
        self.url = server.url("mlops")
        self._engine = _create_database(server)

    def tell(self) -> None:
        """Everything from the first look to the last."""
        before = self._found()
        self._delete_fails()
        self._run(3, "What the doctor says", ["audit"])
        self._migrate()
        self._run(5, "And now?", ["audit"])
        self._run(6, "A plan first; nothing is changed by it", self._plan_command())
        self._run(7, "Merge: repoint, then delete, journal everything", ["init"])
        self._run(None, "", ["dedupe", "--plan", str(self._plan), "--yes"])
        self._prove()
        self._undo(before)

    def _found(self) -> Sequence[Row[tuple[str, int, str]]]:
        _headline(1, "The mlops database, as crawlers left it")
        click.echo(f"PostgreSQL {self._server.version}, started for this demo.")
        upgrade(self._engine, "0001")
        with self._engine.begin() as connection:
            load_dataset(connection)
        with connect(self._engine) as connection:
            before = _contents(connection)
        for row in before:
            click.echo(f"  {row.name:<28} {row.rows:>9,} rows")
        return before

    def _delete_fails(self) -> None:
        _headline(2, "What brings people here")
        with self._engine.begin() as connection:
            duplicate = execute_query(connection, "demo/referenced_duplicate").one()
        click.echo(f"Letters {duplicate.id} and {duplicate.other} were crawled from one address:")
        click.echo(f"  {duplicate.url}\n  {duplicate.other_url}\n")
        click.echo(f"mlops=# {_DELETE.replace(':id', str(duplicate.id))};")
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.text(_DELETE), {"id": duplicate.id})
        except IntegrityError as error:
            click.echo(f"ERROR:  {str(error.orig).strip()}")

    def _migrate(self) -> None:
        _headline(4, "Change the rules: CASCADE, soft-delete columns, the missing indexes")
        click.echo("$ alembic upgrade head")
        with _logged():
            upgrade(self._engine, "head")

    def _plan_command(self) -> list[str]:
        survivor = ["--survivor", "most_complete", "--survivor", "most_referenced"]
        return [
            "dedupe", "cover_letter_samples", "--match", "url", *survivor, "--out", str(self._plan)
        ]  # fmt: skip

    def _prove(self) -> None:
        _headline(8, "Does anything dangle?")
        with self._engine.begin() as connection:
            for row in execute_query(connection, "demo/dangling"):
                click.echo(
                    f"  {row.constraint_name:<40} {row.references_checked:>8,} references, "
                    f"{row.dangling} dangling"
                )
        with connect(self._engine) as connection:
            for row in _contents(connection):
                click.echo(f"  {row.name:<40} {row.rows:>8,} rows")

    def _undo(self, before: Sequence[Row[tuple[str, int, str]]]) -> None:
        self._run(9, "Changed your mind?", ["undo", "1"])
        with connect(self._engine) as connection:
            after = _contents(connection)
        same = [(row.name, row.rows, row.digest) for row in before] == [
            (row.name, row.rows, row.digest) for row in after
        ]
        click.echo(
            "Every row of the four tables is as it was, by checksum."
            if same
            else "The tables are NOT as they were; this is a bug in fkdoctor."
        )

    def _run(self, number: int | None, title: str, command: list[str]) -> None:
        """Run a command of ours as a shell would, with the database given by --url."""
        from fkdoctor.cli import fkdoctor

        if number is not None:
            _headline(number, title)
        shown = " ".join(Path(word).name if word == str(self._plan) else word for word in command)
        click.echo(f"$ fkdoctor {shown}")
        fkdoctor.main([*command, "--url", self.url], prog_name="fkdoctor", standalone_mode=False)


def _create_database(server: Server) -> Engine:
    admin = open_engine(Target(dsn=server.url(), source="the demo"))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("create database mlops"))
    return open_engine(Target(dsn=server.url("mlops"), source="the demo"))


@contextmanager
def _logged() -> Iterator[None]:
    """What Alembic and the operations log goes to stderr, as alembic.ini has it."""
    handler = logging.StreamHandler()
    loggers = [logging.getLogger(name) for name in ("alembic", "fkdoctor.revise")]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def _contents(connection: Connection) -> Sequence[Row[tuple[str, int, str]]]:
    """A row per table: name, rows, and a checksum of the columns that the database began with."""
    with connection.begin():
        return execute_query(connection, "demo/contents").all()


def _headline(number: int, title: str) -> None:
    click.echo()
    click.secho(f"── {number}. {title} ".ljust(78, "─"), bold=True)


def _say_how_to_look(url: str, keep: bool) -> None:
    click.echo()
    if keep:
        psql = find_client("psql")
        click.echo("Look around:")
        click.echo(f"  {psql} '{url}'" if psql else f"  any client, at {url}")
        click.echo(f"  fkdoctor audit --url '{url}'")
    else:
        click.echo("Look around yourself: fkdoctor demo --keep leaves the server running.")
