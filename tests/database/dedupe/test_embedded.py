"""References within values: elements of arrays, and what a path leads to in JSON."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from fkdoctor.config import Config, ReferenceConfig
from fkdoctor.database import connect
from fkdoctor.dedupe.plan import DedupePlan
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.dedupe.policy import read_rules
from fkdoctor.errors import Blocked, ConfigError, UndoConflict
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.inspect.logical import declare

Database = Any  # the fixture's class lives in conftest.py

LETTER = """
    create table letter (id int primary key, same text, code text, uid uuid);
    insert into letter select n, s, 'code ' || n, md5(n::text)::uuid
        from (values (1, 'a'), (2, 'a'), (3, 'a'), (4, 'b'), (5, 'b'), (6, 'c'), (7, 'd'))
            as v (n, s);
"""


def plan(
    db: Database, *references: ReferenceConfig, rules: tuple[tuple[str, str], ...] = ()
) -> tuple[DedupePlan, Path]:
    path = db.folder / "plan.jsonl"
    with connect(db.engine()) as connection:
        schema = declare(inspect_database(connection), Config(references=references))
        criteria = Criteria(
            match=("same",), survivor=(), rules=read_rules(schema, schema.resolve_table, rules)
        )
        name = schema.resolve_table("letter")
        return plan_dedupe(connection, schema, name, criteria, path), path


def array(column: str = "letters", to: str = "id", where: str | None = None) -> ReferenceConfig:
    return ReferenceConfig(
        source=f"public.visit.{column}[]", target=f"public.letter.{to}", where=where
    )


def in_json(path: str, to: str = "id", where: str | None = None) -> ReferenceConfig:
    return ReferenceConfig(
        source="public.visit.doc", target=f"public.letter.{to}", path=path, where=where
    )


def check(
    db: Database, column: str, expected: list[Any], *references: ReferenceConfig
) -> DedupePlan:
    """Merges, compares the column of visit in the order of ids, and takes it back."""
    before = db.contents()
    made, path = plan(db, *references)
    assert made.obstacles == ()
    done = db.apply(path)
    assert [value for (value,) in db.execute(f"select {column} from visit order by id")] == expected
    assert (done.stale, done.repointed) == ((), made.moving)
    assert plan(db, *references)[0].duplicates == 0
    back = db.undo(done.run_id)
    assert back.kept == ()
    assert 0 <= done.repointed - back.repointed <= (done.repointed if len(references) > 1 else 0)
    assert db.contents() == before
    return made


def test_elements_of_arrays_move_and_return(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letters int[]);
        insert into visit values (1, '{2}'), (2, '{7,3,6,2,7}'), (3, '{5,1,4}'), (4, '{}'),
            (5, null), (6, '{1,1,6,6}'), (7, '{null,2,null,99}'), (8, '[3:4]={2,1}'),
            (9, '{2,3}');"""
    )
    expected = [
        [1],
        [7, 1, 6, 7],
        [4, 1],
        [],
        None,
        [1, 1, 6, 6],
        [None, 1, None, 99],
        [1],
        [1],
    ]
    made = check(db, "letters", expected, array())
    assert made.moving == 6
    assert any("letters is only declared in fkdoctor.toml" in caveat for caveat in made.caveats)


@pytest.mark.parametrize(
    ("kind", "to", "value"),
    [
        ("bigint[]", "id", "array[{0}]::bigint[]"),
        ("text[]", "id", "array['{0}']"),
        ("varchar(9)[]", "code", "array['code {0}']::varchar(9)[]"),
        ("uuid[]", "uid", "array[md5('{0}')::uuid]"),
    ],
)
def test_arrays_may_be_of_other_types(db: Database, kind: str, to: str, value: str) -> None:
    db.execute(
        LETTER
        + f"""create table visit (id int primary key, letters {kind});
        insert into visit values (1, {value.format(2)}), (2, {value.format(6)});"""
    )
    ((one, six),) = db.execute(f"select ({value.format(1)})::text, ({value.format(6)})::text")
    check(db, "letters::text", [one, six], array(to=to))


