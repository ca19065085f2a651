"""Others at work on the same rows: nothing is lost, nobody waits for long, and no one is lied to.

Turns are taken by waiting until PostgreSQL says that a session is blocked, never by sleeping.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors
from sqlalchemy import Engine, event

from fkdoctor.errors import Incomplete, Refused, StalePlan, UndoConflict

Database = Any  # the fixture's class lives in conftest.py

TABLES = """
    create table letter (id int primary key, same text, note text);
    create table recommendation (id int primary key, letter_id int references letter
        on delete {action}, note text);
    create index on recommendation (letter_id);
    insert into letter values (1, 'a', ''), (2, 'a', ''), (3, 'b', ''), (4, 'b', ''), (5, 'c', '');
    insert into recommendation values (1, 1, ''), (2, 2, ''), (3, 3, ''), (4, 4, ''), (5, 5, '');
"""
SIMPLE = TABLES.format(action="cascade")

# How the statements of a batch begin, in their order.
LOCK, REPOINT, DELETE = "SELECT %(param_1)s", "WITH moved", "WITH gone"
RESTORE, POINT_BACK = "INSERT INTO", "WITH back AS"

PATIENT = 60_000


class Session:
    """Somebody else, whose statements run beside the test's own."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.connection = psycopg2.connect(db.url)
        self.pool = ThreadPoolExecutor(1)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows, once they are there."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def start(self, statement: str) -> Future[list[tuple[Any, ...]]]:
        """The rows to be, when the session has come to wait for another one."""
        future = self.pool.submit(self.run, statement)
        wait_until_blocked(self.db, self.connection.info.backend_pid, future)
        return future

    def commit(self) -> None:
        self.connection.commit()

    def close(self) -> None:
        self.connection.close()
        self.pool.shutdown()


def wait_until_blocked(db: Database, pid: int, future: Future[Any]) -> None:
    while not db.execute("select pg_blocking_pids(%s) <> '{}'", (pid,))[0][0]:
        assert not future.done(), future.result()


@pytest.fixture
def other(db: Database) -> Iterator[Session]:
    session = Session(db)
    yield session
    session.close()


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


