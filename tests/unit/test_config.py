"""fkdoctor.toml: every key, and what is said about a file that is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fkdoctor.config import (
    AuditConfig,
    Config,
    DatabaseConfig,
    DedupeConfig,
    PolicyConfig,
    ReferenceConfig,
    find_config,
    load_config,
    parse_duration,
)
from fkdoctor.errors import ConfigError

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "fkdoctor.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def _refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    message = str(refused.value)
    assert str(path) in message.splitlines()[0]
    return message.replace(str(path), "FILE")


def test_every_key_is_read(write: Write) -> None:
    path = write(
        """
        [database]
        url = "postgresql://localhost/mlops"
        url_env = "MLOPS_URL"
        schemas = ["mlops", "Archive"]
        lock_timeout = "1.5s"
        statement_timeout = "5min"

        [audit]
        ignore = ["FK001", "FK004:mlops.*"]
        fail_on = "warning"

        [soft_delete]
        column = "removed_at"

        [[policy]]
        referencing = "audit_*"
        on_delete = "NO ACTION"

        [[policy]]
        referenced = "mlops.Job Postings"
        on_delete = "CASCADE"
        on_update = "RESTRICT"

        [dedupe.cover_letter_samples]
        match = ["url:url", "(lower(title))"]
        survivor = ["newest:updated_at"]
        on_collision = ["a=newest"]
        on_link = ["b=delete"]
        on_loop = ["c=null"]
        fields = ["title=longest"]

        [dedupe."mlops.Job Postings"]
        match = ["url"]

        [[reference]]
        from = "mlops.user_interactions.target_id"
        to = "mlops.cover_letter_samples.id"
        where = "target_kind = 'sample'"

        [[reference]]
        from = "batches.job_ids[]"
        to = "jobs.id"
        """
    )
    assert load_config(path) == Config(
        path=path,
        database=DatabaseConfig(
            url="postgresql://localhost/mlops",
            url_env="MLOPS_URL",
            schemas=("mlops", "Archive"),
            lock_timeout=1_500,
            statement_timeout=300_000,
        ),
        audit=AuditConfig(ignore=("FK001", "FK004:mlops.*"), fail_on="warning"),
        soft_delete_column="removed_at",
        dedupe={
            "cover_letter_samples": DedupeConfig(
                table="cover_letter_samples",
                match=("url:url", "(lower(title))"),
                survivor=("newest:updated_at",),
                on_collision=("a=newest",),
                on_link=("b=delete",),
                on_loop=("c=null",),
                fields=("title=longest",),
            ),
            "mlops.Job Postings": DedupeConfig(table="mlops.Job Postings", match=("url",)),
        },
        references=(
            ReferenceConfig(
                source="mlops.user_interactions.target_id",
                target="mlops.cover_letter_samples.id",
                where="target_kind = 'sample'",
            ),
            ReferenceConfig(source="batches.job_ids[]", target="jobs.id"),
        ),
        policies=(
            PolicyConfig(referencing="audit_*", on_delete="NO ACTION"),
            PolicyConfig(
                referenced="mlops.Job Postings", on_delete="CASCADE", on_update="RESTRICT"
            ),
        ),
    )


def test_the_reference_page_tells_of_every_key(write: Write) -> None:
    page = (Path(__file__).parents[2] / "docs/reference/configuration.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert load_config(write(example)).audit.fail_on == "warning"
    sections = re.findall(r"^### `\[([^`]+?)\]`\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    assert len(sections) == 6
    for section, text in sections:
        told = sorted(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
        filled = 'from = "a.b.c"\nto = "d.e.f"\n' if section == "[reference]" else ""
        _, known, _ = _refusal(write(f"[{section}]\n{filled}no_such_key = 1")).splitlines()
        assert known == f"Known here: {', '.join(told)}."


def test_no_file_and_an_empty_file_mean_every_default(write: Write) -> None:
    default = Config()
    assert load_config(None) == default
    path = write("")
    assert load_config(path) == Config(path=path)
    assert (default.database.lock_timeout, default.database.statement_timeout) == (2_000, 0)
    assert (default.audit.fail_on, default.soft_delete_column) == ("error", "deleted_at")


@pytest.mark.parametrize(
    ("text", "what", "to_type"),
    [
        ("[databse]\nurl = 'x'", "[databse] is not", "Did you mean database?"),
        ("lock_timeout = '2s'", "lock_timeout is not", "Remove it or correct its name."),
        ("[database]\nlocktimeout = '2s'", "[database] locktimeout", "Did you mean lock_timeout?"),
        ("[audit]\nfailon = 'never'", "[audit] failon", "Did you mean fail_on?"),
        ("[audit.ignored]\nx = 1", "[audit.ignored] is not", "Did you mean ignore?"),
        ("[soft_delete]\ncolum = 'x'", "[soft_delete] colum", "Did you mean column?"),
        ("[dedupe.t]\nmatches = ['url']", "[dedupe.t] matches", "Did you mean match?"),
        ("[dedupe.t]\nq = 1", "[dedupe.t] q", "Remove it or correct its name."),
        ("[[policy]]\nondelete = 'CASCADE'", "[policy] ondelete", "Did you mean on_delete?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    write: Write, text: str, what: str, to_type: str
) -> None:
    first, known, last = _refusal(write(text)).splitlines()
    assert first.startswith(f"FILE: {what}")
    assert known.startswith("Known here: ")
    assert last == to_type


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("database = 1", ("database has", "It is 1.", "Write a section, [database].")),
        ("dedupe.t = 'url'", ("[dedupe] t has", "It is 'url'.", "Write a section, [dedupe.t].")),
        ("reference.to = 'b'", ("[reference]", "It is a section.", "Write a section for each")),
        (
            "policy = 1",
            ("policy has", "It is 1.", "Write a section for each"),
        ),
        (
            "[[policy]]\non_delete = 'VANISH'",
            ("[policy] on_delete has", "It is 'VANISH'.", 'Write one of "NO ACTION"'),
        ),
        ("[database]\nurl_env = 5", ("[database] url_env", "It is 5.", "Write text in quotes.")),
        ("[database]\nurl = ''", ("[database] url has", "It is ''.", "Write text in quotes.")),
        (
            "[database]\nschemas = 'mlops'",
            ("[database] schemas", "It is 'mlops'.", 'Write a list of texts, ["…", "…"].'),
        ),
        (
            "[audit]\nignore = ['FK001', 2]",
            ("[audit] ignore", "It is a list.", 'Write a list of texts, ["…", "…"].'),
        ),
        (
            "[audit]\nfail_on = 'errors'",
            ("[audit] fail_on", "It is 'errors'.", 'Write one of "info", "warning", "error",'),
        ),
        (
            "[audit]\nfail_on = true",
            ("[audit] fail_on", "It is True.", 'Write one of "info", "warning", "error",'),
        ),
        (
            "[database.statement_timeout]",
            ("[database.statement_timeout]", "It is a section.", "Write a time such as"),
        ),
        (
            "[database]\nlock_timeout = 2026-01-31",
            ("[database] lock_timeout", "It is a date or time.", "Write a time such as"),
        ),
        (
            "[database]\nlock_timeout = 2000",
            ("[database] lock_timeout", "It is 2000.", 'Write a time such as "200ms"'),
        ),
        (
            "[database]\nlock_timeout = '2 weeks'",
            ("[database] lock_timeout", "It is '2 weeks'.", 'Write a time such as "200ms"'),
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_would(
    write: Write, text: str, lines: tuple[str, str, str]
) -> None:
    what, why, to_type = _refusal(write(text)).splitlines()
    assert what.startswith(f"FILE: {lines[0]}")
    assert what.endswith("has a value that does not fit.")
    assert why == lines[1]
    assert to_type.startswith(lines[2])


@pytest.mark.parametrize(
    "text",
    [
        "[database]\nurl = ['postgresql://me:hunter2@localhost/mlops']",
        "[database]\nurl = {address = 'postgresql://me:hunter2@localhost/mlops'}",
        "[database.url]\npassword = 'hunter2'",
        "url = 'postgresql://me:hunter2@localhost/mlops'",
        "[database]\nurl = 'postgresql://me:hunter2@localhost/mlops' oops",
        "[database]\nurl = 'postgresql://me:hunter2@localhost/mlops",
    ],
)
def test_no_message_repeats_a_password(write: Write, text: str) -> None:
    assert "hunter2" not in _refusal(write(text))


def test_the_printed_configuration_holds_no_password(write: Write) -> None:
    config = load_config(write("[database]\nurl = 'postgresql://me:hunter2@localhost/mlops'"))
    assert config.database.url is not None
    assert "hunter2" not in f"{config} {config!r} {config.database!r}"


@pytest.mark.parametrize("content", [b"[database", b"x = \xff", b"a = 1\na = 2"])
def test_what_is_not_toml_is_refused_with_the_place(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fkdoctor.toml"
    path.write_bytes(content)
    what, why, _ = _refusal(path).splitlines()
    assert what == "FILE is not TOML."
    assert "(at " in why or "position" in why


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "fkdoctor.toml"
    path.write_bytes(b"\xef\xbb\xbf[audit]\nfail_on = 'info'\n")
    assert load_config(path).audit.fail_on == "info"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "missing.toml").splitlines() == [
        "FILE cannot be read.",
        "No such file or directory",
        "Check --config.",
    ]


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in _refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_closed_file_is_refused(write: Write) -> None:
    path = write("")
    path.chmod(0)
    assert "Permission denied" in _refusal(path)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("200ms", 200),
        ("2s", 2_000),
        (" 2 s ", 2_000),
        ("1.5s", 1_500),
        ("1.1s", 1_100),
        ("5min", 300_000),
        ("1h", 3_600_000),
        ("0s", 0),
        # Not 0, which would be no limit at all.
        ("0.2ms", 1),
        ("596h", 2_145_600_000),
        ("597h", None),  # PostgreSQL's setting is a 32-bit integer
        ("2", None),
        ("2m", None),
        ("-2s", None),
        ("1e3ms", None),
        ("٢s", None),
        ("", None),
    ],
)
def test_durations_are_milliseconds(text: str, milliseconds: int | None) -> None:
    assert parse_duration(text) == milliseconds


@given(st.integers(0, 2**31 - 1))
def test_a_duration_in_milliseconds_is_itself(milliseconds: int) -> None:
    assert parse_duration(f"{milliseconds}ms") == milliseconds
    assert parse_duration(f"{milliseconds / 1000:.3f}s") == milliseconds


def test_the_nearest_file_above_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find_config(deep) is None
    (tmp_path / "fkdoctor.toml").touch()
    assert find_config(deep) == tmp_path / "fkdoctor.toml"
    (tmp_path / "a" / "fkdoctor.toml").touch()
    assert find_config(deep) == tmp_path / "a" / "fkdoctor.toml"
    # A directory of that name is not the file.
    (deep / "fkdoctor.toml").mkdir()
    assert find_config(deep) == tmp_path / "a" / "fkdoctor.toml"


@pytest.mark.skipif(os.geteuid() == 0, reason="root enters every directory")
def test_a_closed_directory_above_is_passed_over(tmp_path: Path) -> None:
    deep = tmp_path / "closed" / "below"
    deep.mkdir(parents=True)
    (tmp_path / "closed").chmod(0)
    try:
        assert find_config(deep) is None
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_reference_without_its_end_is_refused(write: Write) -> None:
    what, _, to_type = _refusal(write("[[reference]]\nfrom = 'a.b'")).splitlines()
    assert what == "FILE: a [[reference]] has no to."
    assert 'to = "schema.table.column"' in to_type


def test_a_policy_that_says_nothing_is_refused(write: Write) -> None:
    told = _refusal(write("[[policy]]\nreferenced = 'jobs'"))
    assert told.splitlines()[0] == "FILE: a [[policy]] says nothing."
    assert "to jobs" in told
