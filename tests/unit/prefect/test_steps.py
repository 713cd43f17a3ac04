"""Each block of a flow run has a step of its own, and the same one in each try."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.context import FlowRunContext, TaskRunContext

from dataset_tasks.errors import InvalidArgumentError
from prefect_blocks.steps import own_step


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the steps of some blocks that begin in one task run (or, without arguments, in the flow itself)."""
    flow_run = uuid4()

    @contextmanager
    def place(flow_try: int, task_run: int | None, task_try: int, arguments: Any) -> Iterator[None]:
        flow = SimpleNamespace(flow_run=SimpleNamespace(id=flow_run, run_count=flow_try))
        run = SimpleNamespace(id=UUID(int=task_run or 0), run_count=task_try)
        task = SimpleNamespace(task=SimpleNamespace(name="write"), task_run=run, parameters=arguments)
        with monkeypatch.context() as patch:
            patch.setattr(FlowRunContext, "get", classmethod(lambda cls: flow))
            patch.setattr(TaskRunContext, "get", classmethod(lambda cls: task if task_run else None))
            yield

    def begun(
        count: int = 1,
        *,
        flow_try: int = 1,
        task_run: int | None = None,
        task_try: int = 1,
        arguments: Any = None,
        step: str | None = None,
    ) -> list[str]:
        with place(flow_try, task_run, task_try, arguments):
            return [own_step("crm/orders", step) for _ in range(count)]

    return begun


def test_blocks_of_a_loop_are_numbered_and_numbers_begin_anew_with_each_try(begin: Any) -> None:
    assert begin(3) == ["crm/orders", "crm/orders#2", "crm/orders#3"]
    assert begin(2, flow_try=2) == ["crm/orders", "crm/orders#2"]


def test_arguments_of_the_task_tell_blocks_apart_whichever_begins_first(begin: Any) -> None:
    one = begin(task_run=1, arguments={"day": 1})
    two = begin(task_run=2, arguments={"day": 2})
    assert len({*one, *two, "crm/orders"}) == 3
    assert begin(flow_try=2, task_run=3, arguments={"day": 2}) == two
    assert begin(flow_try=2, task_run=4, arguments={"day": 1}) == one


def test_a_task_that_is_tried_again_has_its_step_and_one_with_the_same_arguments_another(begin: Any) -> None:
    first = begin(2, task_run=1, arguments={"day": 1})
    other = begin(2, task_run=2, arguments={"day": 1})
    assert len({*first, *other}) == 4
    assert begin(2, task_run=1, task_try=2, arguments={"day": 1}) == first
    assert begin(2, task_run=2, task_try=2, arguments={"day": 1}) == other


def test_a_step_of_the_users_own_is_for_one_block(begin: Any) -> None:
    assert begin(step="orders") == ["orders"]
    assert begin(flow_try=2, step="orders") == ["orders"]
    with pytest.raises(InvalidArgumentError, match="stands for another block") as caught:
        begin(flow_try=2, step="orders")
    assert "a step of its own" in caught.value.hint


def test_arguments_that_have_no_digest_do_not_mix_tasks_up(begin: Any) -> None:
    held = {"handle": (one for one in ())}
    assert begin(task_run=1, arguments=held) != begin(task_run=2, arguments=held)
