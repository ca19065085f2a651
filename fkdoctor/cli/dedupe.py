"""`fkdoctor dedupe`: plan, and with --apply do it."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import click

from fkdoctor.cli.progress import show_progress
from fkdoctor.cli.session import Session, database_options, open_session
from fkdoctor.config import Config
from fkdoctor.dedupe.apply import BATCH_SIZE, apply_dedupe
from fkdoctor.dedupe.criteria import DEFAULT_SURVIVOR
from fkdoctor.dedupe.plan import DedupePlan
from fkdoctor.dedupe.planfile import head_document, read_clusters, read_plan
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.errors import ConfigError, Incomplete
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.ledger.install import require_ledger
from fkdoctor.render.dedupe import applied_text, count, plan_markdown, plan_text
from fkdoctor.schema import TableName

_EXAMPLES = 3


@click.command()
@click.argument("table", required=False)
@click.option(
    "--match",
    multiple=True,
    metavar="COLUMN|(SQL)",
    help="What duplicates agree on: column, column:url, column:exact, or an SQL expression in "
    "parentheses. May be given several times.",
)
@click.option(
    "--survivor",
    multiple=True,
    metavar="RULE",
    help="Which row stays: newest[:column], oldest[:column], most_complete, most_referenced, or "
    "(SQL) [asc|desc]. Earlier rules weigh more; the lowest key decides at last.",
)
@click.option(
    "--max-cluster",
    type=click.IntRange(min=2),
    default=100,
    show_default=True,
    help="More rows than this that agree are no duplicates, but a value that says nothing.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the plan goes; else TABLE-….plan.jsonl in this directory.",
)
@click.option(
    "--plan",
    "plan_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take this saved plan in place of making one.",
)
@click.option("--apply", "apply_it", is_flag=True, help="Do what the plan says.")
@click.option("--yes", is_flag=True, help="Do not ask before applying; implies --apply.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=BATCH_SIZE,
    show_default=True,
    help="Clusters in one transaction.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
)
@database_options
def dedupe(
    table: str | None,
    match: tuple[str, ...],
    survivor: tuple[str, ...],
    max_cluster: int,
    out: Path | None,
    plan_path: Path | None,
    apply_it: bool,
    yes: bool,
    batch_size: int,
    output_format: str,
    url: str | None,
    config_path: Path | None,
) -> None:
    """Merge duplicate rows of TABLE: repoint every reference to the survivor, then delete.

    Without --apply only a plan is made and saved; nothing is changed. Every run can be undone.

    \b
      fkdoctor dedupe cover_letter_samples --match url
      fkdoctor dedupe --plan cover_letter_samples-5b1c0d2e.plan.jsonl --apply
    """
    if (table is None) == (plan_path is None):
        raise click.UsageError("Name either a TABLE to make a plan for, or a saved --plan.")
    if plan_path is not None and (match or survivor or out):
        raise click.UsageError("--match, --survivor and --out make a plan; --plan has one already.")
    with open_session(url, config_path) as session:
        if table is not None:
            plan, path = _make_plan(session, table, match, survivor, max_cluster, out)
        else:
            assert plan_path is not None
            plan, path = read_plan(plan_path), plan_path
        if output_format != "json" or not (apply_it or yes):
            _show_plan(plan, path, output_format)
        if not (apply_it or yes):
            click.echo(f"Nothing was changed. The plan is saved in {path}.", err=True)
            if plan.duplicates and not plan.obstacles:
                click.echo(f"Apply it with: fkdoctor dedupe --plan {path} --apply", err=True)
            return
        _apply(session, plan, path, yes, batch_size, output_format)


def _make_plan(
    session: Session,
    table: str,
    match: tuple[str, ...],
    survivor: tuple[str, ...],
    max_cluster: int,
    out: Path | None,
) -> tuple[DedupePlan, Path]:
    config = session.config
    schema = inspect_database(session.connection)
    name = schema.resolve_table(table, config.database.schemas)
    configured = _configured(config, name)
    criteria = Criteria(
        match=match or configured[0],
        survivor=survivor or configured[1] or DEFAULT_SURVIVOR,
        max_cluster=max_cluster,
        soft_delete_column=config.soft_delete_column,
    )
    path = out or Path(f"{name.name}.plan.jsonl")
    plan = plan_dedupe(session.connection, schema, name, criteria, path)
    if out is None:
        # A name of its own, so that no plan that somebody reviewed is written over.
        path = path.rename(f"{name.name}-{plan.id[:8]}.plan.jsonl")
    return plan, path


def _configured(config: Config, name: TableName) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The match and survivor rules of fkdoctor.toml for the table, by either of its names."""
    for key in (f"{name.schema}.{name.name}", name.name):
        if key in config.dedupe:
            return config.dedupe[key].match, config.dedupe[key].survivor
    return (), ()


def _show_plan(plan: DedupePlan, path: Path, output_format: str) -> None:
    examples = list(islice(read_clusters(path), _EXAMPLES))
    if output_format == "json":
        click.echo(json.dumps({"plan": head_document(plan), "path": str(path)}, indent=2))
    elif output_format == "markdown":
        click.echo(plan_markdown(plan, examples))
    else:
        click.echo(plan_text(plan, examples))


def _apply(
    session: Session,
    plan: DedupePlan,
    path: Path,
    yes: bool,
    batch_size: int,
    output_format: str,
) -> None:
    require_ledger(session.connection)
    if not yes and not plan.obstacles:
        if not sys.stdin.isatty():
            raise ConfigError(
                "Nobody is there to be asked; nothing was changed.",
                why="--apply asks before it deletes, and the input is not a terminal.",
                next="Give --yes as well.",
            )
        click.confirm(
            f"Delete {count(plan.duplicates, 'duplicate')} and repoint "
            f"{count(plan.references, 'reference')}?",
            abort=True,
            err=True,
        )
    with show_progress("Merging", "clusters") as report:
        progress = apply_dedupe(
            session.connection,
            path,
            batch_size=batch_size,
            lock_timeout=session.config.database.lock_timeout,
            report=lambda progress: report(progress.done, progress.total),
        )
    if output_format == "json":
        document = {
            "run": progress.run_id,
            "deleted": progress.deleted,
            "repointed": progress.repointed,
            "stale_clusters": progress.stale,
        }
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo(applied_text(progress, str(plan.table)))
    if progress.stale:
        raise Incomplete(
            "Some clusters were left alone.",
            why="Their rows changed after the plan was made.",
            next="Make a new plan for them: fkdoctor dedupe TABLE --match …",
        )
