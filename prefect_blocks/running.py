"""What every dataset task has in common: session, operation key, provenance, retries, and how results end up in Prefect."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, cast
from uuid import uuid4

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.states import Completed
from prefect.tasks import Task, TaskOptions

from dataset_tasks.errors import CheckFailedError, DatasetError, InvalidArgumentError
from dataset_tasks.model import Input, JsonValue
from dataset_tasks.ops import references
from dataset_tasks.ops.requests import BuildResult, CheckResult, FinalizeResult, Request, Result
from dataset_tasks.ops.wire import to_json
from dataset_tasks.progress import SILENT, Progress, Watched
from prefect_blocks import checks, events, lineage, reports
from prefect_blocks.blocks import DatasetCatalog
from prefect_blocks.live import Run, RunProgress
from prefect_blocks.stopping import Stop
from prefect_blocks.stores import saved_store

if TYPE_CHECKING:
    from dataset_tasks.ops.references import Inputs, Ref
    from dataset_tasks.session import Session

#: A catalog block, the name of a saved one, or None: what the environment names.
Catalog: TypeAlias = DatasetCatalog | str | None
#: What a task returns: the fields of the operation's result.
Json: TypeAlias = dict[str, JsonValue]

#: Verbs that read or write many bytes.
_MOVES_BYTES = frozenset({"upload", "build", "squash", "get", "verify", "repack", "repair", "copy"})

UNCHANGED = "Unchanged"
TAG = "dataset-tasks"
#: How many items of a list in a result are passed on; the others are counted.
LISTED = 100

P = ParamSpec("P")
R = TypeVar("R")


class DatasetTask(Task[P, R]):
    """A Prefect task that may end in a named state and gives its data all the same, however it is called.

    Prefect's own task, called without `.submit`, would give the `State` object in place of the data.
    """

    if not TYPE_CHECKING:  # for type checkers the many overloads of Prefect's own methods stand

        def __call__(self, *args: Any, return_state: bool = False, **kwargs: Any) -> Any:  # Any: the task's own
            """Runs the task and gives its result, or its state where that is asked for."""
            given = super().__call__(*args, return_state=return_state, **kwargs)
            if isinstance(given, State) and not return_state:
                return given.result(_sync=True)
            return given

        def with_options(self, **options: Any) -> DatasetTask[P, R]:  # Any: as in Prefect's TaskOptions
            """The same task with other options; see Prefect's `Task.with_options`."""
            changed = copy(self)
            changed.__dict__.update(super().with_options(**options).__dict__)
            return changed


