"""What a restore brings back, and what stands against it."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest

from fkdoctor.errors import ConfigError, Refused, UndoConflict

Database = Any  # the fixture's class lives in conftest.py

SOFT = "deleted_at timestamptz, deletion_id uuid"
SHOP = f"""
    create table customer (id int primary key, mail text, {SOFT});
    create unique index mails on customer (mail) where deleted_at is null;
    create table purchase (id int primary key, {SOFT},
        customer int constraint of_customer references customer on delete cascade);
    create table visit (id int primary key, {SOFT},
        customer int constraint by_customer references customer on delete set null);
    insert into customer values (1, 'a'), (2, 'b');
    insert into purchase (id, customer) values (10, 1), (11, 1), (20, 2);
    insert into visit (id, customer) values (100, 1), (101, 1), (200, 2);
"""


@pytest.fixture
def shop(db: Database) -> Database:
    db.execute(SHOP)
    return db


def _refused(shop: Database, id: str | None) -> str:
    """Why the restore is refused, in the preview and when it is to be done; nothing is changed."""
    before = shop.contents()
    preview = shop.preview_restore(id)
    with pytest.raises(UndoConflict, match="nothing was changed") as caught:
        shop.restore(id)
    assert caught.value.why == "\n".join(preview.conflicts)
    assert shop.contents() == before
    assert not shop.preview_restore(id).done
    return caught.value.why


def test_exactly_what_the_deletion_took_comes_back(shop: Database) -> None:
    first = shop.delete("purchase", "id = 10")
    state = shop.contents()
    second = shop.delete("customer", "id = 1")
    preview = shop.preview_restore(second.id)
    assert (preview.rows, preview.done, preview.conflicts) == (2, False, ())
    back = shop.restore(second.id)
    assert (back.rows, back.done) == (2, True)
    assert shop.contents() == state
    assert shop.execute(
        "select restored_by = session_user, restored_at > deleted_at from "
        "fkdoctor.deletion where restored_at is not null"
    ) == [(True, True)]
    shop.restore(first.id)
    assert shop.execute("select count(deleted_at) from purchase") == [(0,)]


def test_the_beginning_of_an_id_is_enough_where_it_is_one(shop: Database) -> None:
    done = shop.delete("customer", "id = 1")
    assert shop.restore(done.id[:8].upper()).id == done.id
    with pytest.raises(ConfigError, match="no deletion 0000"):
        shop.restore("0000")
    for wild in ("", "%", "_"):
        with pytest.raises(ConfigError):
            shop.restore(wild)
    shop.delete("customer", "id = 1")
    with pytest.raises(ConfigError, match="begins several"):
        shop.restore("")


def test_a_live_row_that_has_a_unique_value_by_now_is_named(shop: Database) -> None:
    done = shop.delete("customer", "id = 1")
    shop.execute("insert into customer values (3, 'a')")
    assert _refused(shop, done.id) == ("public.customer (1): the live row (3) has its mail now")
    shop.execute("update customer set mail = 'c' where id = 3")
    shop.restore(done.id)


def test_unique_values_of_forms_that_are_not_foreseen_are_told_by_postgresql(
    shop: Database,
) -> None:
    shop.execute("create unique index other on customer (lower(mail)) where deleted_at is null")
    done = shop.delete("customer", "id = 1")
    shop.execute("insert into customer values (3, 'A')")
    before = shop.contents()
    with pytest.raises(UndoConflict) as caught:
        shop.restore(done.id)
    assert 'violates unique constraint "other"' in caught.value.why
    assert shop.contents() == before


def test_nulls_that_are_not_distinct_are_a_conflict_too(shop: Database, major: int) -> None:
    if major < 15:
        pytest.skip("NULLS NOT DISTINCT came with 15")
    shop.execute(
        """drop index mails; update customer set mail = null where id = 1; create unique index mails
        on customer (mail) nulls not distinct where deleted_at is null"""
    )
    done = shop.delete("customer", "id = 1")
    shop.execute("insert into customer values (3, null)")
    assert "the live row (3) has its mail now" in _refused(shop, done.id)


@pytest.mark.parametrize(
    "meanwhile",
    ["update visit set customer = 2 where id = 100", "delete from visit where id = 100"],
)
def test_what_was_set_and_is_something_else_now_is_named(shop: Database, meanwhile: str) -> None:
    done = shop.delete("customer", "id = 1")
    shop.execute(meanwhile)
    assert _refused(shop, done.id) == (
        "public.visit (100): it is gone, or its customer was changed since"
    )


def test_a_row_that_would_reference_one_of_another_deletion_is_named(shop: Database) -> None:
    child = shop.delete("purchase", "id = 10")
    parent = shop.delete("customer", "id = 1")
    assert _refused(shop, child.id) == (
        "public.purchase (10): of_customer leads to public.customer (1), "
        f"which deletion {parent.id} took"
    )
    shop.restore(parent.id)
    shop.restore(child.id)


def test_a_row_that_would_reference_one_deleted_by_hand_is_named(shop: Database) -> None:
    child = shop.delete("purchase", "id = 10")
    shop.execute("update customer set deleted_at = now() where id = 1")
    assert "is soft-deleted without a deletion" in _refused(shop, child.id)


def test_a_remembered_reference_to_a_row_of_another_deletion_is_named(shop: Database) -> None:
    done = shop.delete("customer", "id = 1")
    shop.execute("update customer set deleted_at = null, deletion_id = null where id = 1")
    other = shop.delete("customer", "id = 1")
    told = _refused(shop, done.id).splitlines()
    assert (
        "public.visit (100): by_customer leads to public.customer (1), "
        f"which deletion {other.id} took"
    ) in told


def test_a_row_with_a_remembered_reference_may_be_deleted_meanwhile(shop: Database) -> None:
    first = shop.delete("customer", "id = 1")
    second = shop.delete("visit", "id = 100")
    shop.restore(first.id)
    assert shop.execute("select customer, deletion_id::text from visit where id = 100") == [
        (1, second.id)
    ]


def test_rows_that_somebody_brought_back_stay_as_they_are(shop: Database) -> None:
    done = shop.delete("customer", "id = 1")
    shop.execute("update purchase set deleted_at = null, deletion_id = null where id = 10")
    back = shop.restore(done.id)
    assert (back.rows, back.missing) == (2, 1)


def test_many_conflicts_are_counted(shop: Database) -> None:
    shop.execute("insert into visit (id, customer) select n, 2 from generate_series(300, 340) n")
    done = shop.delete("customer", "id = 2")
    shop.execute("update visit set customer = 1 where id >= 300")
    lines = _refused(shop, done.id).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "and 31 more like the last one"


def test_a_table_that_is_gone_is_named(shop: Database) -> None:
    done = shop.delete("customer", "id = 1")
    shop.execute("drop table purchase")
    with pytest.raises(Refused, match="does not fit the database any more") as caught:
        shop.restore(done.id)
    assert "public.purchase is gone" in caught.value.why


def test_a_trigger_that_is_in_between_is_noticed(shop: Database) -> None:
    done = shop.delete("customer", "id = 1")
    shop.execute(
        """create function f() returns trigger language plpgsql as 'begin return null; end';
        create trigger keep before update on visit for each row execute function f()"""
    )
    before = shop.contents()
    with pytest.raises(UndoConflict, match="cannot be put back") as caught:
        shop.restore(done.id)
    assert "public.visit: 0 of 2 rows" in caught.value.why
    assert shop.contents() == before


TYPES = {
    "float8": "0.1 + 0.2", "numeric": "'1.10'", "timestamptz": "'2026-01-31 12:00:00.123456+09'",
    "interval": "'1 mon 2 days 03:04:05.6'", "bytea": r"'\x00ff'", "money": "'1.50'",
    "text": "E'a\\'\"\\n\\\\ %s'", "int[]": "'{1,null,3}'", "xml": "'<a> </a>'",
    "regclass": "'customer'", "char(5)": "'x'", "date": "'-infinity'", "jsonb": "'{\"a\": 1.0}'",
}  # fmt: skip


@pytest.mark.parametrize(("type_", "value"), TYPES.items())
def test_every_kind_of_value_comes_back_as_it_was(shop: Database, type_: str, value: str) -> None:
    try:
        shop.execute(f"alter table customer add v {type_}; update customer set v = {value}")
    except psycopg2.errors.FeatureNotSupported:
        pytest.skip(f"this PostgreSQL was built without {type_}")
    if type_ in ("float8", "numeric", "timestamptz", "text", "bytea", "char(5)"):
        shop.execute(
            f"""create table tag (v {type_} primary key, {SOFT});
            insert into tag values ({value});
            alter table customer add foreign key (v) references tag on delete set null"""
        )
        before = shop.contents()
        done = shop.delete("tag", "v is not null")
        assert shop.execute("select count(v) from customer") == [(0,)]
    else:
        before = shop.contents()
        done = shop.delete("customer", "id = 1")
    shop.restore(done.id)
    assert shop.contents() == before
