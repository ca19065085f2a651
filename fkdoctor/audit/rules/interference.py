"""Rules about triggers and rewrite rules that meet what a foreign key does with the rows."""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.audit import remedy
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.firing import EVENTS, Event
from fkdoctor.audit.wording import columns_of, listed, with_rows
from fkdoctor.identifier import quote
from fkdoctor.inspect.graph import partition_family
from fkdoctor.inspect.plpgsql import read_trigger_function
from fkdoctor.schema import (
    ForeignKey,
    ReferentialAction,
    RewriteRule,
    Schema,
    TableName,
    Trigger,
)

_NULLING = (ReferentialAction.CASCADE, ReferentialAction.SET_NULL)


def find_swallowed_actions(schema: Schema) -> Iterator[Evidence]:
    """The keys whose action a trigger keeps from the row, which then references nothing."""
    for key in _meeting_triggers(schema):
        told: dict[str, Severity] = {}
        for event, command, columns in _commands(key):
            # SET DEFAULT looks again afterwards and fails.
            if event.action(key) not in _NULLING:
                continue
            for table, trigger in _triggers(schema, key, command, columns):
                found = _swallow(schema, trigger, command, columns)
                if found:
                    what, severity = found
                    told[f"{what} in trigger {quote(trigger.name)} of {table}"] = severity
        if told:
            acts = [
                f"ON {event.name} {event.action(key).sql}"
                for event, _, _ in _commands(key)
                if event.action(key) in _NULLING
            ]
            yield Evidence(
                subject=key.label,
                detail=(
                    f"{listed(acts)} does not reach the row: {listed(told)}. The row of "
                    f"{with_rows(schema, key.referencing)} then references nothing in "
                    f"{key.referenced}, and the key stays valid all the same."
                ),
                keys=(key,),
                severity=max(told.values()),
            )


def _swallow(
    schema: Schema, trigger: Trigger, command: str, columns: tuple[str, ...]
) -> tuple[str, Severity] | None:
    """What the trigger does to keep the action from the row, and how surely."""
    if trigger.timing != "BEFORE" or not trigger.for_each_row:
        return None
    function = schema.trigger_function(trigger)
    if function is None or function.language != "plpgsql":
        return None
    behaviour = read_trigger_function(function.source, command)
    returned = "NULL, or NEW, which is NULL in a DELETE," if command == "DELETE" else "NULL"
    if behaviour.always_skips:
        sure = Severity.WARNING if trigger.conditional else Severity.ERROR
        where = " where its WHEN holds" if trigger.conditional else ""
        return f"{trigger.function}() returns {returned}{where}", sure
    # Where an UPDATE is skipped sometimes, that is mostly an UPDATE that changes nothing.
    if command == "DELETE" and behaviour.may_skip:
        return f"{trigger.function}() returns {returned} in one of its branches", Severity.WARNING
    restored = tuple(name for name in columns if name in behaviour.restores)
    if command == "UPDATE" and restored:
        return f"{trigger.function}() puts back the old {columns_of(restored)}", Severity.WARNING
    return None


def find_replaced_actions(schema: Schema) -> Iterator[Evidence]:
    """The keys whose DELETE or UPDATE of the referencing rows a rewrite rule replaces."""
    for key in schema.foreign_keys:
        table = schema.table(key.referencing)
        if not table.rules:
            continue
        replaced = [
            (event, rule)
            for event, command, _ in _commands(key)
            for rule in table.rules
            if rule.acting and rule.instead and rule.event == command
        ]
        if replaced:
            names = dict.fromkeys(rule.name for _, rule in replaced)
            yield Evidence(
                subject=key.label,
                detail=" ".join(
                    f"ON {event.name} {event.action(key).sql} is meant to {rule.event} rows of "
                    f"{table.name}, but {_replace(schema, key, event, rule)}."
                    for event, rule in replaced
                ),
                keys=(key,),
                sql="\n".join(remedy.drop_rule(table.name, name) for name in names),
            )


def _replace(schema: Schema, key: ForeignKey, event: Event, rule: RewriteRule) -> str:
    """What comes of the action under the rule (measured on 12 to 18)."""
    if rule.conditional or rule.same_command:
        which = " that its WHERE names" if rule.conditional else ""
        return (
            f"rule {quote(rule.name)} does something else with those{which}: they stay, and "
            f"reference nothing in {key.referenced}"
        )
    verb = "deleted" if event.name == "DELETE" else "given another key"
    return (
        f"rule {quote(rule.name)} leaves nothing of that, and no row of "
        f"{with_rows(schema, key.referenced)} can be {verb}, referenced or not"
    )


def find_refusing_triggers(schema: Schema) -> Iterator[Evidence]:
    """The keys whose action meets a trigger that refuses every such change."""
    for key in _meeting_triggers(schema):
        told: dict[str, Severity] = {}
        for event, command, columns in _commands(key):
            for table, trigger in _triggers(schema, key, command, columns):
                if _refuses(schema, trigger, command):
                    told[
                        f"ON {event.name} {event.action(key).sql} is a {command} in {table}, "
                        f"where trigger {quote(trigger.name)} raises an error"
                        + (" where its WHEN holds" if trigger.conditional else "")
                        + ("" if trigger.for_each_row else ", be there such rows or not")
                    ] = Severity.WARNING if trigger.conditional else Severity.ERROR
        if told:
            yield Evidence(
                subject=key.label,
                detail=f"{'; '.join(told)}.",
                keys=(key,),
                severity=max(told.values()),
            )


