"""Soft delete for SQLAlchemy models: a mixin, and a session that shows live rows only.

    class User(SoftDeletable, Base): ...

    Session = sessionmaker(engine, class_=LiveSession)
    AsyncSession = async_sessionmaker(async_engine, sync_session_class=LiveSession)

Every statement of the session that names a model is filtered: joins, eager and lazy loads, `get`,
subqueries, UNION, counts, bulk UPDATE and DELETE. One statement sees all rows with
`.execution_options(include_deleted=True)`. Nothing is patched, and other sessions are as they were.

Not filtered, because SQLAlchemy does not know the model there: text(), Core tables
(`User.__table__`), `secondary=` tables, a bulk UPDATE by primary keys, and a model that only the
WHERE of an UPDATE or DELETE names. Before SQLAlchemy 2.1 neither is one that only the WHERE of a
SELECT names, nor any() and has() elsewhere than in the WHERE of the statement itself.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import (
    Mapped,
    Mapper,
    ORMExecuteState,
    Session,
    mapped_column,
    with_loader_criteria,
)
from sqlalchemy.sql import visitors
from sqlalchemy.sql.lambdas import StatementLambdaElement

INCLUDE_DELETED = "include_deleted"
"""The execution option under which a statement sees deleted rows too."""

_LEAVING = "fkdoctor: deleted in this flush"


class SoftDeletable:
    """The columns that op.add_soft_delete makes. Under other names: declare them again, as in
    `deleted_at = mapped_column("gone", DateTime(timezone=True))`."""

    deleted_at: Mapped[datetime | None] = mapped_column(
        sa.DateTime(timezone=True), default=None, nullable=True
    )
    deletion_id: Mapped[uuid.UUID | None] = mapped_column(sa.Uuid, default=None, nullable=True)


class LiveSession(Session):
    """A session in which deleted rows of SoftDeletable models are not there.

    An object whose `deleted_at` is set leaves the session with the flush that writes it, as one
    that is deleted does; so nothing finds it in the identity map.
    """

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        """The object of that primary key, None where it is deleted; as Session.get otherwise."""
        found = super().get(entity, ident, **options)
        wanted = (options.get("execution_options") or {}).get(INCLUDE_DELETED)
        if isinstance(found, SoftDeletable) and not wanted and found.deleted_at is not None:
            return None
        return found


def _is_live(model: Any) -> Any:
    # With a name of its own, objects that carry it can be pickled.
    return model.deleted_at.is_(None)


@event.listens_for(LiveSession, "do_orm_execute")
def _leave_deleted_out(state: ORMExecuteState) -> None:
    if state.execution_options.get(INCLUDE_DELETED):
        return
    if state.is_select or state.is_update or state.is_delete:
        state.statement = _leave_out(state.statement)


def _leave_out(statement: Any) -> Any:
    """The statement on live rows."""
    if isinstance(statement, StatementLambdaElement):
        # Anything else that one of 2.0 is asked comes from its first use, with the values of that.
        statement = statement._resolved
    # Joined loads take the criteria from the statement. Lazy ones and refreshes come by here
    # too: what is new, or was loaded with INCLUDE_DELETED, has no criteria to hand on. An
    # object that is refreshed is found all the same: SQLAlchemy leaves the criteria out there.
    known = statement if _KNOWS_EXISTS else _filter_exists(statement)
    return known.options(with_loader_criteria(SoftDeletable, _is_live, include_aliases=True))


# Before 2.1 the subqueries of any() and has() are built without their model.
_KNOWS_EXISTS = tuple(map(int, sa.__version__.split(".")[:2])) >= (2, 1)


def _filter_exists(statement: Any) -> Any:
    """The statement with the criteria in the any() and has() of its WHERE."""
    if not getattr(statement, "_where_criteria", ()):
        return statement

    def replace(element: Any, **options: object) -> Any:
        if not isinstance(element, sa.Select):
            return None
        if element._propagate_attrs:
            return element  # SQLAlchemy sees to those that know their model.
        marks = {mapper.columns["deleted_at"] for mapper in _mappers(SoftDeletable)}
        for source in element._from_obj:
            found = {source.corresponding_column(mark) for mark in marks} - {None}
            element = element.where(*(column.is_(None) for column in found if column is not None))
        return element

    filtered = statement._clone()
    filtered._where_criteria = tuple(
        visitors.replacement_traverse(criterion, {}, replace)
        for criterion in statement._where_criteria
    )
    return filtered


@event.listens_for(SoftDeletable, "after_mapper_constructed", propagate=True)
def _refuse_half(mapper: Mapper[Any], model: type[Any]) -> None:
    above = mapper.inherits
    if above is not None and not mapper.concrete and not issubclass(above.class_, SoftDeletable):
        raise sa.exc.ArgumentError(
            f"{model.__name__} is SoftDeletable, and {above.class_.__name__}, from which it "
            f"inherits, is not: a query for {above.class_.__name__} would show deleted rows. "
            "Make that SoftDeletable."
        )


def _mappers(model: type[Any]) -> Iterator[Mapper[Any]]:
    for each in model.__subclasses__():
        mapper = sa.inspect(each, raiseerr=False)
        if mapper is not None:
            yield mapper
        yield from _mappers(each)


@event.listens_for(LiveSession, "after_flush")
def _note_deleted(session: Session, context: object) -> None:
    session.info[_LEAVING] = [
        instance
        for instance in (*session.new, *session.dirty)
        if isinstance(instance, SoftDeletable)
        # A function such as now() is not None either.
        and _is_set(instance)
    ]


def _is_set(instance: SoftDeletable) -> bool:
    added = sa.inspect(instance).attrs.deleted_at.history.added or ()
    return any(value is not None for value in added)


@event.listens_for(LiveSession, "after_flush_postexec")
def _let_deleted_go(session: Session, context: object) -> None:
    for instance in session.info.pop(_LEAVING, ()):
        session.expunge(instance)
