"""What `backfill` shows: the windows that were missing, and what came of each."""

from __future__ import annotations

from rich.text import Text

from dataset_tasks.cli.command import Exit
from dataset_tasks.cli.context import Cli
from dataset_tasks.cli.failures import tell
from dataset_tasks.cli.fitting import fitting
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.running import Telling
from dataset_tasks.cli.words import count
from dataset_tasks.spec.backfill import BackfillReport, WindowOutcome, run_backfill
from dataset_tasks.spec.outcome import Status
from dataset_tasks.spec.plan import Plan

_STYLES = {"done": "dim", "made": "green", "unchanged": "dim", "waits": "cyan", "failed": "bold red"}


def fill_spec(cli: Cli, plan: Plan, first: str | None, last: str | None, params: dict[str, str], jobs: int) -> Exit:
    """Runs the missing windows of a plan and shows what came of them.

    Raises:
        InvalidArgumentError: A parameter or a date is wrong, or there are no windows; nothing was made.
    """
    with cli.session(create=True) as session, cli.progress() as progress:
        report = run_backfill(
            plan,
            session,
            first=first,
            last=last,
            jobs=jobs,
            params=dict(params),
            progress=progress,
            observer=Telling(cli, plan, progress),
        )
    _show(cli, report)
    if report.interrupted:
        cli.out.failure("interrupted", "Nothing is left half done: run the same command again to go on.")
        return Exit.INTERRUPTED
    if report.count("failed"):
        return Exit.FAILED
    if report.count("waits"):
        return Exit.WAITS
    return Exit.DONE if report.count("made") else Exit.NOTHING_TO_DO


def _show(cli: Cli, report: BackfillReport) -> None:
    if cli.as_json:
        cli.out.document({"windows": [each.to_json() for each in report.outcomes], "interrupted": report.interrupted})
        return
    for each in report.outcomes:
        if each.error is not None:
            tell(cli.out, each.error, debug=cli.debug, where=each.window.start.isoformat())
    if cli.quiet:
        for each in report.outcomes:
            if each.status != "done":
                cli.out.line(f"{each.window.start.isoformat()} {each.status}")
        return
    rows = [
        (Text(each.window.start.isoformat()), Text(each.status, style=_STYLES[each.status]), *_cells(each))
        for each in report.outcomes
        if each.status != "done"
    ]
    if rows:
        heads, texts = ("window", "", "versions", "why"), ("versions", "why")
        width = cli.out.console.width
        cli.out.show_fitted(fitting(width, heads, rows, always=heads[:2], then=("why", "versions"), long=texts))
    counts = {status: report.count(status) for status in _STYLES}
    words = [
        f"{count(number, 'window')} {'wait' if status == 'waits' and number > 1 else status}"
        for status, number in counts.items()
        if number
    ]
    cli.out.line(", ".join(words) or "no window")


def _cells(each: WindowOutcome) -> tuple[Text, Text]:
    if each.report is None:
        return Text(""), Text(shown(str(each.error).partition("\n")[0]))
    labels = dict.fromkeys(
        f"{o.result.project}/{o.result.name}@{o.result.version}"
        for o in each.report.outcomes
        if o.result is not None and o.status is Status.MADE
    )
    held_up = next(
        (o.why for o in each.report.outcomes if o.status in (Status.FAILED, Status.REJECTED, Status.WAITS)), ""
    )
    return Text(shown(", ".join(labels))), Text(shown(held_up))
