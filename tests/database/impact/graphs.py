"""Random schemas with random rows, and a DELETE on each: the same for the same seed, as plain SQL.

Keys of every rule, on one column or several, between tables, to the table itself and in circles;
deferrable, MATCH FULL, with column lists, sharing columns, to unique columns that themselves refer
elsewhere; NOT NULL, CHECK, unique and partial indexes, defaults, partitions, disabled triggers,
NOT ENFORCED. Every column is an integer, and the few values meet often.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

VALUES = range(7)

Row = dict[str, int | None]


@dataclass
class Key:
    name: str
    table: str
    columns: tuple[str, ...]
    referenced: str
    referenced_columns: tuple[str, ...]
    full: bool
    clause: str
    dangling: bool = False


@dataclass
class Unique:
    name: str
    columns: tuple[str, ...]
    nulls_equal: bool = False
    where_null: str | None = None
    sql: str = ""


@dataclass
class Check:
    name: str
    sql: str
    holds: Callable[[Mapping[str, int | None]], bool]


@dataclass
class Table:
    name: str
    primary: tuple[str, ...]
    columns: dict[str, str] = field(default_factory=dict)  # what follows the type
    uniques: list[Unique] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    partition_by: str | None = None
    partitions: tuple[tuple[str, str], ...] = ()
    rows: list[Row] = field(default_factory=list)

    def refuses_null(self, column: str) -> bool:
        return column in self.primary or "not null" in self.columns[column]


@dataclass(frozen=True)
class Case:
    """`build` makes the schema `name` with its rows; `delete` and `update` are in question."""

    name: str
    build: tuple[str, ...]
    delete: str
    update: str
    table: str
    labels: tuple[int, ...]
    tables: Mapping[str, Table]


def draw_case(seed: int, number: int, major: int) -> Case:
    """The case of that number, as SQL that this major version takes."""
    return _Drawing(random.Random(f"{seed}:{number}"), f"g{number}", major).draw()


class _Drawing:
    def __init__(self, dice: random.Random, name: str, major: int) -> None:
        self.dice = dice
        self.name = name
        self.major = major
        self.tables: dict[str, Table] = {}
        self.keys: list[Key] = []

    def chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    def draw(self) -> Case:
        rich = self.chance(0.75)  # the others are plain, so that simple things are common too
        dense = rich and self.chance(0.5)
        for number in range(self.dice.randint(2, 4 if dense else 8)):
            self.draw_table(f"t{number}", rich)
        least, most = (3, 2 * len(self.tables) + 3) if dense else (1, len(self.tables) + 2)
        for number in range(self.dice.randint(least, most)):
            self.draw_key(f"fk{number}", rich)
        for table in self.tables.values():
            self.draw_rules(table, rich)
            self.draw_rows(table)
        self.settle_rows()
        root = self.draw_root()
        labels = self.draw_labels(root)
        chosen = ", ".join(str(label) for label in labels)
        return Case(
            name=self.name,
            build=tuple(self.render()),
            delete=f"delete from {self.name}.{root.name} where label in ({chosen})",
            update=f"update {self.name}.{root.name} set {self.draw_change(root)} "
            f"where label in ({chosen})",
            table=root.name,
            labels=labels,
            tables=self.tables,
        )

    # Structure.

    def draw_table(self, name: str, rich: bool) -> None:
        composite = rich and self.chance(0.2)
        table = Table(name=name, primary=("id", "part") if composite else ("id",))
        table.columns["id"] = self.draw_default(0.2)
        if composite:
            table.columns["part"] = self.draw_default(0.2)
        if self.chance(0.3 if rich else 0.1):
            table.columns["code"] = self.draw_default(0.5)
            deferrable = ""
            table.uniques.append(Unique(f"{name}_code", ("code",), sql=deferrable))
        if rich and self.chance(0.2):
            other = "code" if "code" in table.columns and self.chance(0.5) else "kind"
            table.columns.setdefault(other, self.draw_default(0.5))
            table.uniques.append(Unique(f"{name}_wide", (other, "id")))
        if rich and self.chance(0.15):
            column = self.dice.choice(table.primary)
            table.partition_by = f"range ({column})"
            table.partitions = (
                (f"{name}a", "from (minvalue) to (2)"),
                (f"{name}b", "from (2) to (maxvalue)"),
            )
            table.uniques = [unique for unique in table.uniques if column in unique.columns]
        self.tables[name] = table

    def draw_default(self, probability: float) -> str:
        return f"default {self.dice.choice(VALUES)}" if self.chance(probability) else ""

    def draw_key(self, name: str, rich: bool) -> None:
        tables = list(self.tables.values())
        table = self.dice.choice(tables)
        referenced = table if self.chance(0.15) else self.dice.choice(tables)
        targets = [referenced.primary] * 2 + [
            unique.columns for unique in referenced.uniques if not unique.where_null
        ]
        target = self.dice.choice(targets)
        columns: list[str] = []
        for place, _ in enumerate(target):
            column = f"{name}_{place}"
            reusable = [other for other in table.columns if other not in columns]
            if reusable and self.chance(0.2 if rich else 0.04):
                column = self.dice.choice(reusable)
            if column not in table.columns:
                table.columns[column] = self.draw_default(0.5)
                if self.chance(0.2):
                    table.columns[column] += " not null"
            columns.append(column)
        if table.name == referenced.name and tuple(columns) == target:
            return  # a row that references just itself
        if any(
            (key.table, key.columns, key.referenced)
            == (table.name, tuple(columns), referenced.name)
            for key in self.keys
        ) and self.chance(0.5):
            return
        full = len(columns) > 1 and self.chance(0.25)
        clause = " match full" if full else ""
        clause += f" on delete {self.draw_delete_rule(columns)}"
        if self.chance(0.4):
            rules = ("no action", "restrict", "cascade", "set null", "set default")
            clause += f" on update {self.dice.choice(rules)}"
        if self.chance(0.3):
            clause += " deferrable"
            if self.chance(0.6):
                clause += " initially deferred"
        key = Key(
            name, table.name, tuple(columns), referenced.name, target, full=full, clause=clause
        )
        partitioned = table.partitions or referenced.partitions
        if rich and not partitioned and self.chance(0.06):
            key.clause += " not valid"
            key.dangling = True
        elif rich and self.major >= 18 and not partitioned and self.chance(0.03):
            key.clause += " not enforced"
            key.dangling = True
        self.keys.append(key)

    def draw_delete_rule(self, columns: Sequence[str]) -> str:
        rules = ("cascade", "no action", "restrict", "set null", "set default")
        rule: str = self.dice.choices(rules, (34, 16, 10, 20, 20))[0]
        if rule.startswith("set") and self.major >= 15 and len(columns) > 1 and self.chance(0.4):
            some = self.dice.sample(columns, self.dice.randint(1, len(columns)))
            rule += f" ({', '.join(some)})"
        return rule

    def draw_rules(self, table: Table, rich: bool) -> None:
        names = list(table.columns)
        free = [name for name in names if name not in table.primary]
        if rich and free and self.chance(0.3):
            self.draw_unique(table, free)
        if self.chance(0.25 if rich else 0.05):
            self.draw_check(table, names)

    def draw_unique(self, table: Table, free: list[str]) -> None:
        columns = tuple(self.dice.sample(free, min(len(free), self.dice.choice((1, 1, 2)))))
        unique = Unique(f"{table.name}_extra", columns)
        if table.partitions:
            return
        if self.chance(0.3):
            unique.where_null = self.dice.choice(free)
            column = self.dice.choice(free)
            unique.columns = (column,) if column != unique.where_null else ("id",)
        elif self.major >= 15 and self.chance(0.4):
            unique.nulls_equal = True
        elif self.chance(0.1):
            unique.sql = "deferrable"
        table.uniques.append(unique)

    def draw_check(self, table: Table, names: list[str]) -> None:
        one, other, value = (
            self.dice.choice(names),
            self.dice.choice(names),
            self.dice.choice(VALUES),
        )
        kinds = [
            Check(
                f"{table.name}_not",
                f"{one} <> {value}",
                lambda row: row[one] != value or row[one] is None,
            ),
            Check(
                f"{table.name}_any",
                f"{one} is not null or {other} is not null",
                lambda row: row[one] is not None or row[other] is not None,
            ),
            Check(
                f"{table.name}_order",
                f"{one} <= {other} + 2",
                lambda row: row[one] is None or row[other] is None or row[one] <= row[other] + 2,
            ),
        ]
        table.checks.append(self.dice.choice(kinds))

    # Rows.

    def draw_rows(self, table: Table) -> None:
        keys = [key for key in self.keys if key.table == table.name]
        ids = self.dice.sample(VALUES, self.dice.randint(3, len(VALUES)))
        for label, id in enumerate(ids):
            row: Row = {"label": label, "id": id}
            for column in table.columns:
                if column != "id":
                    null = not table.refuses_null(column) and self.chance(0.25)
                    row[column] = None if null else self.dice.choice(VALUES)
            for key in keys:
                if row[key.columns[0]] is not None and "id" not in key.columns:
                    self.point(row, key)
            table.rows.append(row)
        self.dice.shuffle(table.rows)

    def point(self, row: Row, key: Key) -> None:
        """Makes the row reference some row that is there."""
        candidates = [
            values
            for other in self.tables[key.referenced].rows
            if None not in (values := [other[column] for column in key.referenced_columns])
        ]
        if candidates:
            row.update(zip(key.columns, self.dice.choice(candidates), strict=True))

    def settle_rows(self) -> None:
        """Mends references that lead nowhere, then takes rows out until every rule holds."""
        for _ in range(3):
            for key in self.keys:
                table = self.tables[key.table]
                for row in table.rows:
                    if not self.leads_somewhere(key, row):
                        before = dict(row)
                        self.point(row, key)
                        if any(row[name] != before[name] for name in table.primary):
                            row.update(before)
        while any(self.settle_table(table) for table in self.tables.values()):
            pass

    def settle_table(self, table: Table) -> bool:
        kept: list[Row] = []
        seen: set[object] = set()
        for row in table.rows:
            claims = [claim for claim in self.claims(table, row) if claim is not None]
            if self.is_allowed(table, row) and not seen.intersection(claims):
                seen.update(claims)
                kept.append(row)
        changed = len(kept) < len(table.rows)
        table.rows = kept
        return changed

    def claims(self, table: Table, row: Row) -> Iterator[object]:
        for unique in (Unique("primary", table.primary), *table.uniques):
            values = tuple(row[column] for column in unique.columns)
            if unique.where_null and row[unique.where_null] is not None:
                continue
            if None not in values or unique.nulls_equal:
                yield unique.name, values

    def is_allowed(self, table: Table, row: Row) -> bool:
        if any(row[name] is None and table.refuses_null(name) for name in table.columns):
            return False
        if not all(check.holds(row) for check in table.checks):
            return False
        return all(
            key.dangling or self.leads_somewhere(key, row)
            for key in self.keys
            if key.table == table.name
        )

    def leads_somewhere(self, key: Key, row: Row) -> bool:
        values = [row[column] for column in key.columns]
        if None in values:
            return not key.full or set(values) == {None}
        return any(
            [other[column] for column in key.referenced_columns] == values
            for other in self.tables[key.referenced].rows
        )

    # The statement.

    def draw_root(self) -> Table:
        tables = [table for table in self.tables.values() if table.rows]
        if not tables:
            return next(iter(self.tables.values()))
        weights = [
            1 + 10 * sum(key.referenced == table.name for key in self.keys) for table in tables
        ]
        return self.dice.choices(tables, weights)[0]

    def draw_labels(self, table: Table) -> tuple[int, ...]:
        labels = [row["label"] for row in table.rows]
        chosen = self.dice.sample(labels, min(len(labels), self.dice.choice((1, 1, 2, 2, 3, 4, 9))))
        return tuple(sorted(label for label in chosen if label is not None)) or (-1,)

    def draw_change(self, table: Table) -> str:
        pointed = {
            column
            for key in self.keys
            if key.referenced == table.name
            for column in key.referenced_columns
        }
        names = [name for name in table.columns if name in pointed] * 3 + list(table.columns)
        changes = {}
        for _ in range(self.dice.choice((1, 1, 1, 2))):
            column = self.dice.choice(names)
            value = self.dice.choice(VALUES)
            other = self.dice.choice(list(table.columns))
            changes[column] = self.dice.choice(
                (str(value), str(value + 7), f"{column} + 1", f"{column} + 10", other, "null")
            )
        return ", ".join(f"{column} = {value}" for column, value in changes.items())

    # SQL.

    def render(self) -> Iterator[str]:
        yield f"create schema {self.name}"
        yield f"set local search_path = {self.name}"
        for table in self.tables.values():
            yield from self.render_table(table)
        order = list(self.keys)
        self.dice.shuffle(order)
        for key in order:
            columns, target = ", ".join(key.columns), ", ".join(key.referenced_columns)
            yield (
                f"alter table {key.table} add constraint {key.name} foreign key ({columns}) "
                f"references {key.referenced} ({target}){key.clause}"
            )
        for table in self.tables.values():
            if self.chance(0.01):
                yield f"alter table {table.name} disable trigger all"

    def render_table(self, table: Table) -> Iterator[str]:
        parts = ["label int"]
        parts += [f"{name} int {rest}".strip() for name, rest in table.columns.items()]
        parts.append(f"primary key ({', '.join(table.primary)})")
        for unique in table.uniques:
            if not unique.where_null:
                nulls = " nulls not distinct" if unique.nulls_equal else ""
                columns = ", ".join(unique.columns)
                parts.append(
                    f"constraint {unique.name} unique{nulls} ({columns}) {unique.sql}".strip()
                )
        parts += [f"constraint {check.name} check ({check.sql})" for check in table.checks]
        by = f" partition by {table.partition_by}" if table.partition_by else ""
        yield f"create table {table.name} ({', '.join(parts)}){by}"
        for name, bounds in table.partitions:
            yield f"create table {name} partition of {table.name} for values {bounds}"
        for unique in table.uniques:
            if unique.where_null:
                yield (
                    f"create unique index {unique.name} on {table.name} "
                    f"({', '.join(unique.columns)}) where {unique.where_null} is null"
                )
        if table.rows:
            names = ["label", *table.columns]
            rows = ", ".join(
                "(" + ", ".join("null" if row[n] is None else str(row[n]) for n in names) + ")"
                for row in table.rows
            )
            yield f"insert into {table.name} ({', '.join(names)}) values {rows}"
