"""Names of every kind, of files and of places: all read back byte for byte, or are refused by name before anything changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest

from dataset_tasks import Dataset, DatasetError, open_session
from dataset_tasks.errors import InvalidArgumentError

#: Names that one file, folder, home, store, source or target may have.
NAMES = [
    "plain",
    "with space",
    " leading space",
    "trailing space ",
    "trailing dot.",
    "...",
    "new\nline",
    "carriage\rreturn",
    "tab\tstop",
    "\x1b[31mred\x1b[0m",
    "\x7f",
    "'single'",
    '"double"',
    "`back`",
    "-rf",
    "--",
    "~",
    "~user",
    "$HOME",
    "100%",
    "%41",
    "%2e%2e",
    "what?",
    "a?b=c&d",
    "#hash",
    "a;b",
    "a:b",
    "a@b",
    "a|b",
    "a<b>",
    "*",
    "[a-z]",
    "{}",
    "CON",
    "nul.txt",
    "com1",
    ".hidden",
    "'; DROP TABLE versions; --",
    "\u202etxt.exe",
    "\u200f",
    "\u2028",
    "\ufeff",
    "emoji \U0001f600",
    "\u00fc",
    "u\u0308",
    "A",
    "a",
    "x" * 255,
    "\u00fc" * 127,
    "{{ params.x }}",
    "0",
]

#: What can't be a dataset path, in bytes, and how it is shown.
REFUSED = {b"not\xffutf8": r"not\xffutf8", b"back\\slash": r"back\\slash", b"\xed\xa0\x80": r"\xed\xa0\x80"}


def as_dict(folder: str | Path) -> dict[str, bytes]:
    top = Path(folder)
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


# --- names of files


def test_files_of_every_name_read_back_byte_for_byte_by_every_way(folder, draft, tmp_path, home):
    files = {name: f"content of {name!r}".encode() for name in NAMES}
    files |= {f"below/{name}/{name}"[:4000]: b"deep " + name.encode() for name in NAMES}
    files |= {f"empty/{name}": b"" for name in NAMES}
    source = folder(files)
    version = draft()
    assert version.add_files(source) == len(files)
    version.upload(show_progress=False)
    assert version.finalize()

    in_order = sorted(files, key=str.encode)
    assert version.list_files() == in_order
    assert version.list_added_files() == in_order
    assert list(version.file_entries_dict) == in_order
    assert {path: version.open(path).read() for path in files} == files
    assert as_dict(version.get_local_copy()) == files
    assert as_dict(version.get_local_copy(use_soft_links=True)) == files
    assert as_dict(version.get_mutable_local_copy(tmp_path / "copy")) == files
    assert version.verify_dataset_hash() == version.verify_dataset_hash(tmp_path / "copy") == []
    assert as_dict(Dataset.squash("flat", [version]).get_local_copy()) == files
    assert [path for path in files if path not in version.list_files(path)] == []

    child = Dataset.create("child", "demo", [version])
    assert child.sync_folder(source) == (0, 0)
    plain = [name for name in NAMES if not set(name) & set("*?[")]
    assert [child.remove_files(path, recursive=False) for path in plain] == [1] * len(plain)
    assert child.list_removed_files() == sorted(plain, key=str.encode)
    assert child.sync_folder(source) == (0, len(plain))


def test_no_name_of_a_file_becomes_the_name_of_an_object(final, home):
    final({name: b"x" + name.encode() for name in NAMES})
    objects = [path.name for path in (home / "store").rglob("*") if path.is_file()]
    assert all(name.isascii() and len(name) < 64 for name in objects)


def test_other_programs_open_the_chunks_whatever_the_names(final, home, tmp_path):
    files = {name: name.encode() for name in NAMES}
    final(files)
    (chunk,) = home.rglob("chunks/*.zip")
    with zipfile.ZipFile(chunk) as archive:
        assert archive.testzip() is None
        assert sorted(map(archive.read, archive.namelist())) == sorted(files.values())
        assert archive.read("with space") == b"with space"
        archive.extractall(tmp_path / "all")
    assert sorted(as_dict(tmp_path / "all").values()) == sorted(files.values())


def test_twins_by_unicode_form_or_case_are_two_files(draft, folder, finish, content, caplog):
    files = {"\u00fc": "one", "u\u0308": "two", "A": "three", "a": "four"}
    version = draft()
    version.add_files(folder(files))
    assert "differs from" in caplog.text
    assert content(finish(version)) == files
    assert content(version.get_local_copy()) == files


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_no_version_can_hold_is_refused_by_name_and_nothing_changes(draft, folder, name):
    source = folder({"a": "1", "sub/b": "2"})
    for at in (source, source / "sub"):
        bad = Path(os.fsdecode(os.path.join(os.fsencode(at), name)))
        bad.write_text("x")
        version = draft({"kept": "1"})
        for change in (partial(version.add_files, source), partial(version.sync_folder, source)):
            with pytest.raises(DatasetError) as raised:
                change()
            assert REFUSED[name] in str(raised.value)
        assert version.list_files() == ["kept"]
        bad.unlink()


def test_a_single_file_of_a_name_that_no_version_can_hold_is_refused(draft, folder):
    bad = Path(os.fsdecode(os.fsencode(folder({})) + b"/not\xffutf8"))
    bad.write_text("x")
    version = draft()
    with pytest.raises(DatasetError, match=r"not\\xffutf8"):
        version.add_files(bad)
    assert version.list_files() == []


def test_a_path_longer_than_the_system_takes_at_once_reads_back(draft, folder, finish, content):
    """Forty folders of 200 letters each are reachable only step by step."""
    source = folder({})
    part = "d" * 200
    here = os.open(source, os.O_RDONLY)
    for _ in range(40):
        os.mkdir(part, dir_fd=here)
        below = os.open(part, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    fd = os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    os.write(fd, b"deep")
    os.close(fd)
    os.close(here)
    version = draft()
    try:
        assert version.add_files(source) == 1
        finish(version)
    finally:
        subprocess.run(["rm", "-rf", source], check=True)
    path = "/".join([part] * 40) + "/f"
    assert version.list_files() == [path]
    assert version.open(path).read() == b"deep"
    assert version.verify_dataset_hash() == []


def test_no_name_moves_the_cursor_of_a_terminal(draft, folder, capsys, caplog):
    source = folder({"\x1b[31mred": "1", "\u202ertl": "2"})
    (source / "\x1b[1mbroken").symlink_to("\x1b[2Jnowhere")
    version = draft()
    version.add_files(source, on_error="skip", verbose=True)
    version.remove_files(verbose=True)
    with pytest.raises(DatasetError) as raised:
        version.add_files(source)
    for text in (capsys.readouterr().out, caplog.text, str(raised.value)):
        assert text
        assert "\x1b" not in text
        assert "\u202e" not in text


def test_no_name_of_a_dataset_moves_the_cursor_of_a_terminal(draft, folder, finish):
    version = finish(draft({"a": "1"}, name="\x1b[2Jd\n", project="\u202ep"))
    child = Dataset.create("c", "p", version)
    refused = [
        lambda: version.add_files(folder({"b": "1"})),
        lambda: Dataset.delete(version.id),
        lambda: Dataset.create(version.name, version.project, dataset_version=version.version),
        lambda: Dataset.create("\x1bnew", "p", dataset_version="1.0.0").rename("c"),
        lambda: child.rename(version.name) or child.move_to_project(version.project),
        lambda: Dataset.get(dataset_name="\x1bnone", dataset_project="\x1b"),
    ]
    for call in refused:
        with pytest.raises(DatasetError) as raised:
            call()
        for char in ("\x1b", "\u202e", "\n"):
            assert char not in raised.value.message
            assert char not in raised.value.hint


# --- names of places


def whole_life(place: Path, name: str) -> None:
    """A version's whole life with home, store, source, target folder and dataset of this name."""
    source = place / "sources" / name
    source.mkdir(parents=True)
    (source / "f").write_bytes(b"hello")
    home = place / "homes" / name
    with open_session(home=home) as session:
        version = Dataset.create(name, f"project {name}", session=session, dataset_tags=[name], description=name)
        assert version.add_files(source) == 1
        assert version.add_files(source / "f", local_base_folder=source.parent) == 1
        version.upload(show_progress=False)
        assert version.finalize()
        assert {path: version.open(path).read() for path in version.list_files()} == {
            "f": b"hello",
            f"{name}/f": b"hello",
        }
        copy = Path(version.get_local_copy())
        assert copy.is_relative_to(home)
        assert (copy / "f").read_bytes() == b"hello"
        target = place / "targets" / name
        assert version.get_mutable_local_copy(target) == str(target)
        assert (target / name / "f").read_bytes() == b"hello"
        assert version.verify_dataset_hash(target) == []
        version.set_metadata(name, name)
        Dataset.set_alias(name, version, session=session)
        elsewhere = place / "stores" / name
        second = Dataset.create(name, parent_datasets=[version], session=session, output_uri=str(elsewhere))
        second.add_files(source, dataset_path="more")
        second.upload(show_progress=False)
        assert second.finalize()
        assert second.get_default_storage() == str(elsewhere)
    assert sorted(os.listdir(place / "homes")) == [name], "everything is in the home"
    assert {path.name for path in home.iterdir()} >= {"catalog.db", "store", "cache"}
    with open_session(home=home) as session:
        found = Dataset.get(dataset_project=f"project {name}", dataset_name=name, dataset_version=name, session=session)
        assert (found.id, found.tags, found.description, found.get_metadata(name)) == (version.id, [name], name, name)
        again = Dataset.get(second.id, session=session)
        assert again.open("more/f").read() == b"hello"
        assert again.verify_dataset_hash() == []


