"""What a version was made from, through all that is known of it, as a page with a Mermaid picture."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Final

from prefect.artifacts import create_markdown_artifact

from dataset_tasks.errors import NotFoundError
from dataset_tasks.model import Version
from prefect_blocks.reports import artifact_key, markdown, one_line, shown

if TYPE_CHECKING:
    from dataset_tasks.session import Session

#: How many versions a picture shows; the nearest are taken.
MOST_NODES: Final = 40


def show_ancestors(session: Session, version_id: str) -> None:
    """Shows the versions that a version was made from; one that was made from none gets no page."""
    version = session.catalog.version(version_id)
    if not version.parents and not version.inputs:
        return
    with shown("the lineage"):
        create_markdown_artifact(
            ancestors_markdown(session, version),
            key=artifact_key(version.dataset, "lineage"),
            description=f"What {markdown(version.label)} was made from",
            _sync=True,  # type: ignore[call-arg]  # Prefect's way to say: no coroutine, please
        )


def ancestors_markdown(session: Session, version: Version) -> str:
    """The lineage of a version: a picture, nearest first, and the same as a table."""
    known: dict[str, Version] = {version.id: version}
    edges: list[tuple[str, str, str]] = []
    waiting = [version]
    left_out = False
    while waiting:
        child = waiting.pop(0)
        for source, kind in _sources(child):
            if source not in known and len(known) >= MOST_NODES:
                left_out = True
                continue
            if source not in known:
                try:
                    known[source] = session.catalog.version(source)
                except NotFoundError:
                    continue
                waiting.append(known[source])
            edges.append((source, child.id, kind))
    names = {one: f"v{place}" for place, one in enumerate(known)}
    lines = ["```mermaid", "flowchart LR"]
    lines += [f'  {names[one]}["{_label(known[one].label)}"]' for one in known]
    lines += [f"  {names[a]} {'-->' if kind == 'parent' else '-.->'} {names[b]}" for a, b, kind in edges]
    lines += ["```", "", "| version | id | made from |", "| --- | --- | --- |"]
    for one in known.values():
        above = ", ".join(f"{markdown(known[a].label)} ({kind})" for a, b, kind in edges if b == one.id)
        lines.append(f"| {markdown(one.label)} | {one.id} | {above} |")
    return "\n".join([*lines, "", "More versions are above these."] if left_out else lines) + "\n"


def _sources(version: Version) -> Iterator[tuple[str, str]]:
    for parent in version.parents:
        yield parent, "parent"
    for one in version.inputs:
        yield one.ref, "input"


def _label(text: str) -> str:
    return escape(one_line(text), quote=False).replace('"', "#quot;")
