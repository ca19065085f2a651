"""The plan as a file of JSON lines: the head first, then a line for each cluster.

A person may read it and take clusters out by deleting their lines. It streams: a plan of a million
clusters needs no more memory than one of ten.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fkdoctor.dedupe.plan import (
    Cluster,
    Collision,
    CollisionRule,
    DedupePlan,
    FieldRule,
    Member,
    Merge,
    Obstacle,
    Repoint,
    Resolution,
)
from fkdoctor.errors import ConfigError
from fkdoctor.schema import LogicalReference, TableName

FORMAT = "fkdoctor dedupe plan"
VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Extent:
    """What is left in a plan file after somebody may have taken clusters out."""

    clusters: int
    duplicates: int


def locate_plan(path: Path, plan: DedupePlan) -> Path:
    """Where the plan goes: to `path`, or into that directory under a name of its own."""
    if not os.path.isdir(path):  # Path.is_dir raises for what cannot be a name
        return path
    table = re.sub(r"[^\w.-]", "_", plan.table.name)
    return path / f"{table}-{plan.id[:8]}.plan.jsonl"


def check_place(path: Path) -> None:
    """Raises ConfigError where no plan can be written, before the work is done to make one."""
    with _writing(path):
        directory = path.parent
        with suppress(FileNotFoundError):
            mode = path.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise OSError("It is there, and neither a file nor a directory.")
            directory = path if stat.S_ISDIR(mode) else directory
        with tempfile.TemporaryFile(dir=directory):
            pass


def write_plan(path: Path, plan: DedupePlan, clusters: Iterable[Cluster]) -> None:
    """Writes the file as a whole or not at all; `path` is as locate_plan takes it.

    Raises ConfigError where it cannot be written.
    """
    check_place(path)
    path = locate_plan(path, plan)
    unfinished = path.with_name(f".{plan.id}.unfinished")
    try:
        with _writing(path), unfinished.open("x", encoding="utf-8") as file:
            head = {"format": FORMAT, "version": VERSION} | head_document(plan)
            file.write(json.dumps(head, ensure_ascii=False) + "\n")
            for cluster in clusters:
                file.write(json.dumps(_cluster_document(cluster), ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
            unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"The plan cannot be written to {path}.",
            why=error.strerror or str(error),
            next="Name another place with --out.",
        ) from None


def read_plan(path: Path) -> DedupePlan:
    """The head of the plan in the file. Raises ConfigError when it is none."""
    with _opened(path) as lines:
        line_number, line = next(lines, (1, ""))
        document = _parse(path, line_number, line)
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
    """The clusters of the plan, in the order of their numbers. Raises ConfigError on damage."""
    width = len(read_plan(path).key_columns)
    last = 0
    with _opened(path) as lines:
        next(lines)
        for line_number, line in lines:
            if not line.strip():
                continue
            document = _parse(path, line_number, line)
            try:
                cluster = _read_cluster(document, width)
            except (KeyError, TypeError, ValueError) as error:
                raise _damaged(path, line_number, f"{type(error).__name__}: {error}") from None
            if cluster.number <= last:
                raise _damaged(path, line_number, f"cluster {cluster.number} is out of order")
            last = cluster.number
            yield cluster


def check_clusters(path: Path) -> Extent:
    """What is in the file, all of which has been read.

    Raises ConfigError on damage, and when a row is in two clusters: as a duplicate of two
    survivors, or as the survivor of one and a duplicate in another. Takes a few bytes of memory a
    row: a first reading suspects keys by their hash, a second one, if need be, compares those.
    """
    clusters = duplicates = 0
    # Some 40 bits a key, of which each sets six: one key in 100,000 is suspected without cause.
    seen = bytearray(path.stat().st_size // 16 + 1)
    suspects = set()
    for cluster in read_clusters(path):
        clusters += 1
        duplicates += sum(len(merge.duplicates) for merge in cluster.merges)
        for key in _keys(cluster):
            if _was_seen(seen, hash(key)):
                suspects.add(key)
    if suspects:
        _refuse_repeated(path, suspects)
    return Extent(clusters=clusters, duplicates=duplicates)


def _was_seen(seen: bytearray, number: int) -> bool:
    """Whether the number was in all likelihood seen before. Notes that it was (a Bloom filter)."""
    bits, again = 8 * len(seen), True
    step = (number >> 32) | 1
    for _ in range(6):
        byte, bit = divmod(number % bits, 8)
        if not seen[byte] & 1 << bit:
            again = False
            seen[byte] |= 1 << bit
        number += step
    return again


def _refuse_repeated(path: Path, suspects: Set[tuple[str, ...]]) -> None:
    met: dict[tuple[str, ...], int] = {}
    for cluster in read_clusters(path):
        for key in _keys(cluster):
            if key in met:
                raise ConfigError(
                    f"{path} names row ({', '.join(key)}) twice.",
                    why=f"It is in cluster {met[key]} and in cluster {cluster.number}.",
                    next="Take one of these lines out of the file.",
                )
            if key in suspects:
                met[key] = cluster.number


def _keys(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    for merge in cluster.merges:
        yield merge.survivor.key
        for member in merge.duplicates:
            yield member.key


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
        table=TableName(*_texts(document["table"])),
        key_columns=_texts(document["key_columns"]),
        match=_texts(document["match"]),
        survivor=_texts(document["survivor"]),
        fingerprint=str(document["fingerprint"]),
        tables=tuple(TableName(*_texts(name)) for name in document["tables"]),
        references=tuple(
            LogicalReference(
                referencing=TableName(*_texts(reference["referencing"])),
                referencing_column=str(reference["referencing_column"]),
                referenced=TableName(*_texts(reference["referenced"])),
                referenced_column=str(reference["referenced_column"]),
                elements=bool(reference["elements"]),
                path=tuple(step and str(step) for step in reference["path"]),
                condition=reference["condition"] and str(reference["condition"]),
            )
            for reference in document["references"]
        ),
        clusters=int(document["clusters"]),
        survivors=int(document["survivors"]),
        duplicates=int(document["duplicates"]),
        rules=tuple(
            CollisionRule(
                table=TableName(*_texts(rule["table"])),
                collisions=str(rule["collisions"]),
                links=str(rule["links"]),
                above=str(rule["above"]),
            )
            for rule in document["rules"]
        ),
        fields=tuple(
            FieldRule(
                table=TableName(*_texts(field["table"])),
                column=str(field["column"]),
                kind=str(field["kind"]),
                argument=str(field["argument"]),
            )
            for field in document["fields"]
        ),
        refilled=int(document["refilled"]),
        resolutions=tuple(
            Resolution(
                table=TableName(*_texts(resolution["table"])),
                constraint=str(resolution["constraint"]),
                policy=str(resolution["policy"]),
                rows=int(resolution["rows"]),
            )
            for resolution in document["resolutions"]
        ),
        repoints=tuple(
            Repoint(
                table=TableName(*_texts(repoint["table"])),
                constraint=str(repoint["constraint"]),
                columns=_texts(repoint["columns"]),
                rows=int(repoint["rows"]),
                on_delete=str(repoint["on_delete"]),
                indexed=bool(repoint["indexed"]),
            )
            for repoint in document["repoints"]
        ),
        obstacles=tuple(Obstacle(**obstacle) for obstacle in document["obstacles"]),
        caveats=_texts(document["caveats"]),
        oversized=int(document["oversized"]),
        oversized_rows=int(document["oversized_rows"]),
        skipped=int(document["skipped"]),
        left_out=tuple(Obstacle(**reason) for reason in document["left_out"]),
    )


def _cluster_document(cluster: Cluster) -> dict[str, Any]:
    first, *tied = cluster.merges
    document: dict[str, Any] = {"cluster": cluster.number} | _merge_document(first)
    if tied:
        document["tied"] = [_merge_document(merge) for merge in tied]
    if cluster.collisions:
        document["collisions"] = [
            {
                "table": [collision.table.schema, collision.table.name],
                "constraint": collision.constraint,
                "row": _member_document(collision.row),
                "kept": collision.kept and _member_document(collision.kept),
                "policy": collision.policy,
            }
            for collision in cluster.collisions
        ]
    return document


def _merge_document(merge: Merge) -> dict[str, Any]:
    return {
        "matched": merge.matched,
        "survivor": _member_document(merge.survivor),
        "duplicates": [_member_document(member) for member in merge.duplicates],
    }


def _member_document(member: Member) -> list[str]:
    return [*member.key, member.fingerprint]


def _read_cluster(document: dict[str, Any], width: int) -> Cluster:
    number = document["cluster"]
    if type(number) is not int or not 0 < number < 2**31:
        raise ValueError(f"{number} is no number of a cluster")
    merges = [_read_merge(document, width)]
    if "tied" in document:
        merges += [_read_merge(merge, width) for merge in document["tied"]]
    keys: set[tuple[str, ...]] = set()
    for survivor, duplicates, _ in merges:
        rows = len(keys) + 1 + len(duplicates)
        keys.add(survivor.key)
        keys.update([member.key for member in duplicates])
        if not duplicates or len(keys) < rows:
            raise ValueError("a cluster is a survivor and one or more other rows")
    collisions = [_read_collision(found) for found in document.get("collisions", ())]
    return Cluster(number, tuple(merges), tuple(collisions))


def _read_merge(document: dict[str, Any], width: int) -> Merge:
    return Merge(
        _read_member(document["survivor"], width),
        tuple([_read_member(member, width) for member in document["duplicates"]]),
        _texts(document["matched"]),
    )


def _read_collision(document: dict[str, Any]) -> Collision:
    row, kept = document["row"], document["kept"]
    return Collision(
        TableName(*_texts(document["table"])),
        str(document["constraint"]),
        _read_member(row, len(row) - 1),
        None if kept is None else _read_member(kept, len(row) - 1),
        str(document["policy"]),
    )


def _read_member(values: object, width: int) -> Member:
    *key, fingerprint = _texts(values)
    if len(key) != width:
        raise ValueError(f"a row is {width} texts of its primary key, then its fingerprint")
    return Member(tuple(key), fingerprint)


def _texts(values: object) -> tuple[str, ...]:
    try:
        if isinstance(values, list):
            "".join(values)  # the quickest way to ask whether all are texts
            return tuple(values)
    except TypeError:
        pass
    raise ValueError(f"{json.dumps(values)} is no list of texts")


@contextmanager
def _opened(path: Path) -> Iterator[Iterator[tuple[int, str]]]:
    """The file's lines with their numbers. Raises ConfigError when they cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            yield enumerate(file, 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The plan {path} cannot be read.",
            why=getattr(error, "strerror", None) or str(error),
            next="Make one: fkdoctor dedupe TABLE --match … --out FILE",
        ) from None


def _parse(path: Path, line_number: int, line: str) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as error:
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
