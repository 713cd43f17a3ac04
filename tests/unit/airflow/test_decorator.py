"""`@task.dataset`: what it asks the session for, and what it refuses while the DAG is written."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider.assets import dataset_asset
from airflow_provider.compat import AirflowFailException, AirflowSkipException
from airflow_provider.triggers.dataset import DatasetEventTrigger
from dataset_tasks.errors import InvalidArgumentError, TransformError
from dataset_tasks.ops.requests import Create, Publish, Transform

CATALOG, VERSION = "c" * 32, "a" * 32


def features(inputs: Any, output: Any, top: int = 10) -> None:
    """Makes features."""


def request(session: Any, kind: type) -> Any:
    return next(stage.request for stage in session.build.stages if isinstance(stage.request, kind))


def test_a_function_becomes_a_build(session: Any, context: dict[str, Any]) -> None:
    with DAG("shop", schedule=None):
        made = task.dataset("crm/features", inputs={"orders": "crm/orders@published"}, tags=["daily"])(features)(top=3)
    payload = made.operator.work(context)
    create, transform = request(session, Create), request(session, Transform)
    assert (create.project, create.name, create.tags) == ("crm", "features", ("daily",))
    assert create.skip_unchanged
    assert [(one.name, one.ref) for one in create.inputs] == [("orders", "crm/orders@published")]
    assert transform.arguments == {"top": 3}
    assert session.calls[0].functions[transform.call] is features
    assert session.calls[0].key == "airflow/shop/manual__1/create/-1"
    assert session.published == []
    assert payload["version_id"] == VERSION
    assert made.operator.doc_md == "Makes features."


def test_the_dag_serializes_and_shows_the_task_under_its_own_name(serialized: Any) -> None:
    with DAG("shop", schedule=None) as dag:
        task.dataset("crm/features", publish=True)(features)()
    again = serialized(dag)
    assert again.task_dict["features"].operator_name == "@task.dataset"
    assert dag.task_dict["features"].outlets == [dataset_asset("crm/features")]


def test_a_mapped_task_that_publishes_declares_its_asset_too(serialized: Any) -> None:
    asset = dataset_asset("crm/features")
    with DAG("shop", schedule=None) as dag:
        task.dataset("crm/features", publish=True)(features).expand(top=[1, 2])
        task.dataset("crm/features", task_id="named", alias="prod", outlets=asset)(features).expand(top=[1, 2])
        task.dataset("crm/features", task_id="quiet")(features).expand(top=[1, 2])
    assert [each.outlets for each in dag.tasks] == [[asset], [asset], []]
    serialized(dag)


def test_the_result_of_one_task_is_the_input_of_another() -> None:
    with DAG("shop", schedule=None) as dag:
        first = task.dataset("crm/orders", task_id="orders")(features)()
        task.dataset("crm/features", inputs={"orders": first}, parents=[first["version_id"]])(features)()
    assert dag.task_dict["features"].upstream_task_ids == {"orders"}


def test_a_publish_follows_the_build_and_emits_its_event(session: Any, context: dict[str, Any]) -> None:
    with DAG("shop", schedule=None):
        made = task.dataset("crm/orders", alias="prod")(features)()
    made.operator.work(context)
    assert session.published == [Publish(ref=VERSION, alias="prod")]
    assert session.calls[-1].key == "airflow/shop/manual__1/create/-1/publish"
    assert context["outlet_events"][dataset_asset("crm/orders")].extra["version_id"] == VERSION


def test_an_outlet_that_is_given_is_the_one_that_emits() -> None:
    watcher = AssetWatcher(name="orders", trigger=DatasetEventTrigger(dataset="crm/orders"))
    asset = dataset_asset("crm/orders")
    watched = Asset(name=asset.name, uri=asset.uri, watchers=[watcher])
    with DAG("crm", schedule=None):
        made = task.dataset("crm/orders", publish=True, outlets=[watched])(features)()
    assert [outlet.watchers for outlet in made.operator.outlets] == [[watcher]]


def test_nothing_new_emits_nothing_and_skips_where_that_is_wanted(session: Any, context: dict[str, Any]) -> None:
    session.answers = {"build": {"unchanged": True, "why": "same inputs"}, "publish": {"unchanged": True}}
    with DAG("shop", schedule=None):
        made = task.dataset("crm/orders", publish=True)(features)()
        skipping = task.dataset("crm/orders", publish=True, skip_when_unchanged=True, task_id="s")(features)()
    assert made.operator.work(context)["unchanged"] is True
    assert made.operator.outlets == []
    with pytest.raises(AirflowSkipException, match="same inputs"):
        skipping.operator.work(context)
    assert context["ti"].xcom["create", "return_value"]["version_id"] == VERSION


def test_an_old_version_that_is_published_only_now_is_no_skip(session: Any, context: dict[str, Any]) -> None:
    session.answers = {"build": {"unchanged": True}}
    with DAG("shop", schedule=None):
        made = task.dataset("crm/orders", publish=True, skip_when_unchanged=True)(features)()
    assert made.operator.work(context)["unchanged"] is True
    assert context["outlet_events"][dataset_asset("crm/orders")].extra["version_id"] == VERSION


def test_a_function_that_raises_may_be_retried(session: Any, context: dict[str, Any]) -> None:
    session.errors["build"] = TransformError("features raised ValueError: no rows")
    with DAG("shop", schedule=None):
        made = task.dataset("crm/orders")(features)()
    with pytest.raises(TransformError):
        made.operator.work(context)


def test_templates_fill_the_arguments_and_the_references(session: Any, context: dict[str, Any]) -> None:
    with DAG("shop", schedule=None):
        made = task.dataset("crm/{{ kind }}", inputs=["crm/{{ kind }}-raw"])(features)(top="{{ kind }}")
    made.operator.render_template_fields({"kind": "orders"})
    made.operator.work(context)
    create = request(session, Create)
    assert (create.name, create.inputs[0].name) == ("orders", "orders-raw")
    assert request(session, Transform).arguments == {"top": "orders"}


def test_a_function_maps_over_its_own_arguments(session: Any, context: dict[str, Any], serialized: Any) -> None:
    with DAG("shop", schedule=None) as dag:
        made = task.dataset("crm/orders", max_active_tis_per_dagrun=2)(features).expand(top=[1, 2])
    one = made.operator.unmap({"op_kwargs": {"top": 2}})
    one.work(context)
    assert request(session, Transform).arguments == {"top": 2}
    serialized(dag)


def test_mistakes_are_told_while_the_dag_is_written() -> None:
    def wants_context(inputs: Any, output: Any, ds: str) -> None: ...

    with DAG("shop", schedule=None):
        with pytest.raises(InvalidArgumentError, match="positional") as caught:
            task.dataset("crm/orders")(features)(3)
        assert "by keyword" in caught.value.hint
        with pytest.raises(InvalidArgumentError, match="asks for ds") as caught:
            task.dataset("crm/orders")(wants_context)()
        assert '"{{ ds }}"' in caught.value.hint
        task.dataset("crm/orders")(wants_context)(ds="{{ ds }}")
        with pytest.raises(TypeError, match="missing a required argument"):
            task.dataset("crm/orders")(lambda inputs, output, day: None)()
        with pytest.raises(InvalidArgumentError, match="needs the dataset"):
            task.dataset(features)
        with pytest.raises(InvalidArgumentError, match="'orders'"):
            task.dataset("orders")


def test_an_argument_that_is_no_json_fails_without_a_retry(session: Any, context: dict[str, Any]) -> None:
    with DAG("shop", schedule=None):
        made = task.dataset("crm/orders")(features)(top=object())
    with pytest.raises(AirflowFailException, match="JSON"):
        made.operator.work(context)
