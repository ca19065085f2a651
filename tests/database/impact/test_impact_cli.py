"""`fkdoctor impact` as a shell or a pipeline meets it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

Execute = Callable[[str], list[tuple[Any, ...]]]

LETTERS = """
    create schema mlops;
    create table mlops.letter (id int primary key, url text);
    create table mlops.visit (id int primary key, letter_id int references mlops.letter
        on delete cascade, region text, number int, unique (region, number));
    create table mlops.photo (region text, number int, primary key (region, number),
        foreign key (region, number) references mlops.visit (region, number));
    insert into mlops.letter select i, 'u' || i from generate_series(1, 20) as i;
    insert into mlops.visit select i, 1 + i % 4, 'r,1', i from generate_series(1, 100) as i;
    insert into mlops.photo values ('r,1', 3);
"""


Run = Callable[..., Any]


@pytest.fixture
def run(database_url: str, execute: Execute, fkdoctor: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs fkdoctor with these words, on the letters."""
    execute(LETTERS)
    monkeypatch.setenv("FKDOCTOR_URL", database_url)
    return fkdoctor


def test_an_allowed_delete_is_a_tree_and_exit_code_0(run: Run) -> None:
    ended = run("impact", "DELETE FROM mlops.letter WHERE id = 1")
    assert ended.code == 0
    *lines, sample = ended.out.splitlines()
    assert lines[2:] == [
        "✔ ALLOWED: 26 rows deleted, in 2 tables",
        "",
        "mlops.letter  1 row deleted",
        "    (1)",
        "└─ mlops.visit  25 rows deleted  (visit_letter_id_fkey, ON DELETE CASCADE)",
    ]
    assert re.fullmatch(r"       (\(\d+\), ){4}\(\d+\) and 20 more", sample)


def test_a_blocked_delete_names_the_row_and_exits_with_1(run: Run) -> None:
    ended = run("impact", "--table", "letter", "--where", "id = 4", "--show", "1")
    assert ended.code == 1
    assert "✖ BLOCKED" in ended.out
    assert "mlops.letter (4) → mlops.visit (3) → mlops.photo (r,1, 3)" in ended.out


def test_keys_come_from_options_files_and_stdin(run: Run, tmp_path: Path) -> None:
    assert "75 rows" in run("impact", "--table", "visit", "--where", "id > 25").out
    one = run("impact", "--table", "letter", "--key", "1", "--key", "2")
    assert "52 rows deleted" in one.out
    Path("keys.csv").write_text("1\n2\n\n3\n")
    many = run("impact", "--table", "letter", "--keys-from", "keys.csv")
    assert "DELETE of 3 rows" in many.out
    assert "78 rows deleted" in many.out
    composite = run("impact", "--table", "photo", "--key", '"r,1",3', "--format", "json")
    assert json.loads(composite.out)["impacts"][0]["deleted_rows"] == 1
    wrong = run("impact", "--table", "photo", "--key", "3")
    assert (wrong.code, "region, number" in wrong.err) == (2, True)


def test_json_tells_everything(run: Run) -> None:
    ended = run(
        "impact", "delete from mlops.letter where id = $1", "--param", "1=4", "--format", "json"
    )
    (impact,) = json.loads(ended.out)["impacts"]
    assert impact["verdict"] == "blocked"
    assert impact["obstacles"][0]["paths"][0][-1] == {
        "table": "mlops.photo",
        "key": {"region": "r,1", "number": "3"},
        "by": "mlops.photo.photo_region_number_fkey",
    }
    assert [effect["rows"] for effect in impact["effects"]] == [1, 25]


def test_markdown_is_a_table(run: Run) -> None:
    ended = run("impact", "delete from mlops.letter where id = 1", "--format", "markdown")
    assert (
        "| 1 | `mlops.visit` | 25 deleted | `visit_letter_id_fkey` ON DELETE CASCADE |" in ended.out
    )


def test_statements_resolve_names_by_the_search_path(run: Run, execute: Execute) -> None:
    refused = run("impact", "delete from visit where id = 1")
    assert (refused.code, "mlops.visit" in refused.err) == (2, True)
    execute(
        "do $$ begin execute 'alter database ' || quote_ident(current_database()) ||"
        " ' set search_path = mlops'; end $$; create table public.visit (id int)"
    )
    ended = run(
        "impact", "delete from visit using letter where letter.id = letter_id and url = 'u2'"
    )
    assert "25 rows deleted, in 1 table" in ended.out


def test_several_statements_are_answered_one_by_one(run: Run) -> None:
    ended = run("impact", "delete from mlops.photo; delete from mlops.letter")
    assert ended.code == 1  # each as if the others were not: the photo still blocks
    assert ended.out.count("deleted, in") == 2


