"""The Airflow task that is running right now: what `Dataset.create(use_current_task=True)` asks for."""

from __future__ import annotations

from airflow.sdk import get_current_context

from airflow_provider.running import operation_key


def current_task_key() -> str | None:
    """The operation key of the running task, the same for every try; None outside of one."""
    try:
        context = get_current_context()
    except RuntimeError:
        return None
    return operation_key(context)
