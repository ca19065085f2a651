"""Everything fkdoctor raises on purpose.

    FkdoctorError
    ├── ConfigError            a flag, a file, a name or an address is wrong
    │   ├── UnknownName        a table, schema, column or constraint that is not there
    │   └── AmbiguousName      a bare name that several schemas know
    ├── ServerUnavailable      no PostgreSQL answers, or none can be started
    ├── UnsupportedServer      a PostgreSQL older than fkdoctor can read
    ├── Refused                fkdoctor will not do it; nothing was changed
    │   ├── StalePlan          the database is no longer the one the plan was made for
    │   ├── Blocked            something in the way, named, must be settled first
    │   └── UndoConflict       a row was changed after the run that is to be undone
    └── Incomplete             part of the work is done and recorded: run it again

Each carries three lines: what happened, why (with names), and what to type next.
"""

from __future__ import annotations


class FkdoctorError(Exception):
    """A problem with a name: `what` happened, `why`, and what to do `next`."""

    def __init__(self, what: str, *, why: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.next = next

    def __str__(self) -> str:
        return "\n".join(line for line in (self.what, self.why, self.next) if line)


class ConfigError(FkdoctorError):
    """The question cannot be asked as it stands."""


class UnknownName(ConfigError):
    """No such table, schema, column or constraint."""


class AmbiguousName(ConfigError):
    """A bare name that means more than one thing."""


class ServerUnavailable(FkdoctorError):
    """No PostgreSQL answers at the address, or none could be started."""


class UnsupportedServer(FkdoctorError):
    """The PostgreSQL is older than the oldest that fkdoctor reads."""


class Refused(FkdoctorError):
    """fkdoctor will not do it. Nothing was changed."""


class StalePlan(Refused):
    """The rows or the schema changed after the plan was made."""


class Blocked(Refused):
    """Something named stands in the way."""


class UndoConflict(Refused):
    """A row that the undo would restore was changed after the run."""


class Incomplete(FkdoctorError):
    """Part of the work is done and recorded; the same call goes on from there."""
