"""Soft delete, restore and purge along foreign keys: set-based beside a loop over objects.

    python benchmarks/softdelete.py --url postgresql://localhost/postgres --rows 1000000

makes a database of its own, which is dropped afterwards: customers, ten purchases each, three lines
a purchase, that many rows in all; a tenth of the customers goes. The loop does what applications
do: load a customer, mark it and what it has, commit. It is measured on `--sample` customers, in one
transaction each and in one for all. What counts are the ratios, taken in one run on one machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg2
from scratch import database, execute
from sqlalchemy import Engine, ForeignKey, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import NullPool

import fkdoctor
from fkdoctor.config import Config
from fkdoctor.ledger.install import install_ledger

TABLES = """
    create table customer (id int primary key, deleted_at timestamptz, deletion_id uuid);
    create table purchase (id int primary key, customer_id int not null
        references customer on delete cascade, deleted_at timestamptz, deletion_id uuid);
    create table line (id int primary key, purchase_id int not null
        references purchase on delete cascade, deleted_at timestamptz, deletion_id uuid);
    insert into customer select generate_series(1, {customers});
    insert into purchase select n, 1 + n % {customers} from generate_series(1, {customers} * 10) n;
    insert into line select n, 1 + n % ({customers} * 10)
        from generate_series(1, {customers} * 30) as n;
    create index on purchase (customer_id);
    create index on line (purchase_id);
    create index on customer (deleted_at) where deleted_at is not null;
    create index on purchase (deleted_at) where deleted_at is not null;
    create index on line (deleted_at) where deleted_at is not null;
"""
ROWS_A_CUSTOMER = 41


class Base(DeclarativeBase):
    """The models of the loop."""


class Customer(Base):
    """A customer."""

    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    deleted_at: Mapped[datetime | None]
    purchases: Mapped[list[Purchase]] = relationship(cascade="all, delete-orphan")


class Purchase(Base):
    """What a customer bought at a time."""

    __tablename__ = "purchase"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    deleted_at: Mapped[datetime | None]
    lines: Mapped[list[Line]] = relationship(cascade="all, delete-orphan")


class Line(Base):
    """A line of a purchase."""

    __tablename__ = "line"
    id: Mapped[int] = mapped_column(primary_key=True)
    purchase_id: Mapped[int] = mapped_column(ForeignKey("purchase.id"))
    deleted_at: Mapped[datetime | None]


def main() -> None:
    """Measure, and print a line a way."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("--url", required=True, help="a server on which databases may be created")
    words.add_argument("--rows", type=int, default=1_000_000, help="of the three tables")
    words.add_argument("--sample", type=int, default=100, help="customers that the loop deletes")
    given = words.parse_args()
    customers = max(given.sample * 20, given.rows // ROWS_A_CUSTOMER)
    with database(given.url) as url:
        print(f"loading {customers * ROWS_A_CUSTOMER:,} rows\n", flush=True)
        execute(url, TABLES.format(customers=customers))
        execute(url, "vacuum analyze", alone=True)
        _measure_all(url, customers, given.sample)


def _measure_all(url: str, customers: int, sample: int) -> None:
    engine = create_engine(
        "postgresql+psycopg2://", creator=lambda: psycopg2.connect(url), poolclass=NullPool
    )
    keys = range(customers - 2 * sample + 1, customers + 1)
    each, at_once = list(keys[:sample]), list(keys[sample:])
    slow = _time("loop: mark, commit each", sample, lambda: _mark(engine, each, commit=True))
    _time("loop: mark, one transaction", sample, lambda: _mark(engine, at_once, commit=False))
    gone = customers // 10
    rows = fkdoctor.Selection(where=f"id <= {gone}")
    with fkdoctor.connect(
        fkdoctor.open_engine(fkdoctor.resolve_target(url, Config(), {}))
    ) as connection:
        install_ledger(connection)
        schema = fkdoctor.inspect_database(connection)
        table = schema.resolve_table("customer")
        ids: list[str] = []

        def delete() -> None:
            ids.append(fkdoctor.soft_delete(connection, schema, table, rows).id or "")

        fast = _time("fkdoctor.soft_delete", gone, delete)
        back = partial(fkdoctor.restore_deletion, connection, schema)
        _time("fkdoctor.restore_deletion", gone, lambda: back(ids[0]))
        delete()
        slow_purge = _time("loop: delete, commit each", sample, lambda: _delete(engine, each))
        before = datetime.now(UTC) + timedelta(days=1)
        purge = _time(
            "fkdoctor.purge_deleted",
            gone + sample,
            lambda: fkdoctor.purge_deleted(connection, schema, before),
        )
    print(
        f"\nA soft delete is {fast / slow:,.1f} times, a purge {purge / slow_purge:,.1f} times "
        "as fast as the loop that commits each."
    )


def _time(name: str, customers: int, work: Callable[[], object]) -> float:
    """Rows a second."""
    began = time.monotonic()
    work()
    lasted = time.monotonic() - began
    speed = customers * ROWS_A_CUSTOMER / lasted
    print(f"{name:32}{lasted:>9.2f} s{speed:>12,.0f} rows a second", flush=True)
    return speed


def _mark(engine: Engine, keys: list[int], *, commit: bool) -> None:
    with Session(engine) as session:
        for key in keys:
            customer = session.scalars(select(Customer).where(Customer.id == key)).one()
            now = datetime.now(UTC)
            customer.deleted_at = now
            for purchase in customer.purchases:
                purchase.deleted_at = now
                for line in purchase.lines:
                    line.deleted_at = now
            if commit:
                session.commit()
        session.commit()


def _delete(engine: Engine, keys: list[int]) -> None:
    with Session(engine) as session:
        for key in keys:
            session.delete(session.get_one(Customer, key))
            session.commit()


if __name__ == "__main__":
    main()
