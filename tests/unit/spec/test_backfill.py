"""Backfill: the windows that are missing are run, each once; what is done stays."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataset_tasks.errors import InvalidArgumentError, NotFoundError
from dataset_tasks.model import Version
from dataset_tasks.ops.requests import AddFiles, Create, Finalize, Upload
from dataset_tasks.session import Session
from dataset_tasks.settings import Settings
from dataset_tasks.spec.backfill import BackfillReport, run_backfill, windows_to_fill
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.plan import Plan, Scope
from dataset_tasks.spec.preview import preview
from dataset_tasks.spec.run import run_plan

NOW = datetime(2013, 6, 1, tzinfo=UTC)
HEAD = """\
version: 1
name: months
project: nyc
schedule: {cron: "0 0 1 * *", start: "2013-01-01"}
params: {carrier: {default: AA}}
datasets:
"""
MONTHS = (
    HEAD
    + """\
  raw:
    partition: "${run.date:%Y-%m}"
    transform: {call: "MODULE:month", with: {month: "${run.date:%Y-%m}"}}
    publish: true
  sums:
    partition: "${run.date:%Y-%m}"
    inputs: [raw]
    transform: {call: "MODULE:sums"}
"""
)
WORK = """\
import time
from pathlib import Path

def month(inputs, output, month):
    if Path(__file__).with_name("fire-" + month).exists():
        raise OSError("disk on fire")
    (output / "month.txt").write_text(month)

def line(inputs, output, month):
    (output / (month + ".txt")).write_text(month)

def noisy(inputs, output, month):
    (output / "month.txt").write_text(str(time.perf_counter_ns()))

def copied(inputs, output):
    (output / "names.txt").write_text(str(sorted(file.name for file in inputs["log"].iterdir())))

def tripled(inputs, output):
    (output / "sum.txt").write_text((inputs["raw"] / "month.txt").read_text() * 3)

def sums(inputs, output):
    (output / "sum.txt").write_text((inputs["raw"] / "month.txt").read_text() * 2)
