"""Two catalogs in one store: neither sees, uses, counts or removes what is the other's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tasks.ops.requests import AddFiles, Collect, Create, Delete, Finalize, Upload, Verify, VerifyResult
from dataset_tasks.rebuild import find_journals
from dataset_tasks.session import Session, open_session
from dataset_tasks.store import open_store


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of one store."""
    if request.param == "folder":
        return str(tmp_path / "store")
    import boto3

    url = request.getfixturevalue("services").url("moto")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    bucket = f"apart-{secrets.token_hex(8)}"  # all workers of a run share the server
    boto3.client("s3", endpoint_url=url).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/shared"


@pytest.fixture
def two(tmp_path: Path, place: str) -> Iterator[tuple[Session, Session]]:
    with (
        open_session(home=tmp_path / "one", store_url=place) as one,
        open_session(home=tmp_path / "two", store_url=place) as other,
    ):
        yield one, other


def build(session: Session, source: Path, key: str) -> str:
    draft = session.run(Create(project="p", name="n"), key=f"{key}/c").version_id
    session.run(AddFiles(ref=draft, path=str(source)))
    session.run(Upload(ref=draft))
    return session.run(Finalize(ref=draft)).version_id


def keys(place: str) -> set[str]:
    return {key for key, _ in open_store(place).list()}


def is_whole(session: Session, ref: str) -> bool:
    result = session.run(Verify(ref=ref))
    assert isinstance(result, VerifyResult)
    return result.bad == ()


def test_the_same_files_under_the_same_key_are_stored_apart(
    two: tuple[Session, Session], tmp_path: Path, place: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_text("the same in both\n" * 100)
    one, other = two
    first, second = build(one, source, "k"), build(other, source, "k")
    assert first != second
    assert one.catalog.version(first).content_hash == other.catalog.version(second).content_hash
    mine = {key for key in keys(place) if key.startswith(f"{one.catalog.id}/")}
    its = {key for key in keys(place) if key.startswith(f"{other.catalog.id}/")}
    assert mine | its == keys(place)
    assert {key.partition("/")[2] for key in mine if "/chunks/" in key}.isdisjoint(
        key.partition("/")[2] for key in its if "/chunks/" in key
    )


def test_a_collection_in_one_leaves_the_other_whole(two: tuple[Session, Session], tmp_path: Path, place: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_text("the same in both\n" * 100)
    one, other = two
    first, second = build(one, source, "k"), build(other, source, "k")
    its = {key for key in keys(place) if key.startswith(f"{other.catalog.id}/")}
    one.run(Delete(ref=first))
    one.run(Collect(dry_run=False, now=True, grace=0.0, idle=0.0, drafts=0.0))
    one.run(Collect(dry_run=False, now=True, grace=0.0, idle=0.0, drafts=0.0))
    assert not any("/chunks/" in key for key in keys(place) if key.startswith(f"{one.catalog.id}/"))
    assert {key for key in keys(place) if key.startswith(f"{other.catalog.id}/")} == its
    assert is_whole(other, second)


def test_each_is_found_by_its_id_alone(two: tuple[Session, Session], tmp_path: Path, place: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.txt").write_text("text\n")
    one, other = two
    build(one, source, "k")
    build(other, source, "k")
    for session in two:
        (journal,) = find_journals([place], open_store, session.catalog.id)
        assert journal.catalog_id == session.catalog.id
