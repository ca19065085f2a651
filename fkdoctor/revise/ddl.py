"""DDL as text, with the names of a user's tables in it.

Statements elsewhere are composed in `fkdoctor.statement` with SQLAlchemy Core. Core has no form for
what is here (NOT VALID, VALIDATE, LOCK, CONCURRENTLY, COMMENT ON CONSTRAINT, DO), so identifiers
are quoted by `fkdoctor.identifier.quote` and texts by `literal`. No statement ends in a semicolon.
"""

from __future__ import annotations

from collections.abc import Sequence

from fkdoctor.identifier import quote, quote_all
from fkdoctor.revise.mark import CREATED
from fkdoctor.schema import TableName

REFUSED = "FKD01"
"""The SQLSTATE with which a block of ours refuses; its message, detail and hint are our lines."""


def literal(text: str) -> str:
    """The text as a SQL literal on one line, whatever standard_conforming_strings says."""
    quoted = text.replace("'", "''")
    if "\\" not in text and "\n" not in text:
        return f"'{quoted}'"
    return "E'" + quoted.replace("\\", "\\\\").replace("\n", "\\n") + "'"


def block(body: str, declare: Sequence[str] = ()) -> str:
    """The PL/pgSQL as a DO statement, in dollar quotes that the body does not hold."""
    declaration = "".join(f"    {line};\n" for line in declare)
    code = (f"declare\n{declaration}" if declare else "") + f"begin\n    {body.strip()}\nend"
    tag = "$fkdoctor$"
    while tag in code:
        tag = tag[:-1] + "_$"
    return f"do {tag}\n{code}\n{tag}"


def refuse(condition: str, *, what: str, why: str, next: str, indent: int = 4) -> str:
    """PL/pgSQL that stops with these three lines, SQL expressions all, when the condition holds."""
    lines = (
        f"if {condition} then",
        f"    raise exception using errcode = '{REFUSED}',",
        f"        message = {what},",
        f"        detail = {why},",
        f"        hint = {next};",
        "end if;",
    )
    # Indented here and not as a text: an identifier may hold a line break.
    return ("\n" + " " * indent).join(lines)


def last_line(comment: str) -> str:
    """A SQL expression for the last line of the comment, which is one too."""
    return f"pg_catalog.regexp_replace({comment}, '^.*\\n', '')"


def lock_table(table: TableName | str, mode: str, *, partitions: bool = False) -> str:
    """Takes a lock before the statement that would, so that locks come in one order."""
    only = "" if partitions else "only "
    return f"lock table {only}{table} in {mode} mode"


def add_key(table: TableName, name: str, definition: str, *, partitions: bool = False) -> str:
    """Adds a foreign key: share row exclusive on both tables.

    To a partitioned table of which each leaf has it already: access exclusive on the referenced one
    too.
    """
    only = "" if partitions else "only "
    return f"alter table {only}{table} add constraint {quote(name)} {definition}"


def validate_key(table: TableName, name: str) -> str:
    """Checks the rows: share update exclusive on the referencing, row share on the other table."""
    return f"alter table only {table} validate constraint {quote(name)}"


def drop_key(table: TableName, name: str) -> str:
    """Drops a foreign key: access exclusive on both tables."""
    return f"alter table only {table} drop constraint {quote(name)}"


def rename_key(table: TableName, name: str, new_name: str) -> str:
    """Renames a foreign key: access exclusive on its table."""
    return f"alter table only {table} rename constraint {quote(name)} to {quote(new_name)}"


def retime_key(table: TableName, name: str, deferrable: bool, deferred: bool) -> str:
    """Changes in place when a foreign key is checked: access exclusive on its table."""
    timing = "deferrable" if deferrable else "not deferrable"
    timing += " initially deferred" if deferred else ""
    return f"alter table {table} alter constraint {quote(name)} {timing}"


def comment_on_key(table: TableName, name: str, comment: str | None) -> str:
    """Sets the key's comment, or takes it away."""
    text = "null" if comment is None else literal(comment)
    return f"comment on constraint {quote(name)} on {table} is {text}"


def create_copy(copy: TableName, table: TableName) -> str:
    """Creates an empty table with the same columns, and nothing else of the table."""
    return f"create table {copy} as select * from only {table} with no data"  # noqa: S608


def insert_copied(table: TableName, copy: TableName, columns: Sequence[str]) -> str:
    """Puts the rows of the copy into the table, as they were."""
    names = quote_all(tuple(columns))
    return (
        f"insert into {table} ({names}) overriding system value"  # noqa: S608
        f" select {names} from {copy}"
    )


