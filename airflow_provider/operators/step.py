"""The operator of compiled DAGs: one step of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseOperator

from airflow_provider import approving, assets, running
from airflow_provider.compat import AirflowFailException
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID, DatasetHook
from airflow_provider.operators.base import StoppableOperator
from airflow_provider.operators.version import differing
from dataset_tasks.model import Reference
from dataset_tasks.ops.references import reference
from dataset_tasks.ops.requests import Approve, ApproveResult, Publish, PublishResult, Request, Result, VerifyResult
from dataset_tasks.ops.wire import request_from_json, to_json
from dataset_tasks.spec.params import check_params
from dataset_tasks.spec.plan import Plan, PlannedDataset, Scope, Step, bind, lookup, placeholders_of
from dataset_tasks.spec.windows import Window, window_at

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue
    from dataset_tasks.session import Session

#: Where requests hold references to versions.
_REFERENCE_FIELDS = ("ref", "refs", "parents")


class DatasetStepOperator(StoppableOperator):
    """Runs one step of a compiled spec. Made by `airflow_provider.dags`, not by hand.

    The step is held in a field that is not templated: `{{ }}` in a spec is text. Placeholders and references to other
    steps are replaced when the task runs. A step whose result says `unchanged` pushes it and ends as skipped.

    Args:
        plan: The compiled spec.
        step: One of its steps.
        task_ids: The task that runs each step of the plan.
        given: Values of params, where the step is part of somebody's own DAG; None where the DAG is the spec's.
        partition_events: See `dag_from_spec`.
        conn_id: Airflow connection; see `DatasetHook`.
        kwargs: Arguments of Airflow's `BaseOperator`.
    """

    template_fields: Sequence[str] = ()
    shallow_copy_attrs: Sequence[str] = ("plan", "step", "task_ids")
    ui_color = "#e8f4ea"

    def __init__(
        self,
        *,
        plan: Plan,
        step: Step,
        task_ids: Mapping[str, str],
        given: Mapping[str, object] | None = None,
        partition_events: bool = False,
        conn_id: str = DEFAULT_CONN_ID,
        multiple_outputs: bool = True,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        if given:
            self.template_fields = ("given",)
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.given = given
        self.partition_events = partition_events
        self.plan = plan
        self.step = step
        self.task_ids = task_ids
        self.conn_id = conn_id

    @property
    def custom_operator_name(self) -> str:
        """What the task is called in Airflow's pages."""
        return f"dataset {self.step.request.verb}"

    def work(self, context: Context) -> dict[str, JsonValue]:
        """Runs the step.

        Raises:
            AirflowFailException: It failed in a way that a retry does not mend.
            AirflowSkipException: Nothing changed; the result is in XCom.
            DatasetError: It failed; a retry may succeed.
        """
        before = self._before()
        if before is not None:
            stands = self._left_by(before, context)
            if stands.get("unchanged"):
                running.skip(stands, context)
        with running.translated():
            session = DatasetHook(self.conn_id).get_session()
            scope = self._scope(session, context)
            made = self._made_before(session, scope, context)
            if made is not None:
                running.skip(running.small(made), context)
            request = self._bound(scope, context)
            facts = running.origin(context, step=self.step.id, spec_digest=self.plan.digest)
            facts |= Scope(interval_start=scope.interval_start).facts
            result = running.perform(session, request, context, facts=facts)
            self.remember(session, request.verb, result)
            if isinstance(result, VerifyResult) and result.bad:
                raise differing(result)
            if isinstance(result, PublishResult):
                partition = session.catalog.version(result.version_id).partition
                assets.record_publish(result, self.outlets, context, partition=partition, as_key=self.partition_events)
        if isinstance(result, ApproveResult):
            if result.state == "open":
                approving.wait_for_answer(self, result, context, session, conn_id=self.conn_id)
            approving.must_be_yes(result)
        payload = running.small(result)
        if result.unchanged:
            running.skip(payload, context)
        return payload

    def execute_complete(
        self,
        context: Context,
        event: Mapping[str, Any],  # Any: JSON
        version_id: str,
    ) -> dict[str, JsonValue]:
        """Takes the answer to an approval.

        Raises:
            AirflowFailException: It is no.
        """
        self.found_version = version_id
        return running.small(approving.take_answer(version_id, event, conn_id=self.conn_id))

    def _before(self) -> str | None:
        """The step whose "unchanged" ends this one too, as there is no draft any more.

        Approve and publish have none: they look at the version that stands.
        """
        steps = self._dataset().steps
        place = steps.index(self.step.id)
        return None if place == 0 or isinstance(self.step.request, Approve | Publish) else steps[place - 1]

    def _dataset(self) -> PlannedDataset:
        return next(dataset for dataset in self.plan.datasets if dataset.key == self.step.dataset)

    def _made_before(self, session: Session, scope: Scope, context: Context) -> Result | None:
        """What an earlier run of the window left, when a backfill of Airflow's has come to it again and nothing changed.

        As `dataset-tasks backfill` has it: `on_unchanged: version` asks for a version in each window, not for several.
        """
        is_backfill = getattr(context["dag_run"], "run_type", None) == "backfill"
        if not is_backfill or scope.interval_start is None or isinstance(self.step.request, Approve | Publish):
            return None
        from dataset_tasks.spec.backfill import standing_in_window  # loads what a parse does without

        held = standing_in_window(self.plan, session, scope).get(self._dataset().version_step)
        if held is None:
            return None
        version = session.catalog.version(held)
        return Result(
            catalog_id=version.catalog_id,
            version_id=version.id,
            project=version.project,
            name=version.name,
            version=version.version,
            unchanged=True,
            why="made by an earlier run of this window",
        )

    def _left_by(self, step: str, context: Context) -> Mapping[str, JsonValue]:
        """The result that another step left in XCom."""
        task_id = self.task_ids[step]
        left = context["ti"].xcom_pull(task_ids=task_id, key=running.XCOM_RETURN_KEY)
        if not isinstance(left, Mapping):
            raise AirflowFailException(
                f"{self.step.id} goes on from {step}, but task {task_id} has left no result in this run"
                f"\nhint: Clear {task_id} with its downstream tasks."
            )
        return left

    def _scope(self, session: Session, context: Context) -> Scope:
        """Everything that only the run knows."""
        window = self._window(context)
        data = to_json(self.step.request)
        sources = [step for step in dict.fromkeys(_steps_in(data)) if step in self.task_ids]
        scope = Scope(
            run_id=str(context["run_id"]),
            params=self._params(context),
            interval_start=window.start if window else None,
            interval_end=window.end if window else None,
            profile=self.plan.profile,
            results={step: reference(self._left_by(step, context), catalog_id=session.catalog.id) for step in sources},
        )
        self._check_placeholders(scope)
        return scope

    def _bound(self, scope: Scope, context: Context) -> Request:
        """The request with all of that filled in."""
        after = self.plan.schedule.after if self.plan.schedule else ()
        newest = {name: ids[-1] for name, ids in assets.triggering_versions(context).items() if name in after}
        request = request_from_json(pinned(to_json(self.step.request), newest)) if newest else self.step.request
        return bind(request, scope)

    def _params(self, context: Context) -> dict[str, JsonValue]:
        """The spec's params in this run, of the types that the spec gives them.

        Raises:
            InvalidArgumentError: One is missing, is not of its type, or does not fit a field that it fills in.
        """
        of_dag = {
            param.name: context["params"][param.name] for param in self.plan.params if param.name in context["params"]
        }
        return check_params(self.plan, {**of_dag, **cast("Mapping[str, JsonValue]", self.given or {})})

    def _window(self, context: Context) -> Window | None:
        """The run's window, as the spec's schedule cuts them; none for runs by hand, or after another dataset."""
        schedule, end = self.plan.schedule, context.get("data_interval_end")
        if self.given is not None:
            start = context.get("data_interval_start")
            return Window(_plain(start), _plain(end)) if start is not None and end is not None and start < end else None
        if schedule is None or schedule.after or end is None:
            return None
        return window_at(schedule, _plain(end))

    def _check_placeholders(self, scope: Scope) -> None:
        """Fails for any placeholder of the plan without a value: in the first steps too, before anything is made."""
        for name in sorted({name for step in self.plan.steps for name in placeholders_of(step.request)}):
            lookup(name, scope)


