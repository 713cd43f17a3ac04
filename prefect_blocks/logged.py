"""Reports of a version's logger (`Dataset.get_logger()`) as artifacts of the Prefect run that makes them.

The reports themselves are in the catalog; Prefect shows a copy. The core finds `show_report` by its entry point.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from dataset_tasks.errors import DatasetError
from dataset_tasks.model import Report, Version
from prefect_blocks.live import Kind, LiveArtifact, Run, live_artifact
from prefect_blocks.reports import artifact_key, markdown, one_line

if TYPE_CHECKING:
    from dataset_tasks.session import Session

#: Most rows, lines and bytes of an image that an artifact holds; the catalog holds all.
MOST_ROWS: Final = 1000
MOST_IMAGE_BYTES: Final = 256 << 10
_IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})


def show_report(session: Session, version_id: str, report: Report) -> None:
    """Shows a report as an artifact of the running task or flow; outside of a run it does nothing."""
    run = Run.current()
    if run is None:
        return
    version = session.catalog.version(version_id)
    title = " ".join(word for word in (report.title, report.series) if word)
    match report.kind:
        case "text":
            _grow(run, version, report.title or "text", "markdown", f"- {markdown(str(report.value))}")
        case "scalar":
            row = {"series": report.series, "iteration": report.iteration, "value": report.value}
            _grow(run, version, report.title, "table", row)
        case "table":
            rows = [
                {name: _cell(value) for name, value in cast("Mapping[str, object]", each).items()}
                for each in cast("Sequence[object]", report.value)[:MOST_ROWS]
            ]
            _put(run, version, title, "table", rows)
        case "histogram":
            bars = [{"bar": bar, "value": value} for bar, value in enumerate(cast("Sequence[float]", report.value))]
            _put(run, version, title, "table", bars[:MOST_ROWS])
        case _:
            _put(run, version, title, "markdown", _file(session, version_id, report))


def _grow(run: Run, version: Version, title: str, kind: Kind, item: Any) -> None:  # Any: a line or a row
    artifact = _artifact(run, version, title, kind)
    artifact.items.append(item)
    shown = artifact.items[-MOST_ROWS:]
    artifact.put("\n".join(shown) if kind == "markdown" else shown)


def _put(run: Run, version: Version, title: str, kind: Kind, data: Any) -> None:  # Any: text or rows
    _artifact(run, version, title, kind).put(data, last=True)


def _artifact(run: Run, version: Version, title: str, kind: Kind) -> LiveArtifact:
    description = f"{markdown(version.label)}: {markdown(title)}"
    return live_artifact(run, key=artifact_key(version.dataset, title), kind=kind, description=description)


def _cell(value: object) -> str | int | float | None:
    """A table cell; what Prefect's tables can't show is written as text."""
    if value is None or isinstance(value, int | float):
        return value
    return one_line(str(value))


def _file(session: Session, version_id: str, report: Report) -> str:
    """A reported image as Markdown that holds it, where it is small enough; else what the catalog has."""
    from dataset_tasks.report import Logger

    facts = cast("Mapping[str, Any]", report.value)  # Any: JSON that the logger wrote
    name, size = str(facts["name"]), int(facts["size"])
    kind = mimetypes.guess_type(name)[0]
    line = f"{markdown(name)}, {size:,} bytes, kept with the version"
    if report.kind != "image" or kind not in _IMAGES or size > MOST_IMAGE_BYTES:
        return line
    try:
        data = Logger(session, version_id).read_media(report)
    except DatasetError as error:
        return f"{line}; it can't be shown: {markdown(str(error))}"
    return f"![{markdown(name)}](data:{kind};base64,{base64.b64encode(data).decode()})\n\n{line}"
