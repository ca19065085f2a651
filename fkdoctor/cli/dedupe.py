"""`fkdoctor dedupe`: plan, and with --apply do it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click

from fkdoctor.cli.output import format_option, write
from fkdoctor.cli.progress import show_progress, show_wait
from fkdoctor.cli.session import Session, database_options, open_session
from fkdoctor.config import Config, DedupeConfig
from fkdoctor.dedupe.apply import BATCH_ROWS, apply_dedupe
from fkdoctor.dedupe.criteria import DEFAULT_SURVIVOR
from fkdoctor.dedupe.pace import Limits
from fkdoctor.dedupe.plan import DedupePlan
from fkdoctor.dedupe.planfile import (
    check_clusters,
    head_document,
    locate_plan,
    read_clusters,
    read_plan,
)
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.policy import read_fields, read_rules
from fkdoctor.dedupe.progress import Progress
from fkdoctor.errors import ConfigError, Incomplete
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare
from fkdoctor.ledger.install import require_ledger
from fkdoctor.render.dedupe import (
    applied_markdown,
    applied_text,
    plan_markdown,
    plan_text,
)
from fkdoctor.render.document import to_json
from fkdoctor.render.text import count_of
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
    "--map",
    "map_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A CSV file that says which row survives which, in place of --match and --survivor: "
    "duplicate,survivor (of a key of several columns duplicate.one,duplicate.two,survivor.one,…).",
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
    "--on-collision",
    multiple=True,
    metavar="TABLE=POLICY",
    help="Which of its rows stays when repointing makes them collide and they differ: refuse (the "
    "default), skip (leave their clusters out), keep_survivors, newest[:column], oldest[:column], "
    "most_complete, (SQL) [asc|desc], merge_fields, demote(column = value).",
)
@click.option(
    "--field",
    "fields",
    multiple=True,
    metavar="[TABLE.]COLUMN=RULE",
    help="What survivors take over from their duplicates: keep, coalesce, newest[:column], "
    "oldest[:column], longest, sum, min, max, and, or, concat[:separator], union, or an SQL "
    "expression in parentheses over survivor.column and aggregates of duplicate.column.",
)
@click.option(
    "--on-link",
    multiple=True,
    metavar="TABLE=POLICY",
    help="What becomes of its rows of which both ends become one survivor: refuse or delete.",
)
@click.option(
    "--on-loop",
    multiple=True,
    metavar="TABLE=POLICY",
    help="What becomes of a survivor's reference to its own duplicate: refuse, null, or inherit "
    "(what the duplicate references).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Where the plan goes: a file, or a directory in which it gets a name of its own. "
    "[default: this directory]",
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
    help=f"Clusters in one transaction. [default: such that it changes some {BATCH_ROWS:,} rows]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Connections that work at once. The same command may also run several times at once.",
)
@click.option(
    "--max-lag",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Wait between batches while a replica is further behind.",
)
@click.option(
    "--max-wal-rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MB",
    help="Wait between batches so that the server writes no more WAL in a second.",
)
@format_option("text", "json", "markdown")
@database_options
def dedupe(
    table: str | None,
    match: tuple[str, ...],
    map_path: Path | None,
    survivor: tuple[str, ...],
    max_cluster: int,
    on_collision: tuple[str, ...],
    on_link: tuple[str, ...],
    on_loop: tuple[str, ...],
    fields: tuple[str, ...],
    out: Path,
    plan_path: Path | None,
    apply_it: bool,
    yes: bool,
    batch_size: int | None,
    workers: int,
    max_lag: float | None,
    max_wal_rate: float | None,
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
    policies = {
        "collisions": on_collision,
        "links": on_link,
        "above": on_loop,
        "fields": fields,
    }
    makes_plan = match or map_path or survivor or any(policies.values()) or out != Path()
    if plan_path is not None and makes_plan:
        raise click.UsageError(
            "--match, --map, --survivor, --on-… and --out make a plan; --plan has one already."
        )
    if map_path is not None and (match or survivor):
        raise click.UsageError("--map says it all: leave --match and --survivor out.")
    with open_session(url, config_path) as session:
        if table is not None:
            criteria = match, map_path, survivor, max_cluster, policies
            plan, path = _make_plan(session, table, *criteria, out)
            click.echo(f"The plan is saved in {path}.", err=True)
        else:
            assert plan_path is not None
            plan, path = read_plan(plan_path), plan_path
        # Somebody who applies a saved plan without being asked has seen it already.
        if output_format != "json" and not (yes and plan_path is not None):
            _show_plan(plan, path, output_format)
        progress = None
        if apply_it or yes:
            limits = Limits(max_lag=max_lag, max_wal_rate=max_wal_rate)
            how = _Manner(batch_size=batch_size, workers=workers, limits=limits)
            progress = _apply(session, plan, path, how, yes=yes)
        elif plan.duplicates and not plan.obstacles:
            again = shlex.quote(str(path))
            click.echo(f"Apply it with: fkdoctor dedupe --plan {again} --apply", err=True)
        if progress is None:
            click.echo("Nothing was changed.", err=True)
        if output_format == "json":
            write(to_json(_document(plan, path, progress)))
        elif progress is not None:
            render = applied_markdown if output_format == "markdown" else applied_text
            write(render(progress, str(plan.table)) + "\n")
    if progress is not None and progress.stale:
        raise Incomplete(
            "Some clusters were left alone.",
            why="Their rows changed after the plan was made.",
            next=f"Make a new plan for them: fkdoctor dedupe {plan.table} --match …",
        )


def _make_plan(
    session: Session,
    table: str,
    match: tuple[str, ...],
    map_path: Path | None,
    survivor: tuple[str, ...],
    max_cluster: int,
    policies: Mapping[str, Sequence[str]],
    out: Path,
) -> tuple[DedupePlan, Path]:
    config = session.config
    with show_wait("Looking for duplicates"):
        schema = declare(inspect_database(session.connection), config)
        name = schema.resolve_table(table, config.database.schemas)
        configured = _configured(config, name)

        def find_table(text: str) -> TableName:
            return schema.resolve_table(text, config.database.schemas)

        criteria = Criteria(
            match=() if map_path else match or configured.match,
            map=map_path,
            survivor=survivor or configured.survivor or DEFAULT_SURVIVOR,
            max_cluster=max_cluster,
            soft_delete_column=config.soft_delete_column,
            rules=read_rules(schema, find_table, _list_policies(configured, policies)),
            fields=read_fields(schema, find_table, name, (*configured.fields, *policies["fields"])),
        )
        plan = plan_dedupe(session.connection, schema, name, criteria, out)
    return plan, locate_plan(out, plan)


def _configured(config: Config, name: TableName) -> DedupeConfig:
    """The section of fkdoctor.toml for the table, by either of its names."""
    for key in (f"{name.schema}.{name.name}", name.name):
        if key in config.dedupe:
            return config.dedupe[key]
    return DedupeConfig(table=name.name)


def _list_policies(
    configured: DedupeConfig, given: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """The policies of the file, then those of the command line, which come before them."""
    of_file = {
        "collisions": configured.on_collision,
        "links": configured.on_link,
        "above": configured.on_loop,
    }
    for policies in (of_file, given):
        for kind in of_file:
            for text in policies[kind]:
                yield kind, text


def _show_plan(plan: DedupePlan, path: Path, output_format: str) -> None:
    examples = list(islice(read_clusters(path), _EXAMPLES))
    render = plan_markdown if output_format == "markdown" else plan_text
    write(render(plan, examples) + "\n")


def _document(plan: DedupePlan, path: Path, progress: Progress | None) -> dict[str, object]:
    run = progress and {
        "id": progress.run_id,
        "deleted": progress.deleted,
        "repointed": progress.repointed,
        "stale_clusters": progress.stale,
    }
    estimate = {"rows": plan.changed, "wal_bytes": plan.wal_bytes, "seconds": plan.seconds}
    return {"plan": head_document(plan), "estimate": estimate, "path": str(path), "run": run}


@dataclass(frozen=True, kw_only=True)
class _Manner:
    """How a plan is applied."""

    batch_size: int | None
    workers: int
    limits: Limits


def _apply(
    session: Session, plan: DedupePlan, path: Path, how: _Manner, *, yes: bool
) -> Progress | None:
    """What was done; None when there is nothing to do, or the person who was asked said no."""
    extent = check_clusters(path)
    if not extent.clusters:
        click.echo("There is nothing to merge.", err=True)
        return None
    require_ledger(session.connection)
    work = (
        f"delete {count_of(extent.duplicates, 'duplicate')} of {plan.table} "
        f"in {count_of(extent.clusters, 'cluster')}"
    )
    if extent.clusters < plan.clusters:
        work += f" ({plan.clusters - extent.clusters:,} were taken out of the plan)"
    if not (yes or plan.obstacles or _confirm(f"Repoint their references and {work}?")):
        return None
    if yes:
        click.echo(f"Applying plan {plan.id}: {work}.", err=True)
    with show_progress("Merging", "clusters") as show:

        def report(progress: Progress) -> None:
            if progress.waiting and not told:
                told.append(progress.waiting)
                click.echo(f"Waiting {progress.waiting}; will wait again where need be.", err=True)
            show(progress.done, progress.total)

        told: list[str] = []
        try:
            return apply_dedupe(
                session.connection,
                path,
                batch_size=how.batch_size,
                lock_timeout=session.config.database.lock_timeout,
                workers=how.workers,
                limits=how.limits,
                report=report,
            )
        except KeyboardInterrupt:
            click.echo(
                "What is merged stays merged; the batch at hand was rolled back.\n"
                f"Go on with: fkdoctor dedupe --plan {shlex.quote(str(path))} --apply",
                err=True,
            )
            raise


def _confirm(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            "Nobody is there to be asked; nothing was changed.",
            why="--apply asks before it deletes, and the input is not a terminal.",
            next="Give --yes as well.",
        )
    return click.confirm(question, err=True)
