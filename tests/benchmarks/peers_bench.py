"""This project, other tools and the limits of the machine on the same data in one run.

    python tests/benchmarks/peers_bench.py [--data S,M,L] [--tools NAMES] [--repeat 3] [--folder FOLDER] [--all] [--keep]

Each step is a process of its own, starts included. The repetitions are interleaved: every tool once, then every tool again;
figures are medians. Tools from PyPI are installed into FOLDER; `git` and `restic` must be on the PATH (Debian has both).
With --keep the figures replace those of docs/performance.md (`python scripts/performance.py` writes the page).
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers import data
from peers.measure import Cost, FailedError, measure, stored
from peers.tools import LIMITS, OURS, STEPS, TOOLS, Tool, environment
from places import put_aside, remove, warm
from results import Results, Table

from dataset_tasks.statcache import RACY_NS, _forgetful_devices

#: What users wait for, and the steps that it takes.
WORK = {
    "v1: add, upload, finalize": ("add v1", "push v1"),
    "v1 as one build": ("build v1",),
    "nothing changed": ("nothing changed",),
    "v2: add, upload, finalize": ("add v2", "push v2"),
    "diff": ("diff",),
    "get v2": ("get v2",),
    "verify": ("verify",),
}
#: The limit under each, and the aim over it: factor and seconds for starts.
AIMS: dict[tuple[str, str], tuple[tuple[str, ...], float, float]] = {
    ("S", "v1: add, upload, finalize"): (("sha256", "tar"), 1.5, 0.8),
    ("M", "v1: add, upload, finalize"): (("sha256", "tar"), 2.0, 0.0),
    ("M", "v1 as one build"): (("sha256", "tar"), 1.5, 0.0),
    ("L", "v1: add, upload, finalize"): (("sha256", "tar"), 1.1, 0.0),
    **{(name, "nothing changed"): (("walk + stat",), 2.0, 0.4) for name in "SML"},
    **{(name, "get v2"): (("cp -r",), 1.3, 0.4) for name in "SML"},
    **{(name, "verify"): (("sha256",), 1.2, 0.0) for name in "SML"},
}
_SECONDS = 900
#: The data whose files are so many that deleting them costs who writes next; where they are meanwhile.
_MANY, _ASIDE = "S", "aside"


@dataclass(slots=True)
class Found:
    """Costs by data, tool and step; bytes in the stores after v1 and v2 by data and tool; why a tool has no figures."""

    costs: dict[tuple[str, str, str], list[Cost]] = field(default_factory=lambda: defaultdict(list))
    grown: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[tuple[str, str], str] = field(default_factory=dict)

    def cpu(self, name: str, tool: str, steps: tuple[str, ...]) -> float | None:
        """Median CPU seconds of the steps together; None where the last one was not measured at all.

        A step that a tool does not need (one that stores as it adds) counts nothing.
        """
        each = [self.costs.get((name, tool, step), []) for step in steps]
        if not each[0]:
            return None
        return sum(statistics.median(cost.cpu for cost in costs) for costs in each if costs)

    def fail(self, name: str, tool: str, why: str) -> None:
        """Forgets what a tool cost on a data set, but not why: half of a pipeline is no figure."""
        self.failed[name, tool] = why
        for key in [key for key in self.costs if key[:2] == (name, tool)]:
            del self.costs[key]
        self.grown.pop((name, tool), None)

    def peak(self, name: str, tool: str) -> float | None:
        """Largest memory of any step, MiB."""
        held = [max(cost.peak for cost in costs) for (n, t, _), costs in self.costs.items() if (n, t) == (name, tool)]
        return max(held, default=None)


def run_tools(tools: Sequence[Tool], place: Path, folder: Path, found: Found) -> None:
    """Every step of some tools on one data set. Each has its copy of the data, which is a minute old, as most data is.

    The copies are made first and this project comes last: it remembers hashes only of files of that age.
    """
    copies = folder / "copies"
    _clear(copies, place)
    for tool in tools:
        shutil.copytree(place / "v1", copies / tool.name)
    made = time.monotonic()
    for tool in reversed(tools):
        if (place.name, tool.name) in found.failed:
            continue
        if tool is OURS:
            time.sleep(max(0.0, made + RACY_NS / 1e9 + 1 - time.monotonic()))
        try:
            run_tool(tool, place, copies / tool.name, folder, found)
        except (FailedError, OSError, subprocess.CalledProcessError) as error:
            print(f"{place.name} {tool.name}: {error}", file=sys.stderr)
            found.fail(place.name, tool.name, str(error))
    _clear(copies, place)


def run_tool(tool: Tool, place: Path, copy: Path, folder: Path, found: Found) -> None:
    """Every step of a tool on its copy of a data set, from an empty folder."""
    binaries = tool.binaries(folder)
    if binaries is None:
        print(f"{tool.name} is not there: install `{tool.program}`", file=sys.stderr)
        return
    work = folder / "work"
    _clear(work, place)
    for part in ("space", "store", "out", "home", "tmp"):
        (work / part).mkdir(parents=True)
    copy.rename(work / "space/data")
    env = environment(work, place, binaries, tool.env)
    for step in (step for step in STEPS if step in tool.commands):
        if step == "add v2":
            data.turn_to_v2(place, work / "space/data")
        if step == "get v2" and tool.out.startswith("space"):
            put_aside(work / tool.out, work / "before")
        log = work / "log"
        warm(work)
        try:
            cost = measure(tool.commands[step], cwd=work / "space", env=env, log=log, limit=_SECONDS)
        except FailedError as error:
            raise FailedError(f"at {step!r}: {error}") from error
        inner = work / "inner"
        if inner.exists():  # what a driver counted itself, without a start that is no work of the tool
            own = json.loads(inner.read_text())
            cost = Cost(own["cpu"], own["wall"], cost.peak)
            inner.unlink()
        found.costs[place.name, tool.name, step].append(cost)
        print(
            f"{place.name} {tool.name:>14} {step:<16} cpu {cost.cpu:7.2f} wall {cost.wall:7.2f} peak {cost.peak:6.0f}"
        )
        if step == ("push v1" if "push v1" in tool.commands else "add v1"):
            found.grown[place.name, tool.name] = [sum(stored(work / each) for each in tool.stores)]
        if step == ("push v2" if "push v2" in tool.commands else "add v2"):
            found.grown[place.name, tool.name].append(sum(stored(work / each) for each in tool.stores))
        if step == "get v2":
            _must_equal(place / "v2", work / tool.out)
    _clear(work, place)


def run_limits(place: Path, folder: Path, found: Found) -> None:
    """The limits on one data set."""
    work = folder / "work"
    for name, command in LIMITS.items():
        _clear(work, place)
        (work / "home").mkdir(parents=True)
        env = environment(work, place, Path(sys.executable).parent, {})
        warm(place / "v1")
        found.costs[place.name, "limits", name].append(
            measure(command, cwd=work, env=env, log=work / "log", limit=_SECONDS)
        )
    _clear(work, place)


def _clear(folder: Path, place: Path) -> None:
    """Takes a folder away; the many files of S without deleting them before the last figure was taken."""
    if place.name == _MANY:
        put_aside(folder, folder.parent / _ASIDE)
    else:
        remove(folder)


def _must_equal(expected: Path, copy: Path) -> None:
    """Fails a tool that gave back something else than v2: a fast wrong answer is no figure."""
    names = sorted(os.path.relpath(os.path.join(top, each), expected) for top, _, n in os.walk(expected) for each in n)
    got = sorted(os.path.relpath(os.path.join(top, each), copy) for top, _, n in os.walk(copy) for each in n)
    _, wrong, missing = filecmp.cmpfiles(expected, copy, names, shallow=False)
    if wrong or missing or got != names:
        raise FailedError(f"its copy is not v2: {wrong[:3]} differ, {missing[:3]} are missing, {len(got)} files")


def tables(found: Found, names: list[str], tools: list[Tool]) -> list[Table]:
    """For each data set what users wait for, and what is stored."""
    made = []
    for name in names:
        measured = {tool for on, tool, _ in found.costs if on == name} | {
            tool for on, tool in found.failed if on == name
        }
        others = [tool.name for tool in tools if tool is not OURS and tool.name in measured]
        rows = [row for work in WORK if (row := _row(found, name, work, others)) is not None]
        made.append(
            Table(
                f"Data {name}, CPU seconds",
                ["work", "ours", "limit", "ours / limit", "aim", "best other", "ours / best", *others],
                rows,
            )
        )
        limits = [[limit, found.cpu(name, "limits", (limit,))] for limit in LIMITS]
        made.append(Table(f"Data {name}, limits, CPU seconds", ["limit", "CPU s"], limits))
        held = [
            [tool.name, first / 1e6, (second - first) / 1e6, found.peak(name, tool.name)]
            for tool in tools
            for first, second in [found.grown.get((name, tool.name), [0, 0])[:2]]
            if first
        ]
        made.append(
            Table(f"Data {name}, stored and memory", ["tool", "v1, MB", "growth to v2, MB", "peak memory, MiB"], held)
        )
    return made


def _row(found: Found, name: str, work: str, others: list[str]) -> list[str | float | None] | None:
    steps = WORK[work]
    ours = found.cpu(name, OURS.name, steps)
    theirs = {tool: cpu for tool in others if (cpu := found.cpu(name, tool, steps)) is not None}
    if ours is None and not theirs:
        return None
    aim = limit = None
    said = ""
    if (name, work) in AIMS:
        under, factor, extra = AIMS[name, work]
        limit = sum(found.cpu(name, "limits", (each,)) or 0.0 for each in under)
        aim = factor * limit + extra
        said = f"≤ {factor:g} x ({' + '.join(under)})" + (f" + {extra:g} s" if extra else "") + f" = {aim:.2f}: "
        said += _verdict(ours, aim)
    best = min(theirs, key=lambda tool: theirs[tool], default=None)
    if name in "SM" and work.startswith("v2"):
        rivals = [theirs[tool] for tool in ("git", "restic") if tool in theirs]
        said = "less than git and restic: " + _verdict(ours, min(rivals, default=None))
    return [
        work, ours, limit, ours / limit if ours and limit else None, said,
        f"{best} {theirs[best]:.2f}" if best else None, ours / theirs[best] if ours and best else None,
        *("failed" if (name, tool) in found.failed else theirs.get(tool) for tool in others),
    ]  # fmt: skip


def _verdict(ours: float | None, aim: float | None) -> str:
    if ours is None or aim is None:
        return "not measured"
    return "met" if ours <= aim else "missed"


def failures(found: Found) -> str:
    """A sentence for each tool without figures: the step that failed and the end of what it said."""
    return "".join(
        f" {tool} has no figures on {name}: it failed {why.partition(':')[0]} (`{why.splitlines()[-1][-160:]}`)."
        for (name, tool), why in found.failed.items()
    )


def versions(tools: list[Tool], folder: Path) -> str:
    """What each tool says that it is."""
    said = []
    for tool in tools:
        binaries = tool.binaries(folder)
        if binaries is not None:
            env = environment(folder, folder, binaries, tool.env)
            ran = subprocess.run(["bash", "-c", tool.version], env=env, capture_output=True, text=True, check=False)
            said.append(f"{tool.name}: {(ran.stdout.splitlines() or ['of an unknown version'])[0]}")
    return "; ".join(said)


def main() -> None:
    """Measures, prints the tables, and keeps them when asked."""
    known = {tool.name: tool for tool in TOOLS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="S,M,L")
    parser.add_argument("--tools", default=",".join(known))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dataset-tasks-bench")
    parser.add_argument("--all", action="store_true", help="also those that take minutes on the larger data")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    folder: Path = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if os.stat(folder).st_dev in _forgetful_devices():
        print(f"{folder} is in memory, where hashes are not remembered: 'nothing changed' reads all", file=sys.stderr)
    names, tools = given.data.split(","), [known[name] for name in given.tools.split(",")]
    found = Found()
    for _ in range(given.repeat):
        for name in names:
            place = data.make(name, folder / "data")
            run_limits(place, folder, found)
            run_tools([tool for tool in tools if given.all or name in tool.data], place, folder, found)
    remove(folder / _ASIDE)
    results = Results(
        name="peers" if "S" in names else f"peers_{given.data}",
        order=10,
        title="Beside other tools and the limits of the machine" + ("" if "S" in names else f": {given.data}"),
        text=(
            "CPU seconds (user and system) of the whole command, starts included, medians of "
            f"{given.repeat} interleaved runs. S: 20,000 files of 4 KiB. M: 2,000 files, 10 KiB to 2 MiB, 1.1 GB. L: 4 files "
            "of 512 MiB. v2 changes, adds and removes a hundredth of the files (L: one file edited in five places). "
            "Files are a minute old when this project first reads them, and in memory whoever reads them. Every copy of v2 was "
            "compared byte for byte. git and "
            "restic store as they add; ClearML was driven without its server, its start not counted; what takes minutes on M or L is measured there with --all. "
            + versions([tool for tool in tools if any(tool.name == ran for _, ran, _ in found.costs)], folder)
            + "."
            + failures(found)
        ),
        command=f"python tests/benchmarks/peers_bench.py --data {given.data}"
        + ("" if len(tools) == len(known) else f" --tools {given.tools}")
        + f" --repeat {given.repeat} --keep",
        tables=tables(found, names, tools),
    )
    from results import markdown

    for table in results.tables:
        print(f"\n{table.caption}\n\n{markdown(table)}")
    if given.keep:
        print(results.keep())


if __name__ == "__main__":
    main()
