"""The lineage of a plan as a graph of datasets: what every picture of it is drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dataset_tasks.spec.plan import Plan, PlannedDataset

EdgeKind: TypeAlias = Literal["parent", "input", "squash"]


@dataclass(frozen=True, slots=True)
class Node:
    """A dataset of the plan, or (`dataset` is None) a version made elsewhere; `id` is a word in any language of graphs."""

    id: str
    label: str
    dataset: PlannedDataset | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """Content goes, or (kind input) is only read, from `source` to `target`, both ids of nodes."""

    source: str
    target: str
    kind: EdgeKind


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in the plan's order, each version made elsewhere before the first that reads it; edges in the order of reading."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    def above(self, node: str) -> list[tuple[str, EdgeKind]]:
        """What a node is made from, by label."""
        labels = {held.id: held.label for held in self.nodes}
        return [(labels[edge.source], edge.kind) for edge in self.edges if edge.target == node]

    def ranks(self) -> dict[str, int]:
        """For each node the length of the longest way to it."""
        found = {node.id: 0 for node in self.nodes}
        above: dict[str, list[str]] = {}
        for edge in self.edges:
            above.setdefault(edge.target, []).append(edge.source)
        for node in self.nodes:
            found[node.id] = max((found[source] + 1 for source in above.get(node.id, ())), default=0)
        return found


def graph_of(plan: Plan) -> Graph:
    """The lineage of a plan."""
    ids = {dataset.version_step: f"d_{dataset.key}" for dataset in plan.datasets}
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    outside: dict[str, str] = {}
    for dataset in plan.datasets:
        target = f"d_{dataset.key}"
        squashed = dataset.version_step.endswith(".squash")
        reads: list[tuple[str, EdgeKind]] = [(ref, "squash" if squashed else "parent") for ref in dataset.parents]
        reads += [(ref, "input") for ref in dataset.inputs]
        for ref, kind in reads:
            if ref.startswith("step:"):
                source = ids[ref[5:]]
            else:
                source = outside.setdefault(ref, f"x_{len(outside)}")
                nodes.setdefault(source, Node(source, ref))
            edges.append(Edge(source, target, kind))
        nodes[target] = Node(target, dataset.key, dataset)
    return Graph(tuple(nodes.values()), tuple(edges))
