"""Rows that would collide and stay, with a value by which they do not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fkdoctor.errors import Blocked, ConfigError

Database = Any  # the fixture's class lives in conftest.py

ADDRESS = """
    create table person (id int primary key, same text);
    insert into person values (1, 'a'), (2, 'a'), (3, 'a'), (4, 'b'), (5, 'b'), (6, 'c');
    create table address (id int primary key, person int references person on delete cascade,
        is_primary bool, kind text, street text);
    create unique index one on address (person) where is_primary;
    insert into address values (1, 1, true, 'x', 'p'), (2, 2, true, 'y', 'q'),
        (3, 3, true, 'z', 'r'), (4, 2, false, 'x', 's'), (5, 4, false, 'x', 't'),
        (6, 5, true, 'x', 'u'), (7, 6, true, 'x', 'v'), (8, 4, true, 'y', 'w');
"""
DEMOTE = (("collisions", "address=demote(is_primary = false)"),)


def plan(db: Database, policy: str = "demote(is_primary = false)") -> Any:
    return db.plan("person", rules=(("collisions", f"address={policy}"),))


def addresses(db: Database) -> list[tuple[Any, ...]]:
    return db.execute("select id, person, is_primary from address order by id")


def test_a_demoted_row_stays_and_no_row_goes(db: Database) -> None:
    db.execute(ADDRESS)
    before = db.contents()
    path = plan(db)
    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(r["policy"], r["rows"]) for r in head["resolutions"]] == [
        ("demote(is_primary = false)", 3)
    ]
    listed = [(c["row"][0], c["kept"][0]) for line in lines for c in line["collisions"]]
    assert listed == [("2", "1"), ("3", "1"), ("6", "8")]
    done = db.apply(path, batch_size=1)
    assert (done.deleted, done.stale) == (3, ())
    assert addresses(db) == [
        (1, 1, True),
        (2, 1, False),
        (3, 1, False),
        (4, 1, False),
        (5, 4, False),
        (6, 4, False),
        (7, 6, True),
        (8, 4, True),
    ]
    back = db.undo(done.run_id)
    assert (back.restored, back.kept) == (3, ())
    assert db.contents() == before


def test_the_dump_is_as_it_was(db: Database, pg_dump: Any) -> None:
    db.execute(ADDRESS)
    before = db.dump(pg_dump)
    done = db.apply(plan(db))
    assert db.dump(pg_dump) != before
    db.undo(done.run_id)
    assert db.dump(pg_dump) == before


def test_a_row_that_does_not_move_is_demoted_where_the_other_stays(db: Database) -> None:
    """Nobody says which stays: the lowest key does of those that move; one that is there already
    comes first."""
    db.execute(ADDRESS + "delete from address where id not in (2, 3)")
    done = db.apply(plan(db))
    assert addresses(db) == [(2, 1, True), (3, 1, False)]
    db.undo(done.run_id)


def test_texts_and_null_are_values_too(db: Database) -> None:
    db.execute(
        ADDRESS
        + """drop index one;
        create unique index two on address (person, kind) where kind <> 'it''s';"""
    )
    before = db.contents()
    for policy, value in (("demote(kind = 'it''s')", "it's"), ('demote("kind" = null)', None)):
        done = db.apply(plan(db, policy))
        assert db.execute("select kind from address where id in (4, 6) order by id") == [
            (value,),
            (value,),
        ]
        db.undo(done.run_id)
        assert db.contents() == before


def test_a_demoted_row_that_collides_still_is_refused_by_name(db: Database) -> None:
    db.execute(
        ADDRESS
        + """create unique index on address (person, is_primary, kind);
        update address set kind = 'x' where id = 2;"""
    )
    before = db.contents()
    with pytest.raises(AssertionError, match=r"row \(2\) collides still with is_primary = false"):
        plan(db)
    assert db.contents() == before


def test_another_constraint_is_not_helped(db: Database) -> None:
    db.execute(ADDRESS + "create unique index on address (person, kind) where street <> 's';")
    db.execute("update address set kind = 'x' where id = 2")
    with pytest.raises(AssertionError, match=r"row \(2\) collides still"):
        plan(db)


def test_a_row_that_was_changed_since_leaves_its_cluster_alone(db: Database) -> None:
    db.execute(ADDRESS)
    path = plan(db)
    db.execute("update address set street = 'new' where id = 3")
    before = addresses(db)
    done = db.apply(path)
    assert done.stale == (1,)
    assert [row for row in addresses(db) if row[0] in (1, 2, 3, 4)] == before[:4]
    assert addresses(db)[5] == (6, 4, False)


def test_a_trigger_that_keeps_the_value_stops_the_run(db: Database) -> None:
    db.execute(
        ADDRESS
        + """create function keep() returns trigger language plpgsql as $$ begin
            new.street := 'kept'; new.is_primary := old.is_primary; return new;
        end $$;
        create trigger t before update of is_primary on address for each row
            execute function keep();"""
    )
    before = db.contents()
    path = plan(db)
    with pytest.raises(Blocked):
        db.apply(path)
    assert db.contents() == before


def test_rows_whose_identity_moves_are_demoted_and_return(db: Database) -> None:
    db.execute("""
        create table person (id int primary key, same text);
        insert into person values (1, 'a'), (2, 'a'), (3, 'a');
        create table role (person int references person, name text, rank int,
            primary key (person, name));
        create unique index on role (person) where rank = 0;
        insert into role values (1, 'p', 0), (2, 'q', 0), (3, 'r', 0), (2, 's', 1);
    """)
    before = db.contents()
    done = db.apply(db.plan("person", rules=(("collisions", "role=demote(rank = 9)"),)))
    assert db.execute("select * from role order by 2") == [
        (1, "p", 0),
        (1, "q", 9),
        (1, "r", 9),
        (1, "s", 1),
    ]
    assert db.undo(done.run_id).kept == ()
    assert db.contents() == before


@pytest.mark.parametrize(
    ("policy", "complaint"),
    [
        ("demote(is_primary)", "cannot be read"),
        ("demote(is_primary = random())", "cannot be read"),
        ("demote(is_primary = false) or true", "cannot be read"),
        ("demote(nothing = 1)", "has no column nothing"),
        ("demote(id = null)", "can have no rule"),
    ],
)
def test_what_cannot_be_demoted_is_refused(db: Database, policy: str, complaint: str) -> None:
    db.execute(ADDRESS)
    with pytest.raises(ConfigError) as refused:
        plan(db, policy)
    assert complaint in str(refused.value)


def test_a_value_that_is_none_of_the_column_is_a_mistake_in_the_question(db: Database) -> None:
    db.execute(ADDRESS)
    with pytest.raises(ConfigError):
        plan(db, "demote(is_primary = seven)")
