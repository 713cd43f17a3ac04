"""Shared by the tests of the spec: writing specs, and a session that only remembers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dataset_tasks.errors import NotFoundError, SpecError
from dataset_tasks.model import State, Version
from dataset_tasks.ops.requests import (
    OPERATIONS,
    Build,
    BuildResult,
    Create,
    Request,
    Result,
    Squash,
)
from dataset_tasks.progress import Progress
from dataset_tasks.spec.load import load_spec

HEAD = "version: 1\nname: demo\nproject: crm\ndatasets:\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a spec: the datasets below the usual head, or a whole file."""

    def write_spec(text: str, *, whole: bool = False, name: str = "spec.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text if whole else HEAD + text)
        return path

    return write_spec


@pytest.fixture
def problems(write: Callable[..., Path], tmp_path: Path) -> Callable[..., list[str]]:
    """The problems of a spec, without the folder before them."""

    def problems_of(text: str, *, whole: bool = False, profile: str = "") -> list[str]:
        path = write(text, whole=whole)
        try:
            load_spec(path, profile=profile, environ={})
        except SpecError as error:
            return [problem.replace(f"{tmp_path}/", "") for problem in error.problems]
        return []

    return problems_of


@dataclass
class Call:
    """One `Session.run`."""

    request: Request
    key: str
    origin: Mapping[str, object]


@dataclass
class FakeCatalog:
    """Finds the versions it was given."""

    versions: dict[str, str] = field(default_factory=dict)
    id: str = "c" * 32

    def resolve(self, ref: str) -> Version:
        if ref not in self.versions:
            raise NotFoundError(f"no version {ref}")
        project, name = ref.partition("@")[0].rsplit("/", 1)
        from datetime import UTC, datetime

        return Version(
            id=self.versions[ref], catalog_id=self.id, project=project, name=name, version="1.0.0",
            state=State.COMPLETED, revision=1, created=datetime(2013, 1, 1, tzinfo=UTC), sequence=1,
        )  # fmt: skip


class FakeSession:
    """Does what a test says, by step id; else gives a result that names the step as its version."""

    def __init__(self) -> None:
        self.catalog = FakeCatalog()
        self.calls: list[Call] = []
        self.doing: dict[str, list[Callable[[], Result | None]]] = {}
        self.unchanged: set[str] = set()
        self.progress: dict[str, Progress] = {}
        self.lock = threading.Lock()

    def on(self, step: str, *acts: Callable[[], Result | None]) -> None:
        """What the step does on its first, second, ... try; afterwards it does well."""
        self.doing[step] = list(acts)

    def ran(self) -> list[str]:
        return [call.key.rsplit("/", 1)[1] for call in self.calls]

    def request(self, step: str) -> Request:
        return next(call.request for call in self.calls if call.key.endswith(f"/{step}"))

    def run(self, request: Request, *, key: str, origin: Mapping[str, object], progress: Progress) -> Result:
        step = key.rsplit("/", 1)[1]
        with self.lock:
            self.calls.append(Call(request, key, origin))
            self.progress[step] = progress
            acts = self.doing.get(step)
            act = acts.pop(0) if acts else None
        given = act() if act is not None else None
        return given if given is not None else self.result(step, request)

    def result(self, step: str, request: Request) -> Result:
        made = BuildResult if isinstance(request, Build) else OPERATIONS[request.verb][1]
        name = request.name if isinstance(request, Create | Squash) else step.partition(".")[0]
        return made(
            catalog_id=self.catalog.id, version_id=f"version of {step}", project="crm", name=name, version="1.0.1",
            unchanged=step in self.unchanged, why="as before" if step in self.unchanged else "",
        )  # fmt: skip


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()
