"""`fkdoctor dedupe`, `undo`, `runs` and `init` as a shell or a pipeline meets them."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

LETTERS = """
    create schema mlops;
    create table mlops.letter (id int primary key, url text, note text);
    insert into mlops.letter values
        (1, 'https://a.example/x', null), (2, 'http://A.example/x/', 'n'), (3, 'a.example/y', null),
        (4, '//a.example/y#top', null), (5, 'a.example/z', null);
    create table mlops.visit (id int primary key,
        letter_id int constraint visit_letter references mlops.letter on delete cascade);
    insert into mlops.visit values (1, 1), (2, 1), (3, 3), (4, 4);
"""


Run = Callable[..., Any]


@pytest.fixture
def run(db: Any, fkdoctor: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs fkdoctor with these words, on the letters."""
    db.execute(LETTERS)
    monkeypatch.setenv("FKDOCTOR_URL", db.url)
    return fkdoctor


def the_plan(folder: Path) -> Path:
    """The one plan in the directory."""
    (path,) = folder.glob("*.plan.jsonl")
    return path


def count_letters(db: Any) -> int:
    """How many letters there are."""
    ((count,),) = db.execute("select count(*) from mlops.letter")
    return int(count)


def test_a_plan_is_shown_and_saved_and_nothing_is_changed(
    run: Run, db: Any, tmp_path: Path
) -> None:
    before = db.contents()
    done = run("dedupe", "letter", "--match", "url")
    path = the_plan(tmp_path)
    assert re.fullmatch(r"letter-[0-9a-f]{8}\.plan\.jsonl", path.name)
    assert done.code == 0
    assert "2 clusters: 2 survivors would stay, 2 duplicates would be deleted." in done.out
    assert "rows would change: by rule of thumb 1 MB of WAL and 1 s with one worker." in done.out
    assert "2 survives 1  (a.example/x)" in done.out
    assert "mlops.visit.visit_letter        3 rows  (a plain DELETE: CASCADE" in done.out
    assert "no index serves this key" in done.out
    assert f"The plan is saved in {path.name}.\n" in done.err
    assert f"Apply it with: fkdoctor dedupe --plan {path.name} --apply\n" in done.err
    assert done.err.endswith("Nothing was changed.\n")
    assert db.contents() == before


def test_a_saved_plan_is_applied_without_being_shown_again(
    run: Run, db: Any, tmp_path: Path
) -> None:
    run("dedupe", "letter", "--match", "url")
    done = run("dedupe", "--plan", the_plan(tmp_path).name, "--yes")
    assert done.code == 0
    assert done.out == (
        "Run 1: 2 duplicates of mlops.letter deleted, 3 references repointed, none left dangling.\n"
        "Take it back with: fkdoctor undo 1\n"
    )
    assert "delete 2 duplicates of mlops.letter in 2 clusters.\n" in done.err
    assert count_letters(db) == 3
    assert run("dedupe", "--plan", the_plan(tmp_path).name, "--yes").code == 0
    assert count_letters(db) == 3
    history = run("runs")
    assert (history.code, history.out.count("\n")) == (0, 1)
    assert "mlops.letter  2 rows deleted, 3 references repointed" in history.out
    undone = run("undo", "1")
    assert (undone.code, undone.out) == (
        0,
        "Run 1 undone: 2 rows restored, 3 references pointed back.\n",
    )
    assert count_letters(db) == 5


