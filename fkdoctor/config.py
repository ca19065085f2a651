"""fkdoctor.toml as a frozen value. A key that is not known is an error, never ignored."""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from fkdoctor.errors import ConfigError

FILE_NAME = "fkdoctor.toml"
SEVERITIES = ("info", "warning", "error")
ACTIONS = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT")


@dataclass(frozen=True, kw_only=True)
class DatabaseConfig:
    """Where the database is and how long a statement may wait. Times are in milliseconds."""

    url: str | None = field(default=None, repr=False)
    url_env: str | None = None
    schemas: tuple[str, ...] = ()
    lock_timeout: int = 2_000
    statement_timeout: int = 0


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """What the audit leaves out (`FK004` or `FK004:schema.table.constraint`, `*` for any)."""

    ignore: tuple[str, ...] = ()
    fail_on: str = "error"


@dataclass(frozen=True, kw_only=True)
class DedupeConfig:
    """How duplicates of one table are found and which row of them stays.

    `match` holds columns, `column:normaliser` or SQL expressions in parentheses; rows that agree on
    all of them are duplicates. `survivor` holds rules in order of weight. What becomes of rows that
    collide is said by table, `table=policy`.
    """

    table: str
    match: tuple[str, ...] = ()
    survivor: tuple[str, ...] = ()
    on_collision: tuple[str, ...] = ()
    on_link: tuple[str, ...] = ()
    on_loop: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReferenceConfig:
    """A reference that no foreign key declares: `source` and `target` are `schema.table.column`.

    A `source` that ends in `[]` is an array; `path` leads to the references in JSON, `where` is SQL
    on the referencing row.
    """

    source: str
    target: str
    where: str | None = None
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which rule the foreign keys between some tables shall have.

    `referenced` and `referencing` are tables, `schema.table` or `table`, with `*` for anything.
    `dangling` says what to do with rows that stand against a key that is yet to be made.
    """

    referenced: str = "*"
    referencing: str = "*"
    on_delete: str | None = None
    on_update: str | None = None
    dangling: str = "refuse"


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole file; `path` is None where there is none and all is default."""

    path: Path | None = None
    database: DatabaseConfig = DatabaseConfig()
    audit: AuditConfig = AuditConfig()
    soft_delete_column: str = "deleted_at"
    deletion_column: str = "deletion_id"
    dedupe: Mapping[str, DedupeConfig] = field(default_factory=dict)
    references: tuple[ReferenceConfig, ...] = ()
    policies: tuple[PolicyConfig, ...] = ()


def find_config(start: Path) -> Path | None:
    """The nearest fkdoctor.toml in `start` or a directory above it."""
    for directory in (start, *start.parents):
        candidate = directory / FILE_NAME
        if os.path.isfile(candidate):  # Path.is_file raises where a directory is closed to us
            return candidate
    return None


def load_config(path: Path | None) -> Config:
    """The file's content; every default where `path` is None.

    Raises ConfigError for a file that cannot be read, an unknown key or a value of the wrong type.
    """
    if path is None:
        return Config()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read.", why=error.strerror or "", next="Check --config."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not TOML.", why=f"{error}.", next="Correct the line it names."
        ) from None
    return _read_config(_Section(path, "", document), path)


def _read_config(top: _Section, path: Path) -> Config:
    database = top.section("database")
    audit = top.section("audit")
    soft_delete = top.section("soft_delete")
    dedupe = top.section("dedupe")
    config = Config(
        path=path,
        database=DatabaseConfig(
            url=database.text("url"),
            url_env=database.text("url_env"),
            schemas=database.texts("schemas"),
            lock_timeout=database.milliseconds("lock_timeout", 2_000),
            statement_timeout=database.milliseconds("statement_timeout", 0),
        ),
        audit=AuditConfig(
            ignore=audit.texts("ignore"),
            fail_on=audit.choice("fail_on", (*SEVERITIES, "never"), "error"),
        ),
        soft_delete_column=soft_delete.text("column") or "deleted_at",
        deletion_column=soft_delete.text("deletion_column") or "deletion_id",
        dedupe={name: _read_dedupe(dedupe.section(name), name) for name in dedupe.names()},
        references=tuple(_read_reference(section) for section in top.sections("reference")),
        policies=tuple(_read_policy(section) for section in top.sections("policy")),
    )
    for section in (database, audit, soft_delete, dedupe, top):
        section.finish()
    return config


def _read_dedupe(section: _Section, table: str) -> DedupeConfig:
    config = DedupeConfig(
        table=table,
        match=section.texts("match"),
        survivor=section.texts("survivor"),
        on_collision=section.texts("on_collision"),
        on_link=section.texts("on_link"),
        on_loop=section.texts("on_loop"),
        fields=section.texts("fields"),
    )
    section.finish()
    return config


