"""`fkdoctor fix`: findings and policies become revisions in your Alembic tree, or a script."""

from __future__ import annotations

from pathlib import Path

import click

from fkdoctor.audit import make_report, select_scope
from fkdoctor.cli.output import write
from fkdoctor.cli.session import database_options, open_session
from fkdoctor.errors import ConfigError
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.revise.fixes import describe_fix, plan_fixes
from fkdoctor.revise.revision import Draft, write_revisions, write_script


@click.command()
@click.option("--schema", "schemas", multiple=True, metavar="NAME", help="Only this schema's keys.")
@click.option(
    "--table", "tables", multiple=True, metavar="NAME", help="Only keys from or to this table."
)
@click.option("--rule", "rules", multiple=True, metavar="ID", help="Only findings of this rule.")
@click.option(
    "--alembic",
    "alembic_ini",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("alembic.ini"),
    show_default=True,
    help="The alembic.ini of the tree to write to.",
)
@click.option("--head", metavar="REVISION", help="Follow this revision; else the tree's one head.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@click.option("--sql", "as_sql", is_flag=True, help="Print a script for psql instead.")
@click.option("--undo", is_flag=True, help="With --sql: the script that takes it all back.")
@database_options
def fix(
    url: str | None,
    config_path: Path | None,
    schemas: tuple[str, ...],
    tables: tuple[str, ...],
    rules: tuple[str, ...],
    alembic_ini: Path,
    head: str | None,
    dry_run: bool,
    as_sql: bool,
    undo: bool,
) -> None:
    """Turn findings, and the [[policy]] entries of fkdoctor.toml, into revisions.

    Changes nothing in the database: `alembic upgrade head` does, without stopping writers. Prints
    the files it wrote. Each key gets a revision of its own, with the locks it takes, how long it
    may last and what its downgrade does in the docstring.
    """
    if undo and not as_sql:
        raise ConfigError(
            "--undo goes with --sql.",
            why="A revision has its way back in it.",
            next="Leave --undo out, or add --sql.",
        )
    with open_session(url, config_path) as session:
        config = session.config
        schema = inspect_database(
            session.connection, statement_timeout=config.database.statement_timeout
        )
    default = () if schemas or tables else config.database.schemas
    scope = select_scope(schema, schemas or default, tables, config.database.schemas)
    report = make_report(schema, scope=scope, ignore=config.audit.ignore)
    findings = [each for each in report.findings if not rules or each.rule.id in rules]
    fixes, left = plan_fixes(schema, findings, config.policies if not rules else ())
    inside = {key.label for key in report.foreign_keys}
    drafts = [
        Draft(message=describe_fix(schema, fix), operations=fix.operations)
        for fix in fixes
        if fix.key.label in inside
    ]
    if as_sql:
        write(write_script(drafts, undo=undo))
    elif dry_run:
        write("\n\n".join(draft.message for draft in drafts) + "\n" if drafts else "")
    else:
        for path in write_revisions(alembic_ini, drafts, head) if drafts else ():
            write(f"{path}\n")
    for each in left:
        click.echo(f"Left to you: {each.subject}: {each.reason}", err=True)
    if not drafts:
        click.echo("Nothing that an operation could mend.", err=True)
    elif not as_sql and not dry_run:
        click.echo(f"{len(drafts)} revisions. Read them, then: alembic upgrade head", err=True)
