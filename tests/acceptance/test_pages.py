"""Every command and every block of the how-to pages does what the page says, on a real server."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from alembic.operations import Operations
from pages import ROOT, Reader, read_blocks
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

import fkdoctor.revise
from fkdoctor.demo.dataset import Scale, load_dataset

DOCS = ROOT / "docs"
PAGES = sorted([*(DOCS / "how-to").glob("*.md"), DOCS / "tutorial.md"])
SCALE = Scale(letters=400, postings=60, recommendations=1_000, interactions=300)

# What the pages take to be there, beside the mlops example.
TABLES = """
    create schema shop;
    create table shop.customers (id int primary key, email text unique, status text);
    create table shop.purchases (id int primary key, customer_id int not null
        references shop.customers on delete cascade);
    create table shop.vouchers (id int primary key, customer_id int
        references shop.customers on delete set null);
    insert into shop.customers
        select n, n || '@example.com', 'open' from generate_series(1, 50) as n;
    update shop.customers set status = 'closed' where id in (7, 8);
    insert into shop.purchases select n, n % 50 + 1 from generate_series(1, 100) as n;
    insert into shop.vouchers select n, n from generate_series(1, 50) as n;
    create table page (id int primary key, site_id int);
    create table site (id int primary key);
    insert into site select generate_series(1, 100);
    insert into page select n, n from generate_series(1, 101) as n;
"""


@pytest.fixture(scope="session")
def stage(make_template: Callable[[Callable[[str], object]], str]) -> str:
    """The mlops example as it is found, small, and the pages' other tables."""

    def load(url: str) -> None:
        engine = create_engine(
            "postgresql+psycopg2://", creator=lambda: psycopg2.connect(url), poolclass=NullPool
        )
        fkdoctor.revise.upgrade(engine, "0001")
        with engine.begin() as connection:
            load_dataset(connection, SCALE, 11)
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(TABLES)
            connection.commit()

    return make_template(load)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_can_be_followed(
    page: Path, tmp_path: Path, make_database: Callable[..., str], stage: str, psql: Path
) -> None:
    env = next(
        block.text
        for block in read_blocks((DOCS / "how-to" / "change-a-rule.md").read_text(encoding="utf-8"))
        if block.file == "migrations/env.py"
    )
    reader = Reader(tmp_path, make_database(stage), psql, env)
    text = page.read_text(encoding="utf-8")
    blocks = list(read_blocks(text))
    assert len(blocks) == text.count("\n```") / 2
    for block in blocks:
        try:
            reader.follow(block)
        except AssertionError as problem:
            raise AssertionError(f"{page.name}, line {block.line}: {problem}") from problem


def test_every_operation_is_on_its_page_with_its_arguments() -> None:
    page = (DOCS / "reference" / "operations.md").read_text(encoding="utf-8")
    told = {
        name: " ".join(arguments.split())
        for name, arguments in re.findall(r"^    op\.(\w+)\((.*?)\)$", page, re.M | re.S)
    }
    assert len(told) > 7
    for name, arguments in told.items():
        signature = inspect.signature(getattr(Operations, name))
        named = [
            one.name if one.default is one.empty else f"{one.name}={one.default!r}"
            for one in signature.parameters.values()
            if one.name != "self"
        ]
        words = [word.replace('"', "'") for word in arguments.split(", ") if word != "*"]
        assert words == named, name
