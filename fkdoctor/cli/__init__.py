"""The command line: parses, calls one function, renders, exits.

Exit codes: 0 done · 1 findings at or above --fail-on · 2 usage, configuration or no database ·
3 refused, nothing changed · 4 incomplete, run again · 70 a bug in fkdoctor · 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from difflib import get_close_matches
from typing import TYPE_CHECKING

import click

from fkdoctor.errors import FkdoctorError, Incomplete, Refused
from fkdoctor.version import __version__

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

USAGE, REFUSED, INCOMPLETE, BUG, INTERRUPTED = 2, 3, 4, 70, 130

# A command's module, imported only when the command is called, since SQLAlchemy and Alembic take
# longer to import than --help should take; and therefore its summary, which --help shows.
_COMMANDS = {
    "audit": (
        "fkdoctor.cli.audit",
        "Show every foreign key with its rule, and what is wrong with them.",
    ),
    "graph": (
        "fkdoctor.cli.graph",
        "Draw the foreign keys: an arrow from referencing to referenced, coloured by its rule.",
    ),
    "rules": ("fkdoctor.cli.rules", "List the rules of the audit."),
    "explain": (
        "fkdoctor.cli.rules",
        "Tell one rule, by its id or name, with an example of what it finds and of what is right.",
    ),
    "fix": (
        "fkdoctor.cli.fix",
        "Turn findings, and the [[policy]] entries of fkdoctor.toml, into revisions.",
    ),
    "impact": (
        "fkdoctor.cli.impact",
        "Tell what a DELETE would do, without doing it.",
    ),
    "lint": (
        "fkdoctor.cli.lint",
        "Judge the SQL files and Alembic revisions at PATH against a live database.",
    ),
    "init": (
        "fkdoctor.cli.init",
        "Create or upgrade the schema fkdoctor in the database, where runs and journals are kept.",
    ),
    "dedupe": (
        "fkdoctor.cli.dedupe",
        "Merge duplicate rows of TABLE: repoint every reference to the survivor, then delete.",
    ),
    "undo": (
        "fkdoctor.cli.undo",
        "Take RUN back: restore the rows it deleted and every reference it moved.",
    ),
    "soft-delete": (
        "fkdoctor.cli.softdelete",
        "Mark rows of TABLE as deleted, and what their foreign keys take along.",
    ),
    "restore": (
        "fkdoctor.cli.softdelete",
        "Take DELETION back: exactly the rows that it took live again.",
    ),
    "purge": (
        "fkdoctor.cli.softdelete",
        "Delete for good what was soft-deleted long ago, of every table or of each TABLE.",
    ),
    "deletions": (
        "fkdoctor.cli.softdelete",
        "List what was soft-deleted in the database, newest first.",
    ),
    "runs": ("fkdoctor.cli.runs", "List what was applied in the database, newest first."),
    "show": ("fkdoctor.cli.show", "Tell what RUN did to which table."),
    "resolve": (
        "fkdoctor.cli.resolve",
        "Say which row stands for the merged row of TABLE that had KEY.",
    ),
    "demo": (
        "fkdoctor.cli.demo",
        "Show the whole job on a throw-away PostgreSQL: audit, migrate, deduplicate, undo.",
    ),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and (near := get_close_matches(args[0], _COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean: fkdoctor {near[0]}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="fkdoctor %(version)s")
def fkdoctor() -> None:
    """Delete and merge rows without breaking anything that points at them.

    The database is taken from --url, FKDOCTOR_URL, DATABASE_URL or fkdoctor.toml, in this order.
    """


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        # Not fkdoctor.main(): for a broken pipe that exits with 1, which means findings here.
        with fkdoctor.make_context("fkdoctor", sys.argv[1:]) as context:
            code = fkdoctor.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as exit:
        code = exit.exit_code
    except BrokenPipeError:
        # Somebody reads only the first lines, as in `fkdoctor audit | head`. Python would try to
        # flush once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except click.ClickException as problem:
        problem.show()
        code = problem.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        code = INTERRUPTED
    except Exception as problem:
        code = report_problem(problem)
    sys.exit(code or 0)


def report_problem(problem: Exception) -> int:
    """The exit code for the problem, after saying on stderr what it is."""
    from sqlalchemy.exc import DBAPIError

    if isinstance(problem, DBAPIError):
        return _report_database_error(problem)
    if not isinstance(problem, FkdoctorError):
        traceback.print_exception(problem)
        click.echo("This is a bug in fkdoctor, not a mistake of yours. Please report it.", err=True)
        return BUG
    click.echo(str(problem), err=True)
    match problem:
        case Refused():
            return REFUSED
        case Incomplete():
            return INCOMPLETE
        case _:
            return USAGE


def _report_database_error(problem: DBAPIError) -> int:
    """Say in three lines what PostgreSQL said; its own message names the object."""
    from fkdoctor.database import lost, said

    if lost(problem):
        click.echo(f"The connection was lost.\n{said(problem)}", err=True)
        click.echo("What was not committed is undone. Run the same command again.", err=True)
        return INCOMPLETE
    click.echo(f"PostgreSQL refused a statement.\n{said(problem)}", err=True)
    click.echo("Its transaction was rolled back. Settle the cause and run it again.", err=True)
    return USAGE
