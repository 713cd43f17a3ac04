"""Approvals in Airflow: the question, the wait, the answer from either side."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, TaskDeferred
from airflow.sdk.execution_time import hitl

from airflow_provider.compat import AirflowFailException
from airflow_provider.operators import DatasetApproveOperator, DatasetPublishOperator
from airflow_provider.operators.base import DatasetOperator
from airflow_provider.triggers.approval import ApprovalTrigger
from dataset_tasks.model import Version
from tests.unit.airflow.catalogs import Shop, shop

__all__ = ["shop"]


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was asked on Airflow's own page."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **question: asked.append(question))
    return asked


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """How questions on Airflow's own page were answered from outside."""
    answers: list[list[str]] = []
    monkeypatch.setattr(hitl, "get_hitl_detail_content_detail", lambda ti_id: SimpleNamespace(response_received=False))
    monkeypatch.setattr(hitl, "update_hitl_detail_response", lambda **told: answers.append(told["chosen_options"]))
    return answers


def ask(version: Version, context: dict[str, Any], **options: Any) -> tuple[DatasetOperator, TaskDeferred]:
    operator = DatasetApproveOperator(task_id="approve", ref=version.id, **options)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    return operator, deferred.value


def test_the_question_stands_in_the_catalog_and_on_airflows_page(
    shop: Shop, context: dict[str, Any], questions: list[dict[str, Any]]
) -> None:
    version = shop.completed(previous=True)
    operator, deferred = ask(version, context, by=["ana"], timeout=3600, alias="prod")
    (question,) = questions
    assert question["subject"] == f"Publish {version.label}?"
    assert (question["options"], question["defaults"]) == (["Approve", "Reject"], ["Reject"])
    assert question["assigned_users"] == [{"id": "ana", "name": "ana"}]
    assert "**1** files" in question["body"]
    assert "UTC: reject." in question["body"]
    assert question["params"]["note"]["value"] is None  # a note is not asked for
    assert f"versions/{version.id}" in question["body"]
    held = shop.catalog.approval(version.id)
    assert held is not None
    assert (held.state, held.by, held.alias, held.origin["task_id"]) == ("open", ("ana",), "prod", "create")
    assert deferred.kwargs == {"version_id": version.id}
    assert operator.found_version == version.id
    ask(version, context)  # another try asks nothing new
    assert len(shop.catalog.approvals()) == 1


@pytest.mark.parametrize("chosen", ["Approve", "Reject"])
def test_an_answer_on_airflows_page_is_kept_in_the_catalog(
    shop: Shop, context: dict[str, Any], questions: object, chosen: str
) -> None:
    version = shop.completed()
    operator, deferred = ask(version, context)
    event = {
        "chosen_options": [chosen], "params_input": {"note": "I looked"},
        "responded_by_user": {"id": "7", "name": "ana"},
    }  # fmt: skip
    if chosen == "Approve":
        payload = operator.execute_complete(context, event, **deferred.kwargs)
        assert (payload["state"], payload["who"], payload["note"]) == ("approved", "ana", "I looked")
        DatasetPublishOperator(task_id="publish", ref=version.id).execute(context)
    else:
        with pytest.raises(AirflowFailException, match="rejected by ana"):
            operator.execute_complete(context, event, **deferred.kwargs)
        with pytest.raises(AirflowFailException, match="rejected"):
            DatasetPublishOperator(task_id="publish", ref=version.id).execute(context)
    held = shop.catalog.approval(version.id)
    assert held is not None
    assert (held.who, held.note) == ("ana", "I looked")


def test_the_first_answer_holds_whoever_gave_it(shop: Shop, context: dict[str, Any], questions: object) -> None:
    version = shop.completed()
    operator, deferred = ask(version, context)
    shop.catalog.answer(version.id, approved=False, who="bob")
    late = {"chosen_options": ["Approve"], "params_input": {}, "responded_by_user": {"id": "ana", "name": "ana"}}
    with pytest.raises(AirflowFailException, match="rejected by bob"):
        operator.execute_complete(context, late, **deferred.kwargs)


