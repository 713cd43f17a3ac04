"""The steps of a run done again with the same keys, after the version they made is final."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dataset_tasks import Dataset
from dataset_tasks.errors import ConflictError, StateError
from dataset_tasks.failpoints import Rule
from dataset_tasks.model import Input, State
from dataset_tasks.ops.requests import (
    AddFiles,
    Build,
    Check,
    Create,
    Delete,
    Finalize,
    RemoveFiles,
    Request,
    Result,
    Stage,
    SyncFolder,
    Transform,
    Upload,
    Verify,
)
from dataset_tasks.session import Session, open_session
from dataset_tasks.testing.failpoints import injected


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    with open_session(home=home) as opened:
        yield opened


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("a.csv", "b.csv", "c.tmp"):
        (folder / name).write_text(name)
    return folder


def write(inputs: object, output: Path) -> None:
    (output / "made").write_text("made")


FUNCTIONS = {"test:write": write}


def life(session: Session, data: Path, create: Create) -> list[Result]:
    """Every step of a version's life, each under a key of its own; the same keys each time."""
    ref = session.run(create, key="run/create").version_id
    steps: dict[str, Request] = {
        "sync": SyncFolder(ref=ref, path=str(data)),
        "add": AddFiles(ref=ref, path=str(data / "a.csv"), dataset_path="more"),
        "transform": Transform(ref=ref, call="test:write", dataset_path="made"),
        "remove": RemoveFiles(ref=ref, patterns=("*.tmp",)),
        "remove nothing": RemoveFiles(ref=ref, patterns=("*.bak",)),
        "check": Check(ref=ref, min_files=3, max_change=1.0),
        "upload": Upload(ref=ref),
        "finalize": Finalize(ref=ref),
        "verify": Verify(ref=ref),
    }
    return [session.run(step, key=f"run/{name}", functions=FUNCTIONS) for name, step in steps.items()]


def test_every_step_gives_what_it_gave_and_nothing_is_made(session: Session, data: Path) -> None:
    create = Create(name="raw", project="lab")
    first = life(session, data, create)
    assert life(session, data, create)[:5] == first[:5]
    assert [one.version for one in session.catalog.versions()] == ["1.0.0"]


def test_steps_that_changed_nothing_the_first_time_find_nothing_to_change_the_second(
    session: Session, data: Path
) -> None:
    before = session.run(Create(name="raw", project="lab")).version_id
    session.run(SyncFolder(ref=before, path=str(data)))
    session.run(Upload(ref=before))
    session.run(Finalize(ref=before))

    def child() -> Result:
        ref = session.run(Create(name="raw", project="lab", previous=True), key="run/create").version_id
        session.run(SyncFolder(ref=ref, path=str(data)), key="run/sync")
        return session.run(Finalize(ref=ref), key="run/finalize")

    assert child() == child()
    assert [one.version for one in session.catalog.versions()] == ["1.0.0", "1.0.1"]


def test_a_step_that_would_change_a_final_version_is_refused(session: Session, data: Path) -> None:
    life(session, data, Create(name="raw", project="lab"))
    (version,) = session.catalog.versions()
    (data / "new.csv").write_text("new")
    for request in (
        AddFiles(ref=version.id, path=str(data / "new.csv")),
        SyncFolder(ref=version.id, path=str(data), dataset_path="other"),
        RemoveFiles(ref=version.id, patterns=("a.csv",)),
    ):
        with pytest.raises(StateError, match="completed and can't be changed"):
            session.run(request)
    assert session.catalog.version(version.id) == version


@pytest.mark.parametrize(
    "hit", ["upload.before_chunk", "upload.after_chunk_bytes", "upload.before_commit", "content.before_commit"]
)
def test_an_upload_that_another_process_ends_and_finalizes_has_nothing_left_to_do(
    session: Session, data: Path, hit: str
) -> None:
    """R15. Two terminals, or a task that was taken for dead and its retry."""
    ref = session.run(Create(name="raw", project="lab")).version_id
    session.run(AddFiles(ref=ref, path=str(data)))
    ended: list[str] = []

    def end_it(_name: str) -> None:
        if not ended:
            ended.append("")
            session.run(Upload(ref=ref))
            ended[0] = session.run(Finalize(ref=ref)).version_id

    with injected([Rule(hit, end_it)]):
        assert session.run(Upload(ref=ref)).version_id == ref
    assert ended == [ref]
    assert session.catalog.version(ref).state is State.COMPLETED