def test_why_shows_the_path_to_a_row(run: Run) -> None:
    words = ("impact", "delete from mlops.letter where id < 3", "--why", "visit")
    assert "mlops.letter (2) → mlops.visit (5)" in run(*words, "5").out
    assert "Why that row" not in run(*words, "3").out
    missing = run(*words, "500")
    assert (missing.code, "has no row (500)" in missing.err) == (2, True)


def test_a_limit_stops_and_fails(run: Run) -> None:
    ended = run("impact", "delete from mlops.letter where id < 4", "--limit", "10")
    assert ended.code == 1
    assert "more than 10 rows" in ended.out
    assert run("impact", "delete from mlops.letter where id < 3", "--limit", "52").code == 0


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("delete from mlops.letter", "--table", "letter"),
        ("--table", "letter"),
        ("--table", "letter", "--key", "1", "--where", "true"),
        ("delete from mlops.letter where id = :id",),
        ("drop table mlops.letter",),
        ("delete from mlops.nothing",),
        ("delete from mlops.letter where nothing = 1",),
    ],
)
def test_a_question_that_cannot_be_asked_exits_with_2(run: Run, words: tuple[str, ...]) -> None:
    assert run("impact", *words).code == 2


def test_a_condition_that_writes_is_not_evaluated(run: Run, execute: Execute) -> None:
    execute("create sequence mlops.counter")
    ended = run("impact", "delete from mlops.letter where nextval('mlops.counter') > 0")
    assert "UNCERTAIN: which rows cannot be told" in ended.out
    assert "rows deleted" not in ended.out
    assert execute("select last_value, is_called from mlops.counter") == [(1, False)]


def test_a_rehearsal_that_agrees_leaves_nothing_behind(run: Run, execute: Execute) -> None:
    ended = run(
        "impact", "delete from mlops.letter where id = :id", "--param", "id=1", "--rehearse"
    )
    assert ended.code == 0
    assert "Rehearsed: 26 rows deleted, 0 updates" in ended.out
    assert "✔ As foreseen." in ended.out
    assert "locked" in ended.err
    blocked = run("impact", "--table", "letter", "--key", "4", "--rehearse")
    assert "Rehearsed: PostgreSQL stops" in blocked.out
    assert "✔ As foreseen." in blocked.out
    assert execute("select count(*) from mlops.letter") == [(20,)]


def test_rehearsals_are_counted_each_for_itself(run: Run) -> None:
    ended = run("impact", "delete from mlops.letter where id = 1; " * 3, "--rehearse")
    assert ended.out.count("Rehearsed: 26 rows deleted") == 3
    assert ended.code == 0


def test_a_rehearsal_shows_what_a_trigger_did(run: Run, execute: Execute) -> None:
    execute("""
        create function keep() returns trigger language plpgsql as 'begin return null; end';
        create trigger keep before delete on mlops.visit for each row execute function keep();
    """)
    ended = run("impact", "delete from mlops.letter where id = 1", "--rehearse", "--format", "json")
    assert ended.code == 1
    (impact,) = json.loads(ended.out)["impacts"]
    assert impact["verdict"] == "uncertain"
    assert [caveat["decisive"] for caveat in impact["caveats"]] == [True]
    assert impact["rehearsal"]["differences"] == ["0 rows of mlops.visit went, not 25"]


def test_a_rehearsal_answers_what_a_trigger_leaves_open(run: Run, execute: Execute) -> None:
    execute("""
        create function guard() returns trigger language plpgsql as $$begin
            if old.id > 1 then raise 'row % is guarded', old.id; end if; return old; end$$;
        create trigger guard before delete on mlops.letter for each row execute function guard();
    """)
    passes = run("impact", "delete from mlops.letter where id = 1", "--rehearse")
    assert "⚠ UNCERTAIN: 26 rows deleted, in 2 tables" in passes.out
    assert "it can raise an error" in passes.out
    assert passes.out.endswith("✔ As foreseen.\n")
    stops = run("impact", "delete from mlops.letter where id = 2", "--rehearse")
    assert "row 2 is guarded" in stops.out
    assert stops.out.endswith("⚠ The preview had left open whether it would.\n")