def may_retry(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:  # Any: Prefect's protocol
    """Whether the same call may succeed later: a `DatasetError` says so itself, any other error may."""
    error = state.data
    if is_worth_retrying(error):
        return True
    _log_error(error)
    return False


def is_worth_retrying(error: object) -> bool:
    """Whether the same call may succeed where it has failed with this."""
    return not isinstance(error, DatasetError) or error.retryable


def dataset_task_options(
    *,
    verb: str,
    name: str | None = None,
    run_name: str | Callable[..., str] | None = None,
    retries: int = 0,
    tags: Iterable[str] = (),
) -> TaskOptions:
    """The options all our tasks share: tags, no cache (the catalog knows what was done), retries by kind of error."""
    options = TaskOptions(
        tags={TAG, verb, *tags},
        cache_policy=NO_CACHE,
        retries=retries,
        retry_delay_seconds=[2, 10, 60],
        retry_jitter_factor=0.5,
        retry_condition_fn=may_retry,
    )
    if name is not None:
        options["name"] = name
    if run_name is not None:
        options["task_run_name"] = run_name
    return options


def find_catalog(catalog: Catalog) -> DatasetCatalog:
    """The block that a `catalog` argument means; the name of a store block means the environment's catalog with that store.

    Raises:
        InvalidArgumentError: None was given, and the environment names no catalog.
        ValueError: There is no saved block of the name (Prefect's error).
    """
    if catalog is None:
        return DatasetCatalog.from_environment()
    if isinstance(catalog, str):
        store = saved_store(catalog)
        if store is not None:
            return DatasetCatalog.from_environment().model_copy(update={"store": store})
        return cast("DatasetCatalog", DatasetCatalog.load(catalog, _sync=True))  # type: ignore[call-arg]  # as above
    return catalog


@dataclass(frozen=True, slots=True)
class Work:
    """One task run at work on a catalog: reads references, runs requests, shows what came of them.

    `step` names the operation within the flow run, `facts` are added to the provenance of versions, `limit` is the name of
    the concurrency limit that operations which move bytes take a slot of.
    """

    session: Session
    step: str | None = None
    facts: Mapping[str, JsonValue] = dataclasses.field(default_factory=dict)
    limit: str | None = None

    @classmethod
    def on(cls, catalog: Catalog, step: str | None = None, origin: Mapping[str, JsonValue] | None = None) -> Work:
        """Work on a catalog.

        Raises:
            InvalidArgumentError, ValueError: As `find_catalog`.
        """
        block = find_catalog(catalog)
        return cls(block.session(), step, origin or {}, block.limit())

    def ref(self, value: Ref) -> str:
        """One version, as text.

        Raises:
            InvalidArgumentError, WrongCatalogError: As `dataset_tasks.ops.references.reference`.
        """
        return references.reference(value, catalog_id=self._catalog_id(value))

    def refs(self, values: Ref | Iterable[Ref]) -> tuple[str, ...]:
        """One version or several, as text.

        Raises:
            InvalidArgumentError, WrongCatalogError: As `dataset_tasks.ops.references.reference`.
        """
        if isinstance(values, str | Mapping):
            return (self.ref(values),)
        return tuple(self.ref(value) for value in values)

    def inputs(self, values: Inputs | None) -> tuple[Input, ...]:
        """Versions to read, by name.

        Raises:
            InvalidArgumentError, WrongCatalogError: As `dataset_tasks.ops.references.inputs`.
        """
        return references.inputs(values, catalog_id=self.session.catalog.id if values else None)

    def run(self, request: Request) -> Json:
        """Runs a request under the key of this task run, and gives its result as JSON.

        Typed as the result, though an unchanged one is a state of that name around it: `DatasetTask` and futures unwrap.

        Raises:
            DatasetError: As the operation says.
        """
        return self.finish(self.result(request), sources=getattr(request, "refs", ()))

    def result(self, request: Request) -> Result:
        """Runs a request under the key of this task run, and shows nothing of what it made.

        Raises:
            DatasetError: As the operation says.
        """
        with reported_checks(self.session, request) as told, self.slot(request), stoppable() as progress:
            result = self.session.run(request, key=self.key(request), origin=self.origin(), progress=progress)
            told(result)
        return result

    def finish(self, result: Result, *, published: Result | None = None, sources: Iterable[str] = ()) -> Json:
        """Shows a new version as asset, artifact and event, and says "unchanged" by the name of the state.

        Args:
            result: What the operation gave.
            published: What publishing it gave, where that was part of the task.
            sources: References the version was made from, beside its parents and inputs.
        """
        payload = result_json(result)
        if TaskRunContext.get() is not None:
            events.make_up(self.session, result, published)
        if result.unchanged and (published is None or published.unchanged):
            return cast("Json", Completed(name=UNCHANGED, message=result.why or None, data=payload))
        if TaskRunContext.get() is not None:
            if not result.unchanged:
                reports.show_version(self.session, result, sources=sources)
                self._show_ancestors(result)
            events.tell(self.session, result, published)
        return payload

    def _show_ancestors(self, result: Result) -> None:
        """A spec's run has a page of its own, on all of its datasets."""
        if isinstance(result, FinalizeResult | BuildResult) and "spec" not in self.facts:
            lineage.show_ancestors(self.session, result.version_id)

    @contextmanager
    def slot(self, request: Request) -> Iterator[None]:
        """Waits for a slot of the store's concurrency limit, where there is one and the request moves bytes.

        Raises:
            InvalidArgumentError: Prefect has no limit of that name.
        """
        if self.limit is None or request.verb not in _MOVES_BYTES or TaskRunContext.get() is None:
            yield
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(concurrency(self.limit, strict=True))
            except ConcurrencySlotAcquisitionError as error:
                if error.__cause__ is not None:
                    raise  # Prefect's API is away: another try may do
                raise InvalidArgumentError(
                    f"Prefect has no concurrency limit {self.limit!r}, which the block of the catalog names",
                    hint=f"Make it: prefect gcl create {self.limit} --limit 2",
                ) from error
            yield

    def key(self, request: Request) -> str:
        """The operation key: the same for every try of the task, of the flow run, and on any worker.

        Without a `step` the request itself names the operation, so asking for just the same twice in one flow run is one
        operation. Outside of a run each call is a new operation.
        """
        context = TaskRunContext.get()
        if context is None:
            return f"call/{uuid4().hex}"
        run = context.task_run
        if run.flow_run_id is None:
            return f"prefect/task/{run.id}"
        return f"prefect/{run.flow_run_id}/{self.step or _step_of(request)}"

    def origin(self) -> dict[str, JsonValue]:
        """Where a version comes from."""
        facts: dict[str, JsonValue] = {"runner": "prefect"}
        task, flow = TaskRunContext.get(), FlowRunContext.get()
        if flow is not None and flow.flow is not None:
            facts["flow"] = flow.flow.name
        if task is not None:
            facts |= {"run_id": str(task.task_run.flow_run_id or ""), "task_run_id": str(task.task_run.id)}
        if self.step:
            facts["step"] = self.step
        return facts | dict(self.facts)

    def _catalog_id(self, value: object) -> str | None:
        return self.session.catalog.id if isinstance(value, Mapping) else None


@contextmanager
def stoppable() -> Iterator[Progress]:
    """Progress as lines of the run's log and, where work takes long, as an artifact; silent outside of a run.

    In a run that was told to stop, work in threads ends at the next piece that it reports, or soon after where it stands.
    """
    run = Run.current()
    try:
        log = get_run_logger() if run is not None else None
    except MissingContextError:
        log = None
    if run is None or log is None:
        yield SILENT
        return
    with Stop() as stop:
        yield Watched(RunProgress(log, run), stop.look)


@contextmanager
def reported_checks(session: Session, request: Request) -> Iterator[Callable[[Result], None]]:
    """Shows the report of a check that the request makes, also of one that fails; told the result inside."""
    asked = checks.check_of(session, request) if TaskRunContext.get() is not None else None

    def told(result: Result) -> None:
        if asked is not None and isinstance(result, CheckResult):
            checks.show_check(*asked, result.findings, result.notes)
        elif asked is not None and isinstance(result, BuildResult) and not result.unchanged:
            checks.show_check(*asked, *checks.parted(result.notes))

    try:
        yield told
    except CheckFailedError as error:
        if asked is not None:
            checks.show_check(*asked, error.findings, ())
        raise


def result_json(result: Result) -> Json:
    """The result as JSON, every field in it; of a long list the first `LISTED` items, and in `left_out` how many more."""
    payload: Json = {}
    left_out: dict[str, JsonValue] = {}
    for field in dataclasses.fields(result):
        held = getattr(result, field.name)
        if isinstance(held, tuple):
            if len(held) > LISTED:
                left_out[field.name] = len(held) - LISTED
            held = list(held[:LISTED])
        payload[field.name] = held
    return payload | {"left_out": left_out} if left_out else payload


def short_error(state: State[Any]) -> str:  # Any: whatever data the state carries
    """What went wrong, in a line, of a state that is not completed."""
    message = state.message or state.name or str(state.type.value)
    return message.removeprefix("Task run encountered an exception ").splitlines()[0]


def many(values: str | Iterable[str] | None) -> tuple[str, ...]:
    """One text or several as a tuple."""
    return () if values is None else (values,) if isinstance(values, str) else tuple(values)


def _step_of(request: Request) -> str:
    text = json.dumps(to_json(request), sort_keys=True, ensure_ascii=False)
    return f"{request.verb}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _log_error(error: object) -> None:
    """Prefect logs nothing of a failure that its task does not want to try again."""
    try:
        get_run_logger().error("not tried again: %s", error, exc_info=cast("Exception", error))
    except MissingContextError:
        return
