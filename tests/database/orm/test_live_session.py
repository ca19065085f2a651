"""Deleted rows are not there, whichever way a session looks."""

from __future__ import annotations

import asyncio
import pickle
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy import ForeignKey, lambda_stmt, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    Session,
    WriteOnlyMapped,
    aliased,
    column_property,
    contains_eager,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    sessionmaker,
    subqueryload,
    with_parent,
    with_polymorphic,
)

from fkdoctor.orm import LiveSession, SoftDeletable


class Base(DeclarativeBase):
    pass


class Membership(SoftDeletable, Base):
    __tablename__ = "membership"
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"), primary_key=True)
    group_id: Mapped[int] = mapped_column(ForeignKey("circle.id"), primary_key=True)


class Circle(SoftDeletable, Base):
    __tablename__ = "circle"
    id: Mapped[int] = mapped_column(primary_key=True)


class Book(SoftDeletable, Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="book")
    author_id: Mapped[int | None] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author | None] = relationship(back_populates="books")
    __mapper_args__: ClassVar[dict[str, Any]] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "book",
    }


class Novel(Book):
    __tablename__ = "novel"
    id: Mapped[int] = mapped_column(ForeignKey("book.id"), primary_key=True)
    plot: Mapped[str] = mapped_column(default="")
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "novel"}


class Author(SoftDeletable, Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(default="")
    books: Mapped[list[Book]] = relationship(back_populates="author", order_by=Book.id)
    circles: Mapped[list[Circle]] = relationship(secondary="membership", viewonly=True)


class Reader(Base):
    """Without soft delete, and pointing at what has it."""

    __tablename__ = "reader"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int | None] = mapped_column(ForeignKey("book.id"))
    book: Mapped[Book | None] = relationship()


class Counted(Base):
    """The authors again, with the number of their books."""

    __table__ = Author.__table__
    number = column_property(
        select(sa.func.count(Book.id))
        .where(Book.author_id == Author.__table__.c.id)
        .correlate(Author.__table__)
        .scalar_subquery()
    )


KNOWS_EXISTS = not sa.__version__.startswith("2.0.")
GONE = datetime(2026, 1, 31, tzinfo=UTC)


