"""The keys as a picture: what is drawn, where, and that names can't break out of it."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from fkdoctor.audit import Report, Severity, make_report
from fkdoctor.audit.finding import Evidence, Rule
from fkdoctor.render import html
from fkdoctor.render.diagram import Arrow, Box, Diagram, make_diagram
from fkdoctor.render.dot import render_dot, render_mermaid
from fkdoctor.render.layout import CELL_HEIGHT, place_boxes
from fkdoctor.render.svg import HEIGHT, render_svg
from fkdoctor.schema import LogicalReference, ReferentialAction, Schema, TableName

CASCADE, NO_ACTION = ReferentialAction.CASCADE, ReferentialAction.NO_ACTION
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = 's.</script><script>alert("1")</script>&amp;$x|\\"'

Make = Callable[..., Schema]


@pytest.fixture
def report(make_schema: Make) -> Report:
    schema = make_schema(
        ["a", "b", "c", "alone", "part", HOSTILE],
        [
            ("a", "b", CASCADE),
            ("b", "a", NO_ACTION),
            ("c", "c", CASCADE),
            ("part", "c", CASCADE),
            (HOSTILE, "a", NO_ACTION),
        ],
        {"part": "b"},
    )
    logical = LogicalReference(
        referencing=TableName("s", "c"),
        referencing_column="x",
        referenced=TableName("s", "a"),
        referenced_column="id",
    )
    rule = Rule(
        id="FK001",
        name="a-rule",
        severity=Severity.ERROR,
        condition="It is so.",
        effect="It <hurts>.",
        remedy="Mend it.",
        check=lambda schema: iter(
            [
                Evidence(
                    subject=HOSTILE,
                    detail=HOSTILE,
                    keys=(schema.keys_from(TableName("s", "a"))[0],),
                    sql=HOSTILE,
                )
            ]
        ),
    )
    return make_report(replace(schema, references=(logical,)), rules=(rule,))


def test_the_diagram_shows_tables_with_keys_and_folds_partitions(report: Report) -> None:
    diagram = make_diagram(report)
    titles = [box.title for box in diagram.boxes]
    drawn = {
        (titles[arrow.source], titles[arrow.target]): arrow
        for arrow in diagram.arrows
        if titles[arrow.source] in "abc"
    }

    assert titles[1:] == ["a", "b", "c"]
    assert drawn.keys() == {("a", "b"), ("b", "a"), ("c", "c"), ("b", "c"), ("c", "a")}
    # The logical reference closes no circle of foreign keys.
    assert [box.title for box in diagram.boxes if box.cyclic] == ["a", "b"]
    assert {pair for pair, arrow in drawn.items() if arrow.cyclic} == {("a", "b"), ("b", "a")}
    assert drawn["c", "a"].rule == "logical"
    assert {pair for pair, arrow in drawn.items() if arrow.loose} == {("c", "a")}
    assert drawn["a", "b"].worst is Severity.ERROR
    assert [box.worst for box in diagram.boxes] == [None, Severity.ERROR, None, None]


def test_alike_keys_of_partitions_are_one_arrow(make_schema: Make) -> None:
    schema = make_schema(
        ["up", "down", "p1", "p2"],
        [("p1", "up", CASCADE), ("p2", "up", CASCADE), ("p2", "up", NO_ACTION)],
        {"p1": "down", "p2": "down"},
    )
    diagram = make_diagram(make_report(schema, rules=()))

    assert [arrow.rule for arrow in diagram.arrows] == ["CASCADE", "NO ACTION"]


def random_diagram(seed: int, number: int) -> Diagram:
    random = Random(seed)
    names = [f"t{one}" for one in range(number)]
    return Diagram(
        database="d",
        boxes=tuple(
            Box(table=TableName("s", name), title=name, rows=None, worst=None, cyclic=False)
            for name in names
        ),
        arrows=tuple(
            Arrow(
                label="k",
                columns="a",
                source=random.randrange(number),
                target=random.randrange(number),
                rule="CASCADE",
                loose=False,
                cyclic=False,
                worst=None,
            )
            for _ in range(random.randrange(2 * number))
        ),
    )


@pytest.mark.parametrize("number", [1, 2, 5, 40, 61, 300])
def test_boxes_never_lie_on_each_other_and_keep_their_place(number: int) -> None:
    for seed in range(3):
        diagram = random_diagram(seed, number)
        points = place_boxes(diagram, 100)
        assert points == place_boxes(diagram, 100)
        by_row = sorted((y, x) for x, y in points)
        assert all(x >= 50 and y >= HEIGHT / 2 for x, y in points)
        for (above, left), (below, right) in itertools.pairwise(by_row):
            assert below - above >= CELL_HEIGHT or right - left >= 100


def test_the_svg_is_whole_and_has_each_box_and_arrow(report: Report) -> None:
    diagram = make_diagram(report)
    tree = ElementTree.fromstring(render_svg(diagram))

    assert len(tree.findall(f".//{SVG}path[@class='arrow']")) == len(diagram.arrows) == 6
    boxes = tree.findall(f".//{SVG}g[@class='box']")
    assert [box.findtext(f"{SVG}title") for box in boxes][1:] == [
        f"s.{name}, never analysed" for name in "abc"
    ]
    assert "script" not in {element.tag.removeprefix(SVG) for element in tree.iter()}
    assert render_svg(diagram) == render_svg(diagram)


def test_nothing_to_draw_is_drawn_too(make_schema: Make) -> None:
    diagram = make_diagram(make_report(make_schema(["a"]), rules=()))

    assert ElementTree.fromstring(render_svg(diagram)).findall(f".//{SVG}rect")
    assert render_dot(diagram).endswith("}\n")
    assert render_mermaid(diagram) == "flowchart BT\n"


def test_dot_quotes_every_name(report: Report) -> None:
    lines = render_dot(make_diagram(report)).splitlines()

    assert lines[0] == 'digraph "mlops" {'
    quoted = r'"(?:[^"\\]|\\.)*"'
    node = re.compile(rf"  {quoted} \[label={quoted}(, style=filled, fillcolor={quoted})?\];")
    edge = re.compile(rf"  {quoted} -> {quoted} \[\w+={quoted}(, \w+={quoted})*\];")
    assert sum(bool(node.fullmatch(line)) for line in lines) == 4
    assert sum(bool(edge.fullmatch(line)) for line in lines) == 6
    assert len(lines) == 4 + 6 + 4
    assert '  "s.a" -> "s.b" [color="#d55e00"' in "\n".join(lines)


def test_mermaid_has_no_sign_that_means_something_to_it(report: Report) -> None:
    lines = render_mermaid(make_diagram(report)).splitlines()

    assert '  t1["a"]' in lines
    assert "  t1 ==>|CASCADE| t2" in lines
    assert "  t3 -.->|logical| t1" in lines
    for line in lines[1:5]:
        assert re.fullmatch(r'  t\d\["(\w|[._ ]|#\d+;)+"\]', line)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))


def test_the_page_stands_alone_whatever_names_hold(report: Report) -> None:
    page = html.render_report(report)
    tags = _Tags()
    tags.feed(page)

    assert [tag for tag, _ in tags.seen].count("script") == 2
    for _, attributes in tags.seen:
        assert not {"src", "onload", "onclick"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"https?://|url\((?!#)|@import", page)
    (graph,) = re.findall(r'id="graph">(.*?)</script>', page, re.DOTALL)
    described = json.loads(graph)
    assert described["boxes"][0]["table"] == str(TableName("s", HOSTILE[2:]))
    assert len(described["arrows"]) == 6
    assert "It &lt;hurts&gt;." in page


@pytest.fixture
def draw(tmp_path: Path) -> Callable[[Report, str], str]:
    """Called with a report and a table: the page in a browser that was opened at the table."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no browser")

    def draw(report: Report, table: str) -> str:
        page = tmp_path / "report.html"
        page.write_text(html.render_report(report), encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += [f"--user-data-dir={tmp_path}/profile", f"{page.as_uri()}#table={table}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return draw


def test_a_whole_name_shows_the_cascade_tree_and_a_part_all_that_have_it(
    make_schema: Make, draw: Callable[[Report, str], str]
) -> None:
    keys = [("b", "a", CASCADE), ("c", "b", CASCADE), ("d", "c", CASCADE)]
    keys += [("x", "d", NO_ACTION), ("y", "ab", CASCADE), ("a", "z", NO_ACTION)]
    schema = make_schema(["a", "b", "c", "d", "x", "ab", "y", "z"], keys)
    report = make_report(schema, rules=())

    # a, what it references (z), and what goes with it; not what only references that (x).
    assert "5 of 8 tables" in draw(report, "s.a")
    assert 'class="few' in draw(report, "s.a")
    assert "8 of 8 tables" in draw(report, "s.")


def test_names_that_are_shown_from_afar_do_not_lie_on_each_other(
    make_schema: Make, draw: Callable[[Report, str], str]
) -> None:
    around = [f"a_rather_long_name_of_a_table_{number}" for number in range(40)]
    others = [f"another_{number}" for number in range(400)]
    keys = [(one, "hub", CASCADE) for one in around] + [(one, "far", CASCADE) for one in others]
    schema = make_schema(["hub", "far", *around, *others], [*keys, ("hub", "far", CASCADE)])
    drawn = draw(make_report(schema, rules=()), "s.hub")
    assert re.search(r'class="[^"]*\bfew\b', drawn)

    (scale,) = re.findall(r'id="view" transform="[^"]*scale\(([\d.]+)\)', drawn)
    size = max(12, 11 / float(scale))
    shown = [
        (x, y, re.search(r' dy="([\d.-]+)"', more), name)
        for gone, x, y, more, name in re.findall(
            r'<g class="box([^"]*)".*?<text x="([\d.-]+)" y="([\d.-]+)"([^>]*)>([^<]*)</text>',
            drawn,
        )
        if "gone" not in gone
    ]
    places = [
        (float(x), float(y) + (float(moved[1]) if moved else 0), len(name))
        for x, y, moved, name in shown
    ]
    assert len(places) == 42
    assert any(moved for _, _, moved, _ in shown)
    for number, (x, y, length) in enumerate(places):
        for other_x, other_y, other in places[:number]:
            apart = abs(x - other_x) >= (length + other) * size * 0.3
            assert apart or abs(y - other_y) >= size


def test_a_browser_draws_and_filters(report: Report, draw: Callable[[Report, str], str]) -> None:
    drawn = draw(report, "s.c")

    # c, what it references (a, itself) and what references it (b by its partition).
    assert "3 of 4 tables" in drawn
    told = drawn.partition('<aside id="told">')[2].partition("</aside>")[0]
    assert "A DELETE here reaches 2 tables by CASCADE" in told
    assert "s.b (level 1)" in told
    assert "s.a (level 2)" in told
