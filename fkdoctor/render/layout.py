"""Where each box of a diagram goes. igraph does the thinking, a grid keeps boxes apart."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

from fkdoctor.errors import ConfigError
from fkdoctor.render.diagram import Diagram

CELL_HEIGHT = 56
LAYERED = 60
"""Up to so many tables that hang together are drawn in layers, referenced above referencing."""

Point = tuple[float, float]


def place_boxes(diagram: Diagram, width: float) -> tuple[Point, ...]:
    """The middle of each box, where none is wider than `width`: the same for the same diagram.

    Tables that hang together are drawn together, the largest group first. Raises ConfigError where
    igraph is not installed.
    """
    igraph = _import_igraph()
    # igraph draws its random numbers from here.
    igraph.set_random_number_generator(random.Random(1))
    loops = {(number, number) for number in range(len(diagram.boxes))}
    graph = igraph.Graph(
        n=len(diagram.boxes),
        edges=sorted({(one.source, one.target) for one in diagram.arrows} - loops),
        directed=True,
    )
    cell = width + 30
    groups = sorted(graph.connected_components(mode="weak"), key=lambda group: (-len(group), group))
    blocks = [_place_group(graph.induced_subgraph(group), cell) for group in groups]
    points: dict[int, Point] = {}
    for group, block, (left, top) in zip(groups, blocks, _pack(blocks, cell), strict=True):
        for box, (column, row) in zip(group, block, strict=True):
            # Like bricks, so that arrows between boxes of one column do not hide each other.
            shift = row % 2 / 2 if len(group) > LAYERED else 0
            points[box] = ((left + column + 0.5 + shift) * cell, (top + row + 0.5) * CELL_HEIGHT)
    return tuple(points[number] for number in range(len(diagram.boxes)))


def _import_igraph() -> Any:
    try:
        import igraph
    except ImportError:
        raise ConfigError(
            "The picture needs igraph, which is not installed.",
            why="It is not needed for anything else.",
            next="Install it: pip install 'fkdoctor[graph]', or take --format dot or mermaid.",
        ) from None
    return igraph


Cell = tuple[int, int]


def _place_group(graph: Any, cell: float) -> list[Cell]:
    """A cell of a grid for each of the tables, from column and row 0."""
    number = graph.vcount()
    if number == 1:
        return [(0, 0)]
    if number <= LAYERED:
        # Layers count from referencing to referenced; the referenced are to be above.
        layout = graph.layout_sugiyama(maxiter=200)
        wanted = [(x, -y * 2.0) for x, y in layout.coords[:number]]
    else:
        layout = graph.as_undirected().layout_fruchterman_reingold(niter=300)
        # The grid's cells are wide: room for about every second of them, in a square.
        side = math.sqrt(number * 2.5)
        ratio = math.sqrt(cell / CELL_HEIGHT)
        wanted = _stretch(layout.coords, side / ratio, side * ratio)
    return _snap(wanted)


def _stretch(points: Sequence[Sequence[float]], columns: float, rows: float) -> list[Point]:
    """The points over so many columns and rows: by rank, so that a dense middle gets its room.

    Half by rank, half by distance: rank alone would tear neighbours apart.
    """
    spread = [_spread([point[axis] for point in points]) for axis in (0, 1)]
    return [(x * columns, y * rows) for x, y in zip(*spread, strict=True)]


def _spread(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    rank = {value: place / len(values) for place, value in enumerate(sorted(values))}
    return [(rank[value] + (value - low) / ((high - low) or 1)) / 2 for value in values]


def _snap(wanted: Sequence[Point]) -> list[Cell]:
    """The nearest free cell for each, those in the middle first."""
    middle = tuple(sum(point[axis] for point in wanted) / len(wanted) for axis in (0, 1))
    order = sorted(range(len(wanted)), key=lambda one: math.dist(wanted[one], middle))
    taken: dict[Cell, int] = {}
    for one in order:
        x, y = wanted[one]
        at = next(free for free in _around(round(x), round(y)) if free not in taken)
        taken[at] = one
    left, top = (min(cell[axis] for cell in taken) for axis in (0, 1))
    found = {one: (column - left, row - top) for (column, row), one in taken.items()}
    return [found[one] for one in range(len(wanted))]


def _around(column: int, row: int) -> Iterator[Cell]:
    """The cell, then those around it, ring by ring."""
    yield column, row
    ring = 1
    while True:
        for across in range(-ring, ring + 1):
            for down in range(-ring, ring + 1):
                if max(abs(across), abs(down)) == ring:
                    yield column + across, row + down
        ring += 1


def _pack(blocks: Sequence[Sequence[Cell]], cell: float) -> Iterator[Cell]:
    """Where each group starts, in rows like words on a page that is about as wide as high."""
    sizes = [(max(c for c, _ in block) + 2, max(r for _, r in block) + 2) for block in blocks]
    area = sum(columns * cell * rows * CELL_HEIGHT for columns, rows in sizes)
    page = max([math.ceil(math.sqrt(area * 1.6) / cell), *(columns for columns, _ in sizes)])
    left = top = height = 0
    for columns, rows in sizes:
        if left and left + columns > page:
            left, top, height = 0, top + height, 0
        yield left, top
        left, height = left + columns, max(height, rows)
