from __future__ import annotations

import pytest

from dataset_tasks.errors import InvalidArgumentError
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
        ("cuont", 1, "no parameter 'cuont'; did you mean 'count'?"), ("zzz", 1, "no parameter 'zzz'; there are word, count"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_with_its_name(name, given, message):
    with pytest.raises(InvalidArgumentError) as caught:
        value(name, given)
    assert message in caught.value.message


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(InvalidArgumentError) as caught:
        check_params(PLAN, {"count": "x", "flag": 3})
    assert "count: " in caught.value.message
    assert "flag: " in caught.value.message
    assert "must: has no default and must be given (int)" in caught.value.message
