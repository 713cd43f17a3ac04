"""`python -m dataset_tasks` is `dataset-tasks`."""

from __future__ import annotations

from dataset_tasks.cli.__main__ import main

if __name__ == "__main__":
    main()
