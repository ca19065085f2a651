"""What to do about findings and policies, key by key, and what is left to a person.

A key gets what it needs in one revision: its index, then its rule, then the check of its rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from fkdoctor.audit import Finding
from fkdoctor.config import PolicyConfig
from fkdoctor.identifier import quote, quote_all
from fkdoctor.inspect.coverage import Support, compared_by_cast, key_coverage
from fkdoctor.revise.definition import parse_definition
from fkdoctor.revise.index_operations import BuildIndex
from fkdoctor.revise.key_operations import ChangeOnDelete, ValidateForeignKey
from fkdoctor.revise.mark import KeyText, remember
from fkdoctor.revise.operations import AddReferenceIndex
from fkdoctor.revise.reference_operations import AdoptReference, DropDuplicateKey
from fkdoctor.revise.reversible import Reversible
from fkdoctor.schema import (
    ForeignKey,
    LogicalReference,
    Schema,
    TableKind,
    TableName,
    TriggerState,
)

UNINDEXED = ("FK001", "FK002")
NOT_VALIDATED = "FK003"
UNDECIDED = "FK019"
DUPLICATE = "FK011"


@dataclass(frozen=True, kw_only=True)
class Fix:
    """What is done about one key, and the findings or policies because of which it is done.

    `key` is a reference where the key is yet to be made.
    """

    key: ForeignKey | LogicalReference
    operations: tuple[Reversible, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Left:
    """A finding or a policy that is left to a person, and why."""

    subject: str
    reason: str


def plan_fixes(
    schema: Schema, findings: Iterable[Finding], policies: tuple[PolicyConfig, ...]
) -> tuple[tuple[Fix, ...], tuple[Left, ...]]:
    """The fixes in the order of the keys, and what no operation can do."""
    by_key: dict[str, list[Finding]] = defaultdict(list)
    left: list[Left] = []
    for finding in findings:
        if finding.keys and finding.rule.id in (*UNINDEXED, NOT_VALIDATED, DUPLICATE):
            by_key[_patient(finding).label].append(finding)
        elif finding.rule.id != UNDECIDED or not find_policy(finding.keys[0], policies):
            left.append(Left(subject=finding.key, reason=finding.rule.remedy))
    fixes: list[Fix] = []
    indexed: set[tuple[TableName, frozenset[str]]] = set()
    for key in schema.foreign_keys:
        planned = _plan_key(schema, key, by_key[key.label], policies, indexed)
        if isinstance(planned, Left):
            left.append(planned)
        elif planned is not None:
            fixes.append(planned)
    return tuple(fixes), tuple(left)


def _patient(finding: Finding) -> ForeignKey:
    """The key that something is done about: of two that say the same, not the validated one."""
    key = finding.keys[0]
    if finding.rule.id == DUPLICATE and key.validated and not finding.keys[1].validated:
        return finding.keys[1]
    return key


def find_policy(
    key: ForeignKey | LogicalReference, policies: Sequence[PolicyConfig]
) -> PolicyConfig | None:
    """The first policy that is for the key."""
    for policy in policies:
        if _matches(policy.referenced, key.referenced) and _matches(
            policy.referencing, key.referencing
        ):
            return policy
    return None


def _matches(pattern: str, table: TableName) -> bool:
    name = f"{table.schema}.{table.name}" if "." in pattern else table.name
    return fnmatchcase(name, pattern)


def _plan_key(
    schema: Schema,
    key: ForeignKey,
    findings: list[Finding],
    policies: tuple[PolicyConfig, ...],
    indexed: set[tuple[TableName, frozenset[str]]],
) -> Fix | Left | None:
    if any(finding.rule.id == DUPLICATE for finding in findings):
        return Fix(
            key=key,
            operations=(_drop_duplicate(key),),
            reasons=tuple(finding.key for finding in findings),
        )
    reasons = [finding.key for finding in findings]
    operations: list[Reversible] = []
    change = _plan_change(key, find_policy(key, policies))
    columns = (key.referencing, frozenset(key.referencing_columns))
    wanted = any(finding.rule.id in UNINDEXED for finding in findings) or change is not None
    if wanted and columns not in indexed and _lacks_index(schema, key):
        indexed.add(columns)
        operations.append(
            AddReferenceIndex(
                table=key.referencing.name,
                columns=key.referencing_columns,
                schema=key.referencing.schema,
                name=None,
            )
        )
    if change is not None:
        obstacle = _find_obstacle(schema, key, change)
        if obstacle:
            return Left(subject=f"policy for {key.label}", reason=obstacle)
        operations.append(change)
        reasons.append(f"[[policy]] ON DELETE {change.on_delete or key.on_delete.sql}")
    if any(finding.rule.id == NOT_VALIDATED for finding in findings):
        operations.append(
            ValidateForeignKey(
                table=key.referencing.name,
                constraint=key.name,
                schema=key.referencing.schema,
                definition=_after(key, change).definition,
                comment=_after(key, change).comment,
            )
        )
    if not operations:
        return None
    return Fix(key=key, operations=tuple(operations), reasons=tuple(reasons))


def _drop_duplicate(key: ForeignKey) -> DropDuplicateKey:
    return DropDuplicateKey(
        table=key.referencing.name,
        constraint=key.name,
        schema=key.referencing.schema,
        definition=key.definition,
        comment=key.comment,
    )


def _lacks_index(schema: Schema, key: ForeignKey) -> bool:
    pairs = zip(key.referencing_columns, key.referenced_columns, strict=True)
    referencing, referenced = schema.table(key.referencing), schema.table(key.referenced)
    useless = any(
        compared_by_cast(referencing.column(here), referenced.column(there))
        for here, there in pairs
    )
    return not useless and key_coverage(schema, key).support is not Support.FULLY


def _plan_change(key: ForeignKey, policy: PolicyConfig | None) -> ChangeOnDelete | None:
    if policy is None:
        return None
    on_delete = policy.on_delete if policy.on_delete != key.on_delete.sql else None
    on_update = policy.on_update if policy.on_update != key.on_update.sql else None
    if on_delete is None and on_update is None:
        return None
    return ChangeOnDelete(
        table=key.referencing.name,
        constraint=key.name,
        on_delete=on_delete,
        on_update=on_update,
        schema=key.referencing.schema,
        definition=key.definition,
        comment=key.comment,
    )


def _after(key: ForeignKey, change: ChangeOnDelete | None) -> KeyText:
    """The key when the change is done."""
    now = KeyText(definition=key.definition, comment=key.comment)
    if change is None:
        return now
    changed = change.change.apply(parse_definition(key.definition))
    return KeyText(definition=str(changed), comment=remember(now))


def _find_obstacle(schema: Schema, key: ForeignKey, change: ChangeOnDelete) -> str:
    """Why the change would be refused, or do no good; empty where it would not."""
    table = schema.table(key.referencing)
    fixed = tuple(name for name in key.referencing_columns if table.column(name).not_null)
    if "SET NULL" in (change.on_delete, change.on_update) and fixed:
        return f"SET NULL would fail: {quote_all(fixed)} is NOT NULL."
    if key.period:
        return "A temporal key (PERIOD) knows no rule but NO ACTION."
    triggers = (*key.triggers, *(one for clone in key.clones for one in clone.triggers))
    if any(trigger.state is not TriggerState.ORIGIN for trigger in triggers):
        return "Its triggers are switched: put that right first."
    both = TableKind.PARTITIONED
    if schema.major == 12 and table.kind is both and schema.table(key.referenced).kind is both:
        return "Between two partitioned tables PostgreSQL 12 cannot do it without stopping writers."
    return ""


_KEY_LOCKS = (
    "SHARE ROW EXCLUSIVE on both tables, milliseconds; SHARE UPDATE EXCLUSIVE and ROW SHARE while "
    "the rows are read, no reader and no writer waits; ACCESS EXCLUSIVE on both, milliseconds"
)
_LOCKS: dict[type[Reversible], str] = {
    AddReferenceIndex: "SHARE UPDATE EXCLUSIVE on the table: no reader and no writer waits",
    ChangeOnDelete: _KEY_LOCKS,
    ValidateForeignKey: "SHARE UPDATE EXCLUSIVE on the table, ROW SHARE on the referenced one: no "
    "reader and no writer waits",
    DropDuplicateKey: "ACCESS EXCLUSIVE on both tables, milliseconds",
    BuildIndex: "SHARE UPDATE EXCLUSIVE on the table: no reader and no writer waits",
    AdoptReference: "SHARE ROW EXCLUSIVE on both tables, milliseconds; SHARE UPDATE EXCLUSIVE and "
    "ROW SHARE while the rows are read, no reader and no writer waits; ACCESS EXCLUSIVE on the "
    "table, milliseconds",
}
_DOWNGRADES: dict[type[Reversible], str] = {
    AddReferenceIndex: "drops the index, if this revision built it",
    ChangeOnDelete: "restores the rule to the letter, from the key's comment",
    ValidateForeignKey: "makes the key NOT VALID again, if this revision validated it",
    DropDuplicateKey: "adds the key again, beside the writers",
    BuildIndex: "drops the index",
    AdoptReference: "drops the key, if this revision added it",
}
_ROWS_A_SECOND = 1_000_000


def describe_fix(schema: Schema, fix: Fix) -> str:
    """The fix for a revision's docstring: a title, then why, locks, times and the way back."""
    lines = [_title(fix), "", f"Because of {', '.join(fix.reasons)}.", ""]
    rows = schema.row_estimate(fix.key.referencing)
    for operation in fix.operations:
        kind = type(operation)
        lines += [
            f"{_say(fix.key, operation)}",
            f"    locks: {_LOCKS[kind]}",
            f"    time: {_time(rows, kind)}",
            f"    downgrade: {_DOWNGRADES[kind]}",
        ]
    lines += [
        "",
        "A wait for a lock is never longer than the lock timeout; then it is tried again.",
    ]
    return "\n".join(lines)


