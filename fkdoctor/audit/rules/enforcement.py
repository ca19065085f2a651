"""Rules about foreign keys that are declared and not kept, or not wholly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from fkdoctor.audit import remedy
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import listed, with_rows
from fkdoctor.identifier import quote
from fkdoctor.schema import Flaw, ForeignKey, KeyTrigger, Schema, TableName, TriggerState


def find_not_validated(schema: Schema) -> Iterator[Evidence]:
    """The keys that were added NOT VALID and never validated."""
    for key in schema.foreign_keys:
        if key.enforced and not key.validated:
            since = f" It is so since {key.written_at:%Y-%m-%d}." if key.written_at else ""
            now = schema.row_count(key, Flaw.DANGLING)
            if now is not None and now.looked_at is None and not now.count:
                since += " At the moment none does: validating will succeed."
            if key.validated_by_row:
                since += (
                    f" Validated by its owner, {quote(schema.table(key.referencing).owner)}, each "
                    "row is looked up by itself, which takes some thirty times as long: the role "
                    f"may not read all of {key.referenced}. A superuser validates by one query."
                )
            yield Evidence(
                subject=key.label,
                detail=(
                    f"The rows that {with_rows(schema, key.referencing)} had when the key was "
                    f"added were never checked; some may reference nothing in {key.referenced}."
                    f"{since}"
                ),
                keys=(key,),
                sql=remedy.validate(key),
            )


def find_not_enforced(schema: Schema) -> Iterator[Evidence]:
    """The keys that are declared NOT ENFORCED."""
    for key in schema.foreign_keys:
        if not key.enforced:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"{with_rows(schema, key.referencing)} may reference rows that "
                    f"{key.referenced} does not have, and ON DELETE {key.on_delete.sql} never acts."
                ),
                keys=(key,),
                sql=remedy.alter_constraint(key, "ENFORCED"),
            )


_ACTING = (TriggerState.ORIGIN, TriggerState.ALWAYS)


def find_disabled_triggers(schema: Schema) -> Iterator[Evidence]:
    """The keys of which a trigger does not fire in an ordinary session."""
    for key in schema.foreign_keys:
        disabled: dict[TableName, list[KeyTrigger]] = defaultdict(list)
        for trigger in _all_triggers(key):
            if trigger.state not in _ACTING:
                disabled[trigger.table].append(trigger)
        if disabled:
            enable = [
                remedy.alter_table(table, f"ENABLE TRIGGER {quote(trigger.name)}")
                for table, triggers in disabled.items()
                for trigger in triggers
            ]
            duties = [
                f"{_duties(triggers)} of {with_rows(schema, table)}"
                for table, triggers in disabled.items()
            ]
            yield Evidence(
                subject=key.label,
                detail=f"Switched off: {listed(duties)}.",
                keys=(key,),
                sql="\n".join((*enable, remedy.recheck(schema, key))),
            )


def find_missing_triggers(schema: Schema) -> Iterator[Evidence]:
    """The enforced keys of which a table that holds rows lacks one of the triggers.

    Measured on 12 to 18: whatever PostgreSQL hangs on partitioned tables (nothing, one pair or two,
    by version), what checks a row is a trigger on the table that holds it: two for a referencing
    row, two for a referenced one. That of a partition belongs to the key or to one of its clones.
    """
    if any(unread.subject == "key triggers" for unread in schema.unread):
        return
    for key in schema.foreign_keys:
        if not key.enforced:
            continue
        present = {(trigger.table, _duty(trigger)) for trigger in _all_triggers(key)}
        missing: dict[TableName, list[str]] = defaultdict(list)
        for table, duty in _needed_duties(schema, key):
            if (table, duty) not in present:
                missing[table].append(duty)
        if missing:
            lacks = [
                f"{listed(duties)} of {with_rows(schema, table)}"
                for table, duties in missing.items()
            ]
            yield Evidence(
                subject=key.label,
                detail=f"There is no trigger for {listed(lacks)}.",
                keys=(key,),
                sql=remedy.replace_key(schema, key, key.definition),
            )


_REFERENCING_DUTIES = ("checking INSERT", "checking UPDATE")
_REFERENCED_DUTIES = ("acting on DELETE", "acting on UPDATE")


def _needed_duties(schema: Schema, key: ForeignKey) -> Iterator[tuple[TableName, str]]:
    for tables, duties in (
        (schema.leaves(key.referencing), _REFERENCING_DUTIES),
        (schema.leaves(key.referenced), _REFERENCED_DUTIES),
    ):
        for table in tables:
            for duty in duties:
                yield table.name, duty


def _all_triggers(key: ForeignKey) -> Iterator[KeyTrigger]:
    yield from key.triggers
    for clone in key.clones:
        yield from clone.triggers


def _duty(trigger: KeyTrigger) -> str:
    if trigger.function.startswith("RI_FKey_check_"):
        return _REFERENCING_DUTIES[trigger.function == "RI_FKey_check_upd"]
    return _REFERENCED_DUTIES[trigger.function.endswith("_upd")]


def _duties(triggers: list[KeyTrigger]) -> str:
    return listed(_duty(trigger) for trigger in triggers)


def find_replica_sessions(schema: Schema) -> Iterator[Evidence]:
    """The places that start sessions in which no foreign key is enforced."""
    for setting in schema.replica_settings:
        yield Evidence(
            subject=str(setting),
            detail=(
                f"Sessions of {setting} start with session_replication_role = replica: in them no "
                "trigger of a foreign key fires."
            ),
            sql=f"ALTER {setting} RESET session_replication_role;",
        )
    if schema.replication_role == "replica" and not schema.replica_settings:
        yield Evidence(
            subject="server",
            detail=(
                "This session has session_replication_role = replica, from the server's own "
                "configuration or from its connection options."
            ),
        )


RULES = (
    Rule(
        id="FK003",
        name="not-validated",
        severity=Severity.WARNING,
        condition="The key was added NOT VALID, and VALIDATE CONSTRAINT has not been run since.",
        effect=(
            "New rows are checked; rows from before may reference nothing. The planner can't rely "
            "on the key, and a dump restores it unchecked."
        ),
        remedy=(
            "Validate it: readers and writers go on meanwhile. If it fails, it names a row without "
            "a counterpart; repair or delete such rows and validate again."
        ),
        check=find_not_validated,
    ),
    Rule(
        id="FK004",
        name="not-enforced",
        severity=Severity.WARNING,
        condition="The key is declared NOT ENFORCED.",
        effect="It is documentation only: nothing is checked, and ON DELETE does nothing.",
        remedy="Enforce it. PostgreSQL checks all rows first, and refuses if one dangles.",
        check=find_not_enforced,
        since=18,
    ),
    Rule(
        id="FK005",
        name="disabled-triggers",
        severity=Severity.ERROR,
        condition=(
            "One of the triggers by which PostgreSQL keeps the key is disabled, or fires for "
            "replication only."
        ),
        effect=(
            "The catalog still says that the key is valid, but rows go in that reference nothing, "
            "or stay behind when the referenced row goes. ALTER TABLE … DISABLE TRIGGER ALL, often "
            "used to load data, leaves that behind when it is not undone."
        ),
        remedy=(
            "Enable the triggers (a superuser must), then check the rows that came meanwhile. "
            "VALIDATE does nothing on a key that is marked valid; adding a twin checks."
        ),
        check=find_disabled_triggers,
    ),
    Rule(
        id="FK006",
        name="missing-triggers",
        severity=Severity.ERROR,
        condition=(
            "A table that holds referencing rows has no trigger that checks them, or one that "
            "holds referenced rows has none that acts when they go."
        ),
        effect=(
            "The key is not enforced there, although the catalog says that it is valid. PostgreSQL "
            "12, and later ones before 13.17, 14.14, 15.9, 16.5 and 17.1, leave a key so when a "
            "partition is detached; 12 also when a partitioned table references itself."
        ),
        remedy="Put an identical new key in its place; adding it checks the rows.",
        check=find_missing_triggers,
    ),
    Rule(
        id="FK007",
        name="replica-sessions",
        severity=Severity.ERROR,
        condition=(
            "A database, a role or the server starts sessions with "
            "session_replication_role = replica."
        ),
        effect=(
            "In such a session no foreign key is checked and none acts; all stay marked valid."
        ),
        remedy=(
            "Set it inside the one transaction that needs it (SET LOCAL). Then check the rows, by "
            "adding a twin of each key that such sessions wrote to."
        ),
        check=find_replica_sessions,
    ),
)
