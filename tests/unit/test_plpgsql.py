"""Trigger functions read without a server; test_interference.py runs such functions."""

from __future__ import annotations

import pytest

from fkdoctor.inspect.plpgsql import Return, read_trigger_function

NULL, ROW, ERROR, UNKNOWN = Return.NULL, Return.ROW, Return.ERROR, Return.UNKNOWN


def returns(source: str, event: str = "DELETE") -> set[Return]:
    return set(read_trigger_function(source, event).returns)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return null;", {NULL}),
        ("RETURN NULL;", {NULL}),
        ("return old;", {ROW}),
        ("return new;", {NULL}),
        ("return coalesce(new, old);", {ROW}),
        ("return case when x then old end;", {UNKNOWN}),
        ("perform 1;", {ERROR}),
        ("raise exception 'no'; return old;", {ERROR}),
        ("raise notice 'no'; return old;", {ROW}),
        ("raise; return old;", {ERROR}),
        ("raise 'no % %', 1, old.id; return old;", {ERROR}),
        ("if tg_op = 'DELETE' then return old; end if; return new;", {ROW}),
        ("IF (TG_OP = 'DELETE') THEN RETURN OLD; ELSE RETURN NEW; END IF;", {ROW}),
        ("if tg_op = 'UPDATE' then return old; end if; return new;", {NULL}),
        ("if 'INSERT' = tg_op then return new; end if; return old;", {ROW}),
        ("if tg_op in ('INSERT', 'UPDATE') then return new; end if; return old;", {ROW}),
        ("if tg_op not in ('DELETE') then return new; end if; return old;", {ROW}),
        ("if tg_op <> 'DELETE' and x then return new; end if; return old;", {ROW}),
        ("if tg_op = 'DELETE' or x then return old; end if; return new;", {ROW}),
        ("if not (tg_op = 'DELETE') then return new; end if; return old;", {ROW}),
        ("if tg_when = 'AFTER' then return null; end if; return old;", {ROW}),
        ("if old.x is null then return null; end if; return old;", {NULL, ROW}),
        ("if old.x then return old; elsif old.y then return null; else return old; end if;",
         {NULL, ROW}),
        ("if old.x then return old; elseif old.y then return null; end if;", {NULL, ROW, ERROR}),
        ("if pg_trigger_depth() > 1 then return old; end if; return null;", {ROW}),
        ("if pg_trigger_depth() = 1 then return null; end if; return old;", {ROW}),
        ("case tg_op when 'DELETE' then return old; else return new; end case;", {ROW}),
        ("case tg_op when 'INSERT', 'UPDATE' then return new; when 'DELETE' then return old;"
         " end case;", {ROW}),
        ("case when tg_op = 'DELETE' then return null; else return new; end case;", {NULL}),
        ("for r in select * from t loop if r.a then return null; end if; end loop; return old;",
         {NULL, ROW}),
        ("while x loop return null; end loop; return old;", {NULL, ROW}),
        ("begin return null; exception when others then return old; end;", {NULL, ROW}),
        ("declare x int; begin x := 1; end; return old;", {ROW}),
        ("<<here>> loop exit here; end loop here; return old;", {ROW}),
        ("x := case when a then 1 else 2 end; return old;", {ROW}),
        ("if case when a then b else c end then return null; end if; return old;", {NULL, ROW}),
        ("-- return null;\n return old;", {ROW}),
        ("/* return null; /* nested */ */ return old;", {ROW}),
        ("execute 'return null;'; return old;", {ROW}),
        ("execute $q$return null;$q$; return old;", {ROW}),
        (r"raise notice E'it\'s; return null;'; return old;", {ROW}),
        ('"return" := 1; return old;', {ROW}),
        ("delete from t where id in (select 1); return null;", {NULL}),
    ],
)  # fmt: skip
def test_what_a_function_returns_is_read(body: str, expected: set[Return]) -> None:
    assert returns(f"\ndeclare\n y int := 0;\nbegin {body} end") == expected
    assert returns(f"#variable_conflict use_column\nBEGIN {body} END;") == expected


def test_new_is_a_row_in_an_update() -> None:
    assert returns("begin return new; end", "UPDATE") == {ROW}
    assert returns("begin if tg_op = 'DELETE' then return null; end if; return new; end",
                   "UPDATE") == {ROW}  # fmt: skip


def test_what_cannot_be_read_is_unknown() -> None:
    for source in ("", "begin", "begin if x then return null;", "begin /* return null; end"):
        assert returns(source) == {UNKNOWN}


def test_a_function_skips_always_or_sometimes() -> None:
    always = read_trigger_function("begin update t set x = 1; return null; end", "DELETE")
    guarded = read_trigger_function(
        "begin if old.x then raise exception 'no'; end if; return null; end", "DELETE"
    )
    sometimes = read_trigger_function(
        "begin if old.x then return null; end if; return old; end", "DELETE"
    )
    refuses = read_trigger_function("begin raise exception 'no'; end", "DELETE")

    assert [b.always_skips for b in (always, guarded, sometimes, refuses)] == [
        True,
        True,
        False,
        False,
    ]
    assert [b.may_skip for b in (always, guarded, sometimes, refuses)] == [True, True, True, False]


def test_columns_that_are_put_back_are_read() -> None:
    source = """
    begin
        new.a := old.a;
        if tg_op = 'UPDATE' then new."b" = old."b"; else new.c := old.c; end if;
        new.d := old.e;
        return new;
    end
    """
    assert read_trigger_function(source, "UPDATE").restores == {"a", "b"}
