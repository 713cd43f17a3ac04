"""The pages on the operations name what there is, and nothing that is not. Their examples are run by test_tutorial."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from dataset_tasks import errors
from dataset_tasks.cli.command import _COMMON
from dataset_tasks.cli.main import app
from dataset_tasks.ops.requests import OPERATIONS, Result

PAGES = Path(__file__).resolve().parents[2] / "docs" / "operations"
VERSION = "0123456789abcdef0123456789abcdef"

verbs = pytest.mark.parametrize("verb", list(OPERATIONS))


def page(verb: str) -> str:
    return (PAGES / f"{verb}.md").read_text(encoding="utf-8")


def quoted(text: str) -> set[str]:
    """What stands in backquotes."""
    return set(re.findall(r"`([^`\n]+)`", text))


def section(verb: str, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page(verb), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def python_blocks(verb: str, package: str) -> list[str]:
    blocks = re.findall(r"^```python\n(.*?)^```", page(verb), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if f"from {package}" in block]


def own_flags(verb: str) -> set[str]:
    """The options of a command, without those that every command has."""
    command = typer.main.get_command(app()).commands[verb]  # type: ignore[attr-defined]  # a group has them
    own = (p for p in command.params if p.param_type_name == "option" and p.name not in {*_COMMON, "help"})
    return {flag for param in own for flag in (*param.opts, *param.secondary_opts) if flag.startswith("--")}


def test_every_operation_has_a_page_and_every_page_an_operation() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == sorted(OPERATIONS)


@verbs
def test_the_page_names_every_field_of_the_result(verb: str) -> None:
    own = set(OPERATIONS[verb][1].__slots__) - set(Result.__slots__)
    assert {field for field in own if f"`{field}`" not in page(verb)} == set()


@verbs
def test_the_page_names_every_flag_and_only_flags_that_are_there(verb: str) -> None:
    before_example = page(verb).partition("## Example")[0]
    named = {flag for text in quoted(before_example) for flag in re.findall(r"--[a-z-]+", text)}
    assert own_flags(verb) - named == set()
    known = own_flags(verb) | {"--store"}
    assert named - known == set()


@verbs
def test_the_page_names_every_error_that_the_operation_raises(verb: str) -> None:
    run = importlib.import_module(f"dataset_tasks.ops.{verb}").run
    raised = set(re.findall(r"^ {4,}(\w+Error):", inspect.getdoc(run) or "", re.MULTILINE))
    table = section(verb, "Errors")
    named = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert raised - named == set()
    assert [name for name in named if not hasattr(errors, name)] == []
    rows = re.findall(r"^\| `\w+` \|([^|]+)\|([^|]+)\|", table, re.MULTILINE)
    assert len(rows) == len(named)
    assert all(when.strip() and then.strip() for when, then in rows)


@verbs
def test_the_methods_it_names_are_there_with_these_arguments(verb: str) -> None:
    from dataset_tasks.dataset import Dataset

    calls = re.findall(r"`Dataset\.(\w+)\(([^)`]*)\)`", page(verb))
    for method, arguments in calls:
        known = inspect.signature(getattr(Dataset, method)).parameters
        named = [word for word in re.split(r",\s*", arguments) if word and word != "..."]
        assert [word for word in named if word not in known] == []
    assert calls or f"`session.run({OPERATIONS[verb][0].__name__}(...))`" in page(verb)


@pytest.mark.skipif(importlib.util.find_spec("airflow") is None, reason="pip install dataset-tasks[airflow]")
@verbs
def test_its_operator_can_be_made_as_shown(verb: str) -> None:
    (block,) = python_blocks(verb, "airflow_provider")
    assert f"`Dataset{verb.capitalize()}Operator`" in page(verb)
    names: dict[str, Any] = {"draft": VERSION, "version": VERSION}
    exec(block, names)
    from dataset_tasks.ops.requests import Request

    made = [value for value in names.values() if type(value).__name__ == f"Dataset{verb.capitalize()}Operator"]
    assert len(made) == 1
    assert issubclass(made[0].operation, Request)
    assert made[0].operation.verb == verb


@pytest.mark.skipif(importlib.util.find_spec("prefect") is None, reason="pip install dataset-tasks[prefect]")
@verbs
def test_its_task_takes_the_arguments_shown(verb: str) -> None:
    tasks = importlib.import_module("prefect_blocks.tasks")
    (block,) = python_blocks(verb, "prefect_blocks")
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name)]
    assert len(named) == 1
    call = named[0]
    assert isinstance(call.func, ast.Name)
    assert f"`{call.func.id}`" in page(verb)
    keywords = {word.arg: None for word in call.keywords if word.arg is not None}
    inspect.signature(getattr(tasks, call.func.id).fn).bind(*call.args, **keywords)


def test_the_page_on_the_command_line_names_every_verb_and_every_exit_code() -> None:
    from dataset_tasks.cli.command import Exit

    text = (PAGES.parent / "command-line.md").read_text(encoding="utf-8")
    group = typer.main.get_command(app())
    for name, command in group.commands.items():  # type: ignore[attr-defined]  # a group has them
        verbs_of_it = [f"{name} {sub}" for sub in getattr(command, "commands", {})] or [name]
        assert [verb for verb in verbs_of_it if f"`{verb}`" not in text] == []
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == [int(code) for code in Exit]
