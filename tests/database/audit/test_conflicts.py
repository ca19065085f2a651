"""Does a DELETE meet a key that refuses just where, and just as, the audit says?"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from random import Random
from typing import Any

import pytest

from fkdoctor.audit.cascade import Cascades, Conflict, Meeting, find_conflict, takes_from
from fkdoctor.audit.firing import DELETE, first_by_leaf
from fkdoctor.schema import ForeignKey, Schema

UP = "create table up (id int primary key); insert into up values (0), (1);"
DELETE_UP = "delete from up where id = 1"
ACTIONS = ("cascade",) * 5 + ("no action", "restrict", "set null", "no action initially deferred")


def random_tables(random: Random) -> str:
    """Tables t0 to t3 with an id, and keys of one column each that may be NULL, in any order."""
    keys = []
    for number in range(random.randint(5, 10)):
        # Mostly downwards, so that chains come about.
        referencing, referenced = random.choice("1233"), random.choice("00123")
        keys.append(
            f"alter table t{referencing} add column c{number} int;"
            f"alter table t{referencing} add constraint k{random.randint(0, 99)}_{number}"
            f" foreign key (c{number}) references t{referenced}"
            f" on delete {random.choice(ACTIONS)};"
        )
    return "".join(f"create table t{name} (id int primary key);" for name in "0123") + "".join(keys)


def conflicts_in(schema: Schema, case: str) -> list[Conflict]:
    cascades = Cascades(schema)
    keys = [key for key in schema.foreign_keys if key.referencing.schema == case]
    found = [
        find_conflict(cascades, taker, refuser)
        for taker, refuser in itertools.permutations(keys, 2)
        if taker.referencing == refuser.referencing
        and takes_from(taker, refuser)
        and refuser.on_delete.sql in ("NO ACTION", "RESTRICT")
        and not refuser.initially_deferred
    ]
    return [conflict for conflict in found if conflict]


def rows_for(conflict: Conflict) -> list[str]:
    """INSERTs of one row of the root, the rows down both chains, and one that references both."""
    ids = itertools.count(1)
    root = next(ids)
    statements = [f"insert into {conflict.root} (id) values ({root})"]
    made: dict[tuple[str, ...], int] = {(): root}

    def follow(chain: tuple[ForeignKey, ...]) -> int:
        for length in range(1, len(chain) + 1):
            path = tuple(key.name for key in chain[:length])
            if path not in made:
                key, made[path] = chain[length - 1], next(ids)
                statements.append(
                    f"insert into {key.referencing} (id, {key.referencing_columns[0]})"
                    f" values ({made[path]}, {made[path[:-1]]})"
                )
        return made[tuple(key.name for key in chain)]

    columns = (conflict.taker.referencing_columns[0], conflict.refuser.referencing_columns[0])
    ends = follow(conflict.taker_chain), follow(conflict.refuser_chain)
    statements.append(
        f"insert into {conflict.taker.referencing} (id, {columns[0]}, {columns[1]})"
        f" values ({next(ids)}, {ends[0]}, {ends[1]})"
    )
    return statements


def refuses(lab: Any, case: str, conflict: Conflict) -> bool:
    return lab.refuses(
        case,
        "; ".join(rows_for(conflict))
        + f"; delete from {conflict.root} where id = 1; set constraints all immediate; "
        + "truncate t0, t1, t2, t3",
    )


def said_to_refuse(schema: Schema, conflict: Conflict) -> bool:
    if conflict.decisive is None:
        return conflict.meeting is Meeting.THERE
    (first,) = first_by_leaf(schema, conflict.decisive, DELETE)
    return first is conflict.decisive[1]


def test_on_random_tables_every_meeting_ends_as_said(lab: Any) -> None:
    random = Random(20)
    lab.prepare({f"r{number}": random_tables(random) for number in range(60)})
    schema = lab.schema()
    seen: Counter[tuple[Meeting, bool]] = Counter()
    for number in range(60):
        for conflict in conflicts_in(schema, f"r{number}"):
            said = said_to_refuse(schema, conflict)
            assert refuses(lab, f"r{number}", conflict) is said, (conflict, rows_for(conflict))
            seen[conflict.meeting, said] += 1

    assert set(seen) == {
        (Meeting.GONE, False),
        (Meeting.THERE, True),
        (Meeting.DEPENDS, False),
        (Meeting.DEPENDS, True),
    }
    assert min(seen.values()) > 5


def test_the_order_flips_when_a_decisive_key_is_created_again(lab: Any) -> None:
    random = Random(21)
    names = [f"f{number}" for number in range(40)]
    lab.prepare({name: random_tables(random) for name in names})
    schema = lab.schema()
    flipped = 0
    for name in names:
        for conflict in conflicts_in(schema, name):
            if conflict.decisive is None:
                continue
            before = refuses(lab, name, conflict)
            (first,) = first_by_leaf(schema, conflict.decisive, DELETE)
            table = f"alter table {first.referencing}"
            lab.run(f"{table} drop constraint {first.name}")
            lab.run(f"{table} add constraint {first.name} {first.definition}")
            assert refuses(lab, name, conflict) is not before
            flipped += 1
            break  # the schema that was read is no longer the one that is there

    assert flipped > 10


TWO = (
    UP + "create table down (a int, b int);"
    "alter table down add constraint {} foreign key ({}) references up on delete {};"
    "alter table down add constraint {} foreign key ({}) references up on delete {};"
    "insert into down values (1, 1)"
)


def test_what_a_restored_dump_will_do_is_told(lab: Any) -> None:
    cases = lab.prepare(
        {
            "stays": TWO.format("a", "a", "cascade", "b", "b", "no action"),
            "turns": TWO.format("b", "a", "cascade", "a", "b", "no action"),
            "stays_refused": TWO.format("a", "b", "restrict", "b", "a", "cascade"),
            "turns_to_work": TWO.format("b", "b", "restrict", "a", "a", "cascade"),
        }
    )
    found = lab.found("FK020")
    assert set(found) == set(cases)
    definitions = {
        case: {
            key.name: key.definition
            for key in lab.schema().foreign_keys
            if key.referencing.schema == case
        }
        for case in cases
    }
    for case in cases:
        now = re.search(
            r"Now \S+ fires first \(\S+ before \S+\), and the DELETE (\w+)\.", found[case].detail
        )
        assert now, found[case].detail
        restored = re.search(
            r"once restored, \S+ fires first, and the DELETE (\w+)\.", found[case].detail
        )
        assert lab.refuses(case, DELETE_UP) is (now[1] == "fails")
        lab.run(
            f"set search_path = {case}; alter table down drop constraint a, drop constraint b;"
            "truncate up, down; insert into up values (0), (1); insert into down values (1, 1);"
            + "".join(
                f"alter table down add constraint {name} {definitions[case][name]};"
                for name in ("a", "b")
            )
        )
        assert lab.refuses(case, DELETE_UP) is ((restored or now)[1] == "fails")
        assert bool(restored) is case.startswith("turns")


@pytest.mark.usefixtures("superuser")
def test_names_are_compared_as_text_when_a_number_gains_a_digit(lab: Any) -> None:
    """At 100000 the younger trigger comes first. Renaming shows it without using up OIDs."""
    lab.prepare({"rolled": TWO.format("old", "a", "cascade", "young", "b", "restrict")})
    lab.run(
        "update pg_trigger as t set tgname = 'RI_ConstraintTrigger_a_'"
        " || case k.conname when 'old' then 99986 else 100003 end"
        " from pg_constraint as k, pg_proc as p where k.oid = t.tgconstraint"
        " and p.oid = t.tgfoid and p.proname like 'RI_FKey_%_del'"
        " and k.connamespace = 'rolled'::regnamespace"
    )
    lab.reconnect()
    detail = lab.found("FK020")["rolled"].detail

    assert "Now rolled.down.young fires first (RI_ConstraintTrigger_a_100003 before" in detail
    assert "the younger one, but the names are compared as text" in detail
    assert lab.refuses("rolled", DELETE_UP)


def test_near_misses_are_no_conflict(lab: Any) -> None:
    """Deferred, decided alike, kept apart by a CHECK, or by columns that are not written."""
    pair = "create table up (id int, y int, primary key (id, y), unique (id), unique (y));"
    lab.prepare(
        {
            "deferred": TWO.format("k", "a", "cascade", "l", "b", "no action initially deferred"),
            "both_cascade": TWO.format("k", "a", "cascade", "l", "b", "cascade"),
            "both_restrict": TWO.format("k", "a", "restrict", "l", "b", "restrict"),
            "set_null": TWO.format("k", "a", "set null", "l", "b", "restrict"),
            "set_null_cascade": TWO.format("k", "a", "set null", "l", "b", "cascade"),
            "apart": UP + "create table down (a int references up on delete cascade,"
            " b int references up on delete restrict, check (b <> a))",
            "apart_not_enforced": (
                UP + "create table down (a int references up on delete cascade,"
                " b int references up on delete restrict, check (b <> a) not enforced)",
                18,
                99,
            ),
            "twins": TWO.format("k", "a", "cascade", "l", "a", "restrict"),
            "initially_immediate": TWO.format(
                "k", "a", "cascade", "l", "b", "no action deferrable"
            ),
            "deferred_restrict": TWO.format(
                "k", "a", "cascade", "l", "b", "restrict initially deferred"
            ),
            "shared_column": pair + "create table down (a int, b int,"
            " foreign key (a, b) references up on delete set null,"
            " foreign key (b) references up (y) on delete restrict)",
            "back_to_the_top": "create table up (id int primary key, main int);"
            "create table down (id int primary key, a int references up on delete cascade);"
            "alter table up add foreign key (main) references down on delete restrict",
            "other_tables": UP + "create table other (id int primary key);"
            "create table down (a int references up on delete cascade,"
            " b int references other on delete restrict)",
        }
    )

    expected = {"initially_immediate", "deferred_restrict", "shared_column"}
    if lab.major >= 18:
        expected.add("apart_not_enforced")
    assert set(lab.found("FK020")) == expected
    assert lab.found("FK021") == lab.found("FK022") == {}
    # RESTRICT does not wait, whatever it says.
    lab.run("truncate deferred_restrict.down; insert into deferred_restrict.down values (null, 1)")
    assert lab.refuses("deferred_restrict", DELETE_UP + "; set constraints all deferred")


CHAIN = (
    UP + "create table mid (id int primary key, a int references up on delete cascade);"
    "create table down (a int {}, b int {}); insert into mid values (1, 1);"
    "insert into down values (1, 1)"
)


def test_a_row_that_goes_a_step_later_blocks_in_either_order(lab: Any) -> None:
    later, at_once = "references mid on delete cascade", "references up on delete {}"
    cases = lab.prepare(
        {
            "no_action": CHAIN.format(later, at_once.format("no action")),
            "restrict": CHAIN.format(later, at_once.format("restrict")),
            "created_first": CHAIN.format(at_once.format("restrict"), later),
            "deferred": CHAIN.format(later, at_once.format("no action initially deferred")),
            "cascade": CHAIN.format(later, at_once.format("cascade")),
            "set_null": CHAIN.format(later, at_once.format("set null")),
        }
    )
    failing = {case for case in cases if lab.refuses(case, DELETE_UP)}
    found = lab.found("FK021")

    assert set(found) == failing == {"no_action", "restrict", "created_first"}
    for finding in found.values():
        lab.run_each(finding.sql)
    assert lab.found("FK021") == {}
    # What was deleted above is still there: the lab's attempts that fail are rolled back.
    assert not any(lab.refuses(case, DELETE_UP) for case in found)
    assert lab.run("select count(*) from restrict.down") == [(0,)]


def test_a_cascade_is_blocked_exactly_where_it_fails(lab: Any) -> None:
    tree = (
        UP + "create table mid (id int primary key, a int references up on delete {});"
        "create table down (a int references mid on delete {}, b int references up on delete {});"
        "insert into mid values (1, 1); insert into down values (1, null)"
    )
    cases = lab.prepare(
        {
            "no_action": tree.format("cascade", "no action", "restrict"),
            "restrict": tree.format("cascade", "restrict", "restrict"),
            "deferred": tree.format("cascade", "no action initially deferred", "restrict"),
            "cascade": tree.format("cascade", "cascade", "restrict"),
            "set_null": tree.format("cascade", "set null", "restrict"),
            "not_reached": tree.format("set null", "restrict", "restrict"),
            "goes_too": tree.format("cascade", "restrict", "cascade"),
            # The first of the two keys, which fires first, leaves nothing for the second.
            "twin": tree.format("cascade", "cascade", "restrict")
            + ";alter table down add foreign key (a) references mid",
        }
    )
    failing = {
        case for case in cases if lab.refuses(case, f"{DELETE_UP}; set constraints all immediate")
    }
    found = lab.found("FK022")

    # In goes_too, the row may go by its other key: whether it blocks depends on that.
    assert set(found) == failing - {"goes_too"} == {"no_action", "restrict", "deferred"}
    assert {case: finding.severity.label for case, finding in found.items()} == {
        "no_action": "warning",
        "restrict": "info",
        "deferred": "warning",
    }
    assert "restrict.up → restrict.mid" in found["restrict"].detail
    assert found["deferred"].detail.endswith("at COMMIT.")


def test_partitions_that_fire_in_another_order_are_told_apart(lab: Any) -> None:
    lab.prepare(
        {
            "parts": "create table up (id int primary key) partition by range (id);"
            "create table up_1 partition of up for values from (0) to (10);"
            "create table down (a int, b int);"
            "alter table down add constraint two foreign key (a) references up on delete cascade,"
            " add constraint other foreign key (b) references up on delete restrict;"
            # Writes the row anew, behind the other one's.
            "alter table down rename constraint two to one;"
            "create table up_3 partition of up for values from (20) to (30);"
            "insert into up values (1), (21); insert into down values (1, 1), (21, 21)"
        }
    )
    detail = lab.found("FK020")["parts"].detail

    assert re.search(r"Now parts\.down\.one fires first in parts\.up_1 .*? DELETE succeeds", detail)
    assert re.search(r"Now parts\.down\.other fires first in parts\.up_3 .*? DELETE fails", detail)
    assert not lab.refuses("parts", "delete from up where id = 1")
    assert lab.refuses("parts", "delete from up where id = 21")
