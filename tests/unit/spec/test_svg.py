"""Pictures of lineage: boxes stand apart, and lines lead round them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise

import pytest

from dataset_tasks.spec import svg
from dataset_tasks.spec.graph import Edge, Graph, Node

Rectangle = tuple[float, float, float, float]
SVG = "{http://www.w3.org/2000/svg}"


def graph(*edges: tuple[str, str]) -> Graph:
    names = list(dict.fromkeys(name for edge in edges for name in edge))
    return Graph(tuple(Node(name, name) for name in names), tuple(Edge(a, b, "parent") for a, b in edges))


def drawn(pictured: Graph) -> tuple[list[Rectangle], list[list[tuple[float, float]]]]:
    """The boxes as left, top, right, bottom, and points along each line."""
    top = ET.fromstring(svg.draw(pictured, {node.id: (node.label, "shop/" + node.label) for node in pictured.nodes}))
    boxes = []
    for each in top.iter(f"{SVG}rect"):
        x, y, width, height = (float(each.get(name, "")) for name in ("x", "y", "width", "height"))
        boxes.append((x, y, x + width, y + height))
    paths = [each.get("d", "") for each in top.findall(f"{SVG}path")]
    return boxes, [list(points(path)) for path in paths]


def points(path: str) -> Iterator[tuple[float, float]]:
    here = (0.0, 0.0)
    for letter, numbers in re.findall(r"([MLC])([^MLC]+)", path):
        values = [float(number) for number in numbers.split()]
        ends = [here, *zip(values[::2], values[1::2], strict=True)]
        if letter == "M":
            ends = ends[1:]
        for step in range(21):
            yield bezier(ends, step / 20)
        here = ends[-1]


def bezier(ends: list[tuple[float, float]], t: float) -> tuple[float, float]:
    while len(ends) > 1:
        ends = [((1 - t) * a + t * c, (1 - t) * b + t * d) for (a, b), (c, d) in pairwise(ends)]
    return ends[0]


CHAIN = [(f"n{number}", f"n{number + 1}") for number in range(8)]


@pytest.mark.parametrize(
    "edges",
    [
        [("raw", "clean"), ("clean", "training"), ("raw", "training")],
        [*CHAIN, *(("n0", f"n{number}") for number in range(2, 9))],
        [*CHAIN, *((f"n{number}", "n8") for number in range(7))],
        [
            *CHAIN,
            ("a_very_long_name_of_a_dataset", "n8"),
            ("n1", "b"),
            ("n2", "c"),
            ("b", "c"),
            ("n0", "c"),
            ("c", "n7"),
        ],
    ],
)
def test_no_line_leads_through_a_box_and_no_two_boxes_meet(edges: list[tuple[str, str]]) -> None:
    boxes, lines = drawn(graph(*edges))

    assert len(lines) == len(edges)
    crossed = [
        (box, point)
        for box in boxes
        for line in lines
        for point in line
        if box[0] + 1 < point[0] < box[2] - 1 and box[1] + 1 < point[1] < box[3] - 1
    ]
    assert crossed == []
    apart = [a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1] for a in boxes for b in boxes if a != b]
    assert all(apart)


def test_a_graph_too_dense_for_lanes_is_drawn_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svg, "_MOST_LANES", 3)
    boxes, lines = drawn(graph(*CHAIN, *(("n0", f"n{number}") for number in range(2, 9))))
    assert (len(boxes), len(lines)) == (9, 15)