def test_a_condition_chooses_the_rows(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, kind text, letters int[]);
        insert into visit values (1, 'letter', '{2}'), (2, 'job', '{2}'), (3, null, '{2}');"""
    )
    check(db, "letters", [[1], [2], [2]], array(where="kind = 'letter'"))


DOCUMENTS: dict[str, tuple[str, Any, Any]] = {
    "a name": ("$.letter", {"letter": 2, "x": 2}, {"letter": 1, "x": 2}),
    "names below names": ("$.a.letter", {"a": {"letter": "3"}}, {"a": {"letter": "1"}}),
    "a list": ("$.ids[*]", {"ids": [7, 2, 3, 7, "5", 4]}, {"ids": [7, 1, 7, "4", 4]}),
    "the document as a list": ("$[*]", [2, 3, None, [2], True], [1, None, [2], True]),
    "objects in a list": (
        "$.items[*].letter",
        {"items": [{"letter": 2, "n": 1}, {"letter": 3}, {"n": 2}, 2, {"letter": 6}]},
        {"items": [{"letter": 1, "n": 1}, {"letter": 1}, {"n": 2}, 2, {"letter": 6}]},
    ),
    "lists in a list": (
        "$[*].ids[*]",
        [{"ids": [2, 1]}, {"ids": [5]}, {"ids": []}, {"ids": 2}],
        [{"ids": [1]}, {"ids": [4]}, {"ids": []}, {"ids": 2}],
    ),
    "lists of lists": ("$[*][*]", [[2, 6], [3, 2]], [[1, 6], [1]]),
    "a name in quotes": ('$."letter id"', {"letter id": 5}, {"letter id": 4}),
    "nothing there": ("$.letter", {"letters": 2}, {"letters": 2}),
    "something else there": ("$.letter", {"letter": {"id": 2}}, {"letter": {"id": 2}}),
    "a scalar": ("$.letter", 2, 2),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_a_path_leads_to_moves_and_returns(db: Database, name: str) -> None:
    path, document, expected = DOCUMENTS[name]
    db.execute(LETTER + "create table visit (id int primary key, doc jsonb)")
    db.execute("insert into visit values (1, %s), (2, null), (3, '{}')", (json.dumps(document),))
    check(db, "doc", [expected, None, {}], in_json(path))


def test_keys_that_are_no_numbers_are_found_in_json(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, doc jsonb);
        insert into visit select 1, jsonb_build_object('u', uid, 'c', code)
            from letter where id = 3;
        insert into visit values (2, '{"c": "code 7", "u": 3}');"""
    )
    ((uid,),) = db.execute("select uid::text from letter where id = 1")
    expected = [{"u": uid, "c": "code 1"}, {"c": "code 7", "u": 3}]
    check(db, "doc", expected, in_json("$.u", "uid"), in_json("$.c", "code"))


def test_clusters_that_meet_in_one_value_go_together(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letters int[]);
        insert into visit values (1, '{2,5}');"""
    )
    made, path = plan(db, array())
    assert (made.clusters, made.survivors) == (1, 2)
    db.execute("update letter set code = 'new' where id = 5")
    before = db.contents()
    assert db.apply(path).stale == (1,)
    assert db.contents() == before


def test_clusters_that_meet_in_one_document_by_two_paths_go_together(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, doc jsonb);
        insert into visit values (1, '{"from": 2, "to": [5]}'), (2, '{"from": 3, "to": [2, 3]}');"""
    )
    references = (in_json("$.from"), in_json("$.to[*]"))
    assert plan(db, *references)[0].clusters == 1
    check(db, "doc", [{"from": 1, "to": [4]}, {"from": 1, "to": [1]}], *references)