def test_clusters_that_were_taken_out_are_counted(run: Run, db: Any, tmp_path: Path) -> None:
    run("dedupe", "letter", "--match", "url")
    path = the_plan(tmp_path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    done = run("dedupe", "--plan", str(path), "--yes")
    assert done.code == 0
    assert "delete 1 duplicate of mlops.letter in 1 cluster (1 were taken out" in done.err
    assert count_letters(db) == 4


def test_a_row_in_two_clusters_is_refused_before_anything_is_written(
    run: Run, db: Any, tmp_path: Path
) -> None:
    run("dedupe", "letter", "--match", "url")
    path = the_plan(tmp_path)
    *lines, last = path.read_text().splitlines()
    cluster = json.loads(last)
    cluster["duplicates"].append(json.loads(lines[1])["survivor"])
    path.write_text("\n".join([*lines, json.dumps(cluster)]))
    done = run("dedupe", "--plan", str(path), "--yes", "--batch-size", "1")
    assert (done.code, done.out) == (2, "")
    assert "names row (2) twice.\nIt is in cluster 1 and in cluster 2.\n" in done.err
    assert count_letters(db) == 5
    assert db.execute("select count(*) from fkdoctor.run") == [(0,)]


def test_json_is_the_only_thing_on_stdout(run: Run, db: Any, tmp_path: Path) -> None:
    planned = json.loads(run("dedupe", "letter", "--match", "url", "--format", "json").out)
    assert planned["run"] is None
    assert planned["estimate"]["rows"] == 5
    assert (planned["plan"]["clusters"], planned["plan"]["duplicates"]) == (2, 2)
    assert planned["plan"]["repoints"][0]["rows"] == 3
    applied = json.loads(run("dedupe", "--plan", planned["path"], "--yes", "--format", "json").out)
    assert applied["plan"] == planned["plan"]
    assert applied["run"] == {"id": 1, "deleted": 2, "repointed": 3, "stale_clusters": []}
    (listed,) = json.loads(run("runs", "--format", "json").out)
    assert (listed["id"], listed["status"], listed["deleted"]) == (1, "applied", 2)
    undone = json.loads(run("undo", "1", "--format", "json").out)
    assert (undone["run"], undone["restored"], undone["kept_clusters"]) == (1, 2, [])
    at_once = json.loads(run("dedupe", "letter", "--match", "url", "--yes", "--format", "json").out)
    assert at_once["run"]["deleted"] == 2
    nothing = run("dedupe", "letter", "--match", "url", "--yes", "--format", "json")
    assert json.loads(nothing.out)["run"] is None
    assert nothing.code == 0
    assert "There is nothing to merge.\n" in nothing.err


def test_markdown_is_for_a_ticket(run: Run) -> None:
    done = run("dedupe", "letter", "--match", "url", "--yes", "--format", "markdown")
    assert done.code == 0
    assert done.out.startswith("### Dedupe plan for `mlops.letter`\n")
    assert "| `mlops.visit.visit_letter` | 3 | CASCADE | **no** |\n" in done.out
    assert "\n### Dedupe run 1\n\n- Run 1: 2 duplicates of mlops.letter deleted" in done.out
    assert "| 1 |" in run("runs", "--format", "markdown").out


def test_values_cannot_speak_to_the_terminal(run: Run, db: Any) -> None:
    db.execute("""
        update mlops.letter set note = E'\\x1b]0;x\\x07\\n|`<b>`' where id in (1, 3);
        alter table mlops.visit rename constraint visit_letter to "a|`b`
c";
    """)
    for form in ("text", "markdown"):
        done = run("dedupe", "letter", "--match", "note", "--format", form)
        assert done.code == 0
        assert not re.search(r"[^\n -~…·│–]", done.out)
    assert '| ``mlops.visit."a\\|`b` c"`` |' in done.out


def test_a_plan_goes_where_it_is_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "plans").mkdir()
    assert run("dedupe", "letter", "--match", "url", "--out", "plans").code == 0
    the_plan(tmp_path / "plans")
    for _ in range(2):
        assert run("dedupe", "letter", "--match", "url", "--out", "mine").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "plans"]
    done = run("dedupe", "letter", "--match", "url", "--out", "none/mine")
    assert done.code == 2
    assert "The plan cannot be written to none/mine.\nNo such file or directory\n" in done.err


def test_a_plan_does_not_touch_a_plan_that_is_there(run: Run, tmp_path: Path) -> None:
    reviewed = tmp_path / "letter.plan.jsonl"
    reviewed.write_text("reviewed")
    assert run("dedupe", "letter", "--match", "url").code == 0
    assert reviewed.read_text() == "reviewed"


def test_odd_names_are_resolved_and_quoted_in_what_to_type(
    run: Run, db: Any, tmp_path: Path
) -> None:
    db.execute("""
        create table "odd/.. name" (id int primary key, "A b" text);
        insert into "odd/.. name" values (1, 'x'), (2, 'x');
    """)
    done = run("dedupe", '"odd/.. name"', "--match", '"A b"')
    assert done.code == 0
    path = the_plan(tmp_path)
    assert path.name.startswith("odd_.._name-")
    done = run("dedupe", '"odd/.. name"', "--match", '"A b"', "--out", "my plan")
    assert "Apply it with: fkdoctor dedupe --plan 'my plan' --apply\n" in done.err


