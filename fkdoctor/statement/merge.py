"""What applying a plan does to a batch: lock, check, repoint, delete, and write it all down."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import ClauseElement, ColumnElement, Delete, Executable, FromClause, Insert, Update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from fkdoctor.schema import ForeignKey, Table, TableKind, TableName
from fkdoctor.statement.ascent import new_reference
from fkdoctor.statement.journal import (
    JOURNAL,
    REDIRECT,
    RUN,
    STEP,
    moves_identity,
    rename_entries,
    stored_columns,
)
from fkdoctor.statement.members import (
    MemberTable,
    fingerprint_row,
    is_going,
    is_own_link,
)
from fkdoctor.statement.parts import (
    GivenArray,
    Query,
    alone,
    alone_change,
    collated,
    equal,
    image,
    make_table,
    match_key,
    plain_type,
    references,
    text_array,
)


def fill_members(members: MemberTable) -> Insert:
    """Puts the members of a plan in: binds are arrays `clusters`, `survivors`, `fingerprints` and,
    as text, `member_i` and `keep_i` for each column of the primary key."""
    names = [f"{kind}_{i}" for kind in ("member", "keep") for i in range(members.key_width)]
    given = (
        sa.func.unnest(
            sa.bindparam("clusters", type_=GivenArray("int4")),
            sa.bindparam("survivors", type_=GivenArray("bool")),
            sa.bindparam("fingerprints", type_=GivenArray("text")),
            *(sa.bindparam(name, type_=GivenArray("text")) for name in names),
        )
        .table_valued("cluster", "is_survivor", "fingerprint", *names)
        .render_derived()
    )
    types = [plain_type(members.column(column)) for column in members.key_columns] * 2
    selected = sa.select(
        given.c.cluster,
        given.c.is_survivor,
        given.c.fingerprint,
        *(sa.cast(given.c[name], type_) for name, type_ in zip(names, types, strict=True)),
    )
    target = [members.clause.c[name] for name in ("cluster", "is_survivor", "fingerprint", *names)]
    return members.clause.insert().from_select(target, selected)


def lock_members(members: MemberTable) -> Query:
    """Locks the rows of all members against every change and every new reference, in key order.

    FOR UPDATE is the only row lock that a foreign key's check of an insert waits for.
    """
    return (
        alone(
            sa.select(sa.literal(1)).select_from(_member_rows(members)), members.table, members.row
        )
        .order_by(*members.row_key)
        .with_for_update(of=members.row)
    )


def _member_rows(members: MemberTable) -> FromClause:
    return members.clause.join(members.row, equal(members.row_key, members.member_key))


def find_stale_clusters(members: MemberTable) -> Query:
    """The clusters of which a row is gone or not as it was when the plan was made."""
    changed = fingerprint_row() != members.clause.c.fingerprint
    rows = members.clause.outerjoin(members.row, equal(members.row_key, members.member_key))
    return (
        alone(
            sa.select(members.clause.c.cluster).distinct().select_from(rows),
            members.table,
            members.row,
        )
        .where(sa.or_(members.row_key[0].is_(None), changed))
        .order_by(members.clause.c.cluster)
    )


def drop_clusters(members: MemberTable) -> Delete:
    """Takes the clusters numbered in the bind `clusters` out of the batch."""
    wanted = sa.bindparam("clusters", type_=GivenArray("int4"))
    return members.clause.delete().where(members.clause.c.cluster == sa.any_(wanted))


def drop_derived(members: MemberTable) -> Delete:
    """Takes out of the deduplicated table's members what was derived: rows that collide, and those
    for which they go."""
    duplicate = members.clause.alias("duplicate")
    serves = (
        sa.select(sa.literal(1))
        .select_from(duplicate)
        .where(
            ~duplicate.c.is_survivor,
            duplicate.c.because.is_(None),
            equal(members.values("keep", members.key_columns, duplicate), members.member_key),
        )
        .correlate(members.clause)
        .exists()
    )
    return members.clause.delete().where(
        sa.or_(
            members.clause.c.because.is_not(None), sa.and_(members.clause.c.is_survivor, ~serves)
        )
    )


def carry_values(members: MemberTable) -> Sequence[Update]:
    """Fills the carried columns beyond the primary key from the (locked) rows."""
    others = members.carried[members.key_width :]
    if not others:
        return ()
    statements = []
    for kind, key in (("member", members.member_key), ("keep", members.keep_key)):
        values = {
            members.clause.c[f"{kind}_{members.carried.index(column)}"]: members.row.c[column]
            for column in others
        }
        statement = members.clause.update().values(values).where(equal(members.row_key, key))
        statements.append(alone_change(statement, members.table, members.row))
    return statements


def repoint_and_record(
    members: MemberTable, key: ForeignKey, referencing: Table, going: MemberTable | None
) -> Query:
    """Repoints every reference to a duplicate to its survivor and writes each into the journal.

    Left out are rows that go themselves, as `going` says, the members of the referencing table; a
    survivor's reference to a duplicate of its own is set to NULL. One row: how many references
    moved, and how many of them do not point at the survivor now. The old values come from the rows
    themselves: what the key calls equal need not be the same text.
    """
    if _tells_old_values(members, key, referencing):
        return _repoint_directly(members, key, referencing, going)
    identity = referencing.row_identity
    columns = [referencing.column(name) for name in key.referencing_columns]
    referenced = [members.column(name) for name in key.referenced_columns]
    old = make_table(referencing.name, {*identity, *key.referencing_columns}).alias("old")
    pointing = (
        alone(
            sa.select(
                members.clause.c.cluster,
                *(old.c[name].label(f"key_{i}") for i, name in enumerate(identity)),
                *(old.c[column.name].label(f"old_{i}") for i, column in enumerate(columns)),
                *(
                    value.label(f"keep_{i}")
                    for i, value in enumerate(new_reference(members, key, members.clause, old))
                ),
                (
                    is_own_link(members, members.clause, old)
                    if key.self_referencing
                    else sa.literal(False)
                ).label("own"),
            )
            .select_from(
                members.clause.join(
                    old, references(key, members.values("member", key.referenced_columns), old)
                )
            )
            .where(~members.clause.c.is_survivor, *([~is_going(going, old)] if going else [])),
            referencing,
            old,
        )
        .with_for_update(of=old)
        .cte("pointing")
    )
    new = make_table(referencing.name, {*identity, *key.referencing_columns})
    kept = [collated(column, pointing.c[f"keep_{i}"]) for i, column in enumerate(referenced)]
    moved = (
        alone_change(sa.update(new), referencing)
        .values({column.name: value for column, value in zip(columns, kept, strict=True)})
        .where(
            equal(
                [new.c[name] for name in identity],
                [pointing.c[f"key_{i}"] for i in range(len(identity))],
            )
        )
        .returning(
            pointing.c.cluster,
            text_array([new.c[name] for name in identity]).label("key"),
            image(columns, [pointing.c[f"old_{i}"] for i in range(len(columns))]).label("before"),
            image(columns, [new.c[column.name] for column in columns]).label("after"),
            sa.or_(
                match_key(key, kept, [new.c[column.name] for column in columns]),
                sa.and_(
                    pointing.c.own,
                    sa.or_(*(value.is_(None) for value in kept)),
                    sa.or_(*(new.c[c.name].is_(None) for c in columns)),
                ),
            ).label("arrived"),
            text_array([pointing.c[f"key_{i}"] for i in range(len(identity))]).label("old_key"),
        )
        .cte("moved")
    )
    astray: ColumnElement[int] = sa.func.count().filter(moved.c.arrived.is_not(True))
    if referencing.kind is TableKind.PARTITIONED:
        # A row that changes its partition is inserted there, and a trigger can let it vanish.
        found = sa.select(sa.func.count()).select_from(pointing).scalar_subquery()
        astray = astray + found - sa.func.count()
    return _record_moved(moved, astray, moves_identity(referencing, key.referencing_columns))


# Types of which values that are equal are written alike, whatever row they are in.
_ONE_TEXT = frozenset(
    ["smallint", "integer", "bigint", "oid", "uuid", "text", "boolean", "bytea", "date"]
    + [
        "character varying",
        "timestamp without time zone",
        "timestamp with time zone",
    ]
)


def _tells_old_values(members: MemberTable, key: ForeignKey, referencing: Table) -> bool:
    """Whether what a row references tells to the letter what it holds."""
    pairs = [
        (referencing.column(pointer), members.column(name))
        for pointer, name in zip(key.referencing_columns, key.referenced_columns, strict=True)
    ]
    return (
        type(key) is ForeignKey
        and not key.self_referencing
        and referencing.kind is TableKind.TABLE
        and all(
            one.base_type == other.base_type
            and one.base_type in _ONE_TEXT
            and one.deterministic
            and other.deterministic
            for one, other in pairs
        )
    )


def _repoint_directly(
    members: MemberTable, key: ForeignKey, referencing: Table, going: MemberTable | None
) -> Query:
    """The same where no row need be read before it is changed."""
    identity = referencing.row_identity
    columns = [referencing.column(name) for name in key.referencing_columns]
    rows = make_table(referencing.name, {*identity, *key.referencing_columns})
    before = members.values("member", key.referenced_columns)
    kept = members.values("keep", key.referenced_columns)
    was = {c.name: value for c, value in zip(columns, before, strict=True)}
    after = [rows.c[column.name] for column in columns]
    moved = (
        alone_change(sa.update(rows), referencing)
        .values({column.name: value for column, value in zip(columns, kept, strict=True)})
        .where(
            references(key, before, rows),
            ~members.clause.c.is_survivor,
            *([~is_going(going, rows)] if going else []),
        )
        .returning(
            members.clause.c.cluster,
            text_array([rows.c[name] for name in identity]).label("key"),
            image(columns, before).label("before"),
            image(columns, after).label("after"),
            match_key(key, kept, after).label("arrived"),
            text_array([was.get(name, rows.c[name]) for name in identity]).label("old_key"),
        )
        .cte("moved")
    )
    astray = sa.func.count().filter(moved.c.arrived.is_not(True))
    return _record_moved(moved, astray, moves_identity(referencing, key.referencing_columns))


def _record_moved(moved: sa.CTE, astray: ColumnElement[int], moving: bool) -> Query:
    """Writes what moved into the journal; `moving` is whether rows are known otherwise now."""
    written = (
        JOURNAL.insert()
        .from_select(
            list(JOURNAL.c),
            sa.select(
                RUN,
                moved.c.cluster,
                STEP,
                moved.c.key,
                moved.c.before,
                moved.c.after,
                sa.literal(moving),
            ),
        )
        .cte("written")
    )
    counted = sa.select(sa.func.count(), astray).select_from(moved).add_cte(written)
    if moving:
        counted = counted.add_cte(rename_entries(moved.c.old_key, moved.c.key))
    return counted


def select_duplicates(members: MemberTable) -> Query:
    """The keys of the duplicates."""
    return sa.select(*members.member_key).where(~members.clause.c.is_survivor)


def delete_and_record(members: MemberTable) -> Query:
    """Deletes the duplicates, which nothing references any more; each goes into the journal.

    One row: how many were deleted.
    """
    columns = stored_columns(members.table)
    names = {*members.key_columns, *(column.name for column in columns)}
    row = make_table(members.table.name, names)
    gone = (
        alone_change(row.delete(), members.table)
        .where(
            equal([row.c[column] for column in members.key_columns], members.member_key),
            ~members.clause.c.is_survivor,
        )
        .returning(
            members.clause.c.cluster,
            text_array([row.c[column] for column in members.key_columns]).label("key"),
            image(columns, [row.c[column.name] for column in columns]).label("before"),
        )
        .cte("gone")
    )
    written = (
        JOURNAL.insert()
        .from_select(
            list(JOURNAL.c),
            sa.select(
                RUN, gone.c.cluster, STEP, gone.c.key, gone.c.before, sa.null(), sa.literal(False)
            ),
        )
        .cte("written")
    )
    return sa.select(sa.func.count()).select_from(gone).add_cte(written)


def count_survivors(members: MemberTable) -> Query:
    """How many survivors there are."""
    return alone(
        sa.select(sa.func.count())
        .select_from(_member_rows(members))
        .where(members.clause.c.is_survivor),
        members.table,
        members.row,
    )


def record_redirects(members: MemberTable) -> Insert:
    """Writes down where each duplicate's key leads now; a link's leads nowhere."""
    return REDIRECT.insert().from_select(
        list(REDIRECT.c),
        sa.select(
            RUN,
            members.clause.c.cluster,
            text_array(members.member_key),
            text_array(members.keep_key),
            STEP,
        ).where(~members.clause.c.is_survivor, members.clause.c.keep_0.is_not(None)),
    )


class LockTable(Executable, ClauseElement):
    """LOCK TABLE … IN SHARE ROW EXCLUSIVE MODE: nobody else writes, everybody may read."""

    inherit_cache = False

    def __init__(self, name: TableName) -> None:
        self.table = make_table(name, ())


@compiles(LockTable)
def _compile_lock_table(element: LockTable, compiler: SQLCompiler, **kw: object) -> str:
    table = compiler.process(element.table, asfrom=True)
    return f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"
