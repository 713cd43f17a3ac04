"""No figure of the scorecard is written by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_scorecard_is_what_the_kept_results_make() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/scorecard.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
