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
from dataset_tasks.errors import DatasetError, InvalidArgumentError, StateError
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
PATTERNS = st.sampled_from(["*.txt", "sub", "sub/*", "a", "other/", "*", "nothing", "s*"])


class Versions(RuleBasedStateMachine):
    """Drafts and final versions of one project, each with the model of what it must hold."""

    drafts = Bundle("drafts")
    finals = Bundle("finals")

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.session = open_session(home=self.place / "home")
        self.model: dict[str, dict[str, bytes]] = {}
        self.parents: dict[str, dict[str, bytes]] = {}
        self.final: set[str] = set()
        self.published: set[str] = set()
        self.deleted: set[str] = set()
        self.count = 0

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

    @rule(target=drafts, parents=st.lists(finals, max_size=2, unique=True))
    def create(self, parents: list[str]) -> str:
        standing = [each for each in parents if each not in self.deleted]
        made = Dataset.create("d", "p", standing, session=self.session)
        merged: dict[str, bytes] = {}
        for each in standing:
            merged |= self.model[each]
        self.model[made.id] = dict(merged)
        self.parents[made.id] = merged
        return made.id

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
        self.published.add(version)

    @rule(target=finals, versions=st.lists(finals, min_size=1, max_size=3, unique=True))
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
        self.final.add(made.id)
        self.parents[made.id] = {}
        for each in made.parents:
            self.parents[made.id] |= self.model[each]
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
            assert self.handle(version).list_files() == sorted(expected, key=str.encode)
            if version in self.final:
                self.assert_lists(version, self.inherited(version), None)

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
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestVersions = Versions.TestCase
