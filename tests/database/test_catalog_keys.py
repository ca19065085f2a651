"""Foreign keys: what DDL said is what inspect_database reads back, partitions folded."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fkdoctor.identifier import quote
from fkdoctor.schema import (
    ForeignKey,
    KeyTrigger,
    MatchType,
    ReferentialAction,
    Schema,
    TableName,
    TriggerState,
)

Inspect = Callable[..., Schema]
Execute = Callable[[str], list[tuple[object, ...]]]

CASCADE, NO_ACTION = ReferentialAction.CASCADE, ReferentialAction.NO_ACTION
ON_DELETE = {
    ReferentialAction.NO_ACTION: "RI_FKey_noaction_del",
    ReferentialAction.RESTRICT: "RI_FKey_restrict_del",
    ReferentialAction.CASCADE: "RI_FKey_cascade_del",
    ReferentialAction.SET_NULL: "RI_FKey_setnull_del",
    ReferentialAction.SET_DEFAULT: "RI_FKey_setdefault_del",
}


def _public(name: str) -> TableName:
    return TableName("public", name)


def _key(schema: Schema, table: str, name: str) -> ForeignKey:
    return schema.foreign_key(_public(table), name)


def _spell(key: ForeignKey) -> str:
    """The definition put together from the parts that were read, as pg_get_constraintdef does."""

    def columns(names: tuple[str, ...]) -> str:
        written = [quote(name) for name in names]
        if key.period:
            written[-1] = f"PERIOD {written[-1]}"
        return ", ".join(written)

    text = f"FOREIGN KEY ({columns(key.referencing_columns)})"
    text += f" REFERENCES {key.referenced}({columns(key.referenced_columns)})"
    if key.match is not MatchType.SIMPLE:
        text += f" MATCH {key.match.name}"
    if key.on_update is not NO_ACTION:
        text += f" ON UPDATE {key.on_update.sql}"
    if key.on_delete is not NO_ACTION:
        text += f" ON DELETE {key.on_delete.sql}"
    if key.set_columns:
        text += f" ({', '.join(quote(name) for name in key.set_columns)})"
    text += " DEFERRABLE" * key.deferrable + " INITIALLY DEFERRED" * key.initially_deferred
    if not key.enforced:
        return text + " NOT ENFORCED"
    return text + " NOT VALID" * (not key.validated)


def test_every_combination_of_rules_is_read_back(inspect_after: Inspect, execute: Execute) -> None:
    actions = [action.sql for action in ReferentialAction]
    keys = []
    for number, (on_delete, on_update, match, late, valid) in enumerate(
        itertools.product(
            actions,
            actions,
            ("", "match full"),
            ("", "deferrable", "deferrable initially deferred"),
            ("", "not valid"),
        )
    ):
        keys.append(
            f"add constraint k{number} foreign key (a, b) references other.up (y, x) {match}"
            f" on delete {on_delete} on update {on_update} {late} {valid}"
        )
    schema = inspect_after(
        "create schema other;"
        "create table other.up (x int, y int, primary key (x, y), unique (y, x));"
        "create table down (a int, b int);"
        f"alter table down {', '.join(keys)}"
    )
    written = dict(
        execute(
            "set search_path = ''; select conname::text, pg_catalog.pg_get_constraintdef(oid)"
            " from pg_catalog.pg_constraint where contype = 'f'"
        )
    )
    assert len(written) == len(keys) == 300
    assert {key.name: key.definition for key in schema.foreign_keys} == written
    assert {key.name: _spell(key) for key in schema.foreign_keys} == written
    assert {key.on_delete: key.triggers[0].function for key in schema.foreign_keys} == ON_DELETE
    assert [key.label for key in schema.foreign_keys] == sorted(
        f"public.down.k{number}" for number in range(300)
    )


def test_set_null_and_set_default_know_their_columns(inspect_after: Inspect, major: int) -> None:
    if major < 15:
        pytest.skip("SET NULL (column) came with PostgreSQL 15")
    schema = inspect_after(
        """
        create table up (tenant int, id int, primary key (tenant, id));
        create table down (tenant int, a int, b int,
            constraint one foreign key (tenant, a) references up on delete set null (a),
            constraint two foreign key (tenant, b) references up on delete set default (b, tenant),
            constraint all_of_them foreign key (tenant, a) references up on delete set null);
        """
    )
    told = {key.name: (key.set_columns, key.written_columns) for key in schema.foreign_keys}
    assert told == {
        "one": (("a",), ("a",)),
        "two": (("b", "tenant"), ("b", "tenant")),
        "all_of_them": ((), ("tenant", "a")),
    }
    assert all(_spell(key) == key.definition for key in schema.foreign_keys)


def test_a_key_that_is_not_enforced_is_told_from_one_that_is(
    inspect_after: Inspect, major: int
) -> None:
    ddl = (
        "create table up (id int primary key);"
        "create table down (a int constraint k references up{});"
    )
    enforced = _key(inspect_after(ddl.format("")), "down", "k")
    assert (enforced.enforced, enforced.validated, len(enforced.triggers)) == (True, True, 4)
    if major >= 18:
        schema = inspect_after("drop table down, up;" + ddl.format(" not enforced"))
        lax = _key(schema, "down", "k")
        assert (lax.enforced, lax.validated, lax.triggers) == (False, False, ())
        assert _spell(lax) == lax.definition


def test_a_period_is_read(inspect_after: Inspect, major: int) -> None:
    if major < 18:
        pytest.skip("PERIOD came with PostgreSQL 18")
    schema = inspect_after(
        """
        create extension btree_gist;
        create table up (id int, at daterange, primary key (id, at without overlaps));
        create table down (a int, "At" daterange,
            constraint k foreign key (a, period "At") references up (id, period at));
        """
    )
    key = _key(schema, "down", "k")
    assert key.period
    assert (key.referencing_columns, key.referenced_columns) == (("a", "At"), ("id", "at"))
    assert _spell(key) == key.definition
    assert key.operators[0].name == "pg_catalog.="


def test_a_key_may_reference_its_own_table_and_a_unique_index(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table t (id int primary key, "Up" int constraint up references t, code text);
        create unique index codes on t (code);
        create table r (c text constraint by_code references t (code));
        comment on constraint up on t is 'the 100% :parent';
        """
    )
    up, by_code = _key(schema, "t", "up"), _key(schema, "r", "by_code")
    assert up.self_referencing
    assert up.arrow == '"Up" → public.t(id)'
    assert up.label == "public.t.up"
    assert up.comment == "the 100% :parent"
    assert not by_code.self_referencing
    assert by_code.referenced_columns == ("code",)
    assert by_code.comment is None


