from __future__ import annotations

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.params import check_params
from dataset_tasks.spec.plan import Param, Plan

PLAN = Plan(
    name="p", source="/p.yaml", digest="", steps=(), datasets=(),
    params=(
        Param(name="word", default="x"), Param(name="count", type="int", default=1), Param(name="share", type="float", default=0.5),
        Param(name="flag", type="bool", default=False), Param(name="items", type="list", default=[]),
        Param(name="map", type="dict", default={}), Param(name="day", type="date", default="2013-01-01"),
        Param(name="maybe", type="int", default=None), Param(name="must", type="int", required=True),
    ),
)  # fmt: skip


def value(name, given):
    return check_params(PLAN, {"must": 1, name: given})[name]


def test_defaults_fill_what_is_not_given():
    assert check_params(PLAN, {"must": 2}) == {
        "word": "x", "count": 1, "share": 0.5, "flag": False, "items": [], "map": {}, "day": "2013-01-01",
        "maybe": None, "must": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("word", "3", "3"), ("count", "3", 3), ("count", 3, 3), ("share", "1", 1), ("share", 0.25, 0.25),
        ("flag", "true", True), ("items", '["a", 1]', ["a", 1]), ("items", ("a",), ("a",)), ("map", '{"a": 1}', {"a": 1}),
        ("day", "2013-12-31", "2013-12-31"), ("maybe", "null", None), ("maybe", None, None),
    ],
)  # fmt: skip
def test_values_are_taken_as_they_are_or_out_of_the_text_of_a_command_line(name, given, read):
    assert value(name, given) == read


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("word", 3, 'word: expected str, found 3; quote it: "3"'), ("count", "three", "count: expected int, found 'three'"),
        ("count", 1.5, "count: expected int, found 1.5"), ("count", True, "count: expected int, found true"),
        ("share", "half", "expected float"), ("flag", "yes", "flag: expected bool, found 'yes'"), ("flag", 1, "expected bool"),
        ("items", "a,b", "items: expected list, found 'a,b'"), ("map", "[]", "expected dict"), ("day", "1.1.2013", "expected a date such as"),
        ("day", "2013-02-30", "expected a date such as"), ("count", None, "count: expected int, found null"),
        ("share", "NaN", "share: expected float, found 'NaN'"), ("share", "Infinity", "expected float, found 'Infinity'"),
        ("cuont", 1, "no parameter 'cuont'; did you mean 'count'?"), ("zzz", 1, "no parameter 'zzz'; there are word, count"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_name(name, given, message):
    with pytest.raises(InvalidArgumentError) as caught:
        value(name, given)
    assert message in caught.value.message


FILLED = """\
version: 1
name: filled
project: p
params:
  share: {type: float, default: 0.5}
  many: {type: int}
  deep: {type: bool, default: true}
datasets:
  d:
    add: [{path: /data, recursive: "${params.deep}"}]
    check: {min_files: "${params.many}", max_change: "${params.share}"}
    upload: {max_workers: "${params.many}", chunk_size: "${params.share}"}
"""


@pytest.fixture
def filled(tmp_path):
    (tmp_path / "s.yaml").write_text(FILLED)
    return compile_spec(tmp_path / "s.yaml", environ={}, check_sources=False)


def test_a_value_that_a_field_can_not_take_is_refused_with_the_place_of_the_field(filled):
    with pytest.raises(InvalidArgumentError) as caught:
        check_params(filled, {"many": "0", "share": 2, "deep": "yes"})

    assert caught.value.message == (
        "parameters of filled: "
        f"many: expected a whole number of at least 1 for datasets.d.upload.max_workers, found 0 ({filled.source}:12:27); "
        "share: expected a number of at least 0 and at most 1 for datasets.d.check.max_change, found 2 "
        f"({filled.source}:11:54); "
        f"deep: expected bool, found 'yes' ({filled.source}:7)"
    )
    assert caught.value.hint


@pytest.mark.parametrize("given", [{"many": "1"}, {"many": 7, "share": "1", "deep": "false"}])
def test_values_at_the_ends_of_what_a_field_takes_are_taken(filled, given):
    assert check_params(filled, given)["many"] in (1, 7)


def test_an_end_is_not_always_inside(filled):
    with pytest.raises(InvalidArgumentError, match=r"a number above 0 for datasets\.d\.upload\.chunk_size, found 0"):
        check_params(filled, {"many": 1, "share": "0"})


def test_the_ends_of_a_parameter_are_the_narrowest_of_the_fields_it_fills_in(filled):
    assert {param.name: param.ends for param in filled.params} == {
        "share": {"minimum": 0, "maximum": 1, "exclusiveMinimum": 0},
        "many": {"minimum": 1},
        "deep": {},
    }


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(InvalidArgumentError) as caught:
        check_params(PLAN, {"count": "x", "flag": 3})
    assert "count: " in caught.value.message
    assert "flag: " in caught.value.message
    assert "must: has no default and must be given (int)" in caught.value.message