def _address(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg2://")


def _engine(url: str) -> sa.Engine:
    return sa.create_engine(_address(url), poolclass=sa.pool.NullPool)


def _load(url: str) -> None:
    engine = _engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for rows in ROWS:
            session.add_all(rows())
            session.flush()
        session.commit()


ROWS: tuple[Callable[[], list[Any]], ...] = (
    lambda: [
        Author(id=1, name="a"),
        Author(id=2, name="b"),
        Author(id=3, name="c", deleted_at=GONE),
        Circle(id=1),
        Circle(id=2, deleted_at=GONE),
        Circle(id=3),
    ],
    lambda: [
        Book(id=1, author_id=1),
        Book(id=2, author_id=1, deleted_at=GONE),
        Novel(id=3, author_id=1, plot="x"),
        Novel(id=4, author_id=2, plot="y", deleted_at=GONE, deletion_id=uuid.uuid4()),
        Book(id=5, author_id=3),
        Membership(author_id=1, group_id=1),
        Membership(author_id=1, group_id=2),
        Membership(author_id=1, group_id=3, deleted_at=GONE),
    ],
    lambda: [Reader(id=1, book_id=1), Reader(id=2, book_id=2)],
)


@pytest.fixture(scope="session")
def library(make_template: Callable[..., str]) -> sa.Engine:
    """An engine on a library that is only read."""
    urls: list[str] = []

    def load(url: str) -> None:
        _load(url)
        urls.append(url)

    make_template(load)
    return _engine(urls[0])


@pytest.fixture(scope="session")
def shelf(make_template: Callable[..., str]) -> str:
    """A template of a library."""
    return make_template(_load)


@pytest.fixture
def engine(make_database: Callable[..., str], shelf: str) -> sa.Engine:
    """An engine on a library that is the test's own."""
    return _engine(make_database(shelf))


@pytest.fixture
def live(engine: sa.Engine) -> Iterator[LiveSession]:
    """A session that may change the library."""
    with sessionmaker(engine, class_=LiveSession)() as session:
        yield session


@pytest.fixture
def reading(library: sa.Engine) -> Iterator[LiveSession]:
    """A session that only reads."""
    with sessionmaker(library, class_=LiveSession)() as session:
        yield session


def _ids(result: Any) -> list[Any]:
    return sorted(row.id if hasattr(row, "id") else row for row in result)


# Statements


other = aliased(Book)


def _descent() -> sa.CTE:
    one, next_one = aliased(Author), aliased(Author)
    start = select(one.id).where(one.id == 1).cte(recursive=True)
    further = select(next_one.id).join(start, next_one.id == start.c.id + 1)
    return start.union_all(further)


STATEMENTS: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "a select": (lambda: select(Author.id), [1, 2]),
    "a condition": (lambda: select(Author.id).where(Author.id > 1), [2]),
    "a limit": (lambda: select(Author.id).order_by(Author.id.desc()).limit(1), [2]),
    "an or": (lambda: select(Author.id).where(sa.or_(Author.id == 3, Author.id == 1)), [1]),
    "an alias": (lambda: select(other.id), [1, 3, 5]),
    "a join": (lambda: select(Book.id).join(Book.author), [1, 3]),
    "a join on a condition": (
        lambda: select(Book.id).join(Author, Author.id == Book.author_id),
        [1, 3],
    ),
    "a join the other way": (lambda: select(Author.id).join(Author.books), [1, 1]),
    "an outer join": (
        lambda: select(sa.func.coalesce(Book.id, 0)).select_from(Author).outerjoin(Author.books),
        [0, 1, 3],
    ),
    "an outer join to the deleted": (
        lambda: select(sa.func.coalesce(Author.id, 0)).select_from(Book).outerjoin(Book.author),
        [0, 1, 1],
    ),
    "two entities without a join": (
        lambda: select(Book.id).where(Author.id == Book.author_id),
        # What the module says of 2.0; ask for a column of it, or join.
        [1, 3] if KNOWS_EXISTS else [1, 3, 5],
    ),
    "two entities, both asked for": (
        lambda: select(Book.id, Author.id).where(Author.id == Book.author_id),
        [1, 3],
    ),
    "a count": (lambda: select(sa.func.count()).select_from(Author), [2]),
    "a count of a column": (lambda: select(sa.func.count(Book.id)), [3]),
    "groups": (lambda: select(sa.func.count(Book.id)).group_by(Book.author_id), [1, 2]),
    "exists": (
        lambda: select(Author.id).where(
            select(Book.id).where(Book.author_id == Author.id).exists()
        ),
        [1],
    ),
    "any": (lambda: select(Author.id).where(Author.books.any()), [1]),
    "not any": (lambda: select(Author.id).where(~Author.books.any()), [2]),
    "any of a condition": (lambda: select(Author.id).where(Author.books.any(Book.id < 3)), [1]),
    "any among others": (
        lambda: select(Author.id).where(sa.or_(~Author.books.any(), Author.id == 7)),
        [2],
    ),
    "any through a table between": (lambda: select(Author.id).where(Author.circles.any()), [1]),
    "has": (lambda: select(Book.id).where(Book.author.has()), [1, 3]),
    "in a subquery": (
        lambda: select(Author.id).where(Author.id.in_(select(Book.author_id))),
        [1],
    ),
    "a scalar subquery": (
        lambda: select(
            select(sa.func.count(Book.id))
            .where(Book.author_id == Author.id)
            .correlate(Author)
            .scalar_subquery()
        ).select_from(Author),
        [0, 2],
    ),
    "a subquery": (lambda: select(select(Book.id).subquery().c.id), [1, 3, 5]),
    "an entity over a subquery": (
        lambda: select(aliased(Book, select(Book).subquery()).id),
        [1, 3, 5],
    ),
    "a common table expression": (lambda: select(select(Book.id).cte().c.id), [1, 3, 5]),
    "a lateral subquery": (
        lambda: (
            select(sa.literal_column("one.id"))
            .select_from(Author)
            .join(select(Book.id).where(Book.author_id == Author.id).lateral("one"), sa.true())
        ),
        [1, 3],
    ),
    "a union": (
        lambda: sa.union(select(Book.id), select(Author.id + 10)),
        [1, 3, 5, 11, 12],
    ),
    "a union of all": (
        lambda: sa.union_all(select(Book.id), select(Book.id)),
        [1, 1, 3, 3, 5, 5],
    ),
    "an intersection": (
        lambda: sa.intersect(select(Book.id), select(Book.id)),
        [1, 3, 5],
    ),
    "an entity from a statement": (
        lambda: select(Book).from_statement(select(Book)),
        [1, 3, 5],
    ),
    "a sum": (lambda: select(sa.func.sum(Author.id)), [3]),
    "a recursive common table expression": (
        lambda: select(_descent().c.id),
        [1, 2],
    ),
    "exists, alone": (
        lambda: select(sa.exists().where(Book.id.in_([2, 4]))),
        [not KNOWS_EXISTS],
    ),
    "exists of a select": (
        lambda: select(select(Book.id).where(Book.id.in_([2, 4])).exists()),
        [False],
    ),
    "except": (lambda: sa.except_(select(Book.id), select(Author.id)), [3, 5]),
    "an entity from a union": (
        lambda: select(Book).from_statement(sa.union(select(Book), select(Book))),
        [1, 3, 5],
    ),
    "an entity over a union": (
        lambda: select(aliased(Author, sa.union(select(Author), select(Author)).subquery()).id),
        [1, 2],
    ),
    "a subclass": (lambda: select(Novel.id), [3]),
    "polymorphic": (lambda: select(with_polymorphic(Book, "*").id), [1, 3, 5]),
    "a table between": (lambda: select(Circle.id).join(Author.circles), [1, 3]),
    "a model between": (
        lambda: select(Circle.id).join(Membership, Membership.group_id == Circle.id).join(Author),
        [1],
    ),
    "what has no soft delete, joined": (lambda: select(Reader.id).join(Reader.book), [1]),
    "what has no soft delete": (lambda: select(Reader.id), [1, 2]),
}


