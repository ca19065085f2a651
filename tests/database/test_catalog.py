"""Tables, columns and indexes: what DDL said is what inspect_database reads back.

Foreign keys: test_catalog_keys.py. Strange names and bad neighbours: test_catalog_hostile.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import psycopg2
import pytest

from fkdoctor.config import Config
from fkdoctor.database import connect, open_engine, resolve_target
from fkdoctor.inspect.catalog import inspect_database
from fkdoctor.schema import (
    Column,
    Constraint,
    IndexKey,
    RewriteRule,
    Schema,
    Table,
    TableKind,
    TableName,
    Trigger,
    TriggerState,
    UniqueKey,
)

Inspect = Callable[..., Schema]
Execute = Callable[[str], list[tuple[object, ...]]]


def _table(schema: Schema, name: str) -> Table:
    return schema.table(TableName("public", name))


def _column(schema: Schema, name: str) -> Column:
    return _table(schema, "t").column(name)


# Tables


def test_an_empty_database_has_no_tables(inspect_after: Inspect, major: int) -> None:
    schema = inspect_after()
    assert (schema.tables, schema.foreign_keys, schema.views) == ((), (), frozenset())
    assert schema.unread == ()
    assert schema.major == major
    assert schema.replication_role == "origin"
    assert schema.database.startswith("fkd_")


def test_tables_are_told_from_views_and_from_what_is_not_a_table(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create schema other;
        create table t (id int);
        create unlogged table other.t (id int);
        create temp table gone (id int);
        create view v as select 1 as one;
        create materialized view m as select 1 as one;
        create sequence s;
        create type composite as (x int);
        """
    )
    assert [(str(table.name), table.kind, table.persistence) for table in schema.tables] == [
        ("other.t", TableKind.TABLE, "u"),
        ("public.t", TableKind.TABLE, "p"),
    ]
    assert {str(view) for view in schema.views} == {"public.v", "public.m"}


@pytest.mark.usefixtures("superuser")
def test_foreign_tables_are_read(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create foreign data wrapper far;
        create server away foreign data wrapper far;
        create foreign table f (id int not null check (id > 0)) server away;
        """
    )
    table = _table(schema, "f")
    assert table.kind is TableKind.FOREIGN
    assert table.column("id").not_null
    assert [constraint.kind for constraint in table.constraints] == ["c"]


def test_temporary_tables_of_our_own_session_are_left_out(database_url: str) -> None:
    with connect(open_engine(resolve_target(database_url, Config(), {}))) as connection:
        for statement in (
            "create temp table pg_class (oid int primary key)",
            "create temp table t (id int references pg_temp.pg_class, check (id > 0))",
            "create temp table p (id int primary key) partition by range (id)",
            "create temp table p1 partition of p for values from (0) to (9)",
            "create temp view v as select 1 as one",
        ):
            connection.exec_driver_sql(statement)
        connection.commit()
        schema = inspect_database(connection)
    assert (schema.tables, schema.foreign_keys, schema.views) == ((), (), frozenset())


def test_partitions_know_the_table_they_belong_to(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table p (id int, at date, region text) partition by range (at, (id % 10));
        create table p1 partition of p for values from ('2025-01-01', 0) to ('2026-01-01', 0)
            partition by list (region);
        create table p1_kr partition of p1 for values in ('kr');
        create table p1_rest partition of p1 default;
        create table p2 (region text, id int, at date);
        alter table p attach partition p2 for values from ('2026-01-01', 0) to ('2027-01-01', 0);
        create table h (id int) partition by hash (id);
        """
    )
    told = {
        table.name.name: (
            table.kind.value,
            table.partition_of and table.partition_of.name,
            table.partition_key,
            table.inherits,
        )
        for table in schema.tables
    }
    assert told == {
        "p": ("p", None, "RANGE (at, ((id % 10)))", ()),
        "p1": ("p", "p", "LIST (region)", ()),
        "p1_kr": ("r", "p1", None, ()),
        "p1_rest": ("r", "p1", None, ()),
        "p2": ("r", "p", None, ()),
        "h": ("p", None, "HASH (id)", ()),
    }
    leaves = schema.leaves(TableName("public", "p"))
    assert sorted(leaf.name.name for leaf in leaves) == ["p1_kr", "p1_rest", "p2"]
    assert [column.name for column in _table(schema, "p2").columns] == ["region", "id", "at"]


