from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.model import Input
from dataset_tasks.ops.requests import AddFiles, Build, Create, Finalize, Publish, Squash, Stage, Transform
from dataset_tasks.ops.wire import request_from_json, to_json
from dataset_tasks.spec import plan as plan_module
from dataset_tasks.spec import schema
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.params import check_params
from dataset_tasks.spec.plan import Scope, bind, lookup, placeholders_of
from dataset_tasks.spec.validate import bounds_at

SCOPE = Scope(
    run_id="r1",
    params={"n": 3, "word": "w", "flag": True, "list": [1, "a"], "none": None, "evil": "${run.id}", "ref": "step:x"},
    interval_start=datetime(2013, 1, 5, 6, tzinfo=UTC),
    interval_end=datetime(2013, 1, 6, 6, tzinfo=UTC),
    profile="prod",
    results={"raw.build": "0" * 32},
)


def arguments(value):
    return bind(Transform(ref="r/x", arguments={"x": value}), SCOPE).arguments["x"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${params.n}", 3), ("${params.flag}", True), ("${params.list}", [1, "a"]), ("${params.none}", None),
        ("a${params.n}", "a3"), ("${params.n}${params.n}", "33"), ("${params.flag}!", "true!"),
        ("-${params.list}", '-[1, "a"]'), ("${run.id}", "r1"), ("${run.date}", "2013-01-05"),
        ("${run.date:%Y}", "2013"), ("${run.interval_start}", "2013-01-05T06:00:00+00:00"),
        ("${run.interval_end:%d.%m.}", "06.01."), ("${run.interval_start:%H:%M}", "06:00"), ("${profile.name}", "prod"),
        ("${params.evil}", "${run.id}"), ("x${params.evil}", "x${run.id}"), ("${output}", "${output}"),
        ("${inputs.raw}/${params.n}", "${inputs.raw}/3"), ("step:raw.build", "step:raw.build"), ("{{ x }}", "{{ x }}"),
        ("$HOME", "$HOME"), ("{x.__class__}", "{x.__class__}"), ([["${params.n}"], {"k": "${params.n}"}], [[3], {"k": 3}]),
    ],
)  # fmt: skip
def test_placeholders_are_replaced_once_and_a_whole_value_keeps_its_type(text, value):
    found = arguments(text)
    assert found == value
    assert type(found) is type(value)


def test_outside_arguments_and_metadata_a_value_becomes_text():
    bound = bind(
        Create(name="x", description="${params.n}", tags=("${params.n}",), metadata={"n": "${params.n}"}), SCOPE
    )

    assert (bound.description, bound.tags, bound.metadata) == ("3", ("3",), {"n": 3})


def test_references_become_the_versions_of_the_run():
    create = Create(name="x", parents=("step:raw.build", "crm/y@prod"), inputs=(Input(name="i", ref="step:raw.build"),))
    bound = bind(create, SCOPE)

    assert bound.parents == ("0" * 32, "crm/y@prod")
    assert bound.inputs[0].ref == "0" * 32
    assert bind(Squash(name="x", refs=("step:raw.build",)), SCOPE).refs == ("0" * 32,)
    assert bind(Publish(ref="step:raw.build", alias="${params.word}"), SCOPE) == Publish(ref="0" * 32, alias="w")


def test_text_that_only_looks_like_a_reference_is_left_alone():
    assert bind(Create(name="x", description="step:raw.build"), SCOPE).description == "step:raw.build"


def test_a_param_can_not_smuggle_in_a_reference_to_a_step():
    assert bind(Create(name="x", parents=("${params.ref}",)), SCOPE).parents == ("step:x",)


def test_the_stages_of_a_build_keep_their_references_to_each_other():
    build = Build(
        stages=(
            Stage(id="x.create", request=Create(name="x", parents=("step:raw.build",))),
            Stage(id="x.finalize", request=Finalize(ref="step:x.create")),
        )
    )
    bound = bind(build, SCOPE)

    assert bound.stages[0].request.parents == ("0" * 32,)
    assert bound.stages[1].request.ref == "step:x.create"


def test_a_step_that_gave_no_version_is_an_error():
    with pytest.raises(InvalidArgumentError, match=r"the step 'other\.build' has given no version"):
        bind(Publish(ref="step:other.build"), SCOPE)


