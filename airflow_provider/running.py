"""Running one request inside an Airflow task: key, provenance, errors, results."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from airflow.sdk.exceptions import AirflowRuntimeError

from airflow_provider.compat import AirflowFailException, AirflowSkipException
from dataset_tasks.errors import DatasetError
from dataset_tasks.progress import LogLines, Progress, Task

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue
    from dataset_tasks.ops.requests import Request, Result
    from dataset_tasks.session import Session

_log = logging.getLogger("dataset_tasks")
#: How many items of a list in a result pass through XCom; the rest is in the task's log.
LISTED = 100
XCOM_RETURN_KEY = "return_value"


def operation_key(context: Context) -> str:
    """The key under which the catalog records what this task does: the same for every try.

    `airflow/<dag>/<run>/<task>/<map index>/<begun>/<last try>`. `<begun>` is when the run began: one that was deleted and
    made again has the same id. `<last try>` is the number of the last try that the task may make. It stays through
    retries; when the task is cleared Airflow sets it to the tries until then and those it may make from then on. So a
    retried task goes on, and a cleared one is done anew. (The run's count of clearings will not do: it goes up for all
    tasks when one of them is cleared.) What this Airflow does not say is left out.
    """
    ti, dag_run = context["ti"], context["dag_run"]
    key = f"airflow/{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.map_index if ti.map_index is not None else -1}"
    begun = getattr(dag_run, "start_date", None)
    if begun is not None:
        key += f"/{begun.astimezone(UTC):%Y%m%dT%H%M%S.%f}"
    last_try = getattr(ti, "max_tries", None)
    return f"{key}/{last_try}" if last_try is not None else key


@dataclasses.dataclass(frozen=True, slots=True)
class TaskOfKey:
    """The task that recorded an operation, as its key says."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    def state(self) -> str | None:
        """Its state, as the server knows it; None where this Airflow has no such task. For workers and triggerers."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        runs = RuntimeTaskInstance.get_task_states(
            dag_id=self.dag_id,
            task_ids=[self.task_id],
            run_ids=[self.run_id],
            map_index=self.map_index,
        )
        name = self.task_id if self.map_index < 0 else f"{self.task_id}_{self.map_index}"
        states = runs.get(self.run_id, {})
        return states[name] or "none" if name in states else None


def task_of(key: str) -> TaskOfKey | None:
    """The task of an operation's key; None where it is of no Airflow task. Names in Airflow hold no slash.

    >>> task_of("airflow/crm/monday/orders.publish/-1/publish").task_id
    'orders.publish'
    >>> task_of("prefect/crm/monday/orders.publish")
    """
    match key.split("/"):
        case ["airflow", dag_id, run_id, task_id, map_index, *_]:
            return TaskOfKey(dag_id, run_id, task_id, int(map_index))
    return None


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
    url = getattr(ti, "log_url", "")
    if url:
        facts["url"] = url
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
        progress=progress_of(context),
    )


def progress_of(context: Context) -> Progress:
    """Progress as lines of the task's log; kept for the next try too where Airflow has a state store (3.3)."""
    store = context.get("task_state_store")
    return KeptProgress(cast("StateStore", store), context["ti"].try_number) if store is not None else LogLines()


class StateStore(Protocol):
    """The part of Airflow's task state store that is used here."""

    def get(self, key: str, default: JsonValue = None) -> JsonValue:
        """What is kept under a key."""

    def set(self, key: str, value: JsonValue) -> None:
        """Keeps it."""


class KeptProgress(LogLines):
    """Log lines, and how far each piece of long work has come in the task's state store.

    What lets a retry go on are the chunks that the catalog has recorded; this tells the reader of its log how far the try
    before it came, and Airflow's pages how far this one is.

    Args:
        store: Of the task.
        try_number: Which try this is.
        every: Seconds between two lines, and between two writes.
    """

    def __init__(self, store: StateStore, try_number: int, *, every: float = 10.0) -> None:
        super().__init__(every)
        self._store = store
        self._try_number = try_number

    @contextmanager
    def task(self, title: str, *, files: int | None = None, bytes: int | None = None) -> Iterator[Task]:
        """One piece of work; see `Progress`."""
        key = f"progress: {title}"
        before = self._store.get(key)
        if isinstance(before, Mapping) and before.get("try") != self._try_number:
            self.log.info("%s: try %s came to %s files", title, before["try"], before["files"])
        with super().task(title, files=files, bytes=bytes) as lines:
            kept = _KeptTask(lines, self._store, key, self._try_number, self.every)
            try:
                yield kept
            finally:
                kept.keep()


class _KeptTask:
    def __init__(self, lines: Task, store: StateStore, key: str, try_number: int, every: float) -> None:
        self._lines, self._store, self._key, self._every = lines, store, key, every
        self._held: dict[str, JsonValue] = {"try": try_number}
        self._files = self._bytes = 0
        self._kept = -math.inf  # the first step of a try is kept at once: it may be killed before the next is due
        self._lock = threading.Lock()

    def advance(self, *, files: int = 0, bytes: int = 0) -> None:
        self._lines.advance(files=files, bytes=bytes)
        with self._lock:
            self._files += files
            self._bytes += bytes
            due = time.monotonic() - self._kept >= self._every
            if due:
                self._kept = time.monotonic()
        if due:
            self.keep()

    def total(self, *, files: int | None = None, bytes: int | None = None) -> None:
        self._lines.total(files=files, bytes=bytes)
        self._held |= {"of": files} if files is not None else {}

    def keep(self) -> None:
        """Writes it down; a server that does not take it must not fail the work."""
        held = {**self._held, "files": self._files, "bytes": self._bytes}
        try:
            self._store.set(self._key, held)
        except AirflowRuntimeError as error:
            _log.warning("progress was not kept: %s", error)


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
