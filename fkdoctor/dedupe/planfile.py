"""The plan as a file of JSON lines: the head first, then a line for each cluster.

A person may read it and take clusters out by deleting their lines. It streams: a plan of a million
clusters needs no more memory than one of ten.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fkdoctor.dedupe.plan import Cluster, DedupePlan, Member, Obstacle, Repoint
from fkdoctor.errors import ConfigError
from fkdoctor.schema import TableName

FORMAT = "fkdoctor dedupe plan"
VERSION = 1


def write_plan(path: Path, plan: DedupePlan, clusters: Iterable[Cluster]) -> None:
    """Writes the file as a whole or not at all."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            head = {"format": FORMAT, "version": VERSION} | head_document(plan)
            file.write(json.dumps(head, ensure_ascii=False) + "\n")
            for cluster in clusters:
                file.write(json.dumps(_cluster_document(cluster), ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise ConfigError(
            f"The plan cannot be written to {path}.",
            why=error.strerror or str(error),
            next="Name another place with --out.",
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)


def read_plan(path: Path) -> DedupePlan:
    """The head of the plan in the file. Raises ConfigError when it is none."""
    with _open(path) as file:
        document = _parse(path, 1, file.readline())
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise ConfigError(
            f"{path} is not a dedupe plan that this fkdoctor reads.",
            why=f"Its first line says format {document.get('format')!r}, "
            f"version {document.get('version')!r}.",
            next="Make a new plan: fkdoctor dedupe TABLE --match …",
        )
    try:
        return _read_head(document)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, 1, f"{type(error).__name__}: {error}") from None


def read_clusters(path: Path) -> Iterator[Cluster]:
    """The clusters of the plan, in the order of their numbers."""
    last = 0
    with _open(path) as file:
        next(file, None)
        for line_number, line in enumerate(file, 2):
            if not line.strip():
                continue
            document = _parse(path, line_number, line)
            try:
                cluster = _read_cluster(document)
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(path, line_number, f"{type(error).__name__}: {error}") from None
            if cluster.number <= last:
                raise _damaged(path, line_number, f"cluster {cluster.number} is out of order")
            last = cluster.number
            yield cluster


def head_document(plan: DedupePlan) -> dict[str, Any]:
    """The plan's head as plain JSON values."""

    def plain(value: object) -> object:
        if isinstance(value, TableName):
            return [value.schema, value.name]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return value

    document = plain(plan)
    assert isinstance(document, dict)
    return document


def _read_head(document: dict[str, Any]) -> DedupePlan:
    return DedupePlan(
        id=str(document["id"]),
        created_at=str(document["created_at"]),
        database=str(document["database"]),
        table=TableName(*document["table"]),
        key_columns=tuple(document["key_columns"]),
        match=tuple(document["match"]),
        survivor=tuple(document["survivor"]),
        fingerprint=str(document["fingerprint"]),
        tables=tuple(TableName(*name) for name in document["tables"]),
        clusters=int(document["clusters"]),
        duplicates=int(document["duplicates"]),
        repoints=tuple(
            Repoint(
                table=TableName(*repoint["table"]),
                constraint=repoint["constraint"],
                columns=tuple(repoint["columns"]),
                rows=int(repoint["rows"]),
                on_delete=repoint["on_delete"],
                indexed=bool(repoint["indexed"]),
            )
            for repoint in document["repoints"]
        ),
        obstacles=tuple(Obstacle(**obstacle) for obstacle in document["obstacles"]),
        caveats=tuple(document["caveats"]),
        oversized=int(document["oversized"]),
        oversized_rows=int(document["oversized_rows"]),
    )


def _cluster_document(cluster: Cluster) -> dict[str, Any]:
    return {
        "cluster": cluster.number,
        "matched": cluster.matched,
        "survivor": [*cluster.survivor.key, cluster.survivor.fingerprint],
        "duplicates": [[*member.key, member.fingerprint] for member in cluster.duplicates],
    }


def _read_cluster(document: dict[str, Any]) -> Cluster:
    cluster = Cluster(
        number=int(document["cluster"]),
        survivor=_read_member(document["survivor"]),
        duplicates=tuple(_read_member(member) for member in document["duplicates"]),
        matched=tuple(document["matched"]),
    )
    keys = [cluster.survivor.key, *(member.key for member in cluster.duplicates)]
    if len(keys) < 2 or len(set(keys)) < len(keys):
        raise ValueError("a cluster is a survivor and one or more other rows")
    return cluster


def _read_member(values: list[str]) -> Member:
    *key, fingerprint = values
    return Member(key=tuple(str(value) for value in key), fingerprint=str(fingerprint))


def _open(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"The plan {path} cannot be read.",
            why=error.strerror or str(error),
            next="Make one: fkdoctor dedupe TABLE --match … --out FILE",
        ) from None


def _parse(path: Path, line_number: int, line: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except ValueError as error:
        raise _damaged(path, line_number, str(error)) from None
    if not isinstance(document, dict):
        raise _damaged(path, line_number, "it is no JSON object")
    return document


def _damaged(path: Path, line_number: int, reason: str) -> ConfigError:
    return ConfigError(
        f"{path} is damaged in line {line_number}.",
        why=reason,
        next="Make a new plan: fkdoctor dedupe TABLE --match … --out FILE",
    )