@pytest.mark.parametrize(
    ("path", "bound"),
    [
        ("/spec/${params.p}", "/spec/here"), ("/spec/${params.up}/x", "/data/x"), ("/spec/${params.abs}", "/abs"),
        ("/spec/${params.abs}/x", "/abs/x"), ("/spec/${params.url}", "s3://b/k"), ("/spec/a${params.abs}", "/spec/a/abs"),
        ("s3://b/${params.p}//x", "s3://b/here//x"), ("/spec/plain", "/spec/plain"),
    ],
)  # fmt: skip
def test_in_a_path_an_absolute_value_stands_for_all_before_it(path, bound):
    scope = Scope(params={"p": "here", "up": "../data", "abs": "/abs", "url": "s3://b/k"})

    assert bind(AddFiles(ref="x/y", path=path), scope).path == bound


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("params.x", "the parameter 'x' has no value"),
        ("run.date", "this run stands for no window of time"),
        ("run.interval_end:%Y", "this run stands for no window of time"),
        ("env.HOME", "unknown placeholder"),
        ("params", "unknown placeholder"),
    ],
)
def test_a_placeholder_without_a_value_is_an_error_with_its_name(name, message):
    with pytest.raises(InvalidArgumentError, match=message):
        lookup(name, Scope())


def test_a_request_without_anything_to_replace_is_the_same_object_again_in_value():
    create = Create(name="x", metadata={"a": [1]}, tags=("t",))

    assert bind(create, Scope()) == create


def test_all_placeholders_of_a_request_are_found_but_those_of_the_running_transform():
    build = Build(
        stages=(
            Stage(id="a", request=Create(name="x", partition="${run.date:%Y}", metadata={"a": ["${params.x}"]})),
            Stage(id="b", request=Transform(ref="a", run=("${output}", "${inputs.a}", "${run.id}"))),
        )
    )

    assert placeholders_of(build) == {"run.date:%Y", "params.x", "run.id"}


TYPED = """\
version: 1
name: n
project: p
params:
  least: {type: int, default: 2}
  share: {type: float, default: 0.5}
  deep: {type: bool, default: false}
  globs: {type: list, default: ["*.csv", "*.txt"]}
  above: {type: list, default: [x/y, "x/z@prod"]}
  word: {default: two}
datasets:
  d:
    parents: ["${params.above}"]
    granularity: operation
    add: [{path: /data, recursive: "${params.deep}", wildcard: "${params.globs}", exclude: ["a", "${params.globs}"]}]
    check: {min_files: "${params.least}", max_change: "${params.share}"}
    upload: {max_workers: "${params.least}", chunk_size: "${params.share}"}
    remove: ["${params.word}"]
"""


def test_a_placeholder_that_is_a_whole_value_has_its_type_in_every_field(tmp_path):
    (tmp_path / "s.yaml").write_text(TYPED)
    plan = compile_spec(tmp_path / "s.yaml", environ={}, check_sources=False)
    scope = Scope(params=check_params(plan), results={"d.create": "1" * 32})
    bound = {step.id: bind(step.request, scope) for step in plan.steps}

    assert bound["d.create"].parents == ("x/y", "x/z@prod")
    assert bound["d.add.0"].recursive is False
    assert bound["d.add.0"].wildcard == ("*.csv", "*.txt")
    assert bound["d.add.0"].exclude == ("a", "*.csv", "*.txt")
    assert (bound["d.check"].min_files, bound["d.check"].max_change) == (2, 0.5)
    assert (bound["d.upload"].max_workers, bound["d.upload"].chunk_size) == (2, 0.5)
    assert bound["d.remove"].patterns == ("two",)
    for step in plan.steps:
        assert request_from_json(to_json(step.request)) == step.request


def test_a_value_of_another_type_is_refused_where_nobody_looked_before(tmp_path):
    (tmp_path / "s.yaml").write_text(TYPED)
    plan = compile_spec(tmp_path / "s.yaml", environ={}, check_sources=False)
    scope = Scope(params={**check_params(plan), "least": "two"}, results={"d.create": "1" * 32})

    with pytest.raises(InvalidArgumentError, match="min_files: expected a whole number, found 'two'"):
        bind(plan.step("d.check").request, scope)


def test_every_field_of_numbers_and_flags_keeps_the_type_of_its_placeholder():
    """What the schema says of a field and what `bind` does with it are the same."""
    dataset = schema.Dataset.model_fields.keys()
    inner = {
        "add": schema.Add, "external": schema.External, "sync": schema.Sync, "transform": schema.Transform,
        "upload": schema.Upload, "check": schema.Check,
    }  # fmt: skip
    paths = [(name,) for name in dataset] + [(key, name) for key, model in inner.items() for name in model.model_fields]

    assert {path[-1]: held.kind for path in paths if (held := bounds_at(schema.Dataset, path))} == dict(
        plan_module._NUMBERS
    )
