"""Writes the scorecard of faults into docs/reliability.md and the README, from what the programs kept.

    python scripts/scorecard.py [--check]

The parts between `<!-- scorecard -->` and `<!-- end -->` are made of tests/faults/results (`make faults`, `make fuzz`, `make
soak`) and of the catalogue in tests/faults/rows.py; nothing in them is written by hand.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tests" / "faults" / "results"
sys.path.insert(0, str(ROOT / "tests" / "faults"))
BEGIN, END = "<!-- scorecard -->", "<!-- end -->"


def kept(name: str) -> Any:  # Any: parsed JSON
    """What a program kept; None when it did not run yet."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def figures() -> Iterator[tuple[str, str, str]]:
    """What was tried, how often, and what came of it."""
    from rows import ROWS, held_by

    tested = sum(bool(held_by(row)) for row in ROWS)
    yield "rows of the fault catalogue with an automated test", str(len(ROWS)), str(tested)
    guards = kept("guards")
    if guards:
        rows = len({each["row"] for each in guards})
        yield (
            f"guards taken out, of {rows} rows: a test fails",
            str(len(guards)),
            str(sum(each["noticed"] for each in guards)),
        )
    for what, (tried, survived, points) in swept().items():
        part = "" if tried == points else f": {tried:,} of {points:,} points"
        yield f"{what}{part}", f"{tried:,}", f"{survived:,}"
    fuzz = kept("fuzz")
    if fuzz:
        inputs, failed = sum(row[1] for row in fuzz["rows"]), sum(row[3] != "none" for row in fuzz["rows"])
        yield (
            f"fuzzed inputs, {len(fuzz['rows'])} readers: ended in an answer or an error of ours",
            f"{inputs:,}",
            (f"{inputs:,}" if not failed else f"{failed} readers failed"),
        )
    for soak in kept("soak") or ():
        what = f"soak, {soak['minutes']:g} minutes, {soak['workers']} workers, {soak['catalog']}: calls ({soak['kills']:,} kills)"
        yield what, f"{soak['calls']:,}", f"{soak['calls'] - soak['violations']:,}"


def swept() -> dict[str, list[int]]:
    """By what: how many points were tried, held, and are there. Each test kept its own."""
    sums: dict[str, list[int]] = {}
    for test in (kept("sweep") or {}).values():
        for what, *counts in test["figures"]:
            sums[what] = [a + b for a, b in zip(sums.get(what, [0, 0, 0]), counts, strict=True)]
    return dict(sorted(sums.items()))


def scorecard() -> str:
    """The table in Markdown."""
    lines = ["| what | tried | held |", "|---|---:|---:|"]
    lines += [f"| {what} | {tried} | {held} |" for what, tried, held in figures()]
    commits = sorted({test["commit"] for test in (kept("sweep") or {}).values()})
    if commits:
        lines += ["", f"Crash points and interleavings: tried on commit {', '.join(f'`{each}`' for each in commits)}."]
    return "\n".join(lines)


def catalogue() -> str:
    """The rows, how many tests hold each, and how many of its guards a test missed when they were gone."""
    from guard_rows import UNGUARDED
    from rows import ROWS, held_by

    guards = Counter(each["row"] for each in kept("guards") or () if each["noticed"])
    lines = ["| row | fault | tests | guards taken out |", "|---|---|---:|---|"]
    for row, each in ROWS.items():
        tests = len(held_by(row))
        lines.append(
            f"| {row} | {each.title}{f': {each.reason}' if each.reason else ''} | {tests} | {guards[row] or UNGUARDED.get(row, '')} |"
        )
    return "\n".join(lines)


def filled(path: Path) -> str:
    """The text of a page with its parts made anew."""
    text = path.read_text(encoding="utf-8")
    parts = {BEGIN: scorecard(), "<!-- catalogue -->": catalogue()}
    for begin, made in parts.items():
        if begin in text:
            head, _, rest = text.partition(begin)
            _, end, tail = rest.partition(END)
            text = f"{head}{begin}\n{made}\n{end}{tail}"
    return text


if __name__ == "__main__":
    pages = [ROOT / "docs" / "reliability.md", ROOT / "README.md"]
    if "--check" in sys.argv:
        old = [page.name for page in pages if page.read_text(encoding="utf-8") != filled(page)]
        sys.exit(f"{old} are not what the results make: run {sys.argv[0]}" if old else 0)
    for page in pages:
        page.write_text(filled(page), encoding="utf-8")
    print(scorecard())
