"""Several tries of one build or squash at one draft, under one key: the failure of one is not that of the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dataset_tasks.catalog.leases import Lease
from dataset_tasks.catalog.sql import Catalog
from dataset_tasks.errors import ConflictError
from dataset_tasks.failpoints import Rule
from dataset_tasks.manifest import Index
from dataset_tasks.model import ObjectRef, State
from dataset_tasks.objects import Objects
from dataset_tasks.ops.requests import (
    Build,
    Create,
    Delete,
    Finalize,
    Request,
    Squash,
    Stage,
    SyncFolder,
    Transform,
    Upload,
)
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected

KEY = "run/build"


class BrokenError(Exception):
    """What went wrong in one of the tries."""


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    with open_session(home=home) as opened:
        yield opened


@pytest.fixture
def build(tmp_path: Path) -> Build:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("a")
    stages = {
        "create": Create(name="d", project="p"),
        "sync": SyncFolder(ref="step:create", path=str(tmp_path / "data")),
        "upload": Upload(ref="step:create"),
        "finalize": Finalize(ref="step:create"),
    }
    return Build(stages=tuple(Stage(id=name, request=request) for name, request in stages.items()))


def states(session: Session, name: str) -> list[State]:
    return [v.state for v in session.catalog.versions(project="p", name=name, states=list(State))]


def fail(_name: str) -> None:
    raise BrokenError


@pytest.mark.parametrize("point", ["build.after_stage", "upload.before_commit", "finalize.before_commit"])
def test_a_try_that_found_its_draft_and_fails_leaves_it_to_the_one_that_made_it(
    session: Session, build: Build, point: str
) -> None:
    """R15, R19. Also when it is the one that took it up last."""
    failed: list[str] = []

    def another(_name: str) -> None:
        if not failed:
            failed.append(point)
            with injected([Rule(point, fail)]), pytest.raises(BrokenError):
                session.run(build, key=KEY)

    with injected([Rule("build.after_stage", another)]):
        session.run(build, key=KEY)
    assert failed
    assert states(session, "d") == [State.COMPLETED]


def test_the_maker_of_a_draft_that_fails_leaves_it_to_one_that_took_it_up(session: Session, build: Build) -> None:
    """R15, R19."""
    taken_up, errors = threading.Event(), []
    maker = threading.Thread(target=lambda: errors.append(outcome(session, build)))
    inside: list[int] = []

    def meet(_name: str) -> None:
        inside.append(threading.get_ident())
        if inside == [maker.ident]:
            begun.set()
            assert taken_up.wait(60)
            raise BrokenError
        if not taken_up.is_set():
            taken_up.set()
            maker.join()

    begun = threading.Event()
    with injected([Rule("build.after_stage", meet, hit) for hit in (1, 2)]):
        maker.start()
        assert begun.wait(60)
        session.run(build, key=KEY)
    assert errors == ["BrokenError"]
    assert states(session, "d") == [State.COMPLETED]


def outcome(session: Session, request: Request) -> str:
    try:
        return session.run(request, key=KEY).version_id
    except BrokenError as error:
        return type(error).__name__


def test_a_try_alone_drops_its_draft_when_it_fails(session: Session, build: Build) -> None:
    """R06."""
    with injected([Rule("upload.before_commit", fail)]), pytest.raises(BrokenError):
        session.run(build, key=KEY)
    assert states(session, "d") == [State.ABORTED]


def test_a_draft_that_its_maker_dropped_before_another_try_was_at_it_is_begun_anew(
    session: Session, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R15."""
    made = session.run(build.stages[0].request, key=f"{KEY}/create").version_id
    take = Catalog.take_lease

    def late(catalog: Catalog, version_id: str, holder: str, *, seconds: float, origin: dict[str, object]) -> Lease:
        if version_id == made:
            session.run(Delete(ref=made))
        return take(catalog, version_id, holder, seconds=seconds, origin=origin)

    monkeypatch.setattr(Catalog, "take_lease", late)
    assert session.run(build, key=KEY).version_id != made
    assert states(session, "d") == [State.ABORTED, State.COMPLETED]


