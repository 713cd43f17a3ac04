"""What a run would do, dataset by dataset, found out by doing all of it but the writing and the users' code.

Sources are scanned (hashes of unchanged files come from the stat cache), parents are merged in memory, fingerprints are
compared as a run compares them. Where a transform is going to run, what it will write is not known beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from dataset_tasks.filesystem import Buffer
from dataset_tasks.manifest import Built, Manifest, PathRange, apply, diff, merge
from dataset_tasks.model import ObjectRef, Reference, State, Version
from dataset_tasks.objects import new_key
from dataset_tasks.ops import unchanged
from dataset_tasks.ops.add import scanned, source_of
from dataset_tasks.ops.content import Edit
from dataset_tasks.ops.context import Context
from dataset_tasks.ops.external import links
from dataset_tasks.ops.imported import listed
from dataset_tasks.ops.remove import matching
from dataset_tasks.ops.requests import (
    AddExternal,
    AddFiles,
    Approve,
    Build,
    Create,
    Publish,
    RemoveFiles,
    Request,
    Squash,
    SyncFolder,
    Transform,
)
from dataset_tasks.ops.transform import code_digest
from dataset_tasks.paths import DatasetPattern, normalise
from dataset_tasks.session import Session
from dataset_tasks.sources import Source, is_url
from dataset_tasks.spec.plan import Plan, PlannedDataset, Scope, bind
from dataset_tasks.spec.select import needs_by_dataset

Status: TypeAlias = Literal["new", "changes", "unchanged"]
#: How many versions of a spec are looked at for a dataset that may have been renamed.
_LOOKED_AT = 500
_ALWAYS = "on_unchanged: version"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPreview:
    """What would become of one dataset.

    `why` holds one reason a line. `added`, `modified`, `removed`, `files` and `bytes` are None where only running the
    user's code can tell; `publishes` tells that a version would be published or aliased. `waits` says what the run would
    wait for, or be stopped by, before it publishes; `blocked` what of that is above, so that the dataset is not made.
    `renamed` is the dataset that this one looks like under a new name.
    """

    key: str
    dataset: str
    status: Status
    why: tuple[str, ...]
    version: str | None = None
    added: int | None = None
    modified: int | None = None
    removed: int | None = None
    files: int | None = None
    bytes: int | None = None
    publishes: bool = False
    waits: str = ""
    blocked: str = ""
    renamed: str = ""


@dataclass(slots=True)
class _Outcome:
    """What the rest of the preview knows of a dataset: the version that stands, or that there will be another.

    `content` is None where it is not known; `change` says in a few characters what differs.
    """

    last: Version | None
    content: Manifest | None
    changes: bool
    change: str = ""
    why: list[str] = field(default_factory=list)


def preview(plan: Plan, session: Session, scope: Scope) -> tuple[DatasetPreview, ...]:
    """Looks at every dataset of a plan in the order of a run. Reads, never writes.

    Raises:
        SourceError: A source can't be read.
        NotFoundError: A version that the plan reads is not there.
        InvalidArgumentError: A placeholder has no value in this run.
    """
    held_up: dict[str, str] = {}
    found = []
    needs = needs_by_dataset(plan)
    for dataset, requests, outcome in _outcomes(plan, session, scope):
        shown = _shown(session, dataset, outcome, requests)
        blocked = next((held_up[need] for need in needs[dataset.key] if need in held_up), "")
        if blocked:
            shown = replace(shown, blocked=blocked, publishes=False, waits="")
        elif shown.waits:
            shown = replace(shown, publishes=False)
        if blocked or shown.waits:
            held_up[dataset.key] = blocked or f"{dataset.key} {shown.waits}"
        if outcome.last is None:
            shown = replace(shown, renamed=_renamed(plan, session, outcome, requests))
        found.append(shown)
    return tuple(found)


def standing(plan: Plan, session: Session, scope: Scope) -> dict[str, str]:
    """The versions of the scope's own window that a run of it would only make again: id by version step.

    For a window that was begun before: `on_unchanged`, and that code runs always which reads nothing or says so, ask for
    a version in each window, not for several.

    Raises:
        SourceError, NotFoundError, InvalidArgumentError: As `preview`.
    """
    return {
        dataset.version_step: outcome.last.id
        for dataset, _, outcome in _outcomes(plan, session, scope, again=True)
        if outcome.last is not None and not outcome.changes
    }


def _outcomes(
    plan: Plan, session: Session, scope: Scope, *, again: bool = False
) -> Iterator[tuple[PlannedDataset, list[Request], _Outcome]]:
    """What becomes of each dataset, with its requests; `again` when only what its window made already may stand."""
    outcomes: dict[str, _Outcome] = {}
    packs: dict[str, Buffer] = {}  # of manifests that are only in memory; one above is part of those below
    scope = replace(scope, results={step.id: f"step:{step.id}" for step in plan.steps})  # references stay as they are
    for dataset in plan.datasets:
        requests = _requests(plan, dataset, scope)
        outcome = _Simulation(session, outcomes, requests, packs, scope, again=again).run()
        outcomes[dataset.version_step] = outcome
        yield dataset, requests, outcome


def _renamed(plan: Plan, session: Session, outcome: _Outcome, requests: Sequence[Request]) -> str:
    """The dataset that the spec made before and has no more, whose last version is what the first of this one would be."""
    known = {(dataset.project, dataset.name) for dataset in plan.datasets}
    recipe = next((each.recipe for each in requests if isinstance(each, Create)), "")
    seen = set()
    for version in session.catalog.newest(origin={"spec": plan.name}, limit=_LOOKED_AT):
        label = (version.project, version.name)
        if label in known or label in seen or not version.state.is_final:
            continue
        seen.add(label)
        same_content = (
            outcome.content is not None and version.files and outcome.content.content_hash == version.content_hash
        )
        if same_content or (recipe and outcome.content is None and version.recipe == recipe):
            return version.dataset
    return ""


def _requests(plan: Plan, dataset: PlannedDataset, scope: Scope) -> list[Request]:
    """The requests of a dataset in order, whether they are one step or many."""
    out: list[Request] = []
    for step_id in dataset.steps:
        request = bind(plan.step(step_id).request, scope)
        out += [stage.request for stage in request.stages] if isinstance(request, Build) else [request]
    return out


class _Simulation:
    """One dataset, request by request."""

    def __init__(
        self,
        session: Session,
        outcomes: Mapping[str, _Outcome],
        requests: Sequence[Request],
        packs: dict[str, Buffer],
        scope: Scope,
        *,
        again: bool,
    ) -> None:
        self._packs = packs
        self._session = session
        self._context = Context(session=session, key="preview", origin=scope.facts)
        self._again = again
        self._outcomes = outcomes
        self._requests = requests
        self._content: Manifest | None = Manifest.empty()
        self._parts = unchanged.Parts(parents=[], inputs={}, recipe="", code="", staged="")
        self._last: Version | None = None
        self._standing: list[Version] = []
        self._may_stand = True
        self._why: list[str] = []
        self._is_settled = False

    def run(self) -> _Outcome:
        """Goes through the requests until it is known what comes of them."""
        for request in self._requests:
            match request:
                case Create():
                    self._create(request)
                case AddFiles() | SyncFolder():
                    self._scan(request)
                case AddExternal():
                    self._link(request)
                case RemoveFiles():
                    self._remove(request)
                case Transform():
                    self._transform(request)
                case Squash():
                    self._squash(request)
            if self._is_settled:
                break
        return self._outcome()

    # --- each kind of request

    def _create(self, request: Create) -> None:
        project, name = request.project or "", request.name
        self._look_back(request, project, name, request.partition)
        start = None
        if request.previous:
            window = self._context.window
            start = self._session.catalog.starting_point(project, name, request.partition, window=window)
        base = [self._session.manifest(start)] if start else []
        for ref in request.parents:
            outcome = self._known(ref)
            self._parts["parents"].append(outcome.last.id if outcome.last and not outcome.changes else "")
            if outcome.changes:
                self._why.append(f"parent {self._named(ref)}: {outcome.change}")
            if outcome.content is None:
                self._content = None
            else:
                base.append(outcome.content)
        for each in request.inputs:
            outcome = self._known(each.ref)
            self._parts["inputs"][each.name] = [outcome.last.id if outcome.last else "", *each.files]
            if outcome.changes:
                self._why.append(f"input {each.name}: {outcome.change}")
        self._parts["recipe"] = request.recipe
        if self._content is not None and base:
            self._content = base[0] if len(base) == 1 else self._built(merge(base, new_key=_key, store_id=""))

    def _look_back(self, request: Create | Squash, project: str, name: str, partition: str | None) -> None:
        """Finds what stood before, and what the new version may turn out to repeat."""
        window = self._context.window
        self._last = self._session.catalog.previous(project, name, partition, until=window)
        known = unchanged.candidates(self._session, project, name, partition, request.hold, window)
        self._standing = [each for each in known if not self._again or each.window == window]
        self._may_stand = request.skip_unchanged or self._again

    def _scan(self, request: AddFiles | SyncFolder) -> None:
        if self._content is None:
            return
        within = None
        if is_url(request.path):
            below = PathRange.under(normalise(request.dataset_path)) if isinstance(request, SyncFolder) else None
            store_id = self._last.store_id if self._last else None
            self._apply(listed(self._context, store_id, self._content, request, within=below))
            return
        if isinstance(request, AddFiles):
            source = source_of(request)
        else:
            source = Source.locate(
                request.path, wildcard=request.wildcard, exclude=request.exclude, dataset_path=request.dataset_path
            )
            within = PathRange.under(normalise(request.dataset_path))
        edit, _ = scanned(self._context, request.ref, self._content, source, within=within)
        self._apply(edit)

    def _link(self, request: AddExternal) -> None:
        if self._content is not None:
            self._apply(links(self._context, request, request.ref, self._content))

    def _remove(self, request: RemoveFiles) -> None:
        if self._content is None:
            return
        patterns = [DatasetPattern(each, request.recursive) for each in request.patterns or (None,)]
        edit = Edit()
        edit.removals.extend(matching(self._content, patterns))
        self._apply(edit)

    def _transform(self, request: Transform) -> None:
        self._parts["code"] = code_digest(self._context, request)
        self._parts["staged"] = self._content.content_hash if self._content is not None else ""
        reads = bool(self._parts["inputs"] or self._parts["parents"] or self._content)
        made = unchanged.fingerprint(self._parts)
        same = next((version for version in self._standing if version.fingerprint == made), None)
        looks = self._again or (reads and not request.always)
        if not self._why and same is not None and looks and self._may_stand:
            self._last = same
            self._content = self._session.manifest(same)
            self._is_settled = True
            return
        if not self._why:
            self._why += unchanged.reasons(self._session, self._last, self._parts) or [
                "its code reads nothing: it runs"
            ]
        self._content = None
        self._is_settled = True

    def _squash(self, request: Squash) -> None:
        self._look_back(request, request.project or "", request.name, None)
        outcomes = [self._known(ref) for ref in request.refs]
        for ref, outcome in zip(request.refs, outcomes, strict=True):
            if outcome.changes:
                self._why.append(f"{self._named(ref)}: {outcome.change}")
        ids = [outcome.last.id if outcome.last else "" for outcome in outcomes]
        self._content = outcomes[0].content if len(outcomes) == 1 else None
        self._is_settled = True
        made = unchanged.fingerprint({"squash": ids})
        same = next((version for version in self._standing if version.fingerprint == made), None)
        if not self._why and same is not None and self._may_stand:
            self._last = same
            self._content = self._session.manifest(same)
        elif not self._why:
            self._why.append(_ALWAYS if same is not None else "other versions to squash")

    # --- what came of it

    def _outcome(self) -> _Outcome:
        for version in self._standing if self._content is not None and not self._is_settled and self._may_stand else ():
            same = unchanged.fingerprint(self._parts) == version.fingerprint
            if same and self._content is not None and self._content.content_hash == version.content_hash:
                return _Outcome(version, self._content, False)
        if self._last is None:
            return _Outcome(None, self._content, True, "first version", self._why or ["first version"])
        before = self._session.manifest(self._last)
        if self._content is None:
            return _Outcome(self._last, None, True, "is made again", self._why)
        changed = diff(before, self._content)
        counts = f"files +{len(changed.added)} ~{len(changed.modified)} -{len(changed.removed)}"
        if not self._is_settled and not self._why:
            same = unchanged.fingerprint(self._parts) == self._last.fingerprint
            self._why += [] if same else unchanged.reasons(self._session, self._last, self._parts) or ["made of others"]
            self._why += [counts] if len(changed) else []
            self._why += [] if self._why or self._may_stand else [_ALWAYS]
        return _Outcome(self._last, self._content, bool(self._why), counts, self._why)

    def _known(self, ref: str) -> _Outcome:
        wanted = Reference.parse(ref)
        if wanted.step is not None and wanted.step in self._outcomes:
            return self._outcomes[wanted.step]
        version = self._session.catalog.resolve(ref)
        return _Outcome(version, self._session.manifest(version), False)

    def _named(self, ref: str) -> str:
        step = Reference.parse(ref).step
        return step.partition(".")[0] if step else ref

    def _apply(self, edit: Edit) -> None:
        if not edit.is_empty and self._content is not None:
            entries = edit.entries("0" * 32)
            self._content = self._built(apply(self._content, entries, edit.removals, new_key=_key, store_id=""))

    def _built(self, built: Built) -> Manifest:
        self._packs.update(built.packs)
        return built.manifest(self._read)

    def _read(self, ref: ObjectRef) -> Buffer:
        return self._packs[ref.key] if ref.key in self._packs else self._session.objects.read(ref)


def _key() -> str:
    return new_key("pack")


def _waits(session: Session, outcome: _Outcome) -> str:
    """What publishing would wait for, or be stopped by: an answer that is missing, or was no."""
    last = outcome.last
    if not outcome.changes and last is not None:
        if last.state is State.PUBLISHED:
            return ""
        held = session.catalog.look(last.id)
        if held is not None and held.outcome != "open":
            return held.told if held.outcome == "rejected" else ""
    return "waits for approval"


def _shown(session: Session, dataset: PlannedDataset, outcome: _Outcome, requests: Sequence[Request]) -> DatasetPreview:
    counts: tuple[int | None, int | None, int | None] = (None, None, None)
    if outcome.content is not None:
        before = session.manifest(outcome.last) if outcome.last is not None else Manifest.empty()
        changed = diff(before, outcome.content)
        counts = len(changed.added), len(changed.modified), len(changed.removed)
    status: Status = "unchanged"
    if outcome.changes:
        status = "new" if outcome.last is None else "changes"
    return DatasetPreview(
        key=dataset.key,
        dataset=f"{dataset.project}/{dataset.name}",
        status=status,
        why=tuple(outcome.why),
        version=outcome.last.version if outcome.last is not None else None,
        added=counts[0],
        modified=counts[1],
        removed=counts[2],
        files=len(outcome.content) if outcome.content is not None else None,
        bytes=outcome.content.bytes if outcome.content is not None else None,
        waits=_waits(session, outcome) if any(isinstance(each, Approve) for each in requests) else "",
        publishes=any(isinstance(each, Publish) and _is_open(session, outcome, each) for each in requests),
    )


def _is_open(session: Session, outcome: _Outcome, request: Publish) -> bool:
    """Whether the publish would do anything."""
    last = outcome.last
    if outcome.changes or last is None or last.state is not State.PUBLISHED:
        return True
    if request.alias is None or session.catalog.is_ahead(last, request.alias):
        return False
    return session.catalog.aliases(last.project, last.name).get(request.alias) != last.id
