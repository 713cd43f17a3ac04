"""Importing from object stores: add, sync and spec with a URL, against a server that counts and can misbehave."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import InvalidArgumentError, SourceError, SourceUnavailableError, StateError
from dataset_tasks.external import stream
from dataset_tasks.ops import imported, remembered
from dataset_tasks.ops.requests import AddFiles, Build, Collect, CollectResult, Create, Finalize, Stage, Upload
from dataset_tasks.session import open_session
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.outcome import Status
from dataset_tasks.spec.plan import Plan, Scope
from dataset_tasks.spec.preview import preview
from dataset_tasks.spec.run import run_plan
from dataset_tasks.testing.failpoints import injected
from tests.integration.bucket_server import Answer, Bucket, served


@pytest.fixture(scope="module")
def server() -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch, served(patch) as bucket:
        yield bucket


@pytest.fixture
def bucket(server: Bucket) -> Bucket:
    """The bucket, emptied."""
    server.fault = None
    server.empty()
    server.forget()
    return server


@pytest.fixture
def draft() -> Dataset:
    return Dataset.create("hourly", "noaa")


def final(dataset: Dataset) -> Dataset:
    dataset.upload(show_progress=False)
    dataset.finalize()
    return dataset


def content(dataset: Dataset) -> dict[str, bytes]:
    folder = Path(dataset.get_local_copy() or "")
    return {path: (folder / path).read_bytes() for path in dataset.list_files()}


def test_a_prefix_becomes_files_that_are_read_once(draft: Dataset, bucket: Bucket) -> None:
    bucket.put(in__a=b"one", in__sub__b=b"two", other=b"x")
    assert draft.add_files(bucket.url("in"), dataset_path="hourly") == 2
    assert draft.is_dirty()
    assert bucket.asked == {"HEAD": 1, "LIST": 1, "GET": 2}
    final(draft)
    assert bucket.asked["GET"] == 2
    assert content(draft) == {"hourly/a": b"one", "hourly/sub/b": b"two"}
    assert draft.file_entries_dict["hourly/a"].hash == hashlib.sha256(b"one").hexdigest()
    assert draft.verify_dataset_hash() == []


def test_a_bucket_that_did_not_change_costs_a_listing(bucket: Bucket) -> None:
    bucket.put(**{f"in__{n:03}": b"%d" % n for n in range(50)})
    first = Dataset.create("hourly", "noaa")
    assert first.sync_folder(bucket.url("in/")) == (0, 50)
    final(first)
    bucket.forget()
    child = Dataset.create("hourly", "noaa", [first])
    assert child.sync_folder(bucket.url("in/")) == (0, 0)
    assert bucket.asked == {"LIST": 1}


def test_of_a_bucket_that_changed_only_that_is_read(bucket: Bucket) -> None:
    bucket.put(in__a=b"one", in__b=b"two", in__c=b"three")
    first = Dataset.create("hourly", "noaa")
    first.sync_folder(bucket.url("in/"))
    final(first)
    bucket.put(in__b=b"TWO", in__d=b"four")
    bucket.client.delete_object(Bucket="lake", Key="in/c")
    bucket.forget()
    child = Dataset.create("hourly", "noaa", [first])
    assert child.sync_folder(bucket.url("in/")) == (1, 2)
    assert content(final(child)) == {"a": b"one", "b": b"TWO", "d": b"four"}
    assert sorted(key for key in bucket.keys if key.startswith("GET")) == ["GET in/b", "GET in/b", "GET in/d"]


# --- what is taken, and where it lands ---------------------------------------------------------------------------------

NAMES = ["a.csv", "b.txt", "sub/a.csv", "sub/deep/c.csv", "tmp/a.csv"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, NAMES),
        ({"wildcard": "*.csv"}, ["a.csv", "sub/a.csv", "sub/deep/c.csv", "tmp/a.csv"]),
        ({"wildcard": ["sub/*.csv", "b.*"]}, ["b.txt", "sub/a.csv"]),
        ({"wildcard": "*.csv", "recursive": False}, ["a.csv"]),
        ({"wildcard": "*/*.csv", "recursive": False}, ["sub/a.csv", "tmp/a.csv"]),
        ({"recursive": False}, ["a.csv", "b.txt"]),
        ({"dataset_path": "x/y"}, [f"x/y/{name}" for name in NAMES]),
    ],
    ids=str,
)
def test_patterns_and_folders_mean_what_they_mean_for_a_folder(
    draft: Dataset, bucket: Bucket, options: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    for name in NAMES:
        bucket.put_key(f"in/{name}", name.encode())
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)
    assert draft.add_files(bucket.url("in/"), **options) == len(expected)
    assert draft.list_files() == expected
    other = Dataset.create("other", "noaa")
    other.add_files(tmp_path, **options)
    assert other._version.content_hash == draft._version.content_hash


def test_exclude_leaves_out(draft: Dataset, bucket: Bucket) -> None:
    for name in NAMES:
        bucket.put_key(f"in/{name}", name.encode())
    assert draft.sync_folder(bucket.url("in"), wildcard="*.csv", exclude=["tmp/", "deep"]) == (0, 2)
    assert draft.list_files() == ["a.csv", "sub/a.csv"]


def test_files_land_by_their_path_from_the_base(draft: Dataset, bucket: Bucket) -> None:
    bucket.put(in__2026__a=b"1", in__2026__sub__b=b"2")
    draft.add_files(bucket.url("in/2026"), local_base_folder=bucket.url("in"))
    draft.add_files(bucket.url("in/2026/a"), local_base_folder=bucket.url(""), dataset_path="one")
    draft.add_files(bucket.url("in/2026/a"), dataset_path="bare")
    assert draft.list_files() == ["2026/a", "2026/sub/b", "bare/a", "one/in/2026/a"]
    with pytest.raises(InvalidArgumentError, match="is not above"):
        draft.add_files(bucket.url("in/2026"), local_base_folder=bucket.url("in/20"))


def test_odd_names_are_kept_as_they_are(draft: Dataset, bucket: Bucket) -> None:
    names = [
        "100%.csv",
        "a b&c=d.csv",
        "a+b.csv",
        "a?b#c.csv",
        "%41.csv",
        "\u00e9.csv",
        "e\u0301.csv",
        "日本/語",
        "~$'()*!;,:@=.csv",
    ]
    for name in names:
        bucket.put_key(f"in x%/{name}", name.encode())
    bucket.put_key("in x%/sub/", b"")
    assert draft.add_files(bucket.url("in x%25/")) == len(names)
    final(draft)
    assert draft.list_files() == sorted(names, key=str.encode)
    assert {path: draft.open(path).read().decode() for path in names} == {path: path for path in names}


def test_names_that_no_path_can_hold_are_all_named_and_nothing_changes(draft: Dataset, bucket: Bucket) -> None:
    bucket.put(in__good=b"1")
    bad = ["in/a//b", "in/../c", "in/./d", "in/e\\f", "in//g"]
    for name in bad:
        bucket.put_key(name, b"x")
    before = draft._version
    with pytest.raises(SourceError, match=f"{len(bad)} objects can't be added") as caught:
        draft.add_files(bucket.url("in"))
    assert len(caught.value.paths) == len(bad)
    assert draft._version == before
    assert draft.add_files(bucket.url("in"), on_error="skip") == 1
    assert draft.list_files() == ["good"]


def test_an_object_that_is_also_a_folder_changes_nothing(draft: Dataset, bucket: Bucket) -> None:
    bucket.put(in__a=b"1", in__a__b=b"2")
    with pytest.raises(InvalidArgumentError, match="both a file and a folder"):
        draft.add_files(bucket.url("in/"))
    assert draft.list_files() == []


@pytest.mark.parametrize(
    ("path", "kind", "match"),
    [
        ("s3://lake/nothing", SourceError, "there is nothing at"),
        ("s3://lake/nothing/", SourceError, "there is nothing at"),
        ("s3://no-such-bucket/", SourceError, "NoSuchBucket"),
        ("https://example.org/a.csv", InvalidArgumentError, "is no object store.*\nhint: Link to it"),
        ("file:///data", InvalidArgumentError, "is no object store.*\nhint: Give its path"),
        ("ftp://example.org/a", InvalidArgumentError, "ftp:// URLs are not read"),
        ("s3a://lake/a", InvalidArgumentError, "Write s3://bucket/name"),
        ("s3://key:sesame@lake/a", InvalidArgumentError, "holds credentials"),
        ("s3://lake/a?color=red", InvalidArgumentError, "has unknown options: color"),
    ],
)
def test_what_can_not_be_imported_is_refused_with_a_reason(
    draft: Dataset, bucket: Bucket, path: str, kind: type[Exception], match: str
) -> None:
    url = path if "?" in path or not path.startswith("s3://") or "@" in path else f"{path}?endpoint={bucket.endpoint}"
    with pytest.raises(kind, match=match) as caught:
        draft.add_files(url)
    assert "sesame" not in str(caught.value)
    assert draft.list_files() == []


def test_a_single_object_is_added_but_not_synced(draft: Dataset, bucket: Bucket) -> None:
    bucket.put(in__a=b"1")
    with pytest.raises(InvalidArgumentError, match="is a single object"):
        draft.sync_folder(bucket.url("in/a"))
    assert draft.add_files(bucket.url("in/a"), dataset_path="x") == 1
    assert content(final(draft)) == {"x/a": b"1"}


def test_an_import_that_would_change_a_final_version_is_refused_and_one_that_would_not_is_fine(bucket: Bucket) -> None:
    bucket.put(in__a=b"1")
    dataset = Dataset.create("hourly", "noaa")
    dataset.add_files(bucket.url("in"))
    final(dataset)
    assert dataset.add_files(bucket.url("in")) == 0
    bucket.put(in__b=b"2")
    with pytest.raises(StateError):
        dataset.add_files(bucket.url("in"))
    assert dataset.list_files() == ["a"]


def test_an_import_beside_local_files_and_links_takes_their_place_and_gives_it_back(
    draft: Dataset, bucket: Bucket, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("local")
    bucket.put(in__a=b"remote")
    draft.add_files(tmp_path / "a")
    assert draft.add_files(bucket.url("in/")) == 0
    assert draft.add_external_files(bucket.url("in/a"), dataset_path="link") == 1
    assert content(final(draft)) == {"a": b"remote", "link/a": b"remote"}


def test_a_connection_says_where_a_bucket_is_and_who_asks(
    draft: Dataset, bucket: Bucket, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(in__a=b"1")
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        f'[connections.lake]\nendpoint_url = "{bucket.endpoint}"\naccess_key = "me"\nsecret_key = "sesame"\n'
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert draft.add_files("s3://lake/in", connection="lake") == 1
    assert draft.add_external_files("s3://lake/in", dataset_path="links", connection="lake") == 1
    assert draft.file_entries_dict["links/a"].link == "s3://lake/in/a?connection=lake"  # type: ignore[union-attr]
    assert content(final(draft)) == {"a": b"1", "links/a": b"1"}
    with pytest.raises(InvalidArgumentError, match="without a connection"):
        Dataset.create("x", "noaa").add_files(home, connection="lake")


# --- what goes wrong ---------------------------------------------------------------------------------------------------


def spoiling(key: str, times: int, spoil: Any) -> Any:
    """A fault: the first answers to GETs of a key are spoiled."""
    left = [times]

    def fault(kind: str, asked: str, answer: Answer) -> Answer:
        if kind != "GET" or asked != key or not left[0]:
            return answer
        left[0] -= 1
        spoiled: Answer = spoil(*answer)
        return spoiled

    return fault


def flipped(status: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
    """One bit wrong, and no checksum that would tell."""
    return status, [h for h in headers if "checksum" not in h[0].lower()], bytes([body[0] ^ 1]) + body[1:]


def cut(status: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
    """Half of it, after which the connection breaks."""
    return status, headers, body[: len(body) // 2]


def shorter(status: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
    """Half of it, as if that were all."""
    half = body[: len(body) // 2]
    kept = [h for h in headers if "checksum" not in h[0].lower() and h[0].lower() != "content-length"]
    return status, [*kept, ("Content-Length", str(len(half)))], half


def busy(status: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
    return "503 Slow Down", [("Content-Type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>"


def forbidden(status: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
    return "403 Forbidden", [("Content-Type", "application/xml")], b"<Error><Code>AccessDenied</Code></Error>"


@pytest.mark.parametrize("spoil", [flipped, cut, busy])
def test_a_spoiled_answer_is_asked_for_again(draft: Dataset, bucket: Bucket, spoil: Any) -> None:
    bucket.put(in__a=b"first" * 1000, in__b=b"second" * 1000)
    bucket.fault = spoiling("in/a", 1, spoil)
    draft.add_files(bucket.url("in"))
    assert content(final(draft)) == {"a": b"first" * 1000, "b": b"second" * 1000}
    assert bucket.asked["GET"] == 3


def in_parts(bucket: Bucket, key: str, body: bytes) -> None:
    """Puts an object whose ETag is no MD5."""
    where = {"Bucket": "lake", "Key": key}
    upload = bucket.client.create_multipart_upload(**where)["UploadId"]
    part = bucket.client.upload_part(**where, UploadId=upload, PartNumber=1, Body=body)
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    bucket.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})


@pytest.mark.parametrize("size", [1000, 3 << 20], ids=["small", "streamed"])
@pytest.mark.parametrize("config", ["when_supported", "when_required"])
def test_an_object_written_in_parts_is_held_against_its_checksum_where_it_has_one(
    draft: Dataset, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, size: int, config: str
) -> None:
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", config)
    body = random.Random(1).randbytes(size)
    in_parts(bucket, "in/a", body)
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4)).decode()

    def told(status: str, headers: list[tuple[str, str]], wrong: bytes) -> Answer:
        status, headers, wrong = flipped(status, headers, wrong)
        return status, [*headers, ("x-amz-checksum-crc32", crc)], wrong

    bucket.fault = spoiling("in/a", 1, told)
    draft.add_files(bucket.url("in"))
    assert content(final(draft)) == {"a": body}
    assert bucket.asked["GET"] == 2


@pytest.mark.parametrize("spoil", [cut, shorter])
def test_an_object_written_in_parts_is_held_against_its_size(draft: Dataset, bucket: Bucket, spoil: Any) -> None:
    in_parts(bucket, "in/a", b"x" * 1000)
    bucket.fault = spoiling("in/a", 99, spoil)
    with pytest.raises(SourceError, match="in/a"):
        draft.add_files(bucket.url("in"))
    assert draft.list_files() == []


@pytest.mark.parametrize("size", [1000, 3 << 20], ids=["small", "streamed"])
def test_bytes_that_are_never_right_are_never_taken(draft: Dataset, bucket: Bucket, size: int) -> None:
    bucket.put(in__a=b"x" * size, in__b=b"y")
    bucket.fault = spoiling("in/a", 99, flipped)
    before = draft._version
    with pytest.raises(
        SourceUnavailableError, match=r"s3://lake/in/a.*other bytes came than those of its MD5"
    ) as caught:
        draft.add_files(bucket.url("in"))
    assert caught.value.retryable
    assert draft._version == before
    bucket.fault = None
    draft.add_files(bucket.url("in"))
    assert content(final(draft)) == {"a": b"x" * size, "b": b"y"}


def test_an_answer_that_is_shorter_than_the_listing_said_is_an_error_that_names_the_key(
    draft: Dataset, bucket: Bucket
) -> None:
    bucket.put(in__a=b"first" * 1000)
    bucket.fault = spoiling("in/a", 99, shorter)
    with pytest.raises(SourceError, match="in/a"):
        draft.add_files(bucket.url("in"))


def test_an_object_that_changes_between_listing_and_reading_is_named(draft: Dataset, bucket: Bucket) -> None:
    bucket.put(in__a=b"old", in__b=b"two")
    contents = iter(b"new, newest".split(b", "))

    def fault(kind: str, key: str, answer: Answer) -> Answer:
        if kind == "LIST":
            bucket.put(in__a=next(contents))
        return answer

    bucket.fault = fault
    with pytest.raises(SourceError, match=r"1 object can't be added:\n  a: .*s3://lake/in/a.* changed since") as caught:
        draft.add_files(bucket.url("in"))
    assert (caught.value.retryable, len(caught.value.paths)) == (False, 1)
    assert draft.add_files(bucket.url("in"), on_error="skip") == 1
    assert draft.list_files() == ["b"]


@pytest.fixture
def added(bucket: Bucket) -> Dataset:
    """A draft of objects whose hashes were known: the upload has to read them."""
    bucket.put(in__a=b"old", in__b=b"two")
    Dataset.create("hourly", "noaa").add_files(bucket.url("in"))
    draft = Dataset.create("daily", "noaa")
    bucket.forget()
    draft.add_files(bucket.url("in"))
    assert bucket.asked["GET"] == 0
    return draft


def test_an_object_that_changes_between_add_and_upload_is_named_and_the_rest_is_stored(
    added: Dataset, bucket: Bucket
) -> None:
    bucket.put(in__a=b"new")
    with pytest.raises(SourceError, match=r"a: s3://lake/in/a\S* changed since it was added") as caught:
        added.upload(show_progress=False)
    assert (caught.value.paths, caught.value.retryable) == (("a",), False)
    added.add_files(bucket.url("in"))
    assert content(final(added)) == {"a": b"new", "b": b"two"}
    assert bucket.keys.count("GET in/b") == 1


@pytest.mark.parametrize("spoil", [flipped, cut])
def test_an_upload_asks_for_spoiled_answers_again(added: Dataset, bucket: Bucket, spoil: Any) -> None:
    bucket.fault = spoiling("in/a", 1, spoil)
    assert content(final(added)) == {"a": b"old", "b": b"two"}


def test_an_upload_whose_source_does_not_answer_is_worth_another_try(added: Dataset, bucket: Bucket) -> None:
    bucket.fault = spoiling("in/b", 99, cut)
    with pytest.raises(SourceUnavailableError) as caught:
        added.upload(show_progress=False)
    assert caught.value.retryable
    bucket.fault = None
    assert content(final(added)) == {"a": b"old", "b": b"two"}


def test_no_permission_is_told_at_once_and_without_another_try(draft: Dataset, bucket: Bucket) -> None:
    bucket.put(in__a=b"1", in__b=b"2")
    bucket.fault = spoiling("in/a", 99, forbidden)
    with pytest.raises(SourceError, match="AccessDenied") as caught:
        draft.add_files(bucket.url("in"))
    assert not caught.value.retryable
    assert bucket.keys.count("GET in/a") == 1
    assert draft.add_files(bucket.url("in"), on_error="skip") == 1


def test_what_was_read_before_a_failure_is_not_read_again(draft: Dataset, bucket: Bucket) -> None:
    bucket.put(**{f"in__{n}": b"%d" % n for n in range(20)})
    bucket.fault = spoiling("in/7", 99, forbidden)
    with pytest.raises(SourceError):
        draft.add_files(bucket.url("in"))
    bucket.fault = None
    bucket.forget()
    assert draft.add_files(bucket.url("in")) == 20
    final(draft)
    assert [key for key in bucket.keys if key.startswith("GET")] == ["GET in/7"]


def test_what_is_remembered_may_go_or_be_damaged_and_costs_a_reading(bucket: Bucket, home: Path) -> None:
    bucket.put(in__a=b"1", in__b=b"2")
    first = Dataset.create("hourly", "noaa")
    first.sync_folder(bucket.url("in/"))
    final(first)
    (kept,) = (home / "store").rglob("remembered/*/*.parquet")
    whole = kept.read_bytes()
    for data in (b"", b"nonsense", whole[:-9], _flip(whole, whole.index(hashlib.sha256(b"1").digest()) + 5)):
        kept.write_bytes(data)
        bucket.forget()
        child = Dataset.create("hourly", "noaa", [first])
        assert child.sync_folder(bucket.url("in/")) == (0, 0)
        assert bucket.asked == {"LIST": 1, "GET": 2}
        Dataset.delete(child.id)


def test_what_no_import_has_asked_for_in_two_quarters_is_collected(
    bucket: Bucket, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(in__a=b"1", other__b=b"2")

    def imported_in(quarter: int, *places: str) -> int:
        monkeypatch.setattr(remembered, "_quarter", lambda _now: quarter)
        bucket.forget()
        for place in places:
            Dataset.create("hourly", "noaa").add_files(bucket.url(place))
        return bucket.asked["GET"]

    def kept() -> list[tuple[str, int]]:
        found = [(path.parent.name, path.stat().st_size) for path in (home / "store").rglob("remembered/*/*")]
        return sorted(found)

    def collected(*, dry_run: bool) -> tuple[int, int]:
        with open_session() as session:
            result = session.run(Collect(dry_run=dry_run))
        assert isinstance(result, CollectResult)
        return result.deleted, result.bytes

    assert imported_in(100, "in/", "other/") == 2
    assert imported_in(101, "in/", "in/") == 0
    assert [quarter for quarter, _ in kept()] == ["100", "100", "101"]
    assert collected(dry_run=False) == (0, 0)
    assert imported_in(102, "in/") == 0
    old = sum(size for quarter, size in kept() if quarter == "100")
    assert collected(dry_run=True) == collected(dry_run=False) == (2, old)
    assert [quarter for quarter, _ in kept()] == ["101", "102"]
    assert imported_in(102, "in/", "other/") == 1
    assert imported_in(105, "in/") == 1


def _flip(data: bytes, at: int) -> bytes:
    spoiled = bytearray(data)
    spoiled[at] ^= 1
    return bytes(spoiled)


# --- large, and many ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [b"0123456789abcdef", b""], ids=["compressible", "random"])
def test_a_large_object_is_neither_kept_in_memory_nor_on_disk(
    draft: Dataset, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, text: bytes
) -> None:
    from dataset_tasks import chunks

    monkeypatch.setattr(chunks, "MOST_IN_MEMORY", 2 << 20)
    monkeypatch.setattr(stream, "LARGE", 2 << 20)
    monkeypatch.setattr(chunks, "Spool", None)
    body = text * (5 << 16) or random.Random(1).randbytes(5 << 20)
    bucket.put(in__big=body)
    bucket.fault = spoiling("in/big", 1, cut)
    draft.add_files(bucket.url("in"))
    assert final(draft).open("big").read() == body
    assert bucket.asked["GET"] == 3  # cut, the rest of it, and once more to be packed


def test_thousands_of_objects_are_imported_and_then_only_listed(
    draft: Dataset, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.s3.models import s3_backends

    backend = s3_backends["123456789012"]["aws"]
    for n in range(2100):
        backend.put_object("lake", f"in/{n % 7}/{n:05}.csv", b"%d" % n)
    monkeypatch.setattr(imported, "_CHUNK_FILES", 1000)
    assert draft.add_files(bucket.url("in/")) == 2100
    assert bucket.asked == {"LIST": 3, "GET": 2100}
    final(draft)
    assert bucket.asked["GET"] == 2100
    assert len(content(draft)) == 2100
    assert draft.open("3/00003.csv").read() == b"3"
    bucket.forget()
    child = Dataset.create("hourly", "noaa", [draft])
    assert child.sync_folder(bucket.url("in/")) == (0, 0)
    assert bucket.asked == {"LIST": 3}


# --- where and how it is packed ----------------------------------------------------------------------------------------


def stores(dataset: Dataset) -> tuple[set[str], list[zipfile.ZipFile]]:
    """The stores that a version says it is in, and its chunks."""
    with open_session() as session:
        version = session.catalog.version(dataset.id)
        index = session.manifest(version).index
        refs = [*index.objects.values(), *([version.index] if version.index else [])]
        chunks = [ref for key, ref in sorted(index.objects.items()) if key.startswith("chunks/")]
        read = session.objects.read
        opened = [zipfile.ZipFile(io.BytesIO(read(ref))) for ref in chunks]
        return {session.catalog.store_url(ref.store_id) for ref in refs}, opened


def test_in_a_build_an_import_is_packed_once_and_as_its_upload_says(bucket: Bucket, tmp_path: Path) -> None:
    for n in range(6):
        bucket.put_key(f"in/{n}", b"%d" % n * 400)
    other = str(tmp_path / "other")
    draft = "step:d.create"
    stages = (
        Stage(id="d.create", request=Create(name="hourly", project="noaa")),
        Stage(id="d.add", request=AddFiles(ref=draft, path=bucket.url("in"))),
        Stage(id="d.upload", request=Upload(ref=draft, store=other, compression="store", chunk_size=0.001)),
        Stage(id="d.finalize", request=Finalize(ref=draft)),
    )
    with open_session() as session:
        session.run(Build(stages=stages))
    made = Dataset.get(dataset_project="noaa", dataset_name="hourly")
    assert bucket.asked["GET"] == 6
    places, chunks = stores(made)
    assert places == {other}
    assert sorted([(each.filename, each.compress_type) for each in chunk.infolist()] for chunk in chunks) == [
        [("0", 0), ("1", 0)], [("2", 0), ("3", 0)], [("4", 0), ("5", 0)]
    ]  # fmt: skip
    assert made.verify_dataset_hash() == []


def test_an_upload_to_another_store_leaves_an_imported_version_whole_there(
    draft: Dataset, bucket: Bucket, home: Path, tmp_path: Path
) -> None:
    bucket.put(in__a=b"one", in__b=b"two")
    draft.add_files(bucket.url("in"))
    other = tmp_path / "other"
    draft.upload(output_url=str(other), show_progress=False)
    draft.finalize()
    assert stores(draft)[0] == {str(other)}
    with open_session() as session:
        session.run(Collect(dry_run=False, now=True, idle=0.0))
    assert list((home / "store").rglob("chunks/*.zip")) == []
    shutil.rmtree(home / "store")
    assert content(draft) == {"a": b"one", "b": b"two"}
    assert draft.verify_dataset_hash() == []


# --- in a spec ---------------------------------------------------------------------------------------------------------

SPEC = """\
version: 1
name: noaa
project: noaa
defaults: {{granularity: {granularity}}}
datasets:
  hourly: {{sync: {{path: "{sync}", wildcard: "*.csv"}}}}
  daily:
    add: [{{path: "{add}", dataset_path: in, connection: lake}}]
    external: [{{url: "s3://lake/day/a.csv", dataset_path: links, connection: lake}}]
