"""The command line: parses, calls one function, renders, exits.

Exit codes: 0 done · 1 findings at or above --fail-on · 2 usage, configuration or no database ·
3 refused, nothing changed · 4 incomplete, run again · 70 a bug in fkdoctor · 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click
from sqlalchemy.exc import DBAPIError

from fkdoctor import __version__
from fkdoctor.errors import FkdoctorError, Incomplete, Refused

USAGE, REFUSED, INCOMPLETE, BUG, INTERRUPTED = 2, 3, 4, 70, 130

# Imported only when called: Alembic alone takes longer to import than --help should take.
_COMMANDS = {
    "audit": "fkdoctor.cli.audit",
    "rules": "fkdoctor.cli.rules",
    "explain": "fkdoctor.cli.rules",
    "init": "fkdoctor.cli.init",
    "dedupe": "fkdoctor.cli.dedupe",
    "undo": "fkdoctor.cli.undo",
    "runs": "fkdoctor.cli.runs",
    "demo": "fkdoctor.cli.demo",
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(_COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="fkdoctor %(version)s")
def fkdoctor() -> None:
    """Delete and merge rows without breaking anything that points at them.

    The database is taken from --url, FKDOCTOR_URL, DATABASE_URL or fkdoctor.toml, in this order.
    """


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        code = fkdoctor.main(prog_name="fkdoctor", standalone_mode=False)
    except click.exceptions.Exit as exit:
        code = exit.exit_code
    except click.ClickException as problem:
        problem.show()
        code = problem.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        code = INTERRUPTED
    except BrokenPipeError:
        # Somebody reads only the first lines, as in `fkdoctor audit | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except (FkdoctorError, DBAPIError) as problem:
        code = report_problem(problem)
    except Exception:
        traceback.print_exc()
        click.echo("This is a bug in fkdoctor, not a mistake of yours. Please report it.", err=True)
        code = BUG
    sys.exit(code or 0)


def report_problem(problem: FkdoctorError | DBAPIError) -> int:
    """The exit code for the problem, after saying on stderr what it is."""
    if isinstance(problem, DBAPIError):
        return _report_database_error(problem)
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
    lines = str(problem.orig).strip().splitlines() or [type(problem.orig).__name__]
    if problem.connection_invalidated or not getattr(problem.orig, "pgcode", None):
        click.echo(f"The connection was lost.\n{lines[0]}", err=True)
        click.echo("What was not committed is undone. Run the same command again.", err=True)
        return INCOMPLETE
    click.echo("PostgreSQL refused a statement; its transaction was rolled back.", err=True)
    click.echo(" ".join(line.strip() for line in lines), err=True)
    return USAGE
