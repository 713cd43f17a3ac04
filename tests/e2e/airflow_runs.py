"""What the tests with a real Airflow ask of it, and of the catalog of its tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataset_tasks.model import Version
from dataset_tasks.session import Session

HERE = Path(__file__).parent
#: Of Airflow, as `SECTION__NAME`.
SETTINGS = {
    "CORE__TEST_CONNECTION": "Enabled",
    "CORE__PARALLELISM": "6",
    "DATASET_TASKS__POLL_INTERVAL": "2",
    "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
}


def content(session: Session, version: Version) -> list[str]:
    """The paths of a version."""
    return [
        entry.decode()
        for batch in session.manifest(version).batches(columns=["path"])
        for entry in batch["path"].to_pylist()
    ]


def versions(session: Session, project: str) -> dict[str, list[Version]]:
    """The versions of a project by dataset, oldest first."""
    found: dict[str, list[Version]] = defaultdict(list)
    for version in session.catalog.versions(project=project):
        found[version.name].append(version)
    return found


def run(airflow: Any, dag: str, name: str, conf: Path | Mapping[str, Any], **options: Any) -> dict[str, str]:
    """The states of a run's tasks, once it has ended."""
    airflow.unpause(dag)
    given = {"folder": str(conf)} if isinstance(conf, Path) else dict(conf)
    airflow.trigger(dag, name, conf=given, **options)
    airflow.wait_for_run(dag, name)
    found: dict[str, str] = airflow.states(dag, name)
    return found


def ended(airflow: Any, dag: str, count: int) -> list[Any] | None:
    """The ended runs of a DAG, when there are so many."""
    runs = [one for one in airflow.runs(dag) if one["state"] in ("success", "failed")]
    return runs if len(runs) >= count else None


def publishes(session: Session, version: Version) -> int:
    """How many publish events the catalog holds of a version."""
    return [event.kind for event in session.catalog.events(version_id=version.id)].count("published")
