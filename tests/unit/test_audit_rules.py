"""The rules as records, their examples, and the pages written from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fkdoctor.audit import RULES, Rule, Severity
from fkdoctor.audit.explanation import explain_rule
from fkdoctor.errors import UnknownName
from fkdoctor.render.rules import explain, list_rules, list_rules_as_json, rule_pages

ROOT = Path(__file__).parents[2]


def test_ids_count_up_and_names_differ() -> None:
    assert [rule.id for rule in RULES] == [f"FK{n:03}" for n in range(1, len(RULES) + 1)]
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_says_when_why_and_what_to_do_in_whole_sentences(rule: Rule) -> None:
    for text in (rule.condition, rule.effect, rule.remedy):
        assert re.fullmatch(r"[A-Z].*[.\]]", text), text
        assert "  " not in text
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_owns_two_examples_that_differ(rule: Rule) -> None:
    explanation = explain_rule(rule.id)

    assert any(key.startswith(rule.id) for key in explanation.found_in_bad)
    assert not any(key.startswith(rule.id) for key in explanation.found_in_good)
    assert explanation.bad != explanation.good
    assert explanation.bad.endswith(";\n")
    assert explanation.good.endswith(";\n")


def test_examples_belong_to_rules() -> None:
    folders = (ROOT / "fkdoctor" / "audit" / "examples").iterdir()

    assert {folder.name for folder in folders} == {rule.id for rule in RULES}


def test_the_pages_in_the_tree_are_those_of_the_rules() -> None:
    """If not: python -m fkdoctor.render.rules docs/rules"""
    tree = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs/rules").iterdir()}

    assert tree == rule_pages()


def test_links_between_the_pages_lead_somewhere() -> None:
    pages = rule_pages()
    links = [link for page in pages.values() for link in re.findall(r"\]\(([^)#]+)\)", page)]

    assert links
    assert set(links) <= set(pages)


@pytest.mark.parametrize("name", ["FK001", "fk001", "unindexed-reference"])
def test_a_rule_is_found_by_id_and_by_name(name: str) -> None:
    assert explain_rule(name).rule.id == "FK001"


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="FK001"):
        explain_rule("unindexed")
    with pytest.raises(UnknownName, match="There is no rule cheese"):
        explain_rule("cheese")


def test_the_list_has_a_line_for_each_rule() -> None:
    lines = list_rules().splitlines()

    assert [line.split()[0] for line in lines] == [rule.id for rule in RULES]
    assert "FK004  warning  not-enforced                 PostgreSQL 18 and newer" in lines
    assert "FK001  warning  unindexed-reference" in lines
    assert '"id": "FK001"' in list_rules_as_json()


def test_explaining_tells_everything_about_the_rule() -> None:
    explanation = explain_rule("FK016")
    text = explain(explanation)

    assert text.startswith("FK016 nondeterministic-collation (warning, PostgreSQL 17 and older)\n")
    for part in (explanation.rule.condition, explanation.rule.effect, explanation.rule.remedy):
        assert part in text
    for line in (*explanation.bad.splitlines(), *explanation.good.splitlines()):
        assert f"    {line}\n" in text


def test_severities_compare() -> None:
    assert Severity.ERROR > Severity.WARNING > Severity.INFO
