"""The commands as somebody types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Database = Any  # the fixture's class lives in conftest.py

ROOT = Path(__file__).parents[3]
SHOP = """
    create table customer (id int primary key, name text, gone timestamptz, gone_by uuid);
    create table purchase (id int primary key, gone timestamptz, gone_by uuid,
        customer int constraint of_customer references customer on delete cascade);
    create table visit (id int primary key,
        customer int constraint by_customer references customer on delete set null);
    create table invoice (id int primary key,
        purchase int constraint of_purchase references purchase on delete restrict);
    insert into customer values (1, E'\\x1b[31mred'), (2, 'b');
    insert into purchase (id, customer) values (10, 1), (20, 2);
    insert into visit values (100, 1); insert into invoice values (7, 20);
"""


class Shell:
    """Runs fkdoctor on the database of the test."""

    def __init__(self, db: Database, folder: Path) -> None:
        self.db, self.folder = db, folder
        (folder / "fkdoctor.toml").write_text(
            '[soft_delete]\ncolumn = "gone"\ndeletion_column = "gone_by"\n'
        )

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fkdoctor", *arguments, "--url", self.db.url],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
            capture_output=True,
            text=True,
        )


@pytest.fixture
def shell(db: Database, tmp_path: Path) -> Shell:
    db.execute(SHOP)
    return Shell(db, tmp_path)


def test_shown_done_listed_taken_back_and_purged(shell: Shell, db: Database) -> None:
    before = db.contents()
    arguments = ("soft-delete", "customer", "--where", "name like '%red'", "--reason", "it asked")
    shown = shell(*arguments)
    assert (shown.returncode, db.contents()) == (0, before)
    assert shown.stdout.splitlines() == [
        "Of public.customer, name like '%red':",
        "2 rows would be soft-deleted:",
        "  public.customer  1 row",
        "  public.purchase  1 row  by public.purchase.of_customer",
        "  public.visit  customer would be set to NULL, and remembered in 1 row  "
        "by public.visit.by_customer",
    ]
    assert shown.stderr.splitlines()[-1] == "Nothing was changed. Do it with: --yes"

    done = shell(*arguments, "--yes")
    assert done.returncode == 0
    first, *others = done.stdout.splitlines()
    id = first.split()[1].rstrip(":")
    assert first.startswith(f"Deletion {id}: 2 rows soft-deleted at 20")
    assert others[-1].startswith("  public.visit  customer is set to NULL, and remembered in 1 row")
    assert done.stderr.splitlines()[-1] == f"Take it back with: fkdoctor restore {id} --yes"
    assert db.execute("select count(gone), count(gone_by) from customer") == [(1, 1)]

    listed = shell("deletions")
    assert f"{id}  20" in listed.stdout
    assert listed.stdout.endswith("public.customer  2 rows, by postgres: it asked\n") or (
        "2 rows, by " in listed.stdout
    )

    again = shell("restore", id[:6])
    assert (again.returncode, again.stdout.splitlines()[1]) == (0, "2 rows would be restored:")
    assert shell("restore", id[:6], "--yes").stdout.splitlines()[1] == "2 rows restored:"
    assert db.contents() == before
    assert shell("restore", id, "--yes").stdout.endswith("restored already.\n")
    assert "  restored  " in shell("deletions").stdout

    shell(*arguments, "--yes")
    shown = shell("purge", "--older-than", "30d")
    assert "0 rows; 0 would be deleted for good." in shown.stdout
    db.execute("update customer set gone = gone - interval '31 days'")
    db.execute("update purchase set gone = gone - interval '31 days'")
    assert "2 rows; 2 would be deleted for good." in shell("purge", "--older-than", "30d").stdout
    assert db.execute("select count(*) from customer") == [(2,)]
    purged = shell("purge", "--older-than", "30d", "--yes")
    assert "2 rows; 2 deleted for good." in purged.stdout
    assert db.execute("select id from customer") == [(2,)]
    assert "  purged    " in shell("deletions").stdout


def test_what_is_in_the_way_is_shown_and_is_exit_code_3(shell: Shell, db: Database) -> None:
    before = db.contents()
    for yes in ((), ("--yes",)):
        refused = shell("soft-delete", "customer", "--key", "2", *yes)
        assert refused.returncode == 3
        assert "Refused: something is in the way; nothing was changed." in refused.stderr
        assert "public.invoice.of_purchase: ON DELETE RESTRICT" in refused.stderr
        assert "public.invoice (7)" in refused.stderr
    assert db.contents() == before


def test_json_says_all_of_it(shell: Shell) -> None:
    shown = json.loads(shell("soft-delete", "customer", "--key", "1", "--format", "json").stdout)
    assert (shown["id"], shown["rows"], shown["missing"]) == (None, 2, 0)
    assert shown["changes"][0]["action"] == "SET NULL"
    done = shell("soft-delete", "customer", "--key", "1", "--yes", "--format", "json")
    id = json.loads(done.stdout)["id"]
    (listed,) = json.loads(shell("deletions", "--format", "json").stdout)
    assert (listed["id"], listed["taken"], listed["restored_at"]) == (id, 2, None)
    back = json.loads(shell("restore", id, "--format", "json").stdout)
    assert (back["done"], back["conflicts"], back["rows"]) == (False, [], 2)
    purge = json.loads(shell("purge", "--older-than", "0d", "--format", "json").stdout)
    assert (purge["done"], purge["rows"]) == (False, 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["soft-delete", "customer"], "Nothing says which rows are meant."),
        (["soft-delete", "customer", "--key", "1", "--where", "id = 1"], "Two things say it."),
        (["soft-delete", "no_such", "--key", "1"], "There is no table no_such"),
        (["restore", "abc"], "There is no deletion abc."),
        (["purge"], "Missing option '--older-than'"),
        (["purge", "--older-than", "30"], "write a number and min, h, d or w"),
        (["purge", "--older-than", "999999w"], "before all time"),
        (["purge", "no_such", "--older-than", "30d"], "There is no table no_such"),
    ],
)
def test_wrong_usage_is_exit_code_2(shell: Shell, arguments: list[str], told: str) -> None:
    refused = shell(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert told in refused.stderr
