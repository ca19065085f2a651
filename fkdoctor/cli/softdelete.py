"""`fkdoctor soft-delete`, `restore`, `purge`, `deletions`: show first, and with --yes do it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from fkdoctor.cli.output import Command, format_option, write
from fkdoctor.cli.progress import show_progress, show_wait
from fkdoctor.cli.session import Session, database_options, open_session
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import require_ledger
from fkdoctor.render import softdelete as render
from fkdoctor.render.document import to_json
from fkdoctor.resources import execute_query
from fkdoctor.softdelete import delete as engine
from fkdoctor.softdelete.outcome import blocked, conflicting
from fkdoctor.softdelete.purge import BATCH_SIZE, preview_purge, purge_deleted
from fkdoctor.softdelete.restore import preview_restore, restore_deletion
from fkdoctor.softdelete.selection import Selection
from fkdoctor.statement.softdelete import Marks


def _options(command: Command) -> Command:
    yes = click.option("--yes", is_flag=True, help="Do it. Without, it is only shown.")
    return yes(format_option("text", "json")(database_options(command)))


@click.command("soft-delete")
@click.argument("table")
@click.option("--where", metavar="SQL", help="A condition over the columns of one row.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="The key of a row; of a composite one the values with commas between. May be given "
    "several times.",
)
@click.option("--reason", help="Why; kept with the deletion.")
@_options
def soft_delete(
    table: str,
    where: str | None,
    keys: tuple[str, ...],
    reason: str | None,
    yes: bool,
    output_format: str,
    url: str | None,
    config_path: Path | None,
) -> None:
    """Mark rows of TABLE as deleted, and what their foreign keys take along.

    CASCADE marks too, SET NULL and SET DEFAULT change and are remembered, NO ACTION and RESTRICT
    refuse while a live row references one that would go. Without --yes it is only shown.

    \b
      fkdoctor soft-delete users --key 42 --reason "asked to leave" --yes
      fkdoctor restore 5b1c0d2e
    """
    selection = Selection(where=where, keys=keys)
    with open_session(url, config_path) as session, show_wait("Looking along the foreign keys"):
        schema = inspect_database(session.connection)
        name = schema.resolve_table(table, session.config.database.schemas)
        marks = _marks(session)
        if yes:
            deletion = engine.soft_delete(
                session.connection,
                schema,
                name,
                selection,
                reason=reason,
                marks=marks,
                lock_timeout=session.config.database.lock_timeout,
            )
        else:
            deletion = engine.preview_soft_delete(
                session.connection, schema, name, selection, marks=marks
            )
    shown = render.deletion_document(deletion)
    write(to_json(shown) if output_format == "json" else render.deletion_text(deletion))
    if deletion.obstacles:
        raise blocked(deletion.obstacles)
    if deletion.id is not None:
        click.echo(f"Take it back with: fkdoctor restore {deletion.id} --yes", err=True)
    else:
        _say_nothing_changed(wanted=bool(deletion.rows) and not yes)


@click.command("restore")
@click.argument("deletion")
@_options
def restore(
    deletion: str, yes: bool, output_format: str, url: str | None, config_path: Path | None
) -> None:
    """Take DELETION back: exactly the rows that it took live again.

    DELETION is the id that soft-delete printed, or its first characters. Refused, with names,
    where a live row has a unique value by now, where what was set was changed since, and where a
    row would reference one that stays deleted. Without --yes it is only shown.
    """
    with open_session(url, config_path) as session:
        schema = inspect_database(session.connection)
        marks = _marks(session)
        if yes:
            outcome = restore_deletion(
                session.connection,
                schema,
                deletion,
                marks=marks,
                lock_timeout=session.config.database.lock_timeout,
            )
        else:
            outcome = preview_restore(session.connection, schema, deletion, marks=marks)
    shown = render.restoration_document(outcome)
    write(to_json(shown) if output_format == "json" else render.restoration_text(outcome))
    if outcome.conflicts:
        raise conflicting(outcome.id, outcome.conflicts)
    if not outcome.done:
        _say_nothing_changed(wanted=True)


@click.command("purge")
@click.argument("tables", metavar="[TABLE]...", nargs=-1)
@click.option(
    "--older-than",
    required=True,
    metavar="TIME",
    help="How long ago rows must have been soft-deleted: 30d, 12h, 2w.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=BATCH_SIZE,
    show_default=True,
    help="Rows in one transaction.",
)
@_options
def purge(
    tables: tuple[str, ...],
    older_than: str,
    batch_size: int,
    yes: bool,
    output_format: str,
    url: str | None,
    config_path: Path | None,
) -> None:
    """Delete for good what was soft-deleted long ago, of every table or of each TABLE.

    Referencing rows first, in batches. A row goes only when no row references it any more, whatever
    the rule: nothing is deleted or changed along a foreign key. Without --yes it is only shown.
    """
    before = _read_age(older_than)
    with open_session(url, config_path) as session:
        schema = inspect_database(session.connection)
        schemas = session.config.database.schemas
        names = [schema.resolve_table(name, schemas) for name in tables]
        marks = _marks(session)
        if yes:
            with show_progress("Purging", "rows") as report:
                outcome = purge_deleted(
                    session.connection,
                    schema,
                    before,
                    tables=names,
                    marks=marks,
                    batch_size=batch_size,
                    lock_timeout=session.config.database.lock_timeout,
                    report=lambda rows: report(rows, rows),
                )
        else:
            outcome = preview_purge(session.connection, schema, before, tables=names, marks=marks)
    shown = render.purge_document(outcome)
    write(to_json(shown) if output_format == "json" else render.purge_text(outcome))
    if not outcome.done:
        if outcome.obstacles:
            raise blocked(outcome.obstacles)
        _say_nothing_changed(wanted=bool(outcome.rows))


@click.command("deletions")
@format_option("text", "json")
@database_options
def deletions(output_format: str, url: str | None, config_path: Path | None) -> None:
    """List what was soft-deleted in the database, newest first."""
    with open_session(url, config_path) as session:
        require_ledger(session.connection)
        rows = execute_query(session.connection, "ledger/deletions").mappings().all()
    if output_format == "json":
        write(to_json([{name: _plain(value) for name, value in row.items()} for row in rows]))
    else:
        write(render.deletions_text([dict(row) for row in rows]))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str | None) else int(str(value))


def _marks(session: Session) -> Marks:
    config = session.config
    return Marks(time=config.soft_delete_column, deletion=config.deletion_column)


def _say_nothing_changed(*, wanted: bool) -> None:
    click.echo(f"Nothing was changed.{' Do it with: --yes' if wanted else ''}", err=True)


_AGE = re.compile(r"([0-9]{1,6})\s*(min|h|d|w)\Z")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _read_age(text: str) -> datetime:
    """The moment so long ago."""
    found = _AGE.match(text.strip())
    if found is None:
        raise click.BadParameter(
            "write a number and min, h, d or w, such as 30d.", param_hint="--older-than"
        )
    try:
        return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise click.BadParameter("that is before all time.", param_hint="--older-than") from None
