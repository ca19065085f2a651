"""The OS user that a server runs as. PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fkdoctor.errors import ServerUnavailable


@dataclass(frozen=True, kw_only=True)
class Account:
    """An OS user; without `uid` and `gid` the one we are."""

    name: str
    uid: int | None = None
    gid: int | None = None

    @property
    def groups(self) -> list[int] | None:
        """What subprocess takes as `extra_groups`: another user gets none of ours."""
        return None if self.uid is None else []

    def take(self, path: Path) -> None:
        """Afterwards `path`, which we made, belongs to this user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def can_run(self, program: Path) -> bool:
        """True if this user reaches the program and what it needs to start."""
        try:
            answer = subprocess.run(
                [program, "--version"],
                capture_output=True,
                check=False,
                cwd="/",
                user=self.uid,
                group=self.gid,
                extra_groups=self.groups,
            )
        except OSError:
            return False
        return answer.returncode == 0


def choose_account() -> Account:
    """Ourselves; for root `postgres`, else `nobody`."""
    if os.geteuid() != 0:
        return Account(name=f"user {os.geteuid()}")
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ServerUnavailable(
        "No PostgreSQL can be started here.",
        why="It refuses to run as root, and there is neither a user postgres nor a user nobody.",
        next="Run the same command as an ordinary user.",
    )
