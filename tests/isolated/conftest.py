"""Tests for environments that hold the core alone, or one plug-in: `make isolated` runs each in an environment of its own."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable

import pytest

ENVIRONMENT = os.environ.get("DATASET_TASKS_TEST_ENVIRONMENT", "")
#: Packages of extras that no isolated environment has.
OPTIONAL = {"obstore"}
collect_ignore = [f"test_{name}_alone.py" for name in ("core", "airflow", "prefect") if name != ENVIRONMENT]


@pytest.fixture
def import_all() -> Callable[[str], list[str]]:
    """Imports every module of a package and names those that needed something that is not there."""

    def import_each(package: str) -> list[str]:
        missing = []
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(root.__path__, f"{package}.", onerror=lambda _name: None):
            try:
                importlib.import_module(found.name)
            except ModuleNotFoundError as error:
                if error.name not in OPTIONAL:
                    missing.append(f"{found.name} needs {error.name}")
        return missing

    return import_each
