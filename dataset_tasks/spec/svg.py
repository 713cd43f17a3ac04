"""Draws a lineage graph as SVG: ranks from left to right, no program needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from dataset_tasks.spec.graph import Edge, EdgeKind, Graph

_LETTER: Final = 7.4
_BOLD: Final = 8.4
_LINE: Final = 18
_PAD: Final = 12
_GAP_X: Final = 70
_GAP_Y: Final = 24
#: With more, edges go straight: what is so dense is no picture any more.
_MOST_LANES: Final = 20_000
_TIP: Final = (
    '  <defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerUnits="userSpaceOnUse" '
    'markerWidth="9" markerHeight="9" orient="auto">'
    '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>'
)
_DASHES: Final[Mapping[EdgeKind, str]] = {
    "parent": "",
    "input": ' stroke-dasharray="5 4"',
    "squash": ' stroke-width="2.5"',
}


def draw(graph: Graph, captions: Mapping[str, tuple[str, ...]]) -> str:
    """The picture of a graph.

    Args:
        graph: What to draw.
        captions: The lines of text in the box of each node, the first in bold.

    A box stands right of all that lead to it, at the height of their middle as far as there is room. No line crosses a box.
    """
    places = _place(graph, captions)
    width, height = max(end for _, end in places.columns.values()) + _PAD, places.height
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    return "\n".join((head, _TIP, *_lines(graph, places), *_boxes(graph, captions, places.boxes), "</svg>"))


class _Box:
    """A rectangle; one without lines is a lane: the height at which edges pass a column."""

    __slots__ = ("height", "width", "x", "y")

    def __init__(self, lines: tuple[str, ...]) -> None:
        self.width = max(len(lines[0]) * _BOLD, *(len(line) * _LETTER for line in lines)) + 2 * _PAD if lines else 0.0
        self.height = len(lines) * _LINE + _PAD if lines else 0.0
        self.x = self.y = 0.0

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass(slots=True)
class _Places:
    """Where everything stands: boxes by node, lanes by source and rank, left and right end of each column by rank."""

    boxes: dict[str, _Box]
    ranks: dict[str, int]
    lanes: dict[tuple[str, int], _Box] = field(default_factory=dict)
    columns: dict[int, tuple[float, float]] = field(default_factory=dict)
    height: float = 0.0

    def way(self, edge: Edge) -> list[_Box]:
        """The lanes that an edge takes through the columns between its ends."""
        between = range(self.ranks[edge.source] + 1, self.ranks[edge.target])
        return [self.lanes[edge.source, rank] for rank in between if (edge.source, rank) in self.lanes]


def _place(graph: Graph, captions: Mapping[str, tuple[str, ...]]) -> _Places:
    """Puts boxes into columns by rank; edges that pass a column get a lane there, one for all from the same source."""
    places = _Places({node.id: _Box(captions[node.id]) for node in graph.nodes}, graph.ranks())
    above: dict[str, list[Edge]] = {node.id: [] for node in graph.nodes}
    passing: dict[int, dict[str, None]] = {}
    for edge in graph.edges:
        above[edge.target].append(edge)
        for rank in range(places.ranks[edge.source] + 1, places.ranks[edge.target]):
            passing.setdefault(rank, {})[edge.source] = None
    if sum(map(len, passing.values())) > _MOST_LANES:
        passing = {}
    columns: dict[int, list[str]] = {}
    for node, rank in places.ranks.items():
        columns.setdefault(rank, []).append(node)
    x = float(_PAD)
    for rank in sorted(columns):
        column = [(_wanted(places, above[node]), places.boxes[node]) for node in columns[rank]]
        for source in passing.get(rank, ()):
            lane = places.lanes[source, rank] = _Box(())
            column.append((places.lanes.get((source, rank - 1), places.boxes[source]).middle, lane))
        end = x + max(box.width for _, box in column)
        places.columns[rank] = (x, end)
        places.height = max(places.height, _stack(column, x))
        x = end + _GAP_X
    return places


def _wanted(places: _Places, edges: Sequence[Edge]) -> float:
    """The height that is best for a box: the middle of where its edges come from."""
    ends = [(places.way(edge) or [places.boxes[edge.source]])[-1].middle for edge in edges]
    return sum(ends) / len(ends) if ends else 0.0


def _stack(column: list[tuple[float, _Box]], x: float) -> float:
    """Places boxes and lanes of a column, each as near to its height as there is room; gives where the column ends."""
    column.sort(key=lambda each: each[0])
    y = float(_PAD)
    for wanted, box in column:
        box.x, box.y = x, max(y, wanted - box.height / 2)
        y = box.y + box.height + _GAP_Y
    return y - _GAP_Y + _PAD


def _lines(graph: Graph, places: _Places) -> Iterator[str]:
    for edge in graph.edges:
        source = places.boxes[edge.source]
        rank = places.ranks[edge.source]
        x, y = source.x + source.width, source.middle
        path = f"M{x:.1f} {y:.1f}"
        for to in (*places.way(edge), places.boxes[edge.target]):
            begin, end = places.columns[rank][1], to.x  # between two columns, where no box stands
            bend = (begin + end) / 2
            path += f"L{begin:.1f} {y:.1f}C{bend:.1f} {y:.1f} {bend:.1f} {to.middle:.1f} {end:.1f} {to.middle:.1f}"
            rank, y = rank + 1, to.middle
        yield f'  <path d="{path}" fill="none" stroke="#555" marker-end="url(#tip)"{_DASHES[edge.kind]}/>'


def _boxes(graph: Graph, captions: Mapping[str, tuple[str, ...]], boxes: Mapping[str, _Box]) -> Iterator[str]:
    for node in graph.nodes:
        box = boxes[node.id]
        fill, corner = ("#eef5ff", 4) if node.dataset else ("#f4f4f4", 14)
        yield (
            f'  <rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="{corner}" '
            f'fill="{fill}" stroke="#555"/>'
        )
        for place, line in enumerate(captions[node.id]):
            weight = ' font-weight="bold"' if place == 0 else ' fill="#555"'
            y = box.y + _PAD / 2 + (place + 1) * _LINE - 5
            yield f'  <text x="{box.x + _PAD:.1f}" y="{y:.1f}"{weight}>{escape(line)}</text>'
