"""A connection that changes while somebody works with its name: nothing goes on with what it said before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tasks import Dataset, open_session
from dataset_tasks.session import Session
from dataset_tasks.store import s3_bucket
from dataset_tasks.store.transfer import Patience
from tests.integration.bucket_server import Bucket, served

STORE = "s3://lake/store?connection=lake"


@pytest.fixture(autouse=True)
def _no_server_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_bucket, "Patience", lambda: Patience(seconds=0.2, first=0.01, most=0.05))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with served(monkeypatch) as bucket:
        yield bucket


def connect(home: Path, bucket: Bucket, who: str) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(
        f'[connections.lake]\nendpoint_url = "{bucket.endpoint}"\naccess_key = "{who}"\nsecret_key = "sesame"\n'
    )


def work(session: Session, bucket: Bucket, name: str) -> Dataset:
    """Imports, links, uploads, checks the links, and reads all of it."""
    bucket.put(in__a=name.encode())
    made = Dataset.create(name, "noaa", session=session)
    made.add_files("s3://lake/in", connection="lake")
    made.add_external_files("s3://lake/in/a", dataset_path="links", connection="lake")
    made.upload(output_url=STORE, show_progress=False)
    made.finalize()
    folder = Path(made.get_local_copy() or "")
    assert [(folder / path).read_text() for path in ("a", "links/a")] == [name, name]
    with made.open("links/a") as link, made.open("a") as file:
        assert link.read() == file.read() == name.encode()
    return made


@pytest.mark.usefixtures("only_local_connections")
def test_one_session_goes_on_with_the_new_keys(bucket: Bucket, home: Path) -> None:
    with open_session(home=home) as session:
        connect(home, bucket, "before")
        work(session, bucket, "first")
        assert bucket.who == {"before"}
        connect(home, bucket, "after")
        bucket.who.clear()
        work(session, bucket, "second")
    assert bucket.who == {"after"}


@pytest.mark.usefixtures("only_local_connections")
def test_one_session_goes_on_at_the_new_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_session(home=home) as session:
        for name in ("first", "second"):
            with served(monkeypatch) as bucket:
                connect(home, bucket, name)
                work(session, bucket, name)
                assert bucket.who == {name}


@pytest.mark.usefixtures("only_local_connections")
def test_two_homes_in_one_process_have_connections_of_their_own(
    bucket: Bucket, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("one", "two"):
        connect(tmp_path / place, bucket, place)
        with open_session(home=tmp_path / place) as session:
            work(session, bucket, place)
        assert bucket.who == {place}
        bucket.who.clear()
    connect(tmp_path / "three", bucket, "three")
    monkeypatch.setenv("DATASET_TASKS_HOME", str(tmp_path / "three"))
    made = Dataset.create("third", "noaa")
    made.add_external_files("s3://lake/in/a", connection="lake")
    assert bucket.who == {"three"}
