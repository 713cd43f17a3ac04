"""What Airflow learns of the provider, and at what price."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points, version
from importlib.resources import files

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager
from airflow.sdk import task

from airflow_provider.get_provider_info import get_provider_info
from dataset_tasks.ops.requests import OPERATIONS

_MODULES = ("hooks", "operators", "sensors", "triggers", "bundles")


def test_the_info_is_what_airflows_schema_asks_for() -> None:
    jsonschema.validate(
        get_provider_info(), json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    )


def test_the_entry_point_belongs_to_the_distribution_that_the_info_names() -> None:
    own = [
        point for point in entry_points(group="apache_airflow_provider") if point.value.startswith("airflow_provider.")
    ]
    assert [point.dist.name for point in own if point.dist] == [get_provider_info()["package-name"]]


def test_the_info_imports_nothing() -> None:
    code = (
        "import sys; from airflow_provider.get_provider_info import get_provider_info; get_provider_info();"
        "print([name for name in sys.modules if name.split('.')[0] in ('airflow', 'dataset_tasks', 'pydantic', 'yaml')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_class_and_module_that_the_info_names_is_there() -> None:
    info = get_provider_info()
    modules = [module for kind in _MODULES for part in info[kind] for module in part["python-modules"]]
    paths = [connection["hook-class-name"] for connection in info["connection-types"]]
    paths += [decorator["class-name"] for decorator in info["task-decorators"]]
    paths += [part[name] for part in info["asset-uris"] for name in ("handler", "factory")]
    paths += [*info["extra-links"], *info["cli"]]
    for module in modules:
        import_module(module)
    for path in paths:
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name), path


def test_airflow_finds_the_provider_with_its_connection_form() -> None:
    manager = ProvidersManager()
    assert "dataset-tasks" in manager.providers
    if version("apache-airflow").startswith("3.1."):
        pytest.skip("before 3.2 a connection has the plain form, with these fields in its extra")
    fields = {name for name in manager.connection_form_widgets if name.startswith("extra__dataset_tasks__")}
    assert fields == {
        f"extra__dataset_tasks__{name}" for name in ("catalog_url", "store_url", "cache_dir", "catalog", "home")
    }


def test_the_decorator_is_task_dot_dataset() -> None:
    from airflow_provider.decorators.dataset import dataset_task

    assert task.dataset is dataset_task


def test_every_operation_has_an_operator() -> None:
    operators = import_module("airflow_provider.operators")
    assert sorted(operators.__all__) == sorted(f"Dataset{verb.capitalize()}Operator" for verb in OPERATIONS)
