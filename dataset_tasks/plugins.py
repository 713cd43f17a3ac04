"""What plug-ins offer to the core, found by entry points: the core knows no orchestrator.

An entry point is named after the module that is loaded when its plug-in is at work (`prefect`, `airflow.sdk`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any


def offered(group: str) -> Iterator[Callable[..., Any]]:  # Any: each group has a signature of its own
    """The functions of a group whose orchestrator is loaded in this process; no orchestrator is loaded for it.

    >>> list(offered("dataset_tasks.no_such_group"))
    []
    """
    for entry in _entries(group):
        if entry.name in sys.modules:
            yield entry.load()


@cache
def _entries(group: str) -> EntryPoints:
    """Looked up once: it reads a file of each installed distribution."""
    return entry_points(group=group)
