"""Object stores that answer late, wrong, twice or never: what reaches the catalog, and what the user is told.

A proxy of our own stands in front of a real server and does to requests what networks and busy services do.
"""

from __future__ import annotations

import os
import pickle
import random
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest

from dataset_tasks import Dataset
from dataset_tasks.connections import resolve
from dataset_tasks.errors import (
    AlreadyExistsError,
    DatasetError,
    IntegrityError,
    InvalidArgumentError,
    ObjectMissingError,
    StorageError,
    StorageUnavailableError,
)
from dataset_tasks.ops import upload
from dataset_tasks.session import Session, open_session
from dataset_tasks.store import Store, multipart, object_client, open_store, s3_client
from dataset_tasks.store.object import AzureStore, GoogleStore
from dataset_tasks.store.s3 import S3Store
from dataset_tasks.store.transfer import Patience
from tests.services.buckets import BUCKET, make_bucket, set_credentials
from tests.services.proxy import Action, Proxy, proxy
from tests.services.running import Services

pytestmark = pytest.mark.usefixtures("only_local_connections")

KEY = "a/b"
DATA = random.Random(5).randbytes(100_000)
PART = 5 << 20
FILES = {str(number): random.Random(number).randbytes(30_000) for number in range(3)}
LARGE = random.Random(6).randbytes(3 * PART + 1000)
_numbers = count()


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["moto"])
def line(request: pytest.FixtureRequest, services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """The proxy in front of a server."""
    endpoint = services.url(request.param)
    make_bucket(request.param, endpoint, monkeypatch)
    with proxy(endpoint) as made:
        yield made


def url_of(line: Proxy) -> str:
    return f"s3://{BUCKET}/f{os.getpid()}-{next(_numbers)}?endpoint={quote(line.url, safe='')}&style=path"


@pytest.fixture
def store(line: Proxy, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    monkeypatch.setattr(multipart, "PART_BYTES", PART)
    return S3Store(url_of(line), patience=Patience(clock=clock, pause=clock.pause))


def write(store: S3Store, data: bytes = LARGE) -> None:
    with store.create(KEY) as writer:
        for start in range(0, len(data), 1 << 20):
            writer.write(data[start : start + (1 << 20)])
        writer.commit()


@pytest.mark.parametrize("fault", ["500", "503", "reset", "lostack"])
@pytest.mark.parametrize("verb", ["put", "create_only", "get", "read", "size", "delete", "list", "write"])
def test_what_fails_once_is_done_again(line: Proxy, store: S3Store, fault: Action, verb: str) -> None:
    """R36: 500, 503 or a cut line, once, before or after the service did it, is not noticed by the caller."""
    if verb not in ("put", "create_only", "write"):
        store.put(KEY, DATA)
    line.add(fault)
    match verb:
        case "put":
            store.put(KEY, DATA)
        case "create_only":
            store.put(KEY, DATA, create_only=True)
        case "get":
            assert store.get(KEY) == DATA
        case "read":
            assert store.read(KEY, 10, 1000) == DATA[10:1010]
        case "size":
            assert store.size(KEY) == len(DATA)
        case "delete":
            store.delete(KEY)
            assert list(store.list()) == []
            return
        case "list":
            assert list(store.list()) == [(KEY, len(DATA))]
        case "write":
            write(store)
    assert store.get(KEY) == (LARGE if verb == "write" else DATA)
    assert store.read(KEY, 5, 5) == store.get(KEY)[5:10]


@pytest.mark.parametrize("verb", ["get", "put", "write"])
def test_a_service_that_is_slow_for_ever_is_given_up_at_the_deadline(
    line: Proxy, store: S3Store, clock: Clock, verb: str
) -> None:
    """R37: SlowDown for ever ends after the patience for one object, and the error counts the tries."""
    line.add("503", times=10_000)
    with pytest.raises(StorageUnavailableError, match=r"SlowDown.*given up after \d+ tries in 1[12]\d\.") as caught:
        {"get": lambda: store.get(KEY), "put": lambda: store.put(KEY, DATA), "write": lambda: write(store)}[verb]()
    assert caught.value.retryable
    assert caught.value.hint
    assert 10 < len(clock.pauses) < 40
    assert max(clock.pauses) <= 10
    assert 100 < clock.now <= 130


def test_a_service_that_hangs_is_asked_again(line: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """R38: a request without an answer ends after the read time-out that we set, and is sent again."""
    monkeypatch.setattr(s3_client, "READ_SECONDS", 0.5)
    store = S3Store(url_of(line), patience=Patience(first=0.01))
    line.add("hang", "PUT")
    store.put(KEY, DATA)
    line.add("hang", "GET")
    assert store.get(KEY) == DATA
    assert min(line.count("PUT"), line.count("GET")) >= 2  # more where this machine itself is as slow


def test_an_answer_that_breaks_off_is_asked_for_again(line: Proxy, store: S3Store) -> None:
    """R39: half an answer is never taken for the object."""
    store.put(KEY, DATA)
    for verb in (lambda: store.get(KEY), lambda: store.read(KEY, 0, len(DATA))):
        line.add("truncate", "GET")
        assert verb() == DATA


def test_a_range_that_is_shorter_than_it_says_is_asked_for_again(line: Proxy, store: S3Store) -> None:
    """R39: the length of what came is compared with what the service says that the object has."""
    store.put(KEY, DATA)
    line.add("short", "GET")
    assert store.read(KEY, 0, len(DATA)) == DATA
    assert line.count("GET") == 2


@pytest.fixture
def final(line: Proxy, tmp_path: Path) -> Iterator[Dataset]:
    """A version of three files in a store behind the proxy."""
    (tmp_path / "source").mkdir()
    for name, content in FILES.items():
        (tmp_path / "source" / name).write_bytes(content)
    with open_session(store_url=url_of(line)) as session:
        made = Dataset.create("d", "p", session=session)
        made.add_files(tmp_path / "source")
        made.upload()
        made.finalize()
        yield made


@pytest.mark.parametrize("fault", ["flip", "flip_nosum"])
@pytest.mark.parametrize("what", ["/chunks/", "/packs/", "/indexes/"])
def test_a_bit_that_turned_on_the_way_is_read_again_and_never_reaches_a_file(
    line: Proxy, final: Dataset, tmp_path: Path, fault: Action, what: str
) -> None:
    """R40: with a checksum header or without, and in ranged reads, which boto3 takes as they come: our own hash finds it."""
    line.add(fault, "GET", what)
    copied = Path(final.get_mutable_local_copy(tmp_path / "copy"))
    assert {file.name: file.read_bytes() for file in copied.iterdir()} == FILES
    assert line.faults[0].times == 0


@pytest.mark.parametrize("fault", ["flip", "flip_nosum"])
def test_a_file_that_is_opened_is_read_again_when_a_bit_turned(line: Proxy, final: Dataset, fault: Action) -> None:
    """R40: as for copies; what is damaged each time is an error."""
    line.add(fault, "GET", "/chunks/")
    with final.open("1") as file:
        assert file.read() == FILES["1"]
    assert line.faults[0].times == 0
    line.add(fault, "GET", "/chunks/", times=1000)
    with pytest.raises(DatasetError), final.open("1") as file:
        file.read()


def test_an_upload_that_goes_on_believes_no_list_that_is_not_what_it_wrote(
    line: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R40: what was packed before is listed in deltas; a bit that turned in one is not there the second time."""
    (tmp_path / "source").mkdir()
    for name, content in FILES.items():
        (tmp_path / "source" / name).write_bytes(content)
    with open_session(store_url=url_of(line)) as session:
        made = Dataset.create("d", "p", session=session)
        made.add_files(tmp_path / "source")
        with monkeypatch.context() as patched, pytest.raises(StorageError, match="ends here"):
            patched.setattr(upload, "commit", _end)
            made.upload(chunk_size=0.04)
        line.add("flip_nosum", "GET", "/deltas/")
        line.seen.clear()
        made.upload()
        assert line.faults[0].times == 0
        assert line.count("GET", "/deltas/") == 3
        made.finalize()
        line.add("flip_nosum", "GET", "/deltas/", times=1000)
        with pytest.raises(IntegrityError, match=r"deltas/.* is damaged"):
            _with_damaged_deltas(session, tmp_path, monkeypatch)


def _end(*_given: object, **_named: object) -> None:
    raise StorageError("ends here")


def _with_damaged_deltas(session: Session, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Dataset.create("e", "p", session=session)
    made.add_files(folder / "source")
    with monkeypatch.context() as patched, pytest.raises(StorageError, match="ends here"):
        patched.setattr(upload, "commit", _end)
        made.upload(chunk_size=0.04)
    made.upload()


def test_a_bit_that_turns_each_time_is_reported_with_the_file(line: Proxy, final: Dataset, tmp_path: Path) -> None:
    """R40: what can't be read right is an error that names every file, and leaves none behind."""
    line.add("flip_nosum", "GET", "/chunks/", times=1000)
    with pytest.raises(IntegrityError) as caught:
        final.get_mutable_local_copy(tmp_path / "copy")
    assert caught.value.paths
    assert caught.value.hint
    assert not (tmp_path / "copy").exists()


def test_what_arrives_damaged_at_the_service_is_sent_again(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """R40: a bit that turns on the way up is found by a service that checks: a real one does, moto does not."""
    endpoint = services.url("rgw")
    make_bucket("rgw", endpoint, monkeypatch)
    monkeypatch.setattr(multipart, "PART_BYTES", PART)
    with proxy(endpoint) as line:
        store = S3Store(url_of(line), patience=Patience(first=0.01))
        for data in (DATA, LARGE):
            line.add("flip_up", "PUT")
            write(store, data)
            assert store.get(KEY) == data


def test_a_part_that_fails_for_ever_ends_the_upload_and_leaves_nothing(
    line: Proxy, store: S3Store, clock: Clock
) -> None:
    """R41: the whole object has one patience, the upload is dropped, nothing is to be seen."""
    line.add("503", "PUT", "partNumber=2", times=10_000)
    with pytest.raises(StorageUnavailableError, match="given up"):
        write(store)
    assert clock.now <= 130
    assert list(store.list()) == list(store.leftovers()) == []


@pytest.mark.parametrize("fault", ["200error", "lostack", "500"])
@pytest.mark.parametrize("kind", ["moto", "rgw"])
def test_success_with_an_error_inside_is_no_success(
    services: Services, monkeypatch: pytest.MonkeyPatch, kind: str, fault: Action
) -> None:
    """R42: after 200 with an error in its body, and after no answer, the object is looked at: did the upload land?"""
    endpoint = services.url(kind)
    make_bucket(kind, endpoint, monkeypatch)
    monkeypatch.setattr(multipart, "PART_BYTES", PART)
    with proxy(endpoint) as line:
        store = S3Store(url_of(line), patience=Patience(first=0.01))
        line.add(fault, "POST", "uploadId=")
        write(store)
        assert line.count("POST", "uploadId=") == 2
        assert line.count("HEAD") >= 1
        assert store.get(KEY) == LARGE
        assert list(store.leftovers()) == []


def test_an_upload_that_is_gone_at_the_second_try_landed_if_its_object_stands(line: Proxy, store: S3Store) -> None:
    """R42: AWS answers so; the mark of the attempt on the object tells, not that there is one."""
    line.add("lostack", "POST", "uploadId=")
    line.add("404", "POST", "uploadId=")
    write(store)
    assert store.get(KEY) == LARGE
    line.faults.clear()
    line.add("500", "POST", "uploadId=")
    line.add("404", "POST", "uploadId=", times=1000)
    with pytest.raises(ObjectMissingError):  # the object that stands is the one of before
        write(store)


def test_an_upload_that_is_shorter_than_sent_is_not_taken(
    line: Proxy, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R42: what the service says that it holds is compared before anything is recorded."""
    monkeypatch.setattr(S3Store, "size", lambda self, key: len(LARGE) - 1)
    with pytest.raises(StorageError, match="bytes after the upload, expected"):
        write(store)


def test_a_conditional_put_whose_answer_was_lost_has_won(line: Proxy, store: S3Store) -> None:
    """R12: the second try meets the object of the first; only an object of this very attempt counts."""
    line.add("lostack", "PUT")
    store.put(KEY, DATA, create_only=True)
    assert line.count("PUT") == 2
    with pytest.raises(AlreadyExistsError):  # the same bytes from somebody else are not ours
        store.put(KEY, DATA, create_only=True)
    line.add("reset", "PUT")
    with pytest.raises(AlreadyExistsError):
        store.put(KEY, DATA, create_only=True)
    assert store.get(KEY) == DATA


def test_a_conditional_put_on_a_taken_key_is_not_tried_again(line: Proxy, store: S3Store) -> None:
    """R43: 412 is an answer."""
    store.put(KEY, DATA)
    with pytest.raises(AlreadyExistsError):
        store.put(KEY, b"other", create_only=True)
    assert line.count("PUT") == 2
    assert store.get(KEY) == DATA


@pytest.mark.parametrize("verb", ["size", "get", "read", "write"])
def test_what_was_just_written_may_show_late(line: Proxy, store: S3Store, clock: Clock, verb: str) -> None:
    """R44: 404 twice, then 200, right after a write of ours: waited for."""
    if verb != "write":
        store.put(KEY, DATA)
    line.add("404", "HEAD" if verb in ("size", "write") else "GET", times=2)
    match verb:
        case "size":
            assert store.size(KEY) == len(DATA)
        case "get":
            assert store.get(KEY) == DATA
        case "read":
            assert store.read(KEY, 0, 5) == DATA[:5]
        case "write":
            write(store)
    assert clock.pauses


@pytest.mark.parametrize("fault", ["403", "404"])
def test_a_refusal_is_final_at_once(line: Proxy, store: S3Store, clock: Clock, fault: Action) -> None:
    """R45: no rights, and no such object, are not asked again; the message says what to look at."""
    line.add(fault, times=10_000)
    for ask in (store.get, store.size, lambda key: store.read(key, 0, 5)):
        line.seen.clear()
        with pytest.raises(StorageError) as caught:
            ask("never/written")
        assert isinstance(caught.value, ObjectMissingError) == (fault == "404")
        assert not caught.value.retryable
        assert caught.value.hint
        assert len(line.seen) == 1
    assert clock.pauses == []
    if fault == "403":
        with pytest.raises(StorageError, match="refused"):
            write(store)
        assert clock.pauses == []


def test_rights_that_go_in_mid_upload_end_it_and_the_next_try_works(line: Proxy, store: S3Store, clock: Clock) -> None:
    """R45: the third part is refused; once the rights are back the same call succeeds."""
    line.add("403", "PUT", "partNumber=3")
    with pytest.raises(StorageError, match="refused"):
        write(store)
    assert clock.pauses == []
    write(store)
    assert store.get(KEY) == LARGE
    assert list(store.leftovers()) == []


@pytest.mark.parametrize(
    ("fault", "code", "hint"),
    [
        ("expired", "ExpiredToken", "get new ones"),
        ("region", "AuthorizationHeaderMalformed", "region"),
        ("moved", "PermanentRedirect", "region"),
        ("403", "AccessDenied", "its key where it is encrypted"),
        ("kms", "KMS.DisabledException", "key that the bucket is encrypted with"),
        ("skewed", "RequestTimeTooSkewed", "clock"),
    ],
)
@pytest.mark.parametrize("verb", ["put", "get", "list", "write"])
def test_what_is_refused_is_named_at_once_with_what_to_do(
    line: Proxy, store: S3Store, clock: Clock, verb: str, fault: Action, code: str, hint: str
) -> None:
    """R45, R46: credentials, region, encryption and clock are nothing that a second try mends."""
    line.add(fault, times=10_000)
    asks: dict[str, Callable[[], object]] = {
        "put": lambda: store.put(KEY, DATA),
        "get": lambda: store.get(KEY),
        "list": lambda: list(store.list()),
        "write": lambda: write(store),
    }
    with pytest.raises(StorageError, match=re.escape(code)) as caught:
        asks[verb]()
    assert hint in caught.value.hint
    assert not caught.value.retryable
    assert clock.pauses == []
    methods = [method for method, _ in line.seen]
    assert len(methods) - methods.count("HEAD") <= 1 + (fault in ("moved", "region"))  # boto3 may ask for the region


def test_credentials_that_expire_in_mid_upload_end_it_and_new_ones_go_on(
    line: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R45: told at once, by name, without them; what was stored before is not stored again."""
    monkeypatch.setattr(multipart, "PART_BYTES", PART)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, CANARY)
    (tmp_path / "source").mkdir()
    for name in ("first", "second"):
        (tmp_path / "source" / name).write_bytes(name.encode() + LARGE)
    url = url_of(line)
    with open_session(store_url=url) as session:
        made = Dataset.create("d", "p", session=session)
        made.add_files(tmp_path / "source")
        line.add("expired", "PUT", "partNumber=3", after=1)
        with pytest.raises(StorageError, match="ExpiredToken") as caught:
            made.upload(chunk_size=16, max_workers=1)
        assert not caught.value.retryable
        assert "get new ones" in caught.value.hint
        assert CANARY not in "".join(traceback.format_exception(caught.value)) + str(caught.value.to_json())
        assert line.count("PUT", "partNumber=3") == 2
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "new")
    line.seen.clear()
    with open_session(store_url=url) as session:
        again = Dataset(made.id, session=session)
        again.upload(chunk_size=16, max_workers=1)
        assert line.count("PUT", "partNumber=3") == 1
        again.finalize()
        with again.open("second") as file:
            assert file.read() == b"second" + LARGE


@pytest.mark.parametrize("pays", ["requester", None])
def test_who_pays_for_requests_is_said_with_each_of_them(
    line: Proxy, clock: Clock, monkeypatch: pytest.MonkeyPatch, pays: str | None
) -> None:
    """R45: `payer=requester` is a header of every request, parts and listings too; without it there is none."""
    monkeypatch.setattr(multipart, "PART_BYTES", PART)
    said: list[str | None] = []
    line.on_request = lambda request: said.append(request.headers.get("x-amz-request-payer"))
    store = S3Store(
        url_of(line) + (f"&payer={pays}" if pays else ""), patience=Patience(clock=clock, pause=clock.pause)
    )
    store.put(KEY, DATA)
    write(store)
    assert store.get(KEY) == LARGE
    assert store.read(KEY, 5, 5) == LARGE[5:10]
    assert list(store.list()) == [(KEY, len(LARGE))]
    assert list(store.leftovers()) == []
    store.delete(KEY)
    assert len(said) == len(line.seen) > 12
    assert set(said) == {pays}


@pytest.fixture(params=["azurite", "gcs"])
def cloud(
    request: pytest.FixtureRequest, services: Services, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Proxy, Store]]:
    """A store in Azure or GCS behind the proxy, whose service may be silent for a second."""
    monkeypatch.setattr(object_client, "_REQUEST_SECONDS", 1)
    endpoint = services.url(request.param)
    at = f"f{os.getpid()}-{next(_numbers)}"
    where = make_bucket(request.param, endpoint, monkeypatch, at=at)
    with proxy(endpoint) as line:
        made = GoogleStore if request.param == "gcs" else AzureStore
        if request.param == "gcs":  # whose address is part of the credentials
            set_credentials("gcs", line.url, monkeypatch)
        url = where.replace(quote(endpoint, safe=""), quote(line.url, safe=""))
        yield line, made(url, patience=Patience(first=0.01, most=0.1))


@pytest.mark.parametrize("fault", ["500", "503", "hang", "truncate", "reset"])
@pytest.mark.parametrize("verb", ["put", "get", "read", "size", "write"])
def test_what_fails_once_in_azure_or_gcs_is_done_again(cloud: tuple[Proxy, Store], verb: str, fault: Action) -> None:
    """R36, R38, R39: as in S3: answers that fail, never come, or break off."""
    line, store = cloud
    store.put(KEY, DATA)
    line.seen.clear()
    line.add(fault)
    match verb:
        case "put":
            store.put(KEY, DATA[::-1])
            assert store.get(KEY) == DATA[::-1]
        case "get":
            assert store.get(KEY) == DATA
        case "read":
            assert store.read(KEY, 10, 1000) == DATA[10:1010]
        case "size":
            assert store.size(KEY) == len(DATA)
        case "write":
            if store.url.startswith("gs") and fault in ("hang", "truncate", "reset"):  # see the module
                with pytest.raises(StorageUnavailableError) as caught:
                    _write_to_cloud(store)
                assert caught.value.retryable
                assert store.get(KEY) == DATA
                _write_to_cloud(store)
            else:
                _write_to_cloud(store)
            assert store.get(KEY) == LARGE
    assert line.faults[0].times == 0


def _write_to_cloud(store: Store) -> None:
    with store.create(KEY) as writer:
        writer.write(LARGE)
        writer.commit()


@pytest.mark.parametrize("fault", ["403", "404"])
def test_a_refusal_in_azure_or_gcs_is_final_at_once(cloud: tuple[Proxy, Store], fault: Action) -> None:
    """R45: asked once."""
    line, store = cloud
    line.add(fault, times=10_000)
    with pytest.raises(StorageError) as caught:
        store.get("never/written")
    assert isinstance(caught.value, ObjectMissingError) == (fault == "404")
    assert not caught.value.retryable
    assert len(line.seen) == 1


def test_a_clock_that_is_wrong_is_named(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """R46: a real service refuses requests of twenty minutes from now, and we say why."""
    from datetime import timedelta

    from botocore import auth

    endpoint = services.url("rgw")
    where = make_bucket("rgw", endpoint, monkeypatch, at="skew")
    now = auth.get_current_datetime
    monkeypatch.setattr(auth, "get_current_datetime", lambda *a, **k: now(*a, **k) + timedelta(minutes=20))
    with pytest.raises(StorageError, match="RequestTimeTooSkewed") as caught:
        open_store(where).put(KEY, DATA)
    assert "clock" in caught.value.hint
    assert not caught.value.retryable


KILLED = """
import sys
from dataset_tasks.store import multipart, open_store
multipart.PART_BYTES = 5 << 20
with open_store(sys.argv[1]).create("a/b") as writer:
    for _ in range(4):
        writer.write(bytes(5 << 20))
    writer.commit()
"""


@pytest.mark.parametrize(
    ("where", "parts"),
    [("multipart.after_begin", 0), ("multipart.after_part=kill@2", None), ("multipart.before_complete", 4),
     ("multipart.after_complete", -1)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["moto", "rgw"])
def test_a_writer_killed_in_mid_upload_leaves_what_gc_finds(
    services: Services, monkeypatch: pytest.MonkeyPatch, kind: str, where: str, parts: int | None
) -> None:
    """R04: the service has the id of the upload before the first part, so what was sent is listed and can be dropped."""
    url = make_bucket(kind, services.url(kind), monkeypatch, at=f"killed{os.getpid()}-{next(_numbers)}")
    rule = where if "=" in where else f"{where}=kill"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, url], env={**os.environ, "DATASET_TASKS_FAILPOINTS": rule}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    store = open_store(url)
    if parts == -1:
        assert list(store.list()) == [(KEY, 4 * PART)]
        assert list(store.leftovers()) == []
        return
    assert list(store.list()) == []
    (left,) = store.leftovers()
    assert left.key == KEY
    assert left.size == parts * PART if parts is not None else left.size in range(PART, 5 * PART, PART)
    assert left.modified > 0
    store.discard(left)
    assert list(store.leftovers()) == list(store.list()) == []


def test_names_of_files_are_no_part_of_any_key(line: Proxy, tmp_path: Path) -> None:
    """R70: whatever files are called, keys are ours; see `check_key` for what else is none."""
    names = ["a b", "-x", "..x", "q?#%", "new\nline", "ü" * 100, ".hidden", "~"]
    (tmp_path / "source").mkdir()
    for name in names:
        (tmp_path / "source" / name).write_bytes(name.encode())
    url = url_of(line)
    with open_session(store_url=url) as session:
        made = Dataset.create("d", "p", session=session)
        made.add_files(tmp_path / "source")
        made.upload()
        made.finalize()
        keys = [key for key, _ in open_store(url).list()]
        assert len(keys) > 3
        assert all(re.fullmatch(rf"{session.catalog.id}/[a-z]+(/[0-9a-f]+)?\.[a-z]+", key) for key in keys)


CANARY = "canaryCANARY0123456789"


def test_a_secret_is_in_nothing_that_we_write_or_raise(
    line: Proxy, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """S15: credentials of a connection, on calls that succeed and on calls that fail in every way."""
    home.mkdir(parents=True)
    (home / "config.toml").write_text(
        f'[connections.lake]\nendpoint_url = "{line.url}"\npath_style = true\nregion = "us-east-1"\n'
        f'access_key = "test"\nsecret_key = "{CANARY}"\nsession_token = "{CANARY}"\n'
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(DATA)
    said: list[str] = []
    caplog.set_level("DEBUG", logger="dataset_tasks")
    with open_session(store_url=f"s3://{BUCKET}/canary{os.getpid()}?connection=lake") as session:
        for fault in ("ok", "403", "404"):
            line.add(fault, times=10_000 if fault != "ok" else 0)  # type: ignore[arg-type]
            try:
                made = Dataset.create(f"d{fault}", "p", session=session)
                made.add_files(tmp_path / "source")
                made.upload()
                made.finalize()
            except DatasetError as error:
                said += [
                    *traceback.format_exception(error),
                    repr(error),
                    str(error.to_json()),
                    str(pickle.dumps(error)),
                ]
            line.faults.clear()
        assert "refused" in "".join(said)
        said += [
            repr(session),
            repr(session.settings),
            repr(resolve("lake")),
            repr(open_store(session.settings.store_url)),
        ]
        keys = [key for key, _ in open_store(session.settings.store_url).list()]
        said += [str(open_store(session.settings.store_url).get(key)) for key in keys]
    said += [
        path.read_bytes().decode("latin-1") for path in home.rglob("*") if path.is_file() and path.suffix != ".toml"
    ]
    assert len(said) > 10
    assert CANARY not in "".join(said) + caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{CANARY}@bucket/x", f"s3://bucket/x?endpoint=http://key:{CANARY}@host",
        f"s3://bucket/x?secret_key={CANARY}", f"azure://container/x?account_key={CANARY}",
        f"gs://bucket/x?service_account={CANARY}", f"azure://u:{CANARY}@container",
    ],
)  # fmt: skip
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    """S15: not in the place of a user, not in the endpoint, not as an option."""
    with pytest.raises(InvalidArgumentError) as caught:
        open_store(url)
    assert CANARY not in str(caught.value) + "".join(traceback.format_exception(caught.value))
    assert caught.value.hint


def test_a_child_that_was_forked_makes_connections_of_its_own(line: Proxy, store: S3Store) -> None:
    """R22: the sockets and threads of the parent are not used by both."""
    store.put(KEY, LARGE)
    before = store.client
    child = os.fork()
    if not child:
        is_well = store.client is not before and store.get(KEY) == LARGE
        os._exit(0 if is_well else 1)
    assert store.get(KEY) == LARGE
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_store_on_two_file_systems_needs_no_rename_between_them(tmp_path: Path) -> None:
    """R52: what is being written lies beside the object that it will be."""
    (tmp_path / "store/a").mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", tmp_path / "store/a"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("no right to mount here")
    try:
        store = open_store(tmp_path / "store")
        store.put(KEY, DATA, create_only=True)
        with store.create("a/c") as writer:
            writer.write(DATA)
            writer.commit()
        store.put("b", DATA)
        assert [key for key, _ in store.list()] == [KEY, "a/c", "b"]
        assert store.get("a/c") == DATA
    finally:
        subprocess.run(["umount", "-l", tmp_path / "store/a"], check=True)
