"""Calls a transform's function in a process of its own, under whatever interpreter runs this file.

Not imported: `transform` runs it with the standard library alone, as that interpreter may have nothing of ours.

    PYTHON caller.py CALL.json
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path


def main(place: str) -> None:
    """Makes the call that a file describes, and writes what it returned beside it."""
    asked = json.loads(Path(place).read_text(encoding="utf-8"))
    own = (
        Path(__file__).resolve().parent
    )  # Python looks there first for every module, and ours are called `copy`, `code`
    sys.path[:] = [each for each in sys.path if Path(each or ".").resolve() != own]
    if asked["place"] is not None and asked["place"] not in sys.path:
        sys.path.insert(0, asked["place"])
    module, _, name = asked["call"].partition(":")
    function = getattr(import_module(module), name)
    inputs = {key: Path(value) for key, value in asked["inputs"].items()}
    given = function(inputs, Path(asked["output"]), **asked["arguments"])
    if isinstance(given, dict):
        Path(asked["result"]).write_text(json.dumps(given), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
