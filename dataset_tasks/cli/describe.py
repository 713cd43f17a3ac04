"""Versions and events as JSON, as tables and as trees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from dataset_tasks import holding
from dataset_tasks.cli.fitting import Fitted, fitting
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count, moment, size
from dataset_tasks.model import JsonValue, Report, Version

if TYPE_CHECKING:
    from dataset_tasks.catalog.reads import Read
    from dataset_tasks.catalog.rows import Event

#: What of the origin of a version says who made it; the rest is for the core alone.
_SAID = ("run_id", "step", "spec", "dag_id", "task_id", "map_index", "flow", "user", "host", "command")

_STATE_STYLES = {
    "in_progress": "yellow",
    "completed": "green",
    "published": "bold green",
    "aborted": "dim",
    "deleted": "dim",
}


def version_document(version: Version) -> dict[str, JsonValue]:
    """A version as JSON; moments in ISO form, UTC."""
    return {
        "id": version.id,
        "project": version.project,
        "name": version.name,
        "version": version.version,
        "partition": version.partition,
        "state": str(version.state),
        "quarantined": version.quarantined,
        "created": version.created.isoformat(),
        "finalized": version.finalized.isoformat() if version.finalized else None,
        "published": version.published.isoformat() if version.published else None,
        "files": version.files,
        "bytes": version.bytes,
        "new_bytes": version.new_bytes,
        "pending": version.pending,
        "content_hash": version.content_hash,
        "parents": list(version.parents),
        "inputs": [{"name": i.name, "ref": i.ref, "files": list(i.files)} for i in version.inputs],
        "tags": list(version.tags),
        "description": version.description,
        "metadata": dict(version.metadata),
        "origin": dict(version.origin),
    }


def event_document(event: Event) -> dict[str, JsonValue]:
    """An event as JSON."""
    return {
        "sequence": event.sequence,
        "kind": event.kind,
        "version_id": event.version_id,
        "created": event.created.isoformat(),
        "payload": dict(event.payload),
    }


def state_text(version: Version) -> Text:
    """The state in its colour; a quarantined version says so."""
    if holding.reasons(version.quarantined):
        return Text(f"{version.state}, {version.quarantined}", style="cyan")
    if version.quarantined:
        return Text(f"{version.state}, quarantined", style="bold red")
    return Text(str(version.state), style=_STATE_STYLES[version.state])


def versions_table(versions: Iterable[Version], aliases: Mapping[str, Sequence[str]], width: int) -> Fitted:
    """One line a version, for a terminal so many cells wide. `aliases` are names by version id."""
    rows = [
        (
            Text(shown(v.dataset)),
            Text(shown(f"{v.version} [{v.partition}]" if v.partition else v.version)),
            state_text(v),
            f"{v.files:,}",
            size(v.bytes),
            size(v.new_bytes),
            moment(v.created),
            Text(shown(" ".join([*(f"@{alias}" for alias in aliases.get(v.id, ())), *v.tags]))),
            Text(v.id, style="dim"),
        )
        for v in versions
    ]
    same = len({row[0].plain for row in rows}) == 1
    return fitting(
        width,
        ("dataset", "version", "state", "files", "bytes", "new", "created (UTC)", "tags", "id"),
        rows,
        always=("version", "state") if same else ("dataset", "version", "state"),
        then=("id", "files", "tags", "bytes", "created (UTC)", *(("dataset",) if same else ()), "new"),
        right=("files", "bytes", "new"),
    )


@dataclass(slots=True)
class DatasetSummary:
    """A line of versions: how many stand, the last one made, the last one published."""

    last: Version
    versions: int = 0
    new_bytes: int = 0
    published: str = ""

    def document(self) -> dict[str, JsonValue]:
        """The dataset as JSON."""
        return {
            "project": self.last.project,
            "name": self.last.name,
            "versions": self.versions,
            "new_bytes": self.new_bytes,
            "published": self.published or None,
            "last": version_document(self.last),
        }


def datasets(versions: Iterable[Version]) -> list[DatasetSummary]:
    """The datasets of versions that come in the order of their making, sorted by name."""
    found: dict[str, DatasetSummary] = {}
    for v in versions:
        summary = found.setdefault(v.dataset, DatasetSummary(v))
        summary.last = v
        summary.versions += 1
        summary.new_bytes += v.new_bytes
        summary.published = v.version if v.published else summary.published
    return [found[name] for name in sorted(found)]


def datasets_table(summaries: Iterable[DatasetSummary], width: int) -> Fitted:
    """One line a dataset, for a terminal so many cells wide."""
    rows = [
        (
            Text(shown(each.last.dataset), style="bold"),
            f"{each.versions:,}",
            Text(shown(each.last.version)),
            state_text(each.last),
            f"{each.last.files:,}",
            size(each.last.bytes),
            size(each.new_bytes),
            Text(shown(each.published)),
            moment(each.last.created),
        )
        for each in summaries
    ]
    return fitting(
        width,
        ("dataset", "versions", "last", "state", "files", "bytes", "stored", "published", "created (UTC)"),
        rows,
        always=("dataset", "last"),
        then=("state", "published", "files", "bytes", "versions", "created (UTC)", "stored"),
        right=("versions", "files", "bytes", "stored"),
    )


# --- history ---------------------------------------------------------------------------------------------------------


def maker(version: Version) -> str:
    """Who made a version, in words: the runner, its run and step, the user."""
    return who(version.origin)


def made_by(version: Version) -> str:
    """The state of the spec and of the code that made a version; empty where neither is known."""
    parts = [
        f"{word} {str(held).removeprefix('version:')[:12]}"
        for word, key in (("spec digest", "spec_digest"), ("code", "code"))
        if (held := version.origin.get(key))
    ]
    return shown(", ".join(parts))


def who(origin: Mapping[str, JsonValue]) -> str:
    """Where something came from, in words."""
    runner = origin.get("runner")
    rest = [f"{key} {value}" for key, value in origin.items() if key in _SAID and value not in (None, "", {}, [])]
    return shown(", ".join([*([str(runner)] if runner else []), *rest])) or "not recorded"


def report_document(report: Report) -> dict[str, JsonValue]:
    """Something that was reported about a version, as JSON."""
    return {
        "sequence": report.sequence,
        "kind": report.kind,
        "title": report.title,
        "series": report.series,
        "iteration": report.iteration,
        "value": report.value,
        "created": report.created.isoformat(),
    }


def read_document(read: Read) -> dict[str, JsonValue]:
    """That a run read a version, as JSON."""
    return {"created": read.created.isoformat(), "origin": read.origin}


def report_line(report: Report) -> str:
    """The same in a line: a table as its number of rows, a file by its name."""
    name = "/".join(word for word in (report.title, report.series) if word)
    at = f" at {report.iteration}" if report.iteration is not None else ""
    value = report.value
    match report.kind:
        case "table" | "histogram":
            said = count(len(value), "row" if report.kind == "table" else "bar") if isinstance(value, list) else ""
        case "image" | "media":
            said = f"{value.get('name')}, {value.get('size')} bytes" if isinstance(value, Mapping) else ""
        case _:
            said = str(value)
    return shown(f"{report.kind}{' ' + name if name else ''}{at}: {said}")


def history(
    version: Version,
    events: Iterable[Event],
    names: Mapping[str, str],
    reports: Iterable[Report] = (),
    reads: Iterable[Read] = (),
) -> list[Text]:
    """A version, what happened to it, what was reported about it and who read it. `names` are labels by id."""
    title = Text(shown(version.label), style="bold")
    lines = [title.append("  ").append(state_text(version)).append(f"  {version.id}", style="dim")]
    lines.append(Text(f"  created {moment(version.created)} UTC by {maker(version)}"))
    if said := made_by(version):
        lines.append(Text(f"  {said}", style="dim"))
    if version.description:
        lines.append(Text(f"  {shown(version.description)}"))
    for word, ids in (("parents", version.parents), ("inputs", tuple(i.ref for i in version.inputs))):
        if ids:
            lines.append(Text(f"  {word}: {', '.join(shown(names.get(i, i)) for i in ids)}"))
    new = f", {size(version.new_bytes)} new in the store" if version.new_bytes else ""
    lines.append(Text(f"  {count(version.files, 'file')}, {size(version.bytes)}{new}"))
    if version.quarantined:
        lines.append(Text(f"  quarantined: {shown(version.quarantined)}", style="red"))
    lines += [Text(f"  {moment(e.created)} {_event(e)}", style="dim") for e in events if e.kind != "reported"]
    lines += [Text(f"  {text}", style="dim") for text in _dropped(version)]
    for each in reports:
        lines.append(Text(f"  {moment(each.created)} {report_line(each)}"))
        if (each.kind, each.title) == ("table", "check") and isinstance(each.value, list):
            lines += [Text(f"    {shown(text)}", style="red") for text in _findings(each.value)]
    lines += [Text(f"  {moment(each.created)} read by {who(each.origin)}", style="dim") for each in reads]
    return lines


def _dropped(version: Version) -> Iterator[str]:
    """When, by whom and why a draft was given up; of drafts of earlier releases nobody wrote it down."""
    known = version.origin.get("dropped")
    if isinstance(known, Mapping):
        by, why, at = known.get("by"), known.get("why"), datetime.fromisoformat(str(known["at"]))
        said = f" by {who(by)}" if isinstance(by, Mapping) and by else ""
        yield shown(f"{moment(at)} dropped{said}{f': {why}' if why else ''}")


def _findings(rows: Sequence[JsonValue]) -> Iterator[str]:
    """The lines of the report of a check."""
    for row in rows:
        if isinstance(row, Mapping):
            column = f"column {row['column']}" if row.get("column") else ""
            where = ", ".join(str(word) for word in (row.get("file"), column) if word)
            what = f"row {row['row']}: {row['value']!r}" if row.get("row") is not None else ""
            yield ": ".join(str(word) for word in (row.get("gate"), where, row.get("rule"), what) if word)


def _answered(row: Mapping[str, JsonValue]) -> str:
    if row.get("state") == "open":
        return "approval asked"
    who = (
        f" by {row['who']}" if row.get("who") else ": nobody answered in time" if row.get("state") == "expired" else ""
    )
    return f"{row.get('state')}{who}" + (f" ({row['note']})" if row.get("note") else "")


def _event(event: Event) -> str:
    if event.kind == "alias":
        return shown(f"alias {event.payload.get('alias')} points here")
    if event.kind == "approval":
        return shown(_answered(event.payload))
    if list(event.payload) == ["quarantined"]:
        return shown(f"held back: {event.payload['quarantined']}" if event.payload["quarantined"] else "let go")
    if event.kind == "changed":
        return shown("changed: " + ", ".join(f"{key} {value}" for key, value in event.payload.items()))
    return shown(event.kind)


# --- lineage ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edge:
    """`child` was made from `parent`: kind `previous`, `parent`, `input` or `squash`; `name` is that of an input."""

    child: str
    parent: str
    kind: str
    name: str = ""

    def document(self) -> dict[str, JsonValue]:
        """The edge as JSON."""
        return {"child": self.child, "parent": self.parent, "kind": self.kind, "name": self.name}


def edges_of(version: Version) -> list[Edge]:
    """What a version was made from, in order."""
    squashed = version.origin.get("squash")
    return [
        *(Edge(version.id, p, "previous" if p == version.previous_id else "parent") for p in version.parents),
        *(Edge(version.id, i.ref, "input", i.name) for i in version.inputs),
        *(Edge(version.id, str(ref), "squash") for ref in (squashed if isinstance(squashed, list) else ())),
    ]


@dataclass(slots=True)
class Branches:
    """Draws a graph as a tree: each version is opened once, and said to stand above where it comes again."""

    versions: Mapping[str, Version]
    next: Mapping[str, Sequence[Edge]]
    down: bool = False
    _opened: set[str] = field(default_factory=set)

    def tree(self, root: str) -> Tree:
        """The tree below a version."""
        top = Tree(self._text(root, None), guide_style="dim")
        open_nodes = [(top, root)]
        self._opened.add(root)
        while open_nodes:
            node, version_id = open_nodes.pop()
            for edge in self.next.get(version_id, ()):
                other = edge.child if self.down else edge.parent
                again = other in self._opened and bool(self.next.get(other))
                text = self._text(other, edge)
                branch = node.add(text.append("  (see above)", style="dim") if again else text)
                if other not in self._opened:
                    self._opened.add(other)
                    open_nodes.append((branch, other))
        return top

    def _text(self, version_id: str, edge: Edge | None) -> Text:
        version = self.versions.get(version_id)
        if version is None:
            return Text(version_id)
        text = Text(shown(version.label), style="bold" if edge is None else "")
        text.append("  ").append(state_text(version))
        if edge is not None and edge.kind != "parent":
            text.append(f"  {edge.kind}{f' {shown(edge.name)}' if edge.name else ''}", style="cyan")
        return text