"""


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    with Session(Settings.from_env(home=home), clock=lambda: NOW) as opened:
        yield opened


@pytest.fixture
def months(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, MONTHS)


def plan_of(folder: Path, text: str) -> Plan:
    module = f"months_{folder.name}"
    (folder / f"{module}.py").write_text(WORK)
    (folder / "spec.yaml").write_text(text.replace("MODULE", module))
    return compile_spec(folder / "spec.yaml", environ={})


def statuses(report: BackfillReport) -> dict[str, str]:
    return {f"{outcome.window.start:%Y-%m}": outcome.status for outcome in report.outcomes}


def partitions(session: Session, name: str) -> list[str | None]:
    return sorted(str(v.partition) for v in session.catalog.versions(name=name) if v.state.is_final)


def test_every_window_since_the_start_that_is_over_is_run_once(months: Plan, session: Session) -> None:
    report = run_backfill(months, session)

    assert statuses(report) == dict.fromkeys(["2013-01", "2013-02", "2013-03", "2013-04", "2013-05"], "made")
    assert partitions(session, "raw") == partitions(session, "sums") == list(statuses(report))
    again = run_backfill(months, session)
    assert set(statuses(again).values()) == {"done"}
    assert len(session.catalog.versions()) == 10


def test_from_and_to_choose_windows_and_the_rest_is_missing_still(months: Plan, session: Session) -> None:
    some = run_backfill(months, session, first="2013-02-01", last="2013-04-01")
    assert statuses(some) == {"2013-02": "made", "2013-03": "made"}

    rest = run_backfill(months, session)
    assert statuses(rest) == {
        "2013-01": "made", "2013-02": "done", "2013-03": "done", "2013-04": "made", "2013-05": "made",
    }  # fmt: skip


def test_a_window_that_fails_keeps_no_other_from_running_and_is_run_again(
    months: Plan, session: Session, tmp_path: Path
) -> None:
    (tmp_path / "fire-2013-03").touch()
    report = run_backfill(months, session)
    assert [month for month, status in statuses(report).items() if status != "made"] == ["2013-03"]
    assert statuses(report)["2013-03"] == "failed"

    (tmp_path / "fire-2013-03").unlink()
    again = run_backfill(months, session)
    assert statuses(again) == {**dict.fromkeys(statuses(report), "done"), "2013-03": "made"}


def test_what_a_scheduled_run_made_is_not_made_again(months: Plan, session: Session) -> None:
    run_plan(months, session, date="2013-02-01")

    assert statuses(run_backfill(months, session, last="2013-04-01"))["2013-02"] == "done"


def test_a_version_that_was_built_but_not_published_is_missing(months: Plan, session: Session, tmp_path: Path) -> None:
    plain = plan_of(tmp_path, MONTHS.replace("    publish: true\n", ""))
    run_plan(plain, session, date="2013-02-01")

    report = run_backfill(plan_of(tmp_path, MONTHS), session, last="2013-03-01")
    assert statuses(report)["2013-02"] == "made"


def test_windows_where_nothing_changed_are_done_too(tmp_path: Path, session: Session) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("1")
    plan = plan_of(tmp_path, HEAD + "  raw: {sync: {path: data}}\n")

    report = run_backfill(plan, session)
    assert list(statuses(report).values()) == ["made", "unchanged", "unchanged", "unchanged", "unchanged"]
    assert set(statuses(run_backfill(plan, session)).values()) == {"done"}


def test_windows_that_go_on_from_each_other_run_in_order(tmp_path: Path, session: Session) -> None:
    text = '  log: {previous: true, transform: {call: "MODULE:month", with: {month: "${run.date:%Y-%m}"}}}\n'
    run_backfill(plan_of(tmp_path, HEAD + text), session, jobs=4)

    made = sorted(session.catalog.versions(name="log"), key=lambda version: version.sequence)
    windows = [version.window for version in made]
    assert windows == sorted(w for w in windows if w is not None)
    assert [v.previous_id for v in made[1:]] == [v.id for v in made[:-1]]


def test_other_params_are_other_windows(months: Plan, session: Session, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("1")
    plan = plan_of(tmp_path, HEAD + '  raw: {sync: {path: data}, metadata: {c: "${params.carrier}"}}\n')
    run_backfill(plan, session)

    assert "unchanged" in statuses(run_backfill(plan, session, params={"carrier": "UA"})).values()


def test_a_dataset_that_is_read_but_not_run_is_read_in_its_partition(months: Plan, session: Session) -> None:
    run_plan(months, session, date="2013-03-01", select=["raw"])
    run_plan(months, session, date="2013-04-01", select=["raw"])

    report = run_plan(months, session, date="2013-03-01", select=["sums"])
    assert report.ok
    read = session.catalog.version(report.taken["raw"])
    assert read.partition == "2013-03"
    assert session.catalog.resolve("nyc/sums@latest[2013-03]").inputs[0].ref == read.id


def test_an_input_made_elsewhere_is_read_in_the_partition_that_is_named(
    months: Plan, session: Session, tmp_path: Path
) -> None:
    run_backfill(months, session)
    other = tmp_path / "other"
    other.mkdir()
    text = (
        HEAD
        + """\
  copy:
    partition: "${run.date:%Y-%m}"
    inputs: {raw: {ref: nyc/raw, partition: "${run.date:%Y-%m}"}}
    transform: {call: "MODULE:sums"}
