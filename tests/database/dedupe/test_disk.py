"""What a disk that takes no more does to a run: PostgreSQL cannot make a table's file larger."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest
from sqlalchemy import Engine, event

from fkdoctor.errors import Blocked, Incomplete

Database = Any  # the fixture's class lives in conftest.py

MIB = 1 << 20
FULL = 20 * MIB
"""More than a segment of the write-ahead log, which must not fail; less than the table needs."""

# 16 MiB of visits, of which half are written anew.
TABLES = """
    create table letter (id int primary key, same int);
    insert into letter select n, n % 2000 from generate_series(1, 4000) as n;
    create table visit (id int primary key, letter_id int references letter, note text);
    insert into visit select n, 1 + n % 4000, repeat('x', 1900) from generate_series(1, 8000) as n;
    create index on visit (letter_id);
"""


def fill_disk(engine: Engine) -> None:
    """No file that a connection of the engine writes can become larger than FULL."""

    @event.listens_for(engine, "connect")
    def limit(connection: Any, _: object) -> None:
        program = f"prlimit --pid {connection.info.backend_pid} --fsize={FULL}:"
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"copy (select 1) to program '{program}'")
            connection.commit()
        except psycopg2.Error as error:
            pytest.skip(f"the server cannot limit its own processes: {error}")


def test_a_full_disk_stops_a_run_which_goes_on_when_there_is_room(db: Database) -> None:
    db.execute(TABLES)
    before = db.contents()
    path = db.plan()
    with pytest.raises(Incomplete, match="that failed was rolled back") as stopped:
        db.apply(path, batch_size=100, watch=fill_disk)
    assert "could not extend file" in stopped.value.why
    ((merged, left),) = db.execute(
        "select (select count(*) from fkdoctor.redirect), (select count(*) from letter)"
    )
    assert 0 < merged < 2000
    assert merged + left == 4000

    assert db.apply(path, batch_size=100).deleted == 2000
    assert db.execute("select count(*) from visit where letter_id > 2000") == [(0,)]

    try:  # It may find room that the rows left when they moved.
        db.undo(batch_size=100, watch=fill_disk)
    except (Blocked, Incomplete):
        db.undo(batch_size=100)
    assert db.contents() == before
