"""What is shipped: every file of the tree, found by fkdoctor wherever it was installed to."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Where the wheel puts the folders of the checkout.
SHIPPED = {"fkdoctor": "fkdoctor", "sql": "fkdoctor/_sql", "migrations": "fkdoctor/_migrations"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because building writes beside what it builds."""
    copy = tmp_path_factory.mktemp("build") / "checkout"
    copy.mkdir()
    for name in SHIPPED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def _build(checkout: Path, kind: str) -> Path:
    """The unpacked wheel, or editable wheel."""
    target = checkout.parent / kind
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(target)!r}))"
    target.mkdir()
    run = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    archive = target / run.stdout.splitlines()[-1]
    with zipfile.ZipFile(archive) as content:
        content.extractall(target)
    archive.unlink()
    return target


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    return _build(checkout, "wheel")


@pytest.fixture(scope="module")
def editable(checkout: Path) -> Path:
    return _build(checkout, "editable")


def _run(installed: Path, code: str) -> list[str]:
    """What the code prints where fkdoctor is what `installed` makes it, and nothing else is."""
    packages = sysconfig.get_path("purelib")
    start = f"import sys, site; site.addsitedir({str(installed)!r}); sys.path.append({packages!r})"
    run = subprocess.run(
        # -S: our own .venv has an editable fkdoctor too
        [sys.executable, "-S", "-P", "-c", f"{start}\n{code}"],
        cwd=installed,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def _list_files(directory: Path) -> set[Path]:
    return {
        path.relative_to(directory)
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("folder", SHIPPED)
def test_the_wheel_holds_every_file_of_the_tree(folder: str, wheel: Path) -> None:
    expected = _list_files(ROOT / folder)
    shipped = _list_files(wheel / SHIPPED[folder])
    if folder == "fkdoctor":
        shipped = {path for path in shipped if path.parts[0] not in ("_sql", "_migrations")}
    assert expected
    assert shipped == expected


def test_the_wheel_holds_nothing_else_at_its_top(wheel: Path) -> None:
    names = sorted(path.name.split("-")[0] for path in wheel.iterdir())
    assert names == ["fkdoctor", "fkdoctor"]  # the package and its dist-info


@pytest.mark.parametrize("kind", ["wheel", "editable", "checkout"])
def test_sql_and_migrations_are_found(kind: str, request: pytest.FixtureRequest) -> None:
    installed: Path = request.getfixturevalue(kind)
    code = """
import fkdoctor
from fkdoctor.resources import load_query, resource_dir
print(fkdoctor.__file__, resource_dir("sql"), resource_dir("migrations"), sep="\\n")
print(load_query("catalog/tables"), end="")
"""
    module, sql, migrations, *query = _run(installed, code)
    home = request.getfixturevalue("wheel" if kind == "wheel" else "checkout")
    assert Path(module) == home / "fkdoctor" / "__init__.py"
    assert _list_files(Path(sql)) == _list_files(ROOT / "sql")
    assert _list_files(Path(migrations)) == _list_files(ROOT / "migrations")
    assert query == (ROOT / "sql/catalog/tables.sql").read_text().splitlines()


def test_the_metadata_names_licence_python_and_extras(wheel: Path) -> None:
    (dist_info,) = wheel.glob("*.dist-info")
    metadata = email.message_from_string((dist_info / "METADATA").read_text())
    assert metadata["Name"] == "fkdoctor"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert {"embedded", "test", "lint", "dev"} <= set(metadata.get_all("Provides-Extra", []))
    assert (dist_info / "licenses" / "LICENSE").is_file()
    entry_points = (dist_info / "entry_points.txt").read_text().split("\n")
    assert "fkdoctor = fkdoctor.cli:main" in entry_points


def test_the_wheel_is_typed(wheel: Path) -> None:
    assert (wheel / "fkdoctor" / "py.typed").is_file()
