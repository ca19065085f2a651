"""Is a key that differs from those of its sisters found, and nothing else taken for one?"""

from __future__ import annotations

from typing import Any

from fkdoctor.audit import Finding, audit_schema


def tenant(name: str, rule: str, more: str = "", key: str = "a") -> str:
    return (
        f"create schema {name}; create table {name}.up (id int primary key);"
        f"create table {name}.other (id int);"
        f"create table {name}.down ({key} int references {name}.up on delete {rule});{more}"
    )


def findings(lab: Any) -> dict[str, Finding]:
    found = [one for one in audit_schema(lab.schema()) if one.rule.id == "FK059"]
    return {one.keys[0].referencing.schema: one for one in found}


def test_the_odd_one_among_tenants_is_found(lab: Any) -> None:
    usual = "".join(tenant(name, "cascade") for name in ("b", "c", "d", "e"))
    lab.run(tenant("a", "restrict") + usual)
    found = findings(lab)
    assert list(found) == ["a"]
    assert found["a"].severity.label == "warning"
    assert "does RESTRICT; in b, c, d and e, with the same tables, it does CASCADE" in (
        found["a"].detail
    )
    lab.run("drop schema c cascade; drop schema d cascade")
    assert findings(lab)["a"].severity.label == "info"


def test_of_two_one_is_named(lab: Any) -> None:
    lab.run(tenant("a", "cascade") + tenant("b", "set null"))
    assert len(findings(lab)) == 1


def test_near_misses_are_left_alone(lab: Any) -> None:
    lab.run(
        tenant("a", "cascade")
        # Other tables beside it: no sister.
        + tenant("b", "restrict", "create table b.x (); create table b.y ();")
        # Another relation.
        + tenant("c", "restrict", key="b")
        # A key that leads to what all share.
        + "create schema e; create table e.up (); create table e.other ();"
        + "create table e.down (a int references a.up on delete restrict);"
    )
    assert findings(lab) == {}


def test_a_schema_with_both_keys_disagrees_with_itself_alone(lab: Any) -> None:
    both = "alter table {0}.down add foreign key (a) references {0}.up on delete cascade;"
    lab.run("".join(tenant(name, "restrict", both.format(name)) for name in ("a", "b")))
    assert findings(lab) == {}
    assert [one.rule.id for one in audit_schema(lab.schema())].count("FK012") == 2