def test_a_rehearsal_counts_partitions_together_and_sees_deferred_keys(
    run: Run, execute: Execute
) -> None:
    execute("""
        create table mlops.part (id int, letter_id int references mlops.letter on delete cascade)
            partition by range (id);
        create table mlops.part_a partition of mlops.part for values from (0) to (5);
        create table mlops.part_b partition of mlops.part for values from (5) to (10);
        insert into mlops.part select i, 1 from generate_series(0, 9) as i;
    """)
    ended = run("impact", "delete from mlops.letter where id = 1", "--rehearse")
    assert "Rehearsed: 36 rows deleted" in ended.out
    assert ended.code == 0
    execute("""
        create table mlops.late (letter_id int references mlops.letter initially deferred);
        insert into mlops.late values (1);
    """)
    ended = run("impact", "delete from mlops.letter where id = 1", "--rehearse")
    assert "stops at COMMIT" in ended.out
    assert "✔ As foreseen." in ended.out


def test_a_truncate_is_blocked_by_keys_and_follows_them_with_cascade(run: Run) -> None:
    blocked = run("impact", "truncate mlops.visit")
    assert blocked.code == 1
    assert "mlops.photo references it (photo_region_number_fkey)" in blocked.out
    both = run("impact", "truncate mlops.visit, mlops.photo")
    assert (both.code, "101 rows deleted, in 2 tables" in both.out) == (0, True)
    cascade = run("impact", "truncate mlops.letter cascade")
    assert cascade.code == 0
    assert cascade.out.splitlines()[2:] == [
        "✔ ALLOWED: 121 rows deleted, in 3 tables",
        "",
        "mlops.letter  20 rows deleted",
        "└─ mlops.visit  100 rows deleted  (visit_letter_id_fkey)",
        "   └─ mlops.photo  1 row deleted  (photo_region_number_fkey)",
    ]


def test_an_update_of_a_referenced_key_is_followed(run: Run, execute: Execute) -> None:
    blocked = run("impact", "update mlops.letter set id = id + 100 where id = 4")
    assert blocked.code == 1
    assert "25 rows of mlops.visit still reference what goes" in blocked.out
    execute("""
        alter table mlops.visit drop constraint visit_letter_id_fkey,
            add constraint visit_letter_id_fkey foreign key (letter_id) references mlops.letter
            on update cascade
    """)
    words = ("update mlops.letter set id = :id where id = 4", "--param", "id=104", "--rehearse")
    allowed = run("impact", *words)
    assert allowed.code == 0
    assert "✔ ALLOWED: 26 rows changed, in 2 tables" in allowed.out
    assert "visit_letter_id_fkey, ON UPDATE CASCADE" in allowed.out
    assert "✔ As foreseen." in allowed.out
    taken = run("impact", "update mlops.letter set id = 5 where id = 6")
    assert (taken.code, "FAILS" in taken.out) == (1, True)


def test_contents_are_shown_only_when_asked_for(run: Run, execute: Execute) -> None:
    execute("update mlops.letter set url = E'secret\\nline' where id = 1")
    words = ("impact", "delete from mlops.letter where id = 1")
    assert "secret" not in run(*words).out
    assert "    (1)  id: 1, url: secret line" in run(*words, "--contents").out
    shown = json.loads(run(*words, "--contents", "--format", "json").out)["impacts"][0]
    assert shown["effects"][0]["sample"][0]["contents"] == {"id": "1", "url": "secret\nline"}


def test_html_is_a_page_with_the_cascade_as_a_picture(run: Run) -> None:
    page = run("impact", "delete from mlops.letter where url <> '<b>'", "--format", "html").out
    root = ElementTree.fromstring(page.split("<figure>")[1].split("</figure>")[0])
    boxes = [node.findtext("text") for node in root.iter("g") if node.get("class") == "box"]
    assert boxes == ["letter 20", "visit 100", "photo 0"]
    titles = [node.findtext("title") for node in root.iter("path") if node.get("class") == "arrow"]
    assert [title.partition(":")[0] for title in titles if title] == [
        "mlops.visit.visit_letter_id_fkey",
        "mlops.photo.photo_region_number_fkey",
    ]
    assert "BLOCKED" in page
    assert "<b>" not in page


def test_only_columns_that_rows_are_compared_by_need_one_spelling(
    run: Run, execute: Execute
) -> None:
    execute(
        """
        create table mlops.price (
            id int primary key, amount numeric, code numeric unique, check (amount < 9)
        );
        insert into mlops.price values (1, 1.0, 1.0), (2, 2.0, 2.0);
        """
    )
    free = run("impact", "update mlops.price set amount = amount + 1")
    assert (free.code, "ALLOWED: 2 rows changed" in free.out) == (0, True)
    checked = run("impact", "update mlops.price set amount = amount + 8")
    assert "FAILS" in checked.out
    unique = run("impact", "update mlops.price set code = code + 1")
    assert "values of numeric can be equal and written differently" in unique.out
