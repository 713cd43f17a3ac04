"""Asking people in Airflow whether a version may be published; the catalog holds the question and its answer.

The task opens the question in the catalog and on Airflow's page of required actions, and waits in the triggerer. Whoever
answers first settles it: there, on the pages of this provider, or with `dataset-tasks approve`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider import running, settings
from airflow_provider.compat import AirflowFailException
from airflow_provider.hooks.dataset import DatasetHook
from dataset_tasks.errors import StateError
from dataset_tasks.ops.requests import ApproveResult

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.definitions.context import Context

    from dataset_tasks.catalog.sql import Catalog
    from dataset_tasks.model import Version
    from dataset_tasks.session import Session

YES: Final = "Approve"
NO: Final = "Reject"
_NOTE: Final = "note"


def wait_for_answer(
    task: BaseOperator, result: ApproveResult, context: Context, session: Session, *, conn_id: str
) -> None:
    """Asks on Airflow's page too, and leaves the worker until there is an answer.

    Args:
        task: The running task; its `execute_complete` gets the answer, and `version_id`.
        result: The open question.
        context: The task's.
        session: Where the question is.
        conn_id: Airflow connection of the session.

    Raises:
        TaskDeferred: Always.
    """
    from airflow.sdk import Param
    from airflow.sdk.execution_time.hitl import HITLUser, upsert_hitl_detail

    from airflow_provider.triggers.approval import ApprovalTrigger

    version = session.catalog.version(result.version_id)
    ti_id = context["ti"].id
    upsert_hitl_detail(
        ti_id=ti_id,
        options=[YES, NO],
        subject=f"Publish {version.label}?",
        body=_body(session, version),
        defaults=[NO],
        multiple=False,
        params={_NOTE: Param(None, type=["null", "string"], description="Kept beside the answer").serialize()},
        assigned_users=[HITLUser(id=name, name=name) for name in result.by] or None,
    )
    task.log.info("%s waits for an answer: %s", version.label, result.why)
    task.defer(
        trigger=ApprovalTrigger(version_id=version.id, ti_id=str(ti_id), options=(YES, NO), conn_id=conn_id),
        method_name="execute_complete",
        kwargs={"version_id": version.id},
    )


def take_answer(version_id: str, event: Mapping[str, Any], *, conn_id: str) -> ApproveResult:  # Any: JSON
    """Settles a question after the wait; an answer given in Airflow is copied into the catalog.

    Args:
        version_id: What was asked about.
        event: What ended the wait: an answer of Airflow's page, or word that the catalog has one.
        conn_id: Airflow connection; see `DatasetHook`.

    Raises:
        AirflowFailException: The answer is no, or the question is gone.
        DatasetError: The catalog did not answer; a retry asks it again.
    """
    if "error" in event:
        raise AirflowFailException(event["error"])
    with running.translated():
        session = DatasetHook(conn_id).get_session()
        if "chosen_options" in event:
            _copy(session.catalog, version_id, event)
        from dataset_tasks.ops.approve import result_of

        held = session.catalog.approval(version_id)
        assert held is not None
        session.flush_journal()
        result = result_of(session.catalog.version(version_id), held)
    must_be_yes(result)
    return result


def must_be_yes(result: ApproveResult) -> None:
    """Fails the task unless the answer was yes: what is below is blocked, as it must not see the version.

    Raises:
        AirflowFailException: It was no.
    """
    if result.state != "approved":
        label = f"{result.project}/{result.name}@{result.version}"
        raise AirflowFailException(
            f"{label} {result.why}\nhint: Ask again with `dataset-tasks approve {result.version_id} --reopen`, then clear "
            "this task; or make a new version."
        )


def _copy(catalog: Catalog, version_id: str, event: Mapping[str, Any]) -> None:  # Any: JSON
    """An answer of Airflow's page into the catalog; the one that stands there already wins."""
    user = event.get("responded_by_user") or {}
    who = str(user.get("name") or user.get("id") or "airflow")
    note = str((event.get("params_input") or {}).get(_NOTE) or "")
    try:
        catalog.answer(version_id, list(event["chosen_options"]) == [YES], who, note)
    except StateError as error:
        if error.kind != "answered":
            raise


def _body(session: Session, version: Version) -> str:
    """What whoever is asked should know, as Markdown."""
    lines = [f"**{version.files}** files, **{version.bytes:,}** bytes, of which {version.new_bytes:,} are new."]
    if version.previous_id:
        lines.append(f"It follows {session.catalog.version(version.previous_id).label}.")
    held = session.catalog.approval(version.id)
    if held is not None and held.deadline is not None:
        lines.append(f"Without an answer by {held.deadline:%Y-%m-%d %H:%M} UTC: {held.otherwise}.")
    lines.append(f"[Content and lineage]({settings.page_url(f'versions/{version.id}')})")
    return "\n\n".join(lines)
