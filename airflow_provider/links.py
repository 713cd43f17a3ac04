"""Links from a task to the page of the version that it made or found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

from airflow_provider import settings

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class DatasetVersionLink(BaseOperatorLink):
    """The button `Dataset version` of a task instance.

    Airflow asks for it in the worker once the task is done, and keeps the answer; so it is made from what the operator
    remembers of its run.
    """

    name = "Dataset version"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address of the page; empty where the task has no version."""
        version_id = getattr(operator, "found_version", "")
        return settings.page_url(f"versions/{version_id}") if version_id else ""
