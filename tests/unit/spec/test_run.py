from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace

import pytest

from dataset_tasks.errors import (
    CheckFailedError,
    InvalidArgumentError,
    NotFoundError,
    StorageUnavailableError,
    TransformError,
)
from dataset_tasks.ops.requests import Build, Create, Publish, VerifyResult
from dataset_tasks.progress import Silent
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.outcome import RunInterruptedError, Status
from dataset_tasks.spec.run import run_plan
from dataset_tasks.spec.runner import ASKED, FORCED
from dataset_tasks.spec.worker import StepStoppedError

DIAMOND = """\
  raw: {transform: {call: "m:raw"}}
  left: {inputs: [raw], transform: {call: "m:f"}}
  right: {inputs: [raw], transform: {call: "m:f"}}
  both: {parents: [left, right], publish: {alias: prod}}
  aside: {transform: {call: "m:f"}}
"""


class Fake:
    """A clock in which nothing sleeps: it waits for endings, and moves only when there is nothing to wait for."""

    def __init__(self):
        self.time = 0.0
        self.waits = []
        self.stuck = 0  # steps that will not end by themselves

    def now(self):
        return self.time

    def wait(self, endings, seconds, running):
        if running > self.stuck:
            return endings.get()
        if not endings.empty():
            return endings.get()
        self.waits.append(seconds)
        self.time += seconds
        return None


class Seen:
    """An observer that keeps everything."""

    def __init__(self):
        self.events = []
        self.threads = set()

    def started(self, step, attempt):
        self.note("started", step.id, attempt)

    def retrying(self, step, error, delay):
        self.note("retrying", step.id, delay)

    def finished(self, outcome):
        self.note("finished", outcome.step, str(outcome.status))

    def note(self, *event):
        self.events.append(event)
        self.threads.add(threading.current_thread())


@pytest.fixture
def clock():
    return Fake()


@pytest.fixture
def diamond(write):
    return compile_spec(write(DIAMOND))


def fails(error):
    def act():
        raise error

    return act


def statuses(report):
    return {outcome.step: str(outcome.status) for outcome in report.outcomes}


def test_every_step_runs_after_what_it_needs_with_the_versions_of_this_run(diamond, session, clock):
    report = run_plan(diamond, session, run_id="r1", clock=clock)

    assert report.ok
    assert report.changed
    ran = session.ran()
    assert sorted(ran) == sorted(step.id for step in diamond.steps)
    for step in diamond.steps:
        assert all(ran.index(need) < ran.index(step.id) for need in step.needs)
    build = session.request("both.build")
    assert isinstance(build, Build)
    create = build.stages[0].request
    assert isinstance(create, Create)
    assert create.parents == ("version of left.build", "version of right.build")
    assert session.request("both.publish") == Publish(ref="version of both.build", alias="prod")


def test_keys_and_origin_name_the_run_and_the_step(diamond, session, clock):
    run_plan(diamond, session, run_id="r1", clock=clock)

    assert {call.key for call in session.calls} == {f"run/r1/{step.id}" for step in diamond.steps}
    assert session.calls[0].origin == {
        "runner": "local",
        "run_id": "r1",
        "step": session.ran()[0],
        "spec": "demo",
        "spec_digest": diamond.digest,
    }


def test_two_runs_without_an_id_get_different_ones(diamond, session, clock):
    first, second = (run_plan(diamond, session, clock=clock).run_id for _ in range(2))

    assert first != second


def test_never_more_steps_at_a_time_than_jobs(write, session, clock):
    plan = compile_spec(write("".join(f'  d{i}: {{transform: {{call: "m:f"}}}}\n' for i in range(8))))
    running, most, lock = [0], [0], threading.Lock()
    both = threading.Barrier(2, timeout=120)

    def act():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        both.wait()
        with lock:
            running[0] -= 1

    for i in range(8):
        session.on(f"d{i}.build", act)
    report = run_plan(plan, session, jobs=2, clock=clock)

    assert report.ok
    assert most[0] == 2


