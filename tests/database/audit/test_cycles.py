"""Does the audit see where no row can be the first?"""

from __future__ import annotations

import itertools
from typing import Any


def test_a_rigid_cycle_is_found_exactly_where_no_row_can_be_the_first(lab: Any) -> None:
    def tables(up: str, down: str, up_key: str = "", down_key: str = "") -> str:
        return (
            f"create table up (id int primary key, a int {up});"
            f"create table down (id int primary key, a int {down} references up {down_key});"
            f"alter table up add foreign key (a) references down {up_key}"
        )

    cases = lab.prepare(
        {
            "rigid": tables("not null", "not null"),
            "nullable": tables("", "not null"),
            "nullable_other": tables("not null", ""),
            "may_wait": tables("not null", "not null", up_key="deferrable"),
            "deferred": tables("not null", "not null", down_key="initially deferred"),
            "line": "create table up (id int primary key, a int);"
            "create table down (id int primary key, a int not null references up)",
            "not_enforced": (tables("not null", "not null", up_key="not enforced"), 18, 99),
        }
    )
    impossible = {case for case in cases if not _can_be_filled(lab, case)}

    assert set(lab.found("FK017")) == impossible == {"rigid"}
    loose = {"nullable", "nullable_other", "may_wait", "deferred"}
    assert set(lab.found("FK018")) == loose
    assert not lab.refuses(
        "rigid", "with up as (insert into up values (1, 1)) insert into down values (1, 1)"
    )


def _can_be_filled(lab: Any, case: str) -> bool:
    """Whether a row gets into each table by one of the ways that need no WITH."""
    ways = (
        "insert into up values (1, {}); insert into down values (1, 1)",
        "insert into down values (1, {}); insert into up values (1, 1)",
    )
    return any(
        not lab.refuses(
            case,
            "set constraints all deferred;"
            + way.format(value)
            + "; set constraints all immediate; truncate up, down",
        )
        for way in ways
        for value in ("1", "null")
    )


def test_the_pasted_sql_opens_every_circle_of_a_knot(lab: Any) -> None:
    names = "abcde"
    lab.prepare(
        {
            "knot": "".join(
                f"create table {name} (id int primary key,"
                + ",".join(f"{other} int not null" for other in names)
                + ");"
                for name in names
            )
            + "".join(
                f"alter table {one} add foreign key ({other}) references {other};"
                for one, other in itertools.permutations(names, 2)
            )
        }
    )
    finding = lab.found("FK017")["knot"]
    lab.run_each(finding.sql)

    assert lab.found("FK017") == {}
    assert "It opens at" in lab.found("FK018")["knot"].detail