def test_columns_are_paired_in_the_order_of_the_key(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table up (a int, b int, c int, unique (c, a));
        create table down (x int, y int, constraint k foreign key (y, x) references up (a, c));
        """
    )
    key = _key(schema, "down", "k")
    assert (key.referencing_columns, key.referenced_columns) == (("y", "x"), ("a", "c"))
    assert key.arrow == "(y, x) → public.up(a, c)"


def test_the_operators_of_a_key_across_types_are_read(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table up (b bigint unique, t text unique, n numeric unique);
        create table down (
            small smallint constraint small references up (b),
            word varchar(9) constraint word references up (t),
            cast_up int constraint cast_up references up (n)
        );
        """
    )
    families = {
        key.name: (
            key.operators[0].name,
            "btree pg_catalog.integer_ops" in key.operators[0].families,
        )
        for key in schema.foreign_keys
    }
    assert families == {
        "small": ("pg_catalog.=", True),
        "word": ("pg_catalog.=", False),
        "cast_up": ("pg_catalog.=", False),
    }
    (small,) = _key(schema, "down", "small").operators
    assert "hash pg_catalog.integer_ops" in small.families
    (word,) = _key(schema, "down", "word").operators
    assert {"btree pg_catalog.text_ops", "hash pg_catalog.text_ops"} <= word.families


