"""A diagram as SVG that stands alone: arrows in the colour of their rule, a legend, titles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from html import escape

from fkdoctor.audit import Severity
from fkdoctor.render.diagram import COLOURS, Arrow, Box, Diagram
from fkdoctor.render.layout import Point, place_boxes

HEIGHT = 24
LETTER = 7.2
LONGEST = 30
MARGIN = 40

_FRAMES = {Severity.ERROR: "#c00000", Severity.WARNING: "#c08000", Severity.INFO: "#667788"}


def render_svg(diagram: Diagram) -> str:
    """The picture as a file of its own."""
    inner, width, height = draw(diagram)
    legend = "".join(_legend(diagram, width))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height + 40:.0f}" '
        f'width="{width:.0f}" height="{height + 40:.0f}" font-family="monospace" font-size="12">\n'
        f"<title>Foreign keys of {escape(diagram.database)}</title>\n"
        f'<rect width="100%" height="100%" fill="white"/>\n{legend}'
        f'<g transform="translate(0 40)">\n{inner}</g>\n</svg>\n'
    )


def draw(diagram: Diagram) -> tuple[str, float, float]:
    """The boxes and arrows as SVG elements, and the width and height that they take."""
    widest = max((_width(box) for box in diagram.boxes), default=0)
    points = [(x + MARGIN, y + MARGIN) for x, y in (place_boxes(diagram, widest) if widest else ())]
    width = max((x for x, _ in points), default=0) + widest / 2 + MARGIN
    height = max((y for _, y in points), default=0) + HEIGHT + MARGIN
    parts = ["<defs>", *_markers(), "</defs>\n"]
    parts += _arrows(diagram, points)
    parts += (
        _box(number, box, point)
        for number, (box, point) in enumerate(zip(diagram.boxes, points, strict=True))
    )
    return "".join(parts), width, height


def _width(box: Box) -> float:
    return min(len(box.title), LONGEST) * LETTER + 16


def _markers() -> Iterator[str]:
    for rule, colour in COLOURS.items():
        yield (
            f'<marker id="{_id(rule)}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
        )


def _id(rule: str) -> str:
    return "to-" + rule.lower().replace(" ", "-")


def _box(number: int, box: Box, point: Point) -> str:
    x, y = point
    width = _width(box)
    frame = _FRAMES[box.worst] if box.worst is not None else "#99aabb"
    thick = 2.5 if box.worst is Severity.ERROR else 1.2
    fill = "#fff0e0" if box.cyclic else "#f4f7fa"
    title = box.title if len(box.title) <= LONGEST else box.title[: LONGEST - 1] + "…"
    rows = "never analysed" if box.rows is None else f"about {box.rows:,} rows"
    return (
        f'<g class="box" data-box="{number}"><title>{escape(str(box.table))}, {rows}</title>'
        f'<rect x="{x - width / 2:.1f}" y="{y - HEIGHT / 2:.1f}" width="{width:.1f}" '
        f'height="{HEIGHT}" rx="4" fill="{fill}" stroke="{frame}" stroke-width="{thick}"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{escape(title)}</text></g>\n'
    )


def _arrows(diagram: Diagram, points: list[Point]) -> Iterator[str]:
    beside: Counter[frozenset[int]] = Counter()
    for number, arrow in enumerate(diagram.arrows):
        ends = frozenset((arrow.source, arrow.target))
        yield _arrow(diagram, number, arrow, points, beside[ends])
        beside[ends] += 1


def _arrow(diagram: Diagram, number: int, arrow: Arrow, points: list[Point], before: int) -> str:
    """The arrow's path; of several between two boxes, each next one is bent more."""
    source, target = points[arrow.source], points[arrow.target]
    if arrow.source == arrow.target:
        x, y = source
        right = x + _width(diagram.boxes[arrow.source]) / 2
        reach = 22 + 10 * before
        path = f"M{right:.1f} {y + 6:.1f}c{reach} 14 {reach} -26 0 -12"
    else:
        bend = 14.0 * ((before + 1) // 2) * (1 if before % 2 else -1)
        middle = _bent(source, target, bend)
        start = _edge(source, middle, _width(diagram.boxes[arrow.source]))
        end = _edge(target, middle, _width(diagram.boxes[arrow.target]))
        path = f"M{start[0]:.1f} {start[1]:.1f}Q{middle[0]:.1f} {middle[1]:.1f}"
        path += f" {end[0]:.1f} {end[1]:.1f}"
    colour = COLOURS[arrow.rule]
    dashes = ' stroke-dasharray="5 4"' if arrow.loose else ""
    thick = 2.6 if arrow.cyclic else 1.3
    return (
        f'<path class="arrow" data-arrow="{number}" d="{path}" fill="none" stroke="{colour}" '
        f'stroke-width="{thick}"{dashes} marker-end="url(#{_id(arrow.rule)})"><title>'
        f"{escape(arrow.label)}: {escape(arrow.columns)}, {_said(arrow)}</title></path>\n"
    )


def _said(arrow: Arrow) -> str:
    if arrow.rule == "logical":
        return "a reference of fkdoctor.toml"
    return f"ON DELETE {arrow.rule}"


def _bent(one: Point, other: Point, bend: float) -> Point:
    across, down = other[0] - one[0], other[1] - one[1]
    length = math.hypot(across, down) or 1
    return (
        (one[0] + other[0]) / 2 - down / length * bend,
        (one[1] + other[1]) / 2 + across / length * bend,
    )


def _edge(centre: Point, towards: Point, width: float) -> Point:
    """Where the line from the box's middle leaves it."""
    across, down = towards[0] - centre[0], towards[1] - centre[1]
    scale = min(
        (width / 2) / abs(across) if across else math.inf,
        (HEIGHT / 2) / abs(down) if down else math.inf,
        1.0,
    )
    return centre[0] + across * scale, centre[1] + down * scale


def _legend(diagram: Diagram, width: float) -> Iterator[str]:
    used = [rule for rule in COLOURS if any(arrow.rule == rule for arrow in diagram.arrows)]
    yield '<g transform="translate(40 24)">'
    for place, rule in enumerate(used):
        x = 130 * place
        yield (
            f'<path d="M{x} -4h24" stroke="{COLOURS[rule]}" stroke-width="2"/>'
            f'<text x="{x + 30}" y="0">{rule}</text>'
        )
    yield "</g>\n"
