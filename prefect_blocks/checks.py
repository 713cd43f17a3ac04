"""The report of a check as a table: each gate, and whether it held."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from dataset_tasks.ops.requests import Build, Check, Create, Request
from prefect_blocks.reports import Row, markdown, one_line, show_table

if TYPE_CHECKING:
    from dataset_tasks.session import Session

#: Most lines of findings in a table.
MOST_ROWS: Final = 200


def check_of(session: Session, request: Request) -> tuple[str, Check] | None:
    """The dataset (`project/name`) that a request checks, and how; None when it checks nothing."""
    if isinstance(request, Check):
        return session.catalog.resolve(request.ref).dataset, request
    if not isinstance(request, Build) or not request.stages or not isinstance(request.stages[0].request, Create):
        return None
    create = request.stages[0].request
    checks = [stage.request for stage in request.stages if isinstance(stage.request, Check)]
    return (f"{create.project}/{create.name}", checks[0]) if checks else None


def parted(notes: Sequence[str]) -> tuple[list[str], list[str]]:
    """The notes of a build as what did not hold (with severity `warn`), and what was passed over."""
    passed = [text for text in notes if ": passed over" in text]
    return [text for text in notes if text not in passed], passed


def show_check(dataset: str, check: Check, findings: Sequence[str], notes: Sequence[str]) -> None:
    """Shows what a check found as the table `<project>-<name>-check`.

    Args:
        dataset: `project/name`.
        check: What was asked.
        findings: What did not hold, each beginning with its gate.
        notes: What was passed over, and why, the same way.
    """
    rows = list(check_rows(check, findings, notes))
    failed = sum(row["outcome"] == "failed" for row in rows)
    said = f"{failed} of {len(rows)} did not hold" if failed else f"all {len(rows)} held or were passed over"
    warned = ", as warnings" if failed and check.severity == "warn" else ""
    show_table(dataset, "check", rows[:MOST_ROWS], f"The check of {markdown(dataset)}: {said}{warned}")


def check_rows(check: Check, findings: Sequence[str], notes: Sequence[str]) -> Iterator[Row]:
    """One row a finding, one for each gate that held or was passed over."""
    for gate, asked in _gates(check):
        failed = [text for text in findings if text.startswith(f"{gate}:")]
        passed = [text for text in notes if text.startswith(f"{gate}:")]
        for outcome, texts in (("failed", failed), ("passed over", passed)):
            for text in texts:
                found = one_line(text.removeprefix(f"{gate}:").strip())
                yield {"gate": gate, "asked": asked, "outcome": outcome, "found": found}
        if not failed and not passed:
            yield {"gate": gate, "asked": asked, "outcome": "held", "found": ""}


def _gates(check: Check) -> Iterator[tuple[str, str]]:
    for name in ("min_files", "max_files", "min_bytes", "max_change"):
        value = getattr(check, name)
        if value is not None:
            yield name, str(value)
    if check.tables:
        yield "tables", ", ".join(one_line(f"{table.files}: {table.schema}") for table in check.tables)
    if check.call is not None:
        yield check.call, "no problem"
