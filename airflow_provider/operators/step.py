"""The operator of compiled DAGs: one step of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider import assets, running
from airflow_provider.compat import AirflowFailException
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID, DatasetHook
from airflow_provider.operators.base import StoppableOperator
from airflow_provider.operators.version import differing
from dataset_tasks.model import Reference
from dataset_tasks.ops.references import reference
from dataset_tasks.ops.requests import PublishResult, Request, VerifyResult, request_from_json
from dataset_tasks.spec.plan import Schedule, Scope, bind, lookup
from dataset_tasks.spec.windows import Window, window_at

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.model import JsonValue
    from dataset_tasks.session import Session

#: Where requests hold references to versions.
_REFERENCE_FIELDS = ("ref", "refs", "parents")


class DatasetStepOperator(StoppableOperator):
    """Runs one step of a compiled spec. Made by `airflow_provider.dags`, not by hand.

    The request is held as JSON in a field that is not templated: `{{ }}` in a spec is text. Placeholders and references to
    other steps are replaced when the task runs. A step whose result says `unchanged` pushes it and ends as skipped.

    Args:
        step: Id in the plan; also the task id, below the groups the DAG puts around it.
        request: The request as `to_json` writes it.
        sources: Task ids of the steps it refers to, by step id.
        before: Task id of the step before it that works on the same draft. Where that one found the dataset unchanged,
            there is no draft any more, and this step passes the result on.
        placeholders: Those of the whole plan: one without a value in this run fails every step, so the first ones too,
            before anything is made.
        profile: Value of `${profile.name}`.
        spec_digest: SHA-256 of the spec's text.
        schedule: The spec's. References to a dataset of its `after` mean the newest triggering version; a run whose
            window begins before its `start` fails, with the reason.
        conn_id: Airflow connection; see `DatasetHook`.
        kwargs: Arguments of Airflow's `BaseOperator`.
    """

    template_fields: Sequence[str] = ()
    ui_color = "#e8f4ea"

    def __init__(
        self,
        *,
        step: str,
        request: Mapping[str, JsonValue],
        sources: Mapping[str, str],
        before: str | None = None,
        placeholders: Sequence[str] = (),
        profile: str = "",
        spec_digest: str = "",
        schedule: Schedule | None = None,
        conn_id: str = DEFAULT_CONN_ID,
        multiple_outputs: bool = True,
        **kwargs: Any,  # Any: BaseOperator's own arguments
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.step = step
        self.request = request
        self.sources = sources
        self.before = before
        self.placeholders = placeholders
        self.profile = profile
        self.spec_digest = spec_digest
        self.schedule = schedule
        self.conn_id = conn_id

    @property
    def custom_operator_name(self) -> str:
        """What the task is called in Airflow's pages."""
        return f"dataset {self.request['verb']}"

    def work(self, context: Context) -> dict[str, JsonValue]:
        """Runs the step.

        Raises:
            AirflowFailException: It failed in a way that a retry does not mend.
            AirflowSkipException: Nothing changed; the result is in XCom.
            DatasetError: It failed; a retry may succeed.
        """
        if self.before is not None:
            stands = self._left_by(self.before, context)
            if stands.get("unchanged"):
                running.skip(stands, context)
        results = {step: self._left_by(task_id, context) for step, task_id in self.sources.items()}
        with running.translated():
            session = DatasetHook(self.conn_id).get_session()
            request = self._bound(session, results, context)
            facts = running.origin(context, step=self.step, spec_digest=self.spec_digest)
            result = running.perform(session, request, context, facts=facts)
            if isinstance(result, VerifyResult) and result.bad:
                raise differing(result)
        if isinstance(result, PublishResult):
            assets.record_publish(result, self.outlets, context)
        payload = running.small(result)
        if result.unchanged:
            running.skip(payload, context)
        return payload

    def _left_by(self, task_id: str, context: Context) -> Mapping[str, JsonValue]:
        """The result that another task left in XCom."""
        left = context["ti"].xcom_pull(task_ids=task_id, key=running.XCOM_RETURN_KEY)
        if not isinstance(left, Mapping):
            raise AirflowFailException(
                f"{self.step} goes on from {task_id}, but that task has left no result in this run"
                f"\nhint: Clear {task_id} with its downstream tasks."
            )
        return left

    def _bound(self, session: Session, results: Mapping[str, Mapping[str, JsonValue]], context: Context) -> Request:
        window = self._window(context)
        scope = Scope(
            run_id=str(context["run_id"]),
            params=dict(context["params"]),
            interval_start=window.start if window else None,
            interval_end=window.end if window else None,
            profile=self.profile,
            results={step: reference(result, catalog_id=session.catalog.id) for step, result in results.items()},
        )
        for name in self.placeholders:
            lookup(name, scope)
        after = self.schedule.after if self.schedule else ()
        newest = {name: ids[-1] for name, ids in assets.triggering_versions(context).items() if name in after}
        return bind(request_from_json(pinned(self.request, newest)), scope)

    def _window(self, context: Context) -> Window | None:
        """The run's window, as the spec's schedule cuts them; none for runs by hand, or after another dataset."""
        end = context.get("data_interval_end")
        if self.schedule is None or self.schedule.after or end is None:
            return None
        return window_at(self.schedule, datetime.fromtimestamp(end.timestamp(), UTC))


def pinned(request: Mapping[str, JsonValue], newest: Mapping[str, str]) -> Mapping[str, JsonValue]:
    """The request with references to the published version of a triggering dataset made exact.

    Args:
        request: As JSON, left as it is.
        newest: Version ids by `project/name`.
    """
    return {name: _pin(name, held, newest) for name, held in request.items()} if newest else request


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