def test_a_detached_partition_is_a_table_again(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table p (id int) partition by range (id);
        create table p1 partition of p for values from (0) to (10);
        alter table p detach partition p1;
        """
    )
    assert _table(schema, "p1").partition_of is None
    assert schema.leaves(TableName("public", "p")) == ()


def test_inheritance_keeps_the_order_of_the_parents(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table z (a int); create table y (b int);
        create table heir (c int) inherits (z, y);
        """
    )
    heir = _table(schema, "heir")
    assert [parent.name for parent in heir.inherits] == ["z", "y"]
    assert heir.partition_of is None
    assert [column.name for column in heir.columns] == ["a", "b", "c"]


def test_rows_are_estimated_only_where_postgresql_counted_them(
    inspect_after: Inspect, major: int
) -> None:
    schema = inspect_after(
        """
        create table t (id int primary key); insert into t select generate_series(1, 40);
        create table empty (id int);
        create table p (id int) partition by range (id);
        create table p1 partition of p for values from (0) to (10);
        """
    )
    assert {table.row_estimate for table in schema.tables} == {None}
    schema = inspect_after("analyze t; analyze empty; analyze p1; insert into p1 values (1), (2);")
    assert _table(schema, "t").row_estimate == 40
    assert _table(schema, "t").size_bytes == 8192
    # Before 14 an empty table looks like one that was never analysed.
    assert _table(schema, "empty").row_estimate == (0 if major >= 14 else None)
    assert schema.row_estimate(TableName("public", "p")) == (0 if major >= 14 else None)
    schema = inspect_after("analyze p1;")
    assert schema.row_estimate(TableName("public", "p")) == 2


def test_row_security_replica_identity_owner_and_comment_are_read(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table plain (id int);
        create table secured (id int); alter table secured enable row level security;
        create table forced (id int);
        alter table forced enable row level security, force row level security;
        create table whole (id int); alter table whole replica identity full;
        create table keyed (id int not null unique);
        alter table keyed replica identity using index keyed_id_key;
        create table nameless (id int); alter table nameless replica identity nothing;
        comment on table plain is 'for 100% of :jobs';
        """
    )
    told = {
        table.name.name: (table.row_security, table.force_row_security, table.replica_identity)
        for table in schema.tables
    }
    assert told == {
        "plain": (False, False, "d"),
        "secured": (True, False, "d"),
        "forced": (True, True, "d"),
        "whole": (False, False, "f"),
        "keyed": (False, False, "i"),
        "nameless": (False, False, "n"),
    }
    assert _table(schema, "plain").comment == "for 100% of :jobs"
    assert _table(schema, "whole").comment is None
    assert all(table.readable for table in schema.tables)


def test_an_owner_is_named(inspect_after: Inspect, execute: Execute) -> None:
    schema = inspect_after("create table t (id int)")
    assert [(_table(schema, "t").owner,)] == execute("select current_user::text")


def test_rules_are_read_with_event_and_state(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table t (id int, gone boolean);
        create rule keep as on delete to t do instead update t set gone = true where id = old.id;
        create rule note as on insert to t do also select 1;
        create rule off as on update to t do instead nothing;
        alter table t disable rule off;
        alter table t enable always rule note;
        create view v as select * from t;
        """
    )
    assert _table(schema, "t").rules == (
        RewriteRule(name="keep", event="DELETE", instead=True, state=TriggerState.ORIGIN),
        RewriteRule(name="note", event="INSERT", instead=False, state=TriggerState.ALWAYS),
        RewriteRule(name="off", event="UPDATE", instead=True, state=TriggerState.DISABLED),
    )


FUNCTION = """
    create schema fn;
    create function fn."Note it"() returns trigger language plpgsql
        as 'begin return null; end';
"""