def _refuses(schema: Schema, trigger: Trigger, command: str) -> bool:
    function = schema.trigger_function(trigger)
    if function is None or function.language != "plpgsql":
        return False
    level = "ROW" if trigger.for_each_row else "STATEMENT"
    return read_trigger_function(
        function.source, command, timing=trigger.timing, level=level
    ).always_fails


def find_fired_triggers(schema: Schema) -> Iterator[Evidence]:
    """The keys whose CASCADE fires triggers that somebody wrote for a DELETE."""
    for key in _meeting_triggers(schema):
        if not key.enforced or key.on_delete is not ReferentialAction.CASCADE:
            continue
        fired = {
            f"{quote(trigger.name)} ({trigger.timing} DELETE "
            f"{'for each row' if trigger.for_each_row else 'for each statement'}, "
            f"{trigger.function}())": None
            for _, trigger in _triggers(schema, key, "DELETE", ())
            if _swallow(schema, trigger, "DELETE", ()) is None
            and not _refuses(schema, trigger, "DELETE")
        }
        if fired:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"A DELETE in {key.referenced} deletes rows of "
                    f"{with_rows(schema, key.referencing)}, and there fires {listed(fired)}, as "
                    f"{quote(schema.table(key.referencing).owner)}."
                ),
                keys=(key,),
            )


def _meeting_triggers(schema: Schema) -> Iterator[ForeignKey]:
    """The keys of tables on which, or on a partition of which, there is a trigger at all."""
    met: set[TableName] = set()
    for table in schema.tables:
        if table.triggers:
            met.update(partition_family(schema, table.name))
    return (key for key in schema.foreign_keys if key.referencing in met)


def _commands(key: ForeignKey) -> Iterator[tuple[Event, str, tuple[str, ...]]]:
    """What the key does with referencing rows: on which event, by which command, which columns."""
    if not key.enforced:
        return
    for event in EVENTS:
        match event.action(key), event.name:
            case ReferentialAction.CASCADE, "DELETE":
                yield event, "DELETE", ()
            case ((ReferentialAction.SET_NULL | ReferentialAction.SET_DEFAULT), "DELETE"):
                yield event, "UPDATE", key.written_columns
            case (
                (
                    ReferentialAction.CASCADE
                    | ReferentialAction.SET_NULL
                    | ReferentialAction.SET_DEFAULT
                ),
                _,
            ):
                yield event, "UPDATE", key.referencing_columns


def _triggers(
    schema: Schema, key: ForeignKey, command: str, columns: tuple[str, ...]
) -> Iterator[tuple[TableName, Trigger]]:
    """The triggers that the command on the referencing rows fires, each with its table."""
    tables = {key.referencing: None, **{leaf.name: None for leaf in schema.leaves(key.referencing)}}
    for table in tables:
        for trigger in schema.table(table).triggers:
            watched = not trigger.columns or not set(trigger.columns).isdisjoint(columns)
            if trigger.acting and command in trigger.events and watched:
                yield table, trigger


RULES = (
    Rule(
        id="FK023",
        name="swallowed-action",
        severity=Severity.ERROR,
        condition=(
            "The key does CASCADE or SET NULL, and a BEFORE trigger of the referencing table "
            "returns NULL for the row, or puts the old value back. A warning where that depends on "
            "a condition. Functions in PL/pgSQL are read; others are not."
        ),
        effect=(
            "PostgreSQL skips the row without a word, and does not look again: the referenced row "
            "is gone, the referencing one stays and references nothing. That is what soft delete "
            "by trigger does under CASCADE."
        ),
        remedy=(
            "Let the trigger return OLD when pg_trigger_depth() is above 1, so that CASCADE "
            "deletes; or take CASCADE away, and mark the rows in the application."
        ),
        check=find_swallowed_actions,
    ),
    Rule(
        id="FK024",
        name="replaced-action",
        severity=Severity.ERROR,
        condition=(
            "The referencing table has a rewrite rule ON DELETE or ON UPDATE DO INSTEAD, which "
            "also replaces what the key does there."
        ),
        effect=(
            "If nothing is left of the command, every DELETE of the referenced table fails "
            '("referential integrity query gave unexpected result"), even of rows that nothing '
            "references. If the rule has a WHERE, or puts another command of the same kind in "
            "place, rows stay that reference nothing."
        ),
        remedy=(
            "Drop the rule, and let sessions that have met it connect again: they keep the plan "
            "made under it. To keep rows, take CASCADE away and mark them by a column; to hide "
            "them, use a view."
        ),
        check=find_replaced_actions,
    ),
    Rule(
        id="FK025",
        name="triggers-under-cascade",
        severity=Severity.INFO,
        condition=(
            "CASCADE deletes rows of a table that has triggers on DELETE, which neither swallow "
            "the row nor refuse every DELETE."
        ),
        effect=(
            "They fire for each row that goes along, inside the DELETE of the referenced row and "
            "as the owner of the table: what they cost or refuse, that DELETE costs or refuses."
        ),
        remedy="Know what they do before deleting many rows; fkdoctor changes nothing about them.",
        check=find_fired_triggers,
    ),
    Rule(
        id="FK026",
        name="refused-action",
        severity=Severity.ERROR,
        condition=(
            "The key changes or deletes referencing rows, and a trigger there raises an error on "
            "every such command, as tables do that only grow. A warning where it has a WHEN. "
            "Functions in PL/pgSQL are read; others are not."
        ),
        effect=(
            "A row that is referenced can't be deleted: the error is that of the trigger. A "
            "trigger for each statement also fires where no row is referenced, and then no row of "
            "the referenced table can be deleted at all."
        ),
        remedy="Say what is meant: RESTRICT, which refuses with the name of the key.",
        check=find_refusing_triggers,
    ),
)
