"""Waiting for versions: conditions, the sensor, its trigger, and events for assets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.sdk.exceptions import TaskDeferred

from airflow_provider import running
from airflow_provider.assets import dataset_asset
from airflow_provider.compat import AirflowFailException
from airflow_provider.conditions import Condition
from airflow_provider.sensors.dataset import DatasetSensor
from airflow_provider.triggers.dataset import DatasetEventTrigger, DatasetTrigger
from dataset_tasks.catalog.queries import Queries
from dataset_tasks.errors import CatalogUnavailableError, InvalidArgumentError
from dataset_tasks.ops.requests import Publish
from tests.unit.airflow.catalogs import Shop, shop

__all__ = ["shop"]


def seen(shop: Shop, **condition: Any) -> str | None:
    found = Condition(dataset="crm/orders", **condition).look(shop.catalog)
    return found.version if found else None


# --- conditions ------------------------------------------------------------------------------------------------------


def test_a_published_version_is_waited_for_and_a_draft_is_none(shop: Shop) -> None:
    assert seen(shop) is None
    shop.draft()
    assert seen(shop, until="completed") is None
    one = shop.completed()
    assert seen(shop) is None
    assert seen(shop, until="completed") == one.version
    shop.publish(one)
    assert seen(shop) == one.version


def test_what_is_newer_than_a_version_or_a_moment(shop: Shop) -> None:
    one = shop.published()
    for old in (one.version, one.id, f"crm/orders@{one.version}", "published"):
        assert seen(shop, newer_than=old) is None
    assert one.published is not None
    assert seen(shop, newer_than=(one.published - timedelta(seconds=1)).isoformat()) == one.version
    assert seen(shop, newer_than=one.published.isoformat()) is None
    two = shop.published()
    assert seen(shop, newer_than=one.version) == two.version
    assert seen(shop, newer_than="2999-01-01") is None


def test_an_alias_that_moved_counts_also_when_it_moved_back(shop: Shop) -> None:
    one, two = shop.published(alias="prod"), shop.published()
    assert seen(shop, alias="prod") == one.version
    assert seen(shop, alias="other") is None
    assert seen(shop, alias="prod", newer_than=one.version) is None
    shop.publish(two, "prod")
    assert seen(shop, alias="prod", newer_than=one.version) == two.version
    shop.publish(one, "prod")
    assert seen(shop, alias="prod", newer_than=two.version) == one.version
    moved = shop.catalog.alias_history("crm", "orders", "prod")[-1][2]
    assert seen(shop, alias="prod", newer_than=moved.isoformat()) is None
    assert seen(shop, alias="prod", newer_than=(moved - timedelta(microseconds=1)).isoformat()) == one.version


def test_tags_and_partitions_narrow_it(shop: Shop) -> None:
    one = shop.published(tags=["eu", "day"])
    two = shop.published(tags=["us"], partition="2026-01-01")
    assert seen(shop, tags=("eu",)) == one.version
    assert seen(shop, tags=("eu", "us")) is None
    assert seen(shop, partition="2026-01-01") == two.version
    assert seen(shop, partition="2026-01-02") is None


@pytest.mark.parametrize("wrong", [{"dataset": "orders"}, {"dataset": "crm/orders", "until": "gone"}])
def test_a_condition_that_can_never_hold_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Condition(**wrong)


def test_a_condition_passes_through_json() -> None:
    one = Condition(
        dataset="crm/orders", until="completed", alias="prod", tags=("a",), newer_than="1.0.0", partition="x"
    )
    assert Condition.from_json(one.to_json()) == one


# --- the sensor ------------------------------------------------------------------------------------------------------


def test_the_sensor_gives_on_what_it_found(shop: Shop, context: dict[str, Any]) -> None:
    sensor = DatasetSensor(task_id="wait", dataset="crm/orders")
    assert not sensor.poke(context)
    version = shop.published()
    found = sensor.poke(context)
    assert found.is_done
    assert found.xcom_value["version_id"] == version.id
    assert found.xcom_value["files"] == 1
    assert sensor.found_version == version.id
    assert sensor.multiple_outputs


def test_a_catalog_that_does_not_answer_is_asked_again(
    shop: Shop, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Condition, catalog: object) -> None:
        raise CatalogUnavailableError("the catalog is locked")

    monkeypatch.setattr(Condition, "look", away)
    assert not DatasetSensor(task_id="wait", dataset="crm/orders").poke(context)


def test_a_sensor_that_waits_for_nothing_real_fails_at_once(shop: Shop, context: dict[str, Any]) -> None:
    with pytest.raises(AirflowFailException, match="there is no dataset"):
        shop.published("other")
        shop.published()
        DatasetSensor(task_id="wait", dataset="crm/orders", newer_than="crm/nothing@1.0.0").poke(context)


def test_a_deferrable_sensor_leaves_only_when_there_is_nothing_yet(shop: Shop, context: dict[str, Any]) -> None:
    sensor = DatasetSensor(task_id="wait", dataset="crm/orders", deferrable=True, poke_interval=7, timeout=60)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    assert deferred.value.timeout == timedelta(seconds=60)
    trigger = deferred.value.trigger
    assert isinstance(trigger, DatasetTrigger)
    assert trigger.poll_interval == 7
    version = shop.published()
    event = asyncio.run(first(trigger.run()))
    assert sensor.execute_complete(context, event.payload)["version_id"] == version.id
    assert sensor.execute(context)["version_id"] == version.id
    with pytest.raises(AirflowFailException, match="gone"):
        sensor.execute_complete(context, {"error": "gone"})


def test_the_sensor_serializes_and_its_arguments_are_templates(serialized: Any) -> None:
    with DAG("waits", schedule=None) as dag:
        DatasetSensor(task_id="wait", dataset="crm/orders", newer_than="{{ data_interval_start }}")
    assert serialized(dag).task_ids == ["wait"]
    assert set(DatasetSensor.template_fields) == {
        "dataset", "until", "alias", "tags", "partition", "newer_than", "conn_id",
    }  # fmt: skip


# --- triggers --------------------------------------------------------------------------------------------------------


async def first(events: AsyncIterator[Any]) -> Any:
    async for event in events:
        return event
    raise AssertionError("there was no event")


def remade(trigger: Any) -> Any:
    path, arguments = trigger.serialize()
    assert path == f"{type(trigger).__module__}.{type(trigger).__name__}"
    return type(trigger)(**arguments)


class Counted:
    """A method that counts its calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.count = 0
        real = getattr(owner, name)

        def counted(this: Any, *arguments: Any) -> Any:
            found = real(this, *arguments)
            self.count += 1
            return found

        monkeypatch.setattr(owner, name, counted)