#: Of names that are alike to the code one is enough: each costs a whole home.
PLACES = sorted(set(NAMES) - {
    "plain", "0", "A", "a", "tab\tstop", "carriage\rreturn", "\x7f", "--", "...", "a;b", "a|b", "com1", "nul.txt", "`back`",
    "\u200f", "\ufeff", "\u2028", "a<b>", "{}", "\u00fc" * 127, " leading space", "a?b=c&d", "%2e%2e", '"double"', "~", "*",
})  # fmt: skip


@pytest.mark.parametrize("names", [PLACES[start::4] for start in range(4)], ids=range(4))
def test_homes_stores_sources_targets_and_datasets_of_every_name_work(tmp_path, names):
    for number, name in enumerate(names):
        place = tmp_path / str(number)
        whole_life(place, name)
        for top, _folders, _files in os.walk(place):
            os.chmod(top, 0o755)
        shutil.rmtree(place)


@pytest.mark.parametrize("name", ["~user", "a://b", "s3:x", "what?#%41", "-rf", "\u00fc"])
def test_a_relative_home_store_source_or_target_is_a_folder_in_the_working_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with open_session(home=f"home/{name}") as session:
        Path("source", name).mkdir(parents=True)
        Path("source", name, "f").write_bytes(b"hello")
        version = Dataset.create("data", "demo", session=session, output_uri=name)
        version.add_files(f"source/{name}")
        version.upload(show_progress=False)
        version.finalize()
        version.get_mutable_local_copy(f"target/{name}")
    monkeypatch.chdir("/")
    assert list((tmp_path / name).rglob("chunks/*.zip"))
    assert (tmp_path / "target" / name / "f").read_bytes() == b"hello"
    with open_session(home=tmp_path / "home" / name) as session:
        assert Dataset.get(version.id, session=session).open("f").read() == b"hello"


