"""Writes operations down: as revisions in somebody's Alembic tree, or as a script of SQL."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from alembic.util import CommandError, rev_id

from fkdoctor.errors import ConfigError
from fkdoctor.revise.invocation import write_requirements
from fkdoctor.revise.rendering import render_operation
from fkdoctor.revise.reversible import Reversible

_IMPORT = "import fkdoctor.revise  # noqa: F401  adds these operations to op"


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A revision to write: its docstring, which begins with a title, and what it does."""

    message: str
    operations: tuple[Reversible, ...]


def write_revisions(
    alembic_ini: Path, drafts: Iterable[Draft], head: str | None = None
) -> tuple[Path, ...]:
    """The files that were written, first to last, one after the other behind the tree's head.

    Raises ConfigError for a tree that cannot be read, or has several heads and none is named.
    """
    scripts = _open_tree(alembic_ini)
    after = head or _only_head(scripts)
    written: list[Path] = []
    for draft in drafts:
        revision = rev_id()
        message = _as_docstring(draft.message)
        title = message.splitlines()[0]
        try:
            script = scripts.generate_revision(
                revision,
                title,
                head=after or "base",
                refresh=True,
                upgrades=_as_body(draft.operations),
                downgrades=_as_body([each.reverse() for each in reversed(draft.operations)]),
                imports=_IMPORT,
            )
        except CommandError as problem:
            raise ConfigError(
                f"No revision can be written to {scripts.dir}.",
                why=str(problem),
                next="Settle that, or name the revision to follow: --head REVISION",
            ) from problem
        assert script is not None
        written.append(Path(script.path))
        _tell_more(written[-1], title, message)
        after = revision
    return tuple(written)


def _tell_more(path: Path, title: str, message: str) -> None:
    """Put the whole message in the place of its title, which alone makes the file's name."""
    text = path.read_text(encoding="utf-8")
    if f'"""{title}' in text:
        text = text.replace(f'"""{title}', f'"""{message}\n', 1)
    else:  # a template of their own, without a docstring
        text = textwrap.indent(message, "# ", lambda line: True) + "\n" + text
    path.write_text(text, encoding="utf-8")


def _open_tree(alembic_ini: Path) -> ScriptDirectory:
    if not alembic_ini.is_file():
        raise ConfigError(
            f"There is no {alembic_ini}.",
            why="The revisions are written to the Alembic tree that it describes.",
            next="Name it with --alembic PATH, or print a script instead: --sql",
        )
    try:
        scripts = ScriptDirectory.from_config(AlembicConfig(str(alembic_ini)))
    except (CommandError, OSError) as problem:
        raise ConfigError(
            f"The Alembic tree of {alembic_ini} cannot be read.",
            why=str(problem),
            next="Correct script_location in it.",
        ) from problem
    # What it says would come between the names of the files.
    scripts.messaging_opts = {"quiet": True}
    return scripts


def _only_head(scripts: ScriptDirectory) -> str | None:
    heads = scripts.get_heads()
    if len(heads) > 1:
        raise ConfigError(
            f"The Alembic tree in {scripts.dir} has {len(heads)} heads.",
            why=f"They are {', '.join(heads)}.",
            next="Merge them, or name the one to follow: --head REVISION",
        )
    return heads[0] if heads else None


def _as_docstring(text: str) -> str:
    """The text as it may stand in a docstring, whatever the names in it are."""
    return text.replace("\\", "\\\\").replace('"', "'")


def _as_body(operations: Sequence[Reversible]) -> str:
    calls = "\n".join(render_operation(operation) for operation in operations)
    # The template indents the first line.
    return textwrap.indent(calls, "    ").lstrip()


def write_script(drafts: Iterable[Draft], *, undo: bool = False) -> str:
    """The drafts as SQL for psql, or their undoing.

    Raises ConfigError for an operation that a script cannot do.
    """
    buffer = io.StringIO()
    context = MigrationContext.configure(
        dialect_name="postgresql",
        opts={
            "as_sql": True,
            "output_buffer": buffer,
            "literal_binds": True,
            "transaction_per_migration": True,
        },
    )
    ordered = list(drafts)
    for draft in reversed(ordered) if undo else ordered:
        operations = list(draft.operations)
        if undo:
            operations = [each.reverse() for each in reversed(operations)]
        title = draft.message.splitlines()[0]
        buffer.write(f"-- {title}\n\n")
        with context.begin_transaction(_per_migration=True):
            for operation in operations:
                Operations(context).invoke(operation)
            write_requirements(Operations(context))
    # Alembic opens a transaction before and after each that is ours.
    return re.sub(r"BEGIN;\n+COMMIT;\n+", "", buffer.getvalue())
