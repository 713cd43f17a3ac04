"""The flights pipeline as a plain script: no spec, no orchestrator, only `Dataset`.

    python -m example_flows.script [folder with the source files]

Each run makes a version of `raw` that starts from the last one and holds only what changed, and one of `by_month`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from dataset_tasks import Dataset
from dataset_tasks.errors import NotFoundError
from example_flows.demo.source import put_source_files
from example_flows.transforms.flights import by_month

PROJECT = "nyc/script"


def main(source: Path) -> None:
    """Versions the source files and the flights by month, and prints what changed since the last run."""
    raw = Dataset.create(dataset_name="raw", dataset_project=PROJECT, parent_datasets=last_version("raw"))
    removed, changed = raw.sync_folder(source)
    print(f"raw {raw.version}: {changed} files added or modified, {removed} removed")
    raw.upload(show_progress=False)
    raw.finalize()

    files = raw.get_local_copy()
    assert files is not None  # only with `raise_on_error=False`
    months = Dataset.create(dataset_name="by_month", dataset_project=PROJECT, dataset_tags=["monthly"])
    with tempfile.TemporaryDirectory() as made:
        by_month({"raw": Path(files)}, Path(made))
        months.add_files(made)
        months.upload(show_progress=False)
    months.finalize()
    months.publish()
    print(f"by_month {months.version}: {len(months.list_files())} files in {months.get_local_copy()}")


def last_version(name: str) -> list[Dataset]:
    """The newest finished version of a dataset, as a list of parents; empty before the first run."""
    try:
        return [Dataset.get(dataset_project=PROJECT, dataset_name=name, only_completed=True)]
    except NotFoundError:
        return []


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else put_source_files())
