"""A live function as a build, and references as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.errors import InvalidArgumentError, WrongCatalogError
from dataset_tasks.model import Input
from dataset_tasks.ops.function_build import dataset_parts, function_build, run_function_build
from dataset_tasks.ops.references import inputs, reference, references
from dataset_tasks.ops.requests import Build, BuildResult, Check, Create, Publish, PublishResult, Request, Transform
from dataset_tasks.ops.wire import request_from_json, to_json

ID = "0123456789abcdef0123456789abcdef"
RESULT = {"version_id": ID, "catalog_id": "cat", "project": "crm", "name": "orders", "version": "1.0.0"}


def features(inputs: Mapping[str, Path], output: Path, limit: int = 3) -> None: ...


def stage(work: Any, verb: str) -> Any:
    return next(one.request for one in work.build.stages if one.request.verb == verb)


def test_a_function_becomes_a_build_that_skips_what_is_unchanged() -> None:
    work = function_build("crm/eu/features", features, inputs={"orders": "crm/orders@published"}, tags=("gold",))
    create = stage(work, "create")
    assert isinstance(create, Create)
    assert (create.project, create.name, create.tags) == ("crm/eu", "features", ("gold",))
    assert create.skip_unchanged
    assert create.inputs == (Input(name="orders", ref="crm/orders@published"),)
    assert [one.id for one in work.build.stages] == [
        f"features.{v}" for v in ("create", "transform", "upload", "finalize")
    ]
    assert {one.request.ref for one in work.build.stages[1:]} == {"step:features.create"}  # type: ignore[attr-defined]


def test_the_call_text_finds_the_live_function_and_does_not_depend_on_the_module_it_was_loaded_as() -> None:
    transform = stage(function_build("crm/features", features), "transform")
    assert isinstance(transform, Transform)
    assert function_build("crm/features", features).functions == {transform.call: features}
    assert transform.call == "test_function_build:features"


def test_the_build_passes_through_json() -> None:
    work = function_build("crm/features", features, arguments={"limit": 5}, check={"min_files": 1})
    assert request_from_json(to_json(work.build)) == work.build


def test_the_recipe_follows_the_arguments_and_nothing_that_shapes_no_content() -> None:
    plain = stage(function_build("crm/features", features), "create").recipe
    assert (
        stage(function_build("crm/features", features, tags=("a",), check={"min_files": 1}), "create").recipe == plain
    )
    assert stage(function_build("crm/features", features, arguments={"limit": 4}), "create").recipe != plain


def test_gates_are_read_like_those_of_a_spec() -> None:
    check = stage(function_build("crm/features", features, check={"min_files": 2}), "check")
    assert check == Check(ref="step:features.create", min_files=2)
    with pytest.raises(InvalidArgumentError, match="unknown field 'min_file'"):
        function_build("crm/features", features, check={"min_file": 2})


def test_a_version_is_published_when_asked_for_or_when_an_alias_is_to_name_it() -> None:
    assert function_build("crm/features", features).publish is None
    assert function_build("crm/features", features, publish=True).publish == Publish(ref="step:features.build")
    assert function_build("crm/features", features, alias="prod").publish == Publish(
        ref="step:features.build", alias="prod"
    )


def test_a_function_that_can_not_be_called_is_refused_before_anything_runs() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"features\(inputs, output, limt=\.\.\.\) can't be called"
    ) as caught:
        function_build("crm/features", features, arguments={"limt": 1})
    assert "def features(inputs, output, ...)" in caught.value.hint


def test_what_is_not_a_function_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="is not a function"):
        function_build("crm/features", Recorder())


def test_arguments_that_are_not_json_are_refused_with_the_way_out() -> None:
    with pytest.raises(InvalidArgumentError, match="not JSON values") as caught:
        function_build("crm/features", features, arguments={"limit": Path("x")})  # type: ignore[dict-item]
    assert "date as text" in caught.value.hint


@pytest.mark.parametrize("text", ["features", "crm/features@latest", "crm/fea tures", "/features", ID])
def test_a_dataset_is_named_by_project_and_name_alone(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        dataset_parts(text)


class Recorder:
    """Stands for a session: keeps what it is asked and gives what it is told."""

    def __init__(self, *results: Any) -> None:
        self.results, self.asked = list(results), []

    def run(self, request: Request, **how: Any) -> Any:
        self.asked.append((request, how))
        return self.results.pop(0)


def test_publish_follows_the_build_under_a_key_of_its_own_also_when_nothing_changed() -> None:
    facts = {"catalog_id": "cat", "version_id": ID, "project": "crm", "name": "features", "version": "1.0.0"}
    built, published = BuildResult(**facts, unchanged=True), PublishResult(**facts)
    session = Recorder(built, published)
    work = function_build("crm/features", features, alias="prod")
    assert run_function_build(session, work, key="k", origin={"runner": "test"}) == (built, published)  # type: ignore[arg-type]
    (first, how_first), (second, how_second) = session.asked
    assert isinstance(first, Build)
    assert how_first["functions"] == work.functions
    assert second == Publish(ref=ID, alias="prod")
    assert (how_first["key"], how_second["key"]) == ("k", "k/publish")


def test_results_of_operations_are_references_in_their_own_catalog_only() -> None:
    assert reference(RESULT, catalog_id="cat") == ID
    assert references([RESULT, "crm/visits"]) == (ID, "crm/visits")
    assert references("crm/visits") == ("crm/visits",)
    with pytest.raises(WrongCatalogError, match="made in catalog cat, this task works on other") as caught:
        reference(RESULT, catalog_id="other")
    assert "same catalog" in caught.value.hint
    with pytest.raises(InvalidArgumentError, match="not a reference"):
        reference(7)


def test_inputs_are_named_by_their_last_part_or_by_their_key() -> None:
    assert [one.name for one in inputs(["crm/orders@latest", RESULT | {"name": "visits"}])] == ["orders", "visits"]
    narrowed = inputs({"old": {"ref": RESULT, "files": "2026/*"}, "new": "crm/orders"})
    assert narrowed == (Input(name="old", ref=ID, files=("2026/*",)), Input(name="new", ref="crm/orders"))
    with pytest.raises(InvalidArgumentError, match="two inputs are named 'orders'"):
        inputs(["crm/orders", "shop/orders"])
    with pytest.raises(InvalidArgumentError, match="has no name"):
        inputs([ID])
    with pytest.raises(InvalidArgumentError, match="list or a mapping"):
        inputs("crm/orders")