"""
    )
    report = run_plan(plan_of(other, text.replace("name: months", "name: others")), session, date="2013-02-01")
    assert report.ok
    (version,) = session.catalog.versions(name="copy")
    assert session.catalog.version(version.inputs[0].ref).partition == "2013-02"


@pytest.mark.parametrize(
    ("schedule", "first", "last", "told"),
    [
        ("", None, None, "runs by hand"),
        ("schedule: {after: [x/y]}\n", None, None, "runs after another dataset"),
        ('schedule: {cron: "0 0 1 * *"}\n', None, None, "nothing says where to begin"),
        ('schedule: {cron: "0 0 1 * *"}\n', "2013-02-30", None, "is not a date"),
        ('schedule: {cron: "0 0 1 * *"}\n', "2013-05-15", None, "no window of n begins"),
        ("schedule: {every: 1m}\n", "1970-01-01", None, "more than 100,000 windows"),
    ],
)
def test_what_has_no_windows_is_refused(tmp_path: Path, schedule: str, first: str, last: str, told: str) -> None:
    (tmp_path / "s.yaml").write_text(
        f"version: 1\nname: n\nproject: p\n{schedule}datasets: {{a: {{previous: true}}}}\n"
    )
    plan = compile_spec(tmp_path / "s.yaml", environ={})

    with pytest.raises(InvalidArgumentError, match=told):
        windows_to_fill(plan, first, last, NOW)


def test_fifty_windows_at_once_in_any_order_leave_latest_at_the_last(tmp_path: Path, session: Session) -> None:
    """R23: all versions exist, ordered by their window and not by when they were done; latest never moves back."""
    text = HEAD.replace('"0 0 1 * *"', '"0 0 * * *"') + (
        '  days: {transform: {call: "MODULE:month", with: {month: "${run.date}"}}, publish: {alias: prod}}\n'
    )
    plan = plan_of(tmp_path, text)
    days = [datetime(2013, 1, 1, tzinfo=UTC) + timedelta(days=number) for number in range(50)]
    shuffled = random.Random(7).sample(days, len(days))
    seen: list[datetime] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            found = session.catalog.versions(project="nyc", name="days", states=None)
            if any(version.state.is_final for version in found):
                window = session.catalog.resolve("nyc/days@latest").window
                assert window is not None
                seen.append(window)

    with ThreadPoolExecutor(9) as pool:
        watching = pool.submit(watch)
        runs = [pool.submit(run_plan, plan, session, date=f"{day:%Y-%m-%d}", jobs=1) for day in shuffled]
        reports = [run.result() for run in runs]
        over.set()
        watching.result()

    assert all(report.ok for report in reports)
    made = [version for version in session.catalog.versions(name="days") if version.state.is_final]
    assert sorted(version.window for version in made if version.window) == days
    assert len({version.version for version in made}) == 50
    assert seen == sorted(seen)
    assert session.catalog.resolve("nyc/days@latest").window == days[-1]
    assert session.catalog.resolve("nyc/days").window == days[-1]
    assert session.catalog.resolve("nyc/days@prod").window == days[-1]


def test_a_draft_by_hand_comes_after_what_stands(months: Plan, session: Session) -> None:
    run_backfill(months, session)
    draft = session.run(Create(name="raw", project="nyc", previous=True, partition="2013-05"))
    assert session.catalog.version(draft.version_id).previous_id == session.catalog.resolve("nyc/raw@latest").id


ASKS = (
    HEAD.replace("datasets:", "defaults: {on_unchanged: version}\ndatasets:")
    + """\
  raw:
    transform: {call: "MODULE:noisy", with: {month: "${run.date:%Y-%m}"}}
  sums:
    inputs: [raw]
    transform: {call: "MODULE:sums"}
    publish: {approval: {}, alias: prod}
