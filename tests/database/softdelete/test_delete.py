"""What a soft delete takes, changes, leaves and refuses."""

from __future__ import annotations

from typing import Any

import pytest

from fkdoctor.errors import Blocked, ConfigError, Refused
from fkdoctor.softdelete.outcome import Taken

Database = Any  # the fixture's class lives in conftest.py

SOFT = "deleted_at timestamptz, deletion_id uuid"
SHOP = f"""
    create table customer (id int primary key, name text, {SOFT});
    create table purchase (id int primary key, {SOFT},
        customer int constraint of_customer references customer on delete cascade);
    create table line (purchase int constraint of_purchase references purchase on delete cascade,
        number int, note text, {SOFT}, primary key (purchase, number));
    create table visit (id int primary key, note text,
        customer int constraint by_customer references customer on delete set null);
    insert into customer values (1, 'a'), (2, 'b'), (3, 'c');
    insert into purchase (id, customer) values (10, 1), (11, 1), (20, 2);
    insert into line values (10, 1), (10, 2), (11, 1), (20, 1);
    insert into visit values (100, 'x', 1), (101, 'y', 1), (200, 'z', 2);
"""


def test_rows_go_with_what_references_them_and_one_deletion_says_so(db: Database) -> None:
    db.execute(SHOP)
    done = db.delete("customer", "name = 'a'", reason="asked to leave")
    assert {(str(taken.table), taken.rows, taken.via) for taken in done.taken} == {
        ("public.customer", 1, ()),
        ("public.purchase", 2, ("public.purchase.of_customer",)),
        ("public.line", 3, ("public.line.of_purchase",)),
    }
    ((change,)) = done.changes
    assert (change.key, change.columns, change.rows) == (
        "public.visit.by_customer",
        ("customer",),
        2,
    )
    for table, rows in (("customer", 1), ("purchase", 2), ("line", 3)):
        assert db.execute(
            f"""select count(*) from {table} join fkdoctor.deletion as d
            on d.id = deletion_id and d.deleted_at = {table}.deleted_at"""
        ) == [(rows,)]
    assert db.execute("select id, customer from visit order by id") == [
        (100, None),
        (101, None),
        (200, 2),
    ]
    assert db.execute(
        """select id::text, table_name, selection, reason, deleted_by = session_user, restored_at
        from fkdoctor.deletion"""
    ) == [(done.id, "customer", "name = 'a'", "asked to leave", True, None)]


def test_a_preview_says_the_same_and_changes_nothing(db: Database) -> None:
    db.execute(SHOP)
    before = db.contents()
    preview = db.preview("customer", "id < 3")
    assert db.contents() == before
    assert db.execute("select count(*) from fkdoctor.deletion") == [(0,)]
    assert preview.id is None
    done = db.delete("customer", "id < 3")
    assert (preview.taken, preview.changes) == (done.taken, done.changes)


def test_rows_that_are_deleted_already_are_not_stamped_again(db: Database) -> None:
    db.execute(SHOP)
    first = db.delete("purchase", None, "10")
    second = db.delete("customer", None, "1")
    assert [(taken.rows, str(taken.table)) for taken in second.taken] == [
        (1, "public.customer"),
        (1, "public.purchase"),
        (1, "public.line"),
    ]
    assert db.execute(
        "select id, deletion_id::text from purchase where deletion_id is not null order by id"
    ) == [(10, first.id), (11, second.id)]
    third = db.delete("customer", "id = 1")
    assert (third.id, third.rows, third.already_deleted) == (None, 0, 1)
    assert db.execute("select count(*) from fkdoctor.deletion") == [(2,)]


def test_keys_name_rows_also_composite_ones_and_those_that_are_missing_are_counted(
    db: Database,
) -> None:
    db.execute(SHOP)
    done = db.delete("line", None, "10, 2", "11,1", "99,1")
    assert (done.rows, done.missing) == (2, 1)
    assert db.execute(
        "select purchase, number from line where deleted_at is not null order by 1"
    ) == [(10, 2), (11, 1)]


