"""The check of the whole store, and repair: damage is named, and healed from wherever the same bytes are.

Rows R47, R48, R51 and R53 of the fault catalogue.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dataset_tasks.cli.main import run
from dataset_tasks.errors import IntegrityError, InvalidArgumentError, NotFoundError
from dataset_tasks.model import Version
from dataset_tasks.ops.requests import (
    AddFiles,
    Collect,
    Create,
    Delete,
    Finalize,
    GetCopy,
    Repair,
    RepairResult,
    Squash,
    SyncFolder,
    Upload,
    Verify,
    VerifyResult,
)
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.invariants import assert_invariants


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    with open_session(home=home) as opened:
        yield opened
    for top, _folders, _files in os.walk(home):
        os.chmod(top, 0o755)


@pytest.fixture
def made(session: Session, tmp_path: Path) -> Callable[..., Version]:
    """Makes the next version of `p/<name>` from just these files, in the folder `<name>`."""

    def make(files: Mapping[str, bytes], name: str = "d", *, previous: bool = True) -> Version:
        folder = tmp_path / name
        shutil.rmtree(folder, ignore_errors=True)
        for path, data in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        draft = session.run(Create(name=name, project="p", previous=previous)).version_id
        session.run(SyncFolder(ref=draft, path=str(folder)))
        session.run(Upload(ref=draft))
        session.run(Finalize(ref=draft))
        return session.catalog.version(draft)

    return make


def noise(seed: int, size: int = 2000) -> bytes:
    import random

    return random.Random(seed).randbytes(size)


def stored(session: Session, key: str) -> Path:
    return Path(session.settings.store_url, session.catalog.id, key)


def only(session: Session, version: Version, kind: str) -> Path:
    """The file of the object of that kind that the version brought."""
    (found,) = (each for each in session.catalog.objects_of(version.id, kind) if each.state == "live")
    return stored(session, found.key)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def repair(session: Session, **options: object) -> RepairResult:
    result = session.run(Repair(**options))  # type: ignore[arg-type]
    assert isinstance(result, RepairResult)
    return result


def bad(session: Session, version: Version) -> tuple[str, ...]:
    result = session.run(Verify(ref=version.id))
    assert isinstance(result, VerifyResult)
    return result.bad


def check(home: Path, capfd: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, object]]:
    capfd.readouterr()
    code = run(["check", "--json", "--home", str(home), *options])
    return code, json.loads(capfd.readouterr().out)


FILES = {"a.bin": noise(1), "b.bin": noise(2), "sub/c.bin": noise(3)}


def offset_of(session: Session, version: Version, path: bytes) -> int:
    return next(e.offset for e in session.manifest(version).entries() if e.path == path)


def test_a_lost_store_is_named_version_by_version_and_fails_the_check(
    session: Session, made: Callable[..., Version], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """R51. Exactly those versions and files that are damaged."""
    first, second = made(FILES), made({**FILES, "d.bin": noise(4)})
    other = made({"x": b"x"}, "other")
    assert check(home, capfd)[0] == 0
    assert check(home, capfd, "--hash", "--orphans")[1]["orphans"] == []
    shutil.rmtree(stored(session, "chunks"))
    code, told = check(home, capfd)
    assert code == 1
    damaged = told["damaged"]
    assert isinstance(damaged, list)
    assert {v["version"] for each in damaged for v in each["versions"]} == {v.label for v in (first, second, other)}
    named = {(f["version_id"], f["path"]) for each in damaged for f in each["files"]}
    assert named == {(v.id, p) for v in (first, second) for p in FILES} | {(second.id, "d.bin"), (other.id, "x")}


def test_a_flipped_bit_is_found_by_reading_every_byte_and_only_its_file_is_named(
    session: Session, made: Callable[..., Version], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """R47. One bit of one file."""
    version = made(FILES)
    flip(only(session, version, "chunk"), offset_of(session, version, b"b.bin") + 7)
    assert check(home, capfd)[0] == 0
    code, told = check(home, capfd, "--hash")
    assert code == 1
    (damage,) = told["damaged"]  # type: ignore[misc]  # a list
    assert [each["path"] for each in damage["files"]] == ["b.bin"]
    assert bad(session, version) == ("b.bin",)


@pytest.mark.parametrize("kind", ["index", "pack", "chunk"])
@pytest.mark.parametrize("how", ["removed", "cut", "emptied", "flipped", "extended", "zeroed"])
def test_every_kind_of_damage_to_every_kind_of_object_is_found_and_other_versions_are_not_affected(
    session: Session, made: Callable[..., Version], home: Path, capfd: pytest.CaptureFixture[str], kind: str, how: str
) -> None:
    """R47, R48. Flipped, cut, extended, zeroed, emptied, removed."""
    version, other = made(FILES), made({"x": b"x" * 100}, "other")
    path = only(session, version, kind)
    size = path.stat().st_size
    match how:
        case "removed":
            path.unlink()
        case "cut":
            os.truncate(path, size - 1)
        case "emptied":
            os.truncate(path, 0)
        case "flipped":
            flip(path, size - 3)
        case "extended":
            path.write_bytes(path.read_bytes() + b"\0")
        case "zeroed":
            path.write_bytes(bytes(size))
    code, told = check(home, capfd, "--hash")
    assert code == 1
    (damage,) = told["damaged"]  # type: ignore[misc]  # a list
    assert (damage["kind"], [v["version"] for v in damage["versions"]]) == (kind, [version.label])
    if how not in ("flipped", "zeroed") or kind == "index":
        assert check(home, capfd)[0] == 1, "sizes tell, and indexes are read"
    assert bad(session, other) == ()
    assert len(session.catalog.versions(project="p")) == 2


def test_swapped_objects_are_found(
    session: Session, made: Callable[..., Version], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = (only(session, made({"f": noise(n)}, f"d{n}"), "chunk") for n in (1, 2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert len(check(home, capfd, "--hash")[1]["damaged"]) == 2  # type: ignore[arg-type]  # a list


def test_an_object_that_the_catalog_does_not_know_is_an_orphan(
    session: Session, made: Callable[..., Version], home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made(FILES)
    stored(session, "chunks/" + "0" * 32 + ".zip").write_bytes(b"stray")
    code, told = check(home, capfd, "--orphans")
    assert (code, [each["object"] for each in told["orphans"]]) == (0, ["chunks/" + "0" * 32 + ".zip"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["index", "pack", "chunk"])
def test_a_copy_of_the_store_heals_every_kind_of_object_in_its_place(
    session: Session, made: Callable[..., Version], tmp_path: Path, kind: str
) -> None:
    version = made(FILES)
    shutil.copytree(session.settings.store_url, tmp_path / "backup")
    path = only(session, version, kind)
    as_it_was = path.read_bytes()
    path.unlink()
    told = repair(session, copies=(str(tmp_path / "backup"),), dry_run=True)
    assert (len(told.restored), path.exists()) == (1, False)
    done = repair(session, copies=(str(tmp_path / "backup"),))
    assert (len(done.damaged), len(done.restored), done.versions, done.lost) == (1, 1, (), ())
    assert path.read_bytes() == as_it_was
    assert repair(session).damaged == ()
    assert_invariants(session)


def test_a_damaged_copy_of_the_store_is_passed_over(
    session: Session, made: Callable[..., Version], tmp_path: Path
) -> None:
    version = made(FILES)
    path = only(session, version, "chunk")
    shutil.copytree(session.settings.store_url, tmp_path / "backup")
    flip(tmp_path / "backup" / path.relative_to(session.settings.store_url), 40)
    path.unlink()
    assert len(repair(session, copies=(str(tmp_path / "backup"),)).lost) == 3


def test_another_version_with_the_same_content_heals_under_any_path(
    session: Session, made: Callable[..., Version]
) -> None:
    """R47. Fetched from another chunk, since the hash matches."""
    version = made(FILES)
    made({"renamed.bin": FILES["b.bin"]}, "other")
    flip(only(session, version, "chunk"), offset_of(session, version, b"b.bin"))
    content_hash = version.content_hash
    done = repair(session)
    assert (done.healed, done.versions, done.lost) == (1, (version.label,), ())
    assert bad(session, version) == ()
    assert session.catalog.version(version.id).content_hash == content_hash
    session.run(Collect(dry_run=False, now=True))
    assert repair(session).damaged == ()
    assert_invariants(session)


def test_adding_a_damaged_file_again_heals_every_version_that_has_it(
    session: Session, made: Callable[..., Version], tmp_path: Path
) -> None:
    """R47. As a back-up program heals when a file is saved again."""
    first = made(FILES)
    second = made({**FILES, "d.bin": noise(4)})
    only(session, first, "chunk").unlink()
    assert len(repair(session).lost) == 6
    assert [v.quarantined for v in session.catalog.versions(project="p")] == ["damaged: 3 files are lost"] * 2
    with pytest.raises(NotFoundError):
        session.catalog.resolve("p/d@latest")
    again = made(FILES)  # starts from nothing: what is quarantined is no base
    assert bad(session, again) == ()
    done = repair(session)
    assert (set(done.versions), done.lost) == ({first.label, second.label}, ())
    assert bad(session, first) == bad(session, second) == ()
    assert [v.quarantined for v in session.catalog.versions(project="p")] == [""] * 3
    assert session.catalog.resolve("p/d@latest").id == again.id
    assert_invariants(session)


@pytest.mark.parametrize("found_by", ["repair", "verify"])
@pytest.mark.parametrize(
    ("answer", "after"), [(None, "waits for approval"), (True, ""), (False, "rejected by ana")], ids=str
)
def test_a_version_that_is_healed_still_waits_for_its_answer_or_stays_rejected(
    session: Session, made: Callable[..., Version], tmp_path: Path, found_by: str, answer: bool | None, after: str
) -> None:
    version = made(FILES)
    session.catalog.open_approval(version)
    only(session, version, "chunk").unlink()
    session.run(Repair() if found_by == "repair" else Verify(ref=version.id, quarantine=True))
    if answer is not None:
        session.catalog.answer(version.id, answer, "ana")
    assert session.catalog.version(version.id).quarantined.endswith(("3 files are lost", "3 files differ"))
    assert repair(session, folders=(str(tmp_path / "d"),)).lost == ()
    assert bad(session, version) == ()
    assert session.catalog.version(version.id).quarantined == after


def test_cached_copies_heal(session: Session, made: Callable[..., Version]) -> None:
    version = made(FILES)
    session.run(GetCopy(ref=version.id))
    only(session, version, "chunk").unlink()
    assert repair(session).lost == ()
    assert bad(session, version) == ()
    assert_invariants(session)


def test_a_cached_copy_that_somebody_edited_heals_nothing(session: Session, made: Callable[..., Version]) -> None:
    """R53. Mode bits and names are no evidence, the hash is."""
    version = made(FILES)
    tree = Path(session.run(GetCopy(ref=version.id)).folder)
    os.chmod(tree, 0o755)
    os.chmod(tree / "a.bin", 0o644)
    (tree / "a.bin").write_bytes(noise(99))
    only(session, version, "chunk").unlink()
    done = repair(session)
    assert done.lost == (f"{version.label}: a.bin",)
    assert bad(session, version) == ("a.bin",)


def test_folders_of_the_user_heal_whatever_the_files_are_called(
    session: Session, made: Callable[..., Version], tmp_path: Path
) -> None:
    version = made(FILES)
    only(session, version, "chunk").unlink()
    (tmp_path / "found").mkdir()
    for number, data in enumerate(FILES.values()):
        (tmp_path / "found" / f"{number}").write_bytes(data)
    (tmp_path / "found" / "2").write_bytes(b"another")
    done = repair(session, folders=(str(tmp_path / "found"),))
    assert (done.healed, done.lost) == (2, (f"{version.label}: sub/c.bin",))
    assert done.quarantined == (version.label,)
    assert bad(session, version) == ("sub/c.bin",)
    with pytest.raises(IntegrityError, match=r"sub/c\.bin"):
        session.run(GetCopy(ref=version.id))
    done = repair(session, folders=(str(tmp_path / "d"),))
    assert (done.lost, bad(session, version), session.catalog.version(version.id).quarantined) == ((), (), "")
    assert_invariants(session)


def test_a_damaged_pack_is_healed_by_a_version_that_wrote_the_same_part_of_the_list_itself(
    session: Session, made: Callable[..., Version]
) -> None:
    version = made(FILES)
    squashed = session.run(Squash(name="flat", refs=(version.id,)))
    flip(only(session, version, "pack"), 200)
    done = repair(session)
    assert (done.versions, done.lost) == ((version.label,), ())
    assert bad(session, version) == ()
    session.run(Delete(ref=squashed.version_id))
    session.run(Collect(dry_run=False, now=True))
    assert bad(session, version) == ()
    assert_invariants(session)


def test_an_index_that_is_found_nowhere_costs_its_version_alone(session: Session, made: Callable[..., Version]) -> None:
    """R48. Other versions are not affected."""
    version, other = made(FILES), made({"x": b"x"}, "other")
    only(session, version, "index").unlink()
    done = repair(session)
    assert [each.startswith(f"{version.label}: the list of all its files") for each in done.lost] == [True]
    assert done.quarantined == (version.label,)
    assert bad(session, other) == ()


def test_without_damage_nothing_is_changed_and_only_what_is_asked_for_is_looked_at(
    session: Session, made: Callable[..., Version]
) -> None:
    version, other = made(FILES), made({"x": noise(9)}, "other")
    before = session.catalog.version(version.id)
    assert repair(session).damaged == ()
    assert session.catalog.version(version.id) == before
    only(session, other, "chunk").unlink()
    assert repair(session, refs=(version.id,)).damaged == ()
    assert len(repair(session, refs=("p/other@latest",)).damaged) == 1
    with pytest.raises(NotFoundError):
        repair(session, refs=("p/none@latest",))
    with pytest.raises(InvalidArgumentError):
        repair(session, copies=("ftp://nowhere",))


def test_a_draft_with_files_that_wait_is_checked_and_healed_too(
    session: Session, made: Callable[..., Version], tmp_path: Path
) -> None:
    version = made(FILES)
    draft = session.run(Create(name="d", project="p", previous=True)).version_id
    (tmp_path / "late").write_bytes(b"late")
    session.run(AddFiles(ref=draft, path=str(tmp_path / "late")))
    only(session, version, "chunk").unlink()
    done = repair(session, folders=(str(tmp_path / "d"),))
    assert (len(done.versions), done.lost) == (2, ())
    session.run(Upload(ref=draft))
    session.run(Finalize(ref=draft))
    assert_invariants(session)
