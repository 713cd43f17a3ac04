"""A step for each `dataset_version` block of a flow run: the same in every try of it, another for every other block.

Prefect's own key of a task run is a new one in each try of its flow. What stays is the order of blocks in a flow or a task,
and the arguments of the task.
"""

from __future__ import annotations

import threading
from typing import Final
from uuid import UUID

from prefect.context import FlowRunContext, TaskRunContext
from prefect.utilities.hashing import hash_objects

from dataset_tasks.errors import InvalidArgumentError

#: Flow runs times datasets that one process remembers.
_MOST: Final = 10_000

#: Blocks begun: for each (flow run, its try, name of the step) the number of each (task run, place in it).
_numbers: dict[tuple[UUID | None, int, str], dict[tuple[UUID | None, int], int]] = {}
#: How many blocks of such a name each (task run, its try) has begun.
_places: dict[tuple[UUID | None, int, str, UUID | None, int], int] = {}
_lock = threading.Lock()


def own_step(dataset: str, step: str | None) -> str:
    """The step of a block that begins here and now.

    Args:
        dataset: `project/name`.
        step: As the user named it; default: dataset, arguments of the task around it, and which of several it is.

    Raises:
        InvalidArgumentError: Another block of this run has this `step`.
    """
    task, flow = TaskRunContext.get(), FlowRunContext.get()
    flow_run = flow.flow_run if flow is not None else None
    if flow_run is None:
        return step or dataset
    task_run = task.task_run if task is not None else None
    name = step or dataset
    if task is not None and not step:
        arguments = hash_objects(task.task.name, task.parameters) or str(task.task_run.id)
        name = f"{dataset}@{arguments[:16]}"
    number = _number(
        (flow_run.id, flow_run.run_count, name),
        task_run.id if task_run is not None else None,
        task_run.run_count if task_run is not None else 0,
    )
    if number and step:
        raise InvalidArgumentError(
            f"{dataset}: the step {step!r} stands for another block of this run already",
            hint="Give each block a step of its own; without one, dataset, arguments and order tell them apart.",
        )
    return f"{name}#{number + 1}" if number else name


def _number(group: tuple[UUID | None, int, str], task_run: UUID | None, task_try: int) -> int:
    """How many other blocks of the group began before this one did for the first time."""
    with _lock:
        if len(_places) > _MOST:
            del _places[next(iter(_places))]
        if len(_numbers) > _MOST:
            del _numbers[next(iter(_numbers))]
        place = _places.get((*group, task_run, task_try), 0)
        _places[*group, task_run, task_try] = place + 1
        numbers = _numbers.setdefault(group, {})
        return numbers.setdefault((task_run, place), len(numbers))
