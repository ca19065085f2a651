"""Roles that may not do or see everything: all or nothing, and a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fkdoctor.errors import Blocked, FkdoctorError

Database = Any  # the fixture's class lives in conftest.py

SIMPLE = """
    create table letter (id int primary key, same text, owner text);
    create table recommendation (id int primary key, letter_id int references letter
        on delete cascade, owner text);
    insert into letter values (1, 'a', 'me'), (2, 'a', 'me'), (3, 'b', 'me');
    insert into recommendation values (1, 1, 'me'), (2, 2, 'me'), (3, 2, 'you'), (4, 3, 'me');
"""
NEEDED = {
    "letter": "select, update, delete, insert",
    "recommendation": "select, update",
}


def as_(role: str) -> dict[str, str]:
    return {"options": f"-c role={role}"}


def grant_all(db: Database, role: str) -> None:
    for table, rights in NEEDED.items():
        db.execute(f"grant {rights} on {table} to {role}")


def check_refused(db: Database, path: Path, role: str, what: str) -> None:
    before = db.contents()
    with pytest.raises(Blocked) as refused:
        db.apply(path, **as_(role))
    assert what in refused.value.why
    assert refused.value.next
    assert db.contents() == before
    assert db.execute("select * from fkdoctor.journal") == []


def test_a_role_that_owns_nothing_merges_and_undoes_what_it_may(db: Database, role: str) -> None:
    db.execute(SIMPLE)
    grant_all(db, role)
    before = db.contents()
    path = db.plan(**as_(role))
    assert db.apply(path, **as_(role)).repointed == 2
    assert db.undo(**as_(role)).restored == 1
    assert db.contents() == before


@pytest.mark.parametrize(
    ("right", "table"),
    [("delete", "letter"), ("update", "letter"), ("update", "recommendation")],
)
def test_a_role_without_a_right_changes_nothing(
    db: Database, role: str, right: str, table: str
) -> None:
    db.execute(SIMPLE)
    grant_all(db, role)
    db.execute(f"revoke {right} on {table} from {role}")
    check_refused(db, db.plan(), role, f"permission denied for table {table}")


def test_a_role_that_may_not_read_a_referencing_table_changes_nothing(
    db: Database, role: str
) -> None:
    db.execute(SIMPLE)
    db.execute(f"grant all on letter to {role}")
    check_refused(db, db.plan(), role, "permission denied for table recommendation")


def test_a_role_without_a_right_on_one_column_changes_nothing(db: Database, role: str) -> None:
    db.execute(SIMPLE)
    grant_all(db, role)
    db.execute(
        f"""
        revoke select on letter from {role};
        grant select (id, same) on letter to {role};
        """
    )
    check_refused(db, db.plan(), role, "permission denied for table letter")


def test_a_role_without_temporary_tables_changes_nothing(db: Database, role: str) -> None:
    db.execute(SIMPLE)
    grant_all(db, role)
    path = db.plan()
    revoke = "do $$ begin execute format('{} temporary on database %I {} public', "
    revoke += "current_database()); end $$"
    db.execute(revoke.format("revoke", "from"))
    try:
        check_refused(db, path, role, "permission denied to create temporary tables")
    finally:
        db.execute(revoke.format("grant", "to"))


def test_a_role_that_may_not_write_the_journal_changes_nothing(db: Database, role: str) -> None:
    db.execute(SIMPLE)
    grant_all(db, role)
    db.execute(f"revoke insert on fkdoctor.journal from {role}")
    check_refused(db, db.plan(), role, "permission denied for table journal")


def test_a_role_that_may_not_see_the_ledger_is_told_so(db: Database, role: str) -> None:
    db.execute(SIMPLE)
    grant_all(db, role)
    path = db.plan()
    db.execute(f"revoke usage on schema fkdoctor from {role}")
    with pytest.raises(Blocked, match="may not be read"):
        db.apply(path, **as_(role))


def test_a_session_that_may_not_write_changes_nothing(db: Database) -> None:
    db.execute(SIMPLE)
    before, path = db.contents(), db.plan()
    with pytest.raises(Blocked, match="read-only transaction"):
        db.apply(path, options="-c default_transaction_read_only=on")
    assert db.contents() == before


@pytest.mark.parametrize("forced", [False, True], ids=["enabled", "forced"])
@pytest.mark.parametrize("table", ["letter", "recommendation"])
def test_rows_that_row_security_hides_are_never_lost(
    db: Database, role: str, table: str, forced: bool
) -> None:
    db.execute(SIMPLE)
    grant_all(db, role)
    # The owner itself is subject to FORCE; everybody else is to ENABLE.
    db.execute(
        f"""
        alter table {table} enable row level security;
        create policy own on {table} using (owner = 'me');
        """
    )
    if forced:
        db.execute(f"alter table {table} force row level security, owner to {role}")
    check_refused(db, db.plan(), role, "row-level security policy")


def test_a_role_that_passes_row_security_by_moves_hidden_rows_too(db: Database, role: str) -> None:
    db.execute(SIMPLE)
    grant_all(db, role)
    db.execute(
        f"""
        alter table recommendation enable row level security;
        create policy own on recommendation using (owner = 'me');
        alter role {role} bypassrls;
        """
    )
    assert db.apply(db.plan(), **as_(role)).repointed == 2
    assert db.execute("select count(*) from recommendation") == [(4,)]


@pytest.mark.parametrize("action", ["undo", "plan"])
def test_undo_and_plan_name_the_right_that_is_missing(db: Database, role: str, action: str) -> None:
    db.execute(SIMPLE)
    db.merge()
    merged = db.contents()
    act = db.undo if action == "undo" else db.plan
    with pytest.raises(FkdoctorError) as refused:
        act(**as_(role))
    assert "permission denied" in refused.value.why
    assert db.contents() == merged
    assert db.status() == "applied"
