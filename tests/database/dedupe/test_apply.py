"""Applying a plan: every reference moves, and nothing is lost that undo would not bring back."""

from __future__ import annotations

from typing import Any

import pytest

Database = Any

SIMPLE = """
    create table letter (id int primary key, same text, note text);
    create table recommendation (id int primary key, letter_id int {null} {key}, note text);
    create index on recommendation (letter_id);
    insert into letter values (1, 'a', 'first'), (2, 'a', 'second'), (3, 'b', null), (4, 'a', '');
    insert into recommendation
        select n, 1 + n % 4, 'r' || n from generate_series(1, 12) as n;
"""


def test_one(db: Database) -> None:
    db.execute(SIMPLE.format(null="", key="references letter"))
    before = db.contents()
    done = db.merge()
    assert (done.deleted, done.repointed, done.stale) == (2, 6, ())
    print(db.contents())
    back = db.undo()
    print(back)
    assert db.contents() == before
