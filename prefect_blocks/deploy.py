"""`dataset-tasks deploy SPEC --to prefect`: a spec's flow, served or handed to a work pool."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prefect.flows import Flow, load_flow_from_entrypoint

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.spec.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """What a deployment became. `id` is Prefect's; None where the flow was served, which ends with the process."""

    flow: str
    deployment: str
    work_pool: str | None
    id: str | None


def deploy(
    plan: Plan,
    file: str,
    *,
    variable: str,
    name: str | None = None,
    work_pool: str | None = None,
    parameters: Mapping[str, Any] | None = None,  # Any: values of the spec's types
    paused: bool = False,
    limit: int | None = None,
) -> Deployed:
    """Serves the flow of a spec from this process until it is ended, or deploys it to a work pool.

    Args:
        plan: The compiled spec.
        file: The Python file that loads it, as `dataset-tasks compile` writes it; it must be there where the flow runs.
        variable: Name of the flow in that file.
        name: Of the deployment; default the spec's.
        work_pool: A work pool whose workers see the file under its path; None: the spec's `prefect: {work_pool}`, else this
            process serves the flow.
        parameters: Of the flow's runs.
        paused: Whether the schedule is to begin later, by hand.
        limit: How many runs there may be at a time; default: any number.

    Raises:
        InvalidArgumentError: The file holds no such flow.
    """
    found = _flow(file, variable)
    pool = work_pool or cast("str | None", plan.prefect.get("work_pool"))
    named = name or plan.name
    options: dict[str, Any] = {  # Any: of several types
        "parameters": dict(parameters or {}),
        "paused": paused,
        "tags": ["dataset-tasks", *cast("list[str]", plan.prefect.get("tags") or [])],
        "description": plan.description or None,
    }
    if pool is None:
        found.serve(named, global_limit=limit, **options)
        return Deployed(flow=found.name, deployment=named, work_pool=None, id=None)
    place = Path(file).resolve()
    remote = Flow.from_source(source=str(place.parent), entrypoint=f"{place.name}:{variable}")
    made = remote.deploy(  # type: ignore[union-attr]  # no coroutine outside of an event loop
        named, work_pool_name=pool, build=False, push=False, concurrency_limit=limit, print_next_steps=False, **options
    )
    return Deployed(flow=found.name, deployment=named, work_pool=pool, id=str(made))


def _flow(file: str, variable: str) -> Flow[..., Any]:  # Any: whatever the flow gives
    folder = os.path.dirname(os.path.abspath(file))
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return load_flow_from_entrypoint(f"{os.path.abspath(file)}:{variable}", use_placeholder_flow=False)
    except Exception as error:
        raise InvalidArgumentError(
            f"{file} holds no flow {variable!r}: {error}",
            hint="Write it with `dataset-tasks compile SPEC --to prefect --output FILE`.",
        ) from error