# What makes a key work


@pytest.mark.usefixtures("superuser")
def test_a_key_has_its_four_triggers_on_both_tables(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table up (id int primary key);
        create table down (a int constraint k references up on delete cascade);
        alter table up disable trigger all;
        """
    )
    triggers = _key(schema, "down", "k").triggers
    told = {(str(trigger.table), trigger.function, trigger.state) for trigger in triggers}
    assert told == {
        ("public.up", "RI_FKey_cascade_del", TriggerState.DISABLED),
        ("public.up", "RI_FKey_noaction_upd", TriggerState.DISABLED),
        ("public.down", "RI_FKey_check_ins", TriggerState.ORIGIN),
        ("public.down", "RI_FKey_check_upd", TriggerState.ORIGIN),
    }
    assert schema.table(_public("down")).triggers == ()
    assert schema.table(_public("up")).triggers == ()


@pytest.mark.usefixtures("superuser")
def test_triggers_are_in_the_order_in_which_postgresql_fires_them(
    inspect_after: Inspect, execute: Execute
) -> None:
    # The name of such a trigger ends in its OID, and names are compared as text: a key that is
    # made after the OIDs got another digit fires before the older ones. To have it now, the
    # triggers are renamed in the catalog.
    schema = inspect_after(
        """
        create table up (id int primary key);
        create table down (
            a int constraint older references up on delete cascade,
            b int constraint newer references up on delete cascade
        );
        update pg_catalog.pg_trigger as t
        set tgname = case when p.proname like '%del' then 'RI_ConstraintTrigger_a_99986'
            else 'RI_ConstraintTrigger_a_100005' end
        from pg_catalog.pg_proc as p, pg_catalog.pg_constraint as k
        where p.oid = t.tgfoid and k.oid = t.tgconstraint and k.conname = 'older'
            and t.tgrelid = 'up'::regclass;
        update pg_catalog.pg_trigger as t
        set tgname = case when p.proname like '%del' then 'RI_ConstraintTrigger_a_100003'
            else 'RI_ConstraintTrigger_a_100004' end
        from pg_catalog.pg_proc as p, pg_catalog.pg_constraint as k
        where p.oid = t.tgfoid and k.oid = t.tgconstraint and k.conname = 'newer'
            and t.tgrelid = 'up'::regclass;
        """
    )
    fired = sorted(
        (
            (trigger.name.encode(), key.name)
            for key in schema.foreign_keys
            for trigger in key.triggers
            if trigger.function.endswith("del")
        ),
    )
    assert [key for _, key in fired] == ["newer", "older"]
    above = [t.function for t in _key(schema, "down", "older").triggers if t.table.name == "up"]
    assert above == ["RI_FKey_noaction_upd", "RI_FKey_cascade_del"]
    # PostgreSQL itself: the deletes from `down` come in the order in which the triggers fire.
    execute(
        """
        create table log (at serial, what text);
        create function note() returns trigger language plpgsql as $$
            begin
                insert into log (what)
                values (case when old.a is null then 'newer' else 'older' end);
                return old;
            end $$;
        create trigger note before delete on down for each row execute function note();
        insert into up values (1);
        insert into down values (1, null), (null, 1);
        """
    )
    execute("delete from up")
    assert execute("select what from log order by at") == [("newer",), ("older",)]


@pytest.mark.usefixtures("superuser")
def test_a_fingerprint_changes_when_a_key_is_switched_off(inspect_after: Inspect) -> None:
    before = inspect_after(
        "create table up (id int primary key); create table down (a int references up);"
    )
    after = inspect_after("alter table down disable trigger all")
    for table in before.tables:
        assert before.fingerprint([table.name]) != after.fingerprint([table.name])


def test_triggers_are_sorted_by_the_bytes_of_their_names(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table up (id int primary key);
        create table down (a int references up, b int references up);
        """
    )
    for key in schema.foreign_keys:
        assert [trigger.name.encode() for trigger in key.triggers] == sorted(
            trigger.name.encode() for trigger in key.triggers
        )


