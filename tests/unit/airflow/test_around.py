"""What stands around the work of a task: its progress, its link, its lineage, its end by a signal, its teardown."""

from __future__ import annotations

import argparse
import json
import os
import threading
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.execution_time.context import OutletEventAccessor, OutletEventAccessors

from airflow_provider import assets, cli, running
from airflow_provider.compat import AirflowFailException, AirflowSkipException
from airflow_provider.links import DatasetVersionLink
from airflow_provider.operators import (
    DatasetCreateOperator,
    DatasetDeleteOperator,
    DatasetFinalizeOperator,
    DatasetPublishOperator,
    DatasetVerifyOperator,
    base,
)
from airflow_provider.operators.guard import DatasetDropDraftOperator
from airflow_provider.running import KeptProgress
from dataset_tasks.model import Input, JsonValue, State
from tests.unit.airflow.catalogs import Shop, shop

__all__ = ["shop"]


# --- progress --------------------------------------------------------------------------------------------------------


class Store:
    """As the task state store of Airflow; the same for every try of a task."""

    def __init__(self) -> None:
        self.held: dict[str, JsonValue] = {}
        self.writes = 0

    def get(self, key: str, default: JsonValue = None) -> JsonValue:
        return self.held.get(key, default)

    def set(self, key: str, value: JsonValue) -> None:
        self.held[key] = value
        self.writes += 1