@pytest.mark.parametrize(("make", "expected"), STATEMENTS.values(), ids=STATEMENTS)
def test_a_statement_sees_live_rows_only(
    reading: LiveSession, make: Callable[[], Any], expected: list[Any]
) -> None:
    statement = make()
    for _ in range(2):  # once more, from the cache of compiled statements
        assert _ids(reading.scalars(statement)) == expected


@pytest.mark.parametrize("make", [make for make, _ in STATEMENTS.values()], ids=STATEMENTS)
def test_another_session_sees_all_as_before(
    library: sa.Engine, reading: LiveSession, make: Callable[[], Any]
) -> None:
    statement = make()
    with Session(library) as plain:
        before = _ids(plain.scalars(statement))
        reading.scalars(statement).all()
        assert _ids(plain.scalars(statement)) == before
    everything = statement.execution_options(include_deleted=True)
    assert _ids(reading.scalars(everything)) == before


def test_the_query_interface_sees_live_rows_only(reading: LiveSession) -> None:
    assert reading.query(Author).count() == 2
    assert reading.query(Author).filter_by(id=3).one_or_none() is None
    assert reading.query(reading.query(Book).filter(Book.id == 2).exists()).scalar() is False
    union = reading.query(Book).filter(Book.id < 3).union(reading.query(Book).filter(Book.id > 3))
    assert _ids(union) == [1, 5]
    assert reading.query(Author).join(Author.books).distinct().count() == 1


# Loading


@pytest.mark.parametrize(
    "option",
    [None, joinedload, selectinload, subqueryload],
    ids=lambda o: getattr(o, "__name__", "lazy"),
)
def test_relationships_hold_live_rows_only(reading: LiveSession, option: Any) -> None:
    loaded = select(Author).where(Author.id < 3).order_by(Author.id)
    if option is not None:
        loaded = loaded.options(option(Author.books), option(Author.circles))
    first, second = reading.scalars(loaded).unique().all()
    assert (_ids(first.books), _ids(second.books)) == ([1, 3], [])
    # A table between, without its own model in the statement, is a table like any other.
    assert _ids(first.circles) == [1, 3]


