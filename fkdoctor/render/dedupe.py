"""Dedupe plans, runs and their outcome as text and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fkdoctor.dedupe.plan import Cluster, DedupePlan, Obstacle, Resolution
from fkdoctor.dedupe.progress import Progress
from fkdoctor.dedupe.undo import UndoProgress
from fkdoctor.render.markdown import cell, code, escape, one_line
from fkdoctor.render.text import count_of

_WIDTH = 60
_SHOWN = 10


def plan_text(plan: DedupePlan, examples: Sequence[Cluster]) -> str:
    """The plan for a person: what makes duplicates, what moves, what goes, what is in the way."""
    lines = [
        f"Plan {plan.id} for {plan.table} in database {plan.database}",
        f"  duplicates agree on  {'; '.join(plan.match)}",
        f"  the survivor is      {', then '.join(plan.survivor)}",
        "",
        _summarise(plan),
        _estimate(plan),
    ]
    if plan.oversized:
        lines.append(_describe_oversized(plan))
    if plan.skipped:
        lines += [_describe_skipped(plan), *(f"  {_reason(one)}" for one in plan.left_out)]
    if examples:
        lines += ["", "For example:"]
        lines += [f"  {_describe_cluster(cluster)}" for cluster in examples]
    lines += ["", "References to repoint first:"]
    width = max((len(repoint.label) for repoint in plan.repoints), default=0)
    for repoint in plan.repoints:
        lines.append(
            f"  {repoint.label:<{width}}  {count_of(repoint.rows, 'row'):>12}  "
            f"(a plain DELETE: {_plain_delete(repoint.on_delete, repoint.rows)})"
        )
        if not repoint.indexed:
            lines.append("    no index serves this key: every batch reads the whole table")
    if not plan.repoints:
        lines.append("  none: no foreign key references this table")
    if plan.resolutions:
        lines += ["", "Rows that collide once repointed:"]
        lines += [f"  {_describe_resolution(resolution)}" for resolution in plan.resolutions]
    if plan.fields:
        lines += ["", f"{count_of(plan.refilled, 'survivor')} would take over values:"]
        lines += [f"  {field}" for field in plan.fields]
    if plan.caveats:
        lines += ["", "Beside the plan:", *(f"  {caveat}" for caveat in plan.caveats)]
    if plan.obstacles:
        lines += ["", "In the way; the plan cannot be applied:"]
        lines += [f"  {obstacle.subject}: {obstacle.reason}" for obstacle in plan.obstacles]
    return "\n".join(_visible(line) for line in lines)


def _estimate(plan: DedupePlan) -> str:
    wal = max(plan.wal_bytes / 1_000_000, 1)
    return (
        f"{count_of(plan.changed, 'row')} would change: by rule of thumb {wal:,.0f} MB of WAL and "
        f"{max(plan.seconds, 1):,.0f} s with one worker."
    )


def _summarise(plan: DedupePlan) -> str:
    return (
        f"{count_of(plan.clusters, 'cluster')}: {count_of(plan.survivors, 'survivor')} would stay, "
        f"{count_of(plan.duplicates, 'duplicate')} would be deleted."
    )


_FATES = {
    "identical": "would be deleted: they differ in nothing but their keys",
    "delete": "would be deleted: both ends become one survivor",
    "refuse": "would be lost, and nobody said which may be: see below",
    "merge_fields": "would be deleted: the one that stays takes over what it lacks",
    "keep_survivors": "would be deleted: the one that references the survivor already stays",
}


def _describe_resolution(resolution: Resolution) -> str:
    fate = _FATES.get(resolution.policy, f"would be deleted: {resolution.policy} stays")
    if not resolution.goes:
        change = resolution.policy.removeprefix("demote(").removesuffix(")")
        fate = f"would stay with {change}: others have that place"
    return f"{resolution.table}, {resolution.constraint}: {count_of(resolution.rows, 'row')} {fate}"


def _describe_oversized(plan: DedupePlan) -> str:
    return (
        f"Left alone: {count_of(plan.oversized, 'value')} shared by too many rows to tell "
        f"duplicates ({count_of(plan.oversized_rows, 'row')}); see --max-cluster."
    )


def _describe_skipped(plan: DedupePlan) -> str:
    return f"Left out, because rows would collide and differ: {count_of(plan.skipped, 'cluster')}."


def _reason(obstacle: Obstacle) -> str:
    return f"{obstacle.subject}: {obstacle.reason}"


def _describe_cluster(cluster: Cluster) -> str:
    first, *others = cluster.merges
    keys = ", ".join(_key(member.key) for member in first.duplicates[:5])
    more = len(first.duplicates) - 5
    tied = f"; with {count_of(len(others), 'other merge')}" if others else ""
    if cluster.collisions:
        tied += f"; {count_of(len(cluster.collisions), 'row')} that collide"
    matched = " · ".join(_shorten(value) for value in first.matched)
    return (
        f"{_key(first.survivor.key)} survives {keys}"
        + (f" and {more} more" if more > 0 else "")
        + f"  ({matched}){tied}"
    )


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


def _key(values: Sequence[str]) -> str:
    shown = [_shorten(value) for value in values]
    return shown[0] if len(shown) == 1 else f"({', '.join(shown)})"


def _shorten(value: str) -> str:
    return value if len(value) <= _WIDTH else value[: _WIDTH - 1] + "…"


def _visible(line: str) -> str:
    """The line without line feeds and what a terminal would obey: values are anybody's."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)