def test_triggers_are_read_in_firing_order(inspect_after: Inspect) -> None:
    schema = inspect_after(
        FUNCTION
        + """
        create table t (id int primary key, a int);
        create table r (id int references t);
        create trigger b before insert or update of a on t for each row
            execute function fn."Note it"();
        create trigger "B" after delete on t for each row execute function fn."Note it"();
        create trigger a after truncate on t for each statement execute function fn."Note it"();
        create trigger z before delete on t for each row when (old.a > 1)
            execute function fn."Note it"();
        create constraint trigger later after insert on t deferrable initially deferred
            for each row execute function fn."Note it"();
        alter table t disable trigger a;
        alter table t enable replica trigger b;
        alter table t enable always trigger z;
        """
    )
    told = [astuple(trigger) for trigger in _table(schema, "t").triggers]
    function = 'fn."Note it"'
    assert told == [
        ("B", function, "AFTER", ("DELETE",), True, TriggerState.ORIGIN, (), False),
        ("a", function, "AFTER", ("TRUNCATE",), False, TriggerState.DISABLED, (), False),
        ("b", function, "BEFORE", ("INSERT", "UPDATE"), True, TriggerState.REPLICA, ("a",), False),
        ("later", function, "AFTER", ("INSERT",), True, TriggerState.ORIGIN, (), False),
        ("z", function, "BEFORE", ("DELETE",), True, TriggerState.ALWAYS, (), True),
    ]


def test_a_trigger_reaches_the_partitions_on_every_version(inspect_after: Inspect) -> None:
    schema = inspect_after(
        FUNCTION
        + """
        create table p (id int primary key, q int references p) partition by range (id);
        create table p1 partition of p for values from (0) to (10);
        create trigger note after delete on p for each row execute function fn."Note it"();
        create constraint trigger later after delete on p for each row
            execute function fn."Note it"();
        create trigger own before delete on p1 for each row execute function fn."Note it"();
        alter table p1 add constraint slow unique (id) deferrable;
        """
    )
    names = {t.name.name: [trigger.name for trigger in t.triggers] for t in schema.tables}
    assert names == {"p": ["later", "note"], "p1": ["later", "note", "own"]}
    assert all(isinstance(trigger, Trigger) for trigger in _table(schema, "p1").triggers)


# Columns


def test_types_are_read_with_their_length_and_without_their_domains(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create schema kinds;
        create type kinds."Mood" as enum ('good');
        create domain short as varchar(10) not null default 'none';
        create domain kinds.shorter as short check (value <> '');
        create domain loose as kinds.shorter;
        create domain list as short[];
        create table t (
            i integer, b bigint, v varchar(7), c char(3), n numeric(10, 2), z timestamptz(3),
            m kinds."Mood", ms kinds."Mood"[], s short, d kinds.shorter, l loose, a list,
            "char" "char", nm name
        );
        """
    )
    told = {
        column.name: (column.type, column.base_type, column.type_modifier)
        for column in _table(schema, "t").columns
    }
    assert told == {
        "i": ("integer", "integer", -1),
        "b": ("bigint", "bigint", -1),
        "v": ("character varying(7)", "character varying", 11),
        "c": ("character(3)", "character", 7),
        "n": ("numeric(10,2)", "numeric", 655366),
        "z": ("timestamp(3) with time zone", "timestamp with time zone", 3),
        "m": ('kinds."Mood"', 'kinds."Mood"', -1),
        "ms": ('kinds."Mood"[]', 'kinds."Mood"[]', -1),
        "s": ("public.short", "character varying", 14),
        "d": ("kinds.shorter", "character varying", 14),
        "l": ("public.loose", "character varying", 14),
        "a": ("public.list", "public.short[]", -1),
        "char": ('"char"', '"char"', -1),
        "nm": ("name", "name", -1),
    }
    assert _column(schema, "l").not_null
    assert _column(schema, "l").default == "'none'::character varying"


@pytest.mark.parametrize("type", ["low", "copied", "dropped", "own", "strict"])
def test_a_domains_default_and_not_null_are_those_postgresql_applies(
    inspect_after: Inspect, execute: Execute, type: str
) -> None:
    schema = inspect_after(
        f"""
        create domain low as int default 1;
        create domain copied as low;
        create domain dropped as low; alter domain dropped drop default;
        create domain own as low default 7;
        create domain strict as copied;
        alter domain low set default 5;
        create table t (id int, a {type}, b {type} default 3, c {type} default null);
        """
    )
    execute("insert into t (id) values (1)")
    ((a, b, c),) = execute("select a, b, c from t")
    assert (a, b, c) == (
        None if _column(schema, "a").default is None else int(_column(schema, "a").default),
        int(_column(schema, "b").default.split(":")[0].strip("'()")),
        None,
    )
    assert _column(schema, "c").default.startswith("NULL")
    schema = inspect_after("delete from t; alter domain low set not null")
    assert [column.not_null for column in _table(schema, "t").columns] == [False, True, True, True]


def test_not_null_default_and_identity_are_read(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create function f() returns int language sql as 'select 1';
        create table t (
            always int generated always as identity,
            by_default int generated by default as identity,
            old serial,
            called int not null default f(),
            plain text default 'a%b:c' || 'd',
            nothing int
        );
        """
    )
    told = {
        column.name: (column.not_null, column.default, column.identity)
        for column in _table(schema, "t").columns
    }
    assert told == {
        "always": (True, None, True),
        "by_default": (True, None, True),
        "old": (True, "nextval('public.t_old_seq'::regclass)", False),
        "called": (True, "public.f()", False),
        "plain": (False, "('a%b:c'::text || 'd'::text)", False),
        "nothing": (False, None, False),
    }


