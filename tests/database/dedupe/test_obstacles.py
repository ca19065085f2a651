"""What this edition does not handle: refused by name, and nothing is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fkdoctor.database import connect
from fkdoctor.dedupe.apply import apply_dedupe
from fkdoctor.dedupe.plan import DedupePlan
from fkdoctor.dedupe.planner import Criteria, plan_dedupe
from fkdoctor.errors import Blocked, UnknownName
from fkdoctor.inspect.catalog import inspect_database

Case = tuple[str, str] | tuple[str, str, int]
"""SQL, what is said, and from which PostgreSQL on."""

LETTER = """
    create table letter (id int primary key, same text, code text unique);
    insert into letter values (1, 'a', 'x'), (2, 'a', 'y'), (3, 'a', null), (4, 'b', 'z');
"""
BLIND = """
    create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
"""
TREE = (
    "create table letter (id int primary key, same text, above int constraint k references letter);"
)
LINK = LETTER + "create table link (id int primary key, a int references letter, b int);"

TABLES: dict[str, Case] = {
    "without a primary key": (
        "create table letter (id int, same text, unique (id))",
        "letter: it has no primary key",
    ),
    "a partition": (
        """create table whole (id int primary key, same text) partition by list (id);
        create table letter partition of whole default""",
        "letter: it is a partition of a_partition.whole: merge the rows of that one",
    ),
    "referenced by way of a partition": (
        """create table letter (id int primary key, same text) partition by list (id);
        create table letter_1 partition of letter default;
        create table link (id int, constraint k foreign key (id) references letter_1)""",
        "letter: its rows are also referenced as rows of",
    ),
    "with a foreign partition": (
        """create foreign data wrapper nobody; create server elsewhere foreign data wrapper nobody;
        create table letter (id int not null, same text) partition by list (id);
        create foreign table letter_1 partition of letter default server elsewhere""",
        "letter: its partition with_a_foreign_partition.letter_1 is a foreign table",
    ),
    "a foreign table": (
        """create foreign data wrapper nothing; create server nowhere foreign data wrapper nothing;
        create foreign table letter (id int, same text) server nowhere""",
        "letter: it is a foreign table",
    ),
    "with a rule": (
        LETTER + "create rule keep as on delete to letter do instead nothing",
        "letter rule keep: a rule rewrites DELETE on this table",
    ),
    "with a rule that a cascade would meet": (
        LETTER
        + """create table other (letter_id int references letter on delete cascade);
        create rule keep as on delete to other do instead nothing""",
        "other rule keep: a rule rewrites DELETE",
    ),
    "with a rule that SET NULL would meet": (
        LETTER
        + """create table other (letter_id int references letter on delete set null);
        create rule keep as on update to other where old.letter_id = 1 do instead nothing""",
        "other rule keep: a rule rewrites UPDATE",
    ),
    "with a temporal key to it": (
        """create extension if not exists btree_gist;
        create table letter (
            id int, at int4range, same text, primary key (id, at without overlaps));
        create table other (id int, at int4range,
            constraint k foreign key (id, period at) references letter (id, period at))""",
        "other.k: it is a temporal key (PERIOD)",
        18,
    ),
}

KEYS: dict[str, Case] = {
    "a collision as a collation sees it": (
        LETTER
        + BLIND
        + """create table link (id int primary key, a int references letter, b text collate blind,
            unique (a, b));
        insert into link values (1, 1, 'X'), (2, 2, 'x')""",
        "link unique key link_a_b_key: rows would collide",
    ),
    "an index with another collation": (
        LETTER
        + BLIND
        + """create table link (id int primary key, a int references letter, b text);
        create unique index u on link (a, b collate blind);
        insert into link values (1, 1, 'X'), (2, 2, 'x')""",
        "link unique key u: rows would collide once repointed: (2) and (1) differ in b ('x' / 'X')",
    ),
    "an index over the whole row": (
        LINK + "create unique index u on link ((link is null)); insert into link values (1, 2)",
        "link index u: it is unique over whole rows",
    ),
    "an exclusion without overlaps": (
        """create extension if not exists btree_gist;"""
        + LETTER
        + """create table link (id int primary key, a int references letter, at int4range,
            constraint u unique (a, at without overlaps));
        insert into link values (1, 2, '[1,3)'), (2, 1, '[2,4)')""",
        "link unique key u: rows would collide once repointed: (1) and (2) differ in at",
        18,
    ),
    "an index that is not valid": (
        LINK
        + """create unique index u on link (a, b); insert into link values (1, 2, 1);
        update pg_index set indisvalid = false where indexrelid = 'u'::regclass""",
        "link index u: it is unique, but not valid",
    ),
    "both ends of a link": (
        LETTER
        + """create table pair (id int primary key, a int constraint ka references letter,
            b int constraint kb references letter, check (a <> b));
        insert into pair values (1, 2, 3), (2, 4, 2), (3, 1, 3)""",
        "pair.ka and both_ends_of_a_link.pair.kb: rows would reference one survivor twice: (1)",
    ),
    "a link of a survivor with its duplicate": (
        LETTER
        + """create table pair (id int primary key, a int constraint ka references letter,
            b text constraint kb references letter (code));
        insert into pair values (1, 3, 'y'), (2, 1, 'z'), (5, 3, 'z'), (7, 3, 'x'), (9, 2, 'y')""",
        "rows would reference one survivor twice: (1); (7)",
    ),
    "a link of which one end stays": (
        LETTER
        + """create table pair (id int primary key, a int constraint ka references letter,
            b int constraint kb references letter);
        insert into pair values (1, 1, 2)""",
        "pair.ka and a_link_of_which_one_end_stays.pair.kb: rows would reference one",
    ),
    "rows without identity": (
        LETTER
        + "create table log (a int references letter, b int unique); insert into log values (2)",
        "log: its rows have neither primary key nor unique NOT NULL columns",
    ),
    "a generated reference": (
        LETTER
        + """create table link (id int primary key, b int,
            a int generated always as (b + 1) stored constraint k references letter);
        insert into link values (1, 1)""",
        "link.k: a is a generated column",
    ),
    "columns that belong to two keys": (
        """create table site (id int primary key); insert into site values (1), (2);
        create table letter (id int, site int, same text, primary key (site, id));
        insert into letter values (1, 1, 'a'), (2, 2, 'a');
        create table link (n int primary key, site int constraint s references site, id int,
            constraint k foreign key (site, id) references letter);
        insert into link values (1, 2, 2)""",
        "link.k: site also belongs to s",
    ),
    "one column that references two": (
        """create table letter (id int primary key, other int unique, same text);
        insert into letter values (1, 2, 'a'), (2, 1, 'a');
        create table link (n int primary key, a int constraint ka references letter,
            constraint kb foreign key (a) references letter (other));
        insert into link values (1, 2)""",
        "link.ka: a also belongs to kb",
    ),
    "a reference that is referenced": (
        LETTER
        + """create table link (id int primary key, a int unique constraint k references letter);
        create table far (a int constraint f references link (a));
        insert into link values (1, 2)""",
        "link.k: a_reference_that_is_referenced.far.f references its a, which would change",
    ),
    "a survivor without the value": (
        """create table letter (id int primary key, same text, code text unique);
        insert into letter values (1, 'a', null), (2, 'a', 'y');
        create table link (n int primary key, code text constraint k references letter (code));
        insert into link values (5, 'y')""",
        "link.k: its survivors have no value to reference for rows: (5)",
    ),
    "partitions of which rows are referenced as such": (
        LETTER
        + """create table log (id int primary key, a int references letter on delete cascade)
            partition by list (id);
        create table log_1 partition of log default; insert into log values (1, 2);
        create table far (id int constraint k references log_1)""",
        "log: its rows are also referenced as rows of",
    ),
    "a partition that knows its rows alone": (
        LETTER
        + """create table log (id int, a int) partition by list (a);
        create table log_1 partition of log (primary key (id)) default;
        alter table log_1 add constraint k foreign key (a) references letter;
        insert into log values (1, 2)""",
        "log_1.k: a decides in which partition of a_partition_that_knows_its_rows_alone.log a row",
    ),
    "an index of one partition out of which rows move": (
        LETTER
        + """create table log (id int, a int constraint k references letter, b int,
            primary key (id, a)) partition by list (a);
        create table log_1 partition of log default; create unique index u on log_1 (a, b);
        insert into log values (1, 2, 3)""",
        "log_1 index u: only this partition has it, and a decides in which partition a row is",
    ),
    "partitions whose rows are not known": (
        LETTER
        + """create table log (id int, a int references letter) partition by list (a);
        create table log_1 partition of log default; insert into log values (1, 2)""",
        "log: its rows have neither primary key nor unique NOT NULL columns",
    ),
    "heirs": (
        LINK
        + """create table heir () inherits (link); create table heirs_heir () inherits (heir);
        insert into heir values (1, 1); insert into heirs_heir values (1, 2), (2, 3)""",
        "link.link_a_fkey: 2 rows of heirs.heirs_heir, which inherits from heirs.link, reference",
    ),
    "a rule on the references": (
        LINK
        + """create rule watch as on update to link do also select 1;
        insert into link values (1, 2)""",
        "link rule watch: a rule rewrites UPDATE on this table",
    ),
    "a duplicate below its survivor": (
        TREE + """insert into letter values (1, 'a', 2), (2, 'a', null)""",
        "letter.k: rows of a cluster reference duplicates themselves: (1)",
    ),
    "a loop in the hierarchy": (
        TREE
        + """insert into letter values (1, 'a', null), (2, 'a', null), (3, 'x', 2), (4, 'y', 3);
        update letter set above = 4 where id = 1""",
        "letter.k: survivors would come to be above themselves: (1)",
    ),
    "a loop through two clusters": (
        TREE
        + """insert into letter values (1, 'a', null), (2, 'a', null), (3, 'b', null),
            (4, 'b', null), (5, 'x', 2), (6, 'y', 4);
        update letter set above = 6 where id = 1; update letter set above = 5 where id = 3""",
        "letter.k: survivors would come to be above themselves: (1) → (6) → (3) → (5) → (1)",
    ),
    "a publication": (
        LINK
        + """alter table link replica identity nothing; insert into link values (1, 2);
        create publication everything for table link""",
        "link: publication everything publishes every UPDATE of it, and it has no replica identity",
    ),
    "a publication of the table": (
        LETTER
        + """alter table letter replica identity nothing;
        create publication letters for table letter with (publish = 'insert, delete')""",
        "letter: publication letters publishes every DELETE of it",
    ),
}

HANDLED: dict[str, Case] = {
    "a partial index": (
        LINK
        + "create unique index u on link (b) where a is not null; insert into link values (1, 2)",
        "",
    ),
    "an index over an expression": (
        LINK + "create unique index u on link ((a + 0), b); insert into link values (1, 2)",
        "",
    ),
    "a generated column": (
        LETTER
        + """create table link (id int primary key, a int references letter,
            g int generated always as (a / 2) stored unique);
        insert into link (id, a) values (1, 2)""",
        "",
    ),
    "an exclusion": (
        """create extension if not exists btree_gist;"""
        + LINK
        + """alter table link add constraint x exclude using gist
            (a with =, int4range(b, b + 9) with &&);
        insert into link values (1, 2, 1), (2, 1, 20)""",
        "",
    ),
    "an exclusion over an expression": (
        """create extension if not exists btree_gist;"""
        + LINK
        + """alter table link add constraint x exclude using gist ((a + 0) with =, b with =);
        insert into link values (1, 2, 1), (2, 1, 20)""",
        "",
    ),
    "a composite key that is unique": (
        """create table letter (id int, site int, same text, primary key (id, site));
        insert into letter values (1, 1, 'a'), (2, 1, 'a');
        create table link (n int primary key, id int, site int, b int, unique (id, b),
            constraint k foreign key (id, site) references letter);
        insert into link values (1, 2, 1, 7)""",
        "",
    ),
    "a primary key that is the reference": (
        LETTER
        + """create table one (id int primary key constraint k references letter);
        insert into one values (2)""",
        "",
    ),
    "a unique key that is the reference": (
        LETTER
        + """create table one (id int not null unique constraint k references letter);
        insert into one values (2)""",
        "",
    ),
    "a duplicate that references itself": (
        TREE + """insert into letter values (1, 'a', null), (2, 'a', 2)""",
        "",
    ),
    "unique keys that do not collide": (
        LINK
        + """create unique index u on link (a, b); insert into link values
            (1, 1, 7), (2, 2, 8), (3, 3, null), (4, 2, null), (5, null, 7), (6, 4, 7)""",
        "",
    ),
    "unique indexes over other columns": (
        LINK
        + """create unique index u on link ((b + 1)) where b > 0;
        insert into link values (1, 2, 1), (2, 3, 2)""",
        "",
    ),
    "tables of odd shapes in which nothing moves": (
        LETTER
        + """create table log (a int references letter) partition by list (a);
        create table log_1 partition of log default;
        create table bare (a int unique references letter); create table heir () inherits (bare);
        insert into log values (1), (4); insert into bare values (4);
        insert into heir values (1), (4)""",
        "",
    ),
    "outsiders around duplicates": (
        TREE
        + """insert into letter values (1, 'a', null), (2, 'a', null), (3, 'x', 2), (4, 'y', 3),
            (5, 'z', 5);
        update letter set above = 5 where id in (1, 2)""",
        "",
    ),
    "a root that references itself": (
        TREE
        + """insert into letter values (1, 'a', 1), (2, 'a', null), (3, 'x', 2), (4, 'y', 3)""",
        "",
    ),
    "two keys over one column": (
        LETTER
        + """create table link (id int primary key, a int references letter,
            foreign key (a) references letter on delete cascade);
        insert into link values (1, 2), (2, 3)""",
        "",
    ),
    "a key that is not valid": (
        LETTER
        + """create table link (id int primary key, a int); insert into link values (1, 2), (2, 9);
        alter table link add foreign key (a) references letter not valid""",
        "",
    ),
    "a deferrable primary key": (
        """create table letter (id int primary key deferrable initially deferred, same text);
        insert into letter values (1, 'a'), (2, 'a')""",
        "",
    ),
    "a key that is not enforced": (
        LETTER
        + """create table link (id int primary key, a int references letter not enforced);
        insert into link values (1, 2), (2, 9)""",
        "",
        18,
    ),
    "a disabled rule": (
        LINK
        + """create rule watch as on update to link do also select 1;
        insert into link values (1, 2);
        alter table link disable rule watch""",
        "",
    ),
    "a composite key beside a unique one": (
        """create table letter (
            id int, site int, same text, code text unique, primary key (id, site));
        insert into letter values (1, 1, 'a', 'x'), (2, 1, 'a', 'y');
        create table link (n int primary key, id int, site int, code text references letter (code),
            unique (n, code), foreign key (id, site) references letter);
        insert into link values (1, 2, 1, 'y')""",
        "",
    ),
}


def schema_of(case: str) -> str:
    """The name of a schema for the case."""
    return case.replace(",", "").replace(" ", "_").lower()


def build(db: Any, cases: dict[str, Case], major: int) -> list[str]:
    """The names of the cases that this server takes, each with a schema that holds its tables."""
    built = [case for case, (_, _, *since) in cases.items() if major >= (*since, 12)[0]]
    for case in built:
        name = f'"{schema_of(case)}"'
        db.execute(f"create schema {name}; set search_path = {name}, public; {cases[case][0]}")
    return built


def make_plan(db: Any, path: Path, cases: Iterable[str], **options: str) -> Iterator[DedupePlan]:
    """The plans for the letters of the cases, each saved at the path in its turn."""
    criteria = Criteria(match=("same",), survivor=())
    with connect(db.engine(**options)) as connection:
        schema = inspect_database(connection)
        for case in cases:
            name = schema.resolve_table(f'"{schema_of(case)}".letter')
            yield plan_dedupe(connection, schema, name, criteria, path)


def test_tables_that_cannot_be_merged_are_refused(db: Any, tmp_path: Path, major: int) -> None:
    for case in build(db, TABLES, major):
        with pytest.raises(Blocked) as refused:
            next(make_plan(db, tmp_path, [case]))
        assert TABLES[case][1] in refused.value.why, case
    assert not list(tmp_path.iterdir())


def test_references_that_cannot_be_repointed_block_the_plan(
    db: Any, tmp_path: Path, major: int
) -> None:
    cases = build(db, KEYS, major)
    before = db.contents()
    path = tmp_path / "plan.jsonl"
    for case, plan in zip(cases, make_plan(db, path, cases), strict=True):
        said = [f"{obstacle.subject}: {obstacle.reason}" for obstacle in plan.obstacles]
        assert any(KEYS[case][1] in line for line in said), (case, said)
        assert len(said) == 1 or case in SEVERAL, (case, said)
    with connect(db.engine()) as connection, pytest.raises(Blocked) as refused:
        apply_dedupe(connection, path)
    assert KEYS[case][1] in refused.value.why
    assert db.contents() == before
    assert db.execute("select count(*) from fkdoctor.run") == [(0,)]


SEVERAL = ("one column that references two",)


def test_what_looks_odd_but_is_handled_is_merged(db: Any, tmp_path: Path, major: int) -> None:
    path = tmp_path / "plan.jsonl"
    cases = build(db, HANDLED, major)
    for case, plan in zip(cases, make_plan(db, path, cases), strict=True):
        assert plan.obstacles == (), case
        with connect(db.engine()) as connection:
            progress = apply_dedupe(connection, path)
        assert progress.deleted == plan.duplicates > 0
        assert progress.stale == ()
    assert [plan.duplicates for plan in make_plan(db, path, cases)] == [0] * len(cases)


def test_a_replica_session_is_refused(superuser: None, db: Any, tmp_path: Path) -> None:
    build(db, {"plain": (LETTER, "")}, 12)
    with pytest.raises(Blocked, match="session_replication_role is replica: foreign keys are off"):
        next(make_plan(db, tmp_path, ["plain"], options="-c session_replication_role=replica"))


def test_a_read_only_session_is_refused(db: Any, tmp_path: Path) -> None:
    build(db, {"plain": (LETTER, "")}, 12)
    with pytest.raises(Blocked, match="a plan needs temporary tables"):
        next(make_plan(db, tmp_path, ["plain"], options="-c default_transaction_read_only=on"))
    assert not list(tmp_path.iterdir())


def test_views_and_temporary_tables_are_no_tables_to_merge(db: Any, tmp_path: Path) -> None:
    db.execute("create schema views; create view views.letter as select 1 as id, 'a' as same")
    with pytest.raises(UnknownName, match="view"):
        next(make_plan(db, tmp_path, ["views"]))
    with connect(db.engine()) as connection:
        connection.exec_driver_sql("create temporary table letter (id int primary key, same text)")
        connection.commit()
        with pytest.raises(UnknownName):
            inspect_database(connection).resolve_table("letter")


def test_what_a_role_may_not_see_is_never_passed_over(role: str, db: Any, tmp_path: Path) -> None:
    build(db, {"plain": (LINK + "insert into link values (1, 2)", "")}, 12)
    as_role = f"-c role={role}"

    def refusal() -> str:
        with pytest.raises(Blocked, match="does not show all that a plan needs") as refused:
            next(make_plan(db, tmp_path, ["plain"], options=as_role))
        assert not list(tmp_path.iterdir())
        return refused.value.why

    assert "permission denied for schema plain" in refusal()
    db.execute(f"grant usage on schema plain to {role}")
    assert "permission denied for table letter" in refusal()
    db.execute(f"grant select (id, same) on plain.letter to {role}")
    assert "permission denied for table letter" in refusal()
    db.execute(f"grant select on plain.letter to {role}")
    assert "permission denied for table link" in refusal()
    db.execute(f"grant select on plain.link to {role}")
    assert next(make_plan(db, tmp_path, ["plain"], options=as_role)).moving == 1
    for path in tmp_path.iterdir():
        path.unlink()
    db.execute("alter table plain.link enable row level security")
    assert 'row-level security policy for table "link"' in refusal()
    db.execute("alter table plain.letter enable row level security")
    assert 'row-level security policy for table "letter"' in refusal()