def test_what_to_match_may_stand_in_the_file(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "fkdoctor.toml"
    config.write_text('[dedupe."mlops.letter"]\nmatch = ["url"]\nsurvivor = ["(id)"]\n')
    done = json.loads(run("dedupe", "letter", "--format", "json").out)
    assert done["plan"]["survivor"] == ["largest (id)", "lowest key"]
    done = json.loads(run("dedupe", "letter", "--match", "(id / 9)", "--format", "json").out)
    assert done["plan"]["match"] == ["the expression (id / 9)"]
    assert done["plan"]["clusters"] == 1


MISTAKES: dict[str, tuple[Sequence[str], str]] = {
    "neither a table nor a plan": (["dedupe"], "Name either a TABLE"),
    "both": (["dedupe", "letter", "--plan", "x"], "Name either a TABLE"),
    "criteria for a plan": (["dedupe", "--plan", "x", "--match", "url"], "--plan has one already"),
    "no match": (["dedupe", "letter"], "Nothing says what makes rows duplicates."),
    "no such table": (["dedupe", "lettre", "--match", "url"], "There is no table lettre"),
    "no such column": (["dedupe", "letter", "--match", "uri"], "has no column uri"),
    "no such rule": (["dedupe", "letter", "--match", "url", "--survivor", "x"], "no survivor rule"),
    "no such plan": (["dedupe", "--plan", "x"], "The plan x cannot be read."),
    "a mistake in SQL": (["dedupe", "letter", "--match", "(url + 1)"], "operator does not exist"),
    "no such run": (["undo", "77"], "There is no run 77."),
    "no such option": (["dedupe", "letter", "--frobnicate"], "No such option"),
    "too small a cluster": (["dedupe", "letter", "--max-cluster", "1"], "is not in the range"),
}


def test_mistakes_end_with_2_and_a_word_what_to_do(run: Run, tmp_path: Path) -> None:
    for case, (words, complaint) in MISTAKES.items():
        done = run(*words)
        assert (done.code, done.out) == (2, ""), case
        assert complaint in done.err, case
    assert not list(tmp_path.iterdir())


def test_nobody_is_asked_where_nobody_is(run: Run, db: Any, monkeypatch: Any) -> None:
    done = run("dedupe", "letter", "--match", "url", "--apply")
    assert done.code == 2
    assert "Nobody is there to be asked; nothing was changed." in done.err
    assert "Give --yes as well." in done.err
    assert count_letters(db) == 5


def test_what_is_blocked_ends_with_3(run: Run, db: Any, tmp_path: Path) -> None:
    db.execute("create unique index only_one on mlops.visit (id, (visit is null))")
    planned = run("dedupe", "letter", "--match", "url")
    assert planned.code == 0
    assert "In the way; the plan cannot be applied:\n  mlops.visit index only_one" in planned.out
    assert "Apply it with" not in planned.err
    done = run("dedupe", "--plan", str(the_plan(tmp_path)), "--apply")
    assert (done.code, count_letters(db)) == (3, 5)
    assert "mlops.visit index only_one" in done.err
    db.execute("alter table mlops.letter drop constraint letter_pkey cascade")
    done = run("dedupe", "letter", "--match", "url")
    assert (done.code, done.out) == (3, "")
    assert "mlops.letter: it has no primary key." in done.err


def test_a_stale_plan_ends_with_3_and_a_stale_cluster_with_4(
    run: Run, db: Any, tmp_path: Path
) -> None:
    run("dedupe", "letter", "--match", "url", "--out", "one")
    db.execute("update mlops.letter set note = 'changed' where id = 3")
    done = run("dedupe", "--plan", "one", "--yes")
    assert (done.code, count_letters(db)) == (4, 4)
    assert "Left alone because a row changed after the plan: 1 cluster (2)." in done.out
    assert "Make a new plan for them: fkdoctor dedupe mlops.letter --match …" in done.err
    run("dedupe", "letter", "--match", "url", "--out", "two")
    db.execute("alter table mlops.visit add column more int")
    done = run("dedupe", "--plan", "two", "--yes")
    assert (done.code, count_letters(db)) == (3, 4)


def test_without_a_ledger_the_plan_is_kept(
    run: Run, make_database: Callable[[], str], monkeypatch: Any, tmp_path: Path, db: Any
) -> None:
    monkeypatch.setenv("FKDOCTOR_URL", make_database())
    db = type(db)(os.environ["FKDOCTOR_URL"], tmp_path)
    db.execute(LETTERS)
    for words in (["runs"], ["undo", "1"]):
        done = run(*words)
        assert (done.code, done.out) == (3, "")
        assert "Create or upgrade it: fkdoctor init" in done.err
    done = run("dedupe", "letter", "--match", "url", "--yes")
    path = the_plan(tmp_path)
    assert done.code == 3
    assert f"The plan is saved in {path.name}." in done.err
    assert done.err.endswith("Create or upgrade it: fkdoctor init\n")
    assert count_letters(db) == 5
    assert run("init").err.endswith("The ledger is ready.\n")
    assert run("init").err.endswith("The ledger is up to date.\n")
    assert run("runs").out == "Nothing was applied in this database yet.\n"
    assert run("dedupe", "--plan", path.name, "--yes").code == 0
    assert count_letters(db) == 3


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(run: Run, db: Any, tmp_path: Path) -> Start:
    """Starts fkdoctor as a process of its own, on the letters."""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root), "FKDOCTOR_URL": db.url}

    def start(*words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fkdoctor", *words],
            cwd=tmp_path,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def count_sleepers(db: Any) -> int:
    """How many sessions sleep in this database."""
    ((count,),) = db.execute("""
        select count(*) from pg_stat_activity
        where datname = current_database() and wait_event = 'PgSleep'
    """)
    return int(count)


def interrupt(process: subprocess.Popen[str], db: Any) -> str:
    """Presses Ctrl-C as soon as PostgreSQL sleeps: what the process says then."""
    for _ in range(600):
        if count_sleepers(db):
            break
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert "Traceback" not in err
    assert (process.returncode, out) == (130, "")
    return err


def test_ctrl_c_stops_a_long_statement(start: Start, db: Any, tmp_path: Path) -> None:
    before = db.contents()
    slow = "(url || pg_sleep(600)::text)"
    said = interrupt(start("dedupe", "letter", "--match", slow), db)
    assert said.endswith("Stopped.\n")
    assert count_sleepers(db) == 0
    assert db.contents() == before
    assert not list(tmp_path.iterdir())


def test_ctrl_c_stops_between_whole_batches(
    start: Start, run: Run, db: Any, tmp_path: Path
) -> None:
    db.execute("""
        create table mlops.pause (seconds int); insert into mlops.pause values (600);
        create function mlops.pause() returns trigger language plpgsql as $$
            begin
                perform pg_sleep(seconds) from mlops.pause; return new;
            end
        $$;
        create trigger pause after update on mlops.visit for each row when (new.id = 4)
            execute function mlops.pause();
    """)
    run("dedupe", "letter", "--match", "url", "--out", "plan")
    said = interrupt(start("dedupe", "--plan", "plan", "--yes", "--batch-size", "1"), db)
    assert "What is merged stays merged; the batch at hand was rolled back.\n" in said
    assert "Go on with: fkdoctor dedupe --plan plan --apply\n" in said
    assert db.execute("select id from mlops.letter order by id") == [(2,), (3,), (4,), (5,)]
    assert db.execute("select id, letter_id from mlops.visit order by id") == [
        (1, 2), (2, 2), (3, 3), (4, 4)
    ]  # fmt: skip
    assert db.execute("select deleted, status from fkdoctor.run") == [(1, "applying")]
    db.execute("update mlops.pause set seconds = 0")
    assert run("dedupe", "--plan", "plan", "--yes").code == 0
    assert db.execute("select id from mlops.letter order by id") == [(2,), (3,), (5,)]


@pytest.mark.parametrize(("answer", "left"), [("n", 5), ("y", 3)])
def test_a_person_is_asked(start: Start, db: Any, answer: str, left: int) -> None:
    try:
        ours, theirs = pty.openpty()
    except OSError:
        pytest.skip("no pseudo-terminal here for a person to sit at")
    process = start("dedupe", "letter", "--match", "url", "--apply", stdin=theirs)
    os.write(ours, f"{answer}\n".encode())
    out, err = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0
    question = "Repoint their references and delete 2 duplicates of mlops.letter in 2 clusters?"
    assert question in err
    assert question not in out
    assert ("Nothing was changed." in err) is (left == 5)
    assert ("Run 1: 2 duplicates" in out) is (left == 3)
    assert count_letters(db) == left


def test_a_pipe_that_closes_early_is_no_failure(start: Start) -> None:
    process = start("dedupe", "letter", "--match", "url")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert "Traceback" not in process.stderr.read()
    assert process.wait(timeout=60) == 0
