"""A map that somebody made elsewhere: a CSV file that says which row survives which."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fkdoctor.errors import ConfigError

Pair = tuple[str, ...]
"""The key of a duplicate, then that of its survivor."""


def expected_header(key_columns: Sequence[str]) -> tuple[str, ...]:
    """The first line of a map: `duplicate, survivor`, or with `.column` where the key has several.

    They may stand in any order.
    """
    if len(key_columns) == 1:
        return ("duplicate", "survivor")
    return tuple(f"{side}.{name}" for side in ("duplicate", "survivor") for name in key_columns)


def read_map(path: Path, key_columns: Sequence[str]) -> Iterator[Pair]:
    """The pairs of the file, in its order. Raises ConfigError naming the line."""
    expected = expected_header(key_columns)
    with _opened(path) as lines:
        header = [name.strip() for name in next(lines, [])]
        if sorted(header) != sorted(expected):
            raise ConfigError(
                f"{path} is no map for this table.",
                why=f"Its first line is {','.join(header) or 'missing'}.",
                next=f"Write {','.join(expected)} there, and a line for each duplicate below it.",
            )
        places = [header.index(name) for name in expected]
        for number, line in enumerate(lines, 2):
            if not line:
                continue
            if len(line) != len(header) or "" in line:
                raise ConfigError(
                    f"{path} is damaged in line {number}.",
                    why=f"It has {len([value for value in line if value])} values in place of "
                    f"{len(header)}.",
                    next="Correct that line.",
                )
            yield tuple(line[place] for place in places)


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield csv.reader(file, strict=True)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"The map {path} cannot be read.",
            why=getattr(error, "strerror", None) or str(error),
            next="Give a CSV file in UTF-8.",
        ) from None
