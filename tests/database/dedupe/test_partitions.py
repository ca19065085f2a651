"""Partitioned and inherited tables: rows move, change their partition, collide, go and return."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from fkdoctor.config import Config, ReferenceConfig
from fkdoctor.database import connect
from fkdoctor.dedupe.plan import DedupePlan
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.errors import Blocked, StalePlan, UndoConflict
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare

Database = Any  # the fixture's class lives in conftest.py

LETTER = """
    create table letter (id int primary key, same text);
    insert into letter values (1, 'a'), (2, 'a'), (3, 'a'), (4, 'b'), (5, 'b'), (6, 'c');
"""
PARTED = """
    create table letter (id int primary key, same text) partition by range (id);
    create table letter_low partition of letter for values from (0) to (3);
    create table letter_high partition of letter for values from (3) to (99)
        partition by list (id);
    create table letter_four partition of letter_high for values in (4);
    create table letter_rest (same text, id int not null);
    alter table letter_high attach partition letter_rest default;
    insert into letter values (1, 'a'), (2, 'a'), (3, 'a'), (4, 'b'), (5, 'b'), (6, 'c');
"""
BY_LETTER = """
    create table log_1 partition of log for values in (1);
    create table log_2 partition of log for values in (2, 3);
    create table log_4 partition of log for values in (4) partition by range (day);
    create table log_4_1 partition of log_4 for values from (0) to (5);
    create table log_4_2 partition of log_4 default;
    create table log_rest (day int not null, extra text, letter int not null, note text);
    alter table log_rest drop extra;
    alter table log attach partition log_rest default;
