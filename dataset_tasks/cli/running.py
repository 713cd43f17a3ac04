"""What `run` shows: how it goes on, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from dataset_tasks.bars import Bars
from dataset_tasks.cli.command import Exit
from dataset_tasks.cli.context import Cli
from dataset_tasks.cli.describe import state_text, version_document
from dataset_tasks.cli.failures import tell
from dataset_tasks.cli.fitting import Fitted, fitting
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count, seconds, size
from dataset_tasks.errors import DatasetError
from dataset_tasks.model import JsonValue, Version
from dataset_tasks.progress import Progress
from dataset_tasks.spec.graph import graph_of
from dataset_tasks.spec.outcome import RunInterruptedError, RunReport, Status, StepOutcome
from dataset_tasks.spec.plan import Plan, PlannedDataset, Step
from dataset_tasks.spec.run import run_plan

if TYPE_CHECKING:
    from dataset_tasks.session import Session

_STYLES = {
    Status.MADE: "green",
    Status.UNCHANGED: "dim",
    Status.WAITS: "cyan",
    Status.REJECTED: "bold red",
    Status.FAILED: "bold red",
    Status.SKIPPED: "yellow",
}
_MARKS = {
    Status.MADE: "+",
    Status.UNCHANGED: "=",
    Status.WAITS: "?",
    Status.REJECTED: "x",
    Status.FAILED: "!",
    Status.SKIPPED: "-",
}
#: What the status of a dataset is, of those its steps have: the first of these.
_TELLING = (Status.FAILED, Status.REJECTED, Status.WAITS, Status.SKIPPED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a spec is to run, and how."""

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    params: dict[str, str] = field(default_factory=dict)
    date: str | None = None
    jobs: int = 2


def run_spec(cli: Cli, plan: Plan, wanted: Wanted) -> Exit:
    """Runs a plan and shows what came of it.

    Raises:
        InvalidArgumentError: A parameter, the date or a selection is wrong; nothing was made.
        NotFoundError: A dataset that was not selected has no version to be read; nothing was made.
    """
    with cli.session(create=True) as session:
        try:
            with cli.progress() as progress:
                report = run_plan(
                    plan,
                    session,
                    params=dict(wanted.params),
                    date=wanted.date,
                    jobs=wanted.jobs,
                    select=wanted.select or None,
                    exclude=wanted.exclude or None,
                    progress=progress,
                    observer=Telling(cli, plan, progress),
                )
        except RunInterruptedError as interrupted:
            _show(cli, session, plan, interrupted.report)
            cli.out.failure("interrupted", "Nothing is left half done: run the same command again to go on.")
            return Exit.INTERRUPTED
        _show(cli, session, plan, report)
        if report.waits:
            return Exit.WAITS
        if not report.ok:
            return Exit.FAILED
        return Exit.DONE if report.changed else Exit.NOTHING_TO_DO


class Telling:
    """Tells how a run goes on, a line for each step that ends."""

    def __init__(self, cli: Cli, plan: Plan, progress: Progress) -> None:
        self._cli = cli
        self._names = {planned.key: f"{planned.project}/{planned.name}" for planned in plan.datasets}
        self._bars = progress if isinstance(progress, Bars) else None

    def started(self, step: Step, attempt: int) -> None:
        """The display gets a line for the dataset."""
        if self._bars is not None:
            self._bars.begin(self._names[step.dataset])

    def retrying(self, step: Step, error: BaseException, delay: float) -> None:
        """One line that a step comes again."""
        if self._bars is not None:
            self._bars.end(self._names[step.dataset])
        message = error.message if isinstance(error, DatasetError) else f"{type(error).__name__}: {error}"
        self._say(f"~ {step.id}: {message}; again in {delay:g} s", "yellow")

    def finished(self, outcome: StepOutcome) -> None:
        """One line that a step ended, and how; what is told at the end is not told twice."""
        if self._bars is not None:
            self._bars.end(self._names[outcome.dataset])
        result = outcome.result
        label = f" {result.project}/{result.name}@{result.version}" if result is not None else ""
        why = f": {outcome.why}" if outcome.why and outcome.status is not Status.UNCHANGED else ""
        took = f" ({seconds(outcome.seconds)})" if outcome.tries else ""
        self._say(
            f"{_MARKS[outcome.status]} {outcome.step} {outcome.status}{label}{why}{took}", _STYLES[outcome.status]
        )

    def _say(self, text: str, style: str) -> None:
        if not self._cli.quiet:
            self._cli.out.errors.print(Text(shown(text), style=style), soft_wrap=True)


