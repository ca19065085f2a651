"""What was found in the rows, kept in a file as it comes, so that a long look can go on later.

A JSON object a line, one for each reference that was looked at wholly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from fkdoctor.errors import ConfigError
from fkdoctor.schema import Flaw, ForeignKey, LogicalReference, RowCount, Schema

Reference = ForeignKey | LogicalReference


class RowLog:
    """The file: what it has of this database, and where the rest is added."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self._path = path
        self._database = schema.database
        self._known: dict[tuple[str, str], tuple[RowCount, ...]] = {}
        for number, line in enumerate(self._lines(), 1):
            try:
                entry = json.loads(line)
                if entry["database"] == schema.database:
                    key = entry["reference"], entry["definition"]
                    self._known[key] = tuple(
                        _read(entry["reference"], one) for one in entry["counts"]
                    )
            except (ValueError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{path} is not a file of row counts.",
                    why=f"Line {number}: {error}.",
                    next="Name another file, or remove this one and start anew.",
                ) from None

    def _lines(self) -> list[str]:
        try:
            # A line without an end is one that was being written when the run was killed.
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                self._path.write_text(whole, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{self._path} cannot be read.", why=f"{error.strerror}.", next="Check --resume."
            ) from None
        return whole.splitlines()

    def find(self, reference: Reference) -> tuple[RowCount, ...] | None:
        """What the file has of the reference as it is now; None if nothing."""
        return self._known.get((reference.label, _definition(reference)))

    def add(self, reference: Reference, counts: Iterable[RowCount]) -> None:
        """Write what was found, at once."""
        entry = {
            "database": self._database,
            "reference": reference.label,
            "definition": _definition(reference),
            "counts": [
                {
                    "flaw": one.flaw.value,
                    "count": one.count,
                    "looked_at": one.looked_at,
                    "identity": one.identity,
                    "rows": one.rows,
                }
                for one in counts
            ],
        }
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise ConfigError(
                f"{self._path} cannot be written.", why=f"{error.strerror}.", next="Check --resume."
            ) from None


def _definition(reference: Reference) -> str:
    if isinstance(reference, ForeignKey):
        return reference.definition
    guess = " guessed" if reference.guessed else ""  # of which a sample was enough
    return f"{reference.arrow} WHERE {reference.condition}{guess}"


def _read(reference: str, entry: dict[str, object]) -> RowCount:
    count, looked_at, identity, rows = (
        entry[name] for name in ("count", "looked_at", "identity", "rows")
    )
    if not isinstance(count, int) or not isinstance(looked_at, int | None):
        raise TypeError("count is no number")
    if not isinstance(identity, list) or not isinstance(rows, list):
        raise TypeError("rows is no list")
    return RowCount(
        reference=reference,
        flaw=Flaw(entry["flaw"]),
        count=count,
        looked_at=looked_at,
        identity=tuple(identity),
        rows=tuple(tuple(row) for row in rows),
    )
