"""Deleting for good: gc, its grace, retention, and undelete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dataset_tasks import holding
from dataset_tasks.catalog.collect import Keep
from dataset_tasks.errors import IntegrityError, InvalidArgumentError, NotFoundError, StateError
from dataset_tasks.failpoints import Rule
from dataset_tasks.model import JsonValue, State, Version
from dataset_tasks.ops.function_build import function_build, run_function_build
from dataset_tasks.ops.requests import (
    AddFiles,
    Build,
    Collect,
    CollectResult,
    Create,
    Delete,
    Finalize,
    GetCopy,
    Publish,
    RemoveFiles,
    Stage,
    Undelete,
    Upload,
    Verify,
    VerifyResult,
)
from dataset_tasks.session import Session
from dataset_tasks.settings import Settings
from dataset_tasks.testing.failpoints import injected
from dataset_tasks.testing.invariants import assert_invariants

DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def session(home: Path, clock: Clock) -> Iterator[Session]:
    with Session(Settings.from_env(home=home), clock=clock) as opened:
        yield opened


@pytest.fixture
def made(session: Session, tmp_path: Path) -> Callable[..., Version]:
    """Makes a final version of `p/<name>` with one file more than its parent has."""
    count = 0

    def make(name: str = "d", *, publish: bool = False, alias: str | None = None, **options: object) -> Version:
        nonlocal count
        count += 1
        folder = tmp_path / f"source{count}"
        folder.mkdir()
        (folder / f"{count}.txt").write_text(f"content {count}")
        version_id = session.run(Create(name=name, project="p", **options)).version_id  # type: ignore[arg-type]
        session.run(AddFiles(ref=version_id, path=str(folder)))
        session.run(Upload(ref=version_id))
        session.run(Finalize(ref=version_id))
        if publish or alias:
            session.run(Publish(ref=version_id, alias=alias))
        return session.catalog.version(version_id)

    return make


def collect(session: Session, **options: object) -> CollectResult:
    result = session.run(Collect(**{"dry_run": False, **options}))  # type: ignore[arg-type]
    assert isinstance(result, CollectResult)
    assert_invariants(session, collected=options == {"now": True})
    return result


def stored(session: Session) -> list[str]:
    """Keys of everything in the store that is no journal and no owner file."""
    store = session.objects.store(session.store_id())
    keys = [key.partition("/")[2] for key, _ in store.list()]
    return [key for key in keys if not key.startswith(("journal/", "owner.json"))]


def reads(session: Session, version: Version) -> bool:
    result = session.run(Verify(ref=version.id))
    assert isinstance(result, VerifyResult)
    return not result.bad


def test_fifty_versions_that_are_dropped_leave_no_object_behind(session: Session, made: Callable[..., Version]) -> None:
    for _ in range(50):
        made(previous=True)
    for version in reversed(session.catalog.versions(project="p")):
        session.run(Delete(ref=version.id))
    assert len(stored(session)) >= 150
    result = collect(session, now=True)
    assert len(result.purged) == 50
    assert stored(session) == []
    assert session.catalog.known_keys() == {}
    assert collect(session, now=True) == collect(session, now=True)


def test_without_being_asked_to_it_changes_nothing_and_tells_what_it_would_do(
    session: Session, made: Callable[..., Version]
) -> None:
    version = made()
    session.run(Delete(ref=version.id))
    before, rows = stored(session), session.catalog.known_keys()
    told = session.run(Collect(now=True))
    assert (stored(session), session.catalog.known_keys()) == (before, rows)
    done = collect(session, now=True)
    assert isinstance(told, CollectResult)
    assert (told.purged, told.deleted, told.bytes) == (done.purged, done.deleted, done.bytes)
    assert told.dry_run
    assert done.bytes > 0


def test_a_tombstone_can_come_back_within_the_grace_and_not_after(
    session: Session, made: Callable[..., Version], clock: Clock
) -> None:
    version = made(alias="prod")
    session.run(Delete(ref=version.id))
    with pytest.raises(NotFoundError):
        session.catalog.resolve("p/d@prod")
    clock.pass_days(6)
    told = collect(session)
    assert (told.purged, told.kept) == ((), (version.label,))
    again = session.run(Undelete(ref="p/d@1.0.0"))
    assert again.version_id == version.id
    assert session.catalog.version(version.id).state is State.PUBLISHED
    assert session.catalog.resolve("p/d@prod").id == version.id
    assert reads(session, version)
    assert [e.kind for e in session.catalog.events(version_id=version.id)][-2:] == ["deleted", "undeleted"]
    session.run(Delete(ref=version.id))
    clock.pass_days(6)
    assert collect(session).purged == (), "the grace begins anew with each deletion"
    clock.pass_days(2)
    assert collect(session).purged == (version.label,)
    with pytest.raises(StateError) as caught:
        session.run(Undelete(ref=version.id))
    assert caught.value.kind == "purged"


def test_a_purged_tombstone_keeps_id_number_parents_and_digest_and_its_number_is_never_used_again(
    session: Session, made: Callable[..., Version]
) -> None:
    parent = made("base")
    version = made(parents=("p/base@latest",))
    session.run(Delete(ref=version.id))
    collect(session, now=True)
    tombstone = session.catalog.version(version.id)
    assert (tombstone.state, tombstone.parents, tombstone.content_hash, tombstone.files) == (
        State.DELETED, (parent.id,), version.content_hash, version.files,
    )  # fmt: skip
    assert made().version == "1.0.1"


def test_only_a_tombstone_comes_back(session: Session, made: Callable[..., Version]) -> None:
    standing = made()
    assert session.run(Undelete(ref=standing.id)).version_id == standing.id
    draft = session.run(Create(name="d", project="p"))
    with pytest.raises(StateError):
        session.run(Undelete(ref=draft.version_id))
    session.run(Delete(ref=draft.version_id))
    with pytest.raises(StateError):
        session.run(Undelete(ref=draft.version_id))
    with pytest.raises(NotFoundError):
        session.run(Undelete(ref="p/d@9"))


def test_what_a_child_took_over_stays_when_its_parent_goes(session: Session, made: Callable[..., Version]) -> None:
    parent = made()
    child = made(previous=True)
    session.run(Delete(ref=parent.id, force=True))
    assert collect(session, now=True).deleted > 0
    assert reads(session, child)
    assert Path(session.run(GetCopy(ref=child.id)).folder, "1.txt").read_text() == "content 1"


def test_drafts_are_roots_with_all_that_is_not_committed_yet(
    session: Session, made: Callable[..., Version], tmp_path: Path, clock: Clock
) -> None:
    made()
    draft = session.run(Create(name="d", project="p", previous=True)).version_id
    (tmp_path / "x").write_text("x")
    session.run(AddFiles(ref=draft, path=str(tmp_path / "x")))
    clock.pass_days(20)
    collect(session)
    collect(session, now=True, idle=0.0, drafts=30 * DAY)
    session.run(Upload(ref=draft))
    session.run(RemoveFiles(ref=draft, patterns=("1.txt",)))
    collect(session, now=True, idle=0.0)
    session.run(Finalize(ref=draft))
    assert reads(session, session.catalog.version(draft))


def test_a_draft_that_nothing_was_done_to_for_long_is_dropped_and_its_number_is_free(
    session: Session, made: Callable[..., Version], clock: Clock
) -> None:
    made()
    draft = session.run(Create(name="d", project="p"))
    clock.pass_days(29)
    assert collect(session).dropped == ()
    clock.pass_days(2)
    assert collect(session).dropped == ("p/d@1.0.1",)
    assert session.catalog.version(draft.version_id).state is State.ABORTED
    assert made().version == "1.0.1"


def test_a_draft_of_a_killed_run_is_dropped_a_day_after_its_lease_ran_out(
    session: Session, made: Callable[..., Version], clock: Clock
) -> None:
    draft = session.run(Create(name="d", project="p")).version_id
    lease = session.catalog.take_lease(draft, "builder", seconds=300, origin={"run": "nightly/7"})
    clock.pass_days(0.9)
    assert collect(session).dropped == ()
    session.catalog.renew_lease(lease, seconds=300)
    clock.pass_days(0.9)
    assert collect(session).dropped == (), "the run is alive"
    clock.pass_days(0.2)
    assert collect(session).dropped == ("p/d@1.0.0",)


def test_a_turn_that_somebody_once_had_at_a_draft_says_nothing_about_its_end(
    session: Session, made: Callable[..., Version], clock: Clock
) -> None:
    draft = session.run(Create(name="d", project="p")).version_id
    session.catalog.end_lease(session.catalog.take_lease(draft, "adder", seconds=30))
    clock.pass_days(29)
    assert collect(session).dropped == ()


def test_a_build_shows_that_it_is_alive_and_a_killed_one_is_given_up(
    session: Session, tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "f").write_text("f")
    stages = (
        Stage(id="c", request=Create(name="d", project="p")),
        Stage(id="a", request=AddFiles(ref="step:c", path=str(tmp_path / "x"))),
        Stage(id="u", request=Upload(ref="step:c")),
    )
    seen: list[bool] = []

    def look(_name: str) -> None:
        seen.append(session.catalog.lease(session.catalog.versions()[0].id) is not None)

    with injected([Rule("upload.before_commit", look)]):
        made = session.run(Build(stages=stages))
    assert seen == [True]
    clock.pass_days(1.1)
    assert collect(session).dropped == ("p/d@1.0.0",), "it was never finalized"
    assert session.catalog.version(made.version_id).state is State.ABORTED


def drafts(session: Session) -> list[str]:
    return [v.id for v in session.catalog.versions(states=[State.IN_PROGRESS])]


def test_the_next_build_of_a_dataset_gives_up_what_a_killed_one_left_a_day_ago(
    session: Session, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    def killed(name: str, partition: str | None = None) -> str:
        create = Create(name=name, project="p", partition=partition)
        return session.run(Build(stages=(Stage(id="c", request=create),))).version_id  # and its process died here

    left, other, part = killed("d"), killed("other"), killed("d", "2026-01")
    by_hand = session.run(Create(name="d", project="p")).version_id
    turn = session.run(Create(name="d", project="p")).version_id
    session.catalog.end_lease(session.catalog.take_lease(turn, "adder", seconds=30))
    clock.pass_days(0.9)
    second = killed("d")
    assert drafts(session) == [left, other, part, by_hand, turn, second], "its retry may come yet"
    clock.pass_days(0.2)
    third = killed("d")
    assert drafts(session) == [other, part, by_hand, turn, second, third]
    assert left in caplog.text
    again = session.run(Create(name="d", project="p", version="1.0.0")).version
    assert again == "1.0.0", "its number is free"


def test_a_function_that_builds_a_dataset_shows_that_it_is_alive(session: Session) -> None:
    seen: list[bool] = []

    def features(inputs: object, output: Path) -> None:
        (draft,) = drafts(session)
        lease = session.catalog.lease(draft)
        seen.append(lease is not None and not lease.excludes)
        (output / "f").write_text("f")

    run_function_build(session, function_build("p/d", features), key="run/1", origin={})
    assert seen == [True]


def test_what_nothing_refers_to_is_condemned_first_and_deleted_a_day_later(
    session: Session, made: Callable[..., Version], clock: Clock
) -> None:
    version = made()
    session.run(Delete(ref=version.id))
    clock.pass_days(8)
    first = collect(session)
    assert (first.condemned, first.deleted, first.waiting) == (3, 0, 3)
    assert set(session.catalog.known_keys().values()) == {"condemned"}
    clock.pass_days(0.5)
    assert collect(session).deleted == 0
    clock.pass_days(0.6)
    assert collect(session).deleted == 3
    assert stored(session) == []


def test_a_condemned_object_that_a_commit_refers_to_again_is_live(
    session: Session, made: Callable[..., Version]
) -> None:
    version = made()
    chunk = next(iter(session.manifest(version).index.chunks))
    assert version.index is not None
    session.catalog.mark({version.index.key: set()}, grace=0, apply=True)  # as if it referred to nothing
    assert session.catalog.known_keys()[chunk] == "condemned"
    assert session.catalog.standing([chunk]) == {chunk}
    collect(session, now=True)
    assert session.catalog.known_keys()[chunk] == "live"
    assert reads(session, version)


def test_writes_that_never_ended_and_parts_of_killed_writers_go_after_a_day(
    session: Session, made: Callable[..., Version], clock: Clock
) -> None:
    made()
    store = session.objects.store(session.store_id())
    session.objects.begin("", session.store_id(), ["chunks/" + "0" * 32 + ".zip"])
    writer = store.create(session.objects.full_key("chunks/" + "1" * 32 + ".zip"))
    writer.write(b"half")
    clock.now = datetime.now(UTC)
    assert session.run(Collect(dry_run=False, now=True)).parts == 0  # type: ignore[attr-defined]
    clock.pass_days(2)
    result = collect(session)
    assert result.parts == 1
    assert list(store.leftovers()) == []
    assert "writing" not in session.catalog.known_keys().values()


def test_another_catalog_in_the_same_store_is_never_touched(
    session: Session, made: Callable[..., Version], tmp_path: Path, clock: Clock
) -> None:
    version = made()
    clock.now = datetime.now(UTC) + timedelta(days=2)
    with Session(Settings.from_env(home=tmp_path / "other", store_url=session.settings.store_url)) as other:
        folder = tmp_path / "theirs"
        folder.mkdir()
        (folder / "a").write_text("a")
        draft = other.run(Create(name="d", project="p")).version_id
        other.run(AddFiles(ref=draft, path=str(folder)))
        other.run(Upload(ref=draft))
        other.run(Finalize(ref=draft))
        their_store = other.objects.store(other.store_id())
        with their_store.create(other.objects.full_key("chunks/" + "1" * 32 + ".zip")) as writer:
            writer.write(b"half")
            session.run(Delete(ref=version.id))
            collect(session, now=True, idle=0.0)
            assert len(list(their_store.leftovers())) == 1
        assert reads(other, other.catalog.version(draft))
        assert len(stored(other)) == 3


def test_an_index_that_cannot_be_read_stops_it_and_names_the_version(
    session: Session, made: Callable[..., Version]
) -> None:
    gone, standing = made("gone"), made()
    session.run(Delete(ref=gone.id))
    assert standing.index is not None
    session.objects.store(standing.index.store_id).delete(session.objects.full_key(standing.index.key))
    before = stored(session)
    with pytest.raises(IntegrityError, match=r"p/d@1\.0\.0") as caught:
        session.run(Collect(dry_run=False, now=True))
    assert "nothing was let go" in caught.value.message
    assert stored(session) == before
    session.run(Delete(ref=standing.id))
    session.run(Collect(dry_run=False, now=True))
    assert stored(session) == []


def test_times_are_durations(session: Session) -> None:
    for wrong in ({"grace": -1.0}, {"idle": float("nan")}, {"drafts": float("inf")}):
        with pytest.raises(InvalidArgumentError):
            session.run(Collect(**wrong))  # type: ignore[arg-type]


# --- retention


def names(session: Session) -> list[str]:
    return [version.version for version in session.catalog.versions(project="p", name="d")]


def test_retention_keeps_the_last_the_published_and_the_young(
    session: Session, made: Callable[..., Version], clock: Clock
) -> None:
    for number in range(8):
        made(previous=True, publish=number in (1, 3))
        clock.pass_days(1)
    assert collect(session).retired == (), "without a rule everything stays"
    session.catalog.set_retention("p", "d", Keep(last=2, published=1, seconds=int(3.5 * DAY)))
    result = collect(session)
    assert result.retired == tuple(f"p/d@1.0.{n}" for n in (0, 1, 2, 4))
    assert names(session) == ["1.0.3", "1.0.5", "1.0.6", "1.0.7"]
    assert reads(session, session.catalog.resolve("p/d@latest"))
    session.run(Undelete(ref="p/d@1.0.2"))
    session.catalog.set_retention("p", "d", None)
    assert collect(session).retired == ()


def test_retention_never_takes_what_an_alias_names_what_waits_for_an_answer_or_what_others_were_made_from(
    session: Session, made: Callable[..., Version]
) -> None:
    made(alias="prod")  # 1.0.0 keeps the alias, and the publication is not the last one
    made(publish=True)
    made()  # 1.0.2 is read by another dataset
    made("features", parents=("p/d@1.0.2",))
    made()  # 1.0.3 has a draft on it
    session.run(Create(name="d", project="p", parents=("p/d@1.0.3",)))
    waits = made()  # 1.0.5 waits for an answer; the draft has 1.0.4
    session.catalog.open_approval(waits)
    soon = made()  # 1.0.6 will be asked about in the next step of its run
    session.change(soon.id, lambda _now: {"quarantined": holding.mark([holding.APPROVE])})
    made()
    made()
    session.catalog.set_retention("p", "d", Keep(last=1))
    assert collect(session).retired == ("p/d@1.0.7",)
    session.run(Delete(ref="p/features@latest"))
    assert collect(session).retired == ("p/d@1.0.2",)


def test_retention_leaves_what_gets_a_name_a_draft_or_a_reader_while_gc_is_at_it(
    session: Session, made: Callable[..., Version]
) -> None:
    named, started_from, read, asked, free, _last = (made() for _ in range(6))
    session.catalog.set_retention("p", "d", Keep(last=1))
    meanwhile = [
        Rule("gc.before_end", lambda _: session.set_alias(named, "prod"), hit=1),
        Rule("gc.before_end", lambda _: session.run(Create(name="d", project="p", parents=(started_from.id,))), hit=2),
        Rule("gc.before_end", lambda _: made("features", parents=(read.id,)), hit=3),
        Rule("gc.before_end", lambda _: session.catalog.open_approval(asked), hit=4),
    ]
    with injected(meanwhile):
        assert collect(session).retired == (free.label,)
    assert session.catalog.resolve("p/d@prod").id == named.id


def test_retention_keeps_the_latest_windows_not_those_that_were_filled_last(session: Session, tmp_path: Path) -> None:
    """A backfill of old windows makes the highest numbers; what `@latest` names stays."""
    for day in (20, 21, 1, 2, 3):
        (tmp_path / f"{day}.txt").write_text(str(day))
        origin: dict[str, JsonValue] = {"window": f"2026-01-{day:02}T00:00:00+00:00"}
        version_id = session.run(Create(name="d", project="p"), origin=origin).version_id
        session.run(AddFiles(ref=version_id, path=str(tmp_path / f"{day}.txt")))
        session.run(Upload(ref=version_id))
        session.run(Finalize(ref=version_id))
        session.run(Publish(ref=version_id))
    latest = session.catalog.resolve("p/d@latest")
    session.catalog.set_retention("p", "d", Keep(last=2, published=1))
    assert collect(session).retired == tuple(f"p/d@1.0.{n}" for n in (2, 3, 4))
    assert session.catalog.resolve("p/d@latest") == session.catalog.resolve("p/d@published") == latest


def test_retention_counts_each_partition_by_itself_and_passes_over_what_is_quarantined(
    session: Session, made: Callable[..., Version]
) -> None:
    for partition in ("2026-01", "2026-02"):
        for _ in range(3):
            made(partition=partition)
    last = session.catalog.versions(project="p", name="d")[-1]
    session.change(last.id, lambda _now: {"quarantined": "bad"})
    session.catalog.set_retention("p", "d", Keep(last=1))
    collect(session)
    left = [(v.partition, v.version) for v in session.catalog.versions(project="p", name="d")]
    assert left == [("2026-01", "1.0.2"), ("2026-02", "1.0.4"), ("2026-02", "1.0.5")]