# --- the report ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DatasetOutcome:
    """What came of a dataset: the worst or most telling status of its steps, and the version that stands."""

    planned: PlannedDataset
    status: Status
    why: str
    seconds: float
    version: Version | None
    made: bool
    published: bool

    def document(self) -> dict[str, JsonValue]:
        """The outcome as JSON."""
        return {
            "key": self.planned.key,
            "dataset": f"{self.planned.project}/{self.planned.name}",
            "status": str(self.status),
            "why": self.why,
            "seconds": round(self.seconds, 3),
            "made": self.made,
            "published": self.published,
            "version": version_document(self.version) if self.version is not None else None,
        }


def outcomes_of(plan: Plan, session: Session, report: RunReport) -> list[DatasetOutcome]:
    """The datasets that were looked at, in the plan's order."""
    found = []
    for planned in plan.datasets:
        steps = {outcome.step: outcome for outcome in report.outcomes if outcome.dataset == planned.key}
        if steps:
            found.append(_outcome(planned, steps, session))
    return found


def _outcome(planned: PlannedDataset, steps: dict[str, StepOutcome], session: Session) -> DatasetOutcome:
    making = steps.get(planned.version_step)
    publishing = steps.get(planned.publish_step or "")
    by_status = {outcome.status: outcome for outcome in reversed(steps.values())}
    held_up = next((by_status[status] for status in _TELLING if status in by_status), None)
    telling = held_up or making or next(iter(steps.values()))
    result = making.result if making is not None else None
    return DatasetOutcome(
        planned=planned,
        status=telling.status,
        why=telling.why,
        seconds=sum(each.seconds for each in steps.values()),
        version=session.catalog.version(result.version_id) if result is not None else None,
        made=making is not None and making.status is Status.MADE,
        published=publishing is not None and publishing.status is Status.MADE,
    )


def _show(cli: Cli, session: Session, plan: Plan, report: RunReport) -> None:
    found = outcomes_of(plan, session, report)
    if cli.as_json:
        cli.out.document({**report.to_json(), "datasets": [each.document() for each in found]})
        return
    if not cli.quiet:
        cli.out.line()
        cli.out.show(_tree(plan, session, report, found))
        cli.out.show(_table(found, cli.out.console.width)[0])
    for refused in report.with_status(Status.REJECTED):
        if refused.result is not None:
            label = f"{refused.result.project}/{refused.result.name}@{refused.result.version}"
            cli.out.failure(
                f"{refused.dataset} {refused.result.version} {refused.why}",
                f"Mend what it is made from, or ask again with `dataset-tasks approve {label} --reopen`.",
            )
    for failed in report.with_status(Status.FAILED):
        assert failed.error is not None
        tell(cli.out, failed.error, debug=cli.debug, where=failed.step)
    if cli.quiet:
        for each in found:
            if each.made and each.version is not None:
                cli.out.line(each.version.id)
        return
    for each in found:
        if each.planned.publish_step is not None and each.version is not None and each.version.published:
            cli.out.line(_published(session, each.version))
    for asked in report.with_status(Status.WAITS):
        if asked.result is not None:
            label = shown(f"{asked.result.project}/{asked.result.name}@{asked.result.version}")
            cli.out.line(
                f"{label} waits for approval: answer with `dataset-tasks approve {label}` or `dataset-tasks reject {label}`, "
                "then run again"
            )
    cli.out.line(_summary(found, report))


