"""`dataset_version`: write, audit, publish inside of any flow.

The block writes to a folder. At its end, tasks add what is in it, check it, store it, finalize and publish the version;
nobody sees it before. When the block or one of those tasks fails, or the run is told to end, the draft is dropped. After a
kill nothing can be done at once: the draft goes when the same run is tried again, or with the next run of the dataset.
"""

from __future__ import annotations

import functools
import inspect
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, cast

from prefect.logging import get_logger
from prefect.transactions import Transaction, get_transaction, transaction

from dataset_tasks.errors import DatasetError, InvalidArgumentError
from dataset_tasks.model import Input, JsonValue, State
from dataset_tasks.ops.function_build import dataset_parts
from dataset_tasks.ops.references import Inputs, Ref
from dataset_tasks.ops.requests import Create, Delete
from prefect_blocks import tasks
from prefect_blocks.blocks import DatasetCatalog
from prefect_blocks.running import Catalog, Json, Work, find_catalog, many
from prefect_blocks.steps import own_step
from prefect_blocks.stopping import Stop
from prefect_blocks.tasks.base import operation

if TYPE_CHECKING:
    from dataset_tasks.report import Logger
    from dataset_tasks.session import Session

#: In the origin of a draft: it was made here, so the next run of its dataset may drop it once its run is dead.
MADE_BY: Final = "made_by"
OURS: Final = "dataset_version"
#: Seconds between two signs of life of a draft's run, and without one until it is taken for dead.
BEAT: Final = 15.0
DEAD: Final = 90.0
_DRAFT: Final = "dataset_tasks.draft"

_log = get_logger("dataset_tasks")
_sessions: dict[str, Session] = {}


@dataclass(slots=True, kw_only=True)
class OpenVersion:
    """A version that is being written.

    Attributes:
        dataset: `project/name`.
        id: Of the draft.
        output: An empty folder; what is in it at the end of the block is added.
        inputs: Read-only folders by name.
        metadata: JSON values kept with the version; the block may add to it.
        result: The fields of the last operation's result, once the block has ended. `unchanged` says that no version was
            made because an earlier one, whose id is in it, holds just this.
    """

    dataset: str
    id: str
    output: Path
    inputs: Mapping[str, Path]
    metadata: dict[str, JsonValue] = field(default_factory=dict)
    result: Json = field(default_factory=dict)
    _session: Session

    @property
    def logger(self) -> Logger:
        """Reports about the version: numbers, tables, images; shown as artifacts of the run, too."""
        from dataset_tasks.report import Logger

        return Logger(self._session, self.id)


