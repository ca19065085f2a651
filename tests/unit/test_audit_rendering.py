"""The report as text, JSON and Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from fkdoctor.audit import Report, Rule, Severity, make_report
from fkdoctor.audit.finding import Evidence
from fkdoctor.render import markdown, text
from fkdoctor.render.document import report_as_json
from fkdoctor.render.encoding import fit_encoding
from fkdoctor.render.sarif import report_as_sarif
from fkdoctor.schema import MatchType, ReferentialAction, Schema, Unread

ROOT = Path(__file__).parents[2]
CASCADE, NO_ACTION = ReferentialAction.CASCADE, ReferentialAction.NO_ACTION


def check(schema: Schema) -> Iterator[Evidence]:
    key = schema.foreign_keys[0]
    yield Evidence(
        subject=key.label,
        detail=f"{key.referencing} hurts | <b>.",
        keys=(key,),
        sql="SELECT 1;\nSELECT 2;",
        toml='[[reference]]\nfrom = "a"',
    )


RULE = Rule(
    id="FK001",
    name="a-rule",
    severity=Severity.WARNING,
    condition="It is so.",
    effect="It makes every DELETE slow.",
    remedy="Mend it.",
    check=check,
)


@pytest.fixture
def schema(make_schema: Callable[..., Schema]) -> Schema:
    made = make_schema(
        ["mlops.letters", "mlops.recommendations", "mlops.interactions"],
        [
            ("mlops.recommendations", "mlops.letters", NO_ACTION),
            ("mlops.interactions", "mlops.letters", CASCADE),
        ],
    )
    letters = replace(made.tables[0], row_estimate=20_000)
    return replace(made, tables=(letters, *made.tables[1:]))


def test_the_text_reads_from_keys_to_findings_to_scope(schema: Schema) -> None:
    report = make_report(schema, rules=(RULE,))

    assert (
        text.render_report(report)
        == """\
mlops.letters  (about 20,000 rows)
✔ mlops.interactions.key_1: a → mlops.letters(id)  ON DELETE CASCADE
⚠ mlops.recommendations.key_0: a → mlops.letters(id)  ON DELETE NO ACTION

✔ acts on the referencing rows   ⚠ blocks the DELETE, or has a warning   ✖ has an error

WARNINGS

⚠ FK001 a-rule
  Why it hurts: It makes every DELETE slow.
  What to do: Mend it.
  FK001 mlops.recommendations.key_0
    mlops.recommendations hurts | <b>.
      SELECT 1;
      SELECT 2;
    In fkdoctor.toml:
      [[reference]]
      from = "a"

1 warning.
Audited database mlops on PostgreSQL 18.0: 3 tables in 1 schema (mlops), 2 foreign keys, 1 rule.
"""
    )


@pytest.mark.parametrize(
    ("severity", "shown"), [(Severity.INFO, text.SHOWN), (Severity.WARNING, 40)]
)
def test_many_info_findings_of_a_rule_are_folded(
    make_schema: Callable[..., Schema], severity: Severity, shown: int
) -> None:
    keys = [("mlops.a", "mlops.b", NO_ACTION)] * 40

    def check_all(schema: Schema) -> Iterator[Evidence]:
        for key in schema.foreign_keys:
            yield Evidence(subject=key.label, detail="It hurts.", keys=(key,))

    rule = replace(RULE, severity=severity, check=check_all)
    report = make_report(make_schema(["mlops.a", "mlops.b"], keys), rules=(rule,))
    told = text.render_report(report)
    assert told.count("    It hurts.") == shown
    assert ("and 15 more, which the other formats list" in told) is (shown < 40)
    assert len(json.loads(report_as_json(report))["findings"]) == 40


def test_a_database_without_keys_says_so(make_schema: Callable[..., Schema]) -> None:
    report = make_report(make_schema([]), rules=())

    assert (
        text.render_report(report)
        == """\
There is no foreign key.

