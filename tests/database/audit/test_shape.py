"""Keys that are not what they seem: heirs, RESTRICT that can't wait, superfluous keys, names."""

from __future__ import annotations

from typing import Any

from fkdoctor.audit import audit_schema

UP = "create table up (id int primary key); insert into up values (1), (2);"


def found(lab: Any, rule: str) -> dict[str, Any]:
    findings = [finding for finding in audit_schema(lab.schema()) if finding.rule.id == rule]
    return {finding.subject: finding for finding in findings}


def test_inheritance_does_not_pass_keys_on(lab: Any) -> None:
    heir = "create table down (a int references up on delete cascade);"
    lab.prepare(
        {
            "bare": UP + heir + "create table heir () inherits (down)",
            "grandchild": UP + heir + "create table mid (foreign key (a) references up)"
            " inherits (down); create table heir () inherits (mid)",
            "own": UP + heir + "create table heir (foreign key (a) references up) inherits (down)",
            "partitioned": UP + "create table down (a int references up) partition by list (a);"
            "create table part partition of down default",
        }
    )
    keys = found(lab, "FK038")

    assert {subject.split(".")[0] for subject in keys} == {"bare", "grandchild"}
    assert not lab.refuses("bare", "insert into heir values (9)")
    assert not lab.refuses("grandchild", "insert into heir values (9)")
    assert lab.refuses("own", "insert into heir values (9)")
    assert lab.refuses("partitioned", "insert into part values (9)")


def test_rows_of_heirs_cannot_be_referenced(lab: Any) -> None:
    lab.prepare(
        {
            "heirs": UP + "create table heir () inherits (up); insert into heir values (7);"
            "create table down (a int references up)",
            "alone": UP + "create table down (a int references up)",
        }
    )
    assert set(found(lab, "FK039")) == {"heirs.down.down_a_fkey"}
    assert lab.run("select id from heirs.up where id = 7") == [(7,)]
    assert lab.refuses("heirs", "insert into down values (7)")


def test_restrict_never_waits(lab: Any) -> None:
    down = "create table down (a int references up {} ); insert into down values (1);"
    lab.prepare(
        {
            "undeferred": UP + down.format("on delete restrict deferrable initially deferred"),
            "deferred": UP + down.format("deferrable initially deferred"),
            "at_once": UP + down.format("on delete restrict"),
        }
    )
    assert set(lab.found("FK040")) == {"undeferred"}
    turned = "delete from up where id = 1; delete from down"
    assert lab.refuses("undeferred", turned)
    assert not lab.refuses("deferred", turned)


def test_a_key_past_the_primary_key_is_told(lab: Any) -> None:
    lab.prepare(
        {
            "past": "create table up (id int primary key, code text unique);"
            "create table down (a text references up (code))",
            "with_it": "create table up (id int primary key, tenant int, unique (tenant, id));"
            "create table down (t int, a int, foreign key (t, a) references up (tenant, id))",
            "no_primary": "create table up (code text unique);"
            "create table down (a text references up (code))",
        }
    )
    keys = lab.found("FK041")
    assert set(keys) == {"past"}
    assert "code may be NULL there" in keys["past"].detail


TENANTS = "create table up (id int primary key, tenant int not null, unique (tenant, id));"
BOTH = (
    "create table down (tenant int {}, a int references up {}, foreign key (tenant, a)"
    " references up (tenant, id) {});"
)


def test_an_implied_key_refuses_nothing_by_itself(lab: Any) -> None:
    lab.prepare(
        {
            "implied": TENANTS + BOTH.format("not null", "", ""),
            "nullable": TENANTS + BOTH.format("", "", ""),
            "other_rule": TENANTS + BOTH.format("not null", "on delete cascade", ""),
            "not_valid": TENANTS
            + BOTH.format("not null", "", "")
            .replace(", foreign", "); alter table down add foreign")
            .replace("(tenant, id) );", "(tenant, id) not valid;"),
        }
    )
    keys = lab.found("FK042")
    assert set(keys) == {"implied"}

    for row in ("(1, null)", "(1, 9)"):
        with_both = lab.refuses("implied", f"insert into down values {row}")
        alone = lab.refuses("implied", f"{keys['implied'].sql} insert into down values {row}")
        assert with_both is alone


def test_a_name_misleads_when_another_column_would_get_it(lab: Any) -> None:
    down = UP + "create table down (a int references up);"
    lab.prepare(
        {
            "right_name": down,
            "column_renamed": down + "alter table down rename a to b",
            "column_replaced": down + "alter table down rename a to b;alter table down add a int",
            "table_swapped": down + "alter table down rename to old; create table down (a int)",
            "own_name": UP + "create table down (a int constraint points_up references up)",
            "composite": "create table up (x int, y int, primary key (x, y));"
            "create table down (x int, y int, constraint down_x_fkey"
            " foreign key (x, y) references up)",
            "numbered": down + "alter table down add foreign key (a) references up",
        }
    )
    keys = lab.found("FK043")
    assert set(keys) == {"column_replaced", "table_swapped"}
    for finding in keys.values():
        lab.run_each(finding.sql)
    assert lab.found("FK043") == {}


def test_a_failed_index_is_told_where_another_serves(lab: Any) -> None:
    down = UP + "create table down (a int references up, b int); insert into down values (1), (1);"
    lab.prepare({"served": down + "create index on down (a)", "unserved": down})
    for name in ("served", "unserved"):
        lab.run(f"set search_path = {name}")
        assert lab.refuses(name, "select 1 / 0")
        try:
            lab.run("create unique index concurrently broken on down (a)")
        except Exception:
            lab.run("reset search_path")
    indexes = found(lab, "FK044")

    assert set(indexes) == {"served.broken"}
    assert "FK001:unserved.down.down_a_fkey" in {
        finding.key for finding in audit_schema(lab.schema())
    }
    lab.run_each(indexes["served.broken"].sql)
    assert found(lab, "FK044") == {}
