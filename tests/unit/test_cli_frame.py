"""What surrounds every command: help, exit codes, and how a problem is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest

from fkdoctor.cli import _COMMANDS, fkdoctor

ROOT = Path(__file__).parents[2]


def _run(
    *arguments: str, program: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`fkdoctor`, or with a command `probe` made of `program`, in a process without settings."""
    names = ("FKDOCTOR_URL", "DATABASE_URL")
    settings = {name: value for name, value in os.environ.items() if name not in names}
    start = ["-m", "fkdoctor"] if program is None else ["-c", _with_probe(program)]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        env=settings | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | environment,
        cwd="/",
        capture_output=True,
        text=True,
    )


def _with_probe(program: str) -> str:
    return textwrap.dedent(
        """
        import sys, types
        import click
        from fkdoctor import cli, errors
        @click.command()
        def probe():
        {body}
        sys.modules["probe"] = types.SimpleNamespace(probe=probe)
        cli._COMMANDS["probe"] = ("probe", "")
        cli.main()
        """
    ).format(body=textwrap.indent(textwrap.dedent(program).strip(), "    "))


# Help


def test_help_lists_the_commands_without_importing_any() -> None:
    shown = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fkdoctor", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0
    for name in _COMMANDS:
        assert f"\n  {name} " in shown.stdout
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in shown.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"sqlalchemy", "alembic", "psycopg2", "sqlglot", "rich"}


@pytest.mark.parametrize("name", _COMMANDS)
def test_the_summary_of_a_command_is_its_own(name: str) -> None:
    context = click.Context(fkdoctor)
    command = fkdoctor.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(limit=1_000) == _COMMANDS[name][1]
    assert command.get_help(context)


def test_the_version_is_one_line_on_stdout() -> None:
    shown = _run("--version")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("fkdoctor ")


# Usage


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["audt"], "No such command 'audt'. Did you mean: fkdoctor audit"),
        (["xyz"], "No such command 'xyz'"),
        (["--wrong"], "No such option '--wrong'"),
        (["audit", "--wrong"], "No such option '--wrong'"),
        (["audit", "--format", "yaml"], "'yaml' is not one of"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], told: str) -> None:
    run = _run(*arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert told in run.stderr.replace("No such option: --wrong", "No such option '--wrong'")


def test_without_a_database_there_are_three_lines_and_exit_code_2() -> None:
    run = _run("audit")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.splitlines() == [
        "No database is given.",
        "Looked at --url, FKDOCTOR_URL, DATABASE_URL and fkdoctor.toml.",
        "For example: --url postgresql://user@localhost/mlops, or try: fkdoctor demo",
    ]


def test_a_configuration_that_is_not_there_is_exit_code_2() -> None:
    run = _run("audit", "--config", "/no/such/fkdoctor.toml")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.splitlines()[0] == "/no/such/fkdoctor.toml cannot be read."


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@localhost:1/mlops",
        "postgresql://me:hunter2@no-such-host.invalid/mlops",
        "postgresql://me:hunter2@localhost:1/mlops?sslmode=hunter",
        "host=/no/such/directory password=hunter2",
        "service=no_such_service password=hunter2",
        "host=localhost port=1,2,3 password=hunter2",
        "host=localhost port=99999 password=hunter2",
        "postgresql://me:hunter2@[::1]:1/mlops?connect_timeout=soon",
    ],
)
def test_a_server_that_is_not_there_is_three_lines_and_exit_code_2(url: str) -> None:
    run = _run("audit", "--url", url)
    assert (run.returncode, run.stdout) == (2, "")
    what, why, to_type = run.stderr.splitlines()
    assert what == "The database does not answer."
    assert why
    assert "fkdoctor demo" in to_type
    assert "hunter2" not in run.stderr


@pytest.mark.parametrize("variable", ["FKDOCTOR_URL", "DATABASE_URL"])
def test_a_wrong_address_in_a_variable_is_named_by_the_variable(variable: str) -> None:
    run = _run("audit", **{variable: "mysql://me:hunter2@localhost/mlops"})
    assert (run.returncode, run.stdout) == (2, "")
    assert variable in run.stderr
    assert "hunter2" not in run.stderr
    assert "Traceback" not in run.stderr


# Problems in a command


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        ("errors.ConfigError('What.', why='Why.', next='Next.')", 2),
        ("errors.UnknownName('What.', why='Why.', next='Next.')", 2),
        ("errors.ServerUnavailable('What.', why='Why.', next='Next.')", 2),
        ("errors.UnsupportedServer('What.', why='Why.', next='Next.')", 2),
        ("errors.Refused('What.', why='Why.', next='Next.')", 3),
        ("errors.StalePlan('What.', why='Why.', next='Next.')", 3),
        ("errors.Blocked('What.', why='Why.', next='Next.')", 3),
        ("errors.UndoConflict('What.', why='Why.', next='Next.')", 3),
        ("errors.Incomplete('What.', why='Why.', next='Next.')", 4),
    ],
)
def test_each_error_has_its_exit_code_and_its_three_lines(raised: str, code: int) -> None:
    run = _run("probe", program=f"raise {raised}")
    assert (run.returncode, run.stdout) == (code, "")
    assert run.stderr.splitlines() == ["What.", "Why.", "Next."]


def test_a_bug_is_told_from_a_mistake() -> None:
    run = _run("probe", program="raise KeyError('oops')")
    assert (run.returncode, run.stdout) == (70, "")
    assert "KeyError: 'oops'" in run.stderr
    assert "bug in fkdoctor" in run.stderr


@pytest.mark.parametrize(
    ("ending", "code"),
    [("pass", 0), ("return 1", 1), ("click.get_current_context().exit(4)", 4), ("sys.exit(3)", 3)],
)
def test_a_command_chooses_its_exit_code(ending: str, code: int) -> None:
    run = _run("probe", program=f"click.echo('data'); {ending}")
    assert (run.returncode, run.stdout, run.stderr) == (code, "data\n", "")


def test_ctrl_c_is_exit_code_130() -> None:
    run = _run("probe", program=f"import os; os.kill(os.getpid(), {int(signal.SIGINT)})")
    assert (run.returncode, run.stdout) == (130, "")
    assert run.stderr.splitlines()[-1] == "Stopped."
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("lines", [2, 100_000])
def test_a_reader_that_leaves_early_is_no_error(lines: int) -> None:
    # More than a pipe holds, and less: then the closed pipe is met only at the end.
    program = _with_probe(f"import time; time.sleep(0.2)\nfor n in range({lines}): click.echo(n)")
    shell = '"$0" -c "$1" probe | true; exit "${PIPESTATUS[0]}"'
    run = subprocess.run(
        ["bash", "-c", shell, sys.executable, program], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
