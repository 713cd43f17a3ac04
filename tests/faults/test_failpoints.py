"""The failpoints themselves: where they stand, how rules are written, that nothing happens without any."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dataset_tasks
from dataset_tasks.errors import InvalidArgumentError, StorageError
from dataset_tasks.failpoints import NAMES, VARIABLE, failpoint, parse
from dataset_tasks.testing.failpoints import injected

PACKAGE = Path(dataset_tasks.__file__).parent


def _points() -> list[str]:
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "failpoint":
                (name,) = node.args
                assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: a name that is no literal"
                found.append(name.value)
    return found


def test_every_point_of_the_source_is_listed_and_stands_at_one_place() -> None:
    assert sorted(_points()) == sorted(NAMES)


def test_without_rules_nothing_happens() -> None:
    failpoint("create.before_commit")


def test_a_rule_acts_at_its_hit_and_only_inside_the_block() -> None:
    with injected("create.before_commit=raise:OSError@2") as seen:
        failpoint("create.before_commit")
        with pytest.raises(OSError, match="injected at create"):
            failpoint("create.before_commit")
        failpoint("create.before_commit")
    failpoint("create.before_commit")
    assert seen.reached() == {"create.before_commit": 3}


def test_errors_of_ours_can_be_raised() -> None:
    with injected("create.after_commit=raise:StorageError"), pytest.raises(StorageError):
        failpoint("create.after_commit")


@pytest.mark.parametrize(
    "text",
    ["nowhere=kill", "create.after_commit=die", "create.after_commit=raise:Nothing", "create.after_commit=kill@x",
     "create.after_commit=kill@0", "create.after_commit", "create.after_commit=sleep:long", "create.after_commit=barrier"],
)  # fmt: skip
def test_rules_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse(text)


def test_the_environment_sets_rules_for_a_process() -> None:
    program = "from dataset_tasks.failpoints import failpoint as f; f('create.after_commit'); f('create.after_commit')"
    env = {**os.environ, VARIABLE: "create.after_commit=kill@2"}
    assert subprocess.run([sys.executable, "-c", program], env=env, check=False).returncode == -signal.SIGKILL
