"""SQL as typed → what it does to which table, and a query for its rows. Pure.

sqlglot says what a statement is; its tokens are written anew, each for itself, so that PostgreSQL
reads the same expressions and nothing that sqlglot did not see. Comments get lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.dialects import Postgres
from sqlglot.errors import ParseError, TokenError

from fkdoctor.errors import ConfigError
from fkdoctor.identifier import quote, split_qualified


class Command(Enum):
    """What a statement does to its table."""

    DELETE = "DELETE"
    UPDATE = "UPDATE"
    TRUNCATE = "TRUNCATE"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A table as it was typed: its name in one or two parts, with ONLY or without."""

    parts: tuple[str, ...]
    only: bool = False

    def __str__(self) -> str:
        return ".".join(quote(part) for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement that can be previewed. `sql` is the whole of it, written anew.

    `alias` is the table's name in `where`, which is None where the rows hang on more than their own
    table, and in `source`, which is FROM and WHERE of a query on the rows behind `ctes`.
    `assignments` are an UPDATE's columns and expressions. A TRUNCATE has only `targets`, and
    `cascade`. In all SQL, parameters stand as `:name`, other colons as `\\:`.
    """

    command: Command
    sql: str
    targets: tuple[Target, ...]
    alias: str = ""
    where: str | None = None
    ctes: str = ""
    source: str = ""
    assignments: Mapping[str, str] = field(default_factory=dict)
    cascade: bool = False
    parameters: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The statement for people, in one line."""
        return " ".join(self.sql.replace("\\:", ":").replace(":p_", ":").split())

    @property
    def rows(self) -> str:
        """A query that returns tableoid and ctid of the rows, some perhaps more than once."""
        return self.select("tableoid", "ctid")

    def select(self, *columns: str, **expressions: str) -> str:
        """The query of these columns of the table, and of these expressions under their names."""
        wanted = [f"{quote(self.alias)}.{column}" for column in columns]
        wanted += [f"{written} AS {name}" for name, written in expressions.items()]
        parts = (self.ctes, "SELECT", ", ".join(wanted), self.source)
        return " ".join(part for part in parts if part)

    def bind(self, values: Mapping[str, str]) -> dict[str, str]:
        """The values under the names that the SQL has; ConfigError where one is missing."""
        if missing := [name for name in self.parameters if name not in values]:
            raise ConfigError(
                f"The statement has no value for its parameter {missing[0]}.",
                why=f"Its parameters: {', '.join(self.parameters)}.",
                next=f"Give it one: --param {missing[0]}=…",
            )
        return {f"p_{name}": values[name] for name in self.parameters}

    @property
    def target(self) -> Target:
        """The table; the first of a TRUNCATE."""
        return self.targets[0]


_NEXT = "A DELETE, a TRUNCATE, or an UPDATE can be previewed, or several with ; between them."


class NotSupported(ConfigError):
    """SQL that cannot be previewed."""

    def __init__(self, why: str, text: str = "") -> None:
        shown = " ".join(text.split())
        shown = shown if len(shown) <= 60 else f"{shown[:59]}…"
        what = f"Not supported: {shown}" if shown else "Not supported."
        super().__init__(what, why=why, next=_NEXT)


def parse_script(text: str) -> tuple[Statement, ...]:
    """The statements in the order in which they stand; NotSupported where one is something else."""
    try:
        tokens = Postgres().tokenize(text)
    except TokenError:
        raise NotSupported("A string, name or comment does not end.", text) from None
    statements = tuple(
        _Reader(text, part).read() for part in _split(tokens, TokenType.SEMICOLON) if part
    )
    if not statements:
        raise NotSupported("There is no statement.", text)
    return statements


@dataclass(frozen=True, kw_only=True)
class Word:
    """A token of SQL as it was typed; `name` is what it is called as an identifier."""

    text: str
    name: str

    @property
    def upper(self) -> str:
        """The word in capitals, as keywords are compared; a quoted name is none."""
        return "" if self.text.startswith('"') else self.text.upper()


def read_words(sql: str) -> tuple[Word, ...]:
    """The tokens of a statement without its comments; several where sqlglot sees one."""
    words: list[Word] = []
    for token in Postgres().tokenize(sql):
        written = sql[token.start : token.end + 1]
        whole = token.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        for part in [written] if whole else written.split():
            name = token.text if whole else part.lower()
            words.append(Word(text=part, name=name))
    return tuple(words)


def split_words(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """The parts between commas that are in no parentheses."""
    start = depth = 0
    for number, word in enumerate(words):
        depth += (word.text == "(") - (word.text == ")")
        if word.text == "," and depth == 0:
            yield words[start:number]
            start = number + 1
    yield words[start:]


def split_statements(text: str) -> Iterator[tuple[int, str]]:
    """The statements of a file as they stand there, each with its first line; TokenError as is."""
    for part in _split(Postgres().tokenize(text), TokenType.SEMICOLON):
        if part:
            first, last = part[0].start, part[-1].end
            yield text.count("\n", 0, first) + 1, text[first : last + 1]


def parse_condition(table: tuple[str, str], condition: str) -> Statement:
    """The DELETE of the rows of the table that meet the condition."""
    named = ".".join(quote(part) for part in table)
    statement, *others = parse_script(" ".join(("DELETE FROM", named, "WHERE", condition)))
    if others:
        raise NotSupported("It is not one condition.", condition)
    return statement


def _split(tokens: Sequence[Token], at: TokenType) -> Iterator[list[Token]]:
    """The parts between tokens of the type that are in no parentheses."""
    part: list[Token] = []
    depth = 0
    for token in tokens:
        depth += _depth(token)
        if token.token_type is at and depth == 0:
            yield part
            part = []
        else:
            part.append(token)
    yield part


_OPENING = (TokenType.L_PAREN, TokenType.L_BRACKET)
_CLOSING = (TokenType.R_PAREN, TokenType.R_BRACKET)


def _depth(token: Token) -> int:
    return (token.token_type in _OPENING) - (token.token_type in _CLOSING)


# After one of these a % is an operator, and a : a part of a slice.
_OPERANDS = (TokenType.IDENTIFIER, TokenType.NUMBER, TokenType.STRING, *_CLOSING)

_PLAIN = re.compile(r"[\w$.]+|[-+*/<>=~!@#%^&|`?:.,()\[\]]+", re.ASCII)


class _Reader:
    """One statement's tokens, and what they mean."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self.text = text[tokens[0].start : tokens[-1].end + 1]
        self.source = text
        self.parameters: dict[str, None] = {}
        self.pieces: list[tuple[Token, str]] = list(self._write(tokens))
        self.sql = self._join(0, len(self.pieces))

    def _refuse(self, why: str) -> NotSupported:
        return NotSupported(why, self.text)

    # Tokens, written anew.

    def _write(self, tokens: Sequence[Token]) -> Iterator[tuple[Token, str]]:
        number = 0
        positional = 0
        while number < len(tokens):
            used, name = self._find_parameter(tokens, number)
            if name == "":
                positional += 1
                name = str(positional)
            if name is not None:
                self.parameters[name] = None
                yield tokens[number], f":p_{name}"
            else:
                yield tokens[number], self._write_token(tokens[number]).replace(":", "\\:")
            number += used

    def _find_parameter(self, tokens: Sequence[Token], number: int) -> tuple[int, str | None]:
        """How many tokens are a parameter, and its name: '' for %s, None where there is none."""
        token, following = tokens[number], tokens[number + 1 : number + 4]
        if not following or following[0].start != token.end + 1:
            return 1, None
        kind, first = token.token_type, following[0]
        if kind is TokenType.PARAMETER and first.text.isdigit():
            return 2, first.text
        if number and self._is_operand(tokens[number - 1], token):
            return 1, None
        if kind is TokenType.COLON and first.text.isidentifier():
            return 2, first.text
        if kind is TokenType.MOD and first.text == "s":
            return 2, ""
        texts = [one.text for one in following]
        if kind is TokenType.MOD and texts[0] == "(" and texts[2:] == [")"]:
            end = tokens[number + 4 : number + 5]
            if end and end[0].text == "s" and texts[1].isidentifier():
                return 5, texts[1]
        return 1, None

    def _is_operand(self, before: Token, token: Token) -> bool:
        if before.token_type is TokenType.VAR:
            return token.token_type is TokenType.MOD or before.end + 1 == token.start
        return before.token_type in _OPERANDS

    def _write_token(self, token: Token) -> str:
        match token.token_type:
            case TokenType.IDENTIFIER:
                return _enclose(token.text, '"')
            case TokenType.STRING | TokenType.HEREDOC_STRING:
                return _enclose(token.text, "'")
            case TokenType.NATIONAL_STRING:
                return "N" + _enclose(token.text, "'")
            case TokenType.UNICODE_STRING:
                return "U&" + _enclose(token.text, "'")
            case TokenType.BIT_STRING | TokenType.HEX_STRING if token.text.isalnum():
                letter = "B" if token.token_type is TokenType.BIT_STRING else "X"
                return f"{letter}'{token.text}'"
            case TokenType.BYTE_STRING:
                written = _enclose(token.text, "'")
                if re.search(r"(?<!\\)(?:\\\\)*\\'", written):
                    raise self._refuse("A string E'…' in it cannot be told apart safely.")
                return f"E{written}"
        written = self.source[token.start : token.end + 1]
        words = written.split()  # some tokens are several: ORDER BY
        if not _PLAIN.fullmatch(written) and not all(word.isidentifier() for word in words):
            raise self._refuse(f"{written} cannot be read.")
        return " ".join(words)

    def _join(self, start: int, end: int) -> str:
        parts: list[str] = []
        for number in range(start, end):
            token, written = self.pieces[number]
            if parts:
                gap = self.source[self._end(number - 1) + 1 : token.start]
                # Two strings are one if a line feed is between them.
                parts.append("\n" if "\n" in gap else " " if gap else "")
            parts.append(written)
        return "".join(parts)

    def _end(self, number: int) -> int:
        """Where the source of a piece ends: a parameter is several tokens."""
        token, written = self.pieces[number]
        if not written.startswith(":p_"):
            return token.end
        match = re.compile(r"\$\d+|:\w+|%\(\w+\)s|%s").match(self.source, token.start)
        assert match is not None
        return match.end() - 1

    # What the statement is.

    def read(self) -> Statement:
        tree = self._parse()
        match tree:
            case exp.Delete():
                return self._read_delete(tree)
            case exp.Update():
                return self._read_update(tree)
            case exp.TruncateTable():
                return self._read_truncate(tree)
        raise self._refuse(f"It is {_article(tree.key.upper())}.")

    def _parse(self) -> exp.Expression:
        sql = self.sql.replace("\\:", ":")
        try:
            parsed = sqlglot.parse(sql, read="postgres")
        except (ParseError, TokenError) as error:
            said = error.errors[0]["description"] if isinstance(error, ParseError) else str(error)
            raise self._refuse(f"It cannot be read as SQL: {said}.") from None
        except RecursionError:
            raise self._refuse("It is nested too deeply.") from None
        if len(parsed) != 1 or not isinstance(parsed[0], exp.Expression):
            raise self._refuse("It is not one statement.")
        if isinstance(parsed[0], exp.Command):
            raise self._refuse(f"It is {_article(str(parsed[0].this).upper())}.")
        return parsed[0]

    def _read_delete(self, tree: exp.Delete) -> Statement:
        self._check_inside(tree)
        self._check_parts(tree, "this", "using", "where", "returning", "with_")
        clauses = self._find_clauses(
            TokenType.DELETE, (TokenType.USING, TokenType.WHERE, TokenType.RETURNING)
        )
        others = self._clause(clauses, TokenType.USING)
        return self._make(Command.DELETE, tree.this, clauses, others, {})

    def _read_update(self, tree: exp.Update) -> Statement:
        self._check_inside(tree)
        self._check_parts(tree, "this", "expressions", "from_", "where", "returning", "with_")
        clauses = self._find_clauses(
            TokenType.UPDATE,
            (TokenType.SET, TokenType.FROM, TokenType.WHERE, TokenType.RETURNING),
        )
        others = self._clause(clauses, TokenType.FROM)
        assignments = self._read_assignments(clauses[TokenType.SET])
        return self._make(Command.UPDATE, tree.this, clauses, others, assignments)

    def _read_assignments(self, clause: tuple[int, int]) -> dict[str, str]:
        assignments: dict[str, str] = {}
        tokens = [token for token, _ in self.pieces]
        start = clause[0]
        for part in _split(tokens[clause[0] : clause[1]], TokenType.COMMA):
            if len(part) < 3 or part[1].token_type is not TokenType.EQ:
                raise self._refuse("Of SET, only column = expression is supported.")
            if part[2].token_type is TokenType.DEFAULT:
                raise self._refuse("SET … = DEFAULT is not supported.")
            assignments[_name(part[0])] = self._join(start + 2, start + len(part))
            start += len(part) + 1
        return assignments

    def _make(
        self,
        command: Command,
        table: exp.Expression,
        clauses: Mapping[TokenType, tuple[int, int]],
        others: str,
        assignments: Mapping[str, str],
    ) -> Statement:
        target, alias = self._read_table(table)
        condition = self._clause(clauses, TokenType.WHERE)
        ctes = self._join(0, clauses[_START][0])
        only = "ONLY " if target.only else ""
        by_schema = not table.alias and self._names_schema(target)
        named = f"{only}{target}" if by_schema else f"{only}{target} AS {quote(alias)}"
        source = ["FROM", f"{named}, {others}" if others else named]
        source += ["WHERE", condition] if condition else []
        alone = not (ctes or others or by_schema)
        return Statement(
            command=command,
            sql=self.sql,
            targets=(target,),
            alias=alias,
            where=(condition or "true") if alone else None,
            ctes=ctes,
            source=" ".join(source),
            assignments=assignments,
            parameters=tuple(self.parameters),
            functions=self._find_functions(),
        )

    def _read_table(self, table: exp.Expression) -> tuple[Target, str]:
        if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
            raise self._refuse("It names no table.")
        if table.catalog:
            raise self._refuse("A table is named by its schema and name, without the database.")
        self._check_parts(table, "this", "db", "alias", "only")
        parts = [part for part in (table.args.get("db"), table.this) if part is not None]
        target = Target(
            parts=tuple(_fold(part) for part in parts), only=bool(table.args.get("only"))
        )
        alias = table.args.get("alias")
        name = _fold(alias.this) if alias is not None and alias.this is not None else ""
        if alias is not None and alias.args.get("columns"):
            raise self._refuse("An alias for columns is none of a DELETE.")
        return target, name or target.parts[-1]

    def _names_schema(self, target: Target) -> bool:
        """Whether a column is written with the table's schema, which an alias would hide."""
        if len(target.parts) == 1:
            return False
        names = [token.text.lower() for token, _ in self.pieces]
        dotted = [target.parts[0].lower(), ".", target.parts[1].lower(), "."]
        return any(names[at : at + 4] == dotted for at in range(len(names)))

    def _read_truncate(self, tree: exp.TruncateTable) -> Statement:
        if tree.args.get("is_database") or tree.args.get("exists"):
            raise self._refuse("It is no TRUNCATE of PostgreSQL.")
        targets = tuple(self._read_table(table)[0] for table in tree.expressions)
        return Statement(
            command=Command.TRUNCATE,
            sql=self.sql,
            targets=targets,
            cascade=str(tree.args.get("option") or "").upper() == "CASCADE",
        )

    def _check_inside(self, tree: exp.Expression) -> None:
        """Refuses what writes inside the statement, and cursors."""
        inner = (exp.Delete, exp.Update, exp.Insert, exp.Merge)
        if any(isinstance(node, inner) for node in tree.walk() if node is not tree):
            raise self._refuse("A CTE in it writes rows too.")
        texts = [token.text.lower() for token, _ in self.pieces]
        if any(texts[at : at + 3] == ["where", "current", "of"] for at in range(len(texts))):
            raise self._refuse("WHERE CURRENT OF names a row that only the open cursor knows.")

    def _check_parts(self, tree: exp.Expression, *known: str) -> None:
        """Refuses what sqlglot takes from other databases, such as DELETE … ORDER BY … LIMIT."""
        foreign = [name for name, value in tree.args.items() if value and name not in known]
        if foreign:
            names = " and ".join(name.rstrip("_").upper() for name in foreign)
            raise self._refuse(f"PostgreSQL knows no {names} there.")

    def _find_clauses(
        self, verb: TokenType, keywords: Sequence[TokenType]
    ) -> dict[TokenType, tuple[int, int]]:
        """Where the clauses are: from behind their keyword to the next; `_START` is the verb's."""
        depth = 0
        at: int | None = None
        found: list[tuple[TokenType, int]] = []
        for number, (token, _) in enumerate(self.pieces):
            depth += _depth(token)
            if depth:
                continue
            kind = token.token_type
            if at is None and kind is verb:
                at = number
                found.append((_START, number))
            elif (
                at is not None
                and kind in keywords
                and kind not in [one for one, _ in found]
                and not (kind is TokenType.USING and self._joins_by(number))
                and not (kind is TokenType.FROM and self._is_distinct_from(number))
            ):
                found.append((kind, number))
        assert at is not None
        ends = [number for _, number in found[1:]] + [len(self.pieces)]
        return {
            kind: (number + (kind is not _START), end)
            for (kind, number), end in zip(found, ends, strict=True)
        }

    def _joins_by(self, number: int) -> bool:
        """Whether this USING is that of a join: columns in parentheses follow."""
        following = self.pieces[number + 1 : number + 2]
        return bool(following) and following[0][0].token_type is TokenType.L_PAREN

    def _is_distinct_from(self, number: int) -> bool:
        return self.pieces[number - 1][0].text.lower() == "distinct"

    def _clause(self, clauses: Mapping[TokenType, tuple[int, int]], kind: TokenType) -> str:
        return self._join(*clauses[kind]) if kind in clauses else ""

    def _find_functions(self) -> tuple[str, ...]:
        """Names before a parenthesis; some are keywords."""
        found: dict[str, None] = {}
        for (token, _), (following, _) in zip(self.pieces, self.pieces[1:], strict=False):
            if following.token_type is TokenType.L_PAREN and token.text.isidentifier():
                found[_name(token)] = None
        return tuple(found)


_START = TokenType.COMMAND
"""Stands for the place of the statement's verb among clauses."""


def _enclose(text: str, mark: str) -> str:
    return mark + text.replace(mark, 2 * mark) + mark


def _name(token: Token) -> str:
    quoted = token.token_type is TokenType.IDENTIFIER
    return token.text if quoted else split_qualified(token.text)[0]


def _fold(identifier: exp.Expression) -> str:
    quoted = bool(identifier.args.get("quoted"))
    return identifier.name if quoted else split_qualified(identifier.name)[0]


def _article(name: str) -> str:
    return f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}"