def test_clusters_that_came_to_meet_are_left_alone(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letters int[]);
        insert into visit values (1, '{2}');"""
    )
    _, path = plan(db, array())
    db.execute("insert into visit values (2, '{2,5}')")
    before = db.contents()
    assert db.apply(path).stale == (1, 2)
    assert db.contents() == before


def test_a_value_that_was_changed_since_is_a_conflict(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letters int[]);
        insert into visit values (1, '{2}'), (2, '{5}');"""
    )
    before = db.contents()
    done = db.apply(plan(db, array())[1])
    db.execute("update visit set letters = letters || 7 where id = 1")
    with pytest.raises(UndoConflict, match="letters"):
        db.undo(done.run_id)
    assert len(db.undo(done.run_id, partly=True).kept) == 1
    db.execute("update visit set letters = '{1}' where id = 1")
    db.undo(done.run_id)
    assert db.contents() == before


def test_rows_that_collide_and_go_keep_their_values_for_undo(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letter int references letter, unique (letter),
            letters int[]);
        insert into visit values (1, 1, '{2}'), (2, 2, '{3}'), (3, 5, '{3,2}');"""
    )
    before = db.contents()
    _, path = plan(db, array(), rules=(("collisions", "visit=keep_survivors"),))
    done = db.apply(path)
    assert db.execute("select * from visit order by id") == [(1, 1, [1]), (3, 4, [1])]
    db.undo(done.run_id)
    assert db.contents() == before


def test_a_row_that_collides_goes_together_with_those_that_its_values_lead_to(
    db: Database,
) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letter int references letter, unique (letter),
            letters int[]);
        insert into visit values (1, 4, null), (2, 5, '{2}'), (3, 1, '{6}');"""
    )
    before = db.contents()
    made, path = plan(db, array(), rules=(("collisions", "visit=keep_survivors"),))
    assert (made.clusters, made.survivors) == (1, 2)
    done = db.apply(path, batch_size=1)
    assert done.stale == ()
    assert db.execute("select * from visit order by id") == [(1, 4, None), (3, 1, [6])]
    db.undo(done.run_id)
    assert db.contents() == before


def test_rows_whose_identity_moves_are_found_again(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (letter int references letter, n int, letters int[],
            primary key (letter, n));
        insert into visit values (2, 1, '{3}'), (5, 2, '{2,4}');"""
    )
    before = db.contents()
    done = db.apply(plan(db, array())[1], batch_size=1)
    assert db.execute("select * from visit order by n") == [(1, 1, [1]), (4, 2, [1, 4])]
    assert db.undo(done.run_id).kept == ()
    assert db.contents() == before


def test_rows_whose_identity_moves_after_their_values_are_found_again(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letter int references letter, unique (letter));
        insert into visit values (1, 1), (2, 2);
        create table note (letter int references letter, n int, visits int[],
            primary key (letter, n));
        insert into note values (2, 1, '{2}'), (5, 2, '{2,1}');"""
    )
    before = db.contents()
    visits = ReferenceConfig(source="public.note.visits[]", target="public.visit.id")
    done = db.apply(plan(db, visits, rules=(("collisions", "visit=keep_survivors"),))[1])
    assert db.execute("select * from note order by n") == [(1, 1, [1]), (4, 2, [1])]
    assert db.undo(done.run_id).kept == ()
    assert db.contents() == before


def test_a_value_that_leads_to_a_link_that_goes_is_refused(db: Database) -> None:
    db.execute(
        LETTER
        + """create table link (id int primary key, one int references letter,
            other int references letter);
        insert into link values (1, 1, 2), (2, 4, 6);
        create table note (id int primary key, links int[]);
        insert into note values (7, '{2,1}'), (8, '{2}');"""
    )
    links = ReferenceConfig(source="public.note.links[]", target="public.link.id")
    made, _ = plan(db, links, rules=(("links", "link=delete"),))
    (obstacle,) = made.obstacles
    assert obstacle.subject == "public.note.links"
    assert obstacle.reason == "its survivors have no value to reference for rows: (7)"