def test_a_trigger_looks_until_the_version_is_there(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Counted(monkeypatch, Condition, "look")

    async def waited() -> Any:
        trigger = remade(DatasetTrigger(condition=Condition(dataset="crm/orders").to_json(), poll_interval=0.01))
        waiting = asyncio.ensure_future(first(trigger.run()))
        while looks.count < 3:  # noqa: ASYNC110  # it is a thread that counts
            await asyncio.sleep(0)
        assert not waiting.done()
        version = await asyncio.to_thread(shop.published)
        assert (await waiting).payload["version"]["version_id"] == version.id

    asyncio.run(waited())


def test_a_trigger_whose_version_can_not_come_says_so(shop: Shop) -> None:
    shop.published()
    condition = Condition(dataset="crm/orders", newer_than="crm/nothing@1.0.0")
    event = asyncio.run(first(DatasetTrigger(condition=condition.to_json()).run()))
    assert "there is no dataset" in event.payload["error"]


class Fan:
    """One stream for several triggers, as the triggerer does it; counts its looks into the catalog."""

    def __init__(self, triggers: list[DatasetEventTrigger]) -> None:
        self.triggers = triggers
        self.told: list[list[Any]] = [[] for _ in triggers]

    async def run(self, steps: Callable[[], Any], *, until: Callable[[], bool]) -> None:
        assert len({trigger.shared_stream_key() for trigger in self.triggers}) == 1
        queues: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in self.triggers]
        opened = asyncio.Event()

        async def pump() -> None:
            async for item in type(self.triggers[0]).open_shared_stream(self.triggers[0].serialize()[1]):
                for queue in queues:
                    queue.put_nowait(item)
                opened.set()

        async def drain(queue: asyncio.Queue[Any]) -> AsyncIterator[Any]:
            while True:
                yield await queue.get()

        async def listen(place: int) -> None:
            async for event in self.triggers[place].filter_shared_stream(drain(queues[place])):
                self.told[place].append(event.payload)

        tasks = [asyncio.create_task(pump()), *(asyncio.create_task(listen(place)) for place in range(len(queues)))]
        try:
            await opened.wait()
            await asyncio.to_thread(steps)
            async with asyncio.timeout(30):
                while not until():
                    for task in tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.01)
        finally:
            for task in tasks:
                task.cancel()


def watch(dataset: str, **options: Any) -> DatasetEventTrigger:
    return DatasetEventTrigger(dataset=dataset, poll_interval=0.01, **options)


def test_all_watched_datasets_share_one_look_and_each_hears_its_own(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.published()  # before anybody listened
    fan = Fan([watch("crm/orders"), watch("crm/visits"), watch("crm/orders", event="finalized"),
               watch("crm/orders", event="alias", alias="prod")])  # fmt: skip
    made: list[str] = []

    def steps() -> None:
        made.extend([shop.published(alias="prod").id, shop.published("visits").id, shop.completed().id])
        shop.publish(shop.catalog.version(made[0]), "other")

    asyncio.run(fan.run(steps, until=lambda: len(fan.told[2]) == 2))
    assert [[told["version_id"] for told in each] for each in fan.told] == [
        [made[0]], [made[1]], [made[0], made[2]], [made[0]],
    ]  # fmt: skip
    assert fan.told[0][0]["files"] == 1
    assert fan.told[3][0]["alias"] == "prod"


class StateStore:
    """As Airflow keeps a little state for each watched asset."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.held.get(key, default)

    async def aset(self, key: str, value: Any) -> None:
        self.held[key] = value


def test_what_was_published_while_no_triggerer_ran_is_told_when_one_does(shop: Shop) -> None:
    store = StateStore()

    def listener() -> Fan:
        trigger = watch("crm/orders")
        trigger.asset_state_store = store  # type: ignore[assignment]
        return Fan([trigger])

    before, after = listener(), listener()
    asyncio.run(before.run(lambda: None, until=lambda: bool(store.held)))
    missed = [shop.published().id for _ in range(3)]
    shop.published("visits")
    late: list[str] = []
    asyncio.run(after.run(lambda: late.append(shop.published().id), until=lambda: len(after.told[0]) == 4))
    assert [told["version_id"] for told in after.told[0]] == [*missed, *late]
    third = listener()
    asyncio.run(third.run(lambda: None, until=lambda: True))
    assert third.told == [[]]


def test_what_a_task_of_this_airflow_published_has_its_event_already(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {
        "done": ["success"],
        "slow": ["running", "none", "success"],
        "failed": ["running", "failed"],
        "else": [None],
    }
    asked: list[str] = []

    def state(task: running.TaskOfKey) -> str | None:
        asked.append(task.task_id)
        states = here[task.task_id]
        return states.pop(0) if len(states) > 1 else states[0]

    monkeypatch.setattr(running.TaskOfKey, "state", state)
    fan = Fan([watch("crm/orders")])
    wanted: list[str] = []

    def steps() -> None:
        for task_id in here:
            version = shop.completed()
            shop.session.run(Publish(ref=version.id), key=f"airflow/crm/monday/{task_id}/-1/publish")
            shop.session.run(Publish(ref=version.id, alias="prod"), key=f"airflow/crm/tuesday/{task_id}/-1")
            wanted.extend([version.id] if task_id in ("failed", "else") else [])
        wanted.append(shop.published().id)

    asyncio.run(fan.run(steps, until=lambda: len(fan.told[0]) == 3))
    assert [told["version_id"] for told in fan.told[0]] == wanted
    assert asked == ["done", "slow", "slow", "slow", "failed", "failed", "else"]


def test_an_event_that_was_told_before_is_not_told_again(shop: Shop) -> None:
    version = shop.published()
    last = shop.catalog.last_sequence()

    async def heard(seen: int) -> list[Any]:
        trigger = watch("crm/orders")
        trigger.asset_state_store = StateStore()  # type: ignore[assignment]
        await trigger.asset_state_store.aset("dataset_tasks_sequence", seen)  # type: ignore[union-attr]

        async def stream() -> AsyncIterator[Any]:
            for _ in range(2):  # at least once: a stream may begin before where the last one ended
                yield {
                    "sequence": last,
                    "event": "published",
                    "project": "crm",
                    "name": "orders",
                    "version_id": version.id,
                }

        return [event.payload["version_id"] async for event in trigger.filter_shared_stream(stream())]

    assert asyncio.run(heard(last)) == []
    assert asyncio.run(heard(last - 1)) == [version.id]


def test_a_triggerer_that_shares_nothing_gives_each_its_own_look(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = Counted(monkeypatch, Queries, "last_sequence")

    async def waited() -> None:
        trigger = remade(watch("crm/orders"))
        waiting = asyncio.ensure_future(first(trigger.run()))
        while not begun.count:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0)
        version = await asyncio.to_thread(shop.published)
        assert (await waiting).payload["version_id"] == version.id

    asyncio.run(waited())


def test_a_watched_asset_serializes(serialized: Any) -> None:
    asset = dataset_asset("crm/orders")
    watched = Asset(name=asset.name, uri=asset.uri, watchers=[AssetWatcher(name="orders", trigger=watch("crm/orders"))])
    with DAG("consumer", schedule=[watched]) as dag:
        pass
    assert serialized(dag).dag_id == "consumer"
    with pytest.raises(InvalidArgumentError):
        watch("orders")
