"""What `plan` shows: per dataset what a run would do, and why."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.text import Text

from dataset_tasks.cli.command import Exit
from dataset_tasks.cli.context import Cli
from dataset_tasks.cli.fitting import Row, fitting
from dataset_tasks.cli.output import shown
from dataset_tasks.cli.words import count, size
from dataset_tasks.model import JsonValue
from dataset_tasks.spec.params import check_params
from dataset_tasks.spec.plan import Plan, Scope
from dataset_tasks.spec.preview import DatasetPreview, preview
from dataset_tasks.spec.windows import window_for

if TYPE_CHECKING:
    from dataset_tasks.session import Session

_STYLES = {"new": "green", "changes": "yellow", "unchanged": "dim"}


def show_preview(cli: Cli, plan: Plan, params: Mapping[str, str], date: str | None) -> Exit:
    """Shows what a run of the plan would do; exit code 3 when that is nothing.

    Raises:
        InvalidArgumentError: A parameter or the date is wrong.
        SourceError: A source can't be read.
        NotFoundError: A version that the plan reads is not there.
    """
    window = window_for(plan.schedule, date) if date is not None else None
    scope = Scope(
        run_id="plan",
        params=check_params(plan, params),
        interval_start=window.start if window else None,
        interval_end=window.end if window else None,
        profile=plan.profile,
    )
    with _reading(cli) as session:
        found = preview(plan, session, scope)
    if cli.as_json:
        cli.out.document({"plan": plan.name, "spec": plan.source, "datasets": [_document(each) for each in found]})
    elif cli.quiet:
        for each in found:
            if each.status != "unchanged" or each.publishes:
                cli.out.line(shown(each.key))
    else:
        _show(cli, found)
    return Exit.DONE if any(_does_something(each) for each in found) else Exit.NOTHING_TO_DO


@contextmanager
def _reading(cli: Cli) -> Iterator[Session]:
    """A session that makes no catalog: where the home has none yet, an empty one that goes away again."""
    if cli.has_catalog():
        with cli.session() as session:
            yield session
        return
    with (
        tempfile.TemporaryDirectory(prefix="dataset-tasks-plan-") as folder,
        Cli(home=folder).session(create=True) as session,
    ):
        yield session


def _does_something(each: DatasetPreview) -> bool:
    return each.status != "unchanged" or each.publishes or bool(each.waits)


def _why(each: DatasetPreview) -> str:
    if each.blocked:
        return each.blocked
    renamed = (
        f"looks like {each.renamed} under a new name: Dataset.rename would keep its versions" if each.renamed else ""
    )
    return "; ".join([*each.why, *([renamed] if renamed else [])])


def _document(each: DatasetPreview) -> dict[str, JsonValue]:
    return {**asdict(each), "why": list(each.why)}


def _show(cli: Cli, found: tuple[DatasetPreview, ...]) -> None:
    rows: list[Row] = []
    for each in found:
        would = (
            f"{each.status}, publish"
            if each.publishes
            else f"{each.status}, {each.waits}"
            if each.waits
            else each.status
        )
        would = "blocked" if each.blocked else would
        known = each.added is not None and each.status != "unchanged"
        rows.append(
            (
                Text(shown(each.dataset), style="bold"),
                Text(shown(each.version or "")),
                Text(shown(would), style="cyan" if each.blocked or each.waits else _STYLES[each.status]),
                f"{each.files:,}" if each.files is not None else "",
                f"+{each.added} ~{each.modified} -{each.removed}" if known else "",
                size(each.bytes) if each.bytes is not None else "",
                Text(shown(_why(each))),
            )
        )
    made = fitting(
        cli.out.console.width,
        ("dataset", "now", "would be", "files", "changes", "bytes", "why"),
        rows,
        always=("dataset", "would be"),
        then=("why", "changes", "files", "bytes", "now"),
        right=("files", "bytes"),
        long=("why",),
    )
    cli.out.show_fitted(made)
    doing = [each for each in found if each.status != "unchanged" and not each.blocked]
    publishing = [each for each in found if each.publishes]
    if doing or publishing:
        also = f", and publish {len(publishing)}" if publishing else ""
        cli.out.line(f"a run would make {count(len(doing), 'version')}{also}")
    elif any(each.waits or each.blocked for each in found):
        cli.out.line("a run would make nothing, and wait for an answer or be stopped by one")
    else:
        cli.out.line("all is unchanged: a run would make nothing")