def test_a_retry_reads_how_far_the_try_before_it_came(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    with pytest.raises(ConnectionError), KeptProgress(store, 1).task("crm/orders: upload", files=10) as task:
        for _ in range(4):
            task.advance(files=1, bytes=100)
        raise ConnectionError
    assert store.held == {"progress: crm/orders: upload": {"try": 1, "files": 4, "bytes": 400}}
    with caplog.at_level("INFO", "dataset_tasks"), KeptProgress(store, 2).task("crm/orders: upload", files=10) as task:
        task.total(files=12)
        task.advance(files=12, bytes=1200)
    assert "try 1 came to 4 files" in caplog.text
    assert store.held["progress: crm/orders: upload"] == {"try": 2, "files": 12, "bytes": 1200, "of": 12}


def test_progress_is_written_at_once_and_then_seldom() -> None:
    store = Store()
    with KeptProgress(store, 1, every=3600).task("upload") as task:
        threads = [threading.Thread(target=lambda: [task.advance(files=1) for _ in range(500)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.writes == 1
    assert store.writes == 2
    assert store.held["progress: upload"] == {"try": 1, "files": 2000, "bytes": 0}


def test_where_airflow_keeps_no_state_progress_is_lines_of_the_log(context: dict[str, Any]) -> None:
    assert type(running.progress_of(context)).__name__ == "LogLines"
    assert isinstance(running.progress_of(context | {"task_state_store": Store()}), KeptProgress)


# --- links, lineage --------------------------------------------------------------------------------------------------


def test_a_task_links_to_the_page_of_its_version(shop: Shop, context: dict[str, Any]) -> None:
    create = DatasetCreateOperator(task_id="create", project="crm", name="orders")
    link = DatasetVersionLink()
    assert link in create.operator_extra_links
    assert link.get_link(create, ti_key=None) == ""  # type: ignore[arg-type]
    made = create.execute(context)
    assert link.get_link(create, ti_key=None).endswith(f"/dataset-tasks/versions/{made['version_id']}")  # type: ignore[arg-type]


def lineage(operator: Any, context: dict[str, Any]) -> Any:
    operator.execute(context)
    return operator.get_openlineage_facets_on_complete(context["ti"])


def test_openlineage_is_told_what_was_read_and_made(shop: Shop, context: dict[str, Any]) -> None:
    source, parent = shop.published("raw"), shop.published("base")
    draft = shop.draft(parents=(parent.id,), inputs=(Input(name="raw", ref=source.id),))
    finalize = DatasetFinalizeOperator(task_id="finalize", ref=draft.id)
    assert finalize.get_openlineage_facets_on_complete(context["ti"]) is None
    told = lineage(finalize, context)
    assert [(one.namespace, one.name) for one in told.inputs] == [("dataset://crm", "raw"), ("dataset://crm", "base")]
    assert [one.facets["version"].datasetVersion for one in told.inputs] == [source.version, parent.version]
    (output,) = told.outputs
    assert (output.namespace, output.name) == ("dataset://crm", "orders")
    assert output.facets["version"].datasetVersion == draft.version
    assert output.outputFacets["outputStatistics"].fileCount == 1
    facet = told.run_facets["datasetTasks"]
    assert (facet.versionId, facet.operation, facet.state, facet.unchanged) == (
        draft.id,
        "finalize",
        "completed",
        False,
    )


def test_what_only_reads_has_inputs_and_what_changes_nothing_has_no_outputs(
    shop: Shop, context: dict[str, Any]
) -> None:
    version = shop.published()
    told = lineage(DatasetVerifyOperator(task_id="verify", ref=version.id), context)
    assert ([one.name for one in told.inputs], told.outputs) == (["orders"], [])
    context["ti"].task_id = "publish"
    told = lineage(DatasetPublishOperator(task_id="publish", ref=version.id), context)
    assert told.outputs == []
    assert told.run_facets["datasetTasks"].unchanged


def test_an_asset_is_the_dataset_that_operators_tell_of() -> None:
    dataset = assets.to_openlineage(Asset("dataset://nyc/operators/raw"), None)
    assert (dataset.namespace, dataset.name) == ("dataset://nyc/operators", "raw")


# --- the end ---------------------------------------------------------------------------------------------------------


def test_work_that_does_not_stop_is_ended_with_its_process(
    shop: Shop, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(base, "STOP_WITHIN", 0.01)
    monkeypatch.setattr(os, "_exit", lambda code: ended.set() if code == 143 else None)

    class Stuck(DatasetCreateOperator):
        def work(self, context: Any) -> Any:
            try:
                self.on_kill()
            finally:
                assert ended.wait(30)

    with pytest.raises(SystemExit):
        Stuck(task_id="stuck", name="orders").execute(context)


def test_work_that_hangs_past_its_execution_timeout_is_ended_with_its_process(
    shop: Shop, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(base, "STOP_WITHIN", 0.01)
    monkeypatch.setattr(os, "_exit", lambda code: ended.set())

    class Stuck(DatasetCreateOperator):
        def work(self, context: Any) -> Any:
            assert ended.wait(30)

    class Timely(DatasetCreateOperator):
        def work(self, context: Any) -> Any:
            return "done"

    Stuck(task_id="stuck", name="orders", execution_timeout=timedelta(seconds=0.01)).execute(context)
    task = Timely(task_id="timely", name="orders", execution_timeout=timedelta(hours=1))
    task.execute(context)
    assert task._last_word is not None
    assert task._last_word.finished.is_set()  # it was called off


def test_work_that_stops_in_time_is_left_to_end(shop: Shop, context: dict[str, Any]) -> None:
    class Stopped(DatasetCreateOperator):
        def work(self, context: Any) -> Any:
            self.on_kill()

    task = Stopped(task_id="stopped", name="orders")
    with pytest.raises(SystemExit):
        task.execute(context)
    assert task._last_word is not None
    assert task._last_word.finished.is_set()


# --- teardown --------------------------------------------------------------------------------------------------------


def test_a_draft_is_dropped_and_a_final_version_is_left_alone(shop: Shop, context: dict[str, Any]) -> None:
    draft, final = shop.draft(), shop.completed()
    assert DatasetDropDraftOperator(task_id="drop", ref=draft.id).execute(context)["state"] == "aborted"
    assert shop.catalog.version(draft.id).state is State.ABORTED
    for done in (draft, final):
        context["ti"].task_id = f"drop_{done.id}"
        with pytest.raises(AirflowSkipException):
            DatasetDropDraftOperator(task_id="drop", ref={"version_id": done.id}).execute(context)
    assert shop.catalog.version(final.id).state is State.COMPLETED


def test_the_teardown_of_a_create_comes_after_the_work(serialized: Any) -> None:
    with DAG("guarded", schedule=None) as dag:
        create = DatasetCreateOperator(task_id="create", name="orders").as_setup()
        drop = DatasetDropDraftOperator(task_id="drop", ref=create.output["version_id"]).as_teardown(setups=create)
        create >> DatasetDeleteOperator(task_id="work", ref=create.output) >> drop
    again = serialized(dag)
    assert (again.task_dict["create"].is_setup, again.task_dict["drop"].is_teardown) == (True, True)
    assert again.task_dict["drop"].upstream_task_ids == {"create", "work"}


# --- partitions ------------------------------------------------------------------------------------------------------


def test_nothing_is_published_where_its_event_could_not_have_its_key(shop: Shop, context: dict[str, Any]) -> None:
    version = shop.completed(partition="2026-01-02")
    other = assets.dataset_asset("crm/visits")
    keyed = DatasetPublishOperator(task_id="t", ref=version.id, partition_events=True, outlets=[other])
    with pytest.raises(AirflowFailException, match="dataset://crm/orders is none") as refused:
        keyed.execute(context)
    assert "outlets=[dataset_asset('crm/orders')]" in str(refused.value)
    assert shop.catalog.version(version.id).state is State.COMPLETED


@pytest.mark.skipif(not hasattr(OutletEventAccessor, "add_partitions"), reason="no partition keys in this Airflow")
def test_the_event_of_a_declared_outlet_has_the_partition_as_its_key(shop: Shop, context: dict[str, Any]) -> None:
    asset = assets.dataset_asset("crm/orders")
    for partition in ("2026-01-02", None):
        version = shop.completed(partition=partition)
        context["outlet_events"] = OutletEventAccessors()
        keyed = DatasetPublishOperator(task_id="t", ref=version.id, partition_events=True, outlets=[asset])
        keyed.execute(context)
        event = context["outlet_events"][asset]
        assert event.extra["version_id"] == version.id
        assert event.partition_keys == ({partition} if partition else set())


# --- commands --------------------------------------------------------------------------------------------------------


def called(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What `airflow datasets ...` prints, read by Airflow's own parser."""
    parser = argparse.ArgumentParser()
    groups = parser.add_subparsers()
    for group in cli.get_cli_commands():
        add_subcommands(groups.add_parser(group.name), group)
    given = parser.parse_args(["datasets", *words, *(["-o", "json"] if words[0] not in ("approve", "reject") else [])])
    capsys.readouterr()
    given.func(given)
    text = capsys.readouterr().out
    return json.loads(text) if "output" in given else text


def add_subcommands(parser: argparse.ArgumentParser, group: Any) -> None:
    below = parser.add_subparsers()
    for command in group.subcommands:
        one = below.add_parser(command.name)
        for argument in command.args:
            one.add_argument(*argument.flags, **argument.kwargs)
        one.set_defaults(func=command.func)


def test_the_commands_list_and_show(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = shop.published(tags=["a", "b"]), shop.published()
    visit = shop.completed("visits", inputs=(Input(name="orders", ref=two.id),))
    assert [(row["dataset"], row["version"]) for row in called(capsys, "list")] == [
        ("crm/orders", two.version), ("crm/visits", visit.version),
    ]  # fmt: skip
    assert called(capsys, "list", "--project", "other") == []
    assert [row["version"] for row in called(capsys, "versions", "crm/orders", "-n", "1")] == [two.version]
    shown = {row["property"]: row["value"] for row in called(capsys, "show", "crm/orders@1.0.0")}
    assert (shown["id"], shown["tags"]) == (one.id, "a, b")
    shown = {row["property"]: row["value"] for row in called(capsys, "show", "crm/visits@latest")}
    assert shown["inputs"] == f"orders={two.id}" or two.id in shown["inputs"]


def test_the_commands_answer_approvals(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = shop.completed(), shop.completed()
    for version in (one, two):
        shop.catalog.open_approval(version, by=("ana",))
    assert {row["id"] for row in called(capsys, "approvals")} == {one.id, two.id}
    assert "approved by bob" in called(capsys, "approve", one.id, "--note", "well", "--who", "bob")
    assert "rejected by bob" in called(capsys, "reject", two.id, "--who", "bob")
    assert called(capsys, "approvals") == []
    with pytest.raises(SystemExit, match="answered before"):
        called(capsys, "reject", one.id)


def test_the_commands_answer_for_the_version_of_a_dataset_that_waits(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.published()
    asked, newer = shop.completed(), shop.completed()
    shop.catalog.open_approval(asked)
    assert asked.label in called(capsys, "reject", "crm/orders", "--who", "bob")
    shop.catalog.open_approval(newer)
    assert newer.label in called(capsys, "approve", "crm/orders", "--who", "bob")
    with pytest.raises(SystemExit, match="nobody asked about a version of crm/visits\nhint: "):
        called(capsys, "approve", "crm/visits")
    assert not list(shop.catalog.unjournaled())
