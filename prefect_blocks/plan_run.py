"""One run of a compiled spec inside a flow run: each step is submitted as soon as all it needs has ended."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from queue import SimpleQueue
from typing import Any, Final, assert_never, cast

from prefect import allow_failure
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed

from dataset_tasks.ops.requests import (
    AddExternal,
    AddFiles,
    AnyRequest,
    Approve,
    Build,
    Check,
    Create,
    Delete,
    Finalize,
    GetCopy,
    Publish,
    RemoveFiles,
    Request,
    Squash,
    SyncFolder,
    Transform,
    Upload,
    Verify,
)
from dataset_tasks.spec.plan import Plan, PlannedDataset, Scope, Step, bind, lookup, placeholders_of
from prefect_blocks import reports, tasks
from prefect_blocks.approvals import Question, Questions
from prefect_blocks.batches import Parts, batched, run_parts
from prefect_blocks.blocks import DatasetCatalog
from prefect_blocks.running import (
    TAG,
    UNCHANGED,
    Catalog,
    DatasetTask,
    Json,
    dataset_task_options,
    find_catalog,
    short_error,
)

SKIPPED: Final = "Skipped"


def task_of(request: Request) -> DatasetTask[..., Json]:
    """The task that runs the request of a step; its parameters are the request's fields."""
    return run_parts if isinstance(request, Parts) else task_of_operation(cast("AnyRequest", request))


def task_of_operation(request: AnyRequest) -> DatasetTask[..., Json]:
    """The task that runs an operation that a spec may hold."""
    match request:
        case Create():
            return tasks.create_dataset
        case AddFiles():
            return tasks.add_files
        case AddExternal():
            return tasks.add_external_files
        case SyncFolder():
            return tasks.sync_folder
        case RemoveFiles():
            return tasks.remove_files
        case Transform():
            return tasks.transform_dataset
        case Check():
            return tasks.check_dataset
        case Upload():
            return tasks.upload_dataset
        case Finalize():
            return tasks.finalize_dataset
        case Build():
            return tasks.build_dataset
        case Approve():
            return tasks.approve_dataset
        case Publish():
            return tasks.publish_dataset
        case Squash():
            return tasks.squash_datasets
        case Verify():
            return tasks.verify_dataset
        case GetCopy():
            return tasks.get_copy
        case Delete():
            return tasks.delete_dataset
        case _:
            assert_never(request)


def end_at_once(name: str, message: str, data: Json | None = None) -> State[Json | None]:
    """What the task run of a step does that has nothing to do: it ends in a state of that name."""
    if name == SKIPPED:
        return Cancelled(name=name, message=message)
    return Completed(name=name, message=message, data=data)


