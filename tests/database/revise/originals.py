"""Random tables and a random operation on them, as plain SQL and as an operation of Alembic.

The same for the same seed, number and major version. `interruptions.py` cuts them off.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fkdoctor.revise  # noqa: F401  registers the operations
from fkdoctor.identifier import quote, quote_all
from fkdoctor.revise.key_operations import ChangeOnDelete, ValidateForeignKey
from fkdoctor.revise.operations import AddReferenceIndex, AddSoftDelete
from fkdoctor.revise.reference_operations import AdoptReference
from fkdoctor.revise.reversible import Reversible

SCHEMAS = ("one", "Other schema")
NAMES = (
    "plain",
    "Mixed Case",
    'quoted "here"',
    "per%cent %s %(x)s",
    "select",
    "semi;colon -- no",
    "back\\slash",
    "$fkdoctor$",
    ":bind",
    "it's",
    "two\nlines",
    "dot.ted",
    "é" * 31 + "x",
    "n" * 63,
    "n" * 62 + "m",
    "_fkdoctor",
    "[brackets]",
    "{braces}",
)
RULES = ("NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT")
COMMENTS = (None, None, "Ours.", "it's\ntwo lines \\ and [brackets]", "[fkdoctor was here]")
TYPES = ("integer", "bigint", "text", "numeric", "uuid")
_ROWS = 12


@dataclass(frozen=True, kw_only=True)
class Original:
    """Statements that make the tables in empty schemas, and what is then done to them."""

    name: str
    build: tuple[str, ...]
    operation: Reversible

    def __str__(self) -> str:
        lines = [f"-- {self.name}", *(f"{statement};" for statement in self.build)]
        return "\n".join([*lines, f"-- {self.operation}"])


def draw_original(seed: int, number: int, major: int) -> Original:
    """The original of this number."""
    drawing = _Drawing(random.Random(f"{seed}:{number}"), major)
    build, operation = drawing.draw()
    return Original(name=f"seed {seed}, number {number}", build=build, operation=operation)


class _Drawing:
    def __init__(self, rng: random.Random, major: int) -> None:
        self.rng = rng
        self.major = major
        self.names = iter(rng.sample(NAMES, len(NAMES)))
        self.build: list[str] = [f"create schema {quote(name)}" for name in SCHEMAS]

    def chance(self, percent: int) -> bool:
        return self.rng.randrange(100) < percent

    def name(self) -> str:
        return next(self.names) if self.chance(60) else f"n{self.rng.randrange(10**6)}"

    def draw(self) -> tuple[tuple[str, ...], Reversible]:
        self.types = self.rng.choices(TYPES, k=2 if self.chance(40) else 1)
        self.schemas = self.rng.choices(SCHEMAS, k=2)
        self.itself = self.chance(20)
        self.tables = (self.name(), self.name())  # referencing, referenced
        self.referenced_parts = self.chance(25) and not (self.itself and self.major == 12)
        self.parts = self.referenced_parts if self.itself else self.chance(30)
        if self.major == 12 and self.parts:
            self.referenced_parts = False
        if self.itself:
            self.tables, self.schemas = self.tables[:1] * 2, self.schemas[:1] * 2
        self.columns = [self.name() for _ in self.types]
        self.keys = [self.name() for _ in self.types]
        self.order = self.rng.sample(range(len(self.types)), len(self.types))
        kind = self.rng.choice(("change",) * 6 + ("validate", "index", "adopt", "soft delete"))
        self.make_tables(kind)
        operation = getattr(self, f"draw_{kind.replace(' ', '_')}")()
        return tuple(self.build), operation

    # Tables

    def qualified(self, side: int) -> str:
        return f"{quote(self.schemas[side])}.{quote(self.tables[side])}"

    def make_tables(self, kind: str) -> None:
        soft = kind == "soft delete"
        keys = [f"{quote(n)} {t} not null" for n, t in zip(self.keys, self.types, strict=True)]
        primary = f"primary key ({quote_all(tuple(self.keys))})"
        columns = [
            f"{quote(name)} {type_} default {_value(type_, 1)}"
            for name, type_ in zip(self.columns, self.types, strict=True)
        ]
        by = self.keys[0] if self.itself else "id"
        among = f"{quote(by)}, mail" if self.parts else "mail"
        unique = [f"constraint {quote(self.name())} unique ({among})"] if soft else []
        if self.itself:
            whole = [*keys, *columns, "mail text", primary, *unique]
            self.make_table(1, whole, self.referenced_parts, self.keys[0])
        else:
            self.make_table(1, [*keys, primary], self.referenced_parts, self.keys[0])
            own = ["id integer not null", *columns, "mail text", "primary key (id)", *unique]
            self.make_table(0, own, self.parts, "id")
        self.insert_rows()

    def make_table(self, side: int, body: Sequence[str], parts: bool, by: str) -> None:
        table = self.qualified(side)
        how = "hash" if self.chance(50) or by != "id" else "range"
        end = f" partition by {how} ({quote(by)})" if parts else ""
        self.build.append(f"create table {table} ({', '.join(body)}){end}")
        if not parts:
            return
        bounds = (
            ("with (modulus 2, remainder 0)", "with (modulus 2, remainder 1)")
            if how == "hash"
            else ("from (minvalue) to (5)", "from (5) to (maxvalue)")
        )
        for number, bound in enumerate(bounds):
            schema = quote(self.rng.choice(SCHEMAS))
            name = f"{schema}.{quote(f'part {number} {side}')}"
            statement = f"create table {name} partition of {table} for values {bound}"
            if number and self.chance(50):
                below = f"{schema}.{quote(f'below {side}')}"
                statement += f" partition by hash ({quote(by)})"
                self.build.append(statement)
                statement = (
                    f"create table {below} partition of {name}"
                    " for values with (modulus 1, remainder 0)"
                )
            self.build.append(statement)

    def insert_rows(self) -> None:
        rows: tuple[list[str], list[str]] = ([], [])  # of the referencing table, and the other
        for number in range(_ROWS):
            key = [_value(type_, number) for type_ in self.types]
            # Of a key to itself each row points to itself or to one before it.
            target = self.rng.randrange(number + 1)
            points = [_value(type_, target) for type_ in self.types]
            if self.chance(20):
                points = ["null"] * len(points)
            mail = f"'m{number}'"
            if self.itself:
                rows[1].append(_row([*key, *points, mail]))
            else:
                rows[1].append(_row(key))
                rows[0].append(_row([str(number), *points, mail]))
        for side in (1, 0):
            if rows[side]:
                self.insert(side, rows[side])

    def insert(self, side: int, rows: Sequence[str]) -> None:
        self.build.append(f"insert into {self.qualified(side)} values {', '.join(rows)}")

    # Keys

    def clauses(self, *, valid: bool = False) -> str:
        words = [f"match {self.rng.choice(('full', 'simple'))}"] if self.chance(30) else []
        self.full = words == ["match full"]
        rule = self.rng.choice(RULES)
        listed = rule.startswith("SET") and not self.full and self.major >= 15 and self.chance(40)
        words += [f"on update {self.rng.choice(RULES)}", f"on delete {rule}"]
        words += [f"({quote(self.rng.choice(self.columns))})"] if listed else []
        words += [self.rng.choice(("", "", "deferrable", "deferrable initially deferred"))]
        if not valid and (not self.parts or self.major >= 18):
            endings = ["", "", "not valid"]
            if self.major >= 18:
                endings.append("not enforced")
            words += [self.rng.choice(endings)]
        return " ".join(words)

    def add_key(self, name: str, clauses: str) -> None:
        columns = [self.columns[i] for i in self.order]
        keys = [self.keys[i] for i in self.order]
        self.build.append(
            f"alter table {self.qualified(0)} add constraint {quote(name)}"
            f" foreign key ({quote_all(tuple(columns))})"
            f" references {self.qualified(1)} ({quote_all(tuple(keys))}) {clauses}"
        )

    def make_key(self, clauses: str) -> str:
        name = self.name()
        older = self.chance(20)
        if older:
            self.add_key("older sibling", self.clauses(valid=True))
        self.add_key(name, clauses)
        if self.chance(20):
            self.add_key("younger sibling", self.clauses(valid=True))
        comment = self.rng.choice(COMMENTS)
        if comment is not None:
            text = comment.replace("'", "''")
            self.build.append(
                f"comment on constraint {quote(name)} on {self.qualified(0)} is '{text}'"
            )
        if self.chance(50):
            self.build.append(_DRESS.format(name=_literal(name), table=_literal(self.qualified(0))))
        return name

    # Operations

    def draw_change(self) -> Reversible:
        name = self.make_key(self.clauses())
        change: dict[str, Any] = {}
        while not change:
            if self.chance(80):
                change["on_delete"] = self.rng.choice(RULES)
                sets = change["on_delete"].startswith("SET")
                if sets and self.chance(30) and self.major >= 15 and not self.full:
                    change["set_columns"] = (self.rng.choice(self.columns),)
            if self.chance(25):
                change["on_update"] = self.rng.choice(RULES)
            if self.chance(15) and "set_columns" not in change:
                change["match"] = self.rng.choice(("FULL", "SIMPLE"))
            if self.chance(25):
                change.update(
                    self.rng.choice(
                        (
                            {"deferrable": True},
                            {"deferrable": False},
                            {"initially": "DEFERRED"},
                            {"initially": "IMMEDIATE"},
                        )
                    )
                )
        flip = self.chance(25) and (not self.parts or self.major >= 18)
        return ChangeOnDelete(
            table=self.tables[0],
            constraint=name,
            schema=self.schemas[0],
            strategy="flip" if flip else "shadow",
            **change,
        )

    def draw_validate(self) -> Reversible:
        clauses = self.clauses(valid=True)
        if not self.parts or self.major >= 18:
            clauses += " not valid"
        name = self.make_key(clauses)
        return ValidateForeignKey(table=self.tables[0], constraint=name, schema=self.schemas[0])

    def draw_index(self) -> Reversible:
        self.make_key(self.clauses())
        columns = tuple(self.columns[i] for i in self.order)
        return AddReferenceIndex(table=self.tables[0], columns=columns, schema=self.schemas[0])

    def draw_adopt(self) -> Reversible:
        if self.chance(60):
            values = [_value(type_, 99) for type_ in self.types]
            mine = [_value(type_, 50) for type_ in self.types] if self.itself else ["50"]
            self.insert(0, [_row([*mine, *values, "'dangling'"])])
        policies = ("refuse", "delete", "set null", "keep")
        if self.parts and self.major < 18:
            policies = policies[:3]
        return AdoptReference(
            table=self.tables[0],
            columns=tuple(self.columns[i] for i in self.order),
            referenced_table=self.tables[1],
            referenced_columns=tuple(self.keys[i] for i in self.order),
            schema=self.schemas[0],
            referenced_schema=self.schemas[1],
            name=self.name(),
            on_delete=self.rng.choice(RULES),
            on_update=self.rng.choice(RULES),
            match=self.rng.choice((None, "FULL")),
            initially=self.rng.choice((None, None, "DEFERRED")),
            dangling=self.rng.choice(policies),
        )

    def draw_soft_delete(self) -> Reversible:
        self.add_key(self.name(), self.clauses(valid=True))
        for column in ("deleted_at timestamptz", "deletion_id uuid"):
            if self.chance(30):
                self.build.append(f"alter table {self.qualified(0)} add column {column}")
        view = "live rows" if self.chance(50) else None
        return AddSoftDelete(
            table=self.tables[0], schema=self.schemas[0], view=view, guard=self.chance(50)
        )


def _value(type_: str, number: int) -> str:
    if type_ == "uuid":
        return f"'00000000-0000-0000-0000-{number:012}'"
    return f"'v{number}'" if type_ == "text" else str(number)


def _row(values: Sequence[str]) -> str:
    return f"({', '.join(values)})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# As after years: a copy for a partition has another name, another one has a comment.
_DRESS = """\
do $dress$
declare copy record; number int := 0;
begin
    for copy in
        with recursive tree as (
            select oid from pg_constraint
            where conname = {name} and conrelid = cast({table} as regclass)
            union all
            select k.oid from tree as t join pg_constraint as k on k.conparentid = t.oid
            where k.contype = 'f'
        )
        select k.conname, cast(k.conrelid as regclass) as on_table
        from tree join pg_constraint as k using (oid)
        where k.conparentid <> 0 order by k.oid
    loop
        number := number + 1;
        if number % 2 = 0 then
            execute format('alter table %s rename constraint %I to %I',
                copy.on_table, copy.conname, 'copy ' || number);
        else
            execute format('comment on constraint %I on %s is %L',
                copy.conname, copy.on_table, 'Copy ' || number);
        end if;
    end loop;
end $dress$"""
