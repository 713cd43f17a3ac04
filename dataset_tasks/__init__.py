"""Versioned datasets for people who run Airflow and Prefect: the core library.

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataset_tasks.dataset import Dataset as Dataset
    from dataset_tasks.errors import DatasetError as DatasetError
    from dataset_tasks.model import Diff as Diff
    from dataset_tasks.model import FileEntry as FileEntry
    from dataset_tasks.model import LinkEntry as LinkEntry
    from dataset_tasks.model import State as State
    from dataset_tasks.model import Version as Version
    from dataset_tasks.session import Session as Session
    from dataset_tasks.session import open_session as open_session

__version__ = "0.1.0"

_HOMES = {
    "Dataset": "dataset",
    "DatasetError": "errors",
    "Diff": "model",
    "FileEntry": "model",
    "LinkEntry": "model",
    "Session": "session",
    "State": "model",
    "Version": "model",
    "open_session": "session",
}

__all__ = [
    "Dataset",
    "DatasetError",
    "Diff",
    "FileEntry",
    "LinkEntry",
    "Session",
    "State",
    "Version",
    "open_session",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found: object = getattr(import_module(f"dataset_tasks.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