"""


@dataclass(frozen=True)
class Case:
    """Tables; then, by table, the rows that it holds itself once merged."""

    sql: str
    after: dict[str, str]
    rules: tuple[tuple[str, str], ...] = ()
    since: int = 12


CASES = {
    "the table to merge": Case(
        PARTED
        + """create table log (id int primary key, letter int references letter on delete cascade);
        insert into log values (1, 1), (2, 2), (3, 3), (4, 5), (5, 6);""",
        {
            "letter_low": "(1,a)",
            "letter_four": "(4,b)",
            "letter_rest": "(c,6)",
            "log": "(1,1) (2,1) (3,1) (4,4) (5,6)",
        },
    ),
    "a table to merge with a key of several columns": Case(
        """create table letter (day int, id int, same text, primary key (id, day))
            partition by list (day);
        create table letter_1 partition of letter for values in (1);
        create table letter_2 partition of letter for values in (2);
        insert into letter values (1, 1, 'a'), (1, 2, 'a'), (2, 1, 'a'), (2, 3, 'b');
        create table log (n int primary key, id int, day int,
            foreign key (id, day) references letter on delete cascade);
        insert into log values (1, 1, 1), (2, 2, 1), (3, 1, 2), (4, 3, 2);""",
        {"letter_1": "(1,1,a)", "letter_2": "(2,3,b)", "log": "(1,1,1) (2,1,1) (3,1,1) (4,3,2)"},
    ),
    "a tree": Case(
        """create table letter (id int primary key, same text, above int references letter)
            partition by hash (id);
        create table letter_0 partition of letter for values with (modulus 2, remainder 0);
        create table letter_1 partition of letter for values with (modulus 2, remainder 1);
        insert into letter values (1, 'a', null), (2, 'a', null), (3, 'x', 2), (4, 'y', 3);""",
        {"letter": "(1,a,) (3,x,1) (4,y,3)"},
    ),
    "rows that change their partition": Case(
        LETTER
        + """create table log (letter int references letter on delete cascade, day int, note text,
            primary key (letter, day)) partition by list (letter);"""
        + BY_LETTER
        + """insert into log values (1, 1, 'p'), (2, 2, 'q'), (3, 7, 'r'), (4, 1, 's'), (5, 8, 't'),
            (5, 2, 'u'), (6, 1, 'v');""",
        {
            "log_1": "(1,1,p) (1,2,q) (1,7,r)",
            "log_2": "",
            "log_4_1": "(4,1,s) (4,2,u)",
            "log_4_2": "(4,8,t)",
            "log_rest": "(1,6,v)",
        },
    ),
    "rows that change their partition and collide": Case(
        LETTER
        + """create table log (letter int references letter on delete cascade, day int, note text,
            primary key (letter, day)) partition by list (letter);"""
        + BY_LETTER
        + """insert into log values (1, 1, 'p'), (2, 1, 'q'), (3, 1, 'r'), (3, 2, 's'), (4, 7, 't'),
            (5, 7, 'u');""",
        {"log_1": "(1,1,r) (1,2,s)", "log_2": "", "log_4_2": "(4,7,u)"},
        (("collisions", "log=(note)"),),
    ),
    "a referencing table": Case(
        LETTER
        + """create table log (id int, day int, letter int references letter on delete cascade,
            primary key (id, day)) partition by range (day);
        create table log_1 partition of log for values from (0) to (5);
        create table log_2 partition of log for values from (5) to (9);
        insert into log values (1, 1, 2), (1, 6, 3), (2, 2, null), (3, 7, 5);""",
        {"log_1": "(1,1,1) (2,2,)", "log_2": "(1,6,1) (3,7,4)"},
    ),
    "rows that collide over partitions": Case(
        LETTER
        + """create table log (id int, day int, letter int references letter on delete cascade,
            primary key (id, day), unique (day, letter)) partition by range (day);
        create table log_1 partition of log for values from (0) to (5);
        create table log_2 partition of log for values from (5) to (9);
        create table deep (n int, day int, id int, primary key (n, day),
            foreign key (id, day) references log on delete cascade) partition by list (day);
        create table deep_1 partition of deep for values in (1);
        create table deep_2 partition of deep default;
        insert into log values (1, 1, 1), (2, 1, 2), (3, 6, 2), (4, 6, 3), (5, 7, 3);
        insert into deep values (1, 1, 1), (2, 1, 2), (3, 6, 4), (4, 6, 3), (5, 7, 5);""",
        {
            "log_1": "(1,1,1)",
            "log_2": "(3,6,1) (5,7,1)",
            "deep_1": "(1,1,1) (2,1,1)",
            "deep_2": "(3,6,3) (4,6,3) (5,7,5)",
        },
    ),
    "a key that one partition has": Case(
        LETTER
        + """create table log (id int primary key, letter int) partition by range (id);
        create table log_1 partition of log for values from (0) to (5);
        create table log_2 partition of log for values from (5) to (9);
        alter table log_1 add foreign key (letter) references letter on delete cascade;
        insert into log values (1, 2), (2, 5), (6, 3), (7, 77);""",
        {"log_1": "(1,1) (2,4)", "log_2": "(6,3) (7,77)"},
    ),
    "keys that partitions have, of rows that only these know": Case(
        LETTER
        + """create table log (id int, letter int, note text) partition by range (id);
        create table log_1 partition of log for values from (0) to (5);
        create table log_2 partition of log for values from (5) to (9);
        alter table log_1 add primary key (id),
            add foreign key (letter) references letter on delete cascade,
            add unique (letter, note);
        alter table log_2 add primary key (id),
            add foreign key (letter) references letter on delete set null;
        insert into log values (1, 2, 'p'), (2, 5, 'q'), (3, 3, 'p'), (6, 3, 'p'), (7, 5, 'p'),
            (8, 2, 'p');""",
        {"log_1": "(1,1,p) (2,4,q)", "log_2": "(6,1,p) (7,4,p) (8,1,p)"},
    ),
    "an index that one partition has": Case(
        LETTER
        + """create table log (id int primary key, letter int references letter, note text)
            partition by range (id);
        create table log_1 partition of log for values from (0) to (5);
        create table log_2 partition of log for values from (5) to (9);
        create unique index on log_1 (letter, note);
        insert into log values (1, 1, 'p'), (2, 2, 'p'), (3, 3, 'q'), (5, 1, 'p'), (6, 2, 'p'),
            (7, 3, 'q');""",
        {"log_1": "(1,1,p) (3,1,q)", "log_2": "(5,1,p) (6,1,p) (7,1,q)"},
    ),
    "heirs with keys of their own": Case(
        LETTER
        + """create table log (id int primary key, letter int references letter on delete cascade);
        create table heir (primary key (id)) inherits (log);
        create table heir_2 (primary key (id), foreign key (letter) references letter)
            inherits (log);
        insert into log values (1, 2), (2, 1); insert into heir values (1, 1), (2, 4);
        insert into heir_2 values (1, 2), (2, 5);""",
        {"log": "(1,1) (2,1)", "heir": "(1,1) (2,4)", "heir_2": "(1,1) (2,4)"},
    ),
    "a table to merge with heirs that have the same keys": Case(
        LETTER
        + """create table heir (extra int) inherits (letter);
        insert into heir values (1, 'a', 7), (2, 'a', 8), (3, 'x', 9), (5, 'b', 1);
        create table log (id int primary key, letter int references letter on delete cascade);
        insert into log values (1, 1), (2, 2), (3, 5);""",
        {
            "letter": "(1,a) (4,b) (6,c)",
            "heir": "(1,a,7) (2,a,8) (3,x,9) (5,b,1)",
            "log": "(1,1) (2,1) (3,4)",
        },
    ),
    "an heir to merge": Case(
        """create table whole (id int, same text); insert into whole values (1, 'a'), (2, 'a');
        create table letter (primary key (id)) inherits (whole);
        insert into letter values (1, 'a'), (2, 'a'), (4, 'b');
        create table log (id int primary key, letter int references letter on delete cascade);
        insert into log values (1, 1), (2, 2), (3, 4);""",
        {"letter": "(1,a) (4,b)", "whole": "(1,a) (2,a)", "log": "(1,1) (2,1) (3,4)"},
    ),
}


def held(db: Database, table: str) -> list[str]:
    """The table's own rows; all where it has partitions."""
    ((kind,),) = db.execute("select relkind::text from pg_class where relname = %s", (table,))
    only = "" if kind == "p" else "only"
    return sorted(text for (text,) in db.execute(f"select r::text from {only} {table} as r"))


