"""How far an apply is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from threading import Lock


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is, in clusters; and what it did to rows so far, earlier calls included.

    `waiting` is what for, between two batches.
    """

    run_id: int
    done: int
    total: int
    deleted: int
    repointed: int
    stale: tuple[int, ...] = ()
    waiting: str = ""


Report = Callable[[Progress], None]


class Tally:
    """What all workers of a run have done."""

    def __init__(self, run_id: int, clusters: int, report: Report) -> None:
        self.progress = Progress(run_id=run_id, done=0, total=clusters, deleted=0, repointed=0)
        self._report, self._lock = report, Lock()

    def add(self, clusters: int, deleted: int, repointed: int, stale: Iterable[int]) -> None:
        """Counts a batch, after which the run's rows are so many."""
        with self._lock:
            before = self.progress
            self.progress = replace(
                before,
                done=before.done + clusters,
                deleted=max(before.deleted, deleted),
                repointed=max(before.repointed, repointed),
                stale=tuple(sorted((*before.stale, *stale))),
            )
            self._report(self.progress)

    def wait(self, what: str) -> None:
        """Tells what a worker waits for."""
        with self._lock:
            self._report(replace(self.progress, waiting=what))
