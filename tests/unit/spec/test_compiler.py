"""The plan is data: what a spec compiles to is kept beside it and compared as a whole.

After a change that is meant, write the golden files anew: `UPDATE_GOLDEN=1 pytest tests/unit/spec/test_compiler.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dataset_tasks.ops.requests import AddExternal, AddFiles, Build, Create, Publish, Squash, SyncFolder, Verify
from dataset_tasks.ops.wire import to_json
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.explain import describe, duration, explain, plan_to_json

GOLDEN = Path(__file__).parent / "golden"
SPEC = GOLDEN / "every_step.yaml"


@pytest.fixture
def plan():
    return compile_spec(SPEC, environ={}, check_sources=False)


def golden(name, text):
    """Compares a text with the one that is kept."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def portable(text, plan):
    """Without what differs from machine to machine and with each word of a comment in the spec."""
    return text.replace(str(SPEC.parent), "/specs").replace(plan.digest, "<digest>") + "\n"


@pytest.mark.parametrize(
    ("form", "name"),
    [("json", "plan.json"), ("text", "plan.txt"), ("mermaid", "plan.mmd"), ("dot", "plan.dot"), ("svg", "plan.svg")],
)
def test_the_plan_of_a_spec_with_every_step_is_as_it_was(plan, form, name):
    golden(name, portable(explain(plan, form), plan))


def test_compiling_twice_gives_equal_plans(plan):
    assert compile_spec(SPEC, environ={}, check_sources=False) == plan


def test_each_step_comes_after_all_it_needs(plan):
    seen = set()
    for step in plan.steps:
        assert seen.issuperset(step.needs)
        seen.add(step.id)


def one(write, text, key="x"):
    """The plan of one dataset, its steps by what they do."""
    compiled = compile_spec(write(text))
    steps = {}
    for step in compiled.steps:
        if step.dataset == key:
            stages = step.request.stages if isinstance(step.request, Build) else ()
            steps |= {step.id.removeprefix(f"{key}."): step.request}
            steps |= {stage.id.removeprefix(f"{key}."): stage.request for stage in stages}
    return steps


def test_a_sync_starts_from_the_last_version_unless_told_otherwise(write):
    assert one(write, "  x: {sync: {path: .}}\n")["create"].previous
    assert not one(write, "  x: {sync: {path: .}, previous: false}\n")["create"].previous
    assert not one(write, "  x: {add: [{path: .}]}\n")["create"].previous
    assert one(write, "  x: {add: [{path: .}], previous: true}\n")["create"].previous


def test_content_comes_in_the_order_sync_add_external_transform_remove(write):
    steps = one(
        write,
        '  x: {remove: a, transform: {call: "m:f"}, add: [{path: .}, {path: .}], sync: {path: .}, check: {min_files: 1},'
        " external: [{url: s3://a/b, wildcard: x, dataset_path: y, recursive: false}, {url: file:///c}], verify: true}\n",
    )

    assert list(steps) == [
        "build", "create", "sync", "add.0", "add.1", "external.0", "external.1", "transform", "remove", "check", "upload",
        "finalize", "verify",
    ]  # fmt: skip
    assert steps["external.0"] == AddExternal(
        ref="step:x.create", urls=("s3://a/b",), wildcard=("x",), dataset_path="y", recursive=False
    )


def test_paths_are_taken_from_the_folder_of_the_spec(write, tmp_path):
    (tmp_path / "data").mkdir()
    steps = one(write, "  x: {add: [{path: ./data/../data}, {path: /tmp}, {path: '${run.id}'}]}\n")

    assert [steps[f"add.{place}"].path for place in range(3)] == [
        f"{tmp_path}/data", "/tmp", f"{tmp_path}/${{run.id}}",
    ]  # fmt: skip


@pytest.mark.parametrize(("publish", "alias"), [("true", None), ("{}", None), ("{alias: prod}", "prod")])
def test_publish_is_a_step_of_its_own(write, publish, alias):
    steps = one(write, f"  x: {{previous: true, publish: {publish}}}\n")

    assert steps["publish"] == Publish(ref="step:x.build", alias=alias)


def test_publish_false_is_no_step(write):
    assert "publish" not in one(write, "  x: {previous: true, publish: false}\n")


@pytest.mark.parametrize(("verify", "mode"), [("true", "hash"), ("hash", "hash"), ("size", "size")])
def test_a_verify_quarantines_what_it_finds(write, verify, mode):
    steps = one(write, f"  x: {{previous: true, verify: {verify}}}\n")

    assert steps["verify"] == Verify(ref="step:x.finalize", mode=mode, quarantine=True)


def test_verify_false_is_no_step(write):
    assert "verify" not in one(write, "  x: {previous: true, verify: false}\n")


def test_what_is_below_waits_for_the_publish_and_reads_the_version(write):
    compiled = compile_spec(write("  a: {previous: true, publish: true}\n  x: {parents: [a]}\n  y: {squash: [a, x]}\n"))

    assert compiled.step("x.build").needs == ("a.publish",)
    assert compiled.step("y.squash").needs == ("a.publish", "x.build")
    assert compiled.step("y.squash").request.refs == ("step:a.build", "step:x.build")


def test_unchanged_versions_are_skipped_unless_told_otherwise(write):
    assert one(write, "  x: {previous: true}\n")["create"].skip_unchanged
    assert not one(write, "  x: {previous: true, on_unchanged: version}\n")["create"].skip_unchanged
    assert one(write, "  x: {squash: [a/b]}\n")["squash"].skip_unchanged


