"""Write, audit, publish: who waits for an answer or did not pass is seen by nobody who goes by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataset_tasks.errors import InvalidArgumentError, NotFoundError, StateError
from dataset_tasks.model import State
from dataset_tasks.ops.requests import Approve, ApproveResult, Create, Delete, Publish, Verify, VerifyResult
from dataset_tasks.session import Session
from dataset_tasks.settings import Settings
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.outcome import RunReport, Status
from dataset_tasks.spec.run import run_plan
from dataset_tasks.testing.failpoints import injected

SPEC = """\
version: 1
name: shop
project: shop
datasets:
  orders:
    sync: {path: orders}
    publish: {approval: {timeout: 1d, by: [ana]}, alias: prod}
  below: {parents: [orders]}
"""


class Clock:
    """The time, moved by hand."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def pass_(self, **by: float) -> None:
        self.time += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(home: Path, clock: Clock) -> Iterator[Session]:
    with Session(Settings.from_env(home=home), clock=clock) as opened:
        yield opened


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "1.csv").write_text("ana,10")
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def run(shop: Path, session: Session, text: str | None = None) -> RunReport:
    if text is not None:
        (shop / "spec.yaml").write_text(text)
    return run_plan(compile_spec(shop / "spec.yaml", environ={}), session)


def status(report: RunReport) -> dict[str, str]:
    return {outcome.step: str(outcome.status) for outcome in report.outcomes}


def version_id(report: RunReport, step: str = "orders.build") -> str:
    result = next(outcome.result for outcome in report.outcomes if outcome.step == step)
    assert result is not None
    return result.version_id


def change(shop: Path, text: str) -> None:
    (shop / "orders" / "1.csv").write_text(text)


def made(session: Session) -> list[str]:
    return [version.label for version in session.catalog.versions() if version.state.is_final]


def published(shop: Path, session: Session) -> str:
    """A first version, approved and published."""
    first = version_id(run(shop, session))
    session.catalog.answer(first, True, "ana")
    assert run(shop, session).ok
    return first


# --- who waits -------------------------------------------------------------------------------------------------------


def test_a_run_asks_and_everything_below_waits(shop: Path, session: Session) -> None:
    report = run(shop, session)

    assert status(report) == {
        "orders.build": "made", "orders.approve": "waits", "orders.publish": "waits", "below.build": "waits",
    }  # fmt: skip
    assert (report.ok, report.waits) == (False, True)
    assert report.outcomes[-1].why == "orders 1.0.0 waits for approval"
    question = session.catalog.approval(version_id(report))
    assert question is not None
    assert (question.state, question.by, question.alias) == ("open", ("ana",), "prod")
    assert question.deadline == session.clock() + timedelta(days=1)
    assert question.origin["step"] == "orders.approve"


def test_no_name_leads_to_a_version_that_waits(shop: Path, session: Session) -> None:
    first = published(shop, session)
    change(shop, "bo,20")
    second = version_id(run(shop, session))

    assert second != first
    for ref in ("shop/orders", "shop/orders@latest", "shop/orders@published", "shop/orders@prod"):
        assert session.catalog.resolve(ref).id == first
    previous = session.catalog.previous("shop", "orders")
    assert previous is not None
    assert previous.id == first
    assert session.catalog.resolve("shop/orders@1.0.1").id == session.catalog.resolve(second).id == second


def test_a_version_that_waits_is_the_first_of_its_dataset_and_nobody_finds_one(shop: Path, session: Session) -> None:
    run(shop, session)

    with pytest.raises(NotFoundError):
        session.catalog.resolve("shop/orders@latest")
    assert session.catalog.previous("shop", "orders") is None


def test_a_draft_that_starts_from_the_last_version_starts_from_a_good_one(shop: Path, session: Session) -> None:
    first = published(shop, session)
    change(shop, "bo,20")
    run(shop, session)

    draft = session.run(Create(name="orders", project="shop", previous=True))
    assert session.catalog.version(draft.version_id).parents == (first,)


def test_a_dataset_that_was_not_selected_is_read_as_it_was_approved(shop: Path, session: Session) -> None:
    first = published(shop, session)
    change(shop, "bo,20")
    run(shop, session)

    report = run_plan(compile_spec(shop / "spec.yaml", environ={}), session, select=["below"])
    assert report.taken == {"orders": first}