def _title(fix: Fix) -> str:
    last = fix.operations[-1]
    match last:
        case ChangeOnDelete():
            rule = last.on_delete or f"update {last.on_update}"
            return f"{last.constraint} on delete {rule.lower()}".replace("delete update", "update")
        case ValidateForeignKey():
            return f"validate {last.constraint}"
        case DropDuplicateKey():
            return f"drop duplicate {last.constraint}"
        case AdoptReference():
            return f"adopt {last.table} {' '.join(last.columns)}"
        case AddReferenceIndex():
            return f"index {last.table} {' '.join(last.columns)}"
        case _:
            raise AssertionError(f"no title for {type(last).__name__}")


def _say(key: ForeignKey | LogicalReference, operation: Reversible) -> str:
    match operation:
        case AddReferenceIndex() | BuildIndex():
            return f"index {key.referencing}({quote_all(operation.columns)})"
        case AdoptReference():
            return f"foreign key {key.arrow}, ON DELETE {operation.on_delete}"
        case ChangeOnDelete():
            wanted = [
                f"ON {event} {rule}"
                for event, rule in (
                    ("DELETE", operation.on_delete),
                    ("UPDATE", operation.on_update),
                )
                if rule
            ]
            return f"{key.label} {' '.join(wanted)}; it is {operation.definition}"
        case ValidateForeignKey():
            return f"validate {key.label}"
        case _:
            return f"drop {key.label}: another key says the same of {quote(key.referencing.name)}"


def _time(rows: int | None, kind: type[Reversible]) -> str:
    if kind is DropDuplicateKey:
        return "milliseconds"
    if rows is None:
        return "unknown: the table was never analysed"
    seconds = max(1, round(rows / _ROWS_A_SECOND))
    return f"about {rows:,} rows are read: in the order of {seconds:,} s, more on a busy disk"