def test_the_step_ids_depend_on_the_keys_alone(write):
    compiled = compile_spec(write("  x: {name: Other.Name, project: far/away, previous: true}\n"))

    assert [step.id for step in compiled.steps] == ["x.build"]
    assert (compiled.datasets[0].project, compiled.datasets[0].name) == ("far/away", "Other.Name")


# --- the recipe ------------------------------------------------------------------------------------------------------

BASE = '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}}, remove: t}\n'


def recipe(write, text):
    return one(write, text)["create"].recipe


@pytest.mark.parametrize(
    "text",
    [
        '  x: {inputs: [a/b], transform: {call: "m:g", with: {n: 1}}, remove: t}\n',
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 2}}, remove: t}\n',
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1, k: 1}}, remove: t}\n',
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}}, remove: u}\n',
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}}}\n',
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}, env: {A: b}}, remove: t}\n',
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}, env_from: [A]}, remove: t}\n',
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}, python: other}, remove: t}\n',
        "  x: {inputs: [a/b], transform: {run: [p]}, remove: t}\n",
    ],
)
def test_another_way_to_make_the_content_is_another_recipe(write, text):
    assert recipe(write, text) != recipe(write, BASE)


@pytest.mark.parametrize(
    "text",
    [
        '  x: {remove: [t], transform: {with: {n: 1}, call: "m:f"}, inputs: [a/b]}\n',
        '  x: {inputs: {b: "a/b@published"}, transform: {call: "m:f", with: {n: 1}}, remove: t}\n',
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}, always: true}, remove: t}\n',
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}, code_version: "2"}, remove: t}\n',
        (
            '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}}, remove: t, tags: [new], description: d, doc: e,'
            " metadata: {a: 1}, retries: 3, timeout: 1h, publish: true, verify: true, check: {min_files: 1}, name: y,"
            " upload: {compression: store}, store: s3://x/y, granularity: operation, airflow: {pool: p}}\n"
        ),
        '  x: {inputs: [a/b], transform: {call: "m:f", with: {n: 1}}, remove: t, add: [{path: .}]}\n',
    ],
)
def test_what_does_not_change_how_content_is_made_leaves_the_recipe(write, text):
    assert recipe(write, text) == recipe(write, BASE)


def test_without_a_transform_the_content_says_it_all(write):
    assert recipe(write, "  x: {add: [{path: .}], remove: t}\n") == ""


def test_the_recipe_holds_the_values_of_the_placeholders_that_the_transform_uses(write):
    text = (
        "version: 1\nname: n\nproject: p\nparams: {a: {default: 1}, b: {default: 1}, c: {default: 1}}\n"
        'datasets:\n  x: {transform: {call: "m:f", with: {k: "${params.b}", l: "${run.date:%Y}${params.a}"}},'
        ' description: "${params.c}"}\n'
    ).replace("default: 1", "type: int, default: 1")
    build = compile_spec(write(text, whole=True)).steps[0].request

    assert build.stages[0].request.recipe.split("; ")[1:] == [
        "params.a=${params.a}", "params.b=${params.b}", "run.date:%Y=${run.date:%Y}",
    ]  # fmt: skip


# --- words -----------------------------------------------------------------------------------------------------------


def test_every_operation_has_words(plan):
    for request in (
        Create(name="x"), AddFiles(ref="r", path="p"), SyncFolder(ref="r", path="p"), Squash(name="x", refs=("a",)),
        AddExternal(ref="r", urls=("s3://a/b",)),
    ):  # fmt: skip
        assert describe(request)
    build = next(step.request for step in plan.steps if isinstance(step.request, Build))
    assert describe(build).startswith("build: create a draft")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (30, "30s"), (90, "1m30s"), (3600, "1h"), (5400, "1h30m"), (86400, "1d"), (0.5, "0.5s")],
)
def test_durations_are_shown_as_the_spec_writes_them(seconds, text):
    assert duration(seconds) == text


def test_labels_in_pictures_are_escaped(write):
    compiled = compile_spec(write('  x: {parents: ["a/b@<i>"], previous: true}\n'))

    assert "<i>" not in explain(compiled, "svg")
    assert "&lt;i&gt;" in explain(compiled, "mermaid")


def test_the_plan_as_json_holds_every_request_as_requests_write_it(plan):
    said = json.loads(json.dumps(plan_to_json(plan)))

    assert [step["request"] for step in said["steps"]] == [
        json.loads(json.dumps(to_json(step.request))) for step in plan.steps
    ]


# --- light -----------------------------------------------------------------------------------------------------------

HEAVY = (
    "sqlalchemy",
    "alembic",
    "pyarrow",
    "pandas",
    "numpy",
    "boto3",
    "botocore",
    "isal",
    "airflow",
    "prefect",
)


def test_compiling_loads_no_catalog_store_frame_or_orchestrator_and_opens_no_socket():
    code = (
        "import sys\n"
        "sys.addaudithook(lambda event, args: event.startswith('socket.') and sys.exit(event))\n"
        "from dataset_tasks.spec.compiler import compile_spec\n"
        "from dataset_tasks.spec.explain import explain\n"
        f"plan = compile_spec({str(SPEC)!r}, check_sources=False)\n"
        "[explain(plan, form) for form in ('text', 'mermaid', 'dot', 'svg', 'json')]\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
