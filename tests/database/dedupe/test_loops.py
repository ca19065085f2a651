"""Tables that reference themselves: a survivor above or below its own duplicates, and circles."""

from __future__ import annotations

from typing import Any

import pytest

from fkdoctor.errors import Blocked, Refused

Database = Any  # the fixture's class lives in conftest.py

TREE = """
    create table letter (id int primary key, same text,
        above int constraint k references letter on delete cascade);
    insert into letter (id, same) values (1, 'a'), (2, 'a'), (3, 'a'), (4, 'b'), (5, 'b'), (6, 'c'),
        (7, 'd');
"""
INHERIT = (("above", "letter=inherit"),)


def link(**above: int) -> str:
    return "".join(f"update letter set above = {to} where id = {n[1:]};" for n, to in above.items())


# What is above which row, and what is above the survivors 1 and 4 then, and rows 6 and 7.
CASES: dict[str, tuple[dict[str, int], str]] = {
    "the duplicate's row above": ({"_1": 2, "_2": 6}, "1:6"),
    "through several duplicates": ({"_1": 3, "_3": 2, "_2": 7}, "1:7"),
    "a duplicate of another survivor": ({"_1": 2, "_2": 5}, "1:4"),
    "a duplicate with nothing above": ({"_1": 2, "_6": 3}, "1: 6:1"),
    "duplicates in a circle": ({"_1": 2, "_2": 3, "_3": 2}, "1:"),
    "a duplicate below the survivor": ({"_1": 2, "_2": 1}, "1:"),
    "a duplicate that is above itself": ({"_1": 2, "_2": 2}, "1:"),
    "only the survivor's own way counts": ({"_1": 2, "_3": 6}, "1:"),
    "a survivor with another row above": ({"_1": 6, "_2": 7}, "1:6"),
    "two clusters at once": ({"_1": 2, "_2": 5, "_4": 5, "_5": 7}, "1:4 4:7"),
    "a chain below": ({"_1": 3, "_3": 6, "_6": 7, "_4": 2}, "1:6 4:1 6:7"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_survivor_inherits_what_is_above_its_duplicate(db: Database, name: str) -> None:
    above, expected = CASES[name]
    db.execute(TREE + link(**above))
    before = db.contents()
    done = db.apply(db.plan(rules=INHERIT), batch_size=1)
    found = dict(db.execute("select id::text, above::text from letter"))
    told = {id_: to or None for id_, _, to in (one.partition(":") for one in expected.split())}
    assert sorted(found) == ["1", "4", "6", "7"]
    assert found == dict.fromkeys(found) | told
    assert db.undo(done.run_id).kept == ()
    assert db.contents() == before


def test_keys_of_several_columns_are_inherited(db: Database) -> None:
    db.execute("""
        create table letter (tenant int, id int, same text, above int, primary key (tenant, id),
            foreign key (tenant, above) references letter);
        insert into letter values (1, 1, 'a', null), (1, 2, 'a', null), (1, 3, 'x', null),
            (2, 1, 'b', null), (2, 2, 'b', null);
        update letter set above = 2 where (tenant, id) in ((1, 1), (2, 1));
        update letter set above = 3 where (tenant, id) = (1, 2);
    """)
    before = db.contents()
    done = db.apply(db.plan(match=("tenant", "same"), rules=INHERIT))
    assert db.execute("select tenant, id, above from letter order by 1, 2") == [
        (1, 1, 3),
        (1, 3, None),
        (2, 1, None),
    ]
    db.undo(done.run_id)
    assert db.contents() == before


def test_what_is_inherited_counts_for_collisions(db: Database) -> None:
    """A row that has the survivor's place below the inherited row is one too many."""
    db.execute(
        TREE
        + link(_1=2, _2=6, _7=6, _5=7)
        + """alter table letter add note text; create unique index u on letter (above, note);
        update letter set note = 'x' where id in (1, 7);"""
    )
    with pytest.raises(AssertionError, match=r"collide once repointed: .7. and .1. differ in same"):
        db.plan(rules=INHERIT)
    with pytest.raises(AssertionError, match="would stay and move to where another still is"):
        db.plan(rules=(*INHERIT, ("collisions", "letter=keep_survivors")))


@pytest.mark.parametrize(
    ("above", "path"),
    [
        ({"_1": 6, "_6": 7, "_7": 2}, "(1) → (6) → (7) → (1)"),
        ({"_1": 5, "_4": 3}, "(1) → (4) → (1)"),
        ({"_1": 3, "_3": 6, "_6": 2}, "(1) → (6) → (1)"),
    ],
)
def test_a_new_circle_is_refused_with_its_path(
    db: Database, above: dict[str, int], path: str
) -> None:
    db.execute(TREE + link(**above))
    before = db.contents()
    with pytest.raises(AssertionError, match="above themselves") as refused:
        db.plan(rules=INHERIT)
    assert f"above themselves: {path}'" in str(refused.value)
    assert db.contents() == before


def test_null_and_refuse_still_are_what_they_were(db: Database) -> None:
    db.execute(TREE + link(_1=2, _2=6))
    with pytest.raises(AssertionError, match="rows of a cluster reference duplicates themselves"):
        db.plan()
    done = db.apply(db.plan(rules=(("above", "letter=null"),)))
    assert db.execute("select above from letter where id = 1") == [(None,)]
    db.undo(done.run_id)


def test_a_reference_that_cannot_be_null_is_inherited_or_refused(db: Database) -> None:
    db.execute(
        TREE
        + link(_1=2, _2=6, _3=3, _4=4, _5=5, _6=6, _7=7)
        + "alter table letter alter above set not null"
    )
    db.plan(rules=INHERIT)
    db.execute("update letter set above = 2 where id = 2")
    with pytest.raises(AssertionError, match=r"reference duplicates themselves: .1."):
        db.plan(rules=INHERIT)


def test_a_circle_that_came_since_the_plan_stops_the_batch(db: Database) -> None:
    db.execute(TREE + link(_1=6))
    path = db.plan(rules=INHERIT)
    db.execute(link(_6=2))
    before = db.contents()
    with pytest.raises(Refused, match="above themselves"):
        db.apply(path)
    assert db.contents() == before


def test_a_trigger_that_keeps_the_survivor_below_nothing_stops_the_run(db: Database) -> None:
    db.execute(
        TREE
        + link(_1=2, _2=6)
        + """create function forget() returns trigger language plpgsql as $$ begin
            new.above := null; return new;
        end $$;
        create trigger t before update on letter for each row execute function forget();"""
    )
    path = db.plan(rules=INHERIT)
    with pytest.raises(Blocked, match="would not point at the survivor"):
        db.apply(path)