def test_generated_columns_are_no_columns_with_a_default(
    inspect_after: Inspect, major: int
) -> None:
    virtual = ", v int generated always as (a + 2) virtual" if major >= 18 else ""
    schema = inspect_after(
        f"create table t (a int default 1, s int generated always as (a + 1) stored{virtual})"
    )
    told = [(column.name, column.generated, column.default) for column in schema.tables[0].columns]
    expected = [("a", False, "1"), ("s", True, None), ("v", True, None)]
    assert told == expected[: len(told)]
    assert len(told) == (3 if major >= 18 else 2)


def test_collations_are_read_with_their_determinism(inspect_after: Inspect, has_icu: bool) -> None:
    if not has_icu:
        pytest.skip("this server is built without ICU")
    schema = inspect_after(
        """
        create schema words;
        create collation words."No case" (provider = icu, locale = 'und-u-ks-level2',
            deterministic = false);
        create domain caseless as text collate words."No case";
        create table t (
            i int, plain text, c text collate "C", n text collate words."No case", d caseless
        );
        create index on t (n);
        create index on t (n collate "C");
        """
    )
    told = [(column.collation, column.deterministic) for column in _table(schema, "t").columns]
    nondeterministic = ('words."No case"', False)
    assert told == [
        (None, True),
        ('pg_catalog."default"', True),
        ('pg_catalog."C"', True),
        nondeterministic,
        nondeterministic,
    ]
    collations = {index.keys[0].collation for index in _table(schema, "t").indexes}
    assert collations == {'words."No case"', 'pg_catalog."C"'}


