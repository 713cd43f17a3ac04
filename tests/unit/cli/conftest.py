"""The command line, called in this process: the exit code, and what stood on each stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataset_tasks.cli.main import run


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ran]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs one command whatever comes of it."""

    def call(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        code = run([str(each) for each in arguments])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return call


@pytest.fixture
def done(call: Command) -> Command:
    """Runs one command that must end well."""

    def done(*arguments: str | Path) -> Ran:
        ran = call(*arguments)
        assert ran.code == 0, ran
        return ran

    return done


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of three files, eight bytes."""
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("aa\n")
    (folder / "b.txt").write_text("b\n")
    (folder / "sub" / "c.csv").write_text("c,\n")
    return folder


@pytest.fixture
def raw(done: Command, data: Path) -> str:
    """The id of demo/raw@1.0.0, final."""
    return done("build", "demo/raw", "--sync", data, "-q").out.strip()