class Moment:
    """Once, right before or right after a statement that begins so, does what it is told."""

    def __init__(self, words: str, do: Callable[[], object], *, after: bool = False) -> None:
        self.words, self.do, self.name = (
            words,
            do,
            f"{'after' if after else 'before'}_cursor_execute",
        )
        self.come = False

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, self.name, self.see)

    def see(self, connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if not self.come and statement.startswith(self.words):
            self.come = True
            self.do()


def apply_until_blocked(
    db: Database,
    pool: ThreadPoolExecutor,
    work: Callable[..., Any],
    *arguments: Any,
    tried_again: list[object] | None = None,
    **options: Any,
) -> Future[Any]:
    """What `work`, which is now waiting for another session, will have done."""
    pid: Future[int] = Future()

    def see(engine: Engine) -> None:
        event.listen(engine, "connect", lambda it, _: pid.set_result(it.info.backend_pid))
        if tried_again is not None:
            event.listen(engine, "rollback", tried_again.append)

    future = pool.submit(work, *arguments, lock_timeout=PATIENT, watch=see, **options)
    wait_until_blocked(db, pid.result(), future)
    return future


ACTIONS = ("cascade", "set null", "no action")


@pytest.mark.parametrize(
    ("action", "isolation"),
    [
        *((action, "read committed") for action in ACTIONS),
        ("cascade", "repeatable read"),
        ("cascade", "serializable"),
    ],
)
def test_a_reference_that_was_begun_before_moves(
    db: Database, other: Session, beside: ThreadPoolExecutor, action: str, isolation: str
) -> None:
    db.execute(TABLES.format(action=action))
    path = db.plan()
    other.run("insert into recommendation values (6, 2, 'new')")
    options = "-c default_transaction_isolation=" + isolation.replace(" ", "\\ ")
    tried_again: list[object] = []
    applied = apply_until_blocked(
        db, beside, db.apply, path, tried_again=tried_again, options=options
    )
    other.commit()
    done = applied.result()
    assert (done.deleted, done.repointed) == (2, 3)
    assert not tried_again
    assert db.execute("select letter_id from recommendation where id = 6") == [(1,)]


@pytest.mark.parametrize(
    ("action", "moment"),
    [
        *((action, (LOCK, True)) for action in ACTIONS),
        ("cascade", (REPOINT, False)),
        ("cascade", (DELETE, False)),
        ("cascade", (DELETE, True)),
    ],
)
def test_a_reference_that_comes_after_the_lock_fails(
    db: Database, other: Session, action: str, moment: tuple[str, bool]
) -> None:
    db.execute(TABLES.format(action=action))
    path, late = db.plan(), []
    insert = "insert into recommendation values (6, 2, 'new')"
    words, after = moment
    watch = Moment(words, lambda: late.append(other.start(insert)), after=after)
    assert db.apply(path, lock_timeout=PATIENT, watch=watch).repointed == 2
    with pytest.raises(errors.ForeignKeyViolation):
        late[0].result()


def test_a_reference_to_the_survivor_waits_and_stays(db: Database, other: Session) -> None:
    db.execute(SIMPLE)
    path, late = db.plan(), []
    insert = "insert into recommendation values (6, 1, 'new')"
    watch = Moment(DELETE, lambda: late.append(other.start(insert)))
    db.apply(path, lock_timeout=PATIENT, watch=watch)
    late[0].result()
    other.commit()
    assert db.execute("select letter_id from recommendation where id = 6") == [(1,)]


@pytest.mark.parametrize(
    ("change", "end"),
    [
        ("update letter set note = 'new' where id = 2", "commit"),
        ("update letter set note = 'new' where id = 2", "rollback"),
        ("update letter set note = 'new' where id = 1", "commit"),
        ("update letter set id = 20 where id = 1", "commit"),
        ("delete from letter where id = 2", "commit"),
        ("delete from letter where id = 1", "commit"),
    ],
)
def test_a_row_that_changes_just_before_leaves_its_cluster_alone(
    db: Database, other: Session, beside: ThreadPoolExecutor, change: str, end: str
) -> None:
    db.execute(
        SIMPLE + "alter table recommendation drop constraint recommendation_letter_id_fkey, "
        "add foreign key (letter_id) references letter on delete cascade on update cascade"
    )
    path = db.plan()
    other.run(change)
    applied = apply_until_blocked(db, beside, db.apply, path)
    other.run(end)
    done = applied.result()
    if end == "rollback":
        assert (done.deleted, done.stale) == (2, ())
        return
    assert (done.deleted, done.stale) == (1, (1,))
    # What the other one did is all that happened to the first cluster.
    assert db.execute("select count(*) from letter where same = 'a'") == [
        (1 if change.startswith("delete") else 2,)
    ]


def test_another_change_of_a_referencing_row_is_kept(
    db: Database, other: Session, beside: ThreadPoolExecutor
) -> None:
    db.execute(SIMPLE)
    path = db.plan()
    other.run("update recommendation set note = 'new' where id = 2")
    applied = apply_until_blocked(db, beside, db.apply, path)
    other.commit()
    assert applied.result().repointed == 2
    assert db.execute("select letter_id, note from recommendation where id = 2") == [(1, "new")]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("delete from recommendation where id = 2", []),
        ("update recommendation set letter_id = 5 where id = 2", [(5,)]),
        ("update recommendation set letter_id = null where id = 2", [(None,)]),
    ],
)
def test_a_reference_that_leaves_meanwhile_is_left_alone(
    db: Database, other: Session, beside: ThreadPoolExecutor, change: str, left: list[Any]
) -> None:
    db.execute(SIMPLE)
    path = db.plan()
    other.run(change)
    applied = apply_until_blocked(db, beside, db.apply, path)
    other.commit()
    assert applied.result().repointed == 1
    assert db.execute("select letter_id from recommendation where id = 2") == left


def test_a_referencing_row_whose_key_changes_meanwhile_is_not_lost(
    db: Database, other: Session, beside: ThreadPoolExecutor
) -> None:
    db.execute(SIMPLE)
    path = db.plan()
    other.run("update recommendation set id = 20 where id = 2")
    applied = apply_until_blocked(db, beside, db.apply, path)
    other.commit()
    try:
        applied.result()
    except Refused:
        db.apply(path)
    assert db.execute("select letter_id from recommendation where id = 20") == [(1,)]


