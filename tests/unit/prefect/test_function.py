"""`dataset_task` before anything runs, and what it asks the session for."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Input
from dataset_tasks.ops.requests import Build, Publish
from prefect_blocks import dataset_task, reports
from tests.unit.prefect.conftest import CATALOG, FLOW_RUN, VERSION, FakeSession, InTask

RESULT = {"version_id": VERSION, "catalog_id": CATALOG, "project": "crm", "name": "orders", "version": "1.0.0"}
NONE = dict.fromkeys(("inputs", "catalog", "step"))


@dataset_task("crm/features", inputs={"orders": "crm/orders@published"}, tags="gold", options={"retries": 4})
def features(inputs: Mapping[str, Path], output: Path, top: int = 10) -> None:
    """Makes features."""


def test_the_task_takes_the_functions_own_arguments_and_ours_by_keyword() -> None:
    parameters = inspect.signature(features.fn).parameters
    assert [*parameters] == ["top", "inputs", "catalog", "step"]
    assert {one.kind for one in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    assert parameters["top"].default == 10
    assert (features.name, features.fn.__doc__) == ("features", "Makes features.")
    assert features.fn.__module__ == __name__


def test_options_are_prefects_and_win_over_ours() -> None:
    assert features.retries == 4
    assert features.tags == {"dataset-tasks", "build", "gold"}


def test_a_call_builds_the_dataset_from_its_inputs_and_arguments(session: FakeSession, in_task: InTask) -> None:
    with in_task():
        result = features.fn(top=20, **NONE)
    build = session.request
    assert isinstance(build, Build)
    create, transform = build.stages[0].request, build.stages[1].request
    assert create.inputs == (Input(name="orders", ref="crm/orders@published"),)  # type: ignore[attr-defined]
    assert transform.arguments == {"top": 20}  # type: ignore[attr-defined]
    assert session.how["functions"].keys() == {transform.call}  # type: ignore[attr-defined]
    assert session.how["key"].startswith(f"prefect/{FLOW_RUN}/build-")
    assert result["version_id"] == VERSION


def test_inputs_of_a_call_win_over_those_declared(session: FakeSession) -> None:
    features.fn(top=1, **NONE | {"inputs": {"orders": RESULT, "old": "crm/orders@1.0.0"}})
    assert session.request.stages[0].request.inputs == (
        Input(name="orders", ref=VERSION),
        Input(name="old", ref="crm/orders@1.0.0"),
    )


def test_publishing_comes_after_the_build_and_is_asked_for(session: FakeSession, in_task: InTask) -> None:
    @dataset_task("crm/features", alias="prod")
    def published(inputs: Mapping[str, Path], output: Path) -> None: ...

    with in_task():
        published.fn(**NONE)
    (_, first), (second, how) = session.calls
    assert second == Publish(ref=VERSION, alias="prod")
    assert how["key"] == f"{first['key']}/publish"


@pytest.mark.parametrize(
    ("published_before", "state"),
    [(True, "Unchanged"), (False, None)],
)
def test_a_task_is_unchanged_only_when_publishing_had_nothing_to_do_either(
    session: FakeSession, published_before: bool, state: str | None
) -> None:
    @dataset_task("crm/features", publish=True)
    def published(inputs: Mapping[str, Path], output: Path) -> None: ...

    session.answers |= {"build": {"unchanged": True}, "publish": {"unchanged": published_before}}
    given: Any = published.fn(**NONE)
    assert getattr(given, "name", None) == state


def test_only_a_version_that_was_made_is_shown(
    session: FakeSession, in_task: InTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dataset_task("crm/features", publish=True)
    def published(inputs: Mapping[str, Path], output: Path) -> None: ...

    shown: list[object] = []
    for unchanged in (True, False):
        session.answers["build"] = {"unchanged": unchanged}
        with in_task():
            monkeypatch.setattr(reports, "show_version", lambda *given, **_: shown.append(given))
            published.fn(**NONE)
    assert len(shown) == 1


def test_functions_that_can_not_be_one_are_refused_where_they_are_written() -> None:
    with pytest.raises(InvalidArgumentError, match="expected \\('inputs', 'output'\\)"):

        @dataset_task("crm/a")
        def turned(output: Path, inputs: Mapping[str, Path]) -> None: ...

    with pytest.raises(InvalidArgumentError, match="asynchronous"):

        @dataset_task("crm/a")
        async def later(inputs: Mapping[str, Path], output: Path) -> None: ...

    with pytest.raises(InvalidArgumentError, match="can't have arguments 'catalog', 'more'"):

        @dataset_task("crm/a")
        def taken(inputs: Mapping[str, Path], output: Path, catalog: str, **more: int) -> None: ...

    with pytest.raises(InvalidArgumentError, match="needs the dataset"):

        @dataset_task  # type: ignore[arg-type]
        def bare(inputs: Mapping[str, Path], output: Path) -> None: ...

    with pytest.raises(InvalidArgumentError, match="not a reference"):
        dataset_task("features")
