"""The Prefect run that is going on right now: what `Dataset.create(use_current_task=True)` asks for."""

from __future__ import annotations

from prefect.context import FlowRunContext, TaskRunContext


def current_task_key() -> str | None:
    """The operation key of the running task, else of the running flow, the same for every try; None outside of a run."""
    task = TaskRunContext.get()
    if task is not None:
        run = task.task_run
        return f"prefect/{run.flow_run_id or 'task'}/{run.task_key}/{run.dynamic_key}"
    flow = FlowRunContext.get()
    if flow is not None and flow.flow_run is not None:
        return f"prefect/{flow.flow_run.id}"
    return None
