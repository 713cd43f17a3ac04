"""`python -m dataset_tasks.cli` is `dataset-tasks`."""

from __future__ import annotations

import sys


def main() -> None:
    """Loads the program and runs it; Ctrl-C while it loads ends it as at any other moment."""
    try:
        from dataset_tasks.cli.main import main as program
    except KeyboardInterrupt:
        sys.exit(130)
    program()


if __name__ == "__main__":
    main()