def test_one_job_at_a_time_runs_the_steps_in_the_order_of_the_plan(diamond, session, clock):
    run_plan(diamond, session, jobs=1, clock=clock)

    assert session.ran() == ["raw.build", "aside.build", "left.build", "right.build", "both.build", "both.publish"]


def test_no_job_is_refused(diamond, session):
    with pytest.raises(InvalidArgumentError, match="jobs is 0"):
        run_plan(diamond, session, jobs=0)


def test_a_failure_skips_what_is_below_and_the_rest_goes_on(diamond, session, clock):
    session.on("left.build", fails(CheckFailedError("too few files")))

    report = run_plan(diamond, session, clock=clock)

    assert not report.ok
    assert statuses(report) == {
        "raw.build": "made",
        "left.build": "failed",
        "right.build": "made",
        "both.build": "skipped",
        "both.publish": "skipped",
        "aside.build": "made",
    }
    by_step = {outcome.step: outcome for outcome in report.outcomes}
    assert by_step["left.build"].why == "too few files"
    assert by_step["both.publish"].why == "left.build failed"
    assert by_step["both.publish"].tries == 0


def test_the_error_keeps_the_traceback_of_the_step(diamond, session, clock):
    session.on("left.build", fails(ZeroDivisionError("division by zero")))

    report = run_plan(diamond, session, clock=clock)

    (outcome,) = report.with_status(Status.FAILED)
    assert outcome.why == "ZeroDivisionError: division by zero"
    frames = []
    trace = outcome.error.__traceback__
    while trace:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == "act"


def test_a_step_is_tried_again_after_its_delay_as_often_as_it_says(write, session, clock):
    plan = compile_spec(write('  raw: {transform: {call: "m:f"}, retries: 2, retry_delay: 30s}\n'))
    session.on("raw.build", fails(TransformError("no luck")), fails(OSError("nor now")))
    seen = Seen()

    report = run_plan(plan, session, clock=clock, observer=seen)

    assert report.ok
    assert report.outcomes[0].tries == 3
    assert clock.waits == [30.0, 30.0]
    assert [event for event in seen.events if event[0] != "finished"] == [
        ("started", "raw.build", 1),
        ("retrying", "raw.build", 30.0),
        ("started", "raw.build", 2),
        ("retrying", "raw.build", 30.0),
        ("started", "raw.build", 3),
    ]
    assert len({call.key for call in session.calls}) == 1


def test_a_step_that_keeps_failing_fails_after_its_last_try(write, session, clock):
    plan = compile_spec(write('  raw: {transform: {call: "m:f"}, retries: 1}\n'))
    session.on("raw.build", fails(TransformError("first")), fails(TransformError("second")))

    report = run_plan(plan, session, clock=clock)

    assert report.outcomes[0].why == "second"
    assert report.outcomes[0].tries == 2


@pytest.mark.parametrize("error", [CheckFailedError("no"), InvalidArgumentError("no"), SystemExit(3)])
def test_what_another_try_can_not_help_is_not_tried_again(error, write, session, clock):
    plan = compile_spec(write('  raw: {transform: {call: "m:f"}, retries: 5}\n'))
    session.on("raw.build", fails(error))

    report = run_plan(plan, session, clock=clock)

    assert report.outcomes[0].status is Status.FAILED
    assert report.outcomes[0].tries == 1


def test_while_one_step_waits_for_its_retry_others_run(write, session, clock):
    plan = compile_spec(
        write('  a: {transform: {call: "m:f"}, retries: 1}\n  b: {transform: {call: "m:f"}}\n  c: {parents: [b]}\n')
    )
    session.on("a.build", fails(StorageUnavailableError("later")))

    report = run_plan(plan, session, jobs=1, clock=clock)

    assert report.ok
    assert session.ran() == ["a.build", "b.build", "c.build", "a.build"]


