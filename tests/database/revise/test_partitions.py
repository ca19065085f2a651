"""Keys from and to partitioned tables: leaf by leaf, and in the end as if made in one piece."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from alembic.operations import Operations
from psycopg2.extensions import make_dsn
from sqlalchemy import Engine, event

from fkdoctor.errors import Blocked, FkdoctorError, Refused

Execute = Callable[[str], list[tuple[object, ...]]]
Operate = Callable[..., None]

PLAIN_LETTER = """
    create table letter (id int primary key);
    insert into letter select generate_series(1, 40);
"""
PARTED_LETTER = """
    create table letter (id int primary key) partition by range (id);
    create table letter_1 partition of letter for values from (0) to (20);
    create table letter_2 partition of letter for values from (20) to (100)
        partition by range (id);
    create table letter_2a partition of letter_2 for values from (20) to (100);
    insert into letter select generate_series(1, 40);
"""
PLAIN_LOG = "create table log (id int, letter_id int);"
# One leaf had another column once, one stands below a partition that is partitioned itself.
PARTED_LOG = """
    create table log (id int, letter_id int) partition by range (id);
    create table log_1 (gone text, letter_id int, id int);
    alter table log_1 drop column gone;
    alter table log attach partition log_1 for values from (0) to (20);
    create table log_2 partition of log for values from (20) to (100) partition by range (id);
    create table log_2a partition of log_2 for values from (20) to (30);
    create table "Log 2b" partition of log_2 for values from (30) to (100);
"""
ROWS = "insert into log select n, n from generate_series(1, 40) as n;"
ITSELF = """
    create table log (id int primary key, letter_id int) partition by range (id);
    create table log_1 partition of log for values from (0) to (20);
    create table log_2 partition of log for values from (20) to (100);
"""
CASES = {
    "from a partitioned table": PLAIN_LETTER + PARTED_LOG,
    "to a partitioned table": PARTED_LETTER + PLAIN_LOG,
    "between partitioned tables": PARTED_LETTER + PARTED_LOG,
    "of a partitioned table to itself": ITSELF,
    "of a partitioned table without partitions": PLAIN_LETTER
    + "create table log (id int, letter_id int) partition by range (id);",
}
UNTIDY_ON_12 = ("between partitioned tables", "of a partitioned table to itself")
# Each constraint and what makes it work, without OIDs.
STRUCTURE = """
    select k.conrelid::regclass::text, k.confrelid::regclass::text, k.conname::text,
        p.conname::text, p.conrelid::regclass::text, k.convalidated, k.coninhcount::int,
        k.conislocal, k.condeferrable, k.condeferred, k.confdeltype::text, k.confupdtype::text,
        obj_description(k.oid, 'pg_constraint'),
        array(select t.tgrelid::regclass || ' ' || f.proname || ' ' || t.tgenabled::text
            || t.tgdeferrable::text || t.tginitdeferred::text
            from pg_trigger as t join pg_proc as f on f.oid = t.tgfoid
            where t.tgconstraint = k.oid order by 1)
    from pg_constraint as k left join pg_constraint as p on p.oid = k.conparentid
    where k.contype = 'f' order by 1, 2, 3