@pytest.mark.parametrize("option", [None, joinedload, selectinload, subqueryload])
def test_a_reference_to_a_deleted_row_leads_nowhere(reading: LiveSession, option: Any) -> None:
    books = select(Book).where(Book.id.in_([1, 5])).order_by(Book.id)
    if option is not None:
        books = books.options(option(Book.author))
    one, orphan = reading.scalars(books).unique().all()
    assert one.author is not None
    assert one.author.id == 1
    assert orphan.author is None


def test_eager_loads_in_a_row_are_filtered_at_every_step(reading: LiveSession) -> None:
    for first, second in ((joinedload, selectinload), (selectinload, joinedload)):
        reading.expunge_all()
        readers = reading.scalars(
            select(Reader)
            .order_by(Reader.id)
            .options(first(Reader.book).options(second(Book.author).selectinload(Author.books)))
        ).all()
        assert [reader.book and reader.book.id for reader in readers] == [1, None]
        assert readers[0].book is not None
        assert readers[0].book.author is not None
        assert _ids(readers[0].book.author.books) == [1, 3]


def test_contains_eager_takes_what_the_join_found(reading: LiveSession) -> None:
    authors = reading.scalars(
        select(Author).join(Author.books).options(contains_eager(Author.books))
    ).unique()
    assert [_ids(author.books) for author in authors] == [[1, 3]]


def test_a_lazy_load_after_commit_is_filtered_too(live: LiveSession, engine: sa.Engine) -> None:
    author = live.get(Author, 1)
    assert _ids(author.books) == [1, 3]
    with Session(engine) as other:
        other.execute(sa.update(Book).where(Book.id == 3).values(deleted_at=GONE))
        other.commit()
    live.commit()
    assert _ids(author.books) == [1]


def test_a_count_in_a_column_property_counts_live_rows(reading: LiveSession) -> None:
    numbers = dict(reading.execute(select(Counted.id, Counted.number).where(Counted.id < 3)).all())
    assert numbers == {1: 2, 2: 0}


# get and the identity map


def test_get_does_not_find_a_deleted_row(reading: LiveSession) -> None:
    assert reading.get(Author, 3) is None
    assert reading.get(Author, 1) is not None
    with pytest.raises(sa.exc.NoResultFound):
        reading.get_one(Author, 3)
    found = reading.get(Author, 3, execution_options={"include_deleted": True})
    assert found is not None
    # It is in the identity map now, and still not there.
    assert reading.get(Author, 3) is None
    assert reading.get(Author, 3, populate_existing=True) is None


def test_what_is_deleted_in_the_session_is_gone_after_the_flush(live: LiveSession) -> None:
    book, author = live.get(Book, 1), live.get(Author, 1)
    author.deleted_at = datetime.now(UTC)
    live.flush()
    assert author not in live
    assert live.get(Author, 1) is None
    live.refresh(book)
    assert book.author is None
    assert _ids(live.scalars(select(Author.id))) == [2]
    live.commit()
    assert live.get(Author, 1) is None


def test_a_change_by_a_function_is_noticed_too(live: LiveSession) -> None:
    author = live.get(Author, 1)
    author.deleted_at = sa.func.now()
    live.flush()
    assert live.get(Author, 1) is None
    live.commit()


def test_a_live_object_can_be_refreshed_and_expired(live: LiveSession) -> None:
    author = live.get(Author, 1)
    live.expire(author)
    assert author.name == "a"
    live.refresh(author)
    live.commit()
    assert author.name == "a"


def test_an_object_that_somebody_else_deletes_can_still_be_looked_at(
    live: LiveSession, engine: sa.Engine
) -> None:
    author = live.get(Author, 1)
    with Session(engine) as other:
        other.execute(sa.update(Author).where(Author.id == 1).values(deleted_at=GONE))
        other.commit()
    live.commit()
    assert author.name == "a"
    assert live.get(Author, 1) is None


# Refreshes, and what goes its own ways


