"""The flights spec as a Prefect flow: one task run a step, the same versions as `dataset-tasks run` makes.

The catalog is what the environment names. To keep versions in the home folder of this machine:

    DATASET_TASKS_CATALOG=embedded python example_flows/prefect/flights_spec.py
"""

from __future__ import annotations

from pathlib import Path

from example_flows.demo.source import put_source_files
from prefect_blocks import flow_from_spec

flights = flow_from_spec(Path(__file__).parent.parent / "specs" / "flights.yaml")

if __name__ == "__main__":
    put_source_files()
    flights()
