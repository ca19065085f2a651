"""A server and databases to measure in, thrown away afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

import psycopg2
from psycopg2.extensions import make_dsn

from fkdoctor.embedded import start_server


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The address of the server that was given, or of one that is started and thrown away."""
    if url:
        yield url
    else:
        with start_server() as started:
            yield started.url()


@contextmanager
def database(url: str, template: str = "template0") -> Iterator[str]:
    """The address of a new database there, a copy of the template, which is dropped again."""
    name = f"fkd_benchmark_{uuid4().hex}"
    execute(url, f"create database {name} template {template}", alone=True)
    execute(url, "checkpoint", alone=True)
    try:
        yield make_dsn(url, dbname=name)
    finally:
        execute(url, f"drop database {name}", alone=True)


def execute(url: str, statements: str, *, alone: bool = False) -> list[tuple[object, ...]]:
    """The last statement's rows, committed; `alone` is for what cannot be in a transaction."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = alone
        cursor.execute(statements)
        if not alone:
            connection.commit()
        return cursor.fetchall() if cursor.description else []
