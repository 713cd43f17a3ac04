"""A session that answers every request, in place of a catalog, and a task run's context, in place of a server."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from dataset_tasks.ops.requests import OPERATIONS, Request, Result

if importlib.util.find_spec("prefect") is None:
    collect_ignore_glob = ["test_*.py"]

CATALOG = "c" * 32
VERSION = "a" * 32
FLOW_RUN = UUID(int=7)

InTask = Callable[..., AbstractContextManager[None]]


@dataclass
class FakeSession:
    """Answers every request with a result of its verb, the fields given in `answers` filled in, or raises."""

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[Request, dict[str, Any]]] = field(default_factory=list)
    catalog: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(id=CATALOG))

    def run(self, request: Request, **how: Any) -> Result:
        self.calls.append((request, how))
        fields = {"catalog_id": CATALOG, "version_id": VERSION, "project": "crm", "name": "orders", "version": "1.0.0"}
        return OPERATIONS[request.verb][1](**fields | self.answers.get(request.verb, {}))

    @property
    def request(self) -> Any:
        return self.calls[-1][0]

    @property
    def how(self) -> Mapping[str, Any]:
        return self.calls[-1][1]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    """What `catalog=DatasetCatalog(embedded=True)` opens in the test."""
    from prefect_blocks.blocks import DatasetCatalog

    fake = FakeSession()
    monkeypatch.setattr(DatasetCatalog, "session", lambda self: fake)
    monkeypatch.setenv("DATASET_TASKS_CATALOG", "embedded")
    return fake


@pytest.fixture
def in_task(monkeypatch: pytest.MonkeyPatch) -> InTask:
    """Makes code believe that it is in a task run of a flow run (or, with flow_run=None, of none)."""
    from prefect.context import FlowRunContext, TaskRunContext

    from prefect_blocks import checks, events, lineage, reports
    from prefect_blocks import running as blocks_running

    for module, shows in (
        (reports, "show_version"),
        (events, "tell"),
        (events, "make_up"),
        (lineage, "show_ancestors"),
        (checks, "check_of"),
    ):
        monkeypatch.setattr(module, shows, lambda *_, **__: None)
    monkeypatch.setattr(blocks_running, "get_run_logger", lambda: logging.getLogger("run"))

    @contextmanager
    def running(*, flow_run: UUID | None = FLOW_RUN, task_run: int = 1) -> Iterator[None]:
        task = SimpleNamespace(task_run=SimpleNamespace(id=UUID(int=task_run), flow_run_id=flow_run))
        flow = SimpleNamespace(flow=SimpleNamespace(name="nightly")) if flow_run else None
        with monkeypatch.context() as patch:
            patch.setattr(TaskRunContext, "get", classmethod(lambda cls: task))
            patch.setattr(FlowRunContext, "get", classmethod(lambda cls: flow))
            yield

    return running