@pytest.mark.parametrize(
    ("where", "keys", "told"),
    [
        (None, (), "Nothing says"),
        ("id = 1", ("1",), "Two things"),
        (None, ("1,2",), "cannot compute"),
        (None, ("x",), "cannot compute"),
        ("1 = 1", (), "cannot be used"),
        ("id in (select 1)", (), "cannot be used"),
        ("wrong = 1", (), "names wrong"),
        ("name / 0 = 1", (), "cannot compute"),
        ("id = 1; drop table line", (), "cannot be used"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(
    db: Database, where: str | None, keys: tuple[str, ...], told: str
) -> None:
    db.execute(SHOP)
    before = db.contents()
    with pytest.raises(ConfigError, match=told):
        db.delete("customer", where, *keys)
    assert db.contents() == before


def test_a_key_of_too_few_values_is_refused(db: Database) -> None:
    db.execute(SHOP)
    with pytest.raises(ConfigError, match="'10' does not fit") as caught:
        db.delete("line", None, "10")
    assert "purchase, number" in caught.value.why


@pytest.mark.parametrize("rule", ["no action", "restrict", "no action deferrable"])
def test_live_rows_that_reference_by_no_action_or_restrict_are_named(
    db: Database, rule: str
) -> None:
    on_delete, _, late = rule.partition(" deferrable")
    db.execute(
        SHOP
        + f"""create table invoice (id int primary key, {SOFT}, line int, purchase int,
            constraint of_line foreign key (purchase, line) references line (purchase, number)
            on delete {on_delete} {"deferrable" if late else ""});
        insert into invoice (id, purchase, line) select n, 10, 1 from generate_series(1, 12) as n;
        insert into invoice (id, purchase) values (13, 10)"""
    )
    before = db.contents()
    preview = db.preview("customer", "id = 1")
    with pytest.raises(Blocked) as caught:
        db.delete("customer", "id = 1")
    assert "public.invoice.of_line: ON DELETE " in caught.value.why
    assert "public.invoice (1), (2)" in caught.value.why
    assert "(10) and 2 more." in caught.value.why
    assert [obstacle.subject for obstacle in preview.obstacles] == ["public.invoice.of_line"]
    assert db.contents() == before
    # Deleted ones are no hindrance, and neither are those that go too.
    db.execute("update invoice set deleted_at = now()")
    assert db.delete("customer", "id = 1").rows == 6


def test_a_row_that_goes_by_one_key_does_not_hinder_by_another(db: Database) -> None:
    db.execute(
        f"""create table a (id int primary key, {SOFT});
        create table b (id int primary key, {SOFT}, a int references a on delete cascade);
        create table c (id int primary key, {SOFT}, a int references a on delete restrict,
            b int references b on delete cascade);
        insert into a values (1); insert into b (id, a) values (1, 1);
        insert into c (id, a, b) values (1, 1, 1)"""
    )
    assert db.delete("a", "id = 1").rows == 3


def test_a_table_without_the_columns_under_a_cascade_is_named_with_what_to_type(
    db: Database,
) -> None:
    db.execute(
        SHOP
        + """create table note (id int primary key, customer int
            constraint about references customer on delete cascade);
        insert into note values (1, 2), (2, 2)"""
    )
    before = db.contents()
    with pytest.raises(Blocked) as caught:
        db.delete("customer", "id = 2")
    assert "public.note: it has no column deleted_at, deletion_id; about (CASCADE) reaches" in (
        caught.value.why
    )
    assert "public.note (1), (2)" in caught.value.why
    assert caught.value.next == 'In a revision: op.add_soft_delete("note", schema="public")'
    assert db.contents() == before
    assert db.delete("customer", "id = 1").rows == 6


def test_an_old_soft_delete_without_a_deletion_id_is_told_what_to_add(db: Database) -> None:
    db.execute("create table letter (id int primary key, deleted_at timestamptz)")
    with pytest.raises(Blocked, match="something is in the way") as caught:
        db.preview("letter", "id = 1")
    assert "it has no column deletion_id" in caught.value.why
    assert 'op.add_soft_delete("letter", schema="public")' in caught.value.next


def test_set_default_is_remembered_and_may_not_lead_to_a_deleted_row(db: Database) -> None:
    db.execute(
        f"""create table a (id int primary key, {SOFT});
        create table b (id int primary key, a int default 1
            constraint k references a on delete set default);
        insert into a values (1), (2), (3); insert into b values (1, 2), (2, 3), (3, 1)"""
    )
    done = db.delete("a", "id = 2")
    assert db.execute("select a from b order by id") == [(1,), (3,), (1,)]
    db.restore(done.id)
    assert db.execute("select a from b order by id") == [(2,), (3,), (1,)]
    before = db.contents()
    for where in ("id < 3", "id = 1"):
        with pytest.raises(Blocked, match="a default leads to a deleted row") as caught:
            db.delete("a", where)
        assert "public.b.k" in caught.value.why
        assert db.contents() == before


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (
            "create table b (id int primary key, a int not null references a on delete set null)",
            "is NOT NULL",
        ),
        ("create table b (id int, a int references a on delete set null)", "neither a primary key"),
        (
            "create table b (id int, a int references a on delete set null, primary key (id, a))",
            "is part of the key|is NOT NULL",
        ),
        (
            """create table b (id int primary key, a int references a on delete set null,
            foreign key (a) references a on delete cascade)""",
            "also belongs to|has no column",
        ),
        (
            """create table b (id int primary key, a int unique references a on delete set null);
            create table c (b int references b (a))""",
            "is itself referenced, by public.c",
        ),
        (
            """create table b (id int primary key, a int references a on delete set null);
            create rule r as on update to b do instead nothing""",
            "it rewrites the UPDATE",
        ),
    ],
)
def test_a_reference_that_could_not_be_set_or_not_be_put_back_is_refused_by_name(
    db: Database, table: str, reason: str
) -> None:
    db.execute(
        f"create table a (id int primary key, {SOFT}); insert into a values (1), (2); {table}; "
        "insert into b (id, a) values (1, 1)"
    )
    before = db.contents()
    with pytest.raises(Blocked) as caught:
        db.delete("a", "id = 1")
    assert any(part in caught.value.why for part in reason.split("|"))
    assert db.contents() == before
    assert db.delete("a", "id = 2").rows == 1


def test_only_the_columns_that_the_key_names_are_set(db: Database) -> None:
    if db.execute("show server_version_num")[0][0] < "150000":
        pytest.skip("SET NULL of some columns came with 15")
    db.execute(
        f"""create table a (tenant int, id int, primary key (tenant, id), {SOFT});
        create table b (id int primary key, tenant int not null, a int, foreign key (tenant, a)
            references a on delete set null (a));
        insert into a values (1, 1), (2, 1); insert into b values (1, 1, 1), (2, 2, 1)"""
    )
    before = db.contents()
    done = db.delete("a", "tenant = 1")
    assert db.execute("select tenant, a from b order by id") == [(1, None), (2, 1)]
    db.restore(done.id)
    assert db.contents() == before


def test_self_references_and_cycles_come_to_an_end(db: Database) -> None:
    db.execute(
        f"""create table a (id int primary key, {SOFT}, up int);
        create table b (id int primary key, {SOFT}, a int references a on delete cascade);
        alter table a add b int references b on delete cascade;
        insert into a (id, up) select n, case n when 1 then 60 else n - 1 end
            from generate_series(1, 60) as n;
        insert into b (id, a) values (1, 30); update a set b = 1 where id = 7;
        alter table a add foreign key (up) references a on delete cascade"""
    )
    before = db.contents()
    done = db.delete("a", "id = 20")
    assert done.rows == 61
    db.restore(done.id)
    assert db.contents() == before
    db.delete("a", "id = 20")
    assert db.purge(batch_size=7).rows == 61
    assert db.execute("select count(*) from a") == [(0,)]


def test_keys_are_compared_as_the_foreign_key_compares_them(db: Database) -> None:
    db.execute(
        f"""create table a (id char(5) primary key, {SOFT});
        create table b (id bigint primary key, a char(9) references a on delete cascade, {SOFT});
        create table c (id int primary key, b smallint references b on delete cascade, {SOFT});
        insert into a values ('x'), ('y'); insert into b values (1, 'x'), (2, 'y   ');
        insert into c values (1, 1), (2, 2)"""
    )
    done = db.delete("a", None, "y")
    assert done.rows == 3
    assert db.execute("select id from c where deleted_at is not null") == [(2,)]


def test_partitions_count_as_their_table(db: Database) -> None:
    db.execute(
        f"""create table a (id int primary key, {SOFT}) partition by range (id);
        create table a_1 partition of a for values from (0) to (10);
        create table a_2 partition of a for values from (10) to (20);
        create table b (id int, part int, a int references a on delete cascade, {SOFT},
            primary key (part, id)) partition by list (part);
        create table b_1 partition of b for values in (1);
        create table b_2 partition of b for values in (2);
        insert into a values (5), (15);
        insert into b values (1, 1, 5), (2, 2, 5), (3, 2, 15)"""
    )
    before = db.contents()
    done = db.delete("a", "id = 5")
    assert [(str(taken.table), taken.rows) for taken in done.taken] == [
        ("public.a", 1),
        ("public.b", 2),
    ]
    db.restore(done.id)
    assert db.contents() == before
    with pytest.raises(Blocked) as caught:
        db.delete("a_1", "id = 5")
    assert "it is a partition of public.a" in caught.value.why
    assert caught.value.next == "Name the whole table: public.a"


def test_rows_of_heirs_are_not_taken(db: Database) -> None:
    db.execute(
        f"""create table a (id int primary key, {SOFT});
        create table b (id int primary key, a int references a on delete cascade, {SOFT});
        create table heir () inherits (a); create table heir_of_b () inherits (b);
        insert into a values (1); insert into heir values (1);
        insert into b values (1, 1); insert into heir_of_b values (2, 1)"""
    )
    assert db.delete("a", "id = 1").rows == 2
    for heir in ("heir", "heir_of_b"):
        assert db.execute(f"select count(deleted_at) from {heir}") == [(0,)]


def test_names_in_need_of_quotes(db: Database) -> None:
    db.execute(
        f"""create schema "S %s";
        create table "S %s"."A "" b" ("The %(id)s" int primary key, {SOFT});
        create table "S %s"."select" ("a:b" int primary key, {SOFT}, "from" int constraint "k %"
            references "S %s"."A "" b" on delete cascade);
        insert into "S %s"."A "" b" values (1);
        insert into "S %s"."select" values (1, null, null, 1)
        """
    )
    before = db.contents()
    done = db.delete('"S %s"."A "" b"', '"The %(id)s" = 1')
    assert done.taken[1] == Taken(table=done.taken[1].table, rows=1, via=('"S %s"."select"."k %"',))
    db.restore(done.id)
    assert db.contents() == before


@pytest.mark.parametrize(
    "body",
    [
        "new.deleted_at := null; return new;",
        "return null;",
        "new.deletion_id := null; return new;",
    ],
)
def test_a_trigger_that_is_in_between_is_noticed(db: Database, body: str) -> None:
    db.execute(
        SHOP
        + f"""create function f() returns trigger language plpgsql as 'begin {body} end';
        create trigger keep before update on purchase for each row execute function f()"""
    )
    before = db.contents()
    assert db.preview("customer", "id = 1").caveats == (
        "trigger keep on public.purchase fires BEFORE UPDATE; what it does is not remembered",
    )
    with pytest.raises(Blocked, match="other rows would change") as caught:
        db.delete("customer", "id = 1")
    assert "public.purchase: 0 of 2 rows" in caught.value.why
    assert db.contents() == before


def test_what_postgresql_refuses_is_told_and_nothing_is_changed(db: Database) -> None:
    db.execute(SHOP + "alter table line add check (deleted_at is null or note is not null)")
    before = db.contents()
    with pytest.raises(Blocked, match="Refused by PostgreSQL") as caught:
        db.delete("customer", "id = 1")
    assert "line_check" in caught.value.why
    assert db.contents() == before


def test_row_security_hides_no_rows(db: Database, superuser: None) -> None:
    db.execute(
        SHOP
        + """drop role if exists fkd_softly; create role fkd_softly login;
        grant all on all tables in schema public, fkdoctor to fkd_softly;
        grant usage on schema public, fkdoctor to fkd_softly;
        alter table purchase enable row level security;
        create policy p on purchase using (id = 10)"""
    )
    try:
        with pytest.raises(Refused, match="Refused by PostgreSQL") as caught:
            db.delete("customer", "id = 1", user="fkd_softly")
        assert "row-level security" in caught.value.why
    finally:
        db.execute("drop owned by fkd_softly; drop role fkd_softly")


def test_without_a_ledger_it_is_refused_and_the_preview_is_not(db: Database) -> None:
    db.execute(SHOP + "alter table fkdoctor.ledger_version rename to away")
    try:
        assert db.preview("customer", "id = 1").rows == 6
        with pytest.raises(Blocked, match="ledger is missing"):
            db.delete("customer", "id = 1")
    finally:
        db.execute("alter table fkdoctor.away rename to ledger_version")
