"""Running one request inside an Airflow task: key, provenance, errors, results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from airflow_provider.compat import AirflowFailException, AirflowSkipException
from dataset_tasks.errors import DatasetError
from dataset_tasks.progress import LogLines

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue
    from dataset_tasks.ops.requests import Request, Result
    from dataset_tasks.session import Session

#: How many items of a list in a result pass through XCom; the rest is in the task's log.
LISTED = 100
XCOM_RETURN_KEY = "return_value"


def operation_key(context: Context) -> str:
    """The key under which the catalog records what this task does: the same for every try.

    `airflow/<dag>/<run>/<task>/<map index>`, and how often the run was cleared where it was: a cleared task is done
    anew, a retried one goes on.
    """
    ti = context["ti"]
    key = f"airflow/{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index if ti.map_index is not None else -1}"
    cleared = getattr(context["dag_run"], "clear_number", 0)
    return f"{key}/{cleared}" if cleared else key


def origin(context: Context, *, step: str = "", spec_digest: str = "") -> dict[str, JsonValue]:
    """Where a version comes from: kept on each version that the task makes."""
    ti = context["ti"]
    facts: dict[str, JsonValue] = {
        "runner": "airflow",
        "dag_id": ti.dag_id,
        "run_id": ti.run_id,
        "task_id": ti.task_id,
        "try_number": ti.try_number,
        "map_index": ti.map_index if ti.map_index is not None else -1,
    }
    if step:
        facts["step"] = step
    if spec_digest:
        facts["spec_digest"] = spec_digest
    return facts


@contextmanager
def translated() -> Iterator[None]:
    """Tells Airflow not to retry what can't succeed by itself; message and hint stay.

    Raises:
        AirflowFailException: In place of a `DatasetError` that is not retryable.
    """
    try:
        yield
    except DatasetError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error


def perform(
    session: Session,
    request: Request,
    context: Context,
    *,
    facts: Mapping[str, JsonValue] | None = None,
) -> Result:
    """Runs a request under the task's key, its progress as lines of the task's log.

    Args:
        session: Where to run it.
        request: What to do.
        context: The task's.
        facts: Provenance; default `origin(context)`.

    Raises:
        DatasetError: As the operation says.
    """
    return session.run(
        request,
        key=operation_key(context),
        origin=facts if facts is not None else origin(context),
        progress=LogLines(),
    )


def small(result: Result) -> dict[str, JsonValue]:
    """The result as JSON for XCom, every field in it; of long lists the first `LISTED` items."""
    fields = {spec.name: getattr(result, spec.name) for spec in dataclasses.fields(result)}
    return {name: list(held[:LISTED]) if isinstance(held, tuple) else held for name, held in fields.items()}


def skip(payload: Mapping[str, JsonValue], context: Context) -> NoReturn:
    """Ends the task as skipped, its result still there for those that refer to it.

    Raises:
        AirflowSkipException: Always.
    """
    ti = context["ti"]
    for key, value in payload.items():
        ti.xcom_push(key=key, value=value)
    ti.xcom_push(key=XCOM_RETURN_KEY, value=dict(payload))
    raise AirflowSkipException(
        f"unchanged: {payload['project']}/{payload['name']}@{payload['version']}"
        + (f" ({payload['why']})" if payload.get("why") else "")
    )
