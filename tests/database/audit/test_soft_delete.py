"""Do rows that are marked as deleted stand in the way, and do keys pass the mark by?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fkdoctor.audit import audit_schema

UNIQUE = "create table up (id int primary key, {});"


def subjects(schema: Any, rule: str) -> dict[str, Any]:
    return {finding.subject: finding for finding in audit_schema(schema) if finding.rule.id == rule}


def test_a_marked_row_keeps_its_value(lab: Any) -> None:
    lab.prepare(
        {
            "plain": UNIQUE.format("email text unique, deleted_at timestamptz"),
            "switch": UNIQUE.format("email text unique, is_deleted boolean not null default false"),
            "live_only": UNIQUE.format("email text, deleted_at timestamptz")
            + "create unique index on up (email) where deleted_at is null",
            "with_mark": UNIQUE.format(
                "email text, deleted_at timestamptz, unique (email, deleted_at)"
            ),
            "unmarked": UNIQUE.format("email text unique"),
            "generated": UNIQUE.format("token uuid unique, deleted_at timestamptz"),
            "textual": UNIQUE.format("share_token text unique, deleted_at timestamptz"),
            "numbered": UNIQUE.format("number serial unique, deleted_at timestamptz"),
            "superkey": UNIQUE.format("tenant int, deleted_at timestamptz, unique (tenant, id)"),
            "one_to_one": "create table user_ (id uuid primary key);"
            "create table up (id int primary key, user_id uuid unique references user_,"
            " deleted_at timestamptz)",
        }
    )
    found = subjects(lab.schema(), "FK045")
    assert set(found) == {"plain.up_email_key", "switch.up_email_key", "one_to_one.up_user_id_key"}

    lab.run("insert into plain.up values (1, 'a@b', now())")
    assert lab.refuses("plain", "insert into up values (2, 'a@b', null)")
    lab.run_each(found["plain.up_email_key"].sql)
    assert not lab.refuses("plain", "insert into up values (2, 'a@b', null)")
    assert lab.refuses("plain", "insert into up values (3, 'a@b', null)")
    lab.run_each(found["switch.up_email_key"].sql)
    assert not lab.refuses("switch", "insert into up values (1, 'a', true), (2, 'a', false)")


def test_a_unique_key_that_is_referenced_gets_no_statement(lab: Any) -> None:
    lab.prepare(
        {
            "used": UNIQUE.format("email text unique, deleted_at timestamptz")
            + "create table down (email text references up (email))"
        }
    )
    (finding,) = subjects(lab.schema(), "FK045").values()
    assert finding.sql is None
    assert "used.down.down_email_fkey references it" in finding.detail


def test_a_key_that_the_index_serves_keeps_an_index(lab: Any) -> None:
    project = "create table project (id int primary key);"
    marked = "project_id int references project, name text, number int, deleted_at timestamptz"
    lab.prepare(
        {
            "alone": project + UNIQUE.format(f"{marked}, unique (project_id, name)"),
            "twice": project
            + UNIQUE.format(f"{marked}, unique (project_id, name), unique (project_id, number)"),
            "another": project
            + UNIQUE.format(f"{marked}, unique (project_id, name)")
            + "create index on up (project_id)",
            "served_by_none": project + UNIQUE.format(f"{marked}, unique (name, project_id)"),
        }
    )
    before = subjects(lab.schema(), "FK001").keys()
    found = subjects(lab.schema(), "FK045")
    assert [name.split(".")[0] for name, one in found.items() if "(project_id);" in one.sql] == [
        "alone",
        "twice",
    ]
    for finding in found.values():
        lab.run_each(finding.sql)

    assert subjects(lab.schema(), "FK045") == {}
    assert (
        subjects(lab.schema(), "FK001").keys() == before == {"served_by_none.up.up_project_id_fkey"}
    )


def test_the_column_that_the_configuration_names_is_known(lab: Any) -> None:
    lab.prepare({"own": UNIQUE.format("email text unique, gone_since date")})
    schema = lab.schema()

    assert subjects(schema, "FK045") == {}
    assert subjects(replace(schema, soft_delete_column="gone_since"), "FK045").keys() == {
        "own.up_email_key"
    }


MARKED = "create table {} (id int primary key, a int {}, deleted_at timestamptz);"
BARE = "create table {} (id int primary key, a int {});"


def test_cascade_and_marks_do_not_go_together(lab: Any) -> None:
    cascade = "references up on delete cascade"
    lab.prepare(
        {
            "into_marked": BARE.format("up", "") + MARKED.format("down", cascade),
            "from_marked": MARKED.format("up", "") + BARE.format("down", cascade),
            "both_marked": MARKED.format("up", "") + MARKED.format("down", cascade),
            "refusing": MARKED.format("up", "") + BARE.format("down", "references up"),
        }
    )
    assert set(subjects(lab.schema(), "FK046")) == {"into_marked.down.down_a_fkey"}
    assert set(subjects(lab.schema(), "FK047")) == {"from_marked.up"}

    for name in ("into_marked", "from_marked"):
        lab.run(f"insert into {name}.up (id) values (1); insert into {name}.down values (1, 1)")
    lab.run("delete from into_marked.up; update from_marked.up set deleted_at = now()")
    assert lab.run("select count(*) from into_marked.down") == [(0,)]
    assert lab.run("select count(*) from from_marked.down") == [(1,)]
