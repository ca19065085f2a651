"""`fkdoctor audit`: every foreign key with its rule, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from sqlalchemy import Connection

from fkdoctor.audit import RULES, Report, Severity, make_report
from fkdoctor.audit.baseline import format_baseline, load_baseline
from fkdoctor.cli.output import format_option, terminal_width, wants_colour, write
from fkdoctor.cli.progress import show_progress, show_wait
from fkdoctor.cli.session import (
    choose_scope,
    database_options,
    open_session,
    scope_options,
    tree_options,
)
from fkdoctor.config import FILE_NAME, SEVERITIES, Config, parse_duration
from fkdoctor.errors import ConfigError
from fkdoctor.inspect.django_models import with_django
from fkdoctor.inspect.models import with_models
from fkdoctor.inspect.proof import ask_planner
from fkdoctor.inspect.rowlog import RowLog
from fkdoctor.inspect.rows import (
    Thoroughness,
    choose_references,
    count_kinds_of_references,
    count_rows,
    declare_model_polymorphs,
    with_rows_counted,
)
from fkdoctor.render import html, markdown, text
from fkdoctor.render.document import report_as_json
from fkdoctor.render.sarif import report_as_sarif
from fkdoctor.schema import ForeignKey, LogicalReference, Schema, Unread

FINDINGS = 1


@click.command()
@scope_options
@format_option("text", "json", "markdown", "sarif", "html")
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
@click.option(
    "--data",
    type=click.Choice(("sample", "all")),
    is_flag=False,
    flag_value="all",
    help="Look at the rows too: a sample of each large table, or (--data alone) all rows.",
)
@click.option(
    "--data-timeout",
    default="5min",
    show_default=True,
    metavar="TIME",
    help="The longest that one query of --data may run.",
)
@click.option(
    "--resume",
    "resume_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what --data finds to this file, key by key, and skip what it has already.",
)
@click.option(
    "--prove",
    is_flag=True,
    help="Ask the planner, key by key, whether an index serves; nothing is executed.",
)
@click.option(
    "--models",
    metavar="MODULE:BASE",
    help="Lay SQLAlchemy models beside the database: package.module:Base.",
)
@click.option(
    "--django",
    metavar="SETTINGS",
    help="Lay the models of Django beside the database: package.settings.",
)
@click.option(
    "--fix",
    is_flag=True,
    help="Write revisions for the findings, as fkdoctor fix does; stderr names the files.",
)
@tree_options
@database_options
def audit(
    url: str | None,
    config_path: Path | None,
    schemas: tuple[str, ...],
    tables: tuple[str, ...],
    output_format: str,
    fail_on: str | None,
    baseline_path: Path | None,
    written_path: Path | None,
    data: str | None,
    data_timeout: str,
    resume_path: Path | None,
    prove: bool,
    models: str | None,
    django: str | None,
    fix: bool,
    alembic_ini: Path,
    head: str | None,
) -> None:
    """Show every foreign key with its rule, and what is wrong with them.

    Reads the catalog only, unless --data asks for the rows; nothing is locked or changed. --schema
    and --table can be given several times. `fkdoctor explain FK001` tells what a finding means.
    """
    if resume_path and not data:
        raise click.UsageError("--resume is for --data.")
    baseline = load_baseline(baseline_path) if baseline_path else None
    with open_session(url, config_path) as session:
        config = session.config
        schema = session.read_schema()
        if models:
            schema = with_models(schema, models)
        if django:
            schema = with_django(schema, django)
        scope = choose_scope(schema, config, schemas, tables)
        if prove:
            with show_wait("Asking the planner"):
                schema = ask_planner(session.connection, schema, schema.foreign_keys)
        if data:
            thoroughness = Thoroughness(
                exact=data == "all", statement_timeout=_read_timeout(data_timeout)
            )
            schema = declare_model_polymorphs(
                session.connection, schema, scope.covers, thoroughness
            )
            references = choose_references(schema, scope.covers)
            log = RowLog(resume_path, schema) if resume_path else None
            schema = _look_at_rows(session.connection, schema, references, thoroughness, log)
            schema = count_kinds_of_references(
                session.connection, schema, scope.covers, thoroughness.statement_timeout
            )
    report = make_report(
        schema,
        scope=scope,
        ignore=config.audit.ignore,
        baseline=baseline,
        rules=tuple(
            rule
            for rule in RULES
            if (data or not rule.reads_rows) and (models or django or not rule.reads_models)
        ),
    )
    for pattern in report.idle_ignores:
        click.echo(f"Nothing corresponds to ignore = {pattern!r} any more.", err=True)
    write(_render(report, output_format, config.path))
    if fix:
        _write_fixes(report, config, alembic_ini, head)
    if written_path:
        _write_baseline(written_path, report)
    elif report.fails(_severity(fail_on or config.audit.fail_on)):
        click.get_current_context().exit(FINDINGS)


def _write_fixes(report: Report, config: Config, alembic_ini: Path, head: str | None) -> None:
    # Alembic takes longer to import than a small audit takes.
    from fkdoctor.cli.fix import draft_fixes, tell_drafts
    from fkdoctor.revise.revision import write_revisions

    drafts, left = draft_fixes(report, config.policies)
    for path in write_revisions(alembic_ini, drafts, head) if drafts else ():
        click.echo(f"Wrote {path}.", err=True)
    tell_drafts(drafts, left, written=True)


def _read_timeout(written: str) -> int:
    timeout = parse_duration(written)
    if timeout is None:
        raise click.BadParameter(
            'Write a time such as "30s" or "5min".', param_hint="--data-timeout"
        )
    return timeout


def _look_at_rows(
    connection: Connection,
    schema: Schema,
    references: Sequence[ForeignKey | LogicalReference],
    thoroughness: Thoroughness,
    log: RowLog | None,
) -> Schema:
    """The schema with what is found in the rows; Ctrl-C leaves out the rest, and says so."""
    known = [(log and log.find(reference)) or () for reference in references]
    rest = [one for one, counts in zip(references, known, strict=True) if not counts]
    counted = [count for counts in known for count in counts]
    unread: list[Unread] = []
    done = 0
    with show_progress("Reading rows", "references") as tell:
        try:
            for counts, failures in count_rows(connection, schema, rest, thoroughness):
                counted += counts
                unread += failures
                if log and thoroughness.exact and not failures:
                    log.add(rest[done], counts)
                done += 1
                tell(len(references) - len(rest) + done, len(references))
        except KeyboardInterrupt:
            left = f"the rows of {len(rest) - done} references"
            unread.append(Unread(subject=left, reason="stopped before"))
    return with_rows_counted(schema, counted, unread)


def _render(report: Report, output_format: str, config_path: Path | None) -> str:
    if output_format == "json":
        return report_as_json(report)
    if output_format == "sarif":
        return report_as_sarif(report, file=_relative(config_path))
    if output_format == "html":
        return html.render_report(report)
    if output_format == "markdown":
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
