"""check: gates on the content of a draft. What does not hold stops the version, unless the severity is `warn`.

Either way it is kept with the version, or with the draft that was given up for it: as the report `check`, a table with a
line for each thing that did not hold, which `dataset-tasks log` shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dataset_tasks.errors import CheckFailedError, DatasetError, InvalidArgumentError, TransformError
from dataset_tasks.failpoints import failpoint
from dataset_tasks.manifest import diff
from dataset_tasks.model import JsonValue, Version
from dataset_tasks.ops import code, scratch, staged
from dataset_tasks.ops.context import Context, about, draft_or_final
from dataset_tasks.ops.requests import Check, CheckResult, TableCheck

if TYPE_CHECKING:
    import pandas as pd
    from pandera.pandas import DataFrameSchema

#: The title of the report of what did not hold.
REPORT = "check"
_SHOWN_ROWS = 10
_READERS = ".csv, .csv.gz, .parquet, .jsonl, .ndjson, .json"


def run(context: Context, request: Check) -> CheckResult:
    """Looks at a draft: counts, sizes, share of change, tables against pandera schemas, and the user's own function.

    Raises:
        CheckFailedError: Something does not hold and the severity is `error`; `findings` lists all of it.
        InvalidArgumentError: A schema can't be read, or there is no such function.
    """
    version = draft_or_final(context, request.ref)
    findings = [*_counts(request, version)]
    notes: list[str] = []
    if request.max_change is not None:
        _change(context, request.max_change, version, findings, notes)
    for table in request.tables:
        findings += _table(context, request, table, version)
    if request.call is not None:
        findings += _own(context, request, version)
    texts = tuple(each.text for each in findings)
    if findings:
        _keep(context, version, findings)
    if findings and request.severity == "error":
        raise CheckFailedError(
            f"{version.label} did not pass its check:\n" + "\n".join(f"- {each}" for each in texts),
            findings=texts,
            hint="No version was made. Mend what is named, or set `severity: warn` (`--warn`) to record it and go on. "
            f"`dataset-tasks log {version.id}` shows it again.",
        )
    for each in texts:
        context.progress.note(f"{version.label}: {each}")
    return CheckResult(**about(version), findings=texts, notes=tuple(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finding:
    """What did not hold: by which gate, and of a table in which file, column and rows (number and value)."""

    gate: str
    rule: str
    file: str = ""
    column: str = ""
    rows: tuple[tuple[JsonValue, JsonValue], ...] = ()
    more: int = 0

    @property
    def text(self) -> str:
        """The finding in a line."""
        where = [word for word in (self.file, f"column {self.column}" if self.column else "") if word]
        shown = ", ".join(f"found {value!r}" if row is None else f"row {row}: {value!r}" for row, value in self.rows)
        more = f" and {self.more} more" if self.more else ""
        return f"{self.gate}: " + ": ".join(word for word in (", ".join(where), self.rule, shown + more) if word)

    def lines(self) -> Iterator[dict[str, JsonValue]]:
        """The lines of the report: one a row that was found, or one for all of it."""
        facts: dict[str, JsonValue] = {
            "gate": self.gate, "file": self.file, "column": self.column, "rule": self.rule, "more": self.more,
        }  # fmt: skip
        for row, value in self.rows or ((None, None),):
            yield {**facts, "row": row, "value": value}


def _keep(context: Context, version: Version, findings: Sequence[_Finding]) -> None:
    """Keeps the report; a try that finds just the same again adds nothing."""
    catalog = context.session.catalog
    table = [line for finding in findings for line in finding.lines()]
    before = [each.value for each in catalog.reports(version.id) if (each.kind, each.title) == ("table", REPORT)]
    if not before or before[-1] != table:
        failpoint("check.before_report")
        catalog.add_report(version.id, kind="table", title=REPORT, series="", iteration=None, value=table)


def _counts(request: Check, version: Version) -> Iterator[_Finding]:
    if request.min_files is not None and version.files < request.min_files:
        yield _Finding(gate="min_files", rule=f"expected at least {request.min_files} files, found {version.files}")
    if request.max_files is not None and version.files > request.max_files:
        yield _Finding(gate="max_files", rule=f"expected at most {request.max_files} files, found {version.files}")
    if request.min_bytes is not None and version.bytes < request.min_bytes:
        yield _Finding(gate="min_bytes", rule=f"expected at least {request.min_bytes} bytes, found {version.bytes}")


def _change(context: Context, most: float, version: Version, findings: list[_Finding], notes: list[str]) -> None:
    last = context.session.catalog.previous(version.project, version.name, version.partition, until=version.window)
    if last is None:
        notes.append("max_change: passed over, there is no previous version to compare with")
        return
    changed = len(diff(context.session.manifest(last), context.session.manifest(version)))
    share = changed / max(last.files, 1)
    if share > most:
        rule = f"{changed} of {last.files} files differ from {last.version} ({share:.1%}), expected at most {most:.1%}"
        findings.append(_Finding(gate="max_change", rule=rule))


def _table(context: Context, request: Check, table: TableCheck, version: Version) -> Iterator[_Finding]:
    schema = _schema(request, table)
    looked_at = 0
    for path, local in staged.files(context, version, table.files):
        looked_at += 1
        yield from _rows(schema, path, local)
    if not looked_at:
        yield _Finding(gate="tables", rule=f"no file matches {table.files!r}")


def _schema(request: Check, table: TableCheck) -> DataFrameSchema:
    try:
        from pandera.pandas import DataFrameSchema
    except ModuleNotFoundError as error:
        raise InvalidArgumentError(
            "checks of tables need pandera", hint="Install it with `pip install 'dataset-tasks[checks]'`."
        ) from error
    place = Path(request.folder or ".", table.schema)
    try:
        schema = DataFrameSchema.from_yaml(str(place))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidArgumentError(
            f"the table schema {table.schema!r} can't be read: {error}",
            hint="Write it as pandera's `to_yaml` does, beside the spec.",
        ) from error
    if not isinstance(schema, DataFrameSchema):
        raise InvalidArgumentError(f"the table schema {table.schema!r} describes no table")
    return schema


def _rows(schema: DataFrameSchema, path: str, local: Path) -> Iterator[_Finding]:
    from pandera.errors import SchemaError, SchemaErrors

    try:
        frame = _read(path, local)
    except (ValueError, OSError) as error:
        yield _Finding(gate="tables", file=path, rule=f"can't be read as a table: {error}")
        return
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        for column, rule in dict.fromkeys(zip(cases["column"], cases["check"], strict=True)):
            these = cases[(cases["column"] == column) & (cases["check"] == rule)]
            rows = [
                (_plain(row), _plain(value)) for row, value in zip(these["index"], these["failure_case"], strict=True)
            ]
            yield _Finding(
                gate="tables",
                file=path,
                column=str(column),
                rule=str(rule),
                rows=tuple(rows[:_SHOWN_ROWS]),
                more=max(len(rows) - _SHOWN_ROWS, 0),
            )
    except SchemaError as error:
        yield _Finding(gate="tables", file=path, rule=str(error))


def _plain(value: object) -> JsonValue:
    """A cell as JSON: numbers and text as they are, anything else as text."""
    item = getattr(value, "item", None)
    plain = item() if callable(item) else value
    if plain is None or isinstance(plain, (bool, int, str)):
        return plain
    return plain if isinstance(plain, float) and math.isfinite(plain) else str(plain)


def _read(path: str, local: Path) -> pd.DataFrame:
    import pandas as pd

    name = path.lower()
    if name.endswith((".csv", ".csv.gz")):
        return pd.read_csv(local, compression="gzip" if name.endswith(".gz") else None)
    if name.endswith(".parquet"):
        return pd.read_parquet(local)
    if name.endswith((".jsonl", ".ndjson")):
        return pd.read_json(local, lines=True)
    if name.endswith(".json"):
        return pd.read_json(local)
    raise ValueError(f"no reader for this ending; known are {_READERS}")


def _own(context: Context, request: Check, version: Version) -> list[_Finding]:
    """The user's function gets a folder with the content; it returns problems, or None, or raises AssertionError."""
    call = request.call or ""
    function = code.find(request.call or "", request.folder, context.functions)
    folder = scratch.fresh(context.session, version, "check")
    staged.copy(context, version, folder)
    try:
        found = function(folder)
    except AssertionError as error:
        return [_Finding(gate=call, rule=str(error))]
    except DatasetError:
        raise
    except Exception as error:
        raise TransformError(
            f"the check {request.call} raised {type(error).__name__}: {error}",
            hint="The traceback below is the function's own; no version was made.",
        ) from error
    problems = [found] if isinstance(found, str) else list(found or ())
    return [_Finding(gate=call, rule=str(problem)) for problem in problems]