"""


def _change(op: Operations) -> None:
    op.change_on_delete("log", "k", "CASCADE", schema="public")


def _restore(op: Operations) -> None:
    op.restore_on_delete("log", "k", "CASCADE", schema="public")


def _key(case: str, rule: str = "", name: str = "k") -> str:
    target = "log" if case.endswith("itself") else "letter"
    return (
        f"alter table log add constraint {name} foreign key (letter_id) references {target} {rule};"
    )


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, execute: Execute, major: int) -> str:
    """The tables of a case, with rows unless there is no partition for them."""
    case = str(request.param)
    if case in UNTIDY_ON_12 and major == 12:
        pytest.skip("refused: see test_on_12_keys_between_partitioned_tables_are_refused")
    execute(CASES[case] + ("" if "without" in case else ROWS))
    return case


def test_it_is_changed_and_restored_with_all_names_and_comments(
    execute: Execute, operate: Operate, dump: Callable[[], str], case: str, major: int
) -> None:
    execute(_key(case, "on update cascade deferrable initially deferred"))
    execute("comment on constraint k on log is 'Ours.'")
    # As after years: a copy has another name, another has a comment.
    copies = execute(
        "select conrelid::regclass::text, conname::text from pg_constraint"
        " where contype = 'f' and conparentid <> 0 order by 1, 2"
    )
    for number, (table, name) in enumerate(copies):
        if number % 2:
            execute(f"""comment on constraint "{name}" on {table} is 'Copy {number}'""")
        else:
            execute(f"""alter table {table} rename constraint "{name}" to "copy {number}" """)
    before, structure = dump(), execute(STRUCTURE)
    operate(_change)
    changed = execute(STRUCTURE)
    assert [row[:3] for row in changed] == [row[:3] for row in structure]
    assert {row[10] for row in changed} == {"c"}
    assert {row[12] for row in changed if row[4]} == {row[12] for row in structure if row[4]}
    operate(_restore)
    if case.startswith("to ") and major < 18:
        # VALIDATE there never marks the copies for referenced partitions, and nothing reads that.
        structure = [(*row[:5], row[5] and not row[3], *row[6:]) for row in structure]
    assert (dump(), execute(STRUCTURE)) == (before, structure)


def test_it_ends_as_postgresql_would_have_made_it_in_one_piece(
    execute: Execute, operate: Operate, case: str
) -> None:
    execute(_key(case, "on delete cascade"))
    # 12 to 17 leave the copies for referenced partitions as they were added: not validated.
    wanted = [row[:2] + row[3:5] + row[6:12] + row[13:] for row in execute(STRUCTURE)]
    execute("alter table log drop constraint k")
    execute(_key(case))
    operate(_change)
    found = [row[:2] + row[3:5] + row[6:12] + row[13:] for row in execute(STRUCTURE)]
    assert found == wanted


def test_the_new_rule_is_in_force(execute: Execute, operate: Operate, case: str) -> None:
    if "without" in case:
        pytest.skip("it has no row")
    execute(_key(case))
    operate(_change)
    target = "log" if case.endswith("itself") else "letter"
    execute(f"delete from {target} where id in (5, 25, 35)")
    assert execute("select count(*) from log where letter_id in (5, 25, 35)") == [(0,)]
    assert execute("select count(*) from log") == [(37,)]
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        execute("insert into log values (0, 99)")


def test_the_leaves_own_keys_become_the_copies_and_no_row_is_read_again(
    execute: Execute, operate: Operate, engine: Engine
) -> None:
    execute(CASES["from a partitioned table"] + ROWS + _key(""))
    validated: list[tuple[object, ...]] = []

    def before(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("alter table only public.log drop"):
            cursor.execute(
                "select conrelid::regclass::text, oid from pg_catalog.pg_constraint"
                " where conname = 'k_fkdoctor' and convalidated order by 1"
            )
            validated.extend(cursor.fetchall())

    event.listen(engine, "before_cursor_execute", before)
    operate(_change)
    copies = execute(
        "select conrelid::regclass::text, oid from pg_constraint where conname = 'k'"
        " and conrelid::regclass::text in (select relname::text from pg_class where relkind = 'r'"
        " union select '\"Log 2b\"') order by 1"
    )
    assert len(validated) == 3
    assert [oid for _, oid in copies] == [oid for _, oid in validated]


def test_at_no_moment_can_a_dangling_row_be_written(
    execute: Execute, engine: Engine, operate: Operate, database_url: str, case: str
) -> None:
    if "without" in case:
        pytest.skip("it takes no row")
    execute(_key(case))
    outcomes: set[str] = set()
    with closing(psycopg2.connect(database_url)) as writer, writer.cursor() as cursor:
        writer.autocommit = True
        cursor.execute("set lock_timeout = '10ms'")

        here = threading.current_thread()

        def attempt(*_: object) -> None:
            # The watcher's statements are told too, in its own thread.
            for row in ("(0, -1)", "(95, -1)") if threading.current_thread() is here else ():
                try:
                    cursor.execute(f"insert into log values {row}")
                    outcomes.add("written")
                except (
                    psycopg2.errors.ForeignKeyViolation,
                    psycopg2.errors.LockNotAvailable,
                ) as error:
                    outcomes.add(type(error).__name__)

        event.listen(engine, "after_cursor_execute", attempt)
        operate(_change)
        operate(_restore)
    assert execute("select count(*) from log where letter_id < 0") == [(0,)]
    assert outcomes == {"ForeignKeyViolation", "LockNotAvailable"}


def test_a_partition_that_comes_meanwhile_gets_a_shadow_too(
    execute: Execute, engine: Engine, operate: Operate
) -> None:
    execute(CASES["from a partitioned table"] + ROWS + _key(""))
    done: list[bool] = []

    def before(connection: Any, cursor: object, statement: str, *_: object) -> None:
        # All shadows are there and checked: the last transaction is about to begin.
        if not done and "drop constraint" in _next_of(execute) and statement == "begin":
            done.append(True)
            execute("create table log_3 partition of log for values from (100) to (200)")

    event.listen(engine, "before_cursor_execute", before)
    operate(_change)
    assert done
    rules = execute("select confdeltype::text, convalidated, conname::text from pg_constraint"
                    " where contype = 'f'")  # fmt: skip
    assert rules == [("c", True, "k")] * 6


def _next_of(execute: Execute) -> str:
    """What the next transaction will do, by what is there."""
    shadows = execute("select convalidated from pg_constraint where conname = 'k_fkdoctor'")
    return "drop constraint" if shadows == [(True,)] * 3 else "something else"


def test_dangling_rows_of_one_leaf_are_named_and_no_shadow_stays(
    execute: Execute, operate: Operate, dump: Callable[[], str], case: str, superuser: None
) -> None:
    if "without" in case:
        pytest.skip("it has no row")
    execute(_key(case))
    execute("set session_replication_role = replica; insert into log values (0, 77)")
    before = dump(), execute(STRUCTURE)
    with pytest.raises(Refused) as caught:
        operate(_change)
    assert "→ 77." in caught.value.why
    assert (dump(), execute(STRUCTURE)) == before


def test_a_key_of_somebody_else_under_a_leafs_shadows_name_is_left_alone(
    execute: Execute, operate: Operate
) -> None:
    execute(CASES["from a partitioned table"] + _key(""))
    execute("alter table log_1 add constraint k_fkdoctor foreign key (letter_id) references letter")
    before = execute(STRUCTURE)
    with pytest.raises(Blocked, match=r"public\.log_1"):
        operate(_change)
    assert execute(STRUCTURE) == before


def test_a_partition_of_somebody_else_is_refused_by_name(
    execute: Execute, operate_at: Operate, database_url: str, superuser: None
) -> None:
    execute(CASES["from a partitioned table"] + _key(""))
    role = str(execute("select 'fkd_role_' || md5(current_database())")[0][0])
    execute(f"create role {role}; alter table log owner to {role}; grant all on letter to {role}")
    try:
        with pytest.raises(Refused, match="may not alter public") as caught:
            operate_at(make_dsn(database_url, options=f"-c role={role}"), _change)
        assert "log_" in caught.value.what or "Log" in caught.value.what
    finally:
        execute(f"reassign owned by {role} to current_user; drop owned by {role}; drop role {role}")


@pytest.mark.parametrize("untidy", UNTIDY_ON_12)
def test_on_12_keys_between_partitioned_tables_are_refused(
    execute: Execute, operate: Operate, major: int, untidy: str
) -> None:
    if major != 12:
        pytest.skip("PostgreSQL 12")
    execute(CASES[untidy] + _key(untidy))
    before = execute(STRUCTURE)
    with pytest.raises(FkdoctorError, match="both partitioned"):
        operate(_change)
    assert execute(STRUCTURE) == before


def test_a_key_that_is_not_valid_or_not_enforced_stays_so(
    execute: Execute, operate: Operate, dump: Callable[[], str], major: int, case: str
) -> None:
    if major < 18 and not case.startswith("to "):
        pytest.skip("PostgreSQL 18 and newer")
    for ending in ("not valid", "not enforced") if major >= 18 else ("not valid",):
        execute(_key(case, ending))
        before, structure = dump(), execute(STRUCTURE)
        operate(_change)
        assert [row[5] for row in execute(STRUCTURE)] == [row[5] for row in structure]
        operate(_restore)
        assert (dump(), execute(STRUCTURE)) == (before, structure)
        execute("alter table log drop constraint k")


def test_every_leaf_is_told(
    execute: Execute, operate: Operate, caplog: pytest.LogCaptureFixture
) -> None:
    execute(CASES["from a partitioned table"] + _key(""))
    with caplog.at_level(logging.INFO, "fkdoctor.revise"):
        operate(_change)
    told = " ".join(record.getMessage() for record in caplog.records)
    assert all(f"public.{leaf}.k_fkdoctor" in told for leaf in ("log_1", "log_2a", '"Log 2b"'))


LOCKS = """
    select c.relname::text, l.mode from pg_catalog.pg_locks as l
    join pg_catalog.pg_class as c on c.oid = l.relation
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    where l.pid = pg_catalog.pg_backend_pid() and l.granted and n.nspname = 'public'
        and c.relkind in ('r', 'p')
        and l.mode in ('ShareUpdateExclusiveLock', 'ShareRowExclusiveLock', 'AccessExclusiveLock')