class Shelf(SoftDeletable, Base):
    """Everything about it is loaded at once."""

    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    above_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
    joined: Mapped[list[Box]] = relationship(lazy="joined", viewonly=True)
    selected: Mapped[list[Box]] = relationship(lazy="selectin", viewonly=True)
    at_once: Mapped[list[Box]] = relationship(lazy="immediate", viewonly=True)
    written: WriteOnlyMapped[Box] = relationship(overlaps="dynamic")
    dynamic: DynamicMapped[Box] = relationship(overlaps="written")
    below: Mapped[list[Shelf]] = relationship(lazy="joined", join_depth=1, viewonly=True)


class Box(SoftDeletable, Base):
    __tablename__ = "box"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="box")
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelf.id"))
    shelf: Mapped[Shelf | None] = relationship(viewonly=True)
    __mapper_args__: ClassVar[dict[str, Any]] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "box",
    }


class Crate(Box):
    """In the table of the boxes."""

    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "crate"}


class Ticket(ConcreteBase, SoftDeletable, Base):
    __tablename__ = "ticket"
    id: Mapped[int] = mapped_column(primary_key=True)
    __mapper_args__: ClassVar[dict[str, Any]] = {
        "polymorphic_identity": "ticket",
        "concrete": True,
    }


class Pass(Ticket):
    """In a table of its own."""

    __tablename__ = "pass"
    id: Mapped[int] = mapped_column(primary_key=True)
    deleted_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    deletion_id: Mapped[uuid.UUID | None] = mapped_column()
    __mapper_args__: ClassVar[dict[str, Any]] = {"polymorphic_identity": "pass", "concrete": True}


@pytest.fixture
def store(live: LiveSession) -> LiveSession:
    """A session that may change shelves 1 and 2, and the deleted 3, with their boxes."""
    with Session(live.get_bind()) as plain:
        plain.add_all([Shelf(id=1), Shelf(id=2, above_id=1)])
        plain.add(Shelf(id=3, above_id=1, deleted_at=GONE))
        plain.flush()
        plain.add_all([Box(id=1, shelf_id=1), Box(id=2, shelf_id=1, deleted_at=GONE)])
        plain.add_all([Crate(id=3, shelf_id=1), Crate(id=4, shelf_id=1, deleted_at=GONE)])
        plain.add_all([Box(id=5, shelf_id=3), Ticket(id=1), Ticket(id=2, deleted_at=GONE)])
        plain.add_all([Pass(id=11), Pass(id=12, deleted_at=GONE)])
        plain.commit()
    return live


def _all_of(shelf: Shelf) -> list[list[int]]:
    return [_ids(part) for part in (shelf.joined, shelf.selected, shelf.at_once, shelf.below)]


LIVE_PARTS = [[1, 3], [1, 3], [1, 3], [2]]


@pytest.mark.parametrize("everything", [False, True])
def test_a_refresh_loads_live_rows_only(store: LiveSession, everything: bool) -> None:
    shelf = store.get_one(Shelf, 1, execution_options={"include_deleted": everything})
    assert (_all_of(shelf) == LIVE_PARTS) is not everything
    store.refresh(shelf)
    assert _all_of(shelf) == LIVE_PARTS
    store.expire(shelf)
    assert _all_of(shelf) == LIVE_PARTS
    store.expire(shelf, ["joined", "below"])
    assert _all_of(shelf) == LIVE_PARTS
    store.refresh(shelf, ["joined", "below"])
    assert _all_of(shelf) == LIVE_PARTS
    assert _all_of(store.get_one(Shelf, 1, populate_existing=True)) == LIVE_PARTS


def test_a_new_object_loads_live_rows_only_when_it_is_expired(store: LiveSession) -> None:
    shelf = Shelf(id=9)
    store.add(shelf)
    store.flush()
    store.execute(sa.insert(Box), [{"id": 90, "shelf_id": 9}, {"id": 91, "shelf_id": 9}])
    store.execute(sa.update(Box).where(Box.id == 91).values(deleted_at=GONE))
    store.commit()
    assert _all_of(shelf) == [[90], [90], [90], []]


