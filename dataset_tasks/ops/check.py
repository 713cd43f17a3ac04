"""check: gates on the content of a draft. What does not hold stops the version, unless the severity is `warn`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dataset_tasks.errors import CheckFailedError, DatasetError, InvalidArgumentError, TransformError
from dataset_tasks.manifest import diff
from dataset_tasks.model import Version
from dataset_tasks.ops import code, scratch, staged
from dataset_tasks.ops.context import Context, about, draft_or_final
from dataset_tasks.ops.requests import Check, CheckResult, TableCheck

if TYPE_CHECKING:
    import pandas as pd
    from pandera.pandas import DataFrameSchema

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
    if findings and request.severity == "error":
        raise CheckFailedError(
            f"{version.label} did not pass its check:\n" + "\n".join(f"- {each}" for each in findings),
            findings=tuple(findings),
            hint="No version was made. Mend what is named, or set `severity: warn` to record it and go on.",
        )
    for each in findings:
        context.progress.note(f"{version.label}: {each}")
    return CheckResult(**about(version), findings=tuple(findings), notes=tuple(notes))


def _counts(request: Check, version: Version) -> Iterator[str]:
    if request.min_files is not None and version.files < request.min_files:
        yield f"min_files: expected at least {request.min_files} files, found {version.files}"
    if request.max_files is not None and version.files > request.max_files:
        yield f"max_files: expected at most {request.max_files} files, found {version.files}"
    if request.min_bytes is not None and version.bytes < request.min_bytes:
        yield f"min_bytes: expected at least {request.min_bytes} bytes, found {version.bytes}"


def _change(context: Context, most: float, version: Version, findings: list[str], notes: list[str]) -> None:
    last = context.session.catalog.previous(version.project, version.name, version.partition)
    if last is None:
        notes.append("max_change: passed over, there is no previous version to compare with")
        return
    changed = len(diff(context.session.manifest(last), context.session.manifest(version)))
    share = changed / max(last.files, 1)
    if share > most:
        findings.append(
            f"max_change: {changed} of {last.files} files differ from {last.version} ({share:.1%}), "
            f"expected at most {most:.1%}"
        )


def _table(context: Context, request: Check, table: TableCheck, version: Version) -> Iterator[str]:
    schema = _schema(request, table)
    looked_at = 0
    for path, local in staged.files(context, version, table.files):
        looked_at += 1
        yield from _rows(schema, path, local)
    if not looked_at:
        yield f"tables: no file matches {table.files!r}"


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


def _rows(schema: DataFrameSchema, path: str, local: Path) -> Iterator[str]:
    from pandera.errors import SchemaError, SchemaErrors

    try:
        frame = _read(path, local)
    except (ValueError, OSError) as error:
        yield f"tables: {path} can't be read as a table: {error}"
        return
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
        for column, rule in dict.fromkeys(zip(cases["column"], cases["check"], strict=True)):
            these = cases[(cases["column"] == column) & (cases["check"] == rule)]
            rows = [f"row {row}: {value!r}" for row, value in zip(these["index"], these["failure_case"], strict=True)]
            more = f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
            yield f"tables: {path}, column {column}: {rule}: {', '.join(rows[:_SHOWN_ROWS])}{more}"
    except SchemaError as error:
        yield f"tables: {path}: {error}"


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


def _own(context: Context, request: Check, version: Version) -> list[str]:
    """The user's function gets a folder with the content; it returns problems, or None, or raises AssertionError."""
    function = code.find(request.call or "", request.folder, context.functions)
    folder = scratch.fresh(context.session, version, "check")
    staged.copy(context, version, folder)
    try:
        found = function(folder)
    except AssertionError as error:
        return [f"{request.call}: {error}"]
    except DatasetError:
        raise
    except Exception as error:
        raise TransformError(
            f"the check {request.call} raised {type(error).__name__}: {error}",
            hint="The traceback below is the function's own; no version was made.",
        ) from error
    problems = [found] if isinstance(found, str) else list(found or ())
    return [f"{request.call}: {problem}" for problem in problems]
