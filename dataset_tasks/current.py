"""The task that is running right now, asked of whichever orchestrator is loaded.

Plug-ins offer a function by the entry point group `dataset_tasks.current_task`; it gives the operation key of the running
task, or None.
"""

from __future__ import annotations

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.plugins import offered

GROUP = "dataset_tasks.current_task"


def current_task_key(what: str) -> str:
    """The operation key of the running task for one thing that it makes; the same on a retry.

    Raises:
        InvalidArgumentError: No task of a known orchestrator is running.
    """
    for key_of_run in offered(GROUP):
        key = key_of_run()
        if key is not None:
            return f"{key}/{what}"
    raise InvalidArgumentError(
        "use_current_task=True, but no Airflow task and no Prefect task is running here",
        hint="Leave it out, or call it inside a task of an orchestrator whose plug-in is installed.",
    )
