"""SQL identifiers as text: quoting the way PostgreSQL's quote_ident does, and reading back.

Pure text. Statements that run are composed in `fkdoctor.statement`.
"""

from __future__ import annotations

import re
import string
from functools import lru_cache

from fkdoctor.errors import ConfigError

# Every word that some PostgreSQL from 12 to 18 does not class as unreserved (pg_get_keywords()).
_KEYWORDS = """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit
    boolean both case cast char character check coalesce collate collation column concurrently
    constraint create cross current_catalog current_date current_role current_schema
    current_time current_timestamp current_user dec decimal default deferrable desc distinct do
    else end except exists extract false fetch float for foreign freeze from full grant
    greatest group grouping having ilike in initially inner inout int integer intersect
    interval into is isnull join json json_array json_arrayagg json_exists json_object
    json_objectagg json_query json_scalar json_serialize json_table json_value lateral leading
    least left like limit localtime localtimestamp merge_action national natural nchar none
    normalize not notnull null nullif numeric offset on only or order out outer overlaps
    overlay placing position precision primary real references returning right row select
    session_user setof similar smallint some substring symmetric system_user table tablesample
    then time timestamp to trailing treat trim true union unique user using values varchar
    variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists
    xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
    """
KEYWORDS = frozenset(_KEYWORDS.split())

MAX_BYTES = 63
"""NAMEDATALEN - 1: PostgreSQL cuts a longer identifier without an error."""

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\Z")
_FOLD = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^\s".]+))\s*')


@lru_cache(maxsize=16_384)
def quote(name: str) -> str:
    """The identifier as SQL text, in double quotes only where PostgreSQL needs them."""
    if _PLAIN.match(name) and name not in KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def quote_all(names: tuple[str, ...]) -> str:
    """The identifiers as a comma-separated list: `a, "B"`."""
    return ", ".join(quote(name) for name in names)


def text_literal(value: str) -> str:
    """The value as a string constant."""
    return "'" + value.replace("'", "''") + "'"


def split_qualified(text: str) -> tuple[str, ...]:
    """The parts of a dotted name, folded to lower case unless quoted, as SQL folds them.

    PostgreSQL folds A to Z and leaves É alone. Raises ConfigError when the text is no name.
    """
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        quoted, bare = match.groups()
        parts.append(quoted.replace('""', '"') if quoted is not None else bare.translate(_FOLD))
        position = match.end()
        if position == len(text):
            return tuple(parts)
        if text[position] != ".":
            break
        position += 1
    raise ConfigError(
        f"{text!r} is not a name.",
        why="A name is table or schema.table; parts with dots, spaces or capitals go in quotes.",
        next="""For example: mlops.job_postings, or 'mlops."Job Postings"' in a shell.""",
    )


def read_schemas(search_path: str) -> tuple[str, ...]:
    """The schemas of a search_path as it is written, `"$user"` included; () if it is none."""
    try:
        parts = [split_qualified(part.strip()) for part in search_path.split(",") if part.strip()]
    except ConfigError:
        return ()
    return tuple(part[0] for part in parts)


def shorten(name: str, suffix: str = "") -> str:
    """`name + suffix`, the name cut so that both fit 63 bytes, never inside a character."""
    room = MAX_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix
