"""Waiting for versions in the triggerer: `DatasetTrigger` for one sensor, `DatasetEventTrigger` behind an `AssetWatcher`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider import running, settings
from airflow_provider.conditions import Condition, facts
from airflow_provider.hooks.dataset import DEFAULT_CONN_ID, DatasetHook
from dataset_tasks.errors import DatasetError
from dataset_tasks.ops.function_build import dataset_parts

if TYPE_CHECKING:
    from dataset_tasks.model import JsonValue
    from dataset_tasks.session import Session

_T = TypeVar("_T")
#: How many events one look takes from the catalog.
_BATCH = 500
_SEEN = "dataset_tasks_sequence"
#: States in which a task stays; None is that of a task that this Airflow does not have.
_ENDED = (None, "success", "failed", "skipped", "upstream_failed", "removed")


async def in_session(conn_id: str, work: Callable[[Session], _T]) -> _T:
    """Runs a piece of work on a connection's session in a thread: a catalog that is slow holds up no other trigger."""
    return await sync_to_async(lambda: work(DatasetHook(conn_id).get_session()), thread_sensitive=False)()


class DatasetTrigger(BaseTrigger):
    """Fires once, as soon as a condition holds.

    Args:
        condition: What is waited for, as JSON; see `Condition`.
        conn_id: Airflow connection; see `DatasetHook`.
        poll_interval: Seconds between two looks.
    """

    def __init__(
        self, *, condition: dict[str, JsonValue], conn_id: str = DEFAULT_CONN_ID, poll_interval: float | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of Airflow
        self.condition = condition
        self.conn_id = conn_id
        self.poll_interval = poll_interval if poll_interval is not None else settings.poll_interval()

    def serialize(self) -> tuple[str, dict[str, Any]]:  # Any: as the base class says
        """Class and arguments, for another triggerer."""
        return (
            "airflow_provider.triggers.dataset.DatasetTrigger",
            {"condition": self.condition, "conn_id": self.conn_id, "poll_interval": self.poll_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Looks until the version is there; its payload is `{"version": ...}`, or `{"error": ...}` when it can't be."""
        condition = Condition.from_json(self.condition)
        while True:
            try:
                found = await in_session(self.conn_id, lambda session: condition.look(session.catalog))
            except DatasetError as error:
                if not error.retryable:
                    yield fired({"error": str(error)})
                    return
                self.log.warning("%s; looking again in %g s", error.message, self.poll_interval)
            else:
                if found is not None:
                    yield fired({"version": facts(found)})
                    return
            await asyncio.sleep(self.poll_interval)


class DatasetEventTrigger(BaseEventTrigger):
    """Tells Airflow of versions that come from outside of it: `AssetWatcher(name=..., trigger=DatasetEventTrigger(...))`.

    All watched datasets of a connection share one look into the catalog (Airflow 3.3; before, each has its own). Where the
    asset has a state store, what was published while no triggerer ran is told when one does. What a task of this Airflow
    published is left out: that task has emitted the event.

    Args:
        dataset: `project/name`.
        event: What is told of: a version that was published or finalized, or an alias that moved.
        alias: Only moves of this alias; only with the event `alias`.
        conn_id: Airflow connection; see `DatasetHook`.
        poll_interval: Seconds between two looks; equal for all that are to share them.

    Raises:
        InvalidArgumentError: `dataset` is not `project/name`.
    """

    def __init__(
        self,
        *,
        dataset: str,
        event: Literal["published", "finalized", "alias"] = "published",
        alias: str | None = None,
        conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of Airflow
        dataset_parts(dataset)
        self.dataset = dataset
        self.event = event
        self.alias = alias
        self.conn_id = conn_id
        self.poll_interval = poll_interval if poll_interval is not None else settings.poll_interval()

    def serialize(self) -> tuple[str, dict[str, Any]]:  # Any: as the base class says
        """Class and arguments, for the triggerer."""
        return (
            "airflow_provider.triggers.dataset.DatasetEventTrigger",
            {
                "dataset": self.dataset,
                "event": self.event,
                "alias": self.alias,
                "conn_id": self.conn_id,
                "poll_interval": self.poll_interval,
            },
        )

    def shared_stream_key(self) -> Hashable | None:
        """Equal for all that look into the same catalog as often."""
        return ("dataset_tasks", self.conn_id, self.poll_interval)

    @classmethod
    async def open_shared_stream(
        cls, kwargs: dict[str, Any]
    ) -> AsyncIterator[dict[str, JsonValue]]:  # Any: as the base
        """For ever: every event of the catalog from now on with what its version is, and after each look how far it got."""
        conn_id, pause = kwargs["conn_id"], kwargs["poll_interval"]
        seen = await in_session(conn_id, lambda session: session.catalog.last_sequence())
        while True:
            yield {"sequence": seen}
            while (found := await in_session(conn_id, lambda session: _after(session, seen)))[1] > seen:  # noqa: B023
                seen = found[1]
                for told in found[0]:
                    yield told
            await asyncio.sleep(pause)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Any]) -> AsyncIterator[TriggerEvent]:  # Any: base
        """This dataset's events, each once; first those that came while nobody listened."""
        store = getattr(self, "asset_state_store", None)  # from Airflow 3.3 on, and only where assets are watched
        held = await store.aget(_SEEN) if store is not None else None
        seen = held if isinstance(held, int) else None
        joined = False
        async for told in shared_stream:
            at = int(told["sequence"])
            known = at - 1 if "event" in told else at  # up to where the stream has been read before this item
            if seen is None:
                seen = known
                await self._remember(seen)
            elif not joined:
                async for one in self._missed(seen, known):
                    if not await self._has_its_event(one):
                        await self._remember(int(str(one["sequence"])))
                        yield fired(one)
            joined = True
            if at > seen and self._is_mine(told) and not await self._has_its_event(told):
                await self._remember(at)
                yield fired(told)
            seen = max(seen, at)

    async def _missed(self, seen: int, last: int) -> AsyncIterator[dict[str, JsonValue]]:
        """This dataset's events after one sequence number, up to another."""
        while seen < last:
            found, seen_now = await in_session(self.conn_id, lambda session: _after(session, seen))  # noqa: B023
            for one in found:
                if int(str(one["sequence"])) <= last and self._is_mine(one):
                    yield one
            if seen_now == seen:
                return
            seen = seen_now

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """The same with a look of its own, for an Airflow that shares none."""
        stream = self.open_shared_stream({"conn_id": self.conn_id, "poll_interval": self.poll_interval})
        async for event in self.filter_shared_stream(stream):
            yield event

    def _is_mine(self, told: dict[str, JsonValue]) -> bool:
        mine = told.get("event") == self.event and f"{told['project']}/{told['name']}" == self.dataset
        return mine and (self.alias is None or told.get("alias") == self.alias)

    async def _has_its_event(self, told: dict[str, JsonValue]) -> bool:
        """Whether a task of this Airflow published the version: its success emits the event already.

        Waits until the task has ended: one that fails after it has published emits nothing.
        """
        if told.get("event") != "published":
            return False
        version_id = str(told["version_id"])
        keys = await in_session(self.conn_id, lambda session: session.catalog.publish_keys([version_id]))
        task = running.task_of(keys.get(version_id, ""))
        if task is None:
            return False
        while (state := await sync_to_async(task.state)()) not in _ENDED:  # noqa: ASYNC110  # the server is asked
            await asyncio.sleep(self.poll_interval)
        return state == "success"

    async def _remember(self, sequence: int) -> None:
        store = getattr(self, "asset_state_store", None)
        if store is not None:
            await store.aset(_SEEN, sequence)


def fired(payload: dict[str, JsonValue]) -> TriggerEvent:
    """An event of a trigger."""
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # of Airflow


def _after(session: Session, seen: int) -> tuple[list[dict[str, JsonValue]], int]:
    """The next few events after a sequence number, oldest first, and the number of the last one looked at."""
    events = session.catalog.events(after=seen, limit=_BATCH)
    if not events:
        return [], seen
    versions = {one.id: one for one in session.catalog.versions(ids={event.version_id for event in events})}
    told = [
        facts(versions[event.version_id])
        | {"sequence": event.sequence, "event": event.kind}
        | ({"alias": event.payload["alias"]} if "alias" in event.payload else {})
        for event in events
        if event.version_id in versions  # else it is deleted by now
    ]
    return told, events[-1].sequence