def _plain(moment: datetime) -> datetime:
    """The instant as a plain UTC datetime; Airflow's are of a class of their own."""
    return datetime.fromtimestamp(moment.timestamp(), UTC)


def _steps_in(value: JsonValue) -> Iterator[str]:
    """The ids of the steps that a request refers to; of a build, its own stages included."""
    match value:
        case str() if value.startswith("step:"):
            yield value.removeprefix("step:")
        case Mapping():
            for held in value.values():
                yield from _steps_in(held)
        case list() | tuple():
            for held in value:
                yield from _steps_in(held)


def pinned(request: Mapping[str, JsonValue], newest: Mapping[str, str]) -> Mapping[str, JsonValue]:
    """The request with references to the published version of a triggering dataset made exact.

    Args:
        request: As JSON, left as it is.
        newest: Version ids by `project/name`.
    """
    return {name: _pin(name, held, newest) for name, held in request.items()}


def _pin(name: str, held: JsonValue, newest: Mapping[str, str]) -> JsonValue:
    match held:
        case str() if name in _REFERENCE_FIELDS and not held.startswith("step:") and "${" not in held:
            known = Reference.parse(held)
            exact = newest.get(f"{known.project}/{known.name}") if known.selector == "published" else None
            return exact or held
        case Mapping():
            return {key: _pin(key, value, newest) for key, value in held.items()}
        case list() | tuple():
            return [_pin(name, value, newest) for value in held]
        case _:
            return held


class BrokenSpecOperator(BaseOperator):
    """The only task of a DAG whose spec has problems: it fails with them.

    Args:
        problems: What is wrong, and where.
        kwargs: Arguments of Airflow's `BaseOperator`.
    """

    ui_color = "#f4dcdc"

    def __init__(self, *, problems: str, **kwargs: Any) -> None:  # Any: BaseOperator's own arguments
        super().__init__(**kwargs)
        self.problems = problems

    def execute(self, context: Context) -> None:
        """Fails.

        Raises:
            AirflowFailException: Always.
        """
        raise AirflowFailException(self.problems)
