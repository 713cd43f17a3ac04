"""Which request each call makes: every flag lands in its field."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dataset_tasks.cli.context import Cli
from dataset_tasks.model import Input, State
from dataset_tasks.ops import requests as r

from .conftest import Command

ID = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32
STEP = "step:raw.create"

CALLS: list[tuple[list[str], r.Request]] = [
    (["create", "nyc/raw"], r.Create(name="raw", project="nyc")),
    (["create", "raw", "--project", "a/b"], r.Create(name="raw", project="a/b")),
    (
        ["create", "nyc/raw", "-p", ID, "-p", "nyc/x@1.0.0", "-i", f"old={ID}", "-i", "crm/orders", "--previous",
         "--version", "2.0", "-t", "a", "-t", "b", "--description", "d", "--meta", "k=[1]", "--meta", "t=x",
         "--partition", "2013-01"],
        r.Create(
            name="raw", project="nyc", parents=(ID, "nyc/x@1.0.0"),
            inputs=(Input(name="old", ref=ID), Input(name="orders", ref="crm/orders")), previous=True, version="2.0",
            tags=("a", "b"), description="d", metadata={"k": [1], "t": "x"}, partition="2013-01",
        ),
    ),
    (["add", "data", "--id", ID], r.AddFiles(ref=ID, path="data")),
    (
        ["add", "data", "--id", ID, "-w", "*.csv", "-w", "*.txt", "-x", "tmp", "--local-base-folder", "/d",
         "--dataset-path", "in", "--no-recursive", "--skip-errors", "--max-workers", "3", "--connection", "lake"],
        r.AddFiles(
            ref=ID, path="data", wildcard=("*.csv", "*.txt"), exclude=("tmp",), local_base_folder="/d",
            dataset_path="in", recursive=False, on_error="skip", max_workers=3, connection="lake",
        ),
    ),
    (
        ["external", "s3://a/b", "file:///c", "--id", ID, "-w", "*.csv", "--dataset-path", "in", "--no-recursive",
         "--connection", "lake"],
        r.AddExternal(
            ref=ID, urls=("s3://a/b", "file:///c"), wildcard=("*.csv",), dataset_path="in", recursive=False,
            connection="lake",
        ),
    ),
    (
        ["sync", "data", "--id", ID, "-w", "*.csv", "-x", "tmp", "--dataset-path", "in", "--max-workers", "3",
         "--connection", "lake"],
        r.SyncFolder(
            ref=ID, path="data", wildcard=("*.csv",), exclude=("tmp",), dataset_path="in", max_workers=3,
            connection="lake",
        ),
    ),
    (["remove", "*.tmp", "x", "--id", ID, "--no-recursive"],
     r.RemoveFiles(ref=ID, patterns=("*.tmp", "x"), recursive=False)),
    (["remove", "--all", "--id", ID], r.RemoveFiles(ref=ID)),
    (
        ["transform", ID, "--call", "m:f", "--with", "n=3", "--with", "s=x", "--env", "A=1", "--env-from", "B",
         "--python", "py", "--code-version", "7", "--always", "--dataset-path", "in"],
        r.Transform(
            ref=ID, call="m:f", arguments={"n": 3, "s": "x"}, env={"A": "1"}, env_from=("B",), python="py",
            code_version="7", always=True, folder=".", dataset_path="in",
        ),
    ),
    (["transform", ID, "--run", "./p 'a b' c"], r.Transform(ref=ID, run=("./p", "a b", "c"), folder=".")),
    (
        ["check", ID, "--min-files", "1", "--max-files", "9", "--min-bytes", "5", "--max-change", "0.5",
         "--table", "*.csv=s.yaml", "--call", "m:f", "--warn"],
        r.Check(
            ref=ID, min_files=1, max_files=9, min_bytes=5, max_change=0.5,
            tables=(r.TableCheck(files="*.csv", schema="s.yaml"),), call="m:f", severity="warn", folder=".",
        ),
    ),
    (
        ["upload", ID, "--output-url", "s3://b", "--compression", "store", "--chunk-size", "0.5", "--max-workers", "2",
         "--retries", "0"],
        r.Upload(ref=ID, store="s3://b", compression="store", chunk_size=0.5, max_workers=2, retries=0),
    ),
    (["finalize", ID], r.Finalize(ref=ID)),
    (["close", "--id", ID], r.Finalize(ref=ID)),
    (
        ["build", "nyc/raw", "--sync", "data"],
        r.Build(
            stages=(
                r.Stage(id="raw.create", request=r.Create(name="raw", project="nyc", previous=True, skip_unchanged=True)),
                r.Stage(id="raw.sync", request=r.SyncFolder(ref=STEP, path="data")),
                r.Stage(id="raw.upload", request=r.Upload(ref=STEP)),
                r.Stage(id="raw.finalize", request=r.Finalize(ref=STEP)),
            )
        ),
    ),
    (
        ["build", "nyc/raw", "--sync", "s3://b/in", "--add", "x", "-w", "*.csv", "-x", "tmp", "--connection", "lake"],
        r.Build(
            stages=(
                r.Stage(id="raw.create", request=r.Create(name="raw", project="nyc", previous=True, skip_unchanged=True)),
                r.Stage(
                    id="raw.sync",
                    request=r.SyncFolder(
                        ref=STEP, path="s3://b/in", wildcard=("*.csv",), exclude=("tmp",), connection="lake"
                    ),
                ),
                r.Stage(
                    id="raw.add.0",
                    request=r.AddFiles(ref=STEP, path="x", wildcard=("*.csv",), exclude=("tmp",), connection="lake"),
                ),
                r.Stage(id="raw.upload", request=r.Upload(ref=STEP)),
                r.Stage(id="raw.finalize", request=r.Finalize(ref=STEP)),
            )
        ),
    ),
    (
        ["build", "nyc/raw", "-p", ID, "--add", "x", "--add", "y", "--call", "m:f", "--with", "n=1", "--remove", "*.tmp",
         "--verify", "--always"],
        r.Build(
            stages=(
                r.Stage(id="raw.create", request=r.Create(name="raw", project="nyc", parents=(ID,))),
                r.Stage(id="raw.add.0", request=r.AddFiles(ref=STEP, path="x")),
                r.Stage(id="raw.add.1", request=r.AddFiles(ref=STEP, path="y")),
                r.Stage(
                    id="raw.transform", request=r.Transform(ref=STEP, call="m:f", arguments={"n": 1}, folder=".")
                ),
                r.Stage(id="raw.remove", request=r.RemoveFiles(ref=STEP, patterns=("*.tmp",))),
                r.Stage(id="raw.upload", request=r.Upload(ref=STEP)),
                r.Stage(id="raw.finalize", request=r.Finalize(ref=STEP)),
                r.Stage(id="raw.verify", request=r.Verify(ref=STEP, quarantine=True)),
            )
        ),
    ),
    (["publish", ID, "--alias", "prod"], r.Publish(ref=ID, alias="prod")),
    (
        ["squash", "nyc/flat", ID, OTHER, "--output-url", "s3://b", "-t", "a", "--description", "d", "--meta", "k=1"],
        r.Squash(
            name="flat", project="nyc", refs=(ID, OTHER), store="s3://b", tags=("a",), description="d",
            metadata={"k": 1},
        ),
    ),
    (["verify", ID], r.Verify(ref=ID)),
    (["verify", ID, "--path", "out", "--skip-hash", "--quarantine"],
     r.Verify(ref=ID, path="out", mode="size", quarantine=True)),
    (["get", ID], r.GetCopy(ref=ID)),
    (
        ["get", ID, "--to", "out", "--overwrite", "--no-soft-links", "-f", "*.csv", "--part", "1/3", "--max-workers", "2"],
        r.GetCopy(
            ref=ID, target="out", overwrite=True, soft_links=False, files=("*.csv",), part=1, num_parts=3, max_workers=2
        ),
    ),
    (["delete", ID, "--force"], r.Delete(ref=ID, force=True)),
]  # fmt: skip

#: What the command line leaves to specs: they know what shapes a version, and quarantine and stores follow from that.
LEFT_TO_SPECS = {
    "create": {"store", "recipe", "hold", "keep"},
    "squash": {"skip_unchanged", "hold", "keep"},
    "approve": {"ref", "by", "timeout", "otherwise", "alias"},  # a spec asks; the command answers: see test_answers
}
#: Commands that are about no draft, with tests of their own; not all of their fields have an option.
ELSEWHERE = {"gc", "undelete", "repack", "repair", "copy"}


class FakeSession:
    """Answers every request with the result of its verb, and keeps it."""

    def __init__(self, home: Path) -> None:
        self.settings = SimpleNamespace(home=home)
        self.catalog = SimpleNamespace(
            id="c" * 32, resolve=lambda ref: SimpleNamespace(id=ref, state=State.IN_PROGRESS)
        )
        self.asked: list[r.Request] = []
        self.origin: dict[str, Any] = {}

    def run(self, request: r.Request, *, origin: dict[str, Any], progress: object) -> r.Result:
        self.asked.append(request)
        self.origin = dict(origin)
        result = r.OPERATIONS[request.verb][1]
        done = {"removed": 1} if request.verb == "remove" else {}  # else there is nothing to do
        return result(catalog_id=self.catalog.id, version_id=ID, project="nyc", name="raw", version="1.0.0", **done)


@pytest.fixture
def session(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeSession:
    fake = FakeSession(home)

    @contextmanager
    def opened(self: Cli, *, create: bool = True) -> Iterator[FakeSession]:
        yield fake

    monkeypatch.setattr(Cli, "session", opened)
    monkeypatch.setattr("os.getcwd", lambda: ".")
    return fake


@pytest.mark.parametrize(
    ("arguments", "request_"), CALLS, ids=lambda each: " ".join(each[:6]) if isinstance(each, list) else ""
)
def test_a_call_makes_its_request(
    arguments: list[str], request_: r.Request, session: FakeSession, call: Command
) -> None:
    ran = call(*arguments)
    assert (ran.code, session.asked) == (0, [request_]), ran.err


def test_every_field_of_every_request_can_be_given(session: FakeSession) -> None:
    given: dict[str, set[str]] = {verb: set() for verb in r.OPERATIONS}

    def look(request: r.Request) -> None:
        for field in fields(request):
            if getattr(request, field.name) not in (field.default, (), {}):
                given[request.verb].add(field.name)
        if isinstance(request, r.Build):
            for stage in request.stages:
                look(stage.request)

    for _, request in CALLS:
        look(request)
    missing = {
        verb: {field.name for field in fields(request)} - given[verb] - LEFT_TO_SPECS.get(verb, set())
        for verb, (request, _) in r.OPERATIONS.items()
        if verb not in ELSEWHERE
    }
    assert {verb: names for verb, names in missing.items() if names} == {}


def test_a_version_tells_who_made_it(session: FakeSession, call: Command) -> None:
    call("create", "nyc/raw")
    assert session.origin["runner"] == "cli"
    assert set(session.origin) == {"runner", "user", "host"}


def test_every_result_is_told_in_words_and_as_json_and_as_an_id(session: FakeSession, call: Command) -> None:
    told = {}
    for arguments, request in CALLS:
        words, document, bare = call(*arguments), call(*arguments, "--json"), call(*arguments, "-q")
        told[request.verb] = words.out + words.err
        assert document.json()["version_id"] == ID
        assert set(document.json()) == {field.name for field in fields(r.OPERATIONS[request.verb][1])}
        assert bare.out.strip() in (ID, "")
    assert [verb for verb, text in told.items() if "nyc/raw@1.0.0" not in text] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "nyc/raw", "--project", "nyc"], "project is given twice"),
        (["create", "nyc/raw", "--meta", "k"], "not KEY=VALUE"),
        (["create", "nyc/raw", "--meta", "k=1", "--meta", "k=2"], "given twice"),
        (["create", "nyc/raw", "-i", ID], "has no name"),
        (["create", "nyc/raw", "-i", "a/x", "-i", "b/x"], "two inputs"),
        (["remove", "--id", ID], "patterns or --all"),
        (["remove", "x", "--all", "--id", ID], "patterns or --all"),
        (["upload", ID, "--compression", "lzma"], "--compression 'lzma'"),
        (["get", ID, "--part", "3/3"], "--part '3/3'"),
        (["get", ID, "--part", "x"], "--part 'x'"),
        (["publish", ID, "--id", OTHER], "two versions are named"),
        (["delete"], "which version"),
        (["finalize"], "which version"),
        (["upload", "--retries", "-1", "--id", ID], "'--retries': it must be greater than or equal to 0"),
        (["list", "--state", "done"], "'--state': 'done' is not one of 'in_progress', 'completed'"),
        (["nope"], "No such command"),
        (["create"], "PROJECT/NAME"),
        (["create", "nyc/raw", "--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_use_is_told_with_a_hint_and_exit_code_2(
    arguments: list[str], message: str, session: FakeSession, call: Command
) -> None:
    ran = call(*arguments)
    assert ran.code == 2
    assert message in ran.err
    assert "hint: " in ran.err
    assert (ran.out, session.asked) == ("", [])


def test_wrong_use_is_a_document_too(session: FakeSession, call: Command) -> None:
    assert call("nope", "--json").json()["error"] == "usage"
    assert call("create", "nyc/raw", "--meta", "k", "--json").json()["error"] == "invalid_argument"
