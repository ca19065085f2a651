"""Rules about a DELETE that CASCADE carries on and another key refuses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from fkdoctor.audit import remedy
from fkdoctor.audit.cascade import (
    Chain,
    Conflict,
    Meeting,
    cascades_of,
    find_conflict,
    refuses,
    refuses_at_once,
    takes_from,
)
from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.firing import DELETE, first_by_leaf, first_when_restored, trigger_on
from fkdoctor.audit.wording import listed, with_rows
from fkdoctor.schema import ForeignKey, ReferentialAction, Schema, TableName

MANY = 5


def find_order_dependent(schema: Schema) -> Iterator[Evidence]:
    """The keys that refuse or not, depending on which of two triggers fires first."""
    for refuser, conflicts in _conflicts(schema, Meeting.DEPENDS):
        told = [_tell_order(schema, conflict) for conflict in conflicts]
        yield Evidence(
            subject=refuser.label,
            detail=" ".join(told),
            keys=(refuser, *(conflict.taker for conflict in conflicts)),
            sql=_wait_for_commit(schema, refuser),
        )


def find_self_blocking(schema: Schema) -> Iterator[Evidence]:
    """The keys that look for rows one step before CASCADE takes these rows away."""
    for refuser, conflicts in _conflicts(schema, Meeting.THERE):
        told = [
            f"A DELETE in {conflict.root} takes rows of {refuser.referencing} along by "
            f"{_path((*conflict.taker_chain, conflict.taker))}, which is step "
            f"{len(conflict.taker_chain) + 1}, but {refuser.label} (ON DELETE "
            f"{refuser.on_delete.sql}) looks for them in step {len(conflict.refuser_chain) + 1} "
            f"and refuses."
            for conflict in conflicts
        ]
        yield Evidence(
            subject=refuser.label,
            detail=" ".join(told),
            keys=(refuser, *(conflict.taker for conflict in conflicts)),
            sql=_wait_for_commit(schema, refuser),
        )


def find_blocked_cascades(schema: Schema) -> Iterator[Evidence]:
    """The keys that refuse the deletion of rows that CASCADE is to delete."""
    cascades = cascades_of(schema)
    for key in schema.foreign_keys:
        if not refuses(key):
            continue
        takers = [
            set(cascades.ways_to(other.referenced))
            for other in schema.keys_from(key.referencing)
            if takes_from(other, key)
        ]
        # A row of the table that is deleted from is gone itself when its reference is looked at.
        own = cascades.whole(key.referencing)
        ways = {
            root: chain
            for root, chain in cascades.ways_to(key.referenced).items()
            if chain and root != own and not any(root in reached for reached in takers)
        }
        if ways:
            # The nearest tells what the longer ones repeat.
            shortest = min(len(chain) for chain in ways.values())
            nearest = sorted(root for root, chain in ways.items() if len(chain) == shortest)
            more = len(ways) - len(nearest[:MANY])
            roots = [str(root) for root in nearest[:MANY]] + ([f"{more} more"] if more else [])
            chain = ways[nearest[0]]
            unsaid = key.on_delete is ReferentialAction.NO_ACTION
            yield Evidence(
                subject=key.label,
                detail=(
                    f"CASCADE carries a DELETE in {listed(roots)} into {key.referenced} "
                    f"({_path(chain)}), where {key.on_delete.sql} stops it while "
                    f"{with_rows(schema, key.referencing)} references one of the rows"
                    f"{'' if refuses_at_once(key) else ' at COMMIT'}."
                ),
                keys=(key, *chain),
                severity=Severity.WARNING if unsaid else Severity.INFO,
            )


def _conflicts(
    schema: Schema, meeting: Meeting
) -> Iterator[tuple[ForeignKey, tuple[Conflict, ...]]]:
    """The keys that refuse at once, with the conflicts of that kind that they have."""
    for refuser, conflicts in _all_conflicts(schema):
        found = tuple(one for one in conflicts if one.meeting is meeting)
        if found:
            yield refuser, found


@lru_cache(maxsize=1)
def _all_conflicts(schema: Schema) -> list[tuple[ForeignKey, list[Conflict]]]:
    cascades = cascades_of(schema)
    return [
        (
            refuser,
            [
                conflict
                for taker in _beside(schema, refuser)
                if takes_from(taker, refuser) and not _never_the_same_row(schema, taker, refuser)
                if (conflict := find_conflict(cascades, taker, refuser))
            ],
        )
        for refuser in schema.foreign_keys
        if refuses_at_once(refuser)
    ]


def _beside(schema: Schema, key: ForeignKey) -> Iterator[ForeignKey]:
    """The table's other keys, but those between the same columns, which are told as twins."""
    for other in schema.keys_from(key.referencing):
        if other.referenced != key.referenced or _pairs(other) != _pairs(key):
            yield other


def _pairs(key: ForeignKey) -> frozenset[tuple[str, str]]:
    return frozenset(zip(key.referencing_columns, key.referenced_columns, strict=True))


def _never_the_same_row(schema: Schema, one: ForeignKey, other: ForeignKey) -> bool:
    """Whether a CHECK keeps the two from referencing one and the same row."""
    if one.referenced != other.referenced or len(_pairs(one)) + len(_pairs(other)) != 2:
        return False
    (here,), (there,) = one.referencing_columns, other.referencing_columns
    return any(
        constraint.enforced
        and constraint.validated
        and constraint.definition
        in (f"CHECK (({here} <> {there}))", f"CHECK (({there} <> {here}))")
        for constraint in schema.table(one.referencing).constraints
    )