def plan_markdown(plan: DedupePlan, examples: Sequence[Cluster]) -> str:
    """The plan for a merge request or a ticket."""
    lines = [
        f"### Dedupe plan for {code(str(plan.table))}",
        "",
        f"- plan `{plan.id}`, database {code(plan.database)}, made {plan.created_at}",
        f"- duplicates agree on {escape('; '.join(plan.match))}",
        f"- survivor: {escape(', then '.join(plan.survivor))}",
        f"- **{plan.clusters:,}** clusters, **{plan.duplicates:,}** duplicates to delete, "
        f"**{plan.moving:,}** references to repoint",
        f"- {_estimate(plan)}",
    ]
    if plan.oversized:
        lines.append(f"- {_describe_oversized(plan)}")
    if plan.skipped:
        lines.append(f"- {escape(_describe_skipped(plan))}")
    if plan.repoints:
        lines += [
            "",
            "| foreign key | rows to repoint | ON DELETE | indexed |",
            "|---|---:|---|---|",
        ]
    lines += [
        f"| {cell(code(repoint.label))} | {repoint.rows:,} | {repoint.on_delete} | "
        f"{'yes' if repoint.indexed else '**no**'} |"
        for repoint in plan.repoints
    ]
    items = {
        "For example": [_describe_cluster(cluster) for cluster in examples],
        "In the way; the plan cannot be applied": [
            f"{obstacle.subject}: {obstacle.reason}" for obstacle in plan.obstacles
        ],
        "Rows that collide once repointed": [
            _describe_resolution(resolution) for resolution in plan.resolutions
        ],
        f"{count_of(plan.refilled, 'survivor')} would take over values": [
            str(field) for field in plan.fields
        ],
        "Left out": [_reason(one) for one in plan.left_out],
        "Beside the plan": list(plan.caveats),
    }
    for title, entries in items.items():
        if entries:
            lines += ["", f"**{title}**", "", *(f"- {escape(one_line(e))}" for e in entries)]
    return "\n".join(_visible(line) for line in lines)


def applied_text(progress: Progress, table: str) -> str:
    """What an apply did."""
    return "\n".join(_visible(line) for line in _applied(progress, table))


def applied_markdown(progress: Progress, table: str) -> str:
    """What an apply did, for a merge request or a ticket."""
    lines = [f"- {escape(_visible(line))}" for line in _applied(progress, table)]
    return "\n".join([f"### Dedupe run {progress.run_id}", "", *lines])