"""


@pytest.fixture(params=["dataset", "operation"])
def plan(request: pytest.FixtureRequest, bucket: Bucket, tmp_path: Path, home: Path) -> Plan:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(f'[connections.lake]\nendpoint_url = "{bucket.endpoint}"\n')
    spec = tmp_path / "noaa.yaml"
    spec.write_text(SPEC.format(sync=bucket.url("hour/"), add="s3://lake/day", granularity=request.param))
    bucket.put_key("hour/1.csv", b"1")
    bucket.put_key("hour/2.csv", b"2")
    bucket.put_key("hour/notes.txt", b"x")
    bucket.put_key("day/a.csv", b"a")
    return compile_spec(spec)


def previewed(plan: Plan) -> list[tuple[object, ...]]:
    with open_session() as session:
        found = preview(plan, session, Scope())
    return [(each.key, each.status, each.added, each.modified, each.removed, each.files) for each in found]


def ran(plan: Plan) -> list[Status]:
    with open_session() as session:
        report = run_plan(plan, session, jobs=1)
    last = {outcome.dataset: outcome.status for outcome in report.outcomes}
    return [last["hourly"], last["daily"]]


def test_a_spec_imports_and_finds_out_from_listings_that_nothing_changed(plan: Plan, bucket: Bucket) -> None:
    assert previewed(plan) == [("hourly", "new", 2, 0, 0, 2), ("daily", "new", 2, 0, 0, 2)]
    assert bucket.asked["GET"] == 0
    assert ran(plan) == [Status.MADE, Status.MADE]
    assert bucket.asked["GET"] == 3
    bucket.forget()
    assert previewed(plan) == [("hourly", "unchanged", 0, 0, 0, 2), ("daily", "unchanged", 0, 0, 0, 2)]
    assert ran(plan) == [Status.UNCHANGED, Status.UNCHANGED]
    assert bucket.asked["GET"] == 0
    bucket.put_key("hour/2.csv", b"22")
    bucket.put_key("day/b.csv", b"b")
    assert previewed(plan) == [("hourly", "changes", 0, 1, 0, 2), ("daily", "changes", 1, 0, 0, 3)]
    assert ran(plan) == [Status.MADE, Status.MADE]
    assert content(Dataset.get(dataset_project="noaa", dataset_name="hourly")) == {"1.csv": b"1", "2.csv": b"22"}
    daily = {"in/a.csv": b"a", "in/b.csv": b"b", "links/a.csv": b"a"}
    assert content(Dataset.get(dataset_project="noaa", dataset_name="daily")) == daily


def test_a_plan_reads_nothing_and_writes_nothing(plan: Plan, bucket: Bucket, home: Path) -> None:
    assert ran(plan) == [Status.MADE, Status.MADE]
    bucket.put_key("hour/1.csv", b"9")
    stored = sorted((home / "store").rglob("*"))
    bucket.forget()
    assert previewed(plan)[0] == ("hourly", "changes", 0, 1, 0, 2)
    assert (bucket.asked["GET"], sorted((home / "store").rglob("*"))) == (0, stored)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("400 Bad Request", "ExpiredToken"),
        ("403 Forbidden", "InvalidAccessKeyId"),
        ("403 Forbidden", "SignatureDoesNotMatch"),
        ("301 Moved Permanently", "PermanentRedirect"),
        ("404 Not Found", "NoSuchBucket"),
        ("400 Bad Request", "KMS.DisabledException"),
    ],
)
def test_what_the_service_refuses_for_good_is_told_at_once_and_can_be_resumed(
    draft: Dataset, bucket: Bucket, status: str, code: str
) -> None:
    bucket.put(in__a=b"1", in__b=b"2")

    def refused(*_answer: object) -> Answer:
        text = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
        return status, [("Content-Type", "application/xml")], text.encode()

    bucket.fault = spoiling("in/b", 99, refused)
    with pytest.raises(SourceError, match=code) as caught:
        draft.add_files(bucket.url("in"))
    assert (caught.value.retryable, bool(caught.value.hint)) == (False, True)
    # boto3 looks once for the region of a bucket that seems to be elsewhere.
    assert bucket.keys.count("GET in/b") == (2 if code == "PermanentRedirect" else 1)
    bucket.fault = None
    bucket.forget()
    draft.add_files(bucket.url("in"))
    assert content(final(draft)) == {"a": b"1", "b": b"2"}
    assert "GET in/a" not in bucket.keys


def test_an_object_that_vanishes_between_listing_and_reading_is_named(draft: Dataset, bucket: Bucket) -> None:
    bucket.put(in__a=b"1", in__b=b"2")

    def fault(kind: str, key: str, answer: Answer) -> Answer:
        if kind == "LIST":
            bucket.client.delete_object(Bucket="lake", Key="in/a")
        return answer

    bucket.fault = fault
    with pytest.raises(SourceError, match=r"a: there is nothing at s3://lake/in/a"):
        draft.add_files(bucket.url("in"))
    assert draft.list_files() == []


def test_an_object_that_vanishes_between_add_and_upload_is_named(added: Dataset, bucket: Bucket) -> None:
    bucket.client.delete_object(Bucket="lake", Key="in/a")
    with pytest.raises(SourceError, match="a: there is nothing at") as caught:
        added.upload(show_progress=False)
    assert caught.value.paths == ("a",)
    assert added.is_dirty()


def test_a_hash_that_is_remembered_wrongly_is_found_out_before_anything_is_stored(
    bucket: Bucket, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(in__a=b"one")
    monkeypatch.setattr(remembered.Remembered, "known", lambda self, found: [bytes(32) for _ in found])
    draft = Dataset.create("hourly", "noaa")
    draft.add_files(bucket.url("in"))
    with pytest.raises(SourceError, match=r"a changed since it was added: expected SHA-256 0000.*in/a"):
        draft.upload(show_progress=False)
    assert bucket.keys.count("GET in/a") == 3


def test_an_import_that_stops_anywhere_is_finished_by_doing_it_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = {f"{n}": b"%d" % n * 100 for n in range(6)}
    for name, body in objects.items():
        bucket.put_key(f"in/{name}", body)
    monkeypatch.setattr(imported, "_CHUNK_FILES", 2)

    def run(project: str) -> Dataset:
        draft = Dataset.create("hourly", project, dataset_version="1.0.0") if project not in made else made[project]
        made[project] = draft
        draft.add_files(bucket.url("in"), dataset_path=project)
        draft.upload(show_progress=False)
        return draft

    made: dict[str, Dataset] = {}
    with injected() as seen:
        run("whole")
    names = sorted(name for name in seen.reached() if not name.startswith(("create", "catalog")))
    assert "import.after_chunk" in names
    for name in names:
        project = name.replace(".", "-")
        with injected(f"{name}=raise:KeyboardInterrupt@1"), pytest.raises(KeyboardInterrupt):
            made[project] = Dataset.create("hourly", project)
            run(project)
        draft = run(project)
        assert draft.finalize()
        assert content(draft) == {f"{project}/{path}": body for path, body in objects.items()}, name
