"""How a function becomes the task of an operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from dataset_tasks.ops.requests import Create, Request, Stage
from prefect_blocks.running import DatasetTask, dataset_task_options

P = ParamSpec("P")
R = TypeVar("R")

#: Tries after the first, where only our own services can be the reason that it failed.
RETRIES = 2


def operation(request: type[Request], *, retries: int = RETRIES) -> Callable[[Callable[P, R]], DatasetTask[P, R]]:
    """Makes the task of an operation; task runs are named after the verb and what it is done to."""

    def run_name(parameters: Mapping[str, object]) -> str:
        return f"{request.verb} {_target(parameters)}".rstrip()

    def decorator(function: Callable[P, R]) -> DatasetTask[P, R]:
        return DatasetTask(function, **dataset_task_options(verb=request.verb, run_name=run_name, retries=retries))

    return decorator


def _target(parameters: Mapping[str, object]) -> str:
    """What a task run works on, in a few words."""
    match parameters:
        case {"ref": {"project": project, "name": name, "version": version}}:
            return f"{project}/{name}@{version}"
        case {"ref": str(ref)}:
            return ref
        case {"name": name, "project": str(project)}:
            return f"{project}/{name}"
        case {"name": name}:
            return str(name)
        case {"stages": [first, *_]}:
            return _target({"name": "", **_create_fields(first)})
        case _:
            return ""


def _create_fields(stage: object) -> Mapping[str, object]:
    match stage:
        case Stage(request=Create(name=name, project=project)):
            return {"name": name, "project": project}
        case {"request": Mapping() as request}:
            return request
        case _:
            return {}