def test_drafts_that_another_process_drops_again_and_again_are_an_error_not_an_endless_run(
    session: Session, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Catalog.take_lease

    def late(catalog: Catalog, version_id: str, holder: str, *, seconds: float, origin: dict[str, object]) -> Lease:
        session.run(Delete(ref=version_id))
        return take(catalog, version_id, holder, seconds=seconds, origin=origin)

    monkeypatch.setattr(Catalog, "take_lease", late)
    with pytest.raises(ConflictError, match="each of 6 drafts was dropped") as caught:
        session.run(build, key=KEY)
    assert "run it again" in caught.value.hint


def test_a_try_whose_objects_another_one_tidied_away_when_it_ended_gives_the_version_of_that_one(
    session: Session, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R15. What stood for the draft on its way is gone once the version is final."""
    read, ended = Objects.index, []

    def late(objects: Objects, ref: ObjectRef) -> Index:
        if not ended:
            ended.append("")
            ended[0] = session.run(build, key=KEY).version_id
        return read(objects, ref)

    monkeypatch.setattr(Objects, "index", late)
    assert [session.run(build, key=KEY).version_id] == ended
    assert states(session, "d") == [State.COMPLETED]


def test_what_a_try_writes_that_was_taken_for_dead_is_in_no_version_of_its_retry(session: Session) -> None:
    """R19. Each try of a transform has a folder of its own, wherever the program still is."""
    stages = {
        "create": Create(name="d", project="p"),
        "transform": Transform(ref="step:create", call="test:write"),
        "upload": Upload(ref="step:create"),
        "finalize": Finalize(ref="step:create"),
    }
    build = Build(stages=tuple(Stage(id=name, request=request) for name, request in stages.items()))
    outputs: list[Path] = []
    made: list[str] = []

    def write(inputs: object, output: Path) -> None:
        outputs.append(output)
        if len(outputs) == 1:
            made.append(session.run(build, key=KEY, functions={"test:write": write}).version_id)
            return
        outputs[0].mkdir(parents=True, exist_ok=True)
        (outputs[0] / "late").write_text("by the one that was taken for dead")
        (output / "made").write_text("by the retry")

    made.append(session.run(build, key=KEY, functions={"test:write": write}).version_id)
    assert len(set(made)) == 1
    version = session.catalog.version(made[0])
    assert session.manifest(version).to_table(("path",))["path"].to_pylist() == [b"made"]


def test_a_squash_that_found_its_draft_and_fails_leaves_it_to_the_one_that_made_it(
    session: Session, build: Build
) -> None:
    """R15, R19."""
    session.run(build, key=KEY)
    squash, failed = Squash(name="flat", refs=("p/d@1.0.0",)), []

    def another(_name: str) -> None:
        if not failed:
            failed.append("")
            with injected([Rule("squash.after_fill", fail)]), pytest.raises(BrokenError):
                session.run(squash, key="run/squash")

    with injected([Rule("squash.after_copy", another)]):
        session.run(squash, key="run/squash")
    assert failed
    assert states(session, "flat") == [State.COMPLETED]


def test_a_squash_whose_draft_somebody_dropped_does_not_say_that_it_is_made(session: Session, build: Build) -> None:
    """R06."""
    session.run(build, key=KEY)
    squash = Squash(name="flat", refs=("p/d@1.0.0",))

    def drop_it(_name: str) -> None:
        (draft,) = session.catalog.versions(name="flat")
        session.run(Delete(ref=draft.id))
        raise ConflictError("moved")

    with injected([Rule("squash.after_copy", drop_it)]), pytest.raises(Exception, match="is aborted"):
        session.run(squash, key="run/squash")
