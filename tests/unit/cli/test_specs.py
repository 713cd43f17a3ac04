"""Commands on specs, run here on a real catalog."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from dataset_tasks.session import open_session

from .conftest import Command, Ran

SPEC = """
version: 1
name: flow
project: demo
params:
  text: {type: str, default: x}
datasets:
  raw:
    sync: {path: data}
  sizes:
    inputs: [raw]
    transform: {run: [./sizes, "${params.text}"]}
  both:
    parents: [raw, sizes]
    publish: {alias: prod}
  flat:
    squash: [both]
"""
SIZES = """#!/bin/sh
cd "$DATASET_TASKS_INPUT_RAW" && wc -c *.txt > "$DATASET_TASKS_OUTPUT/sizes" && echo "$1" > "$DATASET_TASKS_OUTPUT/text"
"""
BAD = """
version: 1
name: flow
project: demo
datasets:
  raw:
    sync: {path: nowhere}
    tagz: [a]
  both:
    parents: [rw]
"""


@pytest.fixture
def spec(data: Path, tmp_path: Path) -> Path:
    """raw -> sizes -> both -> flat, over three files; `sizes` is a shell script."""
    program = tmp_path / "sizes"
    program.write_text(SIZES)
    program.chmod(0o755)
    path = tmp_path / "flow.yaml"
    path.write_text(SPEC)
    return path


def statuses(ran: Ran) -> dict[str, str]:
    return {each["key"]: each["status"] for each in ran.json()["datasets"]}


def test_a_good_spec_has_no_problem(done: Command, spec: Path) -> None:
    assert done("lint", spec).out == f"{spec}: 4 datasets, 5 steps, no problem\n"
    assert done("lint", spec, "--json").json()["problems"] == []
    assert done("lint", spec, "-q").out == ""


@pytest.mark.parametrize("verb", ["lint", "plan", "run", "graph"])
def test_a_bad_spec_tells_all_its_problems_and_makes_nothing(
    verb: str, call: Command, tmp_path: Path, home: Path
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    ran = call(verb, path)
    sources = verb != "graph"  # a picture needs no data
    assert ran.code == 2
    assert (f"{path}:7:18: datasets.raw.sync.path" in ran.err) is sources
    assert f"{path}:8:5: datasets.raw.tagz: unknown key 'tagz'; did you mean 'tags'?" in ran.err
    assert f"{path}:10:15: datasets.both.parents[0]: no dataset 'rw'" in ran.err
    assert ran.err.count("tagz") == 2, "each problem is told once"
    assert "hint: " in ran.err
    assert len(call(verb, path, "--json").json()["problems"]) == 2 + sources
    assert not home.exists()


def test_a_run_shows_lineage_versions_the_published_copy_and_what_was_made(done: Command, spec: Path) -> None:
    ran = done("run", spec)
    assert [line for line in ran.lines if "──" in line and "demo/" in line] == [
        "└── demo/flat@1.0.0  made",
        "    └── demo/both@1.0.0  made  squash",
        "        ├── demo/raw@1.0.0  made",
        "        └── demo/sizes@1.0.0  made",
        "            └── demo/raw@1.0.0  made  input",
    ]
    rows = {line.split()[0]: line for line in ran.lines if line.startswith(" demo/")}
    assert list(rows) == ["demo/raw@1.0.0", "demo/sizes@1.0.0", "demo/both@1.0.0", "demo/flat@1.0.0"]
    assert "published" in rows["demo/both@1.0.0"]
    assert "demo/both@1.0.0 is published as prod: get it with `dataset-tasks get demo/both@prod`" in ran.lines
    assert ran.lines[-1].startswith("made 4 versions (demo/raw@1.0.0, demo/sizes@1.0.0, ")
    assert " new in the store, 1 published, in " in ran.lines[-1]
    assert "+ raw.build made demo/raw@1.0.0" in ran.err
    assert len(done("get", "demo/both@prod").lines) == 1


def test_a_second_run_has_nothing_to_do(call: Command, done: Command, spec: Path) -> None:
    done("run", spec, "-q")
    again = call("run", spec)
    assert again.code == 3
    assert again.lines[-1].startswith("unchanged: 4 datasets looked at, no version made, in ")
    assert call("run", spec, "-q").out == ""
    with open_session() as session:
        assert len(session.catalog.versions()) == 4


def test_the_document_of_a_run_is_all_there_is_on_stdout(call: Command, spec: Path) -> None:
    ran = call("run", spec, "--json", "--param", "text=other")
    assert statuses(ran) == dict.fromkeys(("raw", "sizes", "both", "flat"), "made")
    assert ran.json()["params"] == {"text": "other"}
    assert [each["published"] for each in ran.json()["datasets"]] == [False, False, True, False]
    assert statuses(call("run", spec, "--json", "--param", "text=other")) == dict.fromkeys(
        ("raw", "sizes", "both", "flat"), "unchanged"
    )


def test_what_plan_says_is_what_run_does(call: Command, done: Command, spec: Path, data: Path, home: Path) -> None:
    first = done("plan", spec, "--json")
    assert statuses(first) == dict.fromkeys(("raw", "sizes", "both", "flat"), "new")
    assert not home.exists(), "it writes nothing"
    done("run", spec)
    nothing = call("plan", spec)
    assert (nothing.code, nothing.lines[-1]) == (3, "all is unchanged: a run would make nothing")
    (data / "sub" / "c.csv").write_text("changed,\n")
    said = done("plan", spec, "--json")
    ran = done("run", spec, "--json")
    made = {key for key, status in statuses(ran).items() if status == "made"}
    assert {key for key, status in statuses(said).items() if status != "unchanged"} >= made
    assert {"raw", "both", "flat"} <= made
    rows = {
        line.split()[0]: line for line in call("plan", spec, "--param", "text=z").lines if line.startswith(" demo/")
    }
    assert "unchanged" in rows["demo/raw"]
    assert "changes" in rows["demo/sizes"]
    assert call("plan", spec, "--param", "text=z", "-q").lines[0] == "sizes"


def test_part_of_a_spec_runs_alone(call: Command, done: Command, spec: Path) -> None:
    ran = call("run", spec, "--select", "both")
    assert (ran.code, "was not selected" in ran.err) == (1, True)
    done("run", spec, "-s", "raw")
    assert statuses(done("run", spec, "-s", "+both", "-x", "raw", "--json")) == {"sizes": "made", "both": "made"}
    assert "demo/raw@1.0.0  not run" in call("run", spec, "-s", "sizes").out


def test_a_failure_skips_what_is_below_and_the_next_run_goes_on(call: Command, done: Command, spec: Path) -> None:
    program = spec.parent / "sizes"
    program.write_text("#!/bin/sh\necho broken glass >&2; exit 7\n")
    ran = call("run", spec, "--json")
    assert ran.code == 1
    assert statuses(ran) == {"raw": "made", "sizes": "failed", "both": "skipped", "flat": "skipped"}
    told = call("run", spec)
    assert "sizes.build: " in told.err
    assert "broken glass" in told.err
    assert "hint: " in told.err
    assert told.lines[-1].startswith("1 unchanged, 1 failed, 2 skipped, in ")
    program.write_text(SIZES)
    assert statuses(done("run", spec, "--json")) == {
        "raw": "unchanged",
        "sizes": "made",
        "both": "made",
        "flat": "made",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "rw"], "did you mean 'raw'"),
        (["--param", "txt=1"], "txt"),
        (["--param", "text"], "not KEY=VALUE"),
        (["--date", "2013-01-01"], "no schedule"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_a_run_that_is_asked_for_wrongly_makes_nothing(
    arguments: list[str], message: str, call: Command, spec: Path
) -> None:
    ran = call("run", spec, *arguments)
    assert (ran.code, message in ran.err) == (2, True), ran
    assert call("list", "-q").out == ""


def test_the_graph_is_drawn_in_every_form(call: Command, done: Command, spec: Path, tmp_path: Path) -> None:
    assert done("graph", spec).lines[0] == "flow"
    assert done("graph", spec, "-f", "mermaid").lines[0] == "flowchart LR"
    assert done("graph", spec, "-f", "dot").out.startswith('digraph "flow" {')
    assert done("graph", spec, "-f", "json").json() == done("graph", spec, "--json").json()
    ran = done("graph", spec, "-f", "svg", "-o", tmp_path / "g.svg")
    assert ran.out == ""
    assert (tmp_path / "g.svg").read_text().startswith("<svg")
    assert call("graph", spec, "-f", "png").code == 2


def test_the_schema_is_json(done: Command) -> None:
    assert "datasets" in json.loads(done("schema").out)["properties"]


@pytest.mark.parametrize(("to", "maker"), [("airflow", "dag_from_spec"), ("prefect", "flow_from_spec")])
def test_compile_writes_a_file_that_finds_the_spec(
    to: str, maker: str, call: Command, done: Command, spec: Path
) -> None:
    file = spec.parent / "dags" / "flow.py"
    file.parent.mkdir()
    done("compile", spec, "--to", to, "-o", file)
    text = file.read_text()
    assert [node.targets[0].id for node in ast.parse(text).body if isinstance(node, ast.Assign)] == ["flow"]  # type: ignore[attr-defined]
    given: list[Path] = []
    lines = [line for line in text.splitlines() if not line.startswith("from ")]
    found = {"__file__": str(file), "__name__": "dags", "Path": Path, maker: lambda path, **_: given.append(path)}
    exec("\n".join(lines), found)
    assert given == [spec]
    again = call("compile", spec, "--to", to, "-o", file)
    assert (again.code, "--overwrite" in again.err) == (2, True)
    done("compile", spec, "--to", to, "-o", file, "--overwrite")
    assert "'flow.yaml'" in done("compile", spec, "--to", to).out
    assert call("compile", spec, "--to", "dagster").code == 2
