"""What could make a statement come out differently than foreign keys alone say. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fkdoctor.identifier import quote, quote_all
from fkdoctor.impact.effect import Caveat
from fkdoctor.impact.firing import Event
from fkdoctor.impact.reach import Reach
from fkdoctor.inspect.plpgsql import Return, read_trigger_function
from fkdoctor.schema import (
    ForeignKey,
    RewriteRule,
    Schema,
    Table,
    TableKind,
    TableName,
    Trigger,
    TriggerState,
)

_WORDS = {Event.DELETE: "DELETE", Event.UPDATE: "UPDATE"}


def find_caveats(
    schema: Schema, reach: Reach, touched: Mapping[TableName, Iterable[Event]]
) -> Iterator[Caveat]:
    """The caveats of a statement that touches the tables (by their topmost partition) that way."""
    for family, events in sorted(touched.items()):
        tables = (schema.table(family), *schema.leaves(family))
        for table in dict.fromkeys(tables):
            for event in sorted(events, key=lambda event: event.value):
                yield from _table_caveats(schema, table, event)
    for key in reach.silent:
        if key.referenced in touched:
            yield Caveat(subject=key.label, reason=_silence(key))
    if schema.replication_role == "replica":
        yield Caveat(
            subject="session_replication_role",
            reason="it is replica in this session: foreign keys do not act here, elsewhere they do",
        )
    for unread in schema.unread:
        yield Caveat(subject=unread.subject, reason=f"it could not be read: {unread.reason}")


def _silence(key: ForeignKey) -> str:
    if not key.enforced:
        return "it is NOT ENFORCED: rows that reference what goes are left as they are"
    return "its triggers do not fire: rows that reference what goes are left as they are"


def _table_caveats(schema: Schema, table: Table, event: Event) -> Iterator[Caveat]:
    for trigger in table.triggers:
        if _WORDS[event] in trigger.events and _fires(schema, trigger):
            each = "for each row" if trigger.for_each_row else "once"
            interference = _interference(schema, trigger, event)
            yield Caveat(
                subject=f"{table.name}.{quote(trigger.name)}",
                reason=f"the trigger runs {trigger.function} {trigger.timing} {_WORDS[event]}, "
                f"{each}: {interference or 'what else it does is not foreseen'}",
                decisive=interference is not None,
            )
    for rule in table.rules:
        if rule.event == _WORDS[event] and _fires(schema, rule):
            instead = "in place of" if rule.instead else "beside"
            yield Caveat(
                subject=f"{table.name}.{quote(rule.name)}",
                reason=f"the rule does something {instead} the {rule.event}; if a foreign key "
                "causes it, that can fail",
                decisive=True,
            )
    if table.kind is TableKind.FOREIGN:
        yield Caveat(
            subject=str(table.name),
            reason="it is a foreign table: rows are elsewhere",
            decisive=True,
        )
    if table.row_security and event is Event.DELETE:
        yield Caveat(
            subject=str(table.name),
            reason="it has row security: a role subject to it deletes only rows that it may see",
        )


def _interference(schema: Schema, trigger: Trigger, event: Event) -> str | None:
    """How the trigger could keep a row as it is or stop the statement; None if it does neither.

    What the statements in its function come to when they run is not asked.
    """
    function = schema.trigger_function(trigger)
    if function is None or function.language != "plpgsql":
        return "what it does is not foreseen"
    behaviour = read_trigger_function(
        function.source,
        _WORDS[event],
        timing=trigger.timing,
        level="ROW" if trigger.for_each_row else "STATEMENT",
        depth=None,
    )
    if behaviour.always_fails:
        return "it raises an error"
    # What the others return, nobody reads.
    if trigger.for_each_row and trigger.timing == "BEFORE":
        if behaviour.may_skip:
            return "it can return NULL, and the row stays as it is"
        if Return.UNKNOWN in behaviour.returns:
            return "what it returns is not foreseen"
        if behaviour.restores:
            return f"it can put back {quote_all(tuple(sorted(behaviour.restores)))}"
    return "it can raise an error" if Return.ERROR in behaviour.returns else None


def _fires(schema: Schema, item: Trigger | RewriteRule) -> bool:
    role = schema.replication_role
    away = TriggerState.ORIGIN if role == "replica" else TriggerState.REPLICA
    return item.state not in (TriggerState.DISABLED, away)