def test_what_cannot_be_done_is_refused_by_name(db: Database) -> None:
    db.execute(
        LETTER
        + """alter table letter add near int[];
        update letter set near = '{2}' where id = 1;
        create table visit (id int primary key, letters int[], days date[], doc json,
            keys int[] unique);
        insert into visit values (1, '{{2,3},{4,5}}', '{}', '{"id": 2}', '{2}');
        create table bare (letters int[]); insert into bare values ('{2}');"""
    )
    before = db.contents()
    made, path = plan(
        db,
        array(),
        array("days"),
        array("keys"),
        in_json("$.id"),
        ReferenceConfig(source="public.bare.letters[]", target="public.letter.id"),
        ReferenceConfig(source="public.letter.near[]", target="public.letter.id"),
    )
    told = {obstacle.subject: obstacle.reason for obstacle in made.obstacles}
    assert told["public.visit.letters"] == "it has arrays of several dimensions: (1)"
    assert told["public.visit.days"] == "date[] is not compared with integer"
    assert "visit_keys_key is unique over it" in told["public.visit.keys"]
    assert "it is of type json" in told["public.visit.doc $.id"]
    assert "neither primary key nor unique" in told["public.bare.letters"]
    assert "reference duplicates themselves: (1)" in told["public.letter.near"]
    with pytest.raises(Blocked):
        db.apply(path)
    assert db.contents() == before


@pytest.mark.parametrize("names", [("holder", "target"), ("target", "holder")])
def test_what_a_row_takes_over_is_never_what_moves(db: Database, names: tuple[str, str]) -> None:
    """In whatever order the tables are merged: no value that holds a row that goes is left."""
    holder, target = names
    db.execute(
        f"""
        create table letter (id int primary key, same text);
        create table {target} (id int primary key, letter_id int unique references letter);
        create table {holder} (id int primary key, letter_id int unique references letter,
            note text, held int[]);
        insert into letter values (1, 'a'), (2, 'a');
        insert into {target} values (1, 1), (2, 2);
        insert into {holder} values (1, 1, null, '{{2,7}}'), (2, 2, 'n', '{{2,9}}');
        """
    )
    before = db.contents()
    references = [ReferenceConfig(source=f"public.{holder}.held[]", target=f"public.{target}.id")]
    rules = [("collisions", f"{holder}=merge_fields")]
    done = db.apply(db.plan(rules=rules, references=references))
    assert db.execute(f"select * from {holder}") == [(1, 1, "n", [1, 7])]
    db.undo(done.run_id)
    assert db.contents() == before
    with pytest.raises(ConfigError, match="can have no rule"):
        db.plan(rules=rules, references=references, fields=[f"{holder}.held=union"])


