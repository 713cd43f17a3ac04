"""The version a command works on when none is named: the last one made or used here, per catalog."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from dataset_tasks.errors import InvalidArgumentError

FILE = "last_used.json"


def remember(home: Path, catalog_id: str, version_id: str) -> None:
    """Keeps the id for the next command; commands that run side by side overwrite each other, whole."""
    known = _read(home)
    if known.get(catalog_id) == version_id:
        return
    known[catalog_id] = version_id
    home.mkdir(parents=True, exist_ok=True)
    number, path = tempfile.mkstemp(dir=home, prefix=f".{FILE}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump(known, file)
        os.replace(path, home / FILE)
    except BaseException:
        os.unlink(path)
        raise


def recall(home: Path, catalog_id: str) -> str:
    """The id kept for this catalog.

    Raises:
        InvalidArgumentError: There is none.
    """
    version_id = _read(home).get(catalog_id)
    if version_id is None:
        raise InvalidArgumentError(
            "which version? None was used here before",
            hint="Name one as `project/name@1.0.0` or with --id; `dataset-tasks list` shows what there is.",
        )
    return version_id


def _read(home: Path) -> dict[str, str]:
    try:
        known = json.loads((home / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # never written, or damaged: it holds a convenience, no data
        return {}
    return {k: v for k, v in known.items() if isinstance(v, str)} if isinstance(known, dict) else {}