@pytest.mark.parametrize("approved", [True, False])
def test_an_answer_given_elsewhere_ends_the_wait(
    shop: Shop, context: dict[str, Any], questions: object, closed: list[list[str]], approved: bool
) -> None:
    version = shop.completed()
    operator, deferred = ask(version, context)
    path, arguments = deferred.trigger.serialize()
    assert path == "airflow_provider.triggers.approval.ApprovalTrigger"
    trigger = ApprovalTrigger(**arguments | {"poll_interval": 0.01})

    async def waited() -> Any:
        waiting = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.to_thread(shop.catalog.answer, version.id, approved, "bob")
        return (await waiting).payload

    event = asyncio.run(waited())
    assert event == {"outcome": "approved" if approved else "rejected"}
    assert closed == [["Approve" if approved else "Reject"]]
    if approved:
        assert operator.execute_complete(context, event, **deferred.kwargs)["who"] == "bob"
    else:
        with pytest.raises(AirflowFailException, match="rejected by bob"):
            operator.execute_complete(context, event, **deferred.kwargs)


@pytest.mark.parametrize("approved", [True, False])
def test_an_answer_on_airflows_page_ends_the_wait_where_airflow_does_not(
    shop: Shop, context: dict[str, Any], questions: object, monkeypatch: pytest.MonkeyPatch, approved: bool
) -> None:
    version = shop.completed()
    operator, deferred = ask(version, context)
    held = SimpleNamespace(
        response_received=True, chosen_options=["Approve" if approved else "Reject"], params_input={"note": "seen"},
        responded_by_user=SimpleNamespace(id="ana", name="Ana"),
    )  # fmt: skip
    monkeypatch.setattr(hitl, "get_hitl_detail_content_detail", lambda ti_id: held)
    event = asyncio.run(anext(deferred.trigger.run())).payload
    assert json.loads(json.dumps(event)) == event
    if approved:
        assert operator.execute_complete(context, event, **deferred.kwargs)["who"] == "Ana"
    else:
        with pytest.raises(AirflowFailException, match="rejected by Ana"):
            operator.execute_complete(context, event, **deferred.kwargs)


@pytest.mark.parametrize("otherwise", ["reject", "approve"])
def test_a_question_that_nobody_answers_is_answered_at_its_deadline(
    shop: Shop, context: dict[str, Any], questions: object, closed: object, otherwise: str
) -> None:
    version = shop.completed()
    operator, deferred = ask(version, context, timeout=0.05, otherwise=otherwise)
    trigger = ApprovalTrigger(**deferred.trigger.serialize()[1] | {"poll_interval": 0.01})
    event = asyncio.run(anext(trigger.run())).payload
    if otherwise == "approve":
        assert operator.execute_complete(context, event, **deferred.kwargs)["state"] == "approved"
    else:
        with pytest.raises(AirflowFailException, match="nobody answered"):
            operator.execute_complete(context, event, **deferred.kwargs)


def test_a_question_that_airflow_does_not_know_any_more_ends_all_the_same(
    shop: Shop, context: dict[str, Any], questions: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time.comms import ErrorResponse

    def refused(**_: object) -> None:
        raise AirflowRuntimeError(ErrorResponse())

    monkeypatch.setattr(hitl, "update_hitl_detail_response", refused)
    version = shop.completed()
    _, deferred = ask(version, context)
    shop.catalog.answer(version.id, approved=True, who="bob")
    assert asyncio.run(anext(deferred.trigger.run())).payload == {"outcome": "approved"}


def test_a_version_that_nobody_asked_about_is_an_error_of_the_wait(shop: Shop, context: dict[str, Any]) -> None:
    event = asyncio.run(anext(ApprovalTrigger(version_id=shop.completed().id).run())).payload
    with pytest.raises(AirflowFailException, match="is gone"):
        DatasetApproveOperator(task_id="approve", ref="x").execute_complete(context, event, version_id="x")


def test_a_version_that_is_published_is_not_asked_about(shop: Shop, context: dict[str, Any]) -> None:
    version = shop.published()
    payload = DatasetApproveOperator(task_id="approve", ref=version.id).execute(context)
    assert (payload["state"], payload["unchanged"]) == ("approved", True)