def update_copied(
    table: TableName, copy: TableName, identity: Sequence[str], columns: Sequence[str]
) -> str:
    """Puts the columns' values back that are in the copy, where nobody has set another since."""
    assert identity, "every row would be changed"
    values = ", ".join(f"{quote(name)} = kept.{quote(name)}" for name in columns)
    same = [f"now.{quote(name)} = kept.{quote(name)}" for name in identity]
    same += [f"now.{quote(name)} is null" for name in columns]
    return f"update {table} as now set {values} from {copy} as kept where {' and '.join(same)}"  # noqa: S608


def drop_table(table: TableName) -> str:
    """Drops a table: access exclusive on it."""
    return f"drop table {table}"


def comment_on_index(index: TableName, comment: str | None) -> str:
    """Sets the index's comment, or takes it away."""
    return f"comment on index {index} is {'null' if comment is None else literal(comment)}"


def create_index(name: str, table: TableName, columns: Sequence[str], predicate: str | None) -> str:
    """Builds an index beside the writers: share update exclusive, waits for open transactions."""
    where = f" where {predicate}" if predicate else ""
    names = quote_all(tuple(columns))
    return f"create index concurrently {quote(name)} on {table} ({names}){where}"


def create_unique_index(name: str, table: TableName, rest: str, predicate: str | None) -> str:
    """Builds a unique index beside the writers; `rest` is what follows the table in its text."""
    where = f" where {predicate}" if predicate else ""
    return f"create unique index concurrently {quote(name)} on {table} {rest}{where}"


def use_index(table: TableName, name: str) -> str:
    """Makes the unique index a constraint of the same name: access exclusive, for a moment."""
    return f"alter table only {table} add constraint {quote(name)} unique using index {quote(name)}"


def create_upper_index(name: str, table: TableName, rest: str, predicate: str | None) -> str:
    """Creates a unique index of a partitioned table, to which those of its partitions are attached.

    Share on that one table; reads no row.
    """
    where = f" where {predicate}" if predicate else ""
    return f"create unique index {quote(name)} on only {table} {rest}{where}"


def add_unique(table: TableName, name: str, definition: str) -> str:
    """Adds a unique constraint to a partitioned table alone: access exclusive; reads no row."""
    return f"alter table only {table} add constraint {quote(name)} {definition}"


def attach_index(whole: TableName, part: TableName) -> str:
    """Makes the index of a partition a part of that of its table: access exclusive on the part."""
    return f"alter index {whole} attach partition {part}"


def create_whole_index(
    name: str, table: TableName, columns: Sequence[str], predicate: str | None
) -> str:
    """Makes an index of those that all partitions have: share on all of them, for a moment."""
    where = f" where {predicate}" if predicate else ""
    return f"create index {quote(name)} on {table} ({quote_all(tuple(columns))}){where}"


def rename_index(index: TableName, new_name: str) -> str:
    """Renames an index: share update exclusive on it, since 12."""
    return f"alter index {index} rename to {quote(new_name)}"


def reindex(index: TableName) -> str:
    """Builds an index anew beside the writers."""
    return f"reindex index concurrently {index}"


def drop_index(index: TableName) -> str:
    """Drops an index: access exclusive on its table, for a moment."""
    return f"drop index {index}"


def comment_as_created(kind: str, name: str) -> str:
    """Marks the table, index, column or schema as not there before."""
    return f"comment on {kind} {name} is {literal(CREATED)}"


def is_marked(relation: str) -> str:
    """A SQL condition: the table or index of this name (a SQL expression) is one we created."""
    comment = f"pg_catalog.obj_description(pg_catalog.to_regclass({relation}), 'pg_class')"
    return f"{last_line(comment)} = {literal(CREATED)}"


def drop_index_where_created(index: TableName) -> str:
    """Drops the index if it is one we created."""
    return block(
        f"""
    if {is_marked(literal(str(index)))} then
        {drop_index(index)};
    end if;"""
    )


def require_index(index: TableName) -> str:
    """Stops unless the index is there and finished."""
    return block(
        refuse(
            "not exists (select from pg_catalog.pg_index as i where i.indisvalid"
            f" and i.indexrelid = pg_catalog.to_regclass({literal(str(index))}))",
            what=literal(f"The index {index} was not built."),
            why=literal("A statement before this one has failed."),
            next=literal("Run the revision online, without --sql: it goes on from what is there."),
        )
    )