def test_readers_and_writers_of_other_rows_do_not_wait(db: Database, other: Session) -> None:
    db.execute(SIMPLE)
    path, seen = db.plan(), []

    def look() -> None:
        other.run("set lock_timeout = 1; set statement_timeout = '20s'")
        seen.append(other.run("select count(*) from letter"))
        seen.append(other.run("select count(*) from recommendation where letter_id = 2"))
        other.run("update letter set note = 'new' where id = 5")
        other.run("insert into recommendation values (6, 5, 'new')")
        other.commit()

    db.apply(path, watch=Moment(DELETE, look, after=True))
    assert seen == [[(5,)], [(1,)]]
    assert db.execute("select note from letter where id = 5") == [("new",)]


def test_one_plan_applied_twice_at_once_is_applied_once(
    db: Database, beside: ThreadPoolExecutor
) -> None:
    db.execute(SIMPLE)
    before, path, barrier = db.contents(), db.plan(), Barrier(2)

    def apply() -> Any:
        watch = Moment("-- Let nobody undo this run", barrier.wait)
        return db.apply(path, batch_size=1, lock_timeout=PATIENT, watch=watch)

    done = [future.result() for future in [beside.submit(apply) for _ in range(2)]]
    assert [(each.deleted, each.repointed, each.stale) for each in done] == [(2, 2, ())] * 2
    assert db.execute("select id, deleted, repointed from fkdoctor.run") == [(1, 2, 2)]
    db.undo()
    assert db.contents() == before


def test_two_plans_over_the_same_rows_at_once_merge_each_row_once(
    db: Database, beside: ThreadPoolExecutor
) -> None:
    db.execute(SIMPLE)
    db.execute("alter table letter add column place int generated always as (-id) stored")
    barrier = Barrier(2)
    before, up = db.contents(), db.plan()
    # The other plan keeps the rows that this one deletes.
    lines = up.read_text().splitlines()
    down = up.with_name("down.plan.jsonl")
    clusters = [json.loads(line) for line in lines[1:]]
    for cluster in clusters:
        cluster["survivor"], cluster["duplicates"] = (
            cluster["duplicates"][0],
            [cluster["survivor"]],
        )
    head = json.loads(lines[0]) | {"id": "down"}
    down.write_text("\n".join(json.dumps(line) for line in (head, *clusters)) + "\n")

    def apply(path: Any) -> Any:
        watch = Moment(LOCK, barrier.wait)
        return db.apply(path, batch_size=2, lock_timeout=PATIENT, watch=watch)

    done = [future.result() for future in [beside.submit(apply, path) for path in (up, down)]]
    assert sorted((each.deleted, each.stale) for each in done) == [(0, (1, 2)), (2, ())]
    assert db.execute("select same from letter order by same") == [("a",), ("b",), ("c",)]
    assert db.execute("select count(*) from recommendation") == [(5,)]
    db.undo(1)
    db.undo(2)
    assert db.contents() == before


def test_who_waits_too_long_is_told_to_run_again(db: Database, other: Session) -> None:
    db.execute(SIMPLE)
    before, path = db.contents(), db.plan()
    other.run("select from letter where id = 2 for update")
    with pytest.raises(Incomplete, match="somebody else held the rows") as stopped:
        db.apply(path, lock_timeout=10)
    assert "lock timeout" in stopped.value.why
    assert db.contents() == before
    other.commit()
    assert db.apply(path).deleted == 2


def test_a_lock_that_is_let_go_in_time_is_waited_for(db: Database, other: Session) -> None:
    db.execute(SIMPLE)
    path = db.plan()
    other.run("select from letter where id = 2 for update")
    tries = []

    def count(engine: Engine) -> None:
        event.listen(engine, "rollback", lambda connection: tries.append(1) or let_go())

    def let_go() -> None:
        if len(tries) == 2:
            other.commit()

    assert db.apply(path, lock_timeout=10, watch=count).deleted == 2
    assert len(tries) == 2


