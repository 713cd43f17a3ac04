"""Draws a lineage graph as SVG: ranks from left to right, no program needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Final

from dataset_tasks.spec.graph import EdgeKind, Graph

_LETTER: Final = 7.4
_LINE: Final = 18
_PAD: Final = 12
_GAP_X: Final = 70
_GAP_Y: Final = 24
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

    A box stands right of all that lead to it, at the height of their middle as far as there is room.
    """
    boxes, width, height = _place(graph, captions)
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">'
    return "\n".join((head, _TIP, *_lines(graph, boxes), *_boxes(graph, captions, boxes), "</svg>"))


class _Box:
    __slots__ = ("height", "width", "x", "y")

    def __init__(self, lines: tuple[str, ...]) -> None:
        self.width = max(len(line) for line in lines) * _LETTER + 2 * _PAD
        self.height = len(lines) * _LINE + _PAD
        self.x = self.y = 0.0

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def _place(graph: Graph, captions: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, _Box], float, float]:
    boxes = {node.id: _Box(captions[node.id]) for node in graph.nodes}
    ranks = graph.ranks()
    above: dict[str, list[str]] = {node.id: [] for node in graph.nodes}
    for edge in graph.edges:
        above[edge.target].append(edge.source)
    columns: dict[int, list[str]] = {}
    for node, rank in ranks.items():
        columns.setdefault(rank, []).append(node)
    x, height = float(_PAD), 0.0
    for rank in sorted(columns):
        column = columns[rank]
        wanted = {
            node: sum(boxes[source].middle for source in above[node]) / len(above[node]) if above[node] else 0.0
            for node in column
        }
        column.sort(key=wanted.__getitem__)
        y = float(_PAD)
        for node in column:
            box = boxes[node]
            box.x, box.y = x, max(y, wanted[node] - box.height / 2)
            y = box.y + box.height + _GAP_Y
        height = max(height, y - _GAP_Y + _PAD)
        x += max(boxes[node].width for node in column) + _GAP_X
    return boxes, x - _GAP_X + _PAD, height


def _lines(graph: Graph, boxes: Mapping[str, _Box]) -> Iterator[str]:
    for edge in graph.edges:
        source, target = boxes[edge.source], boxes[edge.target]
        x1, y1, x2, y2 = source.x + source.width, source.middle, target.x, target.middle
        bend = (x1 + x2) / 2
        yield (
            f'  <path d="M{x1:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}" fill="none" '
            f'stroke="#555" marker-end="url(#tip)"{_DASHES[edge.kind]}/>'
        )


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