def test_dropped_columns_leave_no_trace(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table up (gone int, id int, x int, primary key (id, x));
        create table t (gone int, a int, gone_too text, b int, c int, x int,
            foreign key (x, b) references up (x, id));
        create index on t (c, b) include (a);
        alter table up drop column gone;
        alter table t drop column gone, drop column gone_too;
        alter table t add column last int check (last > b);
        """
    )
    table = _table(schema, "t")
    assert [column.name for column in table.columns] == ["a", "b", "c", "x", "last"]
    assert [(index.columns, index.include) for index in table.indexes] == [(("c", "b"), ("a",))]
    (key,) = schema.foreign_keys
    assert (key.referencing_columns, key.referenced_columns) == (("x", "b"), ("x", "id"))
    assert [set(constraint.columns) for constraint in table.constraints] == [{"b", "last"}]


# Indexes and keys


def test_index_keys_are_read_with_class_order_and_collation(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table t (a int, b text, c text, d int[]);
        create index many on t (
            a desc, b collate "C" text_pattern_ops nulls first, (lower(c) || '%:x') desc nulls last,
            (a + 1)
        ) include (c, d);
        create index arrays on t using gin (d);
        create index hashed on t using hash (b);
        create index blocks on t using brin (a);
        """
    )
    by_name = {index.name: index for index in _table(schema, "t").indexes}
    many = by_name["many"]
    assert (many.method, many.columns, many.include) == ("btree", None, ("c", "d"))
    assert many.keys == (
        IndexKey(
            column="a",
            expression=None,
            operator_class="int4_ops",
            operator_family="btree pg_catalog.integer_ops",
            collation=None,
            descending=True,
            nulls_first=True,
        ),
        IndexKey(
            column="b",
            expression=None,
            operator_class="text_pattern_ops",
            operator_family="btree pg_catalog.text_pattern_ops",
            collation='pg_catalog."C"',
            descending=False,
            nulls_first=True,
        ),
        IndexKey(
            column=None,
            expression="((lower(c) || '%:x'::text))",
            operator_class="text_ops",
            operator_family="btree pg_catalog.text_ops",
            collation='pg_catalog."default"',
            descending=True,
            nulls_first=False,
        ),
        IndexKey(
            column=None,
            expression="((a + 1))",
            operator_class="int4_ops",
            operator_family="btree pg_catalog.integer_ops",
            collation=None,
            descending=False,
            nulls_first=False,
        ),
    )
    assert many.definition.startswith("CREATE INDEX many ON public.t USING btree (a DESC, b")
    assert {
        name: (index.method, index.keys[0].operator_family) for name, index in by_name.items()
    } == {
        "many": ("btree", "btree pg_catalog.integer_ops"),
        "arrays": ("gin", "gin pg_catalog.array_ops"),
        "hashed": ("hash", "hash pg_catalog.text_ops"),
        "blocks": ("brin", "brin pg_catalog.integer_minmax_ops"),
    }


def test_unique_keys_are_those_that_hold_for_every_row(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table t (
            id int constraint "the key" primary key, a int, b int, c int,
            constraint pair unique (b, a) deferrable initially deferred
        );
        create unique index bare on t (c) include (a);
        create unique index part on t (a) where c > 0;
        create unique index half on t ((a + b));
        create index plain on t (a);
        comment on index bare is 'it''s 100% :bare';
        """
    )
    table = _table(schema, "t")

    def key(name: str, *columns: str, primary: bool = False, late: bool = False) -> UniqueKey:
        return UniqueKey(
            name=name,
            columns=columns,
            primary=primary,
            deferrable=late,
            nulls_not_distinct=False,
        )

    assert table.unique_keys == (
        key("the key", "id", primary=True),
        key("bare", "c"),
        key("pair", "b", "a", late=True),
    )
    assert table.primary_key == table.unique_keys[0]
    told = {
        index.name: (index.unique, index.primary, index.immediate, index.constraint)
        for index in table.indexes
    }
    assert told == {
        "the key": (True, True, True, "the key"),
        "pair": (True, False, False, "pair"),
        "bare": (True, False, True, None),
        "part": (True, False, True, None),
        "half": (True, False, True, None),
        "plain": (False, False, True, None),
    }
    by_name = {index.name: index for index in table.indexes}
    assert by_name["part"].predicate == "(c > 0)"
    assert by_name["bare"].comment == "it's 100% :bare"
    assert all(index.valid and index.ready and index.live for index in table.indexes)


def test_nulls_not_distinct_is_read(inspect_after: Inspect, major: int) -> None:
    if major < 15:
        pytest.skip("NULLS NOT DISTINCT came with PostgreSQL 15")
    schema = inspect_after(
        """
        create table t (a int unique nulls not distinct, b int unique);
        create unique index i on t (a, b) nulls not distinct;
        """
    )
    told = {key.name: key.nulls_not_distinct for key in _table(schema, "t").unique_keys}
    assert told == {"t_a_key": True, "t_b_key": False, "i": True}


def test_an_index_that_failed_to_build_is_not_valid(
    inspect_after: Inspect, database_url: str
) -> None:
    schema = inspect_after("create table t (a int); insert into t values (1), (1)")
    connection = psycopg2.connect(database_url)
    connection.autocommit = True
    with connection.cursor() as cursor, pytest.raises(psycopg2.errors.UniqueViolation):
        cursor.execute("create unique index concurrently twice on t (a)")
    connection.close()
    schema = inspect_after()
    (index,) = _table(schema, "t").indexes
    assert (index.name, index.unique, index.valid) == ("twice", True, False)
    assert _table(schema, "t").unique_keys == ()


def test_indexes_of_partitions_know_the_index_above(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table p (id int primary key, a int) partition by range (id);
        create table p1 partition of p for values from (0) to (10) partition by range (id);
        create table p11 partition of p1 for values from (0) to (5);
        create index above on p (a);
        create index alone on p11 (a, id);
        create index only_here on only p (a, id);
        """
    )
    told = {
        (table.name.name, index.name): (index.parent, index.valid)
        for table in schema.tables
        for index in table.indexes
    }
    assert told == {
        ("p", "p_pkey"): (None, True),
        ("p1", "p1_pkey"): ("p_pkey", True),
        ("p11", "p11_pkey"): ("p1_pkey", True),
        ("p", "above"): (None, True),
        ("p1", "p1_a_idx"): ("above", True),
        ("p11", "p11_a_idx"): ("p1_a_idx", True),
        ("p11", "alone"): (None, True),
        ("p", "only_here"): (None, False),
    }