@dataclass(slots=True)
class PlanRun:
    """A run of `plan`; everything in it belongs to the flow's thread, but for the queue of ended steps.

    `catalog` is for all steps, `tags` are of all task runs, `scope` is what the flow run knows, `batch` is how many parts of a
    dataset a task run takes (None: what the spec says).
    """

    plan: Plan
    catalog: Catalog
    tags: frozenset[str]
    scope: Scope
    batch: int | None = None
    ended: SimpleQueue[str] = field(default_factory=SimpleQueue)
    steps: dict[str, Step] = field(default_factory=dict)
    datasets: dict[str, PlannedDataset] = field(default_factory=dict)
    catalogs: dict[str, DatasetCatalog] = field(default_factory=dict)
    #: A state of what ended at once.
    futures: dict[str, PrefectFuture[Any] | State[Any]] = field(default_factory=dict)  # Any: results of any task
    results: dict[str, Json] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    #: For each step that is not run, the one whose failure is the reason.
    skipped: dict[str, str] = field(default_factory=dict)
    #: Steps whose question is open.
    asked: set[str] = field(default_factory=set)
    questions: Questions | None = None

    def run(self) -> dict[str, Json]:
        """Runs all steps and gives the result of each dataset by key.

        Raises:
            InvalidArgumentError: A placeholder has no value in this run; nothing was made.
            Exception: What the first step that failed raised, once all others have ended.
        """
        self.plan = batched(self.plan, self.batch)
        self.steps = {step.id: step for step in self.plan.steps}
        self.datasets = {dataset.key: dataset for dataset in self.plan.datasets}
        for step in self.plan.steps:
            for placeholder in sorted(placeholders_of(step.request)):
                lookup(placeholder, self.scope)
        self._find_catalogs()
        order = TopologicalSorter({step.id: step.needs for step in self.plan.steps})
        order.prepare()
        while order.is_active():
            for step_id in order.get_ready():
                self._start(self.steps[step_id])
            ended = self.ended.get()
            if self._take(ended):
                order.done(ended)
        self._show()
        for failed in self.errors:
            self._raise(failed)
        return {dataset.key: self.results[dataset.version_step] for dataset in self.plan.datasets}

    # --- beginning ----------------------------------------------------------------------------------------------

    def _find_catalogs(self) -> None:
        """Looks each block up once for the whole run, so that all steps of a run work on the same."""
        found: dict[str | None, DatasetCatalog] = {}
        for dataset in self.plan.datasets:
            named = self.catalog or dataset.connection or self.plan.connection
            if isinstance(named, DatasetCatalog):
                self.catalogs[dataset.key] = named
                continue
            if named not in found:
                found[named] = find_catalog(named)
            self.catalogs[dataset.key] = found[named]

    def _start(self, step: Step) -> None:
        root = next((root for need in step.needs if (root := self._failed_at(need))), None)
        if root is not None:
            self.skipped[step.id] = root
            rejected = isinstance(self.steps[root].request, Approve)
            why = self.errors[root].removeprefix("StateError: ") if rejected else f"{root} failed: {self.errors[root]}"
            self._end_at_once(step, SKIPPED, why)
        elif (standing := self._standing(step)) is not None:
            self._end_at_once(step, UNCHANGED, str(standing["why"]), standing)
        else:
            self._submit(step)

    def _submit(self, step: Step) -> None:
        request = bind(step.request, self._scope_now())
        task = task_of(step.request).with_options(
            task_run_name=step.id,
            tags=self._tags_of(step),
            retries=step.retries,
            retry_delay_seconds=step.retry_delay,
            timeout_seconds=step.timeout,
        )
        arguments = {spec.name: getattr(request, spec.name) for spec in dataclasses.fields(request)}
        if isinstance(request, Approve):
            arguments["wait"] = False  # the flow waits, so that no worker has to
        facts = {"spec": self.plan.name, "spec_digest": self.plan.digest, **self.scope.facts}
        self._follow(
            step,
            task.submit(
                **arguments,
                catalog=self.catalogs[step.dataset],
                step=step.id,
                origin=facts,
                wait_for=[self.futures[need] for need in step.needs],
            ),
        )

    def _failed_at(self, step_id: str) -> str | None:
        return step_id if step_id in self.errors else self.skipped.get(step_id)

    def _standing(self, step: Step) -> Json | None:
        """The result that found this step's dataset unchanged: there is no draft left to work on."""
        if isinstance(step.request, Approve | Publish):
            return None
        before = [self.results[one] for one in self.datasets[step.dataset].steps if one in self.results]
        return next((result for result in before if result["unchanged"]), None)

    def _end_at_once(self, step: Step, name: str, message: str, data: Json | None = None) -> None:
        task: DatasetTask[..., Json | None] = DatasetTask(
            cast("Callable[..., Json | None]", end_at_once),
            **dataset_task_options(
                verb=step.request.verb,
                name=task_of(step.request).name,
                run_name=step.id,
                tags=self._tags_of(step),
            ),
        )
        # Prefect allows a failed task run before another, but no cancelled one: below that it shows the failure itself.
        needed = [allow_failure(self.futures[self.skipped.get(need, need)]) for need in step.needs]
        # Called, not submitted: runners of processes and of Dask do not know of `allow_failure`.
        state = task(name, message, data, wait_for=needed, return_state=True)
        self.futures[step.id] = cast("State[Any]", state)  # Any: as above
        self.ended.put(step.id)

    def _tags_of(self, step: Step) -> set[str]:
        own = cast("Collection[str]", self.datasets[step.dataset].prefect.get("tags") or ())
        return {TAG, step.request.verb, *self.tags, *own}

    def _scope_now(self) -> Scope:
        versions = {step_id: str(result["version_id"]) for step_id, result in self.results.items()}
        return dataclasses.replace(self.scope, results=versions)

    # --- ending -------------------------------------------------------------------------------------------------

    def _follow(self, step: Step, future: PrefectFuture[Any]) -> None:  # Any: results of any task
        self.futures[step.id] = future
        future.add_done_callback(lambda _: self.ended.put(step.id))

    def _take(self, step_id: str) -> bool:
        """Takes in what a step came to; False when it goes on: a question was asked, or answered."""
        if step_id in self.asked:
            self.asked.discard(step_id)
            self._submit(self.steps[step_id])  # looks at the answer
            return False
        if step_id in self.skipped:
            return True
        state = self._state_of(step_id)
        if not state.is_completed():
            self.errors[step_id] = short_error(state)
            return True
        result: Json = self.futures[step_id].result()
        if isinstance(self.steps[step_id].request, Approve) and result["state"] == "open":
            self._ask(step_id, result)
            return False
        self.results[step_id] = result
        return True

    def _state_of(self, step_id: str) -> State[Any]:  # Any: as above
        future = self.futures[step_id]
        if isinstance(future, State):
            return future
        future.wait()
        return future.state

    def _ask(self, step_id: str, result: Json) -> None:
        """Leaves a question to those who pause the flow run for it, and go on looking for an answer."""
        if self.questions is None:
            self.questions = Questions(self.ended.put)
        self.asked.add(step_id)
        label = f"{result['project']}/{result['name']}@{result['version']}"
        session = self.catalogs[self.steps[step_id].dataset].session()
        question = Question(name=step_id, label=label, session=session, version_id=str(result["version_id"]))
        self.questions.ask(question)

    def _raise(self, step_id: str) -> None:
        try:
            self.futures[step_id].result()
        except BaseException as error:
            error.add_note(
                f"raised by step {step_id}; failed in all: {', '.join(self.errors)}; "
                f"skipped: {', '.join(self.skipped) or 'none'}"
            )
            raise

    def _show(self) -> None:
        """The table of versions and the picture of the lineage, as artifacts of the flow run."""
        reports.show_table(
            self.plan.name,
            "versions",
            [self._row(dataset) for dataset in self.plan.datasets],
            f"What a run of {reports.markdown(self.plan.name)} made",
        )
        made = {
            d.key: str(self.results[d.version_step]["version"])
            for d in self.plan.datasets
            if d.version_step in self.results
        }
        reports.show_lineage(self.plan, made)

    def _row(self, dataset: PlannedDataset) -> reports.Row:
        row: reports.Row = {"dataset": f"{dataset.project}/{dataset.name}"}
        result = self.results.get(dataset.version_step, {})
        row |= {name: cast("str | int | None", result.get(name)) for name in ("version", "files", "bytes", "new_bytes")}
        for step_id in dataset.steps:
            if step_id in self.errors:
                return row | {"outcome": "failed", "why": reports.one_line(self.errors[step_id])}
            if step_id in self.skipped:
                return row | {"outcome": "skipped", "why": f"{self.skipped[step_id]} failed"}
        published = self.results.get(dataset.publish_step or "", {"unchanged": True})
        outcome = "unchanged" if result["unchanged"] else "made"
        outcome += "" if published["unchanged"] else ", published"
        return row | {"outcome": outcome, "why": reports.one_line(str(result["why"]))}
