"""dev.py and the matrix: what they say when something is missing. .ci/run uses them for real."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fkdoctor.embedded.binaries import find_binaries, read_version

ROOT = Path(__file__).parents[2]
SUITE = ("tests/database/test_isolation.py", "-k", "template")


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """dev.py as a module, with its .venv elsewhere."""
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / "venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / "venv" / "bin" / "python")
    return module


def _run_dev(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "dev.py", *words], cwd=ROOT, capture_output=True, text=True
    )


def test_without_words_the_commands_are_explained() -> None:
    run = _run_dev()
    assert run.returncode == 0
    for command in ("demo", "test", "check", "matrix", "oldest"):
        assert f"python3 dev.py {command}" in run.stdout


def test_an_unknown_command_is_a_usage_error() -> None:
    run = _run_dev("tset")
    assert run.returncode == 2
    assert "'tset'" in run.stderr
    assert run.stdout == ""


def test_an_old_python_reads_dev_py_far_enough_to_be_told() -> None:
    ast.parse((ROOT / "dev.py").read_text(), feature_version=(3, 7))


def test_an_old_python_is_refused_by_name(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert dev.main(["test"]) == 1
    assert "needs Python 3.11" in capsys.readouterr().err
    assert not dev.VENV.exists()


def test_a_python_without_pip_is_told_what_to_install(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert dev.make_environment("test") is False
    assert "apt-get install python3-pip" in capsys.readouterr().err
    assert dev.PYTHON.exists()


def test_a_failed_installation_is_told_and_not_taken_for_done(tmp_path: Path) -> None:
    for name in ("dev.py", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    no_network = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
    no_network |= {"PIP_CONFIG_FILE": os.devnull, "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": ""}
    run = subprocess.run(
        # the Python of the system: a .venv made on Debian has no pip
        [Path(sys.base_prefix, "bin", "python3"), "dev.py", "test"],
        cwd=tmp_path,
        env=os.environ | no_network,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "Check the network" in run.stderr
    assert (tmp_path / ".venv" / "bin" / "python").exists()
    assert not list((tmp_path / ".venv").glob("installed-*"))


def test_the_oldest_dependencies_are_the_lower_bounds_of_setup_cfg(dev: ModuleType) -> None:
    bounds = dict(line.split("==") for line in dev.read_oldest())
    assert bounds["sqlalchemy"].startswith("2.0.")
    assert set(bounds) == {"sqlalchemy", "alembic", "psycopg2-binary", "click", "sqlglot", "rich"}


def test_the_matrix_runs_what_it_finds_and_tells_what_is_missing() -> None:
    binaries = find_binaries()[-1].directory
    version = read_version(binaries)
    words = f"--majors {version.major},99 --from {binaries.parent} --no-fetch"
    run = subprocess.run(
        [sys.executable, "tests/matrix.py", *words.split(), *SUITE],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    first, second = run.stdout.splitlines()
    assert first.startswith(f"PostgreSQL {version}: 1 passed")
    assert second.startswith("PostgreSQL 99: skipped")


def test_the_matrix_fails_with_a_failing_suite_and_with_no_suite_at_all() -> None:
    binaries = find_binaries()[-1].directory
    for majors in (str(read_version(binaries).major), "99"):
        run = subprocess.run(
            [sys.executable, "tests/matrix.py", "--majors", majors, "--no-fetch", "no_such_file"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
        )
        assert run.returncode == 1
