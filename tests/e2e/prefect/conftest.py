"""One Prefect server for all these tests, and a catalog for each."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from dataset_tasks.session import Session

if importlib.util.find_spec("prefect") is None:
    collect_ignore_glob = ["test_*.py"]
if TYPE_CHECKING:
    from prefect_blocks import DatasetCatalog

START_TIMEOUT = 120
#: Seconds until the server has taken in all that a run told it, on a busy machine.
SETTLE = 60.0
os.environ.update(
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=str(START_TIMEOUT), PREFECT_LOGGING_TO_CONSOLE="false"
)

T = TypeVar("T")


@pytest.fixture(scope="session")
def harness() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=START_TIMEOUT):
        yield


class Api:
    """What the server says."""

    def __init__(self) -> None:
        from prefect.client.orchestration import get_client

        self.client = get_client(sync_client=True)

    def find(self, what: str, **body: Any) -> list[dict[str, Any]]:
        answer = self.client.request("POST", f"/{what}/filter", json=body)  # type: ignore[arg-type]  # any path
        found = answer.json()
        return found["events"] if what == "events" else found

    def task_runs(self, flow_run: str, count: int) -> dict[str, dict[str, Any]]:
        """The task runs of a flow run by name, once there are so many and all have ended: states come in by and by."""

        def look() -> dict[str, dict[str, Any]] | None:
            runs = self.find("task_runs", flow_runs={"id": {"any_": [flow_run]}})
            ended = [one for one in runs if one["state"] and one["state"]["type"] in ENDED]
            return {one["name"]: one for one in ended} if len(ended) >= count else None

        return eventually(f"{count} ended task runs", look)

    def artifacts(self, key: str, flow_run: str) -> list[dict[str, Any]]:
        return self.find("artifacts", artifacts={"key": {"any_": [key]}, "flow_run_id": {"any_": [flow_run]}})

    def materialized(self, uri: str, count: int) -> list[dict[str, Any]]:
        """The materializations of an asset, the first one first, once there are so many."""
        name = {"prefix": ["prefect.asset.materialization"]}

        def look() -> list[dict[str, Any]] | None:
            found = self.find("events", filter={"event": name, "resource": {"id": [uri]}})
            return sorted(found, key=lambda one: one["occurred"]) if len(found) >= count else None

        return eventually(f"{count} materializations of {uri}", look)


ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def eventually(what: str, look: Callable[[], T | None]) -> T:
    from example_flows.demo.services import wait_for

    return wait_for(what, look, timeout=SETTLE, every=0.2)


@pytest.fixture
def api(harness: None) -> Api:
    return Api()


@pytest.fixture
def catalog(home: Path) -> DatasetCatalog:
    from prefect_blocks import DatasetCatalog

    return DatasetCatalog(embedded=True, home=str(home))


@pytest.fixture
def session(catalog: DatasetCatalog) -> Session:
    return catalog.session()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three small files."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.csv").write_text(f"a,{i}\n")
    return folder


def versions(session: Session) -> list[str]:
    """`name@version state` of every version, in the order they were made."""
    return [f"{one.name}@{one.version} {one.state}" for one in session.catalog.versions()]


def read_back(session: Session, ref: str) -> Mapping[str, str]:
    """The text of every file of a version, read from the store."""
    from dataset_tasks.ops.requests import GetCopy, GetCopyResult

    result = session.run(GetCopy(ref=ref))
    assert isinstance(result, GetCopyResult)
    folder = Path(result.folder)
    return {str(file.relative_to(folder)): file.read_text() for file in sorted(folder.rglob("*")) if file.is_file()}
