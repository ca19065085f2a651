"""Values in every form: what a key calls equal moves, and every row returns to the last byte."""

from __future__ import annotations

from typing import Any

import pytest

Database = Any  # the fixture's class lives in conftest.py


# A column type, what it needs, two different values, and other texts that the type calls equal.
EQUAL = {
    "numeric": ("numeric", "", ["1", "2"], ["1.0", "2.00"]),
    "double precision": ("float8", "", ["0", "1e300"], ["-0", "1e300"]),
    "char(n)": ("char(5)", "", ["a", "b"], ["a", "b"]),
    "interval": ("interval", "", ["1 mon", "2 mon"], ["30 days", "60 days"]),
    "citext": ("citext", "create extension citext", ["A", "B"], ["a", "b"]),
    "no case": (
        "text collate nocase",
        "create collation nocase (provider = icu, locale = 'und-u-ks-level2', "
        "deterministic = false)",
        ["A", "B"],
        ["a", "b"],
    ),
    "domain": ("code", "create domain code as varchar(9) not null", ["a", "b"], ["a", "b"]),
    "array": ("numeric[]", "", ["[0:1]={1,2}", "{3}"], ["[0:1]={1.0,2}", "{3.00}"]),
    "range": ("numrange", "", ["[1,)", "empty"], ["[1.0,)", "(1,1)"]),
    "bit(n)": ("bit(3)", "", ["101", "111"], ["101", "111"]),
    "bit": ("bit varying", "", ["101", "1"], ["101", "1"]),
    "bytea": ("bytea", "", ["\\x00", ""], ["\\x00", ""]),
    "jsonb": ("jsonb", "", ["1", "2"], ["1.0", "2.00"]),
    "time": (
        "timestamptz",
        "",
        ["2026-01-01 0:00+9", "infinity"],
        ["2025-12-31 15:00Z", "infinity"],
    ),
    "inet": ("inet", "", ["10.0.0.1", "::1/64"], ["10.0.0.1/32", "::1/64"]),
    "enum": ("mood", "create type mood as enum ('a', 'b b')", ["a", "b b"], ["a", "b b"]),
    "composite": (
        "pair",
        "create type pair as (x numeric, y text)",
        ['(1,"a ""b")', "(2,)"],
        ['(1.0,"a ""b")', "(2.0,)"],
    ),
}


@pytest.mark.parametrize(
    ("name", "primary"),
    [(name, True) for name in EQUAL] + [(name, False) for name in ("char(n)", "citext", "domain")],
)
def test_values_equal_to_the_key_move_and_return_as_they_were_written(
    db: Database, name: str, primary: bool
) -> None:
    type_, needs, values, others = EQUAL[name]
    key = "code" if primary else "id"
    db.execute(
        f"""
        {needs};
        create table letter (id int, code {type_} not null unique, same text, primary key ({key}));
        create table recommendation (id int primary key, code {type_} references letter (code)
            on delete cascade);
        """
    )
    db.execute("insert into letter values (1, %s, 'a'), (2, %s, 'a')", values)
    db.execute(
        "insert into recommendation values (1, %s), (2, %s), (3, %s), (4, %s)",
        (*values, *others),
    )
    db.check_round_trip(2)


ACROSS = {
    # What blanks follow matters to text, not to char(n), by which the key compares.
    "text to char(n)": ("char(5)", "text", ("ab", "cd"), ("ab  ", "cd   ")),
    "varchar to char(n)": ("char(5)", "varchar(9)", ("ab", "cd"), ("ab  ", "cd   ")),
    "char(n) to text": ("text", "char(5)", ("ab", "cd"), ("ab", "cd")),
    "char(n) to name": ("name", "char(9)", ("ab", "cd"), ("ab", "cd")),
    "text to name": ("name", "text", ("ab", "cd"), ("ab", "cd")),
    "int to numeric": ("numeric", "int", ("1.00", "2.0"), ("1", "2")),
    "real to double": ("float8", "float4", ("0", "2"), ("-0", "2")),
    "date to timestamptz": ("timestamptz", "date", ("2026-01-01", "2026-01-02"),
                            ("2026-01-01", "2026-01-02")),
    "inet to cidr": ("cidr", "inet", ("10.0.0.0/8", "::/0"), ("10.0.0.0/8", "::/0")),
    "int to oid": ("oid", "int", ("1", "2"), ("1", "2")),
}  # fmt: skip


