"""Sequences of all operations against a small model: what a version holds is a dict of paths to bytes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from dataset_tasks.dataset import Dataset
from dataset_tasks.errors import AlreadyExistsError, DatasetError, InvalidArgumentError, NotFoundError, StateError
from dataset_tasks.ops.requests import Collect, Repack, Undelete
from dataset_tasks.paths import DatasetPattern
from dataset_tasks.session import open_session
from dataset_tasks.testing.invariants import assert_invariants

_NAMES = [
    "a",
    "b",
    "c.txt",
    "d e",
    "-x",
    "%41",
    "sub/a",
    "sub/b.txt",
    "sub/deep",
    "sub/deep/a",
    "\u00fc",
    "u\u0308",
    "other/z",
]
NAMES = st.sampled_from(_NAMES)
CONTENTS = st.sampled_from([b"", b"1", b"2" * 100, b"3" * 300, bytes(range(0, 256, 3))])
FILES = st.dictionaries(NAMES, CONTENTS, max_size=6).filter(lambda files: not _clash(files))
#: Files behind links: nothing else ever has their content, so that a link is equal to itself alone.
LINKED = {"x1": b"behind the first link", "more/x2": b"behind the second"}
DATASETS = st.sampled_from(["d", "e", "f"])
ALIASES = st.sampled_from(["prod", "stage"])
TAGS = st.sets(st.sampled_from(["gold", "%", "a b"]), min_size=1)
PATTERNS = st.sampled_from(["*.txt", "sub", "sub/*", "a", "other/", "*", "nothing", "s*"])


class Versions(RuleBasedStateMachine):
    """Drafts and final versions of one project, each with the model of what it must hold."""

    drafts = Bundle("drafts")
    finals = Bundle("finals")
    versions = Bundle("versions")

    @initialize(targets=(finals, versions))
    def begin(self) -> str:
        self.place = Path(tempfile.mkdtemp())
        self.session = open_session(home=self.place / "home")
        self.model: dict[str, dict[str, bytes]] = {}
        self.names: dict[str, str] = {}
        self.aliases: dict[tuple[str, str], list[str]] = {}
        self.tags: dict[str, set[str]] = {}
        self.facts: dict[str, object] = {}
        self.final: set[str] = set()
        self.deleted: set[str] = set()
        self.purged: set[str] = set()
        self.count = 0
        self.linked = self.folder(LINKED)
        return self.finalize(self.create("d", []))

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()
            for folder, _, _ in os.walk(self.place):
                os.chmod(folder, 0o755)
            shutil.rmtree(self.place)

    def handle(self, version: str) -> Dataset:
        return Dataset(version, session=self.session)

    def folder(self, files: dict[str, bytes]) -> Path:
        self.count += 1
        place = self.place / f"source{self.count}"
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        place.mkdir(exist_ok=True)
        return place

    @rule(targets=(drafts, versions), name=DATASETS, parents=st.lists(finals, max_size=2, unique=True))
    def create(self, name: str, parents: list[str]) -> str:
        standing = [each for each in parents if each not in self.deleted]
        made = Dataset.create(name, "p", standing, session=self.session)
        merged: dict[str, bytes] = {}
        for each in standing:
            merged |= self.model[each]
        self.model[made.id] = dict(merged)
        self.names[made.id] = name
        return made.id

    @rule(version=consumes(drafts))
    def drop(self, version: str) -> None:
        Dataset.delete(version, session=self.session)
        del self.model[version], self.names[version]
        self.tags.pop(version, None)
        self.facts.pop(version, None)

    @rule(version=drafts, below=st.sampled_from([None, "sub", "x1"]))
    def add_links(self, version: str, below: str | None) -> None:
        wanted = {f"{below}/{name}" if below else name: content for name, content in LINKED.items()}
        after = self.model[version] | wanted
        if _clash(after):
            self.refused(version, lambda: self.handle(version).add_external_files(self.linked.as_uri(), None, below))
            return
        added = self.handle(version).add_external_files(self.linked.as_uri(), None, below)
        assert added == len(wanted.keys() - self.model[version].keys())
        self.model[version] = after

    @rule(version=drafts, files=FILES, below=st.sampled_from([None, "sub", "new/deep"]))
    def add(self, version: str, files: dict[str, bytes], below: str | None) -> None:
        wanted = {f"{below}/{name}" if below else name: content for name, content in files.items()}
        after = self.model[version] | wanted
        source = self.folder(files)
        if version in self.final or _clash(after):
            self.refused(version, lambda: self.handle(version).add_files(source, dataset_path=below))
            return
        added = self.handle(version).add_files(source, dataset_path=below)
        assert added == len(wanted.keys() - self.model[version].keys())
        self.model[version] = after

    @rule(version=drafts, files=FILES, below=st.sampled_from([None, "sub"]))
    def sync(self, version: str, files: dict[str, bytes], below: str | None) -> None:
        prefix = f"{below}/" if below else ""
        before = self.model[version]
        wanted = {prefix + name: content for name, content in files.items()}
        after = {name: content for name, content in before.items() if not name.startswith(prefix)} | wanted
        source = self.folder(files)
        if version in self.final or _clash(after):
            self.refused(version, lambda: self.handle(version).sync_folder(source, below))
            return
        removed, changed = self.handle(version).sync_folder(source, below)
        assert removed == len(before.keys() - after.keys())
        assert changed == sum(before.get(name) != content for name, content in wanted.items())
        self.model[version] = after

    @rule(version=drafts, pattern=PATTERNS)
    def remove(self, version: str, pattern: str) -> None:
        if version in self.final:
            self.refused(version, lambda: self.handle(version).remove_files(pattern))
            return
        wanted = DatasetPattern(pattern)
        after = {n: c for n, c in self.model[version].items() if not wanted.matches(n.encode())}
        assert self.handle(version).remove_files(pattern) == len(self.model[version]) - len(after)
        self.model[version] = after

    @rule(version=drafts, chunk_size=st.sampled_from([None, 0.001]))
    def upload(self, version: str, chunk_size: float | None) -> None:
        self.handle(version).upload(show_progress=False, chunk_size=chunk_size)
        assert not self.handle(version).is_dirty()

    @rule(version=drafts)
    def finalize_too_early(self, version: str) -> None:
        handle = self.handle(version)
        if handle.is_dirty():
            assert handle.finalize(raise_on_error=False) is False
            assert not handle.is_final()

    @rule(target=finals, version=consumes(drafts))
    def finalize(self, version: str) -> str:
        handle = self.handle(version)
        handle.upload(show_progress=False)
        assert handle.finalize()
        assert handle.finalize()
        self.final.add(version)
        return version

    @rule(version=finals)
    def publish(self, version: str) -> None:
        handle = self.handle(version)
        if version in self.deleted:
            assert handle.publish(raise_on_error=False) is False
            return
        assert handle.publish()
        assert handle.publish()

    @rule(targets=(finals, versions), versions=st.lists(finals, min_size=1, max_size=3, unique=True))
    def squash(self, versions: list[str]) -> object:
        standing = [each for each in versions if each not in self.deleted]
        graph = [set(self.handle(each).get_dependency_graph()) - {each} for each in standing]
        out_of_order = any(later in graph[i] for i, _ in enumerate(standing) for later in standing[i + 1 :])
        if not standing or out_of_order:
            return multiple()
        expected = dict(self.model[standing[0]])
        if len(standing) > 1:
            expected = self.inherited(standing[0])
            for each in standing:
                before, after = self.inherited(each), self.model[each]
                expected = {n: c for n, c in expected.items() if n in after or n not in before}
                expected |= {n: c for n, c in after.items() if before.get(n) != c}
        if _clash(expected):
            return multiple()
        made = Dataset.squash("squashed", standing, session=self.session)
        self.model[made.id] = expected
        self.names[made.id] = "squashed"
        self.final.add(made.id)
        return made.id

    @rule(version=finals, force=st.booleans())
    def delete(self, version: str, force: bool) -> None:
        if version in self.deleted:
            return
        children = [each for each in self.session.catalog.children(version) if version in each.parents]
        if children and not force:
            with pytest.raises(StateError) as raised:
                Dataset.delete(version, session=self.session)
            assert raised.value.kind == "in_use"
            return
        Dataset.delete(version, force=force, session=self.session)
        self.deleted.add(version)

    @rule(version=finals)
    def undelete(self, version: str) -> None:
        if version in self.purged:
            with pytest.raises(StateError) as raised:
                self.session.run(Undelete(ref=version))
            assert raised.value.kind == "purged"
            return
        self.session.run(Undelete(ref=version))
        assert self.handle(version).is_final()
        self.deleted.discard(version)

    @rule(now=st.booleans())
    def collect(self, now: bool) -> None:
        self.session.run(Collect(now=now))  # tells only
        self.session.run(Collect(dry_run=False, now=now))
        if now:
            self.purged |= self.deleted
            assert_invariants(self.session, collected=True)

    @rule(live=st.sampled_from([0.5, 1.0]))
    def repack(self, live: float) -> None:
        self.session.run(Repack(dry_run=False, live=live))

    @rule()
    def end_the_process(self) -> None:
        self.session.close()
        self.session = open_session(home=self.place / "home")

    @rule(most=st.sampled_from([0, 200]))
    def evict(self, most: int) -> None:
        self.session.cache.evict(most_bytes=most)

    @rule(version=versions, tags=TAGS, remove=st.booleans(), fact=st.integers(0, 9))
    def label(self, version: str, tags: set[str], remove: bool, fact: int) -> None:
        if version not in self.model or version in self.deleted:
            return
        handle, held = self.handle(version), self.tags.setdefault(version, set())
        if remove:
            handle.remove_tags(tags)
            held -= tags
        else:
            handle.add_tags(tags)
            held |= tags
        handle.set_metadata({"fact": fact})
        self.facts[version] = {"fact": fact}

    @rule(version=finals, alias=ALIASES)
    def set_alias(self, version: str, alias: str) -> None:
        if version in self.deleted:
            return
        Dataset.set_alias(alias, version, session=self.session)
        self.aliases.setdefault((self.names[version], alias), []).append(version)

    @rule(version=finals, alias=ALIASES)
    def roll_back(self, version: str, alias: str) -> None:
        moves = self.aliases.get((self.names[version], alias), [])
        before = next((each for each in reversed(moves[:-1]) if each != moves[-1]), None)
        if version in self.deleted or before in self.deleted:
            return
        if before is None:
            with pytest.raises(NotFoundError):
                self.handle(version).rollback_alias(alias)
            return
        assert self.handle(version).rollback_alias(alias) == before
        moves.append(before)

    @rule(version=versions, name=DATASETS)
    def rename(self, version: str, name: str) -> None:
        old = self.names.get(version)
        if version not in self.model or version in self.deleted or name == old:
            return
        if name in self.names.values():
            with pytest.raises(AlreadyExistsError):
                self.handle(version).rename(name)
            return
        self.handle(version).rename(name)
        self.names = {each: name if held == old else held for each, held in self.names.items()}
        self.aliases = {(name if held == old else held, alias): m for (held, alias), m in self.aliases.items()}

    @rule(version=finals, pattern=PATTERNS, parts=st.integers(1, 3))
    def copy_in_parts(self, version: str, pattern: str, parts: int) -> None:
        if version in self.deleted:
            return
        handle, wanted = self.handle(version), DatasetPattern(pattern)
        some = {n: c for n, c in self.model[version].items() if wanted.matches(n.encode())}
        if some:
            assert _content(Path(str(handle.get_local_copy(files=pattern)))) == some
        else:
            with pytest.raises(NotFoundError):
                handle.get_local_copy(files=pattern)
        split = [_content(Path(str(handle.get_local_copy(part=i, num_parts=parts)))) for i in range(parts)]
        assert sum(map(len, split)) == len(self.model[version])
        assert {name: content for part in split for name, content in part.items()} == self.model[version]

    @rule(version=finals)
    def copy_to_write_in(self, version: str) -> None:
        if version in self.deleted:
            return
        target = self.place / "own"
        self.handle(version).get_mutable_local_copy(target, overwrite=True)
        assert _content(target) == self.model[version]
        for path in target.rglob("*"):
            if path.is_file():
                path.write_bytes(b"changed")  # never seen by anybody else

    @rule(version=finals)
    def copy(self, version: str) -> None:
        if version in self.deleted:
            assert self.handle(version).get_local_copy(raise_on_error=False) is None
            return
        shared = self.handle(version).get_local_copy()
        assert shared is not None
        assert _content(Path(shared)) == self.model[version]
        assert self.handle(version).verify_dataset_hash() == []

    @rule(version=finals, other=finals)
    def compare(self, version: str, other: str) -> None:
        if version in self.deleted:
            return
        old = {} if other in self.deleted else self.model[other]
        self.assert_lists(version, old, other)

    @precondition(lambda self: self.count % 3 == 0)
    @invariant()
    def everything_reads_back(self) -> None:
        assert_invariants(self.session)
        for version, expected in self.model.items():
            if version in self.deleted:
                continue
            handle = self.handle(version)
            assert handle.list_files() == sorted(expected, key=str.encode)
            assert (handle.name, set(handle.tags)) == (self.names[version], self.tags.get(version, set()))
            assert handle.get_metadata() == self.facts.get(version)
            if version in self.final:
                self.assert_lists(version, self.inherited(version), None)

        for (name, alias), moves in self.aliases.items():
            asked = {"dataset_project": "p", "dataset_name": name, "dataset_version": alias, "session": self.session}
            if moves[-1] not in self.deleted:
                assert Dataset.get(**asked).id == moves[-1]
                continue
            with pytest.raises(NotFoundError):
                Dataset.get(**asked)

    def inherited(self, version: str) -> dict[str, bytes]:
        """What the parents hold together, those that are deleted counting as empty."""
        merged: dict[str, bytes] = {}
        for each in self.handle(version).parents:
            merged |= {} if each in self.deleted else self.model[each]
        return merged

    def assert_lists(self, version: str, old: dict[str, bytes], other: str | None) -> None:
        new, handle = self.model[version], self.handle(version)
        assert handle.list_added_files(other) == _sorted(new.keys() - old.keys())
        assert handle.list_removed_files(other) == _sorted(old.keys() - new.keys())
        assert handle.list_modified_files(other) == _sorted(n for n in new.keys() & old.keys() if new[n] != old[n])

    def refused(self, version: str, call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except (StateError, InvalidArgumentError):
            return
        except DatasetError as error:
            raise AssertionError(f"refused for another reason: {error!r}") from error
        raise AssertionError(f"{version} took a change that it must refuse")


def _sorted(names: object) -> list[str]:
    return sorted(names, key=str.encode)  # type: ignore[call-overload, no-any-return]


def _clash(files: dict[str, bytes]) -> bool:
    """Whether a path is both a file and a folder."""
    return any(other.startswith(f"{name}/") for name in files for other in files)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


Versions.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestVersions = Versions.TestCase
