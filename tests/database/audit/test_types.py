"""Does the audit see where types and collations get in the way?"""

from __future__ import annotations

from typing import Any

import pytest

from fkdoctor.audit import Severity


def test_a_narrower_type_is_found_exactly_where_a_value_does_not_fit(lab: Any) -> None:
    """`value` is one that the referenced column takes."""
    pairs = {
        "int_bigint": ("int", "bigint", "2147483648"),
        "bigint_int": ("bigint", "int", "2147483647"),
        "smallint_int": ("smallint", "int", "32768"),
        "int_int": ("int", "int", "2147483647"),
        "varchar_text": ("varchar(3)", "text", "'long'"),
        "text_varchar": ("text", "varchar(3)", "'abc'"),
        "varchar_longer": ("varchar(3)", "varchar(4)", "'long'"),
        "varchar_shorter": ("varchar(4)", "varchar(3)", "'abc'"),
        "varchar_free": ("varchar", "varchar(3)", "'abc'"),
        "char_longer": ("char(3)", "char(4)", "'long'"),
        "char_same": ("char(4)", "char(4)", "'long'"),
        "numeric_digits": ("numeric(5, 2)", "numeric(6, 2)", "1234.56"),
        "numeric_scale": ("numeric(8, 1)", "numeric(8, 2)", "1.25"),
        "numeric_scale_only": ("numeric(9, 1)", "numeric(8, 2)", "1.25"),
        "numeric_wider": ("numeric(9, 2)", "numeric(8, 2)", "123456.78"),
        "numeric_free": ("numeric", "numeric(8, 2)", "123456.78"),
        "numeric_limited": ("numeric(8, 2)", "numeric", "1.234"),
        "int_numeric": ("int", "numeric", "1.5"),
        "bigint_numeric_small": ("bigint", "numeric(18)", "999999999999999999"),
        "real_double": ("real", "double precision", "0.1"),
        "double_real": ("double precision", "real", "0.1"),
        "timestamp_precision": ("timestamp(0)", "timestamp", "'2024-02-29 12:00:00.5'"),
        "timestamp_finer": ("timestamp", "timestamp(0)", "'2024-02-29 12:00:00'"),
        "uuid": ("uuid", "uuid", "'0b1f7dd2-66c6-4c3c-8b0a-5c9bb8a6a0cd'"),
        "domain": ("ours", "bigint", "2147483648"),
    }
    cases = lab.prepare(
        {
            name: ("create domain ours as int;" if here == "ours" else "")
            + f"create table up (id {there} primary key);"
            + f"create table down (a {here} references up);"
            + f"insert into up values ({value})"
            for name, (here, there, value) in pairs.items()
        }
    )
    lost = {case for case in cases if lab.refuses(case, "insert into down select id from up")}

    assert set(lab.found("FK013")) == lost
    schema = lab.schema()
    different = {
        key.referencing.schema
        for key in schema.foreign_keys
        if schema.table(key.referencing).column("a").base_type
        != schema.table(key.referenced).column("id").base_type
    }
    assert set(lab.found("FK014")) == different - lost
    assert len(lost) > 10 < len(set(cases) - lost)


def test_a_type_that_needs_a_cast_has_no_index_to_paste(lab: Any) -> None:
    tables = "create table up (id numeric primary key); create table down (a {} references up)"
    lab.prepare({"converted": tables.format("int"), "same": tables.format("numeric")})
    found = lab.found("FK001")

    assert found["same"].sql == "CREATE INDEX CONCURRENTLY ON same.down (a);"
    assert found["converted"].sql is None
    assert "no index on it can serve" in found["converted"].detail


def test_different_collations_make_joins_fail_and_18_refuses_nondeterministic_ones(
    lab: Any, has_icu: bool
) -> None:
    same = "create collation same (provider = icu, locale = 'und', deterministic = false);"
    tables = (
        "create table up (id text collate {} primary key);"
        "create table down (a text collate {} references up);"
    )
    lab.prepare(
        {
            "equal": tables.format('"C"', '"C"'),
            "different": tables.format('"C"', '"POSIX"') + "insert into up values ('a');"
            "insert into down values ('a')",
        }
    )

    assert set(lab.found("FK015")) == {"different"}
    assert lab.refuses("different", "select from up join down on id = a")
    if not has_icu:
        pytest.skip("the server is built without ICU: the other half was not tried")
    lab.prepare(
        {
            "nondeterministic": (same + tables.format("same", '"C"'), 12, 17),
            "nondeterministic_equal": same + tables.format("same", "same"),
        }
    )
    assert set(lab.found("FK015")) == {"different"}
    assert set(lab.found("FK016")) == ({"nondeterministic"} if lab.major < 18 else set())
    if lab.major >= 18:
        lab.run("create schema late")
        assert lab.refuses("late", same + tables.format("same", '"C"'))


def test_a_number_that_outgrows_its_references_is_an_error(lab: Any) -> None:
    down = "create table down (a int references up);"
    up = "create table up (id bigint primary key); insert into up select i * {}::bigint from "
    up += "generate_series(1, 100) as i;"
    lab.prepare(
        {
            "half_full": up.format(10_737_418) + down + "analyze up",
            "too_full": up.format(22_000_000) + down + "analyze up",
            "never_analysed": up.format(22_000_000) + down,
        }
    )
    found = lab.found("FK013")

    assert "has got to 1,073,741,800, 50% of that" in found["half_full"].detail
    assert found["half_full"].severity is found["never_analysed"].severity is Severity.WARNING
    assert found["too_full"].severity is Severity.ERROR
    assert lab.refuses("too_full", "insert into down select max(id) from up")
