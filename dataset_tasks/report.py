"""Reports: what a pipeline says about a version while it makes it. Kept with the version, whatever its state.

Texts, numbers, tables and histograms are rows of the catalog; images and media are objects beside the chunks.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dataset_tasks.errors import InvalidArgumentError, SourceError
from dataset_tasks.model import JsonValue, Report, ReportKind
from dataset_tasks.objects import new_key
from dataset_tasks.paths import show
from dataset_tasks.plugins import offered
from dataset_tasks.session import Session

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger("dataset_tasks.report")

#: Entry points of functions that show a report in a running orchestrator, called as `show(session, version_id, report)`.
SHOWN_BY = "dataset_tasks.report_shown"
#: Largest image or media file that a report takes, in bytes.
MOST_MEDIA_BYTES = 256 << 20


class Logger:
    """Reports about one version. Methods and argument order are those of the reference client.

    Text is data: whoever shows it on a page or a terminal escapes it.

    Args:
        session: Where the version is.
        version_id: Its id.
    """

    def __init__(self, session: Session, version_id: str) -> None:
        self._session = session
        self._version_id = version_id

    def report_text(self, msg: str, *, title: str = "") -> None:
        """Keeps a line or more of text, and writes it to the log."""
        self._keep("text", title, "", None, msg)
        _log.info("%s", msg)

    def report_scalar(self, title: str, series: str, value: float, iteration: int) -> None:
        """Keeps one number of a series.

        Raises:
            InvalidArgumentError: It is not a finite number.
        """
        self._keep("scalar", title, series, iteration, _finite(title, series, value))

    def report_table(
        self,
        title: str,
        series: str,
        iteration: int | None = None,
        table_plot: pd.DataFrame | Sequence[Mapping[str, JsonValue]] | None = None,
    ) -> None:
        """Keeps a pandas frame, or a list of rows.

        Raises:
            InvalidArgumentError: There is no table, or it holds what JSON can't.
        """
        if table_plot is None:
            raise InvalidArgumentError(f"{title}/{series}: there is no table", hint="Give `table_plot`.")
        if isinstance(table_plot, Sequence):
            rows: JsonValue = [dict(row) for row in table_plot]
        elif not hasattr(table_plot, "to_json"):
            raise InvalidArgumentError(
                f"{title}/{series}: {table_plot!r:.100} is no table", hint="Give a pandas frame or a list of rows."
            )
        else:
            rows = json.loads(table_plot.to_json(orient="records", date_format="iso"))
        self._keep("table", title, series, iteration, rows)

    def report_histogram(self, title: str, series: str, values: Iterable[float], iteration: int | None = None) -> None:
        """Keeps the heights of a histogram's bars.

        Raises:
            InvalidArgumentError: One of them is not a finite number.
        """
        self._keep("histogram", title, series, iteration, [_finite(title, series, value) for value in values])

    def report_image(
        self, title: str, series: str, iteration: int | None = None, local_path: str | Path | None = None
    ) -> None:
        """Keeps an image file.

        Raises:
            SourceError: The file can't be read.
            InvalidArgumentError: No file is given, or it is too large.
        """
        self._file("image", title, series, iteration, local_path)

    def report_media(
        self, title: str, series: str, iteration: int | None = None, local_path: str | Path | None = None
    ) -> None:
        """Keeps any file: sound, video, a page.

        Raises:
            SourceError, InvalidArgumentError: As `report_image`.
        """
        self._file("media", title, series, iteration, local_path)

    def reports(self, kind: ReportKind | None = None) -> list[Report]:
        """What was reported about the version, oldest first."""
        return [each for each in self._session.catalog.reports(self._version_id) if kind in (None, each.kind)]

    def frame(self, title: str, series: str) -> pd.DataFrame:
        """A pandas frame of what was reported last under that title and series: a table, or the whole series of scalars.

        Raises:
            InvalidArgumentError: Nothing of that kind was reported.
        """
        import pandas as pd

        found = [each for each in self.reports() if (each.title, each.series) == (title, series)]
        scalars = [(each.iteration, each.value) for each in found if each.kind == "scalar"]
        if scalars:
            return pd.DataFrame(scalars, columns=["iteration", "value"])
        tables = [each.value for each in found if each.kind == "table"]
        if tables:
            return pd.DataFrame(cast("list[dict[str, JsonValue]]", tables[-1]))
        raise InvalidArgumentError(
            f"no table and no scalar was reported as {title}/{series}", hint="See `reports()` for what was."
        )

    def read_media(self, report: Report) -> bytes:
        """The bytes of a reported image or media file, verified.

        Raises:
            InvalidArgumentError: The report holds no file.
            IntegrityError: The bytes are missing or damaged.
        """
        if report.file is None:
            raise InvalidArgumentError(f"the report {report.title!r} holds no file", hint="Its `value` is all of it.")
        return self._session.objects.read(report.file)

    def _file(
        self, kind: ReportKind, title: str, series: str, iteration: int | None, local_path: str | Path | None
    ) -> None:
        if local_path is None:
            raise InvalidArgumentError(f"{title}/{series}: there is no file", hint="Give `local_path`.")
        path = Path(local_path)
        try:
            size = path.stat().st_size
            data = path.read_bytes() if size <= MOST_MEDIA_BYTES else b""
        except OSError as error:
            raise SourceError(
                f"can't read {show(str(path))}: {error.strerror}", paths=(show(str(path)),), hint="Check the path."
            ) from error
        if size > MOST_MEDIA_BYTES:
            raise InvalidArgumentError(
                f"{show(str(path))} has {size} bytes, a report takes {MOST_MEDIA_BYTES}",
                hint="Add it to a dataset instead.",
            )
        version = self._session.catalog.version(self._version_id)
        (ref,) = self._session.objects.put_all(version.id, version.store_id, [(new_key("report"), data)])
        value: JsonValue = {
            "store_id": ref.store_id,
            "key": ref.key,
            "size": ref.size,
            "sha256": ref.sha256,
            "name": path.name,
        }
        self._keep(kind, title, series, iteration, value, objects=(ref.key,))

    def _keep(
        self,
        kind: ReportKind,
        title: str,
        series: str,
        iteration: int | None,
        value: JsonValue,
        *,
        objects: Sequence[str] = (),
    ) -> None:
        sequence = self._session.catalog.add_report(
            self._version_id,
            kind=kind,
            title=title,
            series=series,
            iteration=iteration,
            value=value,
            objects=objects,
        )
        if self._session.catalog.version(self._version_id).state.is_final:
            self._session.flush_journal(self._version_id)
        for show_report in offered(SHOWN_BY):
            report = Report(
                sequence=sequence,
                kind=kind,
                title=title,
                series=series,
                iteration=iteration,
                value=value,
                created=self._session.clock(),
            )
            show_report(self._session, self._version_id, report)


def _finite(title: str, series: str, value: float | str) -> float:
    """The number; of frameworks whose scalars are no subclass of Python's, too."""
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidArgumentError(
            f"{title}/{series}: {value!r} is not a finite number", hint="Report a text where there is no number."
        )
    return number
