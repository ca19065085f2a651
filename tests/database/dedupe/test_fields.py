"""What survivors take over from their duplicates."""

from __future__ import annotations

from typing import Any

import pytest

from fkdoctor.errors import Blocked, ConfigError

Database = Any  # the fixture's class lives in conftest.py

# Of each, three rows that are merged into the first, in the order of their keys.
RULES = {
    "keep": ("note text", "'a', 'b', 'c'", "keep", "a"),
    "coalesce": ("note text", "null, 'b', 'c'", "coalesce", "b"),
    "coalesce over empty text": ("note text", "'', null, 'c'", "coalesce", "c"),
    "coalesce of nothing": ("note text", "null, null, null", "coalesce", None),
    "coalesce of arrays": (
        "note int[]",
        "null, '{{1,2},{3,4}}', '{5}'",
        "coalesce",
        [[1, 2], [3, 4]],
    ),
    "coalesce of json": ("note json", "null, '{\"a\":  1}', null", "coalesce", {"a": 1}),
    "newest": ("note text", "'a', 'b', 'c'", "newest:at", "b"),
    "newest that is there": ("note text", "'a', null, 'c'", "newest:at", "a"),
    "oldest": ("note text", "'a', 'b', 'c'", "oldest:at", "c"),
    "longest": ("note text", "'a', 'bbb', 'cc'", "longest", "bbb"),
    "sum": ("note int", "1, null, 3", "sum", 4),
    "sum of numerics": ("note numeric(6, 2)", "1.25, 2.50, null", "sum", 3.75),
    "min": ("note date", "'2026-02-01', null, '2026-01-01'", "min", "2026-01-01"),
    "max": ("note timestamptz", "'2026-02-01', null, '2026-03-01 UTC'", "max", "2026-03-01"),
    "and": ("note bool", "true, null, false", "and", False),
    "or": ("note bool", "false, null, true", "or", True),
    "concat": ("note text", "'b', 'a', 'b'", "concat", "b; a"),
    "union of arrays": (
        "note int[]",
        "'{3,1}', null, '{2,3,null,4}'",
        "union",
        [3, 1, 2, None, 4],
    ),
    "union of texts": (
        "note text[]",
        "null, '{b,\"a,b\"}', '{a,b}'",
        "union",
        ["b", "a,b", "a"],
    ),
    "union of empty arrays": ("note int[]", "'{}', null, '{}'", "union", []),
    "union of no arrays": ("note int[]", "null, null, null", "union", None),
    "union of lists": (
        "note jsonb",
        "null, '[2, {\"a\": 1}]', '[\"2\", 2, 1]'",
        "union",
        [2, {"a": 1}, "2", 1],
    ),
    "union of objects": (
        "note jsonb",
        '\'{"a": 1}\', \'{"a": 2, "b": {"c": 1}}\', \'{"b": 3, "d": null}\'',
        "union",
        {"a": 1, "b": {"c": 1}, "d": None},
    ),
    "union of kinds": ("note jsonb", "'[1]', '{\"a\": 2}', '7'", "union", [1]),
    "union of scalars": ("note jsonb", "'\"x\"', '[1]', null", "union", "x"),
    "expression": (
        "note int",
        "1, 5, 3",
        "(survivor.note * 100 + sum(duplicate.note) * count(duplicate.id) % 7)",
        102,
    ),
    "expression with order": (
        "note text",
        "'a', 'b', 'c'",
        "(string_agg(duplicate.note, '%:x ' order by duplicate.at) || survivor.note)",
        "c%:x ba",
    ),
    "expression with a condition": (
        "note bool",
        "false, null, true",
        "(case when bool_or(duplicate.note) then true else survivor.note end)",
        True,
    ),
    "concat with a separator": ("note text", "'x', null, 'y'", "concat: / ", "x / y"),
}


def table_of(column: str, values: str) -> str:
    rows = ", ".join(
        f"({id_}, 'same', '{at}', {value})"
        for id_, at, value in zip(
            (1, 2, 3), ("2026-02-01", "2026-03-01", "2026-01-01"), split(values), strict=True
        )
    )
    return f"""
        create table letter (id int primary key, same text, at date, {column});
        insert into letter values {rows};
        create table visit (id int primary key, letter_id int references letter);
        insert into visit values (1, 2), (2, 3);
    """


def split(values: str) -> list[str]:
    """The three values, of which one may have commas in quotes."""
    found, quoted = [""], False
    for sign in values:
        quoted ^= sign == "'"
        if sign == "," and not quoted:
            found.append("")
        else:
            found[-1] += sign
    return found


