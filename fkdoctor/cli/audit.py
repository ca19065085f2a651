"""`fkdoctor audit`: every foreign key with its rule, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import click

from fkdoctor.audit import Report, Severity, make_report, select_scope
from fkdoctor.audit.baseline import format_baseline, load_baseline
from fkdoctor.cli.output import terminal_width, wants_colour, write
from fkdoctor.cli.session import database_options, open_session
from fkdoctor.config import FILE_NAME, SEVERITIES
from fkdoctor.errors import ConfigError
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare
from fkdoctor.render import markdown, text
from fkdoctor.render.document import report_as_json
from fkdoctor.render.sarif import report_as_sarif

FINDINGS = 1


@click.command()
@click.option("--schema", "schemas", multiple=True, metavar="NAME", help="Only this schema's keys.")
@click.option(
    "--table", "tables", multiple=True, metavar="NAME", help="Only keys from or to this table."
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(("text", "json", "markdown", "sarif")),
    default="text",
)
@click.option(
    "--fail-on",
    type=click.Choice((*SEVERITIES, "never")),
    help="Exit with 1 at such a finding or a graver one; else fkdoctor.toml's fail_on, or error.",
)
@click.option(
    "--against",
    "baseline_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Findings in this baseline are known: they are counted, and don't fail.",
)
@click.option(
    "--write-baseline",
    "written_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all findings to this file, and exit with 0.",
)
@database_options
def audit(
    url: str | None,
    config_path: Path | None,
    schemas: tuple[str, ...],
    tables: tuple[str, ...],
    format_: str,
    fail_on: str | None,
    baseline_path: Path | None,
    written_path: Path | None,
) -> None:
    """Show every foreign key with its rule, and what is wrong with them.

    Reads the catalog only: no table is scanned, nothing is locked or changed. --schema and --table
    can be given several times. `fkdoctor explain FK001` tells what a finding means.
    """
    baseline = load_baseline(baseline_path) if baseline_path else None
    with open_session(url, config_path) as session:
        config = session.config
        schema = inspect_database(
            session.connection, statement_timeout=config.database.statement_timeout
        )
    schema = declare(schema, config)
    default = () if schemas or tables else config.database.schemas
    report = make_report(
        schema,
        scope=select_scope(schema, schemas or default, tables, config.database.schemas),
        ignore=config.audit.ignore,
        baseline=baseline,
    )
    for pattern in report.idle_ignores:
        click.echo(f"Nothing corresponds to ignore = {pattern!r} any more.", err=True)
    write(_render(report, format_, config.path))
    if written_path:
        _write_baseline(written_path, report)
    elif report.fails(_severity(fail_on or config.audit.fail_on)):
        click.get_current_context().exit(FINDINGS)


def _render(report: Report, format_: str, config_path: Path | None) -> str:
    if format_ == "json":
        return report_as_json(report)
    if format_ == "sarif":
        return report_as_sarif(report, file=_relative(config_path))
    if format_ == "markdown":
        return markdown.render_report(report)
    return text.render_report(report, colour=wants_colour(), width=terminal_width())


def _relative(path: Path | None) -> str:
    """The file as seen from here, which is mostly the top of what a code host shows."""
    if path and path.resolve().is_relative_to(Path.cwd()):
        return path.resolve().relative_to(Path.cwd()).as_posix()
    return FILE_NAME


def _severity(name: str) -> Severity | None:
    return None if name == "never" else Severity[name.upper()]


def _write_baseline(path: Path, report: Report) -> None:
    try:
        path.write_text(format_baseline(report.findings), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written.", why=f"{error.strerror}.", next="Check --write-baseline."
        ) from None
    click.echo(f"Wrote {len(report.findings)} findings to {path}.", err=True)