@pytest.mark.parametrize("name", ACROSS)
def test_keys_between_types_compare_as_postgresql_does(db: Database, name: str) -> None:
    referenced, referencing, values, pointers = ACROSS[name]
    db.execute(
        f"""
        create table letter (id {referenced} primary key, same text);
        create table recommendation (id int primary key, letter_id {referencing}
            references letter on delete cascade);
        """
    )
    db.execute("insert into letter values (%s, 'a'), (%s, 'a')", values)
    db.execute("insert into recommendation values (1, %s), (2, %s)", pointers)
    db.check_round_trip(1)


def test_a_key_between_collations_compares_by_that_of_the_referenced_column(
    db: Database, major: int
) -> None:
    if major >= 18:
        pytest.skip("PostgreSQL 18 takes no such key")
    db.execute(
        """
        create collation nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        create table letter (code text collate nocase primary key, same text);
        create table plain (id int primary key, code text references letter on delete cascade);
        create table bytes (id int primary key, code text collate "C" references letter
            on delete cascade);
        insert into letter values ('A', 'x'), ('B', 'x');
        insert into plain values (1, 'a'), (2, 'b'), (3, 'B');
        insert into bytes values (1, 'a'), (2, 'b'), (3, 'B');
        """
    )
    db.check_round_trip(4)


def test_a_duplicate_with_every_type_returns_as_it_was_under_other_settings(
    db: Database, major: int
) -> None:
    available = {name for (name,) in db.execute("select name from pg_available_extensions")}
    columns = dict(TYPES)
    if major >= 14:
        columns["ranges"] = ("tstzmultirange", "'{[2026-01-01 0:00+9,2026-01-02 0:00+9)}'")
    if major >= 13:
        columns["transaction"] = ("xid8", "'18446744073709551615'")
    needs = ""
    for name, type_, value in (
        ("citext", "citext", "'Ä ä'"),
        ("hstore", "hstore", '\'a=>NULL, "b c"=>""\''),
        ("ltree", "ltree", "'a.b.c'"),
    ):
        if name in available:
            needs += f"create extension {name};"
            columns[name] = (type_, value)
    listed = ", ".join(f'"{name}" {type_}' for name, (type_, _) in columns.items())
    names = ", ".join(f'"{name}"' for name in columns)
    values = ", ".join(value for _, value in columns.values())
    db.execute(
        f"""
        {needs}
        create type mood as enum ('ok', 'so so');
        create type pair as (x numeric, y text, z timestamptz[]);
        create domain positive as int check (value > 0);
        create domain moments as timestamptz[];
        create table letter (id int generated always as identity primary key, same text, {listed},
            twice int generated always as (id * 2) stored);
        insert into letter (same) values ('a');
        insert into letter (same, {names}) values ('a', {values}), ('a', {values});
        """
    )
    before = db.contents()
    path = db.plan(
        options="-c timezone=America/St_Johns -c datestyle=German -c intervalstyle=iso_8601"
    )
    done = db.apply(
        path,
        options="-c timezone=Asia/Kathmandu -c datestyle=SQL,DMY -c intervalstyle=sql_standard "
        "-c extra_float_digits=0 -c bytea_output=escape",
    )
    assert (done.deleted, done.stale) == (2, ())
    db.undo(
        options="-c timezone=UTC -c datestyle=Postgres -c intervalstyle=postgres_verbose "
        "-c search_path= -c xmloption=document -c array_nulls=off"
    )
    assert db.contents() == before


