"""SEMANTICS, upload."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from dataset_tasks import Dataset, open_session
from dataset_tasks.errors import InvalidArgumentError, SourceError, StorageError
from dataset_tasks.store import open_store
from dataset_tasks.store.opened import OpenStores
from dataset_tasks.testing.memory_store import MemoryStore


def chunks(place: Path) -> list[Path]:
    return sorted(place.rglob("chunks/*.zip"), key=lambda path: path.stat().st_mtime_ns)


def methods(place: Path) -> set[int]:
    return {info.compress_type for chunk in chunks(place) for info in zipfile.ZipFile(chunk).infolist()}


@pytest.mark.parametrize("compression", [None, zipfile.ZIP_DEFLATED, "deflate"])
def test_content_is_deflated(draft, home, compression):
    version = draft({"a": "x" * 5000})
    version.upload(show_progress=False, compression=compression)
    assert methods(home) == {zipfile.ZIP_DEFLATED}


def test_by_default_content_that_deflate_does_not_help_is_stored(draft, home):
    import random

    version = draft({"a": random.Random(1).randbytes(5000)})
    version.upload(show_progress=False)
    assert methods(home) == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, "store"])
def test_content_is_stored_when_asked_for(draft, home, compression):
    version = draft({"a": "x" * 5000})
    version.upload(show_progress=False, compression=compression)
    assert methods(home) == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_constants_that_not_every_unzip_reads_count_as_deflate_and_are_logged(draft, home, compression, caplog):
    version = draft({"a": "x" * 5000})
    version.upload(show_progress=False, compression=compression)
    assert methods(home) == {zipfile.ZIP_DEFLATED}
    assert f"compression {compression} is stored as deflate" in caplog.text


@pytest.mark.parametrize("compression", ["brotli", 99])
def test_another_compression_is_refused_before_anything_is_stored(draft, home, compression):
    version = draft({"a": "1"})
    with pytest.raises(InvalidArgumentError, match="compression"):
        version.upload(show_progress=False, compression=compression)
    assert version.is_dirty()
    assert chunks(home) == []


def test_a_source_that_changed_since_is_an_error_that_names_it_and_the_rest_is_kept(draft, folder, finish, content):
    source = folder({"a": "1", "b": "2", "c": "3"})
    version = draft()
    version.add_files(source)
    (source / "b").write_text("9")
    with pytest.raises(SourceError) as raised:
        version.upload(show_progress=False)
    assert raised.value.paths == ("b",)
    assert version.is_dirty()
    assert version.file_entries_dict["a"].artifact_name
    assert version.file_entries_dict["c"].artifact_name
    (source / "b").write_text("2")
    assert content(finish(version)) == {"a": "1", "b": "2", "c": "3"}


def test_sources_that_vanished_are_all_named(draft, folder):
    source = folder({name: name for name in "abcd"})
    version = draft()
    version.add_files(source)
    (source / "b").unlink()
    (source / "d").unlink()
    (source / "d").mkdir()
    with pytest.raises(SourceError) as raised:
        version.upload(show_progress=False)
    assert raised.value.paths == ("b", "d")


def test_what_is_uploaded_is_not_uploaded_again(draft, folder, home):
    source = folder({name: name * 1000 for name in "abc"})
    version = draft()
    version.add_files(source)
    (source / "c").rename(source.parent / "aside")
    with pytest.raises(SourceError):
        version.upload(show_progress=False)
    before = chunks(home)
    (source.parent / "aside").rename(source / "c")
    version.upload(show_progress=False)
    (new,) = set(chunks(home)) - set(before)
    assert zipfile.ZipFile(new).namelist() == ["c"]


class Refusing(MemoryStore):
    """Takes so many chunks and refuses the next."""

    taken = 0
    most = 0

    def create(self, key):
        if "/chunks/" in key:
            if self.taken == self.most:
                raise StorageError("the store is full", hint="Make room.")
            self.taken += 1
        return super().create(key)


@pytest.mark.parametrize("most", [0, 1, 2])
def test_the_failure_of_any_chunk_is_raised_also_of_the_last_one(home, folder, most):
    store = Refusing()
    store.most = most
    with open_session(home=home) as session:
        session.stores = OpenStores(open_url=lambda _url: store)
        version = Dataset.create("data", "demo", session=session)
        version.add_files(folder({name: name * 2000 for name in "abc"}))
        with pytest.raises(StorageError, match="full"):
            version.upload(show_progress=False, chunk_size=0.001, max_workers=1)
        assert version.is_dirty()
        assert version.finalize(raise_on_error=False) is False
        store.most = 99
        version.upload(show_progress=False, chunk_size=0.001, max_workers=1)
        assert version.finalize()
        assert store.taken == 3, "what was stored before is not stored again"
        assert [version.open(name).read() for name in "abc"] == [name.encode() * 2000 for name in "abc"]


def test_output_url_becomes_the_versions_store_and_is_made(draft, tmp_path, content):
    version = draft({"a": "1"})
    place = tmp_path / "new" / "store"
    version.upload(show_progress=False, output_url=str(place))
    assert version.finalize()
    assert version.get_default_storage() == str(place)
    assert len(chunks(place)) == 1
    assert content(version) == {"a": "1"}
    assert Dataset.get(version.id).get_default_storage() == str(place)


def test_a_child_uses_the_sessions_store_again(draft, final, tmp_path, home, content):
    parent = draft({"a": "1"})
    parent.upload(show_progress=False, output_url=str(tmp_path / "elsewhere"))
    parent.finalize()
    child = final({"a": "1", "b": "2"}, [parent])
    assert child.get_default_storage() == str(home / "store")
    assert len(chunks(home)) == 1
    assert content(child) == {"a": "1", "b": "2"}


def test_a_store_that_there_is_not_is_refused_before_anything_changes(draft, home):
    version = draft({"a": "1"})
    before = version.get_default_storage()
    with pytest.raises(InvalidArgumentError):
        version.upload(show_progress=False, output_url="gopher://host/x")
    assert version.get_default_storage() == before
    assert version.is_dirty()


def test_chunk_size_is_in_mib_fractions_allowed(draft):
    version = draft({f"{number}": "x" * 3000 for number in range(6)})
    version.upload(show_progress=False, chunk_size=6000 / 2**20)
    assert version.get_num_chunks() == 3


@pytest.mark.parametrize("chunk_size", [0, -1, float("nan"), float("inf")])
def test_a_chunk_size_that_is_none_is_refused(draft, chunk_size):
    version = draft({"a": "1"})
    with pytest.raises(InvalidArgumentError, match="chunk_size"):
        version.upload(show_progress=False, chunk_size=chunk_size)
    assert version.is_dirty()


def test_with_nothing_pending_it_does_nothing(draft, final, home):
    child = draft(parents=[final({"a": "1"})])
    before = sorted(home.rglob("*"))
    child.upload(show_progress=False)
    assert sorted(home.rglob("*")) == before


def test_any_number_of_workers_stores_the_same(draft, finish, content):
    files = {f"{number}": f"{number}" * 900 for number in range(8)}
    for workers in (1, 4):
        version = draft(files, name=f"with-{workers}")
        version.upload(show_progress=False, chunk_size=0.001, max_workers=workers)
        assert content(finish(version)) == files


def test_same_content_is_stored_once(draft, home, finish, content):
    version = draft({"a": "x" * 9000, "b": "x" * 9000, "c": "y"})
    version.upload(show_progress=False, compression="store")
    assert sum(chunk.stat().st_size for chunk in chunks(home)) < 2 * 9000
    assert content(finish(version)) == {"a": "x" * 9000, "b": "x" * 9000, "c": "y"}


def test_a_second_handle_uploads_what_the_first_one_added(draft, content):
    version = draft({"a": "1"})
    other = Dataset.get(version.id)
    other.upload(show_progress=False)
    assert not version.is_dirty()
    assert version.finalize()
    assert content(other) == {"a": "1"}


def test_progress_and_a_preview_may_be_asked_for(draft, capsys):
    version = draft({"a": "1"})
    version.upload(show_progress=True, verbose=True, preview=True, retries=1)
    assert "1 files" in capsys.readouterr().out


def test_the_store_of_a_file_url_is_that_folder(draft, tmp_path):
    version = draft({"a": "1"})
    version.upload(show_progress=False, output_url=(tmp_path / "a b?").as_uri())
    assert len(chunks(tmp_path / "a b?")) == 1
    assert open_store(version.get_default_storage()).url == (tmp_path / "a b?").as_uri()
