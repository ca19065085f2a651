"""`fkdoctor fix`: findings and policies become revisions in your Alembic tree, or a script."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import click

from fkdoctor.audit import Report, make_report
from fkdoctor.audit.explanation import explain_rule
from fkdoctor.cli.output import write
from fkdoctor.cli.session import (
    choose_scope,
    database_options,
    open_session,
    scope_options,
    tree_options,
)
from fkdoctor.config import PolicyConfig
from fkdoctor.errors import ConfigError
from fkdoctor.revise.fixes import Left, describe_fix, plan_fixes
from fkdoctor.revise.guesses import UNDECLARED, plan_adoptions
from fkdoctor.revise.revision import Draft, write_revisions, write_script


@click.command()
@scope_options
@click.option("--rule", "rules", multiple=True, metavar="ID", help="Only findings of this rule.")
@tree_options
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
    asked = frozenset(explain_rule(rule).rule.id for rule in rules)
    with open_session(url, config_path) as session:
        config = session.config
        schema = session.read_schema()
    report = make_report(
        schema,
        scope=choose_scope(schema, config, schemas, tables),
        ignore=config.audit.ignore,
    )
    drafts, left = draft_fixes(report, config.policies, asked)
    if as_sql:
        write(write_script(drafts, undo=undo))
    elif dry_run:
        write("\n\n".join(draft.message for draft in drafts) + "\n" if drafts else "")
    else:
        for path in write_revisions(alembic_ini, drafts, head) if drafts else ():
            write(f"{path}\n")
    tell_drafts(drafts, left, written=not as_sql and not dry_run)


def draft_fixes(
    report: Report, policies: tuple[PolicyConfig, ...], rules: Collection[str] = ()
) -> tuple[list[Draft], list[Left]]:
    """What could be written about the report's new findings, and what is left to a person.

    With `rules` only their findings count, and no policy. A guess is adopted only where its rule is
    among them.
    """
    schema = report.schema
    findings = [each for each in report.new if not rules or each.rule.id in rules]
    guesses = [each for each in findings if each.rule.id == UNDECLARED and rules]
    known = [each for each in findings if each not in guesses]
    fixes, left = plan_fixes(schema, known, policies if not rules else ())
    adoptions, left_guesses = plan_adoptions(schema, guesses, policies)
    covers = report.scope.covers
    drafts = [
        Draft(message=describe_fix(schema, fix), operations=fix.operations)
        for fix in (*fixes, *adoptions)
        if covers(fix.key.referencing) or covers(fix.key.referenced)
    ]
    return drafts, [*left, *left_guesses]


def tell_drafts(drafts: Sequence[Draft], left: Iterable[Left], *, written: bool) -> None:
    """Say on stderr what is left, and what to do with what was written."""
    for each in left:
        click.echo(f"Left to you: {each.subject}: {each.reason}", err=True)
    if not drafts:
        click.echo("Nothing that an operation could mend.", err=True)
    elif written:
        click.echo(f"{len(drafts)} revisions. Read them, then: alembic upgrade head", err=True)
