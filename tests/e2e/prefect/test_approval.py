"""Approvals: the run pauses, goes on with an answer from wherever it comes, and nothing is published without one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.flow_runs import resume_flow_run

from dataset_tasks.errors import StateError
from dataset_tasks.session import Session
from prefect_blocks import (
    DatasetCatalog,
    add_files,
    approvals,
    approve_dataset,
    create_dataset,
    finalize_dataset,
    flow_from_spec,
    publish_dataset,
    upload_dataset,
    wait_for_approval,
)
from tests.e2e.prefect.conftest import Api, eventually, versions

SPEC = """
version: 1
name: asks
project: lab
datasets:
  raw:
    add: [{{path: data}}]
    publish: {{approval: {{timeout: {timeout}, otherwise: {otherwise}, by: [ana]}}, alias: prod}}
  below: {{parents: [raw], publish: true}}
  apart: {{add: [{{path: data}}]}}
"""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approvals, "POLL", 0.3)


@pytest.fixture
def spec(tmp_path: Path, data: Path) -> Path:
    file = tmp_path / "asks.yaml"
    file.write_text(SPEC.format(timeout="1h", otherwise="reject"))
    return file


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Does something in a thread while a flow runs; what it raises fails the test."""
    threads, errors = [], []

    def start(work: Callable[[], None]) -> None:
        def caught() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
                raise

        from contextvars import copy_context

        thread = threading.Thread(target=copy_context().run, args=(caught,))
        threads.append(thread)
        thread.start()

    yield start
    for thread in threads:
        thread.join()
    assert errors == []


def the_question(session: Session) -> Any:
    def look() -> Any:
        found = session.catalog.approvals(states=("open",))
        return found[0] if found else None

    return eventually("a question", look)


def paused(api: Api, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        state = {"type": {"any_": ["PAUSED"]}}
        runs = api.find("flow_runs", flows={"name": {"any_": [name]}}, flow_runs={"state": state})
        return runs[0] if runs else None

    return eventually("a paused run", look)


def resume(run: dict[str, Any], **given: str) -> None:
    def look() -> bool | None:
        try:
            resume_flow_run(run["id"], run_input=given)
        except RuntimeError:  # the form is saved a moment after the pause
            return None
        return True

    eventually("the form", look)


def test_an_answer_in_prefect_is_written_into_the_catalog_and_the_rest_goes_on_meanwhile(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session, meanwhile: Any
) -> None:
    def answer() -> None:
        run = paused(api, "asks")
        eventually("what needs no answer", lambda: "apart@1.0.0 completed" in versions(session) or None)
        assert "raw@1.0.0 completed" in versions(session)
        assert not any("below" in one for one in versions(session))
        resume(run, decision="approve", who="ana", note="fine")

    meanwhile(answer)
    state = flow_from_spec(spec, catalog=catalog)(return_state=True)
    assert state.is_completed()
    assert sorted(versions(session)) == ["apart@1.0.0 completed", "below@1.0.0 published", "raw@1.0.0 published"]
    question = session.catalog.approval(session.catalog.resolve("lab/raw@prod").id)
    assert question is not None
    assert (question.state, question.who, question.note, question.by) == ("approved", "ana", "fine", ("ana",))
    names = [one["name"] for one in api.find("task_runs", flow_runs={"id": {"any_": [_run(state)]}})]
    assert names.count("raw.approve") == 2, "asked, and answered"


def test_an_answer_by_the_command_line_ends_the_pause(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session, meanwhile: Any
) -> None:
    def answer() -> None:
        question = the_question(session)
        paused(api, "asks")
        session.catalog.answer(question.version_id, True, "ben")

    meanwhile(answer)
    assert flow_from_spec(spec, catalog=catalog)(return_state=True).is_completed()
    assert "raw@1.0.0 published" in versions(session)


def test_a_no_fails_the_run_and_what_is_below_is_skipped_with_the_answer(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session, meanwhile: Any
) -> None:
    meanwhile(lambda: resume(paused(api, "asks"), decision="reject", who="ana", note="odd totals"))
    state = flow_from_spec(spec, catalog=catalog)(return_state=True)
    assert state.is_failed()
    with pytest.raises(StateError, match="rejected by ana"):
        state.result()
    assert sorted(versions(session)) == ["apart@1.0.0 completed", "raw@1.0.0 completed"]
    runs = api.task_runs(_run(state), count=8)
    assert "lab/raw@1.0.0 rejected by ana" in runs["below.build"]["state"]["message"]
    assert runs["below.build"]["state"]["name"] == "Skipped"


@pytest.mark.parametrize(("otherwise", "ends"), [("reject", "failed"), ("approve", "completed")])
def test_nobody_answers_in_time(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session, otherwise: str, ends: str
) -> None:
    spec.write_text(SPEC.format(timeout="1s", otherwise=otherwise))
    state = flow_from_spec(spec, catalog=catalog)(return_state=True)
    assert state.type.value.lower() == ends
    assert ("raw@1.0.0 published" in versions(session)) == (otherwise == "approve")


def test_a_flow_written_by_hand_waits_too_and_a_task_can_wait_in_its_place(
    api: Api, catalog: DatasetCatalog, data: Path, session: Session, meanwhile: Any
) -> None:
    @flow
    def by_hand() -> Any:
        draft = create_dataset("hand", "lab", catalog=catalog)
        add_files(draft, str(data), catalog=catalog)
        upload_dataset(draft, catalog=catalog)
        final = finalize_dataset(draft, catalog=catalog)
        answer = wait_for_approval(final, by="ana", alias="prod", catalog=catalog)
        assert approve_dataset(final, catalog=catalog)["state"] == "approved", "there is an answer: no wait"
        publish_dataset(final, alias="prod", catalog=catalog)
        return answer

    meanwhile(lambda: resume(paused(api, "by-hand"), decision="approve", who="ana"))
    assert by_hand()["who"] == "ana"
    assert versions(session) == ["hand@1.0.0 published"]


def test_a_form_with_another_answer_is_refused_before_the_flow_sees_it(
    api: Api, spec: Path, catalog: DatasetCatalog, session: Session, meanwhile: Any
) -> None:
    def answer() -> None:
        run = paused(api, "asks")
        resume_refused(run)
        resume(run, decision="approve")

    meanwhile(answer)
    assert flow_from_spec(spec, catalog=catalog)(return_state=True).is_completed()


def resume_refused(run: dict[str, Any]) -> None:
    def look() -> bool | None:
        with pytest.raises(RuntimeError) as caught:
            resume_flow_run(run["id"], run_input={"decision": "maybe"})
        return True if "maybe" in str(caught.value) else None

    eventually("the form", look)


def _run(state: Any) -> str:
    return str(state.state_details.flow_run_id)
