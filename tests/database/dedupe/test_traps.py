"""Traps of merging that no other file here is about."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Engine

Database = Any  # the fixture's class lives in conftest.py

LETTER = """
    create table letter (id int primary key, same text);
    create table visit (id int primary key, letter int references letter, unique (letter, id));
    insert into letter values (1, 'a'), (2, 'a'), (3, 'b'), (4, 'b');
    insert into visit values (1, 2), (2, 4);
"""


def test_there_is_no_savepoint_for_each_row(db: Database) -> None:
    """A few of a batch do no harm; their number does not depend on the rows."""
    db.execute(LETTER)
    numbers = []
    for more in ("", "insert into letter select n, 'c' from generate_series(5, 99) as n;"):
        db.execute(more + "insert into visit select 1000 + id, id from letter where id > 4;")
        said: list[str] = []

        def watch(engine: Engine, said: list[str] = said) -> None:
            sa.event.listen(engine, "savepoint", lambda connection, name: said.append(name))

        done = db.apply(db.plan(), watch=watch)
        assert done.deleted == (96 if more else 2)
        db.undo(done.run_id, watch=watch)
        numbers.append(len(said))
    assert numbers[0] == numbers[1]


def test_materialized_views_are_named(db: Database) -> None:
    db.execute(
        LETTER
        + """create view seen as select letter, count(*) from visit group by 1;
        create materialized view "Most seen" as select * from seen;
        create materialized view letters as select count(*) from letter;
        create table other (id int primary key);
        create materialized view others as select * from other;"""
    )
    head = json.loads(db.plan().read_text().splitlines()[0])
    assert [caveat for caveat in head["caveats"] if "materialized" in caveat] == [
        "materialized view public.letters reads public.letter: refresh it afterwards",
        'materialized view public."Most seen" reads public.visit: refresh it afterwards',
    ]