@pytest.mark.parametrize("name", CASES)
def test_rows_in_parts_are_merged_and_return(db: Database, name: str, major: int) -> None:
    case = CASES[name]
    if major < case.since:
        pytest.skip(f"needs PostgreSQL {case.since}")
    db.execute(case.sql)
    before = db.contents()
    path = db.plan(rules=case.rules)
    done = db.apply(path, batch_size=1)
    assert done.stale == ()
    for table, rows in case.after.items():
        assert held(db, table) == sorted(rows.split()), table
    back = db.undo(done.run_id)
    assert (back.restored, back.repointed, back.kept) == (done.deleted, done.repointed, ())
    assert db.contents() == before


def test_until_15_a_referenced_row_does_not_change_its_partition(db: Database, major: int) -> None:
    """Before 15, PostgreSQL deletes such a row, and ON DELETE CASCADE sees that."""
    db.execute(
        LETTER
        + """create table log (letter int references letter, day int, primary key (letter, day),
            unique (day, letter)) partition by list (letter);
        create table log_1 partition of log for values in (1);
        create table log_2 partition of log default;
        create table far (id int primary key, letter int, day int,
            foreign key (day, letter) references log (day, letter) on delete cascade);
        insert into log values (2, 1);"""
    )
    told = obstacles(db)
    assert any("references its letter, which would change" in line for line in told) == (major > 14)
    assert any("deletes a row that changes it" in line for line in told) == (major < 15)


def obstacles(db: Database) -> list[str]:
    return [f"{o.subject}: {o.reason}" for o in make(db).obstacles]


def make(db: Database) -> DedupePlan:
    with connect(db.engine()) as connection:
        schema = inspect_database(connection)
        name = schema.resolve_table("letter")
        criteria = Criteria(match=("same",), survivor=())
        return plan_dedupe(connection, schema, name, criteria, db.folder / "plan.jsonl")


MOVING = (
    LETTER
    + """create table log (letter int references letter on delete cascade, day int,
        primary key (letter, day)) partition by list (letter);
    create table log_1 partition of log for values in (1);
    create table log_2 partition of log default;
    insert into log values (1, 1), (2, 2), (3, 3), (4, 4);
    """
)
SWALLOW = """
    create function swallow() returns trigger language plpgsql as $$ begin
        return null;
    end $$;
"""


