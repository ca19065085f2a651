"""Random tables, rows and policies for merges, and the statements that make the tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from fkdoctor.config import ReferenceConfig

Place = int | None


@dataclass(frozen=True)
class Key:
    """A reference to another table, by number; 0 are the letters.

    `how` it is one: a foreign key over one column (`key`) or with the letter's column `a`
    (`composite`), or what only fkdoctor.toml declares: of every row (`plain`), or of those with a 1
    beside it (`pair`).
    """

    to: int
    action: str
    deferrable: bool
    how: str

    @property
    def wide(self) -> bool:
        """Whether there is another column beside it."""
        return self.how in ("composite", "pair")

    @property
    def declared(self) -> bool:
        """Whether PostgreSQL holds it."""
        return self.how in ("key", "composite")


@dataclass(frozen=True)
class Unique:
    """What must not stand twice, by kind: the columns as they are (`plain`), where `q` is 0
    (`partial`), with half as many values of the first (`expression`, `generated`), NULLs like
    values (`nulls`); or the first column with ranges of p that overlap (`exclusion`)."""

    columns: tuple[str, ...]
    kind: str
    deferrable: bool


@dataclass(frozen=True)
class Shape:
    """A table with its keys, its rows (places of the rows referenced, what is held in one value,
    then p, q, v and x), its policy, what becomes of `v` in rows that stay.

    With `keyed` it has no id of its own: its key columns and p are the primary key. Then it may be
    in `parts`, by its first key or by p. It `holds` references to the table `held` in an array, in
    JSON or not at all.
    """

    keys: tuple[Key, ...]
    uniques: tuple[Unique, ...]
    keyed: bool
    rows: tuple[tuple[tuple[Place, ...], tuple[int, ...], Place, Place, Place, Place], ...]
    policy: str
    links: str
    parts: str
    holds: str
    held: int
    field: str

    @property
    def divided_by(self) -> str:
        """The column that decides in which partition a row is; '' if there are none."""
        plain = ("plain", "partial", "nulls")
        fits = self.keyed and all(
            self.parts in unique.columns and unique.kind in plain for unique in self.uniques
        )
        return self.parts if fits else ""


@dataclass(frozen=True)
class World:
    """The letters (what they agree on, which is above, and p, a, v), the other tables, and the
    edits: which table, which row, which column. `parted` is whether the letters are in partitions,
    `wide` whether their primary key has two columns."""

    letters: tuple[tuple[Place, Place, int, int, Place], ...]
    tree: bool
    parted: bool
    wide: bool
    above: str
    policy: str
    field: str
    shapes: tuple[Shape, ...]
    edits: tuple[tuple[int, int, str], ...]
    batch_size: int


POLICIES = [
    "refuse",
    "keep_survivors",
    "newest:q",
    "oldest:q",
    "(p) asc",
    "most_complete",
    "skip",
    "merge_fields",
]
FIELDS = ["", "", "", "coalesce", "sum", "min", "max", "newest:q", "oldest:q"]
places = st.sampled_from([0, 1, 2, 3, 1, 2, 3, 4, 5, None])
small = st.sampled_from([0, 0, 0, 0, 1, None])
steps = st.sampled_from([0, 0, 0, 0, 1, 2, None])


@st.composite
def keys(draw: st.DrawFn, tables: list[int]) -> Key:
    to = draw(st.sampled_from([0, 0, *tables]))
    hows = ["key", "key", "key", "plain", "pair", *(["composite"] if to == 0 else [])]
    return Key(
        to=to,
        action=draw(st.sampled_from(["no action", "restrict", "cascade", "set null"])),
        deferrable=draw(st.booleans()),
        how=draw(st.sampled_from(hows)),
    )


@st.composite
def uniques(draw: st.DrawFn, names: list[str]) -> Unique:
    kinds = ["plain", "plain", "plain", "partial", "expression", "generated", "nulls", "exclusion"]
    return Unique(
        columns=("k0", *draw(st.lists(st.sampled_from(names), unique=True))),
        kind=draw(st.sampled_from(kinds)),
        deferrable=draw(st.integers(0, 3)) == 3,
    )


@st.composite
def shapes(draw: st.DrawFn, tables: list[int]) -> Shape:
    """A table that references the letters and those with these numbers."""
    of_table = tuple(draw(keys(tables)) for _ in range(draw(st.sampled_from([1, 1, 1, 2]))))
    names = [*(f"k{i}" for i in range(1, len(of_table))), "p"]
    names += [f"k{i}x" for i, key in enumerate(of_table) if key.wide]
    held = st.lists(st.integers(0, 5), max_size=4).map(tuple)
    row = st.tuples(
        st.tuples(*(places for _ in of_table)), held, steps, small, st.none() | small, small
    )
    return Shape(
        keys=of_table,
        uniques=tuple(draw(uniques(names)) for _ in range(draw(st.sampled_from([1, 1, 1, 2])))),
        keyed=draw(st.integers(0, 4)) == 4,
        rows=tuple(draw(st.lists(row, min_size=5, max_size=9))),
        policy=draw(st.sampled_from([*POLICIES, "demote(q = 1)"])),
        links=draw(st.sampled_from(["refuse", "delete", "delete"])),
        parts=draw(st.sampled_from(["", "k0", "k0", "p"])),
        holds=draw(st.sampled_from(["", "", "", "array", "json"])),
        held=draw(st.sampled_from([0, 0, *tables])),
        field=draw(st.sampled_from(FIELDS)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    number = draw(st.integers(4, 6))
    tree = draw(st.integers(0, 3)) == 3
    above = places if tree else st.none()
    same = st.sampled_from([0, 0, 0, 1, 1])
    letter = st.tuples(same, above, st.integers(0, 1), st.sampled_from([0, 0, 1]), small)
    others: list[Shape] = []
    for _ in range(draw(st.integers(1, 3))):
        with_ids = [i for i, shape in enumerate(others, 1) if not shape.keyed]
        others.append(draw(shapes(with_ids)))
    edit = st.tuples(st.integers(0, 3), st.integers(0, 7), st.sampled_from(["q", "gone"]))
    return World(
        letters=tuple(draw(st.lists(letter, min_size=number, max_size=number))),
        tree=tree,
        parted=draw(st.integers(0, 3)) == 3,
        wide=draw(st.integers(0, 3)) == 3,
        above=draw(st.sampled_from(["refuse", "null", "inherit"])),
        policy=draw(st.sampled_from(POLICIES)),
        field=draw(st.sampled_from(FIELDS)),
        shapes=tuple(others),
        edits=tuple(draw(st.lists(edit, max_size=draw(st.sampled_from([0, 0, 2]))))),
        batch_size=draw(st.integers(1, 3)),
    )


def name_table(number: int) -> str:
    return f"r{number}" if number else "letter"


def statements(world: World, major: int) -> Iterator[str]:
    """What makes the tables."""
    parts = " partition by hash (id)" if world.parted else ""
    key = "primary key (a, id), unique (id)" if world.wide else "primary key (id), unique (a, id)"
    columns = "id int, same int, above int, p int, q int, a int not null, v int"
    yield f"create table letter ({columns}, {key}){parts}"
    if world.parted:
        for part in range(3):
            bound = f"with (modulus 3, remainder {part})"
            yield f"create table letter_{part} partition of letter for values {bound}"
    if world.tree:
        yield "alter table letter add foreign key (above) references letter (id) deferrable"
    if world.tree and not world.parted:
        yield "create unique index on letter (above, p)"
    for number, shape in enumerate(world.shapes, 1):
        yield from _make_table(number, shape, major)


def _make_table(number: int, shape: Shape, major: int) -> Iterator[str]:
    table = name_table(number)
    names = [f"k{i}" for i in range(len(shape.keys))]
    columns = [] if shape.keyed else ["id int"]
    for name, key in zip(names, shape.keys, strict=True):
        columns += [f"{name} int"] + ([f"{name}x int"] if key.wide else [])
    columns += ["p int", "q int", "v int"]
    columns += {"": [], "array": ["e int[]"], "json": ["e jsonb"]}[shape.holds]
    if any(unique.kind == "generated" for unique in shape.uniques):
        columns.append("g int generated always as (k0 % 2) stored")
    primary = f"primary key ({', '.join(names)}, p)" if shape.keyed else "primary key (id)"
    parts = f" partition by list ({shape.divided_by})" if shape.divided_by else ""
    yield f"create table {table} ({', '.join(columns)}, {primary}){parts}"
    if parts:
        yield f"create table {table}_some partition of {table} for values in (1, 2)"
        yield f"create table {table}_rest partition of {table} default"
    for name, key in zip(names, shape.keys, strict=True):
        if key.declared:
            mine, theirs = (f"{name}x, {name}", "a, id") if key.wide else (name, "id")
            yield (
                f"alter table {table} add foreign key ({mine}) "
                f"references {name_table(key.to)} ({theirs}) on delete {key.action} "
                + ("deferrable initially deferred" if key.deferrable else "")
            )
    for unique in shape.uniques:
        yield _make_unique(table, unique, major)


def _make_unique(table: str, unique: Unique, major: int) -> str:
    over = ", ".join(unique.columns)
    rest = "".join(f", {name}" for name in unique.columns[1:])
    match unique.kind:
        case "partial":
            return f"create unique index on {table} ({over}) where q = 0"
        case "expression":
            return f"create unique index on {table} ((k0 % 2){rest})"
        case "generated":
            return f"create unique index on {table} (g{rest})"
        case "exclusion":
            return (
                f"alter table {table} add exclude using gist (int4range(k0, k0, '[]') with =, "
                "int4range(p, p + 1, '[]') with &&) "
                "where (k0 is not null and p is not null)"
            )
        case "nulls" if major >= 15:
            return f"create unique index on {table} ({over}) nulls not distinct"
    if unique.deferrable:
        return f"alter table {table} add unique ({over}) deferrable initially deferred"
    return f"create unique index on {table} ({over})"


def references(world: World) -> Iterator[ReferenceConfig]:
    """What fkdoctor.toml says."""
    for number, shape in enumerate(world.shapes, 1):
        for i, key in enumerate(shape.keys):
            if not key.declared:
                yield ReferenceConfig(
                    source=f"public.{name_table(number)}.k{i}",
                    target=f"public.{name_table(key.to)}.id",
                    where=f"k{i}x = 1" if key.wide else None,
                )
        if shape.holds:
            array = shape.holds == "array"
            yield ReferenceConfig(
                source=f"public.{name_table(number)}.e{'[]' if array else ''}",
                target=f"public.{name_table(shape.held)}.id",
                path=None if array else "$.ids[*]",
            )
