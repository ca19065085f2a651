"""What of the findings is in scope, ignored, known or gone, and how keys are marked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fkdoctor.audit import Mark, Rule, Scope, Severity, audit_schema, make_report, select_scope
from fkdoctor.audit.baseline import format_baseline, load_baseline
from fkdoctor.audit.finding import Evidence
from fkdoctor.audit.report import LEDGER_SCHEMA
from fkdoctor.errors import AmbiguousName, ConfigError, UnknownName
from fkdoctor.ledger.install import SCHEMA
from fkdoctor.schema import ReferentialAction, Schema, TableName

CASCADE, NO_ACTION = ReferentialAction.CASCADE, ReferentialAction.NO_ACTION
Make = Callable[..., Schema]


def a_rule(id: str, severity: Severity, *names: str) -> Rule:
    """A rule that finds fault with the keys of these names."""

    def check(schema: Schema) -> Iterator[Evidence]:
        for key in schema.foreign_keys:
            if key.name in names:
                yield Evidence(subject=key.label, detail=f"{key.name} is wrong.", keys=(key,))

    return Rule(
        id=id,
        name=id.lower(),
        severity=severity,
        condition="It is so.",
        effect="It hurts.",
        remedy="Mend it.",
        check=check,
    )


def of_database(schema: Schema) -> Iterator[Evidence]:
    yield Evidence(subject=f"DATABASE {schema.database}", detail="The database is wrong.")


INFO = a_rule("FK001", Severity.INFO, "key_0")
WARNING = a_rule("FK002", Severity.WARNING, "key_0", "key_1")
ERROR = a_rule("FK003", Severity.ERROR, "key_2")
EVERYWHERE = replace(a_rule("FK004", Severity.ERROR), check=of_database)
RULES = (INFO, WARNING, ERROR, EVERYWHERE)


@pytest.fixture
def shop(make_schema: Make) -> Schema:
    return make_schema(
        ["users", "orders", "lines", "other.notes", "orders_1"],
        [
            ("orders", "users", CASCADE),
            ("lines", "orders", CASCADE),
            ("other.notes", "users", CASCADE),
        ],
        partitions={"orders_1": "orders"},
    )


def test_findings_come_gravest_first(shop: Schema) -> None:
    keys = [finding.key for finding in audit_schema(shop, RULES)]

    assert keys == [
        "FK003:other.notes.key_2",
        "FK004:DATABASE mlops",
        "FK002:s.lines.key_1",
        "FK002:s.orders.key_0",
        "FK001:s.orders.key_0",
    ]


def keys_of(report: object) -> list[str]:
    return [finding.key for finding in report.findings]  # type: ignore[attr-defined]


def test_a_key_is_in_scope_by_either_of_its_tables(shop: Schema) -> None:
    report = make_report(shop, scope=Scope(tables=(TableName("s", "users"),)), rules=RULES)

    assert [key.name for key in report.foreign_keys] == ["key_0", "key_2"]
    assert "FK002:s.lines.key_1" not in keys_of(report)
    assert "FK003:other.notes.key_2" in keys_of(report)


def test_a_schema_and_a_table_are_asked_for_together(shop: Schema) -> None:
    scope = select_scope(shop, ["other"], ["lines"])
    report = make_report(shop, scope=scope, rules=RULES)

    assert [key.name for key in report.foreign_keys] == ["key_1", "key_2"]


def test_what_concerns_the_whole_database_is_in_every_scope(shop: Schema) -> None:
    report = make_report(shop, scope=Scope(schemas=("other",)), rules=RULES)

    assert "FK004:DATABASE mlops" in keys_of(report)


def test_a_partition_stands_for_the_table_above_it(shop: Schema) -> None:
    scope = select_scope(shop, tables=["orders_1"])

    assert [key.name for key in make_report(shop, scope=scope, rules=()).foreign_keys] == [
        "key_0",
        "key_1",
    ]


def test_a_bare_name_is_looked_up_in_the_configured_schemas(make_schema: Make) -> None:
    schema = make_schema(["a.users", "b.users"])

    assert select_scope(schema, tables=["users"], search=("b",)).tables == (
        TableName("b", "users"),
    )
    with pytest.raises(AmbiguousName, match=r"a\.users or b\.users"):
        select_scope(schema, tables=["users"])


def test_an_unknown_schema_is_refused_with_the_nearest(shop: Schema) -> None:
    with pytest.raises(UnknownName, match="There are: other") as refused:
        select_scope(shop, ["othr"])
    assert refused.value.next == "Did you mean other?"
    with pytest.raises(UnknownName, match="There are: other, s"):
        select_scope(shop, ["zzz"])


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        (("FK002",), 3),
        (("FK00*",), 0),
        (("FK002:s.lines.key_1",), 4),
        (("FK002:s.*",), 3),
        (("*:s.orders.*",), 3),
        (("FK002:S.*",), 5),
        (("FK002:s",), 5),
    ],
)
def test_the_ignore_list_leaves_findings_out(
    shop: Schema, ignore: tuple[str, ...], left: int
) -> None:
    report = make_report(shop, ignore=ignore, rules=RULES)

    assert len(report.findings) == left
    assert report.ignored == 5 - left
    assert report.idle_ignores == (ignore if left == 5 else ())


def test_an_ignored_rule_that_does_not_exist_is_refused(shop: Schema) -> None:
    with pytest.raises(ConfigError, match="FK999, which is no rule"):
        make_report(shop, ignore=("FK999:s.*",), rules=RULES)


def test_an_ignored_finding_does_not_mark_the_key(shop: Schema) -> None:
    key = shop.foreign_keys[2]

    assert make_report(shop, rules=RULES).mark_of(key) is Mark.BAD
    assert make_report(shop, rules=RULES, ignore=("FK003",)).mark_of(key) is Mark.GOOD


@pytest.mark.parametrize("action", ReferentialAction)
def test_a_key_without_findings_is_marked_by_its_rule(
    make_schema: Make, action: ReferentialAction
) -> None:
    schema = make_schema("ab", [("a", "b", action)])
    blocks = action in (ReferentialAction.NO_ACTION, ReferentialAction.RESTRICT)

    mark = make_report(schema, rules=()).mark_of(schema.foreign_keys[0])
    assert mark is (Mark.CAUTION if blocks else Mark.GOOD)


def test_the_gravest_finding_decides_the_mark(shop: Schema) -> None:
    report = make_report(shop, rules=(INFO, a_rule("FK009", Severity.INFO, "key_1")))
    assert [report.mark_of(key) for key in shop.foreign_keys] == [Mark.GOOD] * 3

    report = make_report(shop, rules=(WARNING, a_rule("FK009", Severity.ERROR, "key_1"), INFO))
    assert [report.mark_of(key) for key in shop.foreign_keys] == [Mark.CAUTION, Mark.BAD, Mark.GOOD]


@pytest.mark.parametrize(
    ("rule", "fails"),
    [(INFO, [True, False, False]), (WARNING, [True, True, False]), (ERROR, [True, True, True])],
)
def test_a_report_fails_at_the_asked_severity(shop: Schema, rule: Rule, fails: list[bool]) -> None:
    report = make_report(shop, rules=(rule,))

    assert [report.fails(severity) for severity in Severity] == fails
    assert not report.fails(None)


def test_what_the_baseline_has_does_not_fail(shop: Schema) -> None:
    known = {"FK003:other.notes.key_2", "FK001:s.gone.key_9"}
    report = make_report(shop, baseline=frozenset(known), rules=(WARNING, ERROR))

    assert not report.fails(Severity.ERROR)
    assert report.fails(Severity.WARNING)
    assert report.known == {"FK003:other.notes.key_2"}
    assert report.gone == ("FK001:s.gone.key_9",)
    assert len(report.findings) == 3
    assert len(report.new) == 2


def test_what_is_out_of_scope_or_ignored_is_not_gone(shop: Schema) -> None:
    baseline = frozenset(finding.key for finding in audit_schema(shop, RULES))
    report = make_report(
        shop, scope=Scope(schemas=("other",)), ignore=("FK002",), baseline=baseline, rules=RULES
    )

    assert report.gone == ()


def test_a_written_baseline_reads_back(shop: Schema, tmp_path: Path) -> None:
    findings = audit_schema(shop, RULES)
    path = tmp_path / "baseline.json"
    path.write_text(format_baseline(findings), encoding="utf-8")

    assert load_baseline(path) == {finding.key for finding in findings}
    assert not make_report(shop, baseline=load_baseline(path), rules=RULES).fails(Severity.INFO)


@given(st.lists(st.text()))
def test_any_key_survives_the_baseline(subjects: list[str]) -> None:
    rule = a_rule("FK001", Severity.INFO)
    findings = audit_schema(
        Schema(
            database="d",
            server_version=180000,
            replication_role="origin",
            tables=(),
            foreign_keys=(),
            views=frozenset(),
            unread=(),
        ),
        [replace(rule, check=lambda _: (Evidence(subject=s, detail="") for s in subjects))],
    )
    keys = json.loads(format_baseline(findings))["findings"]

    assert keys == sorted({f"FK001:{subject}" for subject in subjects})


@pytest.mark.parametrize(
    "content", ["", "[]", '{"findings": []}', '{"version": 2}', '{"version": 1, "findings": [1]}']
)
def test_a_file_that_is_no_baseline_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(ConfigError, match=r"baseline\.json is not a baseline"):
        load_baseline(path)


def test_a_baseline_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--write-baseline"):
        load_baseline(tmp_path / "none.json")


def test_our_own_tables_are_shown_only_when_asked_for(make_schema: Make) -> None:
    schema = make_schema(
        ["users", f"{LEDGER_SCHEMA}.run", f"{LEDGER_SCHEMA}.step", "notes"],
        [
            (f"{LEDGER_SCHEMA}.step", f"{LEDGER_SCHEMA}.run", CASCADE),
            ("notes", "users", CASCADE),
        ],
    )
    rule = a_rule("FK001", Severity.ERROR, "key_0", "key_1")

    assert keys_of(make_report(schema, rules=(rule,))) == ["FK001:s.notes.key_1"]
    asked = make_report(schema, scope=select_scope(schema, [LEDGER_SCHEMA]), rules=(rule,))
    assert keys_of(asked) == ["FK001:fkdoctor.step.key_0"]
    assert LEDGER_SCHEMA == SCHEMA


def test_a_finding_may_be_graver_than_its_rule(shop: Schema) -> None:
    def check(schema: Schema) -> Iterator[Evidence]:
        yield Evidence(subject="worse", detail="", severity=Severity.ERROR)
        yield Evidence(subject="usual", detail="")
        yield Evidence(subject="lighter", detail="", severity=Severity.INFO)

    report = make_report(shop, rules=(replace(WARNING, check=check),))

    assert [finding.subject for finding in report.findings] == ["worse", "usual", "lighter"]
    assert [report.count(severity) for severity in Severity] == [1, 1, 1]
    assert report.fails(Severity.ERROR)


def test_a_finding_about_a_table_is_in_that_tables_scope(shop: Schema) -> None:
    def check(schema: Schema) -> Iterator[Evidence]:
        for table in schema.tables:
            yield Evidence(subject=str(table.name), detail="", tables=(table.name,))

    report = make_report(shop, scope=Scope(schemas=("other",)), rules=(replace(INFO, check=check),))

    assert keys_of(report) == ["FK001:other.notes"]


def test_the_audit_imports_neither_sqlalchemy_nor_click() -> None:
    code = (
        "import sys, fkdoctor.audit; print({'sqlalchemy', 'click', 'psycopg2'} & set(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert printed.stdout == "set()\n"