def test_an_unchanged_build_says_so_and_what_is_below_looks_for_itself(diamond, session, clock):
    session.unchanged = {"raw.build", "left.build"}

    report = run_plan(diamond, session, clock=clock)

    assert statuses(report)["left.build"] == "unchanged"
    assert statuses(report)["both.build"] == "made"
    assert session.request("both.build").stages[0].request.parents[0] == "version of left.build"


def test_a_run_in_which_nothing_changed_is_ok_and_made_nothing(write, session, clock):
    plan = compile_spec(write('  raw: {transform: {call: "m:f"}, publish: true}\n'))
    session.unchanged = {"raw.build", "raw.publish"}

    report = run_plan(plan, session, clock=clock)

    assert report.ok
    assert not report.changed


def test_after_an_unchanged_step_only_the_publish_of_its_dataset_is_asked(write, session, clock):
    plan = compile_spec(
        write('  raw: {transform: {call: "m:f"}, granularity: operation, verify: true, publish: true}\n')
    )
    session.unchanged = {"raw.transform"}

    report = run_plan(plan, session, clock=clock)

    assert session.ran() == ["raw.create", "raw.transform", "raw.publish"]
    assert statuses(report) == {
        "raw.create": "made",
        "raw.transform": "unchanged",
        "raw.upload": "unchanged",
        "raw.finalize": "unchanged",
        "raw.verify": "unchanged",
        "raw.publish": "made",
    }
    assert session.request("raw.publish").ref == "version of raw.transform"


def test_a_version_that_can_not_be_read_back_fails_its_verify(write, session, clock):
    plan = compile_spec(
        write('  raw: {transform: {call: "m:f"}, granularity: operation, verify: true, publish: true}\n')
    )
    bad = VerifyResult(
        catalog_id="c", version_id="v", project="crm", name="raw", version="1.0.0", bad=("a.csv", "b.csv")
    )
    session.on("raw.verify", lambda: bad)

    report = run_plan(plan, session, clock=clock)

    assert statuses(report)["raw.publish"] == "skipped"
    assert report.with_status(Status.FAILED)[0].error.paths == ("a.csv", "b.csv")


class TooLong(Fake):
    """Lets time pass, and nothing end, until it has been asked so often; then waits for the real ending."""

    def __init__(self, entered, *, waits):
        super().__init__()
        self.entered, self.left = entered, waits

    def wait(self, endings, seconds, running):
        if self.left == 0:
            return endings.get()
        while not self.entered:
            pass  # the step is about to begin
        self.left -= 1
        self.waits.append(seconds)
        self.time += seconds
        return None


def working(session, step, entered, dropped):
    """A step that goes on for ever and reports it, and cleans up when it is stopped."""

    def act():
        entered.append(1)
        try:
            while True:
                session.progress[step].note("still going")
        except StepStoppedError:
            session.progress[step].note("dropping")  # is not stopped again
            dropped.append(1)
            raise

    return act


def silent(entered, dropped):
    """A step that goes on for ever and reports nothing."""

    def act():
        try:
            entered.append(1)
            while True:
                pass
        except StepStoppedError:
            dropped.append(1)
            raise

    return act


def test_a_step_that_takes_too_long_stops_where_it_reports(write, session):
    plan = compile_spec(write('  raw: {transform: {call: "m:f"}, timeout: 2h}\n  below: {parents: [raw]}\n'))
    entered, dropped = [], []
    session.on("raw.build", working(session, "raw.build", entered, dropped))

    report = run_plan(plan, session, clock=(clock := TooLong(entered, waits=1)), progress=Quiet())

    assert dropped
    assert clock.waits == [7200.0]
    assert report.outcomes[0].why == "raw.build took longer than 7200 seconds"
    assert report.outcomes[0].error.retryable
    assert statuses(report)["below.build"] == "skipped"


