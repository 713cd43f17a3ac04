"""What `lint` says beside problems: nothing is wrong, but it may not mean what it seems to."""

from __future__ import annotations

from collections.abc import Iterator

from dataset_tasks.ops.requests import Approve, Build, Create, Request
from dataset_tasks.spec.plan import Plan


def notes(plan: Plan) -> tuple[str, ...]:
    """Remarks on a plan, one a line, in the order of its steps."""
    return tuple(_notes(plan))


def _notes(plan: Plan) -> Iterator[str]:
    for step in plan.steps:
        for request in _requests(step.request):
            match request:
                case Approve(by=by) if by:
                    yield (
                        f"datasets.{step.dataset}.publish.approval.by: only Airflow and our pages let nobody but "
                        f"{', '.join(by)} answer; elsewhere who answered is recorded, whoever it is"
                    )
                case Create(previous=True, partition=None) if plan.schedule is not None and plan.schedule.catchup:
                    yield (
                        f"datasets.{step.dataset}: each window starts from the version before it, so missed windows are "
                        "run one after the other"
                    )


def _requests(request: Request) -> Iterator[Request]:
    if isinstance(request, Build):
        for stage in request.stages:
            yield stage.request
    else:
        yield request
