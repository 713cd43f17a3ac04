"""A version's life at the command line, on a real catalog and store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dataset_tasks.session import open_session

from .conftest import Command


def test_a_version_goes_from_draft_to_published_without_naming_it_again(
    call: Command, done: Command, data: Path
) -> None:
    version = done("create", "demo/raw", "-q").out.strip()
    assert done("add", data).out == "demo/raw@1.0.0: 3 added, 0 modified\n"
    assert done("remove", "*.csv").out == "demo/raw@1.0.0: 1 removed\n"
    assert "2 files" in done("upload").out
    assert f"finalized demo/raw@1.0.0 {version}: 2 files, 5 B" in done("close").out
    again = call("close", version)
    assert (again.code, again.out) == (3, "unchanged: demo/raw@1.0.0 stands (it is final already)\n")
    assert call("finalize", version, "--json").json()["unchanged"] is True
    assert done("publish", "--alias", "prod").out == f"published demo/raw@1.0.0 as prod {version}\n"
    again = call("publish", "--alias", "prod")
    assert (again.code, again.out.startswith("unchanged: demo/raw@1.0.0")) == (3, True)


def test_removing_what_is_not_there_has_nothing_to_do_and_says_so(call: Command, done: Command, data: Path) -> None:
    done("create", "demo/raw", "-q")
    empty = call("remove", "--all")
    assert (empty.code, empty.out) == (3, "unchanged: demo/raw@1.0.0 stands (it has no files)\n")
    done("add", data)
    mistyped = call("remove", "*.cvs", "tmp/x")
    assert (mistyped.code, mistyped.out) == (
        3,
        "unchanged: demo/raw@1.0.0 stands (no file matches '*.cvs' or 'tmp/x')\n",
    )
    again = call("remove", "*.cvs", "--json")
    assert (again.code, again.json()["removed"], again.json()["unchanged"]) == (3, 0, True)
    some = done("remove", "*.csv", "*.cvs", "--json").json()
    assert (some["removed"], some["unchanged"]) == (1, False)


def test_a_bare_dataset_means_its_open_draft_to_what_changes_drafts(
    call: Command, done: Command, raw: str, data: Path
) -> None:
    draft = done("create", "demo/raw", "--previous", "-q").out.strip()
    done("create", "demo/other")
    assert done("sync", data, "--id", "demo/raw", "--json").json()["version_id"] == draft
    done("finalize", "demo/raw")
    ran = call("finalize", "demo/raw")
    assert (ran.code, "has no open draft" in ran.err, "hint: " in ran.err) == (1, True, True)


def test_two_open_drafts_are_listed_not_guessed(call: Command, done: Command) -> None:
    drafts = [done("create", "demo/raw", "-q").out.strip() for _ in range(2)]
    ran = call("finalize", "demo/raw")
    assert ran.code == 2
    assert all(draft in ran.err for draft in drafts)


def test_what_was_deleted_is_told_as_such_with_the_way_back(call: Command, done: Command, raw: str, data: Path) -> None:
    done("delete", raw)
    for ref, told in (
        ("demo/raw@1.0.0", "version '1.0.0' of 'demo/raw' was deleted"),
        ("demo/raw", "all of 'demo/raw'"),
    ):
        ran = call("get", ref)
        assert (ran.code, told in ran.err, "undelete" in ran.err) == (1, True, True), ran
    done("build", "demo/raw", "--add", data)
    assert "version '1.0.0' of 'demo/raw' was deleted" in call("ls", "demo/raw@1.0.0").err
    assert "no version or alias '9'" in call("ls", "demo/raw@9").err


def test_building_again_what_is_there_has_nothing_to_do(call: Command, raw: str, data: Path) -> None:
    again = call("build", "demo/raw", "--sync", data, "--json")
    assert (again.code, again.json()["unchanged"], again.json()["version_id"]) == (3, True, raw)


def test_a_build_takes_only_what_its_patterns_take(done: Command, data: Path) -> None:
    done("build", "demo/some", "--sync", data, "-w", "*.txt", "-x", "b.txt")
    assert done("ls", "demo/some@latest", "-q").out == "a.txt\n"


def test_patterns_of_a_build_that_reads_nothing_are_refused(call: Command) -> None:
    ran = call("build", "demo/some", "-w", "*.txt")
    assert (ran.code, "--sync or --add" in ran.err) == (2, True)


def test_a_build_counts_what_changed(done: Command, raw: str, data: Path) -> None:
    (data / "a.txt").write_text("other")
    (data / "b.txt").unlink()
    (data / "new.txt").write_text("n")
    made = done("build", "demo/raw", "--sync", data, "--json").json()
    assert [made[what] for what in ("version", "added", "modified", "removed", "files")] == ["1.0.1", 1, 1, 1, 3]


def test_the_users_traceback_is_shown_and_ours_is_not(
    call: Command, raw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shouting.py").write_text("def fail(inputs, output):\n    print('HEARD')\n    raise KeyError('col\\x1bumn')\n")
    ran = call("build", "demo/n", "-i", "demo/raw@latest", "--call", "shouting:fail", "--json")
    assert ran.code == 1
    assert ran.json()["error"] == "transform_failed"
    assert "HEARD" in ran.err
    assert "shouting.py" in ran.err
    assert "col\\x1bumn" in ran.err
    assert os.path.join("dataset_tasks", "ops") not in ran.err
    assert os.path.join("dataset_tasks", "ops") in call(
        "build", "demo/n", "-i", "demo/raw@latest", "--call", "shouting:fail", "--debug"
    ).err  # fmt: skip
    assert call("list", "demo/n", "-q").out == ""


def test_a_failing_check_says_what_was_expected_and_fails(call: Command, done: Command, data: Path) -> None:
    done("create", "demo/raw")
    done("add", data)
    ran = call("check", "--min-files", "10")
    assert (ran.code, ran.err.count("expected at least 10")) == (1, 1)
    assert call("check", "--min-files", "10", "--json").json()["error"] == "check_failed"
    assert "1 rule not met, recorded" in done("check", "--min-files", "10", "--warn").out
    assert "all rules are met" in done("check", "--min-files", "3").out


def test_a_copy_is_given_on_stdout_and_checked(call: Command, done: Command, raw: str, tmp_path: Path) -> None:
    cached = Path(done("get", raw, "-q").out.strip())
    assert sorted(p.name for p in cached.rglob("*") if p.is_file()) == ["a.txt", "b.txt", "c.csv"]
    own = tmp_path / "own"
    assert done("get", raw, "--to", own).out == f"{own}\n"
    assert "all is well: 3 files" in done("verify", raw, "--path", own).out
    (own / "a.txt").write_text("changed")
    ran = call("verify", raw, "--path", own)
    assert (ran.code, ran.lines[-1]) == (1, "  a.txt")
    assert call("verify", raw, "--path", own, "-q").out == "a.txt\n"
    assert call("verify", raw, "--path", own, "--json").json()["bad"] == ["a.txt"]


def test_delete_takes_only_what_is_named(call: Command, done: Command, raw: str, data: Path) -> None:
    assert call("delete").code == 2
    (data / "a.txt").write_text("other")
    done("build", "demo/raw", "--sync", data)
    ran = call("delete", "demo/raw")
    assert (ran.code, "names 2 versions" in ran.err) == (2, True)
    assert call("delete", "demo/raw@1.0.0").code == 1, "it is the parent of 1.0.1"
    assert done("delete", "demo/raw@1.0.0", "--force").out == f"deleted demo/raw@1.0.0 {raw}\n"
    draft = done("create", "demo/x", "-q").out.strip()
    assert done("delete", draft).out.startswith("dropped the draft demo/x@1.0.0")


def test_looking_at_another_version_does_not_change_what_comes_next(done: Command, raw: str, data: Path) -> None:
    draft = done("create", "demo/x", "-q").out.strip()
    done("ls", raw)
    done("get", raw)
    done("diff", raw)
    done("verify", raw)
    assert done("add", data, "-q").out.strip() == draft


def test_the_last_used_version_is_kept_per_catalog(call: Command, done: Command, raw: str, tmp_path: Path) -> None:
    ran = call("publish", "--catalog", f"sqlite:///{tmp_path / 'other.db'}")
    assert (ran.code, "no catalog" in ran.err) == (1, True)
    done("catalog", "init", "--catalog", f"sqlite:///{tmp_path / 'other.db'}")
    ran = call("lineage", "--catalog", f"sqlite:///{tmp_path / 'other.db'}")
    assert (ran.code, "which version" in ran.err) == (2, True)
    assert done("lineage", "--json").json()["version_id"] == raw


def test_a_damaged_memory_is_no_obstacle(call: Command, done: Command, raw: str, home: Path) -> None:
    (home / "last_used.json").write_text("[1")
    assert call("lineage").code == 2
    done("tag", "add", "x", "--id", raw)
    assert done("lineage", "--json").json()["version_id"] == raw


def test_home_and_store_can_be_given_with_each_command(done: Command, data: Path, tmp_path: Path, home: Path) -> None:
    there = ("--home", str(tmp_path / "there"), "--store", str(tmp_path / "store"))
    done("build", "demo/raw", "--add", data, *there)
    assert not home.exists()
    assert list((tmp_path / "store").rglob("*.zip"))
    assert done("list", "-q", *there).out == "demo/raw\n"
    with open_session(home=tmp_path / "there") as session:
        assert [v.label for v in session.catalog.versions()] == ["demo/raw@1.0.0"]