@pytest.mark.parametrize("name", RULES)
def test_a_rule_decides_what_the_survivor_holds(db: Database, name: str) -> None:
    column, values, rule, expected = RULES[name]
    db.execute(table_of(column, values))
    before = db.contents()
    db.apply(db.plan(fields=(f"note={rule}",)))
    ((held,),) = db.execute("select note from letter")
    assert str(held).startswith(str(expected)) if isinstance(expected, str) else held == expected
    assert db.execute("select count(*) from visit where letter_id = 1") == [(2,)]
    db.undo()
    assert db.contents() == before


def test_unique_values_are_taken_over_when_the_duplicate_is_gone(db: Database) -> None:
    db.execute(
        """
        create table letter (id int primary key, same text, code text unique, slug text);
        create unique index on letter (lower(slug));
        insert into letter values (1, 'a', null, ''), (2, 'a', 'x', 'S'), (3, 'b', null, null),
            (4, 'b', 'y', 't');
        create table visit (id int primary key, code text references letter (code)
            on update cascade);
        insert into visit values (1, 'y');
        """
    )
    before = db.contents()
    with pytest.raises(AssertionError, match="no value to reference"):
        db.plan(fields=("code=coalesce", "slug=coalesce"))
    db.execute("delete from visit")
    done = db.apply(db.plan(fields=("code=coalesce", "slug=coalesce")))
    assert db.execute("select * from letter order by id") == [
        (1, "a", "x", "S"),
        (3, "b", "y", "t"),
    ]
    db.undo(done.run_id)
    db.execute("insert into visit values (1, 'y')")
    assert db.contents() == before


def test_a_survivor_that_was_changed_since_is_a_conflict(db: Database) -> None:
    db.execute(table_of("note text", "null, 'b', 'c'"))
    db.apply(db.plan(fields=("note=coalesce",)))
    db.execute("update letter set note = 'mine'")
    merged = db.contents()
    assert db.undo(partly=True).kept == (1,)
    assert db.contents() == merged


def test_a_trigger_that_changes_what_was_taken_over_stops_the_run(db: Database) -> None:
    db.execute(
        table_of("note text", "null, 'b', 'c'")
        + """
        create function f() returns trigger language plpgsql as $$ begin
            new.note := 'mine'; return new;
        end $$;
        create trigger t before update on letter for each row execute function f();
        """
    )
    before = db.contents()
    with pytest.raises(Blocked, match="do not hold what the rules"):
        db.apply(db.plan(fields=("note=coalesce",)))
    assert db.contents() == before


def test_colliding_rows_take_over_what_they_lack(db: Database) -> None:
    db.execute(
        """
        create table letter (id int primary key, same text);
        insert into letter values (1, 'a'), (2, 'a'), (3, 'a');
        create table link (letter_id int references letter, kind text, note text, seen int,
            primary key (letter_id, kind));
        create table pair (id int primary key, letter_id int unique references letter, n int);
        insert into link values (1, 'p', null, 1), (2, 'p', 'b', 5), (3, 'p', 'c', 3),
            (2, 'q', null, 2), (3, 'q', 'd', 1);
        insert into pair values (1, 2, 7), (2, 3, 8);
        """
    )
    before = db.contents()
    path = db.plan(
        rules=(("collisions", "link=merge_fields"), ("collisions", "pair=keep_survivors")),
        fields=("link.seen=max", "pair.n=sum"),
    )
    done = db.apply(path)
    assert db.execute("select * from link order by kind") == [(1, "p", "b", 5), (1, "q", "d", 2)]
    assert db.execute("select * from pair") == [(1, 1, 15)]
    db.undo(done.run_id)
    assert db.contents() == before


@pytest.mark.parametrize(
    ("field", "complaint"),
    [
        ("note", "is no rule for a column"),
        ("note=best", "no rule 'best'"),
        ("note=sum:x", "no rule 'sum:x'"),
        ("nothing=keep", "has no column nothing"),
        ("id=max", "can have no rule"),
        ("note=newest:nothing", "has no column nothing"),
        ("note=sum", "function pg_catalog.sum(text) does not exist"),
        ("visit.letter_id=max", None),
        ("note=union", "has no union"),
        ("note=(note || 'x')", "every column is of the survivor or of a duplicate"),
        ("note=(duplicate.note)", "must appear in the GROUP BY"),
        ("note=(max(duplicate.nothing))", "names duplicate.nothing"),
        ("note=((select max(note) from letter))", "may only compute"),
        ("note=(survivor.note) from letter; drop table letter", "cannot be read as SQL"),
        ("note=(row_number() over (order by survivor.note))", "windows"),
        ("note=(1)", "names no column"),
        ("note=(survivor.id / 0)", "division by zero"),
    ],
)
def test_rules_that_cannot_be_are_refused(db: Database, field: str, complaint: str | None) -> None:
    db.execute(table_of("note text", "'a', 'b', 'c'"))
    if complaint is None:  # no row of that table stays for others
        db.plan(fields=(field,))
        return
    with pytest.raises(ConfigError) as refused:
        db.plan(fields=(field,))
    assert complaint in str(refused.value)
