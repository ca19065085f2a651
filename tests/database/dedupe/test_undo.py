"""Undo: everything is as before, or the rows in the way are named and nothing is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fkdoctor.errors import Blocked, ConfigError, Incomplete, Refused, UndoConflict

Database = Any  # the fixture's class lives in conftest.py

# Three clusters, each of two letters with a company, a key of its own, and two recommendations.
THREE = """
    create table company (id int primary key);
    create table letter (id int primary key, same text, code text unique,
        company_id int references company);
    create table recommendation (id int primary key, letter_id int references letter
        on delete cascade, note text);
    insert into company values (1), (2), (3), (4), (5), (6);
    insert into letter select n, 'cluster ' || (n + 1) / 2, 'code ' || n, n
        from generate_series(1, 6) as n;
    insert into recommendation select n, (n + 1) / 2 from generate_series(1, 12) as n;
"""


def test_the_dump_is_as_it_was(db: Database, pg_dump: Path) -> None:
    db.execute(
        THREE
        + """
        create table answer (id int generated always as identity primary key, text text default 'a',
            one int references letter (id), code text references letter (code) on update cascade);
        insert into answer (one, code) values (2, 'code 4'), (4, 'code 1'), (null, 'code 6');
        create index on answer (code);
        """
    )
    before = db.dump(pg_dump)
    assert db.merge().repointed == 6 + 4
    assert db.dump(pg_dump) != before
    db.undo()
    assert db.dump(pg_dump) == before


def test_where_every_table_is_published_it_works_too(db: Database, superuser: None) -> None:
    # Both ends of the link are its primary key: entries follow it, so the journal is updated.
    db.execute(
        THREE
        + """
        create table link (one int references letter, other int references letter,
            primary key (one, other));
        insert into link values (2, 4);
        create publication everything for all tables;
        """
    )
    db.check_round_trip(6 + 2)


def test_undoing_twice_does_it_once(db: Database) -> None:
    db.execute(THREE)
    before = db.contents()
    db.merge()
    assert db.undo().restored == 3
    again = db.undo()
    assert (again.restored, again.repointed, again.total) == (0, 0, 0)
    assert db.contents() == before
    assert db.status() == "undone"


# What somebody does after the run, in cluster 2 (letters 3 and 4), and what undo says to it.
CONFLICTS = {
    "a reference was changed": (
        "update recommendation set letter_id = 1 where id = 7",
        "public.recommendation (7): it is gone, or its letter_id was changed",
    ),
    "a reference was set to NULL": (
        "update recommendation set letter_id = null where id = 8",
        "public.recommendation (8): it is gone, or its letter_id was changed",
    ),
    "a referencing row was deleted": (
        "delete from recommendation where id = 7",
        "public.recommendation (7): it is gone, or its letter_id was changed",
    ),
    "a referencing row has another key": (
        "update recommendation set id = 70 where id = 7",
        "public.recommendation (7): it is gone, or its letter_id was changed",
    ),
    "the primary key is taken": (
        "insert into letter values (4, 'new', 'new')",
        "public.letter (4): another row has its id now",
    ),
    "a unique value is taken": (
        "update letter set code = 'code 4' where id = 3",
        "public.letter (4): another row has its code now",
    ),
    "the row that a duplicate references is gone": (
        "delete from company where id = 4",
        "public.letter (4): the row of public.company that its company_id references is gone",
    ),
    "the survivor is gone, and all that references it": (
        "delete from letter where id = 3",
        "public.recommendation (7): it is gone, or its letter_id was changed",
    ),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_a_conflict_is_named_and_nothing_is_undone(db: Database, name: str) -> None:
    change, told = CONFLICTS[name]
    db.execute(THREE)
    db.merge()
    db.execute(change)
    merged = db.contents()
    with pytest.raises(UndoConflict, match="nothing was undone") as refused:
        db.undo(batch_size=1)
    assert told in refused.value.why.splitlines()
    assert "fkdoctor undo 1 --partly" in refused.value.next
    assert db.contents() == merged
    assert db.status() == "applied"


@pytest.mark.parametrize("name", CONFLICTS)
def test_partly_undoes_the_other_clusters_and_later_the_rest(db: Database, name: str) -> None:
    change, told = CONFLICTS[name]
    db.execute(THREE)
    before = db.contents()
    db.merge()
    db.execute("create table backup as select * from recommendation")
    db.execute(change)
    back = db.undo(partly=True, batch_size=2)
    assert (back.done, back.total, back.restored, back.kept) == (3, 3, 2, (2,))
    assert told in back.conflicts
    assert db.execute("select id from letter where id in (2, 6) order by id") == [(2,), (6,)]
    assert db.status() == "undoing"
    # Somebody settles the conflict, and the same command goes on.
    db.execute(
        """
        delete from recommendation; delete from letter where same = 'new';
        insert into company values (4) on conflict do nothing;
        insert into letter values (3, 'cluster 2', 'code 3', 3)
            on conflict (id) do update set code = 'code 3';
        insert into recommendation
            select id, case when id in (3, 4, 11, 12) then (id + 1) / 2 else letter_id end, note
            from backup;
        drop table backup;
        """
    )
    assert db.undo(partly=True).kept == ()
    assert db.contents() == before
    assert db.status() == "undone"


# What only PostgreSQL notices, when a row is written back.
HIDDEN = {
    "a check": "alter table letter add constraint four check (id <> 4)",
    "a condition": "create unique index on letter ((1)) where company_id in (3, 4)",
    "an exclusion": "alter table letter add exclude using btree ((id / 5) with =, "
    "(company_id / 5) with =, (id % 2 * 0) with =) where (id in (3, 4))",
    "a trigger": """
        create function f() returns trigger language plpgsql as $$ begin
            if new.id = 4 then raise check_violation using message = 'never four'; end if;
            return new;
        end $$;
        create trigger t before insert on letter for each row execute function f()
        """,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_only_postgresql_notices_is_a_conflict_too(db: Database, name: str) -> None:
    db.execute(THREE)
    db.merge()
    db.execute(HIDDEN[name])
    merged = db.contents()
    with pytest.raises(UndoConflict, match="Refused by PostgreSQL"):
        db.undo()
    assert db.contents() == merged
    assert db.status() == "applied"
    # The last cluster comes first: it is undone by then.
    with pytest.raises(Incomplete, match="Stopped after 1 of 3 clusters"):
        db.undo(batch_size=1)
    back = db.undo(partly=True)
    assert (back.kept, back.restored) == ((2,), 1)
    assert len(back.conflicts) == 1
    assert db.execute("select id from letter order by id") == [(1,), (2,), (3,), (5,), (6,)]


def test_a_trigger_that_alters_restored_rows_is_a_conflict(db: Database) -> None:
    db.execute(
        THREE
        + """
        create function f() returns trigger language plpgsql as $$ begin
            new.code := 'set by a trigger ' || new.id; return new;
        end $$;
        create trigger t before insert on letter for each row execute function f();
        """
    )
    db.merge()
    merged = db.contents()
    with pytest.raises(UndoConflict, match="cannot be put back as they were"):
        db.undo()
    assert db.contents() == merged


@pytest.mark.parametrize(("table", "event"), [("letter", "insert"), ("recommendation", "update")])
def test_a_trigger_that_swallows_rows_is_a_conflict(db: Database, table: str, event: str) -> None:
    db.execute(THREE)
    db.merge()
    db.execute(
        f"""
        create function f() returns trigger language plpgsql as 'begin return null; end';
        create trigger t before {event} on {table} for each row execute function f();
        """
    )
    merged = db.contents()
    with pytest.raises(UndoConflict, match="nothing of this batch was undone"):
        db.undo()
    assert db.contents() == merged


def test_a_trigger_error_is_told(db: Database) -> None:
    db.execute(THREE)
    db.merge()
    db.execute(
        """
        create function f() returns trigger language plpgsql as $$ begin raise 'no'; end $$;
        create trigger t before insert on letter for each row execute function f();
        """
    )
    merged = db.contents()
    with pytest.raises(Blocked, match="Refused by PostgreSQL"):
        db.undo()
    assert db.contents() == merged


MISFITS = {
    "a column is gone": ("alter table letter drop column code", "public.letter.code is gone"),
    "a column has another name": (
        "alter table letter rename code to codex",
        "public.letter.code is gone",
    ),
    "a table is gone": ("drop table recommendation", "public.recommendation is gone"),
    "a key column is gone": (
        "alter table recommendation drop column id",
        "public.recommendation.id is gone",
    ),
    "a column is generated": (
        "alter table letter drop column code, add code text generated always as (same) stored",
        "public.letter.code is a generated column now",
    ),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_schema_that_no_longer_fits_is_refused_by_name(db: Database, name: str) -> None:
    change, told = MISFITS[name]
    db.execute(THREE)
    db.merge()
    db.execute(change)
    merged = db.contents()
    with pytest.raises(Refused, match="does not fit the database any more") as refused:
        db.undo(partly=True)
    assert told in refused.value.why
    assert db.contents() == merged


def test_a_column_added_since_takes_its_default(db: Database) -> None:
    db.execute(THREE)
    db.merge()
    db.execute("alter table letter add column more int default 7, add column none int")
    db.undo()
    assert db.execute("select id, code, more, none from letter where id = 4") == [
        (4, "code 4", 7, None)
    ]


def test_a_type_changed_since_holds_the_same_values(db: Database) -> None:
    db.execute(THREE)
    db.merge()
    db.execute(
        """
        alter table letter alter id type bigint, alter code type varchar(99);
        alter table recommendation alter letter_id type bigint;
        """
    )
    assert db.undo().restored == 3
    assert db.execute("select letter_id from recommendation where id = 8") == [(4,)]


def test_a_type_that_writes_values_otherwise_is_refused(db: Database) -> None:
    db.execute(THREE)
    db.merge()
    db.execute(
        "alter table letter drop constraint letter_company_id_fkey, "
        "alter company_id type numeric(9, 2)"
    )
    merged = db.contents()
    with pytest.raises(UndoConflict, match="cannot be put back as they were"):
        db.undo()
    assert db.contents() == merged


def test_an_unknown_run_is_named(db: Database) -> None:
    with pytest.raises(ConfigError, match="no run 7"):
        db.undo(7)


def test_a_run_on_which_a_later_run_was_built_waits_for_it(db: Database) -> None:
    db.execute(THREE)
    before = db.contents()
    db.merge()
    between = db.contents()
    # Now the survivors themselves are merged.
    db.execute("update letter set same = 'one'")
    renamed = db.contents()
    assert db.merge().deleted == 2
    merged = db.contents()
    with pytest.raises(UndoConflict) as refused:
        db.undo(1)
    assert "Run 2 changed these tables after it: undo that one first" in refused.value.next
    assert "public.recommendation (11): it is gone, or its letter_id was changed" in (
        refused.value.why
    )
    assert db.contents() == merged
    db.undo(2)
    assert db.contents() == renamed
    db.execute("update letter set same = 'cluster ' || (id + 1) / 2")
    assert db.contents() == between
    db.undo(1)
    assert db.contents() == before


def test_an_unrelated_later_run_is_not_in_the_way(db: Database) -> None:
    db.execute(THREE)
    db.merge()
    db.execute("create table other (id int primary key, same int)")
    db.execute("insert into other values (1, 1), (2, 1)")
    db.merge("other")
    assert db.undo(1).restored == 3
    assert (db.status(1), db.status(2)) == ("undone", "applied")


def test_a_plan_of_which_every_cluster_was_stale_can_be_undone(db: Database) -> None:
    db.execute(THREE)
    path = db.plan()
    db.execute("update letter set code = null")
    before = db.contents()
    assert len(db.apply(path).stale) == 3
    assert db.undo().restored == 0
    assert db.contents() == before
    assert db.status() == "undone"


def test_conflicts_beyond_the_first_are_counted(db: Database) -> None:
    db.execute(THREE)
    db.execute("insert into recommendation select n, 4 from generate_series(100, 120) as n")
    db.merge()
    db.execute("update recommendation set letter_id = null where id >= 100")
    with pytest.raises(UndoConflict) as refused:
        db.undo()
    *named, more = refused.value.why.splitlines()
    assert len(named) == 10
    assert more == "and 11 more."
