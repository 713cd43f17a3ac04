"""The specs that show the language, run as their users would run them: over days, weeks and months."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataset_tasks.errors import CheckFailedError, NotFoundError
from dataset_tasks.model import State, Version
from dataset_tasks.ops.requests import Collect
from dataset_tasks.session import Session
from dataset_tasks.settings import Settings
from dataset_tasks.spec.backfill import run_backfill
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.notes import notes
from dataset_tasks.spec.outcome import RunReport
from dataset_tasks.spec.run import run_plan
from tests.integration.bucket_server import Bucket, served

SPECS = Path(__file__).parents[2] / "example_flows" / "specs"


class Clock:
    """The time, moved by hand."""

    def __init__(self) -> None:
        self.time = datetime(2026, 6, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(home: Path, clock: Clock) -> Iterator[Session]:
    with Session(Settings.from_env(home=home), clock=clock) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The specs in a folder of their own, with a year's start of data."""
    place = tmp_path / "specs"
    shutil.copytree(SPECS, place)
    write(place, "orders/1.csv", "customer,amount\nana,10\nana,5\nbo,20\n")
    write(place, "visits/1.csv", "customer,page\nana,/\nbo,/\nbo,/x\n")
    write(place, "labels/1.txt", "first")
    for month in ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05"):
        write(place, f"by_month/{month}/a.csv", f"customer,amount\nana,{month[-2:]}\n")
    return place


def write(folder: Path, name: str, text: str) -> None:
    path = folder / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(folder: Path, session: Session, name: str, **options: object) -> RunReport:
    plan = compile_spec(folder / f"{name}.yaml", environ={}, check_sources=False)
    return run_plan(plan, session, **options)  # type: ignore[arg-type]


def statuses(report: RunReport) -> dict[str, str]:
    return {outcome.step: str(outcome.status) for outcome in report.outcomes}


def versions(session: Session, name: str) -> list[Version]:
    return [version for version in session.catalog.versions(name=name) if version.state.is_final]


def read(session: Session, ref: str) -> dict[str, str]:
    from dataset_tasks import Dataset

    place = Path(Dataset(session.catalog.resolve(ref).id, session=session).get_local_copy() or "")
    return {str(path.relative_to(place)): path.read_text() for path in sorted(place.rglob("*")) if path.is_file()}


@pytest.fixture
def bucket(home: Path) -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch, served(patch) as server:
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(f'[connections.lake]\nendpoint_url = "{server.endpoint}"\n')
        yield server


def test_a_bucket_is_mirrored_every_night_and_only_what_changed_is_read(
    folder: Path, session: Session, bucket: Bucket
) -> None:
    for number in range(4):
        bucket.put_key(f"hourly/{number}.csv", b"%d" % number)
    bucket.put_key("hourly/notes.txt", b"no")
    params = {"prefix": "s3://lake/hourly"}

    assert run(folder, session, "nightly_bucket", params=params, date="2026-05-01").ok
    assert read(session, "noaa/hourly") == {f"{number}.csv": str(number) for number in range(4)}
    bucket.forget()
    second = run(folder, session, "nightly_bucket", params=params, date="2026-05-02")
    assert set(statuses(second).values()) == {"unchanged"}
    assert bucket.asked["GET"] == 0
    bucket.put_key("hourly/1.csv", b"changed")
    assert run(folder, session, "nightly_bucket", params=params, date="2026-05-03").ok
    assert {key for key in bucket.keys if key.startswith("GET")} == {"GET hourly/1.csv"}
    assert read(session, "noaa/hourly")["1.csv"] == "changed"

    for number in range(4):
        bucket.put_key(f"hourly/{number}.csv", b"all other")
    failed = run(folder, session, "nightly_bucket", params=params, date="2026-05-04")
    assert "4 of 4 files differ" in failed.outcomes[0].why
    assert read(session, "noaa/hourly")["1.csv"] == "changed"