TYPES = {
    "json": ("json", """'{"b" :  1,\n "a": [1.0, 1e2], "b": null}'"""),
    "jsonb": ("jsonb", """'{"b": 1.00, "a": "\\u00e9"}'"""),
    "json null": ("jsonb", "'null'"),
    "array": ("int[]", "'[-1:1]={1,NULL,3}'"),
    "matrix": ("text[]", """'{{a,"NULL"},{"b c","\\"\\\\"}}'"""),
    "no elements": ("text[]", "'{}'"),
    "minus zero": ("float8", "'-0'"),
    "not a number": ("float8", "'nan'"),
    "endless": ("float4", "'-infinity'"),
    "fraction": ("float8", "0.1::float8 + 0.2::float8"),
    "small": ("float4", "'1.17549435e-38'"),
    "scale": ("numeric", "1.500"),
    "no numeric": ("numeric", "'NaN'"),
    "exact": ("numeric(12,4)", "12345.6"),
    "bytes": ("bytea", r"'\x00ff5c27'"),
    "span": ("interval", "'-1 year 2 mons -3 days 04:05:06.789'"),
    "short span": ("interval day to second(2)", "'3 days 4:05:06.78'"),
    "numbers": ("int4range", "'[1,5)'"),
    "times": ("tstzrange", "'(2026-01-01 00:00+9,infinity]'"),
    "empty range": ("numrange", "'empty'"),
    "composite": ("pair", "(1.0, 'a \"b\" (c)', array[timestamptz '2026-01-01 0:00+9', null])"),
    "composite of nulls": ("pair", "row(null, null, null)"),
    "mood": ("mood", "'so so'"),
    "domain": ("positive", "7"),
    "array domain": ("moments", "array[timestamptz '1900-01-01 0:00+8:27:52']"),
    "money": ("money", "'-12345.67'"),
    "document": ("xml", '\'<?xml version="1.0"?><!DOCTYPE a><a  b="c"/>\''),
    "content": ("xml", "'text <a/> text'"),
    "words": ("tsvector", "to_tsvector('simple', 'it''s a \\ b:c')"),
    "query": ("tsquery", "'a & !b:*'"),
    "address": ("inet", "'10.1.2.3/8'"),
    "network": ("cidr", "'10.0.0.0/8'"),
    "card": ("macaddr8", "'08:00:2b:01:02:03:04:05'"),
    "long ago": ("date", "'0044-03-15 BC'"),
    "never": ("date", "'infinity'"),
    "moment": ("timestamptz", "'4713-01-02 00:00:00+00 BC'"),
    "always": ("timestamptz", "'-infinity'"),
    "local": ("timestamp", "'2026-03-29 02:30:00.000001'"),
    "cut": ("timestamptz(3)", "'1883-11-18 12:03:57.123-5'"),
    "clock": ("timetz", "'24:00:00-3:30'"),
    "hour": ("time", "'23:59:59.999999'"),
    "padded": ("char(5)", "'ab'"),
    "blanks": ("varchar(9)", "' ab  '"),
    "letter": ('"char"', "'x'"),
    "no letter": ('"char"', "''"),
    "bits": ("bit(4)", "B'0101'"),
    "more bits": ("varbit", "B'1'"),
    "guid": ("uuid", "'00000000-0000-4000-8000-000000000000'"),
    "large": ("text", "repeat('가나다 ', 100000)"),
    "odd": ("text", r"E'\\N \t\n\r \001 \\ '' \" é 👍'"),
    "nothing": ("text", "null"),
    "empty": ("text", "''"),
    "name": ("name", "'A b'"),
    "path": ("path", "'[(0,0),(1,1e-300)]'"),
    "circle": ("circle", "'<(0.1,0.2),3>'"),
    "box": ("box", "'(2,2),(0.3,1)'"),
    "table": ("regclass", "'letter'"),
    "type": ("regtype", "'mood'"),
    "number": ("oid", "4294967295"),
    "position": ("pg_lsn", "'16/B374D848'"),
}


def test_a_duplicate_with_very_many_columns_returns(db: Database) -> None:
    columns = ", ".join(f"c{n} text default 'v{n}'" for n in range(300))
    db.execute(f"create table letter (id int primary key, same text, {columns})")
    db.execute("insert into letter values (1, 'a'), (2, 'a'), (3, 'b')")
    db.check_round_trip(0)


def test_keys_of_every_spelling_are_sent_as_they_are(db: Database) -> None:
    db.execute(
        "create table letter (id text primary key, same text); "
        "create table visit (letter_id text references letter)"
    )
    keys = [
        "",
        " a ",
        "NULL",
        "null",
        '"',
        '""',
        "\\",
        '\\"',
        "{}",
        "{a,b}",
        ",",
        "'",
        "a\nb",
        "자",
    ]
    for key in keys:
        db.execute("insert into letter values (%s, 'a')", (key,))
        db.execute("insert into visit values (%s)", (key,))
    db.execute("alter table visit add column id serial primary key")
    db.check_round_trip(len(keys) - 1)
