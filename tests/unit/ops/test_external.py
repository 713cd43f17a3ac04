"""Links to files of this machine: added, compared, copied, read, verified, squashed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import InvalidArgumentError, NotFoundError, SourceError, StateError, TargetError
from dataset_tasks.model import LinkEntry
from dataset_tasks.ops.requests import GetCopy, Verify
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "da ta%20"
    for name, text in {"a.csv": "a", "sub/b.csv": "bb", "sub/deep/c.txt": "ccc", "100%.csv": "pp"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def draft() -> Dataset:
    return Dataset.create("links", "demo")


@pytest.fixture
def session() -> Session:
    return open_session()


def final(dataset: Dataset) -> Dataset:
    dataset.upload(show_progress=False)
    dataset.finalize()
    return dataset


def state(dataset: Dataset) -> tuple[object, ...]:
    version = dataset._version
    return version.revision, version.content_hash, version.files, version.bytes


def touched(path: Path, text: str) -> None:
    """Writes a file so that its mtime is surely another."""
    path.write_text(text)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1_000_000))


def test_a_folder_becomes_links_that_are_never_pending(draft: Dataset, data: Path) -> None:
    assert draft.add_external_files(data.as_uri()) == 4
    assert draft.list_files() == ["100%.csv", "a.csv", "sub/b.csv", "sub/deep/c.txt"]
    assert not draft.is_dirty()
    assert (draft._version.files, draft._version.bytes) == (4, 8)
    entry = draft.file_entries_dict["100%.csv"]
    assert isinstance(entry, LinkEntry)
    assert entry.link == (data / "100%.csv").as_uri()
    assert (entry.size, entry.parent_dataset_id) == (2, draft.id)
    assert entry.pin == f"mtime_ns:{(data / '100%.csv').stat().st_mtime_ns}"


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"wildcard": "*.csv"}, ["100%.csv", "a.csv", "sub/b.csv"]),
        ({"wildcard": ["*.txt", "a.*"], "dataset_path": "in/"}, ["in/a.csv", "in/sub/deep/c.txt"]),
        ({"recursive": False}, ["100%.csv", "a.csv"]),
        ({"recursive": False, "wildcard": "sub/*"}, ["sub/b.csv"]),
        ({"wildcard": "*.none"}, []),
    ],
    ids=str,
)
def test_wildcards_choose_as_they_do_in_add(
    draft: Dataset, data: Path, arguments: dict[str, object], names: list[str]
) -> None:
    assert draft.add_external_files(data.as_uri(), **arguments) == len(names)  # type: ignore[arg-type]
    assert draft.list_files() == names


def test_a_single_file_goes_by_its_name_whatever_the_wildcard(draft: Dataset, data: Path) -> None:
    urls = [(data / "sub/b.csv").as_uri(), (data / "a.csv").as_uri()]
    assert draft.add_external_files(urls, wildcard="*.none", dataset_path="in") == 2
    assert draft.list_files() == ["in/a.csv", "in/b.csv"]


def test_the_same_again_changes_nothing_and_another_pin_is_modified(draft: Dataset, data: Path) -> None:
    draft.add_external_files(data.as_uri())
    before = state(draft)
    assert draft.add_external_files(data.as_uri()) == 0
    assert state(draft) == before
    touched(data / "a.csv", "z")
    assert draft.add_external_files(data.as_uri()) == 0
    assert state(draft) != before
    child = Dataset.create("links", "demo", [final(draft)])
    touched(data / "a.csv", "zz")
    child.add_external_files(data.as_uri())
    assert (child.list_modified_files(), child.list_added_files()) == (["a.csv"], [])
    assert child.file_entries_dict["sub/b.csv"].parent_dataset_id == draft.id


def test_every_url_that_leads_nowhere_is_named_and_nothing_changes(draft: Dataset, data: Path) -> None:
    before = state(draft)
    urls = [(data / name).as_uri() for name in ("a.csv", "x", "a.csv/y")]
    with pytest.raises(SourceError) as caught:
        draft.add_external_files(urls)
    assert caught.value.paths == tuple(urls[1:])
    assert all(url in caught.value.message for url in urls[1:])
    assert state(draft) == before


def test_two_links_of_one_path_are_refused(draft: Dataset, data: Path) -> None:
    (data / "sub/a.csv").write_text("other")
    with pytest.raises(InvalidArgumentError, match=r"would both be a\.csv"):
        draft.add_external_files([(data / "a.csv").as_uri(), (data / "sub/a.csv").as_uri()])
    assert draft.list_files() == []


@pytest.mark.parametrize("name", ["a\\b.csv", os.fsdecode(b"a\xff")])
def test_names_that_no_dataset_path_can_hold_are_refused(draft: Dataset, data: Path, name: str) -> None:
    (data / name).write_text("x")
    with pytest.raises(SourceError, match="no dataset path can hold"):
        draft.add_external_files(data.as_uri())
    assert draft.list_files() == []


def test_a_fifo_is_never_opened(draft: Dataset, data: Path) -> None:
    os.mkfifo(data / "pipe")
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        draft.add_external_files((data / "pipe").as_uri())
    assert draft.add_external_files(data.as_uri()) == 4


def test_a_final_version_takes_no_links(draft: Dataset, data: Path) -> None:
    draft.add_external_files((data / "a.csv").as_uri())
    final(draft)
    with pytest.raises(StateError) as caught:
        draft.add_external_files(data.as_uri())
    assert caught.value.kind == "finalized"
    assert draft.add_external_files((data / "a.csv").as_uri()) == 0


def test_a_copy_holds_links_beside_files(draft: Dataset, data: Path, tmp_path: Path) -> None:
    draft.add_external_files(data.as_uri(), dataset_path="linked")
    draft.add_files(data / "a.csv")
    final(draft)
    for folder in (draft.get_local_copy(), draft.get_mutable_local_copy(tmp_path / "own")):
        assert folder is not None
        assert Path(folder, "linked/100%.csv").read_text() == "pp"
        assert Path(folder, "linked/sub/deep/c.txt").read_text() == "ccc"
        assert Path(folder, "a.csv").read_text() == "a"
    assert draft.verify_dataset_hash() == draft.verify_dataset_hash(tmp_path / "own") == []


def test_a_copy_with_links_whose_answer_was_lost_is_found_to_be_done(
    draft: Dataset, data: Path, tmp_path: Path, session: Session
) -> None:
    draft.add_external_files(data.as_uri(), dataset_path="linked")
    draft.add_files(data / "a.csv")
    final(draft)
    request = GetCopy(ref=draft.id, target=str(tmp_path / "own"))
    session.run(request, key="get")
    with injected("") as seen:
        session.run(request, key="get")
    assert "mutable.before_fill" not in seen.reached()
    linked = tmp_path / "own" / "linked" / "a.csv"
    for text in ("b", "", "ab"):
        linked.write_text(text)
        with pytest.raises(TargetError, match="not empty"):
            session.run(request, key="get")
    linked.unlink()
    with pytest.raises(TargetError, match="not empty"):
        session.run(request, key="get")


@pytest.mark.parametrize("how", ["changed", "same size", "gone", "a folder now"])
def test_a_link_that_is_not_what_was_pinned_gives_no_copy_and_is_listed(
    draft: Dataset, data: Path, tmp_path: Path, session: Session, how: str
) -> None:
    draft.add_external_files(data.as_uri())
    final(draft)
    place = data / "sub/b.csv"
    if how == "changed":
        touched(place, "longer than before")
    elif how == "same size":
        touched(place, "xx")
    else:
        place.unlink()
    if how == "a folder now":
        place.mkdir()
    with pytest.raises(SourceError, match=r"sub/b\.csv.*file://.*b\.csv") as caught:
        draft.get_local_copy()
    assert caught.value.paths == ("sub/b.csv",)
    with pytest.raises(SourceError):
        draft.get_mutable_local_copy(tmp_path / "own")
    assert not (tmp_path / "own").exists()
    assert draft.get_local_copy(raise_on_error=False) is None
    with pytest.raises(SourceError, match=r"b\.csv"), draft.open("sub/b.csv") as file:
        file.read()
    assert draft.verify_dataset_hash() == draft.verify_dataset_hash(skip_hash=True) == ["sub/b.csv"]
    assert session.run(Verify(ref=draft.id)).bad == ("sub/b.csv",)  # type: ignore[attr-defined]
    rest = draft.get_local_copy(files="*.txt")
    assert rest is not None
    assert Path(rest, "sub/deep/c.txt").read_text() == "ccc"


def test_a_copied_link_that_was_damaged_or_lost_is_listed_and_the_cache_brings_it_back(
    draft: Dataset, data: Path, tmp_path: Path
) -> None:
    draft.add_external_files(data.as_uri())
    final(draft)
    own = Path(draft.get_mutable_local_copy(tmp_path / "own") or "")
    (own / "a.csv").write_text("longer")
    (own / "sub/b.csv").unlink()
    assert draft.verify_dataset_hash(own) == draft.verify_dataset_hash(own, skip_hash=True) == ["a.csv", "sub/b.csv"]
    cached = Path(draft.get_local_copy() or "") / "a.csv"
    cached.chmod(0o644)
    cached.write_text("z")
    assert Path(draft.get_local_copy() or "", "a.csv").read_text() == "a"


def test_a_childs_copy_never_takes_the_parents_file_for_a_link_of_the_same_path(draft: Dataset, data: Path) -> None:
    draft.add_external_files(data.as_uri())
    assert final(draft).get_local_copy()
    touched(data / "a.csv", "z")
    child = Dataset.create("links", "demo", [draft])
    child.add_external_files(data.as_uri())
    assert Path(final(child).get_local_copy() or "", "a.csv").read_text() == "z"


def test_open_reads_and_seeks_in_a_link(draft: Dataset, data: Path) -> None:
    (data / "big").write_bytes(bytes(range(256)) * 20_000)
    draft.add_external_files((data / "big").as_uri())
    final(draft)
    whole = (data / "big").read_bytes()
    with draft.open("big") as file:
        assert file.read() == whole
        file.seek(3_000_001)
        assert file.read(5) == whole[3_000_001:3_000_006]
        file.seek(-4, os.SEEK_END)
        assert file.read() == whole[-4:]
        file.seek(7)
        assert file.read(3) == whole[7:10]
    with pytest.raises(NotFoundError):
        draft.open("small")


def test_an_empty_link_is_a_file(draft: Dataset, data: Path) -> None:
    (data / "empty").touch()
    draft.add_external_files((data / "empty").as_uri())
    final(draft)
    with draft.open("empty") as file:
        assert file.read() == b""
    assert Path(draft.get_local_copy() or "", "empty").read_bytes() == b""


def test_squash_takes_links_over_as_its_own(draft: Dataset, data: Path) -> None:
    draft.add_external_files(data.as_uri())
    draft.add_files(data / "a.csv", dataset_path="stored")
    final(draft)
    child = Dataset.create("links", "demo", [draft])
    child.remove_files("sub")
    flat = Dataset.squash("flat", [final(draft), final(child)])
    assert flat.list_files() == ["100%.csv", "a.csv", "stored/a.csv"]
    assert flat.list_files(dataset_id=flat.id) == flat.list_files()
    Dataset.delete(child.id)
    Dataset.delete(draft.id, force=True)
    assert Path(flat.get_local_copy() or "", "a.csv").read_text() == "a"


def test_a_file_takes_the_place_of_a_link_and_back(draft: Dataset, data: Path) -> None:
    draft.add_external_files((data / "a.csv").as_uri())
    assert draft.add_files(data / "a.csv") == 0
    assert draft.is_dirty()
    assert draft.add_external_files((data / "a.csv").as_uri()) == 0
    assert not draft.is_dirty()
    final(draft)
    assert draft.verify_dataset_hash() == []


def test_versions_with_the_same_links_have_the_same_content(draft: Dataset, data: Path) -> None:
    draft.add_external_files(data.as_uri())
    other = Dataset.create("other", "demo")
    other.add_external_files([(data / name).as_uri() for name in ("a.csv", "100%.csv")])
    other.add_external_files((data / "sub").as_uri(), dataset_path="sub")
    assert other._version.content_hash == draft._version.content_hash
    touched(data / "a.csv", "a")
    other.add_external_files((data / "a.csv").as_uri())
    assert other._version.content_hash != draft._version.content_hash
