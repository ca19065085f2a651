"""Rules about schemas that hold the same tables, one for each tenant or site."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from fkdoctor.audit.finding import Evidence, Rule, Severity
from fkdoctor.audit.wording import listed, with_rows
from fkdoctor.schema import ForeignKey, Schema

MANY = 3
"""So many schemas must agree before another one counts as the odd one out."""

SHOWN = 5

_Relation = tuple[str, tuple[str, ...], str, tuple[str, ...]]


def find_differing_tenants(schema: Schema) -> Iterator[Evidence]:
    """The keys that do something else on delete than the same keys of schemas like theirs."""
    tables: dict[str, set[str]] = defaultdict(set)
    for table in schema.tables:
        tables[table.name.schema].add(table.name.name)
    for keys in _relations(schema).values():
        rules = Counter(key.on_delete for key in keys)
        if len(rules) == 1:
            continue
        # Of two as frequent ones the first by its schema is as good as the other.
        usual = max(rules, key=lambda rule: rules[rule])
        agreeing = {key.referencing.schema: key for key in keys if key.on_delete is usual}
        for key in keys:
            own = tables[key.referencing.schema]
            alike = [one for name, one in agreeing.items() if _alike(own, tables[name])]
            # A schema that has both keys disagrees with itself, which is FK012.
            if key.referencing.schema in agreeing or not alike:
                continue
            others = [one.referencing.schema for one in alike[:SHOWN]]
            if len(alike) > SHOWN:
                others.append(f"{len(alike) - SHOWN} more schemas")
            yield Evidence(
                subject=key.label,
                detail=(
                    f"{key.arrow} of {with_rows(schema, key.referencing)} does "
                    f"{key.on_delete.sql}; in {listed(others)}, with the same tables, it does "
                    f"{usual.sql}."
                ),
                keys=(key, alike[0]),
                severity=Severity.WARNING if len(alike) >= MANY else Severity.INFO,
            )


def _relations(schema: Schema) -> dict[_Relation, list[ForeignKey]]:
    """The keys within one schema each, by what they are apart from it."""
    found: dict[_Relation, list[ForeignKey]] = defaultdict(list)
    for key in schema.foreign_keys:
        inside = key.referencing.schema == key.referenced.schema
        if key.enforced and inside and schema.table(key.referencing).partition_of is None:
            relation = (
                key.referencing.name,
                key.referencing_columns,
                key.referenced.name,
                key.referenced_columns,
            )
            found[relation].append(key)
    return found


def _alike(one: set[str], other: set[str]) -> bool:
    """Whether nearly all tables of the one schema are in the other too, under the same names."""
    return len(one & other) >= max(3, 0.8 * max(len(one), len(other)))


RULES = (
    Rule(
        id="FK059",
        name="differing-tenant",
        severity=Severity.INFO,
        condition=(
            "Several schemas have nearly the same tables, as where each tenant has one, and the "
            "same key has another ON DELETE rule in some of them. A warning where three or more "
            "agree and this one does not."
        ),
        effect=(
            "The same DELETE keeps rows for one tenant and takes them along for another: mostly a "
            "migration that did not reach every schema."
        ),
        remedy="Change those that are behind: op.change_on_delete with schema=….",
        check=find_differing_tenants,
    ),
)