Nothing found.
Audited database mlops on PostgreSQL 18.0: 0 tables in 0 schemas, 0 foreign keys, 0 rules.
"""
    )


def test_colours_are_only_added(schema: Schema) -> None:
    report = make_report(schema, rules=(RULE,))
    coloured = text.render_report(report, colour=True)

    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == text.render_report(report)


def test_prose_is_wrapped_to_the_terminal_and_names_are_not(schema: Schema) -> None:
    report = make_report(schema, rules=(RULE,))
    lines = text.render_report(report, width=30).splitlines()

    assert "  Why it hurts: It makes every" in lines
    assert "  DELETE slow." in lines
    assert "✔ mlops.interactions.key_1: a → mlops.letters(id)  ON DELETE CASCADE" in lines
    assert "    mlops.recommendations" in lines


def test_a_key_shows_all_it_says(schema: Schema) -> None:
    key = replace(
        schema.foreign_keys[0],
        on_delete=ReferentialAction.SET_NULL,
        set_columns=("B", "c"),
        on_update=CASCADE,
        match=MatchType.FULL,
        deferrable=True,
        initially_deferred=True,
        validated=False,
        referencing_columns=("B", "c"),
        referenced_columns=("id", "t"),
    )

    assert text.describe_key(key) == (
        'mlops.recommendations.key_0: ("B", c) → mlops.letters(id, t)  '
        'ON DELETE SET NULL ("B", c) ON UPDATE CASCADE MATCH FULL INITIALLY DEFERRED NOT VALID'
    )
    assert text.describe_key(replace(key, enforced=False)).endswith("DEFERRED NOT ENFORCED")


def test_known_and_gone_and_ignored_and_unread_are_counted(schema: Schema) -> None:
    unread = Unread(subject="triggers", reason="permission denied")
    report = make_report(
        replace(schema, unread=(unread,)),
        rules=(RULE, replace(RULE, id="FK002")),
        ignore=("FK002",),
        baseline=frozenset({"FK001:mlops.recommendations.key_0", "FK001:gone"}),
    )
    printed = text.render_report(report)

    assert "1 warning; 1 of them known from the baseline; 1 ignored.\n" in printed
    assert "No longer found, though in the baseline: FK001:gone.\n" in printed
    assert "Not read: triggers (permission denied).\n" in printed
    assert "Mend it." not in printed
    for part in ("known from the baseline", "`FK001:gone`", "Not read: triggers"):
        assert part in markdown.render_report(report)


def test_markdown_is_safe_from_what_names_contain(schema: Schema) -> None:
    printed = markdown.render_report(make_report(schema, rules=(RULE,)))

    row = next(line for line in printed.splitlines() if line.startswith("| ⚠"))
    assert row.startswith("| ⚠ | FK001 a-rule | `mlops.recommendations.key_0` |")
    assert row.endswith("| mlops.recommendations hurts \\| \\<b\\>. |")
    assert "```sql\nSELECT 1;\nSELECT 2;\n```" in printed
    assert '```toml\n[[reference]]\nfrom = "a"\n```' in printed
    assert "- ✔ `mlops.interactions.key_1: a → mlops.letters(id)  ON DELETE CASCADE`" in printed


@given(st.text(alphabet="`a|", min_size=1))
def test_code_spans_hold_any_backticks(name: str) -> None:
    span = markdown.code(name)
    fence = re.match("`+", span)[0]  # type: ignore[index]
    inside = span[len(fence) : -len(fence)]

    assert span.endswith(fence)
    assert fence not in re.findall("`+", inside)
    assert inside.strip() == name.strip()


def paths(value: Any, at: str = "") -> Iterator[str]:
    """Where the document holds values: `findings[].key`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from paths(inner, f"{at}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{at}[]")
    else:
        yield at


@pytest.fixture
def full_report(schema: Schema) -> Report:
    """A report with something in every field."""
    key = replace(schema.foreign_keys[0], set_columns=("a",))

    def check_more(schema: Schema) -> Iterator[Evidence]:
        yield from check(schema)
        yield Evidence(subject="s.t", detail="It is so.", tables=(key.referenced,))

    report = make_report(
        replace(
            schema,
            foreign_keys=(key, *schema.foreign_keys[1:]),
            unread=(Unread(subject="rules", reason="permission denied"),),
        ),
        rules=(replace(RULE, check=check_more),),
        baseline=frozenset({"FK001:gone", "FK001:s.t"}),
    )
    return replace(
        report, scope=replace(report.scope, schemas=("mlops",), tables=(key.referenced,))
    )


def test_the_json_has_just_the_documented_fields(full_report: Report) -> None:
    page = (ROOT / "docs" / "reference" / "audit.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([^`]+)` \|", page.partition("## JSON")[2], re.MULTILINE)

    assert set(paths(json.loads(report_as_json(full_report)))) == set(documented)
    assert len(documented) == len(set(documented))