def _read_reference(section: _Section) -> ReferenceConfig:
    config = ReferenceConfig(
        source=section.needed_text("from"),
        target=section.needed_text("to"),
        where=section.text("where"),
        path=section.text("path"),
    )
    section.finish()
    return config


def _read_policy(section: _Section) -> PolicyConfig:
    policy = PolicyConfig(
        referenced=section.text("referenced") or "*",
        referencing=section.text("referencing") or "*",
        on_delete=section.choice("on_delete", ACTIONS, "") or None,
        on_update=section.choice("on_update", ACTIONS, "") or None,
        dangling=section.choice("dangling", ("refuse", "delete", "set null", "keep"), "refuse"),
    )
    section.finish()
    if policy.on_delete is None and policy.on_update is None:
        raise ConfigError(
            f"{section.path}: a [[policy]] says nothing.",
            why=f"It is for keys from {policy.referencing} to {policy.referenced}.",
            next='Give it on_delete = "CASCADE", or on_update.',
        )
    return policy


_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h)\Z")
_LONGEST = 2**31 - 1
_MILLISECONDS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000}


def parse_duration(text: str) -> int | None:
    """The duration (`200ms`, `2s`, `5min`, `1h`) in milliseconds; None if it is none.

    Rounded up, because 0 means no limit to PostgreSQL. Longer than its integers hold is none.
    """
    found = _DURATION.match(text.strip())
    if not found:
        return None
    duration = math.ceil(Fraction(found[1]) * _MILLISECONDS[found[2]])
    return duration if duration <= _LONGEST else None


_KINDS: dict[type, str] = {list: "a list", dict: "a section"}


class _Section:
    """One table of the file, handing out its keys and in the end complaining of the rest."""

    def __init__(self, path: Path, name: str, values: Mapping[str, Any]) -> None:
        self.path = path
        self._name = name
        self._values = values
        self._known: set[str] = set()

    def _get(self, key: str) -> Any:
        self._known.add(key)
        return self._values.get(key)

    def names(self) -> tuple[str, ...]:
        return tuple(self._values)

    def section(self, key: str) -> _Section:
        value = self._get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(key, f"a section, [{self._below(key)}]")
        return _Section(self.path, self._below(key), value)

    def sections(self, key: str) -> tuple[_Section, ...]:
        """Those written [[key]], in order."""
        values = self._get(key)
        if values is None:
            values = []
        if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
            raise self._wrong(key, f"a section for each, [[{self._below(key)}]]")
        return tuple(_Section(self.path, self._below(key), one) for one in values)

    def needed_text(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            raise ConfigError(
                f"{self.path}: a [[{self._name}]] has no {key}.",
                why="It can't be guessed.",
                next=f'Write, for example: {key} = "schema.table.column".',
            )
        return value

    def text(self, key: str) -> str | None:
        return self._text(key, "text in quotes")

    def _text(self, key: str, expected: str) -> str | None:
        value = self._get(key)
        if value is not None and (not isinstance(value, str) or not value):
            raise self._wrong(key, expected)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, 'a list of texts, ["…", "…"]')
        return tuple(value)

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        expected = "one of " + ", ".join(f'"{choice}"' for choice in choices)
        value = self._text(key, expected)
        if value is None:
            return default
        if value not in choices:
            raise self._wrong(key, expected)
        return value

    def milliseconds(self, key: str, default: int) -> int:
        expected = 'a time such as "200ms", "2s" or "5min"'
        value = self._text(key, expected)
        if value is None:
            return default
        duration = parse_duration(value)
        if duration is None:
            raise self._wrong(key, expected)
        return duration

    def finish(self) -> None:
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                known = ", ".join(sorted(self._known))
                raise ConfigError(
                    f"{self.path}: {self._describe(key)} is not a known key.",
                    why=f"Known here: {known}." if known else "",
                    next=f"Did you mean {near[0]}?" if near else "Remove it or correct its name.",
                )

    def _below(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def _describe(self, key: str) -> str:
        if isinstance(self._values[key], dict):
            return f"[{self._below(key)}]"
        return f"[{self._name}] {key}" if self._name else key

    def _wrong(self, key: str, expected: str) -> ConfigError:
        value = self._values[key]
        # Not the content of a list or section: an address in it may hold a password.
        scalar = isinstance(value, str | int | float)
        shown = repr(value) if scalar else _KINDS.get(type(value), "a date or time")
        return ConfigError(
            f"{self.path}: {self._describe(key)} has a value that does not fit.",
            why=f"It is {shown}.",
            next=f"Write {expected}.",
        )
