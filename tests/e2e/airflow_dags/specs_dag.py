"""Every spec of this folder as a DAG of Airflow."""

from __future__ import annotations

from pathlib import Path

from airflow_provider.dags import load_dags

globals().update(load_dags(Path(__file__).parent, watched=["watched/kept"]))