@pytest.mark.parametrize("event", ["insert", "delete", "update"])
def test_a_row_that_vanishes_on_its_way_stops_the_run(db: Database, event: str) -> None:
    table = "log_1" if event == "insert" else "log_2"
    db.execute(
        MOVING
        + SWALLOW
        + f"""create trigger t before {event} on {table} for each row execute function swallow();
        """
    )
    before = db.contents()
    told = make(db).caveats
    assert any(f"trigger t on public.{table} fires BEFORE {event.upper()}" in one for one in told)
    path = db.plan()
    with pytest.raises(Blocked):
        db.apply(path)
    assert db.contents() == before


def test_a_row_that_vanishes_on_its_way_back_stops_the_undo(db: Database) -> None:
    db.execute(MOVING)
    done = db.merge()
    merged = db.contents()
    db.execute(
        SWALLOW + "create trigger t before insert on log_2 for each row execute function swallow();"
    )
    with pytest.raises(UndoConflict):
        db.undo(done.run_id)
    assert db.contents() == merged


def test_a_value_that_no_partition_takes_stops_the_run(db: Database) -> None:
    db.execute(MOVING + "delete from log_1; drop table log_1;")
    db.execute("create table log_3 partition of log for values in (77)")
    db.execute("alter table log detach partition log_2")
    db.execute("alter table log attach partition log_2 for values in (2, 3, 4)")
    before = db.contents()
    path = db.plan()
    with pytest.raises(Blocked, match="no partition of relation"):
        db.apply(path)
    assert db.contents() == before


def test_a_partition_that_came_since_makes_the_plan_stale(db: Database) -> None:
    db.execute(MOVING)
    path = db.plan()
    db.execute(
        "delete from log where letter = 4; create table log_4 partition of log for values in (4)"
    )
    with pytest.raises(StalePlan):
        db.apply(path)
    db.apply(db.plan())
    assert held(db, "log") == ["(1,1)", "(1,2)", "(1,3)"]


def test_a_row_that_somebody_moves_meanwhile_is_not_lost(db: Database) -> None:
    """A row lock on a row that left its partition fails, and the batch is tried again."""
    db.execute(MOVING)
    path = db.plan()
    with psycopg2.connect(db.url) as holder, holder.cursor() as cursor:
        cursor.execute("update log set letter = 1, day = 22 where letter = 2")
        merge = threading.Thread(target=lambda: db.apply(path, lock_timeout=20_000))
        merge.start()
        waiting = (
            "select count(*) from pg_stat_activity where datname = current_database() "
            "and wait_event_type = 'Lock'"
        )
        while db.execute(waiting) != [(1,)]:
            pass
        holder.commit()
        merge.join()
    holder.close()
    assert held(db, "log") == ["(1,1)", "(1,22)", "(1,3)", "(4,4)"]


def test_the_dump_is_as_it_was(db: Database, pg_dump: Path) -> None:
    db.execute(CASES["rows that change their partition and collide"].sql)
    before = db.dump(pg_dump)
    done = db.apply(db.plan(rules=(("collisions", "log=(note)"),)))
    assert db.dump(pg_dump) != before
    db.undo(done.run_id)
    assert db.dump(pg_dump) == before


def test_heirs_that_reference_duplicates_move_once_they_are_declared(db: Database) -> None:
    db.execute(
        LETTER
        + """create table log (id int primary key, letter int references letter);
        create table heir (primary key (id)) inherits (log);
        insert into log values (1, 2); insert into heir values (1, 2), (2, 3);"""
    )
    before = db.contents()
    assert ["2 rows of public.heir" in line for line in obstacles(db)] == [True]
    reference = ReferenceConfig(source="public.heir.letter", target="public.letter.id")
    path = db.folder / "plan.jsonl"
    with connect(db.engine()) as connection:
        schema = declare(inspect_database(connection), Config(references=(reference,)))
        criteria = Criteria(match=("same",), survivor=())
        plan = plan_dedupe(connection, schema, schema.resolve_table("letter"), criteria, path)
    assert plan.obstacles == ()
    done = db.apply(path)
    assert (held(db, "log"), held(db, "heir")) == (["(1,1)"], ["(1,1)", "(2,1)"])
    db.undo(done.run_id)
    assert db.contents() == before


def test_what_partitions_publish_is_asked(db: Database) -> None:
    db.execute(
        MOVING
        + """alter table log_1 replica identity nothing;
        create publication p for table log_1 with (publish = 'delete');"""
    )
    assert any("publication p publishes every DELETE" in line for line in obstacles(db))
