"""How an operation is carried out: in the database, or with `--sql` as lines of a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from alembic.operations import Operations

from fkdoctor.errors import ConfigError, Incomplete, Refused
from fkdoctor.identifier import quote
from fkdoctor.revise.executor import Executor, Patience, open_executor
from fkdoctor.schema import TableName


def run_online(operations: Operations, what: str, work: Callable[[Executor], bool]) -> None:
    """Do the work; after an operation that changed something, a refusal is no longer one."""
    changed: list[str] = operations.get_context().opts.setdefault("fkdoctor_changed", [])
    try:
        with open_executor(operations) as executor:
            if work(executor):
                changed.append(what)
    except Refused as problem:
        if not changed:
            raise
        why = f"{problem.why} Done before it: {', '.join(changed)}."
        raise Incomplete(problem.what, why=why.strip(), next=problem.next) from problem


def find_table(executor: Executor, table: str, schema: str | None) -> TableName:
    """The table's full name; a bare one is looked for in every schema."""
    if schema is not None:
        return TableName(schema, table)
    return executor.read_schema().resolve_table(quote(table))


def is_offline(operations: Operations) -> bool:
    """Whether a script is written."""
    return operations.get_context().as_sql


def offline_table(table: str, schema: str | None) -> TableName:
    """The table's full name, of which a script needs the schema."""
    if schema is None:
        raise ConfigError(
            f"With --sql the schema of {table} must be known.",
            why="A script cannot look for it.",
            next='Add schema="…" in the revision.',
        )
    return TableName(schema, table)


def read_patience(operations: Operations) -> Patience:
    """How long to wait for locks: what env.py says, or the default."""
    return operations.get_context().opts.get("fkdoctor_patience") or Patience()


def require_at_end(operations: Operations, subject: str, statement: str) -> None:
    """Write the statement into the transaction that records the revision, to fail with it.

    A client that goes on after an error would otherwise record what was not done. Of several
    statements about one subject the last one counts.
    """
    context = operations.get_context()
    waiting: dict[str, str] = context.opts.setdefault("fkdoctor_requirements", {})
    if not waiting:
        before = tuple(context.on_version_apply_callbacks)
        context.on_version_apply_callbacks = (*before, lambda **_: write_requirements(operations))
    waiting[subject] = statement


def write_requirements(operations: Operations) -> None:
    """Write the statements that have to hold at the end, each once."""
    waiting: dict[str, str] = operations.get_context().opts.get("fkdoctor_requirements", {})
    write(operations, waiting.values())
    waiting.clear()


def write_block(operations: Operations, statement: str) -> None:
    """Write a statement that is safe in the revision's own transaction."""
    timeout = read_patience(operations).longest
    write(operations, [f"set local lock_timeout = '{timeout}ms'", statement])


def write(operations: Operations, lines: Iterable[str]) -> None:
    """Write statements and comments."""
    impl = operations.get_context().impl
    for line in lines:
        impl.static_output(line if line.startswith("--") else f"{line};")


def unknown_word(word: str, what: str, known: Sequence[str]) -> ConfigError:
    """The error that says which words there are."""
    return ConfigError(
        f"{word!r} is no {what}.",
        why=f"There are {', '.join(known)}.",
        next="Correct it in the revision.",
    )