def test_a_second_run_asks_nothing_new_about_the_same_content(shop: Path, session: Session) -> None:
    first = run(shop, session)
    second = run(shop, session)

    assert version_id(first) == version_id(second)
    assert status(second)["orders.build"] == "unchanged"
    assert status(second)["orders.approve"] == "waits"
    assert len(session.catalog.approvals()) == 1


def test_without_approval_in_the_spec_any_more_a_version_that_waits_stands_for_nothing(
    shop: Path, session: Session
) -> None:
    first = version_id(run(shop, session))
    report = run(shop, session, SPEC.replace("approval: {timeout: 1d, by: [ana]}, ", ""))

    assert report.ok
    assert status(report)["orders.build"] == "made"
    assert version_id(report) != first


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_approved_version_is_published_by_the_next_run(shop: Path, session: Session) -> None:
    waiting = version_id(run(shop, session))
    given = session.catalog.answer(waiting, True, "ana", "looks right")
    assert session.catalog.resolve("shop/orders@latest").id == waiting

    report = run(shop, session)
    assert status(report) == {
        "orders.build": "unchanged", "orders.approve": "made", "orders.publish": "made", "below.build": "made",
    }  # fmt: skip
    asked = next(outcome.result for outcome in report.outcomes if outcome.step == "orders.approve")
    assert isinstance(asked, ApproveResult)
    assert (asked.state, asked.who, asked.note) == ("approved", "ana", "looks right")
    assert given.answered == session.clock()
    assert session.catalog.resolve("shop/orders@prod").id == waiting
    again = run(shop, session)
    assert set(status(again).values()) == {"unchanged"}
    assert made(session) == ["shop/orders@1.0.0", "shop/below@1.0.0"]


def test_a_rejected_version_blocks_what_is_below_and_says_who_did_it(shop: Path, session: Session) -> None:
    waiting = version_id(run(shop, session))
    session.catalog.answer(waiting, False, "ana")
    report = run(shop, session)

    assert (report.ok, report.waits) == (False, False)
    by_step = {outcome.step: outcome for outcome in report.outcomes}
    assert by_step["orders.approve"].status is Status.REJECTED
    assert by_step["below.build"].status is Status.SKIPPED
    assert by_step["below.build"].why == "orders 1.0.0 rejected by ana"
    assert session.catalog.version(waiting).quarantined == "rejected by ana"
    assert made(session) == ["shop/orders@1.0.0"]


def test_a_rejected_version_is_passed_over_for_good_and_found_by_its_number(shop: Path, session: Session) -> None:
    first = published(shop, session)
    change(shop, "bo,20")
    second = version_id(run(shop, session))
    session.catalog.answer(second, False, "ana")

    assert session.catalog.resolve("shop/orders@latest").id == first
    assert session.catalog.resolve("shop/orders@1.0.1").id == second
    with pytest.raises(StateError, match="rejected by ana"):
        session.run(Publish(ref=second))
    change(shop, "cy,30")
    third = session.catalog.version(version_id(run(shop, session)))
    assert third.parents == (first,)


def test_content_that_goes_back_to_the_good_version_is_unchanged(shop: Path, session: Session) -> None:
    first = published(shop, session)
    change(shop, "bo,20")
    session.catalog.answer(version_id(run(shop, session)), False, "ana")
    change(shop, "ana,10")

    report = run(shop, session)
    assert set(status(report).values()) == {"unchanged"}
    assert version_id(report) == first


def test_only_reopening_lets_a_rejected_version_be_approved(shop: Path, session: Session) -> None:
    waiting = version_id(run(shop, session))
    session.catalog.answer(waiting, False, "ana", "too few")
    with pytest.raises(StateError, match="answered before: rejected by ana") as refused:
        session.catalog.answer(waiting, True, "bo")
    assert refused.value.kind == "answered"
    assert "--reopen" in refused.value.hint

    opened = session.catalog.reopen(waiting)
    assert (opened.state, opened.by, opened.alias) == ("open", ("ana",), "prod")
    assert session.catalog.version(waiting).quarantined == "waits for approval"
    session.catalog.answer(waiting, True, "bo")
    assert run(shop, session).ok
    assert session.catalog.version(waiting).state is State.PUBLISHED


