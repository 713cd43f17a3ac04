"""get: a folder with the content of a version, verified on the way; complete or absent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dataset_tasks.ops.context import Context
from dataset_tasks.ops.requests import GetCopy, GetCopyResult


def run(context: Context, request: GetCopy) -> GetCopyResult:
    """X"""
    raise NotImplementedError


@contextmanager
def read_only_copy(context: Context, ref: str, *, files: Sequence[str] = ()) -> Iterator[Path]:
    raise NotImplementedError
    yield Path()
