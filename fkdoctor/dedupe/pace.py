"""How fast a run may go: pauses between batches for replicas, and for the WAL that it writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from fkdoctor.dedupe.batch import run_on_ledger
from fkdoctor.errors import Blocked
from fkdoctor.resources import execute_query

_LOOK_AGAIN = 0.5  # seconds


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a run keeps to between its batches; None is no limit.

    `max_lag` is how many seconds the slowest replica may be behind, `max_wal_rate` how many
    megabytes of WAL the server may write in a second, for whomever.
    """

    max_lag: float | None = None
    max_wal_rate: float | None = None


NO_LIMITS = Limits()


class Pace:
    """What one worker knows about the limits. `sleep` takes seconds, and is true when it is time
    to stop; `tell` is told what is waited for."""

    def __init__(
        self, limits: Limits, sleep: Callable[[float], bool], tell: Callable[[str], None]
    ) -> None:
        self._limits, self._sleep, self._tell = limits, sleep, tell
        self._since: tuple[float, int] | None = None

    def begin(self, connection: Connection) -> None:
        """Before the first batch. Raises Blocked where the replicas may not be looked at, or one is
        not there; if it leaves later, it is waited for."""
        if self._limits.max_wal_rate is not None:
            self._since = time.monotonic(), _wal_written(connection)
        if self._limits.max_lag is not None:
            _, away = _replica_lag(connection)
            if away:
                raise Blocked(
                    "Refused: how far the replicas are behind cannot be known.",
                    why=f"Nothing is connected to the replication slot {', '.join(away)}.",
                    next="Start that replica, drop its slot with pg_drop_replication_slot, or "
                    "leave --max-lag out.",
                )
            self._wait_for_replicas(connection, self._limits.max_lag)

    def pause(self, connection: Connection) -> None:
        """After a batch: until the next one may begin."""
        if self._since and self._limits.max_wal_rate:
            began, before = self._since
            written = _wal_written(connection)
            allowed = (written - before) / (self._limits.max_wal_rate * 1_000_000)
            left = began + allowed - time.monotonic()
            if left > 0:
                self._tell(f"{left:.1f} s, for WAL")
                self._sleep(left)
            self._since = time.monotonic(), written
        if self._limits.max_lag is not None:
            self._wait_for_replicas(connection, self._limits.max_lag)

    def _wait_for_replicas(self, connection: Connection, most: float) -> None:
        while True:
            lag, away = _replica_lag(connection)
            if away:
                self._tell(f"for the replica of slot {away[0]}, which is not connected")
            elif lag > most:
                self._tell(f"for a replica that is {lag:.0f} s behind")
            else:
                return
            if self._sleep(_LOOK_AGAIN):
                return


def _wal_written(connection: Connection) -> int:
    read = run_on_ledger(connection, lambda: execute_query(connection, "ledger/wal_written").one())
    return int(read.bytes)


def _replica_lag(connection: Connection) -> tuple[float, tuple[str, ...]]:
    """Seconds, and the slots of replicas that are not connected. Raises Blocked where some of the
    replicas cannot be seen."""
    read = run_on_ledger(connection, lambda: execute_query(connection, "ledger/replica_lag").one())
    if read.hidden:
        raise Blocked(
            "Refused: how far the replicas are behind cannot be seen.",
            why="The role may not read pg_stat_replication; --max-lag goes by it.",
            next="Have pg_monitor granted to it, or leave --max-lag out.",
        )
    return float(read.seconds), tuple(read.away or ())