def test_after_a_deadlock_the_batch_is_tried_again(
    db: Database, other: Session, superuser: None
) -> None:
    db.execute(SIMPLE)
    path, late = db.plan(), []
    other.run("set deadlock_timeout = '60s'; update recommendation set note = 'new' where id = 4")
    reference = "insert into recommendation values (6, 4, 'late')"
    # It waits for our letter, then we for its recommendation; it is we who notice.
    watch = Moment(REPOINT, lambda: late.append(other.start(reference)))
    rolled_back = []

    def see(engine: Engine) -> None:
        watch(engine)
        event.listen(engine, "rollback", lambda connection: (late[0].result(), other.commit()))
        event.listen(engine, "rollback", rolled_back.append)

    done = db.apply(path, lock_timeout=PATIENT, watch=see, options="-c deadlock_timeout=10ms")
    assert len(rolled_back) == 1
    assert (done.deleted, done.repointed) == (2, 3)
    assert db.execute("select letter_id, note from recommendation where id in (4, 6)") == [
        (3, "new"),
        (3, "late"),
    ]


def test_a_statement_that_is_cancelled_is_told(db: Database, other: Session) -> None:
    db.execute(SIMPLE)
    before, path = db.contents(), db.plan()
    other.run("select from letter where id = 2 for update")
    with pytest.raises(Incomplete, match="a statement was cancelled") as stopped:
        db.apply(path, lock_timeout=PATIENT, options="-c statement_timeout=300")
    assert "statement timeout" in stopped.value.why
    assert "statement_timeout" in stopped.value.next
    assert db.contents() == before


@pytest.mark.parametrize("moment", [REPOINT, DELETE])
def test_a_key_that_is_added_meanwhile_loses_no_row(
    db: Database, other: Session, moment: str
) -> None:
    db.execute(SIMPLE)
    path = db.plan()

    def add() -> None:
        other.run("create table visit (id int primary key, letter_id int)")
        other.run("insert into visit values (1, 2)")
        other.run(
            "alter table visit add foreign key (letter_id) references letter on delete cascade"
        )
        other.commit()

    with pytest.raises(StalePlan, match="nothing of this batch was changed") as refused:
        db.apply(path, lock_timeout=PATIENT, watch=Moment(moment, add))
    assert "A foreign key to public.letter was added" in refused.value.why
    assert db.execute("select * from visit") == [(1, 2)]
    assert db.execute("select count(*) from letter") == [(5,)]


def test_a_key_that_is_added_between_batches_stops_the_run(db: Database, other: Session) -> None:
    db.execute(SIMPLE)
    before, path, batches = db.contents(), db.plan(), []

    def add(connection: object) -> None:
        if db.execute("select count(*) from fkdoctor.redirect") == [(1,)] and not batches:
            batches.append(1)
            other.run(
                "create table visit (id int primary key, letter_id int references letter "
                "on delete cascade); insert into visit values (1, 4)"
            )
            other.commit()

    with pytest.raises(Incomplete, match="Stopped after 1 of 2 clusters"):
        db.apply(path, batch_size=1, watch=lambda engine: event.listen(engine, "begin", add))
    assert db.execute("select * from visit") == [(1, 4)]
    db.undo()
    assert {**db.contents(), '"public"."visit"': []} == {**before, '"public"."visit"': []}


def test_a_column_that_is_added_meanwhile_is_not_lost(db: Database) -> None:
    db.execute(SIMPLE)
    path = db.plan()

    def add() -> None:
        db.execute("alter table letter add column more int; update letter set more = id")

    done = db.apply(path, watch=Moment("-- Let nobody undo this run", add))
    assert (done.deleted, done.stale) == (0, (1, 2))
    assert db.execute("select sum(more) from letter") == [(15,)]


@pytest.mark.parametrize(
    ("moment", "change"),
    [
        (POINT_BACK, "update recommendation set letter_id = 5 where id = 2"),
        (POINT_BACK, "delete from recommendation where id = 2"),
        (RESTORE, "insert into letter values (2, 'new', '')"),
    ],
)
def test_undo_overwrites_nothing_that_changes_while_it_looks(
    db: Database, moment: str, change: str
) -> None:
    db.execute(SIMPLE)
    db.merge()
    changed = Moment(moment, lambda: db.execute(change))
    with pytest.raises(UndoConflict):
        db.undo(watch=changed)
    assert changed.come
    assert db.status() == "applied"
    assert db.execute("select count(*) from letter where id = 4") == [(0,)]
    back = db.undo(partly=True)
    assert (back.restored, back.kept) == (1, (1,))


