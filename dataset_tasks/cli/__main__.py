"""`python -m dataset_tasks.cli` is `dataset-tasks`."""

from __future__ import annotations

from dataset_tasks.cli.main import main

if __name__ == "__main__":
    main()