class dataset_version:  # noqa: N801  # used like a function, as `contextlib.suppress` is
    r"""Makes the next version of a dataset from what a block, or a decorated function, writes to a folder.

    As a decorator it takes the place of the block: the function gets the `OpenVersion` first and its own arguments after
    it, and calling it gives the result. A dict that it returns becomes metadata.

    Args:
        dataset: `project/name`.
        inputs: Versions to read: references or results of tasks; a list, or a mapping by name.
        parents: Versions whose content the new one starts with, the last wins.
        previous: Whether it starts from the content of the dataset's last good version.
        check: Gates on the content, the fields of `check_dataset`: `{"min_files": 1}`.
        verify: Whether the version is read back from the store before it is published.
        publish: Whether the version is published.
        alias: A name that moves with each publish, such as `prod`; publishes too.
        tags: Of the version.
        description: Of the version.
        metadata: JSON kept with the version.
        dataset_path: Folder of the version that takes the output.
        store: URL of the store; default the catalog block's.
        catalog: A block, the name of a saved one, or None: what the environment names.
        step: The block's name within the flow run, the same in each try of it. Default: the dataset, the arguments of the task
            that the block is in, and which of several such blocks it is.

    Raises:
        InvalidArgumentError: `dataset` is not `project/name`; when it begins, that another block of the run has its `step`.

    Example::

        @flow
        def nightly():
            with dataset_version("crm/orders", check={"min_files": 1}, alias="prod") as version:
                (version.output / "orders.csv").write_text("id,total\n1,10\n")
            return version.result
    """

    def __init__(
        self,
        dataset: str,
        *,
        inputs: Inputs | None = None,
        parents: Sequence[Ref] | Ref = (),
        previous: bool = False,
        check: Mapping[str, JsonValue] | None = None,
        verify: bool = False,
        publish: bool = False,
        alias: str | None = None,
        tags: str | Iterable[str] = (),
        description: str = "",
        metadata: Mapping[str, JsonValue] | None = None,
        dataset_path: str | None = None,
        store: str | None = None,
        catalog: Catalog = None,
        step: str | None = None,
    ) -> None:
        self._dataset = dataset
        self._project, self._name = dataset_parts(dataset)
        self._inputs, self._parents, self._previous = inputs, parents, previous
        self._check, self._verify = check, verify
        self._publish, self._alias = publish or alias is not None, alias
        self._tags, self._description, self._metadata = many(tags), description, dict(metadata or {})
        self._dataset_path, self._store = dataset_path, store
        self._catalog, self._step = catalog, step
        self._running: AbstractContextManager[OpenVersion] | None = None

    def __enter__(self) -> OpenVersion:
        if self._running is not None:
            raise InvalidArgumentError(
                f"{self._dataset}: this block is open already", hint="Make a `dataset_version` for each block."
            )
        self._running = self._writing()
        return self._running.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._running is not None
        running, self._running = self._running, None
        return running.__exit__(kind, error, trace)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:  # Any: the user's own function
        """Makes a function of a function that writes a version; its first argument is filled in."""
        signature = inspect.signature(function)
        own = list(signature.parameters.values())
        if not own:
            raise InvalidArgumentError(
                f"{self._dataset}: {function.__qualname__} takes no version to write",
                hint=f"Write `def {function.__name__}(version, ...)`, and write to `version.output`.",
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def later(*args: Any, **kwargs: Any) -> Json:  # Any: the function's own arguments
                with self._writing() as version:
                    _keep(version, await function(version, *args, **kwargs))
                return version.result

            made: Callable[..., Any] = later
        else:

            @functools.wraps(function)
            def now(*args: Any, **kwargs: Any) -> Json:  # Any: as above
                with self._writing() as version:
                    _keep(version, function(version, *args, **kwargs))
                return version.result

            made = now
        made.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what Prefect reads parameters from
            parameters=own[1:], return_annotation=inspect.Signature.empty
        )
        return made

    @contextmanager
    def _writing(self) -> Iterator[OpenVersion]:
        from dataset_tasks.ops import scratch

        catalog = find_catalog(self._catalog)
        session = catalog.session()
        step = own_step(self._dataset, self._step)
        with transaction():
            begun = begin_version(
                self._name,
                self._project,
                parents=self._parents,
                inputs=self._inputs,
                previous=self._previous,
                tags=self._tags,
                description=self._description,
                metadata=self._metadata,
                store=self._store,
                catalog=catalog,
                step=f"{step}.create",
            )
            draft = session.catalog.version(str(begun["version_id"]))
            with _heartbeat(session, draft.id):
                version = OpenVersion(
                    dataset=self._dataset,
                    id=draft.id,
                    output=scratch.fresh(session, draft, "output"),
                    inputs={one.name: self._copy(one, catalog, step) for one in draft.inputs},
                    metadata=dict(self._metadata),
                    _session=session,
                )
                with Stop():
                    yield version
                version.result = self._finish(version, catalog, step)
            scratch.clear(session, draft)
            _sessions.pop(draft.id, None)

    def _copy(self, one: Input, catalog: DatasetCatalog, step: str) -> Path:
        copy = tasks.get_copy(one.ref, files=many(one.files), catalog=catalog, step=f"{step}.input.{one.name}")
        return Path(str(copy["folder"]))

    def _finish(self, version: OpenVersion, catalog: DatasetCatalog, step: str) -> Json:
        """Adds, checks, stores, finalizes, verifies and publishes, each as a task."""

        def named(verb: str) -> dict[str, Any]:  # Any: typed by each task
            return {"catalog": catalog, "step": f"{step}.{verb}"}

        if version.metadata != self._metadata:
            version._session.change(version.id, lambda now: {"metadata": {**now.metadata, **version.metadata}})  # noqa: SLF001
        tasks.add_files(version.id, str(version.output), dataset_path=self._dataset_path, **named("add"))
        if self._check is not None:
            gates = cast("Any", self._check)  # Any: fields of the check
            tasks.check_dataset(version.id, **gates, **named("check"))
        tasks.upload_dataset(version.id, **named("upload"))
        final: Json = tasks.finalize_dataset(version.id, **named("finalize"))
        if self._verify and not final["unchanged"]:
            tasks.verify_dataset(final, quarantine=True, **named("verify"))
        if not self._publish:
            return final
        published = tasks.publish_dataset(final, alias=self._alias, **named("publish"))
        return {**final, "unchanged": bool(final["unchanged"] and published["unchanged"]), "alias": self._alias}