def test_an_upload_whose_draft_is_dropped_meanwhile_fails(session: Session, data: Path) -> None:
    ref = session.run(Create(name="raw", project="lab")).version_id
    session.run(AddFiles(ref=ref, path=str(data)))
    with (
        injected([Rule("upload.before_commit", lambda _name: session.run(Delete(ref=ref)))]),
        pytest.raises(StateError, match="aborted"),
    ):
        session.run(Upload(ref=ref))


def test_a_build_done_again_under_its_key_gives_its_version(session: Session, data: Path) -> None:
    ref = "step:create"
    build = Build(
        stages=(
            Stage(id="create", request=Create(name="raw", project="lab", skip_unchanged=True)),
            Stage(id="sync", request=SyncFolder(ref=ref, path=str(data))),
            Stage(id="transform", request=Transform(ref=ref, call="test:write")),
            Stage(id="remove", request=RemoveFiles(ref=ref, patterns=("*.bak",))),
            Stage(id="check", request=Check(ref=ref, min_files=2)),
            Stage(id="upload", request=Upload(ref=ref)),
            Stage(id="finalize", request=Finalize(ref=ref)),
            Stage(id="verify", request=Verify(ref="step:finalize")),
        )
    )
    first = session.run(build, key="run/build", functions=FUNCTIONS)
    again = session.run(build, key="run/build", functions=FUNCTIONS)
    assert again.version_id == first.version_id
    assert again.why == "made by an earlier try of the same run"
    assert len(session.catalog.versions()) == 1


@pytest.mark.parametrize("point", ["build.after_stage", "upload.before_commit", "finalize.before_commit"])
def test_a_build_that_another_process_ends_under_the_same_key_gives_its_version(
    session: Session, data: Path, point: str
) -> None:
    """R15."""
    stages = {
        "create": Create(name="d", project="p"),
        "sync": SyncFolder(ref="step:create", path=str(data)),
        "upload": Upload(ref="step:create"),
        "finalize": Finalize(ref="step:create"),
    }
    build = Build(stages=tuple(Stage(id=name, request=request) for name, request in stages.items()))
    ended: list[str] = []

    def end_it(_name: str) -> None:
        if not ended:
            ended.append("")
            ended[0] = session.run(build, key="run/build").version_id

    with injected([Rule(point, end_it)]):
        made = session.run(build, key="run/build").version_id
    assert ended == [made]
    assert [v.state for v in session.catalog.versions()] == [State.COMPLETED]


def test_a_build_that_loses_its_draft_to_another_writer_leaves_it_to_that_one(session: Session, data: Path) -> None:
    create, sync = Create(name="d", project="p"), SyncFolder(ref="step:create", path=str(data))
    build = Build(stages=(Stage(id="create", request=create), Stage(id="sync", request=sync)))

    def taken(_name: str) -> None:
        raise ConflictError("taken over", kind="stale_writer")

    with injected([Rule("build.after_stage", taken)]), pytest.raises(ConflictError):
        session.run(build, key="run/build")
    assert [v.state for v in session.catalog.versions()] == [State.IN_PROGRESS]


def test_a_transform_gets_an_empty_folder_for_an_input_whose_pattern_matches_nothing(
    session: Session, data: Path
) -> None:
    """A window without data is no mistake; who asks for a copy by a pattern that matches nothing made one."""
    source = life(session, data, Create(name="raw", project="lab"))[0].version_id

    def count(inputs: Mapping[str, Path], output: Path) -> None:
        (output / "count").write_text(
            f"{len(list(inputs['raw'].rglob('*.csv')))} {len(list(inputs['none'].iterdir()))}"
        )

    inputs = (Input(name="raw", ref=source), Input(name="none", ref=source, files=("2026/*",)))
    made = session.run(Create(name="counts", project="lab", inputs=inputs)).version_id
    session.run(Transform(ref=made, call="test:count"), functions={"test:count": count})
    session.run(Upload(ref=made))
    session.run(Finalize(ref=made))
    assert Dataset(made, session=session).open("count").read() == b"3 0"