def test_a_step_that_reports_nothing_is_stopped_where_it_stands(write, session):
    plan = compile_spec(write('  raw: {transform: {call: "m:f"}, timeout: 2h}\n'))
    entered, dropped = [], []
    session.on("raw.build", silent(entered, dropped))

    report = run_plan(plan, session, clock=(clock := TooLong(entered, waits=2)))

    assert dropped
    assert clock.waits == [7200.0, ASKED]
    assert report.outcomes[0].status is Status.FAILED


def test_a_step_that_took_too_long_is_tried_again(write, session):
    plan = compile_spec(write('  raw: {transform: {call: "m:f"}, timeout: 2h, retries: 1, retry_delay: 0s}\n'))
    entered, dropped = [], []
    session.on("raw.build", working(session, "raw.build", entered, dropped))

    report = run_plan(plan, session, clock=TooLong(entered, waits=1), progress=Quiet())

    assert report.ok
    assert report.outcomes[0].tries == 2


def test_a_step_that_does_not_stop_is_given_up_and_its_end_is_not_waited_for(write, session):
    plan = compile_spec(write('  raw: {transform: {call: "m:f"}, timeout: 2h, retries: 3}\n'))
    entered, release = [], threading.Event()

    def act():
        entered.append(1)
        while True:
            try:
                release.wait()  # code that takes no notice
                return
            except StepStoppedError:
                pass

    session.on("raw.build", act)
    report = run_plan(plan, session, clock=(clock := TooLong(entered, waits=3)))
    release.set()

    assert report.outcomes[0].tries == 1
    assert "did not stop" in report.outcomes[0].why
    assert clock.waits == [7200.0, ASKED, FORCED]


class Quiet(Silent):
    """A progress whose notes go nowhere."""

    def note(self, text):
        pass


CHAIN = '  first: {transform: {call: "m:f"}}\n  second: {parents: [first]}\n  third: {parents: [second]}\n'


def test_ctrl_c_stops_what_runs_and_reports_what_was_done(write, session):
    dropped = []

    def act():
        os.kill(os.getpid(), signal.SIGINT)
        working(session, "second.build", [], dropped)()

    session.on("second.build", act)
    with pytest.raises(RunInterruptedError) as caught:
        run_plan(compile_spec(write(CHAIN)), session, run_id="r1", progress=Quiet())

    assert dropped
    report = caught.value.report
    assert report.interrupted
    assert not report.ok
    assert statuses(report) == {"first.build": "made", "second.build": "skipped", "third.build": "skipped"}
    assert report.outcomes[1].why == "interrupted"
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_for_ctrl_c_is_left_in_place(write, session, clock):
    def handler(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, handler)
    try:
        session.on("first.build", lambda: seen.append(signal.getsignal(signal.SIGINT)))
        seen = []
        run_plan(compile_spec(write(CHAIN)), session, clock=clock)
        assert seen == [handler]
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_from_elsewhere_ends_the_run_the_same_way(write, session):
    class Interrupted(Fake):
        def wait(self, endings, seconds, running):
            if session.ran() == ["first.build", "second.build"] and not self.time:
                self.time = 1.0
                raise KeyboardInterrupt
            return endings.get()

    entered, dropped = [], []
    session.on("second.build", working(session, "second.build", entered, dropped))
    with pytest.raises(RunInterruptedError):
        run_plan(compile_spec(write(CHAIN)), session, clock=Interrupted(), progress=Quiet())
    assert dropped


def test_the_observer_is_told_everything_from_the_thread_of_the_caller(diamond, session, clock):
    seen = Seen()
    run_plan(diamond, session, clock=clock, observer=seen)

    assert seen.threads == {threading.current_thread()}
    assert ("finished", "both.publish", "made") in seen.events
    assert len([event for event in seen.events if event[0] == "finished"]) == len(diamond.steps)


