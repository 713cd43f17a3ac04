"""The provider's plugin: pages on datasets, lineage and approvals in Airflow's UI, and the timetables of specs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider.timetables import CronFromStartTimetable, EveryFromStartTimetable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PREFIX = "/dataset-tasks"


class _Pages:
    """The pages as an ASGI app that is made at its first request: every process of Airflow loads plugins, one serves them."""

    def __init__(self) -> None:
        self._app: Callable[..., Awaitable[None]] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: as ASGI has it
        if self._app is None:
            from airflow_provider.pages.app import make_app

            self._app = make_app()
        await self._app(scope, receive, send)


class DatasetTasksPlugin(AirflowPlugin):
    """Read by Airflow through the entry point `airflow.plugins`."""

    name = "dataset_tasks"
    fastapi_apps: list[Any] = [  # noqa: RUF012  # Any: as the base class says
        {"app": _Pages(), "url_prefix": _PREFIX, "name": "Dataset tasks"}
    ]
    external_views: list[Any] = [  # noqa: RUF012  # Any: as above
        {
            "name": "Datasets",
            "href": f"{_PREFIX}/",
            "destination": "nav",
            "category": "browse",
            "url_route": "datasets",
        },
        {
            "name": "Dataset approvals",
            "href": f"{_PREFIX}/approvals",
            "destination": "nav",
            "category": "browse",
            "url_route": "dataset-approvals",
        },
        {
            "name": "Datasets",
            "href": f"{_PREFIX}/dags/{{DAG_ID}}",
            "destination": "dag",
            "url_route": "dag-datasets",
        },
        {
            "name": "Dataset versions",
            "href": f"{_PREFIX}/dags/{{DAG_ID}}/runs/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "run-datasets",
        },
    ]
    timetables: list[Any] = [CronFromStartTimetable, EveryFromStartTimetable]  # noqa: RUF012  # Any: as above
