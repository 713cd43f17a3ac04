"""A short run of every fuzz target; `make fuzz` runs them long, guided by coverage."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from dataset_tasks.errors import DatasetError

sys.path.insert(0, str(Path(__file__).parent))
from targets import TARGETS, Target, mutate  # beside this file, as the program finds it too

INPUTS = 400


@pytest.mark.parametrize("name", list(TARGETS))
def test_what_others_wrote_is_read_or_refused_with_an_error_of_ours(name: str) -> None:
    """S01, S07, S08, S14. Whatever the bytes are."""
    target, chance = TARGETS[name], random.Random(name)
    seeds = target.seeds()
    refusals = 0
    for each in seeds:
        try:
            target.run(each)
        except DatasetError:
            refusals += 1
    assert refusals < len(seeds), "no seed is a good one"
    refused = 0
    for _ in range(INPUTS):
        try:
            target.run(mutate(chance, chance.choice(seeds), target))
        except DatasetError:
            refused += 1
    assert refused or name in {"spec", "member", "pattern", "wire"}, "no input was bad: the mutations do nothing"


def test_a_target_that_breaks_is_seen() -> None:
    def broken(data: bytes) -> None:
        if len(data) > 3:
            raise RuntimeError(data)

    target = Target(broken, lambda: [b"abc"])
    chance = random.Random(1)
    with pytest.raises(RuntimeError):
        for _ in range(INPUTS):
            target.run(mutate(chance, b"abc", target))
