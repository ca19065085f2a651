"""Statements in SQL files and Alembic revisions, each with the line where it begins. Pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlglot.errors import TokenError

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import quote, quote_all
from fkdoctor.statement.script import split_statements


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A statement in a file; `sql` is None where only running the file would tell it."""

    path: Path
    line: int
    sql: str | None


def read_sources(paths: Sequence[Path]) -> tuple[Passage, ...]:
    """The statements of the files, and of those *.sql and *.py that directories hold."""
    passages: list[Passage] = []
    for path in paths:
        files = sorted(_files_in(path)) if path.is_dir() else [path]
        for file in files:
            passages += _read_file(file)
    return tuple(passages)


def _files_in(directory: Path) -> Iterator[Path]:
    for pattern in ("*.sql", "*.py"):
        yield from directory.rglob(pattern)


def _read_file(path: Path) -> Iterator[Passage]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read.", why=f"{error}.", next="Name a file of SQL or a revision."
        ) from None
    if path.suffix == ".py":
        yield from _read_revision(path, text)
    else:
        yield from _read_sql(path, text, 1)


def _read_sql(path: Path, text: str, line: int) -> Iterator[Passage]:
    try:
        for at, sql in split_statements(text):
            yield Passage(path=path, line=line + at - 1, sql=sql)
    except TokenError:
        yield Passage(path=path, line=line, sql=None)


def _read_revision(path: Path, text: str) -> Iterator[Passage]:
    """What `upgrade` hands to op.execute, and the operations on keys and tables as SQL."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(
            f"{path} is no Python.", why=f"{error}.", next="Name an Alembic revision."
        ) from None
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and function.name == "upgrade":
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
                yield from _read_call(path, call)


def _read_call(path: Path, call: ast.Call) -> Iterator[Passage]:
    if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
        return
    if call.func.value.id not in ("op", "batch_op"):
        return
    match call.func.attr:
        case "execute" if call.args:
            text = _text(call.args[0])
            if text is None:
                yield Passage(path=path, line=call.lineno, sql=None)
            else:
                yield from _read_sql(path, text, call.args[0].lineno)
        case "drop_table" | "drop_constraint" | "create_foreign_key" as name:
            yield Passage(path=path, line=call.lineno, sql=_write_operation(name, call))


def _text(node: ast.expr) -> str | None:
    """The string that the expression is, also within text("…")."""
    if isinstance(node, ast.Call) and len(node.args) == 1:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
        if called == "text" or (isinstance(called, ast.Name) and called.id == "text"):
            node = node.args[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _write_operation(name: str, call: ast.Call) -> str | None:
    """The operation as SQL; None where an argument is no literal."""
    order = {
        "drop_table": ("table",),
        "drop_constraint": ("constraint", "table"),
        "create_foreign_key": ("constraint", "table", "referent", "columns", "referred"),
    }[name]
    spelled = {
        "table_name": "table",
        "source_table": "table",
        "constraint_name": "constraint",
        "referent_table": "referent",
        "local_cols": "columns",
        "remote_cols": "referred",
        "source_schema": "schema",
    }
    try:
        given = dict(zip(order, (ast.literal_eval(one) for one in call.args), strict=False))
        for keyword in call.keywords:
            if keyword.arg is not None:
                own = spelled.get(keyword.arg, keyword.arg)
                given[own] = ast.literal_eval(keyword.value)
    except ValueError:
        return None
    table = _name(given.get("schema"), given.get("table"))
    if table is None:
        return None
    if name == "drop_table":
        return f"DROP TABLE {table}"
    constraint = given.get("constraint")
    if name == "drop_constraint":
        return constraint and f"ALTER TABLE {table} DROP CONSTRAINT {quote(constraint)}"
    referent = _name(given.get("referent_schema"), given.get("referent"))
    if referent is None or not given.get("columns"):
        return None
    parts = [f"ALTER TABLE {table} ADD"]
    parts += [f"CONSTRAINT {quote(constraint)}"] if constraint else []
    parts.append(f"FOREIGN KEY ({quote_all(tuple(given['columns']))}) REFERENCES {referent}")
    parts += [f"({quote_all(tuple(given['referred']))})"] if given.get("referred") else []
    parts += [f"ON DELETE {given['ondelete']}"] if given.get("ondelete") else []
    parts += ["NOT VALID"] if given.get("postgresql_not_valid") else []
    return " ".join(parts)


def _name(schema: object, table: object) -> str | None:
    if not isinstance(table, str):
        return None
    return f"{quote(schema)}.{quote(table)}" if isinstance(schema, str) else quote(table)
