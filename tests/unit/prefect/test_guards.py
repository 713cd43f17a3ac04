"""What keeps a collection honest in Prefect, each seen without a server: slots, keys of pauses, ids of events, what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.context import FlowRunContext

import prefect_blocks
from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.ops.requests import OPERATIONS, BuildResult, FinalizeResult, PublishResult, Result
from prefect_blocks import DatasetCatalog, approvals, dataset_task, events, reports, running, tasks
from tests.unit.prefect.conftest import CATALOG, VERSION, FakeSession, InTask
from tests.unit.prefect.test_tasks import LEAST, task_for

ABOUT = {"catalog_id": CATALOG, "version_id": VERSION, "project": "crm", "name": "orders", "version": "1.0.0"}
#: Verbs that read or write the bytes of a whole version.
HEAVY = {"upload", "build", "squash", "get", "verify", "repack", "repair", "copy"}


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch, session: FakeSession) -> list[str]:
    """What is taken and given back, and what runs in between."""
    log: list[str] = []
    answer = session.run

    @contextmanager
    def concurrency(name: str, *, strict: bool) -> Iterator[None]:
        if name == "none":
            raise ConcurrencySlotAcquisitionError("no such limit")
        if name == "away":
            raise ConcurrencySlotAcquisitionError("no slots") from httpx.ConnectError("no server")
        assert strict, "a limit that is not there would be no limit"
        log.append(f"take {name}")
        yield
        log.append(f"give back {name}")

    def run(request: Any, **how: Any) -> Any:
        log.append(request.verb)
        return answer(request, **how)

    monkeypatch.setattr(running, "concurrency", concurrency)
    monkeypatch.setattr(session, "run", run)
    return log


@pytest.mark.parametrize("verb", OPERATIONS)
def test_an_operation_holds_a_slot_of_the_stores_limit_while_it_moves_bytes_and_no_other_does(
    verb: str, session: FakeSession, slots: list[str], in_task: InTask
) -> None:
    if verb == "approve":
        session.answers[verb] = {"state": "approved"}
    catalog = DatasetCatalog(embedded=True, concurrency_limit="lake")
    with in_task():
        task_for(verb).fn(**LEAST.get(verb, {"ref": VERSION}), catalog=catalog)
    assert slots == (["take lake", verb, "give back lake"] if verb in HEAVY else [verb])


def test_a_dataset_function_holds_a_slot_too(session: FakeSession, slots: list[str], in_task: InTask) -> None:
    @dataset_task("crm/orders", catalog=DatasetCatalog(embedded=True, concurrency_limit="lake"))
    def orders(inputs: Any, output: Path) -> None: ...

    with in_task():
        orders.fn(inputs=None, catalog=None, step=None)
    assert slots == ["take lake", "build", "give back lake"]


def test_a_limit_that_is_not_there_is_an_error_and_nothing_is_done(
    session: FakeSession, slots: list[str], in_task: InTask
) -> None:
    with in_task(), pytest.raises(InvalidArgumentError, match="no concurrency limit 'none'") as caught:
        tasks.upload_dataset.fn(VERSION, catalog=DatasetCatalog(embedded=True, concurrency_limit="none"))
    assert "prefect gcl create none" in caught.value.hint
    assert slots == []


def test_a_server_that_is_away_is_not_taken_for_a_limit_that_is_not_there(
    session: FakeSession, slots: list[str], in_task: InTask
) -> None:
    catalog = DatasetCatalog(embedded=True, concurrency_limit="away")
    with in_task(), pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        tasks.upload_dataset.fn(VERSION, catalog=catalog)
    assert running.is_worth_retrying(caught.value)
    assert slots == []


def test_a_pause_has_a_key_of_the_letters_that_prefect_allows(monkeypatch: pytest.MonkeyPatch, in_task: InTask) -> None:
    assert approvals.pause_key("nyc.training_v2.approve") == "nyc-training-v2-approve"
    assert approvals.pause_key("É") == "approve"
    flow_run = SimpleNamespace(flow_run=SimpleNamespace(id=UUID(int=1)))
    monkeypatch.setattr(FlowRunContext, "get", classmethod(lambda cls: flow_run))
    monkeypatch.setattr(approvals, "get_run_logger", lambda: SimpleNamespace(info=lambda *_: None))
    asked: list[str] = []

    def pause_flow_run(*, key: str, **_: Any) -> Any:
        asked.append(key)
        return approvals.Answer(decision="approve")

    monkeypatch.setattr(approvals, "pause_flow_run", pause_flow_run)
    answered = SimpleNamespace(outcome="approved")
    session: Any = SimpleNamespace(catalog=SimpleNamespace(approval=lambda _: answered))
    question = approvals.Question(name="raw_2.approve", label="lab/raw@1.0.0", session=session, version_id=VERSION)
    approvals.Questions(lambda _: None)._pause(question)
    assert asked == ["raw-2-approve"]


def version() -> Any:
    names = ("id", "catalog_id", "project", "name", "dataset", "version", "partition", "content_hash", "files", "bytes")
    return SimpleNamespace(**dict.fromkeys(names, "x") | {"project": "crm", "name": "orders"})


def test_an_event_that_is_told_again_has_the_same_id_and_another_version_or_alias_has_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emitted: list[tuple[str, UUID]] = []
    monkeypatch.setattr(events, "emit_event", lambda **told: emitted.append((told["event"], told["id"])))
    session: Any = SimpleNamespace(
        catalog=SimpleNamespace(version=lambda one: SimpleNamespace(**vars(version()) | {"id": one}))
    )
    other = ABOUT | {"version_id": "b" * 32}
    results = [
        FinalizeResult(**ABOUT),
        PublishResult(**ABOUT),
        PublishResult(**ABOUT, alias="prod"),
        FinalizeResult(**other),
    ]
    for _ in range(2):
        events.tell(session, *results)
    assert emitted[:4] == emitted[4:]
    assert len({one for _, one in emitted}) == 4
    assert [event for event, _ in emitted[:2]] == [events.FINALIZED, events.PUBLISHED]


def test_what_is_unchanged_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch, session: FakeSession) -> None:
    told: list[object] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: told.append(event))
    events.tell(session, BuildResult(**ABOUT, unchanged=True), PublishResult(**ABOUT, unchanged=True), None)  # type: ignore[arg-type]
    assert told == []


NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("result", "age", "runner", "known", "told"),
    [
        (BuildResult(**ABOUT, unchanged=True), 1, "prefect", None, events.FINALIZED),
        (FinalizeResult(**ABOUT, unchanged=True), 1, "prefect", None, events.FINALIZED),
        (PublishResult(**ABOUT, unchanged=True), 1, "prefect", None, events.PUBLISHED),
        (PublishResult(**ABOUT, unchanged=True, alias="prod"), 1, "prefect", None, events.PUBLISHED),
        (PublishResult(**ABOUT, unchanged=True), 1, "prefect", "prod", None),
        (PublishResult(**ABOUT, unchanged=True, alias="prod"), 1, "prefect", "prod", None),
        (PublishResult(**ABOUT, unchanged=True, alias="prod"), 1, "prefect", "", events.PUBLISHED),
        (PublishResult(**ABOUT, unchanged=True), 25, "prefect", None, None),
        (PublishResult(**ABOUT, unchanged=True), 1, "local", None, None),
        (PublishResult(**ABOUT), 1, "prefect", None, None),
    ],
)
def test_what_a_killed_run_did_not_tell_is_told_by_the_next_one_unless_prefect_knows_it(
    monkeypatch: pytest.MonkeyPatch, result: Result, age: int, runner: str, known: str | None, told: str | None
) -> None:
    """`age` in hours; `known` is the alias that Prefect has an event of, empty for none, None for no event at all."""
    before = NOW - timedelta(hours=age)
    facts = {"id": VERSION, "origin": {"runner": runner}, "finalized": before, "published": before}
    made = SimpleNamespace(**vars(version()) | facts)
    catalog = SimpleNamespace(version=lambda _: made, aliases=lambda *_: {"prod": VERSION, "old": "b" * 32})
    emitted: list[str] = []
    monkeypatch.setattr(events, "emit_event", lambda **one: emitted.append(one["event"]))
    held = set() if known is None else {events._id(events.PUBLISHED, made, known)}  # type: ignore[arg-type]
    monkeypatch.setattr(events, "_knows_one", lambda ids: not held.isdisjoint(ids))
    session: Any = SimpleNamespace(catalog=catalog, clock=lambda: NOW)
    events.make_up(session, result, None)
    assert emitted == ([told] if told else [])


def test_where_prefect_does_not_say_which_events_it_knows_none_is_made_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Away:
        def __enter__(self) -> Any:
            raise httpx.ConnectError("no server")

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(events, "get_client", lambda **_: Away())
    assert events._knows_one([UUID(int=1)])


@pytest.mark.parametrize("verb", ["finalize", "build", "squash"])
@pytest.mark.parametrize("is_unchanged", [False, True])
def test_only_what_was_made_is_an_asset(
    session: FakeSession, in_task: InTask, monkeypatch: pytest.MonkeyPatch, verb: str, is_unchanged: bool
) -> None:
    shown: list[object] = []
    session.answers[verb] = {"unchanged": is_unchanged}
    with in_task():
        monkeypatch.setattr(reports, "show_version", lambda *given, **_: shown.append(given))
        task_for(verb).fn(**LEAST.get(verb, {"ref": VERSION}))
    assert len(shown) == (not is_unchanged)


def test_nothing_is_done_by_a_commit_hook_for_one_that_raises_leaves_a_flow_completed() -> None:
    for file in Path(prefect_blocks.__file__).parent.rglob("*.py"):
        assert ".on_commit" not in file.read_text(), file