def test_only_what_is_selected_runs_and_reads_the_latest_of_the_rest(diamond, session, clock):
    session.catalog.versions["crm/raw@latest"] = "0" * 32

    report = run_plan(diamond, session, select=["left"], clock=clock)

    assert session.ran() == ["left.build"]
    assert session.request("left.build").stages[0].request.inputs[0].ref == "0" * 32
    assert report.taken == {"raw": "0" * 32}


def test_a_selection_that_reads_what_was_never_made_is_refused_before_anything_runs(diamond, session):
    with pytest.raises(NotFoundError, match="'raw' is read but was not selected") as caught:
        run_plan(diamond, session, select=["left"])

    assert "+raw" in caught.value.hint
    assert session.calls == []


def test_params_reach_the_requests(write, session, clock):
    plan = compile_spec(
        write(
            "version: 1\nname: demo\nproject: crm\nparams: {late: {type: int, default: 15}, word: {}}\ndatasets:\n"
            '  raw: {transform: {call: "m:f", with: {late: "${params.late}", text: "x${params.late}${params.word}"}}}\n',
            whole=True,
        )
    )
    report = run_plan(plan, session, params={"word": "!"}, clock=clock)

    assert session.request("raw.build").stages[1].request.arguments == {"late": 15, "text": "x15!"}
    assert report.params == {"late": 15, "word": "!"}


def test_a_missing_param_is_refused_before_anything_runs(write, session):
    plan = compile_spec(
        write(
            'version: 1\nname: demo\nproject: crm\nparams: {word: {}}\ndatasets:\n  raw: {transform: {call: "m:f"}}\n',
            whole=True,
        )
    )
    with pytest.raises(InvalidArgumentError, match="word: has no default"):
        run_plan(plan, session)
    assert session.calls == []


DAILY = (
    'version: 1\nname: demo\nproject: crm\nschedule: {cron: "0 6 * * *", timezone: America/New_York}\ndatasets:\n'
    '  raw: {transform: {call: "m:f", with: {day: "${run.date}", until: "${run.interval_end:%d.%m.}"}}}\n'
)


def test_the_date_of_a_run_gives_its_window(write, session, clock):
    plan = compile_spec(write(DAILY, whole=True))

    report = run_plan(plan, session, date="2013-01-05", clock=clock)

    assert session.request("raw.build").stages[1].request.arguments == {"day": "2013-01-05", "until": "06.01."}
    assert report.interval_start.isoformat() == "2013-01-05T06:00:00-05:00"


def test_a_spec_that_uses_a_window_is_refused_without_one_before_anything_runs(write, session):
    plan = compile_spec(write(DAILY, whole=True))

    with pytest.raises(InvalidArgumentError, match="no window of time") as caught:
        run_plan(plan, session)
    assert "--date" in caught.value.hint
    assert session.calls == []


def test_a_date_without_a_schedule_is_refused(diamond, session):
    with pytest.raises(InvalidArgumentError, match="no schedule"):
        run_plan(diamond, session, date="2013-01-05")


def test_a_plan_whose_steps_wait_for_each_other_ends_with_an_error(diamond, session, clock):
    steps = tuple(replace(step, needs=("both.publish",)) if step.id == "raw.build" else step for step in diamond.steps)

    with pytest.raises(InvalidArgumentError, match="wait for each other"):
        run_plan(replace(diamond, steps=steps), session, clock=clock)


def test_the_report_is_json(diamond, session, clock):
    session.on("left.build", fails(CheckFailedError("too few", hint="Look.")))
    session.unchanged = {"right.build"}

    said = json.loads(json.dumps(run_plan(diamond, session, run_id="r1", clock=clock).to_json()))

    assert said["run_id"] == "r1"
    assert said["ok"] is False
    outcome = {held["step"]: held for held in said["outcomes"]}
    assert outcome["left.build"]["error"] == {
        "error": "check_failed",
        "message": "too few",
        "hint": "Look.",
        "retryable": False,
    }
    assert outcome["right.build"]["result"]["unchanged"] is True
