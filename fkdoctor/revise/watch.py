"""Something done beside a statement that waits: again and again until the statement has ended.

A synchronous driver blocks its thread, so the work is done in another one. An asynchronous one
(asyncpg, psycopg's) must be used on its event loop, so there it is a task of that loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.util.concurrency import await_only, greenlet_spawn

_AGAIN = 10.0
"""Seconds between two looks."""


@contextmanager
def beside(connection: Connection, look: Callable[[], bool], first: float) -> Iterator[None]:
    """While the statement inside runs, `look` is called: first after `first` seconds.

    It uses a connection of its own, of the same driver, and returns whether to look again.
    """
    if connection.dialect.is_async:
        with _beside_on_loop(look, first):
            yield
    else:
        with _beside_in_thread(look, first):
            yield


def sleep(connection: Connection, seconds: float) -> None:
    """Wait, without stopping the event loop that the connection's driver may be on."""
    if connection.dialect.is_async:
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


@contextmanager
def _beside_in_thread(look: Callable[[], bool], first: float) -> Iterator[None]:
    done = threading.Event()

    def watch() -> None:
        wait = first
        while not done.wait(wait) and look():
            wait = _AGAIN

    watcher = threading.Thread(target=watch, name="fkdoctor watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@contextmanager
def _beside_on_loop(look: Callable[[], bool], first: float) -> Iterator[None]:
    done = asyncio.Event()

    async def watch() -> None:
        wait = first
        while True:
            try:
                await asyncio.wait_for(done.wait(), wait)
                return
            except TimeoutError:
                if not await greenlet_spawn(look):
                    return
            wait = _AGAIN

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        yield
    finally:
        done.set()
        await_only(watcher)
