"""Waiting for the answer to an approval, in the catalog or on Airflow's own page, wherever it comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider import settings
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID
from airflow_provider.triggers.dataset import fired, in_session
from dataset_tasks.errors import DatasetError

if TYPE_CHECKING:
    from dataset_tasks.model import JsonValue


class ApprovalTrigger(BaseTrigger):
    """Fires once the question about a version is answered, or its deadline is past.

    Args:
        version_id: The version.
        ti_id: Of the task that asks: its question in Airflow is closed with the answer. Empty: there is none.
        options: What Airflow calls yes and no.
        conn_id: Airflow connection; see `DatasetHook`.
        poll_interval: Seconds between two looks.
    """

    def __init__(
        self,
        *,
        version_id: str,
        ti_id: str = "",
        options: tuple[str, str] | list[str] = ("Approve", "Reject"),
        conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of Airflow
        self.version_id = version_id
        self.ti_id = ti_id
        self.options = list(options)
        self.conn_id = conn_id
        self.poll_interval = poll_interval if poll_interval is not None else settings.poll_interval()

    def serialize(self) -> tuple[str, dict[str, Any]]:  # Any: as the base class says
        """Class and arguments, for another triggerer."""
        return (
            "airflow_provider.triggers.approval.ApprovalTrigger",
            {
                "version_id": self.version_id,
                "ti_id": self.ti_id,
                "options": self.options,
                "conn_id": self.conn_id,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Looks until there is an answer; the payload is `{"outcome": ...}`, or `{"error": ...}`."""
        while True:
            try:
                found = await in_session(self.conn_id, lambda session: session.catalog.approval(self.version_id))
            except DatasetError as error:
                if not error.retryable:
                    yield fired({"error": str(error)})
                    return
                self.log.warning("%s; looking again in %g s", error.message, self.poll_interval)
            else:
                if found is None:
                    yield fired({"error": f"the question about version {self.version_id} is gone from the catalog"})
                    return
                if found.outcome != "open":
                    await self._close(approved=found.outcome == "approved")
                    yield fired({"outcome": found.outcome})
                    return
                answer = await self._answer_on_the_page()
                if answer is not None:
                    yield fired(answer)
                    return
            await asyncio.sleep(self.poll_interval)

    async def _answer_on_the_page(self) -> dict[str, JsonValue] | None:
        """The answer that was given to Airflow's own question; only from 3.3 on does Airflow bring it to the task."""
        if not self.ti_id:
            return None
        from uuid import UUID

        from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail

        try:
            held = await sync_to_async(get_hitl_detail_content_detail)(ti_id=UUID(self.ti_id))
        except AirflowRuntimeError as error:
            self.log.warning("Airflow did not tell whether there is an answer: %s", error)
            return None
        if not held.response_received or not held.chosen_options:
            return None
        user = held.responded_by_user
        return {
            "chosen_options": list(held.chosen_options),
            "params_input": dict(held.params_input or {}),
            "responded_by_user": {"id": user.id, "name": user.name} if user else None,
        }

    async def _close(self, *, approved: bool) -> None:
        """Answers Airflow's own question too, so that nobody is asked what is answered; it does not have to be there."""
        if not self.ti_id:
            return
        from uuid import UUID

        from airflow.sdk.execution_time.hitl import update_hitl_detail_response

        try:
            await sync_to_async(update_hitl_detail_response)(
                ti_id=UUID(self.ti_id), chosen_options=[self.options[0 if approved else 1]], params_input={}
            )
        except AirflowRuntimeError as error:
            self.log.warning("the question in Airflow was not closed: %s", error)
