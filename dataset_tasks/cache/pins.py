"""Pins: notes in files that keep a tree from eviction after the process that asked for it is gone."""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dataset_tasks.filesystem import make_folders, storage_error


@dataclass(frozen=True, slots=True)
class Pin:
    """A tree that stays: `path` may be handed to other processes. Ends with `release`, or when its time is over.

    `until` is seconds since 1970, by this machine's clock.
    """

    path: Path
    file: Path
    until: float

    def release(self) -> None:
        """Ends the pin; again it does nothing."""
        with suppress(OSError):
            self.file.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


def add_pin(folder: Path, tree: Path, owner: str, seconds: float) -> Pin:
    """Notes a pin for a tree.

    Raises:
        StorageError: The note can't be written.
    """
    until = time.time() + seconds
    file = folder / f"{secrets.token_hex(8)}.json"
    try:
        make_folders(os.fspath(folder), 0o700)
        file.write_text(json.dumps({"owner": owner, "until": until}))
    except OSError as error:
        raise storage_error(error, "write", file) from error
    return Pin(tree, file, until)


def is_pinned(folder: Path) -> bool:
    """Whether a pin holds; those whose time is over are removed. One that can't be read holds for a day."""
    holds = False
    for file in folder.glob("*.json") if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            if time.time() < _until(file):
                holds = True
            else:
                file.unlink()
    return holds


def _until(file: Path) -> float:
    try:
        return float(json.loads(file.read_text())["until"])
    except (ValueError, KeyError, TypeError):
        return file.stat().st_mtime + 86_400
