"""Writes docs/performance.md from the figures that benchmarks kept; `--check` only says whether the page is up to date."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

HEAD = """# Performance

Made by `python scripts/performance.py` from the figures in `tests/benchmarks/results`, which the benchmarks wrote themselves
(`make bench`, or the command under each title). CPU seconds count user and system time of a command and all its children;
fsync, hashing of what is stored and verification are on in every run. Shared machines are noisy: a ratio of two figures
of one run says more than either.
"""


def page() -> str:
    """The page as the kept results make it."""
    from results import load_all, markdown

    parts = [HEAD]
    for each in load_all():
        parts += [f"## {each.title}", each.text, f"`{each.command}`, {each.made}, on {each.machine}."]
        for table in each.tables:
            parts += [f"**{table.caption}**", markdown(table)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text() == page() else f"{PAGE.name} is not what the results make: run {sys.argv[0]}")
    PAGE.write_text(page())