def test_the_same_answer_again_is_the_first_one(shop: Path, session: Session) -> None:
    waiting = version_id(run(shop, session))
    first = session.catalog.answer(waiting, True, "ana", "mine")

    assert session.catalog.answer(waiting, True, "bo", "late") == first
    assert session.catalog.approval(waiting) == first


def test_of_many_answers_at_once_one_holds(shop: Path, session: Session) -> None:
    waiting = version_id(run(shop, session))
    start, outcomes = threading.Barrier(8), []

    def answer(number: int) -> None:
        start.wait()
        try:
            outcomes.append(session.catalog.answer(waiting, number % 2 == 0, f"user{number}"))
        except StateError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = session.catalog.approval(waiting)
    assert [each for each in outcomes if not isinstance(each, StateError)] == [held] * 4
    assert sum(isinstance(each, StateError) for each in outcomes) == 4


@pytest.mark.parametrize(("otherwise", "outcome"), [("reject", "rejected"), ("approve", "approved")])
def test_what_nobody_answered_in_time_is_answered_when_somebody_looks(
    shop: Path, session: Session, clock: Clock, otherwise: str, outcome: str
) -> None:
    text = SPEC.replace("timeout: 1d", f"timeout: 1d, otherwise: {otherwise}")
    waiting = version_id(run(shop, session, text))
    clock.pass_(hours=23)
    assert run(shop, session).waits
    clock.pass_(hours=1)

    report = run(shop, session)
    assert report.ok == (outcome == "approved")
    found = session.catalog.approval(waiting)
    assert found is not None
    assert (found.state, found.outcome, found.who) == ("expired", outcome, "")
    assert "nobody answered by 2026-01-02 00:00 UTC" in found.told
    with pytest.raises(StateError):
        session.catalog.answer(waiting, outcome != "approved", "ana")


def test_an_answer_that_comes_too_late_does_not_count(shop: Path, session: Session, clock: Clock) -> None:
    waiting = version_id(run(shop, session))
    clock.pass_(days=1)

    with pytest.raises(StateError, match="nobody answered"):
        session.catalog.answer(waiting, True, "ana")
    assert session.catalog.version(waiting).quarantined.startswith("rejected: nobody answered")


# --- what can be asked about -----------------------------------------------------------------------------------------


def test_nobody_is_asked_about_a_draft_or_a_published_version(shop: Path, session: Session) -> None:
    draft = session.run(Create(name="orders", project="shop")).version_id
    with pytest.raises(StateError) as refused:
        session.run(Approve(ref=draft))
    assert refused.value.kind == "not_finalized"
    session.run(Delete(ref=draft))

    first = published(shop, session)
    asked = session.run(Approve(ref=first))
    assert isinstance(asked, ApproveResult)
    assert (asked.unchanged, asked.state) == (True, "approved")
    with pytest.raises(StateError) as published_already:
        session.catalog.reopen(first)
    assert published_already.value.kind == "published"


def test_an_answer_needs_a_question(shop: Path, session: Session) -> None:
    plain = run(shop, session, SPEC.replace("publish: {approval: {timeout: 1d, by: [ana]}, alias: prod}", ""))
    with pytest.raises(StateError, match="nobody asked"):
        session.catalog.answer(version_id(plain), True, "ana")


def test_a_version_that_nobody_held_back_is_held_once_it_is_asked_about(shop: Path, session: Session) -> None:
    plain = version_id(
        run(shop, session, SPEC.replace("publish: {approval: {timeout: 1d, by: [ana]}, alias: prod}", ""))
    )
    session.run(Approve(ref=plain))

    assert session.catalog.previous("shop", "orders") is None
    session.catalog.answer(plain, True, "ana")
    assert session.catalog.version(plain).quarantined == ""


def test_a_time_to_answer_is_more_than_none(shop: Path, session: Session) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout"):
        session.run(Approve(ref=version_id(run(shop, session)), timeout=0))


# --- verify, and being killed in between -----------------------------------------------------------------------------


