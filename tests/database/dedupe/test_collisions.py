"""Rows that collide once repointed are merged too: whatever the constraint, to any depth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from fkdoctor.database import connect
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.policy import read_rules
from fkdoctor.inspect.catalog import inspect_database

Database = Any  # the fixture's class lives in conftest.py

LETTER = """
    create table letter (id int primary key, same text, code text unique);
    insert into letter values (1, 'a', 'x'), (2, 'a', 'y'), (3, 'a', null), (4, 'b', 'z'),
        (5, 'b', 'w'), (6, 'c', 'v');
"""
LINK = (
    LETTER
    + "create table link (id int primary key, a int references letter on delete cascade, b text);"
)
GIST = "create extension if not exists btree_gist;"
BLIND = (
    "create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
)


@dataclass(frozen=True)
class Merged:
    """Tables, rules for them, and what `link` holds in the end; from which PostgreSQL on."""

    sql: str
    link: str
    rules: tuple[tuple[str, str], ...] = ()
    since: int = 12


KEEP = (("collisions", "link=keep_survivors"),)
CASES = {
    "identical rows under a primary key": Merged(
        LETTER
        + """create table link (a int references letter, b text, primary key (a, b));
        insert into link values (1, 'p'), (2, 'p'), (2, 'q'), (3, 'q'), (4, 'p'), (5, 'r');""",
        "(1,p) (1,q) (4,p) (4,r)",
    ),
    "duplicates among themselves, while the survivor has none": Merged(
        LINK + "create unique index on link (a, b); insert into link values (1,2,'p'), (2,3,'p');",
        "(1,1,p)",
    ),
    "a deferrable constraint": Merged(
        LINK
        + """alter table link add unique (b, a) deferrable initially deferred;
        insert into link values (1, 1, 'p'), (2, 3, 'p');""",
        "(1,1,p)",
    ),
    "NULL that collides with nothing": Merged(
        LINK
        + """create unique index on link (a, b);
        insert into link values (1, 1, null), (2, 2, null), (3, 3, null);""",
        "(1,1,) (2,1,) (3,1,)",
    ),
    "NULL that collides with NULL": Merged(
        LINK
        + """create unique index on link (a, b) nulls not distinct;
        insert into link values (1, 1, null), (2, 2, null), (3, 3, 'p');""",
        "(1,1,) (3,1,p)",
        since=15,
    ),
    "two keys that move at once": Merged(
        LETTER
        + """create table link (a int references letter, b int references letter,
            primary key (a, b));
        insert into link values (1, 4), (2, 5), (3, 6), (2, 6), (6, 2), (6, 3);""",
        "(1,4) (1,6) (6,1)",
    ),
    "a condition that holds for some": Merged(
        LINK
        + """create unique index on link (a) where b <> 'draft';
        insert into link values (1, 1, 'p'), (2, 2, 'draft'), (3, 2, 'p'), (4, 3, 'draft');""",
        "(1,1,p) (2,1,draft) (4,1,draft)",
    ),
    "a condition over what moves": Merged(
        LINK
        + """create unique index on link (b) where a = 1;
        insert into link values (1, 1, 'p'), (2, 2, 'p'), (3, 4, 'p'), (4, 5, 'p'), (5, 2, 'q');""",
        "(1,1,p) (3,4,p) (4,4,p) (5,1,q)",
    ),
    "an expression": Merged(
        LINK
        + """create unique index on link (lower(b), (a + 0));
        insert into link values (1, 1, 'P'), (2, 2, 'p'), (3, 3, 'q');""",
        "(1,1,P) (3,1,q)",
        KEEP,
    ),
    "a generated column": Merged(
        LETTER
        + """create table link (id int primary key, a int references letter, b text,
            g int generated always as (a * 10) stored, unique (g, b));
        insert into link values (1, 1, 'p'), (2, 2, 'p'), (3, 3, 'q');""",
        "(1,1,p,10) (3,1,q,10)",
    ),
    "citext": Merged(
        "create extension if not exists citext;"
        + LETTER
        + """create table link (id int primary key, a int references letter, b citext,
            unique (a, b));
        insert into link values (1, 1, 'P'), (2, 2, 'p'), (3, 3, 'q');""",
        "(1,1,P) (3,1,q)",
        KEEP,
    ),
    "a nondeterministic collation": Merged(
        BLIND
        + LETTER
        + """create table link (a int references letter, b text collate blind, primary key (a, b));
        insert into link values (1, 'P'), (2, 'p'), (3, 'q'), (3, 'p');""",
        "(1,P) (1,q)",
        KEEP,
    ),
    "an index with another collation than the column": Merged(
        BLIND
        + LINK
        + """create unique index on link (a, b collate blind);
        insert into link values (1, 1, 'P'), (2, 2, 'p'), (3, 3, 'q');""",
        "(1,1,P) (3,1,q)",
        KEEP,
    ),
    "values that are equal and not the same": Merged(
        LETTER
        + """create table link (id int primary key, a int references letter, b numeric,
            unique (a, b));
        insert into link values (1, 1, 1.0), (2, 2, 1.00), (3, 3, 2);""",
        "(1,1,1.0) (3,1,2)",
        KEEP,
    ),
    "an exclusion": Merged(
        GIST
        + LETTER
        + """create table link (id int primary key, a int references letter, b int4range,
            exclude using gist (a with =, b with &&));
        insert into link values (1, 1, '[1,5)'), (2, 2, '[4,9)'), (3, 3, '[8,12)'),
            (4, 3, '[1,5)'), (5, 4, '[1,5)');""",
        "(1,1,'[1,5)') (3,1,'[8,12)') (5,4,'[1,5)')",
        KEEP,
    ),
    "an exclusion under a condition and over an expression": Merged(
        GIST
        + LINK
        + """alter table link add exclude using gist ((a + 0) with =, b with =) where (b <> 'q');
        insert into link values (1, 1, 'p'), (2, 2, 'p'), (3, 3, 'q'), (4, 2, 'q');""",
        "(1,1,p) (3,1,q) (4,1,q)",
    ),
    "a period without overlaps": Merged(
        GIST
        + LETTER
        + """create table link (id int primary key, a int references letter, b int4range,
            unique (a, b without overlaps));
        insert into link values (1, 1, '[1,5)'), (2, 2, '[4,9)'), (3, 3, '[9,12)');""",
        "(1,1,'[1,5)') (3,1,'[9,12)')",
        KEEP,
        since=18,
    ),
    "an exclusion that is no equality": Merged(
        GIST
        + LETTER
        + """create table link (id int primary key, a int references letter, b text,
            exclude using gist (a with =, b with <>));
        insert into link values (1, 1, 'p'), (2, 2, 'p'), (3, 3, 'q');""",
        "(1,1,p) (2,1,p)",
        KEEP,
    ),
    "several constraints, of which each has its losers": Merged(
        LETTER
        + """create table link (id int primary key, a int references letter, b int, c int,
            unique (a, b), unique (a, c));
        insert into link values (1, 1, 1, 1), (2, 2, 1, 2), (3, 3, 2, 2), (4, 3, 3, 1);""",
        "(1,1,1,1) (3,1,2,2)",
        KEEP,
    ),
    "a one-to-one row": Merged(
        LETTER
        + """create table link (id int primary key references letter, b text);
        insert into link values (2, 'moves'), (4, 'p'), (5, 'p');""",
        "(1,moves) (4,p)",
    ),
    "the newest stays": Merged(
        LETTER
        + """create table link (id int primary key, a int unique references letter, at date);
        insert into link values (1, 1, '2026-01-01'), (2, 2, '2026-03-01'), (3, 3, null);""",
        "(2,1,2026-03-01)",
        (("collisions", "link=newest:at"),),
    ),
    "the oldest stays": Merged(
        LETTER
        + """create table link (id int primary key, a int unique references letter, at date);
        insert into link values (1, 1, '2026-02-01'), (2, 2, '2026-03-01'), (3, 3, '2026-01-01');
        """,
        "(3,1,2026-01-01)",
        (("collisions", "link=oldest:at"),),
    ),
    "the most complete stays": Merged(
        LETTER
        + """create table link (id int primary key, a int unique references letter, b text, c int);
        insert into link values (1, 1, '', null), (2, 2, 'p', null), (3, 3, null, null);""",
        "(2,1,p,)",
        (("collisions", "link=most_complete"),),
    ),
    "an expression says which stays": Merged(
        LETTER
        + """create table link (id int primary key, a int unique references letter, b text);
        insert into link values (1, 1, 'ccc'), (2, 2, 'bb'), (3, 3, 'a');""",
        "(3,1,a)",
        (("collisions", "link=(length(b)) asc"),),
    ),
    "links of which both ends become one survivor": Merged(
        LETTER
        + """create table link (a int references letter, b int references letter,
            check (a <> b), primary key (a, b));
        insert into link values (1, 2), (2, 3), (2, 4), (4, 5), (6, 1);""",
        "(1,4) (6,1)",
        (("links", "link=delete"),),
    ),
    "a link of a row with itself, which stays": Merged(
        LETTER
        + """create table link (id int primary key, a int references letter,
            b int references letter);
        insert into link values (1, 2, 2), (2, 4, 4), (3, 1, 1);""",
        "(1,1,1) (2,4,4) (3,1,1)",
    ),
    "a tenant that two keys share": Merged(
        """create table tenant (id int primary key); insert into tenant values (1), (2);
        create table letter (tenant int references tenant, id int, same text,
            primary key (tenant, id));
        insert into letter values (1, 1, 'a'), (1, 2, 'a'), (2, 1, 'b'), (2, 2, 'b');
        create table link (tenant int references tenant, a int, b text,
            foreign key (tenant, a) references letter, unique (tenant, a, b),
            id int primary key);
        insert into link values (1, 1, 'p', 1), (1, 2, 'p', 2), (2, 2, 'p', 3);""",
        "(1,1,p,1) (2,1,p,3)",
    ),
}


def of_link(db: Database) -> list[str]:
    rows = db.execute("select r::text from link as r order by 1")
    return [text.replace('"', "") for (text,) in rows]


@pytest.mark.parametrize("name", CASES)
def test_colliding_rows_are_merged_and_return(db: Database, name: str, major: int) -> None:
    case = CASES[name]
    if major < case.since:
        pytest.skip(f"needs PostgreSQL {case.since}")
    db.execute(case.sql)
    before = db.contents()
    path = db.plan(rules=case.rules)
    listed = json.loads(path.read_text().splitlines()[0])["resolutions"]
    done = db.apply(path, batch_size=1)
    assert done.stale == ()
    assert of_link(db) == sorted(case.link.replace("'", "").split())
    gone = len(before['"public"."link"']) - len(of_link(db))
    assert sum(resolution["rows"] for resolution in listed) == gone
    head = json.loads(db.plan(rules=case.rules).read_text().splitlines()[0])
    assert (head["duplicates"], head["resolutions"]) == (0, [])
    back = db.undo(done.run_id)
    assert (back.restored, back.kept) == (done.deleted, ())
    assert db.contents() == before


CHAIN = (
    LETTER
    + """
    create table link (id int primary key, a int references letter, b int, unique (a, b));
    create table deep (id int primary key, link_id int references link on delete cascade, b int,
        unique (link_id, b));
    create table deeper (deep_id int references deep on delete set null, link_id int
        references link, b int, primary key (deep_id, b));
    create table log (id int primary key, deep_id int references deep, letter_id int
        references letter);
    insert into link values (1, 1, 7), (2, 2, 7), (3, 3, 7), (4, 3, 8), (5, 4, 7), (6, 5, 7);
    insert into deep values (1, 1, 5), (2, 2, 5), (3, 3, 5), (4, 3, 6), (5, 5, 5), (6, 6, 5);
    insert into deeper values (1, 1, 9), (2, 2, 9), (3, 1, 8), (6, 6, 9), (4, 4, 4);
    insert into log values (1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 6, 5), (5, null, 2);
    """
)


def test_collisions_are_followed_to_any_depth(db: Database) -> None:
    db.execute(CHAIN)
    before = db.contents()
    done = db.apply(db.plan(), batch_size=1)
    after = db.contents()
    assert after['"public"."link"'] == ["(1,1,7)", "(4,1,8)", "(5,4,7)"]
    assert after['"public"."deep"'] == ["(1,1,5)", "(4,1,6)", "(5,5,5)"]
    assert after['"public"."deeper"'] == ["(1,1,8)", "(1,1,9)", "(4,4,4)", "(5,5,9)"]
    assert after['"public"."log"'] == ["(1,1,1)", "(2,1,1)", "(3,1,1)", "(4,5,4)", "(5,,1)"]
    db.undo(done.run_id)
    assert db.contents() == before


def test_a_tree_is_merged_level_by_level(db: Database) -> None:
    db.execute(
        """
        create table letter (id int primary key, above int references letter, name text, same text,
            unique (above, name));
        insert into letter values (1, null, 'r', 's'), (2, null, 'q', 's'), (3, 1, 'x', null),
            (4, 2, 'x', null), (5, 3, 'y', null), (6, 4, 'y', null), (7, 4, 'z', null),
            (8, 2, 'w', null), (9, 6, 'v', null);
        """
    )
    before = db.contents()
    done = db.apply(db.plan())
    assert db.contents()['"public"."letter"'] == [
        "(1,,r,s)",
        "(3,1,x,)",
        "(5,3,y,)",
        "(7,3,z,)",
        "(8,1,w,)",
        "(9,5,v,)",
    ]
    db.undo(done.run_id)
    assert db.contents() == before


def refuse(db: Database, rules: tuple[tuple[str, str], ...] = ()) -> list[str]:
    """What stands in the way of a plan."""
    with connect(db.engine()) as connection:
        schema = inspect_database(connection)
        criteria = Criteria(
            match=("same",), survivor=(), rules=read_rules(schema, schema.resolve_table, rules)
        )
        name = schema.resolve_table("letter")
        path: Path = db.folder / "refused.jsonl"
        plan = plan_dedupe(connection, schema, name, criteria, path)
    return [f"{obstacle.subject}: {obstacle.reason}" for obstacle in plan.obstacles]


def test_rows_that_differ_are_refused_and_both_are_shown(db: Database) -> None:
    db.execute(
        LETTER
        + """create table link (id int primary key, a int references letter, b int, c text, d date,
            unique (a, b));
        insert into link values (1, 1, 7, 'p', '2026-01-01'), (2, 2, 7, 'q', null);"""
    )
    assert refuse(db) == [
        "public.link unique key link_a_b_key: rows would collide once repointed: (2) and (1) "
        "differ in c ('q' / 'p'), d (NULL / '2026-01-01')"
    ]
    assert refuse(db, KEEP) == []


def test_rows_below_a_refused_collision_are_refused_as_well(db: Database) -> None:
    db.execute(CHAIN + "alter table deep add column note text; update deep set note = id::text;")
    told = refuse(db)
    assert any("public.deep unique key deep_link_id_b_key" in line for line in told)
    assert refuse(db, (("collisions", "deep=keep_survivors"),)) == []


def test_a_link_with_rows_of_its_own_is_not_deleted(db: Database) -> None:
    db.execute(
        LETTER
        + """create table link (id int primary key, a int references letter,
            b int references letter);
        create table note (id int primary key, link_id int references link on delete cascade);
        insert into link values (1, 1, 2), (2, 2, 3); insert into note values (8, 1);"""
    )
    (told,) = refuse(db, (("links", "link=delete"),))
    assert (
        told == "public.note.note_link_id_fkey: its survivors have no value to reference for "
        "rows: (8)"
    )


def test_a_collision_that_came_after_the_plan_leaves_its_cluster_alone(db: Database) -> None:
    db.execute(LINK + "create unique index on link (a, b); insert into link values (1, 2, 'p')")
    path = db.plan()
    db.execute("insert into link values (2, 1, 'p'), (3, 4, 'p'), (4, 5, 'q')")
    before = db.contents()
    done = db.apply(path)
    assert (done.stale, done.deleted, done.repointed) == ((1,), 1, 1)
    assert db.execute("select * from link order by id") == [
        (1, 2, "p"),
        (2, 1, "p"),
        (3, 4, "p"),
        (4, 4, "q"),
    ]
    db.undo()
    assert db.contents() == before


def test_collisions_are_derived_again_only_where_the_plan_does_not_know_all(db: Database) -> None:
    statements: list[str] = []

    def watch(engine: Engine) -> None:
        event.listen(
            engine, "before_cursor_execute", lambda _, __, said, *___: statements.append(said)
        )

    def derived() -> bool:
        found = any("fkdoctor_contest" in said for said in statements)
        statements.clear()
        return found

    db.execute(
        LINK
        + "create unique index on link (a, b); insert into link values (1, 1, 'p'), (2, 2, 'p')"
    )
    assert db.apply(db.plan(), watch=watch).deleted == 4
    assert statements
    assert not derived()
    db.undo()
    path = db.plan()
    db.execute("insert into link values (3, 4, 'p'), (4, 5, 'p')")
    assert db.apply(path, watch=watch).stale == (2,)
    assert derived()


def test_a_link_that_came_after_the_plan_leaves_its_cluster_alone(db: Database) -> None:
    db.execute(
        LETTER
        + """create table pair (id int primary key, a int references letter,
            b int references letter);
        insert into pair values (1, 1, 4), (2, 2, 5), (3, 1, 2);"""
    )
    path = db.plan(rules=(("links", "pair=delete"),))
    db.execute("insert into pair values (4, 4, 5)")
    before = db.contents()
    done = db.apply(path)
    assert done.stale == (2,)
    assert db.execute("select * from pair order by id") == [(1, 1, 4), (2, 1, 5), (4, 4, 5)]
    db.undo()
    assert db.contents() == before


@pytest.mark.parametrize(
    "change",
    [
        "delete from link where id = 1",
        "delete from link where id = 2",
        "update link set b = 'r' where id = 2",
        "update link set c = 'changed' where id = 1",
        "update link set c = 'changed' where id = 2",
        "update link set a = 6 where id = 1",
    ],
)
def test_a_collision_that_is_no_more_leaves_its_cluster_alone(db: Database, change: str) -> None:
    db.execute(
        LINK
        + """alter table link add column c text; create unique index on link (a, b);
        insert into link values (1, 1, 'p'), (2, 2, 'p'), (3, 4, 'p'), (4, 5, 'p')"""
    )
    path = db.plan(rules=KEEP)
    db.execute(change)
    before = db.contents()
    done = db.apply(path)
    assert (done.stale, done.deleted) == ((1,), 2)
    assert db.execute("select count(*) from letter where same = 'a'") == [(3,)]
    db.undo()
    assert db.contents() == before


def test_clusters_that_meet_in_a_collision_go_together(db: Database) -> None:
    db.execute(CASES["two keys that move at once"].sql)
    path = db.plan()
    head, *lines = map(json.loads, path.read_text().splitlines())
    assert (head["clusters"], head["survivors"], head["duplicates"]) == (1, 2, 3)
    (line,) = lines
    assert [merge["survivor"][0] for merge in line["tied"]] == ["4"]
    before = db.contents()
    db.execute("update letter set code = 'changed' where id = 5")
    changed = db.contents()
    assert db.apply(path).stale == (1,)
    assert db.contents() == changed != before


def test_undo_sees_what_happened_to_the_rows_that_stayed(db: Database) -> None:
    db.execute(CHAIN)
    done = db.apply(db.plan())
    db.execute("update log set deep_id = null where id = 3; delete from log where id = 4")
    merged = db.contents()
    back = db.undo(done.run_id, partly=True)
    assert back.kept == (1, 2)
    assert db.contents() == merged


def test_nothing_is_deleted_that_the_plan_does_not_list(db: Database) -> None:
    db.execute(CHAIN)
    path = db.plan()
    head, first, second = path.read_text().splitlines()
    document = json.loads(first)
    document["collisions"].pop()
    path.write_text("\n".join([head, json.dumps(document), second]) + "\n")
    before = db.contents()
    done = db.apply(path)
    assert done.stale == (1,)
    after = db.contents()
    assert after['"public"."letter"'] == [
        row for row in before['"public"."letter"'] if not row.startswith("(5,")
    ]