def test_features_are_made_again_only_when_what_they_read_changed_and_checked_before(
    folder: Path, session: Session
) -> None:
    pytest.importorskip("pandera")
    first_run = run(folder, session, "features")
    assert first_run.ok, [outcome.why for outcome in first_run.outcomes]
    assert read(session, "shop/features") == {"features.csv": "customer,orders,visits\nana,2,1\nbo,1,2\n"}
    first = session.catalog.resolve("shop/features")
    assert first.metadata["customers"] == 2
    assert set(statuses(run(folder, session, "features")).values()) == {"unchanged"}

    write(folder, "visits/2.csv", "customer,page\ncy,/\n")
    changed = run(folder, session, "features")
    assert statuses(changed)["orders.build"] == "unchanged"
    assert statuses(changed)["features.build"] == "made"

    bad = run(folder, session, "features", params={"least": 0})
    error = next(outcome.error for outcome in bad.outcomes if outcome.step == "features.build")
    assert isinstance(error, CheckFailedError)
    assert error.findings == ("tables: features.csv, column orders: greater_than(0): row 2: 0",)
    (draft,) = session.catalog.versions(name="features", states=[State.ABORTED], version="1.0.2")
    assert [report.title for report in session.catalog.reports(draft.id)] == ["check"]
    assert session.catalog.resolve("shop/features").version == "1.0.1"
    readers = session.catalog.reads(session.catalog.resolve("shop/orders@latest").id)
    assert {read.origin["step"] for read in readers} == {"features.build"}


def test_a_flat_copy_goes_out_each_week_once_it_was_approved_and_old_ones_go(
    folder: Path, session: Session, clock: Clock
) -> None:
    plan = compile_spec(folder / "weekly_flat.yaml", environ={})
    assert notes(plan)[0].startswith("datasets.labels_flat.publish.approval.by: only Airflow and our pages")
    for week in range(4):
        write(folder, "labels/1.txt", f"week {week}")
        assert run(folder, session, "weekly_flat").waits
        waiting = versions(session, "labels_flat")[-1]
        if week:
            assert read(session, "shop/labels_flat@prod") == {"1.txt": f"week {week - 1}"}
        session.catalog.answer(waiting.id, True, "ana")
        assert run(folder, session, "weekly_flat").ok
        assert session.catalog.resolve("shop/labels_flat@prod").id == waiting.id
        clock.time += timedelta(days=7)

    session.run(Collect(dry_run=False))
    assert [version.version for version in versions(session, "labels_flat")] == ["1.0.2", "1.0.3"]
    assert len(versions(session, "labels")) == 4
    write(folder, "labels/1.txt", "nobody looks")
    assert run(folder, session, "weekly_flat").waits
    clock.time += timedelta(days=3)
    late = run(folder, session, "weekly_flat")
    assert statuses(late)["labels_flat.approve"] == "rejected"
    assert read(session, "shop/labels_flat@prod") == {"1.txt": "week 3"}


def test_months_are_filled_in_and_one_that_changed_is_made_again_alone(folder: Path, session: Session) -> None:
    plan = compile_spec(folder / "monthly.yaml", environ={}, check_sources=False)
    report = run_backfill(plan, session)
    assert [outcome.status for outcome in report.outcomes] == ["made"] * 5
    assert read(session, "shop/totals@latest[2026-03]") == {"2026-03.txt": "3\n"}
    assert session.catalog.resolve("shop/totals@latest").partition == "2026-05"

    write(folder, "by_month/2026-02/b.csv", "customer,amount\nbo,100\n")
    again = run(folder, session, "monthly", date="2026-02-01")
    assert statuses(again) == {"month.build": "made", "month.publish": "made", "totals.build": "made"}
    assert read(session, "shop/totals@latest[2026-02]") == {"2026-02.txt": "102\n"}
    assert session.catalog.resolve("shop/month").partition == "2026-05"
    assert {outcome.status for outcome in run_backfill(plan, session).outcomes} == {"done"}


def test_what_runs_after_another_team_reads_what_that_team_published(folder: Path, session: Session) -> None:
    pytest.importorskip("pandera")
    with pytest.raises(NotFoundError):
        raise run(folder, session, "after_orders").outcomes[0].error or AssertionError
    run(folder, session, "features")
    assert run(folder, session, "after_orders").ok
    published = session.catalog.resolve("shop/features")
    made = session.catalog.resolve("mailing/addresses@current")
    assert [each.ref for each in made.inputs] == [published.id]
    assert read(session, "mailing/addresses") == {"addresses.txt": "ana\n"}

    write(folder, "orders/2.csv", "customer,amount\nbo,1\n")
    assert set(statuses(run(folder, session, "after_orders")).values()) == {"unchanged"}
    run(folder, session, "features")
    assert run(folder, session, "after_orders").changed
    assert read(session, "mailing/addresses") == {"addresses.txt": "ana\nbo\n"}
