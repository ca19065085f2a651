"""Takes a map in: checked against the table, and chains in it followed to their end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from sqlalchemy import Connection

from fkdoctor.dedupe.mapfile import read_map
from fkdoctor.errors import ConfigError
from fkdoctor.statement import pairs as sql
from fkdoctor.statement.members import SHOWN, MemberTable
from fkdoctor.statement.parts import Query

_AT_ONCE = 10_000
_LONGEST_CHAIN = 32  # as a power of two


def match_map(connection: Connection, members: MemberTable, path: Path) -> None:
    """Makes the table of matches of the map. Raises ConfigError naming rows that are missing, or in
    it twice, or in a circle."""
    connection.execute(sql.create_pairs(members))
    pairs = read_map(path, members.key_columns)
    while some := list(islice(pairs, _AT_ONCE)):
        columns = zip(*some, strict=True)
        binds = {f"value_{i}": list(values) for i, values in enumerate(columns)}
        connection.execute(sql.insert_pairs(members), binds)
    connection.execute(sql.ANALYZE_PAIRS)
    checks = {
        "It gives more than one survivor to": sql.find_repeated(members),
        "There is no row of a duplicate": sql.find_missing(members, "from"),
        "There is no row of a survivor": sql.find_missing(members, "to"),
    }
    for wrong, query in checks.items():
        _refuse(connection, path, wrong, query)
    for _ in range(_LONGEST_CHAIN):
        if not connection.execute(sql.follow_pairs(members)).rowcount:
            break  # in a circle it would never end
    _refuse(connection, path, "It leads in a circle from", sql.find_circles(members))
    connection.execute(sql.create_matches_of_pairs(members))


def _refuse(connection: Connection, path: Path, wrong: str, query: Query) -> None:
    found = list(_name_rows(connection, query))
    if found:
        more = " and perhaps more" if len(found) == SHOWN else ""
        raise ConfigError(
            f"The map {path} cannot be followed.",
            why=f"{wrong} {'; '.join(found)}{more}.",
            next="Correct these lines of it.",
        )


def _name_rows(connection: Connection, query: Query) -> Iterator[str]:
    for (key,) in connection.execute(query):
        yield f"({', '.join(key)})"
