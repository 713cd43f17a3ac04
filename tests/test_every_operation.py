"""One verb everywhere: each operation has its request, module, operator, task, command and page.

The orchestrators are looked at in processes of their own: neither is loaded beside the other, nor beside the core.
"""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from dataset_tasks.ops import requests
from dataset_tasks.ops.requests import OPERATIONS, Request, Result
from dataset_tasks.ops.wire import request_from_json, result_from_json, to_json

ROOT = Path(__file__).resolve().parent.parent
VERSION = "0123456789abcdef0123456789abcdef"

verbs = pytest.mark.parametrize("verb", list(OPERATIONS))
needs_airflow = pytest.mark.skipif(find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]")
needs_prefect = pytest.mark.skipif(find_spec("prefect") is None, reason="pip install dataset-tasks[prefect]")

#: What an operator and a task call a field of the request, where it can't have its own name there.
RENAMED = {
    "airflow": {("upload", "retries"): "store_retries"}
    | {(verb, "dry_run"): "dry_run_only" for verb in ("gc", "repack", "repair")},
    "prefect": {},
}

OPERATORS = """
import inspect, json
from airflow_provider import operators
made = {}
for name in dir(operators):
    operation = getattr(getattr(operators, name), "operation", None)
    if operation is not None and hasattr(operation, "verb"):
        made[operation.verb] = [name, list(inspect.signature(getattr(operators, name).__init__).parameters)]
print(json.dumps(made))
"""
TASKS = """
import inspect, json
from prefect import Task
from prefect_blocks import tasks
from prefect_blocks.tasks import __all__ as names
print(json.dumps({n: list(inspect.signature(t.fn).parameters) for n in names if isinstance(t := getattr(tasks, n), Task)}))
"""
#: The task of each verb: named as the methods of `Dataset` are, where there is one.
TASK_OF = {
    "create": "create_dataset", "add": "add_files", "external": "add_external_files",
    "sync": "sync_folder", "remove": "remove_files",
    "transform": "transform_dataset", "check": "check_dataset", "upload": "upload_dataset",
    "finalize": "finalize_dataset", "build": "build_dataset", "approve": "approve_dataset",
    "publish": "publish_dataset", "squash": "squash_datasets",
    "copy": "copy_dataset", "verify": "verify_dataset", "get": "get_copy", "delete": "delete_dataset",
    "undelete": "undelete_dataset", "gc": "collect_garbage", "repack": "repack_store", "repair": "repair_store",
}  # fmt: skip


@cache
def found_by(code: str) -> dict[str, list[object]]:
    """What a program prints as JSON on its last line."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found: dict[str, list[object]] = json.loads(ran.stdout.splitlines()[-1])
    return found


def field_names(verb: str, where: str = "") -> set[str]:
    renamed = RENAMED.get(where, {})
    return {renamed.get((verb, spec.name), spec.name) for spec in fields(OPERATIONS[verb][0])}  # type: ignore[arg-type]


@verbs
def test_the_request_and_the_result_are_frozen_and_pass_through_json(verb: str) -> None:
    request, result = OPERATIONS[verb]
    assert (request.verb, is_dataclass(request), issubclass(request, Request), issubclass(result, Result)) == (
        verb, True, True, True,
    )  # fmt: skip
    required = {
        "name": "raw",
        "ref": VERSION,
        "path": "data",
        "urls": ("file:///data",),
        "refs": (VERSION,),
        "stages": (),
    }
    one = request(**{name: value for name, value in required.items() if name in field_names(verb)})
    assert request_from_json(json.loads(json.dumps(to_json(one)))) == one
    came = result(catalog_id=VERSION, version_id=VERSION, project="nyc", name="raw", version="1.0.0")
    assert result_from_json(verb, json.loads(json.dumps(to_json(came)))) == came
    with pytest.raises(FrozenInstanceError):
        came.version_id = ""  # type: ignore[misc]


def test_who_asks_for_one_request_makes_no_classes_of_the_others() -> None:
    code = "import json, sys; from dataset_tasks.ops.requests import Create, CreateResult, Request; print(json.dumps("
    code += "{name.rpartition('.')[2]: [] for name in sys.modules if name.startswith('dataset_tasks.ops.requests.')}))"
    assert set(found_by(code)) == {"base", "drafts"}


def test_every_request_and_result_is_found_in_the_package_of_requests() -> None:
    folder = ROOT / "dataset_tasks" / "ops" / "requests"
    for name in sorted(path.stem for path in folder.glob("[a-z]*.py")):
        module = importlib.import_module(f"{requests.__name__}.{name}")
        made = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
        assert all(getattr(requests, each.__name__) is each for each in made), name
    assert {"AnyRequest", "Stage", "UploadResult"} <= set(dir(requests))
    with pytest.raises(AttributeError, match="NoRequest"):
        _ = requests.NoRequest


@verbs
def test_the_module_of_the_verb_runs_it_and_says_what_it_raises(verb: str) -> None:
    run = importlib.import_module(f"dataset_tasks.ops.{verb}").run
    request, result = OPERATIONS[verb]
    hints = inspect.get_annotations(run)
    assert (hints["request"], hints["return"]) == (request.__name__, result.__name__)
    assert "Raises:" in (inspect.getdoc(run) or "")


@needs_airflow
@verbs
def test_there_is_an_operator_with_every_field(verb: str) -> None:
    name, parameters = found_by(OPERATORS)[verb]
    assert name == f"Dataset{verb.capitalize()}Operator"
    assert isinstance(parameters, list)
    assert field_names(verb, "airflow") - set(parameters) == set()


@needs_prefect
@verbs
def test_there_is_a_task_with_every_field(verb: str) -> None:
    assert field_names(verb, "prefect") - set(map(str, found_by(TASKS)[TASK_OF[verb]])) == set()


@needs_airflow
@needs_prefect
def test_there_are_no_operators_and_tasks_of_other_verbs() -> None:
    assert set(found_by(OPERATORS)) == set(OPERATIONS)
    assert set(found_by(TASKS)) == set(TASK_OF.values())


@verbs
def test_there_is_a_command(verb: str) -> None:
    import typer

    from dataset_tasks.cli.main import app

    command = typer.main.get_command(app()).commands[verb]  # type: ignore[attr-defined]  # a group has them
    assert command.help
    assert not command.hidden


@verbs
def test_there_is_a_page_that_names_every_field(verb: str) -> None:
    page = (ROOT / "docs" / "operations" / f"{verb}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {verb}\n")
    assert {name for name in field_names(verb) if f"`{name}`" not in page} == set()