"""
SHARE_ROW, SHARE_UPDATE = "ShareRowExclusiveLock", "ShareUpdateExclusiveLock"
ACCESS = "AccessExclusiveLock"


def test_each_leaf_is_locked_by_itself_and_all_of_them_only_for_the_swap(
    execute: Execute, operate: Operate, engine: Engine
) -> None:
    execute(CASES["from a partitioned table"] + ROWS + _key(""))
    held: list[set[tuple[str, str]]] = []

    def before(connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement == "commit":
            cursor.execute(LOCKS)
            found = set(cursor.fetchall())
            # Before a stronger one that one is taken.
            first = {(table, SHARE_UPDATE) for table, mode in found if mode != SHARE_UPDATE}
            held.append(found - first)

    event.listen(engine, "before_cursor_execute", before)
    operate(_change)
    leaves = ("log_1", "log_2a", "Log 2b")
    everything = ("letter", "log", "log_2", *leaves)
    strongest = [{(table, mode) for table, mode in locks} for locks in held]
    assert sorted(strongest[:3], key=str) == sorted(
        ({("letter", SHARE_ROW), (leaf, SHARE_ROW)} for leaf in leaves), key=str
    )
    assert sorted(strongest[3:6], key=str) == sorted(
        ({(leaf, SHARE_UPDATE)} for leaf in leaves), key=str
    )
    swap = {(table, mode) for table, mode in strongest[6] if mode == ACCESS}
    assert swap == {(table, ACCESS) for table in everything}
    assert len(strongest) == 7


def _index(op: Operations) -> None:
    op.add_reference_index("log", ["letter_id"], schema="public")


def _drop_index(op: Operations) -> None:
    op.drop_reference_index("log", ["letter_id"], schema="public")


INDEXES = """
    select i.indrelid::regclass::text, c.relname::text, i.indisvalid
    from pg_index as i join pg_class as c on c.oid = i.indexrelid
    where c.relnamespace = 'public'::regnamespace order by 1, 2
