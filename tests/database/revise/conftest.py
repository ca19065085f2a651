"""Operations as a revision runs them, and what they leave behind as pg_dump sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from interruptions import dump_structure
from sqlalchemy import Engine

from fkdoctor.config import Config
from fkdoctor.database import open_engine, resolve_target
from fkdoctor.revise import Patience

Use = Callable[[Operations], None]

QUICK = Patience(first=20, longest=80, tries=500, total=60_000)


def engine_at(url: str) -> Engine:
    return open_engine(resolve_target(url, Config(), {}))


def operate_on(engine: Engine, use: Use, patience: Patience = QUICK) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"transaction_per_migration": True, "fkdoctor_patience": patience}
        )
        with context.begin_transaction(_per_migration=True):
            use(Operations(context))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine for the test's own database."""
    engine = engine_at(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def operate(engine: Engine) -> Callable[..., None]:
    """Called with what a revision does with `op`: does it in the test's own database."""
    return lambda use, patience=QUICK: operate_on(engine, use, patience)


@pytest.fixture(scope="session")
def operate_on_engine() -> Callable[..., None]:
    """As `operate`, on an engine that is given."""
    return operate_on


@pytest.fixture(scope="session")
def operate_at() -> Callable[..., None]:
    """As `operate`, on a database of which the URL is given."""
    return lambda url, use, patience=QUICK: operate_on(engine_at(url), use, patience)


@pytest.fixture(scope="session")
def engine_of() -> Callable[[str], Engine]:
    """Called with a URL: an engine for it."""
    return engine_at


@pytest.fixture(scope="session")
def dump_at(pg_dump: Path) -> Callable[[str], str]:
    """Called with a URL: the database's structure as pg_dump writes it."""

    return lambda url: dump_structure(pg_dump, url)


@pytest.fixture
def dump(database_url: str, dump_at: Callable[[str], str]) -> Callable[[], str]:
    """The structure of the test's own database as pg_dump writes it."""
    return lambda: dump_at(database_url)
