from __future__ import annotations

import pytest

from dataset_tasks.errors import InvalidArgumentError
from dataset_tasks.spec.compiler import compile_spec
from dataset_tasks.spec.select import needs_by_dataset, select


@pytest.fixture
def plan(write):
    """A diamond with a tail (raw, left and right, both, tail), and one that stands aside."""
    call = 'transform: {call: "m:f"}'
    return compile_spec(
        write(
            f"  raw: {{{call}, publish: true}}\n  left: {{inputs: [raw], {call}}}\n  right: {{inputs: [raw], {call}}}\n"
            f"  both: {{parents: [left, right], granularity: operation}}\n  tail: {{parents: [both]}}\n  aside: {{{call}}}\n"
        )
    )


def test_needs_are_between_datasets_not_within_them(plan):
    assert needs_by_dataset(plan) == {
        "raw": (), "aside": (), "left": ("raw",), "right": ("raw",), "both": ("left", "right"), "tail": ("both",),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "excluded", "found"),
    [
        (None, None, "raw aside left right both tail"),
        ((), (), "raw aside left right both tail"),
        (["left"], None, "left"),
        (["left+"], None, "left both tail"),
        (["+left"], None, "raw left"),
        (["+both+"], None, "raw left right both tail"),
        (["left", "aside"], None, "aside left"),
        (["left, aside"], None, "aside left"),
        (["raw+"], ["both+"], "raw left right"),
        (None, ["raw+"], "aside"),
    ],
)
def test_expressions_choose_datasets_in_the_order_of_the_plan(plan, chosen, excluded, found):
    assert " ".join(select(plan, chosen, excluded)) == found


def test_an_unknown_dataset_is_refused_with_a_suggestion(plan):
    with pytest.raises(InvalidArgumentError, match="no dataset 'lfet' in this spec; did you mean 'left'"):
        select(plan, ["lfet+"])


def test_a_selection_that_leaves_nothing_is_refused(plan):
    with pytest.raises(InvalidArgumentError, match="no dataset of demo is left"):
        select(plan, ["left"], ["left"])