def test_a_version_is_out_of_sight_until_it_is_verified(shop: Path, session: Session) -> None:
    seen = []
    text = SPEC.replace("    publish: {approval: {timeout: 1d, by: [ana]}, alias: prod}\n", "    verify: true\n")
    catalog = session.catalog
    with injected("verify.before_mark=raise:StorageError"):
        report = run(shop, session, text)
        seen += [version.quarantined for version in catalog.versions() if version.state.is_final]
    assert status(report)["orders.build"] == "failed"
    assert seen == ["waits for verification"]
    assert catalog.previous("shop", "orders") is None

    assert run(shop, session).ok
    assert catalog.resolve("shop/orders@latest").version == "1.0.1"


def test_verify_lets_go_and_approval_comes_after_it(shop: Path, session: Session) -> None:
    text = SPEC.replace("    publish:", "    verify: true\n    publish:")
    with injected("approve.before_commit=raise:StorageError"):
        report = run(shop, session, text)
    assert status(report)["orders.approve"] == "failed"
    waiting = version_id(report)
    assert session.catalog.version(waiting).quarantined == "waits for approval"
    assert session.catalog.approval(waiting) is None

    again = run(shop, session)
    assert again.waits
    assert version_id(again) == waiting


def test_a_version_that_did_not_verify_is_never_asked_about_nor_taken_for_unchanged(
    shop: Path, session: Session, home: Path
) -> None:
    waiting = version_id(run(shop, session))
    (chunk,) = [path for path in home.rglob("*") if path.is_file() and "chunk" in str(path) and path.stat().st_size]
    damaged = bytearray(chunk.read_bytes())
    damaged[-30] ^= 0xFF
    damaged[40] ^= 0xFF
    chunk.chmod(0o644)
    chunk.write_bytes(bytes(damaged))
    result = session.run(Verify(ref=waiting, quarantine=True))
    assert isinstance(result, VerifyResult)
    assert result.bad

    assert session.catalog.version(waiting).quarantined.startswith("verify failed")
    session.catalog.answer(waiting, True, "ana")
    assert session.catalog.version(waiting).quarantined.startswith("verify failed")
    with pytest.raises(StateError, match="verify failed"):
        session.run(Publish(ref=waiting))
    report = run(shop, session)
    assert version_id(report) != waiting
    assert status(report)["orders.build"] == "made"


@pytest.mark.parametrize("point", ["approve.before_commit", "approve.after_commit"])
def test_an_answer_interrupted_at_any_point_is_given_once(shop: Path, session: Session, point: str) -> None:
    waiting = version_id(run(shop, session))
    with injected(f"{point}=raise:StorageError"), pytest.raises(Exception, match="injected"):
        session.catalog.answer(waiting, True, "ana")

    assert session.catalog.answer(waiting, True, "ana").who == "ana"
    assert run(shop, session).ok


def test_a_squashed_version_waits_too(shop: Path, session: Session) -> None:
    text = SPEC.replace(
        "  below: {parents: [orders]}", "  flat: {squash: [orders], verify: true, publish: {approval: true}}"
    )
    text = text.replace("    publish: {approval: {timeout: 1d, by: [ana]}, alias: prod}\n", "")
    report = run(shop, session, text)

    assert status(report)["flat.approve"] == "waits"
    flat = version_id(report, "flat.squash")
    assert session.catalog.previous("shop", "flat") is None
    again = run(shop, session)
    assert status(again)["flat.squash"] == "unchanged"
    session.catalog.answer(flat, True, "ana")
    assert run(shop, session).ok
    assert session.catalog.resolve("shop/flat").id == flat


def test_with_a_step_for_each_operation_it_is_the_same(shop: Path, session: Session) -> None:
    text = SPEC.replace("    publish:", "    granularity: operation\n    verify: true\n    publish:")
    report = run(shop, session, text)
    waiting = version_id(report, "orders.finalize")
    assert status(report)["orders.approve"] == "waits"
    again = run(shop, session)
    assert version_id(again, "orders.finalize") == waiting
    assert status(again)["orders.approve"] == "waits"
    session.catalog.answer(waiting, True, "ana")
    assert run(shop, session).ok
