"""`fkdoctor impact`: what a DELETE would do, before it is done."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
from sqlalchemy.sql import Executable

from fkdoctor.cli.output import format_option, wants_colour, write
from fkdoctor.cli.progress import show_wait
from fkdoctor.cli.session import Session, database_options, open_session
from fkdoctor.impact.ask import preview_statement
from fkdoctor.impact.effect import Verdict
from fkdoctor.impact.preview import preview_delete
from fkdoctor.impact.rehearsal import rehearse
from fkdoctor.impact.scope import Scope
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.render.document import to_json
from fkdoctor.render.impact import VERSION, Answer, answer_document, answer_markdown, answer_text
from fkdoctor.render.impact_page import impact_page
from fkdoctor.render.text import count_of
from fkdoctor.schema import Schema, TableName
from fkdoctor.statement.lookup import delete_by_key, execute_text
from fkdoctor.statement.script import Statement, parse_condition, parse_script

NOT_ALLOWED = 1


@click.command()
@click.argument("sql", required=False)
@click.option("--table", metavar="NAME", help="Preview a DELETE from this table, in place of SQL.")
@click.option("--where", metavar="CONDITION", help="With --table: of the rows that meet this.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="VALUE[,VALUE]",
    help="With --table: of the row with this key. Can be given several times.",
)
@click.option(
    "--keys-from",
    type=click.File("r"),
    help="With --table: of the rows whose keys are in this CSV file without a heading; - is stdin.",
)
@click.option(
    "--param",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value for :NAME or %(NAME)s in SQL; for $1 or the first %s, 1=VALUE.",
)
@click.option(
    "--why",
    nargs=2,
    metavar="TABLE KEY",
    help="Show the path by which this row would be deleted or changed.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="ROWS",
    help="Stop when more rows than this would be deleted; the exit code is 1 then.",
)
@click.option(
    "--show",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="ROWS",
    help="How many rows to name by their keys where there are more.",
)
@click.option("--contents", is_flag=True, help="Show the rows that are named whole.")
@click.option(
    "--exact", is_flag=True, help="Read large tables from end to end for want of an index too."
)
@click.option(
    "--rehearse",
    "rehearses",
    is_flag=True,
    help="Then execute it too, roll it back, and compare. That locks rows and writes WAL.",
)
@format_option("text", "json", "markdown", "html")
@database_options
def impact(
    sql: str | None,
    table: str | None,
    where: str | None,
    keys: tuple[str, ...],
    keys_from: Iterable[str] | None,
    parameters: tuple[str, ...],
    why: tuple[str, str] | None,
    limit: int | None,
    show: int,
    contents: bool,
    exact: bool,
    rehearses: bool,
    output_format: str,
    url: str | None,
    config_path: Path | None,
) -> None:
    """Tell what a DELETE would do, without doing it.

    Which rows would be deleted, set to NULL or to a default, level by level; what stops it, and the
    path that leads there; what hangs on the order of keys or rows; what cannot be foreseen. Nothing
    is locked against writers, and nothing is changed. Exits with 1 unless it is allowed.

    \b
      fkdoctor impact "DELETE FROM mlops.cover_letter_samples WHERE id = 1"
      fkdoctor impact --table cover_letter_samples --key 1 --why job_recommendations 17
    """
    if (sql is None) == (table is None):
        raise click.UsageError("Give either a statement or a --table.")
    given = [where is not None, bool(keys), keys_from is not None]
    if table is not None and sum(given) != 1:
        raise click.UsageError("With --table, give one of --where, --key and --keys-from.")
    if table is None and any(given):
        raise click.UsageError("--where, --key and --keys-from go with --table.")
    values = dict(_read_parameters(parameters))
    with open_session(url, config_path) as session, show_wait("Looking"):
        schema = inspect_database(
            session.connection, statement_timeout=session.config.database.statement_timeout
        )
        scope = Scope(
            exact=exact,
            row_limit=limit,
            shown=show,
            contents=contents,
            why=_read_row(schema, session, *why) if why else None,
            statement_timeout=session.config.database.statement_timeout,
        )
        if table is None:
            assert sql is not None
            questions = [_Question.about(one, values) for one in parse_script(sql)]
        else:
            name = schema.resolve_table(table, session.config.database.schemas)
            if where is not None:
                statement = parse_condition((name.schema, name.name), where)
                questions = [_Question.about(statement, values)]
            else:
                lines = csv.reader(keys_from if keys_from is not None else keys)
                questions = [_Question.by_key(name, [key for key in lines if key])]
        answers = [_answer(session, schema, one, scope, rehearses) for one in questions]
    write(_render(answers, output_format))
    wrong = [one for one in answers if one.rehearsal and one.rehearsal.differences]
    if wrong or any(one.impact.verdict is not Verdict.ALLOWED for one in answers):
        click.get_current_context().exit(NOT_ALLOWED)


@dataclass(frozen=True, kw_only=True)
class _Question:
    """A statement with its parameters, or rows of a table by their keys."""

    shown: str
    statement: Statement | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    table: TableName | None = None
    keys: Sequence[Sequence[str]] = ()

    @classmethod
    def about(cls, statement: Statement, parameters: Mapping[str, str]) -> _Question:
        return cls(shown=statement.shown, statement=statement, parameters=parameters)

    @classmethod
    def by_key(cls, table: TableName, keys: Sequence[Sequence[str]]) -> _Question:
        shown = f"DELETE of {count_of(len(keys), 'row')} of {table} by key"
        return cls(shown=shown, table=table, keys=keys)


def _answer(
    session: Session, schema: Schema, question: _Question, scope: Scope, rehearses: bool
) -> Answer:
    connection = session.connection
    if question.statement is not None:
        impact = preview_statement(
            connection, schema, question.statement, parameters=question.parameters, scope=scope
        )
        executable: Executable = execute_text(
            question.statement.sql, question.statement.bind(question.parameters)
        )
    else:
        assert question.table is not None
        impact = preview_delete(connection, schema, question.table, keys=question.keys, scope=scope)
        executable = delete_by_key(schema.table(question.table), question.keys)
    rehearsal = None
    if rehearses:
        click.echo(
            "Rehearsing: rows are locked until it is rolled back; WAL and dead rows stay, and what "
            "sequences and triggers do outside the transaction.",
            err=True,
        )
        rehearsal = rehearse(
            connection,
            schema,
            executable,
            impact,
            lock_timeout=session.config.database.lock_timeout,
            statement_timeout=session.config.database.statement_timeout,
        )
    return Answer(shown=question.shown, impact=impact, rehearsal=rehearsal)


def _read_parameters(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--param {text}: write NAME=VALUE.")
        yield name.strip(), value


def _read_row(
    schema: Schema, session: Session, table: str, key: str
) -> tuple[TableName, tuple[str, ...]]:
    (values,) = csv.reader([key])
    return schema.resolve_table(table, session.config.database.schemas), tuple(values)


def _render(answers: Sequence[Answer], output_format: str) -> str:
    if output_format == "json":
        documents = [answer_document(answer) for answer in answers]
        return to_json({"version": VERSION, "impacts": documents})
    if output_format == "markdown":
        return "\n".join(answer_markdown(answer) for answer in answers)
    if output_format == "html":
        return impact_page(answers)
    colour = wants_colour()
    return "\n".join(answer_text(answer, colour=colour) for answer in answers)