"""
)


def asked(session: Session) -> list[str]:
    """What is asked or was answered, by version string, the oldest question first."""
    return [
        f"{session.catalog.version(each.version_id).version} {each.outcome}"
        for each in reversed(session.catalog.approvals())
    ]


def made(session: Session, name: str) -> dict[str, Version]:
    """The final versions of a dataset by month; each month must have one."""
    found = [version for version in session.catalog.versions(name=name) if version.state.is_final]
    by_month = {f"{version.window:%Y-%m}": version for version in found if version.window is not None}
    assert len(by_month) == len(found)
    return by_month


def test_windows_that_wait_for_an_answer_are_left_alone_whatever_is_asked_of_unchanged(
    tmp_path: Path, session: Session
) -> None:
    plan = plan_of(tmp_path, ASKS)
    first = run_backfill(plan, session, last="2013-04-01")
    assert set(statuses(first).values()) == {"waits"}
    raw, sums = made(session, "raw"), made(session, "sums")
    assert len(asked(session)) == len(raw) == len(sums) == 3

    again = run_backfill(plan, session, last="2013-04-01")
    assert set(statuses(again).values()) == {"waits"}
    assert (made(session, "raw"), made(session, "sums")) == (raw, sums)
    assert len(asked(session)) == 3


def test_answers_are_acted_on_and_a_rejected_window_is_not_asked_about_again_by_itself(
    tmp_path: Path, session: Session
) -> None:
    plan = plan_of(tmp_path, ASKS)
    run_backfill(plan, session, last="2013-04-01")
    sums = made(session, "sums")
    session.catalog.answer(sums["2013-01"].id, True, "ana")
    session.catalog.answer(sums["2013-02"].id, False, "ana")

    again = run_backfill(plan, session, last="2013-04-01")
    assert statuses(again) == {"2013-01": "made", "2013-02": "failed", "2013-03": "waits"}
    assert made(session, "sums").keys() == sums.keys()
    assert session.catalog.resolve("nyc/sums@published").id == sums["2013-01"].id
    assert len(asked(session)) == 3

    session.catalog.reopen(sums["2013-02"].id)
    assert statuses(run_backfill(plan, session, last="2013-04-01")) == {
        "2013-01": "done", "2013-02": "waits", "2013-03": "waits",
    }  # fmt: skip
    assert made(session, "sums").keys() == sums.keys()


def test_a_window_that_waits_is_made_again_when_its_code_changed(tmp_path: Path, session: Session) -> None:
    run_backfill(plan_of(tmp_path, ASKS), session, last="2013-02-01")
    other = ASKS.replace("MODULE:sums", "MODULE:tripled")

    report = run_backfill(plan_of(tmp_path, other), session, last="2013-02-01")
    assert statuses(report) == {"2013-01": "waits"}
    assert len(session.catalog.versions(name="raw")) == 1
    assert len(session.catalog.versions(name="sums")) == 2
    assert len(asked(session)) == 2


LOG = '  log: {previous: true, transform: {call: "MODULE:line", with: {month: "${run.date:%Y-%m}"}}}\n'


def test_a_window_that_is_filled_late_starts_from_the_one_before_it(tmp_path: Path, session: Session) -> None:
    plan = plan_of(tmp_path, HEAD + LOG)
    for month in ("2013-01", "2013-02", "2013-05", "2013-03", "2013-04"):
        assert run_plan(plan, session, date=f"{month}-01").ok

    log = made(session, "log")
    before = {"2013-01": None, "2013-02": "2013-01", "2013-05": "2013-02", "2013-03": "2013-02", "2013-04": "2013-03"}
    assert {month: version.previous_id for month, version in log.items()} == {
        month: log[start].id if start else None for month, start in before.items()
    }
    assert paths(session, log["2013-03"]) == ["2013-01.txt", "2013-02.txt", "2013-03.txt"]
    assert session.catalog.resolve("nyc/log@latest").id == log["2013-05"].id
    assert session.catalog.resolve(f"nyc/log@{log['2013-04'].version}").window == log["2013-04"].window


def test_backfill_of_a_gap_starts_each_window_from_the_one_before_and_leaves_latest_alone(
    tmp_path: Path, session: Session
) -> None:
    plan = plan_of(tmp_path, HEAD + LOG)
    run_plan(plan, session, date="2013-05-01")
    latest = session.catalog.resolve("nyc/log@latest")

    assert statuses(run_backfill(plan, session)) == {
        **dict.fromkeys(["2013-01", "2013-02", "2013-03", "2013-04"], "made"), "2013-05": "done",
    }  # fmt: skip
    log = made(session, "log")
    assert [log[f"2013-0{n}"].previous_id for n in (2, 3, 4)] == [log[f"2013-0{n}"].id for n in (1, 2, 3)]
    assert session.catalog.resolve("nyc/log@latest").id == latest.id


def test_a_window_that_is_run_again_starts_where_it_started_before(tmp_path: Path, session: Session) -> None:
    plan = plan_of(tmp_path, HEAD + LOG)
    for month in ("2013-01", "2013-02"):
        run_plan(plan, session, date=f"{month}-01")
    again = run_plan(plan, session, date="2013-02-01")
    assert not again.changed
    changed = plan_of(tmp_path, HEAD + LOG.replace("MODULE:line", "MODULE:month"))
    assert run_plan(changed, session, date="2013-02-01").changed

    latest = session.catalog.resolve("nyc/log@latest")
    assert paths(session, latest) == ["2013-01.txt", "month.txt"]


def test_what_was_added_by_hand_is_kept_when_its_window_is_run_again(tmp_path: Path, session: Session) -> None:
    plan = plan_of(tmp_path, HEAD + LOG)
    for month in ("2013-01", "2013-02"):
        run_plan(plan, session, date=f"{month}-01")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "labels.csv").write_text("1")
    by_hand = session.run(Create(name="log", project="nyc", previous=True)).version_id
    session.run(AddFiles(ref=by_hand, path=str(tmp_path / "labels")))
    session.run(Upload(ref=by_hand))
    session.run(Finalize(ref=by_hand))

    run_plan(plan, session, date="2013-02-01")
    assert "labels.csv" in paths(session, session.catalog.resolve("nyc/log@latest"))
    run_plan(plan, session, date="2013-01-01")
    assert "labels.csv" in paths(session, session.catalog.resolve("nyc/log@latest"))


def test_a_late_window_is_compared_with_what_stood_in_its_time(tmp_path: Path, session: Session) -> None:
    (tmp_path / "data").mkdir()
    plan = plan_of(tmp_path, HEAD + "  raw: {sync: {path: data}}\n")
    for text, month in (("1", "2013-01"), ("2", "2013-04")):
        (tmp_path / "data" / "a").write_text(text)
        assert run_plan(plan, session, date=f"{month}-01").changed

    assert run_plan(plan, session, date="2013-02-01").changed  # as 2013-04, not as 2013-01
    (tmp_path / "data" / "a").write_text("1")
    assert run_plan(plan, session, date="2013-03-01").changed  # as 2013-01, not as 2013-02
    raw = made(session, "raw")
    assert raw["2013-03"].previous_id == raw["2013-02"].id
    assert session.catalog.resolve("nyc/raw@latest").id == raw["2013-04"].id


def test_plan_knows_that_a_late_window_moves_no_alias_back(tmp_path: Path, session: Session) -> None:
    plan = plan_of(tmp_path, HEAD + LOG.replace("previous: true", "previous: true, publish: {alias: prod}"))
    for month in ("2013-01", "2013-04", "2013-02"):
        run_plan(plan, session, date=f"{month}-01")
    start = datetime(2013, 2, 1, tzinfo=UTC)
    scope = Scope(params={"carrier": "AA"}, interval_start=start, interval_end=datetime(2013, 3, 1, tzinfo=UTC))

    (shown,) = preview(plan, session, scope)
    assert (shown.status, shown.publishes) == ("unchanged", run_plan(plan, session, date="2013-02-01").changed)
    assert not shown.publishes


def test_a_dataset_that_is_read_but_not_run_is_read_as_it_stood_in_the_window(tmp_path: Path, session: Session) -> None:
    text = HEAD + LOG + '  copy: {inputs: [log], transform: {call: "MODULE:copied"}}\n'
    plan = plan_of(tmp_path, text)
    for month in ("2013-02", "2013-04"):
        run_plan(plan, session, date=f"{month}-01", select=["log"])
    log = made(session, "log")

    report = run_plan(plan, session, date="2013-03-01", select=["copy"])
    assert report.taken == {"log": log["2013-02"].id}
    with pytest.raises(NotFoundError, match="of later windows than 2013-01-01"):
        run_plan(plan, session, date="2013-01-01", select=["copy"])


def paths(session: Session, version: Version) -> list[str]:
    return sorted(path.decode() for path in session.manifest(version).to_table(["path"])["path"].to_pylist())