def _applied(progress: Progress, table: str) -> Iterator[str]:
    yield (
        f"Run {progress.run_id}: {count_of(progress.deleted, 'duplicate')} of {table} deleted, "
        f"{count_of(progress.repointed, 'reference')} repointed, none left dangling."
    )
    if progress.stale:
        yield (
            "Left alone because a row changed after the plan: "
            f"{count_of(len(progress.stale), 'cluster')} ({_list_numbers(progress.stale)})."
        )
    yield f"Take it back with: fkdoctor undo {progress.run_id}"


def _list_numbers(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return ", ".join(str(number) for number in numbers[:_SHOWN]) + more


def undone_text(progress: UndoProgress) -> str:
    """What an undo did."""
    lines = [
        f"Run {progress.run_id} undone: {count_of(progress.restored, 'row')} restored, "
        f"{count_of(progress.repointed, 'reference')} pointed back."
    ]
    if progress.kept:
        lines.append(
            "Left merged because a row changed after the run: "
            f"{count_of(len(progress.kept), 'cluster')} ({_list_numbers(progress.kept)})."
        )
        lines += [f"  {conflict}" for conflict in progress.conflicts]
    return "\n".join(_visible(line) for line in lines)


def runs_text(runs: Iterable[Mapping[str, Any]]) -> str:
    """The history, a line per run."""
    lines = [
        f"{run['id']:>5}  {run['started_at']:%Y-%m-%d %H:%M}  {run['status']:<8}  "
        f"{run['table_schema']}.{run['table_name']}  {count_of(run['deleted'], 'row')} deleted, "
        f"{count_of(run['repointed'], 'reference')} repointed, by {run['started_by']}"
        for run in runs
    ]
    return "\n".join(_visible(line) for line in lines) or (
        "Nothing was applied in this database yet."
    )


def runs_markdown(runs: Iterable[Mapping[str, Any]]) -> str:
    """The history as a table."""
    lines = ["| run | started | status | table | deleted | repointed | by |"]
    lines.append("|---:|---|---|---|---:|---:|---|")
    lines += [
        f"| {run['id']} | {run['started_at']:%Y-%m-%d %H:%M} | {run['status']} | "
        f"{cell(code(run['table_schema'] + '.' + run['table_name']))} | {run['deleted']:,} | "
        f"{run['repointed']:,} | {cell(escape(run['started_by']))} |"
        for run in runs
    ]
    return "\n".join(_visible(line) for line in lines)


def run_text(run: Mapping[str, Any], steps: Iterable[Mapping[str, Any]]) -> str:
    """One run: what was to be done, how far that is, and what was done to which table."""
    plan = run["plan"]
    lines = [
        f"Run {run['id']}: {run['table_schema']}.{run['table_name']}, {run['status']}",
        f"  plan                 {run['plan_id']}, made {plan['created_at']}",
        f"  duplicates agree on  {'; '.join(plan['match'])}",
        f"  the survivor is      {', then '.join(plan['survivor'])}",
        f"  started              {run['started_at']:%Y-%m-%d %H:%M} by {run['started_by']}",
    ]
    for word, time in (("finished", run["finished_at"]), ("undone", run["undone_at"])):
        if time:
            lines.append(f"  {word:<21}{time:%Y-%m-%d %H:%M}")
    lines.append(
        f"  merged               {run['clusters']:,} of {plan['clusters']:,} clusters, "
        f"{count_of(run['deleted'], 'row')} deleted, "
        f"{count_of(run['repointed'], 'reference')} repointed"
    )
    lines += ["", "In this order, each batch of clusters:"]
    for step in steps:
        table = f"{step['table_schema']}.{step['table_name']}"
        what = (
            f"{table}: delete"
            if step["action"] == "delete"
            else f"{table}: repoint {step['constraint_name']}"
        )
        lines.append(f"  {step['step']:>3}  {count_of(step['rows'], 'row'):>12}  {what}")
    return "\n".join(_visible(line) for line in lines)
