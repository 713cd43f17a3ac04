"""The scorecard that tests of faults print: each adds `(what, tries, survived)` as the property `faults`."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

#: With FAULTS_KEEP set the figures are kept here, for the page of reliability.
KEPT = Path(__file__).parent / "results" / "sweep.json"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tries: dict[str, int] = defaultdict(int)
    survived: dict[str, int] = defaultdict(int)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in report.user_properties:
                if name == "faults":
                    what, tried, held = value
                    tries[what] += tried
                    survived[what] += held
    if tries:
        terminalreporter.section("scorecard of faults")
    for what, count in tries.items():
        terminalreporter.write_line(f"{what:<40} {survived[what]:>6} of {count:>6} survived")
    if tries and "FAULTS_KEEP" in os.environ:
        KEPT.parent.mkdir(exist_ok=True)
        rows = [{"what": what, "tried": count, "survived": survived[what]} for what, count in tries.items()]
        KEPT.write_text(json.dumps(rows, indent=1) + "\n")
