"""Applying a plan: every reference moves, and nothing is lost that undo would not bring back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fkdoctor.database import connect
from fkdoctor.dedupe.apply import apply_dedupe
from fkdoctor.errors import Blocked, Incomplete, Refused, StalePlan

Database = Any  # the fixture's class lives in conftest.py

LETTERS = """
    create table letter (id int primary key, same text, note text);
    insert into letter values (1, 'a', 'first'), (2, 'a', 'second'), (3, 'b', null), (4, 'a', '');
"""
RECOMMENDATIONS = """
    create table recommendation (id int primary key, letter_id int references letter, note text);
    create index on recommendation (letter_id);
    insert into recommendation select n, 1 + n % 4, 'r' || n from generate_series(1, 12) as n;
"""
SIMPLE = LETTERS + RECOMMENDATIONS


KEYS = {
    "to the primary key": (SIMPLE, 6),
    "without an index": (SIMPLE + "drop index recommendation_letter_id_idx;", 6),
    "of the values of another unique key": (
        """
        create table letter (id int primary key, same text, code text unique, day date unique);
        insert into letter values (1, 'a', 'x', '2026-01-01'), (2, 'a', 'y', 'infinity');
        create table recommendation (id int primary key, code text references letter (code));
        create table visit (id int primary key, day date references letter (day));
        insert into recommendation values (1, 'x'), (2, 'y'), (3, 'y'), (4, null);
        insert into visit values (1, 'infinity'), (2, '2026-01-01');
        """,
        3,
    ),
    "composite": (
        """
        create table letter (tenant int, id int, same text, primary key (tenant, id));
        insert into letter values (1, 1, 'a'), (1, 2, 'a'), (2, 1, 'b'), (2, 2, 'b'), (3, 1, 'b');
        create table recommendation (id int primary key, tenant int, letter int,
            foreign key (tenant, letter) references letter match {match} on delete cascade);
        insert into recommendation values
            (1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 3, 1), (5, null, null);
        """.format(match="full"),
        3,
    ),
    "composite, with rows of which a part is null": (
        """
        create table letter (tenant int, id int, same text, primary key (id, tenant));
        insert into letter values (1, 1, 'a'), (1, 2, 'a');
        create table recommendation (id int primary key, tenant int, letter int,
            foreign key (tenant, letter) references letter (tenant, id) on delete set null);
        insert into recommendation values (1, 1, 2), (2, null, 2), (3, 7, null), (4, 1, null);
        """,
        1,
    ),
    "several from one table": (
        """
        create table letter (id int primary key, same text);
        insert into letter values (1, 'a'), (2, 'a'), (3, 'a'), (4, 'b'), (5, 'b'), (6, 'c');
        create table pair (id int primary key, one int references letter on delete cascade,
            other int references letter on delete set null, third int references letter);
        insert into pair values (1, 2, 5, 6), (2, 1, 4, null), (3, 5, 6, 3), (4, null, null, 3);
        """,
        5,
    ),
    "two on one column": (
        LETTERS
        + """
        create table recommendation (id int primary key, letter_id int references letter);
        alter table recommendation add constraint again foreign key (letter_id)
            references letter on delete cascade not valid;
        insert into recommendation values (1, 2), (2, 4), (3, 1);
        """,
        2,
    ),
    "from the table itself": (
        """
        create table letter (id int primary key, same text, answers int references letter);
        insert into letter values (1, 'a', null), (2, 'a', null), (3, 'b', 2), (4, 'c', 1);
        """,
        1,
    ),
    "of another integer type": (
        """
        create table letter (id bigint primary key, same text);
        insert into letter values (1, 'a'), (2, 'a');
        create table recommendation (id smallint primary key, letter_id smallint references letter);
        insert into recommendation values (1, 1), (2, 2);
        """,
        1,
    ),
    "deferrable": (
        LETTERS
        + """
        create table recommendation (id int primary key, letter_id int references letter
            deferrable initially deferred);
        insert into recommendation values (1, 2), (2, 4), (3, 1);
        """,
        2,
    ),
    "into a table whose identity is always generated": (
        LETTERS
        + """
        create table recommendation (id int generated always as identity primary key,
            letter_id int references letter, twice int generated always as (letter_id * 2) stored);
        insert into recommendation (letter_id) values (1), (2), (4), (3);
        """,
        2,
    ),
    "found by a unique key": (
        LETTERS
        + """
        create table recommendation (code text not null unique, letter_id int references letter);
        insert into recommendation values ('x', 2), ('y', 1);
        """,
        1,
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_references_move_and_return(db: Database, name: str) -> None:
    tables, repointed = KEYS[name]
    db.execute(tables)
    db.check_round_trip(repointed)


@pytest.mark.parametrize("action", ["no action", "restrict", "cascade", "set null", "set default"])
def test_no_referential_action_runs(db: Database, action: str) -> None:
    db.execute(
        LETTERS
        + f"""
        create table recommendation (id int primary key,
            letter_id int default 3 references letter on delete {action} on update {action});
        insert into recommendation values (1, 2), (2, 4), (3, 1), (4, 3);
        """
    )
    db.check_round_trip(2)


def test_names_may_be_anything(db: Database) -> None:
    long = "이름" * 10 + "abc"
    assert len(long.encode()) == 63
    db.execute(
        f"""
        create schema "%s";
        create table "%s"."a 'b' ""c"".d:e %(x)s" (
            "{long}" int, "SELECT" text, ":same" text, "%" int, fkdoctor_row int, cluster int,
            before int, "A" int unique, a int, " " int, "\\" int, run_id int, "'" int,
            primary key ("{long}", "%")
        );
        create table "order" (
            "%" int, "{long}" int, "user" int, member_0 int, key int primary key,
            constraint "%(y)s: ""k"" " foreign key ("{long}", "%")
                references "%s"."a 'b' ""c"".d:e %(x)s" ("{long}", "%") on delete cascade,
            constraint "{long}" foreign key ("user")
                references "%s"."a 'b' ""c"".d:e %(x)s" ("A") on delete cascade
        );
        insert into "%s"."a 'b' ""c"".d:e %(x)s" ("{long}", "%", ":same", "A", "'", "\\")
            values (1, 1, 'x', 10, 1, 2), (1, 2, 'x', 20, 3, 4);
        insert into "order" values (1, 1, 10, 0, 1), (2, 1, 20, 0, 2);
        """
    )
    before = db.contents()
    done = db.merge('"%s"."a \'b\' ""c"".d:e %(x)s"', ('(":same")',))
    assert (done.deleted, done.repointed) == (1, 2)
    assert db.execute('select * from "order" order by key') == [(1, 1, 10, 0, 1), (1, 1, 10, 0, 2)]
    db.undo()
    assert db.contents() == before


def test_a_hostile_search_path_changes_nothing(db: Database) -> None:
    db.execute(SIMPLE)
    db.execute(
        """
        create schema evil;
        create domain evil.text as int; create domain evil.jsonb as int;
        create function evil.never(int, int) returns bool language sql as 'select 1/0 = 1';
        create function evil.never(bigint, int) returns bool language sql as 'select 1/0 = 1';
        create function evil.never(bigint, bigint) returns bool language sql as 'select 1/0 = 1';
        create function evil.never(pg_catalog.text, pg_catalog.text) returns bool language sql
            as 'select 1/0 = 1';
        create operator evil.= (leftarg = int, rightarg = int, procedure = evil.never);
        create operator evil.= (leftarg = bigint, rightarg = int, procedure = evil.never);
        create operator evil.= (leftarg = bigint, rightarg = bigint, procedure = evil.never);
        create operator evil.= (leftarg = pg_catalog.text, rightarg = pg_catalog.text,
            procedure = evil.never);
        create operator evil.<> (leftarg = pg_catalog.text, rightarg = pg_catalog.text,
            procedure = evil.never);
        create function evil.count() returns bigint language sql as 'select -1::bigint';
        create function evil.unnest(anyarray) returns setof anyelement language plpgsql
            as $$ begin raise exception 'shadowed'; end $$;
        create function evil.current_setting(pg_catalog.text) returns int language sql
            as 'select 1/0';
        create function evil.set_config(pg_catalog.text, pg_catalog.text, bool) returns int
            language sql as 'select 1/0';
        """
    )
    before = db.contents()
    path = db.plan()
    hostile = "-c search_path=evil,public,pg_catalog"
    done = db.apply(path, options=hostile)
    assert (done.deleted, done.repointed) == (2, 6)
    db.undo(options=hostile)
    assert db.contents() == before


def test_triggers_see_the_search_path_and_the_time_zone_of_the_session(db: Database) -> None:
    db.execute(
        SIMPLE
        + """
        alter table recommendation add column changed text;
        create schema mine;
        create table mine.seen (path text, zone text);
        create function note() returns trigger language plpgsql as $$ begin
            insert into seen values (current_setting('search_path'), current_setting('timezone'));
            return new;
        end $$;
        create trigger note before update on recommendation
            for each row execute function note();
        """
    )
    done = db.apply(
        db.plan(), options="-c search_path=mine,public,pg_catalog -c timezone=Asia/Seoul"
    )
    assert done.repointed == 6
    assert set(db.execute("select * from mine.seen")) == {("mine, public", "Asia/Seoul")}


def test_a_trigger_may_change_other_columns(db: Database) -> None:
    db.execute(
        SIMPLE
        + """
        create function touch() returns trigger language plpgsql
            as $$ begin new.note := 'touched'; return new; end $$;
        create trigger touch before update on recommendation for each row execute function touch();
        """
    )
    assert db.merge().repointed == 6
    assert db.execute("select count(*) from recommendation where note = 'touched'") == [(6,)]
    db.undo()
    assert db.execute("select count(*) from recommendation where letter_id = 1 + id % 4") == [(12,)]


# On which table a trigger fires, when, and what it does.
OBSTINATE = {
    "keeps the row": ("recommendation", "before update", "return null;"),
    "puts the old value back": (
        "recommendation",
        "before update",
        "new.letter_id := old.letter_id; return new;",
    ),
    "sets another value": ("recommendation", "before update", "new.letter_id := 3; return new;"),
    "sets no value": ("recommendation", "before update", "new.letter_id := null; return new;"),
    "puts it back afterwards": (
        "recommendation",
        "after update",
        "if pg_trigger_depth() = 1 then update recommendation set letter_id = old.letter_id "
        "where id = new.id; end if; return null;",
    ),
    "refers to a duplicate again": (
        "recommendation",
        "after update",
        "insert into recommendation values (100 + old.id, old.letter_id); return null;",
    ),
    "raises": ("recommendation", "before update", "raise 'not today';"),
    "keeps the duplicate": ("letter", "before delete", "return null;"),
    "forbids to delete": ("letter", "before delete", "raise 'never delete a letter';"),
    "deletes the survivor": (
        "letter",
        "after delete",
        "delete from letter where id = 1; return null;",
    ),
    "hides the duplicate": (
        "letter",
        "before delete",
        "update letter set note = 'gone' where id = old.id; return null;",
    ),
}


@pytest.mark.parametrize("name", OBSTINATE)
def test_a_trigger_in_the_way_stops_the_run_with_nothing_changed(db: Database, name: str) -> None:
    table, when, body = OBSTINATE[name]
    db.execute(SIMPLE)
    db.execute(
        f"""
        alter table recommendation drop constraint recommendation_letter_id_fkey,
            add foreign key (letter_id) references letter on delete cascade;
        create function f() returns trigger language plpgsql as $$ begin {body} end $$;
        create trigger t {when} on {table} for each row execute function f();
        """
    )
    check_blocked(db)
    db.execute(f"drop trigger t on {table}")
    assert db.merge().deleted == 2


def check_blocked(db: Database) -> Blocked:
    """The refusal of an apply that leaves everything as it was."""
    before, path = db.contents(), db.plan()
    with pytest.raises(Blocked) as refused:
        db.apply(path)
    assert refused.value.why
    assert refused.value.next
    assert db.contents() == before
    assert db.execute("select * from fkdoctor.journal") == []
    assert db.execute("select * from fkdoctor.redirect") == []
    return refused.value


def test_a_deferred_trigger_in_the_way_stops_the_run_with_nothing_changed(db: Database) -> None:
    db.execute(
        SIMPLE
        + """
        create function f() returns trigger language plpgsql as $$ begin
            if pg_trigger_depth() = 1 then
                update recommendation set letter_id = old.letter_id where id = new.id;
            end if;
            return null;
        end $$;
        create constraint trigger t after update on recommendation
            deferrable initially deferred for each row execute function f();
        """
    )
    assert "left" in check_blocked(db).why


def test_a_row_that_changed_since_the_plan_leaves_its_cluster_alone(db: Database) -> None:
    db.execute(
        """
        create table letter (id int primary key, same text, note text);
        insert into letter select n, 'cluster ' || (n + 1) / 2, 'as planned'
            from generate_series(1, 12) as n;
        create table recommendation (id int primary key, letter_id int references letter
            on delete cascade);
        insert into recommendation select n, n from generate_series(1, 12) as n;
        """
    )
    path = db.plan()
    db.execute(
        """
        update letter set note = 'changed' where id in (2, 3);
        delete from letter where id = 6;
        delete from letter where id = 7;
        delete from letter where id = 10;
        insert into letter values (10, 'of another', 'with the same key');
        """
    )
    before = db.contents()
    done = db.apply(path)
    assert (done.deleted, done.repointed, done.stale) == (1, 1, (1, 2, 3, 4, 5))
    after = db.contents()
    assert set(before['"public"."letter"']) - set(after['"public"."letter"']) == {
        '(12,"cluster 6","as planned")'
    }
    db.undo()
    assert db.contents() == before


def test_a_row_that_changed_and_changed_back_is_as_planned(db: Database) -> None:
    db.execute(SIMPLE)
    path = db.plan()
    db.execute("update letter set note = 'other' where id = 2")
    db.execute("update letter set note = 'second' where id = 2")
    assert db.apply(path).stale == ()


def test_a_plan_goes_on_where_a_cluster_is_no_longer_stale(db: Database) -> None:
    db.execute(SIMPLE)
    path = db.plan()
    db.execute("update letter set note = 'other' where id = 2")
    assert db.apply(path).stale == (1,)
    db.execute("update letter set note = 'second' where id = 2")
    done = db.apply(path)
    assert (done.run_id, done.deleted, done.stale) == (1, 2, ())


def test_references_that_came_after_the_plan_move_too(db: Database) -> None:
    db.execute(SIMPLE)
    before, path = db.contents(), db.plan()
    db.execute("insert into recommendation values (13, 2), (14, 4)")
    assert db.apply(path).repointed == 8
    db.undo()
    db.execute("delete from recommendation where id in (13, 14)")
    assert db.contents() == before


UNFORESEEN = {
    "a row without a key": (
        "create table visit (letter_id int references letter on delete cascade)",
        "insert into visit values (2)",
    ),
    "a partitioned table": (
        """
        create table visit (id int, letter_id int references letter on delete cascade)
            partition by list (id);
        create table visit_1 partition of visit for values in (1);
        """,
        "insert into visit values (1, 2)",
    ),
}


@pytest.mark.parametrize("name", UNFORESEEN)
def test_references_by_a_key_that_had_none_when_planned_are_not_lost(
    db: Database, name: str
) -> None:
    table, reference = UNFORESEEN[name]
    db.execute(SIMPLE + table)
    path = db.plan()
    db.execute(reference)
    before = db.contents()
    with pytest.raises(Blocked, match="nothing of this batch was changed") as refused:
        db.apply(path)
    assert "public.visit.visit_letter_id_fkey: 1 references" in refused.value.why
    assert db.contents() == before


def test_a_survivor_without_the_value_that_is_referenced_is_refused(db: Database) -> None:
    db.execute(
        """
        create table letter (id int primary key, same text, code text unique);
        create table recommendation (id int primary key, code text references letter (code));
        insert into letter values (1, 'a', null), (2, 'a', 'x');
        """
    )
    path = db.plan()
    db.execute("insert into recommendation values (1, 'x')")
    before = db.contents()
    with pytest.raises(Blocked) as refused:
        db.apply(path)
    assert "the survivor has no value there" in refused.value.why
    assert db.contents() == before


CHANGES = {
    "a column": "alter table letter add column more int",
    "a type": "alter table letter alter column note type varchar(99)",
    "a key": "create table visit (id int primary key, letter_id int references letter)",
    "an action": "alter table recommendation drop constraint recommendation_letter_id_fkey, "
    "add foreign key (letter_id) references letter on delete cascade",
    "a trigger": "create trigger t before update on recommendation for each row "
    "execute function suppress_redundant_updates_trigger()",
    "a table that is gone": "drop table recommendation",
    "the table itself": "drop table letter cascade",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_plan_for_another_schema_is_refused(db: Database, name: str) -> None:
    db.execute(SIMPLE)
    path = db.plan()
    db.execute(CHANGES[name])
    before = db.contents()
    with pytest.raises(StalePlan, match="nothing was changed"):
        db.apply(path)
    assert db.contents() == before
    assert db.execute("select * from fkdoctor.run") == []


def test_a_plan_for_another_database_is_refused(
    db: Database, make_database: Any, ledger_template: str
) -> None:
    other = type(db)(make_database(ledger_template), db.folder)
    for database in (db, other):
        database.execute(SIMPLE)
    with pytest.raises(StalePlan, match="another database"):
        other.apply(db.plan())


def test_a_session_in_which_keys_are_off_is_refused(superuser: None, db: Database) -> None:
    db.execute(SIMPLE)
    before, path = db.contents(), db.plan()
    with pytest.raises(Blocked, match="session_replication_role"):
        db.apply(path, options="-c session_replication_role=replica")
    assert db.contents() == before


def test_applying_twice_does_it_once(db: Database) -> None:
    db.execute(SIMPLE)
    path = db.plan()
    first = db.apply(path)
    after = db.contents()
    assert db.apply(path) == first
    assert db.contents() == after
    assert db.execute("select id, deleted, repointed from fkdoctor.run") == [(1, 2, 6)]


def test_a_plan_that_was_undone_is_not_applied_again(db: Database) -> None:
    db.execute(SIMPLE)
    before, path = db.contents(), db.plan()
    db.apply(path)
    db.undo()
    with pytest.raises(Refused, match="was undone"):
        db.apply(path)
    assert db.contents() == before
    assert db.status() == "undone"


def test_batches_give_what_one_transaction_gives(db: Database) -> None:
    db.execute(
        """
        create table letter (id int primary key, same int);
        insert into letter select n, n % 7 from generate_series(1, 30) as n;
        create table recommendation (id int primary key, letter_id int references letter);
        insert into recommendation select n, 1 + n % 30 from generate_series(1, 90) as n;
        """
    )
    before, path = db.contents(), db.plan()
    done = db.apply(path, batch_size=2)
    assert (done.done, done.total, done.deleted) == (7, 7, 23)
    assert db.execute("select count(*) from recommendation where letter_id > 7") == [(0,)]
    back = db.undo(batch_size=3)
    assert (back.done, back.total, back.restored) == (7, 7, 23)
    assert db.contents() == before


def test_a_failure_on_the_way_keeps_the_batches_before_it(db: Database) -> None:
    db.execute(
        SIMPLE
        + """
        insert into letter values (5, 'b', 'last');
        create function f() returns trigger language plpgsql as $$ begin
            if old.id = 5 then raise 'not this one'; end if; return old;
        end $$;
        create trigger t before delete on letter for each row execute function f();
        """
    )
    before, path = db.contents(), db.plan()
    with pytest.raises(Incomplete, match="Stopped after 1 of 2 clusters") as stopped:
        db.apply(path, batch_size=1)
    assert "not this one" in stopped.value.why
    assert "fkdoctor undo 1" in stopped.value.next
    assert db.execute("select id from letter order by id") == [(1,), (3,), (5,)]
    assert db.status() == "applying"
    db.undo()
    assert db.contents() == before
    assert db.status() == "undone"


def test_progress_is_told_after_each_batch(db: Database) -> None:
    db.execute(SIMPLE + "insert into letter values (5, 'b', 'last');")
    told = []
    with connect(db.engine()) as connection:
        apply_dedupe(connection, db.plan(), batch_size=1, report=told.append)
    assert [(step.done, step.deleted, step.repointed) for step in told] == [(1, 2, 6), (2, 3, 6)]


def test_without_a_ledger_nothing_is_changed(make_database: Any, db: Database) -> None:
    bare = type(db)(make_database(), db.folder)
    bare.execute(SIMPLE)
    before, path = bare.contents(), bare.plan()
    with pytest.raises(Blocked, match="ledger is missing"):
        bare.apply(path)
    assert bare.contents() == before


def test_redirects_lead_from_every_duplicate_to_its_survivor(db: Database) -> None:
    db.execute(SIMPLE)
    db.merge()
    found = "select cluster, old_key, new_key from fkdoctor.redirect order by old_key"
    assert db.execute(found) == [(1, ["2"], ["1"]), (1, ["4"], ["1"])]
    db.undo()
    assert db.execute(found) == []


def test_the_journal_tells_every_row_that_was_changed(db: Database) -> None:
    db.execute(SIMPLE)
    db.merge()
    assert db.execute(
        """
        select s.action, j.key, j.before, j.after
        from fkdoctor.journal as j join fkdoctor.step as s using (run_id, step)
        where j.key in ('{1}', '{2}') order by s.step, j.key
        """
    ) == [
        ("repoint", ["1"], {"letter_id": "2"}, {"letter_id": "1"}),
        ("delete", ["2"], {"id": "2", "same": "a", "note": "second"}, None),
    ]


def test_a_plan_that_was_changed_to_name_a_row_twice_loses_nothing(db: Database) -> None:
    db.execute("create table letter (id int primary key, same text)")
    db.execute("insert into letter values (1, 'a'), (2, 'a')")
    path = db.plan()
    head, cluster = path.read_text().splitlines()
    document = json.loads(cluster)
    # The survivor itself, written otherwise.
    document["duplicates"] = [["01", document["survivor"][-1]]]
    path.write_text(head + "\n" + json.dumps(document) + "\n")
    with pytest.raises(Blocked, match="other rows would go") as refused:
        db.apply(path)
    assert "names a row twice" in refused.value.why
    assert db.execute("select count(*) from letter") == [(2,)]