def test_a_deleted_object_that_is_in_the_session_is_refreshed(store: LiveSession) -> None:
    crate = store.get_one(Crate, 4, execution_options={"include_deleted": True})
    store.refresh(crate)
    store.expire(crate)
    assert crate.shelf_id == 1
    store.refresh(crate, with_for_update={"of": Box})


def test_relationships_that_are_asked_are_filtered(store: LiveSession) -> None:
    shelf = store.get_one(Shelf, 1)
    assert _ids(store.scalars(shelf.written.select())) == [1, 3]
    assert _ids(shelf.dynamic) == [1, 3]
    assert shelf.dynamic.count() == 2
    assert _ids(store.scalars(select(Box).where(with_parent(shelf, Shelf.joined)))) == [1, 3]


def test_subclasses_in_one_table_and_in_their_own_are_filtered(store: LiveSession) -> None:
    assert _ids(store.scalars(select(Crate))) == [3]
    assert _ids(store.scalars(select(Box).where(Box.shelf_id == 1))) == [1, 3]
    assert _ids(store.scalars(select(Shelf.id).join(Shelf.joined.of_type(Crate)))) == [1]
    assert _ids(store.scalars(select(Shelf.id).where(Shelf.joined.of_type(Crate).any()))) == [1]
    assert _ids(store.scalars(select(Ticket))) == [1, 11]
    assert _ids(store.scalars(select(Pass))) == [11]


def test_a_subclass_of_what_cannot_be_deleted_is_refused() -> None:
    class Loose(DeclarativeBase):
        pass

    class Top(Loose):
        __tablename__ = "top"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(sa.exc.ArgumentError, match="a query for Top would show deleted rows"):

        class Sub(SoftDeletable, Top):
            __tablename__ = "sub"
            id: Mapped[int] = mapped_column(ForeignKey("top.id"), primary_key=True)


def test_lambdas_are_filtered_and_cached_with_their_values(reading: LiveSession) -> None:
    def by_id(id: int) -> Any:
        statement = lambda_stmt(lambda: select(Author.id))
        statement += lambda before: before.where(Author.id == id)
        return statement

    assert [_ids(reading.scalars(by_id(id))) for id in (1, 3, 2)] == [[1], [], [2]]
    assert _ids(reading.scalars(select(Author.id).where(lambda: Author.id > 1))) == [2]


def test_an_object_can_be_pickled_and_still_loads_live_rows_only(reading: LiveSession) -> None:
    author = pickle.loads(pickle.dumps(reading.get(Author, 1)))
    with Session(reading.get_bind()) as plain:
        plain.add(author)
        assert _ids(author.books) == [1, 3]


def test_a_merge_changes_what_is_live_and_does_not_find_the_deleted(live: LiveSession) -> None:
    assert live.merge(Author(id=1, name="m")) is live.get(Author, 1)
    live.merge(Author(id=3, name="m"))
    with pytest.raises(sa.exc.IntegrityError):
        live.flush()


def test_a_collection_holds_what_is_deleted_since_until_it_is_expired(live: LiveSession) -> None:
    author, book = live.get_one(Author, 1), live.get_one(Book, 1)
    assert _ids(author.books) == [1, 3]
    book.deleted_at = GONE
    live.flush()
    assert _ids(author.books) == [1, 3]
    live.commit()
    assert _ids(author.books) == [3]


def test_a_reference_leads_to_a_deleted_object_that_the_session_has_loaded(
    reading: LiveSession,
) -> None:
    gone = reading.get(Author, 3, execution_options={"include_deleted": True})
    book = reading.get_one(Book, 5)
    assert book.author is gone
    reading.expunge_all()
    assert reading.get_one(Book, 5).author is None


# Writing


def test_bulk_changes_touch_live_rows_only(live: LiveSession) -> None:
    assert live.execute(sa.update(Author).values(name="new")).rowcount == 2
    everything = sa.update(Author).values(name="all").execution_options(include_deleted=True)
    assert live.execute(everything).rowcount == 3
    live.execute(sa.delete(Reader))
    assert live.execute(sa.delete(Book).where(Book.kind == "book")).rowcount == 2
    left = select(Book.id).execution_options(include_deleted=True)
    assert _ids(live.scalars(left)) == [2, 3, 4]


