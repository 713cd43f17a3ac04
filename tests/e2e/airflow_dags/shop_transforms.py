"""Transforms of the shop specs."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path


def totals(inputs: Mapping[str, Path], output: Path, folder: str) -> dict[str, int]:
    """One number a file. Where the file `hold` is in the folder it tells its process id and waits until that is gone."""
    (output / "half.txt").write_text("half done")
    hold = Path(folder, "hold")
    if hold.exists():
        Path(folder, "pid").write_text(str(os.getpid()))
        while hold.exists():
            time.sleep(0.05)
    files = sorted(file for place in inputs.values() for file in place.iterdir())
    for file in files:
        (output / f"{file.stem}.txt").write_text(str(sum(map(int, file.read_text().split()))))
    return {"files": len(files)}


def report(inputs: Mapping[str, Path], output: Path) -> None:
    """A line for all orders."""
    names = sorted(file.name for file in inputs["orders"].iterdir())
    (output / "report.txt").write_text(", ".join(names))


def day(inputs: Mapping[str, Path], output: Path, date: str, start: str) -> dict[str, str]:
    """What the run knows of its window."""
    (output / "day.txt").write_text(f"{date} {start}")
    return {"date": date, "start": start}


def report_of_nothing(inputs: Mapping[str, Path], output: Path) -> None:
    """One line."""
    (output / "report.txt").write_text("nothing to report")


def filled(inputs: Mapping[str, Path], output: Path, date: str, folder: str) -> None:
    """A file for a day; fails where the folder holds one of its name."""
    if Path(folder, date).exists():
        raise ValueError(f"{date} is not to be had")
    (output / "day.txt").write_text(date)


def copy(inputs: Mapping[str, Path], output: Path) -> None:
    """The input as it is."""
    (place,) = inputs.values()
    shutil.copytree(place, output, dirs_exist_ok=True)