"""


def test_an_index_is_built_leaf_by_leaf_and_then_made_one(
    execute: Execute, operate: Operate, dump: Callable[[], str], engine: Engine
) -> None:
    execute(CASES["from a partitioned table"] + ROWS + _key(""))
    before = dump()
    built: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "create index" in statement:
            built.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    operate(_index)
    assert [line for line in execute(INDEXES) if "letter_id" in str(line[1])] == [
        ('"Log 2b"', "Log 2b_letter_id_idx", True),
        ("log", "log_letter_id_idx", True),
        ("log_1", "log_1_letter_id_idx", True),
        ("log_2", "log_2_letter_id_idx", True),
        ("log_2a", "log_2a_letter_id_idx", True),
    ]
    assert sum("concurrently" in line for line in built) == 3
    assert len(built) == 4
    once = dump()
    operate(_index)
    assert dump() == once
    execute("create table log_3 partition of log for values from (100) to (200)")
    assert ("log_3", "log_3_letter_id_idx", True) in execute(INDEXES)
    execute("drop table log_3")
    operate(_drop_index)
    assert dump() == before


def test_a_leafs_own_index_is_left_and_the_others_get_one(
    execute: Execute, operate: Operate, dump: Callable[[], str]
) -> None:
    execute(CASES["from a partitioned table"] + ROWS + _key(""))
    execute("create index theirs on log_1 (letter_id)")
    before = dump()
    operate(_index)
    assert {str(line[1]) for line in execute(INDEXES) if "og" in str(line[0])[:4]} == {
        "theirs",
        "log_2a_letter_id_idx",
        "Log 2b_letter_id_idx",
    }
    once = dump()
    operate(_index)
    assert dump() == once
    operate(_drop_index)
    assert dump() == before


def test_any_plain_index_is_built_leaf_by_leaf(
    execute: Execute, operate: Operate, dump: Callable[[], str]
) -> None:
    execute(CASES["from a partitioned table"] + ROWS)
    before = dump()

    def build(**wish: Any) -> Callable[[Operations], None]:
        return lambda op: op.build_index("by_letter", "log", ["letter_id", "id"], **wish)

    for _ in range(2):
        operate(build())
        assert [line for line in execute(INDEXES) if line[1] == "by_letter"] == [
            ("log", "by_letter", True)
        ]
        assert sum("letter_id_id" in str(line[1]) for line in execute(INDEXES)) == 4
    with pytest.raises(Blocked, match="is taken"):
        operate(lambda op: op.build_index("by_letter", "log", ["letter_id"]))
    with pytest.raises(Refused, match="cannot be built on public"):
        operate(build(unique=True))
    for _ in range(2):
        operate(lambda op: op.remove_index("by_letter", "log", ["letter_id", "id"]))
        assert dump() == before