def test_a_query_changes_live_rows_only(live: LiveSession) -> None:
    assert live.query(Author).update({"name": "new"}) == 2
    live.query(Reader).delete()
    assert live.query(Book).filter(Book.kind == "book").delete() == 2
    changed = sa.update(Author).values(name="x").returning(Author.id)
    assert _ids(live.scalars(changed)) == [1, 2]
    assert _ids(live.scalars(select(changed.cte("changed").c.id))) == [1, 2]


def test_what_changes_rows_without_naming_their_model_is_not_filtered(live: LiveSession) -> None:
    # The limits that the module names; each has a way round.
    live.execute(sa.update(Author), [{"id": 3, "name": "by key"}])
    assert live.scalar(sa.text("select name from author where id = 3")) == "by key"
    among = sa.update(Author).values(name="z").where(Author.id == Book.author_id)
    assert live.execute(among, execution_options={"synchronize_session": False}).rowcount == 2
    asked = sa.update(Author).values(name="z").where(Author.id.in_(select(Book.author_id)))
    assert live.execute(asked).rowcount == 1
    assert live.execute(sa.delete(Membership.__table__)).rowcount == 3


def test_new_objects_are_live(live: LiveSession) -> None:
    live.add(Author(id=9, name="n"))
    live.commit()
    assert live.get(Author, 9).deleted_at is None


# Names, and what is not filtered


def test_columns_under_other_names_are_declared_again(live: LiveSession, engine: sa.Engine) -> None:
    class OtherBase(DeclarativeBase):
        pass

    class Thing(SoftDeletable, OtherBase):
        __tablename__ = "thing"
        id: Mapped[int] = mapped_column(primary_key=True)
        deleted_at: Mapped[datetime | None] = mapped_column("gone", sa.DateTime(timezone=True))

    OtherBase.metadata.create_all(engine)
    live.add_all([Thing(id=1), Thing(id=2, deleted_at=GONE)])
    live.commit()
    assert _ids(live.scalars(select(Thing.id))) == [1]
    assert live.scalars(sa.text("select id from thing where gone is not null")).all() == [2]


def test_a_lazy_load_of_what_was_loaded_with_the_deleted_is_filtered(reading: LiveSession) -> None:
    everything = select(Author).execution_options(include_deleted=True)
    authors = {author.id: author for author in reading.scalars(everything)}
    assert _ids(authors) == [1, 2, 3]
    assert _ids(authors[1].books) == [1, 3]
    eager = everything.options(selectinload(Author.books)).where(Author.id == 2)
    reading.expunge_all()
    assert _ids(reading.scalars(eager).one().books) == [4]


def test_an_asynchronous_session_sees_live_rows_only(library: sa.Engine) -> None:
    dsn = library.connect().connection.dbapi_connection.dsn  # type: ignore[union-attr]

    async def read() -> None:
        engine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=lambda: psycopg.AsyncConnection.connect(dsn),
            poolclass=sa.NullPool,
        )
        make = async_sessionmaker(engine, sync_session_class=LiveSession)
        async with make() as session:
            assert await session.get(Author, 3) is None
            assert await session.scalar(select(sa.func.count()).select_from(Book)) == 3
            eager = select(Author).options(selectinload(Author.books)).where(Author.id == 1)
            assert _ids((await session.scalars(eager)).one().books) == [1, 3]
            lazy = (await session.scalars(select(Author).where(Author.id == 1))).one()
            session.expire(lazy)
            assert _ids(await session.run_sync(lambda _: lazy.books)) == [1, 3]
            joined = select(Book.id).join(Author)
            everything = joined.execution_options(include_deleted=True)
            assert len((await session.scalars(joined)).all()) < len(
                (await session.scalars(everything)).all()
            )
        await engine.dispose()

    asyncio.run(read())


def test_text_and_core_tables_see_every_row(reading: LiveSession) -> None:
    # What the module says of itself; if SQLAlchemy learns it, the page may say so.
    assert reading.execute(sa.text("select count(*) from author")).scalar() == 3
    assert len(reading.execute(select(Author.__table__)).all()) == 3
