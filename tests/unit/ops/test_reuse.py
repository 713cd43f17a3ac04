"""What the last version has stored is not stored again."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.testing.invariants import assert_invariants


def make(source: Path, **fields: object) -> Dataset:
    made = Dataset.create("d", "p", **fields)  # type: ignore[arg-type]
    made.add_files(source)
    made.upload(show_progress=False, chunk_size=0.01)
    made.finalize()
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(40):
        (tmp_path / f"{number:02d}").write_bytes(bytes([number]) * 4000)
    return tmp_path


def test_a_version_that_is_no_child_shares_what_is_equal(source: Path) -> None:
    first = make(source)
    (source / "07").write_text("changed")
    (source / "99").write_text("new")
    second = make(source)
    assert second.parents == []
    assert second.get_num_chunks(include_parents=False) == 1
    assert second.diff(first.id).modified[0].path == "07"
    copy = Path(second.get_local_copy() or "")
    assert (copy / "07").read_text() == "changed"
    assert (copy / "33").read_bytes() == bytes([33]) * 4000
    assert_invariants(second._session)


def test_what_it_shares_is_there_when_the_other_is_deleted(source: Path) -> None:
    first = make(source)
    (source / "07").write_text("changed")
    second = make(source)
    Dataset.delete(first.id)
    assert second.verify_dataset_hash() == []
    assert_invariants(second._session)


def test_another_store_shares_nothing(source: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    make(source)
    elsewhere = make(source, output_uri=str(tmp_path_factory.mktemp("elsewhere")))
    assert elsewhere.get_num_chunks() == elsewhere.get_num_chunks(include_parents=False) > 0


def test_files_that_failed_between_stored_ones_are_stored_by_the_next_call(source: Path) -> None:
    draft = Dataset.create("e", "p")
    draft.add_files(source)
    gone = source / "20"
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(Exception, match="20"):
        draft.upload(show_progress=False, chunk_size=0.01)
    gone.write_bytes(content)
    draft.upload(show_progress=False)
    assert draft.finalize()
    assert draft.verify_dataset_hash() == []
