"""A session that records what it is asked, and the parts of a task's context that operators touch."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from dataset_tasks.ops.requests import OPERATIONS, Build, Publish, Request, Result

if importlib.util.find_spec("airflow") is None:
    collect_ignore_glob = ["test_*.py"]

CATALOG = "c" * 32
VERSION = "a" * 32


@dataclass
class Call:
    request: Request
    key: str | None
    origin: Mapping[str, Any]
    functions: Mapping[str, Callable[..., Any]]


@dataclass
class FakeSession:
    """Answers every request with a result of its verb, the fields given in `answers` filled in, or raises."""

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    #: Of the version that every look-up gives.
    partition: str | None = None

    @property
    def catalog(self) -> SimpleNamespace:
        version = SimpleNamespace(id=VERSION, partition=self.partition, label="crm/orders@1.0.0")
        return SimpleNamespace(id=CATALOG, version=lambda version_id: version)

    def run(
        self,
        request: Request,
        *,
        key: str | None = None,
        origin: Mapping[str, Any] | None = None,
        progress: object = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> Result:
        assert progress is not None
        self.calls.append(Call(request, key, origin or {}, functions or {}))
        if request.verb in self.errors:
            raise self.errors[request.verb]
        fields = {"catalog_id": CATALOG, "version_id": VERSION, "project": "crm", "name": "orders", "version": "1.0.0"}
        if request.verb == "approve":
            fields["state"] = "approved"  # an open question leaves the worker: the tests of approvals are about that
        return OPERATIONS[request.verb][1](**fields | self.answers.get(request.verb, {}))

    @property
    def build(self) -> Build:
        return next(call.request for call in self.calls if isinstance(call.request, Build))

    @property
    def published(self) -> list[Publish]:
        return [call.request for call in self.calls if isinstance(call.request, Publish)]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> FakeSession:
    from airflow_provider.hooks.dataset import DatasetHook

    fake = FakeSession()
    monkeypatch.setattr(DatasetHook, "get_session", lambda self: fake)
    return fake


class FakeTask(SimpleNamespace):
    """A task instance: its identity, and XCom as a dict of (task id, key)."""

    id = "00000000-0000-0000-0000-000000000001"

    def xcom_pull(self, *, task_ids: str, key: str) -> Any:
        return self.xcom.get((task_ids, key))

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.xcom[self.task_id, key] = value


@pytest.fixture(scope="session")
def serialized() -> Callable[[Any], Any]:
    """A DAG as the scheduler has it: written to JSON text and read again."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization as Serialization
    except ImportError:  # before 3.2
        from airflow.serialization.serialized_objects import SerializedDAG as Serialization

    return lambda dag: Serialization.from_dict(json.loads(json.dumps(Serialization.to_dict(dag))))


@pytest.fixture(scope="session")
def dag_bag() -> Callable[[object], Any]:
    """What Airflow finds in a file or a folder."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before 3.2
        from airflow.models.dagbag import DagBag

    return lambda place: DagBag(str(place))


@pytest.fixture
def context() -> dict[str, Any]:
    from airflow.sdk.execution_time.context import OutletEventAccessors

    return {
        "ti": FakeTask(dag_id="shop", run_id="manual__1", task_id="create", map_index=-1, try_number=2, xcom={}),
        "dag_run": SimpleNamespace(clear_number=0),
        "run_id": "manual__1",
        "params": {},
        "outlet_events": OutletEventAccessors(),
        "triggering_asset_events": {},
        "data_interval_start": None,
        "data_interval_end": None,
    }
