"""Dedupe plans, runs and their outcome as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fkdoctor.dedupe.apply import Progress
from fkdoctor.dedupe.plan import Cluster, DedupePlan
from fkdoctor.dedupe.undo import UndoProgress

_WIDTH = 60


def count(number: int, one: str, many: str | None = None) -> str:
    """The number with its noun: `1 row`, `1,204 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def plan_text(plan: DedupePlan, examples: Sequence[Cluster]) -> str:
    """The plan for a person: what makes duplicates, what moves, what goes, what is in the way."""
    lines = [
        f"Plan {plan.id} for {plan.table} in database {plan.database}",
        f"  duplicates agree on  {'; '.join(plan.match)}",
        f"  the survivor is      {', then '.join(plan.survivor)}",
        "",
        f"{count(plan.clusters, 'cluster')}: {count(plan.clusters, 'survivor')} would stay, "
        f"{count(plan.duplicates, 'duplicate')} would be deleted.",
    ]
    if plan.oversized:
        lines.append(
            f"Left alone: {count(plan.oversized, 'value')} shared by too many rows to tell "
            f"duplicates ({count(plan.oversized_rows, 'row')}); see --max-cluster."
        )
    if examples:
        lines += ["", "For example:"]
        for cluster in examples:
            keys = ", ".join(_key(member.key) for member in cluster.duplicates[:5])
            more = len(cluster.duplicates) - 5
            lines.append(
                f"  {_key(cluster.survivor.key)} survives {keys}"
                + (f" and {more} more" if more > 0 else "")
                + f"  ({' · '.join(_shorten(value) for value in cluster.matched)})"
            )
    lines += ["", "References to repoint first:"]
    width = max((len(repoint.label) for repoint in plan.repoints), default=0)
    for repoint in plan.repoints:
        lines.append(
            f"  {repoint.label:<{width}}  {count(repoint.rows, 'row'):>12}  "
            f"(a plain DELETE: {_plain_delete(repoint.on_delete, repoint.rows)})"
        )
        if not repoint.indexed:
            lines.append("    no index serves this key: every batch reads the whole table")
    if not plan.repoints:
        lines.append("  none: no foreign key references this table")
    if plan.caveats:
        lines += ["", "Beside the plan:", *(f"  {caveat}" for caveat in plan.caveats)]
    if plan.obstacles:
        lines += ["", "In the way; the plan cannot be applied:"]
        lines += [f"  {obstacle.subject}: {obstacle.reason}" for obstacle in plan.obstacles]
    return "\n".join(lines)


def _plain_delete(on_delete: str, rows: int) -> str:
    if not rows:
        return "nothing to move"
    match on_delete:
        case "CASCADE":
            return "CASCADE, they would be deleted"
        case "SET NULL" | "SET DEFAULT":
            return f"{on_delete}, they would point elsewhere"
        case _:
            return f"{on_delete}, it would fail"


def _key(values: tuple[str, ...]) -> str:
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def _shorten(value: str) -> str:
    return value if len(value) <= _WIDTH else value[: _WIDTH - 1] + "…"


def plan_markdown(plan: DedupePlan, examples: Sequence[Cluster]) -> str:
    """The plan for a merge request or a ticket."""
    lines = [
        f"### Dedupe plan for `{plan.table}`",
        "",
        f"- plan `{plan.id}`, database `{plan.database}`, made {plan.created_at}",
        f"- duplicates agree on {'; '.join(plan.match)}",
        f"- survivor: {', then '.join(plan.survivor)}",
        f"- **{plan.clusters:,}** clusters, **{plan.duplicates:,}** duplicates to delete, "
        f"**{plan.references:,}** references to repoint",
        "",
        "| foreign key | rows to repoint | ON DELETE | indexed |",
        "|---|---:|---|---|",
    ]
    lines += [
        f"| `{repoint.label}` | {repoint.rows:,} | {repoint.on_delete} | "
        f"{'yes' if repoint.indexed else '**no**'} |"
        for repoint in plan.repoints
    ]
    for cluster in examples:
        keys = ", ".join(_key(member.key) for member in cluster.duplicates)
        lines.append(f"\nFor example {_key(cluster.survivor.key)} survives {keys}.")
    for title, items in (
        ("In the way", [f"{o.subject}: {o.reason}" for o in plan.obstacles]),
        ("Beside the plan", list(plan.caveats)),
    ):
        if items:
            lines += ["", f"**{title}**", "", *(f"- {item}" for item in items)]
    return "\n".join(lines)


def applied_text(progress: Progress, table: str) -> str:
    """What an apply did."""
    lines = [
        f"Run {progress.run_id}: {count(progress.deleted, 'duplicate')} of {table} deleted, "
        f"{count(progress.repointed, 'reference')} repointed, none left dangling."
    ]
    if progress.stale:
        numbers = ", ".join(str(number) for number in progress.stale[:10])
        more = f" and {len(progress.stale) - 10} more" if len(progress.stale) > 10 else ""
        lines.append(
            f"Left alone because a row changed after the plan: "
            f"{count(len(progress.stale), 'cluster')} ({numbers}{more})."
        )
    lines.append(f"Take it back with: fkdoctor undo {progress.run_id}")
    return "\n".join(lines)


def undone_text(progress: UndoProgress) -> str:
    """What an undo did."""
    lines = [
        f"Run {progress.run_id} undone: {count(progress.restored, 'row')} restored, "
        f"{count(progress.repointed, 'reference')} pointed back."
    ]
    if progress.kept:
        lines.append(
            f"Left merged because a row changed after the run: "
            f"{count(len(progress.kept), 'cluster')}."
        )
    return "\n".join(lines)


def runs_text(runs: Iterable[dict[str, Any]]) -> str:
    """The history, a line per run."""
    lines = [
        f"{run['id']:>5}  {run['started_at']:%Y-%m-%d %H:%M}  {run['status']:<8}  "
        f"{run['table_schema']}.{run['table_name']}  {count(run['deleted'], 'row')} deleted, "
        f"{count(run['repointed'], 'reference')} repointed, by {run['started_by']}"
        for run in runs
    ]
    return "\n".join(lines) or "Nothing was applied in this database yet."
