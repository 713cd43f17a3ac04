"""The scorecard that tests of faults print: each adds `(what, tries, survived, points)` as the property `faults`.

Points are how many there are to be tried; without them it is all that were.

With FAULTS_KEEP set the figures are kept for the page of reliability, each test's when it ends: a run that is cut off
leaves what it came to. `FAULTS_KEEP=more` adds to what is kept, any other value begins anew.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parent / "results" / "sweep.json"
_ENDED = {"passed", "failed"}


def _figures(report: Any) -> list[tuple[str, int, int, int]]:  # Any: pytest's report
    return [(*value, value[1])[:4] for name, value in report.user_properties if name == "faults"]


def pytest_configure(config: Any) -> None:  # Any: pytest's own
    is_controller = not hasattr(config, "workerinput")
    if is_controller and os.environ.get("FAULTS_KEEP") not in {None, "more"}:
        KEPT.unlink(missing_ok=True)


def pytest_runtest_logreport(report: Any) -> None:  # Any: pytest's report
    if "FAULTS_KEEP" not in os.environ or "PYTEST_XDIST_WORKER" in os.environ:
        return
    if report.when == "call" and _figures(report):
        kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        kept[report.nodeid.rpartition("::")[2]] = {"commit": _commit(), "figures": _figures(report)}
        KEPT.parent.mkdir(exist_ok=True)
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept))
        KEPT.write_text(f"{{\n{lines}\n}}\n")


def _commit() -> str:
    """What was tried."""
    asked = ["git", "rev-parse", "--short=9", "HEAD"]
    return subprocess.run(asked, cwd=KEPT.parent.parent, capture_output=True, text=True, check=False).stdout.strip()


def pytest_terminal_summary(terminalreporter: Any) -> None:  # Any: pytest's own
    tries: dict[str, int] = defaultdict(int)
    survived: dict[str, int] = defaultdict(int)
    for outcome in _ENDED:
        for report in terminalreporter.stats.get(outcome, []):
            for what, tried, held, _ in _figures(report):
                tries[what] += tried
                survived[what] += held
    if tries:
        terminalreporter.section("scorecard of faults")
    for what, count in sorted(tries.items()):
        terminalreporter.write_line(f"{what:<60} {survived[what]:>6} of {count:>6} survived")
