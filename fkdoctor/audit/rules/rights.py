"""Rules about who a foreign key works as, and whom it passes by."""

from __future__ import annotations

from collections.abc import Iterator

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import listed, with_rows
from fkdoctor.identifier import quote
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, Table, TriggerState

_BLOCKING = (ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT)


def find_powerless_owners(schema: Schema) -> Iterator[Evidence]:
    """The keys whose own queries PostgreSQL refuses, because a table's owner lacks a right.

    Measured on 12 to 18: referenced rows are locked as the owner of the referenced table, and
    referencing rows are read and changed as the owner of the referencing one.
    """
    for key in schema.foreign_keys:
        if not key.enforced:
            continue
        here, there = schema.table(key.referencing), schema.table(key.referenced)
        if not (here.owner_lacks or there.owner_lacks):
            continue
        needs = (
            (
                there,
                ("USAGE", "SELECT", "UPDATE"),
                f"no row of {here.name} with a reference can be inserted",
            ),
            (
                here,
                ("USAGE", "SELECT", _needed_to_delete(key)),
                f"no row of {with_rows(schema, there.name)} can be deleted, referenced or not",
            ),
        )
        told: list[str] = []
        grants: dict[str, None] = {}
        for table, rights, outcome in needs:
            lacking = [right for right in rights if right in table.owner_lacks]
            if lacking:
                told.append(f"{_owner(table)} lacks {listed(lacking)}: {outcome}")
                grants |= {_grant(table, right): None for right in lacking}
        if told:
            yield Evidence(
                subject=key.label,
                detail=f"{'. '.join(_capitalised(one) for one in told)}, whoever tries.",
                keys=(key,),
                sql="\n".join(grants),
            )


def _needed_to_delete(key: ForeignKey) -> str:
    return "DELETE" if key.on_delete is ReferentialAction.CASCADE else "UPDATE"


def _owner(table: Table) -> str:
    return f"the owner of {table.name}, {quote(table.owner)},"


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _grant(table: Table, right: str) -> str:
    schema = f"SCHEMA {quote(table.name.schema)}"
    what = schema if right == "USAGE" else f"TABLE {table.name}"
    return f"GRANT {right} ON {what} TO {quote(table.owner)};"


def find_actions_past_policies(schema: Schema) -> Iterator[Evidence]:
    """The keys that change rows which row security would keep from the role that deletes."""
    for key in schema.foreign_keys:
        here, there = schema.table(key.referencing), schema.table(key.referenced)
        acts = key.enforced and key.on_delete not in _BLOCKING
        if acts and here.row_security and not there.row_security:
            yield Evidence(
                subject=key.label,
                detail=(
                    f"{with_rows(schema, here.name)} has row security, {there.name} has none: ON "
                    f"DELETE {key.on_delete.sql} changes all rows that reference, also those that "
                    "the policies hide from the role that deletes."
                ),
                keys=(key,),
            )


def find_half_replicated(schema: Schema) -> Iterator[Evidence]:
    """The keys between a table that a subscription writes and one that it does not."""
    for key in schema.foreign_keys:
        here, there = schema.table(key.referencing), schema.table(key.referenced)
        into, from_ = set(here.subscriptions), set(there.subscriptions)
        if not key.enforced or into & from_ or not into | from_ or _fires_for_replicas(key):
            continue
        told = []
        if into:
            told.append(
                f"{_subscribed(into)} writes {here.name}, and does not check that "
                f"{there.name} has what its rows reference"
            )
        if from_:
            told.append(
                f"{_subscribed(from_)} deletes and changes rows of {there.name}, and does nothing "
                f"with the rows of {with_rows(schema, here.name)} that reference them"
            )
        yield Evidence(
            subject=key.label,
            detail=f"{_capitalised('; '.join(told))}.",
            keys=(key,),
        )


def _subscribed(names: set[str]) -> str:
    return f"subscription {listed(quote(name) for name in sorted(names))}"


def _fires_for_replicas(key: ForeignKey) -> bool:
    """Whether somebody has let all of the key's triggers fire for replicated changes too."""
    firing = (TriggerState.ALWAYS, TriggerState.REPLICA)
    return bool(key.triggers) and all(trigger.state in firing for trigger in key.triggers)


RULES = (
    Rule(
        id="FK035",
        name="powerless-owner",
        severity=Severity.ERROR,
        condition=(
            "The owner of the referenced table may not use its schema, or may not SELECT or UPDATE "
            "it; or the owner of the referencing table may not do there what the key does."
        ),
        effect=(
            "PostgreSQL checks keys as the owner of the table that it looks into. Without the "
            'right every INSERT or DELETE on the other side fails ("permission denied"), even one '
            "by a superuser."
        ),
        remedy="Grant the owner its rights back, or give the table to a role that has them.",
        check=find_powerless_owners,
    ),
    Rule(
        id="FK036",
        name="action-past-row-security",
        severity=Severity.INFO,
        condition=(
            "The key does CASCADE, SET NULL or SET DEFAULT in a table with row security, from a "
            "table that has none."
        ),
        effect=(
            "Foreign keys pass row security by: who may delete the referenced row deletes or "
            "changes rows that they could neither see nor touch by themselves."
        ),
        remedy=(
            "Row security on the referenced table too, or RESTRICT; or the ignore list, if that is "
            "what is meant."
        ),
        check=find_actions_past_policies,
    ),
    Rule(
        id="FK037",
        name="half-replicated-key",
        severity=Severity.WARNING,
        condition=(
            "Logical replication writes into the table on one side of the key, but not, by the "
            "same subscription, into the one on the other side."
        ),
        effect=(
            "Replicated changes fire no trigger of a foreign key: rows come that reference "
            "nothing, and referenced rows go without what the key says being done. The key stays "
            "marked valid."
        ),
        remedy=(
            "Subscribe to both tables, or to none. On a table that is only written by replication "
            "the key promises nothing: drop it, or look for dangling rows regularly."
        ),
        check=find_half_replicated,
    ),
)