@pytest.fixture(scope="session")
def published() -> Any:
    return json.loads((ROOT / "docs" / "reference" / "audit.schema.json").read_text("utf-8"))


def test_the_json_is_as_its_published_schema_says(full_report: Report, published: Any) -> None:
    document = json.loads(report_as_json(full_report))
    validator = Draft202012Validator(published)
    validator.check_schema(published)

    validator.validate(document)
    validator.validate(json.loads(report_as_json(make_report(full_report.schema, rules=()))))
    for spoilt in (
        {**document, "more": 1},
        {name: value for name, value in document.items() if name != "gone"},
        {**document, "findings": [{**document["findings"][0], "severity": "fatal"}]},
    ):
        assert not validator.is_valid(spoilt)


def described(schema: Any, at: str = "") -> Iterator[str]:
    """Where the schema allows values: `findings[].key`."""
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from described(inner, f"{at}.{name}".lstrip("."))
    elif "items" in schema:
        yield from described(schema["items"], f"{at}[]")
    else:
        yield at


def test_the_published_schema_describes_each_field_once(
    full_report: Report, published: Any
) -> None:
    assert set(described(published)) == set(paths(json.loads(report_as_json(full_report))))


def test_sarif_has_the_structure_that_code_hosts_read(full_report: Report) -> None:
    document = json.loads(report_as_sarif(full_report, file="da ta/fkdoctor.toml"))

    assert (document["version"], len(document["runs"])) == ("2.1.0", 1)
    (run,) = document["runs"]
    assert set(run) <= {"tool", "columnKind", "results", "invocations"}
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.id for rule in full_report.rules]
    assert {rule["defaultConfiguration"]["level"] for rule in rules} <= {"error", "warning", "note"}
    assert [
        (result["ruleId"], result["partialFingerprints"], result["baselineState"])
        for result in run["results"]
    ] == [
        ("FK001", {"finding/v1": "FK001:mlops.recommendations.key_0"}, "new"),
        ("FK001", {"finding/v1": "FK001:s.t"}, "unchanged"),
    ]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == "warning"
        (location,) = result["locations"]
        assert location["physicalLocation"] == {
            "artifactLocation": {"uri": "da%20ta/fkdoctor.toml"},
            "region": {"startLine": 1},
        }
    assert run["results"][0]["message"]["text"] == (
        "mlops.recommendations.key_0: mlops.recommendations hurts | <b>.\n"
        'SELECT 1;\nSELECT 2;\n[[reference]]\nfrom = "a"'
    )
    assert [place["fullyQualifiedName"] for place in location["logicalLocations"]] == [
        "s.t",
        "mlops.letters",
    ]
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is True
    assert invocation["toolExecutionNotifications"][0]["message"] == {
        "text": "Not read: rules (permission denied)."
    }


def test_sarif_says_nothing_of_a_baseline_where_there_is_none(schema: Schema) -> None:
    document = json.loads(report_as_sarif(make_report(schema, rules=(RULE,))))

    assert "baselineState" not in document["runs"][0]["results"][0]


def test_the_json_says_what_the_text_says(schema: Schema) -> None:
    document = json.loads(report_as_json(make_report(schema, rules=(RULE,))))

    assert document["summary"] == {"error": 0, "warning": 1, "info": 0, "known": 0, "ignored": 0}
    (finding,) = document["findings"]
    assert finding["key"] == "FK001:mlops.recommendations.key_0"
    assert finding["sql"] == "SELECT 1;\nSELECT 2;"
    assert {key["label"]: key["mark"] for key in document["foreign_keys"]} == {
        "mlops.recommendations.key_0": "caution",
        "mlops.interactions.key_1": "good",
    }
    assert document["foreign_keys"][0]["referenced"]["row_estimate"] == 20_000
    assert document["database"] == {"name": "mlops", "server": "18.0"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "euc-kr"])
def test_signs_that_the_screen_lacks_are_replaced(encoding: str) -> None:
    shown = fit_encoding('⚠ "글".fk: a → b', encoding)

    shown.encode(encoding)
    assert shown.startswith("! ")
    assert "-> b" in shown
    assert ("글" in shown) is (encoding == "euc-kr")


@given(st.text())
def test_utf8_shows_everything_but_lone_surrogates(written: str) -> None:
    assert fit_encoding(written, "utf-8") == written
