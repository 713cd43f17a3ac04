"""Objects: indexes are read each time and decoded once, sizes asked of far stores too; nothing goes to an empty mount point."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dataset_tasks.errors import ConflictError, IntegrityError, StorageUnavailableError
from dataset_tasks.manifest import Index
from dataset_tasks.model import Version
from dataset_tasks.objects import new_key
from dataset_tasks.ops.requests import AddFiles, Create, Finalize, Repair, Upload
from dataset_tasks.session import Session, open_session
from dataset_tasks.settings import Settings
from dataset_tasks.testing.memory_store import MemoryStore


def uploaded(session: Session, folder: Path, name: str, parents: tuple[str, ...] = ()) -> Version:
    (folder / name).mkdir(parents=True)
    (folder / name / f"{name}.txt").write_text(name)
    draft = session.run(Create(project="p", name=name, parents=parents)).version_id
    session.run(AddFiles(ref=draft, path=str(folder / name)))
    session.run(Upload(ref=draft))
    return session.catalog.version(draft)


def test_an_index_is_decoded_once_and_still_read_each_time(home: Path, tmp_path: Path) -> None:
    with open_session(home=home) as session:
        version = uploaded(session, tmp_path, "a")
        assert version.index is not None
        first = session.objects.index(version.index)
        assert session.objects.index(version.index) is first
        assert session.manifest(version).index is first
        assert first == Index.from_bytes(session.objects.read(version.index))
        shutil.rmtree(home / "store")
        with pytest.raises(IntegrityError, match="missing"):
            session.objects.index(version.index)


def test_only_the_last_indexes_are_kept(home: Path, tmp_path: Path) -> None:
    with open_session(home=home) as session:
        versions = [uploaded(session, tmp_path, name) for name in "abcd"]
        refs = [version.index for version in versions if version.index]
        oldest = session.objects.index(refs[0])
        for ref in refs[1:]:
            assert session.objects.index(ref) is session.objects.index(ref)
        assert session.objects.index(refs[0]) is not oldest


def test_finalize_asks_a_far_store_for_every_size_in_threads(home: Path, tmp_path: Path) -> None:
    asked: set[str] = set()

    class Far(MemoryStore):
        def size(self, key: str) -> int:
            if not key.endswith("owner.json"):
                asked.add(threading.current_thread().name)
            return super().size(key)

    store = Far()
    with Session(Settings.from_env(home=home), open_stores=lambda url: store) as session:
        first = uploaded(session, tmp_path, "a")
        session.run(Finalize(ref=first.id))
        assert asked
        assert threading.main_thread().name not in asked
        second = uploaded(session, tmp_path, "b", (first.id,))
        chunk = next(key for key in store.objects if "/chunks/" in key)  # the parent's: the first that was written
        store.objects[chunk] += b"!"
        with pytest.raises(IntegrityError, match="expected"):
            session.run(Finalize(ref=second.id))


def test_of_objects_that_are_dropped_together_those_stay_that_a_version_needs_by_now(
    home: Path, tmp_path: Path
) -> None:
    """As where a copy that stood still for a day goes on, and another one has brought a part of the same meanwhile."""
    with open_session(home=home) as session:
        version = uploaded(session, tmp_path, "a")
        live = list(session.manifest(version).index.objects.values())
        lost = replace(live[0], key=new_key("chunk"))
        with pytest.raises(ConflictError, match="given up"):
            session.objects.written([*live, lost])
        session.objects.check_sizes(live)
        session.objects.discard((ref.store_id, ref.key) for ref in live)
        assert session.run(Finalize(ref=version.id)).version_id == version.id


@pytest.mark.parametrize("same_process", [True, False])
def test_nothing_is_written_where_the_disk_of_a_store_is_not_mounted(
    home: Path, tmp_path: Path, *, same_process: bool
) -> None:
    place, away = tmp_path / "disk", tmp_path / "away"
    with open_session(home=home, store_url=str(place)) as session:
        uploaded(session, tmp_path, "a")
        place.rename(away)
        place.mkdir()
        with open_session(home=home, store_url=str(place)) as other:
            for _ in range(2):
                with pytest.raises(StorageUnavailableError, match=r"owner\.json is missing"):
                    uploaded(session if same_process else other, tmp_path / f"{_}", "b")
        assert list(place.iterdir()) == []
        place.rmdir()
        away.rename(place)
        session.run(Finalize(ref=uploaded(session, tmp_path, "c").id))


def test_repair_takes_a_store_whose_objects_are_all_lost_as_it_is(home: Path, tmp_path: Path) -> None:
    with open_session(home=home) as session:
        session.run(Finalize(ref=uploaded(session, tmp_path, "a").id))
        shutil.rmtree(home / "store")
        assert session.run(Repair(dry_run=False)).lost
        session.run(Finalize(ref=uploaded(session, tmp_path, "b").id))
