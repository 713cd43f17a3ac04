"""Many like steps of one draft as one task run: with `granularity: operation` a dataset of 200 adds has four, not 200.

A task run costs Prefect far more than most parts do. The parts of a batch are the plan's own steps: each runs under the key
it would have alone, so batches of another size, or none, find what was done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import ClassVar, Final, cast
from uuid import UUID

from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import JsonValue
from dataset_tasks.ops.requests import AddExternal, AddFiles, Request, Result, Stage
from dataset_tasks.spec.plan import Plan, PlannedDataset, Step
from prefect_blocks.running import Catalog, Json, Work, is_worth_retrying, result_json
from prefect_blocks.tasks.base import operation

#: Most steps of a dataset that one task run takes, unless it is told otherwise.
BATCH: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts(Request):
    """Adds to one draft that run in order; no operation of its own: each of `stages` is one."""

    verb: ClassVar[str] = "add"
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalParts(Parts):
    """As `Parts`, of links."""

    verb: ClassVar[str] = "external"


_KINDS: Final[Mapping[type[Request], type[Parts]]] = {AddFiles: Parts, AddExternal: ExternalParts}


def batched(plan: Plan, size: int | None = None) -> Plan:
    """The plan with up to `size` neighbouring adds, or links, of a dataset as one step; the others stay as they are.

    A batch is named after its first and last part (`raw.add.0-49`); its `timeout` is that of all its parts together.

    Args:
        plan: A compiled spec.
        size: Steps in a batch; 1 leaves each alone. Default what the spec's `prefect: {batch: ...}` says, else `BATCH`.

    Raises:
        InvalidArgumentError: `size` is less than 1.
    """
    if size is not None and size < 1:
        raise InvalidArgumentError(f"a batch of {size} steps", hint="Give 1 or more; 1 means no batches.")
    alone = {step.id: step for step in plan.steps}
    steps: list[Step] = []
    datasets: list[PlannedDataset] = []
    for dataset in plan.datasets:
        own = size or cast("int | None", dataset.prefect.get("batch")) or BATCH
        made = list(_batches([alone[step_id] for step_id in dataset.steps], own))
        steps += made
        datasets.append(dataclasses.replace(dataset, steps=tuple(step.id for step in made)))
    return dataclasses.replace(plan, steps=tuple(steps), datasets=tuple(datasets))


def _batches(steps: Iterable[Step], size: int) -> Iterator[Step]:
    """The steps of a dataset, which follow one another, with batches in place of their parts."""
    needs: tuple[str, ...] | None = None  # the first step needs other datasets, each later one the step before it
    for kind, group in groupby(steps, key=lambda step: _KINDS.get(type(step.request))):
        for part in _chunks(group, size if kind is not None else 1):
            step = _together(part, kind) if kind is not None and len(part) > 1 else part[0]
            yield step if needs is None else dataclasses.replace(step, needs=needs)
            needs = (step.id,)


def _chunks(steps: Iterable[Step], size: int) -> Iterator[list[Step]]:
    rest = iter(steps)
    while part := list(islice(rest, size)):
        yield part


def _together(parts: Sequence[Step], kind: type[Parts]) -> Step:
    first, last = parts[0], parts[-1]
    return dataclasses.replace(
        first,
        id=f"{first.id}-{last.id.rpartition('.')[2]}",
        request=kind(stages=tuple(Stage(id=step.id, request=step.request) for step in parts)),
        timeout=None if first.timeout is None else first.timeout * len(parts),
    )


@operation(Parts)
def run_parts(
    stages: Sequence[Stage],
    catalog: Catalog = None,
    step: str | None = None,
    origin: Mapping[str, JsonValue] | None = None,
) -> Json:
    """Runs the parts of a batch in order. Tried again, it goes on with the part that failed.

    Args:
        stages: Requests under the ids of their steps.
        catalog: See `prefect_blocks.tasks`.
        step: Name of the batch.
        origin: See `prefect_blocks.tasks`.

    Returns:
        The fields of the last part's result, and in `parts` the counts of each, by id.

    Raises:
        SourceError: Files of a part can't be read; a note says of which part.
        StateError: The version is not a draft.
    """
    work = Work.on(catalog, step, origin)
    with _done_before() as done:
        for stage in stages:
            if stage.id in done:
                continue
            try:
                done[stage.id] = dataclasses.replace(work, step=stage.id).result(stage.request)
            except BaseException as error:
                error.add_note(f"raised by part {stage.id} of {step}")
                raise
    given: Json | State[Json] = work.finish(
        done[stages[-1].id]
    )  # a state where the dataset is unchanged; see `Work.run`
    if isinstance(given, State):
        return cast("Json", given)
    return given | {"parts": {name: _counts(result) for name, result in done.items()}}


_tries: dict[UUID, dict[str, Result]] = {}


@contextmanager
def _done_before() -> Iterator[dict[str, Result]]:
    """Results of the parts that earlier tries of this task run ended well; kept for the next try, and no longer.

    Tries of a task run follow one another in one process. A flow run that is tried again does all parts again, as it would do
    steps: files may have changed since.
    """
    context = TaskRunContext.get()
    if context is None:
        yield {}
        return
    run = context.task_run
    done = _tries.pop(run.id, {})
    try:
        yield done
    except Exception as error:
        if run.run_count <= (context.task.retries or 0) and is_worth_retrying(error):
            _tries[run.id] = done
        raise


def _counts(result: Result) -> dict[str, JsonValue]:
    """The numbers of a result."""
    return {name: held for name, held in result_json(result).items() if type(held) is int}
