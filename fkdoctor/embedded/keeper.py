"""The shell that owns a server and its directories, and ends them when we end.

It reads a pipe whose other end only we hold, so it learns of our end however we end, SIGKILL
included. It makes the directories itself: there is no moment at which nobody would remove them.
It runs in a session of its own: Ctrl-C at the terminal reaches us and not the server.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fkdoctor.embedded.account import Account
from fkdoctor.embedded.binaries import Unusable

# It answers with its two directories. Then the pipe's first line names the programs and starts
# the work; a second one, `keep`, lets the server outlive us; the end of the pipe is the end of the
# server. SIGQUIT (stop at once) is repeated because a shell starts its background programs with
# that signal ignored, until they set a handler of their own.
# /tmp and not $TMPDIR: the path of a socket holds 107 bytes.
SCRIPT = """
trap '' PIPE
exec 3<&0 </dev/null
HOME=$(mktemp -d /tmp/fkdoctor-XXXXXXXX) &&
    DATA=$(mktemp -d "${MEMORY:-$HOME}/fkdoctor-XXXXXXXX" 2>/dev/null || mktemp -d "$HOME/XXXX") &&
    echo "$HOME" && echo "$DATA" && exec >"$HOME/log" 2>&1 || exec >/dev/null 2>&1
export HOME
ended= reader= status=1
run() {
    "$@" 3<&- & child=$!
    while kill -0 $child 2>/dev/null; do
        if [ "$ended" ]; then
            kill -QUIT $child 2>/dev/null
            sleep 0.05
        else
            wait $child
            status=$?
        fi
    done
    [ "$status" = 0 ] && [ -z "$ended" ]
}
if read -r programs <&3; then
    trap 'ended=yes reader=' TERM
    trap 'reader=' USR1
    { read -r word <&3; [ "$word" = keep ] && kill -USR1 $$ || kill -TERM $$; } & reader=$!
    run "$programs/initdb" -D "$DATA" -U postgres -A trust -E UTF8 -N $LOCALE &&
        run "$programs/postgres" -D "$DATA" -k "$HOME" "$@"
    [ -z "$reader" ] || kill $reader
fi
rm -rf -- "$DATA" "$HOME"
"""


class Keeper:
    """The running shell. `directory` is for the socket and the log, `data` for the cluster.

    It starts nothing before `begin`.
    """

    def __init__(
        self,
        *,
        account: Account,
        memory: Path | None,
        locale_flags: str,
        arguments: Sequence[str],
    ) -> None:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PG", "LC_")) and name not in ("LANG", "LANGUAGE")
        }
        environment |= {"LC_ALL": "C", "TZ": "UTC", "LOCALE": locale_flags}
        environment["MEMORY"] = str(memory or "")
        theirs, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", SCRIPT, "fkdoctor-keeper", *arguments],
                stdin=theirs,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                start_new_session=True,
                umask=0o077,
                user=account.uid,
                group=account.gid,
                extra_groups=account.groups,
            )
        except OSError as problem:  # a container may forbid root to become another user
            os.close(self._pipe)
            raise Unusable(f"it cannot run as {account.name}: {problem.strerror}") from problem
        finally:
            os.close(theirs)
        try:
            self.directory, self.data = self._read_directories()
        except BaseException:
            self.end()
            raise

    def _read_directories(self) -> tuple[Path, Path]:
        assert self._process.stdout
        with self._process.stdout as pipe:
            answer = os.fsdecode(pipe.read()).strip()
        match answer.splitlines():
            case [directory, data] if directory.startswith("/"):
                return Path(directory), Path(data)
            case _:
                raise Unusable(f"there is no room for its files: {answer}")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def begin(self, programs: Path) -> None:
        """The keeper makes the cluster and starts the server."""
        os.write(self._pipe, os.fsencode(programs) + b"\n")

    def release(self) -> None:
        """The server outlives us; the keeper waits for its end and cleans up then."""
        os.write(self._pipe, b"keep\n")
        os.close(self._pipe)
        self._process.returncode = 0  # not ours to wait for; else Popen warns when it is collected

    def end(self) -> None:
        """Neither server nor directories remain."""
        os.close(self._pipe)
        self._process.wait()