@operation(Create)
def begin_version(
    name: str,
    project: str,
    parents: Sequence[Ref] | Ref = (),
    inputs: Inputs | None = None,
    previous: bool = False,
    tags: Sequence[str] = (),
    description: str = "",
    metadata: Mapping[str, JsonValue] | None = None,
    store: str | None = None,
    catalog: Catalog = None,
    step: str | None = None,
) -> Json:
    """Makes the draft of a block, and drops what dead runs left of the dataset. Rolled back, it drops the draft.

    A draft that an earlier, killed try of the same flow run filled in part is dropped for an empty one.

    Args:
        name: Of the dataset.
        project: Of the dataset.
        parents: Final versions whose content it inherits.
        inputs: Versions that the block reads.
        previous: Whether it starts from the dataset's own last good version.
        tags: Of the version.
        description: Of the version.
        metadata: Of the version.
        store: URL of the store.
        catalog: See `prefect_blocks.tasks`.
        step: See `prefect_blocks.tasks`.

    Returns:
        The fields of `CreateResult`.

    Raises:
        StateError, NotFoundError: As `create_dataset`.
    """
    work = Work.on(catalog, step, {MADE_BY: OURS})
    session = work.session
    request = Create(
        name=name,
        project=project,
        parents=work.refs(parents),
        inputs=work.inputs(inputs),
        previous=previous,
        tags=many(tags),
        description=description,
        metadata=dict(metadata or {}),
        store=store,
        skip_unchanged=True,
    )
    drop_dead_drafts(session, project, name)
    recorded = session.catalog.recorded(work.key(request))
    if recorded is not None and session.catalog.version(recorded.version_id).state is State.IN_PROGRESS:
        session.run(Delete(ref=recorded.version_id))
    result = work.run(request)
    draft = str(result["version_id"])
    _sessions[draft] = session
    active = get_transaction()
    if active is not None:
        active.set(_DRAFT, draft)
    return result


@begin_version.on_rollback
def _drop(txn: Transaction) -> None:
    """Drops the draft that the transaction made; a version that is final by now stays, others may have read it."""
    draft = txn.get(_DRAFT, None)
    session = _sessions.pop(str(draft), None)
    if session is None:
        return
    if session.catalog.version(str(draft)).state is State.IN_PROGRESS:
        session.run(Delete(ref=str(draft)))


def drop_dead_drafts(session: Session, project: str, name: str) -> list[str]:
    """Drops the drafts of a dataset that blocks of dead runs left, and gives their ids."""
    dropped = []
    for version in session.catalog.versions(project=project, name=name):
        is_ours = version.state is State.IN_PROGRESS and version.origin.get(MADE_BY) == OURS
        if not is_ours or not session.catalog.is_forsaken(version.id, seconds=DEAD):
            continue
        _log.warning("%s is dropped: its run has not been heard of since", version.label)
        session.run(Delete(ref=version.id))
        dropped.append(version.id)
    return dropped


@contextmanager
def _heartbeat(session: Session, version_id: str) -> Iterator[None]:
    """Says every `BEAT` seconds that the draft's run lives, by a lease that keeps nobody out: it has run out already."""
    holder = secrets.token_hex(16)
    ended = threading.Event()

    def beat() -> None:
        try:
            session.catalog.take_lease(version_id, holder, seconds=0.0, origin={"runner": "prefect"})
        except DatasetError as error:  # another writer's turn, or the catalog is away: the next beat may do
            _log.debug("no sign of life for %s: %s", version_id, error)

    def go_on() -> None:
        while not ended.wait(BEAT):
            beat()

    beat()
    thread = threading.Thread(target=copy_context().run, args=(go_on,), daemon=True, name="dataset-version-heartbeat")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _keep(version: OpenVersion, given: object) -> None:
    if isinstance(given, Mapping):
        version.metadata |= given
