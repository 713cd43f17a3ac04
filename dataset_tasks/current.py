"""The task that is running right now, asked of whichever orchestrator is loaded.

The core knows no orchestrator: plug-ins offer a function by the entry point group `dataset_tasks.current_task`, named
after the module that is loaded when theirs runs. It gives the operation key of the running task, or None.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

from dataset_tasks.errors import InvalidArgumentError

GROUP = "dataset_tasks.current_task"


def current_task_key(what: str) -> str:
    """The operation key of the running task for one thing that it makes; the same on a retry.

    Raises:
        InvalidArgumentError: No task of a known orchestrator is running.
    """
    for offered in entry_points(group=GROUP):
        if offered.name in sys.modules:
            key = offered.load()()
            if key is not None:
                return f"{key}/{what}"
    raise InvalidArgumentError(
        "use_current_task=True, but no Airflow task and no Prefect task is running here",
        hint="Leave it out, or call it inside a task of an orchestrator whose plug-in is installed.",
    )
