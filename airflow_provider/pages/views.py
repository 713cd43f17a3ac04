"""What the pages show, read from the catalog: no word of HTML, requests or users here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.model import State, Version
from dataset_tasks.ops.function_build import dataset_parts
from dataset_tasks.spec.graph import Edge, EdgeKind, Graph, Node
from dataset_tasks.spec.svg import draw

if TYPE_CHECKING:
    from dataset_tasks.catalog.sql import Catalog
    from dataset_tasks.model import Approval

#: Versions on a page.
PAGE = 50
#: How far the picture of a lineage goes, in steps and in versions.
_STEPS, _MOST = 4, 40


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """A dataset in the list: its newest version and how many there are."""

    dataset: str
    count: int
    newest: Version
    aliases: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """A version that another was made from, or that was made from it; `version` is None where it is not known any more."""

    ref: str
    role: str
    version: Version | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionPage:
    """All that the page of a version shows; `picture` is SVG."""

    version: Version
    aliases: tuple[str, ...]
    sources: tuple[Relative, ...]
    uses: tuple[Version, ...]
    approval: Approval | None
    picture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An approval with the version it is about."""

    approval: Approval
    version: Version


def datasets(catalog: Catalog, wanted: str = "") -> list[DatasetRow]:
    """The datasets whose name has a text in it, by name."""
    found = [row for row in catalog.datasets() if wanted.casefold() in f"{row[0]}/{row[1]}".casefold()]
    rows = []
    for project, name, count, _ in found:
        newest = catalog.newest(project=project, name=name, limit=1)
        if newest:
            aliases = _names(catalog, newest[0])
            rows.append(DatasetRow(dataset=f"{project}/{name}", count=count, newest=newest[0], aliases=aliases))
    return rows


def versions(catalog: Catalog, dataset: str, before: int | None = None) -> tuple[list[Version], Mapping[str, str]]:
    """A page of a dataset's versions, the newest first, and its aliases by version id (joined where there are several).

    Raises:
        NotFoundError: There is no such dataset.
    """
    try:
        project, name = dataset_parts(dataset)
    except InvalidArgumentError as error:
        raise NotFoundError(error.message) from error
    found = catalog.newest(project=project, name=name, before=before, limit=PAGE)
    if not found and before is None:
        raise NotFoundError(f"there is no dataset {dataset!r} in catalog {catalog.id}")
    by_id: dict[str, str] = {}
    for alias, version_id in catalog.aliases(project, name).items():
        by_id[version_id] = f"{by_id[version_id]}, {alias}" if version_id in by_id else alias
    return found, by_id


def version_page(catalog: Catalog, version_id: str) -> VersionPage:
    """Everything about a version.

    Raises:
        NotFoundError: No version has this id.
    """
    version = catalog.version(version_id)
    return VersionPage(
        version=version,
        aliases=tuple(alias for alias, at in _names(catalog, version).items() if at == version.id),
        sources=tuple(_sources(catalog, version)),
        uses=tuple(catalog.children(version.id)),
        approval=catalog.approval(version.id),
        picture=lineage_picture(catalog, version),
    )


def questions(catalog: Catalog) -> tuple[list[Question], list[Question]]:
    """The open questions, and the last answered ones; newest first."""
    found = [Question(approval=one, version=catalog.version(one.version_id)) for one in _looked_at(catalog)]
    return [one for one in found if one.approval.state == "open"], [
        one for one in found if one.approval.state != "open"
    ][:PAGE]


def _looked_at(catalog: Catalog) -> Iterable[Approval]:
    """Questions, the overdue ones answered by being looked at; of each version the newest."""
    seen: set[str] = set()
    for one in catalog.approvals(limit=4 * PAGE):
        if one.version_id not in seen:
            seen.add(one.version_id)
            now = catalog.approval(one.version_id)
            assert now is not None
            yield now


def lineage_picture(catalog: Catalog, version: Version) -> str:
    """The versions around one, from left to right, as SVG."""
    known: dict[str, Version] = {version.id: version}
    edges: dict[tuple[str, str], EdgeKind] = {}
    border = [version]
    for _ in range(_STEPS):
        border = [
            source
            for target in border
            for source in _above(catalog, target, edges)
            if len(known) < _MOST and known.setdefault(source.id, source) is source
        ]
    for child in catalog.children(version.id)[: _MOST - len(known)]:
        known[child.id] = child
        for source in _above(catalog, child, edges):
            known.setdefault(source.id, source)
    order = sorted(known.values(), key=lambda one: one.sequence)
    nodes = tuple(Node(one.id, one.label) for one in order)
    kept = tuple(
        Edge(source, target, kind) for (source, target), kind in edges.items() if {source, target} <= set(known)
    )
    return draw(Graph(nodes, kept), {one.id: (one.dataset, _caption(one, version)) for one in order})


def _above(catalog: Catalog, version: Version, edges: dict[tuple[str, str], EdgeKind]) -> list[Version]:
    found = []
    for relative in _sources(catalog, version):
        if relative.version is not None:
            edges[relative.version.id, version.id] = "input" if relative.role.startswith("input") else "parent"
            found.append(relative.version)
    return found


def _caption(one: Version, here: Version) -> str:
    partition = f" [{one.partition}]" if one.partition else ""
    return f"{one.version}{partition} {one.state}{' (this one)' if one.id == here.id else ''}"


def _sources(catalog: Catalog, version: Version) -> Iterable[Relative]:
    for parent in version.parents:
        role = "previous" if parent == version.previous_id else "parent"
        yield Relative(ref=parent, role=role, version=_known(catalog, parent))
    for source in version.inputs:
        yield Relative(ref=source.ref, role=f"input {source.name}", version=_known(catalog, source.ref))


def _known(catalog: Catalog, ref: str) -> Version | None:
    try:
        return catalog.resolve(ref)
    except NotFoundError:
        return None


def _names(catalog: Catalog, version: Version) -> dict[str, str]:
    return catalog.aliases(version.project, version.name) if version.state is not State.DELETED else {}
