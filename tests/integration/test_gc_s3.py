"""Collecting and repairing where the store is S3: unfinished uploads in parts, and every object of a deleted version."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.model import Version
from dataset_tasks.ops.requests import (
    AddFiles,
    Collect,
    CollectResult,
    Create,
    Delete,
    Finalize,
    Repair,
    RepairResult,
    Upload,
    Verify,
    VerifyResult,
)
from dataset_tasks.session import Session
from dataset_tasks.settings import Settings
from dataset_tasks.testing.invariants import assert_invariants


class Clock:
    """The machine's own, and what it is put forward by."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of a moto server, with a bucket of its own, `client.bucket`."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
    ):
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    held = client.list_buckets()["Buckets"]  # servers of one process share what they hold
    bucket = f"store{len(held)}"
    client.create_bucket(Bucket=bucket)
    client.bucket = bucket
    yield client
    server.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(s3: Any, home: Path, clock: Clock) -> Iterator[Session]:
    with Session(Settings.from_env(home=home, store_url=f"s3://{s3.bucket}/data"), clock=clock) as opened:
        yield opened


@pytest.fixture
def final(session: Session, tmp_path: Path) -> Version:
    (tmp_path / "source").mkdir()
    for number in range(3):
        (tmp_path / "source" / f"{number}").write_bytes(bytes([number]) * 5000)
    made = session.run(Create(name="d", project="p")).version_id
    session.run(AddFiles(ref=made, path=str(tmp_path / "source")))
    session.run(Upload(ref=made))
    session.run(Finalize(ref=made))
    return session.catalog.version(made)


def collect(session: Session, **options: Any) -> CollectResult:
    result = session.run(Collect(dry_run=False, **options))
    assert isinstance(result, CollectResult)
    return result


def keys(s3: Any) -> list[str]:
    found = s3.list_objects_v2(Bucket=s3.bucket).get("Contents", [])
    return [each["Key"] for each in found if "/journal/" not in each["Key"] and "owner.json" not in each["Key"]]


def test_an_upload_in_parts_that_never_ended_is_given_up(
    s3: Any, session: Session, final: Version, clock: Clock
) -> None:
    """R04. Of this catalog's own prefix alone."""
    key = "data/" + session.objects.full_key("chunks/" + "0" * 32 + ".zip")
    for each in (key, "data/somebody/else.zip"):
        started = s3.create_multipart_upload(Bucket=s3.bucket, Key=each)
        s3.upload_part(Bucket=s3.bucket, Key=each, UploadId=started["UploadId"], PartNumber=1, Body=b"x" * 100)
    clock.ahead = timedelta(days=2)  # this server dates them back many years, a real one does not
    assert collect(session).parts == 1
    assert [each["Key"] for each in s3.list_multipart_uploads(Bucket=s3.bucket)["Uploads"]] == [
        "data/somebody/else.zip"
    ]


def test_a_deleted_version_leaves_no_object_behind(s3: Any, session: Session, final: Version) -> None:
    assert len(keys(s3)) == 3
    session.run(Delete(ref=final.id))
    assert collect(session, now=True).deleted == 3
    assert keys(s3) == []
    assert_invariants(session, collected=True)


def test_damage_is_found_and_healed(s3: Any, session: Session, final: Version, tmp_path: Path) -> None:
    """R47, R48. An object cut short, from files of the user."""
    (chunk,) = (key for key in keys(s3) if "/chunks/" in key)
    s3.put_object(Bucket=s3.bucket, Key=chunk, Body=b"short")
    result = session.run(Repair(folders=(str(tmp_path / "source"),)))
    assert isinstance(result, RepairResult)
    assert (len(result.damaged), result.healed, result.lost) == (1, 3, ())
    verified = session.run(Verify(ref=final.id))
    assert isinstance(verified, VerifyResult)
    assert verified.bad == ()
    assert_invariants(session)