@pytest.mark.parametrize("place", ["home", "store_url", "cache_dir"])
@pytest.mark.parametrize("name", ["not\udcffutf8", "nul\0byte"])
def test_a_place_that_can_not_be_written_down_is_refused_by_name_before_anything_is_made(tmp_path, place, name):
    with pytest.raises(InvalidArgumentError, match=r"not\\xffutf8|nul\\x00byte"):
        open_session(**{"home": tmp_path / "home", place: f"{tmp_path}/{name}"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["not\udcffutf8", "nul\0byte"])
def test_a_store_of_a_version_that_can_not_be_written_down_is_refused_as_well(tmp_path, draft, name):
    for attempt in (
        lambda: Dataset.create("data", "demo", output_uri=f"{tmp_path}/{name}"),
        lambda: draft({"a": "1"}, name="other").upload(show_progress=False, output_url=f"{tmp_path}/{name}"),
    ):
        with pytest.raises(InvalidArgumentError):
            attempt()
    assert Dataset.list_datasets(partial_name="data", only_completed=False) == []
    assert [path.name for path in tmp_path.iterdir()] == ["source0"]


def test_a_source_folder_or_target_that_is_not_utf_8_works(folder, draft, tmp_path, finish):
    source = Path(os.fsdecode(os.fsencode(folder({})) + b"/so\xffurce"))
    source.mkdir()
    (source / "f").write_text("1")
    version = draft()
    assert version.add_files(source) == 1
    assert version.sync_folder(source) == (0, 0)
    assert version.add_files(source / "f", dataset_path="one") == 1
    finish(version)
    target = Path(os.fsdecode(os.fsencode(tmp_path) + b"/tar\xffget"))
    assert version.get_mutable_local_copy(target) == str(target)
    assert as_dict(target) == {"f": b"1", "one/f": b"1"}
    assert version.verify_dataset_hash(target) == []


def test_a_name_that_holds_the_sources_own_path_as_part_of_a_dataset_path_is_refused(folder, draft):
    source = Path(os.fsdecode(os.fsencode(folder({})) + b"/so\xffurce"))
    source.mkdir()
    (source / "f").write_text("1")
    with pytest.raises(DatasetError, match=r"so\\xffurce"):
        draft().add_files(source, local_base_folder=source.parent)


def test_a_nul_byte_in_a_path_is_refused(draft, final, folder):
    for attempt in (
        lambda: draft().add_files("a\0b"),
        lambda: draft().sync_folder("a\0b"),
        lambda: final({"a": "1"}).get_mutable_local_copy("a\0b"),
        lambda: final({"a": "1"}).verify_dataset_hash("a\0b"),
    ):
        with pytest.raises(DatasetError):
            attempt()


@pytest.mark.parametrize("text", ["nul\0byte", "lone \udcff surrogate", "\ud800"])
def test_texts_that_no_catalog_can_hold_are_refused_by_name(draft, text):
    version = draft()
    for attempt in (
        lambda: Dataset.create(text, "demo"),
        lambda: Dataset.create("data", text),
        lambda: Dataset.create("data", "demo", dataset_version=text),
        lambda: Dataset.create("data", "demo", dataset_tags=[text]),
        lambda: Dataset.create("data", "demo", description=text),
        lambda: version.add_tags(text),
        lambda: version.set_description(text),
        lambda: version.set_metadata({}, text),
        lambda: version.rename(text),
        lambda: version.move_to_project(text),
        lambda: Dataset.set_alias(text, version),
        lambda: version.get_logger().report_scalar(text, "x", 1, 1),
    ):
        with pytest.raises(InvalidArgumentError) as raised:
            attempt()
        str(raised.value).encode()
    assert [each["name"] for each in Dataset.list_datasets(only_completed=False)] == ["data"]
    for ask in (
        lambda: Dataset.get(dataset_name=text),
        lambda: Dataset.get(text),
        lambda: Dataset.get(dataset_name="data", dataset_tags=[text]),
        lambda: Dataset.get(dataset_name="data", dataset_version=text),
        lambda: version.list_added_files(text),
    ):
        with pytest.raises(DatasetError):
            ask()


def test_homes_may_be_set_by_the_environment_whatever_their_name(tmp_path):
    home = tmp_path / "what?\n#%41 \u00fc"
    (tmp_path / "f").write_text("1")
    script = (
        "import sys; from dataset_tasks import Dataset\n"
        "d = Dataset.create('a', 'p'); d.add_files(sys.argv[1]); d.upload(show_progress=False); d.finalize()\n"
        "print(d.open('f').read())\n"
    )
    environment = {**os.environ, "DATASET_TASKS_HOME": str(home)}
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "f"], env=environment, capture_output=True, check=True
    )
    assert ran.stdout == b"b'1'\n"
    assert sorted(os.listdir(tmp_path)) == sorted(["f", home.name])
    assert (home / "catalog.db").is_file()
