"""`make demo`: runs the flights spec here with the embedded catalog and store, through the command line."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from dataset_tasks.cli import main as command_line
from dataset_tasks.cli.command import Exit
from dataset_tasks.session import open_session
from example_flows.demo.source import EXAMPLES, SPEC, put_source_files
from example_flows.demo.summary import console, show_copy

HOME = EXAMPLES.parent / ".demo" / "home"
PUBLISHED = "nyc/training@prod"
#: Exit codes of `dataset-tasks run` after which there is something to show.
FINE = (Exit.DONE, Exit.NOTHING_TO_DO)


def main() -> int:
    """Runs the demo and returns its exit code."""
    started = time.perf_counter()
    out = console()
    source = put_source_files()
    with open_session(home=HOME) as session:
        before = {version.id for version in session.catalog.versions()}

    spec = str(SPEC.relative_to(Path.cwd())) if SPEC.is_relative_to(Path.cwd()) else str(SPEC)
    out.print(f"$ dataset-tasks run {spec} --home {HOME}", soft_wrap=True)
    code = command_line.run(["run", spec, "--home", str(HOME)])
    if code not in FINE:
        return code

    with open_session(home=HOME) as session:
        made = [v for v in session.catalog.versions() if v.state.is_final and v.id not in before]
        show_copy(session, out, PUBLISHED)
    where = source.relative_to(EXAMPLES.parent)
    out.print(f"Edit a file in {where} and run it again: only what depends on it is made anew.", soft_wrap=True)
    seconds = time.perf_counter() - started
    if made:
        stored = sum(version.new_bytes for version in made)
        names = ", ".join(version.label for version in made)
        out.print(f"Made {len(made)} versions ({names}), stored {stored:,} bytes, in {seconds:.1f} s.", soft_wrap=True)
    else:
        out.print(f"Everything is unchanged: no version was made, in {seconds:.1f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
