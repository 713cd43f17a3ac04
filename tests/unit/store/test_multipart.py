"""Writing in parts, against a service that is told when to answer."""

from __future__ import annotations

import threading

import pytest

from dataset_tasks.errors import StorageError
from dataset_tasks.filesystem import Buffer
from dataset_tasks.store import multipart
from dataset_tasks.store.multipart import PartWriter
from dataset_tasks.store.transfer import Patience, Threads, Trouble

PART = 1000


class Service:
    """Takes parts; `gate` is waited for by each, `events` says what came in which order."""

    def __init__(self) -> None:
        self.threads = Threads()
        self.events: list[str] = []
        self.parts: dict[int, bytes] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.fails_at = 0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def trouble(self) -> Trouble:
        return Trouble(Patience())

    def put_small(self, key: str, data: Buffer) -> None:
        self.events.append(f"small {len(data)}")

    def begin_upload(self, key: str, trouble: Trouble) -> str:
        self.events.append("begin")
        return "upload"

    def put_part(self, key: str, upload: str, number: int, data: Buffer, trouble: Trouble) -> str:
        with self.lock:
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        assert self.gate.wait(30)
        with self.lock:
            self.at_once -= 1
            self.events.append("part")
            self.parts[number] = bytes(data)
        if number == self.fails_at:
            raise StorageError("refused")
        return f"tag{number}"

    def complete_upload(self, key: str, upload: str, parts: list[str], size: int, trouble: Trouble) -> None:
        self.events.append(f"complete {parts} {size}")

    def abort_upload(self, key: str, upload: str) -> None:
        self.events.append("abort")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "PART_BYTES", PART)


def test_a_small_object_goes_in_one_request() -> None:
    service = Service()
    with PartWriter(service, "k") as writer:
        writer.write(bytes(PART - 1))
        writer.commit()
    assert service.events == [f"small {PART - 1}"]


@pytest.mark.parametrize("step", [1, 7, PART - 1, PART, PART + 1, 10 * PART])
def test_parts_hold_the_bytes_in_order_and_are_completed_in_order(step: int) -> None:
    service = Service()
    data = bytes(range(256)) * 13
    with PartWriter(service, "k") as writer:
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
        writer.commit()
    assert b"".join(service.parts[number] for number in sorted(service.parts)) == data
    assert {len(part) for number, part in service.parts.items() if number < 4} == {PART}
    assert service.events[0] == "begin"
    assert service.events[-1] == f"complete {['tag1', 'tag2', 'tag3', 'tag4']} {len(data)}"


def test_a_few_parts_are_under_way_at_once_and_no_more() -> None:
    service = Service()
    service.gate.clear()
    writer = PartWriter(service, "k")
    thread = threading.Thread(target=lambda: writer.write(bytes(20 * PART)))
    thread.start()
    while service.at_once < multipart._AT_ONCE:
        thread.join(0.001)
    service.gate.set()
    thread.join()
    writer.commit()
    assert service.most_at_once == multipart._AT_ONCE


def test_an_upload_is_dropped_only_after_the_last_part_has_come_to_its_end() -> None:
    service = Service()
    service.gate.clear()
    writer = PartWriter(service, "k")
    writer.write(bytes(3 * PART))
    while service.at_once < 3:
        pass
    ending = threading.Thread(target=writer.abort)
    ending.start()
    ending.join(0.05)
    service.gate.set()
    ending.join()
    assert service.events == ["begin", "part", "part", "part", "abort"]


def test_a_part_that_fails_ends_the_upload() -> None:
    service = Service()
    service.fails_at = 2
    with pytest.raises(StorageError, match="refused"), PartWriter(service, "k") as writer:
        writer.write(bytes(10 * PART))
        writer.commit()
    assert service.events[-1] == "abort"
    assert not any(event.startswith("complete") for event in service.events)


def test_parts_grow_so_that_ten_thousand_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "PART_BYTES", 1)
    service = Service()
    with PartWriter(service, "k") as writer:
        writer.write(bytes(1000 + 2 * 1000 + 4))
        writer.commit()
    assert len(service.parts) == 2001
    assert {len(service.parts[number]) for number in (1, 1000)} == {1}
    assert {len(service.parts[number]) for number in (1001, 2000)} == {2}
    assert len(service.parts[2001]) == 4