def test_check_and_exclusion_constraints_are_read(inspect_after: Inspect, major: int) -> None:
    schema = inspect_after(
        """
        create table t (
            a int, b int, r int4range,
            constraint sum check (a + b > 0), constraint always check (true),
            constraint apart exclude using gist (r with &&) where (a > 0)
        );
        alter table t add constraint late check (a <> 5) not valid;
        """
        + ("alter table t add constraint lax check (a <> 6) not enforced;" if major >= 18 else "")
    )
    by_name = {constraint.name: constraint for constraint in _table(schema, "t").constraints}
    lax = by_name.pop("lax", None)
    assert by_name == {
        "always": Constraint(
            name="always",
            kind="c",
            columns=(),
            validated=True,
            enforced=True,
            definition="CHECK (true)",
        ),
        "apart": Constraint(
            name="apart",
            kind="x",
            columns=("r",),
            validated=True,
            enforced=True,
            definition="EXCLUDE USING gist (r WITH &&) WHERE ((a > 0))",
        ),
        "late": Constraint(
            name="late",
            kind="c",
            columns=("a",),
            validated=False,
            enforced=True,
            definition="CHECK ((a <> 5)) NOT VALID",
        ),
        "sum": Constraint(
            name="sum",
            kind="c",
            columns=("a", "b"),
            validated=True,
            enforced=True,
            definition="CHECK (((a + b) > 0))",
        ),
    }
    assert (lax is None) == (major < 18)
    if lax is not None:
        assert (lax.enforced, lax.validated) == (False, False)
    (index,) = (i for i in _table(schema, "t").indexes if i.constraint == "apart")
    assert (index.unique, index.method, index.predicate) == (False, "gist", "(a > 0)")
    assert _table(schema, "t").unique_keys == ()


def test_a_key_without_overlaps_is_unique(inspect_after: Inspect, major: int) -> None:
    if major < 18:
        pytest.skip("WITHOUT OVERLAPS came with PostgreSQL 18")
    schema = inspect_after(
        """
        create extension btree_gist;
        create table t (id int, at daterange, primary key (id, at without overlaps));
        """
    )
    key = _table(schema, "t").primary_key
    assert key is not None
    assert key.columns == ("id", "at")


@pytest.mark.usefixtures("superuser")
def test_the_types_of_extensions_are_read_like_others(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create extension if not exists citext;
        create table t (name citext primary key);
        create table r (name citext references t);
        create index on r (name);
        """
    )
    assert _column(schema, "name").base_type == "public.citext"
    (key,) = schema.foreign_keys
    assert [operator.name for operator in key.operators] == ["public.="]
    (index,) = _table(schema, "r").indexes
    assert index.keys[0].operator_family == "btree public.citext_ops"
    assert index.keys[0].operator_family in key.operators[0].families
