"""Several workers on one plan: who takes which batch, and how all of them stop.

Each batch is claimed within its transaction, by an advisory lock that goes with it: so whoever dies
leaves a batch that is free again, also where connections are pooled by transaction. A batch that
another process has claimed is looked at again in the end. Should two with batches of other sizes
work on the same clusters, the second one finds them merged under the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from threading import Event, Lock

from sqlalchemy import Connection

from fkdoctor.database import connect
from fkdoctor.dedupe.plan import Cluster
from fkdoctor.dedupe.planfile import read_clusters


class Batches:
    """The batches of a plan's file, for several threads."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._lock = Lock()
        self._later: set[int] = set()
        self._source = ((number, batch, False) for number, batch in self._read())

    def _read(self) -> Iterator[tuple[int, list[Cluster]]]:
        clusters = read_clusters(self._path)
        for number in count():
            batch = list(islice(clusters, self._size))
            if not batch:
                return
            yield number, batch

    def take(self) -> tuple[int, list[Cluster], bool] | None:
        """A batch with its number, and whether it is one that was postponed; None at the end."""
        with self._lock:
            while True:
                for taken in self._source:
                    return taken
                if not self._later:
                    return None
                again, self._later = self._later, set()
                self._source = (
                    (number, batch, True) for number, batch in self._read() if number in again
                )

    def postpone(self, number: int) -> None:
        """Puts a batch off until all others have been taken."""
        with self._lock:
            self._later.add(number)


class Crew:
    """Workers that stop together: each with a connection of its own, the first in this thread."""

    def __init__(self) -> None:
        self._stop = Event()
        self._others: list[Connection] = []
        self._lock = Lock()

    @property
    def stopping(self) -> bool:
        """Whether it is time to stop, because another worker failed or somebody said so."""
        return self._stop.is_set()

    def sleep(self, seconds: float) -> bool:
        """Whether it became time to stop meanwhile."""
        return self._stop.wait(seconds)

    def work(
        self, connection: Connection, workers: int, work: Callable[[Connection], None]
    ) -> None:
        """Runs `work` in so many workers until all are done, or one failed: what that raised."""
        with ThreadPoolExecutor(max(workers - 1, 1)) as pool:
            others = [pool.submit(self._join, connection, work) for _ in range(workers - 1)]
            try:
                work(connection)
                for other in others:
                    other.result()
            except BaseException as error:
                self._stop.set()
                if not isinstance(error, Exception):
                    self._cancel()
                raise

    def _join(self, connection: Connection, work: Callable[[Connection], None]) -> None:
        try:
            with connect(connection.engine) as own:
                with self._lock:
                    self._others.append(own)
                try:
                    work(own)
                finally:
                    with self._lock:
                        self._others.remove(own)
        except BaseException:
            self._stop.set()
            raise

    def _cancel(self) -> None:
        """Stops what the other workers wait for; their batches are rolled back."""
        with self._lock:
            for other in self._others:
                raw = other.connection.dbapi_connection
                with suppress(Exception):
                    raw.cancel()  # type: ignore[union-attr]