def _path(chain: Chain) -> str:
    return " → ".join((str(chain[0].referenced), *(str(key.referencing) for key in chain)))


def _tell_order(schema: Schema, conflict: Conflict) -> str:
    assert conflict.decisive is not None
    taker, refuser = conflict.taker, conflict.refuser
    if not conflict.taker_chain:
        told = f"A row of {refuser.referencing} can reference one row of {conflict.root} twice: "
    else:
        told = (
            f"A DELETE in {conflict.root} reaches {refuser.referencing} by "
            f"{_path((*conflict.taker_chain, taker))} and meets it by "
            f"{_path((*conflict.refuser_chain, refuser))}: "
        )
    told += (
        f"{taker.label} ({taker.on_delete.sql}) takes it away, "
        f"{refuser.label} ({refuser.on_delete.sql}) refuses. "
    )
    winners = first_by_leaf(schema, conflict.decisive, DELETE)
    sentences = [
        _tell_winner(conflict, winner, leaves if len(winners) > 1 else [])
        for winner, leaves in winners.items()
    ]
    restored = first_when_restored(conflict.decisive, DELETE)
    if winners and set(winners) != {restored}:
        sentences.append(
            f"A dump creates keys in the order of their names: once restored, {restored.label} "
            f"fires first, and the DELETE {_outcome(conflict, restored)}."
        )
    return told + " ".join(sentences)


def _tell_winner(conflict: Conflict, winner: ForeignKey, leaves: list[TableName]) -> str:
    assert conflict.decisive is not None
    other = next(key for key in conflict.decisive if key is not winner)
    table = leaves[0] if leaves else winner.referenced
    names = [trigger_on(key, table, DELETE) for key in (winner, other)]
    proof = f" ({names[0]} before {names[1]})" if all(names) else ""
    where = f" in {listed(str(leaf) for leaf in leaves)}" if leaves else ""
    said = f"Now {winner.label} fires first{where}{proof}, and the DELETE "
    said += f"{_outcome(conflict, winner)}. "
    if _number(names[0]) > _number(names[1]):
        return said + "Its trigger is the younger one, but the names are compared as text."
    return said + "Dropping and adding the same key again puts its trigger last."


def _number(trigger: str | None) -> int:
    """The OID in the name of a key's trigger."""
    return int((trigger or "").rpartition("_")[2] or 0)


def _outcome(conflict: Conflict, first: ForeignKey) -> str:
    assert conflict.decisive is not None
    return "succeeds" if first is conflict.decisive[0] else "fails"


def _wait_for_commit(schema: Schema, key: ForeignKey) -> str | None:
    """SQL that lets the key look at COMMIT, when the rows are gone."""
    if key.on_delete is ReferentialAction.NO_ACTION:
        return remedy.alter_constraint(key, "DEFERRABLE INITIALLY DEFERRED")
    if key.period:
        return None
    definition = key.definition.replace(" ON DELETE RESTRICT", "")
    definition = definition.replace(" DEFERRABLE", "").replace(" INITIALLY DEFERRED", "")
    valid, _, late = definition.partition(" NOT VALID")
    return remedy.replace_key(
        schema, key, f"{valid} DEFERRABLE INITIALLY DEFERRED{' NOT VALID' + late if late else ''}"
    )


RULES = (
    Rule(
        id="FK020",
        name="order-dependent-delete",
        severity=Severity.WARNING,
        condition=(
            "Two keys of a table lead to rows that one DELETE removes together; one takes the "
            "referencing row away (CASCADE, or SET NULL on a shared column), the other refuses (NO "
            "ACTION, RESTRICT), and both are looked at in the same step."
        ),
        effect=(
            "Which trigger fires first decides whether the DELETE works. That is the order of the "
            "triggers' names, so that of the keys' creation: a dump and restore, a key that is "
            "dropped and added again, or an OID that gains a digit can turn it round."
        ),
        remedy=(
            "Let the key that refuses wait for COMMIT (NO ACTION, INITIALLY DEFERRED), which finds "
            "the rows gone in any order; or give both the same rule."
        ),
        check=find_order_dependent,
    ),
    Rule(
        id="FK021",
        name="self-blocking-cascade",
        severity=Severity.WARNING,
        condition=(
            "A DELETE carries on by CASCADE to rows that also reference, by a key that refuses (NO "
            "ACTION, RESTRICT), a row that is deleted in an earlier step."
        ),
        effect=(
            "All these rows would go, yet the DELETE fails: the key that refuses looks for them "
            "before CASCADE has come to them."
        ),
        remedy=(
            "Let the key that refuses wait for COMMIT (NO ACTION, INITIALLY DEFERRED), or give it "
            "CASCADE too."
        ),
        check=find_self_blocking,
    ),
    Rule(
        id="FK022",
        name="blocked-cascade",
        severity=Severity.WARNING,
        condition=(
            "CASCADE is to delete rows of a table that a key from outside refuses to let go (NO "
            "ACTION, RESTRICT). Info where the key says RESTRICT, which somebody must have chosen."
        ),
        effect=(
            "The DELETE above works until such a row is referenced, and then never: the error "
            "names a table two or more levels below the one that is deleted from."
        ),
        remedy=(
            "Decide which of the two is meant: let the key go along (CASCADE, SET NULL), or let "
            "the DELETE be refused at the top (RESTRICT in place of CASCADE)."
        ),
        check=find_blocked_cascades,
    ),
)
