"""`fkdoctor audit`, `rules` and `explain` as they are typed: what they print and how they exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
TABLES = """
    create schema mlops;
    set search_path = mlops;
    create table cover_letter_samples (id bigint primary key);
    create table job_recommendations (
        id bigint primary key, resume_id bigint references cover_letter_samples
    );
    create table user_interactions (
        id bigint primary key, resume_id bigint not null references cover_letter_samples
            on delete cascade
    );
    create index on user_interactions (resume_id);
    create schema other;
    create table other.user_interactions (
        resume_id bigint not null references cover_letter_samples on delete set null
    );
    create index on other.user_interactions (resume_id);
"""


@pytest.fixture(autouse=True)
def tables(
    database_url: str, execute: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(TABLES)
    monkeypatch.setenv("FKDOCTOR_URL", database_url)


def test_every_key_is_printed_with_its_rule(fkdoctor: Callable[..., Any]) -> None:
    printed = fkdoctor("audit").out.splitlines()

    assert printed[:4] == [
        "mlops.cover_letter_samples  (never analysed)",
        "⚠ mlops.job_recommendations.job_recommendations_resume_id_fkey: "
        "resume_id → mlops.cover_letter_samples(id)  ON DELETE NO ACTION",
        "✔ mlops.user_interactions.user_interactions_resume_id_fkey: "
        "resume_id → mlops.cover_letter_samples(id)  ON DELETE CASCADE",
        "✖ other.user_interactions.user_interactions_resume_id_fkey: "
        "resume_id → mlops.cover_letter_samples(id)  ON DELETE SET NULL",
    ]
    assert "4 tables in 2 schemas (mlops, other), 3 foreign keys" in printed[-1]


def test_estimates_are_told_once_there_are_statistics(
    fkdoctor: Callable[..., Any], execute: Callable[[str], object]
) -> None:
    execute(
        "insert into mlops.cover_letter_samples select generate_series(1, 20000);"
        "analyze mlops.cover_letter_samples"
    )

    assert fkdoctor("audit").out.startswith("mlops.cover_letter_samples  (about 20,000 rows)\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 1),
        (("--fail-on", "never"), 0),
        (("--schema", "mlops"), 1),
        (("--table", "job_recommendations"), 0),
        (("--table", "job_recommendations", "--fail-on", "warning"), 1),
        (("--table", "mlops.user_interactions", "--fail-on", "info"), 0),
        (("--format", "json"), 1),
        (("--format", "markdown", "--fail-on", "never"), 0),
    ],
)
def test_the_exit_code_follows_the_gravest_finding_in_scope(
    fkdoctor: Callable[..., Any], arguments: tuple[str, ...], code: int
) -> None:
    assert fkdoctor("audit", *arguments).code == code


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--table", "user_interactions"), "mlops.user_interactions or other.user_interactions"),
        (("--table", "cover_leter_samples"), "Nearest: mlops.cover_letter_samples."),
        (("--schema", "mlop"), "Did you mean mlops?"),
        (("--against", "none.json"), "none.json cannot be read."),
        (("--fail-on", "fatal"), "Invalid value for '--fail-on'"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(
    fkdoctor: Callable[..., Any], arguments: tuple[str, ...], told: str
) -> None:
    outcome = fkdoctor("audit", *arguments)

    assert outcome.code == 2
    assert outcome.out == ""
    assert told in outcome.err


def test_json_and_markdown_stand_alone_on_stdout(fkdoctor: Callable[..., Any]) -> None:
    document = json.loads(fkdoctor("audit", "--format", "json").out)

    assert [finding["rule"] for finding in document["findings"]] == [
        "FK008",
        "FK001",
        "FK019",
        "FK029",
    ]
    assert fkdoctor("audit", "--format", "markdown").out.startswith("## Foreign keys\n\n1 error, ")


def test_the_keys_are_drawn(fkdoctor: Callable[..., Any]) -> None:
    assert fkdoctor("audit", "--format", "html").out.startswith("<!DOCTYPE html>")
    svg = fkdoctor("graph")
    assert (svg.code, svg.out.startswith("<svg ")) == (0, True)
    dot = fkdoctor("graph", "--format", "dot", "--schema", "other").out.splitlines()
    assert [line for line in dot if "->" in line] == [
        '  "other.user_interactions" -> "mlops.cover_letter_samples" [color="#0072b2", '
        'tooltip="other.user_interactions.user_interactions_resume_id_fkey: '
        'resume_id → mlops.cover_letter_samples(id), SET NULL"];'
    ]
    assert fkdoctor("graph", "--format", "mermaid").out.startswith("flowchart BT\n")


def test_the_file_gives_schemas_ignores_and_the_limit(
    fkdoctor: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "fkdoctor.toml").write_text(
        '[database]\nschemas = ["mlops"]\n'
        '[audit]\nfail_on = "warning"\nignore = ["FK008", "FK001:mlops.*", "FK011"]\n'
    )
    outcome = fkdoctor("audit")

    assert outcome.code == 0
    assert "2 info findings; 2 ignored." in outcome.out
    assert "Nothing corresponds to ignore = 'FK011' any more." in outcome.err
    assert "3 tables in 1 schema (mlops)" in outcome.out
    assert fkdoctor("audit", "--fail-on", "info").code == 1


def test_a_baseline_accepts_what_is_there_and_tells_what_is_new_or_gone(
    fkdoctor: Callable[..., Any], execute: Callable[[str], object]
) -> None:
    written = fkdoctor("audit", "--write-baseline", "known.json")
    assert (written.code, "Wrote 4 findings to known.json." in written.err) == (0, True)

    again = fkdoctor("audit", "--against", "known.json", "--fail-on", "info")
    assert again.code == 0
    assert "4 of them known from the baseline." in again.out

    execute(
        "create index on mlops.job_recommendations (resume_id);"
        "drop index other.user_interactions_resume_id_idx"
    )
    later = fkdoctor("audit", "--against", "known.json", "--fail-on", "warning")
    assert later.code == 1
    assert "CREATE INDEX CONCURRENTLY ON other.user_interactions (resume_id);" in later.out
    assert (
        "No longer found, though in the baseline: "
        "FK001:mlops.job_recommendations.job_recommendations_resume_id_fkey." in later.out
    )


def test_rows_are_looked_at_where_asked_for(
    fkdoctor: Callable[..., Any], execute: Callable[[str], object], tmp_path: Path
) -> None:
    execute("insert into mlops.job_recommendations values (1, null)")
    assert "FK051" not in fkdoctor("audit").out
    execute(
        "alter table mlops.job_recommendations drop constraint job_recommendations_resume_id_fkey;"
        "update mlops.job_recommendations set resume_id = 77;"
        "alter table mlops.job_recommendations add foreign key (resume_id)"
        " references mlops.cover_letter_samples not valid"
    )
    assert "FK051" not in fkdoctor("audit").out
    first = fkdoctor("audit", "--data", "--resume", "rows.jsonl")
    assert first.code == 1
    assert "By id: 1 → 77." in first.out
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3

    # What the file has is not asked again.
    execute("delete from mlops.job_recommendations")
    assert "By id: 1 → 77." in fkdoctor("audit", "--data", "--resume", "rows.jsonl").out
    assert "FK051" not in fkdoctor("audit", "--data=sample", "--table", "job_recommendations").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data-timeout", "soon", "--data"), "Write a time such as"),
        (("--resume", "rows.jsonl"), "--resume is for --data."),
        (("--data=all", "--resume", "no/such/folder"), "Check --resume."),
    ],
)
def test_options_for_rows_that_do_not_fit_are_refused(
    fkdoctor: Callable[..., Any], arguments: tuple[str, ...], told: str
) -> None:
    outcome = fkdoctor("audit", *arguments)
    assert outcome.code == 2
    assert told in outcome.err


def test_a_baseline_that_cannot_be_written_is_said(fkdoctor: Callable[..., Any]) -> None:
    outcome = fkdoctor("audit", "--write-baseline", "no/such/folder.json")

    assert outcome.code == 2
    assert "no/such/folder.json cannot be written." in outcome.err


def test_ascii_and_pipes_get_plain_text(fkdoctor: Callable[..., Any]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-m", "fkdoctor", "audit"], capture_output=True, env=environment
    )
    lines = run.stdout.decode("ascii").splitlines()

    assert run.returncode == 1
    assert (
        "! mlops.job_recommendations.job_recommendations_resume_id_fkey: "
        "resume_id -> mlops.cover_letter_samples(id)  ON DELETE NO ACTION" in lines
    )
    assert "\x1b" not in run.stdout.decode("ascii")


def test_rules_and_explain_need_no_database(
    fkdoctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FKDOCTOR_URL", "postgresql://nobody@127.0.0.1:1/none")

    assert fkdoctor("rules").out.startswith("FK001  warning  unindexed-reference\n")
    assert json.loads(fkdoctor("rules", "--format", "json").out)[0]["id"] == "FK001"
    assert "create index on job_recommendations" in fkdoctor("explain", "FK001").out
    assert fkdoctor("explain", "fk001", "--format", "markdown").out == (
        ROOT / "docs" / "rules" / "FK001.md"
    ).read_text(encoding="utf-8")
    unknown = fkdoctor("explain", "FK0l1")
    assert (unknown.code, "There is no rule FK0l1." in unknown.err) == (2, True)