def _tree(plan: Plan, session: Session, report: RunReport, found: Sequence[DatasetOutcome]) -> Tree:
    """The lineage of the run: each dataset above what it is made from, those that nothing is made from at the top."""
    graph = graph_of(plan)
    shown_as = {f"d_{each.planned.key}": _label(each) for each in found}
    for planned in plan.datasets:
        if planned.key in report.taken:
            version = session.catalog.version(report.taken[planned.key])
            shown_as[f"d_{planned.key}"] = Text(shown(version.label)).append("  not run", style="dim")
    shown_as |= {node.id: Text(shown(node.label)) for node in graph.nodes if node.dataset is None}
    above: dict[str, list[tuple[str, str]]] = {}
    for edge in graph.edges:
        if edge.target in shown_as and edge.source in shown_as and f"d_{edge.target[2:]}" not in report.taken:
            above.setdefault(edge.target, []).append((edge.source, edge.kind))
    read = {source for sources in above.values() for source, _ in sources}
    top = Tree("lineage: each version above what it was made from", guide_style="dim")
    opened: set[str] = set()
    waiting = [(top, node.id, "") for node in reversed(graph.nodes) if node.id in shown_as and node.id not in read]
    while waiting:
        into, node, kind = waiting.pop()
        text = shown_as[node].copy()
        if kind in ("input", "squash"):
            text.append(f"  {kind}", style="cyan")
        again = node in opened and node in above
        branch = into.add(text.append("  (see above)", style="dim") if again else text)
        if not again:
            opened.add(node)
            waiting += [(branch, source, how) for source, how in reversed(above.get(node, ()))]
    return top


def _label(each: DatasetOutcome) -> Text:
    name = each.version.label if each.version is not None else f"{each.planned.project}/{each.planned.name}"
    return Text(shown(name)).append(f"  {each.status}", style=_STYLES[each.status])


def _table(found: Sequence[DatasetOutcome], width: int) -> Fitted:
    """One line a dataset, for a terminal so many cells wide; the reasons only where there is room for them."""
    rows = [
        (
            Text(shown(each.version.label if each.version else _dataset(each)), style="bold"),
            state_text(each.version) if each.version else "",
            f"{each.version.files:,}" if each.version else "",
            size(each.version.bytes) if each.version else "",
            size(each.version.new_bytes) if each.version and each.made else "",
            Text(str(each.status), style=_STYLES[each.status]),
            seconds(each.seconds),
            Text(shown(each.why)),
        )
        for each in found
    ]
    return fitting(
        width,
        ("version", "state", "files", "bytes", "new bytes\nstored", "", "time", "why"),
        rows,
        always=("version", ""),
        then=("files", "bytes", "new bytes\nstored", "time", "state", "why"),
        right=("files", "bytes", "new bytes\nstored", "time"),
        long=("why",),
    )


def _dataset(each: DatasetOutcome) -> str:
    return f"{each.planned.project}/{each.planned.name}"


def _published(session: Session, version: Version) -> str:
    aliases = session.catalog.aliases(version.project, version.name)
    names = sorted(alias for alias, version_id in aliases.items() if version_id == version.id)
    also = f" as {', '.join(names)}" if names else ""
    selector = f"@{names[0]}" if names else ""
    get = f"dataset-tasks get {version.dataset}{selector}"
    return shown(f"{version.label} is published{also}: get it with `{get}`")


def _summary(found: Sequence[DatasetOutcome], report: RunReport) -> str:
    """What was made, and how long it took."""
    made = [each.version for each in found if each.made and each.version is not None]
    took = seconds(report.seconds)
    if report.ok and not report.changed:
        return f"unchanged: {count(len(found), 'dataset')} looked at, no version made, in {took}"
    parts = []
    if made:
        names = ", ".join(shown(version.label) for version in made[:10]) + (", ..." if len(made) > 10 else "")
        parts.append(
            f"made {count(len(made), 'version')} ({names}), {size(sum(v.new_bytes for v in made))} new in the store"
        )
    for word, number in (
        ("published", sum(each.published for each in found)),
        ("unchanged", sum(each.status is Status.UNCHANGED for each in found)),
        ("waiting", sum(each.status is Status.WAITS for each in found)),
        ("rejected", sum(each.status is Status.REJECTED for each in found)),
        ("failed", sum(each.status is Status.FAILED for each in found)),
        ("skipped", sum(each.status is Status.SKIPPED for each in found)),
    ):
        if number:
            parts.append(f"{number} {word}")
    return f"{', '.join(parts)}, in {took}"