MARKS = (
    SIMPLE
    + """
    create table mark (id int primary key, letter_id int references letter, tag text, note text,
        unique (letter_id, tag));
    create table remark (id int primary key, mark_id int references mark on delete cascade);
    insert into mark values (1, 1, 'p'), (2, 2, 'p'), (3, 2, 'q'), (4, 3, 'p'), (5, 4, 'q');
    insert into remark values (1, 1), (2, 2), (3, 3);
    """
)


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        # A row that does not move comes to stand where another one moves to.
        ("insert into mark values (9, 5, 'q'); update mark set tag = 'q' where id = 4", (2,)),
        ("update mark set tag = 'q' where id = 4", (2,)),
        ("update mark set note = 'new' where id = 4", ()),
    ],
)
def test_a_row_that_comes_to_collide_on_the_way_leaves_its_cluster_alone(
    db: Database, change: str, stale: tuple[int, ...]
) -> None:
    db.execute(MARKS)
    path = db.plan()
    late = Moment(REPOINT, lambda: db.execute(change))
    done = db.apply(path, watch=late)
    assert late.come
    assert done.stale == stale
    assert db.execute("select id from letter order by id")[0] == (1,)
    db.undo(done.run_id)
    assert len(db.execute("select * from letter")) == 5


def test_a_reference_to_a_row_that_collides_waits_and_is_refused(
    db: Database, other: Session, beside: ThreadPoolExecutor
) -> None:
    db.execute(MARKS)
    path = db.plan()
    waiting: list[Future[Any]] = []

    def refer() -> None:
        waiting.append(other.start("insert into remark values (9, 2)"))

    done = db.apply(path, watch=Moment(DELETE, refer))
    assert done.stale == ()
    with pytest.raises(errors.ForeignKeyViolation):
        waiting[0].result()
    assert db.execute("select * from remark order by id") == [(1, 1), (2, 1), (3, 3)]


@pytest.mark.parametrize("row", [1, 2])
def test_a_change_to_a_row_that_collides_is_waited_for_and_seen(
    db: Database, other: Session, beside: ThreadPoolExecutor, row: int
) -> None:
    db.execute(MARKS)
    path = db.plan()
    other.run(f"update mark set note = 'changed' where id = {row}")
    merged = apply_until_blocked(db, beside, db.apply, path)
    other.commit()
    assert merged.result().stale == (1,)
    assert db.execute(f"select note from mark where id = {row}") == [("changed",)]


def test_undo_waits_for_whoever_changes_a_reference(
    db: Database, other: Session, beside: ThreadPoolExecutor
) -> None:
    db.execute(SIMPLE)
    before = db.contents()
    db.merge()
    other.run("update recommendation set letter_id = 5 where id = 2")
    undone = apply_until_blocked(db, beside, db.undo)
    other.run("rollback")
    assert undone.result().restored == 2
    assert db.contents() == before


def test_one_run_undone_twice_at_once_is_undone_once(
    db: Database, beside: ThreadPoolExecutor
) -> None:
    db.execute(SIMPLE)
    before, barrier = db.contents(), Barrier(2)
    db.merge()

    def undo() -> Any:
        watch = Moment("-- Let nobody else work", barrier.wait)
        return db.undo(batch_size=1, lock_timeout=PATIENT, watch=watch)

    done = [future.result() for future in [beside.submit(undo) for _ in range(2)]]
    assert sum(each.restored for each in done) == 2
    assert db.contents() == before
    assert db.status() == "undone"


def test_a_run_that_is_undone_while_it_is_applied_stops(db: Database) -> None:
    db.execute(SIMPLE)
    before, path, undone = db.contents(), db.plan(), []

    def undo(connection: object) -> None:
        if not undone and db.execute("select 1 from fkdoctor.redirect"):
            undone.append(db.undo())

    with pytest.raises(Incomplete, match="Stopped after 1 of 2 clusters") as stopped:
        db.apply(path, batch_size=1, watch=lambda engine: event.listen(engine, "begin", undo))
    assert "was taken back" in stopped.value.why
    assert db.contents() == before
    assert db.status() == "undone"