# Partitions


def _clones(key: ForeignKey) -> list[tuple[str, str]]:
    return sorted((clone.referencing.name, clone.referenced.name) for clone in key.clones)


def _all_triggers(schema: Schema) -> list[KeyTrigger]:
    return [
        trigger
        for key in schema.foreign_keys
        for triggers in (key.triggers, *(clone.triggers for clone in key.clones))
        for trigger in triggers
    ]


TREE = """
    create table up (id int primary key) partition by range (id);
    create table up_1 partition of up for values from (0) to (10) partition by range (id);
    create table up_11 partition of up_1 for values from (0) to (5);
    create table up_2 partition of up for values from (10) to (20);
"""


def test_a_key_to_a_partitioned_table_is_one_key(inspect_after: Inspect) -> None:
    schema = inspect_after(TREE + "create table down (a int constraint k references up);")
    (key,) = schema.foreign_keys
    assert (key.name, str(key.referenced)) == ("k", "public.up")
    assert _clones(key) == [("down", "up_1"), ("down", "up_11"), ("down", "up_2")]
    assert schema.keys_to(_public("up_11")) == ()


def test_a_key_of_a_partitioned_table_is_one_key(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table up (id int primary key);
        create table down (a int constraint k references up on delete cascade, b int)
            partition by range (b);
        create table down_1 partition of down for values from (0) to (10) partition by range (b);
        create table down_11 partition of down_1 for values from (0) to (5);
        create table down_2 (b int, a int constraint own references up on delete cascade);
        alter table down attach partition down_2 for values from (10) to (20);
        """
    )
    assert [(key.name, str(key.referencing)) for key in schema.foreign_keys] == [
        ("k", "public.down")
    ]
    (key,) = schema.foreign_keys
    assert _clones(key) == [("down_1", "up"), ("down_11", "up"), ("down_2", "up")]
    assert all(clone.validated for clone in key.clones)
    assert "own" in {clone.name for clone in key.clones}


def test_a_key_between_partitioned_tables_is_one_key(inspect_after: Inspect) -> None:
    schema = inspect_after(
        TREE
        + """
        create table down (a int constraint k references up) partition by range (a);
        create table down_1 partition of down for values from (0) to (10);
        create table up_3 partition of up for values from (20) to (30);
        create table down_2 partition of down for values from (10) to (20);
        """
    )
    (key,) = schema.foreign_keys
    assert (str(key.referencing), str(key.referenced)) == ("public.down", "public.up")
    pairs = set(_clones(key))
    assert {("down_1", "up"), ("down_2", "up")} <= pairs
    assert {("down", "up_1"), ("down", "up_11"), ("down", "up_2"), ("down", "up_3")} <= pairs


def test_a_partitioned_table_may_reference_itself(inspect_after: Inspect) -> None:
    schema = inspect_after(
        """
        create table t (id int primary key, above int constraint k references t on delete cascade)
            partition by range (id);
        create table t_1 partition of t for values from (0) to (10);
        create table t_2 partition of t for values from (10) to (20);
        """
    )
    (key,) = schema.foreign_keys
    assert key.self_referencing
    # Not all minor releases make the copies for the partitions as referenced tables.
    assert {("t_1", "t"), ("t_2", "t")} <= set(_clones(key))


def test_no_key_and_no_trigger_of_a_key_is_lost_or_counted_twice(
    inspect_after: Inspect, execute: Execute
) -> None:
    schema = inspect_after(
        TREE
        + """
        create table plain (id int primary key, up int references up, me int references plain);
        create table down (a int references up, p int references plain) partition by range (a);
        create table down_1 partition of down for values from (0) to (10) partition by range (a);
        create table down_11 partition of down_1 for values from (0) to (5);
        create table leaf_only partition of down for values from (10) to (20);
        alter table leaf_only add constraint extra foreign key (p) references plain (id);
        alter table plain add constraint late foreign key (id) references up_2 (id) not valid;
        """
    )
    written = execute(
        "select conname::text from pg_constraint where contype = 'f' and conparentid = 0"
    )
    assert sorted(key.name for key in schema.foreign_keys) == sorted(name for (name,) in written)
    ((entries,),) = execute("select count(*) from pg_constraint where contype = 'f'")
    assert sum(1 + len(key.clones) for key in schema.foreign_keys) == entries
    triggers = execute(
        """
        select t.tgname::text, t.tgrelid::regclass::text from pg_trigger as t
        join pg_constraint as k on k.oid = t.tgconstraint where k.contype = 'f'
        """
    )
    read = [(trigger.name, trigger.table.name) for trigger in _all_triggers(schema)]
    assert sorted(read) == sorted(triggers)
    extra = schema.foreign_key(_public("leaf_only"), "extra")
    assert (extra.clones, extra.validated) == ((), True)
    assert not _key(schema, "plain", "late").validated


def test_a_fingerprint_survives_a_dump_and_a_restore(
    inspect_after: Inspect,
    inspect_at: Inspect,
    database_url: str,
    make_database: Callable[[], str],
    psql: Path,
    pg_dump: Path,
) -> None:
    schema = inspect_after(
        TREE
        + """
        create table plain (gone int, id int primary key, up int references up, "Code" text);
        alter table plain drop column gone;
        create unique index codes on plain ("Code" desc) where id > 0;
        create table down (a int references up, p int references plain, s serial)
            partition by range (a);
        create table down_1 partition of down for values from (0) to (10);
        create table down_2 partition of down for values from (10) to (20);
        create table last (c int references plain on delete set null, check (c <> 5));
        insert into plain (id) select generate_series(1, 100);
        analyze plain;
        comment on table plain is 'plain';
        """
    )
    dump = subprocess.run([pg_dump, "--dbname", database_url], capture_output=True, check=True)
    restored_url = make_database()
    # Not to stop at errors: a newer pg_dump sets parameters that an older server does not know.
    subprocess.run(
        [psql, "--no-psqlrc", "--quiet", "--dbname", restored_url],
        input=dump.stdout,
        capture_output=True,
        check=True,
    )
    restored = inspect_at(restored_url)
    names = [table.name for table in schema.tables]
    assert [table.name for table in restored.tables] == names
    assert len(restored.foreign_keys) == len(schema.foreign_keys) == 4
    for name in names:
        assert restored.fingerprint([name]) == schema.fingerprint([name])


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        ("alter table down add column b int", {"down"}),
        ("alter table down alter column a set not null", {"down"}),
        ("create index on down (a)", {"down"}),
        ("alter table down drop constraint k", {"down", "up"}),
        ("alter table down rename constraint k to l", {"down", "up"}),
        (
            "alter table down drop constraint k,"
            " add constraint k foreign key (a) references up on delete cascade",
            {"down", "up"},
        ),
        ("create rule r as on delete to up do instead nothing", {"up"}),
        ("alter table up enable row level security", {"up"}),
        ("alter table up add check (id > 0)", {"up"}),
        ("insert into up values (1); analyze up; comment on table up is 'x'", set()),
        (
            "alter table down drop constraint k, add constraint k foreign key (a) references up",
            set(),
        ),
    ],
)
def test_a_fingerprint_changes_with_the_structure_alone(
    inspect_after: Inspect, change: str, tables: set[str]
) -> None:
    before = inspect_after(
        """
        create table up (id int primary key); create table down (a int constraint k references up);
        create table other (id int);
        """
    )
    after = inspect_after(change)
    changed = {
        table.name.name
        for table in before.tables
        if before.fingerprint([table.name]) != after.fingerprint([table.name])
    }
    assert changed == tables
