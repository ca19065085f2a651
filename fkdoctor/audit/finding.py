"""What a rule is, what it sees, and the finding that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from fkdoctor.schema import ForeignKey, Schema, TableName


class Severity(IntEnum):
    """How much it matters; ordered, so that `>=` compares.

    ERROR: something already fails, or is not checked although it seems to be. WARNING: it works,
    and hurts when the tables grow, a value comes or the server is upgraded. INFO: worth knowing.
    """

    INFO = 0
    WARNING = 1
    ERROR = 2

    @property
    def label(self) -> str:
        """The word of the command line and of fkdoctor.toml: `warning`."""
        return self.name.lower()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a rule saw: the thing it is about, in words with names, and what to paste if any.

    `keys` are the foreign keys concerned, the subject's own first; `tables` those that are
    concerned without a key; both are empty where it is the database's. `sql` is for the database,
    `toml` for fkdoctor.toml. `severity` is given where this one is graver or lighter than its rule.
    """

    subject: str
    detail: str
    keys: tuple[ForeignKey, ...] = ()
    tables: tuple[TableName, ...] = ()
    sql: str | None = None
    toml: str | None = None
    severity: Severity | None = None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A way in which a foreign key can hurt. `check` finds it in a Schema, and does nothing else.

    `condition` says when the rule speaks, `effect` why that hurts, `remedy` what to do. `severity`
    is that of most of its findings. `since` and `until` are the major versions of PostgreSQL on
    which it can happen; `reads_rows` and `reads_models` are whether it speaks only where
    rows were looked at, or an application's models.
    """

    id: str
    name: str
    severity: Severity
    condition: str
    effect: str
    remedy: str
    check: Callable[[Schema], Iterator[Evidence]] = field(repr=False)
    since: int | None = None
    until: int | None = None
    reads_rows: bool = False
    reads_models: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule that spoke, and what it saw. `key` names the finding the same way on every run."""

    rule: Rule
    severity: Severity
    subject: str
    detail: str
    keys: tuple[ForeignKey, ...]
    tables: tuple[TableName, ...]
    sql: str | None
    toml: str | None

    @property
    def key(self) -> str:
        """Rule and subject: `FK001:mlops.job_recommendations.job_recommendations_job_id_fkey`."""
        return f"{self.rule.id}:{self.subject}"
