"""Finding users' functions, and telling one state of their code from another."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.ops import code


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    path, places, modules = list(sys.path), list(code._places), set(sys.modules)
    yield
    sys.path[:], code._places[:] = path, places  # together: a folder of ours that is forgotten counts as installed
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def module(folder: Path, name: str, answer: int) -> Path:
    file = folder / f"{name}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"def work():\n    return {answer}\n")
    return file


def test_a_module_beside_the_spec_or_above_is_found(tmp_path: Path) -> None:
    module(tmp_path / "specs", "beside_spec", 1)
    module(tmp_path, "above_spec", 2)
    assert code.find("beside_spec:work", str(tmp_path / "specs"), {})() == 1
    assert code.find("above_spec:work", str(tmp_path / "specs"), {})() == 2


def test_two_specs_with_a_module_of_the_same_name_each_get_their_own(tmp_path: Path) -> None:
    for number, folder in enumerate(("one", "two")):
        module(tmp_path / folder, "same_name", number)
    found = [code.find("same_name:work", str(tmp_path / folder), {}) for folder in ("one", "two", "one")]
    assert [each() for each in found] == [0, 1, 0]
    assert len({code.digest(each) for each in found}) == 2


def test_a_spec_in_a_folder_below_another_one_has_modules_of_its_own(tmp_path: Path) -> None:
    module(tmp_path / "below", "also_above", 1)
    module(tmp_path, "also_above", 2)
    found = [code.find("also_above:work", str(folder), {})() for folder in (tmp_path / "below", tmp_path)]
    assert found == [1, 2]


def test_a_module_edited_in_a_running_process_is_loaded_anew(tmp_path: Path) -> None:
    file = module(tmp_path, "edited", 1)
    before = code.find("edited:work", str(tmp_path), {})
    was = code.digest(before)
    file.write_text("def work():\n    return 2222\n")
    after = code.find("edited:work", str(tmp_path), {})
    assert (before(), after()) == (1, 2222)
    assert code.digest(after) != was


def test_an_edited_helper_of_the_module_s_package_is_loaded_anew(tmp_path: Path) -> None:
    module(tmp_path / "pack", "helper", 1)
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "main.py").write_text("from pack.helper import work\n")
    assert code.find("pack.main:work", str(tmp_path), {})() == 1
    module(tmp_path / "pack", "helper", 3)
    (tmp_path / "pack" / "main.py").write_text("from pack.helper import work  # again\n")
    assert code.find("pack.main:work", str(tmp_path), {})() == 3


def importing(folder: Path, name: str, helper: str) -> Path:
    file = module(folder, name, 0)
    file.write_text(f"from {helper} import work as helped\n\n\ndef work():\n    return helped()\n")
    return file


def test_an_edited_module_beside_that_another_imports_is_loaded_anew_and_changes_the_digest(tmp_path: Path) -> None:
    importing(tmp_path, "upper_one", "middle_one")
    importing(tmp_path, "middle_one", "lower_one")
    module(tmp_path, "lower_one", 1)
    before = code.find("upper_one:work", str(tmp_path), {})
    was, elsewhere = code.digest(before), code.file_digest("upper_one:work", str(tmp_path), "python")
    assert before() == 1
    assert code.find("upper_one:work", str(tmp_path), {}) is before
    module(tmp_path, "lower_one", 2)
    after = code.find("upper_one:work", str(tmp_path), {})
    assert after() == 2
    assert code.find("upper_one:work", str(tmp_path), {}) is after
    assert code.digest(after) != was
    assert code.file_digest("upper_one:work", str(tmp_path), "python") != elsewhere


def test_two_specs_whose_modules_import_one_of_the_same_name_each_get_their_own(tmp_path: Path) -> None:
    for number, name in enumerate(("first", "second")):
        importing(tmp_path / name, f"{name}_steps", "same_helper")
        module(tmp_path / name, "same_helper", number)
    for _ in range(2):
        assert code.find("first_steps:work", str(tmp_path / "first"), {})() == 0
        assert code.find("second_steps:work", str(tmp_path / "second"), {})() == 1


def test_the_digest_covers_relative_imports_and_the_package_and_no_others(tmp_path: Path) -> None:
    pack = tmp_path / "relative"
    module(pack / "deep", "main", 1)
    for name in ("deep/near", "above", "deep/other"):
        module(pack, name, 1)
    for folder in (pack, pack / "deep"):
        (folder / "__init__.py").write_text("")
    module(tmp_path, "json", 1)
    (tmp_path / "relative" / "deep" / "main.py").write_text(
        "from . import near\nfrom ..above import work as below\nimport json\n\n\ndef work():\n    return below()\n"
    )

    def digest() -> str:
        return code.digest(code.find("relative.deep.main:work", str(tmp_path), {}))

    known = digest()
    (pack / "deep" / "other.py").write_text("changed = True\n")
    assert digest() == known
    for file in ("deep/near.py", "above.py", "__init__.py", "deep/__init__.py"):
        with (pack / file).open("a") as opened:
            opened.write("# edited\n")
        assert digest() != known
        known = digest()


def test_an_installed_package_wins_over_a_folder_of_its_name(tmp_path: Path) -> None:
    module(tmp_path, "json", 1)
    assert code.find("json:dumps", str(tmp_path), {})([1]) == "[1]"


def test_a_mere_folder_of_its_name_is_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("elsewhere/shy", "elsewhere/team/other", "specs/shy", "specs/team"):
        (tmp_path / folder).mkdir(parents=True)
    module(tmp_path, "shy", 1)
    module(tmp_path / "team", "shy", 2)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    __import__("shy")  # taken for a package by Python: it has been loaded from there
    for call, answer in (("shy:work", 1), ("team.shy:work", 2)):
        assert code.find(call, str(tmp_path / "specs"), {})() == answer
        assert code.place_of(call, str(tmp_path / "specs"), here=True) == tmp_path
        assert code.place_of(call, str(tmp_path / "specs"), here=False) == tmp_path


def test_a_module_in_a_folder_that_several_places_have_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path / "site" / "crew", "member", 1)
    module(tmp_path / "crew", "member", 2)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert code.find("crew.member:work", str(tmp_path), {})() == 1
    assert code.place_of("crew.member:work", str(tmp_path), here=True) == tmp_path / "site"


def test_who_edits_the_path_of_modules_does_no_harm(tmp_path: Path) -> None:
    module(tmp_path, "path_edited", 1)
    before = list(sys.path)
    assert code.find("path_edited:work", str(tmp_path), {})() == 1
    sys.path[:] = before
    assert code.find("path_edited:work", str(tmp_path), {})() == 1
    assert sys.path.count(str(tmp_path)) == 1


def test_a_module_made_a_moment_ago_is_found(tmp_path: Path) -> None:
    module(tmp_path, "just_before", 1)
    code.find("just_before:work", str(tmp_path), {})
    then = tmp_path.stat().st_mtime_ns
    module(tmp_path, "just_now", 2)
    os.utime(tmp_path, ns=(then, then))  # as on a file system that counts in seconds
    assert code.find("just_now:work", str(tmp_path), {})() == 2


def test_a_module_edited_within_the_second_is_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = module(tmp_path, "quickly_edited", 1)
    then = file.stat().st_mtime_ns
    assert code.find("quickly_edited:work", str(tmp_path), {})() == 1
    module(tmp_path, "quickly_edited", 2)
    os.utime(file, ns=(then, then))
    assert code.find("quickly_edited:work", str(tmp_path), {})() == 2


@pytest.mark.parametrize("call", ["nothing", "no_such_module:f", "json:no_such_function", ":f", "json:"])
def test_a_call_that_names_nothing_says_so(call: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        code.find(call, str(tmp_path), {})
    assert raised.value.hint


def test_an_import_error_inside_the_users_module_is_theirs(tmp_path: Path) -> None:
    (tmp_path / "broken_import.py").write_text("import no_such_package_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        code.find("broken_import:f", str(tmp_path), {})


def test_a_live_function_is_known_by_its_own_source() -> None:
    def one() -> int:
        return 1

    def two() -> int:
        return 2

    assert code.find("live:x", None, {"live:x": one}) is one
    assert code.digest(one, live=True) != code.digest(two, live=True)
    assert code.digest(one, live=True) == code.digest(one, live=True)


def test_a_program_is_known_by_its_words_and_its_files(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text("echo 1")
    before = code.program_digest(["bash", "run.sh", "-x"], str(tmp_path))
    assert before == code.program_digest(["bash", "run.sh", "-x"], str(tmp_path))
    assert before != code.program_digest(["bash", "run.sh", "-y"], str(tmp_path))
    (tmp_path / "run.sh").write_text("echo 2")
    assert before != code.program_digest(["bash", "run.sh", "-x"], str(tmp_path))
