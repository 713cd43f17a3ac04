"""Looking into the catalog: list, ls, diff, log, lineage; tags and aliases."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_tasks.report import Logger
from dataset_tasks.session import open_session

from .conftest import Command


@pytest.fixture
def second(raw: str, done: Command, data: Path) -> str:
    """demo/raw@1.0.1: a.txt modified, new.txt added, b.txt removed."""
    (data / "a.txt").write_text("other")
    (data / "b.txt").unlink()
    (data / "new.txt").write_text("n")
    return done("build", "demo/raw", "--sync", data, "-q").out.strip()


def test_an_empty_home_lists_nothing_and_stays_empty(call: Command, home: Path) -> None:
    ran = call("list")
    assert (ran.code, ran.out, "no dataset yet" in ran.err) == (0, "", True)
    assert call("list", "--json").json() == {"datasets": []}
    assert not home.exists()


@pytest.mark.parametrize("words", [("get", "a/b"), ("add", "."), ("ls",), ("catalog", "show"), ("catalog", "upgrade")])
def test_an_empty_home_is_told_as_such_with_what_makes_its_catalog(call: Command, home: Path, words: list[str]) -> None:
    ran = call(*words)
    assert (ran.code, f"nothing was made in {home} yet" in ran.err) == (1, True), ran
    assert "`dataset-tasks create PROJECT/NAME`" in ran.err
    assert not home.exists()


@pytest.mark.parametrize("words", [("list",), ("ls",), ("catalog", "show")])
def test_a_home_that_lost_its_catalog_is_not_taken_for_an_empty_one(
    call: Command, raw: str, home: Path, words: list[str]
) -> None:
    for file in home.glob("catalog.db*"):
        file.unlink()
    ran = call(*words)
    assert (ran.code, "`dataset-tasks catalog rebuild`" in ran.err) == (1, True), ran


def test_the_log_says_when_by_whom_and_why_a_draft_was_dropped(
    call: Command, done: Command, raw: str, data: Path
) -> None:
    assert call("build", "demo/raw", "--sync", data).code == 3
    assert call("build", "demo/raw", "--call", "no_such_module:f").code == 2
    draft = done("create", "demo/raw", "-q").out.strip()
    done("delete", draft)
    told = [line for line in done("log", "demo/raw").lines if " dropped by cli" in line]
    assert len(told) == 3
    assert "user" in told[0]
    assert "its run failed: there is no module 'no_such_module'" in told[1]
    assert "same content" in told[2]


def test_a_catalog_that_is_named_and_missing_is_an_error(call: Command, tmp_path: Path) -> None:
    ran = call("list", "--catalog", f"sqlite:///{tmp_path}/none.db")
    assert (ran.code, "catalog init" in ran.err) == (1, True)
    assert not (tmp_path / "none.db").exists()


def test_datasets_are_listed_a_line_each(done: Command, second: str) -> None:
    done("create", "demo/z")
    assert done("list", "-q").lines == ["demo/raw", "demo/z"]
    rows = [line.split() for line in done("list").lines if "demo/" in line]
    assert [row[:4] for row in rows] == [
        ["demo/raw", "2", "1.0.1", "completed"],
        ["demo/z", "1", "1.0.0", "in_progress"],
    ]
    found = done("list", "--json").json()["datasets"]
    assert next((d["name"], d["versions"], d["last"]["id"]) for d in found) == ("raw", 2, second)


def test_versions_of_a_dataset_are_listed_with_tags_and_aliases(done: Command, raw: str, second: str) -> None:
    done("publish", raw, "--alias", "prod")
    done("tag", "add", "good", "--id", raw)
    assert done("list", "demo/raw", "-q").lines == [raw, second]
    (row,) = [line for line in done("list", "demo/raw").lines if raw in line]
    assert "published" in row
    assert "@prod good" in row
    assert done("list", "--tag", "good", "-q").lines == [raw]
    assert done("list", "--state", "completed", "-q").lines == [second]
    assert done("list", "--name", "RA", "--versions", "-q").lines == [raw, second]
    assert done("list", "--name", "none").out == ""
    document = done("list", "demo/raw", "--json").json()["versions"][0]
    assert (document["tags"], document["aliases"], document["origin"]["runner"]) == (["good"], ["prod"], "cli")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "demo/rwa"], "there is no dataset 'demo/rwa'"),
        (["alias", "list", "demo/rwa"], "there is no dataset 'demo/rwa'"),
        (["log", "demo/rwa"], "there is no dataset 'demo/rwa'"),
        (["ls", "demo/rwa"], "there is no dataset 'demo/rwa'"),
        (["list", "--project", "dmeo"], "there is no project 'dmeo'"),
        (["ls", "demo/raw@prdo"], "'demo/raw' has no version or alias 'prdo'"),
    ],
)
def test_a_dataset_that_is_not_there_is_an_error_that_names_the_nearest(
    call: Command, done: Command, raw: str, arguments: list[str], message: str
) -> None:
    done("publish", raw, "--alias", "prod")
    ran = call(*arguments)
    assert (ran.code, ran.out) == (1, "")
    assert message in ran.err
    meant = "prod" if "prdo" in message else "demo" if "project" in message else "demo/raw"
    assert f"; did you mean {meant!r}?" in ran.err
    assert "hint: List what there is" in ran.err
    assert call(*arguments, "--json").json()["error"] == "not_found"


def test_a_dataset_of_no_versions_any_more_is_listed_as_empty(done: Command, raw: str) -> None:
    done("delete", raw)
    assert done("list", "demo/raw").out == ""
    assert done("alias", "list", "demo/raw").out == ""


def test_files_are_listed_sorted_with_patterns(done: Command, raw: str) -> None:
    assert done("ls", raw).lines == ["a.txt", "b.txt", "sub/c.csv"]
    assert done("ls", raw, "-f", "*.csv", "-f", "a.*").lines == ["a.txt", "sub/c.csv"]
    size, digest, owner, path = done("ls", raw, "-l").lines[0].split()
    assert (size, raw.startswith(owner), path, len(digest)) == ("3", True, "a.txt", 12)
    files = done("ls", raw, "--json").json()["files"]
    assert [(f["path"], f["size"], f["version_id"]) for f in files] == [
        ("a.txt", 3, raw), ("b.txt", 2, raw), ("sub/c.csv", 3, raw),
    ]  # fmt: skip


def test_a_difference_is_shown_with_sizes(done: Command, raw: str, second: str) -> None:
    against_parent = done("diff", second)
    assert against_parent.lines == ["~ a.txt  (3 B -> 5 B)", "- b.txt  (2 B)", "+ new.txt  (1 B)"]
    assert against_parent.err == "+1 added, +1 B; ~1 modified, +2 B; -1 removed, -2 B\n"
    assert done("compare", raw, second).out == against_parent.out
    assert done("diff", second, raw).lines[0] == "~ a.txt  (5 B -> 3 B)"
    assert done("diff", raw, raw).out == ""
    assert done("diff", raw, second, "--summary").out == ""
    document = done("diff", raw, second, "--json").json()
    assert (document["old"], document["new"], document["added"]) == ([raw], second, 1)
    assert document["changes"][1] == {"change": "removed", "path": "b.txt", "old_size": 2, "new_size": None}


def test_the_log_tells_who_made_what_from_what_newest_first(done: Command, raw: str, second: str) -> None:
    done("publish", second)
    log = done("log", "demo/raw").out
    assert log.index(second) < log.index("parents: demo/raw@1.0.0\n") < log.index(raw)
    assert " by cli, " in log
    assert "published" in log
    assert done("log", "demo/raw", "-n", "1", "-q").lines == [second]
    assert "1 older version not shown" in done("log", "demo/raw", "-n", "1").err
    assert done("log", raw, "-q").lines == [raw]
    assert done("log", "-q").lines == [second, raw], "of the dataset last used"
    events = done("log", second, "--json").json()["versions"][0]["events"]
    assert [event["kind"] for event in events] == ["finalized", "published"]


def test_lineage_is_a_tree_both_ways(call: Command, done: Command, raw: str, second: str) -> None:
    done("build", "demo/copy", "-p", second)
    done("build", "demo/both", "-p", second, "-p", "demo/copy@latest")
    up = done("lineage", "demo/both@latest", "--up").lines
    assert up == [
        "demo/both@1.0.0 is made from",
        "demo/both@1.0.0  completed",
        "├── demo/raw@1.0.1  completed",
        "│   └── demo/raw@1.0.0  completed  previous",
        "└── demo/copy@1.0.0  completed",
        "    └── demo/raw@1.0.1  completed  (see above)",
    ]
    down = done("lineage", second, "--down").out
    assert "demo/copy@1.0.0" in down
    assert "is made from" not in down
    assert "used by nothing" in done("lineage", "demo/both@latest").out
    document = done("lineage", "demo/both@latest", "--json").json()
    assert len(document["versions"]) == 4
    assert {"child": second, "parent": raw, "kind": "previous", "name": ""} in document["edges"]
    assert call("lineage", "demo/none").code == 1


def test_a_squashed_version_tells_what_it_was_squashed_from(done: Command, raw: str, second: str) -> None:
    done("squash", "demo/flat", raw, second)
    lines = done("lineage", "--up").lines
    assert lines[0] == "demo/flat@1.0.0 is made from"
    assert [line for line in lines if "squash" in line and "demo/raw@1.0.1" in line]


def test_a_long_history_is_followed_only_when_asked(done: Command, raw: str, second: str, data: Path) -> None:
    (data / "a.txt").write_text("third")
    third = done("build", "demo/raw", "--sync", data, "-q").out.strip()
    assert raw not in done("lineage", third, "--up", "-q").lines
    assert raw in done("lineage", third, "--up", "--history", "-q").lines


def test_tags_come_and_go(call: Command, done: Command, raw: str) -> None:
    assert done("tag", "add", "a", "b", "a").out == "demo/raw@1.0.0: a, b\n"
    assert call("tag", "add", "a").code == 3
    assert done("tag", "remove", "a", "--json").json() == {"version_id": raw, "tags": ["b"], "unchanged": False}
    assert call("tag", "remove", "a").code == 3
    assert done("tag", "remove", "b").out == "demo/raw@1.0.0: no tags\n"


def test_an_alias_moves_and_moves_back(call: Command, done: Command, raw: str, second: str) -> None:
    assert done("alias", "list", "demo/raw").out == ""
    done("alias", "set", "prod", raw)
    assert f"demo/raw@prod is 1.0.1 {second} (before: {raw})" in done("alias", "set", "prod", second).out
    assert call("alias", "set", "prod", second).code == 3
    assert done("alias", "list", "demo/raw", "-q").lines == [f"prod {second}"]
    assert done("alias", "rollback", "demo/raw", "prod", "-q").lines == [raw]
    assert [a["version"] for a in done("alias", "list", "demo/raw", "--history", "--json").json()["aliases"]] == [
        "1.0.0", "1.0.1", "1.0.0",
    ]  # fmt: skip
    assert call("alias", "rollback", "demo/raw", "none").code == 1
    assert call("alias", "list", "demo/raw@1.0.0").code == 2


def test_the_catalog_says_where_it_is(call: Command, done: Command, home: Path) -> None:
    assert call("catalog", "show").code == 1
    made = done("catalog", "init", "--json").json()
    assert made["store"] == str(home / "store")
    assert done("catalog", "show", "-q").out.strip() == made["catalog_id"]


def test_log_shows_what_was_reported(done: Command, raw: str, home: Path) -> None:
    with open_session(home=home) as session:
        logger = Logger(session, raw)
        logger.report_text("half [red]done[/red]\x1b[31m")
        logger.report_scalar("loss", "train", 0.5, 3)
        logger.report_table("rows", "head", table_plot=[{"a": 1}, {"a": 2}])
    lines = done("log", raw).lines
    assert any("text: half [red]done[/red]" in line and "\x1b" not in line for line in lines)
    assert any("scalar loss/train at 3: 0.5" in line for line in lines)
    assert any("table rows/head: 2 rows" in line for line in lines)
    (version,) = done("log", raw, "--json").json()["versions"]
    assert [each["kind"] for each in version["reports"]] == ["text", "scalar", "table"]
