"""Does the audit say rightly which of several keys decides?"""

from __future__ import annotations

import itertools
import re
from typing import Any

from fkdoctor.audit import Finding

UP = "create table up (id int primary key); insert into up values (0), (1);"
PAIR = "create table up (id int, y int, primary key (id, y)); insert into up values (0, 0), (1, 1);"
BOTH = "foreign key (a, b) references up"
DELETE = "delete from up where id = 1"
PARTITIONED_UP = (
    "create table up (id int primary key) partition by range (id);"
    "create table up_1 partition of up for values from (0) to (10);"
    "create table up_2 partition of up for values from (10) to (20) partition by range (id);"
    "create table up_21 partition of up_2 for values from (10) to (20);"
    "insert into up values (0), (1), (11);"
)


RULES = (
    "no action",
    "no action deferrable initially deferred",
    "restrict",
    "cascade",
    "set null",
    "set default",
)


def test_the_key_said_to_come_first_decides_the_delete(lab: Any) -> None:
    pairs = [(one, other) for one, other in itertools.product(RULES, RULES) if one != other]
    cases = lab.prepare(
        {
            f"c{number}_{swap}": UP
            + "create table down (a int default 0);"
            + f"alter table down add constraint {names[0]} foreign key (a) references up"
            + f" on delete {one}, add constraint {names[1]} foreign key (a) references up"
            + f" on delete {other}; insert into down values (1)"
            for number, (one, other) in enumerate(pairs)
            for swap, names in enumerate((("first", "second"), ("second", "first")))
        }
    )
    schema = lab.schema()
    found = lab.found("FK012")
    assert set(found) == set(cases)
    assert lab.found("FK011") == {}

    for case in cases:
        definitions = {
            key.name: key.definition
            for key in schema.foreign_keys
            if key.label.startswith(f"{case}.")
        }
        assert _outcome(lab, case) == _said(found[case], "On DELETE "), (case, definitions)
        # As a dump does: in the order of the names.
        lab.run(
            f"set search_path = {case};"
            "alter table down drop constraint first, drop constraint second;"
            "truncate up, down; insert into up values (0), (1); insert into down values (1);"
            + "".join(
                f"alter table down add constraint {name} {definitions[name]};"
                for name in sorted(definitions)
            )
        )
        restored = found[case].detail
        said = _said(
            found[case], "once restored, " if "once restored" in restored else "On DELETE "
        )
        assert _outcome(lab, case) == said, (case, definitions)


def _outcome(lab: Any, case: str) -> str:
    if lab.refuses(case, DELETE):
        return "refuses"
    rows = lab.run(f"select a from {case}.down")
    return {0: "deletes"}.get(len(rows)) or ("releases" if rows[0][0] in (None, 0) else "keeps")


def _said(finding: Finding, before: str) -> str:
    """What the finding says is done by the key that comes first."""
    match = re.search(
        before + r"\S+ comes first: [A-Z ]+ (refuses|deletes|releases)", finding.detail
    )
    assert match, finding.detail
    return match[1]


def test_keys_that_differ_in_deferral_alone_contradict(lab: Any) -> None:
    lab.prepare(
        {
            "deferral": UP + "create table down (a int references up on delete cascade,"
            " foreign key (a) references up on delete cascade deferrable)"
        }
    )

    assert "at once, whatever" in lab.found("FK012")["deferral"].detail


def test_contradictions_on_update_are_told(lab: Any) -> None:
    lab.prepare(
        {
            "updated": UP
            + "create table down (a int);"
            + "alter table down add constraint one foreign key (a) references up on update cascade,"
            + " add constraint other foreign key (a) references up; insert into down values (1)"
        }
    )
    detail = lab.found("FK012")["updated"].detail

    assert "On UPDATE updated.down.one comes first: CASCADE changes the rows too" in detail
    assert "On DELETE" not in detail
    assert not lab.refuses("updated", "update up set id = 5 where id = 1")
    assert lab.run("select a from updated.down") == [(5,)]


def test_only_keys_between_the_same_columns_are_twins(lab: Any) -> None:
    two = "create table up (id int, y int, primary key (id, y), unique (y, id));"
    lab.prepare(
        {
            "same": UP + "create table down (a int references up, foreign key (a) references up)",
            "swapped": two + "create table down (a int, b int,"
            " foreign key (a, b) references up (id, y), foreign key (b, a) references up (y, id))",
            "crossed": two + "create table down (a int, b int,"
            " foreign key (a, b) references up (id, y), foreign key (b, a) references up (id, y))",
            "other_column": UP + "create table down (a int references up, b int references up)",
            "other_table": UP + "create table up_2 (id int primary key);"
            "create table down (a int references up, foreign key (a) references up_2)",
            "other_match": PAIR + f"create table down (a int, b int, {BOTH}, {BOTH} match full)",
            "leaf_too": UP
            + "create table down (z int, a int references up) partition by range (z);"
            "create table leaf partition of down for values from (0) to (9);"
            "alter table leaf add constraint own foreign key (a) references up",
            "other_leaf": UP + "create table down (z int, a int) partition by range (z);"
            "create table leaf partition of down for values from (0) to (9);"
            "create table other partition of down for values from (9) to (19);"
            "alter table leaf add foreign key (a) references up;"
            "alter table other add foreign key (a) references up",
            "not_enforced": (
                UP + "create table down (a int references up,"
                " foreign key (a) references up not enforced)",
                18,
                99,
            ),
        }
    )

    assert {case: finding.subject for case, finding in lab.found("FK011").items()} == {
        "same": "same.down.down_a_fkey1",
        "swapped": "swapped.down.down_b_a_fkey",
        "leaf_too": "leaf_too.leaf.own",
    }
    assert lab.found("FK012") == {}


def test_the_validated_twin_stays(lab: Any) -> None:
    lab.prepare(
        {
            "twins": UP + "create table down (a int);"
            "alter table down add constraint a foreign key (a) references up not valid;"
            "alter table down add constraint b foreign key (a) references up"
        }
    )

    assert lab.found("FK011")["twins"].sql == "ALTER TABLE twins.down DROP CONSTRAINT a;"


def test_the_order_is_told_by_partition_where_it_differs(lab: Any) -> None:
    """A new partition's triggers are made in the order of the keys' rows in pg_constraint."""
    lab.prepare(
        {
            "parts": PARTITIONED_UP + "create table down (a int);"
            "alter table down add constraint two foreign key (a) references up on delete cascade,"
            " add constraint other foreign key (a) references up on delete restrict;"
            # Writes the row anew, behind the other one's.
            "alter table down rename constraint two to one;"
            "create table up_3 partition of up for values from (20) to (30);"
            "insert into up values (21); insert into down values (1), (11), (21)"
        }
    )
    finding = lab.found("FK012")["parts"]
    outcomes = {
        leaf: _said(finding, rf"On DELETE in [^:]*parts\.{leaf}\b[^:]*? ")
        for leaf in ("up_1", "up_21", "up_3")
    }

    assert outcomes == {"up_1": "deletes", "up_21": "deletes", "up_3": "refuses"}
    assert not lab.refuses("parts", "delete from up where id = 1")
    assert not lab.refuses("parts", "delete from up where id = 11")
    assert lab.refuses("parts", "delete from up where id = 21")