def test_a_name_within_a_longer_one_is_another_column(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letters int[], letters_seen text);
        create unique index on visit (lower(letters_seen)) where letters_seen <> 'letter';
        insert into visit values (1, '{2}', 'x');"""
    )
    check(db, "letters", [[1]], array())


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        (ReferenceConfig(source="public.visit.doc", target="public.letter.id"), "Give a path"),
        (
            ReferenceConfig(source="public.visit.id", target="public.letter.id", path="$.a"),
            "Give a path",
        ),
        (in_json("letters"), "cannot be read"),
        (in_json("$"), "cannot be read"),
        (in_json("$.a[0]"), "cannot be read"),
        (in_json("$.a ? (@ > 1)"), "cannot be read"),
    ],
)
def test_paths_that_are_none_are_refused(
    db: Database, reference: ReferenceConfig, complaint: str
) -> None:
    db.execute(LETTER + "create table visit (id int primary key, doc jsonb)")
    with pytest.raises(ConfigError) as refused:
        plan(db, reference)
    assert complaint in str(refused.value)


def test_a_trigger_that_keeps_a_value_stops_the_run(db: Database) -> None:
    db.execute(
        LETTER
        + """create table visit (id int primary key, letters int[]);
        insert into visit values (1, '{2}');
        create function keep() returns trigger language plpgsql as $$ begin
            return old;
        end $$;
        create trigger t before update on visit for each row execute function keep();"""
    )
    before = db.contents()
    _, path = plan(db, array())
    with pytest.raises(Blocked, match="a trigger or rule is in between"):
        db.apply(path)
    assert db.contents() == before


def test_a_value_that_is_written_meanwhile_waits(db: Database) -> None:
    """The table is locked against writers; one that began before is waited for, and moves."""
    db.execute(LETTER + "create table visit (id int primary key, letters int[])")
    _, path = plan(db, array())
    waiting = (
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and wait_event_type = 'Lock'"
    )
    with psycopg2.connect(db.url) as holder, holder.cursor() as cursor:
        cursor.execute("insert into visit values (1, '{2,3,6}')")
        merge = threading.Thread(target=lambda: db.apply(path, lock_timeout=20_000))
        merge.start()
        while db.execute(waiting) != [(1,)]:
            pass
        holder.commit()
        merge.join()
    holder.close()
    assert db.execute("select letters from visit") == [([1, 6],)]


def merge_document(value: Any, steps: list[str], into: dict[int, int]) -> Any:
    """The oracle: row by row, element by element."""
    if not steps:
        is_key = isinstance(value, int | str) and not isinstance(value, bool)
        if is_key and str(value).isdigit() and int(value) in into:
            return into[int(value)] if isinstance(value, int) else str(into[int(value)])
        return value
    first, *rest = steps
    if first != "*":
        if isinstance(value, dict) and first in value:
            return value | {first: merge_document(value[first], rest, into)}
        return value
    if not isinstance(value, list):
        return value
    merged = [merge_document(one, rest, into) for one in value]
    if rest or merged == value:
        return merged
    reached = [new for old, new in zip(value, merged, strict=True) if repr(old) != repr(new)]
    kept: list[Any] = []
    for one in merged:
        if any(repr(one) == repr(r) for r in reached) and any(repr(one) == repr(k) for k in kept):
            continue
        kept.append(one)
    return kept


def draw(random_: random.Random, depth: int) -> Any:
    kind = random_.randrange(8 if depth else 5)
    if kind < 4:
        return random_.choice([1, 2, 3, 4, 5, 6, 99, "2", "3", "x", None, True, 2.5, -2])
    if kind < 6:
        return [draw(random_, depth - 1) for _ in range(random_.randrange(5))] if depth else None
    return {name: draw(random_, depth - 1) for name in random_.sample("ab", random_.randrange(3))}


@pytest.mark.parametrize("seed", range(4))
def test_random_values_become_what_the_oracle_says(db: Database, seed: int) -> None:
    random_ = random.Random(seed)
    steps = [["*"], ["a"], ["a", "*"], ["*", "a"], ["*", "*"], ["a", "*", "b"], ["*", "a", "*"]]
    path = random_.choice(steps)
    written = "$" + "".join("[*]" if step == "*" else f".{step}" for step in path)
    documents = [draw(random_, 4) for _ in range(250)]
    arrays = [
        [random_.choice([1, 2, 3, 4, 5, 6, 99, None]) for _ in range(random_.randrange(7))]
        for _ in range(250)
    ]
    db.execute(LETTER + "create table visit (id int primary key, letters int[], doc jsonb)")
    with psycopg2.connect(db.url) as connection, connection.cursor() as cursor:
        for id_, (document, one) in enumerate(zip(documents, arrays, strict=True)):
            cursor.execute(
                "insert into visit values (%s, %s::int[], %s)", (id_, one, json.dumps(document))
            )
    connection.close()
    into = {2: 1, 3: 1, 5: 4}
    expected = [
        (merge_document(one, ["*"], into), merge_document(document, path, into))
        for document, one in zip(documents, arrays, strict=True)
    ]
    before = db.contents()
    done = db.apply(plan(db, array(), in_json(written))[1])
    assert db.execute("select letters, doc from visit order by id") == expected
    assert db.undo(done.run_id).kept == ()
    assert db.contents() == before
